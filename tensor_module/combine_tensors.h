#pragma once

// combine.h and concatenation for tensors as values: what fits together, and the chunks of what is
// made. Pure but for the memory it asks for; any thread.

#include <vector>

#include "tensor_module/combine.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

using TensorList = std::vector<Ref<Tensor>>;

/// Errors: another dtype or shape.
Status CheckSameForm(const Tensor& a, const Tensor& b);
/// The tensors can be made into one: same dtype and shape, and a dtype that has arithmetic. Errors:
/// a client's line. Requires: one at least.
Status CheckAlike(const TensorList& tensors);
/// What the recipe makes of them, of their dtype and shape. A chunk whose bytes are the same in all
/// is shared with the last one, and so are all chunks of what has no average (kNewest). Requires:
/// CheckAlike. Errors: memory refused.
Result<Chunks> BlendTensors(BlobSource& source, const TensorList& tensors, const Recipe& recipe);

/// The shape of the tensors one behind the other along `dim`, which counts from the end when
/// negative and is made positive. Errors: no such dimension; another dtype, rank or size in another
/// dimension; too large.
Result<Shape> CatShape(const TensorList& tensors, int64_t* dim);
/// Their bytes so. Requires: what CatShape said. Errors: memory refused.
Result<Chunks> CatTensors(BlobSource& source, const TensorList& tensors, const Shape& shape,
                          size_t dim);

}  // namespace cairn::tensor

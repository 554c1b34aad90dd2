#pragma once

// Several tensors made into one, element by element: weighted averages and interpolation. Sums are
// in F32 for F16, BF16, F32 and C64, in F64 for F64 and C128, and are rounded to the dtype once.
// Loops of our own, because a result is stored and a log says only how it was made: every
// operation is one IEEE operation in the order written here (this file is compiled without
// contraction to fused ones), and a NaN is always the same one, so that each machine and each
// replay makes the same bits. LibTorch picks its kernels by the processor; it is the oracle of the
// tests. Pure; any thread.

#include <span>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "tensor_module/dtype.h"

namespace cairn::tensor {

/// Most tensors, or versions, that are made into one.
inline constexpr size_t kMaxCombined = 256;
/// A weight is 0 or of a magnitude within these: F32 holds it with all its digits.
inline constexpr double kLeastWeight = 1e-30, kMostWeight = 1e30;

/// What is done with tensors of a dtype.
enum class Combining : uint8_t {
  kBlend,   ///< arithmetic
  kNewest,  ///< counts, masks and indices: the newest is taken as it is
  kNone     ///< F8: no arithmetic
};
Combining HowCombined(DType dtype);

struct Recipe {
  enum class Method : uint8_t {
    kAverage,  ///< sum of weight * input, divided by the sum of the weights
    kFold      ///< the first; then each is approached by its weight, as torch.lerp does it
  };
  Method method = Method::kAverage;
  std::vector<double> weights;  ///< one an input; of kFold the first counts for nothing
};
/// Errors: a weight that is no weight (kLeastWeight), weights of an average that add up to nothing.
Status CheckRecipe(const Recipe& recipe);

/// The inputs' elements made into one each, written to `out`. Requires: HowCombined(dtype) is
/// kBlend; one input a weight, of one size, whole elements. Cost: 0.5 (F16) to 5
/// GB/s of output from two inputs (bench/tensor_bench).
void Combine(DType dtype, const Recipe& recipe, std::span<const std::string_view> inputs,
             char* out);

}  // namespace cairn::tensor

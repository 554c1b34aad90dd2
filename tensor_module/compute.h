#pragma once

// Compute: the arithmetic that LibTorch does for the module, as a seam: torch_bridge.cc implements
// it over ATen, PlainCompute in a few loops for the types that LibTorch 1.13 lacks and for tests
// that do not link it. No exception leaves either. Thread: any; calls share nothing.

#include "tensor_module/slicing.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

class Compute {
 public:
  virtual ~Compute() = default;
  /// False: the next call waits until it is, perhaps seconds. No work for the executor then.
  virtual bool IsReady() const { return true; }
  /// The elements of `bytes` converted from `from` to `to`. Errors: memory refused, or a client's
  /// line when the arithmetic fails.
  virtual Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                                 DType to) const = 0;
  /// The box of a tensor that lies in one piece. Errors: as Cast.
  virtual Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                                  const BlobSlice& bytes, const Box& box) const = 0;
};

/// Element by element, by the rules of numeric.h's StoreScalar; complex to real drops the imaginary
/// part. Cost: about 0.1 GB/s.
class PlainCompute : public Compute {
 public:
  Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                         DType to) const override;
  Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                          const BlobSlice& bytes, const Box& box) const override;
};

}  // namespace cairn::tensor

#pragma once

// Slices of a tensor in the manner of Python's start:stop:step, for a run of leading dimensions:
// which bytes they name, reading them and writing them. Steps are positive. Pure but for the memory
// it asks for; any thread.

#include <cstdint>
#include <functional>
#include <vector>

#include "tensor_module/tensor.h"

namespace cairn::tensor {

/// As the client wrote it: negative bounds count from the end, bounds outside are clamped.
struct SliceWords {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
};

/// A slice of every dimension, bounds resolved.
struct Box {
  struct Side {
    uint64_t start = 0;
    uint64_t count = 0;
    uint64_t step = 1;
  };
  std::vector<Side> sides;
  Shape shape() const;
};

/// Dimensions without words are taken whole. Errors: more words than dimensions, a step below 1.
Result<Box> ResolveSlice(const Shape& shape, const std::vector<SliceWords>& words);

/// The box is one run of adjacent bytes, or empty.
bool IsOneRun(const Shape& shape, size_t element_bytes, const Box& box);

/// Calls visit(offset, size), in bytes, for each run of adjacent bytes of the box, in C order.
/// Stops at the first failure and returns it.
Status ForEachRun(const Shape& shape, size_t element_bytes, const Box& box,
                  const std::function<Status(uint64_t offset, uint64_t size)>& visit);

/// The bytes of the box: by reference when they are one run, else gathered into memory of `source`.
/// Errors: memory refused.
Result<Chunks> ReadSlice(BlobSource& source, const Tensor& tensor, const Box& box);
/// The chunks of `tensor` with the box replaced by `bytes`. Requires: bytes.size is the box's.
/// Errors: memory refused.
Result<Chunks> WriteSlice(BlobSource& source, const Tensor& tensor, const Box& box,
                          const BlobSlice& bytes);
/// Memory that WriteSlice() asks for, at most, when `bytes` begin aligned: chunks that keep some of
/// what they had.
uint64_t CopiedBytes(const Tensor& tensor, const Box& box);

}  // namespace cairn::tensor

#pragma once

// Uploads: tensors that arrive in pieces. Upload is the frozen state of one, kept as a value under
// a key of its own, so that snapshots, the append-only file, expiry and DEL treat it as any other.
// What it has not received is one shared chunk of zeros. Any thread may read.

#include <cstdint>
#include <string>
#include <vector>

#include "tensor_module/tensor.h"

namespace cairn::tensor {

/// Half-open range of payload bytes.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

class Upload final : public Counted<Upload> {
 public:
  /// Requires: `received` is ascending, neither empty nor touching ranges, within the payload.
  Upload(DType dtype, Shape shape, Chunks chunks, std::vector<ByteRange> received);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  const Chunks& chunks() const { return chunks_; }
  uint64_t size_bytes() const { return TotalBytes(chunks_); }
  const std::vector<ByteRange>& received() const { return received_; }

  /// First byte that is missing; size_bytes() when none is.
  uint64_t next_offset() const;
  /// What is missing between received ranges and after the last, ascending.
  std::vector<ByteRange> Holes() const;
  /// The same with `range` received.
  std::vector<ByteRange> ReceivedWith(ByteRange range) const;
  size_t MemoryUsage() const;

 private:
  const DType dtype_;
  const Shape shape_;
  const Chunks chunks_;
  const std::vector<ByteRange> received_;
};

/// `received` are ranges that an Upload of `size_bytes` can have.
bool IsValidReceived(const std::vector<ByteRange>& received, uint64_t size_bytes);

}  // namespace cairn::tensor

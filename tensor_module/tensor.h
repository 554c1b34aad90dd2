#pragma once

// Tensor: the value. Dtype, shape and bytes, frozen from birth: every change makes another Tensor,
// which shares the chunks it did not touch. Bytes are little-endian, C order (last dimension
// fastest), exactly what the client sent. Any thread may read.
//
//   T1  A payload is cut on a grid of 256 KiB, anchored at byte 0: chunk i holds bytes [i, i+1) x
//   256 KiB, the last
//       one what is left. No chunks for zero bytes. Elements never straddle chunks.
//   T2  A chunk's memory is aligned to 16 bytes, so kernels may load elements of any dtype
//   directly. T3  numel x size fits kMaxTensorBytes; the product is formed in 128 bits. T4  BOOL
//   bytes are 0 or 1.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/bytes.h"
#include "server/base/checksum.h"
#include "server/base/status.h"
#include "tensor_module/counted.h"
#include "tensor_module/dtype.h"

namespace cairn::tensor {

inline constexpr size_t kChunkBytes = 256 * 1024;
inline constexpr size_t kChunkAlignment = 16;
inline constexpr size_t kMaxDimensions = 64;
inline constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 40;

/// 0 dimensions is a scalar: one element.
using Shape = std::vector<uint64_t>;

/// numel x DTypeSize in bytes. Errors: too many dimensions, or past kMaxTensorBytes.
Result<uint64_t> PayloadBytes(DType dtype, const Shape& shape);
/// "[2,3]"
std::string ShapeText(const Shape& shape);

/// The chunks of a payload (T1), some of them shared.
using Chunks = std::vector<BlobSlice>;

/// Cuts a slice of one blob on the grid. No bytes move unless it is unaligned (T2): then they are
/// copied to memory of `source`. Errors: memory refused.
Result<Chunks> CutOnGrid(BlobSource& source, BlobSlice payload);
/// All bytes zero, in one shared chunk of memory.
Result<Chunks> ZeroChunks(BlobSource& source, uint64_t size_bytes);
/// Bytes [offset, offset + size) as slices, neighbours in memory merged. Requires: within the
/// payload.
Chunks ReadChunks(const Chunks& chunks, uint64_t offset, uint64_t size);
/// Any slices, one behind the other, as one: the same memory when there is only one. Errors: memory
/// refused.
Result<BlobSlice> Join(BlobSource& source, const Chunks& pieces);
uint64_t TotalBytes(const Chunks& chunks);
/// XXH3-128 of the payload.
Hash128 HashChunks(const Chunks& chunks);

/// Writes into a copy of a chunk list: each chunk it touches is made private once (copied), or
/// replaced outright by a slice of what is written when that covers it whole and is aligned.
class ChunkEditor {
 public:
  ChunkEditor(BlobSource& source, Chunks chunks)
      : source_(source), chunks_(std::move(chunks)), own_(chunks_.size(), false) {}
  /// Requires: [offset, offset + bytes.size) within the payload. Errors: memory refused.
  Status Write(uint64_t offset, const BlobSlice& bytes);
  Chunks Take() { return std::move(chunks_); }

 private:
  Status MakeOwn(size_t index);
  BlobSource& source_;
  Chunks chunks_;
  std::vector<bool> own_;
};
/// Memory that Write() of so many bytes asks for when they begin aligned. Requires: within a
/// payload of `payload_bytes`, size > 0.
uint64_t CopiedBytes(uint64_t payload_bytes, uint64_t offset, uint64_t size);

class Tensor final : public Counted<Tensor> {
 public:
  /// Requires: T1-T4 hold; TotalBytes(chunks) == PayloadBytes(dtype, shape).
  Tensor(DType dtype, Shape shape, Chunks chunks);
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  uint64_t numel() const { return size_bytes_ / DTypeSize(dtype_); }
  uint64_t size_bytes() const { return size_bytes_; }
  const Chunks& chunks() const { return chunks_; }
  /// XXH3-128 of the bytes, computed at the first call and kept; any number of threads may ask.
  /// Cost then: about 20 GB/s.
  Hash128 hash() const;
  /// The hash when it is known already.
  std::optional<Hash128> known_hash() const;
  void set_known_hash(Hash128 hash) const;

  /// Heap and arena bytes, shared chunks counted in full once.
  size_t MemoryUsage() const;
  /// Distinct bytes of memory behind the chunks.
  uint64_t StoredBytes() const;

 private:
  const DType dtype_;
  const Shape shape_;
  const Chunks chunks_;
  const uint64_t size_bytes_;
  // The walker may read while the executor computes: the flag publishes both halves.
  mutable std::atomic<uint64_t> hash_low_{0}, hash_high_{0};
  mutable std::atomic<bool> hash_known_{false};
};

/// Every byte of a BOOL payload is 0 or 1 (T4). *index is the first that is not.
bool IsCleanBool(const Chunks& chunks, uint64_t* index);

}  // namespace cairn::tensor

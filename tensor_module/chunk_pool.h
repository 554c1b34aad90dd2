#pragma once

// ChunkPool: the payload of checkpoints, each distinct chunk once. A Chunk is at most 256 KiB of
// frozen bytes with its XXH3-128 and the figures of its elements; versions, open transactions,
// replies and snapshots hold counted references, and the last one that goes takes it out of the
// index. Any thread may intern, find, hold and drop; the pool outlives its chunks.
//
//   P1  Two chunks with the same bytes are one, unless one of them was interned while the other's
//       last reference was going.
//   P2  On a hit of hash and length the bytes are compared before they are shared: a collision
//   costs
//       memory, never a wrong load.
//   P3  Chunks below kSlabBytes lie in slabs, 64-byte aligned; others in memory of their own, or in
//       the memory they arrived in when at least three quarters of that become chunks.
//   P4  The index holds no reference: memory is bounded by what refers to chunks.

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tensor_module/stats.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

class ChunkPool;

class Chunk {
 public:
  const BlobSlice& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size; }
  Hash128 hash() const { return hash_; }
  /// The type that figures() were taken as.
  DType dtype() const { return dtype_; }
  const ChunkFigures& figures() const { return figures_; }

 private:
  friend class ChunkPool;
  friend class ChunkRef;
  Chunk(ChunkPool& pool, BlobSlice bytes, Hash128 hash, DType dtype, ChunkFigures figures)
      : pool_(pool), bytes_(std::move(bytes)), hash_(hash), dtype_(dtype), figures_(figures) {}
  /// False when the last reference is gone.
  bool TryAddReference() const;

  ChunkPool& pool_;
  const BlobSlice bytes_;
  const Hash128 hash_;
  const DType dtype_;
  const ChunkFigures figures_;
  mutable std::atomic<uint32_t> references_{1};
};

/// Owning handle to a Chunk, or empty.
class ChunkRef {
 public:
  ChunkRef() = default;
  /// Takes over the caller's reference.
  static ChunkRef Adopt(const Chunk* chunk) {
    ChunkRef ref;
    ref.chunk_ = chunk;
    return ref;
  }
  ChunkRef(const ChunkRef& other) : chunk_(other.chunk_) {
    if (chunk_ != nullptr) chunk_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  ChunkRef(ChunkRef&& other) noexcept : chunk_(std::exchange(other.chunk_, nullptr)) {}
  ChunkRef& operator=(ChunkRef other) noexcept {
    std::swap(chunk_, other.chunk_);
    return *this;
  }
  ~ChunkRef();
  explicit operator bool() const { return chunk_ != nullptr; }
  const Chunk* get() const { return chunk_; }
  const Chunk& operator*() const { return *chunk_; }
  const Chunk* operator->() const { return chunk_; }

 private:
  const Chunk* chunk_ = nullptr;
};

class ChunkPool {
 public:
  static constexpr size_t kSlabBytes = 64 * 1024;

  /// `source` outlives the pool.
  explicit ChunkPool(BlobSource& source) : source_(source) {}
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  /// Requires: no chunk is left.
  ~ChunkPool();

  /// The chunk of this hash and length that is held somewhere; empty when there is none.
  ChunkRef Find(Hash128 hash, size_t size) const;
  /// As Find, whatever the length: of several the last one interned.
  ChunkRef Find(Hash128 hash) const;

  /// The chunks of `piece` cut into `sizes`, in order; hashes, compares and takes figures in one
  /// pass per chunk. Requires: each size is 1 to kChunkBytes, their sum is piece.size. Errors:
  /// memory refused. Cost: 2-5 GB/s.
  Result<std::vector<ChunkRef>> Intern(const BlobSlice& piece, const std::vector<size_t>& sizes,
                                       DType dtype);
  Result<ChunkRef> InternOne(const BlobSlice& bytes, DType dtype);

  /// Chunks alive, and their bytes.
  uint64_t chunk_count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t chunk_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  friend class ChunkRef;
  static constexpr size_t kShards = 16;
  static constexpr size_t kSlabAlignment = 64;
  struct HashOfHash {
    size_t operator()(const Hash128& hash) const { return hash.low; }
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Hash128, const Chunk*, HashOfHash> chunks;
  };
  Shard& ShardOf(Hash128 hash) { return shards_[hash.high % kShards]; }
  const Shard& ShardOf(Hash128 hash) const { return shards_[hash.high % kShards]; }

  /// The chunk with these very bytes, if there is one (P2).
  ChunkRef FindEqual(Hash128 hash, std::string_view bytes) const;
  /// Enters a new chunk, or returns the one that another thread entered meanwhile.
  ChunkRef Enter(BlobSlice bytes, Hash128 hash, DType dtype);
  Result<BlobSlice> CopyOf(std::string_view bytes);
  void Forget(const Chunk* chunk);

  BlobSource& source_;
  std::array<Shard, kShards> shards_;
  std::mutex slab_mutex_;
  BlobRef slab_;
  char* slab_data_ = nullptr;
  size_t slab_used_ = 0;
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace cairn::tensor

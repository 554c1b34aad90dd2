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
//   P5  The bytes of a chunk that was mapped from a chunk log are compared with its hash before
//       anybody sees them. One that does not fit is damaged: it is never found again, and the same
//       bytes make a new chunk.

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
  /// Requires: IsIntact(), which is true of every chunk that was not mapped from a log (P5).
  const BlobSlice& bytes() const {
    CAIRN_CHECK(IsIntact());
    return bytes_;
  }
  /// False: the bytes in the log are not those of the hash. Cost: at the first look at a mapped
  /// chunk its bytes are read and hashed.
  bool IsIntact() const {
    const State state = state_.load(std::memory_order_acquire);
    return state == State::kIntact || (state == State::kUnread && Check());
  }
  /// IsIntact() would have to read.
  bool IsUnread() const { return state_.load(std::memory_order_relaxed) == State::kUnread; }
  /// The record of the chunk log that has these very bytes; 0: none is known.
  uint64_t record() const { return record_.load(std::memory_order_acquire); }
  void set_record(uint64_t record) const { record_.store(record, std::memory_order_release); }

  size_t size() const { return bytes_.size; }
  Hash128 hash() const { return hash_; }
  /// The type that figures() were taken as.
  DType dtype() const { return dtype_; }
  const ChunkFigures& figures() const { return figures_; }

 private:
  friend class ChunkPool;
  friend class ChunkRef;
  enum class State : uint8_t { kIntact, kUnread, kDamaged };
  Chunk(ChunkPool& pool, BlobSlice bytes, Hash128 hash, DType dtype, ChunkFigures figures,
        State state = State::kIntact)
      : pool_(pool),
        bytes_(std::move(bytes)),
        hash_(hash),
        dtype_(dtype),
        figures_(figures),
        state_(state) {}
  bool Check() const;
  /// False when the last reference is gone.
  bool TryAddReference() const;

  ChunkPool& pool_;
  const BlobSlice bytes_;
  const Hash128 hash_;
  const DType dtype_;
  const ChunkFigures figures_;
  mutable std::atomic<State> state_;
  mutable std::atomic<uint64_t> record_{0};
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

/// Whether the chunk has these bytes; a damaged one has none.
inline bool HasBytes(const Chunk& chunk, std::string_view bytes) {
  return chunk.size() == bytes.size() && chunk.IsIntact() && chunk.bytes().view() == bytes;
}
/// One chunk, or two with the same bytes.
inline bool SameBytes(const Chunk& a, const Chunk& b) {
  return &a == &b || (a.IsIntact() && HasBytes(b, a.bytes().view()));
}

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
  /// A chunk that the log's record number `record` has, unread; the one that is held already when
  /// it came from that record too. `figures` were taken as `dtype`.
  ChunkRef Map(BlobSlice bytes, Hash128 hash, DType dtype, const ChunkFigures& figures,
               uint64_t record);

  /// Chunks alive, and their bytes.
  uint64_t chunk_count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t chunk_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  friend class Chunk;
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
  ChunkRef Add(const Chunk* chunk);
  Result<BlobSlice> CopyOf(std::string_view bytes);
  void Forget(const Chunk* chunk);
  /// Takes it out of the index.
  void Hide(const Chunk* chunk);

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

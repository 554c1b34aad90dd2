#pragma once

// ChunkPool: the payload of checkpoints, each distinct chunk once. A Chunk is at most 256 KiB of
// frozen bytes with its XXH3-128 and the figures of its elements; versions, open transactions,
// replies and snapshots hold counted references, and the last one that goes takes it out of the
// index. Any thread may intern, find, hold and drop; the pool outlives its chunks.
//
// A chunk is held plain, or encoded (chunk_codec.h), or both for a while: whoever asks for bytes()
// gets the plain ones, whatever it takes to make them.
//
//   P1  Two chunks with the same bytes are one, unless one of them was interned while the other's
//       last reference was going, or mapped from a log while the other had a record of its own:
//       comparing those would read both. The index has all of them, and who asks for the bytes
//       finds one as long as one is held.
//   P2  On a hit of hash and length the bytes are compared before they are shared: a collision
//   costs
//       memory, never a wrong load.
//   P3  Chunks below kSlabBytes lie in slabs, 64-byte aligned; others in memory of their own, or in
//       the memory they arrived in when at least three quarters of that become chunks.
//   P4  The index holds no reference: memory is bounded by what refers to chunks.
//   P5  The bytes of a chunk that was mapped from a chunk log are compared with its hash before
//       anybody sees them. One that does not fit is damaged: it is never found again, and the same
//       bytes make a new chunk.
//   P6  Hash, length and index are those of the plain bytes, in whatever form they are held. What
//       decoding makes is compared with the hash each time.
//   P7  An encoded chunk holds a counted reference to its base. No chain of bases is longer than
//       kMaxChain, and none leads back: a base is set once, under one lock, after a walk of the
//       chain. No base is mapped: its pages may become unreadable at any time (P5), and what
//       decodes against it would be lost with them.
//   P8  Plain bytes that decoding has made are kept beside the encoded ones for the next reader, up
//       to kExpandedBytes in all; what somebody else holds is not dropped, and then not more kept.

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tensor_module/stats.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

class Chunk;
class ChunkPool;
struct EncodedChunk;

class Chunk {
 public:
  /// The plain bytes; they stay as long as the slice is held. Requires: WasIntact(), which is true
  /// of every chunk that was not mapped from a log (P5). Cost: when IsCold(), a read of the disk or
  /// decoding, which is 0.2 to 2 GB/s a link of the chain.
  BlobSlice bytes() const;
  /// Whether bytes() may be touched now. False: those in the log are not of the hash, or cannot be
  /// read. Cost: at the first look at a mapped chunk its bytes are read and hashed; at each later
  /// one a system call asks for its pages, which the kernel may have dropped meanwhile.
  bool IsIntact() const { return WasIntact() && (!mapped_ || CanReadAgain()); }
  /// The same at the first look; what the first has found at each later one, without the disk: for
  /// who does not need the bytes themselves.
  bool WasIntact() const {
    const State state = state_.load(std::memory_order_acquire);
    return state == State::kIntact || (state == State::kUnread && Check());
  }
  /// IsIntact() would have to read.
  bool IsUnread() const { return state_.load(std::memory_order_relaxed) == State::kUnread; }
  /// Its plain bytes are a file's, and stay there; or were, and are lost.
  bool is_mapped() const { return mapped_; }
  /// bytes() would have to read or decode, as things are now.
  bool IsCold() const;
  /// How it is held encoded; nothing (no bytes) when it is plain.
  EncodedChunk encoded() const;
  /// What its bytes take as they are held, plain copies of P8 aside.
  size_t stored_bytes() const { return stored_bytes_.load(std::memory_order_relaxed); }
  /// For display and for guesses: it may change while it is read.
  uint32_t references() const { return references_.load(std::memory_order_relaxed); }
  /// Chunks that are encoded against this one. As references().
  uint32_t dependents() const { return dependents_.load(std::memory_order_relaxed); }
  /// A number that is another whenever some chunk of the pool has changed its form.
  uint64_t pool_epoch() const;
  /// The record of the chunk log that has these very bytes; 0: none is known.
  uint64_t record() const { return record_.load(std::memory_order_acquire); }
  void set_record(uint64_t record) const { record_.store(record, std::memory_order_release); }

  size_t size() const { return size_; }
  Hash128 hash() const { return hash_; }
  /// The type that figures() were taken as.
  DType dtype() const { return dtype_; }
  const ChunkFigures& figures() const { return figures_; }

 private:
  friend class ChunkPool;
  friend class ChunkRef;
  /// Lost: was intact, and whoever knew it from before may hold its bytes still.
  enum class State : uint8_t { kIntact, kUnread, kDamaged, kLost };
  Chunk(ChunkPool& pool, BlobSlice bytes, Hash128 hash, DType dtype, ChunkFigures figures,
        State state = State::kIntact);
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  ~Chunk();
  bool Check() const;
  bool CanReadAgain() const;
  /// False when the last reference is gone.
  bool TryAddReference() const;

  ChunkPool& pool_;
  const size_t size_;
  const Hash128 hash_;
  const DType dtype_;
  const ChunkFigures figures_;
  const bool mapped_;
  mutable std::atomic<State> state_;
  /// What Encode() has tried in vain: 1 without a base, 2 with one.
  mutable std::atomic<uint8_t> tried_{0};
  /// The longest chain that ends here, at least (P7); coding_mutex_.
  mutable uint8_t height_ = 0;
  mutable std::atomic<uint32_t> stored_bytes_;
  mutable std::atomic<uint32_t> references_{1};
  mutable std::atomic<uint32_t> dependents_{0};
  mutable std::atomic<uint64_t> record_{0};
  /// The one of the same hash that was in the index before this; the index's lock.
  mutable const Chunk* older_ = nullptr;
  // One of the two at least; BodyMutex. encoded_ changes under coding_mutex_ too.
  mutable BlobSlice plain_;
  mutable std::unique_ptr<const EncodedChunk> encoded_;
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

/// A chunk as EncodeChunk has made it, and the chunk that it decodes against, if it needs one.
struct EncodedChunk {
  BlobSlice bytes;
  ChunkRef base;
  explicit operator bool() const { return bytes.size > 0; }
};

/// Whether the chunk has these bytes; a damaged one has none.
inline bool HasBytes(const Chunk& chunk, std::string_view bytes) {
  return chunk.size() == bytes.size() && chunk.IsIntact() && chunk.bytes().view() == bytes;
}
/// One chunk, or two with the same bytes.
inline bool SameBytes(const Chunk& a, const Chunk& b) {
  if (&a == &b) return true;
  if (a.size() != b.size() || a.hash() != b.hash() || !a.IsIntact()) return false;
  const BlobSlice bytes = a.bytes();
  return HasBytes(b, bytes.view());
}

struct PoolFigures {
  uint64_t chunks = 0;        ///< alive
  uint64_t bytes = 0;         ///< of them, plain
  uint64_t stored_bytes = 0;  ///< what they take as they are held
  uint64_t encoded_chunks = 0;
  uint64_t delta_chunks = 0;    ///< of these, with a base
  uint64_t expanded_bytes = 0;  ///< P8
};

class ChunkPool {
 public:
  static constexpr size_t kSlabBytes = 64 * 1024;
  /// Links from an encoded chunk to one without a base (P7).
  static constexpr unsigned kMaxChain = 8;
  /// Plain copies of encoded chunks (P8).
  static constexpr size_t kExpandedBytes = size_t{64} << 20;

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

  /// The chunks of `piece` cut into `sizes`, in order; hashes, compares and takes figures chunk by
  /// chunk, while its bytes are in the caches, and adds them to `whole` if there is one. Requires:
  /// each size is 1 to kChunkBytes, their sum is piece.size. Errors: memory refused. Cost: 2-5
  /// GB/s.
  Result<std::vector<ChunkRef>> Intern(const BlobSlice& piece, const std::vector<size_t>& sizes,
                                       DType dtype, Hash128Stream* whole = nullptr);
  Result<ChunkRef> InternOne(const BlobSlice& bytes, DType dtype);
  /// A chunk that the log's record number `record` has, unread; the one that is held already when
  /// it came from that record too, or is in memory and in no record known, and has these bytes.
  /// `figures` were taken as `dtype`. Cost: nothing is read but in the last case.
  ChunkRef Map(BlobSlice bytes, Hash128 hash, DType dtype, const ChunkFigures& figures,
               uint64_t record);
  /// A damaged chunk of whose bytes nothing is left: it stands where a version refers to it, and is
  /// found by nobody (P5).
  ChunkRef Lost(Hash128 hash, size_t size, DType dtype);

  /// Holds the chunk encoded from now on: against `base` if that helps and P7 allows it, else by
  /// itself. False, changing nothing: it is below kSlabBytes, mapped, damaged or
  /// encoded already, or gains less than a twentieth. Requires: the caller holds both. Cost: 0.1 to
  /// 2 GB/s.
  bool Encode(const Chunk& chunk, const Chunk* base, int level);
  /// Holds the chunk plain from now on.
  void Restore(const Chunk& chunk);
  /// Plain bytes in memory of the chunk's own, where they were part of something larger.
  void Rehome(const Chunk& chunk);
  /// A chunk from its encoded form: of `size` plain bytes with this hash. Errors: `encoded` makes
  /// other bytes, or the chain would be too long; memory refused. Requires: 1 to kChunkBytes. It is
  /// plain where P7 does not allow the base.
  Result<ChunkRef> InternEncoded(EncodedChunk encoded, Hash128 hash, size_t size, DType dtype);

  PoolFigures figures() const;
  /// How many chunks were new so far: who sees it grow knows that somebody uploads.
  uint64_t interned() const { return interned_.load(std::memory_order_relaxed); }

  /// Chunks alive, and their bytes.
  uint64_t chunk_count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t chunk_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  friend class Chunk;
  friend class ChunkRef;
  static constexpr size_t kShards = 16;
  static constexpr size_t kBodies = 64;
  /// Plain copies that are looked at for each one that is kept.
  static constexpr int kMostLooks = 8;
  static constexpr size_t kSlabAlignment = 64;
  struct HashOfHash {
    size_t operator()(const Hash128& hash) const { return hash.low; }
  };
  struct Shard {
    mutable std::mutex mutex;
    /// The last one entered of each hash (Chunk::older_).
    std::unordered_map<Hash128, const Chunk*, HashOfHash> chunks;
  };
  Shard& ShardOf(Hash128 hash) { return shards_[hash.high % kShards]; }
  const Shard& ShardOf(Hash128 hash) const { return shards_[hash.high % kShards]; }

  /// The last one entered of those of this hash that fits(chunk), which takes no lock.
  template <typename Fits>
  ChunkRef FindWhere(Hash128 hash, Fits fits) const;
  /// Of these the one with these very bytes, if there is one (P2).
  template <typename Fits>
  ChunkRef FindEqualWhere(Hash128 hash, std::string_view bytes, Fits fits) const;
  ChunkRef FindEqual(Hash128 hash, std::string_view bytes) const;
  /// Enters a new chunk, or returns the one that another thread entered meanwhile. `figures` were
  /// taken as `dtype`.
  ChunkRef Enter(BlobSlice bytes, Hash128 hash, DType dtype, const ChunkFigures& figures);
  ChunkRef Add(const Chunk* chunk);
  void Count(const Chunk& chunk);
  Result<BlobSlice> CopyOf(std::string_view bytes);
  void Forget(const Chunk* chunk);
  /// Takes it out of the index.
  void Hide(const Chunk* chunk);

  std::mutex& BodyMutex(const Chunk& chunk) { return body_mutexes_[chunk.hash_.low % kBodies]; }
  /// Decodes, and keeps what it made when there is room (P8).
  BlobSlice Expand(const Chunk& chunk, const EncodedChunk& encoded);
  /// With cache_mutex_ held. What was dropped goes to `out`, to be freed outside of it.
  void MakeRoom(size_t size, std::vector<BlobSlice>* out);
  void Uncache(const Chunk& chunk);
  /// Of a chunk that is encoded and will be no longer.
  void CountPlainAgain(const Chunk& chunk);
  /// With coding_mutex_ held: whether `chunk` may decode against `base` (P7).
  static bool MayLink(const Chunk& chunk, const Chunk& base);
  static void Link(const Chunk& chunk, const Chunk& base);
  void SetEncoded(const Chunk& chunk, EncodedChunk encoded);

  BlobSource& source_;
  std::array<Shard, kShards> shards_;
  std::mutex slab_mutex_;
  BlobRef slab_;
  char* slab_data_ = nullptr;
  size_t slab_used_ = 0;
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> stored_bytes_{0};
  std::atomic<uint64_t> encoded_chunks_{0}, deltas_{0};
  std::atomic<uint64_t> epoch_{0};
  std::atomic<uint64_t> interned_{0};

  // Taken in this order, and no other lock with them held but those of the arena.
  std::mutex coding_mutex_;
  mutable std::mutex cache_mutex_;
  std::array<std::mutex, kBodies> body_mutexes_;
  std::list<const Chunk*> expanded_;  // oldest first; cache_mutex_
  std::unordered_map<const Chunk*, std::list<const Chunk*>::iterator> expanded_at_;
  size_t expanded_bytes_ = 0;
};

}  // namespace cairn::tensor

// How chunks change between plain and encoded (P6 to P8).

#include <algorithm>
#include <cstring>

#include "tensor_module/chunk_codec.h"
#include "tensor_module/chunk_pool.h"

namespace cairn::tensor {

namespace {

/// The plain bytes of what decodes against it; no bytes for none. Requires: intact.
BlobSlice PlainBytes(const Chunk* base) { return base == nullptr ? BlobSlice() : base->bytes(); }

std::string_view ViewOf(const BlobSlice& slice) {
  return slice.blob ? slice.view() : std::string_view();
}

}  // namespace

// --- reading ---

BlobSlice Chunk::bytes() const {
  CAIRN_CHECK(WasIntact() || state_.load(std::memory_order_acquire) == State::kLost);
  EncodedChunk encoded;
  {
    const std::lock_guard lock(pool_.BodyMutex(*this));
    if (plain_.blob) return plain_;
    encoded = *encoded_;
  }
  return pool_.Expand(*this, encoded);
}

bool Chunk::IsCold() const {
  if (IsUnread()) return true;
  // Without a lock for what is plain, which is nearly everything.
  if (stored_bytes() == size_) return false;
  const std::lock_guard lock(pool_.BodyMutex(*this));
  return !plain_.blob;
}

EncodedChunk Chunk::encoded() const {
  const std::lock_guard lock(pool_.BodyMutex(*this));
  return encoded_ == nullptr ? EncodedChunk() : *encoded_;
}

uint64_t Chunk::pool_epoch() const { return pool_.epoch_.load(std::memory_order_relaxed); }

BlobSlice ChunkPool::Expand(const Chunk& chunk, const EncodedChunk& encoded) {
  const BlobSlice base = PlainBytes(encoded.base.get());
  Blob* blob = source_.Allocate(chunk.size());
  // No more than the small allocations around it, which nobody can refuse either.
  CAIRN_CHECK(blob != nullptr);
  const BlobSlice plain{BlobRef::Adopt(blob), 0, chunk.size()};
  const bool decoded = DecodeChunk(encoded.bytes.view(), ViewOf(base),
                                   std::span<char>(blob->mutable_data(), chunk.size()));
  // It was decoded once before it was taken: what does not fit now is memory that somebody broke.
  CAIRN_CHECK(decoded && HashBytes128(plain.view()) == chunk.hash_);
  std::vector<BlobSlice> dropped;  // freed once the locks are not held
  const std::lock_guard lock(cache_mutex_);
  MakeRoom(chunk.size(), &dropped);
  if (expanded_bytes_ + chunk.size() > kExpandedBytes) return plain;
  const std::lock_guard body(BodyMutex(chunk));
  if (chunk.plain_.blob) return chunk.plain_;  // another reader was quicker
  chunk.plain_ = plain;
  expanded_at_[&chunk] = expanded_.insert(expanded_.end(), &chunk);
  expanded_bytes_ += chunk.size();
  return plain;
}

void ChunkPool::MakeRoom(size_t size, std::vector<BlobSlice>* out) {
  for (int looks = 0; looks < kMostLooks; ++looks) {
    if (expanded_.empty() || expanded_bytes_ + size <= kExpandedBytes) return;
    const Chunk& oldest = *expanded_.front();
    const std::lock_guard body(BodyMutex(oldest));
    if (!oldest.plain_.blob->IsUnique()) {
      expanded_.splice(expanded_.end(), expanded_, expanded_.begin());
      continue;
    }
    out->push_back(std::exchange(oldest.plain_, BlobSlice()));
    expanded_bytes_ -= oldest.size();
    expanded_at_.erase(&oldest);
    expanded_.pop_front();
  }
}

// With cache_mutex_ held. The plain bytes stay where they are.
void ChunkPool::Uncache(const Chunk& chunk) {
  const auto found = expanded_at_.find(&chunk);
  if (found == expanded_at_.end()) return;
  expanded_.erase(found->second);
  expanded_at_.erase(found);
  expanded_bytes_ -= chunk.size();
}

// --- changing ---

bool ChunkPool::MayLink(const Chunk& chunk, const Chunk& base) {
  unsigned links = chunk.height_ + 1u;
  for (const Chunk* at = &base; at != nullptr;) {
    if (at == &chunk) return false;
    at = at->encoded_ == nullptr ? nullptr : at->encoded_->base.get();
    links += at == nullptr ? 0 : 1;
  }
  return links <= kMaxChain;
}

void ChunkPool::Link(const Chunk& chunk, const Chunk& base) {
  base.dependents_.fetch_add(1, std::memory_order_relaxed);
  uint8_t height = chunk.height_;
  for (const Chunk* at = &base; at != nullptr;) {
    at->height_ = std::max<uint8_t>(at->height_, ++height);
    at = at->encoded_ == nullptr ? nullptr : at->encoded_->base.get();
  }
}

// With coding_mutex_ held.
void ChunkPool::SetEncoded(const Chunk& chunk, EncodedChunk encoded) {
  const size_t size = encoded.bytes.size;
  encoded_chunks_.fetch_add(1, std::memory_order_relaxed);
  if (encoded.base) {
    Link(chunk, *encoded.base);
    deltas_.fetch_add(1, std::memory_order_relaxed);
  }
  chunk.stored_bytes_.store(static_cast<uint32_t>(size), std::memory_order_relaxed);
  stored_bytes_.fetch_sub(chunk.size() - size, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_relaxed);
  BlobSlice plain;
  const std::lock_guard body(BodyMutex(chunk));
  chunk.encoded_ = std::make_unique<const EncodedChunk>(std::move(encoded));
  plain = std::exchange(chunk.plain_, BlobSlice());
}

void ChunkPool::CountPlainAgain(const Chunk& chunk) {
  encoded_chunks_.fetch_sub(1, std::memory_order_relaxed);
  if (!chunk.encoded_->base) return;
  chunk.encoded_->base->dependents_.fetch_sub(1, std::memory_order_relaxed);
  deltas_.fetch_sub(1, std::memory_order_relaxed);
}

bool ChunkPool::Encode(const Chunk& chunk, const Chunk* base, int level) {
  if (chunk.size() < kSlabBytes || chunk.mapped_ || !chunk.IsIntact()) return false;
  if (base != nullptr && (base->size() != chunk.size() || base->mapped_ || !base->IsIntact())) {
    base = nullptr;
  }
  {
    const std::lock_guard lock(coding_mutex_);
    if (chunk.encoded_ != nullptr) return false;
    if (base != nullptr && !MayLink(chunk, *base)) base = nullptr;
  }
  const uint8_t trying = base == nullptr ? 1 : 2;
  if (chunk.tried_.load(std::memory_order_relaxed) >= trying) return false;
  const BlobSlice plain = chunk.bytes(), against = PlainBytes(base);
  const std::string made =
      EncodeChunk(plain.view(), DTypeSize(chunk.dtype_), ViewOf(against), level);
  std::string back(made.empty() ? 0 : chunk.size(), '\0');
  // Once more from behind: a codec that errs must not cost anybody a checkpoint.
  if (made.empty() || !DecodeChunk(made, ViewOf(against), back) || back != plain.view()) {
    chunk.tried_.store(trying, std::memory_order_relaxed);
    return false;
  }
  Blob* blob = source_.Allocate(made.size());
  if (blob == nullptr) return false;
  std::memcpy(blob->mutable_data(), made.data(), made.size());
  EncodedChunk encoded{{BlobRef::Adopt(blob), 0, made.size()}, {}};
  if (NeedsBase(made)) {
    CAIRN_CHECK(base->TryAddReference());
    encoded.base = ChunkRef::Adopt(base);
  }
  const std::lock_guard lock(coding_mutex_);
  if (chunk.encoded_ != nullptr) return false;
  if (encoded.base && !MayLink(chunk, *base)) return false;
  SetEncoded(chunk, std::move(encoded));
  return true;
}

void ChunkPool::Restore(const Chunk& chunk) {
  if (!chunk.encoded()) return;
  const BlobSlice plain = chunk.bytes();
  std::unique_ptr<const EncodedChunk> old;  // its base may go with it, once no lock is held
  const std::lock_guard lock(coding_mutex_);
  if (chunk.encoded_ == nullptr) return;
  CountPlainAgain(chunk);
  stored_bytes_.fetch_add(chunk.size() - chunk.stored_bytes(), std::memory_order_relaxed);
  chunk.stored_bytes_.store(static_cast<uint32_t>(chunk.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard cache(cache_mutex_);
  Uncache(chunk);
  const std::lock_guard body(BodyMutex(chunk));
  chunk.plain_ = plain;
  old = std::move(chunk.encoded_);
}

void ChunkPool::Rehome(const Chunk& chunk) {
  if (chunk.mapped_ || chunk.size() < kSlabBytes || chunk.encoded()) return;
  BlobSlice old = chunk.bytes();
  if (old.blob->size() < 2 * chunk.size()) return;
  Result<BlobSlice> copy = CopyOf(old.view());
  if (!copy.ok()) return;
  const std::lock_guard lock(coding_mutex_);
  if (chunk.encoded_ != nullptr) return;
  const std::lock_guard body(BodyMutex(chunk));
  chunk.plain_ = std::move(*copy);
}

Result<ChunkRef> ChunkPool::InternEncoded(EncodedChunk encoded, Hash128 hash, size_t size,
                                          DType dtype) {
  const auto damaged = [] {
    return Status::Corruption("an encoded chunk does not make the bytes of its hash");
  };
  if (!encoded || (encoded.base && !encoded.base->IsIntact())) return damaged();
  if (!NeedsBase(encoded.bytes.view())) encoded.base = ChunkRef();
  const BlobSlice base = PlainBytes(encoded.base.get());
  Blob* blob = source_.Allocate(size);
  if (blob == nullptr) return Status::Client("OOM no memory for a chunk of a checkpoint");
  const BlobSlice plain{BlobRef::Adopt(blob), 0, size};
  if (!DecodeChunk(encoded.bytes.view(), ViewOf(base),
                   std::span<char>(blob->mutable_data(), size)) ||
      HashBytes128(plain.view()) != hash) {
    return damaged();
  }
  Result<ChunkRef> chunk = InternOne(plain, dtype);
  if (!chunk.ok() || size < kSlabBytes || encoded.bytes.size >= size) return chunk;
  const Chunk& made = **chunk;
  const std::lock_guard lock(coding_mutex_);
  if (made.encoded_ != nullptr || made.mapped_) return chunk;
  // The base's bytes were saved too, but a log has them here: it stays plain (P7).
  if (encoded.base && encoded.base->mapped_) return chunk;
  if (encoded.base && !MayLink(made, *encoded.base)) {
    // Of a chunk that others knew already the chain may have become another one since.
    if (made.height_ > 0) return chunk;
    return Status::Corruption("an encoded chunk has a chain of more than " +
                              std::to_string(kMaxChain) + " bases");
  }
  SetEncoded(made, std::move(encoded));
  return chunk;
}

PoolFigures ChunkPool::figures() const {
  PoolFigures out;
  out.chunks = chunk_count();
  out.bytes = chunk_bytes();
  out.stored_bytes = stored_bytes_.load(std::memory_order_relaxed);
  out.encoded_chunks = encoded_chunks_.load(std::memory_order_relaxed);
  out.delta_chunks = deltas_.load(std::memory_order_relaxed);
  const std::lock_guard lock(cache_mutex_);
  out.expanded_bytes = expanded_bytes_;
  return out;
}

}  // namespace cairn::tensor

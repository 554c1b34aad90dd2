#include "tensor_module/chunk_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/mapped_bytes.h"

namespace cairn::tensor {

bool Chunk::TryAddReference() const {
  uint32_t count = references_.load(std::memory_order_relaxed);
  while (count != 0) {
    if (references_.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

Chunk::Chunk(ChunkPool& pool, BlobSlice bytes, Hash128 hash, DType dtype, ChunkFigures figures,
             State state)
    : pool_(pool),
      size_(bytes.size),
      hash_(hash),
      dtype_(dtype),
      figures_(figures),
      mapped_(state != State::kIntact),
      state_(state),
      stored_bytes_(static_cast<uint32_t>(bytes.size)),
      plain_(std::move(bytes)) {}

Chunk::~Chunk() = default;

bool Chunk::Check() const {
  // Nobody encodes what was mapped: its plain bytes stay.
  const bool intact = CanReadAs(plain_.view(), hash_);
  state_.store(intact ? State::kIntact : State::kDamaged, std::memory_order_release);
  if (!intact) pool_.Hide(this);
  return intact;
}

bool Chunk::CanReadAgain() const {
  if (CanRead(plain_.view())) return true;
  state_.store(State::kLost, std::memory_order_release);
  pool_.Hide(this);
  return false;
}

ChunkRef::~ChunkRef() {
  if (chunk_ == nullptr) return;
  if (chunk_->references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  chunk_->pool_.Forget(chunk_);
}

ChunkPool::~ChunkPool() { CAIRN_CHECK(chunk_count() == 0); }

void ChunkPool::Hide(const Chunk* chunk) {
  Shard& shard = ShardOf(chunk->hash_);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.chunks.find(chunk->hash_);
  if (found == shard.chunks.end()) return;
  // Others of the same hash (P1, P2) stay.
  const Chunk** link = &found->second;
  while (*link != nullptr && *link != chunk) link = &(*link)->older_;
  if (*link == nullptr) return;
  *link = std::exchange(chunk->older_, nullptr);
  if (found->second == nullptr) shard.chunks.erase(found);
}

void ChunkPool::Forget(const Chunk* chunk) {
  Hide(chunk);
  if (chunk->encoded_ != nullptr) {
    CountPlainAgain(*chunk);
    const std::lock_guard lock(cache_mutex_);
    Uncache(*chunk);
  }
  bytes_.fetch_sub(chunk->size(), std::memory_order_relaxed);
  stored_bytes_.fetch_sub(chunk->stored_bytes(), std::memory_order_relaxed);
  delete chunk;
  if (count_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  // Without chunks no slab is kept: the memory it comes from may end before the pool.
  const std::lock_guard lock(slab_mutex_);
  if (chunk_count() == 0) slab_ = BlobRef();
}

template <typename Fits>
ChunkRef ChunkPool::FindWhere(Hash128 hash, Fits fits) const {
  const Shard& shard = ShardOf(hash);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.chunks.find(hash);
  const Chunk* at = found == shard.chunks.end() ? nullptr : found->second;
  for (; at != nullptr; at = at->older_) {
    if (fits(*at) && at->TryAddReference()) return ChunkRef::Adopt(at);
  }
  return {};
}

template <typename Fits>
ChunkRef ChunkPool::FindEqualWhere(Hash128 hash, std::string_view bytes, Fits fits) const {
  std::vector<ChunkRef> others;  // held, so that none is met twice
  while (ChunkRef found = FindWhere(hash, [&](const Chunk& chunk) {
           return chunk.size() == bytes.size() && fits(chunk) &&
                  std::none_of(others.begin(), others.end(),
                               [&](const ChunkRef& other) { return other.get() == &chunk; });
         })) {
    if (HasBytes(*found, bytes)) return found;
    others.push_back(std::move(found));
  }
  return {};
}

ChunkRef ChunkPool::Find(Hash128 hash) const {
  return FindWhere(hash, [](const Chunk&) { return true; });
}

ChunkRef ChunkPool::Find(Hash128 hash, size_t size) const {
  return FindWhere(hash, [&](const Chunk& chunk) { return chunk.size() == size; });
}

ChunkRef ChunkPool::FindEqual(Hash128 hash, std::string_view bytes) const {
  return FindEqualWhere(hash, bytes, [](const Chunk&) { return true; });
}

ChunkRef ChunkPool::Enter(BlobSlice bytes, Hash128 hash, DType dtype, const ChunkFigures& figures) {
  // Found between the look before and now: rare, so the comparison may run under no lock again.
  if (ChunkRef other = FindEqual(hash, bytes.view())) return other;
  return Add(new Chunk(*this, std::move(bytes), hash, dtype, figures));
}

ChunkRef ChunkPool::Map(BlobSlice bytes, Hash128 hash, DType dtype, const ChunkFigures& figures,
                        uint64_t record) {
  // By the record alone: comparing bytes would read them.
  ChunkRef other = FindWhere(hash, [&](const Chunk& chunk) {
    return chunk.size() == bytes.size && chunk.record() == record;
  });
  if (other) return other;
  // What came inline, as a replay's does, is worth a read: else the same bytes are held twice.
  const auto is_inline = [](const Chunk& chunk) {
    return !chunk.is_mapped() && chunk.record() == 0;
  };
  if (FindWhere(hash, is_inline) && CanRead(bytes.view())) {
    other = FindEqualWhere(hash, bytes.view(), is_inline);
  }
  if (other) {
    other->set_record(record);
    return other;
  }
  const auto* chunk =
      new Chunk(*this, std::move(bytes), hash, dtype, figures, Chunk::State::kUnread);
  chunk->set_record(record);
  return Add(chunk);
}

ChunkRef ChunkPool::Lost(Hash128 hash, size_t size, DType dtype) {
  const auto* chunk =
      new Chunk(*this, {BlobRef(), 0, size}, hash, dtype, {}, Chunk::State::kDamaged);
  Count(*chunk);
  return ChunkRef::Adopt(chunk);
}

void ChunkPool::Count(const Chunk& chunk) {
  count_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(chunk.size(), std::memory_order_relaxed);
  stored_bytes_.fetch_add(chunk.stored_bytes(), std::memory_order_relaxed);
}

ChunkRef ChunkPool::Add(const Chunk* chunk) {
  Count(*chunk);
  interned_.fetch_add(1, std::memory_order_relaxed);
  Shard& shard = ShardOf(chunk->hash_);
  const std::lock_guard lock(shard.mutex);
  chunk->older_ = std::exchange(shard.chunks[chunk->hash_], chunk);
  return ChunkRef::Adopt(chunk);
}

Result<BlobSlice> ChunkPool::CopyOf(std::string_view bytes) {
  const auto refused = [&] {
    return Status::Client("OOM no memory for " + std::to_string(bytes.size()) +
                          " bytes of checkpoint data");
  };
  if (bytes.size() >= kSlabBytes) {
    Blob* blob = source_.Allocate(bytes.size());
    if (blob == nullptr) return refused();
    std::memcpy(blob->mutable_data(), bytes.data(), bytes.size());
    return BlobSlice{BlobRef::Adopt(blob), 0, bytes.size()};
  }
  BlobSlice out;
  char* to = nullptr;
  {
    const std::lock_guard lock(slab_mutex_);
    if (!slab_ || slab_used_ + bytes.size() > kChunkBytes) {
      Blob* blob = source_.Allocate(kChunkBytes);
      if (blob == nullptr) return refused();
      // Taken while it is ours alone; its parts are written once, each before it is shared.
      slab_data_ = blob->mutable_data();
      slab_ = BlobRef::Adopt(blob);
      slab_used_ = 0;
    }
    out = {slab_, slab_used_, bytes.size()};
    to = slab_data_ + slab_used_;
    slab_used_ += (bytes.size() + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment;
  }
  std::memcpy(to, bytes.data(), bytes.size());
  return out;
}

Result<std::vector<ChunkRef>> ChunkPool::Intern(const BlobSlice& piece,
                                                const std::vector<size_t>& sizes, DType dtype,
                                                Hash128Stream* whole) {
  std::vector<ChunkRef> out(sizes.size());
  std::vector<Hash128> hashes(sizes.size());
  std::vector<ChunkFigures> figures(sizes.size());
  size_t at = 0, fresh_bytes = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const std::string_view bytes = piece.view().substr(at, sizes[i]);
    at += sizes[i];
    // Cheap figures come first, needed or not: they look ahead in memory better than the hashes,
    // which find the bytes in the caches then (7.5 GB/s for all of it in place of 4.0, a Xeon).
    const bool figures_first = FiguresAreCheap(dtype);
    if (figures_first) figures[i] = ComputeFigures(dtype, bytes);
    if (whole != nullptr) whole->Add(bytes);
    hashes[i] = HashBytes128(bytes);
    out[i] = FindEqual(hashes[i], bytes);
    if (out[i]) continue;
    if (!figures_first) figures[i] = ComputeFigures(dtype, bytes);
    if (sizes[i] >= kSlabBytes) fresh_bytes += sizes[i];
  }
  const bool adopt = fresh_bytes >= piece.blob->footprint() / 4 * 3;
  at = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    BlobSlice bytes{piece.blob, piece.offset + at, sizes[i]};
    at += sizes[i];
    if (out[i]) continue;
    const bool aligned = reinterpret_cast<uintptr_t>(bytes.view().data()) % kChunkAlignment == 0;
    if (!adopt || !aligned || sizes[i] < kSlabBytes) {
      Result<BlobSlice> copy = CopyOf(bytes.view());
      if (!copy.ok()) return copy.status();
      bytes = std::move(*copy);
    }
    out[i] = Enter(std::move(bytes), hashes[i], dtype, figures[i]);
  }
  return out;
}

Result<ChunkRef> ChunkPool::InternOne(const BlobSlice& bytes, DType dtype) {
  Result<std::vector<ChunkRef>> made = Intern(bytes, {bytes.size}, dtype);
  if (!made.ok()) return made.status();
  return std::move((*made)[0]);
}

}  // namespace cairn::tensor

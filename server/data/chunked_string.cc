#include "server/data/chunked_string.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace cairn {
namespace {

constexpr size_t kEffortUnitBytes = 2048;

void FreeChunkBlob(Blob* self) {
  std::free(self->mutable_data());
  std::free(self);
}

/// Header and bytes apart, so that the bytes fill their size class of the allocator.
Blob* NewChunkBlob(size_t size) {
  void* header = std::malloc(sizeof(Blob));
  char* data = static_cast<char*>(std::malloc(size));
  CAIRN_CHECK(header != nullptr && data != nullptr);
  return new (header) Blob(data, size, sizeof(Blob) + size, &FreeChunkBlob);
}

}  // namespace

ChunkedString::Table* ChunkedString::NewTable(size_t capacity, uint64_t generation) {
  void* memory = std::malloc(sizeof(Table) + capacity * sizeof(Chunk));
  CAIRN_CHECK(memory != nullptr);
  return new (memory) Table{generation, capacity};
}

ChunkedString::ChunkedString(const ValueHome& home, BlobRef block, size_t chunk_bytes)
    : Container(home),
      chunk_bytes_(chunk_bytes),
      size_(block->size()),
      block_(block.Release()),
      block_generation_(generation()),
      table_(NewTable(ChunksOf(size_), generation())),
      maybe_back_from_(count()) {
  CAIRN_CHECK(std::has_single_bit(chunk_bytes));
  std::fill_n(table_->chunks(), count(), Chunk{nullptr, generation()});
}

ChunkedString::ChunkedString(ChunkedString& old, uint64_t frozen_until)
    : Container(old, frozen_until),
      chunk_bytes_(old.chunk_bytes_),
      size_(old.size_),
      block_(old.block_),
      block_generation_(old.block_generation_),
      table_(old.table_),
      blobs_(old.blobs_),
      maybe_back_from_(old.maybe_back_from_) {}

ChunkedString::ChunkedString(const ChunkedString& source)
    : Container(source.home()),
      chunk_bytes_(source.chunk_bytes_),
      size_(source.size_),
      block_(source.block_),
      block_generation_(generation()),
      table_(NewTable(source.count(), generation())),
      blobs_(source.blobs_),
      maybe_back_from_(source.maybe_back_from_) {
  block_->Ref();
  std::copy_n(source.table_->chunks(), count(), table_->chunks());
  for (size_t i = 0; i < count(); ++i) {
    if (Blob* blob = table_->chunks()[i].blob) blob->Ref();
  }
}

ChunkedString::~ChunkedString() {
  if (!owns_nodes()) return;
  for (size_t i = 0; i < count(); ++i) {
    if (Blob* blob = table_->chunks()[i].blob) blob->Unref();
  }
  std::free(table_);
  block_->Unref();
}

ChunkedString* ChunkedString::Fork(uint64_t frozen_until) {
  return new ChunkedString(*this, frozen_until);
}
ChunkedString* ChunkedString::Clone() const { return new ChunkedString(*this); }

// --- reading ---------------------------------------------------------------------------------

std::string_view ChunkedString::RunAt(size_t at) const {
  if (at >= size_) return {};
  const size_t i = at / chunk_bytes_, offset = at % chunk_bytes_;
  return {DataOf(i) + offset, BytesIn(i) - offset};
}

BlobSlice ChunkedString::SliceAt(size_t at, size_t most) const {
  const size_t first = at / chunk_bytes_;
  if (Blob* blob = table_->chunks()[first].blob) {
    const size_t offset = at % chunk_bytes_;
    return {BlobRef::Share(blob), offset, std::min(most, BytesIn(first) - offset)};
  }
  const size_t want = std::min(at + most, size_);
  size_t end = first;
  while (end * chunk_bytes_ < want && table_->chunks()[end].blob == nullptr) ++end;
  return {BlobRef::Share(block_), at, std::min(end * chunk_bytes_, want) - at};
}

Status ChunkedString::Emit(ValueSink& sink) const {
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < count(); ++i) {
    const std::string_view run(DataOf(i), BytesIn(i));
    if (!pieces.empty() && pieces.back().data() + pieces.back().size() == run.data()) {
      pieces.back() = {pieces.back().data(), pieces.back().size() + run.size()};
    } else {
      pieces.push_back(run);
    }
  }
  return sink.StringPieces(pieces);
}

size_t ChunkedString::MemoryUsage() const {
  if (!owns_nodes()) return sizeof(*this);
  return sizeof(*this) + table_->bytes() + block_->footprint() +
         blobs_ * (sizeof(Blob) + chunk_bytes_);
}

size_t ChunkedString::FreeEffort() const {
  return owns_nodes() ? 1 + (block_->footprint() + blobs_ * chunk_bytes_) / kEffortUnitBytes : 1;
}

void ChunkedString::CheckInvariants() const {
  CAIRN_CHECK(owns_nodes() && table_->capacity >= count());
  size_t blobs = 0;
  for (size_t i = 0; i < count(); ++i) {
    if (const Blob* blob = table_->chunks()[i].blob) {
      ++blobs;
      CAIRN_CHECK(blob->size() == chunk_bytes_);
      CAIRN_CHECK(i >= maybe_back_from_ || !FitsBlock(i));
    } else {
      CAIRN_CHECK(FitsBlock(i));
    }
  }
  CAIRN_CHECK(blobs == blobs_);
}

// --- writing ---------------------------------------------------------------------------------

bool ChunkedString::BlockWritable() {
  if (!MayWrite(block_generation_) || !block_->IsUnique()) return false;
  block_generation_ = generation();
  return true;
}

void ChunkedString::OwnTable(size_t chunks) {
  if (MayWrite(table_->generation) && table_->capacity >= chunks) {
    table_->generation = generation();
    return;
  }
  const size_t capacity = chunks > table_->capacity
                              ? std::max(chunks, table_->capacity + table_->capacity / 2)
                              : table_->capacity;
  Table* fresh = NewTable(capacity, generation());
  std::copy_n(table_->chunks(), count(), fresh->chunks());
  Table* old = std::exchange(table_, fresh);
  Discard(old, old->generation, old->bytes());
}

void ChunkedString::Drop(const Chunk& chunk) {
  if (MayWrite(chunk.generation)) {
    chunk.blob->Unref();
  } else {
    gate().Retire(Retired::Kind::kBlob, chunk.blob, 0,
                  chunk.blob->IsUnique() ? chunk.blob->footprint() : 0);
  }
}

char* ChunkedString::Writable(size_t i, bool keep, bool whole) {
  Chunk& chunk = table_->chunks()[i];
  const bool in_block = chunk.blob == nullptr;
  if (in_block && !whole && BlockWritable()) return block_->mutable_data() + i * chunk_bytes_;
  if (!in_block && MayWrite(chunk.generation) && chunk.blob->IsUnique()) {
    chunk.generation = generation();
    return chunk.blob->mutable_data();
  }
  const Chunk old = chunk;
  const char* bytes = DataOf(i);
  chunk = {NewChunkBlob(chunk_bytes_), generation()};
  if (keep) std::memcpy(chunk.blob->mutable_data(), bytes, BytesIn(i));
  if (!in_block) {
    Drop(old);
    return chunk.blob->mutable_data();
  }
  ++blobs_;
  maybe_back_from_ = std::min(maybe_back_from_, i);
  // The block's own bytes are now held for the views alone, and count as such while they last.
  if (gate().active()) gate().Retire(Retired::Kind::kBlock, nullptr, 0, chunk_bytes_);
  return chunk.blob->mutable_data();
}

void ChunkedString::Grow(size_t size, size_t zero_until) {
  CAIRN_CHECK(size >= size_);
  if (size == size_) return;
  const size_t old_size = size_, old_count = count();
  OwnTable(ChunksOf(size));
  if (old_size % chunk_bytes_ != 0) Writable(old_count - 1, true, true);
  for (size_t i = old_count; i < ChunksOf(size); ++i)
    table_->chunks()[i] = {NewChunkBlob(chunk_bytes_), generation()};
  blobs_ += ChunksOf(size) - old_count;
  size_ = size;
  for (size_t at = old_size; at < std::min(size, zero_until);) {
    const size_t i = at / chunk_bytes_, offset = at % chunk_bytes_;
    const size_t run = std::min(BytesIn(i) - offset, zero_until - at);
    std::memset(table_->chunks()[i].blob->mutable_data() + offset, 0, run);
    at += run;
  }
}

void ChunkedString::Write(size_t at, std::string_view bytes) {
  CAIRN_CHECK(at <= size_ && bytes.size() <= size_ - at);
  if (bytes.empty()) return;
  OwnTable(count());
  while (!bytes.empty()) {
    const size_t i = at / chunk_bytes_, offset = at % chunk_bytes_;
    const size_t run = std::min(bytes.size(), BytesIn(i) - offset);
    std::memcpy(Writable(i, run < BytesIn(i), false) + offset, bytes.data(), run);
    bytes.remove_prefix(run);
    at += run;
  }
}

void ChunkedString::PutOneBack() {
  size_t i = maybe_back_from_;
  while (i < count() && (table_->chunks()[i].blob == nullptr || !FitsBlock(i))) ++i;
  maybe_back_from_ = i;
  if (i == count() || !BlockWritable()) return;
  OwnTable(count());
  Chunk& chunk = table_->chunks()[i];
  std::memcpy(block_->mutable_data() + i * chunk_bytes_, chunk.blob->data(), BytesIn(i));
  Drop(chunk);
  chunk = {nullptr, generation()};
  --blobs_;
  ++maybe_back_from_;
}

BlobRef ChunkedString::WholeBlock() {
  if (blobs_ != 0 || size_ != block_->size() || IsFrozen() || !BlockWritable()) return {};
  return BlobRef::Share(block_);
}

}  // namespace cairn

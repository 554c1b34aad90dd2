#pragma once

// ChunkedString: a big string that a snapshot, a reply or a copy shares while it changes, or that
// grows by small pieces. It is a row of chunks of one size: each stands in the block that the
// string was received into, or in a blob of its own. A chunk that somebody else may read is copied
// when it is first written to; the rest stays shared. Strings that nobody shares stay one block
// (Entry, form kBlob). Container rules F1 to F5 hold for the table of chunks, the block and each
// blob. Executor; Emit and the const calls also the walker while frozen.
//
//   C1  Chunk i holds bytes [i * chunk_bytes, (i + 1) * chunk_bytes) of the string, the last one
//   fewer.
//       A blob of a chunk always has room for chunk_bytes.
//   C2  A chunk or the block is written in place iff no view may read it (F1) and no reply, copy or
//       older entry holds it (its count is 1). Views are judged by generation and watermark, the
//       others by the count.
//   C3  What left the block for a blob of its own goes back into it, a chunk with each later write,
//   as
//       soon as the block may be written: so the block's bytes do not lie idle for long.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/base/bytes.h"
#include "server/data/container.h"

namespace cairn {

/// Strings of at least this many bytes are changed by chunks when they are shared, and grow by
/// chunks when their block is full. Below it the copy of the whole costs less than 0.3 ms in warm
/// memory, several where the allocator has to ask for fresh pages.
inline constexpr size_t kBigStringBytes = size_t{1} << 20;
/// What one write copies at most of what a view reads (bench/string_bench.cc).
inline constexpr size_t kStringChunkBytes = size_t{128} << 10;

class ChunkedString final : public Container {
 public:
  /// Takes `block` as it is. `chunk_bytes` is a power of two. Cost: 16 bytes a chunk.
  ChunkedString(const ValueHome& home, BlobRef block, size_t chunk_bytes);
  ~ChunkedString() override;

  /// Cost: O(1); the first write after it copies the table, 16 bytes a chunk.
  ChunkedString* Fork(uint64_t frozen_until) override;
  /// Shares all bytes. Cost: O(chunks).
  ChunkedString* Clone() const override;
  void CheckInvariants() const override;
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override;
  /// In units of 2 KiB: what the loop can unmap in far less than a millisecond is 8 MiB, 4096
  /// units.
  size_t FreeEffort() const override;
  const char* EncodingName() const override { return "raw"; }
  const char* TypeName() const override { return "string"; }

  size_t size() const { return size_; }
  /// From byte `at` to the end of its chunk; empty at the end. Borrows: until the next change.
  std::string_view RunAt(size_t at) const;
  /// From byte `at` on what lies in one piece, at most `most` bytes, with a reference. Requires: at
  /// < size().
  BlobSlice SliceAt(size_t at, size_t most) const;

  // The calls below require a header that may be written: Database::EditString.

  /// Lengthens the string. New bytes before `zero_until` are zero, those behind it undefined: the
  /// caller writes them. Requires: size >= size().
  void Grow(size_t size, size_t zero_until);
  /// Requires: at + bytes.size() <= size().
  void Write(size_t at, std::string_view bytes);
  /// C3 for one chunk. Cost: the copy of a chunk, or nothing.
  void PutOneBack();
  /// The block when the string is that and nothing else, and nobody shares either: it needs no
  /// chunks any more. Else none.
  BlobRef WholeBlock();

 private:
  /// blob == nullptr: the chunk stands in the block.
  struct Chunk {
    Blob* blob;
    uint64_t generation;
  };
  /// A node from malloc; the chunks follow it.
  struct Table {
    uint64_t generation;
    size_t capacity;
    Chunk* chunks() { return reinterpret_cast<Chunk*>(this + 1); }
    const Chunk* chunks() const { return reinterpret_cast<const Chunk*>(this + 1); }
    size_t bytes() const { return sizeof(Table) + capacity * sizeof(Chunk); }
  };

  ChunkedString(ChunkedString& old, uint64_t frozen_until);
  explicit ChunkedString(const ChunkedString& source);
  static Table* NewTable(size_t capacity, uint64_t generation);

  size_t ChunksOf(size_t size) const { return (size + chunk_bytes_ - 1) / chunk_bytes_; }
  size_t count() const { return ChunksOf(size_); }
  size_t BytesIn(size_t i) const { return std::min(chunk_bytes_, size_ - i * chunk_bytes_); }
  const char* DataOf(size_t i) const {
    const Chunk& chunk = table_->chunks()[i];
    return chunk.blob != nullptr ? chunk.blob->data() : block_->data() + i * chunk_bytes_;
  }
  /// Whether chunk i, now in a blob of its own, is as long in the block.
  bool FitsBlock(size_t i) const { return i * chunk_bytes_ + BytesIn(i) <= block_->size(); }
  bool BlockWritable();
  /// Makes the table this header's own, with room for `chunks`.
  void OwnTable(size_t chunks);
  /// Where chunk i may be written, with its bytes if `keep`. `whole`: with room for chunk_bytes.
  /// Requires: own table.
  char* Writable(size_t i, bool keep, bool whole);
  void Drop(const Chunk& chunk);

  const size_t chunk_bytes_;
  size_t size_;
  Blob* block_;                // one reference
  uint64_t block_generation_;  // it was last known to have no reader in
  Table* table_;
  size_t blobs_ = 0;        // chunks in blobs of their own
  size_t maybe_back_from_;  // no chunk before this one can go back into the block
};

}  // namespace cairn

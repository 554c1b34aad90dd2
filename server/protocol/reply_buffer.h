#pragma once

// ReplyBuffer: the bytes one session still has to send, in order. Small pieces are copied into one
// contiguous buffer; blob slices of kReplyByReferenceBytes or more are held by reference, so a 64
// MiB value is sent from the value itself. It knows nothing of RESP (resp_writer.h) or sockets: the
// connection gathers pieces for a vectored write and says how much went out. Thread: the session's
// loop.

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/bytes.h"

namespace cairn {

/// Slices of at least this many bytes are sent by reference, smaller ones are copied.
inline constexpr size_t kReplyByReferenceBytes = 16 * 1024;
/// First capacity of the contiguous part, and what ShrinkIfIdle() keeps at most.
inline constexpr size_t kReplyBufferInitialBytes = 16 * 1024;

class ReplyBuffer {
 public:
  /// A place between two bytes. Valid until bytes before it are consumed or rolled back.
  struct Mark {
    size_t text = 0;    ///< bytes of the contiguous part before the place
    size_t slices = 0;  ///< slices before the place
  };

  ReplyBuffer() = default;
  ~ReplyBuffer();
  ReplyBuffer(const ReplyBuffer&) = delete;
  ReplyBuffer& operator=(const ReplyBuffer&) = delete;

  void Append(std::string_view bytes) {
    if (bytes.empty()) return;
    std::memcpy(Extend(bytes.size()), bytes.data(), bytes.size());
    end_ += bytes.size();
  }
  void Append(char byte) {
    *Extend(1) = byte;
    ++end_;
  }
  /// Room for `size_bytes` more; the caller writes there and then calls Advance(n), n <=
  /// size_bytes.
  char* Extend(size_t size_bytes) {
    if (capacity_ - end_ < size_bytes) [[unlikely]]
      Grow(size_bytes);
    return data_ + end_;
  }
  void Advance(size_t size_bytes) { end_ += size_bytes; }
  /// Appends the slice, by reference when it is large.
  void AppendBlob(BlobSlice slice);

  /// Unsent bytes, referenced ones included.
  size_t size() const { return end_ - begin_ + slice_bytes_; }
  bool empty() const { return size() == 0; }
  /// Of the unsent bytes those in slices. The keyspace may have them as well, or nobody else.
  size_t referenced_bytes() const { return slice_bytes_; }
  /// Bytes of memory held by this buffer alone (slices belong to their blobs as well).
  size_t footprint() const { return capacity_ + slices_.capacity() * sizeof(Slice); }

  /// The unsent bytes when they are contiguous, as nearly always; empty when there are none or
  /// slices among them. Lives until the next non-const call.
  std::string_view OnlyPiece() const {
    return slice_bytes_ == 0 ? std::string_view(data_ + begin_, end_ - begin_) : std::string_view();
  }
  /// Fills `out` with the first unsent pieces, in order; returns how many. Views live until the
  /// next non-const call.
  size_t GatherPieces(std::span<std::string_view> out) const;
  /// Drops the first `size_bytes` unsent bytes. Requires: size_bytes <= size().
  void Consume(size_t size_bytes) {
    if (slices_.empty() && size_bytes == end_ - begin_) {
      begin_ = end_ = 0;
    } else {
      ConsumePart(size_bytes);
    }
  }
  void Clear();
  /// Gives memory back when nothing is unsent.
  void ShrinkIfIdle();
  /// All unsent bytes as one string; for tests, scripts and tools.
  std::string Flatten() const;

  Mark Here() const { return {end_, slices_.size()}; }
  /// Inserts bytes at `mark`; marks taken later move and must not be used again. Cost: moves the
  /// contiguous bytes behind the mark.
  void InsertAt(Mark mark, std::string_view bytes);
  /// What was appended since `mark`, when that is contiguous; else empty. Lives until the next
  /// non-const call.
  std::string_view Since(Mark mark) const {
    if (slices_.size() != mark.slices) return {};
    return {data_ + mark.text, end_ - mark.text};
  }
  /// Drops everything appended since `mark`.
  void RollbackTo(Mark mark);

 private:
  struct Slice {
    BlobSlice slice;
    size_t text_end;  // contiguous bytes that go out before the slice
  };
  void Grow(size_t size_bytes);
  void ConsumePart(size_t size_bytes);

  char* data_ = nullptr;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
  std::vector<Slice> slices_;
  size_t first_slice_ = 0;  // slices before it are sent
  size_t slice_bytes_ = 0;  // unsent bytes in slices
};

}  // namespace cairn

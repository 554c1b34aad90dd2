#include "server/protocol/reply_buffer.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "server/base/check.h"

namespace cairn {
namespace {

// Sent bytes at the front are closed up once there are this many and more of them than unsent ones.
constexpr size_t kCloseUpBytes = 64 * 1024;

}  // namespace

ReplyBuffer::~ReplyBuffer() { std::free(data_); }

void ReplyBuffer::Grow(size_t size_bytes) {
  const size_t capacity = std::bit_ceil(std::max(end_ + size_bytes, kReplyBufferInitialBytes));
  char* grown = static_cast<char*>(std::realloc(data_, capacity));
  CAIRN_CHECK(grown != nullptr);
  data_ = grown;
  capacity_ = capacity;
}

void ReplyBuffer::AppendBlob(BlobSlice slice) {
  if (slice.size < kReplyByReferenceBytes) {
    if (slice.size > 0) Append(slice.view());
    return;
  }
  slice_bytes_ += slice.size;
  slices_.push_back({std::move(slice), end_});
}

size_t ReplyBuffer::GatherPieces(std::span<std::string_view> out) const {
  size_t count = 0;
  size_t text = begin_;
  for (size_t i = first_slice_; i < slices_.size() && count < out.size(); ++i) {
    const Slice& next = slices_[i];
    if (next.text_end > text) {
      out[count++] = {data_ + text, next.text_end - text};
      text = next.text_end;
      if (count == out.size()) return count;
    }
    out[count++] = next.slice.view();
  }
  if (end_ > text && count < out.size()) out[count++] = {data_ + text, end_ - text};
  return count;
}

void ReplyBuffer::ConsumePart(size_t size_bytes) {
  CAIRN_CHECK(size_bytes <= size());
  while (size_bytes > 0 && first_slice_ < slices_.size()) {
    Slice& next = slices_[first_slice_];
    const size_t text = std::min(size_bytes, next.text_end - begin_);
    begin_ += text;
    size_bytes -= text;
    const size_t taken = begin_ == next.text_end ? std::min(size_bytes, next.slice.size) : 0;
    next.slice.offset += taken;
    next.slice.size -= taken;
    slice_bytes_ -= taken;
    size_bytes -= taken;
    if (next.slice.size == 0) {
      next.slice.blob = BlobRef();
      ++first_slice_;
    }
  }
  begin_ += size_bytes;
  if (empty()) {
    Clear();
  } else if (begin_ >= kCloseUpBytes && begin_ > end_ - begin_) {
    std::memmove(data_, data_ + begin_, end_ - begin_);
    slices_.erase(slices_.begin(), slices_.begin() + static_cast<ptrdiff_t>(first_slice_));
    first_slice_ = 0;
    for (Slice& slice : slices_) slice.text_end -= begin_;
    end_ -= begin_;
    begin_ = 0;
  }
}

void ReplyBuffer::Clear() {
  begin_ = end_ = first_slice_ = slice_bytes_ = 0;
  slices_.clear();
}

void ReplyBuffer::ShrinkIfIdle() {
  if (!empty()) return;
  std::free(data_);
  data_ = nullptr;
  capacity_ = 0;
  slices_ = {};
  Clear();
}

std::string ReplyBuffer::Flatten() const {
  std::string all;
  all.reserve(size());
  std::vector<std::string_view> pieces(2 * (slices_.size() - first_slice_) + 1);
  pieces.resize(GatherPieces(pieces));
  for (std::string_view piece : pieces) all += piece;
  return all;
}

void ReplyBuffer::InsertAt(Mark mark, std::string_view bytes) {
  CAIRN_CHECK(mark.text >= begin_ && mark.text <= end_ && mark.slices <= slices_.size());
  Extend(bytes.size());
  char* place = data_ + mark.text;
  std::memmove(place + bytes.size(), place, end_ - mark.text);
  std::memcpy(place, bytes.data(), bytes.size());
  end_ += bytes.size();
  for (size_t i = mark.slices; i < slices_.size(); ++i) slices_[i].text_end += bytes.size();
}

void ReplyBuffer::RollbackTo(Mark mark) {
  CAIRN_CHECK(mark.text >= begin_ && mark.text <= end_);
  CAIRN_CHECK(mark.slices >= first_slice_ && mark.slices <= slices_.size());
  while (slices_.size() > mark.slices) {
    slice_bytes_ -= slices_.back().slice.size;
    slices_.pop_back();
  }
  end_ = mark.text;
}

}  // namespace cairn

#include "tensor_module/chunk_store.h"

#include <algorithm>

namespace cairn::tensor {

Upload::Upload(DType dtype, Shape shape, Chunks chunks, std::vector<ByteRange> received)
    : dtype_(dtype),
      shape_(std::move(shape)),
      chunks_(std::move(chunks)),
      received_(std::move(received)) {
  CAIRN_CHECK(IsValidReceived(received_, TotalBytes(chunks_)));
}

uint64_t Upload::next_offset() const {
  return received_.empty() || received_.front().begin > 0 ? 0 : received_.front().end;
}

std::vector<ByteRange> Upload::Holes() const {
  std::vector<ByteRange> holes;
  uint64_t at = 0;
  for (const ByteRange& range : received_) {
    if (range.begin > at) holes.push_back({at, range.begin});
    at = range.end;
  }
  if (at < size_bytes()) holes.push_back({at, size_bytes()});
  return holes;
}

std::vector<ByteRange> Upload::ReceivedWith(ByteRange range) const {
  std::vector<ByteRange> out;
  if (range.begin == range.end) return received_;
  for (const ByteRange& old : received_) {
    if (old.end < range.begin || old.begin > range.end) {
      out.push_back(old);
    } else {
      range = {std::min(range.begin, old.begin), std::max(range.end, old.end)};
    }
  }
  out.insert(
      std::upper_bound(out.begin(), out.end(), range,
                       [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; }),
      range);
  return out;
}

size_t Upload::MemoryUsage() const {
  size_t bytes = sizeof *this + shape_.capacity() * sizeof(uint64_t) +
                 chunks_.capacity() * sizeof(BlobSlice) + received_.capacity() * sizeof(ByteRange);
  for (const ByteRange& range : received_) bytes += range.end - range.begin;
  return bytes;
}

bool IsValidReceived(const std::vector<ByteRange>& received, uint64_t size_bytes) {
  for (size_t i = 0; i < received.size(); ++i) {
    if (received[i].begin >= received[i].end || received[i].end > size_bytes) return false;
    if (i > 0 && received[i].begin <= received[i - 1].end) return false;
  }
  return true;
}

}  // namespace cairn::tensor

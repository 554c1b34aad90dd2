#include "server/replication/backlog.h"

#include <algorithm>

#include "server/base/check.h"
#include "server/protocol/reply_buffer.h"

namespace cairn {

void Backlog::set_keep_bytes(uint64_t keep_bytes) {
  keep_bytes_ = keep_bytes;
  block_bytes_ = std::clamp<uint64_t>(keep_bytes / kBlocksWanted, kMinBlockBytes, kMaxBlockBytes);
}

void Backlog::Append(std::string_view bytes) {
  end_ += bytes.size();
  while (!bytes.empty()) {
    if (blocks_.empty() || blocks_.back().bytes.size() == blocks_.back().bytes.capacity()) {
      Block block{end_ - bytes.size(), {}};
      block.bytes.reserve(block_bytes_);
      memory_bytes_ += block.bytes.capacity();
      blocks_.push_back(std::move(block));
    }
    std::string& last = blocks_.back().bytes;
    const size_t taken = std::min(bytes.size(), last.capacity() - last.size());
    last.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
  }
}

size_t Backlog::Read(uint64_t offset, size_t most, ReplyBuffer* out) const {
  CAIRN_CHECK(Holds(offset));
  if (offset == end_) return 0;
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), offset,
                       [](uint64_t wanted, const Block& block) { return wanted < block.offset; });
  const Block& block = *std::prev(after);
  const std::string_view rest = std::string_view(block.bytes).substr(offset - block.offset, most);
  out->Append(rest);
  return rest.size();
}

std::vector<std::string> Backlog::Trim(uint64_t pinned) {
  std::vector<std::string> taken;
  while (blocks_.size() > 1) {
    Block& first = blocks_.front();
    const uint64_t first_end = first.offset + first.bytes.size();
    if (first_end > pinned || end_ - first_end < keep_bytes_) break;
    memory_bytes_ -= first.bytes.capacity();
    begin_ = first_end;
    taken.push_back(std::move(first.bytes));
    blocks_.pop_front();
  }
  return taken;
}

size_t Backlog::BlocksFrom(uint64_t offset) const {
  const auto first = std::partition_point(blocks_.begin(), blocks_.end(), [&](const Block& block) {
    return block.offset + block.bytes.size() <= offset;
  });
  return static_cast<size_t>(blocks_.end() - first);
}

void Backlog::CheckInvariants() const {
  uint64_t offset = begin_;
  for (const Block& block : blocks_) {
    CAIRN_CHECK(block.offset == offset);                             // L1
    CAIRN_CHECK(!block.bytes.empty() || &block == &blocks_.back());  // L2
    offset += block.bytes.size();
  }
  CAIRN_CHECK(offset == end_);
}

}  // namespace cairn

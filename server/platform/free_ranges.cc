#include "server/platform/free_ranges.h"

#include <algorithm>
#include <iterator>

namespace cairn {

void FreeRanges::Insert(char* range, size_t bytes) {
  auto next = by_address_.lower_bound(range);
  if (next != by_address_.end() && range + bytes == next->first) {
    bytes += next->second;
    const auto joined = next++;
    Erase(joined);
  }
  if (next != by_address_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == range) {
      range = before->first;
      bytes += before->second;
      Erase(before);
    }
  }
  Add(range, bytes);
}

char* FreeRanges::Take(size_t bytes) {
  const auto found = by_size_.lower_bound({bytes, nullptr});
  if (found == by_size_.end()) return nullptr;
  const auto [size, range] = *found;
  Erase(by_address_.find(range));
  if (size > bytes) Add(range + bytes, size - bytes);
  return range;
}

std::pair<char*, size_t> FreeRanges::TakeEnd(size_t most_bytes) {
  if (by_size_.empty()) return {nullptr, 0};
  const auto [size, range] = *by_size_.rbegin();
  const size_t taken = std::min(size, most_bytes);
  Erase(by_address_.find(range));
  if (size > taken) Add(range, size - taken);
  return {range + size - taken, taken};
}

void FreeRanges::Add(char* range, size_t bytes) {
  by_address_.emplace(range, bytes);
  by_size_.emplace(bytes, range);
  bytes_ += bytes;
}

void FreeRanges::Erase(std::map<char*, size_t>::iterator range) {
  bytes_ -= range->second;
  by_size_.erase({range->second, range->first});
  by_address_.erase(range);
}

}  // namespace cairn

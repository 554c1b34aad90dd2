#pragma once

// FreeRanges: ranges of addresses that nobody uses. Neighbours are joined as they come, and the
// smallest range that fits is cut. Knows nothing of what is behind the addresses. Thread: one.

#include <cstddef>
#include <map>
#include <set>
#include <utility>

namespace cairn {

class FreeRanges {
 public:
  /// Requires: no byte of it is here already.
  void Insert(char* range, size_t bytes);
  /// Takes the first `bytes` of the smallest range that has so many; nullptr when none has.
  /// Cost: O(log ranges).
  char* Take(size_t bytes);
  /// Takes up to `most_bytes` from the end of the largest range; {nullptr, 0} when there is none.
  std::pair<char*, size_t> TakeEnd(size_t most_bytes);
  /// Bytes of all ranges.
  size_t bytes() const { return bytes_; }

 private:
  void Add(char* range, size_t bytes);
  void Erase(std::map<char*, size_t>::iterator range);

  std::map<char*, size_t> by_address_;          // no two of them adjacent
  std::set<std::pair<size_t, char*>> by_size_;  // the same
  size_t bytes_ = 0;
};

}  // namespace cairn

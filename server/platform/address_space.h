#pragma once

// AddressSpace: ranges of zeroed memory on 2 MiB boundaries, advised to use huge pages, or not to.
// It is mapped in large pieces that stay mapped: mmap and munmap wait until no other thread of the
// process faults pages in, which for cold memory may take many milliseconds, while taking a range
// and giving one back do not. Without pages a range costs nothing. Thread: any.

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "server/platform/free_ranges.h"

namespace cairn {

/// The least multiple of `unit` that is not below `size`.
constexpr size_t RoundUp(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

class AddressSpace {
 public:
  static constexpr size_t kAlignment = size_t{2} << 20;
  enum class Pages : uint8_t { kHuge, kSmall };

  /// `map_bytes` are mapped at a time, unless more is asked for at once.
  explicit AddressSpace(Pages pages = Pages::kHuge, size_t map_bytes = size_t{1} << 30)
      : pages_(pages), map_bytes_(map_bytes) {}
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;
  /// Unmaps all, ranges that were not given back too.
  ~AddressSpace();

  /// Returns a range without pages of `bytes`, rounded up to kAlignment; nullptr when the system
  /// refuses. Cost: O(log free ranges), and now and then one mmap.
  char* Take(size_t bytes);
  Pages pages() const { return pages_; }
  /// Drops the pages of a range from Take(`bytes`) and takes it back.
  void Give(char* range, size_t bytes);

 private:
  const Pages pages_;
  const size_t map_bytes_;
  std::mutex mutex_;
  std::vector<std::pair<char*, size_t>> maps_;  // as mapped, for munmap
  FreeRanges free_;
};

}  // namespace cairn

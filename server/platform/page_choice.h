#pragma once

// PageChoice: whether fresh memory comes faster in huge pages or in small ones here. Which it is
// depends on the machine and changes by the minute: a hypervisor that took free blocks of 2 MiB
// back has to find them again (0.25 GB/s), while free memory in smaller pieces is still there
// (2 GB/s); where it has to find each small page by itself, huge ones are ten times as fast. So
// whoever fetches pages says how long it took. Thread: any.

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "server/platform/address_space.h"

namespace cairn {

class PageChoice {
 public:
  /// Speeds are means of the last so many bytes, and up to twice as many.
  static constexpr uint64_t kWindowBytes = 16u << 20;
  /// The slower kind is asked for again after so many times the bytes that are asked for; twice as
  /// many after each time that it was the slower one still, up to kMostPatience.
  static constexpr uint64_t kPatience = 64, kMostPatience = 64 * kPatience;

  /// What the next `bytes` of fresh memory should be. Each kind in turn until both are known.
  AddressSpace::Pages Next(size_t bytes);
  /// How fast they come cannot be told here: all are huge from now on.
  void Forgo();
  /// `bytes` of fresh memory have come, in `nanoseconds`.
  void Fetched(AddressSpace::Pages pages, size_t bytes, int64_t nanoseconds);

 private:
  struct Speed {
    uint64_t bytes = 0;
    int64_t nanoseconds = 0;
  };
  static size_t IndexOf(AddressSpace::Pages pages) { return static_cast<size_t>(pages); }
  AddressSpace::Pages Faster() const;

  std::mutex mutex_;
  std::array<Speed, 2> speeds_;
  AddressSpace::Pages last_ = AddressSpace::Pages::kSmall;
  AddressSpace::Pages faster_ = AddressSpace::Pages::kHuge;
  bool forgone_ = false;
  uint64_t bytes_since_other_ = 0;
  uint64_t patience_ = kPatience;
};

}  // namespace cairn

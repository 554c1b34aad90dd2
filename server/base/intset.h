#pragma once

// Intset: the sorted array of integers that Redis keeps small sets of integers in, byte for byte.
// IntsetView reads, the free functions change bytes held in a std::string. Pure; any thread.
//
//   intset := width(4) length(4) integer*    all little-endian, integers of `width` bytes (2, 4 or
//             8) in ascending order; the width is that of the widest ever put in, it never shrinks
//
// Worked example, {1, 5}:  02 00 00 00  02 00 00 00  01 00 05 00

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

inline constexpr uint32_t kIntsetHeaderBytes = 8;

class IntsetView {
 public:
  /// Requires: bytes that Validate accepted or the functions below made.
  explicit IntsetView(std::string_view bytes);

  /// Whether `bytes` are an intset in strict order, its length checked. Cost: O(n).
  static bool Validate(std::string_view bytes);

  uint32_t count() const { return count_; }
  /// The integer at `index` in ascending order. Requires: index < count().
  int64_t Get(uint32_t index) const;
  /// Cost: O(log n).
  bool Contains(int64_t value) const;
  /// Index of the first integer that is not below `value`; count() when all are.
  uint32_t LowerBound(int64_t value) const;

 private:
  const char* integers_;
  uint32_t width_;
  uint32_t count_;
};

/// An empty intset.
std::string NewIntset();
/// Returns false, changing nothing, when `value` is there. Cost: O(n).
bool IntsetInsert(std::string* intset, int64_t value);
/// Returns false, changing nothing, when `value` is not there. Cost: O(n).
bool IntsetErase(std::string* intset, int64_t value);

}  // namespace cairn

#pragma once

// Log-linear histogram of non-negative integers (latencies in microseconds or nanoseconds, sizes):
// values below 64 are exact, above that each power of two is cut in 64 buckets, so a reported
// quantile is at most 1/64 above the true one. The full range of uint64_t is covered. Memory: 3776
// buckets of 8 bytes, 30 KiB, allocated by the first Record. Thread-compatible: one owner records;
// other threads Merge copies that the owner hands out.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

class Histogram {
 public:
  static constexpr int kSubBits = 6;
  static constexpr uint64_t kSubBuckets = 1u << kSubBits;

  /// Cost: two memory writes beside the extremes; no allocation after the first. Inline because
  /// every command is recorded.
  void Record(uint64_t value) { RecordMany(value, 1); }
  void RecordMany(uint64_t value, uint64_t times) {
    if (times == 0) return;
    if (buckets_.empty()) [[unlikely]]
      buckets_.resize(kBuckets);
    buckets_[BucketOf(value)] += times;
    count_ += times;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
    sum_ += static_cast<double>(value) * static_cast<double>(times);
  }

  uint64_t count() const { return count_; }
  /// Extremes are exact; 0 when empty.
  uint64_t min() const { return count_ ? min_ : 0; }
  uint64_t max() const { return max_; }
  /// Exact up to the precision of a double; 0 when empty.
  double Mean() const;

  /// The smallest reported value that at least a fraction `q` of the records does not exceed; q is
  /// clamped to 0..1, 0 gives min(), 1 gives max(). 0 when empty. Cost: O(buckets).
  uint64_t Quantile(double q) const;
  /// How many records lie in buckets that end at or below `value` (for cumulative displays).
  uint64_t CountAtMost(uint64_t value) const;

  void Merge(const Histogram& other);
  /// Forgets the records; keeps the memory.
  void Reset();

 private:
  /// One linear group, then one group for each position of the highest bit from kSubBits to 63.
  static constexpr size_t kBuckets = (64 - kSubBits + 1) * kSubBuckets;

  static size_t BucketOf(uint64_t value) {
    if (value < kSubBuckets) return value;
    const int shift = std::bit_width(value) - 1 - kSubBits;
    return static_cast<size_t>(shift) * kSubBuckets + (value >> shift);
  }

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace cairn

#include "server/base/histogram.h"

#include <algorithm>
#include <cmath>

namespace cairn {
namespace {

constexpr uint64_t kSubBuckets = Histogram::kSubBuckets;

/// The largest value that falls into the bucket.
uint64_t BucketEnd(size_t bucket) {
  if (bucket < 2 * kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  const uint64_t start = (bucket - shift * kSubBuckets) << shift;
  return start + ((1ull << shift) - 1);
}

}  // namespace

double Histogram::Mean() const { return count_ ? sum_ / static_cast<double>(count_) : 0; }

uint64_t Histogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  if (!(q > 0)) return min_;
  if (q >= 1) return max_;
  // The rank of the record asked for, counted from 1.
  const auto rank = std::clamp<uint64_t>(
      static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_))), 1, count_);
  uint64_t seen = 0;
  for (size_t bucket = BucketOf(min_); bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) return std::clamp(BucketEnd(bucket), min_, max_);
  }
  return max_;
}

uint64_t Histogram::CountAtMost(uint64_t value) const {
  if (count_ == 0) return 0;
  if (value >= max_) return count_;
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < buckets_.size() && BucketEnd(bucket) <= value; ++bucket) {
    seen += buckets_[bucket];
  }
  return seen;
}

void Histogram::Merge(const Histogram& other) {
  if (other.count_ == 0) return;
  if (buckets_.empty()) buckets_.resize(kBuckets);
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

void Histogram::Reset() {
  std::fill(buckets_.begin(), buckets_.end(), 0);
  count_ = 0;
  min_ = UINT64_MAX;
  max_ = 0;
  sum_ = 0;
}

}  // namespace cairn

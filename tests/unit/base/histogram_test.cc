#include "server/base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace cairn {
namespace {

TEST(HistogramTest, EmptyReportsZeros) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.Mean(), 0);
  EXPECT_EQ(histogram.Quantile(0.5), 0u);
  EXPECT_EQ(histogram.CountAtMost(UINT64_MAX), 0u);
}

TEST(HistogramTest, SmallValuesAreExact) {
  Histogram histogram;
  for (uint64_t i = 1; i <= 100; ++i) histogram.Record(i);
  EXPECT_EQ(histogram.Quantile(0.5), 50u);
  EXPECT_EQ(histogram.Quantile(0.01), 1u);
  EXPECT_EQ(histogram.Quantile(0.99), 99u);
  EXPECT_EQ(histogram.Quantile(0), 1u);
  EXPECT_EQ(histogram.Quantile(1), 100u);
  EXPECT_EQ(histogram.Mean(), 50.5);
  EXPECT_EQ(histogram.CountAtMost(63), 63u);
}

TEST(HistogramTest, QuantilesStayWithinOneSixtyFourth) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(random() >> (random() % 64));
    histogram.Record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double q : {0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999}) {
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
    const uint64_t exact = values[rank - 1];
    const uint64_t reported = histogram.Quantile(q);
    EXPECT_GE(reported, exact) << q;
    EXPECT_LE(reported - exact, exact / 64) << q;
  }
}

TEST(HistogramTest, TakesTheLargestValue) {
  Histogram histogram;
  histogram.Record(UINT64_MAX);
  histogram.Record(0);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), UINT64_MAX);
  EXPECT_EQ(histogram.Quantile(0.9), UINT64_MAX);
}

TEST(HistogramTest, MergeEqualsRecordingInOne) {
  Histogram left, right, both;
  for (uint64_t i = 0; i < 1000; ++i) {
    (i % 3 ? left : right).Record(i * i);
    both.Record(i * i);
  }
  left.Merge(right);
  left.Merge(Histogram());
  EXPECT_EQ(left.count(), both.count());
  EXPECT_EQ(left.Mean(), both.Mean());
  EXPECT_EQ(left.min(), both.min());
  EXPECT_EQ(left.max(), both.max());
  for (const double q : {0.1, 0.5, 0.95}) EXPECT_EQ(left.Quantile(q), both.Quantile(q));
}

TEST(HistogramTest, ResetForgets) {
  Histogram histogram;
  histogram.RecordMany(5, 3);
  EXPECT_EQ(histogram.count(), 3u);
  histogram.Reset();
  EXPECT_EQ(histogram.count(), 0u);
  histogram.Record(9);
  EXPECT_EQ(histogram.min(), 9u);
  EXPECT_EQ(histogram.Quantile(0.5), 9u);
}

}  // namespace
}  // namespace cairn

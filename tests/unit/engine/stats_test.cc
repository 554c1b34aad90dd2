#include "server/engine/stats.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cairn {
namespace {

TEST(RecentPeakTest, APeakIsKnownForSevenSeconds) {
  RecentPeak peak;
  EXPECT_EQ(peak.Peak(1000), 0u);
  peak.Sample(1000, 7);
  peak.Sample(1000, 9);
  peak.Sample(1000, 8);
  peak.Sample(1003, 2);
  EXPECT_EQ(peak.Peak(1000), 9u);
  EXPECT_EQ(peak.Peak(1006), 9u);
  EXPECT_EQ(peak.Peak(1007), 2u);
  EXPECT_EQ(peak.Peak(1010), 0u);
}

TEST(RecentPeakTest, ASecondTakesThePlaceOfThatSevenBefore) {
  RecentPeak peak;
  for (int64_t now_s = 1000; now_s < 1030; ++now_s) {
    peak.Sample(now_s, static_cast<uint64_t>(2000 - now_s));
    EXPECT_EQ(peak.Peak(now_s), static_cast<uint64_t>(2000 - std::max<int64_t>(now_s - 6, 1000)));
  }
}

}  // namespace
}  // namespace cairn

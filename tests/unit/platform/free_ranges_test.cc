#include "server/platform/free_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

namespace cairn {
namespace {

TEST(FreeRangesTest, NeighboursJoinAndTheSmallestThatFitsIsCut) {
  char memory[100];
  FreeRanges ranges;
  EXPECT_EQ(ranges.Take(1), nullptr);
  EXPECT_EQ(ranges.TakeEnd(1).second, 0u);
  ranges.Insert(memory, 10);
  ranges.Insert(memory + 20, 10);
  EXPECT_EQ(ranges.Take(11), nullptr);
  ranges.Insert(memory + 10, 10);
  ranges.Insert(memory + 50, 12);
  EXPECT_EQ(ranges.bytes(), 42u);
  EXPECT_EQ(ranges.Take(11), memory + 50) << "12 fit better than 30";
  EXPECT_EQ(ranges.Take(30), memory);
  EXPECT_EQ(ranges.Take(1), memory + 61);
  EXPECT_EQ(ranges.bytes(), 0u);
}

TEST(FreeRangesTest, TheEndOfTheLargestGoes) {
  char memory[100];
  FreeRanges ranges;
  ranges.Insert(memory, 10);
  ranges.Insert(memory + 20, 30);
  EXPECT_EQ(ranges.TakeEnd(25), std::pair(memory + 25, size_t{25}));
  EXPECT_EQ(ranges.TakeEnd(25), std::pair(memory, size_t{10}));
  EXPECT_EQ(ranges.TakeEnd(25), std::pair(memory + 20, size_t{5}));
  EXPECT_EQ(ranges.bytes(), 0u);
}

TEST(FreeRangesTest, NoByteIsLostOrGivenTwice) {
  constexpr size_t kBytes = 1000;
  std::vector<char> memory(kBytes);
  std::vector<bool> free(kBytes, true);
  FreeRanges ranges;
  ranges.Insert(memory.data(), kBytes);
  std::vector<std::pair<char*, size_t>> taken;
  std::mt19937 random(3);
  const auto take = [&](char* range, size_t bytes) {
    if (bytes == 0) return;
    const size_t at = static_cast<size_t>(range - memory.data());
    for (size_t i = at; i < at + bytes; ++i) {
      ASSERT_TRUE(free[i]) << i;
      free[i] = false;
    }
    taken.emplace_back(range, bytes);
  };
  for (int i = 0; i < 20000; ++i) {
    const size_t bytes = 1 + random() % 60;
    if (random() % 5 == 0) {
      const auto [range, some] = ranges.TakeEnd(bytes);
      take(range, some);
    } else if (char* const range = random() % 2 == 0 ? ranges.Take(bytes) : nullptr) {
      take(range, bytes);
    } else if (!taken.empty()) {
      std::swap(taken[random() % taken.size()], taken.back());
      const auto [back, size] = taken.back();
      taken.pop_back();
      ranges.Insert(back, size);
      for (size_t k = 0; k < size; ++k) free[static_cast<size_t>(back - memory.data()) + k] = true;
    }
    ASSERT_EQ(ranges.bytes(), static_cast<size_t>(std::count(free.begin(), free.end(), true)));
  }
  for (const auto& [range, bytes] : taken) ranges.Insert(range, bytes);
  EXPECT_EQ(ranges.Take(kBytes), memory.data()) << "all in one piece again";
}

}  // namespace
}  // namespace cairn

#include "server/platform/fiber.h"

#include <gtest/gtest.h>

#include <vector>

namespace cairn {
namespace {

TEST(FiberTest, OwnerAndBodyTakeTurns) {
  std::vector<int> order;
  Fiber fiber([&](Fiber& self) {
    order.push_back(1);
    EXPECT_TRUE(self.Yield());
    order.push_back(3);
    EXPECT_TRUE(self.Yield());
    order.push_back(5);
  });
  EXPECT_TRUE(order.empty());
  EXPECT_TRUE(fiber.Resume());
  order.push_back(2);
  EXPECT_TRUE(fiber.Resume());
  order.push_back(4);
  EXPECT_FALSE(fiber.Resume());
  EXPECT_FALSE(fiber.Resume());
  EXPECT_EQ(order, (std::vector{1, 2, 3, 4, 5}));
}

TEST(FiberTest, ADestroyedFiberRunsItsBodyToTheEnd) {
  bool ended = false, told = false;
  {
    Fiber fiber([&](Fiber& self) {
      told = !self.Yield();
      ended = true;
    });
    EXPECT_TRUE(fiber.Resume());
  }
  EXPECT_TRUE(told);
  EXPECT_TRUE(ended);
}

TEST(FiberTest, OneThatNeverRanEndsWithoutItsBody) {
  bool ran = false;
  {
    Fiber fiber([&](Fiber&) { ran = true; });
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace cairn

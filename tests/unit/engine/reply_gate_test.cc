#include "server/engine/reply_gate.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ReplyGateTest, LetsEverythingGoWhenNothingIsHeld) {
  ReplyGate gate;
  EXPECT_TRUE(gate.empty());
  EXPECT_EQ(gate.Released(0), UINT64_MAX);
}

TEST(ReplyGateTest, ReleasesInOrderAsFarAsTheLogHasCome) {  // V11
  ReplyGate gate;
  gate.Hold(5, 100, 0);     // turn 1
  gate.Hold(10, 200, 100);  // turn 2
  EXPECT_EQ(gate.Released(99), 0u);
  EXPECT_EQ(gate.Released(100), 5u);
  EXPECT_EQ(gate.Released(199), 5u);
  EXPECT_FALSE(gate.empty());
  EXPECT_EQ(gate.Released(200), UINT64_MAX);
  EXPECT_TRUE(gate.empty());
}

TEST(ReplyGateTest, RepliesOfOneTurnShareAnEntry) {
  ReplyGate gate;
  gate.Hold(5, 100, 50);
  gate.Hold(10, 150, 50);  // the log was given nothing in between
  EXPECT_EQ(gate.Released(100), 0u);
  EXPECT_EQ(gate.Released(150), UINT64_MAX);
}

TEST(ReplyGateTest, AClientThatNeverPausesGetsItsRepliesAsTheyBecomeFree) {
  ReplyGate gate;
  for (uint64_t turn = 1; turn <= 10'000; ++turn) {
    gate.Hold(turn * 5, turn * 10, (turn - 1) * 10);
    if (turn <= 3) continue;
    // The log is always three turns behind.
    ASSERT_EQ(gate.Released((turn - 3) * 10), (turn - 3) * 5);
  }
  EXPECT_EQ(gate.Released(100'000), UINT64_MAX);
}

}  // namespace
}  // namespace cairn

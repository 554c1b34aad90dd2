#include "server/engine/client_pauses.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ClientPausesTest, TheStrictestCountsAndEachEndsForItself) {
  ClientPauses pauses;
  EXPECT_EQ(pauses.mode(), PauseMode::kNone);
  pauses.Pause(PauseReason::kFailover, PauseMode::kWrites, INT64_MAX);
  pauses.Pause(PauseReason::kCommand, PauseMode::kAll, 100);
  EXPECT_EQ(pauses.mode(), PauseMode::kAll);
  EXPECT_TRUE(pauses.IsOn(PauseReason::kFailover));
  EXPECT_FALSE(pauses.IsOn(PauseReason::kShutdown));
  pauses.End(PauseReason::kCommand);
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
  pauses.End(PauseReason::kCommand);
  pauses.End(PauseReason::kShutdown);
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
  pauses.End(PauseReason::kFailover);
  EXPECT_EQ(pauses.mode(), PauseMode::kNone);
}

TEST(ClientPausesTest, OneOfTheSameReasonGetsNoMilderAndNoShorter) {
  ClientPauses pauses;
  pauses.Pause(PauseReason::kCommand, PauseMode::kWrites, 100);
  pauses.Pause(PauseReason::kCommand, PauseMode::kAll, 50);
  EXPECT_EQ(pauses.mode(), PauseMode::kAll);
  pauses.EndDue(99);
  EXPECT_EQ(pauses.mode(), PauseMode::kAll);
  pauses.Pause(PauseReason::kCommand, PauseMode::kWrites, 200);
  pauses.EndDue(100);
  EXPECT_EQ(pauses.mode(), PauseMode::kAll);
  pauses.EndDue(200);
  EXPECT_EQ(pauses.mode(), PauseMode::kNone);
  pauses.Pause(PauseReason::kCommand, PauseMode::kWrites, 300);  // what is over leaves nothing
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
}

TEST(ClientPausesTest, TheFirstThatIsOverIsDue) {
  ClientPauses pauses;
  EXPECT_FALSE(pauses.MayBeDue(INT64_MAX - 1));
  pauses.Pause(PauseReason::kShutdown, PauseMode::kWrites, INT64_MAX);
  pauses.Pause(PauseReason::kCommand, PauseMode::kWrites, 100);
  EXPECT_FALSE(pauses.MayBeDue(99));
  EXPECT_TRUE(pauses.MayBeDue(100));
  pauses.EndDue(100);
  EXPECT_FALSE(pauses.MayBeDue(100));
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
}

}  // namespace
}  // namespace cairn

// Writers that wait for a disk that does not keep up with the append-only file: who is held, who is
// not, and what lets them go.

#include "server/engine/log_throttle.h"

#include <gtest/gtest.h>

#include "tests/support/holdable_client.h"

namespace cairn {
namespace {

class LogThrottleTest : public testing::Test {
 protected:
  FakeEnv env_{1};
};

TEST_F(LogThrottleTest, WritersWaitForADiskThatHangsAndReadersDoNot) {
  DurableProcess process(env_, {{"appendonly", "yes"}, {"aof-unsynced-limit", "2000"}});
  HoldableClient writer(process), reader(process), another(process);
  ASSERT_TRUE(process.AllDurable());
  env_.HoldSyncs(true);
  ASSERT_TRUE(writer.Run({"SET", "a", "1"}));
  env_.AdvanceMicros(1'000'000);
  ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  ASSERT_TRUE(writer.Run({"SET", "a", "2"}));
  env_.AdvanceMicros(900'000);
  ASSERT_TRUE(writer.Run({"SET", "a", "3"}));
  EXPECT_EQ(process.durability_->figures().aof_unsynced_ms, 1900);
  EXPECT_EQ(process.durability_->figures().aof_write_holds, 0u);

  env_.AdvanceMicros(100'001);
  EXPECT_FALSE(writer.Run({"SET", "a", "4"}));
  EXPECT_TRUE(writer.held());
  EXPECT_TRUE(reader.Run({"GET", "a"}));
  EXPECT_FALSE(another.Run({"RPUSH", "l", "5"}));
  EXPECT_EQ(process.Run({"GET", "a"}), "\"3\"");
  EXPECT_EQ(process.durability_->figures().aof_write_holds, 1u);
  EXPECT_EQ(process.sink_.Count("The disk does not keep up"), 1u);
  env_.AdvanceMicros(50'000);
  process.loop_.RunPosted();
  EXPECT_TRUE(writer.held());
  EXPECT_EQ(process.durability_->figures().aof_write_held_us, 50'000u);

  env_.HoldSyncs(false);
  ASSERT_TRUE(process.Until([&] {
    env_.AdvanceMicros(1000);
    return writer.told_to_go_on() && another.told_to_go_on();
  }));
  EXPECT_FALSE(writer.held());
  EXPECT_TRUE(writer.Run({"SET", "a", "4"}));
  EXPECT_EQ(process.durability_->figures().aof_write_holds, 1u);
}

/// A writer that waits: the disk hangs, and aof-buffer-limit was reached by its first write.
class HeldWriterTest : public LogThrottleTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(process_.AllDurable());
    env_.HoldSyncs(true);
    ASSERT_TRUE(writer_.Run({"SET", "a", std::string(1'100'000, 'x')}));
    ASSERT_FALSE(writer_.Run({"SET", "a", "2"}));
    ASSERT_TRUE(writer_.held());
  }

  DurableProcess process_{env_, {{"appendonly", "yes"}, {"aof-buffer-limit", "1mb"}}};
  HoldableClient writer_{process_};
};

TEST_F(HeldWriterTest, GoesOnWhenTheLimitIsRaised) {
  EXPECT_EQ(process_.Run({"CONFIG", "SET", "aof-buffer-limit", "10mb"}), "+OK");
  ASSERT_TRUE(process_.Until([&] {
    env_.AdvanceMicros(1000);
    return writer_.told_to_go_on();
  }));
  EXPECT_TRUE(writer_.Run({"SET", "a", "2"}));
  env_.HoldSyncs(false);
  ASSERT_TRUE(process_.AllDurable());
}

TEST_F(HeldWriterTest, GoesOnWithoutALog) {
  env_.HoldSyncs(false);
  EXPECT_EQ(process_.Run({"CONFIG", "SET", "appendonly", "no"}), "+OK");
  env_.AdvanceMicros(1000);
  process_.loop_.RunPosted();
  EXPECT_TRUE(writer_.told_to_go_on());
  EXPECT_TRUE(writer_.Run({"SET", "a", "2"}));
}

}  // namespace
}  // namespace cairn

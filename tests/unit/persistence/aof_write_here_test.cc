// When the executor writes to the append-only file itself, and when it leaves that to the log
// thread.

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/unit/persistence/aof_writer_fixture.h"

namespace cairn {
namespace {

class AofWriteHereTest : public AofWriterTest {
 protected:
  /// Whether a write that takes so long keeps the executor from the next ones, for five seconds.
  /// Asked anew when it does: the machine, too, may keep a thread waiting, for memory for instance.
  bool CountsAsSlow(int64_t time_us, bool waits) {
    for (int attempt = 0; attempt < 5; ++attempt) {
      auto writer = Open();
      const auto writes_here = [&writer] {
        writer->Append(SetCommand("a", "1"), 0);
        return writer->written_offset() == writer->appended_offset();
      };
      env_.SetWriteTime(time_us, waits);
      EXPECT_TRUE(writes_here());
      env_.SetWriteTime(0, false);
      const bool slow = !writes_here();
      (void)writer->RunOnce();
      env_.AdvanceMicros(4'900'000);
      EXPECT_NE(writes_here(), slow);
      (void)writer->RunOnce();
      env_.AdvanceMicros(200'000);
      EXPECT_TRUE(writes_here()) << "five seconds are over";
      EXPECT_TRUE(writer->Close().ok());
      if (!slow) return false;
    }
    return true;
  }
};

// A write is slow that waited for the disk, not one whose thread others put off its core.
TEST_F(AofWriteHereTest, AWriteIsSlowThatWaitsForMoreThanAMillisecondOrTakesFifty) {
  struct Case {
    int64_t time_us;
    bool waits, slow;
  };
  const Case cases[] = {{900, true, false},     {1100, true, true},    {1100, false, false},
                        {49'000, false, false}, {51'000, false, true}, {51'000, true, true}};
  for (const AofSyncPolicy policy : {AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    options_.policy = policy;
    for (const Case& the : cases) {
      const bool slow = CountsAsSlow(the.time_us, the.waits);
      EXPECT_EQ(slow, the.slow) << the.time_us << (the.waits ? " waits" : " runs");
    }
  }
}

// The log thread of these tests has no core until RunOnce.
TEST_F(AofWriteHereTest, TheExecutorWritesWhatTheLogThreadDoesNotComeTo) {
  for (const AofSyncPolicy policy : {AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    options_.policy = policy;
    auto writer = Open();
    EXPECT_FALSE(writer->WriteLate()) << "nothing is there";
    writer->SetDiskBusy(true);
    writer->Append(SetCommand("a", std::string(600'000, 'x')), 0);
    const uint64_t first = writer->appended_offset();
    writer->Append(SetCommand("b", std::string(600'000, 'x')), 0);
    EXPECT_LT(writer->written_offset(), first);
    EXPECT_TRUE(writer->WriteLate());
    EXPECT_EQ(writer->written_offset(), first) << "a mebibyte at most";
    EXPECT_TRUE(writer->WriteLate());
    EXPECT_EQ(writer->written_offset(), writer->appended_offset());
    EXPECT_FALSE(writer->WriteLate());
    env_.AdvanceMicros(1'100'000);
    EXPECT_EQ(writer->RunOnce(), -1);
    const bool synced = writer->durable_offset() == writer->appended_offset();
    EXPECT_EQ(synced, policy == AofSyncPolicy::kEverySecond);
    ASSERT_TRUE(writer->Close().ok());
    const std::vector<std::string> lines = Load();
    ASSERT_GE(lines.size(), 2u);
    EXPECT_TRUE(lines[lines.size() - 2].starts_with("SET a ") &&
                lines.back().starts_with("SET b "));
  }
}

TEST_F(AofWriteHereTest, TheExecutorLeavesToTheLogThreadWhatMayWait) {
  auto writer = Open();
  const auto late = [&writer] {
    writer->Append(SetCommand("a", "1"), 0);
    return writer->WriteLate();
  };
  env_.SetWriteTime(2000, true);
  writer->Append(SetCommand("a", "1"), 0);
  EXPECT_FALSE(late()) << "the last write waited for the disk";
  (void)writer->RunOnce();
  EXPECT_FALSE(late()) << "and that of the log thread did";
  env_.SetWriteTime(0, false);
  (void)writer->RunOnce();
  EXPECT_TRUE(late()) << "the disk is quick again";

  writer->SetDiskBusy(true);
  unsynced_names_ = true;
  EXPECT_FALSE(late()) << "A11";
  (void)writer->RunOnce();
  (void)writer->BeginRewrite();
  EXPECT_FALSE(late()) << "A7";
  (void)writer->RunOnce();
  writer->AbortRewrite();
  EXPECT_FALSE(late()) << "the end of a rewrite";
  (void)writer->RunOnce();
  writer->SetPolicy(AofSyncPolicy::kAlways);
  EXPECT_FALSE(late()) << "a reply waits for the disk";
  (void)writer->RunOnce();
  writer->SetPolicy(AofSyncPolicy::kEverySecond);

  env_.FailNthCall(1, Status::Io("write"));
  EXPECT_FALSE(late());
  EXPECT_EQ(writer->state(), AofState::kDegraded);
  EXPECT_FALSE(late()) << "refused until it recovers";
  env_.AdvanceMicros(1'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->written_offset(), writer->appended_offset());
  ASSERT_TRUE(writer->Close().ok());
}

TEST_F(AofWriteHereTest, TheExecutorNeverWritesWhileASyncRuns) {
  auto writer = Open();
  writer->StartThread();
  env_.HoldSyncs(true);
  writer->Append(SetCommand("a", "1"), 0);
  env_.AdvanceMicros(1'100'000);
  writer->SetPolicy(AofSyncPolicy::kEverySecond);  // the log thread looks at the clock
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (env_.held_syncs() == 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
  for (int i = 0; i < 200; ++i) {
    const int before = writes_by_others_;
    writer->Append(SetCommand("a", std::to_string(i)), 0);
    if (writer->written_offset() == writer->appended_offset()) {
      EXPECT_GT(writes_by_others_, before);
    }
    EXPECT_FALSE(writer->WriteLate());
  }
  env_.HoldSyncs(false);
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load().back(), "SET a 199");
}

}  // namespace
}  // namespace cairn

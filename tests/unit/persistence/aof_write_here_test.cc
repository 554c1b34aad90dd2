// When the executor writes to the append-only file itself, and when it leaves that to the log
// thread.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "tests/unit/persistence/aof_writer_fixture.h"

namespace cairn {
namespace {

class AofWriteHereTest : public AofWriterTest {
 protected:
  /// For how long a write that takes so long keeps the executor from the next ones, in ms, and to
  /// the tenth of a second above. The shortest of five times: the machine, too, may keep a thread
  /// waiting, for memory for instance.
  int64_t PauseAfter(int64_t time_us, bool waits) {
    int64_t shortest_ms = INT64_MAX;
    for (int attempt = 0; attempt < 5 && shortest_ms > 0; ++attempt) {
      auto writer = Open();
      const auto writes_here = [&writer] {
        writer->Append(SetCommand("a", "1"), 0);
        return writer->written_offset() == writer->appended_offset();
      };
      env_.SetWriteTime(time_us, waits);
      EXPECT_TRUE(writes_here());
      env_.SetWriteTime(0, false);
      int64_t pause_ms = 0;
      for (; !writes_here() && pause_ms < 10'000; pause_ms += 100) {
        (void)writer->RunOnce();
        env_.AdvanceMicros(100'000);
      }
      EXPECT_TRUE(writer->Close().ok());
      shortest_ms = std::min(shortest_ms, pause_ms);
    }
    return shortest_ms;
  }

  static void Await(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
  }

  /// With its threads, in the middle of a sync that waits for HoldSyncs(false).
  std::unique_ptr<AofWriter> OpenWithASyncThatRuns() {
    auto writer = Open();
    writer->StartThread();
    env_.HoldSyncs(true);
    writer->Append(SetCommand("a", "1"), 0);
    // Not in the middle of a write, which would have taken that second: a disk that slow brings a
    // pause.
    Await([&] { return writer->written_offset() == writer->appended_offset(); });
    env_.AdvanceMicros(1'100'000);
    writer->SetPolicy(AofSyncPolicy::kEverySecond);  // the log thread looks at the clock
    Await([this] { return env_.held_syncs() > 0; });
    return writer;
  }
};

// A write is slow that waited for the disk, not one whose thread others put off its core. The pause
// is a hundred times as long, and five seconds at most.
TEST_F(AofWriteHereTest, AfterAWriteThatWaitsForMoreThanAMillisecondOrTakesFiftyItPauses) {
  struct Case {
    int64_t time_us;
    bool waits;
    int64_t pause_ms;
  };
  const Case cases[] = {{900, true, 0},       {1100, true, 200},     {1100, false, 0},
                        {12'300, true, 1300}, {49'000, false, 0},    {49'900, true, 5000},
                        {51'000, true, 5000}, {51'000, false, 5000}, {1'000'000, true, 5000}};
  for (const AofSyncPolicy policy : {AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    options_.policy = policy;
    for (const Case& the : cases) {
      const int64_t pause_ms = PauseAfter(the.time_us, the.waits);
      EXPECT_EQ(pause_ms, the.pause_ms) << the.time_us << (the.waits ? " waits" : " runs");
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
  auto writer = OpenWithASyncThatRuns();
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

TEST_F(AofWriteHereTest, AWriteThatWaitsBesideASyncBringsNoPause) {
  auto writer = OpenWithASyncThatRuns();
  env_.SetWriteTime(10'000, true);
  writer->Append(SetCommand("a", "1"), 0);
  Await([&] { return writer->written_offset() == writer->appended_offset(); });
  env_.SetWriteTime(0, false);
  env_.HoldSyncs(false);
  // The clock stands still: what was a pause would not end. The sync is over after some turns.
  Await([&] {
    const int before = writes_by_others_;
    writer->Append(SetCommand("a", "2"), 0);
    return writer->written_offset() == writer->appended_offset() && writes_by_others_ == before;
  });
  ASSERT_TRUE(writer->Close().ok());
}

}  // namespace
}  // namespace cairn

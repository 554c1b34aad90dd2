// Saves and rewrites on a fake disk, with their real threads: when they begin, what they count, and
// what each does beside the other, beside copies for replicas, and when the log is turned on or
// off.

#include <gtest/gtest.h>

#include <optional>

#include "tests/support/durable_process.h"

namespace cairn {
namespace {

const std::vector<Config::NameAndValue> kAlways{{"appendfsync", "always"}, {"appendonly", "yes"}};

class DurabilitySavesTest : public testing::Test {
 protected:
  FakeEnv env_{1};
};

// What stands past its time in a base may have been given a longer life behind it.
TEST_F(DurabilitySavesTest, ALifeThatWasProlongedAfterARewriteDoesNotEndWithARestart) {
  {
    DurableProcess process(env_, kAlways);
    for (const char* key : {"kept", "prolonged", "ends"})
      ASSERT_EQ(process.Run({"SET", key, "1", "PX", "1000"}), "+OK");
    ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
    ASSERT_TRUE(process.NoRewrite());
    ASSERT_EQ(process.Run({"PERSIST", "kept"}), ":1");
    ASSERT_EQ(process.Run({"PEXPIRE", "prolonged", "100000"}), ":1");
    ASSERT_TRUE(process.AllDurable());
  }
  env_.AdvanceMicros(2'000'000);
  DurableProcess process(env_, kAlways);
  EXPECT_EQ(process.Run({"MGET", "kept", "prolonged", "ends"}), "[\"1\", \"1\", nil]");
  // Nor with DEBUG LOADAOF.
  ASSERT_TRUE(process.durability_->DebugLoadAof().ok());
  EXPECT_EQ(process.Run({"MGET", "kept", "prolonged", "ends"}), "[\"1\", \"1\", nil]");
}

TEST_F(DurabilitySavesTest, ARewriteIsRefusedWithoutRoomForIt) {
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", std::string(100'000, 'x')}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdbcompression", "no"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_TRUE(process.NoRewrite());
  ASSERT_TRUE(process.durability_->figures().aof_last_rewrite_ok);
  env_.SetCapacity(env_.used_bytes() + 100'000);
  EXPECT_TRUE(process.Run({"BGREWRITEAOF"}).starts_with("-ERR Not enough room"));
  env_.SetCapacity(UINT64_MAX);
  EXPECT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_TRUE(process.NoRewrite());
}

TEST_F(DurabilitySavesTest, RewritesByItselfAtPercentageAndSize) {
  DurableProcess process(env_, {{"appendfsync", "always"},
                                {"auto-aof-rewrite-min-size", "4kb"},
                                {"auto-aof-rewrite-percentage", "100"},
                                {"appendonly", "yes"}});
  for (int i = 0; i < 30; ++i) ASSERT_EQ(process.Run({"SET", "a", std::string(64, 'x')}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  process.durability_->Tick();
  EXPECT_FALSE(process.durability_->figures().rewrite_running);  // grown, but below 4 KiB
  for (int i = 0; i < 60; ++i) ASSERT_EQ(process.Run({"SET", "a", std::string(64, 'x')}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  ASSERT_TRUE(process.Until([&] {
    process.durability_->Tick();
    return process.durability_->figures().rewrites > 0;
  }));
  ASSERT_TRUE(process.NoRewrite());
  EXPECT_LT(process.durability_->figures().aof_current_bytes, 4096u);
}

// Each leaves an increment behind: one every few seconds would be thousands a day.
TEST_F(DurabilitySavesTest, RewritesThatFailWaitLongerEachTime) {
  // Not with always: its new file wants padding, so that a full disk would free the reserve.
  DurableProcess process(
      env_,
      {{"auto-aof-rewrite-min-size", "4kb"}, {"rdbcompression", "no"}, {"appendonly", "yes"}});
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), std::string(1000, 'x')}), "+OK");
  }
  ASSERT_TRUE(process.AllDurable());
  ASSERT_TRUE(process.NoRewrite());                 // the first, of a file that was empty
  env_.SetCapacity(env_.used_bytes() + 64 * 1024);  // room for what the old base took, no more
  const auto figures = [&] { return process.durability_->figures(); };
  const auto advance_100_ms = [&] {
    env_.AdvanceMicros(100'000);
    process.engine_.RefreshClock();
  };
  for (int64_t least_s : {0, 5, 10, 20, 40}) {
    const uint64_t before = figures().rewrite_failures;
    const int64_t since_us = env_.MonotonicMicros();
    int64_t waited_us = 0;
    while (figures().rewrite_failures == before) {
      advance_100_ms();
      waited_us = env_.MonotonicMicros() - since_us;
      ASSERT_LE(waited_us, (least_s * 5 / 4 + 2) * 1'000'000);
      process.durability_->Tick();
      // The clock goes on: the base may fill the disk before the cut's manifest is down, an error
      // of the file that is tried again after a second, and for which the rewrite's end waits.
      ASSERT_TRUE(process.Until([&] {
        if (!figures().rewrite_running) return true;
        advance_100_ms();
        return false;
      }));
    }
    EXPECT_GE(waited_us, least_s * 1'000'000);
  }
  env_.SetCapacity(UINT64_MAX);
  ASSERT_TRUE(process.Until([&] {
    if (figures().aof_last_write_ok) return true;
    advance_100_ms();
    return false;
  }));
  EXPECT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  EXPECT_TRUE(process.AllDurable());
}

TEST_F(DurabilitySavesTest, ARewriteIsAlsoTheSaveThatIsDue) {
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  ASSERT_EQ(process.Run({"CONFIG", "SET", "save", "1 1"}), "+OK");
  env_.AdvanceMicros(5'000'000);
  const uint64_t rewrites_before = process.durability_->figures().rewrites;
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");  // behind the cut: in neither
  ASSERT_TRUE(process.NoRewrite());
  const DurabilityFigures figures = process.durability_->figures();
  EXPECT_EQ(figures.rewrites, rewrites_before + 1);
  EXPECT_EQ(figures.saves, 1u);
  EXPECT_TRUE(figures.last_save_ok);
  EXPECT_EQ(figures.changes_since_save, 1u);
  const auto rdb = env_.FileSize("/dump.rdb");
  ASSERT_TRUE(rdb.ok());
  EXPECT_EQ(*rdb, *env_.FileSize("/appendonlydir/appendonly.aof.2.base.rdb"));
  // The base goes with the next rewrite, the RDB file stays.
  ASSERT_EQ(process.Run({"CONFIG", "SET", "save", ""}), "+OK");
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_TRUE(process.NoRewrite());
  ASSERT_TRUE(
      process.Until([&] { return !*env_.FileExists("/appendonlydir/appendonly.aof.2.base.rdb"); }));
  EXPECT_EQ(*env_.FileSize("/dump.rdb"), *rdb);
  EXPECT_EQ(process.durability_->figures().saves, 1u);
  env_.Crash(9);
  ASSERT_TRUE(*env_.FileExists("/dump.rdb"));
  DurableProcess from_rdb(env_, {{"appendonly", "no"}});
  ASSERT_TRUE(from_rdb.loaded_.ok()) << from_rdb.loaded_.message();
  EXPECT_EQ(from_rdb.Run({"DBSIZE"}), ":1");
}

TEST_F(DurabilitySavesTest, ASaveThatIsAskedForDuringSuchARewriteIsAnother) {
  DurableProcess process(env_, {{"appendonly", "yes"}});
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "save", "1 1"}), "+OK");
  env_.AdvanceMicros(5'000'000);
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "1000"}), "+OK");
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "0", "save", ""}), "+OK");
  ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
  ASSERT_EQ(process.Run({"BGSAVE", "SCHEDULE"}), "+Background saving scheduled");
  ASSERT_TRUE(process.Until([&] {
    process.durability_->Tick();
    return process.durability_->figures().saves == 2;
  }));
  EXPECT_EQ(process.durability_->figures().changes_since_save, 0u);
}

TEST_F(DurabilitySavesTest, WhatIsReplayedCountsAsNotSaved) {
  {
    DurableProcess process(env_, {{"appendonly", "yes"}});
    ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
    ASSERT_EQ(process.Run({"RPUSH", "list", "1", "2", "3"}), ":3");
    ASSERT_TRUE(process.AllDurable());
  }
  DurableProcess again(env_, {{"appendonly", "yes"}});
  EXPECT_EQ(again.durability_->figures().changes_since_save, 4u);
  ASSERT_TRUE(again.durability_->Save().ok());
  EXPECT_EQ(again.durability_->figures().changes_since_save, 0u);
}

TEST_F(DurabilitySavesTest, SaveDoesNotWaitForARewriteThatRuns) {
  DurableProcess process(env_, {{"appendonly", "yes"}});
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "60000"}), "+OK");  // two minutes
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "0"}), "+OK");
  for (int i = 0; i < 2000; i += 3)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "after"}), "+OK");
  EXPECT_EQ(process.Run({"SAVE"}), "+OK");
  EXPECT_TRUE(process.durability_->figures().rewrite_running);
  EXPECT_EQ(process.durability_->figures().changes_since_save, 0u);
  EXPECT_TRUE(process.Run({"BGSAVE"}).starts_with("-ERR Another child process is active"));
  process.durability_->AbortBackgroundSave();
  EXPECT_FALSE(process.durability_->figures().rewrite_running);
  DurableProcess saved(env_, {{"appendonly", "no"}});
  EXPECT_EQ(saved.Run({"MGET", "key:0", "key:1"}), "[\"after\", \"before\"]");
}

TEST_F(DurabilitySavesTest, WhatFlushallThrewAwayDoesNotComeBack) {
  {
    DurableProcess process(env_, {});
    for (int i = 0; i < 1000; ++i)
      ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
    ASSERT_EQ(process.Run({"SAVE"}), "+OK");
    ASSERT_EQ(process.Run({"CONFIG", "SET", "save", "3600 1000000", "rdb-key-save-delay", "60000"}),
              "+OK");
    ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
    ASSERT_EQ(process.Run({"FLUSHALL"}), "+OK");
    const DurabilityFigures figures = process.durability_->figures();
    EXPECT_FALSE(figures.save_running);
    EXPECT_FALSE(figures.save_scheduled);
    EXPECT_TRUE(figures.last_save_ok);
    EXPECT_EQ(process.keyspace_.view_count(), 0u);
    EXPECT_EQ(process.Run({"SET", "writes", "go on"}), "+OK") << "no MISCONF";
    EXPECT_TRUE(process.durability_->Shutdown(0, false).ok());  // SHUTDOWN NOSAVE
  }
  DurableProcess again(env_, {});
  EXPECT_EQ(again.Run({"DBSIZE"}), ":0");
}

TEST_F(DurabilitySavesTest, AFailedSaveTakesNoChangesBackAndKeepsTheServerRunning) {  // V12
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  const uint64_t changes = process.durability_->figures().changes_since_save;
  EXPECT_GT(changes, 0u);
  env_.SetCapacity(env_.used_bytes());
  EXPECT_FALSE(process.durability_->Save().ok());
  EXPECT_EQ(process.durability_->figures().changes_since_save, changes);
  EXPECT_FALSE(process.durability_->Shutdown(1, false).ok());
  env_.SetCapacity(UINT64_MAX);
  // The log is still open: the next write is acknowledged and durable.
  EXPECT_EQ(process.Run({"SET", "a", "2"}), "+OK");
  EXPECT_TRUE(process.AllDurable());
  EXPECT_TRUE(process.durability_->Shutdown(1, false).ok());
  EXPECT_EQ(process.durability_->figures().changes_since_save, 0u);
}

TEST_F(DurabilitySavesTest, TellsOfASaveThatIsOverdue) {
  DurableProcess process(env_, {});
  ASSERT_EQ(process.Run({"CONFIG", "SET", "save", "10 1000", "rdb-key-save-delay", "0"}), "+OK");
  const auto later = [&](int64_t seconds) {
    env_.AdvanceMicros(seconds * 1'000'000);
    process.engine_.RefreshClock();
    process.durability_->Tick();
    return process.durability_->figures().save_overdue;
  };
  constexpr std::string_view kLine = "No save has succeeded for";
  EXPECT_FALSE(later(100));  // nothing to save
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  EXPECT_TRUE(later(1));
  EXPECT_TRUE(later(1));
  EXPECT_EQ(process.sink_.Count(kLine), 1u);
  EXPECT_TRUE(later(3600));
  EXPECT_EQ(process.sink_.Count(kLine), 2u);
  ASSERT_TRUE(process.durability_->Save().ok());
  ASSERT_EQ(process.Run({"SET", "a", "2"}), "+OK");
  EXPECT_FALSE(later(20));
  // A save that runs and does not come to its end is no excuse.
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "1500000"}), "+OK");
  ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");
  ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
  EXPECT_TRUE(later(2));
  EXPECT_TRUE(process.durability_->figures().save_running);
  EXPECT_EQ(process.sink_.Count(kLine), 3u);
  EXPECT_TRUE(later(6));
  EXPECT_EQ(process.sink_.Count("Background saving: "), 1u);
}

TEST_F(DurabilitySavesTest, ACopyForReplicasGoesBesideASave) {
  DurableProcess process(env_, {});
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "10000"}), "+OK");  // 20 seconds
  ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "0"}), "+OK");
  for (int i = 0; i < 2000; i += 3)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "after"}), "+OK");
  std::optional<Status> copied;
  const auto request = [&](const char* path) {
    return SyncSnapshot{path, {}, [&](const Status& status) { copied = status; }};
  };
  ASSERT_TRUE(process.durability_->StartSyncSnapshot(request("/copy.rdb")).ok());
  EXPECT_EQ(process.durability_->StartSyncSnapshot(request("/no.rdb")).code(),
            StatusCode::kNoSpace);
  ASSERT_TRUE(process.Until([&] { return copied.has_value(); }));
  EXPECT_TRUE(copied->ok()) << copied->message();
  EXPECT_TRUE(process.durability_->figures().save_running);
  EXPECT_EQ(process.durability_->figures().saves, 0u);
  EXPECT_GT(process.durability_->figures().changes_since_save, 0u);
  // Both at once are given up together.
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "10000"}), "+OK");
  copied.reset();
  ASSERT_TRUE(process.durability_->StartSyncSnapshot(request("/second.rdb")).ok());
  process.durability_->AbortBackgroundSave();
  EXPECT_EQ(copied->code(), StatusCode::kCancelled);
  EXPECT_FALSE(process.durability_->figures().save_running);
  EXPECT_FALSE(*env_.FileExists("/second.rdb"));
  EXPECT_FALSE(*env_.FileExists("/dump.rdb"));
  EXPECT_EQ(process.keyspace_.view_count(), 0u);
  ASSERT_TRUE(env_.Rename("/copy.rdb", "/dump.rdb").ok());
  DurableProcess loaded(env_, {});
  EXPECT_EQ(loaded.Run({"MGET", "key:0", "key:1"}), "[\"after\", \"before\"]");
}

TEST_F(DurabilitySavesTest, TurningTheLogOffEndsItsRewriteAndNoCopyForReplicas) {
  DurableProcess process(env_, {{"appendonly", "yes"}});
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "60000"}), "+OK");  // two minutes
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
  std::optional<Status> copied;
  ASSERT_TRUE(
      process.durability_
          ->StartSyncSnapshot({"/copy.rdb", {}, [&](const Status& status) { copied = status; }})
          .ok());
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "no"}), "+OK");
  EXPECT_FALSE(process.durability_->figures().rewrite_running);
  EXPECT_FALSE(copied.has_value());
  process.durability_->AbortBackgroundSave();
  ASSERT_TRUE(copied.has_value());
  EXPECT_EQ(copied->code(), StatusCode::kCancelled);
}

TEST_F(DurabilitySavesTest, TurningItOnAtRunTimeProtectsWhatWasThereBefore) {
  {
    DurableProcess process(env_, {{"appendfsync", "always"}});
    ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");
    ASSERT_TRUE(process.NoRewrite());
    ASSERT_TRUE(process.AllDurable());
    env_.Crash(3);
  }
  DurableProcess again(env_, kAlways);
  EXPECT_EQ(again.Run({"MGET", "a", "b"}), "[\"1\", \"2\"]");
}

// Redis leaves one temporary file behind, which the next attempt empties.
TEST_F(DurabilitySavesTest, TurnedOffBeforeItsFirstRewriteEndsItLeavesNothingBehind) {
  DurableProcess process(env_, {{"rdb-key-save-delay", "60000"}});
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "before"}), "+OK");
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    ASSERT_EQ(process.Run({"SET", "key:1", "after"}), "+OK");
    EXPECT_TRUE(process.durability_->figures().rewrite_running);
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "no"}), "+OK");
    ASSERT_TRUE(process.Until([&] { return !process.durability_->figures().rewrite_running; }));
    EXPECT_EQ(*env_.ListDir("/appendonlydir"), std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace cairn

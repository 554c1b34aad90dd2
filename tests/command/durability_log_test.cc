// The states of the append-only log: closed, without a base, protecting. Whatever fails or is ended
// on the way, with appendonly yes it comes to protect what is in memory, and with no it is closed.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/durable_process.h"

namespace cairn {
namespace {

const std::vector<Config::NameAndValue> kYes{{"appendonly", "yes"}};

constexpr int kKeys = 200;

/// A dataset of 200 KB. Processes end as by kill -9, or by a shutdown that a power cut follows. Not
/// with always: its padding would take the little room that a test leaves.
class DurabilityLogTest : public testing::Test {
 protected:
  void Fill(DurableProcess& process) {
    ASSERT_TRUE(process.loaded_.ok()) << process.loaded_.message();
    ASSERT_EQ(process.Run({"CONFIG", "SET", "rdbcompression", "no"}), "+OK");
    for (int i = 0; i < kKeys; ++i)
      ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), std::string(1000, 'x')}), "+OK");
  }

  /// 100 ms go by.
  void Tick(DurableProcess& process) {
    env_.AdvanceMicros(100'000);
    process.engine_.RefreshClock();
    process.loop_.RunPosted();
    process.durability_->Tick();
  }

  /// A rewrite would take 20 s from here on.
  void GoSlow(DurableProcess& process) {
    ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "100000"}), "+OK");
  }
  /// What is begun behind this goes at full speed.
  void GoFast(DurableProcess& process) {
    ASSERT_EQ(process.Run({"CONFIG", "SET", "rdb-key-save-delay", "0"}), "+OK");
  }

  void BeginSlowRewrite(DurableProcess& process) {
    GoSlow(process);
    ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
    GoFast(process);
  }

  /// appendonly yes, whose first rewrite ends well, and the key "late".
  void TurnOnAndWrite(DurableProcess& process) {
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    ASSERT_TRUE(process.NoRewrite());
    EXPECT_TRUE(process.durability_->figures().aof_enabled);
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }

  /// Room for the log, not for a base. The clock goes on: the log may find the disk full for a
  /// moment, and the rewrite's end waits until it has tried again.
  void FailRewrite(DurableProcess& process, std::vector<std::string> begin) {
    const uint64_t failed = process.durability_->figures().rewrite_failures;
    env_.SetCapacity(env_.used_bytes() + 64 * 1024);
    ASSERT_TRUE(process.Run(std::move(begin)).starts_with("+"));
    ASSERT_TRUE(process.Until([&] {
      if (process.durability_->figures().rewrite_failures > failed) return true;
      env_.AdvanceMicros(100'000);
      return false;
    }));
    failed_us_ = env_.MonotonicMicros();
    env_.SetCapacity(UINT64_MAX);
    ASSERT_TRUE(process.Until([&] {
      if (process.Run({"PING"}) == "+PONG") return true;
      env_.AdvanceMicros(100'000);
      return false;
    }));
  }

  /// What a start with appendonly yes finds.
  void ExpectAtNextStart(const std::string& key, int keys) {
    DurableProcess again(env_, kYes);
    ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
    EXPECT_NE(again.Run({"GET", key}), "nil");
    EXPECT_EQ(again.Run({"DBSIZE"}), ":" + std::to_string(keys));
  }

  FakeEnv env_{1};
  int64_t failed_us_ = 0;  // when FailRewrite had its failure
};

TEST_F(DurabilityLogTest, AnEndDuringTheFirstRewriteWritesTheBaseFirst) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    GoSlow(process);
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    GoFast(process);
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    ASSERT_TRUE(process.durability_->figures().rewrite_running);
    EXPECT_TRUE(process.durability_->Shutdown(0, false).ok());
    env_.Crash(3);
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, AnEndWhileTheFirstRewriteIsStillToBeginWritesTheBaseFirst) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    GoSlow(process);
    ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    GoFast(process);
    EXPECT_TRUE(process.durability_->figures().rewrite_scheduled);
    EXPECT_TRUE(process.durability_->Shutdown(0, false).ok());
    env_.Crash(3);
  }
  ExpectAtNextStart("key:1", kKeys);
}

TEST_F(DurabilityLogTest, AnEndIsRefusedWhenTheBaseCannotBeWritten) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    GoSlow(process);
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    GoFast(process);
    ASSERT_TRUE(process.AllDurable());
    env_.SetCapacity(env_.used_bytes() + 64 * 1024);
    EXPECT_FALSE(process.durability_->Shutdown(0, false).ok());
    EXPECT_EQ(process.sink_.Count("Error trying to write the base of the AOF, can't exit"), 1u);
    env_.SetCapacity(UINT64_MAX);
    // It goes on, and so does the log.
    ASSERT_TRUE(process.Until([&] {
      Tick(process);
      return process.durability_->figures().rewrites == 1;
    }));
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    EXPECT_TRUE(process.durability_->Shutdown(0, false).ok());
    env_.Crash(3);
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, AFirstRewriteThatFailedIsTriedAgain) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_NO_FATAL_FAILURE(FailRewrite(process, {"CONFIG", "SET", "appendonly", "yes"}));
    const auto figures = [&] { return process.durability_->figures(); };
    EXPECT_TRUE(figures().aof_enabled);
    EXPECT_FALSE(figures().aof_last_rewrite_ok);
    EXPECT_TRUE(figures().rewrite_scheduled);
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    while (!figures().rewrite_running && figures().rewrites == 0) {
      Tick(process);
      ASSERT_LE(env_.MonotonicMicros() - failed_us_, 7'000'000);
    }
    EXPECT_GE(env_.MonotonicMicros() - failed_us_, 4'900'000);
    ASSERT_TRUE(process.NoRewrite());
    EXPECT_EQ(figures().rewrites, 1u);
    EXPECT_TRUE(figures().aof_last_rewrite_ok);
    ASSERT_TRUE(process.AllDurable());
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, ARewriteWithTheLogOffLeavesItOffAlsoWhenItFails) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_NO_FATAL_FAILURE(FailRewrite(process, {"BGREWRITEAOF"}));
    EXPECT_FALSE(process.durability_->figures().aof_enabled);
    EXPECT_EQ(*env_.ListDir("/appendonlydir"), std::vector<std::string>{});
    for (int i = 0; i < 100; ++i) Tick(process);
    EXPECT_FALSE(process.durability_->figures().aof_enabled);
    EXPECT_EQ(process.durability_->figures().rewrites, 0u);
    // Nor does it close the one that is asked for later.
    ASSERT_NO_FATAL_FAILURE(TurnOnAndWrite(process));
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, ARewriteWithTheLogOffThatIsEndedLeavesNothing) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_NO_FATAL_FAILURE(BeginSlowRewrite(process));
    process.durability_->AbortBackgroundSave();
    EXPECT_FALSE(process.durability_->figures().aof_enabled);
    EXPECT_EQ(*env_.ListDir("/appendonlydir"), std::vector<std::string>{});
    ASSERT_NO_FATAL_FAILURE(TurnOnAndWrite(process));
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, ARewriteWithTheLogOffHoldsAndRefusesNoClient) {
  DurableProcess process(env_, {{"appendfsync", "always"}, {"aof-error-policy", "exit"}});
  ASSERT_NO_FATAL_FAILURE(Fill(process));
  ASSERT_NO_FATAL_FAILURE(BeginSlowRewrite(process));
  EXPECT_FALSE(process.durability_->figures().aof_enabled);
  EXPECT_FALSE(process.durability_->GatesReplies());
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  EXPECT_EQ(process.durability_->DurableOffset(), UINT64_MAX);
  env_.HoldSyncs(false);
  // What the disk does not take ends the rewrite, and nothing else.
  env_.SetCapacity(env_.used_bytes());
  ASSERT_TRUE(process.Until([&] {
    EXPECT_EQ(process.Run({"SET", "b", "1"}), "+OK");
    Tick(process);
    return !process.durability_->figures().rewrite_running;
  }));
  EXPECT_EQ(process.durability_->figures().rewrite_failures, 1u);
  EXPECT_TRUE(process.durability_->figures().aof_last_write_ok);
  EXPECT_EQ(*env_.ListDir("/appendonlydir"), std::vector<std::string>{});
  for (int i = 0; i < 100; ++i) Tick(process);
  EXPECT_FALSE(process.engine_.stop_requested);
  EXPECT_EQ(process.durability_->figures().rewrite_failures, 1u);
}

TEST_F(DurabilityLogTest, TurnedOnDuringARewriteWithTheLogOffItStays) {
  {
    DurableProcess process(env_, {});
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_NO_FATAL_FAILURE(BeginSlowRewrite(process));
    ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
    process.durability_->AbortBackgroundSave();  // which fails for both
    ASSERT_TRUE(process.Until([&] {
      Tick(process);
      return process.durability_->figures().rewrites == 1;
    }));
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }
  ExpectAtNextStart("late", kKeys + 1);
}

TEST_F(DurabilityLogTest, TurnedOffAheadOfItsFirstRewriteItHasNone) {
  DurableProcess process(env_, {});
  ASSERT_NO_FATAL_FAILURE(Fill(process));
  GoSlow(process);
  ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
  EXPECT_TRUE(process.durability_->figures().rewrite_scheduled);
  ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting scheduled");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "no"}), "+OK");
  EXPECT_FALSE(process.durability_->figures().rewrite_scheduled);
  process.durability_->AbortBackgroundSave();
  for (int i = 0; i < 3; ++i) Tick(process);
  EXPECT_FALSE(process.durability_->figures().rewrite_running);
  EXPECT_FALSE(process.durability_->figures().aof_enabled);
  EXPECT_EQ(*env_.ListDir("/appendonlydir"), std::vector<std::string>{});
}

TEST_F(DurabilityLogTest, ACopyThatDoesNotLoadLeavesTheFilesUntilTheServerIsPromoted) {
  {
    DurableProcess process(env_, kYes);
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_TRUE(process.AllDurable());
    {
      auto copy = env_.OpenTruncate("/copy.rdb");
      ASSERT_TRUE(copy.ok() && (*copy)->Append("REDIS0010\xfe damaged").ok());
    }
    EXPECT_FALSE(process.durability_->LoadFromPrimary("/copy.rdb").ok());
    EXPECT_EQ(process.Run({"DBSIZE"}), ":0");
    for (int i = 0; i < 30; ++i) Tick(process);
    EXPECT_FALSE(process.durability_->figures().aof_enabled) << "of nothing, over all there is";
    process.durability_->RestartAppendOnly();
    EXPECT_TRUE(process.durability_->figures().aof_enabled);
    ASSERT_TRUE(process.NoRewrite());
    ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }
  ExpectAtNextStart("late", 1);
}

// At each of the calls that open it: what is left of one attempt is in nobody's way.
TEST_F(DurabilityLogTest, ALogThatCannotBeOpenedIsTriedAgainAndWritesAreRefusedMeanwhile) {
  bool hit = true;
  uint64_t n = 1;
  for (; hit; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    FakeEnv env(n);
    {
      DurableProcess source(env, {});
      ASSERT_EQ(source.Run({"SET", "copied", "1"}), "+OK");
      ASSERT_TRUE(source.durability_->Save().ok());
    }
    ASSERT_TRUE(env.Rename("/dump.rdb", "/copy.rdb").ok());
    {
      DurableProcess process(env, kYes);
      ASSERT_TRUE(process.durability_->LoadFromPrimary("/copy.rdb").ok());
      const auto is_open = [&] { return process.durability_->figures().aof_enabled; };
      ASSERT_FALSE(is_open());
      const size_t files = env.ListDir("/appendonlydir")->size();
      env.FailNthCall(n, Status::Io("write: No space left on device"));
      process.durability_->RestartAppendOnly();
      hit = !is_open();
      if (hit) {
        EXPECT_EQ(env.ListDir("/appendonlydir")->size(), files);
        EXPECT_FALSE(process.durability_->figures().aof_last_write_ok);
        EXPECT_EQ(process.Run({"SET", "refused", "1"}),
                  "-MISCONF Errors writing to the AOF file: No space left on device");
        env.FailNthCall(1, Status::Io("no disk"), /*sticky=*/true);
        EXPECT_FALSE(process.durability_->Shutdown(0, false).ok());
        env.FailNthCall(0, Status::Ok());
        process.durability_->Tick();
        EXPECT_FALSE(is_open()) << "at once";
        env.AdvanceMicros(1'000'000);
        process.durability_->Tick();
        EXPECT_TRUE(is_open());
        EXPECT_EQ(process.sink_.Count("could not be begun anew"), 1u);
        EXPECT_EQ(process.sink_.Count("No append only file manifest names"), 0u);
      }
      env.FailNthCall(0, Status::Ok());
      ASSERT_TRUE(process.Until([&] {
        env.AdvanceMicros(100'000);
        process.durability_->Tick();
        return process.durability_->figures().rewrites == 2 && process.Run({"PING"}) == "+PONG";
      }));
      ASSERT_EQ(process.Run({"SET", "late", "1"}), "+OK");
      ASSERT_TRUE(process.AllDurable());
    }
    DurableProcess again(env, kYes);
    EXPECT_EQ(again.Run({"MGET", "copied", "late", "refused"}), "[\"1\", \"1\", nil]");
  }
  EXPECT_GT(n, 4u);
}

}  // namespace
}  // namespace cairn

// Durability on a fake disk, with its real threads: what the engine promises clients while the
// append-only file is behind, full or broken, and when it saves, rewrites and loads.

#include "server/engine/durability.h"

#include <gtest/gtest.h>

#include <optional>

#include "persistence/aof_manifest.h"
#include "tests/support/durable_process.h"

namespace cairn {
namespace {

const std::vector<Config::NameAndValue> kAlways{{"appendfsync", "always"}, {"appendonly", "yes"}};

class DurabilityTest : public testing::Test {
 protected:
  /// After a write that waited for the disk the log thread writes, not the executor.
  bool LogThreadWrites(DurableProcess& process) {
    env_.SetWriteTime(10'000, true);
    process.Run({"SET", "a", "1"});
    const bool written = process.AllDurable();
    env_.SetWriteTime(0, false);
    return written;
  }

  FakeEnv env_{1};
};

TEST_F(DurabilityTest, AlwaysHoldsRepliesUntilTheDiskHasThem) {  // V11
  DurableProcess process(env_, kAlways);
  ASSERT_TRUE(process.loaded_.ok()) << process.loaded_.message();
  EXPECT_TRUE(process.durability_->GatesReplies());
  // The disk is held, so that whoever asks finds the reply held too, and has to be told.
  env_.HoldSyncs(true);
  const uint64_t before = process.engine_.propagation.offset();
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  const uint64_t offset = process.engine_.propagation.offset();
  ASSERT_GT(offset, before);
  ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  EXPECT_LT(process.durability_->DurableOffset(), offset);
  process.loop_.RunPosted();
  EXPECT_LT(process.told_offset_, offset);
  // A second write meets a sync that runs already; both leave with what covers them, not before.
  ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");
  const uint64_t second = process.engine_.propagation.offset();
  EXPECT_LT(process.durability_->DurableOffset(), offset);
  process.loop_.RunPosted();
  EXPECT_LT(process.told_offset_, offset);

  // Nobody asks from now on: the executor learns of it by being told, or never.
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.Until([&] { return process.told_offset_ >= second; }));
  env_.Crash(5);  // while it runs: what was released is on the disk
  DurableProcess again(env_, kAlways);
  ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
  EXPECT_EQ(again.Run({"MGET", "a", "b"}), "[\"1\", \"2\"]");
}

/// A connection that takes note, and sends nothing.
class QuietPort final : public SessionPort {
 public:
  void OutputReady() override { ++asked; }
  void Close(bool) override {}
  void InputReady() override {}
  int fd() const override { return -1; }
  size_t query_bytes() const override { return 0; }
  size_t query_capacity() const override { return 0; }
  int asked = 0;
};

TEST_F(DurabilityTest, PushesAndWokenClientsWaitForTheWriteTheyTellOf) {  // V11
  QuietPort ports[3];
  DurableProcess process(env_, kAlways);
  Session* subscriber = process.engine_.CreateSession(&ports[0], SessionKind::kNormal);
  Session* waiter = process.engine_.CreateSession(&ports[1], SessionKind::kNormal);
  Session* reader = process.engine_.CreateSession(&ports[2], SessionKind::kNormal);
  const auto run = [&](Session* session, std::vector<std::string_view> args) {
    process.engine_.RefreshClock();
    process.dispatcher_.RunArgs(*session, args);
  };
  /// How much of what the session was told may leave now.
  const auto may_leave = [&](Session* session) {
    return session->reply_gate.Released(process.durability_->DurableOffset());
  };
  run(subscriber, {"SUBSCRIBE", "news"});
  run(waiter, {"BLPOP", "queue", "0"});
  process.durability_->EndOfTurn();
  ASSERT_TRUE(process.AllDurable());
  for (Session* session : {subscriber, waiter, reader}) {
    EXPECT_EQ(may_leave(session), UINT64_MAX);
    session->sent_bytes += session->output.size();
    session->output.Clear();
  }
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"RPUSH", "queue", "job"}), ":1");
  ASSERT_EQ(process.Run({"PUBLISH", "news", "a job is there"}), ":1");
  run(reader, {"LLEN", "queue"});  // it has seen what is not durable
  process.durability_->EndOfTurn();
  for (Session* session : {subscriber, waiter, reader}) {
    EXPECT_FALSE(session->output.empty());
    EXPECT_LE(may_leave(session), session->sent_bytes);
  }
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.AllDurable());
  for (Session* session : {subscriber, waiter, reader}) EXPECT_EQ(may_leave(session), UINT64_MAX);
  for (Session* session : {subscriber, waiter, reader}) process.engine_.DestroySession(session);
}

// Also while the disk refuses: how else would anybody learn why nothing is answered.
TEST_F(DurabilityTest, WhatTellsOfNoDataIsNotHeld) {  // V11
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  QuietPort port;
  Session* const session = process.engine_.CreateSession(&port, SessionKind::kNormal);
  const auto held = [&](std::vector<std::string_view> args) {
    process.dispatcher_.RunArgs(*session, args);
    return session->reply_gate.Released(process.durability_->DurableOffset()) != UINT64_MAX;
  };
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"SET", "a", "2"}), "+OK");
  ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  EXPECT_FALSE(held({"PING"}));
  EXPECT_FALSE(held({"INFO", "persistence"}));
  EXPECT_FALSE(held({"CONFIG", "GET", "dir"}));
  EXPECT_FALSE(held({"NOSUCHCOMMAND"}));
  EXPECT_FALSE(held({"GET"}));
  for (const std::vector<std::string_view>& telling :
       std::vector<std::vector<std::string_view>>{{"GET", "a"}, {"DBSIZE"}, {"MULTI"}, {"EXEC"}}) {
    EXPECT_TRUE(held(telling)) << telling[0];
    // In order: what comes behind one that waits, waits.
    EXPECT_TRUE(held({"PING"}));
    env_.HoldSyncs(false);
    ASSERT_TRUE(process.AllDurable());
    env_.HoldSyncs(true);
    ASSERT_EQ(process.Run({"SET", "a", "2"}), "+OK");
    ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  }
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.AllDurable());
  process.engine_.DestroySession(session);
}

TEST_F(DurabilityTest, EverysecHasGivenTheBytesToTheKernelBeforeTheReply) {  // A9
  const std::vector<Config::NameAndValue> settings{{"appendonly", "yes"}};
  {
    DurableProcess process(env_, settings);
    ASSERT_TRUE(process.loaded_.ok());
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(process.Run({"SET", "a", std::to_string(i)}), "+OK");
      ASSERT_TRUE(process.Until([&] {
        return process.durability_->DurableOffset() >= process.engine_.propagation.offset();
      }));
    }
  }
  DurableProcess again(env_, settings);
  EXPECT_EQ(again.Run({"GET", "a"}), "\"99\"");
}

TEST_F(DurabilityTest, PatienceEndsWithWhatItWaitedFor) {  // A9
  DurableProcess process(env_, {{"appendonly", "yes"}});
  ASSERT_TRUE(process.loaded_.ok());
  const auto set = [&](const char* key) {
    EXPECT_EQ(process.Run({"SET", key, "1"}), "+OK");
    return process.engine_.propagation.offset();
  };
  ASSERT_TRUE(LogThreadWrites(process));
  env_.AllowAppends(0);
  const uint64_t first = set("b");
  ASSERT_TRUE(process.Until([&] { return env_.held_appends() == 1; }));
  EXPECT_LT(process.durability_->DurableOffset(), first);
  process.loop_.RunPosted();
  EXPECT_LT(process.told_offset_, first);
  env_.AdvanceMicros(3000);
  process.loop_.RunPosted();
  EXPECT_GE(process.told_offset_, first) << "held for longer than 3 ms";
  const uint64_t second = set("c");
  EXPECT_GE(process.durability_->DurableOffset(), second)
      << "the disk still does not take the first";

  // The first is written: what comes from now on has its own 3 ms.
  env_.AllowAppends(1);
  ASSERT_TRUE(process.Until([&] { return process.durability_->DurableOffset() != UINT64_MAX; }));
  EXPECT_GE(process.durability_->DurableOffset(), first);
  EXPECT_LT(process.durability_->DurableOffset(), second);
  process.told_offset_ = 0;
  env_.AllowAppends(UINT64_MAX);
  EXPECT_TRUE(process.Until([&] { return process.told_offset_ >= second; }));
}

TEST_F(DurabilityTest, WhoLooksAheadOfTheLogThreadsReportTellsThoseWhoAreHeld) {  // A9
  DurableProcess process(env_, {{"appendonly", "yes"}});
  ASSERT_TRUE(process.loaded_.ok());
  ASSERT_TRUE(LogThreadWrites(process));
  env_.AllowAppends(0);
  EXPECT_EQ(process.Run({"SET", "b", "1"}), "+OK");
  const uint64_t offset = process.engine_.propagation.offset();
  ASSERT_TRUE(process.Until([&] { return env_.held_appends() == 1; }));
  EXPECT_LT(process.durability_->DurableOffset(), offset) << "somebody is held";
  process.loop_.RunPosted();  // whatever the log thread had still to say of the write before

  // The log thread has written, has said how far it has come, and is put off its core ahead of its
  // report. Somebody else looks, finds that all is there, and takes the wish for a report back.
  env_.HoldSizes(true);
  env_.AllowAppends(UINT64_MAX);
  ASSERT_TRUE(process.Until([&] { return env_.held_sizes() == 1; }));
  EXPECT_LT(process.told_offset_, offset);
  EXPECT_GE(process.durability_->DurableOffset(), offset);
  env_.HoldSizes(false);
  EXPECT_TRUE(process.Until([&] { return process.told_offset_ >= offset; }));
}

TEST_F(DurabilityTest, AFullDiskRefusesWritesInRedissWordsAndReadsGoOn) {
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  env_.SetCapacity(env_.used_bytes());
  // More than the file's padding holds. The reply is held, not sent.
  ASSERT_EQ(process.Run({"SET", "b", std::string(300'000, 'x')}), "+OK");
  ASSERT_TRUE(process.Until([&] { return !process.durability_->figures().aof_last_write_ok; }));
  EXPECT_EQ(process.Run({"SET", "a", "3"}),
            "-MISCONF Errors writing to the AOF file: No space left on device");
  EXPECT_EQ(process.Run({"GET", "a"}), "\"1\"");
  env_.SetCapacity(UINT64_MAX);
  ASSERT_TRUE(process.LogRecovers());
  EXPECT_EQ(process.Run({"SET", "a", "4"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  EXPECT_FALSE(process.durability_->HeldRepliesAreLost());
}

// Redis counts neither. Else a disk that hangs would let keys be evicted, each of them by a command
// that waits as well.
TEST_F(DurabilityTest, WhatWaitsForASyncDoesNotCountAgainstMaxmemory) {
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"SET", "b", std::string(5'000'000, 'x')}), "+OK");  // held
  ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  ASSERT_GT(process.durability_->figures().aof_buffer_bytes, 4'000'000u);
  const auto limit = [&](uint64_t below_used) {
    const uint64_t bytes = process.engine_.UsedMemory() - below_used;
    return process.Run({"CONFIG", "SET", "maxmemory", std::to_string(bytes)});
  };
  ASSERT_EQ(limit(2'000'000), "+OK");
  EXPECT_EQ(process.Run({"SET", "c", "1"}), "+OK");
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.AllDurable());
  ASSERT_EQ(limit(2'000'000), "+OK");
  EXPECT_TRUE(process.Run({"SET", "c", "1"}).starts_with("-OOM"));
}

TEST_F(DurabilityTest, ADiskThatSyncsNoMoreLosesTheHeldReplies) {
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");  // held
  ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
  env_.FailNthCall(1, Status::Io("no disk"), /*sticky=*/true);
  env_.HoldSyncs(false);
  const auto state = [&] { return process.durability_->figures().aof_state; };
  ASSERT_TRUE(process.Until([&] { return state() != "ok"; }));
  EXPECT_EQ(state(), "degraded");
  EXPECT_FALSE(process.durability_->HeldRepliesAreLost());
  const uint64_t told = process.times_told_;
  ASSERT_TRUE(process.Until([&] {
    env_.AdvanceMicros(1'000'000);
    return state() == "stopped";
  }));
  EXPECT_TRUE(process.durability_->HeldRepliesAreLost());
  // The log thread has its state first, then writes the line, then tells.
  EXPECT_TRUE(process.Until([&] {
    return process.times_told_ > told &&
           process.sink_.Count("writes are refused until the server is started again") > 0;
  })) << "to close them";
  EXPECT_EQ(process.sink_.Count("writes are refused until the server is started again"), 1u);
  EXPECT_TRUE(process.Run({"SET", "a", "3"}).starts_with("-MISCONF"));
  EXPECT_EQ(process.Run({"GET", "a"}), "\"1\"");
}

TEST_F(DurabilityTest, TheServerEndsAtTheFirstErrorIfAskedTo) {
  for (const std::string policy : {"stop-writes", "exit"}) {
    DurableProcess process(env_, kAlways);
    ASSERT_EQ(process.Run({"CONFIG", "SET", "aof-error-policy", policy}), "+OK");
    ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
    env_.FailNthCall(1, Status::Io("no disk"), /*sticky=*/true);
    ASSERT_EQ(process.Run({"SET", "a", "2"}), "+OK");
    // The log tells of it behind what is posted to the loop.
    const uint64_t told = process.times_told_;
    ASSERT_TRUE(process.Until([&] {
      return process.times_told_ > told &&
             process.sink_.Count("writes are refused until the disk") > 0 &&
             process.engine_.stop_requested == (policy == "exit");
    }));
    EXPECT_EQ(process.engine_.exit_code, policy == "exit" ? 1 : 0) << policy;
    env_.FailNthCall(0, Status::Ok());
  }
}

TEST_F(DurabilityTest, DebugLoadAofFindsEverythingAfterARestart) {
  {
    DurableProcess process(env_, kAlways);
    ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }
  DurableProcess process(env_, kAlways);
  ASSERT_EQ(process.Run({"SET", "b", "2"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  ASSERT_TRUE(process.durability_->DebugLoadAof().ok());
  EXPECT_EQ(process.Run({"DBSIZE"}), ":2");
  EXPECT_GT(process.durability_->figures().aof_base_bytes, 0u);
  // Turned off, it holds what it held.
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "no"}), "+OK");
  ASSERT_EQ(process.Run({"SET", "c", "3"}), "+OK");
  ASSERT_TRUE(process.durability_->DebugLoadAof().ok());
  EXPECT_EQ(process.Run({"MGET", "a", "b", "c"}), "[\"1\", \"2\", nil]");
}

TEST_F(DurabilityTest, DebugLoadAofReadsWhatFollowsACut) {
  DurableProcess process(env_, {{"appendonly", "yes"}, {"appendfsync", "always"}});
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  for (const bool more_follows : {true, false}) {
    // The log thread stands in its sync when the cut is asked for.
    env_.HoldSyncs(true);
    ASSERT_EQ(process.Run({"SET", "a", "2"}), "+OK");
    ASSERT_TRUE(process.Until([&] { return env_.held_syncs() > 0; }));
    ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
    if (more_follows) {
      ASSERT_EQ(process.Run({"SET", "b", "3"}), "+OK");
    }
    std::thread disk([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      env_.HoldSyncs(false);
    });
    const Status loaded = process.durability_->DebugLoadAof();
    disk.join();
    ASSERT_TRUE(loaded.ok()) << loaded.message();
    EXPECT_EQ(process.Run({"MGET", "a", "b"}), "[\"2\", \"3\"]");
    ASSERT_TRUE(process.NoRewrite());
  }
}

TEST_F(DurabilityTest, DebugLoadsNothingWhileTheFirstRewriteRunsOrSomethingIsLoaded) {
  DurableProcess process(env_, {{"rdb-key-save-delay", "60000"}});
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), "v"}), "+OK");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "yes"}), "+OK");
  EXPECT_EQ(process.durability_->DebugLoadAof().message(),
            "ERR The first rewrite of the append only file has not ended");
  EXPECT_EQ(process.Run({"DBSIZE"}), ":1000");
  ASSERT_EQ(process.Run({"CONFIG", "SET", "appendonly", "no", "rdb-key-save-delay", "0"}), "+OK");
  ASSERT_EQ(process.Run({"SAVE"}), "+OK");
  process.engine_.loading = true;
  EXPECT_FALSE(process.durability_->DebugReload(false, true, false).ok());
  EXPECT_FALSE(process.durability_->DebugLoadAof().ok());
  EXPECT_TRUE(process.engine_.loading);
  process.engine_.loading = false;
  EXPECT_EQ(process.Run({"DBSIZE"}), ":1000");
  EXPECT_TRUE(process.durability_->DebugReload(false, true, false).ok());
  EXPECT_EQ(process.Run({"DBSIZE"}), ":1000");
}

// What stands past its time in a base may have been given a longer life behind it.
TEST_F(DurabilityTest, ALifeThatWasProlongedAfterARewriteDoesNotEndWithARestart) {
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

TEST_F(DurabilityTest, ARewriteIsRefusedWithoutRoomForIt) {
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

TEST_F(DurabilityTest, RewritesByItselfAtPercentageAndSize) {
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
TEST_F(DurabilityTest, RewritesThatFailWaitLongerEachTime) {
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

TEST_F(DurabilityTest, ARewriteIsAlsoTheSaveThatIsDue) {
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

TEST_F(DurabilityTest, ASaveThatIsAskedForDuringSuchARewriteIsAnother) {
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

TEST_F(DurabilityTest, WhatIsReplayedCountsAsNotSaved) {
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

TEST_F(DurabilityTest, SaveDoesNotWaitForARewriteThatRuns) {
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

TEST_F(DurabilityTest, WhatFlushallThrewAwayDoesNotComeBack) {
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

TEST_F(DurabilityTest, AFailedSaveTakesNoChangesBackAndKeepsTheServerRunning) {  // V12
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

TEST_F(DurabilityTest, TellsOfASaveThatIsOverdue) {
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

TEST_F(DurabilityTest, ACopyForReplicasGoesBesideASave) {
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

TEST_F(DurabilityTest, TurningTheLogOffEndsItsRewriteAndNoCopyForReplicas) {
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

TEST_F(DurabilityTest, LeftoversOfDeadProcessesAreSweptAtStart) {
  ASSERT_TRUE(env_.OpenTruncate("/temp-99.rdb").ok());
  ASSERT_TRUE(env_.OpenTruncate("/temp-rewriteaof-bg-99.aof").ok());
  constexpr const char* kReserve = "/appendonlydir/appendonly.aof.reserve";
  {
    DurableProcess process(env_, {{"appendonly", "yes"}});
    ASSERT_TRUE(*env_.FileExists(kReserve));
  }
  DurableProcess process(env_, {});
  EXPECT_FALSE(*env_.FileExists(kReserve)) << "the log is off";
  EXPECT_FALSE(*env_.FileExists("/temp-99.rdb"));
  EXPECT_FALSE(*env_.FileExists("/temp-rewriteaof-bg-99.aof"));
}

TEST_F(DurabilityTest, TurningItOnAtRunTimeProtectsWhatWasThereBefore) {
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
TEST_F(DurabilityTest, TurnedOffBeforeItsFirstRewriteEndsItLeavesNothingBehind) {
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

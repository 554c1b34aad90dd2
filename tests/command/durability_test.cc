// Durability on a fake disk, with its real threads: what the engine promises clients while the
// append-only file is behind, full or broken, and what a start and DEBUG load.

#include "server/engine/durability.h"

#include <gtest/gtest.h>

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
  process.EndOfTurn();
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
  process.EndOfTurn();
  for (Session* session : {subscriber, waiter, reader}) {
    EXPECT_FALSE(session->output.empty());
    EXPECT_LE(may_leave(session), session->sent_bytes);
  }
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.AllDurable());
  for (Session* session : {subscriber, waiter, reader}) EXPECT_EQ(may_leave(session), UINT64_MAX);
  for (Session* session : {subscriber, waiter, reader}) process.engine_.DestroySession(session);
}

// What a command tells others goes ahead of its effect in the stream, and must not leave ahead of
// it.
TEST_F(DurabilityTest, WhatACommandTellsOthersWaitsForItsOwnWrite) {  // V11
  QuietPort port;
  DurableProcess process(env_, kAlways);
  Session* const listener = process.engine_.CreateSession(&port, SessionKind::kNormal);
  process.dispatcher_.RunArgs(*listener, std::vector<std::string_view>{"PSUBSCRIBE", "__key*"});
  const auto may_leave = [&] {
    process.EndOfTurn();
    return listener->reply_gate.Released(process.durability_->DurableOffset());
  };
  ASSERT_EQ(process.Run({"CONFIG", "SET", "notify-keyspace-events", "KEA"}), "+OK");
  ASSERT_TRUE(process.AllDurable());
  const size_t told = listener->output.size();
  ASSERT_EQ(may_leave(), UINT64_MAX);
  env_.HoldSyncs(true);
  ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");  // of two channels
  ASSERT_GT(listener->output.size(), told);
  EXPECT_LE(may_leave(), told);
  env_.HoldSyncs(false);
  ASSERT_TRUE(process.AllDurable());
  EXPECT_EQ(may_leave(), UINT64_MAX);
  process.engine_.DestroySession(listener);
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

}  // namespace
}  // namespace cairn

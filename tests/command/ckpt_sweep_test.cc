// C9 by the clock alone: what nobody asks for any more is ended, told and freed, wherever its run
// lies, and all of it reaches the log.

#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

class CkptSweepTest : public CkptTest {
 protected:
  void SetUp() override { harness_.TakePropagated(); }
  /// What the server does some times a second.
  void Tick() { host_.Tick(); }
  uint64_t LiveBytes() {
    harness_.engine().keyspace.DrainReaper();
    return LinkedInModule()->memory.live_bytes();
  }
  Session& Listen(const std::string& pattern) {
    Session& listener = harness_.AddSession();
    harness_.Send(listener, {"PSUBSCRIBE", pattern});
    harness_.TakeReplies(listener);
    return listener;
  }
  std::string Told(Session& listener) {
    std::string out;
    for (const RespValue& message : harness_.TakeReplies(listener)) {
      out += (out.empty() ? "" : "; ") + message.elements.at(2).text + " " +
             message.elements.at(3).text;
    }
    return out;
  }
};

TEST_F(CkptSweepTest, WhatExpiresIsToldAtOnceAndFreedAfterItsGrace) {
  Session& listener = Listen("__ckpt__:*");
  const std::string bytes = Fill(kChunk, 3), hash = Hash128Hex(HashBytes128(bytes));
  const std::string tx = Begin(5, {"TIMEOUT", "1000"});
  DeclareU8(tx, "w", 2 * kChunk);
  Put(tx, "w", 0, bytes);
  Put(tx, "w", kChunk, "a part");
  harness_.AdvanceMs(999);
  Tick();
  harness_.TakePropagated();
  EXPECT_EQ(Told(listener), "__ckpt__:run begun 5 " + tx);
  harness_.AdvanceMs(1);
  Tick();
  const std::string ended = "CKPT.ABORT run " + tx + " EXPIRED";
  EXPECT_EQ(Told(listener), "__ckpt__:run expired 5 " + tx);
  EXPECT_EQ(harness_.TakePropagated(), Lines{ended + AtNow()});
  EXPECT_EQ(LiveBytes(), 2 * kChunk) << "a retry finds them";
  harness_.AdvanceMs(tensor::kGraceMs - 1);
  Tick();
  EXPECT_EQ(harness_.TakePropagated(), Lines{});
  EXPECT_EQ(LiveBytes(), 2 * kChunk);
  harness_.AdvanceMs(1);
  Tick();
  EXPECT_EQ(harness_.TakePropagated(), Lines{ended}) << "so that replicas forget it too";
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(Told(listener), "");
  EXPECT_EQ(Word(Run({"CKPT.COMMIT", "run", tx})), "-CKPTTIMEOUT") << "remembered by name";
  harness_.AdvanceMs(3'600'000);
  Tick();
  EXPECT_EQ(harness_.TakePropagated(), Lines{}) << "nothing is left to do";
}

TEST_F(CkptSweepTest, WhatIsFencedIsFreedAfterItsGrace) {
  const std::string old = Begin(5, {"ATTEMPT", "1"});
  DeclareU8(old, "w", kChunk);
  Put(old, "w", 0, Fill(kChunk, 3));
  Begin(5, {"ATTEMPT", "2"});
  harness_.AdvanceMs(tensor::kGraceMs - 1);
  Tick();
  EXPECT_EQ(LiveBytes(), kChunk);
  harness_.AdvanceMs(1);
  Tick();
  EXPECT_EQ(LiveBytes(), 0u);
  EXPECT_EQ(Word(Put(old, "w", 0, "x")), "-CKPTFENCED");
}

TEST_F(CkptSweepTest, RunsAreFoundWhereTheyHaveGone) {
  Session& listener = Listen("__ckpt__:*");
  const auto begin = [&](const std::string& run) {
    Run({"CKPT.BEGIN", run, "1", "TIMEOUT", "1000", "TX", run});
  };
  for (const char* run : {"deleted", "overwritten", "renamed", "moved", "swapped", "stays"})
    begin(run);
  Run({"DEL", "deleted"});
  Run({"SET", "overwritten", "text"});
  Run({"RENAME", "renamed", "elsewhere"});
  Run({"MOVE", "moved", "2"});
  Run({"MOVE", "swapped", "3"});
  Run({"SWAPDB", "3", "4"});
  Told(listener);
  harness_.AdvanceMs(1000);
  harness_.TakePropagated();
  Tick();
  EXPECT_EQ(Told(listener),
            "__ckpt__:elsewhere expired 1 renamed; __ckpt__:stays expired 1 stays; "
            "__ckpt__:moved expired 1 moved; __ckpt__:swapped expired 1 swapped");
  EXPECT_EQ(harness_.TakePropagated(),
            (Lines{"CKPT.ABORT elsewhere renamed EXPIRED" + AtNow(),
                   "CKPT.ABORT stays stays EXPIRED" + AtNow(), "SELECT 2",
                   "CKPT.ABORT moved moved EXPIRED" + AtNow(), "SELECT 4",
                   "CKPT.ABORT swapped swapped EXPIRED" + AtNow()}));
}

TEST_F(CkptSweepTest, WhoJoinsATransactionByItsNameIsNotLogged) {
  harness_.TakePropagated();
  Begin(1, {"TX", "mine"});
  const Lines logged = harness_.TakePropagated();
  ASSERT_FALSE(logged.empty());
  EXPECT_TRUE(logged.back().starts_with("CKPT.BEGIN run 1 TX mine AT 1")) << logged.back();
  EXPECT_EQ(Begin(1, {"TX", "mine"}), "mine");
  EXPECT_EQ(harness_.TakePropagated(), Lines{}) << "while it is open";
  DeclareU8("mine", "w", 2);
  Put("mine", "w", 0, "ab");
  Rank("mine", 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", "mine"});
  harness_.TakePropagated();
  EXPECT_EQ(Begin(1, {"TX", "mine"}), "mine");
  EXPECT_EQ(harness_.TakePropagated(), Lines{}) << "when it is a version";
}

TEST_F(CkptSweepTest, TheTimeOfATransactionFromAFileBeginsByItself) {
  const std::string tx = Begin(1, {"TIMEOUT", "1000"});
  const std::string payload = Call({"DUMP", "run"}).text;
  harness_.AdvanceMs(5000);
  Run({"RESTORE", "run", "0", payload, "REPLACE"});
  harness_.TakePropagated();
  Tick();
  harness_.AdvanceMs(999);
  Tick();
  EXPECT_EQ(harness_.TakePropagated(), Lines{});
  harness_.AdvanceMs(1);
  Tick();
  EXPECT_EQ(harness_.TakePropagated(), Lines{"CKPT.ABORT run " + tx + " EXPIRED" + AtNow()});
}

TEST_F(CkptSweepTest, ACommitThatWaitsIsAnswered) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2", "TIMEOUT", "1000"});
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"CKPT.COMMIT", "run", tx, "WAIT", "600000"});
  harness_.AdvanceMs(1000);
  EXPECT_EQ(harness_.Received(waiter), "") << "its own look comes later";
  Tick();
  EXPECT_EQ(Word(harness_.Received(waiter)), "-CKPTTIMEOUT");
}

/// A server that does what a stream says, and nothing by a clock of its own.
class Follower {
 public:
  Follower() {
    host_.Attach(harness_.engine());
    CAIRN_CHECK(host_.LoadEntryPoint(LinkedInTensorModule, "linked in", {}).ok());
    session_ = harness_.engine().CreateSession(nullptr, SessionKind::kInternal);
  }
  void Follow(const Lines& stream) {
    for (const std::string& line : stream) {
      std::istringstream in(line);
      Lines words;
      for (std::string word; in >> word;) words.push_back(word);
      harness_.CallOn(*session_, words);
    }
  }
  std::string Dump() { return harness_.Call({"DUMP", "run"}).text; }
  CommandHarness& harness() { return harness_; }

 private:
  ModuleHost host_;
  CommandHarness harness_{KeyDumpCommands(), SessionCommands()};
  Session* session_;
};

TEST_F(CkptSweepTest, TheStreamMakesTheSameRunWithoutAClock) {
  tensor::Module& primary = *LinkedInModule();
  Follower replica;
  tensor::Module& following = *LinkedInModule();
  const auto dump = [&] { return Call({"DUMP", "run"}).text; };
  const std::string fenced = Begin(1, {"TIMEOUT", "1000", "ATTEMPT", "1"});
  DeclareU8(fenced, "w", 3);
  Put(fenced, "w", 0, "abc");
  const std::string expires = Begin(2, {"TIMEOUT", "1000", "ATTEMPT", "2"});
  DeclareU8(expires, "w", 3);
  Put(expires, "w", 0, "xyz");
  replica.Follow(harness_.TakePropagated());
  ASSERT_EQ(dump(), replica.Dump());
  EXPECT_NE(following.memory.live_bytes(), 0u);
  for (const int64_t wait_ms : {int64_t{1000}, tensor::kGraceMs - 1000, int64_t{1000}}) {
    harness_.AdvanceMs(wait_ms);
    replica.harness().AdvanceMs(wait_ms);
    Tick();
    const Lines stream = harness_.TakePropagated();
    EXPECT_EQ(stream.size(), 1u);
    EXPECT_NE(dump(), replica.Dump());
    replica.Follow(stream);
    EXPECT_EQ(dump(), replica.Dump());
  }
  harness_.engine().keyspace.DrainReaper();
  replica.harness().engine().keyspace.DrainReaper();
  EXPECT_EQ(primary.memory.live_bytes(), 0u);
  EXPECT_EQ(following.memory.live_bytes(), 0u);
}

TEST_F(CkptSweepTest, NoTimeThatAClientNamesMovesADeadline) {
  for (const char* at : {"1", "99999999999999"}) {
    const std::string tx = Begin(1, {"TIMEOUT", "1000", "AT", at});
    ASSERT_EQ(DeclareU8(tx, "w", 1), ":1");
    harness_.AdvanceMs(999);
    EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":0");
    harness_.AdvanceMs(1);
    EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":1");
  }
}

/// Nor do they on a replica, which has no clock to find them by.
TEST_F(CkptSweepTest, KeysThatAreGoneAreNotRememberedForLong) {
  const tensor::RunWatch& watch = LinkedInModule()->watch;
  Begin(1);
  for (int i = 0; i < 2000; ++i) {
    const std::string key = "gone" + std::to_string(i);
    Run({"CKPT.BEGIN", key, "1"});
    Run({"DEL", key});
    ASSERT_LE(watch.size(), 128u);
  }
  for (int i = 0; i < 500; ++i) Run({"CKPT.BEGIN", "stays" + std::to_string(i), "1"});
  EXPECT_GE(watch.size(), 501u);
  harness_.AdvanceMs(tensor::kDefaultTimeoutMs);
  Tick();
  EXPECT_EQ(watch.size(), 501u) << "each has its grace to be ended";
}

TEST_F(CkptSweepTest, AsACommand) {
  EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), "-ERR no such run");
  const std::string tx = Begin(1, {"TIMEOUT", "1000"});
  EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":0");
  harness_.AdvanceMs(1000);
  EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":1");
  EXPECT_EQ(Run({"CKPT.ABORT", "run", tx, "EXPIRED"}).substr(0, 12), "-CKPTTIMEOUT")
      << "no client ends a grace";
  EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":0");
  harness_.AdvanceMs(tensor::kGraceMs);
  EXPECT_EQ(Run({"CKPT.SWEEP", "run"}), ":1");
}

}  // namespace
}  // namespace cairn

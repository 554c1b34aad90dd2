// maxmemory: which keys each of the eight policies lets go, what is told of it, and what is refused
// when nothing may go. Values are of 2 KiB, so that each key is an allocation of its own.

#include <gtest/gtest.h>

#include <set>

#include "server/engine/info_report.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily DatabaseCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kOomLine[] = "-OOM command not allowed when used memory > 'maxmemory'.";
constexpr size_t kValueBytes = 2000;
constexpr uint64_t kKeyBytes = 2048;  // about, with the rest of the record
constexpr char kEveryKey[] = "1000";  // maxmemory-samples that see all keys: the exact order

class EvictionTest : public ::testing::Test {
 protected:
  EvictionTest()
      : harness_({StringCommands(), StringEditCommands(), KeyCommands(), KeyExpireCommands(),
                  DatabaseCommands(), SessionCommands()}) {
    harness_.AdvanceMs(1'000'000);
  }
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string Name(int i) { return "key:" + std::to_string(i); }
  void Fill(int keys, const Lines& options = {}) {
    for (int i = 0; i < keys; ++i) {
      Lines args = {"SET", Name(i), std::string(kValueBytes, 'v')};
      args.insert(args.end(), options.begin(), options.end());
      ASSERT_EQ(Run(args), "+OK");
      harness_.TakePropagated();
    }
  }
  void Policy(const std::string& policy, const std::string& samples = kEveryKey) {
    harness_.SetSetting("maxmemory-policy", policy);
    harness_.SetSetting("maxmemory-samples", samples);
    harness_.engine().keyspace.set_access_mode(policy.ends_with("lfu"), 0, 1);
  }
  /// Sets the limit so far below what is used that about so many keys have to go.
  void LowerLimit(uint64_t keys) {
    const uint64_t used = harness_.engine().dispatcher->memory_limit().CountedBytes();
    harness_.SetSetting("maxmemory", std::to_string(used - keys * kKeyBytes));
  }
  void LiftLimit() { harness_.SetSetting("maxmemory", "0"); }
  bool Exists(int i) {
    Database& db = harness_.engine().keyspace.db(0);
    return db.Peek(db.MakeKey(Name(i))) != nullptr;
  }
  std::set<int> Gone(int keys) {
    std::set<int> gone;
    for (int i = 0; i < keys; ++i) {
      if (!Exists(i)) gone.insert(i);
    }
    return gone;
  }
  uint64_t Evicted() { return harness_.engine().keyspace.figures().evicted_keys; }
  CommandHarness harness_;
};

TEST_F(EvictionTest, NoEvictionRefusesWhatTakesMemoryAndNothingElse) {
  Fill(50);
  Policy("noeviction");
  // A command's first call makes its latency histogram, which would count here.
  Run({"APPEND", Name(0), ""});
  Run({"EXPIRE", "absent", "1"});
  for (const Lines& args : {Lines{"GET", "absent"}, Lines{"DEL", "absent"}, Lines{"PING"}})
    Run(args);
  LowerLimit(5);
  EXPECT_EQ(Run({"SET", "more", "x"}), kOomLine);
  EXPECT_EQ(Run({"APPEND", Name(1), "x"}), kOomLine);
  EXPECT_EQ(Run({"GET", "absent"}), "nil");
  EXPECT_EQ(Run({"EXPIRE", Name(1), "100"}), ":1");
  EXPECT_EQ(Run({"PING"}), "+PONG");
  EXPECT_EQ(Gone(50).size(), 0u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Run({"DEL", Name(i)}), ":1");
  EXPECT_EQ(Run({"SET", "more", "x"}), "+OK");
  EXPECT_EQ(Evicted(), 0u);
}

TEST_F(EvictionTest, TransactionsAreRefusedWhileTheyAreQueued) {
  Fill(50);
  Policy("noeviction");
  EXPECT_EQ(Run({"MULTI"}), "+OK");
  EXPECT_EQ(Run({"SET", "a", "1"}), "+QUEUED");
  LowerLimit(5);
  EXPECT_EQ(Run({"GET", "a"}), kOomLine);  // the queue itself takes memory
  EXPECT_TRUE(Run({"EXEC"}).starts_with("-EXECABORT"));
  EXPECT_EQ(Run({"MULTI"}), "+OK");
  EXPECT_EQ(Run({"DISCARD"}), "+OK");
}

TEST_F(EvictionTest, AllkeysLruLetsTheLongestIdleGo) {
  Policy("allkeys-lru");
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(Run({"SET", Name(i), std::string(kValueBytes, 'v')}), "+OK");
    harness_.AdvanceMs(1000);
  }
  for (int i = 0; i < 60; i += 2) Run({"GET", Name(i)});  // the even ones are fresh
  harness_.TakePropagated();
  LowerLimit(20);
  EXPECT_EQ(Run({"PING"}), "+PONG");  // any command makes room
  const std::set<int> gone = Gone(60);
  EXPECT_GE(gone.size(), 18u);
  EXPECT_LE(gone.size(), 24u);
  int expected = 1;
  for (int key : gone) {
    EXPECT_EQ(key, expected);  // the odd ones, from the oldest on
    expected += 2;
  }
  EXPECT_EQ(Evicted(), gone.size());
  const std::string info = InfoReport(harness_.engine(), std::vector<std::string_view>{"stats"});
  EXPECT_NE(info.find("evicted_keys:" + std::to_string(gone.size()) + "\r\n"), std::string::npos);
}

TEST_F(EvictionTest, AllkeysLfuLetsTheLeastUsedGo) {
  Policy("allkeys-lfu");
  Fill(60);
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 40; ++i) Run({"GET", Name(i)});
  }
  LowerLimit(15);
  Run({"PING"});
  const std::set<int> gone = Gone(60);
  EXPECT_GE(gone.size(), 13u);
  EXPECT_LE(gone.size(), 20u);
  for (int key : gone) EXPECT_GE(key, 40);
}

TEST_F(EvictionTest, VolatileTtlLetsTheNextToExpireGoAndNeverAKeyWithoutTtl) {
  Policy("volatile-ttl");
  Fill(40);
  for (int i = 0; i < 20; ++i) Run({"EXPIRE", Name(i), std::to_string(1000 - i)});
  harness_.TakePropagated();
  LowerLimit(8);
  EXPECT_EQ(Run({"SET", "small", "x"}), "+OK");
  const std::set<int> gone = Gone(40);
  EXPECT_GE(gone.size(), 7u);
  for (int key : gone) EXPECT_TRUE(key < 20 && key >= 20 - static_cast<int>(gone.size())) << key;
  LowerLimit(30);  // more than the keys that may go
  EXPECT_EQ(Run({"SET", "small", "y"}), kOomLine);
  for (int i = 20; i < 40; ++i) EXPECT_TRUE(Exists(i)) << i;
  EXPECT_EQ(harness_.engine().keyspace.db(0).expire_count(), 0u);
}

TEST_F(EvictionTest, VolatilePoliciesTouchOnlyKeysWithTtl) {
  for (const char* policy : {"volatile-lru", "volatile-lfu", "volatile-random"}) {
    SCOPED_TRACE(policy);
    LiftLimit();
    Run({"FLUSHALL"});
    Policy(policy);
    Fill(40);
    for (int i = 0; i < 40; i += 2) Run({"EXPIRE", Name(i), "5000"});
    harness_.TakePropagated();
    LowerLimit(6);
    EXPECT_EQ(Run({"SET", "small", "x"}), "+OK");
    const std::set<int> gone = Gone(40);
    EXPECT_GE(gone.size(), 5u);
    EXPECT_LE(gone.size(), 10u);
    for (int key : gone) EXPECT_EQ(key % 2, 0);
  }
}

TEST_F(EvictionTest, AllkeysRandomTakesFromEveryDatabase) {
  Policy("allkeys-random");
  Fill(60);
  harness_.session().db = 3;
  Fill(60);
  harness_.session().db = 0;
  LowerLimit(40);
  Run({"PING"});
  const uint64_t left0 = harness_.engine().keyspace.db(0).size();
  const uint64_t left3 = harness_.engine().keyspace.db(3).size();
  EXPECT_LT(left0, 50u);
  EXPECT_LT(left3, 50u);
  EXPECT_GE(left0 + left3, 74u);
}

TEST_F(EvictionTest, TellsTheStreamTheWatchersAndTheListeners) {
  for (const char* lazy : {"no", "yes"}) {
    LiftLimit();
    Run({"FLUSHALL"});
    harness_.SetSetting("lazyfree-lazy-eviction", lazy);
    Policy("allkeys-lru");
    Fill(1);
    harness_.AdvanceMs(10'000);
    for (int i = 1; i < 20; ++i) Run({"SET", Name(i), std::string(kValueBytes, 'v')});
    EXPECT_EQ(Run({"WATCH", Name(0)}), "+OK");
    EXPECT_EQ(Run({"MULTI"}), "+OK");
    harness_.TakePropagated();
    harness_.TakeEvents();
    LowerLimit(1);
    EXPECT_EQ(Run({"EXEC"}), "nil");
    const Lines lines = harness_.TakePropagated();
    ASSERT_FALSE(lines.empty());
    EXPECT_EQ(lines.back().substr(0, lines.back().find(' ')), *lazy == 'y' ? "UNLINK" : "DEL");
    bool told = false;
    for (const std::string& line : lines) told = told || line.ends_with(" " + Name(0));
    EXPECT_TRUE(told);
    const Lines events = harness_.TakeEvents();
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.front(), "0 evicted " + Name(0));
  }
}

TEST_F(EvictionTest, FiveSamplesComeCloseToTheTrueOrder) {
  Policy("allkeys-lru", "5");
  constexpr int kKeys = 400;
  for (int i = 0; i < kKeys; ++i) {
    Run({"SET", Name(i), std::string(kValueBytes, 'v')});
    harness_.AdvanceMs(1000);
    harness_.TakePropagated();
  }
  LowerLimit(kKeys / 4);
  Run({"PING"});
  const std::set<int> gone = Gone(kKeys);
  EXPECT_GE(gone.size(), static_cast<size_t>(kKeys / 4 - 5));
  size_t from_older_half = 0;
  for (int key : gone) from_older_half += key < kKeys / 2;
  EXPECT_GE(from_older_half * 100, gone.size() * 85);  // chance alone would give 50
}

TEST_F(EvictionTest, WritesGoOnAtTheLimitForEver) {
  Policy("allkeys-lru", "5");
  Fill(100);
  LowerLimit(1);
  const uint64_t limit = harness_.engine().settings().maxmemory;
  for (int i = 1000; i < 3000; ++i) {
    ASSERT_EQ(
        Run({"SET", Name(i), std::string(kValueBytes / 2 + static_cast<size_t>(i % 1000), 'w')}),
        "+OK");
    harness_.TakePropagated();
    harness_.TakeEvents();  // kept in the memory that is measured
    // One command's worth above it at most: room is made before a command, not after.
    EXPECT_LE(harness_.engine().dispatcher->memory_limit().CountedBytes(), limit + 64 * 1024);
  }
  EXPECT_GT(Evicted(), 1500u);
  EXPECT_GT(harness_.engine().keyspace.db(0).size(), 50u);
}

TEST_F(EvictionTest, WhatARunningSnapshotHoldsDoesNotCount) {
  Policy("allkeys-lru");
  Fill(100);
  View* view = harness_.engine().keyspace.BeginView();
  LowerLimit(10);
  Run({"PING"});
  const uint64_t evicted = Evicted();
  EXPECT_GE(evicted, 9u);
  EXPECT_LE(evicted, 14u);
  // Nothing was freed, the view reads it still. That must not drive out more and more keys.
  for (int i = 0; i < 50; ++i) {
    Run({"PING"});
    harness_.TakePropagated();
  }
  EXPECT_LE(Evicted(), evicted + 20);  // for the books that were kept of it: not ten at each turn
  EXPECT_GE(harness_.engine().keyspace.BytesNotEvictable(), evicted * kValueBytes);
  harness_.engine().keyspace.EndView(view);
}

TEST_F(EvictionTest, TimeLimitFollowsTheTenacity) {
  EXPECT_EQ(MemoryLimit::TimeLimitUs(0), 0);
  EXPECT_EQ(MemoryLimit::TimeLimitUs(10), 500);
  EXPECT_EQ(MemoryLimit::TimeLimitUs(11), 575);
  EXPECT_EQ(MemoryLimit::TimeLimitUs(100), INT64_MAX);
}

}  // namespace
}  // namespace cairn

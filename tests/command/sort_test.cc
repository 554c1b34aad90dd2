// SORT and SORT_RO: replies, what is stored and propagated, order that does not depend on the
// server. Expected texts were taken from redis-server 7.0.15.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily SortCommands();
CommandFamily SetCommands();
CommandFamily ListCommands();
CommandFamily HashCommands();
CommandFamily SortedSetCommands();
CommandFamily SortedSetRangeCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily AclCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

class SortTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  Lines Propagated(const std::vector<std::string>& args) {
    harness_.TakePropagated();
    Run(args);
    Lines lines = harness_.TakePropagated();
    if (!lines.empty() && lines.front() == "SELECT 0") lines.erase(lines.begin());
    return lines;
  }

  CommandHarness harness_{SortCommands(),   SetCommands(),       ListCommands(),
                          HashCommands(),   SortedSetCommands(), SortedSetRangeCommands(),
                          StringCommands(), KeyCommands(),       KeyExpireCommands(),
                          AclCommands(),    SessionCommands()};
};

TEST_F(SortTest, SortsNumbersOfEveryType) {
  Run({"RPUSH", "l", "3", "1", "2"});
  Run({"SADD", "s", "3", "1", "2"});
  Run({"ZADD", "z", "9", "1", "8", "2", "7", "3"});
  for (const char* key : {"l", "s", "z"}) {
    EXPECT_EQ(Run({"SORT", key}), "[\"1\", \"2\", \"3\"]") << key;
    EXPECT_EQ(Run({"SORT", key, "DESC", "LIMIT", "1", "5"}), "[\"2\", \"1\"]") << key;
  }
  EXPECT_EQ(Run({"SORT", "l", "BY", "nosort"}), "[\"3\", \"1\", \"2\"]");
  EXPECT_EQ(Run({"SORT", "z", "BY", "nosort", "DESC", "LIMIT", "0", "2"}), "[\"1\", \"2\"]");
}

TEST_F(SortTest, PatternsLeadToStringsAndFields) {
  Run({"RPUSH", "l", "1", "2", "3"});
  Run({"MSET", "w1", "30", "w2", "10", "w3", "20"});
  Run({"HSET", "o2", "name", "two"});
  EXPECT_EQ(Run({"SORT", "l", "BY", "w*"}), "[\"2\", \"3\", \"1\"]");
  EXPECT_EQ(Run({"SORT", "l", "BY", "w*", "GET", "#", "GET", "o*->name", "LIMIT", "0", "2"}),
            "[\"2\", \"two\", \"3\", nil]");
  EXPECT_EQ(Run({"SORT", "l", "GET", "o*"}), "[nil, nil, nil]");  // no string
}

TEST_F(SortTest, LimitsAtTheEdges) {
  Run({"RPUSH", "l", "1", "2", "3"});
  EXPECT_EQ(Run({"SORT", "l", "LIMIT", "-5", "2"}), "[\"1\", \"2\"]");
  EXPECT_EQ(Run({"SORT", "l", "LIMIT", "3", "1"}), "[]");
  EXPECT_EQ(Run({"SORT", "l", "LIMIT", "2", "9223372036854775807"}), "[\"3\"]");
  EXPECT_EQ(Run({"SORT", "l", "LIMIT", "9223372036854775807", "-1"}), "[]");
}

TEST_F(SortTest, RefusesWhatIsNoNumber) {
  Run({"RPUSH", "l", "1", "x"});
  EXPECT_EQ(Run({"SORT", "l"}), "-ERR One or more scores can't be converted into double");
  EXPECT_EQ(Run({"SORT", "l", "STORE", "d"}),
            "-ERR One or more scores can't be converted into double");
  EXPECT_EQ(Run({"EXISTS", "d"}), ":0");
  Run({"SET", "text", "x"});
  EXPECT_EQ(Run({"SORT", "text"}),
            "-WRONGTYPE Operation against a key holding the wrong kind of value");
  EXPECT_EQ(Run({"SORT_RO", "l", "STORE", "d"}), "-ERR syntax error");
}

TEST_F(SortTest, StoreReplacesAndPropagatesAsSent) {
  Run({"RPUSH", "l", "2", "1"});
  Run({"SET", "d", "x", "EX", "100"});
  EXPECT_EQ(Propagated({"SORT", "l", "STORE", "d"}), Lines{"SORT l STORE d"});
  EXPECT_EQ(Run({"LRANGE", "d", "0", "-1"}), "[\"1\", \"2\"]");
  EXPECT_EQ(Run({"TTL", "d"}), ":-1");
  harness_.TakeEvents();
  EXPECT_EQ(Run({"SORT", "none", "STORE", "d"}), ":0");
  EXPECT_EQ(harness_.TakeEvents(), (Lines{"0 keymiss none", "0 del d"}));
  EXPECT_EQ(Propagated({"SORT", "none", "STORE", "d"}), Lines{});
  EXPECT_EQ(Propagated({"SORT", "l"}), Lines{});
}

TEST_F(SortTest, AnExpiredWeightIsNone) {
  Run({"RPUSH", "l", "1", "2"});
  Run({"SET", "w1", "9", "PX", "10"});
  Run({"SET", "w2", "5"});
  EXPECT_EQ(Run({"SORT", "l", "BY", "w*"}), "[\"2\", \"1\"]");
  harness_.AdvanceMs(11);
  EXPECT_EQ(Propagated({"SORT", "l", "BY", "w*", "STORE", "d"}),
            (Lines{"MULTI", "DEL w1", "SORT l BY w* STORE d", "EXEC"}));
  EXPECT_EQ(Run({"LRANGE", "d", "0", "-1"}), "[\"1\", \"2\"]");
}

TEST_F(SortTest, WhatIsStoredOfASetDoesNotDependOnItsTable) {
  // All weights are equal, so that the order would be that of the hash table.
  Lines members;
  for (int i = 0; i < 300; ++i) members.push_back("m" + std::to_string(i));
  for (const std::string& member : members) Run({"SADD", "s", member});
  std::sort(members.begin(), members.end());
  std::string expected = "[";
  for (const std::string& member : members)
    expected += (expected.size() > 1 ? ", \"" : "\"") + member + "\"";
  expected += "]";
  Run({"SORT", "s", "BY", "none*", "ALPHA", "STORE", "d"});
  EXPECT_EQ(Run({"LRANGE", "d", "0", "-1"}), expected);
  Run({"SORT", "s", "BY", "nosort", "STORE", "d"});
  EXPECT_EQ(Run({"LRANGE", "d", "0", "-1"}), expected);
}

TEST_F(SortTest, ASortedSetComesOutInItsBigForm) {
  Run({"ZADD", "z", "2", "10", "1", "20"});
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "z"}), "\"listpack\"");
  Run({"SORT_RO", "z"});
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "z"}), "\"skiplist\"");
  EXPECT_EQ(Run({"ZRANGE", "z", "0", "-1"}), "[\"20\", \"10\"]");
}

TEST_F(SortTest, PatternsWantAUserWhoMayReadEveryKey) {
  Run({"RPUSH", "l", "2", "1"});
  Run({"ACL", "SETUSER", "part", "on", "nopass", "+@all", "~l"});
  Session& session = harness_.AddSession();
  harness_.CallOn(session, {"AUTH", "part", "x"});
  EXPECT_EQ(harness_.CallOn(session, {"SORT", "l", "BY", "w*"}).ToString(),
            "-ERR BY option of SORT denied due to insufficient ACL permissions.");
  EXPECT_EQ(harness_.CallOn(session, {"SORT", "l", "GET", "#"}).ToString(),
            "-ERR GET option of SORT denied due to insufficient ACL permissions.");
  EXPECT_EQ(harness_.CallOn(session, {"SORT", "l", "BY", "nosort"}).ToString(), "[\"2\", \"1\"]");
  Run({"ACL", "SETUSER", "part", "%R~*"});
  EXPECT_EQ(harness_.CallOn(session, {"SORT", "l", "BY", "w*", "GET", "#"}).ToString(),
            "[\"1\", \"2\"]");
}

}  // namespace
}  // namespace cairn

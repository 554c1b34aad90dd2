// Replies, effects, encodings and propagation of the list family, blocking forms included. Expected
// texts were taken from redis-server 7.0.15; tests/compat asks it the same and more.

#include <gtest/gtest.h>

#include "server/data/quicklist.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ListCommands();
CommandFamily ListMoveCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kWrongTypeLine[] =
    "-WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr char kSyntaxLine[] = "-ERR syntax error";
constexpr char kNotIntegerLine[] = "-ERR value is not an integer or out of range";

class ListTest : public ::testing::Test {
 protected:
  std::string Run(const Lines& args) { return harness_.Run(args); }
  Lines Propagated(const Lines& args) {
    harness_.TakePropagated();
    Run(args);
    Lines lines = harness_.TakePropagated();
    if (!lines.empty() && lines.front() == "SELECT 0") lines.erase(lines.begin());
    return lines;
  }
  Lines Events(const Lines& args) {
    harness_.TakeEvents();
    Run(args);
    return harness_.TakeEvents();
  }
  std::string All(const std::string& key) { return Run({"LRANGE", key, "0", "-1"}); }
  /// The list is checked whatever its form.
  void Check(const std::string& key) {
    Database& db = harness_.engine().keyspace.db(0);
    const Entry* entry = db.Peek(db.MakeKey(key));
    if (entry == nullptr || entry->is_packed()) return;
    static_cast<const QuickList*>(entry->object())->CheckInvariants();
  }
  void Fill(const std::string& key, int n, const std::string& prefix = "element-") {
    for (int i = 0; i < n; ++i) Run({"RPUSH", key, prefix + std::to_string(i)});
  }

  CommandHarness harness_{ListCommands(), ListMoveCommands(),  StringCommands(),
                          KeyCommands(),  KeyExpireCommands(), SessionCommands()};
};

TEST_F(ListTest, PushesAtBothEnds) {
  EXPECT_EQ(Run({"RPUSH", "l", "a", "b"}), ":2");
  EXPECT_EQ(Run({"LPUSH", "l", "c", "d"}), ":4");
  EXPECT_EQ(All("l"), "[\"d\", \"c\", \"a\", \"b\"]");
  EXPECT_EQ(Run({"LLEN", "l"}), ":4");
  EXPECT_EQ(Run({"TYPE", "l"}), "+list");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "l"}).text, "quicklist");
  EXPECT_EQ(Run({"LPUSH", "l"}), "-ERR wrong number of arguments for 'lpush' command");
  EXPECT_EQ(Run({"LLEN", "absent"}), ":0");
}

TEST_F(ListTest, PushXNeedsTheList) {
  EXPECT_EQ(Run({"LPUSHX", "l", "a"}), ":0");
  EXPECT_EQ(Propagated({"RPUSHX", "l", "a"}), Lines{});
  Run({"RPUSH", "l", "a"});
  EXPECT_EQ(Run({"LPUSHX", "l", "b", "c"}), ":3");
  EXPECT_EQ(Propagated({"RPUSHX", "l", "d"}), Lines{"RPUSHX l d"});
  EXPECT_EQ(All("l"), "[\"c\", \"b\", \"a\", \"d\"]");
}

TEST_F(ListTest, PopsOneOrSeveral) {
  Run({"RPUSH", "l", "1", "2", "3", "4", "5"});
  EXPECT_EQ(Run({"LPOP", "l"}), "\"1\"");
  EXPECT_EQ(Run({"RPOP", "l", "2"}), "[\"5\", \"4\"]");
  EXPECT_EQ(Run({"LPOP", "l", "0"}), "[]");
  EXPECT_EQ(Run({"LPOP", "l", "-1"}), "-ERR value is out of range, must be positive");
  EXPECT_EQ(Run({"LPOP", "l", "x"}), "-ERR value is out of range, must be positive");
  EXPECT_EQ(Run({"LPOP", "l", "1", "2"}), "-ERR wrong number of arguments for 'lpop' command");
  EXPECT_EQ(Run({"LPOP", "l", "10"}), "[\"2\", \"3\"]");
  EXPECT_EQ(Run({"EXISTS", "l"}), ":0");
  EXPECT_EQ(Run({"LPOP", "l"}), "nil");
}

TEST_F(ListTest, TellsWhatHappened) {
  EXPECT_EQ(Events({"RPUSH", "l", "a", "b"}), (Lines{"0 new l", "0 rpush l"}));
  EXPECT_EQ(Events({"LPOP", "l"}), Lines{"0 lpop l"});
  EXPECT_EQ(Events({"RPOP", "l"}), (Lines{"0 rpop l", "0 del l"}));
  Run({"RPUSH", "l", "a", "b", "a"});
  EXPECT_EQ(Events({"LREM", "l", "0", "a"}), Lines{"0 lrem l"});
  EXPECT_EQ(Events({"LTRIM", "l", "0", "-1"}), Lines{"0 ltrim l"});
  EXPECT_EQ(Propagated({"LTRIM", "l", "0", "-1"}), Lines{});
  EXPECT_EQ(Events({"LTRIM", "l", "5", "9"}), (Lines{"0 ltrim l", "0 del l"}));
  Run({"RPUSH", "s", "x"});
  EXPECT_EQ(Events({"LMOVE", "s", "t", "LEFT", "RIGHT"}),
            (Lines{"0 new t", "0 rpush t", "0 lpop s", "0 del s"}));
}

TEST_F(ListTest, ReadsByIndex) {
  Fill("l", 10);
  EXPECT_EQ(Run({"LINDEX", "l", "3"}), "\"element-3\"");
  EXPECT_EQ(Run({"LINDEX", "l", "-1"}), "\"element-9\"");
  EXPECT_EQ(Run({"LINDEX", "l", "10"}), "nil");
  EXPECT_EQ(Run({"LINDEX", "l", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"LINDEX", "absent", "x"}), "nil");
  EXPECT_EQ(Run({"LRANGE", "l", "8", "100"}), "[\"element-8\", \"element-9\"]");
  EXPECT_EQ(Run({"LRANGE", "l", "-100", "0"}), "[\"element-0\"]");
  EXPECT_EQ(Run({"LRANGE", "l", "5", "4"}), "[]");
  EXPECT_EQ(Run({"LRANGE", "absent", "0", "-1"}), "[]");
}

TEST_F(ListTest, Edits) {
  Run({"RPUSH", "l", "a", "b", "c"});
  EXPECT_EQ(Run({"LSET", "l", "1", "B"}), "+OK");
  EXPECT_EQ(Run({"LSET", "l", "-4", "B"}), "-ERR index out of range");
  EXPECT_EQ(Run({"LSET", "absent", "0", "B"}), "-ERR no such key");
  EXPECT_EQ(Run({"LINSERT", "l", "BEFORE", "B", "x"}), ":4");
  EXPECT_EQ(Run({"LINSERT", "l", "after", "c", "y"}), ":5");
  EXPECT_EQ(Run({"LINSERT", "l", "after", "nope", "y"}), ":-1");
  EXPECT_EQ(Run({"LINSERT", "absent", "after", "nope", "y"}), ":0");
  EXPECT_EQ(Run({"LINSERT", "l", "beside", "c", "y"}), kSyntaxLine);
  EXPECT_EQ(All("l"), "[\"a\", \"x\", \"B\", \"c\", \"y\"]");
}

TEST_F(ListTest, RemovesFromEitherSide) {
  Run({"RPUSH", "l", "a", "b", "a", "c", "a", "d"});
  EXPECT_EQ(Run({"LREM", "l", "-1", "a"}), ":1");
  EXPECT_EQ(All("l"), "[\"a\", \"b\", \"a\", \"c\", \"d\"]");
  EXPECT_EQ(Run({"LREM", "l", "1", "a"}), ":1");
  EXPECT_EQ(Run({"LREM", "l", "0", "nope"}), ":0");
  EXPECT_EQ(Run({"LREM", "l", "0", "a"}), ":1");
  EXPECT_EQ(All("l"), "[\"b\", \"c\", \"d\"]");
  EXPECT_EQ(Propagated({"lrem", "l", "0", "nope"}), Lines{});
}

TEST_F(ListTest, FindsPositions) {
  Run({"RPUSH", "l", "a", "b", "c", "1", "2", "3", "c", "c"});
  EXPECT_EQ(Run({"LPOS", "l", "c"}), ":2");
  EXPECT_EQ(Run({"LPOS", "l", "c", "RANK", "2"}), ":6");
  EXPECT_EQ(Run({"LPOS", "l", "c", "RANK", "-1"}), ":7");
  EXPECT_EQ(Run({"LPOS", "l", "c", "COUNT", "0"}), "[:2, :6, :7]");
  EXPECT_EQ(Run({"LPOS", "l", "c", "COUNT", "2", "RANK", "-1"}), "[:7, :6]");
  EXPECT_EQ(Run({"LPOS", "l", "c", "RANK", "-9223372036854775808"}), ":7");
  EXPECT_EQ(Run({"LPOS", "l", "c", "RANK", "-9223372036854775808", "COUNT", "1"}), "[:7, :6, :2]");
  EXPECT_EQ(Run({"LPOS", "l", "c", "MAXLEN", "2"}), "nil");
  EXPECT_EQ(Run({"LPOS", "l", "x", "COUNT", "1"}), "[]");
  EXPECT_EQ(Run({"LPOS", "absent", "x"}), "nil");
  EXPECT_EQ(Run({"LPOS", "l", "c", "RANK", "0"}).substr(0, 25), "-ERR RANK can't be zero: ");
  EXPECT_EQ(Run({"LPOS", "l", "c", "COUNT", "-1"}), "-ERR COUNT can't be negative");
  EXPECT_EQ(Run({"LPOS", "l", "c", "FOO", "1"}), kSyntaxLine);
}

TEST_F(ListTest, MovesBetweenListsAndWithinOne) {
  Run({"RPUSH", "a", "1", "2", "3"});
  EXPECT_EQ(Run({"LMOVE", "a", "b", "LEFT", "RIGHT"}), "\"1\"");
  EXPECT_EQ(Run({"RPOPLPUSH", "a", "b"}), "\"3\"");
  EXPECT_EQ(All("b"), "[\"3\", \"1\"]");
  EXPECT_EQ(Run({"LMOVE", "b", "b", "LEFT", "RIGHT"}), "\"3\"");
  EXPECT_EQ(All("b"), "[\"1\", \"3\"]");
  EXPECT_EQ(Run({"LMOVE", "a", "a", "LEFT", "RIGHT"}), "\"2\"");
  EXPECT_EQ(All("a"), "[\"2\"]");
  EXPECT_EQ(Run({"LMOVE", "absent", "b", "LEFT", "RIGHT"}), "nil");
  EXPECT_EQ(Run({"LMOVE", "a", "b", "UP", "RIGHT"}), kSyntaxLine);
  Run({"SET", "s", "v"});
  EXPECT_EQ(Run({"LMOVE", "a", "s", "LEFT", "RIGHT"}), kWrongTypeLine);
  EXPECT_EQ(All("a"), "[\"2\"]");
}

TEST_F(ListTest, MultiPopGoesOutAsAPop) {
  Run({"RPUSH", "b", "1", "2", "3"});
  EXPECT_EQ(Run({"LMPOP", "2", "a", "b", "LEFT", "COUNT", "2"}), "[\"b\", [\"1\", \"2\"]]");
  EXPECT_EQ(Propagated({"LMPOP", "2", "a", "b", "RIGHT", "COUNT", "5"}), Lines{"RPOP b 1"});
  EXPECT_EQ(Run({"LMPOP", "1", "b", "LEFT"}), "nil");
  EXPECT_EQ(Run({"LMPOP", "0", "b", "LEFT"}), "-ERR numkeys should be greater than 0");
  EXPECT_EQ(Run({"LMPOP", "1", "b", "LEFT", "COUNT", "0"}), "-ERR count should be greater than 0");
  EXPECT_EQ(Run({"LMPOP", "3", "b", "LEFT"}), kSyntaxLine);
}

TEST_F(ListTest, OtherTypesAreRefusedAndKept) {
  Run({"SET", "s", "v"});
  for (const Lines& args : std::vector<Lines>{{"LPUSH", "s", "a"},
                                              {"RPUSHX", "s", "a"},
                                              {"LPOP", "s"},
                                              {"RPOP", "s", "1"},
                                              {"LLEN", "s"},
                                              {"LRANGE", "s", "0", "1"},
                                              {"LINDEX", "s", "0"},
                                              {"LSET", "s", "0", "a"},
                                              {"LINSERT", "s", "before", "a", "b"},
                                              {"LREM", "s", "0", "a"},
                                              {"LTRIM", "s", "0", "1"},
                                              {"LPOS", "s", "a"},
                                              {"LMOVE", "s", "t", "LEFT", "LEFT"},
                                              {"RPOPLPUSH", "s", "t"},
                                              {"LMPOP", "1", "s", "LEFT"},
                                              {"BLPOP", "s", "0"},
                                              {"BLMOVE", "s", "t", "LEFT", "LEFT", "0"}}) {
    EXPECT_EQ(Propagated(args), Lines{}) << args[0];
    EXPECT_EQ(Run(args), kWrongTypeLine) << args[0];
  }
  EXPECT_EQ(Run({"GET", "s"}), "\"v\"");
}

TEST_F(ListTest, TheTimeToLiveStays) {
  Run({"RPUSH", "l", "a", "b"});
  Run({"EXPIRE", "l", "100"});
  for (const Lines& args : std::vector<Lines>{{"RPUSH", "l", std::string(2000, 'x')},
                                              {"LSET", "l", "0", "b"},
                                              {"LPOP", "l"},
                                              {"LMOVE", "l", "l", "LEFT", "RIGHT"}}) {
    Run(args);
    EXPECT_EQ(Run({"TTL", "l"}), ":100") << args[0];
  }
}

TEST_F(ListTest, GrowsFromPackedToNodes) {
  Fill("l", 3000);
  Check("l");
  EXPECT_EQ(Run({"LLEN", "l"}), ":3000");
  for (int i : {0, 1, 500, 1500, 2999})
    EXPECT_EQ(Run({"LINDEX", "l", std::to_string(i)}), "\"element-" + std::to_string(i) + "\"");
  EXPECT_EQ(Run({"LINSERT", "l", "BEFORE", "element-1500", "new"}), ":3001");
  EXPECT_EQ(Run({"LREM", "l", "0", "element-0"}), ":1");
  EXPECT_EQ(Run({"LTRIM", "l", "1000", "-1001"}), "+OK");
  Check("l");
  EXPECT_EQ(Run({"LLEN", "l"}), ":1000");
  EXPECT_EQ(Run({"COPY", "l", "m"}), ":1");
  Run({"LPOP", "l", "999"});
  EXPECT_EQ(Run({"LLEN", "m"}), ":1000");
  EXPECT_EQ(Run({"RENAME", "m", "n"}), "+OK");
  EXPECT_EQ(Run({"LLEN", "n"}), ":1000");
  Run({"LPOP", "l"});
  EXPECT_EQ(Run({"EXISTS", "l"}), ":0");
}

TEST_F(ListTest, CompressedAndPlainNodesReadTheSame) {
  harness_.SetSetting("list-compress-depth", "1");
  harness_.SetSetting("list-max-listpack-size", "16");
  harness_.engine().debug.quicklist_packed_threshold = 100;
  for (int i = 0; i < 400; ++i)
    Run({"RPUSH", "l",
         i % 50 == 7 ? std::string(150, 'p') : "text text text " + std::to_string(i)});
  Check("l");
  EXPECT_EQ(Run({"LINDEX", "l", "200"}), "\"text text text 200\"");
  EXPECT_EQ(Run({"LSET", "l", "200", std::string(200, 'q')}), "+OK");
  EXPECT_EQ(Run({"LSET", "l", "7", "small"}), "+OK");
  EXPECT_EQ(Run({"LREM", "l", "0", std::string(150, 'p')}), ":7");
  EXPECT_EQ(Run({"LINSERT", "l", "AFTER", "text text text 100", "in between"}), ":394");
  Check("l");
  EXPECT_EQ(Run({"LPOS", "l", "in between"}), ":100");
}

// --- waiting -----------------------------------------------------------------------------------

TEST_F(ListTest, BlpopTakesWhatIsThere) {
  Run({"RPUSH", "b", "1", "2"});
  EXPECT_EQ(Run({"BLPOP", "a", "b", "0"}), "[\"b\", \"1\"]");
  EXPECT_EQ(Propagated({"BRPOP", "a", "b", "0"}), Lines{"RPOP b"});
  EXPECT_EQ(Run({"BLPOP", "a", "-1"}), "-ERR timeout is negative");
  EXPECT_EQ(Run({"BLPOP", "a", "x"}), "-ERR timeout is not a float or out of range");
}

TEST_F(ListTest, BlpopWaitsInLine) {
  Session& first = harness_.AddSession();
  Session& second = harness_.AddSession();
  harness_.Send(first, {"BLPOP", "a", "b", "0"});
  harness_.Send(second, {"BRPOP", "b", "0"});
  EXPECT_EQ(harness_.Received(first), "");
  EXPECT_EQ(Propagated({"RPUSH", "b", "1", "2", "3"}),
            (Lines{"RPUSH b 1 2 3", "LPOP b", "RPOP b"}));
  EXPECT_EQ(harness_.Received(first), "[\"b\", \"1\"]");
  EXPECT_EQ(harness_.Received(second), "[\"b\", \"3\"]");
  EXPECT_EQ(All("b"), "[\"2\"]");
}

TEST_F(ListTest, BlockingEndsWithItsTimeout) {
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"BLPOP", "a", "0.5"});
  harness_.AdvanceMs(400);
  EXPECT_EQ(harness_.Received(waiter), "");
  harness_.AdvanceMs(200);
  EXPECT_EQ(harness_.Received(waiter), "nil");
}

TEST_F(ListTest, BlmoveServesTheNextInLine) {
  Session& mover = harness_.AddSession();
  Session& popper = harness_.AddSession();
  harness_.Send(mover, {"BLMOVE", "a", "b", "LEFT", "RIGHT", "0"});
  harness_.Send(popper, {"BLMPOP", "0", "1", "b", "LEFT", "COUNT", "10"});
  EXPECT_EQ(Propagated({"LPUSH", "a", "x"}),
            (Lines{"LPUSH a x", "LMOVE a b left right", "LPOP b 1"}));
  EXPECT_EQ(harness_.Received(mover), "\"x\"");
  EXPECT_EQ(harness_.Received(popper), "[\"b\", [\"x\"]]");
  EXPECT_EQ(Run({"EXISTS", "a", "b"}), ":0");
}

TEST_F(ListTest, AWaitingMoveToAnotherTypeFails) {
  Session& mover = harness_.AddSession();
  Run({"SET", "s", "v"});
  harness_.Send(mover, {"BRPOPLPUSH", "a", "s", "0"});
  Run({"RPUSH", "a", "x"});
  EXPECT_EQ(harness_.Received(mover), kWrongTypeLine);
  EXPECT_EQ(All("a"), "[\"x\"]");
}

TEST_F(ListTest, InsideATransactionNobodyWaits) {
  Run({"MULTI"});
  Run({"BLPOP", "a", "0"});
  Run({"BLMOVE", "a", "b", "LEFT", "LEFT", "0"});
  Run({"BRPOPLPUSH", "a", "b", "0"});
  Run({"BLMPOP", "0", "1", "a", "LEFT"});
  EXPECT_EQ(Run({"EXEC"}), "[nil, nil, nil, nil]");
}

}  // namespace
}  // namespace cairn

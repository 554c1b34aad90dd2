// Replies, effects, encodings and propagation of the sorted set and geo families. Expected texts
// were taken from redis-server 7.0.15; tests/compat asks it the same and more.

#include "server/data/sorted_set.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily SortedSetCommands();
CommandFamily SortedSetRangeCommands();
CommandFamily SortedSetPopCommands();
CommandFamily SortedSetCombineCommands();
CommandFamily GeoCommands();
CommandFamily GeoSearchCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kWrongTypeLine[] =
    "-WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr char kSyntaxLine[] = "-ERR syntax error";

class SortedSetCommandTest : public ::testing::Test {
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
  std::string Encoding(const std::string& key) {
    return harness_.Call({"OBJECT", "ENCODING", key}).text;
  }
  void Check(const std::string& key) {
    Database& db = harness_.engine().keyspace.db(0);
    const Entry* entry = db.Peek(db.MakeKey(key));
    if (entry != nullptr && !entry->is_packed())
      static_cast<const SortedSet*>(entry->object())->CheckInvariants();
  }
  void Fill(const std::string& key, int n) {
    for (int i = 0; i < n; ++i) Run({"ZADD", key, std::to_string(i), "m" + std::to_string(i)});
  }

  CommandHarness harness_{SortedSetCommands(),    SortedSetRangeCommands(),
                          SortedSetPopCommands(), SortedSetCombineCommands(),
                          GeoCommands(),          GeoSearchCommands(),
                          StringCommands(),       KeyCommands(),
                          KeyExpireCommands(),    SessionCommands()};
};

/// Every test runs with small sets packed and with none packed.
class SortedSetFormsTest : public SortedSetCommandTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) harness_.SetSetting("zset-max-listpack-entries", "0");
  }
};
INSTANTIATE_TEST_SUITE_P(Forms, SortedSetFormsTest, ::testing::Values(false, true));

TEST_P(SortedSetFormsTest, AddsAndUpdates) {
  EXPECT_EQ(Run({"ZADD", "z", "1", "a", "2", "b"}), ":2");
  EXPECT_EQ(Encoding("z"), GetParam() ? "skiplist" : "listpack");
  EXPECT_EQ(Run({"ZADD", "z", "3", "a", "1", "c"}), ":1");
  EXPECT_EQ(Run({"ZADD", "z", "CH", "4", "a", "1", "c", "0", "d"}), ":2");
  EXPECT_EQ(Run({"ZADD", "z", "NX", "9", "a"}), ":0");
  EXPECT_EQ(Run({"ZADD", "z", "XX", "CH", "5", "a", "1", "new"}), ":1");
  EXPECT_EQ(Run({"ZADD", "z", "GT", "CH", "4", "a"}), ":0");
  EXPECT_EQ(Run({"ZADD", "z", "LT", "CH", "4", "a"}), ":1");
  EXPECT_EQ(Run({"ZADD", "z", "INCR", "1.5", "a"}), "\"5.5\"");
  EXPECT_EQ(Run({"ZADD", "z", "NX", "INCR", "1", "a"}), "nil");
  EXPECT_EQ(Run({"ZINCRBY", "z", "-0.5", "a"}), "\"5\"");
  EXPECT_EQ(Run({"ZRANGE", "z", "0", "-1", "WITHSCORES"}),
            "[\"d\", \"0\", \"c\", \"1\", \"b\", \"2\", \"a\", \"5\"]");
  EXPECT_EQ(Run({"ZCARD", "z"}), ":4");
  EXPECT_EQ(Run({"ZMSCORE", "z", "a", "nope"}), "[\"5\", nil]");
  Check("z");
}

TEST_P(SortedSetFormsTest, RefusesWrongArguments) {
  EXPECT_EQ(Run({"ZADD", "z", "1"}), "-ERR wrong number of arguments for 'zadd' command");
  EXPECT_EQ(Run({"ZADD", "z", "1", "a", "2"}), kSyntaxLine);
  EXPECT_EQ(Run({"ZADD", "z", "x", "a"}), "-ERR value is not a valid float");
  EXPECT_EQ(Run({"ZADD", "z", "nan", "a"}), "-ERR value is not a valid float");
  EXPECT_EQ(Run({"ZADD", "z", "NX", "XX", "1", "a"}),
            "-ERR XX and NX options at the same time are not compatible");
  EXPECT_EQ(Run({"ZADD", "z", "GT", "LT", "1", "a"}),
            "-ERR GT, LT, and/or NX options at the same time are not compatible");
  EXPECT_EQ(Run({"ZADD", "z", "INCR", "1", "a", "2", "b"}),
            "-ERR INCR option supports a single increment-element pair");
  Run({"ZADD", "z", "inf", "a"});
  EXPECT_EQ(Run({"ZINCRBY", "z", "-inf", "a"}), "-ERR resulting score is not a number (NaN)");
  EXPECT_EQ(Run({"ZSCORE", "z", "a"}), "\"inf\"");
  EXPECT_EQ(Run({"ZRANGEBYSCORE", "z", "x", "1"}), "-ERR min or max is not a float");
  EXPECT_EQ(Run({"ZRANGEBYLEX", "z", "x", "[a"}), "-ERR min or max not valid string range item");
  EXPECT_EQ(Run({"EXISTS", "none"}), ":0");
}

TEST_P(SortedSetFormsTest, Ranges) {
  Fill("z", 10);
  EXPECT_EQ(Run({"ZRANGE", "z", "1", "2"}), "[\"m1\", \"m2\"]");
  EXPECT_EQ(Run({"ZRANGE", "z", "0", "1", "REV"}), "[\"m9\", \"m8\"]");
  EXPECT_EQ(Run({"ZREVRANGE", "z", "-2", "-1", "WITHSCORES"}), "[\"m1\", \"1\", \"m0\", \"0\"]");
  EXPECT_EQ(Run({"ZRANGEBYSCORE", "z", "(3", "6", "LIMIT", "1", "2"}), "[\"m5\", \"m6\"]");
  EXPECT_EQ(Run({"ZREVRANGEBYSCORE", "z", "6", "(3", "LIMIT", "1", "5"}), "[\"m5\", \"m4\"]");
  EXPECT_EQ(Run({"ZRANGE", "z", "+inf", "(7", "BYSCORE", "REV"}), "[\"m9\", \"m8\"]");
  EXPECT_EQ(Run({"ZRANGE", "z", "-inf", "0", "BYSCORE", "LIMIT", "-1", "5"}), "[]");
  EXPECT_EQ(Run({"ZRANGE", "z", "0", "1", "LIMIT", "0", "1"}),
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or "
            "BYLEX");
  EXPECT_EQ(Run({"ZCOUNT", "z", "2", "(5"}), ":3");
  EXPECT_EQ(Run({"ZRANK", "z", "m3"}), ":3");
  EXPECT_EQ(Run({"ZREVRANK", "z", "m3"}), ":6");
  EXPECT_EQ(Run({"ZRANK", "z", "nope"}), "nil");
}

TEST_P(SortedSetFormsTest, LexRanges) {
  for (const char* member : {"a", "b", "c", "d", "e"}) Run({"ZADD", "z", "0", member});
  EXPECT_EQ(Run({"ZRANGEBYLEX", "z", "[b", "(d"}), "[\"b\", \"c\"]");
  EXPECT_EQ(Run({"ZREVRANGEBYLEX", "z", "+", "(c"}), "[\"e\", \"d\"]");
  EXPECT_EQ(Run({"ZRANGE", "z", "-", "+", "BYLEX", "LIMIT", "1", "2"}), "[\"b\", \"c\"]");
  EXPECT_EQ(Run({"ZLEXCOUNT", "z", "[c", "+"}), ":3");
  EXPECT_EQ(Run({"ZREMRANGEBYLEX", "z", "-", "(c"}), ":2");
  EXPECT_EQ(Run({"ZRANGE", "z", "0", "-1"}), "[\"c\", \"d\", \"e\"]");
}

TEST_P(SortedSetFormsTest, Removes) {
  Fill("z", 10);
  EXPECT_EQ(Run({"ZREM", "z", "m0", "nope", "m1"}), ":2");
  EXPECT_EQ(Run({"ZREMRANGEBYRANK", "z", "0", "1"}), ":2");
  EXPECT_EQ(Run({"ZREMRANGEBYSCORE", "z", "(8", "+inf"}), ":1");
  EXPECT_EQ(Events({"ZREMRANGEBYSCORE", "z", "-inf", "+inf"}),
            (Lines{"0 zremrangebyscore z", "0 del z"}));
  EXPECT_EQ(Propagated({"ZREM", "z", "m0"}), Lines{});
  Run({"ZADD", "z", "1", "a"});
  EXPECT_EQ(Events({"ZREM", "z", "a"}), (Lines{"0 zrem z", "0 del z"}));
}

TEST_P(SortedSetFormsTest, Pops) {
  Fill("z", 6);
  EXPECT_EQ(Run({"ZPOPMIN", "z"}), "[\"m0\", \"0\"]");
  EXPECT_EQ(Run({"ZPOPMAX", "z", "2"}), "[\"m5\", \"5\", \"m4\", \"4\"]");
  EXPECT_EQ(Run({"ZPOPMIN", "z", "0"}), "[]");
  EXPECT_EQ(Run({"ZPOPMIN", "z", "x"}), "-ERR value is out of range, must be positive");
  EXPECT_EQ(Run({"ZPOPMIN", "z", "1", "2"}), kSyntaxLine);
  EXPECT_EQ(Propagated({"ZMPOP", "2", "none", "z", "MAX", "COUNT", "2"}), Lines{"ZPOPMAX z 2"});
  EXPECT_EQ(Events({"ZPOPMIN", "z", "9"}), (Lines{"0 zpopmin z", "0 del z"}));
  EXPECT_EQ(Run({"ZPOPMIN", "z"}), "[]");
  EXPECT_EQ(Run({"ZMPOP", "1", "z", "MIN"}), "nil");
}

TEST_P(SortedSetFormsTest, Combines) {
  Run({"ZADD", "a", "1", "x", "2", "y"});
  Run({"ZADD", "b", "10", "y", "20", "z"});
  EXPECT_EQ(Run({"ZUNION", "2", "a", "b", "WITHSCORES"}),
            "[\"x\", \"1\", \"y\", \"12\", \"z\", \"20\"]");
  EXPECT_EQ(Run({"ZINTER", "2", "a", "b", "WEIGHTS", "2", "1", "WITHSCORES"}), "[\"y\", \"14\"]");
  EXPECT_EQ(Run({"ZDIFF", "2", "a", "b"}), "[\"x\"]");
  EXPECT_EQ(Run({"ZINTERCARD", "2", "a", "b", "LIMIT", "5"}), ":1");
  EXPECT_EQ(Run({"ZUNIONSTORE", "d", "2", "a", "b", "AGGREGATE", "MAX"}), ":3");
  EXPECT_EQ(Run({"ZSCORE", "d", "y"}), "\"10\"");
  EXPECT_EQ(Events({"ZINTERSTORE", "d", "2", "a", "none"}), (Lines{"0 keymiss none", "0 del d"}));
  EXPECT_EQ(Run({"ZDIFFSTORE", "d", "1", "a"}), ":2");
  EXPECT_EQ(Run({"ZRANGESTORE", "e", "a", "0", "0"}), ":1");
  EXPECT_EQ(Run({"ZRANGE", "e", "0", "-1"}), "[\"x\"]");
  EXPECT_EQ(Run({"ZUNION", "0", "a"}), "-ERR at least 1 input key is needed for 'zunion' command");
  EXPECT_EQ(Run({"ZUNION", "5", "a"}), kSyntaxLine);
  EXPECT_EQ(Run({"ZINTER", "1", "a", "WEIGHTS", "x"}), "-ERR weight value is not a float");
}

TEST_P(SortedSetFormsTest, DrawsRandomMembers) {
  Fill("z", 20);
  const RespValue distinct = harness_.Call({"ZRANDMEMBER", "z", "10"});
  EXPECT_EQ(distinct.elements.size(), 10u);
  std::set<std::string> seen;
  for (const RespValue& each : distinct.elements) seen.insert(each.text);
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(harness_.Call({"ZRANDMEMBER", "z", "100"}).elements.size(), 20u);
  EXPECT_EQ(harness_.Call({"ZRANDMEMBER", "z", "-100", "WITHSCORES"}).elements.size(), 200u);
  EXPECT_EQ(Run({"ZRANDMEMBER", "none"}), "nil");
  EXPECT_EQ(Run({"ZRANDMEMBER", "z", "0"}), "[]");
}

TEST_F(SortedSetCommandTest, PastTheLimitsItIsASkiplist) {
  Fill("z", 128);
  EXPECT_EQ(Encoding("z"), "listpack");
  Run({"ZADD", "z", "1", "one more"});
  EXPECT_EQ(Encoding("z"), "skiplist");
  Run({"ZREMRANGEBYRANK", "z", "0", "120"});
  EXPECT_EQ(Encoding("z"), "skiplist");
  Run({"ZADD", "y", "1", "a"});
  Run({"ZADD", "y", "1", std::string(65, 'x')});
  EXPECT_EQ(Encoding("y"), "skiplist");
  EXPECT_EQ(Run({"ZUNIONSTORE", "u", "1", "z"}), ":8");
  EXPECT_EQ(Encoding("u"), "listpack");
  EXPECT_EQ(Run({"COPY", "z", "c"}), ":1");
  Run({"ZPOPMIN", "c"});
  EXPECT_EQ(Run({"ZCARD", "z"}), ":8");
  Check("z");
  Check("c");
}

TEST_F(SortedSetCommandTest, TheSignOfZeroIsLostWhilePackedOnly) {
  Run({"ZADD", "z", "-0", "a"});
  EXPECT_EQ(Run({"ZSCORE", "z", "a"}), "\"0\"");
  harness_.SetSetting("zset-max-listpack-entries", "0");
  Run({"ZADD", "y", "-0", "a"});
  EXPECT_EQ(Run({"ZSCORE", "y", "a"}), "\"-0\"");
}

TEST_F(SortedSetCommandTest, RepliesNestInResp3) {
  Run({"ZADD", "z", "1.5", "a", "2", "b"});
  harness_.session().reply.set_version(3);
  EXPECT_EQ(harness_.Call({"ZRANGE", "z", "0", "0", "WITHSCORES"}).elements.size(), 1u);
  EXPECT_EQ(harness_.Call({"ZPOPMIN", "z"}).elements.size(), 2u);
  EXPECT_EQ(harness_.Call({"ZPOPMIN", "z", "1"}).elements.size(), 1u);
}

TEST_F(SortedSetCommandTest, OtherTypesAreRefused) {
  Run({"SET", "s", "v"});
  for (const Lines& args : std::vector<Lines>{{"ZADD", "s", "1", "a"},
                                              {"ZINCRBY", "s", "1", "a"},
                                              {"ZREM", "s", "a"},
                                              {"ZCARD", "s"},
                                              {"ZSCORE", "s", "a"},
                                              {"ZMSCORE", "s", "a"},
                                              {"ZRANK", "s", "a"},
                                              {"ZCOUNT", "s", "0", "1"},
                                              {"ZRANGE", "s", "0", "1"},
                                              {"ZRANGESTORE", "d", "s", "0", "1"},
                                              {"ZREMRANGEBYRANK", "s", "0", "1"},
                                              {"ZPOPMIN", "s"},
                                              {"ZMPOP", "1", "s", "MIN"},
                                              {"ZRANDMEMBER", "s"},
                                              {"ZUNION", "1", "s"},
                                              {"BZPOPMIN", "s", "0"},
                                              {"GEOADD", "s", "1", "1", "a"},
                                              {"GEOPOS", "s", "a"},
                                              {"GEORADIUS", "s", "1", "1", "1", "m"}}) {
    EXPECT_EQ(Run(args), kWrongTypeLine) << args[0];
  }
  EXPECT_EQ(Run({"GET", "s"}), "\"v\"");
}

TEST_F(SortedSetCommandTest, BzpopminWaits) {
  Session& low = harness_.AddSession();
  Session& high = harness_.AddSession();
  Session& many = harness_.AddSession();
  harness_.Send(low, {"BZPOPMIN", "y", "z", "0"});
  harness_.Send(high, {"BZPOPMAX", "z", "0"});
  harness_.Send(many, {"BZMPOP", "0", "1", "z", "MIN", "COUNT", "5"});
  EXPECT_EQ(Propagated({"ZADD", "z", "1", "a", "2", "b", "3", "c"}),
            (Lines{"ZADD z 1 a 2 b 3 c", "ZPOPMIN z", "ZPOPMAX z", "ZPOPMIN z 1"}));
  EXPECT_EQ(harness_.Received(low), "[\"z\", \"a\", \"1\"]");
  EXPECT_EQ(harness_.Received(high), "[\"z\", \"c\", \"3\"]");
  EXPECT_EQ(harness_.Received(many), "[\"z\", [[\"b\", \"2\"]]]");
  EXPECT_EQ(Run({"EXISTS", "z"}), ":0");
}

// --- geo ---------------------------------------------------------------------------------------

TEST_F(SortedSetCommandTest, GeoMeasuresAndSearches) {
  EXPECT_EQ(Run({"GEOADD", "g", "13.361389", "38.115556", "Palermo", "15.087269", "37.502669",
                 "Catania"}),
            ":2");
  EXPECT_EQ(Run({"GEODIST", "g", "Palermo", "Catania"}), "\"166274.1516\"");
  EXPECT_EQ(Run({"GEODIST", "g", "Palermo", "Catania", "KM"}), "\"166.2742\"");
  EXPECT_EQ(Run({"GEODIST", "g", "Palermo", "none"}), "nil");
  EXPECT_EQ(Run({"GEOHASH", "g", "Palermo", "none"}), "[\"sqc8b49rny0\", nil]");
  EXPECT_EQ(Run({"GEOPOS", "g", "Palermo", "none"}),
            "[[\"13.36138933897018433\", \"38.11555639549629859\"], nil]");
  EXPECT_EQ(Run({"GEOSEARCH", "g", "FROMLONLAT", "15", "37", "BYRADIUS", "200", "km", "ASC"}),
            "[\"Catania\", \"Palermo\"]");
  EXPECT_EQ(Run({"GEOSEARCH", "g", "FROMLONLAT", "15", "37", "BYBOX", "400", "100", "km"}), "[]");
  EXPECT_EQ(Run({"GEORADIUS", "g", "15", "37", "200", "km", "WITHDIST", "COUNT", "1"}),
            "[[\"Catania\", \"56.4413\"]]");
  EXPECT_EQ(
      Run({"GEOSEARCHSTORE", "d", "g", "FROMMEMBER", "Palermo", "BYRADIUS", "1", "m", "STOREDIST"}),
      ":1");
  EXPECT_EQ(Run({"ZSCORE", "d", "Palermo"}), "\"0\"");
}

TEST_F(SortedSetCommandTest, GeoAddGoesOutAsZadd) {
  EXPECT_EQ(Propagated({"GEOADD", "g", "CH", "13.361389", "38.115556", "Palermo"}),
            Lines{"zadd g CH 3479099956230698 Palermo"});
  EXPECT_EQ(Events({"GEOADD", "g", "1", "2", "x"}), Lines{"0 zadd g"});
  EXPECT_EQ(Run({"GEOADD", "g", "181", "2", "x"}),
            "-ERR invalid longitude,latitude pair 181.000000,2.000000");
  EXPECT_EQ(Run({"GEOADD", "g", "NX", "XX", "1", "2", "x"}), kSyntaxLine);
  EXPECT_EQ(Run({"GEODIST", "g", "x", "x", "parsec"}),
            "-ERR unsupported unit provided. please use M, KM, FT, MI");
}

}  // namespace
}  // namespace cairn

// Replies, effects and propagation of the string family. Expected texts were taken from
// redis-server 7.0.15.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kWrongTypeLine[] =
    "-WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr char kSyntaxLine[] = "-ERR syntax error";
constexpr char kNotIntegerLine[] = "-ERR value is not an integer or out of range";

/// A value that is not a string, for the WRONGTYPE cases.
class ForeignObject final : public Object {
 public:
  Status Emit(ValueSink&) const override { return Status(StatusCode::kUnsupported, "foreign"); }
  size_t MemoryUsage() const override { return sizeof(*this); }
  size_t FreeEffort() const override { return 1; }
  const char* EncodingName() const override { return "raw"; }
  const char* TypeName() const override { return "foreign"; }
};

class StringTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  /// Runs a command and returns what it propagated, the leading SELECT left out.
  Lines Propagated(const std::vector<std::string>& args) {
    harness_.TakePropagated();
    Run(args);
    Lines lines = harness_.TakePropagated();
    if (!lines.empty() && lines.front() == "SELECT 0") lines.erase(lines.begin());
    return lines;
  }
  Lines Events(const std::vector<std::string>& args) {
    harness_.TakeEvents();
    Run(args);
    return harness_.TakeEvents();
  }
  std::string In(int64_t ms) { return std::to_string(harness_.now_ms() + ms); }
  void PutForeign(const std::string& key) {
    Database& db = harness_.engine().keyspace.db(0);
    db.Set(db.MakeKey(key),
           ValueInput::FromObject(ValueType::kModule, ObjectRef::Adopt(new ForeignObject())),
           kNoExpiry);
  }

  CommandHarness harness_{StringCommands(), StringEditCommands(), StringLcsCommands(),
                          KeyCommands(), KeyExpireCommands()};
};

TEST_F(StringTest, SetAndGet) {
  EXPECT_EQ(Run({"SET", "k", "v"}), "+OK");
  EXPECT_EQ(Run({"GET", "k"}), "\"v\"");
  EXPECT_EQ(Run({"GET", "absent"}), "nil");
  EXPECT_EQ(Run({"SET", "k"}), "-ERR wrong number of arguments for 'set' command");
  EXPECT_EQ(Run({"GET", "k", "x"}), "-ERR wrong number of arguments for 'get' command");
}

TEST_F(StringTest, SetKeepsEveryByteOfAnyLength) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{44}, size_t{45}, size_t{4096}, size_t{4097},
                      size_t{16384}, size_t{70000}}) {
    std::string value(size, '\0');
    for (size_t i = 0; i < size; ++i) value[i] = static_cast<char>(i * 31 + size);
    Run({"SET", "k", value});
    EXPECT_EQ(harness_.Call({"GET", "k"}).text, value) << size;
    EXPECT_EQ(Run({"STRLEN", "k"}), ":" + std::to_string(size));
  }
}

TEST_F(StringTest, SetChoosesEncodings) {
  const auto encoding = [&](const std::string& value) {
    Run({"SET", "k", value});
    return harness_.Call({"OBJECT", "ENCODING", "k"}).text;
  };
  EXPECT_EQ(encoding("12"), "int");
  EXPECT_EQ(encoding("-9223372036854775808"), "int");
  EXPECT_EQ(encoding("9223372036854775808"), "embstr");
  EXPECT_EQ(encoding("012"), "embstr");
  EXPECT_EQ(encoding(std::string(44, 'a')), "embstr");
  EXPECT_EQ(encoding(std::string(45, 'a')), "raw");
  EXPECT_EQ(encoding(std::string(5000, 'a')), "raw");
}

TEST_F(StringTest, SetConditions) {
  EXPECT_EQ(Run({"SET", "k", "1", "XX"}), "nil");
  EXPECT_EQ(Run({"SET", "k", "1", "NX"}), "+OK");
  EXPECT_EQ(Run({"SET", "k", "2", "nx"}), "nil");
  EXPECT_EQ(Run({"SET", "k", "2", "xx"}), "+OK");
  EXPECT_EQ(Run({"SET", "k", "3", "NX", "GET"}), "\"2\"");
  EXPECT_EQ(Run({"GET", "k"}), "\"2\"");
  EXPECT_EQ(Run({"SET", "k", "3", "NX", "XX"}), kSyntaxLine);
  EXPECT_EQ(Run({"SET", "new", "3", "GET"}), "nil");
  EXPECT_EQ(Run({"GET", "new"}), "\"3\"");
}

TEST_F(StringTest, SetRefusesOptionsThatExclude) {
  for (const Lines& options : std::vector<Lines>{{"EX", "1", "PX", "1"},
                                                 {"EX", "1", "KEEPTTL"},
                                                 {"KEEPTTL", "EX", "1"},
                                                 {"EX"},
                                                 {"PERSIST"},
                                                 {"FOO"},
                                                 {"EXAT", "1", "EX", "1"}}) {
    Lines args = {"SET", "k", "v"};
    args.insert(args.end(), options.begin(), options.end());
    EXPECT_EQ(Run(args), kSyntaxLine) << options[0];
  }
  EXPECT_EQ(Run({"SET", "k", "v", "EX", "10", "EX", "20"}), "+OK");
  EXPECT_EQ(Run({"TTL", "k"}), ":20");
}

TEST_F(StringTest, SetChecksTheTimeToLive) {
  constexpr char kInvalid[] = "-ERR invalid expire time in 'set' command";
  EXPECT_EQ(Run({"SET", "k", "v", "EX", "0"}), kInvalid);
  EXPECT_EQ(Run({"SET", "k", "v", "PX", "-1"}), kInvalid);
  EXPECT_EQ(Run({"SET", "k", "v", "EX", "9223372036854775807"}), kInvalid);
  EXPECT_EQ(Run({"SET", "k", "v", "PX", "9223372036854775807"}), kInvalid);
  EXPECT_EQ(Run({"SET", "k", "v", "EX", "abc"}), kNotIntegerLine);
  EXPECT_EQ(Run({"SETEX", "k", "0", "v"}), "-ERR invalid expire time in 'setex' command");
  EXPECT_EQ(Run({"PSETEX", "k", "-5", "v"}), "-ERR invalid expire time in 'psetex' command");
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
}

TEST_F(StringTest, SetDropsOrKeepsTheTimeToLive) {
  Run({"SET", "k", "v", "EX", "100"});
  EXPECT_EQ(Run({"TTL", "k"}), ":100");
  Run({"SET", "k", "w", "KEEPTTL"});
  EXPECT_EQ(Run({"TTL", "k"}), ":100");
  Run({"SET", "k", "w"});
  EXPECT_EQ(Run({"TTL", "k"}), ":-1");
  Run({"SETEX", "k", "7", "w"});
  EXPECT_EQ(Run({"TTL", "k"}), ":7");
  Run({"GETSET", "k", "x"});
  EXPECT_EQ(Run({"TTL", "k"}), ":-1");
}

TEST_F(StringTest, SetExpires) {
  Run({"SET", "k", "v", "PX", "100"});
  harness_.AdvanceMs(100);
  EXPECT_EQ(Run({"GET", "k"}), "\"v\"");
  harness_.AdvanceMs(1);
  harness_.TakePropagated();
  EXPECT_EQ(Run({"GET", "k"}), "nil");
  EXPECT_EQ(harness_.TakePropagated(), Lines{"DEL k"});
}

TEST_F(StringTest, SetPropagatesMomentsAndNoGet) {
  EXPECT_EQ(Propagated({"set", "k", "v"}), Lines{"set k v"});
  EXPECT_EQ(Propagated({"SET", "k", "v", "EX", "10"}), Lines{"SET k v PXAT " + In(10000)});
  EXPECT_EQ(Propagated({"SET", "k", "v", "xx", "PX", "10", "GET"}),
            Lines{"SET k v PXAT " + In(10)});
  EXPECT_EQ(Propagated({"SET", "k", "v", "EXAT", "99999999999"}),
            Lines{"SET k v PXAT 99999999999000"});
  EXPECT_EQ(Propagated({"SET", "k", "v", "KEEPTTL", "get", "XX"}), Lines{"SET k v KEEPTTL XX"});
  EXPECT_EQ(Propagated({"SET", "k", "v", "NX"}), Lines{});
  EXPECT_EQ(Propagated({"SETEX", "k", "10", "v"}), Lines{"SET k v PXAT " + In(10000)});
  EXPECT_EQ(Propagated({"PSETEX", "k", "10", "v"}), Lines{"SET k v PXAT " + In(10)});
  EXPECT_EQ(Propagated({"GETSET", "k", "w"}), Lines{"SET k w"});
}

TEST_F(StringTest, SetPublishes) {
  EXPECT_EQ(Events({"SET", "k", "v"}), (Lines{"0 new k", "0 set k"}));
  EXPECT_EQ(Events({"SET", "k", "v", "EX", "10"}), (Lines{"0 set k", "0 expire k"}));
  EXPECT_EQ(Events({"SET", "k", "v", "NX"}), Lines{});
  EXPECT_EQ(Events({"GET", "absent"}), Lines{"0 keymiss absent"});
}

TEST_F(StringTest, WrongTypeLeavesTheKeyAlone) {
  PutForeign("f");
  for (const Lines& args : std::vector<Lines>{{"GET", "f"},
                                              {"SET", "f", "v", "GET"},
                                              {"GETSET", "f", "v"},
                                              {"GETEX", "f"},
                                              {"GETDEL", "f"},
                                              {"APPEND", "f", "v"},
                                              {"STRLEN", "f"},
                                              {"SETRANGE", "f", "0", ""},
                                              {"GETRANGE", "f", "0", "1"},
                                              {"INCR", "f"},
                                              {"DECRBY", "f", "2"},
                                              {"INCRBYFLOAT", "f", "x"}}) {
    EXPECT_EQ(Propagated(args), Lines{}) << args[0];
    EXPECT_EQ(Run(args), kWrongTypeLine) << args[0];
  }
  EXPECT_EQ(Run({"TYPE", "f"}), "+foreign");
  EXPECT_EQ(Run({"MGET", "f"}), "[nil]");
  EXPECT_EQ(Run({"SET", "f", "v"}), "+OK");
}

TEST_F(StringTest, SetNxAndMany) {
  EXPECT_EQ(Run({"SETNX", "a", "1"}), ":1");
  EXPECT_EQ(Run({"SETNX", "a", "2"}), ":0");
  EXPECT_EQ(Run({"MSET", "a", "1", "b", "2"}), "+OK");
  EXPECT_EQ(Run({"MSET", "a", "1", "b"}), "-ERR wrong number of arguments for 'mset' command");
  EXPECT_EQ(Run({"MSETNX", "c", "1", "b"}), "-ERR wrong number of arguments for 'msetnx' command");
  EXPECT_EQ(Run({"MSETNX", "c", "1", "b", "3"}), ":0");
  EXPECT_EQ(Run({"MGET", "a", "b", "c"}), "[\"1\", \"2\", nil]");
  EXPECT_EQ(Run({"MSETNX", "c", "1", "d", "2"}), ":1");
  EXPECT_EQ(Propagated({"mset", "a", "1", "b", "2"}), Lines{"mset a 1 b 2"});
}

TEST_F(StringTest, GetExChangesTheTimeToLive) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"GETEX", "k"}), Lines{});
  EXPECT_EQ(Propagated({"GETEX", "k", "EX", "100"}), Lines{"PEXPIREAT k " + In(100000)});
  EXPECT_EQ(Propagated({"GETEX", "k", "PERSIST"}), Lines{"PERSIST k"});
  EXPECT_EQ(Propagated({"GETEX", "k", "PERSIST"}), Lines{});
  EXPECT_EQ(Run({"GETEX", "k", "EX", "1", "PERSIST"}), kSyntaxLine);
  EXPECT_EQ(Run({"GETEX", "k", "KEEPTTL"}), kSyntaxLine);
  EXPECT_EQ(Run({"GETEX", "k", "EX", "0"}), "-ERR invalid expire time in 'getex' command");
  EXPECT_EQ(Run({"GETEX", "absent", "EX", "0"}), "nil");
  EXPECT_EQ(Propagated({"GETEX", "k", "PXAT", "1"}), Lines{"DEL k"});
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
}

TEST_F(StringTest, GetDelRemoves) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"GETDEL", "absent"}), Lines{});
  EXPECT_EQ(Propagated({"GETDEL", "k"}), Lines{"DEL k"});
  EXPECT_EQ(Run({"GETDEL", "k"}), "nil");
  harness_.SetSetting("lazyfree-lazy-user-del", "yes");
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"GETDEL", "k"}), Lines{"UNLINK k"});
}

TEST_F(StringTest, AppendGrowsAndTurnsRaw) {
  EXPECT_EQ(Run({"APPEND", "k", "12"}), ":2");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "k"}).text, "int");
  Run({"EXPIRE", "k", "50"});
  EXPECT_EQ(Run({"APPEND", "k", ""}), ":2");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "k"}).text, "raw");
  EXPECT_EQ(Run({"APPEND", "k", "xyz"}), ":5");
  EXPECT_EQ(Run({"GET", "k"}), "\"12xyz\"");
  EXPECT_EQ(Run({"TTL", "k"}), ":50");
  const std::string big(100000, 'b');
  EXPECT_EQ(Run({"APPEND", "k", big}), ":100005");
  EXPECT_EQ(harness_.Call({"GET", "k"}).text, "12xyz" + big);
  EXPECT_EQ(Propagated({"append", "k", "!"}), Lines{"append k !"});
}

TEST_F(StringTest, AppendAndSetRangeRespectTheLimit) {
  harness_.SetSetting("proto-max-bulk-len", "1mb");
  constexpr char kTooLong[] = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
  Run({"SET", "k", std::string(1 << 20, 'a')});
  EXPECT_EQ(Run({"APPEND", "k", "b"}), kTooLong);
  EXPECT_EQ(Run({"SETRANGE", "k", "1048576", "b"}), kTooLong);
  EXPECT_EQ(Run({"SETRANGE", "k", "9223372036854775807", "b"}), kTooLong);
  EXPECT_EQ(Run({"SETRANGE", "k", "9223372036854775807", ""}), ":1048576");
  EXPECT_EQ(Run({"SETRANGE", "k", "1048575", "b"}), ":1048576");
}

TEST_F(StringTest, SetRangePadsWithZeros) {
  EXPECT_EQ(Run({"SETRANGE", "k", "0", ""}), ":0");
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
  EXPECT_EQ(Run({"SETRANGE", "k", "3", "ab"}), ":5");
  EXPECT_EQ(harness_.Call({"GET", "k"}).text, std::string("\0\0\0ab", 5));
  EXPECT_EQ(Run({"SETRANGE", "k", "1", "xyz"}), ":5");
  EXPECT_EQ(harness_.Call({"GET", "k"}).text, std::string("\0xyzb", 5));
  EXPECT_EQ(Run({"SETRANGE", "k", "-1", "x"}), "-ERR offset is out of range");
  EXPECT_EQ(Run({"SETRANGE", "k", "x", "x"}), kNotIntegerLine);
  Run({"SET", "n", "123"});
  EXPECT_EQ(Run({"SETRANGE", "n", "1", "9"}), ":3");
  EXPECT_EQ(Run({"GET", "n"}), "\"193\"");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "n"}).text, "raw");
}

TEST_F(StringTest, GetRangeClamps) {
  Run({"SET", "k", "hello"});
  const auto range = [&](const std::string& start, const std::string& end) {
    return harness_.Call({"GETRANGE", "k", start, end}).text;
  };
  EXPECT_EQ(range("0", "-1"), "hello");
  EXPECT_EQ(range("1", "3"), "ell");
  EXPECT_EQ(range("-3", "-2"), "ll");
  EXPECT_EQ(range("-100", "100"), "hello");
  EXPECT_EQ(range("-1", "-3"), "");
  EXPECT_EQ(range("-100", "-101"), "");
  EXPECT_EQ(range("-101", "-100"), "h");
  EXPECT_EQ(range("5", "9"), "");
  EXPECT_EQ(range("3", "1"), "");
  EXPECT_EQ(harness_.Call({"SUBSTR", "k", "1", "2"}).text, "el");
  EXPECT_EQ(Run({"GETRANGE", "absent", "0", "-1"}), "\"\"");
  EXPECT_EQ(Run({"GETRANGE", "k", "x", "1"}), kNotIntegerLine);
  Run({"SET", "k", "-12345"});
  EXPECT_EQ(range("0", "2"), "-12");
}

TEST_F(StringTest, GetRangeOfABigValue) {
  std::string big(100000, 'a');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>('a' + i % 23);
  Run({"SET", "k", big});
  EXPECT_EQ(harness_.Call({"GETRANGE", "k", "10", "50009"}).text, big.substr(10, 50000));
  EXPECT_EQ(harness_.Call({"GETRANGE", "k", "99998", "-1"}).text, big.substr(99998));
}

TEST_F(StringTest, CountersCount) {
  EXPECT_EQ(Run({"INCR", "n"}), ":1");
  EXPECT_EQ(Run({"INCRBY", "n", "41"}), ":42");
  EXPECT_EQ(Run({"DECR", "n"}), ":41");
  EXPECT_EQ(Run({"DECRBY", "n", "100"}), ":-59");
  Run({"EXPIRE", "n", "9"});
  EXPECT_EQ(Propagated({"incr", "n"}), Lines{"incr n"});
  EXPECT_EQ(Run({"TTL", "n"}), ":9");
  EXPECT_EQ(Events({"DECR", "n"}), Lines{"0 incrby n"});
  EXPECT_EQ(Run({"INCRBY", "n", "x"}), kNotIntegerLine);
  Run({"SET", "t", "12 "});
  EXPECT_EQ(Run({"INCR", "t"}), kNotIntegerLine);
  Run({"SET", "r", "1"});
  Run({"APPEND", "r", "2"});
  EXPECT_EQ(Run({"INCR", "r"}), ":13");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "r"}).text, "int");
}

TEST_F(StringTest, CountersStopAtTheEnds) {
  constexpr char kOverflowLine[] = "-ERR increment or decrement would overflow";
  Run({"SET", "n", "9223372036854775807"});
  EXPECT_EQ(Run({"INCR", "n"}), kOverflowLine);
  EXPECT_EQ(Run({"DECRBY", "n", "-1"}), kOverflowLine);
  EXPECT_EQ(Run({"DECRBY", "n", "-9223372036854775808"}), "-ERR decrement would overflow");
  Run({"SET", "n", "-9223372036854775808"});
  EXPECT_EQ(Run({"DECR", "n"}), kOverflowLine);
  EXPECT_EQ(Run({"GET", "n"}), "\"-9223372036854775808\"");
}

TEST_F(StringTest, IncrByFloat) {
  EXPECT_EQ(Run({"INCRBYFLOAT", "f", "1.5"}), "\"1.5\"");
  Run({"EXPIRE", "f", "9"});
  EXPECT_EQ(Propagated({"INCRBYFLOAT", "f", "1.5"}), Lines{"SET f 3 KEEPTTL"});
  EXPECT_EQ(Run({"TTL", "f"}), ":9");
  EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "f"}).text, "embstr");
  EXPECT_EQ(Run({"INCRBYFLOAT", "f", "x"}), "-ERR value is not a valid float");
  EXPECT_EQ(Run({"INCRBYFLOAT", "f", "inf"}), "-ERR increment would produce NaN or Infinity");
  EXPECT_EQ(Run({"INCRBYFLOAT", "f", "-3.0"}), "\"0\"");
}

TEST_F(StringTest, Lcs) {
  Run({"MSET", "a", "ohmytext", "b", "mynewtext"});
  EXPECT_EQ(Run({"LCS", "a", "b"}), "\"mytext\"");
  EXPECT_EQ(Run({"LCS", "a", "b", "LEN"}), ":6");
  EXPECT_EQ(Run({"LCS", "a", "b", "IDX"}),
            "[\"matches\", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], \"len\", 6]");
  EXPECT_EQ(Run({"LCS", "a", "b", "IDX", "MINMATCHLEN", "4", "WITHMATCHLEN"}),
            "[\"matches\", [[[4, 7], [5, 8], 4]], \"len\", 6]");
  EXPECT_EQ(Run({"LCS", "a", "absent"}), "\"\"");
  EXPECT_EQ(Run({"LCS", "a", "b", "LEN", "IDX"}),
            "-ERR If you want both the length and indexes, please just use IDX.");
  EXPECT_EQ(Run({"LCS", "a", "b", "MINMATCHLEN"}), kSyntaxLine);
  PutForeign("f");
  EXPECT_EQ(Run({"LCS", "a", "f", "FOO"}), "-ERR The specified keys must contain string values");
}

TEST_F(StringTest, WritesTouchWatchers) {
  Session* other = harness_.engine().CreateSession(nullptr, SessionKind::kNormal);
  for (const Lines& args : std::vector<Lines>{{"SET", "k", "1"},
                                              {"INCR", "k"},
                                              {"APPEND", "k", "1"},
                                              {"GETEX", "k", "EX", "9"},
                                              {"GETDEL", "k"}}) {
    other->transaction.dirty_cas = false;
    harness_.engine().watches.Watch(*other, 0, "k", false);
    Run({"GET", "k"});
    EXPECT_FALSE(other->transaction.dirty_cas);
    Run(args);
    EXPECT_TRUE(other->transaction.dirty_cas) << args[0];
    harness_.engine().watches.UnwatchAll(*other);
  }
}

}  // namespace
}  // namespace cairn

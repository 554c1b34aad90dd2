// Replies, effects and propagation of the key and database families. Expected texts were taken from
// redis-server 7.0.15.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily KeyDumpCommands();
CommandFamily DatabaseCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kSyntaxLine[] = "-ERR syntax error";
constexpr char kNotIntegerLine[] = "-ERR value is not an integer or out of range";

class KeyTest : public ::testing::Test {
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
  std::string In(int64_t ms) { return std::to_string(harness_.now_ms() + ms); }
  /// Runs a command with another database selected.
  std::string RunIn(uint32_t db, const Lines& args) {
    harness_.session().db = db;
    std::string reply = Run(args);
    harness_.session().db = 0;
    return reply;
  }
  /// Keys of a whole SCAN with `options`; fails when one comes twice.
  std::set<std::string> ScanAll(const Lines& options) {
    std::set<std::string> keys;
    std::string cursor = "0";
    do {
      Lines args = {"SCAN", cursor};
      args.insert(args.end(), options.begin(), options.end());
      const RespValue reply = harness_.Call(args);
      cursor = reply.elements[0].text;
      for (const RespValue& key : reply.elements[1].elements) {
        EXPECT_TRUE(keys.insert(key.text).second) << key.text << " came twice";
      }
    } while (cursor != "0");
    return keys;
  }

  CommandHarness harness_{StringCommands(),    StringEditCommands(), KeyCommands(),
                          KeyExpireCommands(), KeyScanCommands(),    KeyDumpCommands(),
                          DatabaseCommands()};
};

// --- removing, counting -----------------------------------------------------------------------

TEST_F(KeyTest, DelCountsWhatWasThere) {
  Run({"MSET", "a", "1", "b", "2"});
  EXPECT_EQ(Run({"EXISTS", "a", "a", "b", "c"}), ":3");
  EXPECT_EQ(Run({"TOUCH", "a", "c"}), ":1");
  EXPECT_EQ(Events({"DEL", "a", "c", "a"}), Lines{"0 del a"});
  EXPECT_EQ(Run({"DEL", "a"}), ":0");
  EXPECT_EQ(Propagated({"UNLINK", "x", "b"}), Lines{"UNLINK x b"});
  EXPECT_EQ(Propagated({"UNLINK", "x", "b"}), Lines{});
  EXPECT_EQ(Run({"DEL"}), "-ERR wrong number of arguments for 'del' command");
}

TEST_F(KeyTest, DelOfAnExpiredKeyIsAnExpiry) {
  Run({"SET", "k", "v", "PX", "10"});
  harness_.AdvanceMs(11);
  harness_.TakeEvents();
  EXPECT_EQ(Run({"DEL", "k"}), ":0");
  EXPECT_EQ(harness_.TakeEvents(), Lines{"0 expired k"});
}

TEST_F(KeyTest, TypeAndObject) {
  Run({"SET", "k", "1"});
  EXPECT_EQ(Run({"TYPE", "k"}), "+string");
  EXPECT_EQ(Run({"TYPE", "absent"}), "+none");
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "k"}), "\"int\"");
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "absent"}), "nil");
  EXPECT_EQ(Run({"OBJECT", "REFCOUNT", "k"}), ":2147483647");
  Run({"SET", "k", "10000"});
  EXPECT_EQ(Run({"OBJECT", "REFCOUNT", "k"}), ":1");
  EXPECT_EQ(Run({"OBJECT", "FREQ", "absent"}), "nil");
  EXPECT_EQ(
      Run({"OBJECT", "FREQ", "k"}),
      "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
      "that "
      "when switching between policies at runtime LRU and LFU data will take some time to adjust.");
  EXPECT_EQ(Run({"OBJECT", "FOO", "k"}), "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.");
  EXPECT_EQ(Run({"OBJECT", "FREQ"}), "-ERR wrong number of arguments for 'object|freq' command");
  EXPECT_EQ(harness_.Call({"OBJECT", "HELP"}).elements.size(), 11u);
}

TEST_F(KeyTest, ObjectIdleTimeFollowsTheClock) {
  Run({"SET", "k", "v"});
  harness_.AdvanceMs(10000);
  EXPECT_EQ(Run({"OBJECT", "IDLETIME", "k"}), ":10");
  Run({"EXISTS", "k"});
  EXPECT_EQ(Run({"OBJECT", "IDLETIME", "k"}), ":10");
  Run({"TOUCH", "k"});
  EXPECT_EQ(Run({"OBJECT", "IDLETIME", "k"}), ":0");
}

// --- time to live -----------------------------------------------------------------------------

TEST_F(KeyTest, ExpireAndItsQuestions) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Run({"TTL", "k"}), ":-1");
  EXPECT_EQ(Run({"TTL", "absent"}), ":-2");
  EXPECT_EQ(Run({"EXPIRE", "absent", "10"}), ":0");
  EXPECT_EQ(Run({"PEXPIRE", "k", "1499"}), ":1");
  EXPECT_EQ(Run({"PTTL", "k"}), ":1499");
  EXPECT_EQ(Run({"TTL", "k"}), ":1");
  EXPECT_EQ(Run({"PEXPIRE", "k", "1500"}), ":1");
  EXPECT_EQ(Run({"TTL", "k"}), ":2");
  EXPECT_EQ(Run({"PEXPIREAT", "k", "99999999999499"}), ":1");
  EXPECT_EQ(Run({"PEXPIRETIME", "k"}), ":99999999999499");
  EXPECT_EQ(Run({"EXPIRETIME", "k"}), ":99999999999");
  EXPECT_EQ(Run({"EXPIRETIME", "absent"}), ":-2");
  EXPECT_EQ(Run({"PERSIST", "k"}), ":1");
  EXPECT_EQ(Run({"PERSIST", "k"}), ":0");
  EXPECT_EQ(Run({"EXPIRETIME", "k"}), ":-1");
}

TEST_F(KeyTest, ExpireChecksItsArgumentsInRedisOrder) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Run({"EXPIRE", "k", "abc", "foo"}), "-ERR Unsupported option foo");
  EXPECT_EQ(Run({"EXPIRE", "k", "abc"}), kNotIntegerLine);
  EXPECT_EQ(Run({"EXPIRE", "k", "5", "NX", "XX"}),
            "-ERR NX and XX, GT or LT options at the same time are not compatible");
  EXPECT_EQ(Run({"EXPIRE", "k", "5", "GT", "LT"}),
            "-ERR GT and LT options at the same time are not compatible");
  EXPECT_EQ(Run({"EXPIRE", "k", "9223372036854775807"}),
            "-ERR invalid expire time in 'expire' command");
  EXPECT_EQ(Run({"EXPIRE", "k", "-9223372036854775807"}),
            "-ERR invalid expire time in 'expire' command");
  EXPECT_EQ(Run({"PEXPIRE", "absent", "9223372036854775807"}),
            "-ERR invalid expire time in 'pexpire' command");
  EXPECT_EQ(Run({"TTL", "k"}), ":-1");
}

TEST_F(KeyTest, ExpireConditions) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Run({"EXPIRE", "k", "100", "XX"}), ":0");
  EXPECT_EQ(Run({"EXPIRE", "k", "100", "GT"}), ":0");
  EXPECT_EQ(Run({"EXPIRE", "k", "100", "LT"}), ":1");
  EXPECT_EQ(Run({"EXPIRE", "k", "50", "NX"}), ":0");
  EXPECT_EQ(Run({"EXPIRE", "k", "50", "GT"}), ":0");
  EXPECT_EQ(Run({"EXPIRE", "k", "200", "XX", "GT"}), ":1");
  EXPECT_EQ(Run({"EXPIRE", "k", "200", "LT"}), ":0");
  EXPECT_EQ(Run({"EXPIRE", "k", "20", "LT"}), ":1");
  EXPECT_EQ(Run({"TTL", "k"}), ":20");
}

TEST_F(KeyTest, ExpirePropagatesMoments) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"EXPIRE", "k", "10", "nx"}), Lines{"PEXPIREAT k " + In(10000) + " nx"});
  EXPECT_EQ(Propagated({"EXPIRE", "k", "10", "NX"}), Lines{});
  EXPECT_EQ(Propagated({"EXPIREAT", "k", "99999999999"}), Lines{"PEXPIREAT k 99999999999000"});
  EXPECT_EQ(Propagated({"pexpireat", "k", "99999999999001"}), Lines{"pexpireat k 99999999999001"});
  EXPECT_EQ(Propagated({"PERSIST", "k"}), Lines{"PERSIST k"});
  EXPECT_EQ(Events({"EXPIRE", "k", "5"}), Lines{"0 expire k"});
}

TEST_F(KeyTest, ExpireInThePastRemoves) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"EXPIRE", "k", "-1"}), Lines{"DEL k"});
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
  harness_.SetSetting("lazyfree-lazy-expire", "yes");
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated({"PEXPIREAT", "k", "1"}), Lines{"UNLINK k"});
}

// --- renaming, copying, moving ----------------------------------------------------------------

TEST_F(KeyTest, RenameTakesValueAndTimeToLive) {
  Run({"SET", "a", "v", "EX", "100"});
  Run({"SET", "b", "w"});
  EXPECT_EQ(Events({"RENAME", "a", "b"}), (Lines{"0 new b", "0 rename_from a", "0 rename_to b"}));
  EXPECT_EQ(Run({"GET", "b"}), "\"v\"");
  EXPECT_EQ(Run({"TTL", "b"}), ":100");
  EXPECT_EQ(Run({"EXISTS", "a"}), ":0");
  EXPECT_EQ(Run({"RENAME", "a", "a"}), "-ERR no such key");
  EXPECT_EQ(Run({"RENAME", "b", "b"}), "+OK");
  EXPECT_EQ(Run({"RENAMENX", "b", "b"}), ":0");
  Run({"SET", "c", "x"});
  EXPECT_EQ(Propagated({"RENAMENX", "b", "c"}), Lines{});
  EXPECT_EQ(Propagated({"RENAMENX", "b", "d"}), Lines{"RENAMENX b d"});
  EXPECT_EQ(Run({"GET", "d"}), "\"v\"");
}

TEST_F(KeyTest, RenameOfEveryForm) {
  for (const std::string& value :
       Lines{"7", "short", std::string(4000, 'x'), std::string(100000, 'y')}) {
    Run({"SET", "a", value});
    EXPECT_EQ(Run({"RENAME", "a", "b"}), "+OK");
    EXPECT_EQ(harness_.Call({"GET", "b"}).text, value);
  }
}

TEST_F(KeyTest, CopyLeavesTheSource) {
  Run({"SET", "a", "v", "EX", "100"});
  EXPECT_EQ(Events({"COPY", "a", "b"}), (Lines{"0 new b", "0 copy_to b"}));
  EXPECT_EQ(Run({"TTL", "b"}), ":100");
  EXPECT_EQ(Run({"COPY", "a", "b"}), ":0");
  Run({"SET", "a", "w"});
  EXPECT_EQ(Run({"GET", "b"}), "\"v\"");
  EXPECT_EQ(Run({"COPY", "a", "b", "REPLACE"}), ":1");
  EXPECT_EQ(Run({"GET", "b"}), "\"w\"");
  EXPECT_EQ(Run({"TTL", "b"}), ":-1");
  EXPECT_EQ(Run({"COPY", "absent", "b"}), ":0");
  EXPECT_EQ(Run({"COPY", "a", "a"}), "-ERR source and destination objects are the same");
  EXPECT_EQ(Run({"COPY", "a", "a", "DB", "2"}), ":1");
  EXPECT_EQ(RunIn(2, {"GET", "a"}), "\"w\"");
  EXPECT_EQ(Run({"COPY", "a", "b", "DB", "99"}), "-ERR DB index is out of range");
  EXPECT_EQ(Run({"COPY", "a", "b", "DB", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"COPY", "a", "b", "DB", "99999999999"}),
            "-ERR value is out of range, value must between -2147483648 and 2147483647");
  EXPECT_EQ(Run({"COPY", "a", "b", "DB"}), kSyntaxLine);
}

TEST_F(KeyTest, CopyIsACopy) {
  Run({"SET", "a", std::string(100000, 'x')});
  Run({"COPY", "a", "b"});
  Run({"SETRANGE", "b", "0", "changed"});
  EXPECT_EQ(harness_.Call({"GET", "a"}).text, std::string(100000, 'x'));
}

TEST_F(KeyTest, MoveGoesToAnotherDatabase) {
  Run({"SET", "a", "v", "EX", "100"});
  EXPECT_EQ(Events({"MOVE", "a", "3"}), (Lines{"3 new a", "0 move_from a", "3 move_to a"}));
  EXPECT_EQ(Run({"EXISTS", "a"}), ":0");
  EXPECT_EQ(RunIn(3, {"GET", "a"}), "\"v\"");
  EXPECT_EQ(RunIn(3, {"TTL", "a"}), ":100");
  Run({"SET", "a", "w"});
  EXPECT_EQ(Run({"MOVE", "a", "3"}), ":0");
  EXPECT_EQ(Run({"MOVE", "a", "0"}), "-ERR source and destination objects are the same");
  EXPECT_EQ(Run({"MOVE", "a", "16"}), "-ERR DB index is out of range");
  EXPECT_EQ(Run({"MOVE", "a", "x"}), kNotIntegerLine);
}

// --- walking ----------------------------------------------------------------------------------

TEST_F(KeyTest, KeysMatches) {
  Run({"MSET", "one", "1", "two", "2", "three", "3"});
  Run({"SET", "tired", "4", "PX", "5"});
  harness_.AdvanceMs(6);
  const RespValue found = harness_.Call({"KEYS", "t*"});
  std::set<std::string> names;
  for (const RespValue& key : found.elements) names.insert(key.text);
  EXPECT_EQ(names, (std::set<std::string>{"three", "two"}));
  EXPECT_EQ(harness_.Call({"KEYS", "*"}).elements.size(), 3u);
  EXPECT_EQ(Run({"DBSIZE"}), ":4");
}

TEST_F(KeyTest, ScanVisitsAllKeysOnce) {
  std::set<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    const std::string key = "key:" + std::to_string(i);
    Run({"SET", key, "v"});
    expected.insert(key);
  }
  EXPECT_EQ(ScanAll({}), expected);
  EXPECT_EQ(ScanAll({"COUNT", "1"}), expected);
  EXPECT_EQ(ScanAll({"COUNT", "100000"}), expected);
  EXPECT_EQ(ScanAll({"MATCH", "key:7?", "COUNT", "500"}).size(), 10u);
  EXPECT_EQ(ScanAll({"TYPE", "STRING"}), expected);
  EXPECT_EQ(ScanAll({"TYPE", "hash"}).size(), 0u);
}

TEST_F(KeyTest, ScanRemovesWhatExpired) {
  Run({"SET", "a", "v", "PX", "5"});
  Run({"SET", "b", "v"});
  harness_.AdvanceMs(6);
  EXPECT_EQ(ScanAll({}), std::set<std::string>{"b"});
  EXPECT_EQ(Run({"DBSIZE"}), ":1");
}

TEST_F(KeyTest, ScanRemovesWhatExpiredOfAnyTypeIfTheNameMatches) {
  Run({"SET", "a", "v", "PX", "5"});
  harness_.AdvanceMs(6);
  EXPECT_EQ(ScanAll({"MATCH", "x*", "TYPE", "list"}).size(), 0u);
  EXPECT_EQ(Run({"DBSIZE"}), ":1");
  EXPECT_EQ(ScanAll({"TYPE", "list"}).size(), 0u);
  EXPECT_EQ(Run({"DBSIZE"}), ":0");
}

TEST_F(KeyTest, ScanChecksItsArguments) {
  EXPECT_EQ(Run({"SCAN", "abc"}), "-ERR invalid cursor");
  EXPECT_EQ(Run({"SCAN", " 1"}), "-ERR invalid cursor");
  EXPECT_EQ(Run({"SCAN", "99999999999999999999999"}), "-ERR invalid cursor");
  EXPECT_EQ(Run({"SCAN", ""}), "[\"0\", []]");
  EXPECT_EQ(Run({"SCAN", "0", "COUNT", "0"}), kSyntaxLine);
  EXPECT_EQ(Run({"SCAN", "0", "COUNT", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"SCAN", "0", "MATCH"}), kSyntaxLine);
  EXPECT_EQ(Run({"SCAN", "0", "FOO", "1"}), kSyntaxLine);
}

TEST_F(KeyTest, RandomKeyPassesOverWhatExpired) {
  EXPECT_EQ(Run({"RANDOMKEY"}), "nil");
  for (int i = 0; i < 50; ++i) Run({"SET", "tired" + std::to_string(i), "v", "PX", "5"});
  Run({"SET", "awake", "v"});
  harness_.AdvanceMs(6);
  EXPECT_EQ(Run({"RANDOMKEY"}), "\"awake\"");
}

// --- DUMP and RESTORE -------------------------------------------------------------------------

TEST_F(KeyTest, DumpIsRedisPayload) {
  Run({"SET", "k", "hello"});
  // Version 10 and checksum as redis-server 7.0.15 writes them for this value.
  EXPECT_EQ(harness_.Call({"DUMP", "k"}).text, std::string("\x00\x05hello\x0a\x00"
                                                           "cr\xdf"
                                                           "ve4 \n",
                                                           17));
  EXPECT_EQ(Run({"DUMP", "absent"}), "nil");
}

TEST_F(KeyTest, RestoreBringsBackWhatDumpGave) {
  for (const std::string& value :
       Lines{"7", "-123456789012", "hello", std::string(300, 'z'), std::string(90000, 'y')}) {
    Run({"SET", "k", value});
    const std::string encoding = harness_.Call({"OBJECT", "ENCODING", "k"}).text;
    const std::string payload = harness_.Call({"DUMP", "k"}).text;
    EXPECT_EQ(Run({"RESTORE", "copy", "0", payload, "REPLACE"}), "+OK");
    EXPECT_EQ(harness_.Call({"GET", "copy"}).text, value);
    EXPECT_EQ(harness_.Call({"OBJECT", "ENCODING", "copy"}).text, encoding);
  }
}

TEST_F(KeyTest, RestoreRefuses) {
  Run({"SET", "k", "v"});
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  EXPECT_EQ(Run({"RESTORE", "k", "abc", "x"}), "-BUSYKEY Target key name already exists.");
  EXPECT_EQ(Run({"RESTORE", "n", "abc", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"RESTORE", "n", "-1", "x"}), "-ERR Invalid TTL value, must be >= 0");
  EXPECT_EQ(Run({"RESTORE", "n", "0", "x"}), "-ERR DUMP payload version or checksum are wrong");
  EXPECT_EQ(Run({"RESTORE", "n", "0", payload, "IDLETIME", "-1"}),
            "-ERR Invalid IDLETIME value, must be >= 0");
  EXPECT_EQ(Run({"RESTORE", "n", "0", payload, "FREQ", "256"}),
            "-ERR Invalid FREQ value, must be >= 0 and <= 255");
  EXPECT_EQ(Run({"RESTORE", "n", "0", payload, "IDLETIME", "1", "FREQ", "1"}), kSyntaxLine);
  for (size_t i = 0; i < payload.size(); ++i) {
    std::string damaged = payload;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_EQ(Run({"RESTORE", "n", "0", damaged}),
              "-ERR DUMP payload version or checksum are wrong")
        << i;
  }
  EXPECT_EQ(Run({"EXISTS", "n"}), ":0");
}

TEST_F(KeyTest, RestoreRefusesTypesItCannotHold) {
  harness_.engine().debug.skip_checksum_validation = true;
  // A hash whose fields have times to live (type 25, Redis 7.4), and a type that nobody knows.
  for (const char type : {'\x19', '\x63'}) {
    const std::string payload = type + std::string(
                                           "\x01\x01"
                                           "a\x0a\x00"
                                           "\0\0\0\0\0\0\0\0",
                                           13);
    EXPECT_EQ(Run({"RESTORE", "n", "0", payload}), "-ERR Bad data format");
  }
}

TEST_F(KeyTest, RestorePropagatesTheMoment) {
  Run({"SET", "k", "v"});
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  Lines lines = Propagated({"RESTORE", "a", "5000", payload});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0], "RESTORE a " + In(5000) + " " + payload + " ABSTTL");
  EXPECT_EQ(Run({"PTTL", "a"}), ":5000");
  EXPECT_EQ(Propagated({"RESTORE", "b", "99999999999999", payload, "ABSTTL"}),
            Lines{"RESTORE b 99999999999999 " + payload + " ABSTTL"});
  EXPECT_EQ(Propagated({"RESTORE", "c", "1", payload, "ABSTTL"}), Lines{});
  EXPECT_EQ(Propagated({"RESTORE", "a", "1", payload, "ABSTTL", "REPLACE"}), Lines{"DEL a"});
  EXPECT_EQ(Run({"EXISTS", "a", "c"}), ":0");
}

TEST_F(KeyTest, RestoreSetsTheIdleTime) {
  Run({"SET", "k", "v"});
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  EXPECT_EQ(Run({"RESTORE", "a", "0", payload, "IDLETIME", "1000"}), "+OK");
  EXPECT_EQ(Run({"OBJECT", "IDLETIME", "a"}), ":1000");
}

// --- whole databases --------------------------------------------------------------------------

TEST_F(KeyTest, FlushEmptiesAndAlwaysPropagates) {
  Run({"SET", "a", "1"});
  RunIn(1, {"SET", "b", "1"});
  EXPECT_EQ(Run({"FLUSHDB", "foo"}), kSyntaxLine);
  EXPECT_EQ(Run({"FLUSHDB", "SYNC", "ASYNC"}), kSyntaxLine);
  harness_.TakePropagated();
  EXPECT_EQ(Propagated({"FLUSHDB"}), Lines{"FLUSHDB"});
  EXPECT_EQ(Propagated({"FLUSHDB", "ASYNC"}), (Lines{"FLUSHDB ASYNC"}));
  EXPECT_EQ(Run({"DBSIZE"}), ":0");
  EXPECT_EQ(RunIn(1, {"DBSIZE"}), ":1");
  EXPECT_EQ(Propagated({"FLUSHALL", "SYNC"}), (Lines{"FLUSHALL SYNC"}));
  EXPECT_EQ(RunIn(1, {"DBSIZE"}), ":0");
}

TEST_F(KeyTest, FlushTouchesWatchersOfKeysThatExist) {
  Run({"SET", "a", "1"});
  Session* watcher = harness_.engine().CreateSession(nullptr, SessionKind::kNormal);
  harness_.engine().watches.Watch(*watcher, 0, "absent", false);
  Run({"FLUSHDB"});
  EXPECT_FALSE(watcher->transaction.dirty_cas);
  Run({"SET", "a", "1"});
  harness_.engine().watches.Watch(*watcher, 0, "a", false);
  Run({"FLUSHALL"});
  EXPECT_TRUE(watcher->transaction.dirty_cas);
}

TEST_F(KeyTest, SwapDb) {
  Run({"SET", "a", "1"});
  EXPECT_EQ(Propagated({"SWAPDB", "0", "1"}), (Lines{"SWAPDB 0 1"}));
  EXPECT_EQ(Run({"DBSIZE"}), ":0");
  EXPECT_EQ(RunIn(1, {"GET", "a"}), "\"1\"");
  EXPECT_EQ(Run({"SWAPDB", "0", "0"}), "+OK");
  EXPECT_EQ(Run({"SWAPDB", "x", "1"}), "-ERR invalid first DB index");
  EXPECT_EQ(Run({"SWAPDB", "0", "x"}), "-ERR invalid second DB index");
  EXPECT_EQ(Run({"SWAPDB", "0", "99"}), "-ERR DB index is out of range");
}

}  // namespace
}  // namespace cairn

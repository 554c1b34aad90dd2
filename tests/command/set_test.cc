// Replies, effects, propagation and encodings of sets. Expected texts were taken from redis-server
// 7.0.15.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "persistence/rdb_format.h"
#include "server/base/checksum.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily SetCommands();
CommandFamily SetOperationCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily DebugCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kWrongTypeLine[] =
    "-WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr char kSyntaxLine[] = "-ERR syntax error";

class SetTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
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
  std::string Encoding(const std::string& key) { return Run({"OBJECT", "ENCODING", key}); }
  /// The elements of a reply, sorted.
  Lines Sorted(const std::vector<std::string>& args) {
    Lines lines;
    for (const RespValue& element : harness_.Call(args).elements) lines.push_back(element.text);
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  /// "s" holds 1 2 3 in the three ways a set is held: intset, small converted, table.
  void InEachEncoding(const std::function<void()>& test) {
    for (const std::string form : {"intset", "converted", "table"}) {
      SCOPED_TRACE(form);
      Run({"DEL", "s"});
      if (form != "intset") Run({"SADD", "s", "text"});
      if (form == "table") {
        for (int i = 0; i < 300; ++i) Run({"SADD", "s", "t" + std::to_string(i)});
        for (int i = 0; i < 300; ++i) Run({"SREM", "s", "t" + std::to_string(i)});
      }
      Run({"SADD", "s", "1", "2", "3"});
      if (form != "intset") Run({"SREM", "s", "text"});
      EXPECT_EQ(Encoding("s"), form == "intset" ? "\"intset\"" : "\"hashtable\"");
      test();
    }
  }

  CommandHarness harness_{SetCommands(),   SetOperationCommands(), StringCommands(),
                          KeyCommands(),   KeyDumpCommands(),      KeyExpireCommands(),
                          DebugCommands(), SessionCommands()};
};

TEST_F(SetTest, AddRemoveAndAsk) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"SADD", "s", "3", "4", "4"}), ":1");
    EXPECT_EQ(Run({"SCARD", "s"}), ":4");
    EXPECT_EQ(Run({"SISMEMBER", "s", "4"}), ":1");
    EXPECT_EQ(Run({"SISMEMBER", "s", "x"}), ":0");
    EXPECT_EQ(Run({"SMISMEMBER", "s", "1", "x", "4"}), "[:1, :0, :1]");
    EXPECT_EQ(Run({"SREM", "s", "4", "x", "4"}), ":1");
    EXPECT_EQ(Sorted({"SMEMBERS", "s"}), (Lines{"1", "2", "3"}));
    EXPECT_EQ(Run({"TYPE", "s"}), "+set");
  });
}

TEST_F(SetTest, AbsentKeys) {
  EXPECT_EQ(Run({"SCARD", "no"}), ":0");
  EXPECT_EQ(Run({"SMEMBERS", "no"}), "[]");
  EXPECT_EQ(Run({"SISMEMBER", "no", "x"}), ":0");
  EXPECT_EQ(Run({"SMISMEMBER", "no", "x", "y"}), "[:0, :0]");
  EXPECT_EQ(Run({"SREM", "no", "x"}), ":0");
  EXPECT_EQ(Run({"SPOP", "no"}), "nil");
  EXPECT_EQ(Run({"SPOP", "no", "2"}), "[]");
  EXPECT_EQ(Run({"SRANDMEMBER", "no"}), "nil");
  EXPECT_EQ(Run({"SRANDMEMBER", "no", "-2"}), "[]");
  EXPECT_EQ(Run({"SMOVE", "no", "t", "x"}), ":0");
  EXPECT_EQ(Run({"SSCAN", "no", "0"}), "[\"0\", []]");
  EXPECT_EQ(Run({"SINTER", "no", "no"}), "[]");
  EXPECT_EQ(Run({"SUNION", "no"}), "[]");
  EXPECT_EQ(Run({"SDIFF", "no", "no"}), "[]");
  EXPECT_EQ(Run({"SINTERCARD", "1", "no"}), ":0");
}

TEST_F(SetTest, WrongType) {
  Run({"SET", "str", "x"});
  Run({"SADD", "s", "a"});
  const std::vector<std::vector<std::string>> calls = {{"SADD", "str", "x"},
                                                       {"SREM", "str", "x"},
                                                       {"SMEMBERS", "str"},
                                                       {"SISMEMBER", "str", "x"},
                                                       {"SMISMEMBER", "str", "x"},
                                                       {"SCARD", "str"},
                                                       {"SPOP", "str"},
                                                       {"SPOP", "str", "0"},
                                                       {"SRANDMEMBER", "str"},
                                                       {"SMOVE", "str", "s", "a"},
                                                       {"SMOVE", "s", "str", "a"},
                                                       {"SINTER", "no", "str"},
                                                       {"SUNION", "s", "str"},
                                                       {"SDIFF", "s", "str"},
                                                       {"SINTERCARD", "2", "s", "str"},
                                                       {"SINTERSTORE", "d", "str"},
                                                       {"SSCAN", "str", "0", "COUNT", "x"}};
  for (const auto& call : calls) EXPECT_EQ(Run(call), kWrongTypeLine) << call[0];
  EXPECT_EQ(Run({"SMOVE", "no", "str", "a"}), ":0");
}

TEST_F(SetTest, EncodingFollowsTheSettings) {
  harness_.SetSetting("set-max-intset-entries", "3");
  Run({"SADD", "s", "1", "2", "3"});
  EXPECT_EQ(Encoding("s"), "\"intset\"");
  EXPECT_EQ(Run({"SMEMBERS", "s"}), "[\"1\", \"2\", \"3\"]");
  Run({"SADD", "s", "4"});
  EXPECT_EQ(Encoding("s"), "\"hashtable\"");
  Run({"SREM", "s", "4"});
  EXPECT_EQ(Encoding("s"), "\"hashtable\"");
  Run({"SADD", "t", "01"});
  EXPECT_EQ(Encoding("t"), "\"hashtable\"");
  EXPECT_EQ(Run({"SADD", "t", "1"}), ":1");
  EXPECT_EQ(Sorted({"SMEMBERS", "t"}), (Lines{"01", "1"}));
}

TEST_F(SetTest, EventsAndPropagation) {
  EXPECT_EQ(Events({"SADD", "s", "a", "b"}), (Lines{"0 new s", "0 sadd s"}));
  EXPECT_TRUE(Events({"SADD", "s", "a"}).empty());
  EXPECT_EQ(Propagated({"SADD", "s", "c", "a"}), (Lines{"SADD s c a"}));
  EXPECT_TRUE(Propagated({"SADD", "s", "c"}).empty());
  EXPECT_EQ(Events({"SREM", "s", "a"}), (Lines{"0 srem s"}));
  EXPECT_EQ(Events({"SREM", "s", "b", "c"}), (Lines{"0 srem s", "0 del s"}));
}

TEST_F(SetTest, MoveBetweenSets) {
  InEachEncoding([this] {
    Run({"DEL", "t"});
    EXPECT_EQ(Run({"SMOVE", "s", "t", "x"}), ":0");
    EXPECT_EQ(Run({"SMOVE", "s", "s", "1"}), ":1");
    EXPECT_EQ(Run({"SMOVE", "s", "s", "x"}), ":0");
    EXPECT_EQ(Events({"SMOVE", "s", "t", "1"}), (Lines{"0 srem s", "0 new t", "0 sadd t"}));
    Run({"SADD", "t", "2"});
    EXPECT_EQ(Events({"SMOVE", "s", "t", "2"}), (Lines{"0 srem s"}));
    EXPECT_EQ(Events({"SMOVE", "s", "t", "3"}), (Lines{"0 srem s", "0 del s", "0 sadd t"}));
    EXPECT_EQ(Sorted({"SMEMBERS", "t"}), (Lines{"1", "2", "3"}));
    EXPECT_EQ(Run({"EXISTS", "s"}), ":0");
  });
}

TEST_F(SetTest, PopOne) {
  InEachEncoding([this] {
    std::set<std::string> popped;
    for (int i = 0; i < 2; ++i) popped.insert(harness_.Call({"SPOP", "s"}).text);
    const Lines left = Sorted({"SMEMBERS", "s"});
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(Propagated({"SPOP", "s"}), (Lines{"SREM s " + left[0]}));
    EXPECT_EQ(Run({"EXISTS", "s"}), ":0");
    popped.insert(left[0]);
    EXPECT_EQ(popped, (std::set<std::string>{"1", "2", "3"}));
    Run({"SADD", "s", "1"});
    EXPECT_EQ(Events({"SPOP", "s"}), (Lines{"0 spop s", "0 del s"}));
  });
}

TEST_F(SetTest, PopMany) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"SPOP", "s", "0"}), "[]");
    harness_.TakePropagated();
    const Lines popped = Sorted({"SPOP", "s", "2"});
    ASSERT_EQ(popped.size(), 2u);
    Lines sent = harness_.TakePropagated();
    std::sort(sent.begin(), sent.end());
    EXPECT_NE(std::find(sent.begin(), sent.end(), "SREM s " + popped[0]), sent.end());
    EXPECT_NE(std::find(sent.begin(), sent.end(), "SREM s " + popped[1]), sent.end());
    EXPECT_EQ(Run({"SCARD", "s"}), ":1");
    EXPECT_EQ(Propagated({"SPOP", "s", "5"}), (Lines{"DEL s"}));
    EXPECT_EQ(Run({"EXISTS", "s"}), ":0");
    Run({"SADD", "s", "1"});
    EXPECT_EQ(Events({"SPOP", "s", "1"}), (Lines{"0 spop s", "0 del s"}));
  });
  harness_.SetSetting("lazyfree-lazy-server-del", "yes");
  Run({"SADD", "s", "1"});
  EXPECT_EQ(Propagated({"SPOP", "s", "5"}), (Lines{"DEL s"}));
  EXPECT_EQ(Run({"SPOP", "s", "-1"}), "-ERR value is out of range, must be positive");
  EXPECT_EQ(Run({"SPOP", "s", "x"}), "-ERR value is out of range, must be positive");
  EXPECT_EQ(Run({"SPOP", "s", "1", "2"}), kSyntaxLine);
}

TEST_F(SetTest, PopOfABigSetTakesEachMemberOnce) {
  for (int i = 0; i < 3000; ++i) Run({"SADD", "s", "m" + std::to_string(i)});
  std::set<std::string> popped;
  for (const char* count : {"10", "700", "2000", "500"}) {
    for (const RespValue& member : harness_.Call({"SPOP", "s", count}).elements)
      EXPECT_TRUE(popped.insert(member.text).second);
  }
  EXPECT_EQ(popped.size(), 3000u);
  EXPECT_EQ(Run({"EXISTS", "s"}), ":0");
}

TEST_F(SetTest, RandomMembers) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"SRANDMEMBER", "s", "0"}), "[]");
    EXPECT_EQ(Sorted({"SRANDMEMBER", "s", "10"}), (Lines{"1", "2", "3"}));
    EXPECT_EQ(harness_.Call({"SRANDMEMBER", "s", "-10"}).elements.size(), 10u);
    std::set<std::string> drawn;
    for (int i = 0; i < 200; ++i) drawn.insert(harness_.Call({"SRANDMEMBER", "s"}).text);
    EXPECT_EQ(drawn.size(), 3u);
  });
  EXPECT_EQ(Run({"SRANDMEMBER", "s", "x"}), "-ERR value is not an integer or out of range");
  EXPECT_EQ(Run({"SRANDMEMBER", "s", "1", "2"}), kSyntaxLine);
}

TEST_F(SetTest, Operations) {
  Run({"SADD", "a", "1", "2", "3", "4"});
  Run({"SADD", "b", "2", "4", "x"});
  Run({"SADD", "c", "4", "x", "y"});
  EXPECT_EQ(Sorted({"SINTER", "a", "b"}), (Lines{"2", "4"}));
  EXPECT_EQ(Sorted({"SINTER", "a", "b", "c"}), (Lines{"4"}));
  EXPECT_EQ(Run({"SINTER", "a", "no"}), "[]");
  EXPECT_EQ(Sorted({"SUNION", "a", "no", "c"}), (Lines{"1", "2", "3", "4", "x", "y"}));
  EXPECT_EQ(Sorted({"SDIFF", "a", "b", "no"}), (Lines{"1", "3"}));
  EXPECT_EQ(Run({"SDIFF", "a", "b", "a"}), "[]");
  EXPECT_EQ(Run({"SINTERCARD", "2", "a", "b"}), ":2");
  EXPECT_EQ(Run({"SINTERCARD", "2", "a", "b", "LIMIT", "1"}), ":1");
  EXPECT_EQ(Run({"SINTERCARD", "2", "a", "b", "LIMIT", "0"}), ":2");
  Run({"HELLO", "3"});
  EXPECT_EQ(Run({"SINTER", "a", "b", "c"}), "~[\"4\"]");
  EXPECT_EQ(Run({"SMEMBERS", "no"}), "~[]");
  Run({"HELLO", "2"});
}

TEST_F(SetTest, DifferenceTakesTheCheaperWay) {
  for (int i = 0; i < 400; ++i) Run({"SADD", "big", "m" + std::to_string(i)});
  std::vector<std::string> call = {"SDIFF", "big"};
  for (int i = 0; i < 20; ++i) {
    Run({"SADD", "small" + std::to_string(i), "m" + std::to_string(i)});
    call.push_back("small" + std::to_string(i));
  }
  EXPECT_EQ(harness_.Call(call).elements.size(), 380u);
}

TEST_F(SetTest, InterCardChecksItsArguments) {
  EXPECT_EQ(Run({"SINTERCARD", "0", "a"}), "-ERR numkeys should be greater than 0");
  EXPECT_EQ(Run({"SINTERCARD", "x", "a"}), "-ERR numkeys should be greater than 0");
  EXPECT_EQ(Run({"SINTERCARD", "2", "a"}),
            "-ERR Number of keys can't be greater than number of args");
  EXPECT_EQ(Run({"SINTERCARD", "1", "a", "LIMIT"}), kSyntaxLine);
  EXPECT_EQ(Run({"SINTERCARD", "1", "a", "FOO", "1"}), kSyntaxLine);
  EXPECT_EQ(Run({"SINTERCARD", "1", "a", "LIMIT", "-1"}), "-ERR LIMIT can't be negative");
}

TEST_F(SetTest, StoredOperations) {
  Run({"SADD", "a", "1", "2", "3"});
  Run({"SADD", "b", "2", "3", "4"});
  Run({"SET", "d", "a string with a TTL", "EX", "100"});
  EXPECT_EQ(Run({"SINTERSTORE", "d", "a", "b"}), ":2");
  EXPECT_EQ(Run({"TTL", "d"}), ":-1");
  EXPECT_EQ(Encoding("d"), "\"intset\"");
  EXPECT_EQ(Events({"SUNIONSTORE", "u", "a", "b"}), (Lines{"0 new u", "0 sunionstore u"}));
  EXPECT_EQ(Run({"SMEMBERS", "u"}), "[\"1\", \"2\", \"3\", \"4\"]");
  EXPECT_EQ(Events({"SDIFFSTORE", "a", "a", "b"}), (Lines{"0 sdiffstore a"}));
  EXPECT_EQ(Run({"SMEMBERS", "a"}), "[\"1\"]");
  EXPECT_EQ(Events({"SINTERSTORE", "u", "a", "no"}), (Lines{"0 keymiss no", "0 del u"}));
  EXPECT_EQ(Run({"EXISTS", "u"}), ":0");
  EXPECT_TRUE(Propagated({"SINTERSTORE", "u", "a", "no"}).empty());
  EXPECT_EQ(Propagated({"SUNIONSTORE", "u", "a"}), (Lines{"SUNIONSTORE u a"}));
}

TEST_F(SetTest, ScanSeesEachMemberOnce) {
  Run({"SADD", "s", "3", "1", "2"});
  EXPECT_EQ(Run({"SSCAN", "s", "0"}), "[\"0\", [\"1\", \"2\", \"3\"]]");
  EXPECT_EQ(Run({"SSCAN", "s", "0", "MATCH", "[12]"}), "[\"0\", [\"1\", \"2\"]]");
  for (int i = 0; i < 2000; ++i) Run({"SADD", "s", "m" + std::to_string(i)});
  std::multiset<std::string> seen;
  std::string cursor = "0";
  do {
    const RespValue reply = harness_.Call({"SSCAN", "s", cursor});
    cursor = reply.elements[0].text;
    for (const RespValue& member : reply.elements[1].elements) seen.insert(member.text);
  } while (cursor != "0");
  EXPECT_EQ(seen.size(), 2003u);
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 2003u);
}

TEST_F(SetTest, CopyRenameAndDump) {
  InEachEncoding([this] {
    Run({"DEL", "c", "r", "d"});
    EXPECT_EQ(Run({"COPY", "s", "c"}), ":1");
    Run({"SADD", "c", "9"});
    EXPECT_EQ(Run({"SCARD", "s"}), ":3");
    const std::string digest = Run({"DEBUG", "DIGEST-VALUE", "s"});
    const std::string payload = harness_.Call({"DUMP", "s"}).text;
    EXPECT_EQ(Run({"RESTORE", "d", "0", payload}), "+OK");
    EXPECT_EQ(Run({"DEBUG", "DIGEST-VALUE", "d"}), digest);
    EXPECT_EQ(Run({"RENAME", "s", "r"}), "+OK");
    EXPECT_EQ(Sorted({"SMEMBERS", "r"}), (Lines{"1", "2", "3"}));
  });
}

/// A DUMP payload of an intset, as anybody could forge it.
std::string IntsetPayload(std::string_view hex) {
  std::string blob;
  EXPECT_TRUE(HexDecode(hex, &blob));
  std::string payload = {static_cast<char>(rdb::kSetIntset), static_cast<char>(blob.size())};
  payload += blob;
  payload += {static_cast<char>(rdb::kWrittenVersion), '\0'};
  const uint64_t checksum = Crc64(0, payload);
  payload.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  return payload;
}

TEST_F(SetTest, ForgedPayloadsAreRefused) {
  for (const char* hex :
       {"", "02000000", "0200000000000000", "03000000010000000100", "02000000ffffff7f0100",
        "020000000200000001000100", "020000000200000005000100", "0200000002000000010005000600"}) {
    EXPECT_EQ(Run({"RESTORE", "f", "0", IntsetPayload(hex)}), "-ERR Bad data format") << hex;
  }
  EXPECT_EQ(Run({"RESTORE", "f", "0", IntsetPayload("020000000200000001000500")}), "+OK");
  EXPECT_EQ(Run({"SMEMBERS", "f"}), "[\"1\", \"5\"]");
}

}  // namespace
}  // namespace cairn

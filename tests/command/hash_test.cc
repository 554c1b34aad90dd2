// Replies, effects, propagation and encodings of hashes. Expected texts were taken from
// redis-server 7.0.15.

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "persistence/rdb_format.h"
#include "server/base/checksum.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily MemoryCommands();
CommandFamily DebugCommands();
CommandFamily SessionCommands();

namespace {

using Lines = std::vector<std::string>;

constexpr char kWrongTypeLine[] =
    "-WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr char kSyntaxLine[] = "-ERR syntax error";
constexpr char kNotIntegerLine[] = "-ERR value is not an integer or out of range";

class HashTest : public ::testing::Test {
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
  /// Gives key "h" `fields` fields f0=v0, f1=v1 ..
  void Fill(int fields) {
    for (int i = 0; i < fields; ++i)
      Run({"HSET", "h", "f" + std::to_string(i), "v" + std::to_string(i)});
  }
  /// The three ways a hash is held: listpack, a small converted one, a table.
  void InEachEncoding(const std::function<void()>& test) {
    for (const char* form : {"listpack", "converted", "table"}) {
      SCOPED_TRACE(form);
      Run({"DEL", "h"});
      const bool packed = std::string(form) == "listpack";
      if (!packed) harness_.SetSetting("hash-max-listpack-entries", "0");
      Run({"HSET", "h", "a", "1", "b", "two"});
      if (std::string(form) == "table") {
        for (int i = 0; i < 300; ++i) Run({"HSET", "h", "t" + std::to_string(i), "x"});
        for (int i = 0; i < 300; ++i) Run({"HDEL", "h", "t" + std::to_string(i)});
      }
      EXPECT_EQ(Encoding("h"), packed ? "\"listpack\"" : "\"hashtable\"");
      test();
      harness_.SetSetting("hash-max-listpack-entries", "512");
    }
  }

  CommandHarness harness_{HashCommands(),   HashReadCommands(), StringCommands(),
                          KeyCommands(),    KeyDumpCommands(),  KeyExpireCommands(),
                          MemoryCommands(), DebugCommands(),    SessionCommands()};
};

TEST_F(HashTest, SetAndGet) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"HGET", "h", "a"}), "\"1\"");
    EXPECT_EQ(Run({"HGET", "h", "b"}), "\"two\"");
    EXPECT_EQ(Run({"HGET", "h", "absent"}), "nil");
    EXPECT_EQ(Run({"HSET", "h", "a", "2", "c", "3"}), ":1");
    EXPECT_EQ(Run({"HMGET", "h", "a", "x", "c"}), "[\"2\", nil, \"3\"]");
    EXPECT_EQ(Run({"HMSET", "h", "a", "5", "a", "6"}), "+OK");
    EXPECT_EQ(Run({"HGET", "h", "a"}), "\"6\"");
    EXPECT_EQ(Run({"HLEN", "h"}), ":3");
    EXPECT_EQ(Run({"HEXISTS", "h", "c"}), ":1");
    EXPECT_EQ(Run({"HEXISTS", "h", "d"}), ":0");
    EXPECT_EQ(Run({"HSTRLEN", "h", "b"}), ":3");
    EXPECT_EQ(Run({"HSTRLEN", "h", "d"}), ":0");
    EXPECT_EQ(Run({"TYPE", "h"}), "+hash");
  });
}

TEST_F(HashTest, AbsentKeys) {
  EXPECT_EQ(Run({"HGET", "no", "f"}), "nil");
  EXPECT_EQ(Run({"HMGET", "no", "f", "g"}), "[nil, nil]");
  EXPECT_EQ(Run({"HGETALL", "no"}), "[]");
  EXPECT_EQ(Run({"HKEYS", "no"}), "[]");
  EXPECT_EQ(Run({"HVALS", "no"}), "[]");
  EXPECT_EQ(Run({"HLEN", "no"}), ":0");
  EXPECT_EQ(Run({"HDEL", "no", "f"}), ":0");
  EXPECT_EQ(Run({"HSCAN", "no", "0"}), "[\"0\", []]");
  EXPECT_EQ(Run({"HRANDFIELD", "no"}), "nil");
  EXPECT_EQ(Run({"HRANDFIELD", "no", "3"}), "[]");
  EXPECT_EQ(Run({"EXISTS", "no"}), ":0");
}

TEST_F(HashTest, WrongTypeAndArity) {
  Run({"SET", "s", "x"});
  const std::vector<std::vector<std::string>> calls = {{"HSET", "s", "f", "v"},
                                                       {"HMSET", "s", "f", "v"},
                                                       {"HSETNX", "s", "f", "v"},
                                                       {"HGET", "s", "f"},
                                                       {"HMGET", "s", "f"},
                                                       {"HDEL", "s", "f"},
                                                       {"HLEN", "s"},
                                                       {"HSTRLEN", "s", "f"},
                                                       {"HKEYS", "s"},
                                                       {"HVALS", "s"},
                                                       {"HGETALL", "s"},
                                                       {"HEXISTS", "s", "f"},
                                                       {"HINCRBY", "s", "f", "1"},
                                                       {"HRANDFIELD", "s", "1"},
                                                       {"HINCRBYFLOAT", "s", "f", "1"},
                                                       {"HSCAN", "s", "0", "COUNT", "x"}};
  for (const auto& call : calls) EXPECT_EQ(Run(call), kWrongTypeLine) << call[0];
  EXPECT_EQ(Run({"HSET", "h", "a"}), "-ERR wrong number of arguments for 'hset' command");
  EXPECT_EQ(Run({"HSET", "h", "a", "b", "c"}), "-ERR wrong number of arguments for 'hset' command");
  EXPECT_EQ(Run({"HMSET", "h", "a", "b", "c"}),
            "-ERR wrong number of arguments for 'hmset' command");
  EXPECT_EQ(Run({"HSET", "s", "a", "b", "c"}), "-ERR wrong number of arguments for 'hset' command");
}

TEST_F(HashTest, SetNxSetsOnce) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"HSETNX", "h", "a", "9"}), ":0");
    EXPECT_EQ(Run({"HSETNX", "h", "n", "9"}), ":1");
    EXPECT_EQ(Run({"HMGET", "h", "a", "n"}), "[\"1\", \"9\"]");
  });
  EXPECT_EQ(Events({"HSETNX", "h2", "a", "1"}), (Lines{"0 new h2", "0 hset h2"}));
  EXPECT_TRUE(Events({"HSETNX", "h2", "a", "1"}).empty());
  EXPECT_TRUE(Propagated({"HSETNX", "h2", "a", "1"}).empty());
}

TEST_F(HashTest, DeleteRemovesTheKeyWithItsLastField) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"HDEL", "h", "x", "a", "a"}), ":1");
    EXPECT_EQ(Events({"HDEL", "h", "b", "x"}), (Lines{"0 hdel h", "0 del h"}));
    EXPECT_EQ(Run({"EXISTS", "h"}), ":0");
  });
  EXPECT_TRUE(Propagated({"HDEL", "h", "x"}).empty());
}

TEST_F(HashTest, EventsAndPropagation) {
  EXPECT_EQ(Events({"HSET", "h", "a", "1", "b", "2"}), (Lines{"0 new h", "0 hset h"}));
  EXPECT_EQ(Events({"HMSET", "h", "a", "1"}), (Lines{"0 hset h"}));
  EXPECT_EQ(Events({"HINCRBY", "h", "a", "1"}), (Lines{"0 hincrby h"}));
  EXPECT_EQ(Events({"HINCRBYFLOAT", "h", "a", "1"}), (Lines{"0 hincrbyfloat h"}));
  EXPECT_EQ(Propagated({"HSET", "h", "a", "1"}), (Lines{"HSET h a 1"}));
  EXPECT_EQ(Propagated({"HINCRBY", "h", "a", "4"}), (Lines{"HINCRBY h a 4"}));
  EXPECT_EQ(Propagated({"HINCRBYFLOAT", "h", "a", "1.5"}), (Lines{"HSET h a 6.5"}));
}

TEST_F(HashTest, TtlIsKept) {
  Run({"HSET", "h", "a", "1"});
  Run({"PEXPIRE", "h", "5000"});
  Run({"HSET", "h", "a", "22", "b", "2"});
  EXPECT_EQ(Run({"PTTL", "h"}), ":5000");
  for (int i = 0; i < 600; ++i) Run({"HSET", "h", "f" + std::to_string(i), "v"});
  EXPECT_EQ(Encoding("h"), "\"hashtable\"");
  EXPECT_EQ(Run({"PTTL", "h"}), ":5000");
  harness_.AdvanceMs(5001);
  EXPECT_EQ(Run({"HGET", "h", "a"}), "nil");
}

TEST_F(HashTest, IncrementOfIntegers) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"HINCRBY", "h", "a", "4"}), ":5");
    EXPECT_EQ(Run({"HINCRBY", "h", "new", "-7"}), ":-7");
    EXPECT_EQ(Run({"HINCRBY", "h", "b", "1"}), "-ERR hash value is not an integer");
    EXPECT_EQ(Run({"HINCRBY", "h", "a", "x"}), kNotIntegerLine);
    Run({"HSET", "h", "a", "9223372036854775807"});
    EXPECT_EQ(Run({"HINCRBY", "h", "a", "1"}), "-ERR increment or decrement would overflow");
    EXPECT_EQ(Run({"HGET", "h", "a"}), "\"9223372036854775807\"");
  });
  EXPECT_EQ(Run({"HINCRBY", "fresh", "f", "3"}), ":3");
}

TEST_F(HashTest, IncrementOfFloats) {
  InEachEncoding([this] {
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "a", "0.1"}), "\"1.1\"");
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "new", "5.0e3"}), "\"5000\"");
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "b", "1"}), "-ERR hash value is not a float");
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "a", "x"}), "-ERR value is not a valid float");
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "a", "nan"}), "-ERR value is not a valid float");
    EXPECT_EQ(Run({"HINCRBYFLOAT", "h", "a", "inf"}), "-ERR value is NaN or Infinity");
  });
}

TEST_F(HashTest, WholeHashes) {
  InEachEncoding([this] {
    Run({"HDEL", "h", "b"});
    EXPECT_EQ(Run({"HGETALL", "h"}), "[\"a\", \"1\"]");
    EXPECT_EQ(Run({"HKEYS", "h"}), "[\"a\"]");
    EXPECT_EQ(Run({"HVALS", "h"}), "[\"1\"]");
    Run({"HELLO", "3"});
    EXPECT_EQ(Run({"HGETALL", "h"}), "{\"a\": \"1\"}");
    EXPECT_EQ(Run({"HGETALL", "no"}), "{}");
    EXPECT_EQ(Run({"HKEYS", "h"}), "[\"a\"]");
    EXPECT_EQ(Run({"HRANDFIELD", "h", "1", "WITHVALUES"}), "[[\"a\", \"1\"]]");
    Run({"HELLO", "2"});
    EXPECT_EQ(Run({"HRANDFIELD", "h", "1", "WITHVALUES"}), "[\"a\", \"1\"]");
  });
}

TEST_F(HashTest, EncodingFollowsTheSettings) {
  Fill(512);
  EXPECT_EQ(Encoding("h"), "\"listpack\"");
  Run({"HSET", "h", "one", "more"});
  EXPECT_EQ(Encoding("h"), "\"hashtable\"");
  Run({"HDEL", "h", "one"});
  EXPECT_EQ(Encoding("h"), "\"hashtable\"");
  Run({"HSET", "v", "f", std::string(64, 'x')});
  EXPECT_EQ(Encoding("v"), "\"listpack\"");
  Run({"HSET", "v", "f", std::string(65, 'x')});
  EXPECT_EQ(Encoding("v"), "\"hashtable\"");
  Run({"HSET", "v", "f", "x"});
  EXPECT_EQ(Encoding("v"), "\"hashtable\"");
  Run({"HSET", "k", std::string(65, 'x'), "v"});
  EXPECT_EQ(Encoding("k"), "\"hashtable\"");
  harness_.SetSetting("hash-max-ziplist-entries", "2");
  Run({"HSET", "s", "a", "1", "b", "2"});
  EXPECT_EQ(Encoding("s"), "\"listpack\"");
  Run({"HSET", "s", "c", "3"});
  EXPECT_EQ(Encoding("s"), "\"hashtable\"");
}

TEST_F(HashTest, LongFieldsAndValuesKeepEveryByte) {
  for (const size_t size : {size_t{0}, size_t{500}, size_t{5000}, size_t{70000}}) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + size);
    Run({"HSET", "h", "f", text, text, "v"});
    EXPECT_EQ(harness_.Call({"HGET", "h", "f"}).text, text);
    EXPECT_EQ(Run({"HGET", "h", text}), "\"v\"");
    EXPECT_EQ(Run({"HSTRLEN", "h", "f"}), ":" + std::to_string(size));
    Run({"HDEL", "h", text});
  }
}

TEST_F(HashTest, ScanSeesEachFieldOnce) {
  EXPECT_EQ(Run({"HSCAN", "h", "x"}), "-ERR invalid cursor");
  Run({"HSET", "h", "a", "1", "b", "2"});
  EXPECT_EQ(Run({"HSCAN", "h", "0"}), "[\"0\", [\"a\", \"1\", \"b\", \"2\"]]");
  EXPECT_EQ(Run({"HSCAN", "h", "0", "MATCH", "b*"}), "[\"0\", [\"b\", \"2\"]]");
  EXPECT_EQ(Run({"HSCAN", "h", "0", "COUNT", "0"}), kSyntaxLine);
  EXPECT_EQ(Run({"HSCAN", "h", "0", "COUNT", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"HSCAN", "h", "0", "TYPE", "hash"}), kSyntaxLine);
  EXPECT_EQ(Run({"HSCAN", "h", "0", "MATCH"}), kSyntaxLine);
  Fill(2000);
  std::multiset<std::string> seen;
  std::string cursor = "0";
  int calls = 0;
  do {
    const RespValue reply = harness_.Call({"HSCAN", "h", cursor, "COUNT", "50"});
    cursor = reply.elements[0].text;
    const auto& items = reply.elements[1].elements;
    EXPECT_LT(items.size(), 400u);
    for (size_t i = 0; i < items.size(); i += 2) seen.insert(items[i].text);
    ++calls;
  } while (cursor != "0");
  EXPECT_EQ(seen.size(), 2002u);
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 2002u);
  EXPECT_GT(calls, 10);
}

TEST_F(HashTest, RandomFields) {
  InEachEncoding([this] {
    const std::string one = Run({"HRANDFIELD", "h"});
    EXPECT_TRUE(one == "\"a\"" || one == "\"b\"");
    EXPECT_EQ(Run({"HRANDFIELD", "h", "0"}), "[]");
    EXPECT_EQ(harness_.Call({"HRANDFIELD", "h", "10"}).elements.size(), 2u);
    EXPECT_EQ(harness_.Call({"HRANDFIELD", "h", "-10"}).elements.size(), 10u);
    EXPECT_EQ(harness_.Call({"HRANDFIELD", "h", "-10", "withvalues"}).elements.size(), 20u);
    std::set<std::string> drawn;
    for (int i = 0; i < 100; ++i) drawn.insert(Run({"HRANDFIELD", "h", "1"}));
    EXPECT_EQ(drawn.size(), 2u);
  });
  Fill(1000);
  std::set<std::string> distinct;
  for (const RespValue& field : harness_.Call({"HRANDFIELD", "h", "100"}).elements)
    distinct.insert(field.text);
  EXPECT_EQ(distinct.size(), 100u);
  distinct.clear();
  for (const RespValue& field : harness_.Call({"HRANDFIELD", "h", "900"}).elements)
    distinct.insert(field.text);
  EXPECT_EQ(distinct.size(), 900u);
  EXPECT_EQ(Run({"HRANDFIELD", "h", "5", "foo"}), kSyntaxLine);
  EXPECT_EQ(Run({"HRANDFIELD", "h", "5", "withvalues", "x"}), kSyntaxLine);
  EXPECT_EQ(Run({"HRANDFIELD", "h", "x"}), kNotIntegerLine);
  EXPECT_EQ(Run({"HRANDFIELD", "no", "-9223372036854775807", "WITHVALUES"}),
            "-ERR value is out of range");
  EXPECT_EQ(Run({"HRANDFIELD", "h", "-9223372036854775808"}),
            "-ERR value is out of range, value must between -9223372036854775807 and "
            "9223372036854775807");
}

TEST_F(HashTest, CopyRenameAndDump) {
  InEachEncoding([this] {
    Run({"DEL", "c", "r", "d"});
    EXPECT_EQ(Run({"COPY", "h", "c"}), ":1");
    Run({"HSET", "c", "a", "changed"});
    EXPECT_EQ(Run({"HGET", "h", "a"}), "\"1\"");
    const std::string digest = Run({"DEBUG", "DIGEST-VALUE", "h"});
    const std::string payload = harness_.Call({"DUMP", "h"}).text;
    EXPECT_EQ(Run({"RESTORE", "d", "0", payload}), "+OK");
    EXPECT_EQ(Run({"DEBUG", "DIGEST-VALUE", "d"}), digest);
    EXPECT_EQ(Encoding("d"), Encoding("h"));
    EXPECT_EQ(Run({"RENAME", "h", "r"}), "+OK");
    EXPECT_EQ(Run({"HGET", "r", "b"}), "\"two\"");
    EXPECT_NE(Run({"MEMORY", "USAGE", "r"}), "nil");
  });
}

/// A DUMP payload of one packed blob, as anybody could forge it.
std::string Payload(uint8_t type, std::string_view blob) {
  std::string payload(1, static_cast<char>(type));
  payload += static_cast<char>(0x80);  // a length of four bytes, most significant first
  for (int shift = 24; shift >= 0; shift -= 8)
    payload += static_cast<char>(blob.size() >> shift & 0xff);
  payload += blob;
  payload += {static_cast<char>(rdb::kWrittenVersion), '\0'};
  const uint64_t checksum = Crc64(0, payload);
  payload.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  return payload;
}

std::string FromHex(std::string_view hex) {
  std::string bytes;
  EXPECT_TRUE(HexDecode(hex, &bytes));
  return bytes;
}

TEST_F(HashTest, ForgedPayloadsAreRefused) {
  const std::vector<std::pair<uint8_t, const char*>> forged = {
      {rdb::kHashListpack, ""},
      {rdb::kHashListpack, "070000000000ff"},                      // empty
      {rdb::kHashListpack, "0a0000000100816102ff"},                // a field without value
      {rdb::kHashListpack, "11000000040081610201018161020201ff"},  // a field twice
      {rdb::kHashListpack, "0d0000000200816102ff0102ff"},          // no such encoding
      {rdb::kHashListpack, "0d0000000200f0ffffffff02ff"},          // 4 GiB promised
      {rdb::kHashZiplist, "0b0000000a0000000000ff"},               // empty
      {rdb::kHashZiplist, "ff0000000a0000000000ff"},               // a wrong size
      {rdb::kHashZiplist, "100000000a00000002000001610300ff"},     // a wrong tail
      {rdb::kHashZipmap, "00ff"},                                  // empty
      {rdb::kHashZipmap, "0101610500316aff"},                      // cut
      {rdb::kHashZipmap, ""},
  };
  for (const auto& [type, hex] : forged) {
    EXPECT_EQ(Run({"RESTORE", "f", "0", Payload(type, FromHex(hex))}), "-ERR Bad data format")
        << int{type} << " " << hex;
  }
  EXPECT_EQ(Run({"EXISTS", "f"}), ":0");
}

TEST_F(HashTest, PayloadsOfOldServersAreTaken) {
  const std::string zipmap =
      Payload(rdb::kHashZipmap, FromHex("020161010031026263030278797a0000ff"));
  EXPECT_EQ(Run({"RESTORE", "m", "0", zipmap}), "+OK");
  EXPECT_EQ(Run({"HGETALL", "m"}), "[\"a\", \"1\", \"bc\", \"xyz\"]");
  const std::string ziplist = Payload(rdb::kHashZiplist, FromHex("11000000"
                                                                 "0e000000"
                                                                 "0200"
                                                                 "00026869"
                                                                 "04f6"
                                                                 "ff"));
  EXPECT_EQ(Run({"RESTORE", "z", "0", ziplist}), "+OK");
  EXPECT_EQ(Run({"HGETALL", "z"}), "[\"hi\", \"5\"]");
  EXPECT_EQ(Encoding("z"), "\"listpack\"");
  // Longer than hash-max-listpack-value: the server that made it had a higher limit.
  const std::string longer = Payload(rdb::kHashZiplist, FromHex("58000000"
                                                                "0e000000"
                                                                "0200"
                                                                "00026869"
                                                                "044046") +
                                                            std::string(70, 'v') + "\xff");
  EXPECT_EQ(Run({"RESTORE", "l", "0", longer}), "+OK");
  EXPECT_EQ(Run({"HSTRLEN", "l", "hi"}), ":70");
  EXPECT_EQ(Encoding("l"), "\"listpack\"");
}

}  // namespace
}  // namespace cairn

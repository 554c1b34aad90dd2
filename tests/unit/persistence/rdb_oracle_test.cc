// Both ways against redis-server 7.0.15: its files here, our files there, DUMP byte for byte.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "tests/unit/persistence/rdb_test_support.h"

namespace cairn {
namespace {

constexpr int64_t kFarFutureMs = 4102444800123;

std::vector<std::string> Values() {
  std::vector<std::string> values = {
      "",     "0",     "-1",         "127",        "128",
      "-129", "32768", "2147483647", "2147483648", "9223372036854775807",
      "007",  "-0",    "+5",         "1.5",        "hello world"};
  std::mt19937 random(11);
  for (const size_t size : {19, 20, 21, 22, 63, 64, 100, 1000, 16383, 16384, 70000, 300000}) {
    values.emplace_back(size, 'r');
    std::string text, noise;
    while (text.size() < size) text += "item:" + std::to_string(random() % 50) + ";";
    for (size_t i = 0; i < size; ++i) noise += static_cast<char>(random());
    values.push_back(text);
    values.push_back(noise);
  }
  return values;
}

TEST(RdbOracleTest, DumpPayloadsAreIdentical) {
  TempDir dir;
  OracleServer oracle(dir.path());
  ASSERT_TRUE(oracle.up());
  for (const std::string& value : Values()) {
    SCOPED_TRACE(value.substr(0, 40) + " of " + std::to_string(value.size()));
    oracle.Call({"SET", "k", value});
    DumpWriter writer;
    ASSERT_TRUE(writer.sink().String(value).ok());
    const std::string payload = writer.Finish().value();
    const std::string theirs = oracle.Call({"DUMP", "k"});
    EXPECT_TRUE(payload == theirs);
    EXPECT_EQ(oracle.Call({"RESTORE", "k", "0", payload, "REPLACE"}), "OK");
    EXPECT_TRUE(oracle.Call({"GET", "k"}) == value);
    RecordingSink ours, read;
    ASSERT_TRUE(ReadDumpPayload(theirs, read).ok());
    const std::string event = read.events.at(0);
    EXPECT_TRUE(event.substr(event.find(' ') + 1) == value || value.empty());
  }
}

TEST(RdbOracleTest, RedisLoadsOurFile) {
  TempDir dir;
  const std::vector<std::string> values = Values();
  {
    std::string out;
    StringByteSink bytes(&out);
    RdbWriter writer(&bytes, {});
    ASSERT_TRUE(writer.Start().ok());
    for (const uint32_t db : {0U, 9U}) {
      ASSERT_TRUE(writer.SelectDatabase(db, values.size(), values.size()).ok());
      for (size_t i = 0; i < values.size(); ++i) {
        KeyMeta meta;
        if (db == 9) meta.expire_at_ms = kFarFutureMs;
        auto value = writer.Key(std::to_string(i), meta);
        ASSERT_TRUE(value.ok() && (*value)->String(values[i]).ok());
      }
    }
    ASSERT_TRUE(writer.Finish().ok());
    WriteAll(dir / "dump.rdb", out);
  }
  EXPECT_EQ(
      std::system(("/usr/bin/redis-check-rdb " + (dir / "dump.rdb") + " > /dev/null").c_str()), 0);
  OracleServer oracle(dir.path());
  ASSERT_TRUE(oracle.up());
  for (const char* db : {"0", "9"}) {
    EXPECT_EQ(oracle.Call({"SELECT", db}), "OK");
    EXPECT_EQ(oracle.Call({"DBSIZE"}), std::to_string(values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(oracle.Call({"GET", std::to_string(i)}) == values[i]) << i;
    }
  }
  EXPECT_EQ(oracle.Call({"PEXPIRETIME", "0"}), std::to_string(kFarFutureMs));
}

TEST(RdbOracleTest, WeReadRedissFile) {
  TempDir dir;
  OracleServer oracle(dir.path());
  ASSERT_TRUE(oracle.up());
  const std::vector<std::string> values = Values();
  for (size_t i = 0; i < values.size(); ++i)
    oracle.Call({"SET", "k" + std::to_string(i), values[i]});
  oracle.Call({"PEXPIREAT", "k3", std::to_string(kFarFutureMs)});
  oracle.Call({"SELECT", "5"});
  oracle.Call({"RPUSH", "list", "a", "b", "3"});
  oracle.Call({"SADD", "ints", "1", "2"});
  oracle.Call({"SADD", "set", "x", "y"});
  oracle.Call({"ZADD", "zset", "1.5", "m"});
  oracle.Call({"HSET", "hash", "f", "v"});
  oracle.Call(
      {"CONFIG", "SET", "hash-max-listpack-entries", "0", "zset-max-listpack-entries", "0"});
  oracle.Call({"HSET", "plainhash", "f", "v"});
  oracle.Call({"ZADD", "plainzset", "1.5", "m"});
  oracle.Call({"XADD", "stream", "5-6", "f", "v"});
  oracle.Call({"XGROUP", "CREATE", "stream", "g", "0"});
  oracle.Call({"XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"});
  oracle.Call({"FUNCTION", "LOAD",
               "#!lua name=lib\nredis.register_function('f', function() return 1 end)"});
  ASSERT_EQ(oracle.Call({"SAVE"}), "OK");

  const std::string file = ReadAll(dir / "dump.rdb");
  RecordingSink sink;
  RdbReader reader(file, "dump.rdb", {});
  const auto end = reader.Load(sink);
  ASSERT_TRUE(end.ok()) << end.status().message();
  EXPECT_EQ(*end, file.size());
  EXPECT_TRUE(reader.counts().checksum_verified);
  EXPECT_EQ(reader.counts().keys, values.size() + 8);
  EXPECT_EQ(reader.counts().functions, 1u);
  const auto has = [&](const std::string& event) {
    return std::find(sink.events.begin(), sink.events.end(), event) != sink.events.end();
  };
  EXPECT_TRUE(has("key k3 " + std::to_string(kFarFutureMs) + " -1 -1"));
  EXPECT_TRUE(has("db 5 8 0"));
  EXPECT_TRUE(has("aux redis-ver 7.0.15"));
  EXPECT_TRUE(has("string " + values.back()));
  EXPECT_TRUE(has("field f v") && has("scored m 1.500000"));
  EXPECT_TRUE(has("state 1 5-6 5-6 0-0 1 1") && has("group g 5-6 1 1") && has("owned 5-6"));
}

TEST(RdbOracleTest, WrongPayloadsGetRedissWords) {
  DumpWriter writer;
  ASSERT_TRUE(writer.sink().String("hello").ok());
  const std::string good = writer.Finish().value();
  const auto answer = [](std::string_view payload, bool skip = false) {
    RecordingSink sink;
    return std::string(ReadDumpPayload(payload, sink, skip).message());
  };
  const std::string wrong = "ERR DUMP payload version or checksum are wrong";
  EXPECT_EQ(answer(good), "");
  for (size_t size = 0; size < good.size(); ++size) EXPECT_EQ(answer(good.substr(0, size)), wrong);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(answer(bad), wrong) << bit;
  }
  std::string tail = good;
  tail[1] = 4;  // a length that leaves a byte over: Redis looks at nothing behind the value
  EXPECT_EQ(answer(tail, /*skip=*/true), "");
  tail[1] = 60;
  EXPECT_EQ(answer(tail, /*skip=*/true), "ERR Bad data format");
}

TEST(RdbOracleTest, GoldenFileReadsAsItAlwaysDid) {
  const std::string path = std::string(CAIRN_SOURCE_DIR) + "/tests/golden/rdb10_worked_example.rdb";
  const std::string file = ReadAll(path);
  ASSERT_EQ(file.size(), 43u);
  RecordingSink sink;
  RdbReader reader(file, path, {});
  const auto end = reader.Load(sink);
  ASSERT_TRUE(end.ok()) << end.status().message();
  EXPECT_TRUE(reader.counts().checksum_verified);
  const std::vector<std::string> events = {"db 0 2 1", "key a 1000 -1 -1", "integer 12",
                                           "key b -1 -1 -1", "string hi"};
  EXPECT_EQ(sink.events, events);
  EXPECT_EQ(std::system(("/usr/bin/redis-check-rdb " + path + " > /dev/null").c_str()), 0);
}

}  // namespace
}  // namespace cairn

// RDB files of every generation from Redis 2.4 to 8.0 and Valkey 9, built by hand after the
// published descriptions of the format, loaded into an engine and asked for with commands. Then the
// same files damaged: a flipped bit is never loaded as if nothing were, and never breaks what holds
// the data.

#include <gtest/gtest.h>

#include <random>

#include "persistence/rdb_format.h"
#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/checksum.h"
#include "server/base/listpack.h"
#include "server/engine/loader.h"
#include "server/keyspace/view.h"
#include "tests/support/asked_number.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily DatabaseCommands();
CommandFamily DebugCommands();
CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily ListCommands();
CommandFamily SessionCommands();
CommandFamily SetCommands();
CommandFamily SortedSetCommands();
CommandFamily SortedSetRangeCommands();
CommandFamily StreamCommands();
CommandFamily StreamGroupCommands();
CommandFamily StreamInfoCommands();
CommandFamily StreamReadCommands();
CommandFamily StringCommands();

namespace {

// --- the format, as far as a builder needs it ---

std::string Little(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> 8 * i));
  return out;
}

std::string Length(uint64_t value) {
  if (value < 64) return std::string(1, static_cast<char>(value));
  if (value < 16384) {
    return {static_cast<char>(0x40 | value >> 8), static_cast<char>(value)};
  }
  std::string out = "\x81";
  for (int i = 7; i >= 0; --i) out.push_back(static_cast<char>(value >> 8 * i));
  return out;
}

std::string Text(std::string_view bytes) { return Length(bytes.size()) + std::string(bytes); }

std::string Key(uint8_t type, std::string_view key) {
  return std::string(1, static_cast<char>(type)) + Text(key);
}

std::string Select(uint64_t database) { return "\xfe" + Length(database); }
std::string Resize(uint64_t keys, uint64_t expires) {
  return "\xfb" + Length(keys) + Length(expires);
}
std::string Aux(std::string_view name, std::string_view value) {
  return "\xfa" + Text(name) + Text(value);
}

/// Strings below 64 bytes; a number of one digit becomes an immediate, as Redis writes it.
std::string Ziplist(const std::vector<std::string>& elements) {
  std::string entries;
  size_t previous = 0;
  size_t last_at = 0;
  for (const std::string& element : elements) {
    last_at = entries.size();
    std::string entry(1, static_cast<char>(previous));
    if (element.size() == 1 && element[0] >= '0' && element[0] <= '9') {
      entry.push_back(static_cast<char>(0xf1 + (element[0] - '0')));
    } else {
      entry += static_cast<char>(element.size()) + element;
    }
    previous = entry.size();
    entries += entry;
  }
  return Little(entries.size() + 11, 4) + Little(10 + last_at, 4) + Little(elements.size(), 2) +
         entries + "\xff";
}

std::string Zipmap(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string out(1, static_cast<char>(pairs.size()));
  for (const auto& [field, value] : pairs) {
    out += static_cast<char>(field.size()) + field;
    out += static_cast<char>(value.size()) + std::string(1, '\0') + value;
  }
  return out + "\xff";
}

std::string Intset(const std::vector<int>& values) {
  std::string out = Little(2, 4) + Little(values.size(), 4);
  for (int value : values) out += Little(static_cast<uint64_t>(value), 2);
  return out;
}

std::string Listpack(const std::vector<std::string>& elements) {
  std::string out = NewListpack();
  for (const std::string& element : elements) ListpackAppend(&out, element);
  return out;
}

std::string Id(uint64_t ms, uint64_t sequence) {
  std::string out;
  for (int i = 7; i >= 0; --i) out.push_back(static_cast<char>(ms >> 8 * i));
  for (int i = 7; i >= 0; --i) out.push_back(static_cast<char>(sequence >> 8 * i));
  return out;
}

/// Entries 5-1 {f: a} and 5-2 {f: b}; group g has read both, consumer c holds 5-2 since 7000 ms.
std::string Stream(int version) {
  std::string out =
      Length(1) + Text(Id(5, 1)) +
      Text(Listpack({"2", "0", "1", "f", "0", "2", "0", "0", "a", "4", "2", "0", "1", "b", "4"}));
  out += Length(2) + Length(5) + Length(2);
  if (version >= 2) out += Length(5) + Length(1) + Length(0) + Length(0) + Length(2);
  out += Length(1) + Text("g") + Length(5) + Length(2);
  if (version >= 2) out += Length(2);
  out += Length(1) + Id(5, 2) + Little(7000, 8) + Length(3);
  out += Length(1) + Text("c") + Little(8000, 8);
  if (version >= 3) out += Little(7500, 8);
  return out + Length(1) + Id(5, 2);
}

/// Header, body, end; with the checksum from version 5 on.
std::string File(const std::string& header, const std::string& body) {
  std::string out = header + body + "\xff";
  if (header < "REDIS0005") return out;
  return out + Little(Crc64(0, out), 8);
}

struct Question {
  std::vector<std::string> command;
  std::string reply;
};
struct Generation {
  const char* name;
  std::string file;
  std::vector<Question> questions;
};

std::vector<Generation> Generations() {
  const std::vector<Question> stream = {
      {{"XRANGE", "s", "-", "+"}, "[[\"5-1\", [\"f\", \"a\"]], [\"5-2\", [\"f\", \"b\"]]]"},
      {{"XPENDING", "s", "g"}, "[:1, \"5-2\", \"5-2\", [[\"c\", \"1\"]]]"},
      {{"XLEN", "s"}, ":2"}};
  std::vector<Generation> all;
  all.push_back(
      {"Redis 2.4, no checksum",
       File("REDIS0002",
            Select(0) + Key(0, "a") + Text("hello") + Key(0, "n") + "\xc1\xe8\x03" + Key(1, "l") +
                Length(2) + Text("x") + Text("y") + Key(2, "t") + Length(1) + Text("m") +
                Key(3, "z") + Length(2) + Text("p") + "\x03" + "1.5" + Text("q") + "\xff" +
                Key(9, "h") + Text(Zipmap({{"f", "v"}, {"g", "w"}})) + Key(10, "zl") +
                Text(Ziplist({"one", "2"})) + Key(11, "i") + Text(Intset({1, 5, 9})) + Select(3) +
                "\xfd" + Little(4'000'000'000u & 0x7fffffff, 4) + Key(0, "e") + Text("v")),
       {{{"GET", "a"}, "\"hello\""},
        {{"GET", "n"}, "\"1000\""},
        {{"LRANGE", "l", "0", "-1"}, "[\"x\", \"y\"]"},
        {{"SMEMBERS", "t"}, "[\"m\"]"},
        {{"ZRANGE", "z", "0", "-1", "WITHSCORES"}, "[\"q\", \"-inf\", \"p\", \"1.5\"]"},
        {{"HGET", "h", "g"}, "\"w\""},
        {{"LRANGE", "zl", "0", "-1"}, "[\"one\", \"2\"]"},
        {{"SMEMBERS", "i"}, "[\"1\", \"5\", \"9\"]"},
        {{"DBSIZE"}, ":8"},
        {{"SELECT", "3"}, "+OK"},
        {{"EXPIRETIME", "e"}, ":1852516352"},
        {{"SELECT", "0"}, "+OK"}}});
  all.push_back({"Redis 2.8",
                 File("REDIS0006", Select(0) + "\xfc" + Little(4'000'000'000'000, 8) +
                                       Key(13, "h") + Text(Ziplist({"f", "v", "n", "7"})) +
                                       Key(12, "z") + Text(Ziplist({"m", "1", "p", "2"})) +
                                       Key(4, "big") + Length(1) + Text("f") + Text("v")),
                 {{{"HMGET", "h", "f", "n"}, "[\"v\", \"7\"]"},
                  {{"PEXPIRETIME", "h"}, ":4000000000000"},
                  {{"ZSCORE", "z", "p"}, "\"2\""},
                  {{"HGETALL", "big"}, "[\"f\", \"v\"]"},
                  {{"DBSIZE"}, ":3"}}});
  all.push_back({"Redis 3.2",
                 File("REDIS0007", Aux("redis-ver", "3.2.0") + Aux("redis-bits", "64") + Select(0) +
                                       Resize(1, 0) + Key(14, "l") + Length(2) +
                                       Text(Ziplist({"a", "1"})) + Text(Ziplist({"b"}))),
                 {{{"LRANGE", "l", "0", "-1"}, "[\"a\", \"1\", \"b\"]"}}});
  all.push_back({"Redis 4, as the preamble of an append-only file",
                 File("REDIS0008", Aux("redis-ver", "4.0.14") + Aux("redis-bits", "64") +
                                       Aux("aof-preamble", "1") + Aux("repl-stream-db", "0") +
                                       Select(0) + Resize(2, 0) + Key(5, "z") + Length(1) +
                                       Text("m") + Little(0x3ff8000000000000, 8) + Key(14, "l") +
                                       Length(1) + Text(Ziplist({"a"}))),
                 {{{"ZSCORE", "z", "m"}, "\"1.5\""}, {{"LRANGE", "l", "0", "-1"}, "[\"a\"]"}}});
  all.push_back(
      {"Redis 5",
       File("REDIS0009", Aux("redis-ver", "5.0.0") + Select(0) + Resize(2, 0) + "\xf8" +
                             Length(100) + Key(5, "z") + Length(1) + Text("m") +
                             Little(0x4004000000000000, 8) + "\xf9\x07" + Key(15, "s") + Stream(1)),
       stream});
  all.back().questions.push_back({{"ZSCORE", "z", "m"}, "\"2.5\""});
  // Key c is an LZF string by hand: one literal 'z', then a copy of 12 bytes from one byte back.
  all.push_back({"Redis 7.0",
                 File("REDIS0010", Aux("redis-ver", "7.0.15") + Select(0) + Resize(5, 0) +
                                       Key(16, "h") + Text(Listpack({"f", "v"})) + Key(17, "z") +
                                       Text(Listpack({"m", "3"})) + Key(18, "l") + Length(2) +
                                       Length(2) + Text(Listpack({"a", "b"})) + Length(1) +
                                       Text("plain") + Key(19, "s") + Stream(2) + Key(0, "c") +
                                       std::string("\xc3\x05\x0d\x00z\xe0\x03\x00", 8)),
                 stream});
  all.back().questions.insert(all.back().questions.end(),
                              {{{"HGET", "h", "f"}, "\"v\""},
                               {{"ZSCORE", "z", "m"}, "\"3\""},
                               {{"LRANGE", "l", "0", "-1"}, "[\"a\", \"b\", \"plain\"]"},
                               {{"GET", "c"}, "\"zzzzzzzzzzzzz\""}});
  all.push_back(
      {"Redis 7.2",
       File("REDIS0011", Aux("redis-ver", "7.2.0") + Select(0) + Resize(2, 0) + Key(20, "t") +
                             Text(Listpack({"m", "7"})) + Key(21, "s") + Stream(3)),
       stream});
  all.back().questions.push_back({{"SISMEMBER", "t", "7"}, ":1"});
  all.push_back(
      {"Redis 8.0, with the hint of a cluster's slot",
       File("REDIS0012", Aux("redis-ver", "8.0.0") + Select(0) + Resize(1, 0) + "\xf4" +
                             Length(12182) + Length(1) + Length(0) + Key(0, "k") + Text("v")),
       {{{"GET", "k"}, "\"v\""}}});
  // A hash in the form for field TTLs of which none has one.
  all.push_back({"Redis 7.4",
                 File("REDIS0012", Select(0) + Key(24, "h") + Little(0, 8) + Length(1) + Length(0) +
                                       Text("f") + Text("v")),
                 {{{"HGETALL", "h"}, "[\"f\", \"v\"]"}}});
  all.push_back({"Valkey 8",
                 File("REDIS0011", Aux("valkey-ver", "8.1.0") + Select(0) + "\xf4" + Length(12182) +
                                       Length(1) + Length(0) + Resize(1, 0) + Key(20, "t") +
                                       Text(Listpack({"m"}))),
                 {{{"SISMEMBER", "t", "m"}, ":1"}}});
  all.push_back({"Valkey 9",
                 File("VALKEY080", Aux("valkey-ver", "9.0.0") + Select(0) + Resize(1, 0) +
                                       Key(16, "h") + Text(Listpack({"f", "v"}))),
                 {{{"HGET", "h", "f"}, "\"v\""}}});
  return all;
}

// --- the engine ---

class Store {
 public:
  Store()
      : harness_({DatabaseCommands(), DebugCommands(), HashCommands(), HashReadCommands(),
                  KeyCommands(), KeyExpireCommands(), ListCommands(), SessionCommands(),
                  SetCommands(), SortedSetCommands(), SortedSetRangeCommands(), StreamCommands(),
                  StreamGroupCommands(), StreamInfoCommands(), StreamReadCommands(),
                  StringCommands()}) {}

  Status Load(std::string_view file, bool verify_checksum = true) {
    RdbReadOptions options;
    options.verify_checksum = verify_checksum;
    RdbReader reader(file, "file", options);
    DatasetLoader loader(harness_.engine(), {.drop_expired = true, .merge = false});
    Result<uint64_t> end = reader.Load(loader);
    return end.ok() ? loader.Finish() : end.status();
  }
  void Empty() {
    harness_.engine().keyspace.FlushAll(false);
    harness_.engine().keyspace.DrainReaper();
  }
  /// Goes through everything that is stored, as a save does, and through every invariant.
  std::string Save(bool compress = true) {
    std::string out;
    StringByteSink bytes(&out);
    RdbWriteOptions options;
    options.compress = compress;
    RdbWriter writer(&bytes, options);
    Keyspace& keyspace = harness_.engine().keyspace;
    keyspace.ForEachDatabase([](Database& db) {
      db.CheckInvariants();
      db.ForEach([](const Entry& entry) {
        if (entry.form() == ValueForm::kObject && entry.object()->AsContainer() != nullptr)
          entry.object()->AsContainer()->CheckInvariants();
        return true;
      });
    });
    EXPECT_TRUE(writer.Start().ok());
    View* view = keyspace.BeginView();
    for (bool more = true; more;) {
      Result<bool> step = view->Step(writer, 1000);
      EXPECT_TRUE(step.ok());
      more = step.ok() && *step;
    }
    keyspace.EndView(view);
    EXPECT_TRUE(writer.Finish().ok());
    return out;
  }
  CommandHarness& harness() { return harness_; }

 private:
  CommandHarness harness_;
};

TEST(RdbHistoryTest, FilesOfEveryGenerationAreReadAndAsked) {
  for (const Generation& generation : Generations()) {
    SCOPED_TRACE(generation.name);
    Store store;
    const Status loaded = store.Load(generation.file);
    ASSERT_TRUE(loaded.ok()) << loaded.message();
    for (const Question& question : generation.questions)
      EXPECT_EQ(store.harness().Run(question.command), question.reply) << question.command[0];
    // And again from what we write of it.
    const std::string ours = store.Save();
    Store copy;
    ASSERT_TRUE(copy.Load(ours).ok());
    for (const Question& question : generation.questions)
      EXPECT_EQ(copy.harness().Run(question.command), question.reply) << question.command[0];
  }
}

TEST(RdbHistoryTest, WhatCannotBeHeldIsRefusedByName) {
  const struct {
    std::string file;
    StatusCode code;
    const char* says;
  } cases[] = {
      {File("REDIS0012", Select(0) + Key(24, "h") + Little(4'000'000'000'000, 8) + Length(1) +
                             Length(1) + Text("f") + Text("v")),
       StatusCode::kUnsupported, "a hash whose fields have expiry times"},
      {File("REDIS0012", Select(0) + Key(25, "h") + Little(4'000'000'000'000, 8) +
                             Text(Listpack({"f", "v", "4000000000000"}))),
       StatusCode::kUnsupported, "a hash whose fields have expiry times"},
      {File("VALKEY080", Select(0) + Key(22, "h") + Length(1) + Text("f") + Text("v") +
                             Little(4'000'000'000'000, 8)),
       StatusCode::kUnsupported, "a hash whose fields have expiry times"},
      {File("REDIS0010", "\xf7" + Length(0x1234567890abcd01) + Length(2) + Length(1) + Length(0)),
       StatusCode::kUnsupported, "module"},
      {File("REDIS0013", ""), StatusCode::kUnsupported, "RDB format version 13"},
      {File("REDIS0010", Select(0) + Key(6, "k")), StatusCode::kUnsupported, "type 6"},
      {File("REDIS0010", Select(99) + Key(0, "k") + Text("v")), StatusCode::kCorruption,
       "more than 16 databases"},
      {File("REDIS0010", Select(0) + Key(0, "k") + Text("v") + Key(0, "k") + Text("w")),
       StatusCode::kCorruption, "RDB has duplicated key 'k' in DB 0"},
  };
  for (const auto& each : cases) {
    Store store;
    const Status loaded = store.Load(each.file);
    EXPECT_EQ(loaded.code(), each.code) << each.says;
    EXPECT_NE(loaded.message().find(each.says), std::string_view::npos) << loaded.message();
  }
}

// --- damage ---

TEST(RdbHistoryTest, ABitFlippedAnywhereIsNeverLoadedAsIfNothingWere) {
  Store store;
  for (const Generation& generation : Generations()) {
    SCOPED_TRACE(generation.name);
    const bool has_checksum = !generation.file.starts_with("REDIS0002");
    for (size_t bit = 0; bit < generation.file.size() * 8; ++bit) {
      std::string bad = generation.file;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
      const Status loaded = store.Load(bad);
      // A flip may turn the version into one without a checksum; nothing else gets through.
      if (has_checksum && loaded.ok()) {
        EXPECT_LT(bad.substr(0, 9), "REDIS0005") << "bit " << bit;
      }
      store.Save();
      store.Empty();
    }
  }
}

// Without the checksum, framing and each type's own decoder are all there is: what they let through
// must still be sound data.
TEST(RdbHistoryTest, DamageThatNoChecksumGuardsNeverBreaksTheStore) {
  Store store;
  for (const Generation& generation : Generations()) {
    SCOPED_TRACE(generation.name);
    for (size_t bit = 0; bit < generation.file.size() * 8; ++bit) {
      std::string bad = generation.file;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
      if (store.Load(bad, false).ok()) store.Save();
      store.Empty();
    }
  }
}

/// CAIRN_CORRUPTION_ROUNDS asks for more.
int Rounds() { return static_cast<int>(AskedNumber("CAIRN_CORRUPTION_ROUNDS", 200)); }

std::string LargeFile() {
  Store store;
  CommandHarness& harness = store.harness();
  for (int i = 0; i < 400; ++i) {
    const std::string n = std::to_string(i);
    harness.Run({"SET", "string:" + n, std::string(static_cast<size_t>(i % 90), 'v') + n});
    harness.Run(
        {"RPUSH", "list:" + std::to_string(i % 3), "element-" + n, n, std::string(200, 'l')});
    harness.Run({"SADD", "set:" + std::to_string(i % 3), "member-" + n, n});
    harness.Run({"SADD", "numbers", n});
    harness.Run({"ZADD", "sorted:" + std::to_string(i % 2), std::to_string(i * 0.5), "m" + n});
    harness.Run({"HSET", "hash:" + std::to_string(i % 2), "field-" + n, "value-" + n, n, n});
    harness.Run({"HSET", "small:" + n, "f", n});
    harness.Run({"XADD", "stream", std::to_string(i + 1) + "-1", "f", n, "g", "x"});
  }
  harness.Run({"XGROUP", "CREATE", "stream", "g", "0"});
  harness.Run({"XREADGROUP", "GROUP", "g", "c", "COUNT", "50", "STREAMS", "stream", ">"});
  harness.Run({"PEXPIREAT", "string:7", "4000000000000"});
  return store.Save(false);
}

TEST(RdbHistoryTest, RandomDamageOfALargeFileIsAlwaysFound) {
  const std::string file = LargeFile();
  ASSERT_GT(file.size(), 100'000u);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Store store;
  ASSERT_TRUE(store.Load(file).ok());
  EXPECT_EQ(store.harness().Run({"DBSIZE"}), ":812");
  store.Empty();
  int through = 0;
  for (int round = 0; round < Rounds(); ++round) {
    std::string bad = file;
    switch (random() % 4) {
      case 0:  // a bit
        bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
        break;
      case 1:  // a sector that was never written
        std::fill_n(bad.begin() + static_cast<long>(random() % (bad.size() / 512)) * 512, 512,
                    '\0');
        break;
      case 2:  // bytes of another place
        bad.replace(random() % (bad.size() - 64), 64, bad.substr(random() % (bad.size() - 64), 64));
        break;
      default:
        bad.resize(random() % bad.size());
        break;
    }
    if (bad == file) continue;
    EXPECT_FALSE(store.Load(bad).ok()) << "round " << round;
    store.Empty();
    // And with nobody looking at the checksum: refused, or sound.
    if (store.Load(bad, false).ok()) {
      ++through;
      store.Save();
    }
    store.Empty();
  }
  // Most of the file is text, which no framing can judge: the campaign reaches what lies behind it.
  EXPECT_GT(through, 0);
}

}  // namespace
}  // namespace cairn

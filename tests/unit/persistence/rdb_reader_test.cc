#include "persistence/rdb_reader.h"

#include <gtest/gtest.h>

#include <random>

#include "persistence/check_rdb.h"
#include "persistence/rdb_format.h"
#include "persistence/rdb_writer.h"
#include "server/platform/env.h"
#include "tests/unit/persistence/rdb_test_support.h"

namespace cairn {
namespace {

using std::string_literals::operator""s;

template <typename Fill>
std::string Write(Fill fill, RdbWriteOptions options = {}) {
  std::string out;
  StringByteSink bytes(&out);
  RdbWriter writer(&bytes, options);
  EXPECT_TRUE(writer.Start().ok());
  fill(writer);
  EXPECT_TRUE(writer.Finish().ok());
  return out;
}

ValueSink& Key(DatasetSink& out, std::string_view key, KeyMeta meta = {}) {
  return **out.Key(key, meta);
}

/// A bit of everything RDB 10 can hold.
void FillEveryType(DatasetSink& out) {
  ASSERT_TRUE(out.Aux("note", "42").ok());
  ASSERT_TRUE(out.FunctionLibrary("#!lua name=x\n").ok());
  ValueSink& aux = **out.ModuleAux(0x1234567890abcd01, 1);
  ASSERT_TRUE(aux.ModuleUnsigned(5).ok() && aux.End().ok());
  ASSERT_TRUE(out.SelectDatabase(0, 9, 1).ok());
  KeyMeta meta{1700000000123, 77, -1};
  ASSERT_TRUE(Key(out, "str", meta).String("hello").ok());
  meta = {-1, -1, 200};
  ASSERT_TRUE(Key(out, "12", meta).Integer(-70000).ok());
  ASSERT_TRUE(Key(out, "lzf").String(std::string(3000, 'z')).ok());
  ValueSink& list = Key(out, "list");
  ASSERT_TRUE(list.Begin(ValueKind::kList, 2).ok() && list.Item("a").ok() &&
              list.Item("1000").ok() && list.End().ok());
  ValueSink& nodes = Key(out, "nodes");
  ASSERT_TRUE(nodes.Begin(ValueKind::kList, 2).ok() &&
              nodes.Packed(rdb::kListQuicklist2, "LP").ok());
  ASSERT_TRUE(nodes.Packed(rdb::kString, "plain").ok() && nodes.End().ok());
  ValueSink& set = Key(out, "set");
  ASSERT_TRUE(set.Begin(ValueKind::kSet, 1).ok() && set.Item("m").ok() && set.End().ok());
  ValueSink& zset = Key(out, "zset");
  ASSERT_TRUE(zset.Begin(ValueKind::kSortedSet, 1).ok() && zset.Scored("m", -1.5).ok() &&
              zset.End().ok());
  ASSERT_TRUE(out.SelectDatabase(15, 4, 0).ok());
  ValueSink& hash = Key(out, "hash");
  ASSERT_TRUE(hash.Begin(ValueKind::kHash, 1).ok() && hash.Field("f", "v").ok() && hash.End().ok());
  ASSERT_TRUE(Key(out, "packed").Packed(rdb::kSetIntset, "intset").ok());
  ValueSink& module = Key(out, "module");
  ASSERT_TRUE(module.BeginModule(0xfedcba9876543210).ok() && module.ModuleSigned(-3).ok());
  ASSERT_TRUE(module.ModuleFloat(0.5F).ok() && module.ModuleDouble(2.25).ok());
  ASSERT_TRUE(module.ModuleString("bytes").ok() && module.End().ok());
  ValueSink& stream = Key(out, "stream");
  ASSERT_TRUE(stream.Begin(ValueKind::kStream, 1).ok() &&
              stream.Field("0123456789abcdef", "LP").ok());
  ASSERT_TRUE(stream.StreamState({1, {5, 6}, {5, 6}, {1, 2}, 3, 1}).ok());
  ASSERT_TRUE(stream.StreamGroup({"g", {5, 6}, -1, 1}).ok() &&
              stream.StreamPending({{5, 6}, 99, 2}).ok());
  ASSERT_TRUE(stream.StreamConsumers(1).ok() && stream.StreamConsumer({"c", 98, -1, 1}).ok());
  ASSERT_TRUE(stream.StreamConsumerPending({5, 6}).ok() && stream.End().ok());
}

/// Wraps a value body in a minimal file without checksum.
std::string FileOf(std::string_view version, std::string_view body) {
  std::string file = std::string(version) + std::string("\xfe\x00", 2) + std::string(body) + "\xff";
  return file + (version < "REDIS0005" ? "" : std::string(8, '\0'));
}

TEST(RdbReaderTest, GivesBackEveryEventThatWasWritten) {
  RecordingSink expected;
  FillEveryType(expected);
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  RecordingSink got;
  RdbReader reader(file, "memory", {});
  const auto end = reader.Load(got);
  ASSERT_TRUE(end.ok()) << end.status().message();
  EXPECT_EQ(*end, file.size());
  EXPECT_TRUE(reader.counts().checksum_verified);
  EXPECT_EQ(reader.counts().keys, 11u);
  EXPECT_EQ(reader.counts().expires, 1u);
  got.events.erase(got.events.begin(), got.events.begin() + 5);  // the standard aux fields
  EXPECT_EQ(got.events, expected.events);
}

TEST(RdbReaderTest, TruncationAtEveryOffsetIsAnError) {
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  for (size_t size = 0; size < file.size(); ++size) {
    const std::string part = file.substr(0, size);
    RecordingSink sink;
    RdbReader reader(part, "memory", {});
    EXPECT_FALSE(reader.Load(sink).ok()) << size;
  }
}

TEST(RdbReaderTest, EveryFlippedBitIsAnError) {
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string bad = file;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    RecordingSink sink;
    RdbReader reader(bad, "memory", {});
    EXPECT_FALSE(reader.Load(sink).ok()) << "bit " << bit;
  }
}

TEST(RdbReaderTest, DamageWithoutChecksumNeverReadsBeyondTheInput) {
  RdbWriteOptions plain;
  plain.checksum = false;
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); }, plain);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = file;
    for (int i = 0; i < 3; ++i) bad[random() % bad.size()] = static_cast<char>(random());
    RecordingSink sink;
    RdbReader reader(bad, "memory", {});
    const auto end = reader.Load(sink);
    if (!end.ok()) ++refused;
    EXPECT_LE(reader.offset_bytes(), bad.size());
  }
  EXPECT_GT(refused, 1000);
}

TEST(RdbReaderTest, LengthsBeyondTheInputTakeNoMemory) {
  const std::string huge("\x81\x7f\xff\xff\xff\xff\xff\xff\xff", 9);
  for (const std::string& body :
       {std::string("\x00\x01k", 3) + huge, std::string("\x01\x01k", 3) + huge,
        std::string("\x04\x01k", 3) + huge, std::string("\x00", 1) + huge,
        std::string("\x00\x01k\xc3\x03", 5) + huge + "abc"}) {
    const std::string file = FileOf("REDIS0010", body);
    RecordingSink sink;
    RdbReader reader(file, "memory", {});
    const auto end = reader.Load(sink);
    ASSERT_FALSE(end.ok());
    EXPECT_EQ(end.status().code(), StatusCode::kCorruption);
    EXPECT_NE(end.status().message().find("memory: "), std::string_view::npos);
    EXPECT_NE(end.status().message().find("(offset "), std::string_view::npos);
  }
}

TEST(RdbReaderTest, RefusesForeignVersionsTypesAndOpcodes) {
  for (const std::string& file :
       {FileOf("REDIS0013", ""), FileOf("REDIS0000", ""), FileOf("VALKEY081", ""),
        FileOf("REDIS0010", std::string("\x17\x01k", 3)), FileOf("REDIS0010", "\xf6"),
        FileOf("REDIS0010", "\xf3"), FileOf("REDIS0010", std::string("\x16\x01k\x00", 4))}) {
    RecordingSink sink;
    RdbReader reader(file, "memory", {});
    EXPECT_EQ(reader.Load(sink).status().code(), StatusCode::kUnsupported);
  }
  RecordingSink sink;
  RdbReader reader("PK\x03\x04 a zip file", "memory", {});
  EXPECT_EQ(reader.Load(sink).status().code(), StatusCode::kCorruption);
}

TEST(RdbReaderTest, ReadsOldAndNewForms) {
  const auto last = [](const std::string& file) {
    RecordingSink sink;
    RdbReader reader(file, "memory", {});
    const auto end = reader.Load(sink);
    EXPECT_TRUE(end.ok()) << end.status().message();
    sink.events.erase(sink.events.begin(), sink.events.begin() + 1);
    std::string all;
    for (const std::string& event : sink.events) all += event + "|";
    return all;
  };
  EXPECT_EQ(last(FileOf("REDIS0003", "\xfd\x02\x00\x00\x00\x00\x01k\x01v"s)),
            "key k 2000 -1 -1|string v|");
  EXPECT_EQ(last(FileOf("REDIS0006",
                        "\x03\x01k\x02\x01"
                        "a\x03"
                        "2.5\x01"
                        "b\xfe"s)),
            "key k -1 -1 -1|begin 3 2|scored a 2.500000|scored b inf|end|");
  EXPECT_EQ(last(FileOf("REDIS0012",
                        "\xf4\x01\x02\x03\x18\x01k\xe8\x03\0\0\0\0\0\0\x02\x00\x01"
                        "a\x01x\x02\x01"
                        "b\x01y"s)),
            "key k -1 -1 -1|begin 4 2|field-ttl a x -1|field-ttl b y 1001|end|");
  EXPECT_EQ(last(FileOf("VALKEY080",
                        "\x16\x01k\x01\x01"
                        "a\x01x\xe8\x03\0\0\0\0\0\0"s)),
            "key k -1 -1 -1|begin 4 1|field-ttl a x 1000|end|");
}

TEST(RdbReaderTest, FileWithBigStringsComesInBlobsAndAnAofTailIsLeft) {
  TempDir dir;
  std::string noise(700000, '\0');
  std::mt19937 random(7);
  for (char& c : noise) c = static_cast<char>(random());
  const std::string file = Write([&](RdbWriter& out) {
    ASSERT_TRUE(out.SelectDatabase(0, 202, 0).ok());
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(Key(out, "k" + std::to_string(i))
                      .String(noise.substr(0, static_cast<size_t>(i) * 300))
                      .ok());
    }
    ASSERT_TRUE(Key(out, "big").String(noise).ok());
    ASSERT_TRUE(Key(out, "packed").String(std::string(300000, 'p')).ok());
  });
  WriteAll(dir / "f.rdb", file + "*1\r\n$4\r\nPING\r\n");
  auto env = NewPosixEnv();
  auto source = OpenByteSource(*env, dir / "f.rdb");
  ASSERT_TRUE(source.ok());
  RdbReadOptions options;
  options.buffer_bytes = 1;  // the smallest there is
  options.progress_interval_bytes = 100000;
  std::vector<uint64_t> progress;
  options.on_progress = [&](uint64_t offset) {
    progress.push_back(offset);
    return Status::Ok();
  };
  RecordingSink sink, expected;
  RdbReader reader((*source).get(), options);
  const auto end = reader.Load(sink);
  ASSERT_TRUE(end.ok()) << end.status().message();
  EXPECT_EQ(*end, file.size());
  EXPECT_EQ(sink.blobs, 2);
  EXPECT_GT(progress.size(), 20u);
  RdbReader memory(file, "memory", {});
  ASSERT_TRUE(memory.Load(expected).ok());
  EXPECT_EQ(sink.events, expected.events);
}

TEST(RdbReaderTest, ProgressCanEndTheLoad) {
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  RdbReadOptions options;
  options.progress_interval_bytes = 1;
  options.on_progress = [](uint64_t) { return Status(StatusCode::kCancelled, "enough"); };
  RecordingSink sink;
  RdbReader reader(file, "memory", options);
  EXPECT_EQ(reader.Load(sink).status().code(), StatusCode::kCancelled);
}

// Who loads one big value answers its clients meanwhile.
TEST(RdbReaderTest, ProgressIsToldInTheMiddleOfAValue) {
  const std::string noise = [] {
    std::string bytes(3'000'000, '\0');
    std::mt19937 random(3);
    for (char& c : bytes) c = static_cast<char>(random());
    return bytes;
  }();
  constexpr uint64_t kItems = 100000;
  const auto item = [](uint64_t i) { return "a member of the value, number " + std::to_string(i); };
  const auto file_with = [](const std::function<void(ValueSink&)>& fill) {
    return Write([&](RdbWriter& out) {
      ASSERT_TRUE(out.SelectDatabase(0, 1, 0).ok());
      fill(Key(out, "big"));
    });
  };
  const std::vector<std::string> files = {
      file_with([&](ValueSink& out) { ASSERT_TRUE(out.String(noise).ok()); }),
      file_with([&](ValueSink& out) {
        ASSERT_TRUE(out.Begin(ValueKind::kSet, kItems).ok());
        for (uint64_t i = 0; i < kItems; ++i) ASSERT_TRUE(out.Item(item(i)).ok());
        ASSERT_TRUE(out.End().ok());
      }),
      file_with([&](ValueSink& out) {
        ASSERT_TRUE(out.Begin(ValueKind::kHash, kItems).ok());
        for (uint64_t i = 0; i < kItems; ++i) ASSERT_TRUE(out.Field(item(i), "v").ok());
        ASSERT_TRUE(out.End().ok());
      }),
      file_with([&](ValueSink& out) {
        ASSERT_TRUE(out.Begin(ValueKind::kSortedSet, kItems).ok());
        for (uint64_t i = 0; i < kItems; ++i) ASSERT_TRUE(out.Scored(item(i), 1.5).ok());
        ASSERT_TRUE(out.End().ok());
      }),
      file_with([&](ValueSink& out) {
        ASSERT_TRUE(out.BeginModule(7).ok());
        ASSERT_TRUE(out.ModuleString(noise).ok());
        ASSERT_TRUE(out.End().ok());
      })};
  TempDir dir;
  auto env = NewPosixEnv();
  for (const std::string& file : files) {
    WriteAll(dir / "f.rdb", file);
    RdbReadOptions options;
    options.progress_interval_bytes = 256 * 1024;
    uint64_t last = 0, farthest = 0, calls = 0;
    options.on_progress = [&](uint64_t offset) {
      farthest = std::max(farthest, offset - last);
      last = offset;
      ++calls;
      return Status::Ok();
    };
    auto source = OpenByteSource(*env, dir / "f.rdb");
    ASSERT_TRUE(source.ok());
    RecordingSink sink;
    RdbReader reader(source->get(), options);
    ASSERT_TRUE(reader.Load(sink).ok());
    EXPECT_TRUE(reader.counts().checksum_verified);
    EXPECT_GE(calls, file.size() / (600 * 1024));
    // A piece of a string that began just short of an interval, or was in the buffer, is passed
    // over.
    EXPECT_LE(farthest, size_t{3} << 19);
  }
}

TEST(RdbReaderTest, VerificationComparesWhatTheSaveCounted) {
  TempDir dir;
  auto env = NewPosixEnv();
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  WriteAll(dir / "f.rdb", file);
  ExpectedCounts counts{11, 1, file.size(), std::nullopt};
  EXPECT_TRUE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
  counts.keys = 12;
  EXPECT_FALSE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
  counts = {11, 0, file.size(), std::nullopt};
  EXPECT_FALSE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
  counts = {11, 1, file.size(), 5};
  EXPECT_FALSE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
}

// What a verification reads of a value of gigabytes takes no memory, and is looked at all the same.
TEST(RdbReaderTest, BigStringsArePassedOverWhenNobodyWantsThem) {
  TempDir dir;
  auto env = NewPosixEnv();
  const std::string big(kMaxCompressedBytes + 1, 'x');
  std::string file = Write([&](RdbWriter& out) {
    ASSERT_TRUE(out.SelectDatabase(0, 2, 0).ok());
    ASSERT_TRUE((*out.Key("big", KeyMeta()))->String(big).ok());
    ASSERT_TRUE((*out.Key("small", KeyMeta()))->String("s").ok());
  });
  WriteAll(dir / "f.rdb", file);
  auto source = OpenByteSource(*env, dir / "f.rdb");
  ASSERT_TRUE(source.ok());
  RdbReadOptions options;
  options.pass_over_big_strings = true;
  RdbReader reader(source->get(), options);
  RecordingSink sink;
  ASSERT_TRUE(reader.Load(sink).ok());
  EXPECT_TRUE(reader.counts().checksum_verified);
  EXPECT_EQ(sink.blobs, 0);
  const std::vector<std::string> end(sink.events.end() - 3, sink.events.end());
  EXPECT_EQ(end, (std::vector<std::string>{"string ", "key small -1 -1 -1", "string s"}));
  const ExpectedCounts counts{2, 0, file.size(), std::nullopt};
  EXPECT_TRUE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
  file[file.size() / 2] ^= 1;
  WriteAll(dir / "f.rdb", file);
  EXPECT_FALSE(VerifyRdbFile(*env, dir / "f.rdb", counts).ok());
}

TEST(RdbReaderTest, CheckerNamesOffsetAndKeyOfTheDamage) {
  TempDir dir;
  auto env = NewPosixEnv();
  const std::string file = Write([](RdbWriter& out) { FillEveryType(out); });
  const auto report = [&](std::string_view bytes, int status) {
    WriteAll(dir / "f.rdb", bytes);
    std::FILE* out = std::fopen((dir / "report").c_str(), "w");
    EXPECT_EQ(CheckRdb(*env, dir / "f.rdb", out), status);
    std::fclose(out);
    return ReadAll(dir / "report");
  };
  const std::string sound = report(file, 0);
  for (const char* line :
       {"REDIS version 10", "aux redis-ver = \"7.0.15\"", "db0: 7 keys, 1 with expiry",
        "db15: 4 keys, 0 with expiry", "string: 3\n", "checksum: ok", "OK: 11 keys"}) {
    EXPECT_NE(sound.find(line), std::string::npos) << line << " in\n" << sound;
  }
  const std::string cut = report(file.substr(0, file.find("hello") + 2), 1);
  EXPECT_NE(cut.find("while reading key \"str\" of type string"), std::string::npos) << cut;
  EXPECT_NE(cut.find("(offset "), std::string::npos) << cut;
}

}  // namespace
}  // namespace cairn

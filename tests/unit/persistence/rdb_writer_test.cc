#include "persistence/rdb_writer.h"

#include <gtest/gtest.h>

#include "persistence/rdb_reader.h"
#include "tests/unit/persistence/rdb_test_support.h"

namespace cairn {
namespace {

std::string Hex(std::string_view bytes) {
  std::string out;
  char pair[3];
  for (const char c : bytes) {
    std::snprintf(pair, sizeof(pair), "%02x", static_cast<unsigned char>(c));
    out += pair;
  }
  return out;
}

/// Type, value, without version and checksum.
std::string Body(std::string_view value, bool compress = true) {
  DumpWriter writer(compress);
  EXPECT_TRUE(writer.sink().String(value).ok());
  std::string payload = writer.Finish().value();
  return payload.substr(0, payload.size() - 10);
}

TEST(RdbWriterTest, IntegersTakeTheNarrowestEncoding) {
  EXPECT_EQ(Hex(Body("127")), "00c07f");
  EXPECT_EQ(Hex(Body("-128")), "00c080");
  EXPECT_EQ(Hex(Body("128")), "00c18000");
  EXPECT_EQ(Hex(Body("-32768")), "00c10080");
  EXPECT_EQ(Hex(Body("32768")), "00c200800000");
  EXPECT_EQ(Hex(Body("-2147483648")), "00c200000080");
  EXPECT_EQ(Hex(Body("2147483648")), "000a32313437343833363438");
  EXPECT_EQ(Hex(Body("007")), "0003303037");
  EXPECT_EQ(Hex(Body("-0")), "00022d30");
  EXPECT_EQ(Hex(Body("")), "0000");
}

TEST(RdbWriterTest, LengthsTakeTheShortestForm) {
  EXPECT_EQ(Hex(Body(std::string(63, 'x'), false).substr(0, 2)), "003f");
  EXPECT_EQ(Hex(Body(std::string(64, 'x'), false).substr(0, 3)), "004040");
  EXPECT_EQ(Hex(Body(std::string(16383, 'x'), false).substr(0, 3)), "007fff");
  EXPECT_EQ(Hex(Body(std::string(16384, 'x'), false).substr(0, 6)), "008000004000");
}

TEST(RdbWriterTest, CompressesOnlyAboveTwentyBytesAndWhenItSaves) {
  EXPECT_EQ(Body(std::string(20, 'x')).size(), 22u);
  EXPECT_EQ(static_cast<uint8_t>(Body(std::string(40, 'x'))[1]), 0xC3);
  EXPECT_EQ(Body("abcdefghijklmnopqrstuvwxyz0123456789").size(), 38u);
}

TEST(RdbWriterTest, AfterManyStringsThatDoNotShrinkOnlySomeAreTried) {
  std::string out;
  StringByteSink bytes(&out);
  RdbEncoder encoder(&bytes, true, true, 4096);
  encoder.CompressAsASave();
  const std::string dense = "abcdefghijklmnopqrstuvwxyz0123456789", loose(40, 'x');
  const auto size_of = [&](const std::string& value) {
    EXPECT_TRUE(encoder.Flush().ok());
    const size_t before = out.size();
    EXPECT_TRUE(encoder.PutString(value).ok());
    EXPECT_TRUE(encoder.Flush().ok());
    return out.size() - before;
  };
  const size_t packed = size_of(loose), plain = loose.size() + 1;
  ASSERT_LT(packed, plain);
  for (int i = 0; i < 255; ++i) EXPECT_EQ(size_of(dense), dense.size() + 1);
  EXPECT_EQ(size_of(loose), packed) << "each is tried so far";
  for (int i = 0; i < 256; ++i) EXPECT_EQ(size_of(dense), dense.size() + 1);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(size_of(loose), plain);
  for (int i = 0; i < 300; ++i)
    EXPECT_EQ(size_of(loose), packed) << "from the first that shrank on";
  // Nothing is concluded from it about strings of other sizes, of which samples decide the largest.
  for (int i = 0; i < 300; ++i) EXPECT_EQ(size_of(dense), dense.size() + 1);
  for (const size_t bytes_each : {21, 200, 30000, 65536, 200000}) {
    EXPECT_LT(size_of(std::string(bytes_each, 'x')), bytes_each * 3 / 4) << bytes_each;
  }
}

TEST(RdbWriterTest, ADumpTriesEachStringAsRedisDoes) {
  const std::string dense = "abcdefghijklmnopqrstuvwxyz0123456789";
  DumpWriter writer;
  ASSERT_TRUE(writer.sink().Begin(ValueKind::kHash, 301).ok());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(writer.sink().Field(std::to_string(i), dense).ok());
  ASSERT_TRUE(writer.sink().Field("last", std::string(40, 'x')).ok());
  ASSERT_TRUE(writer.sink().End().ok());
  EXPECT_EQ(writer.Finish().value().find(std::string(40, 'x')), std::string::npos);
}

struct CountedBytes : ByteSink {
  size_t bytes = 0;
  Status Append(std::string_view piece) override {
    bytes += piece.size();
    return Status::Ok();
  }
};

TEST(RdbWriterTest, ASaveCompressesUpToALimitAndADumpWhateverIsLong) {
  for (const size_t over : {size_t{0}, size_t{1}}) {
    const std::string whole(kMaxCompressedBytes + over, 'x');
    const std::string_view pieces[] = {std::string_view(whole).substr(0, 1000),
                                       std::string_view(whole).substr(1000)};
    const auto size_of = [&](auto put) {
      CountedBytes sink;
      RdbEncoder encoder(&sink, true, true, 4096);
      encoder.CompressAsASave();
      EXPECT_TRUE(put(encoder).ok() && encoder.Flush().ok());
      return sink.bytes;
    };
    const size_t sizes[] = {
        size_of([&](RdbEncoder& encoder) { return encoder.String(whole); }),
        size_of([&](RdbEncoder& encoder) { return encoder.StringPieces(pieces); }),
        size_of([&](RdbEncoder& encoder) { return encoder.PutString(whole) /* in a hash */; })};
    for (const size_t size : sizes) {
      if (over == 0) {
        EXPECT_LT(size, whole.size() / 50);
      } else {
        EXPECT_GE(size, whole.size());
      }
    }
    EXPECT_LT(Body(whole).size(), whole.size() / 50) << "a DUMP is as Redis's";
  }
}

TEST(RdbWriterTest, ALongStringThatIsWrittenPlainReadsBack) {
  const std::string whole(kMaxCompressedBytes + 1, 'x');
  std::string out;
  StringByteSink bytes(&out);
  RdbWriter writer(&bytes, {});
  ASSERT_TRUE(writer.Start().ok() && writer.SelectDatabase(0, 1, 0).ok());
  ASSERT_TRUE((*writer.Key("k", KeyMeta()))->String(whole).ok() && writer.Finish().ok());
  RecordingSink sink;
  ASSERT_TRUE(RdbReader(out, "memory", {}).Load(sink).ok());
  EXPECT_EQ(sink.events.back(), "string " + whole);
}

TEST(RdbWriterTest, WorkedExampleOfTheFormatHeader) {
  std::string out;
  StringByteSink bytes(&out);
  RdbEncoder encoder(&bytes, true, true, 4096);
  ASSERT_TRUE(encoder.PutRaw(std::string_view("REDIS0010\xfe\x00\xfb\x02\x01", 14)).ok());
  ASSERT_TRUE(encoder.PutByte(0xfc).ok());
  ASSERT_TRUE(encoder.PutFixed(1000, 8).ok());
  encoder.SetKey("a");
  ASSERT_TRUE(encoder.Integer(12).ok());
  encoder.SetKey("b");
  ASSERT_TRUE(encoder.String("hi").ok());
  ASSERT_TRUE(encoder.PutByte(0xff).ok());
  ASSERT_TRUE(encoder.Flush().ok());
  ASSERT_TRUE(encoder.PutFixed(encoder.crc(), 8).ok());
  ASSERT_TRUE(encoder.Flush().ok());
  EXPECT_EQ(Hex(out),
            "524544495330303130fe00fb0201fce803000000000000000161c00c00016202"
            "6869ff"
            "2ec9810a406ffaa8");
}

TEST(RdbWriterTest, FileIsTheSameForEveryBufferSize) {
  std::string small, large;
  for (auto [out, size] : {std::pair{&small, size_t{256}}, std::pair{&large, size_t{1} << 20}}) {
    StringByteSink bytes(out);
    RdbWriteOptions options;
    options.buffer_bytes = size;
    options.compress = false;
    RdbWriter writer(&bytes, options);
    ASSERT_TRUE(writer.Start().ok());
    ASSERT_TRUE(writer.SelectDatabase(0, 300, 0).ok());
    for (int i = 0; i < 300; ++i) {
      auto value = writer.Key("key:" + std::to_string(i), KeyMeta());
      ASSERT_TRUE(value.ok());
      ASSERT_TRUE((*value)->String(std::string(static_cast<size_t>(i) * 331, 'v')).ok());
    }
    ASSERT_TRUE(writer.Finish().ok());
    EXPECT_EQ(writer.bytes(), out->size());
    EXPECT_EQ(writer.key_count(), 300u);
  }
  EXPECT_EQ(small, large);
  RecordingSink sink;
  RdbReader reader(small, "memory", {});
  EXPECT_TRUE(reader.Load(sink).ok());
  EXPECT_TRUE(reader.counts().checksum_verified);
}

TEST(RdbWriterTest, SinkErrorEndsTheSave) {
  struct FullDisk : ByteSink {
    Status Append(std::string_view) override { return {StatusCode::kNoSpace, "disk full"}; }
  } disk;
  RdbWriter writer(&disk, {});
  ASSERT_TRUE(writer.Start().ok());
  const Status status = writer.Finish();
  EXPECT_EQ(status.code(), StatusCode::kNoSpace);
}

}  // namespace
}  // namespace cairn

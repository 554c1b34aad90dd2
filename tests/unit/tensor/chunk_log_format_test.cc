#include "tensor_module/chunk_log_format.h"

#include <gtest/gtest.h>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kSalt = 0x5eed5eed5eed5eed;

/// Appends a chunk of `bytes`; returns its record.
ChunkRecord Add(std::string* segment, std::string_view bytes, uint64_t synced = 0) {
  ChunkRecord record;
  record.dtype = DType::kU8;
  record.raw_bytes = record.stored_bytes = static_cast<uint32_t>(bytes.size());
  record.hash = HashBytes128(bytes);
  record.synced = synced;
  record.figures = ComputeFigures(DType::kU8, bytes);
  record.offset = segment->size();
  *segment += EncodeRecordHead(record, kSalt);
  *segment += bytes;
  segment->resize(static_cast<size_t>(record.end()), '\0');
  return record;
}

std::string TwoChunks() {
  std::string segment = EncodeSegmentHeader(kSalt, 7);
  Add(&segment, "abc");
  Add(&segment, Pattern(200), segment.size());
  return segment;
}

TEST(ChunkLogFormatTest, TheExampleOfTheHeader) {
  std::string segment = EncodeSegmentHeader(kSalt, 7);
  const ChunkRecord chunk = Add(&segment, "abc");
  EXPECT_EQ(segment.size(), 256u);
  ChunkRecord mark;
  mark.kind = ChunkRecord::Kind::kMark;
  mark.synced = mark.offset = 256;
  segment += EncodeRecordHead(mark, kSalt);
  const SegmentScan scan = ScanSegment(segment);
  ASSERT_TRUE(scan.valid);
  EXPECT_EQ(scan.number, 7u);
  EXPECT_EQ(scan.synced, 256u);
  EXPECT_EQ(scan.end, 384u);
  EXPECT_EQ(scan.skipped_bytes, 0u);
  ASSERT_EQ(scan.chunks.size(), 1u);
  EXPECT_EQ(scan.chunks[0].hash, chunk.hash);
  EXPECT_EQ(scan.chunks[0].raw_bytes, 3u);
  EXPECT_EQ(scan.chunks[0].figures.sum, chunk.figures.sum);
  EXPECT_EQ(scan.chunks[0].figures.min, 97);
}

TEST(ChunkLogFormatTest, ATailTornAtAnyByteLosesThatRecordOnly) {
  const std::string whole = TwoChunks();
  for (size_t size = 0; size < whole.size(); ++size) {
    const SegmentScan scan = ScanSegment(std::string_view(whole).substr(0, size));
    EXPECT_EQ(scan.valid, size >= kSegmentHeaderBytes) << size;
    EXPECT_EQ(scan.chunks.size(), size < 256 ? 0u : 1u) << size;
    EXPECT_EQ(scan.end, size < 64 ? 0u : size < 256 ? 64u : 256u) << size;
  }
}

// A flip in a head loses its record; one in a payload is for the hash to find; no flip makes
// anything else.
TEST(ChunkLogFormatTest, ABitFlippedAnywhereMakesNoOtherRecord) {
  const std::string whole = TwoChunks();
  const SegmentScan good = ScanSegment(whole);
  ASSERT_EQ(good.chunks.size(), 2u);
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const SegmentScan scan = ScanSegment(damaged);
      if (at < kSegmentHeaderBytes) {
        EXPECT_FALSE(scan.valid) << at;
        continue;
      }
      const bool in_first = at < 64 + kRecordHeadBytes;
      const bool in_second = at >= 256 && at < 256 + kRecordHeadBytes;
      ASSERT_EQ(scan.chunks.size(), in_first || in_second ? 1u : 2u) << at;
      for (const ChunkRecord& record : scan.chunks) {
        const ChunkRecord& same = good.chunks[record.offset == 64 ? 0 : 1];
        EXPECT_EQ(record.hash, same.hash);
        EXPECT_EQ(record.raw_bytes, same.raw_bytes);
        EXPECT_EQ(record.offset, same.offset);
        EXPECT_EQ(record.synced, same.synced);
      }
    }
  }
}

TEST(ChunkLogFormatTest, APayloadThatLooksLikeARecordIsNone) {
  // What a client can know: the format, but not the salt.
  std::string forged(64, 'x');
  ChunkRecord record;
  record.raw_bytes = record.stored_bytes = 4;
  record.hash = HashBytes128("evil");
  record.offset = 64 + kRecordHeadBytes + 64;
  forged += EncodeRecordHead(record, 0) + "evil";
  std::string segment = EncodeSegmentHeader(kSalt, 1);
  Add(&segment, forged);
  // Even when the record around it is damaged and what follows is searched.
  segment[70] = static_cast<char>(segment[70] ^ 1);
  EXPECT_TRUE(ScanSegment(segment).chunks.empty());
}

TEST(ChunkLogFormatTest, RecordsOfNoSenseAreRefused) {
  const auto refused = [](auto change) {
    std::string segment = EncodeSegmentHeader(kSalt, 1);
    const ChunkRecord record = Add(&segment, "abcd");
    ChunkRecord other = record;
    change(&other);
    segment.replace(64, kRecordHeadBytes, EncodeRecordHead(other, kSalt));
    return ScanSegment(segment).chunks.empty();
  };
  EXPECT_FALSE(refused([](ChunkRecord*) {}));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->raw_bytes = 5; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->raw_bytes = r->stored_bytes = 0; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->raw_bytes = r->stored_bytes = 1000; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->raw_bytes = r->stored_bytes = UINT32_MAX; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->dtype = static_cast<DType>(kDTypeCount); }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->dtype = DType::kF64; })) << "half an element";
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->codec = static_cast<ChunkCodec>(1); }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->synced = 65; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->offset = 128; }));
  EXPECT_TRUE(refused([](ChunkRecord* r) { r->kind = static_cast<ChunkRecord::Kind>(3); }));
}

}  // namespace
}  // namespace cairn::tensor

#include "server/data/bits.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace cairn {
namespace {

std::string RandomBytes(std::mt19937_64& random, size_t size) {
  // Long runs of equal bytes, or the search's word steps would never be taken.
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size;) {
    const size_t run = std::min<size_t>(1 + random() % 40, size - i);
    const int kind = static_cast<int>(random() % 3);
    for (size_t j = 0; j < run; ++j)
      bytes[i + j] = kind == 0 ? '\0' : kind == 1 ? '\xff' : static_cast<char>(random());
    i += run;
  }
  return bytes;
}

TEST(BitsTest, CountAndFindAgreeWithOneBitAtATime) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    const std::string bytes = RandomBytes(random, 1 + random() % 90);
    const uint64_t total = bytes.size() * 8;
    uint64_t first = random() % total, last = random() % total;
    if (first > last) std::swap(first, last);
    uint64_t count = 0;
    std::optional<uint64_t> first_set, first_clear;
    for (uint64_t at = first; at <= last; ++at) {
      const bool bit = GetBit(bytes, at);
      count += bit;
      if (bit && !first_set) first_set = at;
      if (!bit && !first_clear) first_clear = at;
    }
    ASSERT_EQ(CountBits(bytes, first, last), count);
    ASSERT_EQ(FindBit(bytes, true, first, last), first_set);
    ASSERT_EQ(FindBit(bytes, false, first, last), first_clear);
    ASSERT_EQ(CountBits(bytes), CountBits(bytes, 0, total - 1));
  }
}

TEST(BitsTest, ABitIsFoundBehindAnyRun) {
  for (const bool bit : {false, true}) {
    for (size_t size = 1; size < 140; ++size) {
      std::string bytes(size, bit ? '\0' : '\xff');
      ASSERT_EQ(FindBit(bytes, bit, 0, size * 8 - 1), std::nullopt);
      for (size_t at = 0; at < size; ++at) {
        bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
        for (uint64_t first = 0; first <= at * 8 + 3; first += 7)
          ASSERT_EQ(FindBit(bytes, bit, first, size * 8 - 1), at * 8 + 3);
        bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
      }
    }
  }
}

TEST(BitsTest, CombiningIsByteForByte) {
  std::mt19937_64 random(5);
  for (size_t size = 0; size < 150; ++size) {
    const std::string a = RandomBytes(random, size + 1), b = RandomBytes(random, size);
    std::string both = a, either = a, differ = a, inverse = a;
    CombineBits(BitOperation::kAnd, both.data(), b.data(), size);
    CombineBits(BitOperation::kOr, either.data(), b.data(), size);
    CombineBits(BitOperation::kXor, differ.data(), b.data(), size);
    InvertBits(inverse.data(), b.data(), size);
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(both[i], static_cast<char>(a[i] & b[i]));
      ASSERT_EQ(either[i], static_cast<char>(a[i] | b[i]));
      ASSERT_EQ(differ[i], static_cast<char>(a[i] ^ b[i]));
      ASSERT_EQ(inverse[i], static_cast<char>(~b[i]));
    }
    for (const std::string& each : {both, either, differ, inverse}) ASSERT_EQ(each[size], a[size]);
  }
}

TEST(BitsTest, FieldsOfEveryWidthAndPlaceReadBackAndLeaveTheirNeighboursAlone) {
  for (const bool is_signed : {false, true}) {
    for (unsigned bits = 1; bits <= (is_signed ? kMaxSignedBits : kMaxUnsignedBits); ++bits) {
      for (uint64_t at = 0; at < 16; ++at) {
        const BitFieldType type{is_signed, bits};
        std::string bytes((at + bits + 7) / 8 + 1, '\x55');
        const std::string before = bytes;
        const int64_t value = is_signed ? -1 : static_cast<int64_t>((uint64_t{1} << bits) - 1);
        WriteBitField(bytes.data(), bytes.size(), at, type, value);
        ASSERT_EQ(ReadBitField(bytes, at, type), value);
        for (uint64_t i = 0; i < bytes.size() * 8; ++i) {
          const bool inside = i >= at && i < at + bits;
          ASSERT_EQ(GetBit(bytes, i), inside || GetBit(before, i)) << i;
        }
      }
    }
  }
}

TEST(BitsTest, BitsBehindTheEndReadAsZero) {
  EXPECT_EQ(ReadBitField("\xff", 4, {false, 8}), 0xf0);
  EXPECT_EQ(ReadBitField("\xff", 8, {true, 64}), 0);
  EXPECT_EQ(ReadBitField("", 1000, {false, 63}), 0);
}

TEST(BitsTest, TypesAreExactlyThoseThatRedisKnows) {
  EXPECT_EQ(ParseBitFieldType("i64")->bits, 64u);
  EXPECT_EQ(ParseBitFieldType("u63")->bits, 63u);
  EXPECT_TRUE(ParseBitFieldType("i1")->is_signed);
  for (const char* bad : {"", "i", "u0", "u64", "i65", "I8", "8", "i-1", "i08", "u8 "})
    EXPECT_FALSE(ParseBitFieldType(bad).has_value()) << bad;
}

TEST(BitsTest, OverflowWrapsSaturatesOrFailsAtTheEdgeAndOnePastIt) {
  const BitFieldType u2{false, 2}, i8{true, 8}, i64{true, 64};
  EXPECT_EQ(AddBitField(u2, 2, 1, BitOverflow::kFail), 3);
  EXPECT_EQ(AddBitField(u2, 3, 1, BitOverflow::kFail), std::nullopt);
  EXPECT_EQ(AddBitField(u2, 3, 1, BitOverflow::kWrap), 0);
  EXPECT_EQ(AddBitField(u2, 3, 1, BitOverflow::kSaturate), 3);
  EXPECT_EQ(AddBitField(u2, 0, -1, BitOverflow::kWrap), 3);
  EXPECT_EQ(AddBitField(u2, 0, -1, BitOverflow::kSaturate), 0);
  EXPECT_EQ(AddBitField(i8, 127, 1, BitOverflow::kWrap), -128);
  EXPECT_EQ(AddBitField(i8, -128, -1, BitOverflow::kSaturate), -128);
  EXPECT_EQ(AddBitField(i64, INT64_MAX, 1, BitOverflow::kWrap), INT64_MIN);
  EXPECT_EQ(AddBitField(i64, INT64_MIN, -1, BitOverflow::kFail), std::nullopt);
  // SET of a negative number into an unsigned field: 64 unsigned bits that do not fit.
  EXPECT_EQ(AddBitField({false, 63}, -1, 0, BitOverflow::kSaturate), INT64_MAX);
}

}  // namespace
}  // namespace cairn

#include "server/base/hash.h"

#include <gtest/gtest.h>

#include <random>

namespace cairn {
namespace {

std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

/// The definition, one bit at a time.
uint64_t Crc64ByBits(uint64_t crc, std::string_view bytes) {
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x95ac9329ac4bc9b5 : 0);
  }
  return crc;
}

TEST(HashTest, SeedAndBytesBothMatter) {
  EXPECT_EQ(HashBytes("key", 1), HashBytes("key", 1));
  EXPECT_NE(HashBytes("key", 1), HashBytes("key", 2));
  EXPECT_NE(HashBytes("key", 1), HashBytes("kez", 1));
  // XXH3-64 of nothing with seed 0, from the published test vectors.
  EXPECT_EQ(HashBytes("", 0), 0x2d06800538d394c2u);
}

TEST(ChecksumTest, Hash128MatchesPublishedValuesAndTheInlineCode) {
  EXPECT_EQ(Hash128Hex(HashBytes128("")), "99aa06d3014798d86001c324468d497f");
  for (const size_t size : {1u, 16u, 128u, 240u, 241u, 1024u, 65536u, 300001u}) {
    const std::string bytes = RandomBytes(size, size);
    const XXH128_hash_t plain = XXH3_128bits(bytes.data(), bytes.size());
    EXPECT_EQ(HashBytes128(bytes), (Hash128{plain.low64, plain.high64})) << size;
  }
}

TEST(ChecksumTest, AStreamHashesWhatWasAddedHoweverItCame) {
  const std::string bytes = RandomBytes(200'003, 5);
  const std::string_view all = bytes;
  for (const size_t step : {1u, 64u, 1000u, 1024u, 4096u, 70'000u, 200'003u}) {
    Hash128Stream stream;
    EXPECT_EQ(stream.Hash(), HashBytes128(""));
    for (size_t at = 0; at < all.size(); at += step) {
      stream.Add(all.substr(at, step));
      stream.Add({});
    }
    const XXH128_hash_t plain = XXH3_128bits(bytes.data(), bytes.size());
    EXPECT_EQ(stream.Hash(), (Hash128{plain.low64, plain.high64})) << step;
  }
}

TEST(ChecksumTest, Hash128HexRoundTrips) {
  const Hash128 hash{.low = 0x0123456789abcdef, .high = 0xfedcba9876543210};
  EXPECT_EQ(Hash128Hex(hash), "fedcba98765432100123456789abcdef");
  Hash128 parsed;
  EXPECT_TRUE(ParseHash128Hex("FEDCBA98765432100123456789abcdef", &parsed));
  EXPECT_EQ(parsed, hash);
  EXPECT_FALSE(ParseHash128Hex("fedcba98765432100123456789abcde", &parsed));
  EXPECT_FALSE(ParseHash128Hex("fedcba98765432100123456789abcdef00", &parsed));
  EXPECT_FALSE(ParseHash128Hex("gedcba98765432100123456789abcdef", &parsed));
}

TEST(ChecksumTest, HexRoundTrips) {
  const std::string bytes("\x00\x7f\xff", 3);
  EXPECT_EQ(HexEncode(bytes), "007fff");
  std::string decoded;
  EXPECT_TRUE(HexDecode("007FfF", &decoded));
  EXPECT_EQ(decoded, bytes);
  EXPECT_FALSE(HexDecode("0", &decoded));
  EXPECT_FALSE(HexDecode("0g", &decoded));
  EXPECT_EQ(decoded, bytes);
}

TEST(ChecksumTest, Crc64HasTheCheckValueOfRdbFiles) {
  EXPECT_EQ(Crc64(0, "123456789"), 0xe9c6d914c4b8d9cau);
  EXPECT_EQ(Crc64(0, ""), 0u);
}

TEST(ChecksumTest, Crc64VariantsAgreeOnEveryLengthAndAlignment) {
  const std::string bytes = RandomBytes(2048 + 64, 20261123);
  ASSERT_TRUE(Crc64FoldingSupported() || Crc64Folded(0, bytes) == Crc64Sliced(0, bytes));
  for (size_t size = 0; size <= 700; ++size) {
    const std::string_view part = std::string_view(bytes).substr(size % 17, size);
    const uint64_t expected = Crc64ByBits(0x1234567890abcdef, part);
    ASSERT_EQ(Crc64Sliced(0x1234567890abcdef, part), expected) << size;
    ASSERT_EQ(Crc64(0x1234567890abcdef, part), expected) << size;
    if (Crc64FoldingSupported()) {
      ASSERT_EQ(Crc64Folded(0x1234567890abcdef, part), expected) << size;
    }
  }
}

TEST(ChecksumTest, Crc64OverZerosIsCrc64OfZeros) {
  const uint64_t crc = 0x1234567890abcdef;
  EXPECT_EQ(Crc64OverZeros(0, 12345), 0u);
  for (const size_t size : {0, 1, 2, 7, 8, 255, 4096, 1000001}) {
    EXPECT_EQ(Crc64OverZeros(crc, size), Crc64(crc, std::string(size, '\0'))) << size;
  }
  const uint64_t far = uint64_t{1} << 50;
  EXPECT_EQ(Crc64OverZeros(Crc64OverZeros(crc, far + 3), far), Crc64OverZeros(crc, 2 * far + 3));
}

TEST(ChecksumTest, Crc64ContinuesAcrossPieces) {
  const std::string bytes = RandomBytes(1 << 20, 7);
  const std::string_view view = bytes;
  const uint64_t whole = Crc64(0, view);
  EXPECT_EQ(whole, Crc64Sliced(0, view));
  for (const size_t cut : {1u, 63u, 64u, 257u, 1000000u}) {
    EXPECT_EQ(Crc64(Crc64(0, view.substr(0, cut)), view.substr(cut)), whole) << cut;
  }
}

}  // namespace
}  // namespace cairn

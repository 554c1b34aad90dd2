// Chunks held in less room come back to the bit, whatever they are, and what is no encoded chunk is
// refused without harm.

#include "tensor_module/chunk_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// Weights as training makes them: normal, of a standard deviation of 0.02.
std::string Weights(size_t width, size_t count, int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal(0, 0.02f);
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    const float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (width == 2) bits >>= 16;
    out.append(reinterpret_cast<const char*>(&bits), width);
  }
  return out;
}

std::string Noise(size_t size, int seed) {
  std::mt19937_64 random(static_cast<unsigned>(seed));
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

/// One element in `share` is another.
std::string Changed(std::string bytes, size_t width, size_t share, int seed) {
  const std::string other = Noise(bytes.size(), seed);
  std::mt19937_64 random(static_cast<unsigned>(seed));
  for (size_t at = 0; at + width <= bytes.size(); at += width) {
    if (random() % share != 0) continue;
    for (size_t i = 0; i < width; ++i)
      bytes[at + i] = static_cast<char>(bytes[at + i] ^ other[at + i]);
  }
  return bytes;
}

std::string Decoded(std::string_view encoded, std::string_view base, size_t size) {
  std::string out(size, '?');
  EXPECT_TRUE(DecodeChunk(encoded, base, out));
  return out;
}

TEST(ChunkCodecTest, WeightsBecomePlanes) {
  const std::string half = Weights(2, 131072, 1), full = Weights(4, 65536, 2);
  const std::string of_half = EncodeChunk(half, 2, ""), of_full = EncodeChunk(full, 4, "");
  ASSERT_FALSE(of_half.empty() || of_full.empty());
  EXPECT_LT(of_half.size(), half.size() * 10 / 13);
  EXPECT_LT(of_full.size(), full.size() * 19 / 20);
  EXPECT_EQ(FormOf(of_half), ChunkForm::kPlanes);
  EXPECT_FALSE(NeedsBase(of_half));
  EXPECT_TRUE(Decoded(of_half, "", half.size()) == half);
  EXPECT_TRUE(Decoded(of_full, "", full.size()) == full);
}

TEST(ChunkCodecTest, OnePercentOfBf16TakesAThirtiethAndLess) {
  const std::string base = Weights(2, 131072, 3), bytes = Changed(base, 2, 100, 4);
  const std::string encoded = EncodeChunk(bytes, 2, base);
  EXPECT_LT(encoded.size(), bytes.size() / 60);
  EXPECT_EQ(FormOf(encoded), ChunkForm::kSparse);
  EXPECT_TRUE(Decoded(encoded, base, bytes.size()) == bytes);
  EXPECT_TRUE(NeedsBase(encoded));
  std::string out(bytes.size(), '?');
  EXPECT_FALSE(DecodeChunk(encoded, "", out));
  EXPECT_FALSE(DecodeChunk(encoded, base.substr(1), out));
}

TEST(ChunkCodecTest, SmallStepsOfEveryWeightAreDense) {
  const std::string base = Weights(4, 65536, 5);
  std::string bytes = base;
  // A learning rate's worth: the low half of each number is another.
  const std::string noise = Noise(bytes.size(), 6);
  for (size_t at = 0; at < bytes.size(); at += 4)
    bytes[at] = noise[at], bytes[at + 1] = noise[at + 1];
  const std::string encoded = EncodeChunk(bytes, 4, base);
  EXPECT_EQ(FormOf(encoded), ChunkForm::kDense);
  EXPECT_LT(encoded.size(), bytes.size() * 11 / 20);
  EXPECT_TRUE(Decoded(encoded, base, bytes.size()) == bytes);
}

TEST(ChunkCodecTest, NoiseIsLeftAsItIs) {
  EXPECT_EQ(EncodeChunk(Noise(262144, 7), 1, ""), "");
  EXPECT_EQ(EncodeChunk(Noise(262144, 7), 2, Noise(262144, 8)), "");
  EXPECT_EQ(EncodeChunk("", 2, ""), "");
  EXPECT_EQ(EncodeChunk("x", 1, ""), "");
}

TEST(ChunkCodecTest, AnyBytesComeBack) {
  std::mt19937_64 random(9);
  int encoded_ones = 0;
  for (int round = 0; round < 3000; ++round) {
    const size_t width = size_t{1} << random() % 5;
    const size_t size = round % 3 == 0 ? random() % 40 : random() % 3000;
    std::string base = random() % 2 == 0 ? Noise(size, round) : std::string(size, '\7');
    const size_t share = 1 + random() % 40;
    const std::string bytes = Changed(base, random() % 2 == 0 ? width : 1, share, round + 1);
    if (random() % 8 == 0) base += 'x';
    const std::string encoded = EncodeChunk(bytes, width, base);
    if (encoded.empty()) continue;
    ++encoded_ones;
    ASSERT_LE(encoded.size(), size - size / 20);
    ASSERT_TRUE(Decoded(encoded, base, size) == bytes) << round;
  }
  EXPECT_GT(encoded_ones, 1000);
}

TEST(ChunkCodecTest, TheWorkedExampleDecodes) {
  const std::string base("\x00\x00\x11\x11\x22\x22", 6);
  const std::string encoded("\x02\x02\x01\0\0\0\x01\0\0\0\x00\x03\0\0\0\x01\x03\x00", 18);
  EXPECT_EQ(Decoded(encoded, base, 6), std::string("\x00\x00\x12\x11\x22\x22", 6));
}

TEST(ChunkCodecTest, WhatIsNoEncodedChunkIsRefused) {
  const std::string base = Weights(2, 4000, 10), bytes = Changed(base, 2, 50, 11);
  const std::string dense = Changed(base, 2, 2, 12), planes = EncodeChunk(base, 2, "");
  for (const std::string& good :
       {EncodeChunk(bytes, 2, base), EncodeChunk(dense, 2, base), planes}) {
    ASSERT_FALSE(good.empty());
    std::string out(bytes.size(), '?');
    for (size_t cut = 0; cut < good.size(); ++cut) {
      ASSERT_FALSE(DecodeChunk(good.substr(0, cut), base, out)) << cut;
    }
    EXPECT_FALSE(DecodeChunk(good + "x", base, out));
    std::string shorter(bytes.size() - 2, '?');
    // What is sparse names what differs, not how much there is.
    if (FormOf(good) != ChunkForm::kSparse) {
      EXPECT_FALSE(DecodeChunk(good, base.substr(2), shorter));
    }
    for (size_t at = 0; at < good.size(); ++at) {
      for (const int flip : {1, 0x80, 0xff}) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ flip);
        [[maybe_unused]] const bool taken = DecodeChunk(bad, base, out);  // no harm
      }
    }
  }
  std::string out(6, '?');
  // A place behind the end, a gap of too many bytes, gaps left over.
  const auto sparse = [](const std::string& gaps) {
    std::string made("\x02\x01\x01\0\0\0", 6);
    made += std::string{static_cast<char>(gaps.size()),     0, 0, 0, 0,
                        static_cast<char>(gaps.size() + 1), 0, 0, 0};
    return made + gaps + "\x01";
  };
  EXPECT_TRUE(DecodeChunk(sparse("\x05"), "abcdef", out));
  EXPECT_FALSE(DecodeChunk(sparse("\x06"), "abcdef", out));
  EXPECT_FALSE(DecodeChunk(sparse("\xff\xff\xff\xff\x7f"), "abcdef", out));
  EXPECT_FALSE(DecodeChunk(sparse("\x80\x80\x80\x80\x80"), "abcdef", out));
  EXPECT_FALSE(DecodeChunk(sparse(std::string("\x01\x00", 2)), "abcdef", out));
}

}  // namespace
}  // namespace cairn::tensor

#include "tensor_module/numeric.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace cairn::tensor {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(NumericTest, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    ASSERT_EQ(FloatToHalf(HalfToFloat(half)), half) << bits;
    ASSERT_EQ(FloatToBFloat16(BFloat16ToFloat(half)), half) << bits;
  }
}

TEST(NumericTest, EveryEightBitFloatSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xff; ++bits) {
    const auto byte = static_cast<uint8_t>(bits);
    ASSERT_EQ(FloatToE4M3(E4M3ToFloat(byte)), byte) << bits;
    ASSERT_EQ(FloatToE5M2(E5M2ToFloat(byte)), byte) << bits;
  }
}

TEST(NumericTest, KnownValuesOfTheSmallFloats) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0xfc00), -kInf);
  EXPECT_EQ(E4M3ToFloat(0x7e), 448.0f);
  EXPECT_TRUE(std::isnan(E4M3ToFloat(0x7f)));
  EXPECT_EQ(E4M3ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(E5M2ToFloat(0x7b), 57344.0f);
  EXPECT_EQ(E5M2ToFloat(0x7c), kInf);
  EXPECT_EQ(BFloat16ToFloat(0x4049), 3.140625f);
}

/// The representable neighbour that is nearest, ties to the even one, by search over all of them.
template <typename Bits, typename ToFloat>
Bits Nearest(float value, ToFloat to_float, Bits largest) {
  Bits best = 0;
  for (uint32_t bits = 0; bits <= largest; ++bits) {
    const double here = std::abs(static_cast<double>(to_float(static_cast<Bits>(bits))) - value);
    const double there = std::abs(static_cast<double>(to_float(best)) - value);
    if (here < there || (here == there && (bits & 1) == 0)) best = static_cast<Bits>(bits);
  }
  return best;
}

TEST(NumericTest, RoundsToTheNearestTiesToEven) {
  for (int i = 0; i < 4000; ++i) {
    const float value = static_cast<float>(i) * 0.109375f;  // to 437.4, below the largest E4M3
    ASSERT_EQ(FloatToE4M3(value), (Nearest<uint8_t>(value, E4M3ToFloat, 0x7e))) << value;
    ASSERT_EQ(FloatToE5M2(value), (Nearest<uint8_t>(value, E5M2ToFloat, 0x7b))) << value;
  }
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0);
  EXPECT_EQ(FloatToHalf(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(FloatToE4M3(1000.0f), 0x7f);
  EXPECT_EQ(FloatToBFloat16(0x1.01p0f), 0x3f80);
  EXPECT_EQ(FloatToBFloat16(0x1.03p0f), 0x3f82);
}

TEST(NumericTest, SignsOfZeroAndPayloadsOfNanStay) {
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x7f800001u)), 0x7fc0) << "not infinity";
  EXPECT_EQ(FloatToHalf(std::bit_cast<float>(0x7f802000u)), 0x7c01);
}

TEST(NumericTest, StoreScalarSaturatesIntegersAndCutsTowardZero) {
  const auto stored = [](double value) {
    int8_t out = 0;
    Scalar scalar;
    scalar.real = value;
    StoreScalar(DType::kI8, scalar, reinterpret_cast<char*>(&out));
    return out;
  };
  EXPECT_EQ(stored(3.9), 3);
  EXPECT_EQ(stored(-3.9), -3);
  EXPECT_EQ(stored(1000), 127);
  EXPECT_EQ(stored(-1000), -128);
  EXPECT_EQ(stored(std::nan("")), 0);
  EXPECT_EQ(stored(std::numeric_limits<double>::infinity()), 127);
}

TEST(NumericTest, ParseScalarTakesWhatFitsTheType) {
  Scalar out;
  EXPECT_TRUE(ParseScalar(DType::kI8, "-128", &out));
  EXPECT_FALSE(ParseScalar(DType::kI8, "128", &out));
  EXPECT_FALSE(ParseScalar(DType::kI8, "1.5", &out));
  EXPECT_TRUE(ParseScalar(DType::kU64, "18446744073709551615", &out));
  EXPECT_FALSE(ParseScalar(DType::kU64, "-1", &out));
  EXPECT_TRUE(ParseScalar(DType::kBool, "1", &out));
  EXPECT_FALSE(ParseScalar(DType::kBool, "2", &out));
  EXPECT_TRUE(ParseScalar(DType::kF32, "-1e-3", &out));
  EXPECT_TRUE(ParseScalar(DType::kF32, "inf", &out));
  EXPECT_TRUE(ParseScalar(DType::kF32, "NaN", &out));
  EXPECT_TRUE(std::isnan(out.real));
  EXPECT_FALSE(ParseScalar(DType::kF32, "", &out));
  EXPECT_FALSE(ParseScalar(DType::kF32, "1x", &out));
}

TEST(NumericTest, NonFiniteElementsOfEveryType) {
  const float inf = kInf, one = 1;
  EXPECT_TRUE(IsNonFinite(DType::kF32, reinterpret_cast<const char*>(&inf)));
  EXPECT_FALSE(IsNonFinite(DType::kF32, reinterpret_cast<const char*>(&one)));
  const float half_bad[2] = {1, kInf};
  EXPECT_TRUE(IsNonFinite(DType::kC64, reinterpret_cast<const char*>(half_bad)));
  const char e4m3[] = {0x7f, 0x7e, 0x7c};
  EXPECT_TRUE(IsNonFinite(DType::kF8E4M3, e4m3));
  EXPECT_FALSE(IsNonFinite(DType::kF8E4M3, e4m3 + 1));
  EXPECT_TRUE(IsNonFinite(DType::kF8E5M2, e4m3 + 2));
  const int64_t all_ones = -1;
  EXPECT_FALSE(IsNonFinite(DType::kI64, reinterpret_cast<const char*>(&all_ones)));
}

}  // namespace
}  // namespace cairn::tensor

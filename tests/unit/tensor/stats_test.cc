#include "tensor_module/stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tensor_module/numeric.h"
#include "tensor_module/plain_floats.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// The same figures by plain loops over single elements.
Stats ModelStats(DType dtype, const std::string& bytes) {
  Stats out;
  std::vector<double> finite;
  const size_t size = DTypeSize(dtype);
  for (size_t i = 0; i < bytes.size(); i += size) {
    const double value = LoadScalar(dtype, bytes.data() + i).AsDouble();
    ++out.count;
    if (std::isnan(value)) ++out.nan;
    if (std::isinf(value)) ++out.inf;
    if (value == 0) ++out.zeros;
    if (std::isfinite(value)) finite.push_back(value);
  }
  const double nan = std::nan("");
  const auto n = static_cast<double>(finite.size());
  out.min = finite.empty() ? nan : *std::min_element(finite.begin(), finite.end());
  out.max = finite.empty() ? nan : *std::max_element(finite.begin(), finite.end());
  out.mean = finite.empty() ? nan : std::accumulate(finite.begin(), finite.end(), 0.0) / n;
  double spread = 0, squares = 0;
  for (double value : finite) {
    out.l1 += std::abs(value);
    squares += value * value;
    spread += (value - out.mean) * (value - out.mean);
  }
  out.l2 = std::sqrt(squares);
  out.std = finite.size() > 1 ? std::sqrt(spread / (n - 1)) : nan;
  return out;
}

void ExpectNear(double actual, double expected, const char* what) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual)) << what;
  } else {
    EXPECT_NEAR(actual, expected, 1e-9 * std::max(1.0, std::abs(expected))) << what;
  }
}

void ExpectStats(DType dtype, const std::string& bytes) {
  SCOPED_TRACE(std::string(DTypeName(dtype)) + " x " +
               std::to_string(bytes.size() / DTypeSize(dtype)));
  TestMemory memory;
  const Stats actual = ComputeStats(dtype, memory.Cut(bytes)), model = ModelStats(dtype, bytes);
  EXPECT_EQ(actual.count, model.count);
  EXPECT_EQ(actual.nan, model.nan);
  EXPECT_EQ(actual.inf, model.inf);
  EXPECT_EQ(actual.zeros, model.zeros);
  ExpectNear(actual.min, model.min, "min");
  ExpectNear(actual.max, model.max, "max");
  ExpectNear(actual.mean, model.mean, "mean");
  ExpectNear(actual.std, model.std, "std");
  ExpectNear(actual.l1, model.l1, "l1");
  ExpectNear(actual.l2, model.l2, "l2");
}

std::string RandomBytes(std::mt19937_64& random, DType dtype, size_t count) {
  std::string bytes(count * DTypeSize(dtype), '\0');
  for (char& c : bytes) c = static_cast<char>(dtype == DType::kBool ? random() & 1 : random());
  return bytes;
}

class StatsOfDType : public testing::TestWithParam<int> {};

TEST_P(StatsOfDType, AgreeWithPlainLoopsAtEverySize) {
  const auto dtype = static_cast<DType>(GetParam());
  std::mt19937_64 random(static_cast<uint64_t>(GetParam()));
  for (size_t count : {0, 1, 2, 7, 8, 9, 2047, 2048, 2049, 70000}) {
    std::string bytes = RandomBytes(random, dtype, count);
    if (DTypeSize(dtype) == 8 && ClassOf(dtype) == DTypeClass::kFloat) {
      // Random bits span 600 decades, whose squares overflow: values of one magnitude instead.
      for (size_t i = 0; i < count; ++i) {
        const double value = static_cast<double>(static_cast<int64_t>(random())) * 0x1p-50;
        std::memcpy(bytes.data() + i * 8, &value, 8);
      }
    } else if (dtype == DType::kF32 || dtype == DType::kBF16) {
      for (size_t i = 0; i < count; ++i) {
        Scalar scalar;
        scalar.real = static_cast<double>(static_cast<int64_t>(random())) * 0x1p-55;
        StoreScalar(dtype, scalar, bytes.data() + i * DTypeSize(dtype));
      }
    }
    ExpectStats(dtype, bytes);
  }
}

std::vector<int> RealTypes() {
  std::vector<int> out;
  for (int i = 0; i < static_cast<int>(kDTypeCount); ++i) {
    if (ClassOf(static_cast<DType>(i)) != DTypeClass::kComplex) out.push_back(i);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, StatsOfDType, testing::ValuesIn(RealTypes()), [](const auto& each) {
  return std::string(DTypeName(static_cast<DType>(each.param)));
});

TEST(StatsTest, NonFiniteElementsAreCountedAndLeftOut) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  ExpectStats(DType::kF32, Raw<float>({1, nan, -inf, 2, inf, -0.0f, 3}));
  ExpectStats(DType::kF32, Raw<float>({nan, inf}));
}

/// Blocks of finite floats have loops of their own, which must make the very same sums as the ones
/// for all types do of the same values: two servers may meet them in blocks that are cut otherwise.
TEST(StatsTest, FloatsMakeTheSameFiguresAsTheSameValuesInDoubles) {
  std::mt19937_64 random(11);
  constexpr float kSpecial[] = {0,
                                -0.0f,
                                std::numeric_limits<float>::denorm_min(),
                                std::numeric_limits<float>::max(),
                                std::numeric_limits<float>::lowest(),
                                std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::quiet_NaN()};
  for (int round = 0; round < 400; ++round) {
    const size_t count = round % 2 == 0 ? random() % 5000 : 8 * (random() % 600);
    const DType dtype = round % 3 == 0 ? DType::kBF16 : DType::kF32;
    // One in four has elements that are not finite.
    const size_t specials = round % 4 == 0 ? 7 : 5;
    std::string narrow(count * DTypeSize(dtype), '\0'), wide(count * 8, '\0');
    for (size_t i = 0; i < count; ++i) {
      Scalar scalar;
      scalar.real = static_cast<double>(static_cast<int64_t>(random())) *
                    std::ldexp(1.0, static_cast<int>(random() % 60) - 90);
      if (random() % 50 == 0) scalar.real = kSpecial[random() % specials];
      StoreScalar(dtype, scalar, narrow.data() + i * DTypeSize(dtype));
      const double value = LoadScalar(dtype, narrow.data() + i * DTypeSize(dtype)).AsDouble();
      std::memcpy(wide.data() + i * 8, &value, 8);
    }
    SCOPED_TRACE(std::string(DTypeName(dtype)) + " x " + std::to_string(count));
    const ChunkFigures got = ComputeFigures(dtype, narrow),
                       want = ComputeFigures(DType::kF64, wide);
    EXPECT_EQ(got.count, want.count);
    EXPECT_EQ(got.not_finite, want.not_finite);
    EXPECT_EQ(got.min, want.min);
    EXPECT_EQ(got.max, want.max);
    EXPECT_EQ(got.sum, want.sum);
    EXPECT_EQ(got.squares, want.squares);
    TestMemory memory;
    const Stats stats = ComputeStats(dtype, {memory.Slice(narrow)}),
                model = ComputeStats(DType::kF64, {memory.Slice(wide)});
    EXPECT_EQ(std::memcmp(&stats, &model, sizeof stats), 0)
        << stats.zeros << ' ' << model.zeros << ' ' << stats.l1 - model.l1 << ' '
        << stats.std - model.std;
  }
}

/// Each processor has loops of its own; this one runs those of lesser ones too.
TEST(StatsTest, LoopsForEveryProcessorMakeTheSameBits) {
  std::mt19937_64 random(12);
  const std::span<const PlainFloatLoops> all = PlainFloatLoopsHere();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(std::string(all.back().instructions), "any");
  for (int round = 0; round < 300; ++round) {
    const DType dtype = round % 2 == 0 ? DType::kBF16 : DType::kF32;
    const auto of = [&](const PlainFloatLoops& loops) {
      return dtype == DType::kF32 ? loops.f32 : loops.bf16;
    };
    const size_t count = kSumLanes * (random() % 40);
    // One in front: what is not aligned is read as well.
    std::string bytes(count * DTypeSize(dtype) + 1, '\0');
    for (size_t i = 0; i < count; ++i) {
      Scalar scalar;
      scalar.real = random() % 9 == 0
                        ? (random() % 2 == 0 ? 0.0 : -0.0)
                        : std::ldexp(static_cast<double>(static_cast<int64_t>(random())),
                                     static_cast<int>(random() % 200) - 160);
      StoreScalar(dtype, scalar, bytes.data() + 1 + i * DTypeSize(dtype));
    }
    BlockSums model, model_figures;
    of(all.back()).sums(bytes.data() + 1, count, &model);
    of(all.back()).figures(bytes.data() + 1, count, &model_figures);
    for (const PlainFloatLoops& loops : all) {
      SCOPED_TRACE(std::string(loops.instructions) + ' ' + std::string(DTypeName(dtype)) + " x " +
                   std::to_string(count));
      BlockSums sums, figures;
      of(loops).sums(bytes.data() + 1, count, &sums);
      EXPECT_EQ(sums.zeros, model.zeros);
      EXPECT_EQ(std::bit_cast<uint64_t>(sums.l1), std::bit_cast<uint64_t>(model.l1));
      of(loops).figures(bytes.data() + 1, count, &figures);
      for (const auto& [got, want] : {std::pair(sums, model), std::pair(figures, model_figures)}) {
        EXPECT_EQ(got.min, want.min);
        EXPECT_EQ(got.max, want.max);
        EXPECT_EQ(std::bit_cast<uint64_t>(got.sum), std::bit_cast<uint64_t>(want.sum));
        EXPECT_EQ(std::bit_cast<uint64_t>(got.squares), std::bit_cast<uint64_t>(want.squares));
      }
      const double mean = model.sum / static_cast<double>(std::max<size_t>(count, 1));
      EXPECT_EQ(std::bit_cast<uint64_t>(of(loops).spread(bytes.data() + 1, count, mean)),
                std::bit_cast<uint64_t>(of(all.back()).spread(bytes.data() + 1, count, mean)));
    }
  }
}

TEST(StatsTest, OfTwoZerosTheOneWithoutASignIsToldWhereverTheyLie) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (size_t negative = 0; negative < 40; ++negative) {
      std::string bytes(40 * DTypeSize(dtype), '\0');
      Scalar scalar;
      scalar.real = -0.0;
      StoreScalar(dtype, scalar, bytes.data() + negative * DTypeSize(dtype));
      const ChunkFigures figures = ComputeFigures(dtype, bytes);
      EXPECT_FALSE(std::signbit(figures.min)) << negative;
      EXPECT_FALSE(std::signbit(figures.max)) << negative;
    }
  }
}

// Beyond ten bits of cancellation a pass of its own tells the deviation.
TEST(StatsTest, DeviationHasTenDigitsAtAnyDistanceFromZero) {
  TestMemory memory;
  for (const double mean : {0.0, 1.0, 30.0, 33.0, 1e3, 1e6}) {
    std::vector<float> values(10000);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(mean + (i % 2 == 0 ? 1.0 : -1.0));
    const std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * 4);
    EXPECT_NEAR(ComputeStats(DType::kF32, memory.Cut(bytes)).std, std::sqrt(10000.0 / 9999), 1e-10)
        << mean;
  }
}

// The square of the larger one overflows, that of its distance to the mean does not.
TEST(StatsTest, DeviationIsFiniteWhereTheSumOfSquaresIsNot) {
  TestMemory memory;
  const Stats stats = ComputeStats(DType::kF64, memory.Cut(Raw<double>({0, 1.5e154})));
  EXPECT_NEAR(stats.std / (1.5e154 / std::sqrt(2.0)), 1, 1e-12);
}

TEST(StatsTest, DeviationDoesNotCancelFarFromZero) {
  TestMemory memory;
  std::vector<double> values(10000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1e9 + static_cast<double>(i % 2);
  const std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * 8);
  EXPECT_NEAR(ComputeStats(DType::kF64, memory.Cut(bytes)).std, 0.50002500, 1e-6);
}

TEST(HistogramTest, BinsHaveBothEnds) {
  TestMemory memory;
  const Chunks chunks = memory.Cut(Raw<float>({0, 1, 2, 3, 4, std::nanf("")}));
  EXPECT_EQ(Histogram(DType::kF32, chunks, 0, 4, 4), (std::vector<uint64_t>{1, 1, 1, 2}));
  EXPECT_EQ(Histogram(DType::kF32, memory.Cut(Raw<float>({5, 5})), 5, 5, 3),
            (std::vector<uint64_t>{2, 0, 0}));
}

TEST(HistogramTest, TheWholeRangeOfDoublesDoesNotOverflow) {
  TestMemory memory;
  constexpr double kMost = std::numeric_limits<double>::max();
  EXPECT_EQ(Histogram(DType::kF64, memory.Cut(Raw<double>({-kMost, 0, kMost})), -kMost, kMost, 2),
            (std::vector<uint64_t>{1, 2}));
}

TEST(IsFiniteTest, NamesTheFirstBadElementOfEveryType) {
  std::mt19937_64 random(3);
  TestMemory memory;
  for (int i = 0; i < static_cast<int>(kDTypeCount); ++i) {
    const auto dtype = static_cast<DType>(i);
    const size_t size = DTypeSize(dtype);
    std::string bytes(size * (kChunkBytes / size + 100), '\0');
    uint64_t index = 0;
    EXPECT_TRUE(IsFinite(dtype, memory.Cut(bytes), &index)) << DTypeName(dtype);
    if (!HasNonFinite(dtype)) continue;
    for (uint64_t at : {uint64_t{0}, kChunkBytes / size - 1, kChunkBytes / size + 57}) {
      std::string bad = bytes;
      Scalar nan;
      nan.real = std::nan("");
      StoreScalar(dtype, nan, bad.data() + at * size, ScalarsPerElement(dtype) - 1);
      EXPECT_FALSE(IsFinite(dtype, memory.Cut(bad), &index)) << DTypeName(dtype);
      EXPECT_EQ(index, at) << DTypeName(dtype);
    }
  }
}

const Tensor* Make(TestMemory& memory, DType dtype, const std::string& bytes) {
  return new Tensor(dtype, {bytes.size() / DTypeSize(dtype)}, memory.Cut(bytes));
}

TEST(EqualTest, IdenticalIsBitForBit) {
  TestMemory memory;
  const float nan = std::nanf("");
  const Tensor* a = Make(memory, DType::kF32, Raw<float>({0.0f, nan}));
  const Tensor* b = Make(memory, DType::kF32, Raw<float>({0.0f, nan}));
  const Tensor* minus = Make(memory, DType::kF32, Raw<float>({-0.0f, nan}));
  const Tensor* other = Make(memory, DType::kI32, Raw<float>({0.0f, nan}));
  EXPECT_TRUE(IsIdentical(*a, *b));
  EXPECT_FALSE(IsIdentical(*a, *minus));
  EXPECT_FALSE(IsIdentical(*a, *other));
  EXPECT_FALSE(IsClose(*a, *b, 1, 1)) << "NaN is close to nothing";
  for (const Tensor* each : {a, b, minus, other}) each->DropReference();
}

TEST(EqualTest, CloseIsRelativeToTheSecondAcrossTypes) {
  TestMemory memory;
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor* a = Make(memory, DType::kF32, Raw<float>({100, inf, 0}));
  const Tensor* b = Make(memory, DType::kF64, Raw<double>({101, inf, 0}));
  EXPECT_TRUE(IsClose(*a, *b, 0.01, 0));
  EXPECT_FALSE(IsClose(*a, *b, 0.0099, 0));
  EXPECT_TRUE(IsClose(*a, *b, 0, 1));
  a->DropReference();
  b->DropReference();
}

}  // namespace
}  // namespace cairn::tensor

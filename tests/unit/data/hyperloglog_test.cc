#include "server/data/hyperloglog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace cairn::hyperloglog {
namespace {

constexpr size_t kSparseLimit = 3000;

TEST(HyperLogLogTest, EmptyIsOneRunOfZeros) {
  const std::string empty = Empty();
  EXPECT_EQ(empty.size(), 18u);
  EXPECT_TRUE(HasValidHeader(empty));
  EXPECT_EQ(Describe(empty), "Z:16384");
  EXPECT_EQ(*Estimate(empty), 0u);
  EXPECT_EQ(CachedEstimate(empty), 0u);
}

TEST(HyperLogLogTest, SparseAndDenseHoldTheRegistersOfAPlainModel) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::string bytes = Empty();
    Registers model{};
    const size_t limit = random() % 2 ? kSparseLimit : 200;
    for (int i = 0; i < 1500; ++i) {
      // Neighbouring registers and few values, so that runs split and join in every way.
      const Observation seen{static_cast<uint32_t>(random() % 300),
                             static_cast<uint8_t>(1 + random() % (i % 100 == 99 ? 51 : 3))};
      Result<bool> changed = Raise(&bytes, seen, limit);
      ASSERT_TRUE(changed.ok());
      ASSERT_EQ(*changed, model[seen.index] < seen.value);
      model[seen.index] = std::max(model[seen.index], seen.value);
      if (i % 50 != 0) continue;
      Registers stored{};
      ASSERT_TRUE(MergeInto(bytes, &stored).ok());
      ASSERT_EQ(stored, model);
      ASSERT_EQ(*Estimate(bytes), Estimate(model));
    }
    ASSERT_TRUE(MakeDense(&bytes).ok());
    for (size_t i = 0; i < kRegisters; ++i) ASSERT_EQ(DenseRegister(bytes, i), model[i]);
  }
}

TEST(HyperLogLogTest, DenseRegistersOfEveryValueAreWrittenMergedAndCounted) {
  std::mt19937_64 random(7);
  std::string bytes = Empty(), other = Empty();
  ASSERT_TRUE(MakeDense(&bytes).ok());
  ASSERT_TRUE(MakeDense(&other).ok());
  Registers registers{}, more{}, merged{};
  for (size_t i = 0; i < kRegisters; ++i) {
    registers[i] = random() % 3 == 0 ? 0 : static_cast<uint8_t>(random() % 64);
    more[i] = static_cast<uint8_t>(random() % 64);
  }
  const std::string header = bytes.substr(0, kHeaderBytes);
  StoreDense(registers, bytes.data());
  StoreDense(more, other.data());
  ASSERT_EQ(bytes.substr(0, kHeaderBytes), header);
  ASSERT_TRUE(MergeInto(bytes, &merged).ok());
  ASSERT_EQ(merged, registers);
  ASSERT_TRUE(MergeInto(other, &merged).ok());
  for (size_t i = 0; i < kRegisters; ++i) {
    ASSERT_EQ(DenseRegister(bytes, i), registers[i]);
    ASSERT_EQ(merged[i], std::max(registers[i], more[i]));
  }
  StoreDense(merged, bytes.data());
  EXPECT_EQ(*Estimate(bytes), Estimate(merged));
}

TEST(HyperLogLogTest, BecomesDenseOneByteBeforeItWouldPassTheLimit) {
  std::string bytes = Empty();  // 18 bytes; a value in the middle of a run adds 3
  ASSERT_TRUE(*Raise(&bytes, {100, 1}, 21));
  EXPECT_EQ(EncodingOf(bytes), Encoding::kSparse);
  EXPECT_EQ(bytes.size(), 21u);
  bytes = Empty();
  ASSERT_TRUE(*Raise(&bytes, {100, 1}, 20));
  EXPECT_EQ(EncodingOf(bytes), Encoding::kDense);
  EXPECT_EQ(DenseRegister(bytes, 100), 1);
}

TEST(HyperLogLogTest, ValuesAbove32NeedTheDenseForm) {
  std::string bytes = Empty();
  ASSERT_TRUE(*Raise(&bytes, {5, 32}, kSparseLimit));
  EXPECT_EQ(EncodingOf(bytes), Encoding::kSparse);
  ASSERT_TRUE(*Raise(&bytes, {5, 33}, kSparseLimit));
  EXPECT_EQ(EncodingOf(bytes), Encoding::kDense);
}

TEST(HyperLogLogTest, ACachedEstimateHoldsUntilARegisterRises) {
  std::string bytes = Empty();
  StoreEstimate(bytes.data(), 12345);
  EXPECT_EQ(CachedEstimate(bytes), 12345u);
  ASSERT_TRUE(*Raise(&bytes, {7, 2}, kSparseLimit));
  EXPECT_EQ(CachedEstimate(bytes), std::nullopt);
}

TEST(HyperLogLogTest, EstimatesAreWithinThreeStandardErrors) {
  std::string bytes = Empty();
  for (int i = 1; i <= 200000; ++i) {
    ASSERT_TRUE(Raise(&bytes, Observe("element:" + std::to_string(i)), kSparseLimit).ok());
    if (i == 1000 || i == 20000 || i == 200000)
      EXPECT_NEAR(static_cast<double>(*Estimate(bytes)), i, i * 3 * 1.04 / 128);
  }
}

TEST(HyperLogLogTest, RunsThatDoNotAddUpAreCorruptAndChangeNothing) {
  const std::string header = Empty().substr(0, kHeaderBytes);
  for (const std::string& runs :
       {std::string("\x7f", 1), std::string("\x7f\xff\x00", 3), std::string("\x00", 1),
        std::string("\x7f\xfe\x81", 3), std::string()}) {
    std::string bytes = header + runs;
    const std::string before = bytes;
    ASSERT_TRUE(HasValidHeader(bytes));
    EXPECT_EQ(MakeDense(&bytes).code(), StatusCode::kCorruption);
    EXPECT_EQ(bytes, before);
    EXPECT_FALSE(Estimate(bytes).ok());
    Registers max{};
    EXPECT_FALSE(MergeInto(bytes, &max).ok());
  }
}

TEST(HyperLogLogTest, HeadersAreChecked) {
  EXPECT_FALSE(HasValidHeader(""));
  EXPECT_FALSE(HasValidHeader("HYLL"));
  std::string dense = Empty();
  ASSERT_TRUE(MakeDense(&dense).ok());
  EXPECT_TRUE(HasValidHeader(dense));
  EXPECT_FALSE(HasValidHeader(dense + "x"));
  EXPECT_FALSE(HasValidHeader(dense.substr(1)));
  dense[4] = 2;
  EXPECT_FALSE(HasValidHeader(dense));
}

}  // namespace
}  // namespace cairn::hyperloglog

#include "server/platform/memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

namespace cairn {
namespace {

TEST(MemorySampleTest, ItKnowsAtOnceWhatItsThreadHasTaken) {
  constexpr size_t kBytes = 512 << 10;
  MemorySample sample;
  sample.Read(0);
  const uint64_t before = sample.AllocatedBytes();
  auto taken = std::make_unique<std::string>(kBytes, 'x');
  sample.Read(MemorySample::kMaxAgeUs - 1);
  EXPECT_GE(sample.AllocatedBytes(), before + kBytes);
  taken.reset();
  sample.Read(MemorySample::kMaxAgeUs - 1);
  EXPECT_LT(sample.AllocatedBytes(), before + kBytes);
}

TEST(MemorySampleTest, ItReadsAnewWhenItIsOldOrToldTo) {
  constexpr size_t kBytes = 512 << 10;
  MemorySample sample;
  const uint64_t before = sample.Read(0).allocated;
  auto taken = std::make_unique<std::string>(kBytes, 'x');
  EXPECT_GE(sample.Read(MemorySample::kMaxAgeUs).allocated, before + kBytes);
  taken.reset();
  sample.Forget();
  EXPECT_LT(sample.Read(MemorySample::kMaxAgeUs).allocated, before + kBytes);
}

// Values that this thread makes and another removes must not add up.
TEST(MemorySampleTest, WhatAnotherThreadGivesBackIsNotCountedForLong) {
  constexpr size_t kBytes = MemorySample::kMaxGrown / 2;
  MemorySample sample;
  sample.Read(0);
  const uint64_t before = sample.AllocatedBytes();
  for (int i = 0; i < 100; ++i) {
    auto taken = std::make_unique<std::string>(kBytes, 'x');
    std::thread([&taken] { taken.reset(); }).join();
    sample.Read(0);
    EXPECT_LT(sample.AllocatedBytes(), before + 4 * kBytes);
  }
}

}  // namespace
}  // namespace cairn

#include "server/platform/address_space.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace cairn {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kMapBytes = 64 * kMiB;

size_t PagesOf(char* range, size_t bytes) {
  std::vector<unsigned char> present(bytes / 4096);
  EXPECT_EQ(::mincore(range, bytes, present.data()), 0);
  size_t pages = 0;
  for (const unsigned char page : present) pages += page & 1;
  return pages;
}

TEST(AddressSpaceTest, RangesAreAlignedZeroedAndApart) {
  AddressSpace space;
  std::mt19937 random(7);
  std::map<char*, size_t> taken;
  for (int i = 0; i < 2000; ++i) {
    if (!taken.empty() && random() % 2 == 0) {
      auto one = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      space.Give(one->first, one->second);
      taken.erase(one);
      continue;
    }
    const size_t bytes = 1 + random() % (random() % 4 == 0 ? 40 * kMiB : 5 * kMiB);
    char* const range = space.Take(bytes);
    ASSERT_NE(range, nullptr);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(range) % AddressSpace::kAlignment, 0u);
    const auto next = taken.lower_bound(range);
    if (next != taken.end()) {
      ASSERT_LE(range + bytes, next->first);
    }
    if (next != taken.begin()) {
      const auto before = std::prev(next);
      ASSERT_LE(before->first + before->second, range);
    }
    ASSERT_EQ(range[0], 0) << "as nobody had used it before";
    ASSERT_EQ(range[bytes - 1], 0);
    range[0] = range[bytes - 1] = 1;
    taken.emplace(range, bytes);
  }
}

TEST(AddressSpaceTest, WhatComesBackIsOneAgainAndHasNoPages) {
  AddressSpace space(AddressSpace::Pages::kHuge, kMapBytes);
  std::vector<char*> parts;
  for (int i = 0; i < 8; ++i) {
    parts.push_back(space.Take(4 * kMiB));
    std::memset(parts.back(), 1, 4 * kMiB);
  }
  for (const int i : {1, 0, 7, 3, 2, 5, 6, 4}) space.Give(parts[static_cast<size_t>(i)], 4 * kMiB);
  // All that was mapped is one range: nothing new need be mapped for it.
  char* const whole = space.Take(kMapBytes);
  EXPECT_EQ(whole, parts[0]);
  EXPECT_EQ(PagesOf(whole, 32 * kMiB), 0u);
}

TEST(AddressSpaceTest, MoreThanIsMappedAtATimeHasAMapOfItsOwnAndTheImpossibleIsRefused) {
  AddressSpace space(AddressSpace::Pages::kHuge, kMapBytes);
  char* const large = space.Take(kMapBytes + 1);
  ASSERT_NE(large, nullptr);
  large[kMapBytes] = 1;
  EXPECT_EQ(space.Take(size_t{1} << 47), nullptr);
  space.Give(large, kMapBytes + 1);
  EXPECT_EQ(space.Take(kMapBytes + 2), large);
}

TEST(AddressSpaceTest, ThreadsTakeAndGive) {
  AddressSpace space;
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&space, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 300; ++i) {
        const size_t bytes = 1 + random() % (8 * kMiB);
        char* const range = space.Take(bytes);
        ASSERT_NE(range, nullptr);
        range[bytes - 1] = static_cast<char>(seed);
        std::this_thread::yield();
        ASSERT_EQ(range[bytes - 1], static_cast<char>(seed));
        space.Give(range, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cairn

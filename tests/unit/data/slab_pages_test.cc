#include "server/data/slab_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "server/data/frame_pool.h"

namespace cairn {
namespace {

uintptr_t AddressOf(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

TEST(SlabPagesTest, CellsAreAlignedAndApartAndAPageIsFull) {
  for (const size_t bytes : {size_t{16}, size_t{40}, size_t{128}, size_t{4992}}) {
    SlabPages pages(bytes);
    const size_t count = 3 * pages.capacity();
    std::set<uintptr_t> cells;
    for (size_t i = 0; i < count; ++i) {
      void* const cell = pages.Take();
      std::memset(cell, 1, bytes);
      const uintptr_t address = AddressOf(cell);
      ASSERT_EQ(address % (bytes % 64 == 0 ? 64 : 8), 0u);
      const auto next = cells.lower_bound(address);
      ASSERT_TRUE(next == cells.end() || address + bytes <= *next);
      ASSERT_TRUE(next == cells.begin() || *std::prev(next) + bytes <= address);
      cells.insert(next, address);
    }
    EXPECT_EQ(pages.page_count(), 3u) << bytes;
    EXPECT_LT(SlabPages::kPageBytes - pages.capacity() * bytes, bytes + 64);
    EXPECT_FALSE(pages.has_room());
  }
}

TEST(SlabPagesTest, PagesWithoutCellsGoBackButForTheLast) {
  SlabPages pages(1000);
  std::vector<void*> cells;
  for (size_t i = 0; i < 10 * pages.capacity(); ++i) cells.push_back(pages.Take());
  EXPECT_EQ(pages.page_count(), 10u);
  std::shuffle(cells.begin(), cells.end(), std::mt19937(7));
  while (cells.size() > 1) {
    pages.Give(cells.back());
    cells.pop_back();
  }
  EXPECT_LE(pages.page_count(), 2u);
  pages.Give(cells.back());
  EXPECT_EQ(pages.page_count(), 1u);
  EXPECT_TRUE(pages.has_room());
}

TEST(FramePoolTest, FramesOfOtherThreadsComeBackWhenTheyAreDrained) {
  FramePool pool(4992);
  std::vector<void*> frames;
  for (int i = 0; i < 400; ++i) {
    frames.push_back(pool.Take());
    EXPECT_EQ(AddressOf(frames.back()) % 64, 0u);
  }
  const size_t unused = pool.free_bytes();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, &frames, t] {
      for (size_t i = t; i < frames.size(); i += 4) pool.GiveRemote(frames[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Nobody must evict keys for them until then.
  const size_t given = unused + frames.size() * 4992;
  EXPECT_EQ(pool.free_bytes(), given);
  EXPECT_EQ(pool.Drain(150), 150u);
  EXPECT_LE(pool.free_bytes(), given);
  EXPECT_EQ(pool.Drain(SIZE_MAX), 250u);
  EXPECT_EQ(pool.Drain(SIZE_MAX), 0u);
  EXPECT_LE(pool.free_bytes(), SlabPages::kPageBytes);
  // One that was not drained yet is taken before there is a new page.
  frames.clear();
  for (int i = 0; i < 13; ++i) frames.push_back(pool.Take());
  pool.GiveRemote(frames[5]);
  EXPECT_EQ(pool.Take(), frames[5]);
}

}  // namespace
}  // namespace cairn

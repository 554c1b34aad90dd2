#include "server/platform/blob_arena.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "server/platform/memory.h"

namespace cairn {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

BlobRef Take(BlobArena* arena, size_t size) {
  Blob* blob = arena->Allocate(size);
  CAIRN_CHECK(blob != nullptr);
  return BlobRef::Adopt(blob);
}

TEST(BlobArenaTest, SlotsWasteAtMostAQuarter) {
  std::mt19937_64 random(1);
  EXPECT_EQ(BlobArena::SlotBytes(64 * 1024), 64 * 1024u);
  EXPECT_EQ(BlobArena::SlotBytes(64 * 1024 + 1), 80 * 1024u);
  EXPECT_EQ(BlobArena::SlotBytes(64 * kMiB), 64 * kMiB);
  for (int i = 0; i < 10000; ++i) {
    const size_t size = BlobArena::kSmallestSlotBytes + (random() >> (20 + random() % 30));
    const size_t slot = BlobArena::SlotBytes(size);
    ASSERT_GE(slot, size);
    ASSERT_LE((slot - size) * 4, size) << size;
    ASSERT_EQ(BlobArena::SlotBytes(slot), slot);
  }
}

TEST(BlobArenaTest, SmallBlobsComeFromTheHeap) {
  BlobArena arena(0);
  const BlobRef blob = Take(&arena, BlobArena::kSmallestSlotBytes - 1);
  EXPECT_EQ(arena.in_use_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 0u);
  EXPECT_EQ(Take(&arena, 0)->size(), 0u);
}

TEST(BlobArenaTest, BytesAreWritableAlignedAndCounted) {
  BlobArena arena(64 * kMiB);
  std::vector<BlobRef> blobs;
  size_t expected = 0;
  for (const size_t size : {64 * 1024ul, 65 * 1024ul, kMiB, kMiB + 1, 3 * kMiB, 5 * kMiB + 7}) {
    blobs.push_back(Take(&arena, size));
    Blob* blob = blobs.back().get();
    std::memset(blob->mutable_data(), static_cast<int>(size % 251), size);
    EXPECT_EQ(blob->size(), size);
    EXPECT_GE(blob->footprint(), BlobArena::SlotBytes(size));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(blob->data()) % 4096, 0u);
    expected += BlobArena::SlotBytes(size);
  }
  EXPECT_EQ(arena.in_use_bytes(), expected);
  for (const BlobRef& blob : blobs) {
    const char fill = static_cast<char>(blob->size() % 251);
    EXPECT_EQ(blob.view().find_first_not_of(fill), std::string_view::npos);
  }
  blobs.clear();
  EXPECT_EQ(arena.in_use_bytes(), 0u);
  EXPECT_EQ(arena.retained_bytes(), expected);
}

TEST(BlobArenaTest, ReleasedSlotsAreUsedAgain) {
  BlobArena arena(64 * kMiB);
  const char* first = Take(&arena, 4 * kMiB)->data();
  EXPECT_EQ(arena.retained_bytes(), 4 * kMiB);
  const BlobRef again = Take(&arena, 4 * kMiB - 5);
  EXPECT_EQ(again->data(), first);
  EXPECT_EQ(arena.retained_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 4 * kMiB);
}

TEST(BlobArenaTest, TheLimitHoldsAtItsEdge) {
  BlobArena arena(8 * kMiB);
  {
    const BlobRef a = Take(&arena, 4 * kMiB);
    const BlobRef b = Take(&arena, 4 * kMiB);
    const BlobRef c = Take(&arena, 4 * kMiB);
  }
  EXPECT_EQ(arena.retained_bytes(), 8 * kMiB);
  EXPECT_EQ(arena.mapped_bytes(), 8 * kMiB);
  arena.set_retained_limit_bytes(0);
  { const BlobRef d = Take(&arena, 4 * kMiB); }
  EXPECT_EQ(arena.retained_bytes(), 4 * kMiB);
  arena.ReleaseRetained();
  EXPECT_EQ(arena.retained_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 0u);
}

TEST(BlobArenaTest, ColdSlotsOfASharedRegionLoseTheirPagesAndServeAgain) {
  BlobArena arena(0);
  BlobRef stays = Take(&arena, 128 * 1024);
  std::memset(stays->mutable_data(), 's', stays->size());
  for (int round = 0; round < 20; ++round) {
    const BlobRef passes = Take(&arena, 128 * 1024);
    std::memset(passes->mutable_data(), 'p', passes->size());
  }
  EXPECT_EQ(arena.retained_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 2 * kMiB);
  EXPECT_EQ(stays.view().find_first_not_of('s'), std::string_view::npos);
  stays = BlobRef();
  EXPECT_EQ(arena.mapped_bytes(), 0u);
}

TEST(BlobArenaTest, ReleaseRetainedKeepsRegionsInUse) {
  BlobArena arena(64 * kMiB);
  const BlobRef stays = Take(&arena, 128 * 1024);
  std::memset(stays->mutable_data(), 's', stays->size());
  { const BlobRef passes = Take(&arena, 128 * 1024); }
  arena.ReleaseRetained();
  EXPECT_EQ(arena.retained_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 2 * kMiB);
  EXPECT_EQ(stays.view().find_first_not_of('s'), std::string_view::npos);
}

TEST(BlobArenaTest, ImpossibleSizesAreRefused) {
  BlobArena arena(0);
  EXPECT_EQ(arena.Allocate(size_t{1} << 46), nullptr);
  EXPECT_EQ(arena.Allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(arena.in_use_bytes(), 0u);
}

TEST(BlobArenaTest, ThreadsAllocateAndReleaseEachOthersBlobs) {
  BlobArena arena(4 * kMiB);
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mutex mutex;
  std::vector<BlobRef> shared;
  std::vector<std::thread> threads;
  std::atomic<int> damaged = 0;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      for (int i = 0; i < 400; ++i) {
        BlobRef mine = Take(&arena, BlobArena::kSmallestSlotBytes + random() % (3 * kMiB));
        const char mark = static_cast<char>(random());
        mine->mutable_data()[0] = mine->mutable_data()[mine->size() - 1] = mark;
        BlobRef other;
        std::lock_guard lock(mutex);
        shared.push_back(std::move(mine));
        if (shared.size() > 8) {
          std::swap(shared[random() % shared.size()], shared.back());
          other = std::move(shared.back());
          shared.pop_back();
          if (other->data()[0] != other->data()[other->size() - 1]) ++damaged;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  shared.clear();
  EXPECT_EQ(damaged, 0);
  EXPECT_EQ(arena.in_use_bytes(), 0u);
  EXPECT_LE(arena.retained_bytes(), 4 * kMiB);
}

TEST(BlobArenaDeathTest, OutlivingTheArenaIsAProgrammersError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Blob* blob = nullptr;
        {
          BlobArena arena(0);
          blob = arena.Allocate(kMiB);
        }
        blob->Unref();
      },
      "CAIRN_CHECK failed: in_use_bytes_ == 0");
}

TEST(MemoryTest, FiguresFollowAllocations) {
  const MemoryFigures before = ReadMemoryFigures();
  EXPECT_GT(before.rss, 0u);
  std::vector<char> block(32 * kMiB, 'x');
  const MemoryFigures with = ReadMemoryFigures();
  EXPECT_GE(with.allocated, before.allocated + 32 * kMiB);
  EXPECT_GE(with.active, with.allocated);
  EXPECT_GE(with.rss, before.rss + 16 * kMiB);
  EXPECT_EQ(block[kMiB], 'x');
}

TEST(MemoryTest, UsableSizeIsAtLeastWhatWasAsked) {
  void* pointer = std::calloc(1, 100);
  EXPECT_GE(UsableSize(pointer), 100u);
  std::free(pointer);
  EXPECT_EQ(UsableSize(nullptr), 0u);
}

TEST(MemoryTest, NamesAndTotals) {
  EXPECT_GT(TotalSystemMemory(), ReadMemoryFigures().rss);
  const std::string_view name = AllocatorName();
#if defined(CAIRN_JEMALLOC)
  EXPECT_TRUE(name.starts_with("jemalloc-5."));
#else
  EXPECT_EQ(name, "libc");
#endif
  PurgeAllocator();
}

}  // namespace
}  // namespace cairn

#include "server/platform/blob_arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
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

TEST(BlobArenaTest, SlotsBetweenHugePagesShareThem) {  // B2
  BlobArena arena(0);
  std::vector<BlobRef> blobs;
  for (int i = 0; i < 4; ++i) blobs.push_back(Take(&arena, 5 * kMiB / 2 - 1));
  EXPECT_EQ(arena.mapped_bytes(), 10 * kMiB);
  // By themselves they would stand at multiples of a huge page, and hold two of them each.
  for (size_t i = 1; i < blobs.size(); ++i)
    EXPECT_EQ(blobs[i]->data(), blobs[i - 1]->data() + 5 * kMiB / 2);
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

// --- AllocateSoon ---

BlobRef TakeSoon(BlobArena* arena, size_t size) {
  Blob* blob = arena->AllocateSoon(size);
  CAIRN_CHECK(blob != nullptr);
  return BlobRef::Adopt(blob);
}

/// Counts the calls of OnWarm and waits for one more.
class WarmCalls {
 public:
  explicit WarmCalls(BlobArena* arena) {
    arena->SetOnWarm([this] {
      ++calls_;
      calls_.notify_all();
    });
  }
  void AwaitCalls(int count) {
    for (int seen = calls_; seen < count; seen = calls_) calls_.wait(seen);
  }
  int calls() const { return calls_; }

 private:
  std::atomic<int> calls_ = 0;
};

TEST(BlobArenaTest, PagesOfAColdSlotComeByThemselvesAndAreTold) {
  BlobArena arena(64 * kMiB);
  WarmCalls calls(&arena);
  // Several pieces and a last one that is no whole page.
  const BlobRef blob = TakeSoon(&arena, 9 * kMiB + 17);
  calls.AwaitCalls(1);  // the last thing that the warmer does: a blob is warm before that is told
  EXPECT_TRUE(arena.IsWarm(*blob.get()));
  uint64_t faults_before = 0;
  std::vector<unsigned char> present(9 * 256 + 1);
  ASSERT_EQ(::mincore(const_cast<char*>(blob->data()), blob->size(), present.data()), 0);
  for (const unsigned char page : present) faults_before += (page & 1) == 0;
  EXPECT_EQ(faults_before, 0u) << "pages that are missing";
  arena.SetOnWarm(nullptr);
  EXPECT_EQ(calls.calls(), 1);
}

TEST(BlobArenaTest, WarmSlotsAndSmallBlobsAreReadyAtOnce) {
  BlobArena arena(64 * kMiB);
  WarmCalls calls(&arena);
  EXPECT_TRUE(arena.IsWarm(*TakeSoon(&arena, 100).get()));
  EXPECT_TRUE(arena.IsWarm(*TakeSoon(&arena, BlobArena::kSmallestSlotBytes - 1).get()));
  Take(&arena, 4 * kMiB);
  EXPECT_TRUE(arena.IsWarm(*TakeSoon(&arena, 4 * kMiB).get()));
  arena.SetOnWarm(nullptr);
  EXPECT_EQ(calls.calls(), 0);
}

TEST(BlobArenaTest, ABlobReleasedWhileItIsColdComesBack) {
  BlobArena arena(64 * kMiB);
  for (int i = 0; i < 200; ++i) TakeSoon(&arena, 8 * kMiB + static_cast<size_t>(i));
  // Everything asked for is in use or free again once the warmers are through.
  for (int i = 0; i < 12'000 && arena.in_use_bytes() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(arena.in_use_bytes(), 0u);
}

TEST(BlobArenaTest, ItEndsWhileBlobsThatNobodyWantsAreCold) {
  BlobArena arena(64 * kMiB);
  for (int i = 0; i < 20; ++i) TakeSoon(&arena, 8 * kMiB);
}

TEST(BlobArenaTest, ManyThreadsAskSoonAndWriteWhatTheyGot) {
  BlobArena arena(16 * kMiB);
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&arena, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 200; ++i) {
        const BlobRef blob =
            TakeSoon(&arena, BlobArena::kSmallestSlotBytes + random() % (3 * kMiB));
        if (random() % 3 == 0) continue;  // gone again, cold or not
        while (random() % 2 == 0 && !arena.IsWarm(*blob.get())) std::this_thread::yield();
        std::memset(blob->mutable_data(), 1, blob->size());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// --- slots ---

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

// --- the limit follows use ---

constexpr uint64_t kMost = 64 * kMiB;
constexpr BlobArena::Bounds kFree{.most_retained = kMost, .most_held = UINT64_MAX};

/// So many slots of 4 MiB taken, and given back.
void Use(BlobArena* arena, int slots) {
  std::vector<BlobRef> blobs;
  for (int i = 0; i < slots; ++i) blobs.push_back(Take(arena, 4 * kMiB));
}

void AwaitRetained(const BlobArena& arena, uint64_t bytes) {
  for (int i = 0; i < 12'000 && arena.retained_bytes() != bytes; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(arena.retained_bytes(), bytes);
}

TEST(BlobArenaTest, WhatIsFetchedAgainIsKeptTheNextTime) {
  BlobArena arena(8 * kMiB);
  arena.Age(0, kFree);
  Use(&arena, 6);
  EXPECT_EQ(arena.retained_bytes(), 8 * kMiB) << "once proves nothing";
  Use(&arena, 5);
  EXPECT_EQ(arena.retained_limit_bytes(), 20 * kMiB) << "three of the four that went were missed";
  EXPECT_EQ(arena.retained_bytes(), 20 * kMiB);
  Use(&arena, 5);
  EXPECT_EQ(arena.retained_limit_bytes(), 20 * kMiB) << "all of them were warm";
  Use(&arena, 6);
  EXPECT_EQ(arena.retained_limit_bytes(), 24 * kMiB) << "and the fourth";
  EXPECT_EQ(arena.mapped_bytes(), 24 * kMiB);
}

TEST(BlobArenaTest, WhatIsGivenBackLingers) {  // B7
  constexpr BlobArena::Bounds kLingering{
      .most_retained = kMost, .most_held = UINT64_MAX, .linger_ms = 10'000};
  BlobArena arena(8 * kMiB);
  arena.Age(0, kLingering);
  Use(&arena, 6);
  EXPECT_EQ(arena.retained_bytes(), 24 * kMiB);
  arena.Age(1000, kLingering);
  Use(&arena, 6);
  arena.Age(10'999, kLingering);
  EXPECT_EQ(arena.retained_bytes(), 24 * kMiB) << "not yet";
  EXPECT_EQ(arena.retained_limit_bytes(), 8 * kMiB) << "and nothing is earned";
  arena.Age(11'000, kLingering);
  AwaitRetained(arena, 8 * kMiB);
  Use(&arena, 6);
  arena.Age(12'000, kLingering);
  EXPECT_EQ(arena.retained_bytes(), 24 * kMiB) << "a time of its own";
  arena.Age(12'001, {.most_retained = 12 * kMiB, .most_held = UINT64_MAX, .linger_ms = 10'000});
  AwaitRetained(arena, 12 * kMiB);  // somebody needs the memory: what was earned has to do
  arena.Age(12'002, kLingering);
  Use(&arena, 20);
  EXPECT_EQ(arena.retained_bytes(), kMost) << "as far as the bounds let";
}

TEST(BlobArenaTest, WhatNobodyTakesForAPeriodGoes) {
  BlobArena arena(8 * kMiB);
  arena.Age(1000, kFree);
  Use(&arena, 6);
  Use(&arena, 6);
  ASSERT_EQ(arena.retained_bytes(), 24 * kMiB);
  int64_t now_ms = 1000 + BlobArena::kPeriodMs;
  arena.Age(now_ms, kFree);
  EXPECT_EQ(arena.retained_bytes(), 24 * kMiB) << "it was used in this period";
  Use(&arena, 3);
  arena.Age(now_ms += BlobArena::kPeriodMs - 1, kFree);
  EXPECT_EQ(arena.retained_bytes(), 24 * kMiB);
  arena.Age(now_ms += 1, kFree);  // half of it lay there for all of the period
  AwaitRetained(arena, 12 * kMiB);
  arena.Age(now_ms += BlobArena::kPeriodMs, kFree);
  AwaitRetained(arena, 8 * kMiB);
  arena.Age(now_ms += BlobArena::kPeriodMs, kFree);
  arena.Age(now_ms += BlobArena::kPeriodMs, kFree);
  EXPECT_EQ(arena.retained_bytes(), 8 * kMiB) << "the constructor's limit is a right";
  Use(&arena, 6);
  EXPECT_EQ(arena.retained_limit_bytes(), 8 * kMiB) << "what went two periods ago is forgotten";
}

TEST(BlobArenaTest, TheLimitRisesNoFurtherThanItMay) {
  BlobArena arena(8 * kMiB);
  arena.Age(0, {.most_retained = 16 * kMiB, .most_held = UINT64_MAX});
  for (int i = 0; i < 3; ++i) Use(&arena, 10);
  EXPECT_EQ(arena.retained_bytes(), 16 * kMiB);
  arena.Age(1, kFree);
  Use(&arena, 10);
  EXPECT_EQ(arena.retained_bytes(), 40 * kMiB);
  arena.Age(2, {.most_retained = 12 * kMiB, .most_held = UINT64_MAX});  // somebody needs the memory
  AwaitRetained(arena, 12 * kMiB);
  arena.Age(3, {.most_retained = 0, .most_held = UINT64_MAX});
  AwaitRetained(arena, 8 * kMiB);
  Use(&arena, 10);
  EXPECT_EQ(arena.retained_bytes(), 8 * kMiB);
}

TEST(BlobArenaTest, WhatIsInUseTakesFromWhatMayBeWarm) {
  BlobArena arena(8 * kMiB);
  arena.Age(0, {.most_retained = kMost, .most_held = 48 * kMiB});
  for (int i = 0; i < 3; ++i) Use(&arena, 10);
  EXPECT_EQ(arena.retained_bytes(), 40 * kMiB) << "a release moves bytes from the one to the other";
  const BlobRef other = Take(&arena, 20 * kMiB);
  arena.Age(1, {.most_retained = kMost, .most_held = 48 * kMiB});
  AwaitRetained(arena, 28 * kMiB);
  Use(&arena, 10);
  EXPECT_EQ(arena.retained_bytes(), 28 * kMiB);
}

TEST(BlobArenaTest, APurgeForgetsWhatWasEarned) {
  BlobArena arena(8 * kMiB);
  arena.Age(0, kFree);
  for (int i = 0; i < 3; ++i) Use(&arena, 10);
  ASSERT_EQ(arena.retained_bytes(), 40 * kMiB);
  arena.ReleaseRetained();
  EXPECT_EQ(arena.retained_limit_bytes(), 8 * kMiB);
  EXPECT_EQ(arena.mapped_bytes(), 0u);
}

TEST(BlobArenaTest, TheLimitIsTrimmedWhileOthersTakeAndRelease) {
  BlobArena arena(kMiB);
  std::atomic<bool> stop = false;
  std::atomic<int> damaged = 0;
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      while (!stop) {
        const size_t size =
            BlobArena::kSmallestSlotBytes + random() % (random() % 2 ? kMiB : 128 * 1024);
        const BlobRef blob = Take(&arena, size);
        const char mark = static_cast<char>(random());
        std::memset(blob->mutable_data(), mark, size);
        if (blob->data()[random() % size] != mark) ++damaged;
      }
    });
  }
  for (int64_t i = 0; i < 400; ++i) {
    arena.Age(i * BlobArena::kPeriodMs / 4, {.most_retained = i % 3 == 0 ? 0 : kMost,
                                             .most_held = UINT64_MAX,
                                             .reserve = i % 5 == 0 ? 0 : kMost / 2});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(damaged, 0);
  EXPECT_EQ(arena.in_use_bytes(), 0u);
  EXPECT_LE(arena.retained_bytes(), kMost);
}

// --- B6 ---

BlobArena::Bounds Reserving(uint64_t bytes) {
  return {.most_retained = kMost, .most_held = UINT64_MAX, .reserve = bytes};
}

TEST(BlobArenaTest, AReserveIsFetchedAheadForAnySize) {
  BlobArena arena(0);
  WarmCalls calls(&arena);
  arena.Age(0, Reserving(40 * kMiB));
  AwaitRetained(arena, 40 * kMiB);
  EXPECT_EQ(arena.mapped_bytes(), 40 * kMiB);
  std::vector<BlobRef> blobs;
  for (const size_t size : {256 * 1024ul, 4 * kMiB, 20 * kMiB, 3 * kMiB, 512 * 1024ul}) {
    blobs.push_back(TakeSoon(&arena, size));
    EXPECT_TRUE(arena.IsWarm(*blobs.back().get())) << size;
    std::memset(blobs.back()->mutable_data(), 1, size);
  }
  EXPECT_EQ(arena.retained_bytes(), (40 - 4 - 20 - 6 - 2 - 2) * kMiB + 3 * kMiB +
                                        (2 * kMiB - 256 * 1024) + (2 * kMiB - 512 * 1024));
  // More than is left in one piece. Only what was cold is told of, however soon its pages come.
  EXPECT_EQ(calls.calls(), 0);
  BlobRef cold = TakeSoon(&arena, 10 * kMiB);
  calls.AwaitCalls(1);
  cold = {};
  arena.SetOnWarm(nullptr);
  blobs.clear();
  EXPECT_GT(arena.retained_bytes(), 30 * kMiB) << "what was given back is held";
}

TEST(BlobArenaTest, WhatIsInUseIsPartOfTheReserve) {
  BlobArena arena(0);
  BlobRef blob = Take(&arena, 12 * kMiB);
  arena.Age(0, Reserving(20 * kMiB));
  AwaitRetained(arena, 8 * kMiB);
  blob = {};
  EXPECT_EQ(arena.retained_bytes(), 20 * kMiB);
  const BlobRef other = Take(&arena, 24 * kMiB);
  arena.Age(1, Reserving(20 * kMiB));
  AwaitRetained(arena, 0);
}

TEST(BlobArenaTest, TheReserveKeepsWithinTheBounds) {
  BlobArena arena(0);
  arena.Age(0, {.most_retained = 10 * kMiB, .most_held = UINT64_MAX, .reserve = 40 * kMiB});
  AwaitRetained(arena, 10 * kMiB);
  arena.Age(1, {.most_retained = kMost, .most_held = 6 * kMiB, .reserve = 40 * kMiB});
  AwaitRetained(arena, 6 * kMiB);
  arena.Age(2, Reserving(0));
  AwaitRetained(arena, 0);
  EXPECT_EQ(arena.mapped_bytes(), 0u);
  arena.Age(3, Reserving(30 * kMiB));
  AwaitRetained(arena, 30 * kMiB);
  arena.Age(4, Reserving(36 * kMiB));
  AwaitRetained(arena, 36 * kMiB);
  arena.ReleaseRetained();
  EXPECT_EQ(arena.retained_bytes(), 0u);
  EXPECT_EQ(arena.mapped_bytes(), 0u);
}

TEST(BlobArenaTest, AReserveOfSeveralTrimStepsGoes) {
  BlobArena arena(0);
  const BlobArena::Bounds bounds{
      .most_retained = UINT64_MAX, .most_held = UINT64_MAX, .reserve = 200 * kMiB};
  arena.Age(0, bounds);
  AwaitRetained(arena, 200 * kMiB);
  arena.Age(1, Reserving(0));  // once: it goes on by itself
  AwaitRetained(arena, 0);
}

TEST(BlobArenaTest, APurgeEndsTheFetching) {
  BlobArena arena(0);
  const BlobArena::Bounds bounds{
      .most_retained = UINT64_MAX, .most_held = UINT64_MAX, .reserve = 2048 * kMiB};
  arena.Age(0, bounds);
  while (arena.retained_bytes() == 0) std::this_thread::yield();
  arena.ReleaseRetained();
  // The warmer's jobs run in turn: with this blob's page the fetching is over, but for one piece.
  for (int i = 0; i < 4; ++i) {
    const BlobRef blob = TakeSoon(&arena, 300 * 1024);
    while (!arena.IsWarm(*blob.get())) std::this_thread::yield();
  }
  EXPECT_LT(arena.mapped_bytes(), 8 * kMiB);
}

TEST(BlobArenaTest, ItEndsWhileItsReserveIsFetchedOrTrimmed) {
  for (int i = 0; i < 5; ++i) {
    BlobArena arena(0);
    arena.Age(0, {.most_retained = UINT64_MAX, .most_held = UINT64_MAX, .reserve = 300 * kMiB});
    std::this_thread::sleep_for(std::chrono::milliseconds(i));
  }
  std::vector<BlobRef> blobs;
  BlobArena arena(300 * kMiB);
  for (int i = 0; i < 75; ++i) blobs.push_back(Take(&arena, 4 * kMiB));
  blobs.clear();
  arena.set_retained_limit_bytes(0);
  arena.Age(0, kFree);
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

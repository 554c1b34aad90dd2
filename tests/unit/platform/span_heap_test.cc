#include "server/platform/span_heap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace cairn {
namespace {

constexpr size_t kSpan = SpanHeap::kSpanBytes;
constexpr size_t kSpansPerBlock = SpanHeap::kBlockBytes / kSpan;

size_t PagesOf(void* span) {
  std::vector<unsigned char> present(kSpan / 4096);
  EXPECT_EQ(::mincore(span, kSpan, present.data()), 0);
  size_t pages = 0;
  for (const unsigned char page : present) pages += page & 1;
  return pages;
}

/// Never faster than blocks are made ready, however long the machine takes to find their pages:
/// each block is whole, and taken whole.
std::vector<void*> TakeMany(SpanHeap& heap, size_t count) {
  std::vector<void*> spans;
  for (size_t i = 0; i < count; ++i) {
    heap.Settle();
    spans.push_back(heap.Take());
    std::memset(spans.back(), 1, kSpan);
  }
  return spans;
}

void AgeMany(SpanHeap& heap, int64_t* now_ms, int seconds) {
  for (int i = 0; i < seconds; ++i) {
    heap.Age(*now_ms += 1000);
    heap.Settle();
  }
}

TEST(SpanHeapTest, SpansAreAlignedAndApart) {
  SpanHeap heap;
  std::mt19937 random(7);
  std::vector<char*> taken;
  for (int i = 0; i < 4000; ++i) {
    if (!taken.empty() && random() % 5 < 2) {
      std::swap(taken[random() % taken.size()], taken.back());
      ASSERT_EQ(taken.back()[0],
                static_cast<char>(reinterpret_cast<uintptr_t>(taken.back()) / kSpan));
      heap.Give(taken.back());
      taken.pop_back();
      continue;
    }
    taken.push_back(static_cast<char*>(heap.Take()));
    ASSERT_EQ(reinterpret_cast<uintptr_t>(taken.back()) % kSpan, 0u);
    // What another user had here would be overwritten.
    taken.back()[0] = static_cast<char>(reinterpret_cast<uintptr_t>(taken.back()) / kSpan);
    if (i % 500 == 0) heap.Age(i * 10);
  }
  EXPECT_EQ(std::set<char*>(taken.begin(), taken.end()).size(), taken.size());
  for (char* const span : taken)
    EXPECT_EQ(span[0], static_cast<char>(reinterpret_cast<uintptr_t>(span) / kSpan));
  EXPECT_EQ(heap.taken_bytes(), taken.size() * kSpan);
}

TEST(SpanHeapTest, BlocksAreReadyAheadOfTheDemand) {
  SpanHeap heap;
  std::vector<void*> spans = TakeMany(heap, 15);
  heap.Settle();
  EXPECT_EQ(heap.ready_blocks(), 0u) << "S2: none for the first MiB";
  spans.push_back(heap.Take());
  heap.Settle();
  EXPECT_EQ(heap.ready_blocks(), 1u);
  for (int i = 0; i < 40; ++i) {  // S2: one for each 16
    const auto more = TakeMany(heap, 16 * kSpansPerBlock / 4);
    spans.insert(spans.end(), more.begin(), more.end());
    heap.Settle();
    const size_t wanted =
        std::clamp<size_t>(spans.size() / (16 * kSpansPerBlock), 1, SpanHeap::kMaxReadyBlocks);
    EXPECT_EQ(heap.ready_blocks(), wanted) << spans.size();
  }
  // What comes next has its pages already.
  while (heap.ready_blocks() == SpanHeap::kMaxReadyBlocks) spans.push_back(heap.Take());
  EXPECT_EQ(PagesOf(spans.back()), kSpan / 4096);
}

TEST(SpanHeapTest, NobodyWaitsForABlock) {
  SpanHeap heap;
  // More than can be ready, at once: the spans are there, of small pages that nobody has touched.
  std::vector<void*> spans;
  for (size_t i = 0; i < 100 * kSpansPerBlock; ++i) spans.push_back(heap.Take());
  EXPECT_EQ(heap.taken_bytes(), spans.size() * kSpan);
  EXPECT_EQ(PagesOf(spans.front()), 0u);
}

TEST(SpanHeapTest, FreeBlocksGoBackBitByBitAndSpansBeyondAShare) {
  SpanHeap heap;
  const size_t blocks = 64;
  std::vector<void*> spans = TakeMany(heap, blocks * kSpansPerBlock);
  heap.Settle();
  const uint64_t full = heap.held_bytes();
  EXPECT_GE(full, blocks * SpanHeap::kBlockBytes);
  int64_t now_ms = 1000;
  // Each second span: no block is free, half of all has pages for nobody.
  for (size_t i = 0; i < spans.size(); i += 2) heap.Give(spans[i]);
  EXPECT_EQ(heap.held_bytes(), full);
  AgeMany(heap, &now_ms, 10);
  EXPECT_EQ(heap.held_bytes(), full) << "S3: not yet free for ten seconds";
  AgeMany(heap, &now_ms, 1);
  EXPECT_LT(heap.held_bytes(), full);
  EXPECT_GT(heap.held_bytes(), full * 5 / 8) << "S3: bit by bit";
  AgeMany(heap, &now_ms, 120);
  EXPECT_LE(heap.held_bytes(), full / 2 + full / 16 + 10 * SpanHeap::kBlockBytes);
  for (size_t i = 1; i < spans.size(); i += 2) {
    EXPECT_EQ(static_cast<char*>(spans[i])[kSpan - 1], 1) << "nobody else's pages went";
    heap.Give(spans[i]);
  }
  EXPECT_EQ(heap.taken_bytes(), 0u);
  AgeMany(heap, &now_ms, 160);
  EXPECT_EQ(heap.held_bytes(), 0u);
  EXPECT_EQ(heap.ready_blocks(), 0u);
}

TEST(SpanHeapTest, WhatASaveTakesEachFewSecondsDoesNotGoBack) {
  SpanHeap heap;
  std::vector<void*> kept = TakeMany(heap, 8 * kSpansPerBlock);
  int64_t now_ms = 1000;
  for (int save = 0; save < 10; ++save) {
    std::vector<void*> spans = TakeMany(heap, 16 * kSpansPerBlock);
    AgeMany(heap, &now_ms, 2);
    for (void* const span : spans) heap.Give(span);
    AgeMany(heap, &now_ms, 5);
    EXPECT_GE(heap.held_bytes(), (8 + 15) * SpanHeap::kBlockBytes) << save;
  }
}

TEST(SpanHeapTest, WhatHasPagesIsGivenOutFirst) {
  SpanHeap heap;
  std::vector<void*> spans = TakeMany(heap, 4 * kSpansPerBlock);
  heap.Settle();
  heap.Give(spans[40]);
  heap.ReleaseFree();  // the hole has no pages any more
  EXPECT_EQ(PagesOf(spans[40]), 0u);
  heap.Give(spans[100]);
  EXPECT_EQ(heap.Take(), spans[100]) << "S4";
  EXPECT_EQ(heap.held_bytes(), heap.taken_bytes() + heap.ready_blocks() * SpanHeap::kBlockBytes);
}

TEST(SpanHeapTest, AFreeBlockWithHolesIsNotReadyAndGoesBackFirst) {
  SpanHeap heap;
  std::vector<void*> spans = TakeMany(heap, 4 * kSpansPerBlock);
  heap.Settle();
  heap.Give(spans.back());
  heap.ReleaseFree();
  ASSERT_EQ(heap.ready_blocks(), 0u);
  const auto block_of = [](void* span) {
    return reinterpret_cast<uintptr_t>(span) / SpanHeap::kBlockBytes;
  };
  for (void* const span : spans) {
    if (span != spans.back() && block_of(span) == block_of(spans.back())) heap.Give(span);
  }
  EXPECT_EQ(heap.ready_blocks(), 0u);
  EXPECT_GT(heap.held_bytes(), heap.taken_bytes());
  int64_t now_ms = 1000;
  AgeMany(heap, &now_ms, 20);
  EXPECT_EQ(heap.held_bytes(), heap.taken_bytes() + heap.ready_blocks() * SpanHeap::kBlockBytes);
}

TEST(SpanHeapTest, ReleaseFreeKeepsWhatIsTaken) {
  SpanHeap heap;
  std::vector<void*> spans = TakeMany(heap, 8 * kSpansPerBlock);
  heap.Settle();
  for (size_t i = 0; i < spans.size(); i += 3) heap.Give(spans[i]);
  heap.ReleaseFree();
  EXPECT_EQ(heap.held_bytes(), heap.taken_bytes());
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i % 3 != 0) {
      EXPECT_EQ(static_cast<char*>(spans[i])[17], 1);
    }
  }
}

TEST(SpanHeapTest, ThreadsTakeAndGiveWhileItAges) {
  SpanHeap heap;
  std::vector<std::thread> threads;
  std::atomic<int> left = 4;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&heap, &left, t] {
      std::mt19937 random(t);
      std::vector<char*> taken;
      for (int i = 0; i < 3000; ++i) {
        if (!taken.empty() && random() % 2 == 0) {
          ASSERT_EQ(taken.back()[0], static_cast<char>(t));
          heap.Give(taken.back());
          taken.pop_back();
        } else {
          taken.push_back(static_cast<char*>(heap.Take()));
          taken.back()[0] = static_cast<char>(t);
        }
      }
      for (char* const span : taken) heap.Give(span);
      --left;
    });
  }
  for (int i = 0; left > 0; ++i) {
    heap.Age(i * 1000);
    if (i % 10 == 9) heap.ReleaseFree();
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(heap.taken_bytes(), 0u);
}

}  // namespace
}  // namespace cairn

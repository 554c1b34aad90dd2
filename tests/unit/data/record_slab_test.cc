#include "server/data/record_slab.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace cairn {
namespace {

TEST(RecordSlabTest, ClassesWasteAtMostSevenBytesUpTo256) {
  for (size_t size = 16; size <= 256; ++size)
    EXPECT_LT(RecordSlab::RoundUp(size) - size, 8u) << size;
  for (size_t size = 257; size <= 1024; ++size)
    EXPECT_LT(RecordSlab::RoundUp(size) - size, 32u) << size;
  EXPECT_EQ(RecordSlab::RoundUp(40), 40u);
}

TEST(RecordSlabTest, RecordsDoNotOverlapAndPagesComeBack) {
  RecordSlab slab;
  std::mt19937_64 random(7);
  struct Held {
    unsigned char* memory;
    size_t size;
    unsigned char mark;
  };
  std::vector<Held> held;
  for (int i = 0; i < 300000; ++i) {
    if (held.empty() || random() % 5 < 3) {
      const size_t size = 16 + random() % 1200;
      auto* memory = static_cast<unsigned char*>(slab.Allocate(size));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(memory) % 8, 0u);
      const auto mark = static_cast<unsigned char>(random());
      std::memset(memory, mark, size);
      held.push_back({memory, size, mark});
    } else {
      std::swap(held[random() % held.size()], held.back());
      const Held gone = held.back();
      held.pop_back();
      for (size_t at = 0; at < gone.size; ++at) ASSERT_EQ(gone.memory[at], gone.mark);
      slab.Free(gone.memory, gone.size);
    }
  }
  uint64_t expected = 0;
  for (const Held& each : held) expected += RecordSlab::RoundUp(each.size);
  EXPECT_EQ(slab.used_bytes(), expected);
  const uint64_t peak = slab.page_bytes();
  for (const Held& each : held) slab.Free(each.memory, each.size);
  EXPECT_EQ(slab.used_bytes(), 0u);
  // At most one page of each of the 55 classes stays.
  EXPECT_LE(slab.page_bytes(), 55 * RecordSlab::kPageBytes);
  EXPECT_GT(peak, 4 * slab.page_bytes());
}

// Whoever watches a memory limit must not evict in the place of records that wait to be drained.
TEST(RecordSlabTest, RemoteFreesCountAsFreedBeforeTheyAreDrained) {
  RecordSlab slab;
  std::vector<void*> records;
  for (int i = 0; i < 1000; ++i) records.push_back(slab.Allocate(40));
  void* const big = slab.Allocate(RecordSlab::kRecordLimitBytes + 1);
  const uint64_t used = slab.used_bytes();
  for (size_t i = 0; i < 600; ++i) slab.FreeRemote(records[i], 40);
  EXPECT_EQ(slab.used_bytes(), used - 600 * 40);
  EXPECT_EQ(slab.used_page_bytes(), 400u * 40);
  slab.FreeRemote(big, RecordSlab::kRecordLimitBytes + 1);
  EXPECT_EQ(slab.used_bytes(), 400u * 40);
  EXPECT_EQ(slab.DrainRemote(100), 100u);
  EXPECT_EQ(slab.used_page_bytes(), 400u * 40);
  for (size_t i = 600; i < 1000; ++i) slab.Free(records[i], 40);
  EXPECT_EQ(slab.used_bytes(), 0u);
  EXPECT_EQ(slab.used_page_bytes(), 0u);
}

TEST(RecordSlabTest, RemoteFreesComeBackOnDrain) {
  RecordSlab slab;
  std::vector<void*> records;
  for (int i = 0; i < 20000; ++i) records.push_back(slab.Allocate(40));
  const uint64_t pages = slab.page_bytes();
  std::thread other([&] {
    for (void* record : records) slab.FreeRemote(record, 40);
  });
  size_t drained = 0;
  std::vector<void*> fresh;
  while (drained < records.size()) {
    drained += slab.DrainRemote(100);
    fresh.push_back(slab.Allocate(40));  // the executor goes on meanwhile
    slab.Free(fresh.back(), 40);
  }
  other.join();
  EXPECT_EQ(drained, records.size());
  EXPECT_EQ(slab.used_page_bytes(), 0u);
  EXPECT_EQ(slab.used_bytes(), 0u);
  EXPECT_LT(slab.page_bytes(), pages);
}

}  // namespace
}  // namespace cairn

// Chunks that are held encoded: whoever reads gets the plain bytes, whatever happens to forms and
// bases meanwhile (P6 to P8 of chunk_pool.h).

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tensor_module/chunk_codec.h"
#include "tensor_module/chunk_pool.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

constexpr int kLevel = kFastestLevel;

std::string Noise(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

/// One byte in a thousand is another.
std::string Changed(std::string bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < bytes.size() / 1000; ++i) {
    char& c = bytes[random() % bytes.size()];
    c = static_cast<char>(c ^ (1 + random() % 255));
  }
  return bytes;
}

class ChunkFormsTest : public testing::Test {
 protected:
  ChunkRef Add(const std::string& bytes) {
    return pool_.InternOne(memory_.Slice(bytes), DType::kU8).value();
  }
  /// A chain of `links` links: [i] is encoded against [i + 1], the last is plain.
  std::vector<ChunkRef> Chain(size_t links) {
    std::vector<ChunkRef> chunks;
    std::string bytes = Noise(kChunkBytes, 7);
    for (size_t i = 0; i <= links; ++i) {
      chunks.push_back(Add(bytes));
      bytes_.push_back(bytes);
      bytes = Changed(bytes, i + 100);
    }
    for (size_t i = 0; i < links; ++i) {
      EXPECT_TRUE(pool_.Encode(*chunks[i], chunks[i + 1].get(), kLevel)) << i;
    }
    return chunks;
  }

  TestMemory memory_;
  ChunkPool pool_{memory_};
  std::vector<std::string> bytes_;
};

TEST_F(ChunkFormsTest, ADeltaTakesLittleAndReadsAsItWas) {
  const std::string newer = Noise(kChunkBytes, 1), older = Changed(newer, 2);
  const ChunkRef a = Add(older), b = Add(newer);
  EXPECT_FALSE(a->IsCold());
  const uint64_t epoch = a->pool_epoch();
  ASSERT_TRUE(pool_.Encode(*a, b.get(), kLevel));
  EXPECT_NE(a->pool_epoch(), epoch);
  EXPECT_TRUE(a->IsCold());
  EXPECT_FALSE(a->IsUnread());
  EXPECT_LT(a->stored_bytes(), kChunkBytes / 100);
  EXPECT_EQ(b->stored_bytes(), kChunkBytes);
  EXPECT_EQ(b->dependents(), 1u);
  EXPECT_EQ(a->encoded().base.get(), b.get());
  PoolFigures figures = pool_.figures();
  EXPECT_EQ(figures.encoded_chunks, 1u);
  EXPECT_EQ(figures.delta_chunks, 1u);
  EXPECT_EQ(figures.bytes, 2 * kChunkBytes);
  EXPECT_EQ(figures.stored_bytes, kChunkBytes + a->stored_bytes());
  EXPECT_EQ(figures.expanded_bytes, 0u);
  EXPECT_TRUE(a->bytes().view() == older);
  EXPECT_FALSE(a->IsCold()) << "P8: the next reader finds what this one made";
  EXPECT_EQ(pool_.figures().expanded_bytes, kChunkBytes);
  EXPECT_FALSE(pool_.Encode(*a, b.get(), kLevel)) << "it is";
  // P6
  EXPECT_EQ(Add(older).get(), a.get());
  EXPECT_EQ(pool_.Find(a->hash(), kChunkBytes).get(), a.get());
  EXPECT_TRUE(HasBytes(*a, older));
  EXPECT_FALSE(SameBytes(*a, *b));
}

TEST_F(ChunkFormsTest, TheBaseOutlivesWhatElseReferredToIt) {
  const std::string newer = Noise(kChunkBytes, 1), older = Changed(newer, 2);
  ChunkRef a = Add(older);
  {
    const ChunkRef b = Add(newer);
    ASSERT_TRUE(pool_.Encode(*a, b.get(), kLevel));
  }
  EXPECT_EQ(pool_.chunk_count(), 2u);
  EXPECT_TRUE(a->bytes().view() == older);
  a = ChunkRef();
  EXPECT_EQ(pool_.chunk_count(), 0u);
  EXPECT_EQ(pool_.figures().stored_bytes, 0u);
  EXPECT_EQ(pool_.figures().encoded_chunks, 0u);
  EXPECT_EQ(pool_.figures().expanded_bytes, 0u);
}

TEST_F(ChunkFormsTest, AChainHasEightLinksAndNoNinth) {
  const std::vector<ChunkRef> chunks = Chain(ChunkPool::kMaxChain);
  const ChunkRef next = Add(Changed(bytes_.back(), 1));
  EXPECT_FALSE(pool_.Encode(*chunks.back(), next.get(), kLevel)) << "noise, and no base for it";
  EXPECT_FALSE(chunks.back()->encoded());
  EXPECT_EQ(next->dependents(), 0u);
  for (size_t i = 0; i < chunks.size(); ++i) EXPECT_TRUE(chunks[i]->bytes().view() == bytes_[i]);
  // The other end: what would decode over all eight.
  const ChunkRef first = Add(Changed(bytes_.front(), 2));
  EXPECT_FALSE(pool_.Encode(*first, chunks.front().get(), kLevel));
  const ChunkRef second = Add(Changed(bytes_[1], 3));
  EXPECT_TRUE(pool_.Encode(*second, chunks[1].get(), kLevel)) << "a branch of eight";
}

TEST_F(ChunkFormsTest, NoChainLeadsBack) {
  const std::vector<ChunkRef> chunks = Chain(2);
  EXPECT_FALSE(pool_.Encode(*chunks[2], chunks[0].get(), kLevel));
  EXPECT_FALSE(pool_.Encode(*chunks[2], chunks[1].get(), kLevel));
  EXPECT_FALSE(pool_.Encode(*chunks[2], chunks[2].get(), kLevel));
  pool_.Restore(*chunks[1]);
  EXPECT_TRUE(pool_.Encode(*chunks[2], chunks[1].get(), kLevel)) << "the way is free";
  for (size_t i = 0; i < chunks.size(); ++i) EXPECT_TRUE(chunks[i]->bytes().view() == bytes_[i]);
}

TEST_F(ChunkFormsTest, RestoredIsPlainForGood) {
  const std::vector<ChunkRef> chunks = Chain(1);
  pool_.Restore(*chunks[0]);
  EXPECT_FALSE(chunks[0]->IsCold());
  EXPECT_EQ(chunks[0]->stored_bytes(), kChunkBytes);
  EXPECT_EQ(chunks[1]->dependents(), 0u);
  EXPECT_EQ(pool_.figures().expanded_bytes, 0u);
  EXPECT_EQ(pool_.figures().stored_bytes, 2 * kChunkBytes);
  pool_.Restore(*chunks[0]);  // nothing
  EXPECT_TRUE(chunks[0]->bytes().view() == bytes_[0]);
}

TEST_F(ChunkFormsTest, NoiseSmallOnesAndMappedOnesStayPlain) {
  const ChunkRef noise = Add(Noise(kChunkBytes, 3));
  EXPECT_FALSE(pool_.Encode(*noise, nullptr, kLevel));
  const ChunkRef small = Add(std::string(ChunkPool::kSlabBytes - 1, 'x'));
  EXPECT_FALSE(pool_.Encode(*small, nullptr, kLevel));
  const ChunkRef large = Add(std::string(ChunkPool::kSlabBytes, 'x'));
  EXPECT_TRUE(pool_.Encode(*large, nullptr, kLevel));
  const std::string zeros(kChunkBytes, '\0');
  const ChunkRef mapped = pool_.Map(memory_.Slice(zeros), HashBytes128(zeros), DType::kU8, {}, 1);
  EXPECT_FALSE(pool_.Encode(*mapped, nullptr, kLevel));
  const ChunkRef refused = Add(std::string(ChunkPool::kSlabBytes, 'y'));
  memory_.refuse = true;
  EXPECT_FALSE(pool_.Encode(*refused, nullptr, kLevel));
  memory_.refuse = false;
  EXPECT_TRUE(pool_.Encode(*refused, nullptr, kLevel));
}

// P7: what is in a log may be damaged any time.
TEST_F(ChunkFormsTest, AMappedChunkIsNobodysBase) {
  const std::string bytes = Noise(kChunkBytes, 1), next = Changed(bytes, 2);
  const ChunkRef mapped = pool_.Map(memory_.Slice(bytes), HashBytes128(bytes), DType::kU8, {}, 1);
  const ChunkRef chunk = Add(next);
  EXPECT_FALSE(pool_.Encode(*chunk, mapped.get(), kLevel));
  EXPECT_TRUE(mapped->IsUnread()) << "nor read for it";
  // From a file that a server wrote where the base was in memory.
  const std::string other = Changed(bytes, 3), delta = EncodeChunk(other, 1, bytes);
  const ChunkRef loaded = pool_
                              .InternEncoded({memory_.Slice(delta), mapped}, HashBytes128(other),
                                             kChunkBytes, DType::kU8)
                              .value();
  EXPECT_FALSE(loaded->encoded());
  EXPECT_TRUE(loaded->bytes().view() == other);
  EXPECT_EQ(mapped->dependents(), 0u);
  // Another base may come.
  const ChunkRef base = Add(Changed(next, 4));
  EXPECT_TRUE(pool_.Encode(*chunk, base.get(), kLevel));
  EXPECT_EQ(chunk->encoded().base.get(), base.get());
}

TEST_F(ChunkFormsTest, PlainCopiesAreBounded) {
  constexpr size_t kCount = ChunkPool::kExpandedBytes / kChunkBytes + 20;
  std::vector<ChunkRef> chunks;
  const auto bytes_of = [](size_t i) {
    std::string bytes(kChunkBytes, static_cast<char>(i));
    bytes.replace(0, 8, std::to_string(i) + "        ", 0, 8);
    return bytes;
  };
  for (size_t i = 0; i < kCount; ++i) {
    chunks.push_back(Add(bytes_of(i)));
    ASSERT_TRUE(pool_.Encode(*chunks.back(), nullptr, kLevel));
  }
  for (size_t i = 0; i < kCount; ++i) ASSERT_TRUE(chunks[i]->bytes().view() == bytes_of(i));
  EXPECT_EQ(pool_.figures().expanded_bytes, ChunkPool::kExpandedBytes);
  EXPECT_TRUE(chunks[0]->IsCold()) << "the oldest went";
  EXPECT_FALSE(chunks[kCount - 1]->IsCold());
  // What somebody holds is not dropped: it would free nothing.
  std::vector<BlobSlice> held;
  for (const ChunkRef& chunk : chunks) held.push_back(chunk->bytes());
  EXPECT_EQ(pool_.figures().expanded_bytes, ChunkPool::kExpandedBytes);
  const size_t cold = static_cast<size_t>(std::count_if(
      chunks.begin(), chunks.end(), [](const ChunkRef& chunk) { return chunk->IsCold(); }));
  EXPECT_EQ(cold, 20u);
  for (size_t i = 0; i < kCount; ++i) EXPECT_TRUE(held[i].view() == bytes_of(i));
  held.clear();
  chunks.clear();
  EXPECT_EQ(pool_.figures().expanded_bytes, 0u);
}

TEST_F(ChunkFormsTest, WhatSharedALargerPieceGetsMemoryOfItsOwn) {
  const std::string bytes = Noise(4 * kChunkBytes, 9);
  const BlobSlice piece = memory_.Slice(bytes);
  const auto chunks = pool_.Intern(piece, std::vector<size_t>(4, kChunkBytes), DType::kU8).value();
  ASSERT_EQ(chunks[1]->bytes().blob.get(), piece.blob.get());
  pool_.Rehome(*chunks[1]);
  EXPECT_NE(chunks[1]->bytes().blob.get(), piece.blob.get());
  EXPECT_TRUE(chunks[1]->bytes().view() == bytes.substr(kChunkBytes, kChunkBytes));
  const BlobRef own = chunks[1]->bytes().blob;
  pool_.Rehome(*chunks[1]);
  EXPECT_EQ(chunks[1]->bytes().blob.get(), own.get()) << "once";
}

// --- from files ---

TEST_F(ChunkFormsTest, AnEncodedFormBecomesTheChunk) {
  const std::string base = Noise(kChunkBytes, 1), bytes = Changed(base, 2);
  const std::string delta = EncodeChunk(bytes, 1, base);
  const ChunkRef b = Add(base);
  const ChunkRef a =
      pool_.InternEncoded({memory_.Slice(delta), b}, HashBytes128(bytes), kChunkBytes, DType::kU8)
          .value();
  EXPECT_EQ(a->stored_bytes(), delta.size());
  EXPECT_EQ(a->encoded().base.get(), b.get());
  EXPECT_TRUE(a->bytes().view() == bytes);
  EXPECT_EQ(a->figures().count, kChunkBytes);
  // The same once more is the same chunk, also where it is plain.
  const ChunkRef again =
      pool_.InternEncoded({memory_.Slice(delta), b}, HashBytes128(bytes), kChunkBytes, DType::kU8)
          .value();
  EXPECT_EQ(again.get(), a.get());
  // A small one is taken, and held plain.
  const std::string small(1000, 'x'), packed = EncodeChunk(small, 1, "");
  const ChunkRef c =
      pool_.InternEncoded({memory_.Slice(packed), {}}, HashBytes128(small), 1000, DType::kU8)
          .value();
  EXPECT_FALSE(c->encoded());
  EXPECT_EQ(c->bytes().view(), small);
}

TEST_F(ChunkFormsTest, DamagedEncodedBytesAreRefused) {
  const std::string base = Noise(kChunkBytes, 1), bytes = Changed(base, 2);
  const std::string delta = EncodeChunk(bytes, 1, base);
  const ChunkRef b = Add(base), other = Add(Changed(base, 3));
  const Hash128 hash = HashBytes128(bytes);
  const auto taken = [&](const std::string& encoded, const ChunkRef& against, Hash128 of,
                         size_t size) {
    return pool_.InternEncoded({memory_.Slice(encoded), against}, of, size, DType::kU8).ok();
  };
  EXPECT_FALSE(taken(delta, other, hash, kChunkBytes)) << "another base";
  EXPECT_FALSE(taken(delta, {}, hash, kChunkBytes)) << "no base";
  EXPECT_FALSE(taken(delta, b, HashBytes128(base), kChunkBytes)) << "another hash";
  EXPECT_FALSE(taken(delta, b, hash, kChunkBytes - 1)) << "another size";
  EXPECT_FALSE(taken("", b, hash, kChunkBytes));
  for (size_t at = 0; at < delta.size(); ++at) {
    std::string bad = delta;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    EXPECT_FALSE(taken(bad, b, hash, kChunkBytes)) << at;
  }
  EXPECT_EQ(pool_.chunk_count(), 2u) << "nothing of it is left";
  EXPECT_TRUE(taken(delta, b, hash, kChunkBytes));
}

TEST_F(ChunkFormsTest, AForgedChainOfNineIsRefused) {
  std::string bytes = Noise(kChunkBytes, 7);
  std::vector<ChunkRef> chunks = {Add(bytes)};
  for (unsigned i = 0; i <= ChunkPool::kMaxChain; ++i) {
    const std::string next = Changed(bytes, i + 1);
    Result<ChunkRef> made =
        pool_.InternEncoded({memory_.Slice(EncodeChunk(next, 1, bytes)), chunks.back()},
                            HashBytes128(next), kChunkBytes, DType::kU8);
    ASSERT_EQ(made.ok(), i < ChunkPool::kMaxChain) << i;
    if (made.ok()) chunks.push_back(*made);
    bytes = next;
  }
}

// --- several threads ---

/// Readers, one who encodes and restores, one who makes and drops: every read gives the bytes of
/// the chunk that was asked for.
TEST_F(ChunkFormsTest, ThreadsReadWhatWasStored) {
  constexpr size_t kFamilies = 6, kMembers = 12;
  std::vector<std::vector<std::string>> model(kFamilies);
  for (size_t f = 0; f < kFamilies; ++f) {
    model[f].push_back(Noise(ChunkPool::kSlabBytes, f + 50));
    for (size_t m = 1; m < kMembers; ++m) model[f].push_back(Changed(model[f].back(), m));
  }
  // What is alive: a slot is replaced under its lock, as a run's value is by the executor.
  struct Slot {
    std::mutex mutex;
    ChunkRef chunk;
    ChunkRef Get() {
      const std::lock_guard lock(mutex);
      return chunk;
    }
    void Set(ChunkRef next) {
      const std::lock_guard lock(mutex);
      std::swap(chunk, next);
    }
  };
  std::vector<std::vector<Slot>> slots;
  for (size_t f = 0; f < kFamilies; ++f) slots.emplace_back(kMembers);
  std::atomic<bool> stop{false};
  std::atomic<int> read{0}, encoded{0};
  std::vector<std::thread> threads;
  for (uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 random(reader);
      while (!stop) {
        const size_t f = random() % kFamilies, m = random() % kMembers;
        const ChunkRef chunk = slots[f][m].Get();
        if (!chunk) continue;
        const BlobSlice bytes = chunk->bytes();
        EXPECT_TRUE(bytes.view() == model[f][m]);
        EXPECT_TRUE(HasBytes(*chunk, model[f][m]));
        ++read;
      }
    });
  }
  threads.emplace_back([&] {
    std::mt19937_64 random(77);
    while (!stop) {
      const size_t f = random() % kFamilies, m = random() % kMembers, n = random() % kMembers;
      const ChunkRef chunk = slots[f][m].Get(), base = slots[f][n].Get();
      if (!chunk) continue;
      if (random() % 4 == 0) {
        pool_.Restore(*chunk);
      } else if (pool_.Encode(*chunk, base ? base.get() : nullptr, kLevel)) {
        ++encoded;
      }
      const EncodedChunk form = chunk->encoded();
      unsigned links = 0;
      for (ChunkRef at = form.base; at; at = at->encoded().base) ++links;
      EXPECT_LE(links, ChunkPool::kMaxChain);
    }
  });
  threads.emplace_back([&] {
    std::mt19937_64 random(99);
    while (!stop) {
      const size_t f = random() % kFamilies, m = random() % kMembers;
      slots[f][m].Set(random() % 3 == 0 ? ChunkRef() : Add(model[f][m]));
    }
  });
  while (read < 3000 || encoded < 200) std::this_thread::yield();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  slots.clear();
  const PoolFigures figures = pool_.figures();
  EXPECT_EQ(figures.chunks, 0u);
  EXPECT_EQ(figures.bytes, 0u);
  EXPECT_EQ(figures.stored_bytes, 0u);
  EXPECT_EQ(figures.encoded_chunks, 0u);
  EXPECT_EQ(figures.delta_chunks, 0u);
  EXPECT_EQ(figures.expanded_bytes, 0u);
}

}  // namespace
}  // namespace cairn::tensor

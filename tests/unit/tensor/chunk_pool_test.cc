#include "tensor_module/chunk_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

std::string Random(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

TEST(ChunkPoolTest, TheSameBytesAreOneChunk) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(kChunkBytes, 1);
  const ChunkRef a = pool.InternOne(memory.Slice(bytes), DType::kU8).value();
  const ChunkRef b = pool.InternOne(memory.Slice(bytes), DType::kU8).value();
  EXPECT_EQ(a.get(), b.get());
  EXPECT_EQ(pool.chunk_count(), 1u);
  EXPECT_EQ(pool.chunk_bytes(), kChunkBytes);
  EXPECT_EQ(a->hash(), HashBytes128(bytes));
  EXPECT_EQ(pool.Find(a->hash()).get(), a.get());
  EXPECT_FALSE(pool.Find(a->hash(), kChunkBytes - 1)) << "the length is part of the key";
}

// P2. Nobody knows two texts of one hash. But a chunk keeps its hash when the memory below it is
// written to, and stands in the index as a collision would: with other bytes.
TEST(ChunkPoolTest, AHashThatCollidesSharesNothing) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string wanted = Random(kChunkBytes, 20), other = Random(kChunkBytes, 21);
  Blob* blob = Blob::Create(wanted.size());
  char* below = blob->mutable_data();
  std::memcpy(below, wanted.data(), wanted.size());
  const ChunkRef forged =
      pool.InternOne({BlobRef::Adopt(blob), 0, wanted.size()}, DType::kU8).value();
  ASSERT_EQ(forged->bytes().view().data(), below) << "adopted, not copied";
  std::memcpy(below, other.data(), other.size());
  ASSERT_EQ(pool.Find(HashBytes128(wanted), wanted.size()).get(), forged.get());
  const ChunkRef made = pool.InternOne(memory.Slice(wanted), DType::kU8).value();
  EXPECT_NE(made.get(), forged.get());
  EXPECT_EQ(made->hash(), forged->hash());
  EXPECT_TRUE(made->bytes().view() == wanted);
  EXPECT_TRUE(forged->bytes().view() == other) << "who has it keeps it";
  EXPECT_FALSE(SameBytes(*made, *forged));
  EXPECT_EQ(pool.InternOne(memory.Slice(wanted), DType::kU8).value().get(), made.get());
}

TEST(ChunkPoolTest, TheLastReferenceTakesItOutOfTheIndex) {
  TestMemory memory;
  ChunkPool pool(memory);
  Hash128 hash;
  {
    const ChunkRef a = pool.InternOne(memory.Slice("abcd"), DType::kU8).value();
    hash = a->hash();
    const ChunkRef copy = a;
    EXPECT_TRUE(pool.Find(hash));
  }
  EXPECT_FALSE(pool.Find(hash));
  EXPECT_EQ(pool.chunk_count(), 0u);
  EXPECT_EQ(pool.chunk_bytes(), 0u);
}

// P1: two records of a log with the same bytes, of which one chunk knows each.
TEST(ChunkPoolTest, OneThatGoesLeavesTheOthersOfItsHash) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(kChunkBytes, 22);
  const Hash128 hash = HashBytes128(bytes);
  const auto map = [&](uint64_t record) {
    return pool.Map(memory.Slice(bytes), hash, DType::kU8, {}, record);
  };
  ChunkRef first = pool.InternOne(memory.Slice(bytes), DType::kU8).value();
  first->set_record(1);
  ChunkRef second = map(2), third = map(3);
  ASSERT_EQ(pool.chunk_count(), 3u);
  EXPECT_EQ(map(2).get(), second.get()) << "whatever was entered since";
  EXPECT_EQ(pool.Find(hash).get(), third.get());
  second = ChunkRef();
  EXPECT_EQ(pool.Find(hash).get(), third.get());
  third = ChunkRef();
  EXPECT_EQ(pool.Find(hash, kChunkBytes).get(), first.get());
  first = ChunkRef();
  EXPECT_FALSE(pool.Find(hash));
}

TEST(ChunkPoolTest, ADamagedOneIsNotFoundAndOthersOfItsHashAre) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(kChunkBytes, 23);
  const ChunkRef good = pool.InternOne(memory.Slice(bytes), DType::kU8).value();
  good->set_record(1);
  const ChunkRef bad =
      pool.Map(memory.Slice(Random(kChunkBytes, 24)), good->hash(), DType::kU8, {}, 2);
  EXPECT_EQ(pool.InternOne(memory.Slice(bytes), DType::kU8).value().get(), good.get())
      << "behind a look at the other";
  EXPECT_FALSE(bad->IsIntact());
  EXPECT_EQ(pool.Find(good->hash()).get(), good.get());
}

TEST(ChunkPoolTest, ALostOneIsDamagedAndFoundByNobody) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(kChunkBytes, 27);
  const ChunkRef lost = pool.Lost(HashBytes128(bytes), kChunkBytes, DType::kF32);
  EXPECT_EQ(lost->size(), kChunkBytes);
  EXPECT_FALSE(lost->IsUnread());
  EXPECT_FALSE(lost->IsIntact());
  EXPECT_FALSE(pool.Find(lost->hash()));
  const ChunkRef whole = pool.InternOne(memory.Slice(bytes), DType::kF32).value();
  EXPECT_NE(whole.get(), lost.get());
  EXPECT_FALSE(SameBytes(*whole, *lost));
  EXPECT_FALSE(pool.Encode(*lost, whole.get(), 1));
  EXPECT_FALSE(pool.Encode(*whole, lost.get(), 1));
  pool.Rehome(*lost);  // nothing
}

// As a replay meets them: the payload of one command, and a name in the next.
TEST(ChunkPoolTest, WhatCameInlineIsTheChunkOfItsRecord) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(5000, 25);
  const ChunkRef came = pool.InternOne(memory.Slice(bytes), DType::kU8).value();
  const ChunkRef other = pool.Map(memory.Slice(Random(5000, 26)), came->hash(), DType::kU8, {}, 6);
  EXPECT_NE(other.get(), came.get()) << "P2: the record has other bytes";
  EXPECT_EQ(came->record(), 0u);
  EXPECT_EQ(pool.Map(memory.Slice(bytes), came->hash(), DType::kU8, {}, 7).get(), came.get());
  EXPECT_EQ(came->record(), 7u);
  EXPECT_EQ(pool.chunk_count(), 2u);
}

TEST(ChunkPoolTest, PiecesThatBecomeChunksWholeAreAdopted) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string bytes = Random(4 * kChunkBytes, 2);
  const BlobSlice piece = memory.Slice(bytes);
  const auto chunks = pool.Intern(piece, std::vector<size_t>(4, kChunkBytes), DType::kU8).value();
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(chunks[i]->bytes().blob.get(), piece.blob.get()) << "no copy";
    EXPECT_EQ(chunks[i]->bytes().view(),
              std::string_view(bytes).substr(i * kChunkBytes, kChunkBytes));
  }
  // A quarter is new: the other three must not keep the memory of what they are in.
  std::string changed = bytes;
  changed[0] = static_cast<char>(changed[0] ^ 1);
  const BlobSlice second = memory.Slice(changed);
  const auto again = pool.Intern(second, std::vector<size_t>(4, kChunkBytes), DType::kU8).value();
  EXPECT_NE(again[0]->bytes().blob.get(), second.blob.get());
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(again[i].get(), chunks[i].get());
}

TEST(ChunkPoolTest, SmallOnesShareASlabAndAreAligned) {
  TestMemory memory;
  ChunkPool pool(memory);
  std::vector<ChunkRef> chunks;
  for (int i = 0; i < 100; ++i) {
    chunks.push_back(
        pool.InternOne(memory.Slice(Random(1000, static_cast<uint64_t>(i) + 10)), DType::kU8)
            .value());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(chunks.back()->bytes().view().data()) % 16, 0u);
  }
  EXPECT_EQ(memory.allocations, 1);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(chunks[static_cast<size_t>(i)]->bytes().view(),
              Random(1000, static_cast<uint64_t>(i) + 10));
  }
}

TEST(ChunkPoolTest, UnalignedPiecesAreCopied) {
  TestMemory memory;
  ChunkPool pool(memory);
  BlobSlice piece = memory.Slice(Random(kChunkBytes + 1, 3));
  piece.offset = 1;
  piece.size = kChunkBytes;
  const ChunkRef chunk = pool.InternOne(piece, DType::kF32).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(chunk->bytes().view().data()) % kChunkAlignment, 0u);
  EXPECT_EQ(chunk->bytes().view(), piece.view());
}

TEST(ChunkPoolTest, RefusedMemoryLeavesNothing) {
  TestMemory memory;
  ChunkPool pool(memory);
  const BlobSlice piece = memory.Slice("abcd");
  memory.refuse = true;
  EXPECT_FALSE(pool.InternOne(piece, DType::kU8).ok());
  EXPECT_EQ(pool.chunk_count(), 0u);
}

TEST(ChunkPoolTest, FiguresAreThoseOfThePlainLoop) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string raw = Raw<float>({1.5f, -2, std::numeric_limits<float>::infinity(), 0,
                                      std::numeric_limits<float>::quiet_NaN(), 4});
  const ChunkFigures figures = pool.InternOne(memory.Slice(raw), DType::kF32).value()->figures();
  EXPECT_EQ(figures.count, 6u);
  EXPECT_EQ(figures.not_finite, 2u);
  EXPECT_EQ(figures.min, -2);
  EXPECT_EQ(figures.max, 4);
  EXPECT_EQ(figures.sum, 3.5);
  EXPECT_EQ(figures.squares, 2.25 + 4 + 16);
}

TEST(ChunkPoolTest, ManyThreadsInternFindAndDrop) {
  TestMemory memory;
  ChunkPool pool(memory);
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < 8; ++i) texts.push_back(Random(100 + i, i));
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<ChunkRef> held;
      for (int i = 0; i < 3000; ++i) {
        const std::string& text = texts[random() % texts.size()];
        Blob* blob = Blob::Create(text.size());
        std::memcpy(blob->mutable_data(), text.data(), text.size());
        held.push_back(pool.InternOne({BlobRef::Adopt(blob), 0, text.size()}, DType::kU8).value());
        EXPECT_EQ(held.back()->bytes().view(), text);
        if (const ChunkRef found = pool.Find(HashBytes128(texts[random() % texts.size()]))) {
          EXPECT_EQ(found->hash(), HashBytes128(found->bytes().view()));
        }
        if (held.size() > 3) held.erase(held.begin() + static_cast<ptrdiff_t>(random() % 3));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.chunk_count(), 0u);
}

}  // namespace
}  // namespace cairn::tensor

#include "tensor_module/ckpt_shard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

ShardSpec Spec(Shape shape, Extent extent, DType dtype = DType::kU8) {
  ShardSpec spec;
  spec.name = "w";
  spec.group = "g";
  spec.dtype = dtype;
  spec.shape = std::move(shape);
  spec.extent = std::move(extent);
  spec.Settle();
  return spec;
}

Status Put(ChunkPool& pool, TestMemory& memory, const ShardSpec& spec, ShardData* data,
           uint64_t offset, std::string_view bytes) {
  const PutPlan plan = PlanPut(spec, offset, bytes.size());
  const BlobSlice piece = memory.Slice(bytes);
  std::vector<ChunkRef> chunks;
  if (!plan.whole.empty()) {
    chunks = pool.Intern({piece.blob, plan.head, bytes.size() - plan.head - plan.tail}, plan.whole,
                         spec.dtype)
                 .value();
  }
  return data->Put(pool, memory, spec, plan, piece, chunks);
}

TEST(ShardSpecTest, TheGridIsAnchoredAtTheLogicalTensor) {
  const uint64_t rows = 3 * kChunkBytes / 1000;
  const ShardSpec second = Spec({rows, 1000}, {{rows / 2, 0}, {rows - rows / 2, 1000}});
  EXPECT_EQ(second.phase, rows / 2 * 1000 % kChunkBytes);
  EXPECT_EQ(second.CellRange(0).end, kChunkBytes - second.phase);
  // A box of columns is no run: it counts from its own first byte.
  const ShardSpec columns = Spec({rows, 1000}, {{0, 500}, {rows, 500}});
  EXPECT_EQ(columns.phase, 0u);
  uint64_t at = 0;
  for (size_t i = 0; i < second.cell_count(); ++i) {
    EXPECT_EQ(second.CellRange(i).begin, at);
    at = second.CellRange(i).end;
  }
  EXPECT_EQ(at, second.size_bytes);
  EXPECT_EQ(Spec({0, 5}, {{0, 0}, {0, 5}}).cell_count(), 0u);
  EXPECT_EQ(Spec({}, {{}, {}}, DType::kF64).size_bytes, 8u);
}

TEST(ShardDataTest, AnyPiecesInAnyOrderMakeTheBytes) {
  std::mt19937_64 random(5);
  TestMemory memory;
  ChunkPool pool(memory);
  for (int round = 0; round < 30; ++round) {
    const uint64_t before = random() % (2 * kChunkBytes);
    const uint64_t size = 1 + random() % (2 * kChunkBytes + 1000);
    const ShardSpec spec = Spec({before + size}, {{before}, {size}});
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    ShardData data(spec);
    std::vector<bool> have(size, false);
    while (!data.IsComplete()) {
      const std::vector<ByteRange> holes = data.Holes(spec);
      const ByteRange hole = holes[random() % holes.size()];
      // Begins and ends anywhere near the hole, so that pieces overlap what is there.
      const uint64_t begin = hole.begin - std::min<uint64_t>(hole.begin, random() % 100);
      const uint64_t end = std::min<uint64_t>(size, begin + 1 + random() % 300000);
      const std::string_view piece = std::string_view(bytes).substr(begin, end - begin);
      ASSERT_TRUE(Put(pool, memory, spec, &data, begin, piece).ok());
      for (uint64_t i = begin; i < end; ++i) have[i] = true;
      std::vector<bool> missing(size, false);
      for (const ByteRange& left : data.Holes(spec)) {
        for (uint64_t i = left.begin; i < left.end; ++i) missing[i] = true;
      }
      missing.flip();
      ASSERT_EQ(missing, have);
      const auto received = static_cast<uint64_t>(std::count(have.begin(), have.end(), true));
      ASSERT_EQ(data.received_bytes(), received);
      std::vector<Cell> cells(data.cells().begin(), data.cells().end());
      ASSERT_EQ(ShardData(spec, std::move(cells)).received_bytes(), received);
      if (random() % 3 == 0) {
        std::string other(piece);
        other[random() % other.size()] ^= 1;
        ASSERT_FALSE(Put(pool, memory, spec, &data, begin, other).ok());
      }
    }
    std::string got;
    for (const ChunkRef& chunk : data.Chunks()) got += chunk->bytes().view();
    ASSERT_EQ(got, bytes);
  }
}

TEST(ShardDataTest, ARefusedPieceChangesNothing) {
  TestMemory memory;
  ChunkPool pool(memory);
  const ShardSpec spec = Spec({2 * kChunkBytes}, Extent::Whole({2 * kChunkBytes}));
  ShardData data(spec);
  const std::string bytes = Pattern(2 * kChunkBytes);
  ASSERT_TRUE(Put(pool, memory, spec, &data, kChunkBytes, bytes.substr(0, 100)).ok());
  // The first cell would fit, the second has other bytes.
  EXPECT_FALSE(Put(pool, memory, spec, &data, 0, bytes).ok());
  EXPECT_EQ(data.Holes(spec),
            (std::vector<ByteRange>{{0, kChunkBytes}, {kChunkBytes + 100, 2 * kChunkBytes}}));
  EXPECT_EQ(data.received_bytes(), 100u);
}

/// A record's figures may be those of other bytes: only those that were looked at count.
TEST(BoolChunkTest, BytesThatTheDiskHasLostAreNotJudgedByTheirFigures) {
  TestMemory memory;
  ChunkPool pool(memory);
  const std::string zeros(1000, '\0'), others(1000, '\2');
  const ChunkFigures figures = ComputeFigures(DType::kBool, zeros);
  const ChunkRef good =
      pool.Map(memory.Slice(zeros), HashBytes128(zeros), DType::kBool, figures, 1);
  EXPECT_TRUE(CheckBoolChunk(DType::kBool, *good).ok());
  const ChunkRef lost = pool.Map(memory.Slice(others), HashBytes128(std::string(1000, '\1')),
                                 DType::kBool, figures, 2);
  EXPECT_EQ(CheckBoolChunk(DType::kBool, *lost).message().substr(0, 11), "CKPTDAMAGED");
  EXPECT_TRUE(CheckBoolChunk(DType::kU8, *lost).ok()) << "any byte will do";
}

}  // namespace
}  // namespace cairn::tensor

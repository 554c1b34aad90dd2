#include "tensor_module/ckpt_tensor.h"

#include <gtest/gtest.h>

#include <random>

#include "tensor_module/ckpt_delta.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// Cuts [0, shape) into boxes at random planes.
void Split(std::mt19937_64& random, Extent box, int depth, std::vector<Extent>* out) {
  size_t dim = box.len.empty() ? 0 : random() % box.len.size();
  if (depth == 0 || box.len.empty() || box.len[dim] < 2) {
    out->push_back(std::move(box));
    return;
  }
  const uint64_t cut = 1 + random() % (box.len[dim] - 1);
  Extent low = box, high = box;
  low.len[dim] = cut;
  high.off[dim] += cut;
  high.len[dim] -= cut;
  Split(random, std::move(low), depth - 1, out);
  Split(random, std::move(high), depth - 1, out);
}

std::string ReadBox(const std::string& whole, const Shape& shape, size_t element, const Box& box) {
  std::string out;
  const Status walked = ForEachRun(shape, element, box, [&](uint64_t offset, uint64_t size) {
    out += whole.substr(offset, size);
    return Status::Ok();
  });
  CAIRN_CHECK(walked.ok());
  return out;
}

StoredShard Store(ChunkPool& pool, TestMemory& memory, const LogicalTensor& tensor,
                  const Extent& extent, const std::string& whole) {
  ShardSpec spec;
  spec.dtype = tensor.dtype;
  spec.shape = tensor.shape;
  spec.extent = extent;
  spec.Settle();
  const std::string bytes = ReadBox(whole, tensor.shape, DTypeSize(tensor.dtype), extent.AsBox());
  std::vector<size_t> sizes;
  for (size_t i = 0; i < spec.cell_count(); ++i) {
    sizes.push_back(static_cast<size_t>(spec.CellRange(i).end - spec.CellRange(i).begin));
  }
  return {extent, spec.phase, pool.Intern(memory.Slice(bytes), sizes, tensor.dtype).value()};
}

TEST(LogicalTensorTest, AnyBoxOfAnyShardingIsTheBoxOfTheWhole) {
  std::mt19937_64 random(7);
  TestMemory memory;
  ChunkPool pool(memory);
  const DType types[] = {DType::kU8, DType::kF16, DType::kF32, DType::kC128};
  for (int round = 0; round < 200; ++round) {
    LogicalTensor tensor;
    tensor.dtype = types[random() % 4];
    const size_t dimensions = random() % 5;
    for (size_t i = 0; i < dimensions; ++i) tensor.shape.push_back(1 + random() % 9);
    const size_t element = DTypeSize(tensor.dtype);
    std::string whole(tensor.size_bytes(), '\0');
    for (char& c : whole) c = static_cast<char>(random());
    std::vector<Extent> extents;
    Split(random, Extent::Whole(tensor.shape), static_cast<int>(random() % 4), &extents);
    ASSERT_TRUE(FindGaps(tensor.shape, extents).value().empty());
    for (const Extent& extent : extents) {
      tensor.shards.push_back(Store(pool, memory, tensor, extent, whole));
    }
    for (int read = 0; read < 5; ++read) {
      Box box;
      for (uint64_t side : tensor.shape) {
        const uint64_t start = random() % side, step = 1 + random() % 3;
        const uint64_t most = (side - start - 1) / step + 1;
        box.sides.push_back({start, random() % (most + 1), step});
      }
      const std::string got = BytesOf(GatherBox(memory, tensor, box).value());
      ASSERT_EQ(got, ReadBox(whole, tensor.shape, element, box));
    }
    ASSERT_EQ(BytesOf(GatherBox(memory, tensor, Extent::Whole(tensor.shape).AsBox()).value()),
              whole);
  }
}

TEST(LogicalTensorTest, RowsOfAnyCutAreReadByReference) {
  TestMemory memory;
  ChunkPool pool(memory);
  LogicalTensor tensor;
  tensor.dtype = DType::kU8;
  tensor.shape = {5 * kChunkBytes / 100, 100};
  const std::string whole = Pattern(tensor.size_bytes());
  const uint64_t cut = tensor.shape[0] / 3;
  for (const Extent& extent :
       {Extent{{cut, 0}, {tensor.shape[0] - cut, 100}}, Extent{{0, 0}, {cut, 100}}}) {
    tensor.shards.push_back(Store(pool, memory, tensor, extent, whole));
  }
  memory.refuse = true;
  const Box box = Extent{{cut - 10, 0}, {20, 100}}.AsBox();
  EXPECT_TRUE(IsReadByReference(tensor, box));
  EXPECT_EQ(BytesOf(GatherBox(memory, tensor, box).value()), whole.substr((cut - 10) * 100, 2000));
  EXPECT_EQ(BytesOf(ReadByReference(tensor, 12345, 700000)), whole.substr(12345, 700000));
  const Box columns = Extent{{0, 1}, {3, 5}}.AsBox();
  EXPECT_FALSE(IsReadByReference(tensor, columns));
  EXPECT_FALSE(GatherBox(memory, tensor, columns).ok()) << "memory is refused";
}

/// D1, for any boxes and any bytes that changed.
TEST(DeltaTest, TheOldTensorWithTheRangesWrittenOverItIsTheNewOne) {
  std::mt19937_64 random(11);
  TestMemory memory;
  ChunkPool pool(memory);
  for (int round = 0; round < 40; ++round) {
    LogicalTensor a;
    a.dtype = random() % 2 == 0 ? DType::kU8 : DType::kF32;
    a.shape = {1 + random() % 5, 1 + random() % 300, 1 + random() % 900};
    LogicalTensor b = a;
    std::string old(a.size_bytes(), '\0');
    for (char& c : old) c = static_cast<char>(random());
    std::string fresh = old;
    for (uint64_t n = random() % 4; n > 0; --n) fresh[random() % fresh.size()] ^= 1;
    std::vector<Extent> extents;
    Split(random, Extent::Whole(a.shape), static_cast<int>(random() % 4), &extents);
    for (const Extent& extent : extents) {
      a.shards.push_back(Store(pool, memory, a, extent, old));
      b.shards.push_back(Store(pool, memory, b, extent, fresh));
    }
    const std::vector<ByteRange> ranges = ChangedRanges(&a, b);
    EXPECT_EQ(ranges.empty(), old == fresh);
    const std::vector<Chunks> pieces = ReadRanges(memory, b, ranges).value();
    ASSERT_EQ(pieces.size(), ranges.size());
    uint64_t behind = 0;
    for (size_t i = 0; i < ranges.size(); ++i) {
      EXPECT_TRUE(i == 0 || ranges[i].begin > behind) << "ascending and apart";
      behind = ranges[i].end;
      const std::string bytes = BytesOf(pieces[i]);
      ASSERT_EQ(bytes.size(), ranges[i].end - ranges[i].begin);
      old.replace(ranges[i].begin, bytes.size(), bytes);
    }
    EXPECT_TRUE(old == fresh) << "round " << round;
  }
}

TEST(DeltaTest, OfBoxesThatOverlapAllOrNothingIsSent) {
  TestMemory memory;
  ChunkPool pool(memory);
  LogicalTensor a;
  a.dtype = DType::kU8;
  a.shape = {6};
  LogicalTensor same = a, changed = a;
  for (uint64_t off : {2, 0}) {
    Extent extent = Extent::Whole(a.shape);
    extent.off[0] = off;
    extent.len[0] = 4;
    a.shards.push_back(Store(pool, memory, a, extent, "abcdef"));
    same.shards.push_back(Store(pool, memory, same, extent, "abcdef"));
    changed.shards.push_back(Store(pool, memory, changed, extent, off == 2 ? "abcdeF" : "abcdef"));
  }
  EXPECT_TRUE(ChangedRanges(&a, same).empty());
  const std::vector<ByteRange> ranges = ChangedRanges(&a, changed);
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].begin, 0u);
  EXPECT_EQ(ranges[0].end, 6u);
}

TEST(FindGapsTest, FindsWhatIsNotCoveredAndNothingElse) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 300; ++round) {
    const Shape shape = {1 + random() % 6, 1 + random() % 6, 1 + random() % 4};
    std::vector<Extent> extents;
    std::vector<bool> covered(shape[0] * shape[1] * shape[2], false);
    const auto index = [&](uint64_t x, uint64_t y, uint64_t z) {
      return (x * shape[1] + y) * shape[2] + z;
    };
    const auto each = [&](const Extent& box, const auto& visit) {
      for (uint64_t x = box.off[0]; x < box.off[0] + box.len[0]; ++x) {
        for (uint64_t y = box.off[1]; y < box.off[1] + box.len[1]; ++y) {
          for (uint64_t z = box.off[2]; z < box.off[2] + box.len[2]; ++z) visit(index(x, y, z));
        }
      }
    };
    for (uint64_t n = random() % 8; n > 0; --n) {
      Extent box;
      for (uint64_t side : shape) {
        box.off.push_back(random() % side);
        box.len.push_back(random() % (side - box.off.back() + 1));
      }
      each(box, [&](uint64_t at) { covered[at] = true; });
      extents.push_back(std::move(box));
    }
    std::vector<bool> gaps(covered.size(), false);
    const std::vector<Extent> found = FindGaps(shape, extents).value();
    for (const Extent& gap : found) {
      each(gap, [&](uint64_t at) {
        EXPECT_FALSE(gaps[at]) << "gaps do not overlap";
        gaps[at] = true;
      });
    }
    gaps.flip();
    ASSERT_EQ(gaps, covered);
  }
  EXPECT_TRUE(FindGaps({3, 0}, {}).value().empty());
  EXPECT_EQ(FindGaps({}, {}).value().size(), 1u);
  EXPECT_TRUE(FindGaps({}, {Extent{}}).value().empty());
}

TEST(IsCoveredTest, SaysWhatFindGapsSays) {
  std::mt19937_64 random(10);
  int covered = 0;
  for (int round = 0; round < 4000; ++round) {
    const Shape shape(random() % 4, 1 + random() % 5);
    std::vector<Extent> extents;
    const size_t axis = shape.empty() ? 0 : random() % shape.size();
    for (uint64_t n = random() % 6; n > 0; --n) {
      Extent box = Extent::Whole(shape);
      // Mostly along one axis; a few along others too, or empty.
      for (size_t i = 0; i < shape.size(); ++i) {
        if (i != axis && random() % 16 != 0) continue;
        box.off[i] = random() % (shape[i] + 1);
        box.len[i] = random() % (shape[i] - box.off[i] + 1);
      }
      extents.push_back(std::move(box));
    }
    std::vector<const Extent*> pointers;
    for (const Extent& extent : extents) pointers.push_back(&extent);
    const bool expected = FindGaps(shape, extents).value().empty();
    ASSERT_EQ(IsCovered(shape, pointers).value(), expected) << "round " << round;
    covered += expected;
  }
  EXPECT_GT(covered, 200);
  EXPECT_LT(covered, 3800);
  EXPECT_TRUE(IsCovered({3, 0}, {}).value()) << "nothing to cover";
}

TEST(FindGapsTest, ARaggedShardingIsRefused) {
  std::vector<Extent> extents;
  for (uint64_t x = 0; x < 200; x += 2) {
    for (uint64_t y = 0; y < 200; y += 2) extents.push_back({{x, y}, {1, 1}});
  }
  EXPECT_FALSE(FindGaps({200, 200}, extents).ok());
}

}  // namespace
}  // namespace cairn::tensor

#include "tensor_module/ckpt_tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
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

/// Boxes that cover a tensor and overlap, each with bytes of its own, and what they come to: the
/// last box that has an element counts (C10).
struct Overlapping {
  LogicalTensor tensor;
  std::string whole;
};
Overlapping PaintOver(std::mt19937_64& random, ChunkPool& pool, TestMemory& memory,
                      const LogicalTensor& form, const std::vector<Extent>& extents) {
  Overlapping out{form, std::string(form.size_bytes(), '\0')};
  const size_t element = DTypeSize(form.dtype);
  for (const Extent& extent : extents) {
    std::string paint(form.size_bytes(), '\0');
    for (char& c : paint) c = static_cast<char>(random());
    out.tensor.shards.push_back(Store(pool, memory, form, extent, paint));
    CAIRN_CHECK(ForEachRun(form.shape, element, extent.AsBox(), [&](uint64_t at, uint64_t size) {
                  out.whole.replace(at, size, paint, at, size);
                  return Status::Ok();
                }).ok());
  }
  return out;
}

TEST(LogicalTensorTest, WhereBoxesOverlapTheLastOneCountsForAllReaders) {
  std::mt19937_64 random(12);
  TestMemory memory;
  ChunkPool pool(memory);
  for (int round = 0; round < 100; ++round) {
    LogicalTensor form;
    form.dtype = round % 2 == 0 ? DType::kU8 : DType::kF32;
    form.shape = {1 + random() % 40, 1 + random() % 40};
    // The whole as two halves of rows, runs both, and boxes over and under them.
    const uint64_t half = form.shape[0] / 2, columns = form.shape[1];
    std::vector<Extent> extents = {{{0, 0}, {half, columns}},
                                   {{half, 0}, {form.shape[0] - half, columns}}};
    for (int more = 0; more < 3; ++more) {
      const uint64_t row = random() % form.shape[0];
      const uint64_t column = more == 0 ? 0 : random() % columns;
      extents.push_back({{row, column},
                         {1 + random() % (form.shape[0] - row),
                          more == 0 ? columns : 1 + random() % (columns - column)}});
    }
    std::shuffle(extents.begin(), extents.end(), random);
    const auto [tensor, whole] = PaintOver(random, pool, memory, form, extents);
    ASSERT_TRUE(Overlaps(tensor));
    const auto read = [&](uint64_t begin, uint64_t end) {
      return BytesOf(ReadRanges(memory, tensor, {{begin, end}}).value()[0]);
    };
    ASSERT_EQ(read(0, whole.size()), whole);
    for (int i = 0; i < 10; ++i) {
      const uint64_t begin = random() % whole.size();
      const uint64_t end = begin + random() % (whole.size() - begin + 1);
      ASSERT_EQ(read(begin, end), whole.substr(begin, end - begin));
      const uint64_t row = random() % form.shape[0], column = random() % columns;
      const Box box =
          Extent{{row, column},
                 {1 + random() % (form.shape[0] - row), 1 + random() % (columns - column)}}
              .AsBox();
      ASSERT_EQ(BytesOf(GatherBox(memory, tensor, box).value()),
                ReadBox(whole, form.shape, DTypeSize(form.dtype), box));
    }
  }
}

TEST(DeltaTest, OfBoxesThatOverlapToo) {
  std::mt19937_64 random(13);
  TestMemory memory;
  ChunkPool pool(memory);
  LogicalTensor form;
  form.dtype = DType::kU8;
  form.shape = {3 * kChunkBytes};
  const std::vector<Extent> extents = {
      {{0}, {2 * kChunkBytes}}, {{kChunkBytes}, {2 * kChunkBytes}}, {{1000}, {100}}};
  auto [a, old] = PaintOver(random, pool, memory, form, extents);
  auto [b, fresh] = PaintOver(random, pool, memory, form, extents);
  EXPECT_TRUE(ChangedRanges(&a, a).empty());
  // Of the first box what nobody sees of it, the rest as it was.
  LogicalTensor hidden = form;
  for (size_t i = 0; i < 3; ++i) {
    StoredShard shard = a.shards[i];
    if (i == 0) shard.chunks[1] = b.shards[0].chunks[1];
    hidden.shards.push_back(std::move(shard));
  }
  for (const auto& [to, bytes] : {std::pair(&b, fresh), std::pair(&hidden, old)}) {
    std::string made = old;
    const std::vector<ByteRange> ranges = ChangedRanges(&a, *to);
    const std::vector<Chunks> pieces = ReadRanges(memory, *to, ranges).value();
    for (size_t i = 0; i < ranges.size(); ++i) {
      made.replace(ranges[i].begin, ranges[i].end - ranges[i].begin, BytesOf(pieces[i]));
    }
    EXPECT_TRUE(made == bytes);
  }
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

/// The cells of a grid with these cuts along each axis.
std::vector<Extent> Cells(const std::vector<std::vector<uint64_t>>& cuts) {
  std::vector<Extent> cells = {Extent{}};
  for (const auto& along : cuts) {
    std::vector<Extent> longer;
    for (const Extent& cell : cells) {
      for (size_t i = 0; i + 1 < along.size(); ++i) {
        Extent& more = longer.emplace_back(cell);
        more.off.push_back(along[i]);
        more.len.push_back(along[i + 1] - along[i]);
      }
    }
    cells = std::move(longer);
  }
  return cells;
}

TEST(IsCoveredTest, SaysOfGridsWhatFindGapsSays) {
  std::mt19937_64 random(12);
  int covered = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::vector<uint64_t>> cuts(2 + random() % 2);
    Shape shape;
    for (auto& along : cuts) {
      along = {0};
      for (uint64_t n = 1 + random() % 3; n > 0; --n) {
        along.push_back(along.back() + 1 + random() % 3);
      }
      shape.push_back(along.back());
    }
    std::vector<Extent> cells = Cells(cuts);
    // Copies, empty boxes, and often one that is not what it was.
    cells.push_back(cells[random() % cells.size()]);
    cells.push_back(cells[random() % cells.size()]);
    cells.back().len[random() % shape.size()] = 0;
    const size_t axis = random() % shape.size();
    Extent& odd = cells[random() % cells.size()];
    switch (random() % 5) {
      case 0:
        odd.len[axis] -= std::min<uint64_t>(odd.len[axis], 1);
        break;
      case 1:
        odd.off[axis] = 0;
        break;
      case 2:
        odd = cells[0];
        break;
      default:
        break;
    }
    std::shuffle(cells.begin(), cells.end(), random);
    std::vector<const Extent*> pointers;
    for (const Extent& extent : cells) pointers.push_back(&extent);
    const bool expected = FindGaps(shape, cells).value().empty();
    ASSERT_EQ(IsCovered(shape, pointers).value(), expected) << "round " << round;
    covered += expected;
  }
  EXPECT_GT(covered, 1000);
  EXPECT_LT(covered, 2500);
}

TEST(IsCoveredTest, AGridTakesNoSearchForGaps) {
  std::vector<uint64_t> cuts(201);
  for (size_t i = 0; i < cuts.size(); ++i) cuts[i] = i;
  std::vector<Extent> cells = Cells({cuts, cuts});
  // In an order in which FindGaps gives up: those whose neighbours come later.
  std::stable_sort(cells.begin(), cells.end(), [](const Extent& a, const Extent& b) {
    return std::pair(a.off[0] % 2, a.off[1] % 2) < std::pair(b.off[0] % 2, b.off[1] % 2);
  });
  std::vector<const Extent*> pointers;
  for (const Extent& extent : cells) pointers.push_back(&extent);
  EXPECT_FALSE(FindGaps({200, 200}, cells).ok());
  EXPECT_TRUE(IsCovered({200, 200}, pointers).value());
  pointers.back() = pointers.front();
  EXPECT_FALSE(IsCovered({200, 200}, pointers).value());
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

#include "tensor_module/slicing.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

/// What Python's slice(start, stop, step).indices(size) names.
std::vector<uint64_t> Indices(SliceWords words, uint64_t size) {
  const auto length = static_cast<int64_t>(size);
  const auto clamp = [length](int64_t bound) {
    if (bound < 0) bound += length;
    return std::min(std::max<int64_t>(bound, 0), length);
  };
  std::vector<uint64_t> out;
  for (int64_t i = clamp(words.start); i < clamp(words.stop); i += words.step) {
    out.push_back(static_cast<uint64_t>(i));
  }
  return out;
}

/// The offsets in elements that a slice names, in C order, one by one.
std::vector<uint64_t> ModelOffsets(const Shape& shape, const std::vector<SliceWords>& words) {
  std::vector<uint64_t> offsets = {0};
  for (size_t i = 0; i < shape.size(); ++i) {
    const SliceWords all{0, static_cast<int64_t>(shape[i]), 1};
    std::vector<uint64_t> next;
    for (uint64_t base : offsets) {
      for (uint64_t index : Indices(i < words.size() ? words[i] : all, shape[i]))
        next.push_back(base * shape[i] + index);
    }
    offsets = std::move(next);
  }
  return offsets;
}

struct Case {
  Shape shape;
  std::vector<SliceWords> words;
};

Case RandomCase(std::mt19937_64& random) {
  Case out;
  const size_t dimensions = random() % 5;
  for (size_t i = 0; i < dimensions; ++i) out.shape.push_back(random() % 9);
  const size_t count = dimensions == 0 ? 0 : random() % (dimensions + 1);
  for (size_t i = 0; i < count; ++i) {
    const auto bound = [&] { return static_cast<int64_t>(random() % 24) - 12; };
    out.words.push_back({bound(), bound(), 1 + static_cast<int64_t>(random() % 4)});
  }
  return out;
}

TEST(SlicingTest, ReadsAndWritesWhatPlainLoopsDo) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  TestMemory memory;
  for (int round = 0; round < 3000; ++round) {
    const Case one = RandomCase(random);
    const DType dtype = random() % 2 ? DType::kI16 : DType::kC128;
    const size_t size = DTypeSize(dtype);
    const std::string bytes = Pattern(PayloadBytes(dtype, one.shape).value());
    const auto* tensor = new Tensor(dtype, one.shape, memory.Cut(bytes));
    const Result<Box> box = ResolveSlice(one.shape, one.words);
    ASSERT_TRUE(box.ok());
    const std::vector<uint64_t> offsets = ModelOffsets(one.shape, one.words);
    std::string expected;
    for (uint64_t offset : offsets) expected += bytes.substr(offset * size, size);
    ASSERT_EQ(BytesOf(ReadSlice(memory, *tensor, *box).value()), expected);
    ASSERT_EQ(PayloadBytes(dtype, box->shape()).value(), expected.size());

    std::string written = bytes, fresh(expected.size(), '\0');
    for (char& c : fresh) c = static_cast<char>(random());
    for (size_t i = 0; i < offsets.size(); ++i)
      written.replace(offsets[i] * size, size, fresh.substr(i * size, size));
    ASSERT_EQ(BytesOf(WriteSlice(memory, *tensor, *box, memory.Slice(fresh)).value()), written);
    ASSERT_EQ(BytesOf(tensor->chunks()), bytes);
    tensor->DropReference();
  }
}

TEST(SlicingTest, RunsCrossTheGrid) {
  TestMemory memory;
  const Shape shape = {3, kChunkBytes / 2 + 100};
  const std::string bytes = Pattern(PayloadBytes(DType::kI16, shape).value());
  const auto* tensor = new Tensor(DType::kI16, shape, memory.Cut(bytes));
  const std::vector<SliceWords> words = {{1, 3, 1}, {5, -5, 1}};
  const Box box = ResolveSlice(shape, words).value();
  std::string expected;
  for (uint64_t offset : ModelOffsets(shape, words)) expected += bytes.substr(offset * 2, 2);
  EXPECT_EQ(BytesOf(ReadSlice(memory, *tensor, box).value()), expected);
  tensor->DropReference();
}

TEST(SlicingTest, ARunOfRowsGoesByReference) {
  TestMemory memory;
  const auto* tensor = new Tensor(DType::kF32, {100, 1000}, memory.Cut(Pattern(400000)));
  const Box rows = ResolveSlice({100, 1000}, {{10, 20, 1}}).value();
  const Box columns = ResolveSlice({100, 1000}, {{0, 100, 1}, {0, 10, 1}}).value();
  EXPECT_TRUE(IsOneRun({100, 1000}, 4, rows));
  EXPECT_FALSE(IsOneRun({100, 1000}, 4, columns));
  EXPECT_TRUE(ReadSlice(memory, *tensor, rows).ok());
  EXPECT_EQ(memory.allocations, 0);
  EXPECT_TRUE(ReadSlice(memory, *tensor, columns).ok());
  EXPECT_EQ(memory.allocations, 1);
  tensor->DropReference();
}

TEST(SlicingTest, OneElementOfABigStrideDoesNotOverflow) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const Box box = ResolveSlice({10}, {{3, kMost, kMost}}).value();
  EXPECT_EQ(box.shape(), (Shape{1}));
  const Box least = ResolveSlice({10}, {{std::numeric_limits<int64_t>::min(), kMost, 1}}).value();
  EXPECT_EQ(least.shape(), (Shape{10}));
}

TEST(SlicingTest, RefusesTooManyDimensionsAndStepsBelowOne) {
  EXPECT_FALSE(ResolveSlice({4}, {{0, 1, 1}, {0, 1, 1}}).ok());
  EXPECT_FALSE(ResolveSlice({}, {{0, 1, 1}}).ok());
  EXPECT_FALSE(ResolveSlice({4}, {{0, 1, 0}}).ok());
  EXPECT_FALSE(ResolveSlice({4}, {{3, 0, -1}}).ok());
}

}  // namespace
}  // namespace cairn::tensor

#include "tensor_module/tensor.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <thread>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

TEST(PayloadBytesTest, ScalarsEmptyTensorsAndTheLimit) {
  EXPECT_EQ(PayloadBytes(DType::kF32, {}).value(), 4u);
  EXPECT_EQ(PayloadBytes(DType::kC128, {2, 3}).value(), 96u);
  EXPECT_EQ(PayloadBytes(DType::kF32, {0}).value(), 0u);
  EXPECT_EQ(PayloadBytes(DType::kF32, {kHuge, 0, kHuge}).value(), 0u);
  EXPECT_EQ(PayloadBytes(DType::kU8, {kMaxTensorBytes}).value(), kMaxTensorBytes);
  EXPECT_FALSE(PayloadBytes(DType::kU8, {kMaxTensorBytes + 1}).ok());
}

TEST(PayloadBytesTest, ProductsThatWrapAroundSixtyFourBitsAreRefused) {
  // 2^32 x 2^32 is 0 in 64 bits; 2^33 x 2^31 x 8 as well.
  EXPECT_FALSE(PayloadBytes(DType::kU8, {1ull << 32, 1ull << 32}).ok());
  EXPECT_FALSE(PayloadBytes(DType::kF64, {1ull << 33, 1ull << 31}).ok());
  EXPECT_FALSE(PayloadBytes(DType::kF64, {kHuge, kHuge, kHuge}).ok());
  EXPECT_FALSE(PayloadBytes(DType::kF32, {0x4000000000000001ull, 4}).ok());
}

TEST(PayloadBytesTest, AtMostSixtyFourDimensions) {
  EXPECT_EQ(PayloadBytes(DType::kU8, Shape(64, 1)).value(), 1u);
  EXPECT_FALSE(PayloadBytes(DType::kU8, Shape(65, 1)).ok());
}

TEST(ChunksTest, AreCutOnTheGridWithoutACopy) {
  TestMemory memory;
  const std::string bytes = Pattern(2 * kChunkBytes + 5);
  const BlobSlice payload = memory.Slice(bytes);
  const char* data = payload.view().data();
  const Chunks chunks = CutOnGrid(memory, payload).value();
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[2].size, 5u);
  EXPECT_EQ(chunks[1].view().data(), data + kChunkBytes);
  EXPECT_EQ(memory.allocations, 0);
  EXPECT_EQ(TotalBytes(chunks), bytes.size());
  EXPECT_EQ(BytesOf(chunks), bytes);
}

TEST(ChunksTest, MemoryIsAlignedForEveryDType) {
  TestMemory memory;
  const std::string bytes = Pattern(100);
  BlobSlice payload = memory.Slice("x" + bytes);
  payload = {payload.blob, 1, bytes.size()};
  const Chunks chunks = CutOnGrid(memory, payload).value();
  EXPECT_EQ(memory.allocations, 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(chunks[0].view().data()) % kChunkAlignment, 0u);
  EXPECT_EQ(BytesOf(chunks), bytes);
  memory.refuse = true;
  EXPECT_FALSE(CutOnGrid(memory, payload).ok());
}

TEST(ChunksTest, ZerosShareOneChunk) {
  TestMemory memory;
  EXPECT_TRUE(ZeroChunks(memory, 0).value().empty());
  const Chunks chunks = ZeroChunks(memory, 3 * kChunkBytes + 1).value();
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_EQ(memory.allocations, 1);
  EXPECT_EQ(BytesOf(chunks), std::string(3 * kChunkBytes + 1, '\0'));
}

TEST(ChunksTest, ReadingMergesNeighbours) {
  TestMemory memory;
  const std::string bytes = Pattern(3 * kChunkBytes);
  const Chunks chunks = memory.Cut(bytes);
  EXPECT_EQ(ReadChunks(chunks, 0, bytes.size()).size(), 1u);
  EXPECT_EQ(BytesOf(ReadChunks(chunks, 7, kChunkBytes)), bytes.substr(7, kChunkBytes));
  EXPECT_TRUE(ReadChunks(chunks, bytes.size(), 0).empty());
}

TEST(ChunksTest, HashIsThatOfTheBytesHoweverTheyLie) {
  TestMemory memory;
  const std::string bytes = Pattern(2 * kChunkBytes + 100);
  Chunks apart = memory.Cut(bytes);
  apart[1] = memory.Slice(bytes.substr(kChunkBytes, kChunkBytes));
  EXPECT_EQ(HashChunks(apart), HashBytes128(bytes));
  EXPECT_EQ(HashChunks(memory.Cut(bytes)), HashBytes128(bytes));
  EXPECT_EQ(HashChunks({}), HashBytes128({}));
}

TEST(ChunkEditorTest, WritesAsAPlainStringDoesAndLeavesTheOldAlone) {
  std::mt19937_64 random(7);
  TestMemory memory;
  std::string model = Pattern(4 * kChunkBytes + 321);
  const std::string before = model;
  const Chunks original = memory.Cut(before);
  ChunkEditor editor(memory, original);
  for (int i = 0; i < 200; ++i) {
    const size_t offset = random() % model.size();
    const size_t size = random() % (model.size() - offset + 1) % (i % 3 ? 1000 : 2 * kChunkBytes);
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    model.replace(offset, size, bytes);
    ASSERT_TRUE(editor.Write(offset, memory.Slice(bytes)).ok());
  }
  EXPECT_EQ(BytesOf(editor.Take()), model);
  EXPECT_EQ(BytesOf(original), before);
}

TEST(ChunkEditorTest, AWholeAlignedChunkIsAdopted) {
  TestMemory memory;
  const Chunks original = memory.Cut(Pattern(2 * kChunkBytes));
  ChunkEditor editor(memory, original);
  const BlobSlice fresh = memory.Slice(std::string(kChunkBytes, 'x'));
  ASSERT_TRUE(editor.Write(kChunkBytes, fresh).ok());
  const Chunks after = editor.Take();
  EXPECT_EQ(after[1].blob.get(), fresh.blob.get());
  EXPECT_EQ(after[0].blob.get(), original[0].blob.get());
  EXPECT_EQ(memory.allocations, 0);
}

TEST(ChunkEditorTest, RefusedMemoryIsAnError) {
  TestMemory memory;
  ChunkEditor editor(memory, memory.Cut(Pattern(100)));
  memory.refuse = true;
  EXPECT_FALSE(editor.Write(3, memory.Slice("abc")).ok());
}

TEST(TensorTest, HashIsKeptAndThreadsAgree) {
  TestMemory memory;
  const std::string bytes = Pattern(kChunkBytes + 4);
  const Ref<Tensor> tensor = [&] {
    const auto* made = new Tensor(DType::kU8, {bytes.size()}, memory.Cut(bytes));
    Ref<Tensor> ref(*made);
    made->DropReference();
    return ref;
  }();
  EXPECT_FALSE(tensor->known_hash());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([tensor, &bytes] { EXPECT_EQ(tensor->hash(), HashBytes128(bytes)); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tensor->known_hash(), HashBytes128(bytes));
}

TEST(TensorTest, StoredBytesCountSharedMemoryOnce) {
  TestMemory memory;
  const auto* tensor =
      new Tensor(DType::kU8, {4 * kChunkBytes}, ZeroChunks(memory, 4 * kChunkBytes).value());
  EXPECT_LT(tensor->StoredBytes(), 2 * kChunkBytes);
  EXPECT_GE(tensor->StoredBytes(), kChunkBytes);
  tensor->DropReference();
}

TEST(BoolTest, OnlyZeroAndOneAreClean) {
  TestMemory memory;
  std::string bytes(kChunkBytes + 10, '\1');
  uint64_t index = 0;
  EXPECT_TRUE(IsCleanBool(memory.Cut(bytes), &index));
  bytes[kChunkBytes + 3] = 2;
  EXPECT_FALSE(IsCleanBool(memory.Cut(bytes), &index));
  EXPECT_EQ(index, kChunkBytes + 3);
  EXPECT_TRUE(IsCleanBool({}, &index));
}

}  // namespace
}  // namespace cairn::tensor

#include <gtest/gtest.h>

#include <random>

#include "tensor_module/chunk_store.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

Ref<Upload> Make(uint64_t size, std::vector<ByteRange> received) {
  TestMemory memory;
  const auto* upload =
      new Upload(DType::kU8, {size}, ZeroChunks(memory, size).value(), std::move(received));
  Ref<Upload> ref(*upload);
  upload->DropReference();
  return ref;
}

TEST(UploadTest, HolesAndOffsetOfAFreshAndAWholeOne) {
  const Ref<Upload> fresh = Make(100, {});
  EXPECT_EQ(fresh->next_offset(), 0u);
  EXPECT_EQ(fresh->Holes(), (std::vector<ByteRange>{{0, 100}}));
  const Ref<Upload> whole = Make(100, {{0, 100}});
  EXPECT_EQ(whole->next_offset(), 100u);
  EXPECT_TRUE(whole->Holes().empty());
  EXPECT_TRUE(Make(0, {})->Holes().empty());
}

TEST(UploadTest, RangesMergeAsAPlainBitmapSays) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    const uint64_t size = 1 + random() % 60;
    std::vector<bool> model(size, false);
    std::vector<ByteRange> received;
    for (int i = 0; i < 12; ++i) {
      const uint64_t begin = random() % (size + 1), end = begin + random() % (size - begin + 1);
      const Ref<Upload> upload = Make(size, received);
      received = upload->ReceivedWith({begin, end});
      ASSERT_TRUE(IsValidReceived(received, size));
      for (uint64_t at = begin; at < end; ++at) model[at] = true;
      std::vector<bool> got(size, false);
      for (const ByteRange& range : received) {
        for (uint64_t at = range.begin; at < range.end; ++at) got[at] = true;
      }
      ASSERT_EQ(got, model);
      std::vector<bool> holes(size, false);
      for (const ByteRange& hole : Make(size, received)->Holes()) {
        for (uint64_t at = hole.begin; at < hole.end; ++at) holes[at] = true;
      }
      holes.flip();
      ASSERT_EQ(holes, model);
    }
  }
}

TEST(UploadTest, RangesThatNoUploadCanHave) {
  EXPECT_FALSE(IsValidReceived({{5, 5}}, 10));
  EXPECT_FALSE(IsValidReceived({{5, 11}}, 10));
  EXPECT_FALSE(IsValidReceived({{0, 3}, {3, 6}}, 10)) << "they touch";
  EXPECT_FALSE(IsValidReceived({{4, 6}, {0, 2}}, 10));
  EXPECT_TRUE(IsValidReceived({{0, 3}, {4, 10}}, 10));
}

}  // namespace
}  // namespace cairn::tensor

#include "server/base/bytes.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace cairn {
namespace {

TEST(BlobTest, TheFootprintIsWhatTheAllocatorGave) {
  for (const size_t size : {0, 1, 40, 1000, 1500, 8300, 100'000}) {
    const BlobRef blob = BlobRef::Adopt(Blob::Create(size));
    EXPECT_EQ(blob->size(), size);
    EXPECT_EQ(blob->footprint(), ::malloc_usable_size(blob.get()));
    EXPECT_GE(blob->footprint(), sizeof(Blob) + size);
  }
}

TEST(BlobTest, GrowsIntoAllThatTheAllocatorGaveAndNoFurther) {
  const BlobRef blob = BlobRef::Adopt(Blob::Create(8300));
  const size_t room = blob->footprint() - sizeof(Blob);
  EXPECT_FALSE(blob->TryGrow(room + 1));
  EXPECT_EQ(blob->size(), 8300u);
  ASSERT_TRUE(blob->TryGrow(room));
  std::memset(blob->mutable_data(), 'x', room);
  EXPECT_EQ(blob->view(), std::string(room, 'x'));
}

TEST(BlobTest, ASizeThatNoMemoryHasIsRefused) {
  EXPECT_EQ(Blob::TryCreate(SIZE_MAX), nullptr);
  EXPECT_EQ(Blob::TryCreate(SIZE_MAX - sizeof(Blob)), nullptr);
}

}  // namespace
}  // namespace cairn

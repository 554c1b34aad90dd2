// ListpackIndex against the look-ups of ListpackView.

#include "server/base/listpack_index.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace cairn {
namespace {

std::string Text(uint64_t number) {
  switch (number % 3) {
    case 0:
      return std::to_string(number);
    case 1:
      return "member:" + std::to_string(number);
    default:
      return std::string(number % 100, 'x') + std::to_string(number);
  }
}

TEST(ListpackIndexTest, FindsWhatAWalkFindsWhateverChanges) {
  for (uint32_t skip : {0u, 1u}) {
    std::mt19937_64 random(std::random_device{}());
    std::string listpack = NewListpack();
    ListpackIndex index(skip, 3);
    for (int i = 0; i < 20000; ++i) {
      const std::string text = Text(random() % 300);
      const ListpackView view(listpack);
      const uint32_t at = view.Find(text, view.begin(), skip);
      ASSERT_EQ(index.Find(view, text), at);
      if (at == view.end()) {
        ListpackAppend(&listpack, text);
        if (skip != 0) ListpackAppend(&listpack, "value");
        index.Added(text, at);
      } else if (random() % 200 == 0) {
        ListpackErase(&listpack, at, 1 + skip);
        index.Forget();
      } else if (skip != 0 && random() % 4 == 0) {
        const auto old_size = static_cast<int64_t>(listpack.size());
        ListpackReplace(&listpack, view.Next(at), Text(random() % 300));
        index.Resized(at, static_cast<int64_t>(listpack.size()) - old_size);
      }
    }
  }
}

TEST(ListpackIndexTest, SeesWhatStandsTwice) {
  std::string listpack = NewListpack();
  for (int i = 0; i < 1000; ++i) {
    ListpackAppend(&listpack, Text(static_cast<uint64_t>(i)));
    ListpackAppend(&listpack, "value");
    ASSERT_FALSE(ListpackIndex::HoldsTwice(ListpackView(listpack), 1, 3));
  }
  EXPECT_TRUE(ListpackIndex::HoldsTwice(ListpackView(listpack), 0, 3));
  ListpackAppend(&listpack, Text(500));
  ListpackAppend(&listpack, "other");
  EXPECT_TRUE(ListpackIndex::HoldsTwice(ListpackView(listpack), 1, 3));
}

TEST(ListpackIndexTest, AnIntegerIsTheTextOfItsDigits) {
  // "12" as a string, which Redis never writes, and as an integer.
  const std::string listpack(
      "\x0d\0\0\0\x02\0\x82"
      "12\x03\x0c\x01\xff",
      13);
  ASSERT_TRUE(ListpackView::Validate(listpack));
  EXPECT_TRUE(ListpackIndex::HoldsTwice(ListpackView(listpack), 0, 3));
}

}  // namespace
}  // namespace cairn

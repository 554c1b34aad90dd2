#include "tensor_module/shared_list.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace cairn::tensor {
namespace {

constexpr size_t kBlockItems = SharedList<std::string>::kBlockItems;

std::vector<std::string> Numbered(size_t count) {
  std::vector<std::string> items;
  for (size_t i = 0; i < count; ++i) items.push_back("item " + std::to_string(i));
  return items;
}

std::vector<std::string> Items(const SharedList<std::string>& list) {
  return {list.begin(), list.end()};
}

TEST(SharedListTest, HasItsItemsInOrder) {
  for (const size_t count :
       {size_t{0}, size_t{1}, kBlockItems - 1, kBlockItems, kBlockItems + 1, 3 * kBlockItems}) {
    const std::vector<std::string> items = Numbered(count);
    const SharedList<std::string> list(items);
    ASSERT_EQ(list.size(), count);
    EXPECT_EQ(list.empty(), count == 0);
    EXPECT_EQ(Items(list), items);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(list[i], items[i]);
  }
  EXPECT_EQ(Items(SharedList<std::string>(kBlockItems + 1)),
            std::vector<std::string>(kBlockItems + 1));
}

TEST(SharedListTest, AChangeCopiesOneBlockAndNoMore) {
  const SharedList<std::string> before(Numbered(3 * kBlockItems));
  SharedList<std::string> after = before;
  EXPECT_EQ(&after[0], &before[0]);
  after.Own(kBlockItems) = "changed";
  EXPECT_EQ(before[kBlockItems], "item " + std::to_string(kBlockItems));
  EXPECT_EQ(after[kBlockItems], "changed");
  EXPECT_EQ(&after[0], &before[0]);
  EXPECT_EQ(&after[2 * kBlockItems], &before[2 * kBlockItems]);
  EXPECT_NE(&after[kBlockItems + 1], &before[kBlockItems + 1]);
  // What is this list's own already stays where it is.
  const std::string* const own = &after[kBlockItems + 1];
  after.Own(kBlockItems + 1) = "changed too";
  EXPECT_EQ(&after[kBlockItems + 1], own);
}

TEST(SharedListTest, CopiesKeepWhatTheyHadWhateverBecomesOfTheOthers) {
  std::mt19937_64 random(20261127);
  struct Pair {
    SharedList<std::string> list;
    std::vector<std::string> expected;
  };
  std::vector<Pair> pairs{{SharedList<std::string>(Numbered(100)), Numbered(100)}};
  for (int step = 0; step < 3000; ++step) {
    const size_t which = random() % pairs.size();
    switch (random() % 8) {
      case 0:
        if (pairs.size() < 20) pairs.push_back(Pair(pairs[which]));
        break;
      case 1:
        if (pairs.size() > 1) pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(which));
        break;
      default: {
        const size_t at = random() % 100;
        pairs[which].list.Own(at) = pairs[which].expected[at] = std::to_string(step);
      }
    }
    const Pair& any = pairs[random() % pairs.size()];
    ASSERT_EQ(Items(any.list), any.expected);
  }
  for (const Pair& pair : pairs) EXPECT_EQ(Items(pair.list), pair.expected);
}

}  // namespace
}  // namespace cairn::tensor

#include "tensor_module/shared_sorted.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace cairn::tensor {
namespace {

/// Counts what is copied of it: a handle to it would be.
struct Item {
  explicit Item(int value) : value(value) {}
  Item(const Item& other) : value(other.value) { ++copies; }
  Item(Item&&) = default;
  Item& operator=(const Item&) = default;
  Item& operator=(Item&&) = default;
  int value;
  static inline int copies = 0;
};

using List = SharedSorted<Item>;

auto Before(int value) {
  return [value](const Item& item) { return item.value < value; };
}
std::vector<int> Items(const List& list) {
  std::vector<int> items;
  list.ForEach([&](const Item& item) { items.push_back(item.value); });
  return items;
}

TEST(SharedSortedTest, CopiesKeepWhatTheyHadWhateverComesToTheOthers) {
  std::mt19937_64 random(20261129);
  struct Pair {
    List list;
    std::set<int> expected;
  };
  std::vector<Pair> pairs(1);
  for (int step = 0; step < 5000; ++step) {
    const size_t which = random() % pairs.size();
    switch (random() % 12) {
      case 0:
        if (pairs.size() < 20) pairs.push_back(Pair(pairs[which]));
        break;
      case 1:
        if (pairs.size() > 1) pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(which));
        break;
      default: {
        const int value = static_cast<int>(random() % 1000);
        Pair& pair = pairs[which];
        const Item* const found = pair.list.Find(Before(value));
        const auto expected = pair.expected.lower_bound(value);
        ASSERT_EQ(found == nullptr, expected == pair.expected.end());
        if (found != nullptr) ASSERT_EQ(found->value, *expected);
        if (pair.expected.insert(value).second) pair.list.Insert(Item(value), Before(value));
      }
    }
    const Pair& any = pairs[random() % pairs.size()];
    ASSERT_EQ(Items(any.list), std::vector<int>(any.expected.begin(), any.expected.end()));
    ASSERT_EQ(any.list.size(), any.expected.size());
  }
}

TEST(SharedSortedTest, AnItemThatComesCopiesOneBlockOfOthers) {
  for (const bool backwards : {false, true}) {
    List list;
    int most = 0;
    for (int i = 0; i < 1000; ++i) {
      const List before = list;
      const int value = backwards ? 1000 - i : i;
      Item::copies = 0;
      list.Insert(Item(value), Before(value));
      most = std::max(most, Item::copies);
    }
    EXPECT_LE(most, static_cast<int>(List::kBlockItems)) << backwards;
    EXPECT_EQ(list.size(), 1000u);
  }
}

TEST(SharedSortedTest, AChangeIsOfOneCopyAlone) {
  std::vector<Item> items;
  for (int i = 0; i < 100; ++i) items.emplace_back(2 * i);
  const List before{std::move(items)};
  EXPECT_EQ(before.front().value, 0);
  List after = before;
  after.Own(Before(51)).value = 53;
  EXPECT_EQ(after.Find(Before(51))->value, 53);
  EXPECT_EQ(before.Find(Before(51))->value, 52);
  EXPECT_EQ(before.Find(Before(199)), nullptr);
}

}  // namespace
}  // namespace cairn::tensor

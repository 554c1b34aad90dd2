// QuickList against a plain deque, in several shapes, with and without a frozen reader.

#include "server/data/quicklist.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "persistence/rdb_format.h"

namespace cairn {
namespace {

using Model = std::deque<std::string>;
using ListRef = std::unique_ptr<QuickList, void (*)(QuickList*)>;
ListRef Hold(QuickList* list) {
  return {list, [](QuickList* each) { each->Unref(); }};
}

Model Items(const QuickList& list) {
  Model items;
  list.Visit(0, UINT64_MAX, /*reverse=*/false, [&items](const ListpackValue& value) {
    char scratch[32];
    items.emplace_back(value.Text(scratch));
    return true;
  });
  return items;
}

std::vector<uint32_t> NodeCounts(const QuickList& list) {
  std::vector<uint32_t> counts;
  list.VisitNodes([&counts](const ListNode& node) { counts.push_back(node.count); });
  return counts;
}

class QuickListTest : public ::testing::Test {
 protected:
  std::string RandomItem() {
    switch (random_() % 5) {
      case 0:
        return std::to_string(static_cast<int64_t>(random_()) >> (random_() % 64));
      case 1:
        return std::string(random_() % 300, 'x');
      case 2:
        return std::string(random_() % 6000, static_cast<char>('a' + random_() % 3));
      default:
        return "item" + std::to_string(random_() % 20);
    }
  }

  void Step(QuickList* list, Model* model) {
    const std::string item = RandomItem();
    const auto place = [&] { return random_() % model->size(); };
    const uint64_t kind = model->empty() ? random_() % 2 : random_() % 12;
    switch (kind) {
      case 0:
      case 2:
        list->Push(true, item);
        model->push_front(item);
        break;
      case 1:
      case 3:
        list->Push(false, item);
        model->push_back(item);
        break;
      case 4:
      case 5:
      case 6: {
        const size_t at = place();
        const bool after = kind == 4;
        list->Insert(at, after, item);
        model->insert(model->begin() + static_cast<ptrdiff_t>(at + after), item);
        break;
      }
      case 7:
      case 8: {
        const size_t at = place();
        list->Replace(at, item);
        (*model)[at] = item;
        break;
      }
      case 9: {
        const size_t at = place();
        const size_t n = 1 + random_() % std::min<size_t>(model->size() - at, 12);
        list->EraseRange(at, n);
        model->erase(model->begin() + static_cast<ptrdiff_t>(at),
                     model->begin() + static_cast<ptrdiff_t>(at + n));
        break;
      }
      case 10:
        list->EraseRange(0, 1);
        model->pop_front();
        break;
      default: {
        const std::string wanted = (*model)[place()];
        const bool from_tail = random_() % 2;
        const uint64_t limit = 1 + random_() % 4;
        uint64_t erased = 0;
        for (size_t i = 0; i < model->size() && erased < limit;) {
          const size_t at = from_tail ? model->size() - 1 - i : i;
          if ((*model)[at] == wanted) {
            model->erase(model->begin() + static_cast<ptrdiff_t>(at));
            ++erased;
          } else {
            ++i;
          }
        }
        EXPECT_EQ(list->EraseEqual(wanted, limit, from_tail), erased);
        break;
      }
    }
  }

  void DrainQueue() {
    Retired item;
    while (lane_->Pop(&item)) {
      std::free(item.object);
      gate_.Released(item.kind, item.size_bytes);
    }
  }

  RecordSlab slab_;
  SnapshotGate gate_;
  ViewLane* lane_ = nullptr;
  ValueHome home_{&gate_, &slab_, 1};
  std::mt19937_64 random_{1};
};

class QuickListShapeTest : public QuickListTest, public ::testing::WithParamInterface<ListShape> {};

TEST_P(QuickListShapeTest, AgreesWithADeque) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  const ListRef list = Hold(new QuickList(home_, GetParam()));
  Model model;
  for (int i = 0; i < 3000; ++i) {
    Step(list.get(), &model);
    if (i % 10 == 0) {
      list->CheckInvariants();
      ASSERT_EQ(Items(*list), model) << i;
    }
  }
  const ListRef clone = Hold(list->Clone());
  clone->CheckInvariants();
  EXPECT_EQ(Items(*clone), model);
  Model reversed;
  list->Visit(list->size() - 1, UINT64_MAX, /*reverse=*/true, [&](const ListpackValue& value) {
    char scratch[32];
    reversed.emplace_front(value.Text(scratch));
    return true;
  });
  EXPECT_EQ(reversed, model);
}

TEST_P(QuickListShapeTest, AViewSeesTheStateOfTheCut) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  QuickList* list = new QuickList(home_, GetParam());
  Model model;
  for (int i = 0; i < 300; ++i) Step(list, &model);
  for (int round = 0; round < 20; ++round) {
    lane_ = gate_.Open();
    const ListRef frozen = Hold(list);
    const Model at_cut = model;
    list = list->Fork(1000);
    for (int i = 0; i < 60; ++i) Step(list, &model);
    ASSERT_EQ(Items(*frozen), at_cut);
    ASSERT_EQ(Items(*list), model);
    list->CheckInvariants();
    lane_->PublishWatermark(kWatermarkEnd);
    for (int i = 0; i < 10; ++i) Step(list, &model);
    DrainQueue();
    gate_.Close(*lane_);
    ASSERT_EQ(Items(*list), model);
    list->CheckInvariants();
  }
  list->Unref();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, QuickListShapeTest,
    ::testing::Values(ListShape{}, ListShape{.fill = -1}, ListShape{.fill = 4},
                      ListShape{.fill = 1}, ListShape{.fill = 0}, ListShape{.compress_depth = 1},
                      ListShape{.fill = 7, .compress_depth = 2}, ListShape{.packed_threshold = 200},
                      ListShape{.fill = 5, .compress_depth = 1, .packed_threshold = 100}));

TEST_F(QuickListTest, FillsNodesAsRedisDoes) {
  const ListRef list = Hold(new QuickList(home_, ListShape{}));
  for (int i = 0; i < 1000; ++i) list->Push(false, "0123456789abcdef");
  // Each takes 18 bytes; an insert is refused when bytes + 16 + 8 would pass 8,192.
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{454, 454, 92}));
}

TEST_F(QuickListTest, ASplitJoinsWhatFits) {
  const ListRef list = Hold(new QuickList(home_, ListShape{.fill = 4}));
  for (int i = 0; i < 8; ++i) list->Push(false, std::to_string(i));
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{4, 4}));
  list->Insert(1, /*after=*/true, "x");
  EXPECT_EQ(Items(*list), (Model{"0", "1", "x", "2", "3", "4", "5", "6", "7"}));
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{2, 3, 4}));
}

TEST_F(QuickListTest, BigElementsStandAlone) {
  const ListRef list = Hold(new QuickList(home_, ListShape{.packed_threshold = 10}));
  list->Push(false, "a");
  list->Push(false, std::string(10, 'b'));
  list->Push(false, "c");
  list->Push(false, "d");
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{1, 1, 2}));
  list->Replace(1, "small");
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{1, 3}));
  list->Insert(1, /*after=*/true, std::string(11, 'e'));
  EXPECT_EQ(NodeCounts(*list), (std::vector<uint32_t>{1, 1, 1, 2}));
}

TEST_F(QuickListTest, InteriorNodesAreCompressed) {
  const ListRef list = Hold(new QuickList(home_, ListShape{.fill = 32, .compress_depth = 1}));
  for (int i = 0; i < 1000; ++i) list->Push(false, "the same text " + std::to_string(i % 3));
  size_t compressed = 0;
  list->VisitNodes([&compressed](const ListNode& node) {
    compressed += node.form == ListNode::Form::kCompressed;
  });
  EXPECT_EQ(compressed, list->node_count() - 2);
  list->CheckInvariants();
  EXPECT_LT(list->MemoryUsage(), 1000u * 10);
}

TEST_F(QuickListTest, PoppingAtTheHeadMovesNothing) {
  const ListRef list = Hold(new QuickList(home_, ListShape{}));
  for (int i = 0; i < 100; ++i) list->Push(true, std::to_string(i));
  for (int i = 99; i >= 0; --i) {
    ASSERT_EQ(Items(*list).front(), std::to_string(i));
    list->EraseRange(0, 1);
    list->CheckInvariants();
  }
  EXPECT_EQ(list->size(), 0u);
  list->Push(true, "again");
  EXPECT_EQ(Items(*list), Model{"again"});
}

TEST_F(QuickListTest, RoomGoesWithWhatIsTakenOut) {
  constexpr size_t kOverhead = 1000;
  for (const bool from_tail : {false, true}) {
    const ListRef queue = Hold(new QuickList(home_, ListShape{}));
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 30; ++i) queue->Push(from_tail, std::string(500, 'x'));
      queue->EraseRange(from_tail ? 1 : 0, queue->size() - 1);
      EXPECT_LT(queue->MemoryUsage(), 4 * 510 + kOverhead);
    }
    queue->Replace(0, "small");
    queue->CheckInvariants();
    EXPECT_LT(queue->MemoryUsage(), kOverhead);
  }
  const ListRef equal = Hold(new QuickList(home_, ListShape{}));
  equal->Push(false, "other");
  for (int i = 0; i < 40; ++i) equal->Push(false, std::string(150, 'x'));
  EXPECT_EQ(equal->EraseEqual(std::string(150, 'x'), UINT64_MAX, /*from_tail=*/false), 40u);
  EXPECT_LT(equal->MemoryUsage(), kOverhead);
}

TEST_F(QuickListTest, AFullNodeKeepsNoRoom) {
  for (const bool at_head : {false, true}) {
    const ListRef list = Hold(new QuickList(home_, ListShape{}));
    for (int i = 0; i < 100; ++i) list->Push(at_head, std::string(3000, 'x'));
    EXPECT_EQ(list->node_count(), 50u);
    list->CheckInvariants();
    EXPECT_LT(list->MemoryUsage(), 100u * 3100);
  }
}

}  // namespace
}  // namespace cairn

// CowTree against a plain sequence, with and without a frozen reader, and with a walker thread.

#include "server/data/cow_tree.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace cairn {
namespace {

constexpr int kLeafItems = 6;

struct IntLeaf {
  uint64_t generation;
  int count;
  int64_t items[kLeafItems];
};

struct IntTreePolicy {
  using Leaf = IntLeaf;
  using Key = int64_t;
  static constexpr uint32_t kFanout = 5;
  static uint64_t Weight(const IntLeaf& leaf) { return static_cast<uint64_t>(leaf.count); }
  static Key FirstKey(const IntLeaf& leaf) { return leaf.items[0]; }
  static IntLeaf* Make() {
    auto* leaf = static_cast<IntLeaf*>(std::malloc(sizeof(IntLeaf)));
    leaf->count = 0;
    return leaf;
  }
  static IntLeaf* Copy(const IntLeaf& leaf) {
    IntLeaf* copy = Make();
    *copy = leaf;
    return copy;
  }
  static void Free(IntLeaf* leaf) { std::free(leaf); }
  static void Retire(SnapshotGate& gate, IntLeaf* leaf) {
    gate.Retire(Retired::Kind::kBlock, leaf, 0, sizeof(IntLeaf));
  }
};

/// A sorted multiset of integers: the smallest user a tree can have.
class IntSet final : public Container {
 public:
  using Tree = CowTree<IntTreePolicy>;

  explicit IntSet(const ValueHome& home) : Container(home) {}
  ~IntSet() override {
    if (owns_nodes()) tree_.FreeNodes();
  }
  IntSet* Fork(uint64_t frozen_until) override { return new IntSet(*this, frozen_until); }
  IntSet* Clone() const override {
    auto* clone = new IntSet(home());
    std::vector<IntLeaf*> leaves;
    for (auto at = tree_.First(); at; at.Next()) leaves.push_back(IntTreePolicy::Copy(*at.leaf()));
    clone->tree_.Build(leaves, *clone);
    return clone;
  }
  void CheckInvariants() const override {
    int64_t last = INT64_MIN;
    tree_.CheckInvariants([&last](const IntLeaf& leaf) {
      for (int i = 0; i < leaf.count; ++i) {
        CAIRN_CHECK(leaf.items[i] >= last);
        last = leaf.items[i];
      }
    });
  }
  Status Emit(ValueSink&) const override { return Status::Ok(); }
  size_t MemoryUsage() const override {
    return tree_.InnerBytes() + tree_.leaf_count() * sizeof(IntLeaf);
  }
  size_t FreeEffort() const override { return tree_.leaf_count(); }
  const char* EncodingName() const override { return "tree"; }
  const char* TypeName() const override { return "test"; }

  void Add(int64_t value) {
    auto at = tree_.FindLast([value](int64_t first) { return first <= value; });
    if (!at) {
      IntLeaf* leaf = IntTreePolicy::Make();
      leaf->items[leaf->count++] = value;
      return tree_.InsertLeaf(&at, true, leaf, *this);
    }
    IntLeaf* leaf = tree_.Own(&at, *this);
    IntLeaf* upper = nullptr;
    if (leaf->count == kLeafItems) {
      upper = IntTreePolicy::Make();
      upper->count = kLeafItems / 2;
      std::copy(leaf->items + kLeafItems - upper->count, leaf->items + kLeafItems, upper->items);
      leaf->count -= upper->count;
    }
    IntLeaf* into = upper != nullptr && value >= upper->items[0] ? upper : leaf;
    int64_t* place = std::upper_bound(into->items, into->items + into->count, value);
    std::copy_backward(place, into->items + into->count, into->items + into->count + 1);
    *place = value;
    ++into->count;
    tree_.Refresh(at);
    if (upper != nullptr) tree_.InsertLeaf(&at, true, upper, *this);
  }

  void RemoveAt(uint64_t rank) {
    uint64_t offset = 0;
    auto at = tree_.Seek(rank, &offset);
    ASSERT_EQ(tree_.RankOf(at) + offset, rank);
    if (at.leaf()->count == 1) return tree_.EraseLeaf(&at, *this);
    IntLeaf* leaf = tree_.Own(&at, *this);
    std::copy(leaf->items + offset + 1, leaf->items + leaf->count, leaf->items + offset);
    --leaf->count;
    tree_.Refresh(at);
  }

  std::vector<int64_t> Items() const {
    std::vector<int64_t> items;
    for (auto at = tree_.First(); at; at.Next())
      items.insert(items.end(), at.leaf()->items, at.leaf()->items + at.leaf()->count);
    return items;
  }
  std::vector<int64_t> ItemsBackwards() const {
    std::vector<int64_t> items;
    for (auto at = tree_.Last(); at; at.Prev()) {
      for (int i = at.leaf()->count; i-- > 0;) items.push_back(at.leaf()->items[i]);
    }
    return items;
  }
  const Tree& tree() const { return tree_; }

 private:
  IntSet(IntSet& old, uint64_t frozen_until) : Container(old, frozen_until) {
    tree_.ForkFrom(old.tree_);
  }
  Tree tree_;
};

using SetRef = std::unique_ptr<const IntSet, void (*)(const IntSet*)>;
SetRef Hold(const IntSet* set) {
  return {set, [](const IntSet* each) { each->Unref(); }};
}

void DrainQueue(SnapshotGate& gate, ViewLane& lane) {
  Retired item;
  while (lane.Pop(&item)) {
    std::free(item.object);
    gate.Released(item.kind, item.size_bytes);
  }
}

class CowTreeTest : public ::testing::Test {
 protected:
  /// One random step on the set and its model.
  void Step(IntSet* set, std::vector<int64_t>* model, size_t about) {
    const bool add = model->empty() || random_() % (2 * about) >= model->size();
    if (add) {
      const auto value = static_cast<int64_t>(random_() % 1000);
      set->Add(value);
      model->insert(std::upper_bound(model->begin(), model->end(), value), value);
    } else {
      const size_t at = random_() % model->size();
      set->RemoveAt(at);
      model->erase(model->begin() + static_cast<ptrdiff_t>(at));
    }
  }

  RecordSlab slab_;
  SnapshotGate gate_;
  ViewLane* lane_ = nullptr;
  ValueHome home_{&gate_, &slab_, 1};
  std::mt19937_64 random_{std::random_device{}()};
};

TEST_F(CowTreeTest, AgreesWithASequence) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  auto* set = new IntSet(home_);
  const SetRef holder = Hold(set);
  std::vector<int64_t> model;
  for (size_t about : {10, 200, 1500, 40, 0}) {
    for (int i = 0; i < 3000; ++i) {
      if (about == 0 && model.empty()) break;
      Step(set, &model, std::max<size_t>(about, 1));
      if (i % 16 == 0) set->CheckInvariants();
    }
    ASSERT_EQ(set->Items(), model);
    std::vector<int64_t> backwards(model.rbegin(), model.rend());
    ASSERT_EQ(set->ItemsBackwards(), backwards);
    ASSERT_EQ(set->tree().weight(), model.size());
    uint64_t rank = 0;
    for (auto at = set->tree().First(); at; at.Next()) {
      ASSERT_EQ(set->tree().RankOf(at), rank);
      rank += static_cast<uint64_t>(at.leaf()->count);
    }
  }
}

TEST_F(CowTreeTest, GrowsAtEitherEndWithFullNodes) {
  for (const bool ascending : {true, false}) {
    auto* set = new IntSet(home_);
    const SetRef holder = Hold(set);
    for (int64_t i = 0; i < 3000; ++i) set->Add(ascending ? i : -i);
    set->CheckInvariants();
    EXPECT_EQ(set->tree().weight(), 3000u);
  }
}

TEST_F(CowTreeTest, BuildsFromLeaves) {
  for (int64_t items : {0, 1, 5, 6, 7, 24, 25, 26, 30, 31, 155, 156, 2000}) {
    auto* set = new IntSet(home_);
    const SetRef holder = Hold(set);
    for (int64_t i = 0; i < items; ++i) set->Add(i);
    const SetRef clone = Hold(set->Clone());
    clone->CheckInvariants();
    EXPECT_EQ(clone->Items(), set->Items());
  }
}

TEST_F(CowTreeTest, AViewSeesTheStateOfTheCut) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  auto* set = new IntSet(home_);
  std::vector<int64_t> model;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 200; ++i) Step(set, &model, 300);
    lane_ = gate_.Open();
    const std::vector<int64_t> at_cut = model;
    const SetRef frozen = Hold(set);
    set = frozen->tree().empty() ? set : const_cast<IntSet*>(frozen.get())->Fork(1000);
    for (int i = 0; i < 300; ++i) {
      Step(set, &model, 250);
      if (i % 16 == 0) {
        ASSERT_EQ(frozen->Items(), at_cut);
      }
    }
    frozen->CheckInvariants();
    set->CheckInvariants();
    ASSERT_EQ(frozen->Items(), at_cut);
    ASSERT_EQ(set->Items(), model);
    // Behind the walk nodes are written in place.
    lane_->PublishWatermark(1000);
    const uint64_t retained = gate_.retained_bytes();
    for (int i = 0; i < 100; ++i) Step(set, &model, 250);
    EXPECT_EQ(gate_.retained_bytes(), retained);
    DrainQueue(gate_, *lane_);
    lane_->PublishWatermark(kWatermarkEnd);
    gate_.Close(*lane_);
    ASSERT_EQ(set->Items(), model);
    set->CheckInvariants();
  }
  set->Unref();
}

TEST_F(CowTreeTest, CopiesNoMoreThanThePath) {
  auto* set = new IntSet(home_);
  for (int64_t i = 0; i < 5000; ++i) set->Add(i);
  lane_ = gate_.Open();
  const SetRef frozen = Hold(set);
  const SetRef live = Hold(set->Fork(1000));
  const_cast<IntSet*>(live.get())->RemoveAt(2500);
  EXPECT_LE(gate_.retained_bytes(),
            sizeof(IntLeaf) + 8 * sizeof(IntSet::Tree::Inner) + 9 * sizeof(Retired));
  EXPECT_GT(gate_.retained_bytes(), 0u);
  DrainQueue(gate_, *lane_);
  lane_->PublishWatermark(kWatermarkEnd);
  gate_.Close(*lane_);
}

// The executor writes while a thread reads what is frozen and frees what is retired, over and over.
TEST_F(CowTreeTest, AWalkerThreadReadsWhileTheExecutorWrites) {
  auto* set = new IntSet(home_);
  std::vector<int64_t> model;
  for (int i = 0; i < 2000; ++i) Step(set, &model, 1000);
  for (int round = 0; round < 30; ++round) {
    lane_ = gate_.Open();
    const std::vector<int64_t> at_cut = model;
    const IntSet* frozen = set;
    set = set->Fork(1000);
    std::atomic<bool> stop{false};
    bool same = true;
    std::thread walker([&] {
      for (int i = 0; i < 5; ++i) same = same && frozen->Items() == at_cut;
      lane_->PublishWatermark(1000);
      while (!stop.load(std::memory_order_acquire)) DrainQueue(gate_, *lane_);
      DrainQueue(gate_, *lane_);
      frozen->Unref();
      lane_->PublishWatermark(kWatermarkEnd);
    });
    for (int i = 0; i < 600; ++i) Step(set, &model, 1000);
    stop.store(true, std::memory_order_release);
    walker.join();
    gate_.Close(*lane_);
    EXPECT_TRUE(same);
    ASSERT_EQ(set->Items(), model);
    set->CheckInvariants();
  }
  set->Unref();
}

}  // namespace
}  // namespace cairn

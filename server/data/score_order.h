#pragma once

// ScoreOrder: the order of a big sorted set: its records by (score, member bytes), with ranks. It
// points to records and owns none: SortedSet does, through its member table. Leaves are arrays of
// 48-bit pointers, so that a member costs 6 bytes here and a little for the leaf's slack. Executor;
// const calls also walker while frozen.

#include <cstdint>
#include <cstring>
#include <string_view>

#include "server/base/prefetch.h"
#include "server/data/cow_tree.h"
#include "server/data/scored_record.h"

namespace cairn {

struct ScoreLeaf {
  static constexpr int kItems = 169;  ///< fills 1,024 bytes, a size class of the allocator
  uint64_t generation;
  uint16_t count;
  uint8_t refs[kItems * 6];

  const ScoredRecord* record(int i) const {
    uint64_t word = 0;
    std::memcpy(&word, refs + i * 6, 6);
    return reinterpret_cast<const ScoredRecord*>(word);
  }
  void set_record(int i, const ScoredRecord* record) {
    const auto word = reinterpret_cast<uint64_t>(record);
    std::memcpy(refs + i * 6, &word, 6);
  }
  /// Where `record` stands, or `count`. Looks at no record, each of which may be a cache miss.
  int IndexOf(const ScoredRecord* record) const {
    int i = 0;
    while (i < count && this->record(i) != record) ++i;
    return i;
  }
  /// Opens a gap of one at `i`. Requires: count < kItems.
  void Insert(int i, const ScoredRecord* record) {
    std::memmove(refs + (i + 1) * 6, refs + i * 6, static_cast<size_t>(count - i) * 6);
    ++count;
    set_record(i, record);
  }
  /// Takes out `n` items from `i` on.
  void Erase(int i, int n) {
    std::memmove(refs + i * 6, refs + (i + n) * 6, static_cast<size_t>(count - i - n) * 6);
    count = static_cast<uint16_t>(count - n);
  }
};
static_assert(sizeof(ScoreLeaf) == 1024);

struct ScoreTreePolicy {
  using Leaf = ScoreLeaf;
  struct Key {
    double score;
    const ScoredRecord* record;
    bool operator==(const Key&) const = default;
  };
  static constexpr uint32_t kFanout = 15;  ///< inner nodes of 496 bytes
  static uint64_t Weight(const ScoreLeaf& leaf) { return leaf.count; }
  static Key FirstKey(const ScoreLeaf& leaf) {
    const ScoredRecord* first = leaf.record(0);
    return {first->score(), first};
  }
  static ScoreLeaf* New();
  static ScoreLeaf* Copy(const ScoreLeaf& leaf);
  static void Free(ScoreLeaf* leaf) { std::free(leaf); }
  static void Retire(SnapshotGate& gate, ScoreLeaf* leaf) {
    gate.Retire(Retired::Kind::kBlock, leaf, 0, sizeof(ScoreLeaf));
  }
};

class ScoreOrder {
 public:
  using Tree = CowTree<ScoreTreePolicy>;

  uint64_t size() const { return tree_.weight(); }
  size_t Bytes() const { return tree_.InnerBytes() + tree_.leaf_count() * sizeof(ScoreLeaf); }
  uint64_t leaf_count() const { return tree_.leaf_count(); }
  void ForkFrom(const ScoreOrder& other) { tree_.ForkFrom(other.tree_); }
  void FreeNodes() { tree_.FreeNodes(); }

  /// Requires: no record with this member is in the order. Cost: O(log n).
  void Insert(const ScoredRecord* record, const Container& owner);
  /// A place in the order. Valid until the order changes.
  class Place {
   private:
    friend class ScoreOrder;
    Tree::Cursor cursor_;
    int at_ = 0;
  };
  /// Where `record` stands. Requires: it is in the order.
  Place PlaceOf(const ScoredRecord& record) const;
  /// Takes out what stands at `place`, which ends with it.
  void Erase(Place place, const Container& owner);
  /// Whether the record at `place` would stay there with another score, so that its score may be
  /// written in place. False when that is not cheap to tell.
  bool KeepsPlace(const Place& place, double score) const;
  /// Points to `fresh` at `place`. Requires: its score and member are right for that place.
  void PointTo(Place place, const ScoredRecord* fresh, const Container& owner);
  /// Takes out the items of rank [from, from + count). The caller has read them before.
  void EraseRange(uint64_t from, uint64_t count, const Container& owner);
  /// Fills an empty order. Requires: `records` are in order.
  void Build(std::span<const ScoredRecord* const> records, const Container& owner);

  /// How many records `before` holds for. Requires: it holds for a prefix of the order.
  template <typename Before>
  uint64_t CountBefore(Before&& before) const;
  uint64_t RankOf(const ScoreKey& key) const {
    return CountBefore(
        [&key](const ScoredRecord& record) { return CompareScored(record, key) < 0; });
  }
  /// Visits up to `count` records from `rank` on, towards the end or, `reverse`, the start, until
  /// `visit(const ScoredRecord&)` returns false.
  template <typename Visitor>
  void Visit(uint64_t rank, uint64_t count, bool reverse, Visitor&& visit) const;

  /// C1 to C4 and the order itself.
  void CheckInvariants() const;

 private:
  template <typename Before>
  static int CountInLeaf(const ScoreLeaf& leaf, Before& before);
  Tree::Cursor FindLeaf(const ScoreKey& key) const;
  void SplitLeaf(Tree::Cursor* cursor, int at, const ScoredRecord* record, const Container& owner);
  bool GiveToNeighbour(const Tree::Cursor& cursor, bool next, const Container& owner);
  void JoinLeaf(Tree::Cursor* cursor, const Container& owner);

  Tree tree_;
};

// A search by eighths: each record looked at is a cache miss, and asking for the seven that the
// next three looks choose from takes hardly longer than asking for one. ZADD took a third less by
// it.
template <typename Before>
int ScoreOrder::CountInLeaf(const ScoreLeaf& leaf, Before& before) {
  int low = 0, high = leaf.count;
  while (low < high) {
    const int from = low, width = high - low;
    const auto pivot = [from, width](int i) { return from + width * i / 8; };
    for (int i = 1; i < 8; ++i) PrefetchLine(leaf.record(pivot(i)));
    int passed = 0;  // pivots that `before` holds for
    for (int step = 4; step > 0; step /= 2) {
      if (before(*leaf.record(pivot(passed + step)))) passed += step;
    }
    if (passed > 0) low = pivot(passed) + 1;
    if (passed < 7) high = pivot(passed + 1);
  }
  return low;
}

template <typename Before>
uint64_t ScoreOrder::CountBefore(Before&& before) const {
  const auto cursor =
      tree_.FindLast([&before](const ScoreTreePolicy::Key& key) { return before(*key.record); });
  if (!cursor) return 0;
  return tree_.RankOf(cursor) + static_cast<uint64_t>(CountInLeaf(*cursor.leaf(), before));
}

template <typename Visitor>
void ScoreOrder::Visit(uint64_t rank, uint64_t count, bool reverse, Visitor&& visit) const {
  if (count == 0 || rank >= size()) return;
  uint64_t offset = 0;
  auto cursor = tree_.Seek(rank, &offset);
  int at = static_cast<int>(offset);
  const int step = reverse ? -1 : 1;
  constexpr int kAhead = 8;  // records that are fetched while those before them are visited
  for (;;) {
    const ScoreLeaf& leaf = *cursor.leaf();
    const auto fetch = [&leaf](int i) {
      if (i >= 0 && i < leaf.count) PrefetchLine(leaf.record(i));
    };
    for (int i = 0; i < kAhead && static_cast<uint64_t>(i) < count; ++i) fetch(at + i * step);
    for (; at >= 0 && at < leaf.count; at += step) {
      if (count > kAhead) fetch(at + kAhead * step);
      if (!visit(*leaf.record(at)) || --count == 0) return;
    }
    if (!(reverse ? cursor.Prev() : cursor.Next())) return;
    at = reverse ? cursor.leaf()->count - 1 : 0;
  }
}

}  // namespace cairn

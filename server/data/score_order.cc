#include "server/data/score_order.h"

#include <cstdlib>

namespace cairn {

// --- leaves ------------------------------------------------------------------------------------

ScoreLeaf* ScoreTreePolicy::New() {
  auto* leaf = static_cast<ScoreLeaf*>(std::malloc(sizeof(ScoreLeaf)));
  CAIRN_CHECK(leaf != nullptr);
  leaf->count = 0;
  return leaf;
}

ScoreLeaf* ScoreTreePolicy::Copy(const ScoreLeaf& leaf) {
  ScoreLeaf* copy = New();
  copy->count = leaf.count;
  std::memcpy(copy->refs, leaf.refs, static_cast<size_t>(leaf.count) * 6);
  return copy;
}

// --- the order ---------------------------------------------------------------------------------

namespace {

// A neighbour with this many free places takes items from a full leaf, which keeps leaves about
// five sixths full under random inserts where splitting alone would keep them at two thirds.
constexpr int kWorthGiving = ScoreLeaf::kItems / 8;
// Leaves that could be joined are, once one is down to this.
constexpr int kJoinBelow = ScoreLeaf::kItems / 3;

}  // namespace

ScoreOrder::Tree::Cursor ScoreOrder::FindLeaf(const ScoreKey& key) const {
  return tree_.FindLast([&key](const ScoreTreePolicy::Key& first) {
    if (first.score != key.score) return first.score < key.score;
    return first.record->member() <= key.member;
  });
}

// Moves half of what the neighbour has room for. `cursor`'s leaf is owned.
bool ScoreOrder::GiveToNeighbour(const Tree::Cursor& cursor, bool next, const Container& owner) {
  Tree::Cursor beside = cursor;
  if (!(next ? beside.Next() : beside.Prev())) return false;
  const int room = ScoreLeaf::kItems - beside.leaf()->count;
  if (room < kWorthGiving) return false;
  ScoreLeaf* taker = tree_.Own(&beside, owner);
  ScoreLeaf* giver = cursor.leaf();
  const int moved = (room + 1) / 2;
  const auto moved_bytes = static_cast<size_t>(moved) * 6;
  if (next) {
    std::memmove(taker->refs + moved_bytes, taker->refs, static_cast<size_t>(taker->count) * 6);
    std::memcpy(taker->refs, giver->refs + (giver->count - moved) * 6, moved_bytes);
    giver->count = static_cast<uint16_t>(giver->count - moved);
  } else {
    std::memcpy(taker->refs + taker->count * 6, giver->refs, moved_bytes);
    giver->Erase(0, moved);
  }
  taker->count = static_cast<uint16_t>(taker->count + moved);
  tree_.Refresh(beside);
  // Refreshing goes by the way of `beside`; the two share owned ancestors, so this one is whole.
  tree_.Refresh(cursor);
  return true;
}

void ScoreOrder::SplitLeaf(Tree::Cursor* cursor, int at, const ScoredRecord* record,
                           const Container& owner) {
  ScoreLeaf* leaf = cursor->leaf();
  ScoreLeaf* upper = ScoreTreePolicy::New();
  // Growth at either end leaves nearly full leaves behind.
  int keep = leaf->count / 2;
  Tree::Cursor beside = *cursor;
  if (at == leaf->count && !beside.Next()) keep = leaf->count;
  beside = *cursor;
  if (at == 0 && !beside.Prev()) keep = 0;
  upper->count = static_cast<uint16_t>(leaf->count - keep);
  std::memcpy(upper->refs, leaf->refs + keep * 6, static_cast<size_t>(upper->count) * 6);
  leaf->count = static_cast<uint16_t>(keep);
  if (at < keep || keep == 0) {
    leaf->Insert(at, record);
  } else {
    upper->Insert(at - keep, record);
  }
  tree_.Refresh(*cursor);
  tree_.InsertLeaf(cursor, /*after=*/true, upper, owner);
}

void ScoreOrder::Insert(const ScoredRecord* record, const Container& owner) {
  const ScoreKey key{record->score(), record->member()};
  auto before = [&key](const ScoredRecord& each) { return CompareScored(each, key) < 0; };
  auto cursor = FindLeaf(key);
  if (!cursor) {
    ScoreLeaf* leaf = ScoreTreePolicy::New();
    leaf->Insert(0, record);
    return tree_.InsertLeaf(&cursor, /*after=*/true, leaf, owner);
  }
  ScoreLeaf* leaf = tree_.Own(&cursor, owner);
  const int at = CountInLeaf(*leaf, before);
  if (leaf->count < ScoreLeaf::kItems) {
    leaf->Insert(at, record);
    return tree_.Refresh(cursor, at == 0);
  }
  const bool at_end = at == 0 || at == leaf->count;
  if (!at_end && (GiveToNeighbour(cursor, /*next=*/true, owner) ||
                  GiveToNeighbour(cursor, /*next=*/false, owner))) {
    return Insert(record, owner);
  }
  SplitLeaf(&cursor, at, record, owner);
}

// Joins a small leaf with a neighbour when both fit in one. Invalidates the cursor.
void ScoreOrder::JoinLeaf(Tree::Cursor* cursor, const Container& owner) {
  for (const bool next : {true, false}) {
    Tree::Cursor beside = *cursor;
    if (!(next ? beside.Next() : beside.Prev())) continue;
    if (beside.leaf()->count + cursor->leaf()->count > ScoreLeaf::kItems * 3 / 4) continue;
    Tree::Cursor& lower = next ? *cursor : beside;
    Tree::Cursor& upper = next ? beside : *cursor;
    ScoreLeaf* into = tree_.Own(&lower, owner);
    const ScoreLeaf* from = upper.leaf();
    std::memcpy(into->refs + into->count * 6, from->refs, static_cast<size_t>(from->count) * 6);
    into->count = static_cast<uint16_t>(into->count + from->count);
    tree_.Refresh(lower, /*first_changed=*/false);
    return tree_.EraseLeaf(&upper, owner);
  }
}

ScoreOrder::Place ScoreOrder::PlaceOf(const ScoredRecord& record) const {
  Place place;
  place.cursor_ = FindLeaf({record.score(), record.member()});
  CAIRN_CHECK(place.cursor_);
  place.at_ = place.cursor_.leaf()->IndexOf(&record);
  CAIRN_CHECK(place.at_ < place.cursor_.leaf()->count);
  return place;
}

void ScoreOrder::Erase(Place place, const Container& owner) {
  auto& cursor = place.cursor_;
  if (cursor.leaf()->count == 1) return tree_.EraseLeaf(&cursor, owner);
  ScoreLeaf* leaf = tree_.Own(&cursor, owner);
  leaf->Erase(place.at_, 1);
  tree_.Refresh(cursor, place.at_ == 0);
  if (leaf->count < kJoinBelow) JoinLeaf(&cursor, owner);
}

bool ScoreOrder::KeepsPlace(const Place& place, double score) const {
  const ScoreLeaf& leaf = *place.cursor_.leaf();
  const int at = place.at_;
  // At the ends of a leaf a neighbour, and the keys above, would have to be looked at.
  if (at == 0 || at + 1 >= leaf.count) return false;
  const ScoreKey wanted{score, leaf.record(at)->member()};
  return CompareScored(*leaf.record(at - 1), wanted) < 0 &&
         CompareScored(*leaf.record(at + 1), wanted) > 0;
}

void ScoreOrder::PointTo(Place place, const ScoredRecord* fresh, const Container& owner) {
  tree_.Own(&place.cursor_, owner)->set_record(place.at_, fresh);
  tree_.Refresh(place.cursor_, place.at_ == 0);
}

void ScoreOrder::EraseRange(uint64_t from, uint64_t count, const Container& owner) {
  while (count != 0) {
    uint64_t offset = 0;
    auto cursor = tree_.Seek(from, &offset);
    const uint64_t here = std::min<uint64_t>(count, cursor.leaf()->count - offset);
    count -= here;
    if (here == cursor.leaf()->count) {
      tree_.EraseLeaf(&cursor, owner);
      continue;
    }
    ScoreLeaf* leaf = tree_.Own(&cursor, owner);
    leaf->Erase(static_cast<int>(offset), static_cast<int>(here));
    tree_.Refresh(cursor, offset == 0);
    if (leaf->count < kJoinBelow) JoinLeaf(&cursor, owner);
  }
}

void ScoreOrder::Build(std::span<const ScoredRecord* const> records, const Container& owner) {
  std::vector<ScoreLeaf*> leaves;
  const size_t per_leaf = ScoreLeaf::kItems;
  const size_t count = (records.size() + per_leaf - 1) / per_leaf;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = records.size() * i / count, end = records.size() * (i + 1) / count;
    ScoreLeaf* leaf = ScoreTreePolicy::New();
    for (size_t at = begin; at < end; ++at) leaf->set_record(leaf->count++, records[at]);
    leaves.push_back(leaf);
  }
  tree_.Build(leaves, owner);
}

void ScoreOrder::CheckInvariants() const {
  const ScoredRecord* last = nullptr;
  tree_.CheckInvariants([&last](const ScoreLeaf& leaf) {
    for (int i = 0; i < leaf.count; ++i) {
      const ScoredRecord* record = leaf.record(i);
      CAIRN_CHECK(last == nullptr || CompareScored(*last, {record->score(), record->member()}) < 0);
      last = record;
    }
  });
}

}  // namespace cairn

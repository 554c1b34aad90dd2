#pragma once

// CowTree: a B+tree over leaves that its user fills and edits (arrays of records, listpacks), with
// item counts in every inner node, so that a leaf is found by rank, by key or from either end in
// O(log n). Copy-on-write for snapshots: a node that a view may still read is copied on the path
// and the old one is retired through the gate (F1); nothing frozen is ever written. The tree
// knows nothing of what a leaf holds; splitting and joining leaves is the user's decision. Executor
// only, except that a walker reads frozen trees through the const calls and frees retired nodes.
//
//   C1  An inner node's entry repeats its child's weight and first key.
//   C2  All leaves are at height 0, the children of a node of height h at h - 1; no node is empty.
//   C3  The root is not an inner node with a single child.
//   C4  weight, leaf_count and inner_count are those of what the root reaches.
//
// `owner` in the calls that change is the container whose header reaches the nodes; it knows what
// may be written (F1). P (policy): Leaf with a field `uint64_t generation`; Key (copyable,
// comparable; an empty struct when leaves have no order); kFanout; Weight(leaf) in items;
// FirstKey(leaf); Copy(leaf); Free(leaf), any thread; Retire(gate, leaf), which hands its blocks to
// the queue.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <vector>

#include "server/base/check.h"
#include "server/data/container.h"

namespace cairn {

template <typename P>
class CowTree {
 public:
  using Leaf = typename P::Leaf;
  using Key = typename P::Key;
  /// 5^16 leaves at the least fill that erasing leaves behind on average.
  static constexpr int kMaxHeight = 16;

  struct Entry {
    void* child;
    uint64_t weight;
    [[no_unique_address]] Key key;
  };
  struct Inner {
    uint64_t generation;
    uint32_t count;
    int32_t height;
    Entry entries[P::kFanout];
  };

  /// A leaf and the way to it. Valid until another call changes the tree's shape (InsertLeaf,
  /// EraseLeaf); Own and Refresh keep the cursor they are given valid.
  class Cursor {
   public:
    explicit operator bool() const { return leaf_ != nullptr; }
    Leaf* leaf() const { return leaf_; }
    /// Steps to the neighbouring leaf; false, the cursor empty, at the end.
    bool Next() { return Step(+1); }
    bool Prev() { return Step(-1); }

   private:
    friend class CowTree;
    bool Step(int direction);

    Leaf* leaf_ = nullptr;
    int height_ = 0;
    int at_[kMaxHeight];
    Inner* inner_[kMaxHeight];  // [0] is the leaf's parent
  };

  CowTree() = default;
  CowTree(const CowTree&) = delete;
  CowTree& operator=(const CowTree&) = delete;

  uint64_t weight() const { return weight_; }
  uint64_t leaf_count() const { return leaf_count_; }
  bool empty() const { return root_ == nullptr; }
  /// Bytes of the inner nodes; those of the leaves are the user's to count. Cost: O(1).
  size_t InnerBytes() const { return inner_count_ * sizeof(Inner); }

  /// Takes the nodes of `other`, which keeps reaching them but must not free them (F2). Requires:
  /// this tree is empty. Cost: O(1).
  void ForkFrom(const CowTree& other) {
    CAIRN_CHECK(root_ == nullptr);
    root_ = other.root_;
    height_ = other.height_;
    weight_ = other.weight_;
    leaf_count_ = other.leaf_count_;
    inner_count_ = other.inner_count_;
  }

  Cursor First() const { return End(/*last=*/false); }
  Cursor Last() const { return End(/*last=*/true); }
  /// The leaf that holds item `rank`; *offset is its place inside. Requires: rank < weight().
  Cursor Seek(uint64_t rank, uint64_t* offset) const;
  /// The last leaf whose first key satisfies `at_or_before(key)`, or the first leaf when none does.
  /// Requires: the predicate holds for a prefix of the order. Empty cursor in an empty tree.
  template <typename Predicate>
  Cursor FindLast(Predicate&& at_or_before) const;
  /// Items in the leaves before the cursor's.
  uint64_t RankOf(const Cursor& cursor) const;

  /// F1: makes the leaf and the way to it writable and returns it, copying what a view needs.
  Leaf* Own(Cursor* cursor, const Container& owner);
  /// The leaf of the cursor, owned, is at `leaf` now (it was reallocated).
  void Moved(Cursor* cursor, Leaf* leaf) {
    cursor->leaf_ = leaf;
    *ParentSlot(*cursor, 0) = leaf;
  }
  /// The leaf's weight has changed, and its first key if `first_changed` (which spares a look at
  /// the item when not). Requires: owned.
  void Refresh(const Cursor& cursor, bool first_changed = true);
  /// Adds `leaf` beside the cursor's (any cursor in an empty tree). The leaf's generation is set
  /// here. Invalidates cursors.
  void InsertLeaf(Cursor* cursor, bool after, Leaf* leaf, const Container& owner);
  /// Takes the cursor's leaf out and frees or retires it. Invalidates cursors.
  void EraseLeaf(Cursor* cursor, const Container& owner);
  /// Replaces everything by `leaves`, which it takes over. Requires: the tree is empty.
  void Build(std::span<Leaf* const> leaves, const Container& owner);

  /// Frees every node; the destructor of a header that owns them calls it (F2), any thread.
  /// Requires: no view reads any of them. Cost: O(leaves).
  void FreeNodes();
  /// C1 to C4; `check_leaf(const Leaf&)` for what the user knows of each leaf, in order.
  template <typename CheckLeaf>
  void CheckInvariants(CheckLeaf&& check_leaf) const;

 private:
  static constexpr uint32_t kJoinBelow = P::kFanout / 2;

  static Leaf* AsLeaf(void* node) { return static_cast<Leaf*>(node); }
  static Inner* AsInner(void* node) { return static_cast<Inner*>(node); }
  static Entry EntryOf(Leaf* leaf) { return {leaf, P::Weight(*leaf), P::FirstKey(*leaf)}; }
  static Entry EntryOf(Inner* inner) {
    uint64_t weight = 0;
    for (uint32_t i = 0; i < inner->count; ++i) weight += inner->entries[i].weight;
    return {inner, weight, inner->entries[0].key};
  }
  Inner* NewInner(int height, const Container& owner) {
    void* memory = std::malloc(sizeof(Inner));
    CAIRN_CHECK(memory != nullptr);
    ++inner_count_;
    Inner* inner = new (memory) Inner;
    inner->generation = owner.generation();
    inner->count = 0;
    inner->height = height;
    return inner;
  }
  // F1: frees at once what no view can see.
  void DropInner(Inner* inner, const Container& owner) {
    --inner_count_;
    if (owner.MayWrite(inner->generation)) return std::free(inner);
    owner.gate().Retire(Retired::Kind::kBlock, inner, 0, sizeof(Inner));
  }
  static void DropLeaf(Leaf* leaf, const Container& owner) {
    if (owner.MayWrite(leaf->generation)) return P::Free(leaf);
    P::Retire(owner.gate(), leaf);
  }
  void** ParentSlot(const Cursor& cursor, int level) {
    return level == cursor.height_ ? &root_
                                   : &cursor.inner_[level]->entries[cursor.at_[level]].child;
  }

  Cursor End(bool last) const;
  Inner* OwnInner(Inner* inner, void** slot, const Container& owner);
  void OwnPath(Cursor* cursor, const Container& owner);
  void RefreshFrom(const Cursor& cursor, int level);
  Inner* SplitInner(Inner* inner, uint32_t at, const Entry& fresh, const Container& owner);
  static void PutEntry(Inner* inner, uint32_t at, const Entry& entry);
  static void TakeEntry(Inner* inner, uint32_t at);
  void JoinInner(Cursor* cursor, int level, const Container& owner);
  void FreeBelow(void* node, int height);
  template <typename CheckLeaf>
  void CheckNode(const Entry& entry, int height, uint64_t* leaves, uint64_t* inners,
                 CheckLeaf& check_leaf) const;

  void* root_ = nullptr;
  int height_ = 0;  // of the root; 0: it is a leaf
  uint64_t weight_ = 0;
  uint64_t leaf_count_ = 0;
  uint64_t inner_count_ = 0;
};

// --- looking -----------------------------------------------------------------------------------

template <typename P>
bool CowTree<P>::Cursor::Step(int direction) {
  int level = 0;
  while (level < height_) {
    const int at = at_[level] + direction;
    if (at >= 0 && at < static_cast<int>(inner_[level]->count)) {
      at_[level] = at;
      break;
    }
    ++level;
  }
  if (level == height_) {
    leaf_ = nullptr;
    return false;
  }
  void* node = inner_[level]->entries[at_[level]].child;
  while (level-- > 0) {
    inner_[level] = AsInner(node);
    at_[level] = direction > 0 ? 0 : static_cast<int>(inner_[level]->count) - 1;
    node = inner_[level]->entries[at_[level]].child;
  }
  leaf_ = AsLeaf(node);
  return true;
}

template <typename P>
typename CowTree<P>::Cursor CowTree<P>::End(bool last) const {
  Cursor cursor;
  if (root_ == nullptr) return cursor;
  cursor.height_ = height_;
  void* node = root_;
  for (int level = height_ - 1; level >= 0; --level) {
    Inner* inner = AsInner(node);
    cursor.inner_[level] = inner;
    cursor.at_[level] = last ? static_cast<int>(inner->count) - 1 : 0;
    node = inner->entries[cursor.at_[level]].child;
  }
  cursor.leaf_ = AsLeaf(node);
  return cursor;
}

template <typename P>
typename CowTree<P>::Cursor CowTree<P>::Seek(uint64_t rank, uint64_t* offset) const {
  CAIRN_CHECK(rank < weight_);
  Cursor cursor;
  cursor.height_ = height_;
  void* node = root_;
  for (int level = height_ - 1; level >= 0; --level) {
    Inner* inner = AsInner(node);
    int at = 0;
    while (rank >= inner->entries[at].weight) rank -= inner->entries[at++].weight;
    cursor.inner_[level] = inner;
    cursor.at_[level] = at;
    node = inner->entries[at].child;
  }
  cursor.leaf_ = AsLeaf(node);
  *offset = rank;
  return cursor;
}

template <typename P>
template <typename Predicate>
typename CowTree<P>::Cursor CowTree<P>::FindLast(Predicate&& at_or_before) const {
  Cursor cursor;
  if (root_ == nullptr) return cursor;
  cursor.height_ = height_;
  void* node = root_;
  for (int level = height_ - 1; level >= 0; --level) {
    Inner* inner = AsInner(node);
    // Entry 0 needs no look: it is the answer when no later one qualifies.
    uint32_t low = 0, high = inner->count;
    while (high - low > 1) {
      const uint32_t middle = low + (high - low) / 2;
      if (at_or_before(inner->entries[middle].key)) {
        low = middle;
      } else {
        high = middle;
      }
    }
    cursor.inner_[level] = inner;
    cursor.at_[level] = static_cast<int>(low);
    node = inner->entries[low].child;
  }
  cursor.leaf_ = AsLeaf(node);
  return cursor;
}

template <typename P>
uint64_t CowTree<P>::RankOf(const Cursor& cursor) const {
  uint64_t rank = 0;
  for (int level = 0; level < cursor.height_; ++level) {
    for (int i = 0; i < cursor.at_[level]; ++i) rank += cursor.inner_[level]->entries[i].weight;
  }
  return rank;
}

// --- changing ----------------------------------------------------------------------------------

template <typename P>
typename CowTree<P>::Inner* CowTree<P>::OwnInner(Inner* inner, void** slot,
                                                 const Container& owner) {
  if (inner->generation == owner.generation()) [[likely]]
    return inner;
  if (owner.MayWrite(inner->generation)) {
    inner->generation = owner.generation();
    return inner;
  }
  Inner* copy = NewInner(inner->height, owner);
  copy->count = inner->count;
  std::copy_n(inner->entries, inner->count, copy->entries);
  *slot = copy;
  DropInner(inner, owner);
  return copy;
}

template <typename P>
void CowTree<P>::OwnPath(Cursor* cursor, const Container& owner) {
  for (int level = cursor->height_ - 1; level >= 0; --level) {
    cursor->inner_[level] = OwnInner(cursor->inner_[level], ParentSlot(*cursor, level + 1), owner);
  }
}

template <typename P>
typename CowTree<P>::Leaf* CowTree<P>::Own(Cursor* cursor, const Container& owner) {
  OwnPath(cursor, owner);
  Leaf* leaf = cursor->leaf_;
  if (leaf->generation == owner.generation()) [[likely]]
    return leaf;
  if (!owner.MayWrite(leaf->generation)) {
    cursor->leaf_ = P::Copy(*leaf);
    *ParentSlot(*cursor, 0) = cursor->leaf_;
    DropLeaf(leaf, owner);
  }
  cursor->leaf_->generation = owner.generation();
  return cursor->leaf_;
}

template <typename P>
void CowTree<P>::Refresh(const Cursor& cursor, bool first_changed) {
  if (cursor.height_ == 0) {
    weight_ = P::Weight(*cursor.leaf_);
    return;
  }
  Entry& lowest = cursor.inner_[0]->entries[cursor.at_[0]];
  const uint64_t weight = P::Weight(*cursor.leaf_), change = weight - lowest.weight;
  lowest.child = cursor.leaf_;
  lowest.weight = weight;
  if (first_changed) lowest.key = P::FirstKey(*cursor.leaf_);
  bool first = first_changed && cursor.at_[0] == 0;
  for (int level = 1; level < cursor.height_; ++level) {
    Entry& entry = cursor.inner_[level]->entries[cursor.at_[level]];
    entry.weight += change;
    if (first) entry.key = lowest.key;
    first = first && cursor.at_[level] == 0;
  }
  weight_ += change;
}

// The entries of `level` and above are computed anew from the nodes they stand for.
template <typename P>
void CowTree<P>::RefreshFrom(const Cursor& cursor, int level) {
  for (; level < cursor.height_; ++level)
    cursor.inner_[level]->entries[cursor.at_[level]] = EntryOf(cursor.inner_[level - 1]);
}

template <typename P>
void CowTree<P>::PutEntry(Inner* inner, uint32_t at, const Entry& entry) {
  std::copy_backward(inner->entries + at, inner->entries + inner->count,
                     inner->entries + inner->count + 1);
  inner->entries[at] = entry;
  ++inner->count;
}

template <typename P>
void CowTree<P>::TakeEntry(Inner* inner, uint32_t at) {
  std::copy(inner->entries + at + 1, inner->entries + inner->count, inner->entries + at);
  --inner->count;
}

// Splits a full node and puts `fresh` at `at`; returns the upper part. A list that grows at one end
// leaves nearly full nodes behind.
template <typename P>
typename CowTree<P>::Inner* CowTree<P>::SplitInner(Inner* inner, uint32_t at, const Entry& fresh,
                                                   const Container& owner) {
  uint32_t keep = P::kFanout / 2;
  if (at == P::kFanout) keep = P::kFanout - 1;
  if (at == 0) keep = 1;
  Inner* upper = NewInner(inner->height, owner);
  upper->count = inner->count - keep;
  std::copy_n(inner->entries + keep, upper->count, upper->entries);
  inner->count = keep;
  if (at <= keep) {
    PutEntry(inner, at, fresh);
  } else {
    PutEntry(upper, at - keep, fresh);
  }
  return upper;
}

template <typename P>
void CowTree<P>::InsertLeaf(Cursor* cursor, bool after, Leaf* leaf, const Container& owner) {
  leaf->generation = owner.generation();
  ++leaf_count_;
  weight_ += P::Weight(*leaf);
  if (root_ == nullptr) {
    root_ = leaf;
    height_ = 0;
    return;
  }
  OwnPath(cursor, owner);
  Entry carried = EntryOf(leaf);
  for (int level = 0; level < cursor->height_; ++level) {
    Inner* inner = cursor->inner_[level];
    const uint32_t at = static_cast<uint32_t>(cursor->at_[level]) + after;
    if (inner->count < P::kFanout) {
      PutEntry(inner, at, carried);
      return RefreshFrom(*cursor, level + 1);
    }
    carried = EntryOf(SplitInner(inner, at, carried, owner));
    if (level + 1 < cursor->height_)
      cursor->inner_[level + 1]->entries[cursor->at_[level + 1]] = EntryOf(inner);
    after = true;
  }
  CAIRN_CHECK(height_ + 1 < kMaxHeight);
  Inner* root = NewInner(height_ + 1, owner);
  const Entry old = height_ == 0 ? EntryOf(AsLeaf(root_)) : EntryOf(AsInner(root_));
  root->count = 2;
  root->entries[after ? 0 : 1] = old;
  root->entries[after ? 1 : 0] = carried;
  root_ = root;
  ++height_;
}

// Joins the node at `level` with a neighbour under the same parent when both fit in one.
template <typename P>
void CowTree<P>::JoinInner(Cursor* cursor, int level, const Container& owner) {
  Inner* parent = cursor->inner_[level + 1];
  const int at = cursor->at_[level + 1];
  for (const int left : {at - 1, at}) {
    if (left < 0 || left + 1 >= static_cast<int>(parent->count)) continue;
    Inner* lower = AsInner(parent->entries[left].child);
    Inner* upper = AsInner(parent->entries[left + 1].child);
    if (lower->count + upper->count > P::kFanout) continue;
    lower = OwnInner(lower, &parent->entries[left].child, owner);
    std::copy_n(upper->entries, upper->count, lower->entries + lower->count);
    lower->count += upper->count;
    DropInner(upper, owner);
    TakeEntry(parent, static_cast<uint32_t>(left) + 1);
    cursor->at_[level + 1] = left;
    cursor->inner_[level] = lower;
    return;
  }
}

template <typename P>
void CowTree<P>::EraseLeaf(Cursor* cursor, const Container& owner) {
  OwnPath(cursor, owner);
  --leaf_count_;
  weight_ -= P::Weight(*cursor->leaf_);
  DropLeaf(cursor->leaf_, owner);
  cursor->leaf_ = nullptr;
  int level = 0;
  for (; level < cursor->height_; ++level) {
    Inner* inner = cursor->inner_[level];
    TakeEntry(inner, static_cast<uint32_t>(cursor->at_[level]));
    if (inner->count != 0) break;
    DropInner(inner, owner);
  }
  if (level == cursor->height_) {
    root_ = nullptr;
    height_ = 0;
    return;
  }
  for (; level + 1 < cursor->height_; ++level) {
    if (cursor->inner_[level]->count <= kJoinBelow) JoinInner(cursor, level, owner);
    cursor->inner_[level + 1]->entries[cursor->at_[level + 1]] = EntryOf(cursor->inner_[level]);
  }
  while (height_ > 0 && AsInner(root_)->count == 1) {
    Inner* old = AsInner(root_);
    root_ = old->entries[0].child;
    --height_;
    DropInner(old, owner);
  }
}

template <typename P>
void CowTree<P>::Build(std::span<Leaf* const> leaves, const Container& owner) {
  CAIRN_CHECK(root_ == nullptr);
  if (leaves.empty()) return;
  std::vector<Entry> entries;
  entries.reserve(leaves.size());
  for (Leaf* leaf : leaves) {
    leaf->generation = owner.generation();
    weight_ += P::Weight(*leaf);
    entries.push_back(EntryOf(leaf));
  }
  leaf_count_ = leaves.size();
  height_ = 0;
  while (entries.size() > 1) {
    ++height_;
    const size_t nodes = (entries.size() + P::kFanout - 1) / P::kFanout;
    std::vector<Entry> parents;
    parents.reserve(nodes);
    for (size_t i = 0; i < nodes; ++i) {
      const size_t from = entries.size() * i / nodes, to = entries.size() * (i + 1) / nodes;
      Inner* inner = NewInner(height_, owner);
      inner->count = static_cast<uint32_t>(to - from);
      std::copy(entries.begin() + static_cast<ptrdiff_t>(from),
                entries.begin() + static_cast<ptrdiff_t>(to), inner->entries);
      parents.push_back(EntryOf(inner));
    }
    entries.swap(parents);
  }
  root_ = entries[0].child;
}

// --- the whole ---------------------------------------------------------------------------------

template <typename P>
void CowTree<P>::FreeBelow(void* node, int height) {
  if (height == 0) return P::Free(AsLeaf(node));
  Inner* inner = AsInner(node);
  for (uint32_t i = 0; i < inner->count; ++i) FreeBelow(inner->entries[i].child, height - 1);
  std::free(inner);
}

template <typename P>
void CowTree<P>::FreeNodes() {
  if (root_ != nullptr) FreeBelow(root_, height_);
  root_ = nullptr;
  height_ = 0;
  weight_ = leaf_count_ = inner_count_ = 0;
}

template <typename P>
template <typename CheckLeaf>
void CowTree<P>::CheckNode(const Entry& entry, int height, uint64_t* leaves, uint64_t* inners,
                           CheckLeaf& check_leaf) const {
  if (height == 0) {
    const Leaf& leaf = *AsLeaf(entry.child);
    CAIRN_CHECK(P::Weight(leaf) == entry.weight && entry.weight != 0);  // C1, C2
    CAIRN_CHECK(P::FirstKey(leaf) == entry.key);
    check_leaf(leaf);
    ++*leaves;
    return;
  }
  Inner* inner = AsInner(entry.child);
  CAIRN_CHECK(inner->count != 0 && inner->count <= P::kFanout && inner->height == height);  // C2
  const Entry expected = EntryOf(inner);
  CAIRN_CHECK(expected.weight == entry.weight && expected.key == entry.key);  // C1
  ++*inners;
  for (uint32_t i = 0; i < inner->count; ++i)
    CheckNode(inner->entries[i], height - 1, leaves, inners, check_leaf);
}

template <typename P>
template <typename CheckLeaf>
void CowTree<P>::CheckInvariants(CheckLeaf&& check_leaf) const {
  uint64_t leaves = 0, inners = 0;
  if (root_ != nullptr) {
    CAIRN_CHECK(height_ == 0 || AsInner(root_)->count > 1);  // C3
    const Entry root = height_ == 0 ? EntryOf(AsLeaf(root_)) : EntryOf(AsInner(root_));
    CAIRN_CHECK(root.weight == weight_);
    CheckNode(root, height_, &leaves, &inners, check_leaf);
  } else {
    CAIRN_CHECK(weight_ == 0);
  }
  CAIRN_CHECK(leaves == leaf_count_ && inners == inner_count_);  // C4
}

}  // namespace cairn

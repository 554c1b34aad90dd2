#pragma once

// PendingTree: records with a StreamId, in ID order, in a CowTree of sorted arrays: what a consumer
// group and each of its consumers have delivered and not seen acknowledged. The group's records say
// when, how often and to whom; a consumer's are bare IDs. Not a container of its own: the stream
// that holds it is the owner that every changing call names (container.h, F1). Executor, or the
// walker through the const calls while frozen.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "server/base/check.h"
#include "server/data/cow_tree.h"
#include "server/data/stream_id.h"

namespace cairn {

/// An entry that a group has delivered.
struct PendingDelivery {
  StreamId id;
  int64_t delivered_at_ms = 0;  ///< wall clock
  uint64_t delivery_count = 0;
  uint32_t consumer = 0;  ///< index in StreamGroup
};
/// The same entry as its consumer knows it.
struct PendingId {
  StreamId id;
};

/// `Record` is trivially copyable with a field `id`.
template <typename Record>
class PendingTree {
 public:
  static constexpr uint32_t kLeafRecords = 64;
  static constexpr uint32_t kFirstCapacity = 4;

  PendingTree() = default;

  uint64_t size() const { return tree_.weight(); }
  bool empty() const { return tree_.empty(); }
  size_t MemoryUsage() const { return tree_.InnerBytes() + leaf_bytes_; }
  uint64_t node_count() const { return tree_.leaf_count(); }

  /// nullptr when absent. Borrows until the next change.
  const Record* Find(StreamId id) const {
    auto at = Seek(id);
    if (!at) return nullptr;
    const Leaf& leaf = *at.leaf();
    const uint32_t i = LowerBound(leaf, id);
    return i < leaf.count && leaf.records[i].id == id ? &leaf.records[i] : nullptr;
  }
  /// As Find, for changing all of the record but its ID.
  Record* Mutable(StreamId id, const Container& owner) {
    auto at = Seek(id);
    if (!at) return nullptr;
    const uint32_t i = LowerBound(*at.leaf(), id);
    if (i == at.leaf()->count || !(at.leaf()->records[i].id == id)) return nullptr;
    return &tree_.Own(&at, owner)->records[i];
  }
  /// Adds a record. Returns false, changing nothing, when its ID is there already.
  bool Insert(const Record& record, const Container& owner);
  /// Returns false when absent.
  bool Erase(StreamId id, const Container& owner);

  /// visit(const Record&) -> bool goes on; in ID order from the first record at or after `from`.
  template <typename Visit>
  void ForEachFrom(StreamId from, Visit&& visit) const {
    auto at = Seek(from);
    if (!at) return;
    for (uint32_t i = LowerBound(*at.leaf(), from);;) {
      for (; i < at.leaf()->count; ++i) {
        if (!visit(at.leaf()->records[i])) return;
      }
      if (!at.Next()) return;
      i = 0;
    }
  }
  /// The first and last record. Requires: !empty().
  const Record& front() const { return tree_.First().leaf()->records[0]; }
  const Record& back() const {
    const Leaf& leaf = *tree_.Last().leaf();
    return leaf.records[leaf.count - 1];
  }

  /// As CowTree::ForkFrom.
  void ForkFrom(const PendingTree& other) {
    tree_.ForkFrom(other.tree_);
    leaf_bytes_ = other.leaf_bytes_;
  }
  /// Fills an empty tree with a copy of `other`.
  void CloneFrom(const PendingTree& other, const Container& owner) {
    std::vector<Leaf*> leaves;
    for (auto at = other.tree_.First(); at; at.Next()) leaves.push_back(Policy::Copy(*at.leaf()));
    tree_.Build(leaves, owner);
    leaf_bytes_ = other.leaf_bytes_;
  }
  /// Frees all nodes; any thread. Requires: no view reads them.
  void FreeNodes() {
    tree_.FreeNodes();
    leaf_bytes_ = 0;
  }
  /// Gives every node up to `owner`'s view or frees it: a group or consumer is deleted.
  void Discard(const Container& owner) {
    while (!tree_.empty()) {
      auto at = tree_.First();
      leaf_bytes_ -= LeafBytes(at.leaf()->capacity);
      tree_.EraseLeaf(&at, owner);
    }
  }
  /// IDs ascend strictly; the tree's own invariants.
  void CheckInvariants() const {
    bool first = true;
    StreamId last;
    size_t bytes = 0;
    tree_.CheckInvariants([&](const Leaf& leaf) {
      CAIRN_CHECK(leaf.count <= leaf.capacity && leaf.capacity <= kLeafRecords);
      for (uint32_t i = 0; i < leaf.count; ++i) {
        CAIRN_CHECK(first || last < leaf.records[i].id);
        last = leaf.records[i].id;
        first = false;
      }
      bytes += LeafBytes(leaf.capacity);
    });
    CAIRN_CHECK(bytes == leaf_bytes_);
  }

 private:
  struct Leaf {
    uint64_t generation;
    uint32_t count;
    uint32_t capacity;
    Record* records;  // a block of its own, so that it can grow while the leaf stays
  };
  static size_t LeafBytes(uint32_t capacity) { return sizeof(Leaf) + capacity * sizeof(Record); }

  struct Policy {
    using Leaf = PendingTree::Leaf;
    using Key = StreamId;
    static constexpr uint32_t kFanout = 16;
    static uint64_t Weight(const Leaf& leaf) { return leaf.count; }
    static Key FirstKey(const Leaf& leaf) { return leaf.records[0].id; }
    static Leaf* Make(uint32_t capacity) {
      Leaf* leaf = static_cast<Leaf*>(std::malloc(sizeof(Leaf)));
      CAIRN_CHECK(leaf != nullptr);
      leaf->generation = 0;
      leaf->count = 0;
      leaf->capacity = capacity;
      leaf->records = static_cast<Record*>(std::malloc(capacity * sizeof(Record)));
      CAIRN_CHECK(leaf->records != nullptr);
      return leaf;
    }
    static Leaf* Copy(const Leaf& leaf) {
      Leaf* copy = Make(leaf.capacity);
      copy->count = leaf.count;
      std::copy_n(leaf.records, leaf.count, copy->records);
      return copy;
    }
    static void Free(Leaf* leaf) {
      std::free(leaf->records);
      std::free(leaf);
    }
    static void Retire(SnapshotGate& gate, Leaf* leaf) {
      gate.Retire(Retired::Kind::kBlock, leaf->records, 0, leaf->capacity * sizeof(Record));
      gate.Retire(Retired::Kind::kBlock, leaf, 0, sizeof(Leaf));
    }
  };
  using Tree = CowTree<Policy>;
  using Cursor = typename Tree::Cursor;

  // The leaf that `id` is in if it is anywhere.
  Cursor Seek(StreamId id) const {
    return tree_.FindLast([id](StreamId first) { return first <= id; });
  }
  static uint32_t LowerBound(const Leaf& leaf, StreamId id) {
    return static_cast<uint32_t>(
        std::lower_bound(leaf.records, leaf.records + leaf.count, id,
                         [](const Record& record, StreamId key) { return record.id < key; }) -
        leaf.records);
  }
  void Grow(Leaf* leaf) {
    const uint32_t capacity = std::min(leaf->capacity * 2, kLeafRecords);
    leaf->records = static_cast<Record*>(std::realloc(leaf->records, capacity * sizeof(Record)));
    CAIRN_CHECK(leaf->records != nullptr);
    leaf_bytes_ += (capacity - leaf->capacity) * sizeof(Record);
    leaf->capacity = capacity;
  }
  static void Put(Leaf* leaf, uint32_t at, const Record& record) {
    std::copy_backward(leaf->records + at, leaf->records + leaf->count,
                       leaf->records + leaf->count + 1);
    leaf->records[at] = record;
    ++leaf->count;
  }
  Leaf* NewLeaf(uint32_t capacity) {
    leaf_bytes_ += LeafBytes(capacity);
    return Policy::Make(capacity);
  }

  Tree tree_;
  size_t leaf_bytes_ = 0;
};

template <typename Record>
bool PendingTree<Record>::Insert(const Record& record, const Container& owner) {
  Cursor at = Seek(record.id);
  if (!at) {
    Leaf* leaf = NewLeaf(kFirstCapacity);
    Put(leaf, 0, record);
    tree_.InsertLeaf(&at, true, leaf, owner);
    return true;
  }
  uint32_t i = LowerBound(*at.leaf(), record.id);
  if (i < at.leaf()->count && at.leaf()->records[i].id == record.id) return false;
  Leaf* leaf = tree_.Own(&at, owner);
  if (leaf->count < kLeafRecords) {
    if (leaf->count == leaf->capacity) Grow(leaf);
    Put(leaf, i, record);
    tree_.Refresh(at, i == 0);
    return true;
  }
  // Full. IDs mostly come at the end: there a leaf of its own keeps the full ones full.
  Leaf* upper = NewLeaf(kLeafRecords);
  if (i == kLeafRecords) {
    Put(upper, 0, record);
  } else {
    constexpr uint32_t kKept = kLeafRecords / 2;
    std::copy_n(leaf->records + kKept, kLeafRecords - kKept, upper->records);
    upper->count = kLeafRecords - kKept;
    leaf->count = kKept;
    if (i <= kKept) {
      Put(leaf, i, record);
    } else {
      Put(upper, i - kKept, record);
    }
    tree_.Refresh(at, i == 0);
  }
  tree_.InsertLeaf(&at, true, upper, owner);
  return true;
}

template <typename Record>
bool PendingTree<Record>::Erase(StreamId id, const Container& owner) {
  Cursor at = Seek(id);
  if (!at) return false;
  const uint32_t i = LowerBound(*at.leaf(), id);
  if (i == at.leaf()->count || !(at.leaf()->records[i].id == id)) return false;
  if (at.leaf()->count == 1) {
    leaf_bytes_ -= LeafBytes(at.leaf()->capacity);
    tree_.EraseLeaf(&at, owner);
    return true;
  }
  Leaf* leaf = tree_.Own(&at, owner);
  std::copy(leaf->records + i + 1, leaf->records + leaf->count, leaf->records + i);
  --leaf->count;
  tree_.Refresh(at, i == 0);
  return true;
}

}  // namespace cairn

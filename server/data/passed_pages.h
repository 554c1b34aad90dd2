#pragma once

// PassedPages: the walk's end of a lane's queue. It hands retired things on in their order, but for
// what the walk frees at a place of its own (OutOfTurn), and while the walk reads one big hash or
// set it looks ahead in the queue for superseded pages of that value and blobs of its long members:
// each is freed when the walk has read it, not when the value is through. Without that a flood of
// writes to one big hash would hold all of its pages and blobs for as long as it takes to emit it,
// and the writers for what that is beyond snapshot-retained-limit. Thread: the walker's, as all of
// FrozenWalk.
//
//   P1  A page or blob is freed early only if its place in the hash order is before the page that
//       the walk reads, and the view has no other way to it than the frozen table that is being
//       read: a page stands in that table; a blob was given up by that table or a fork of it (id).
//       Pages need no id, for no two keys of one view hold the same table (COPY clones).
//   P2  Everything else keeps its order (R6), behind what was put off before it.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <vector>

#include "server/data/container.h"
#include "server/data/member_table.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

/// Whoever may see a retired thing off ahead of what was retired before it.
class OutOfTurn {
 public:
  /// Told of each thing once, in the order of the queue. Returns whether it is seen to.
  virtual bool Takes(const Retired& item) = 0;

 protected:
  ~OutOfTurn() = default;
};

class PassedPages final : public FrozenPass {
 public:
  PassedPages(SnapshotGate* gate, ViewLane* lane, OutOfTurn* out_of_turn)
      : gate_(gate), lane_(lane), out_of_turn_(out_of_turn) {}

  /// The next retired thing, first in first out. Returns false when there is none, or when all of
  /// the next kLooksPerPop were taken out of turn.
  bool Pop(Retired* out) {
    TakeFromLane(kLooksPerPop);
    if (later_.empty()) return false;
    *out = later_.front();
    later_.pop_front();
    return true;
  }
  bool empty() const { return later_.empty() && lane_->empty(); }
  /// Things taken off the lane's queue and still here.
  size_t put_off() const { return later_.size() + ahead_.size(); }

  void AtPage(const MemberTable& table, uint64_t hash) override {
    if (&table != reading_) {
      reading_ = &table;
      looked_at_ = 0;
    }
    // What was put off before may hold pages and blobs of this value, too.
    for (size_t looks = 0; looks < kLooksPerPage; ++looks) {
      if (looked_at_ == later_.size() && TakeFromLane(1) == 0) break;
      if (looked_at_ < later_.size()) Look(table, &later_[looked_at_++]);
    }
    FreeBefore(hash);
  }
  void AtEnd() override {
    for (const Retired& item : ahead_) Free(item);
    ahead_.clear();
    reading_ = nullptr;
  }

 private:
  /// Bounds the time between two pages; what is left is looked at between the next two.
  static constexpr size_t kLooksPerPage = 1024;
  /// More than come while a segment is read, so that what may be freed out of turn is found soon.
  static constexpr size_t kLooksPerPop = 256;
  static bool IsFurther(const Retired& a, const Retired& b) { return a.position > b.position; }
  /// Whether `table` is the view's only way to the item; then its position becomes that in the hash
  /// order. Reads no page, which may be gone already, and of a blob what the queue's reference
  /// holds.
  static bool IsOf(const MemberTable& table, Retired* item) {
    if (item->kind == Retired::Kind::kMemberPage)
      return table.Reaches(static_cast<const MemberPage*>(item->object), item->position);
    if (item->kind != Retired::Kind::kMemberBlob || item->position != table.id()) return false;
    item->position = table.HashOf(*static_cast<const Blob*>(item->object));
    return true;
  }

  /// Puts off what nobody takes. Returns how many things came off the queue.
  size_t TakeFromLane(size_t most) {
    Retired item;
    size_t taken = 0;
    for (; taken < most && lane_->Pop(&item); ++taken) {
      if (!out_of_turn_->Takes(item)) later_.push_back(item);
    }
    return taken;
  }
  void Look(const MemberTable& table, Retired* item) {
    if (!IsOf(table, item)) return;
    ahead_.push_back(*item);
    std::push_heap(ahead_.begin(), ahead_.end(), IsFurther);
    *item = Retired{.kind = Retired::Kind::kBlock};  // keeps the place: nothing of no size
  }

  void FreeBefore(uint64_t hash) {
    while (!ahead_.empty() && ahead_.front().position < hash) {
      std::pop_heap(ahead_.begin(), ahead_.end(), IsFurther);
      Free(ahead_.back());
      ahead_.pop_back();
    }
  }
  void Free(const Retired& item) {
    if (!item.Release()) return;
    if (item.kind == Retired::Kind::kMemberBlob) {
      static_cast<Blob*>(item.object)->Unref();
    } else {
      std::free(item.object);
    }
    gate_->Released(item.kind, item.size_bytes);
  }

  SnapshotGate* const gate_;
  ViewLane* const lane_;
  OutOfTurn* const out_of_turn_;
  const MemberTable* reading_ = nullptr;
  std::deque<Retired> later_;   // what was taken off the lane's queue, in its order
  size_t looked_at_ = 0;        // of later_, for the value that is read
  std::vector<Retired> ahead_;  // of the value that is read, a heap: the next one in front
};

}  // namespace cairn

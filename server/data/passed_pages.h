#pragma once

// PassedPages: the walk's end of a lane's queue. It hands retired things on in their order, and
// while the walk reads one big hash or set it looks ahead in the queue for superseded pages of that
// value and blobs of its long members: each is freed when the walk has read it, not when the value
// is through. Without that a flood of writes to one big hash would hold all of its pages and blobs
// for as long as it takes to emit it, and the writers for what that is beyond
// snapshot-retained-limit. Thread: the walker's, as all of FrozenWalk.
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

class PassedPages final : public FrozenPass {
 public:
  PassedPages(SnapshotGate* gate, ViewLane* lane) : gate_(gate), lane_(lane) {}

  /// The next retired thing, first in first out. Returns false when there is none.
  bool Pop(Retired* out) {
    if (later_.empty()) return lane_->Pop(out);
    *out = later_.front();
    later_.pop_front();
    return true;
  }

  void AtPage(const MemberTable& table, uint64_t hash) override {
    if (&table != reading_) Begin(table);
    Retired item;
    for (size_t i = 0; i < kLooksPerPage && lane_->Pop(&item); ++i) {
      if (!IsOf(table, &item)) {
        later_.push_back(item);
      } else if (item.position < hash) {
        Free(item);
      } else {
        PutAhead(item);
      }
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
  /// Of what was put off, looked at in one go: some milliseconds.
  static constexpr size_t kMostPutOff = size_t{1} << 16;

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

  /// What was put off while another value was read may hold pages and blobs of this one. It is
  /// looked through where that is no more work than the looks at the lane.
  void Begin(const MemberTable& table) {
    reading_ = &table;
    if (later_.size() > std::min(kMostPutOff, kLooksPerPage * table.page_count())) return;
    std::erase_if(later_, [&](Retired item) {
      if (!IsOf(table, &item)) return false;
      PutAhead(item);
      return true;
    });
  }
  void PutAhead(const Retired& item) {
    ahead_.push_back(item);
    std::push_heap(ahead_.begin(), ahead_.end(), IsFurther);
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
  const MemberTable* reading_ = nullptr;
  std::deque<Retired> later_;   // taken while a value was read, and not of it
  std::vector<Retired> ahead_;  // of the value that is read, a heap: the next one in front
};

}  // namespace cairn

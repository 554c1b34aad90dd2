#pragma once

// PassedPages: the walk's end of a lane's queue. It hands retired things on in their order, and
// while the walk reads one big hash or set it looks ahead in the queue for superseded pages of that
// value: each is freed when the walk has read it, not when the value is through. Without that a
// flood of writes to one big hash would hold all of its pages for as long as it takes to emit it,
// and the writers for what that is beyond snapshot-retained-limit. Thread: the walker's, as all of
// FrozenWalk.
//
//   P1  A page is freed early only if it stands in the frozen table that is being read, before the
//       page that the walk reads. The view has no other way to it: no two keys of one view hold the
//       same table (COPY clones).
//   P2  Everything else keeps its order (R6), behind what was put off before it. That holds for
//       members that are blobs of their own, too: they wait for the end of the value.

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
      if (!IsPageOf(table, item)) {
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
  static constexpr size_t kLooksPerPage = 256;
  /// Of what was put off, looked at in one go: some milliseconds.
  static constexpr size_t kMostPutOff = size_t{1} << 16;

  static bool IsFurther(const Retired& a, const Retired& b) { return a.position > b.position; }
  static bool IsPageOf(const MemberTable& table, const Retired& item) {
    return item.kind == Retired::Kind::kMemberPage &&
           table.Reaches(static_cast<const MemberPage*>(item.object), item.position);
  }

  /// What was put off while another value was read may hold pages of this one. It is looked through
  /// where that is no more work than the looks at the lane.
  void Begin(const MemberTable& table) {
    reading_ = &table;
    if (later_.size() > std::min(kMostPutOff, kLooksPerPage * table.page_count())) return;
    std::erase_if(later_, [&](const Retired& item) {
      if (!IsPageOf(table, item)) return false;
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
    std::free(item.object);
    gate_->Released(item.kind, item.size_bytes);
  }

  SnapshotGate* const gate_;
  ViewLane* const lane_;
  const MemberTable* reading_ = nullptr;
  std::deque<Retired> later_;   // taken while a value was read, and not of it
  std::vector<Retired> ahead_;  // pages of the value that is read, a heap: the next one in front
};

}  // namespace cairn

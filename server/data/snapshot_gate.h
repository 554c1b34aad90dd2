#pragma once

// SnapshotGate: what the tables of one keyspace share with the snapshots that may be running: the
// generation, and for each view a lane with its watermark W and its retire queue
// (docs/snapshot.md). It decides who owns a piece of structure, by generation and position only. It
// does not walk anything: that is FrozenWalk. Executor only, except what is marked as the walker's.

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "server/base/check.h"
#include "server/platform/spsc_queue.h"

namespace cairn {

/// One thing that the executor gave up and the views that may read it must see off.
struct Retired {
  enum class Kind : uint8_t {
    kRecord,        ///< a record of the table, with what it refers to; position: its place, or
                    ///< kAnyPlace if a view may reach what it refers to from another place too
    kSegment,       ///< of a keyspace table
    kDirectory,     ///< of a keyspace table
    kRoot,          ///< of a keyspace table
    kBlock,         ///< a node of a container, from malloc
    kMemberPage,    ///< a page of a MemberTable; position holds a hash that falls into it
    kMemberRecord,  ///< a record of a container, from the slab; position holds its allocated size
    kMemberBlob,    ///< a reference to a long record's blob; position holds the MemberTable's id
    kBlob,          ///< a reference to another blob of a container
  };
  void* object = nullptr;
  uint64_t position = 0;  ///< segment: where it begins; directory: where it ends; else see Kind
  uint64_t size_bytes = 0;
  Kind kind = Kind::kRecord;
  /// How many views have not seen it off yet; nullptr when it is in one queue only.
  std::atomic<uint32_t>* readers_left = nullptr;

  /// Says that one view needs it no more. Returns true to the last one, which then frees it. Call
  /// once a queue. Thread: walker.
  bool Release() const {
    if (readers_left == nullptr) return true;
    if (readers_left->fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
    delete readers_left;
    return true;
  }
};

/// In chunks that fill jemalloc's class of 5,120 bytes.
using RetiredQueue = SpscQueue<Retired, 127>;

/// Places in the walk: database number at the cut in the top 16 bits, top 48 bits of the hash
/// below.
inline constexpr int kPositionHashBits = 48;
inline constexpr uint64_t kWatermarkEnd = UINT64_MAX;
inline constexpr uint64_t kAnyPlace = UINT64_MAX;
inline uint64_t PositionOf(uint64_t base, uint64_t hash) {
  return base + (hash >> (64 - kPositionHashBits));
}

/// One view's place at the gate: what its walker and the executor say to each other.
class ViewLane {
 public:
  /// The walker's half.
  uint64_t watermark() const { return watermark_.load(std::memory_order_relaxed); }
  /// Only after the last read of everything before `position` (R5).
  void PublishWatermark(uint64_t position) {
    CAIRN_CHECK(position >= watermark());
    watermark_.store(position, std::memory_order_release);
  }
  bool Pop(Retired* out) { return queue_.TryPop(out); }
  bool empty() const { return queue_.empty(); }
  /// What the places of things take that the walker has popped and not yet freed.
  void PublishPutOff(uint64_t bytes) { put_off_bytes_.store(bytes, std::memory_order_relaxed); }

 private:
  friend class SnapshotGate;
  RetiredQueue queue_;
  uint64_t opened_ = 0;  // generation since the cut: what is older, the view may read
  alignas(64) std::atomic<uint64_t> watermark_{0};
  std::atomic<uint64_t> put_off_bytes_{0};
};

class SnapshotGate {
 public:
  /// Views that may be open at the same time. Each walks at its own pace; what two of them may read
  /// is freed by the last.
  static constexpr unsigned kMaxViews = 4;

  uint64_t generation() const { return generation_; }
  bool active() const { return open_ != 0; }
  /// Bits of the open lanes.
  unsigned open_lanes() const { return open_; }
  unsigned BitOf(const ViewLane& lane) const {
    return 1u << static_cast<unsigned>(&lane - lanes_.data());
  }

  /// The cut: from now on everything older than the new generation is frozen. nullptr when
  /// kMaxViews are open.
  ViewLane* Open() {
    if (open_ == (1u << kMaxViews) - 1) return nullptr;
    ViewLane& lane = lanes_[static_cast<unsigned>(std::countr_one(open_))];
    CAIRN_CHECK(lane.queue_.empty());
    lane.opened_ = ++generation_;
    lane.watermark_.store(0, std::memory_order_relaxed);
    open_ |= BitOf(lane);
    return &lane;
  }
  /// Requires: the walker has stopped and the queue was drained.
  void Close(const ViewLane& lane) {
    CAIRN_CHECK((open_ & BitOf(lane)) && lane.queue_.empty());
    open_ &= ~BitOf(lane);
    CAIRN_CHECK(open_ != 0 || retained_bytes() == 0);
  }

  /// The open views (bits) that may still read something that was made in `generation` and ends at
  /// `end`. A stale answer errs towards naming one too many (R5).
  unsigned Readers(uint64_t generation, uint64_t end) const {
    unsigned readers = 0;
    for (unsigned left = open_; left != 0; left &= left - 1) {
      const ViewLane& lane = lanes_[static_cast<unsigned>(std::countr_zero(left))];
      if (lane.opened_ > generation && lane.watermark_.load(std::memory_order_acquire) < end)
        readers |= left & -left;
    }
    return readers;
  }
  /// Whether no view, however old, needs what ends at `end` any more.
  bool Passed(uint64_t end) const { return Readers(0, end) == 0; }
  /// The same of the views that were open in `generation` alone.
  bool PassedByThoseOf(uint64_t generation, uint64_t end) const {
    return (Readers(0, end) & ~Readers(generation, end)) == 0;
  }
  /// Generation of the oldest open view. Requires: active.
  uint64_t OldestOpened() const {
    uint64_t oldest = UINT64_MAX;
    for (unsigned left = open_; left != 0; left &= left - 1) {
      const uint64_t opened = lanes_[static_cast<unsigned>(std::countr_zero(left))].opened_;
      if (opened < oldest) oldest = opened;
    }
    return oldest;
  }

  /// A number that no MemberTable of the keyspace has had.
  uint64_t NewTableId() { return ++last_table_id_; }

  /// Hands something over to every view that has not ended, also to those that could not read it:
  /// they only hold it longer. Not for segments, which a view emits. Requires: active.
  void Retire(Retired::Kind kind, void* object, uint64_t position, uint64_t size_bytes) {
    // When all have just come to the end: EndView drains the queue of the first.
    const unsigned readers = Readers(0, kWatermarkEnd);
    RetireTo(readers != 0 ? readers : open_ & -open_, kind, object, position, size_bytes);
  }
  /// Hands it to `readers` alone. Requires: some.
  void RetireTo(unsigned readers, Retired::Kind kind, void* object, uint64_t position,
                uint64_t size_bytes) {
    CAIRN_CHECK(readers != 0 && (readers & ~open_) == 0);
    Counter& counter = IsStructure(kind) ? retired_structure_ : retired_values_;
    counter.store(counter.load(std::memory_order_relaxed) + size_bytes, std::memory_order_relaxed);
    Retired item{object, position, size_bytes, kind, nullptr};
    if (!std::has_single_bit(readers)) {
      item.readers_left = new std::atomic<uint32_t>(static_cast<uint32_t>(std::popcount(readers)));
    }
    for (; readers != 0; readers &= readers - 1)
      lanes_[static_cast<unsigned>(std::countr_zero(readers))].queue_.Push(item);
  }
  /// Everything held for views, and the places in their queues. Thread: any.
  uint64_t retained_bytes() const {
    uint64_t bytes = retained_record_bytes() + Difference(retired_structure_, released_structure_);
    for (const ViewLane& lane : lanes_) {
      bytes += lane.queue_.size() * sizeof(Retired);
      bytes += lane.put_off_bytes_.load(std::memory_order_relaxed);
    }
    return bytes;
  }
  /// Old values alone: what grows with the writes, and so what a limit has to bound. Superseded
  /// structure is bounded by itself: one segment of a few bytes a key, once a view.
  uint64_t retained_record_bytes() const { return Difference(retired_values_, released_values_); }

  /// Call when what was popped has been freed. Thread: walkers.
  void Released(Retired::Kind kind, uint64_t size_bytes) {
    (IsStructure(kind) ? released_structure_ : released_values_)
        .fetch_add(size_bytes, std::memory_order_relaxed);
  }

 private:
  using Counter = std::atomic<uint64_t>;  // grows only

  static bool IsStructure(Retired::Kind kind) {
    return kind == Retired::Kind::kSegment || kind == Retired::Kind::kDirectory ||
           kind == Retired::Kind::kRoot;
  }
  /// Seen by a third thread, or by one side while the other moves, it may be a little off.
  static uint64_t Difference(const Counter& in, const Counter& out) {
    const uint64_t gone = out.load(std::memory_order_relaxed);
    const uint64_t come = in.load(std::memory_order_relaxed);
    return come > gone ? come - gone : 0;
  }

  uint64_t generation_ = 1;
  uint64_t last_table_id_ = 0;
  unsigned open_ = 0;
  std::array<ViewLane, kMaxViews> lanes_;
  // The two sides write different cache lines.
  alignas(64) Counter retired_values_{0};
  Counter retired_structure_{0};
  alignas(64) Counter released_values_{0};
  Counter released_structure_{0};
};

}  // namespace cairn

#pragma once

// FrozenWalk: the walker's half of a snapshot over SegTables of one gate: visits every record that
// was in the tables at the cut, once each, and frees what the executor retired meanwhile. It owns
// the walker's half of its lane; the tables own the rest. WalkNext and PopOne run on one thread at
// a time (walker, or executor in step mode). Several walks may go over the same structure: nothing
// frozen is written. Rules: docs/snapshot.md.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/base/bytes.h"
#include "server/base/prefetch.h"
#include "server/base/status.h"
#include "server/data/frame_pool.h"
#include "server/data/passed_pages.h"
#include "server/data/record_slab.h"
#include "server/data/seg_layout.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

/// One database as of the cut.
struct FrozenTable {
  uint32_t cut_index = 0;  ///< its place in the walk's order, the same for all views that read it
  uint32_t database = 0;   ///< its number at the cut
  Root* root = nullptr;
  uint64_t key_count = 0;
  uint64_t expire_count = 0;
};

template <typename P>
class FrozenWalk : private OutOfTurn {
 public:
  using Record = typename P::Record;
  using Seg = Segment<P>;

  /// `tables` by ascending cut_index, none without a root. `slab` is where the records of
  /// containers go back to. Requires: gate->Open() has just returned `lane`.
  FrozenWalk(SnapshotGate* gate, ViewLane* lane, FramePool* frames, RecordSlab* slab,
             std::vector<FrozenTable> tables)
      : gate_(gate),
        lane_(lane),
        frames_(frames),
        slab_(slab),
        tables_(std::move(tables)),
        queue_(gate, lane, this) {}

  const std::vector<FrozenTable>& tables() const { return tables_; }
  bool done() const { return lane_->watermark() == kWatermarkEnd; }

  /// Whether the segment that begins at `position`, ahead of W, was visited from the queue.
  bool visited_early(uint64_t position) const {
    const auto superseded = superseded_.find(position);
    return superseded != superseded_.end() && superseded->second.visited;
  }

  /// Visits the next segment in hash order that was not visited from the queue, then publishes W
  /// behind it. visit(const FrozenTable&, const Record&) -> Status. At the end of all tables
  /// publishes the end.
  template <typename Visit>
  Status WalkNext(Visit&& visit) {
    while (at_ < tables_.size()) {
      const FrozenTable& table = tables_[at_];
      const uint64_t base = static_cast<uint64_t>(table.cut_index) << kPositionHashBits;
      if (cursor_ < base) cursor_ = base;
      if (cursor_ >= base + (uint64_t{1} << kPositionHashBits)) {
        ++at_;
        continue;
      }
      const uint64_t hash = (cursor_ - base) << (64 - kPositionHashBits);
      const uint64_t ref = *table.root->SlotOf(hash);
      const uint64_t end = cursor_ + (uint64_t{1} << (kPositionHashBits - SegmentRef::Depth(ref)));
      // Visited from the queue, and freed: the reference tells its depth, no more.
      if (visited_early(cursor_)) {
        superseded_.erase(cursor_);
        cursor_ = end;
        continue;
      }
      CAIRN_RETURN_IF_ERROR(VisitSegment(table, SegmentRef::Get<P>(ref), visit));
      const uint64_t begin = std::exchange(cursor_, end);
      Publish(end);
      FreeRecordsOf(begin);
      superseded_.erase(begin);
      return Status::Ok();
    }
    Publish(kWatermarkEnd);
    return Status::Ok();
  }

  /// Takes one retired thing off the queue; a segment that was not yet visited is visited first
  /// (R6). Returns false when there was none, but for records that went at once or wait.
  template <typename Visit>
  Result<bool> PopOne(Visit&& visit) {
    Retired item;
    const bool popped = queue_.Pop(&item);
    Status visited;
    if (popped) {
      if (item.kind == Retired::Kind::kSegment && item.position >= lane_->watermark())
        visited = VisitSuperseded(static_cast<Seg*>(item.object), item.position, visit);
      Free(item);
    }
    lane_->PublishPutOff(queue_.put_off() * sizeof(Retired) + waiting_records_ * sizeof(Waiting));
    if (!visited.ok()) return visited;
    return popped;
  }

  /// For Container::EmitFrozen while a value is visited.
  FrozenPass& pass() { return queue_; }

  /// Frees everything queued and kept, visited or not: the walk has stopped for good. With W at the
  /// end nothing more is retired, so the executor finds an empty queue after it.
  void Finish() {
    Publish(kWatermarkEnd);
    for (Retired item; !queue_.empty();) {
      if (queue_.Pop(&item)) Free(item);
    }
    for (const auto& [begin, superseded] : superseded_) FreeRecordsOf(begin);
    superseded_.clear();
    lane_->PublishPutOff(0);
  }

 private:
  template <typename Visit>
  static Status VisitSegment(const FrozenTable& table, const Seg* segment, Visit& visit) {
    const auto record_at = [segment](const Bucket& bucket, uint32_t used) {
      return reinterpret_cast<const Record*>(bucket.slots[__builtin_ctz(used)] & kSlotPointerMask);
    };
    for (int i = 0; i < Seg::kBuckets; ++i) {
      if (i + kPrefetchBuckets < Seg::kBuckets) {
        const Bucket& ahead = segment->buckets[i + kPrefetchBuckets];
        for (uint32_t used = ahead.Occupied(); used; used &= used - 1) {
          // Most records end in their second line.
          const char* const record = reinterpret_cast<const char*>(record_at(ahead, used));
          PrefetchLine(record);
          PrefetchLine(record + kCacheLineBytes);
        }
      }
      const Bucket& bucket = segment->buckets[i];
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        CAIRN_RETURN_IF_ERROR(visit(table, *record_at(bucket, used)));
      }
    }
    return Status::Ok();
  }

  template <typename Visit>
  Status VisitSuperseded(const Seg* segment, uint64_t position, Visit& visit) {
    const FrozenTable* table = TableAt(position);
    CAIRN_CHECK(table != nullptr);
    CAIRN_RETURN_IF_ERROR(VisitSegment(*table, segment, visit));
    CAIRN_CHECK(SegmentRef::Get<P>(*table->root->SlotOf(segment->prefix)) == segment);
    superseded_[position].visited = true;
    FreeRecordsOf(position);
    return Status::Ok();
  }

  /// The view reads a record by the segment that its place is in and by nothing else, so it goes
  /// with the visit of that segment, whatever was retired before it (R6).
  bool Takes(const Retired& item) override {
    const bool ahead = item.position >= lane_->watermark();
    if (item.kind == Retired::Kind::kSegment && ahead) superseded_[item.position];
    if (item.kind != Retired::Kind::kRecord || item.position == kAnyPlace) return false;
    if (!ahead) {
      Free(item);
      return true;
    }
    const auto superseded = superseded_.find(BeginOfSegmentAt(item.position));
    if (superseded == superseded_.end()) return false;
    if (superseded->second.visited) {
      Free(item);
    } else {
      superseded->second.records.push_back(
          {static_cast<Record*>(item.object), item.size_bytes, item.readers_left});
      ++waiting_records_;
    }
    return true;
  }
  /// Where the view's segment with this place begins, or the place itself in a table that the view
  /// has not got. Requires: the place is not before W.
  uint64_t BeginOfSegmentAt(uint64_t position) const {
    const FrozenTable* table = TableAt(position);
    if (table == nullptr) return position;
    const uint64_t ref = *table->root->SlotOf(position << (64 - kPositionHashBits));
    return position & ~((uint64_t{1} << (kPositionHashBits - SegmentRef::Depth(ref))) - 1);
  }
  const FrozenTable* TableAt(uint64_t position) const {
    const uint32_t cut_index = static_cast<uint32_t>(position >> kPositionHashBits);
    auto table = std::find_if(tables_.begin(), tables_.end(), [cut_index](const FrozenTable& each) {
      return each.cut_index == cut_index;
    });
    return table != tables_.end() ? &*table : nullptr;
  }
  void FreeRecordsOf(uint64_t begin) {
    const auto superseded = superseded_.find(begin);
    if (superseded == superseded_.end()) return;
    const std::vector<Waiting> records = std::exchange(superseded->second.records, {});
    for (const Waiting& each : records) {
      Free({each.record, begin, each.size_bytes, Retired::Kind::kRecord, each.readers_left});
    }
    waiting_records_ -= records.size();
  }

  void Free(const Retired& item) {
    if (item.kind == Retired::Kind::kDirectory || item.kind == Retired::Kind::kRoot) {
      // The walk still goes through them: roots to the end, directories until they are passed.
      if (lane_->watermark() < NeededUntil(item)) {
        kept_.push_back(item);
      } else {
        FreeStructure(item);
      }
      return;
    }
    if (!item.Release()) return;
    switch (item.kind) {
      case Retired::Kind::kRecord:
        P::Destroy(*slab_, static_cast<Record*>(item.object));
        break;
      case Retired::Kind::kSegment:
        frames_->GiveRemote(item.object);
        break;
      case Retired::Kind::kBlock:
      case Retired::Kind::kMemberPage:
        std::free(item.object);
        break;
      case Retired::Kind::kMemberBlob:
      case Retired::Kind::kBlob:
        static_cast<Blob*>(item.object)->Unref();
        break;
      case Retired::Kind::kMemberRecord:
        slab_->FreeRemote(item.object, item.position);
        break;
      case Retired::Kind::kDirectory:
      case Retired::Kind::kRoot:
        break;
    }
    gate_->Released(item.kind, item.size_bytes);
  }
  static uint64_t NeededUntil(const Retired& item) {
    return item.kind == Retired::Kind::kRoot ? kWatermarkEnd : item.position;
  }
  void FreeStructure(const Retired& item) {
    if (!item.Release()) return;
    std::free(item.object);
    gate_->Released(item.kind, item.size_bytes);
  }

  void Publish(uint64_t position) {
    lane_->PublishWatermark(position);
    std::erase_if(kept_, [this, position](const Retired& item) {
      if (position < NeededUntil(item)) return false;
      FreeStructure(item);
      return true;
    });
  }

  static constexpr int kPrefetchBuckets = 3;
  static constexpr size_t kCacheLineBytes = 64;

  SnapshotGate* const gate_;
  ViewLane* const lane_;
  FramePool* const frames_;
  RecordSlab* const slab_;
  std::vector<FrozenTable> tables_;
  PassedPages queue_;
  std::vector<Retired> kept_;
  struct Waiting {  // a retired record, for the visit of its segment
    Record* record;
    uint64_t size_bytes;
    std::atomic<uint32_t>* readers_left;
  };
  struct Superseded {
    bool visited = false;
    std::vector<Waiting> records;
  };
  std::unordered_map<uint64_t, Superseded> superseded_;  // ahead of W, by where they begin
  uint64_t waiting_records_ = 0;
  size_t at_ = 0;
  uint64_t cursor_ = 0;
};

}  // namespace cairn

#pragma once

// SnapshotGate: what the tables of one keyspace share with the snapshot that may be running: the
// generation, the watermark W and the retire queue (docs/snapshot.md). It decides who owns a piece
// of structure, by generation and position only. It does not walk anything: that is FrozenWalk.
// Executor only, except Passed's counterpart PublishWatermark, Pop and ReturnFrame, which belong to
// the walker.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "server/base/check.h"
#include "server/platform/spsc_queue.h"

namespace cairn {

/// Segment memory, recycled while warm: a first write after the cut copies a segment, and a page
/// fault would cost more than the copy. Take, Give and Trim on the executor, GiveRemote on any
/// thread. What is given beyond the bounds goes to the heap at once, on the giver's thread, so that
/// nobody ever has more than those few thousand frames to free in one go.
class FramePool {
 public:
  explicit FramePool(size_t frame_bytes) : frame_bytes_(frame_bytes) {}
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;
  ~FramePool() {
    Collect();
    Trim(0);
  }

  /// 64-byte aligned, contents undefined.
  void* Take() {
    if (free_ == nullptr) Collect();
    if (Frame* frame = free_) {
      free_ = frame->next;
      --free_count_;
      return frame;
    }
    void* memory = std::aligned_alloc(64, frame_bytes_);
    CAIRN_CHECK(memory != nullptr);
    return memory;
  }
  void Give(void* memory) {
    if (free_count_ >= kMaxWarmFrames) {
      std::free(memory);
      return;
    }
    free_ = new (memory) Frame{free_};
    ++free_count_;
  }
  void GiveRemote(void* memory) {
    if (remote_count_.load(std::memory_order_relaxed) >= kMaxRemoteFrames) {
      std::free(memory);
      return;
    }
    remote_count_.fetch_add(1, std::memory_order_relaxed);
    Frame* frame = new (memory) Frame{remote_.load(std::memory_order_relaxed)};
    while (!remote_.compare_exchange_weak(frame->next, frame, std::memory_order_release,
                                          std::memory_order_relaxed)) {
    }
  }
  /// Frees warm frames until `keep` are left, at most `at_most` of them. Cost: 0.1 us a frame.
  void Trim(size_t keep, size_t at_most = SIZE_MAX) {
    Collect();
    for (; free_count_ > keep && at_most > 0; --at_most) {
      Frame* frame = free_;
      free_ = frame->next;
      --free_count_;
      std::free(frame);
    }
  }
  size_t frame_bytes() const { return frame_bytes_; }
  size_t free_frames() const { return free_count_; }

  static constexpr size_t kMaxWarmFrames = 1024;
  /// About as many as the executor may want again before it looks.
  static constexpr size_t kMaxRemoteFrames = 512;

 private:
  struct Frame {
    Frame* next;
  };
  void Collect() {
    Frame* frame = remote_.exchange(nullptr, std::memory_order_acquire);
    size_t count = 0;
    for (; frame; ++count) {
      Frame* next = frame->next;
      Give(frame);
      frame = next;
    }
    if (count != 0) remote_count_.fetch_sub(count, std::memory_order_relaxed);
  }

  const size_t frame_bytes_;
  Frame* free_ = nullptr;
  size_t free_count_ = 0;
  std::atomic<Frame*> remote_{nullptr};
  std::atomic<size_t> remote_count_{0};  // never less than what the list holds
};

/// One thing that the executor gave up and the view must see off.
struct Retired {
  enum class Kind : uint8_t {
    kRecord,        ///< a record of the table, with what it refers to
    kSegment,       ///< of a keyspace table
    kDirectory,     ///< of a keyspace table
    kRoot,          ///< of a keyspace table
    kBlock,         ///< a node of a container, from malloc
    kMemberRecord,  ///< a record of a container, from the slab; position holds its allocated size
    kBlob,          ///< one reference to a blob of a container
  };
  void* object = nullptr;
  uint64_t position = 0;  ///< segment: where it begins; directory: where it ends
  uint64_t size_bytes = 0;
  Kind kind = Kind::kRecord;
};

/// Places in the walk: database number at the cut in the top 16 bits, top 48 bits of the hash
/// below.
inline constexpr int kPositionHashBits = 48;
inline constexpr uint64_t kWatermarkEnd = UINT64_MAX;
inline uint64_t PositionOf(uint64_t base, uint64_t hash) {
  return base + (hash >> (64 - kPositionHashBits));
}

class SnapshotGate {
 public:
  uint64_t generation() const { return generation_; }
  bool active() const { return active_; }

  /// The cut: from now on everything older than the new generation is frozen. Requires: none
  /// active.
  void Open() {
    CAIRN_CHECK(!active_ && queue_.empty());
    ++generation_;
    watermark_.store(0, std::memory_order_relaxed);
    active_ = true;
  }
  /// Requires: the walker has stopped and the queue was drained.
  void Close() {
    CAIRN_CHECK(active_ && queue_.empty() && retained_bytes() == 0);
    active_ = false;
  }

  /// Whether no view needs what ends at `end` any more. A stale answer errs towards false (R5).
  bool Passed(uint64_t end) const {
    return !active_ || end <= watermark_.load(std::memory_order_acquire);
  }

  void Retire(Retired::Kind kind, void* object, uint64_t position, uint64_t size_bytes) {
    Add(IsStructure(kind) ? retired_structure_ : retired_values_, size_bytes);
    queue_.Push({object, position, size_bytes, kind});
  }
  /// Everything held for the view. Thread: any.
  uint64_t retained_bytes() const {
    return retained_record_bytes() + Difference(retired_structure_, released_structure_);
  }
  /// Old values alone: what grows with the writes, and so what a limit has to bound. Superseded
  /// structure is bounded by itself: one segment of a few bytes a key, once a view.
  uint64_t retained_record_bytes() const { return Difference(retired_values_, released_values_); }

  /// Walker side.
  uint64_t watermark() const { return watermark_.load(std::memory_order_relaxed); }
  /// Only after the last read of everything before `position` (R5).
  void PublishWatermark(uint64_t position) {
    CAIRN_CHECK(position >= watermark());
    watermark_.store(position, std::memory_order_release);
  }
  bool Pop(Retired* out) { return queue_.TryPop(out); }
  /// Call when what was popped has been freed.
  void Released(Retired::Kind kind, uint64_t size_bytes) {
    Add(IsStructure(kind) ? released_structure_ : released_values_, size_bytes);
  }

 private:
  using Counter = std::atomic<uint64_t>;  // grows only, written by one side

  static bool IsStructure(Retired::Kind kind) {
    return kind == Retired::Kind::kSegment || kind == Retired::Kind::kDirectory ||
           kind == Retired::Kind::kRoot;
  }
  static void Add(Counter& counter, uint64_t bytes) {
    counter.store(counter.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }
  /// Seen by a third thread, or by one side while the other moves, it may be a little off.
  static uint64_t Difference(const Counter& in, const Counter& out) {
    const uint64_t gone = out.load(std::memory_order_relaxed);
    const uint64_t come = in.load(std::memory_order_relaxed);
    return come > gone ? come - gone : 0;
  }

  uint64_t generation_ = 1;
  bool active_ = false;
  SpscQueue<Retired> queue_;
  // The two sides write different cache lines.
  alignas(64) Counter retired_values_{0};
  Counter retired_structure_{0};
  alignas(64) std::atomic<uint64_t> watermark_{0};
  Counter released_values_{0};
  Counter released_structure_{0};
};

}  // namespace cairn

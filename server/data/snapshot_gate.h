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
/// fault would cost more than the copy. Take on the executor; Give on the executor; GiveRemote on
/// any thread.
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
    Frame* frame = new (memory) Frame{remote_.load(std::memory_order_relaxed)};
    while (!remote_.compare_exchange_weak(frame->next, frame, std::memory_order_release,
                                          std::memory_order_relaxed)) {
    }
  }
  /// Frees all but `keep` warm frames.
  void Trim(size_t keep) {
    Collect();
    while (free_count_ > keep) {
      Frame* frame = free_;
      free_ = frame->next;
      --free_count_;
      std::free(frame);
    }
  }
  size_t frame_bytes() const { return frame_bytes_; }
  size_t free_frames() const { return free_count_; }

  static constexpr size_t kMaxWarmFrames = 1024;

 private:
  struct Frame {
    Frame* next;
  };
  void Collect() {
    Frame* frame = remote_.exchange(nullptr, std::memory_order_acquire);
    while (frame) {
      Frame* next = frame->next;
      Give(frame);
      frame = next;
    }
  }

  const size_t frame_bytes_;
  Frame* free_ = nullptr;
  size_t free_count_ = 0;
  std::atomic<Frame*> remote_{nullptr};
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
    retained_bytes_.fetch_add(size_bytes, std::memory_order_relaxed);
    queue_.Push({object, position, size_bytes, kind});
  }
  uint64_t retained_bytes() const { return retained_bytes_.load(std::memory_order_relaxed); }

  /// Walker side.
  uint64_t watermark() const { return watermark_.load(std::memory_order_relaxed); }
  /// Only after the last read of everything before `position` (R5).
  void PublishWatermark(uint64_t position) {
    CAIRN_CHECK(position >= watermark());
    watermark_.store(position, std::memory_order_release);
  }
  bool Pop(Retired* out) { return queue_.TryPop(out); }
  /// Call when what was popped has been freed.
  void Released(uint64_t size_bytes) {
    retained_bytes_.fetch_sub(size_bytes, std::memory_order_relaxed);
  }

 private:
  uint64_t generation_ = 1;
  bool active_ = false;
  SpscQueue<Retired> queue_;
  alignas(64) std::atomic<uint64_t> watermark_{0};
  std::atomic<uint64_t> retained_bytes_{0};
};

}  // namespace cairn

#pragma once

// FramePool: memory of segments, in pages whose own memory is there before it is touched
// (SpanHeap): a first write after a cut copies a segment, and a page fault would cost many times
// more than the copy. Thread: executor, except GiveRemote, by which walkers and the reaper hand
// frames back.

#include <cstddef>

#include "server/data/slab_pages.h"

namespace cairn {

class FramePool {
 public:
  explicit FramePool(size_t frame_bytes) : pages_(frame_bytes) {}

  /// 64-byte aligned when `frame_bytes` is a multiple of that; contents undefined.
  void* Take() {
    if (!pages_.has_room()) Drain(kDrainBeforePage);
    ++used_;
    return pages_.Take();
  }
  void Give(void* frame) {
    --used_;
    pages_.Give(frame);
  }
  /// As Give, from any thread: the frame waits on a list until it is drained.
  void GiveRemote(void* frame) { remote_.Push(frame, pages_.cell_bytes()); }
  /// Takes back at most `max_frames` of what GiveRemote left. Returns how many.
  size_t Drain(size_t max_frames) {
    size_t drained = 0, frame_bytes = 0;
    for (; drained < max_frames; ++drained) {
      void* const frame = remote_.Pop(&frame_bytes);
      if (frame == nullptr) break;
      Give(frame);
    }
    return drained;
  }

  /// Bytes of pages that no frame lies in. Frames on the remote list count as free: what a save or
  /// a flush gave back must not make anybody evict until it is drained.
  size_t free_bytes() const {
    const size_t in_use = used_ * pages_.cell_bytes() - remote_.waiting_bytes();
    return pages_.page_count() * SlabPages::kPageBytes - in_use;
  }

 private:
  static constexpr size_t kDrainBeforePage = 64;

  SlabPages pages_;
  RemoteCells remote_;
  size_t used_ = 0;  // with those on the remote list
};

}  // namespace cairn

#pragma once

// SpanHeap: memory in spans of 64 KiB, for those who cut it into pieces themselves (SlabPages).
// Spans come from blocks of 2 MiB that the kernel backs by one huge page, and whose pages a thread
// fetches ahead: a first touch of 4 KiB costs 0.3 us to 18 us, most where a hypervisor has a hand
// in it, and of 2 MiB in one go hardly more than clearing them. Any thread: one lock, system calls
// outside of it.
//
// - S1 Whoever takes a span never waits for a huge page: when no block is ready, it gets one of
//   small pages, which come one at a time, and more blocks are made ready.
// - S2 As many blocks are ready as 1/16 of those in use, 8 at most; none for the first MiB.
// - S3 Free memory beyond that (for single spans: beyond 1/8 of those in use) goes back to the
//   system bit by bit: each ten seconds half of what nobody took in all of them. A save takes and
//   gives back much within seconds; dropping pages that it takes again costs twice.
// - S4 Spans with pages are given out before those without, and used blocks before others.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "server/platform/address_space.h"
#include "server/platform/worker.h"

namespace cairn {

class SpanHeap {
 public:
  static constexpr size_t kSpanBytes = size_t{64} << 10;
  static constexpr size_t kBlockBytes = AddressSpace::kAlignment;
  static constexpr size_t kMaxReadyBlocks = 8;

  SpanHeap();
  SpanHeap(const SpanHeap&) = delete;
  SpanHeap& operator=(const SpanHeap&) = delete;
  /// Spans that were not given back are gone too.
  ~SpanHeap();

  /// Aligned to its size, contents undefined; aborts when the system refuses.
  void* Take();
  void Give(void* span);
  /// Tells the time (monotonic, ms), as often as you like (S3). The thread does what is due.
  void Age(int64_t now_ms);
  /// Gives all free memory back to the system at once (MEMORY PURGE).
  void ReleaseFree();

  /// Of the spans that are taken; and of all that ever were, which only grows.
  uint64_t taken_bytes() const { return taken_bytes_.load(std::memory_order_relaxed); }
  uint64_t ever_taken_bytes() const { return ever_taken_bytes_.load(std::memory_order_relaxed); }
  /// With pages, taken or not: a span that was given out is taken to be touched.
  uint64_t held_bytes() const;
  /// Free blocks with pages.
  size_t ready_blocks() const;
  /// Waits until as many blocks are ready as should be, and what Age() found is done. For tests.
  void Settle();

 private:
  static constexpr size_t kSpansPerBlock = kBlockBytes / kSpanBytes;
  static constexpr uint32_t kAllSpans = UINT32_MAX;
  static_assert(kSpansPerBlock == 32);
  using Lock = std::unique_lock<std::mutex>;

  struct Block;
  /// Doubly linked through the blocks.
  struct List {
    Block* front = nullptr;
    Block* back = nullptr;
    size_t size = 0;
    void PushFront(Block* block);
    void Remove(Block* block);
  };

  void* TakeFrom(Block* block);
  Block* AddBlock(AddressSpace* space, char* data, uint32_t cold);
  void Change(Block* block, uint32_t free, uint32_t cold);
  List* ListOf(const Block& block);
  size_t ReadyWanted() const;
  void MakeReady();
  void Trim(size_t blocks, size_t spans);
  void DropBlock(List* list, Lock* lock);
  void CoolSpan(Lock* lock);
  WorkerThread& worker();

  mutable std::mutex mutex_;
  AddressSpace huge_, small_;
  std::unordered_map<uintptr_t, std::unique_ptr<Block>> blocks_;  // by address
  List ready_;                                                    // no span taken, all with pages
  List stale_;  // no span taken, some without pages: they go first
  List warm_;   // some taken, and free ones with pages
  List cold_;   // some taken, and free ones without pages only
  size_t taken_spans_ = 0;
  size_t loose_spans_ = 0;  // free, with pages, in blocks of warm_
  size_t cold_spans_ = 0;
  // The least of ready_.size and loose_spans_ since the last Age().
  size_t least_ready_ = 0, least_loose_spans_ = 0;
  int64_t aged_ms_ = INT64_MIN / 2;
  bool making_ready_ = false, trimming_ = false, ending_ = false;
  bool refused_ = false;  ///< a block, by the system: no more is asked for until the next Age()
  std::atomic<uint64_t> taken_bytes_{0}, ever_taken_bytes_{0};
  std::once_flag worker_started_;
  std::unique_ptr<WorkerThread> worker_;
};

/// A span of the process's own heap; under a sanitizer, which must see what is pointed to from
/// there, one of the allocator.
void* TakeSpan();
void GiveSpan(void* span);
/// The process's own heap, for its figures and its upkeep.
SpanHeap& ProcessSpans();

}  // namespace cairn

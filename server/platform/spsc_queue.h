#pragma once

// SpscQueue: an unbounded first-in first-out queue between exactly one producing and one consuming
// thread, without locks. Items live in chunks; the chunk that the consumer empties goes back to the
// producer, so a queue in balance allocates nothing. It does not wake the consumer: pair it with
// EventLoopPort::Post or a condition variable. Whoever needs a bound checks size() before Push.
//
//   Q1  head_ is touched by the consumer only, tail_ by the producer only.
//   Q2  A chunk's item i is readable once its `filled` > i (release by the producer, acquire by the
//   consumer). Q3  `next` is set once, after the chunk is full; the consumer leaves a chunk only
//   through it.

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace cairn {

template <typename T, size_t kChunkItems = 128>
class SpscQueue {
 public:
  SpscQueue() : head_(new Chunk), tail_(head_) {}
  SpscQueue(const SpscQueue&) = delete;
  SpscQueue& operator=(const SpscQueue&) = delete;
  /// Requires: both sides have stopped. Destroys what was not taken.
  ~SpscQueue() {
    T dropped;
    while (TryPop(&dropped)) {
    }
    delete head_;
    delete spare_.load(std::memory_order_relaxed);
  }

  /// Thread: producer. Never fails. Cost: amortised one allocation per kChunkItems at most.
  void Push(T item) {
    size_t filled = tail_->filled.load(std::memory_order_relaxed);
    if (filled == kChunkItems) {
      Chunk* fresh = spare_.exchange(nullptr, std::memory_order_acquire);
      if (fresh == nullptr) fresh = new Chunk;
      tail_->next.store(fresh, std::memory_order_release);
      tail_ = fresh;
      filled = 0;
    }
    new (tail_->slot(filled)) T(std::move(item));
    tail_->filled.store(filled + 1, std::memory_order_release);
    pushed_.store(pushed_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  /// Moves the oldest item to *out. Returns false when the queue is empty. Thread: consumer.
  bool TryPop(T* out) {
    if (head_->taken == kChunkItems && !NextChunk()) return false;
    if (head_->taken == head_->filled.load(std::memory_order_acquire)) return false;
    T* item = std::launder(reinterpret_cast<T*>(head_->slot(head_->taken)));
    *out = std::move(*item);
    item->~T();
    ++head_->taken;
    popped_.store(popped_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    return true;
  }

  /// Items inside; exact when neither side moves. Thread: any.
  size_t size() const {
    const size_t popped = popped_.load(std::memory_order_acquire);
    return pushed_.load(std::memory_order_acquire) - popped;
  }
  bool empty() const { return size() == 0; }

 private:
  struct Chunk {
    void* slot(size_t i) { return bytes + i * sizeof(T); }
    std::atomic<size_t> filled{0};
    std::atomic<Chunk*> next{nullptr};
    size_t taken = 0;
    alignas(T) unsigned char bytes[kChunkItems * sizeof(T)];
  };

  bool NextChunk() {
    Chunk* next = head_->next.load(std::memory_order_acquire);
    if (next == nullptr) return false;
    Chunk* empty = std::exchange(head_, next);
    empty->filled.store(0, std::memory_order_relaxed);
    empty->next.store(nullptr, std::memory_order_relaxed);
    empty->taken = 0;
    delete spare_.exchange(empty, std::memory_order_acq_rel);
    return true;
  }

  // The two sides write different cache lines.
  alignas(64) Chunk* head_;
  std::atomic<size_t> popped_{0};
  alignas(64) Chunk* tail_;
  std::atomic<size_t> pushed_{0};
  alignas(64) std::atomic<Chunk*> spare_{nullptr};
};

}  // namespace cairn

#include "server/platform/span_heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "server/base/check.h"
#include "server/base/sanitizers.h"

namespace cairn {
namespace {

constexpr size_t kSmallPageBytes = 4096;
constexpr size_t kHugeMapBytes = size_t{256} << 20;
constexpr size_t kSmallMapBytes = size_t{64} << 20;
// S2: from so many spans on blocks are ready, one for each so many.
constexpr size_t kFirstReadySpans = 16, kSpansPerReadyBlock = 16 * 32;
// S3.
constexpr size_t kLooseShare = 8, kTrimShare = 2;
constexpr size_t kMinLooseSpans = 32;
constexpr int64_t kAgeMs = 10'000;
// What is given back of single spans at a time: some tens of milliseconds of the thread.
constexpr size_t kMaxSpansPerAge = 1024;

/// Fetches the pages of a block. By touching them: MADV_POPULATE_WRITE would hold the lock of the
/// address space meanwhile, and mmap of any thread wait for it; a fault locks its own map only.
void Populate(char* data) {
  for (size_t at = 0; at < SpanHeap::kBlockBytes; at += kSmallPageBytes) {
    *static_cast<volatile char*>(data + at) = 0;
  }
}

}  // namespace

struct SpanHeap::Block {
  char* data;
  AddressSpace* space;
  uint32_t free = kAllSpans;  ///< bit i: span i is not taken
  uint32_t cold = 0;          ///< bit i: span i is free and has no pages
  Block* next = nullptr;
  Block* previous = nullptr;

  bool used() const { return free != kAllSpans; }
  size_t loose() const { return used() ? static_cast<size_t>(std::popcount(free & ~cold)) : 0; }
};

void SpanHeap::List::PushFront(Block* block) {
  block->previous = nullptr;
  block->next = front;
  (front != nullptr ? front->previous : back) = block;
  front = block;
  ++size;
}

void SpanHeap::List::Remove(Block* block) {
  (block->previous != nullptr ? block->previous->next : front) = block->next;
  (block->next != nullptr ? block->next->previous : back) = block->previous;
  --size;
}

SpanHeap::SpanHeap()
    : huge_(AddressSpace::Pages::kHuge, kHugeMapBytes),
      small_(AddressSpace::Pages::kSmall, kSmallMapBytes) {}

SpanHeap::~SpanHeap() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  worker_.reset();
}

void* SpanHeap::Take() {
  std::lock_guard lock(mutex_);
  Block* block = warm_.front;
  if (block == nullptr) block = ready_.front;
  if (block == nullptr) block = cold_.front;
  if (block == nullptr) block = stale_.front;
  if (block == nullptr) block = AddBlock(&small_, small_.Take(kBlockBytes), kAllSpans);
  void* const span = TakeFrom(block);
  least_ready_ = std::min(least_ready_, ready_.size);
  least_loose_spans_ = std::min(least_loose_spans_, loose_spans_);
  if (ready_.size < ReadyWanted() && !making_ready_ && !refused_) {
    making_ready_ = true;
    worker().Post([this] { MakeReady(); });
  }
  return span;
}

void* SpanHeap::TakeFrom(Block* block) {
  const uint32_t loose = block->free & ~block->cold;
  const int index = std::countr_zero(loose != 0 ? loose : block->free);
  const uint32_t bit = uint32_t{1} << index;
  ++taken_spans_;
  Change(block, block->free & ~bit, block->cold & ~bit);
  taken_bytes_.store(taken_spans_ * kSpanBytes, std::memory_order_relaxed);
  ever_taken_bytes_.fetch_add(kSpanBytes, std::memory_order_relaxed);
  return block->data + static_cast<size_t>(index) * kSpanBytes;
}

void SpanHeap::Give(void* span) {
  const auto address = reinterpret_cast<uintptr_t>(span);
  const uintptr_t begin = address & ~uintptr_t{kBlockBytes - 1};
  std::lock_guard lock(mutex_);
  const auto found = blocks_.find(begin);
  CAIRN_CHECK(found != blocks_.end());
  Block* const block = found->second.get();
  const uint32_t bit = uint32_t{1} << ((address - begin) / kSpanBytes);
  CAIRN_CHECK((block->free & bit) == 0 && address % kSpanBytes == 0);
  --taken_spans_;
  taken_bytes_.store(taken_spans_ * kSpanBytes, std::memory_order_relaxed);
  Change(block, block->free | bit, block->cold);
}

// --- blocks ---

SpanHeap::Block* SpanHeap::AddBlock(AddressSpace* space, char* data, uint32_t cold) {
  CAIRN_CHECK(data != nullptr);
  auto block = std::make_unique<Block>(Block{.data = data, .space = space, .cold = cold});
  Block* const added = block.get();
  blocks_.emplace(reinterpret_cast<uintptr_t>(data), std::move(block));
  cold_spans_ += static_cast<size_t>(std::popcount(cold));
  ListOf(*added)->PushFront(added);
  return added;
}

SpanHeap::List* SpanHeap::ListOf(const Block& block) {
  if (!block.used()) return block.cold == 0 ? &ready_ : &stale_;
  if ((block.free & ~block.cold) != 0) return &warm_;
  return block.free != 0 ? &cold_ : nullptr;
}

void SpanHeap::Change(Block* block, uint32_t free, uint32_t cold) {
  List* const from = ListOf(*block);
  loose_spans_ -= block->loose();
  cold_spans_ -= static_cast<size_t>(std::popcount(block->cold));
  block->free = free;
  block->cold = cold;
  loose_spans_ += block->loose();
  cold_spans_ += static_cast<size_t>(std::popcount(block->cold));
  List* const to = ListOf(*block);
  if (from == to) return;
  if (from != nullptr) from->Remove(block);
  if (to != nullptr) to->PushFront(block);
}

// --- ahead of the demand, and behind it ---

size_t SpanHeap::ReadyWanted() const {
  if (taken_spans_ < kFirstReadySpans) return 0;
  return std::clamp<size_t>(taken_spans_ / kSpansPerReadyBlock, 1, kMaxReadyBlocks);
}

WorkerThread& SpanHeap::worker() {
  std::call_once(worker_started_, [this] {
    worker_ = std::make_unique<WorkerThread>(WorkerOptions{.name = "spans"});
  });
  return *worker_;
}

void SpanHeap::MakeReady() {
  Lock lock(mutex_);
  while (!ending_ && ready_.size < ReadyWanted()) {
    lock.unlock();
    char* const data = huge_.Take(kBlockBytes);
    if (data != nullptr) Populate(data);
    lock.lock();
    refused_ = data == nullptr;
    if (refused_) break;
    AddBlock(&huge_, data, 0);
  }
  making_ready_ = false;
}

void SpanHeap::Age(int64_t now_ms) {
  std::lock_guard lock(mutex_);
  if (trimming_ || now_ms - aged_ms_ < kAgeMs) return;
  aged_ms_ = now_ms;
  refused_ = false;
  const auto share = [](size_t have, size_t kept) {
    return (have - std::min(have, kept) + kTrimShare - 1) / kTrimShare;
  };
  const size_t blocks = share(std::min(least_ready_, ready_.size), ReadyWanted());
  const size_t kept = std::max(kMinLooseSpans, taken_spans_ / kLooseShare);
  const size_t spans =
      std::min(share(std::min(least_loose_spans_, loose_spans_), kept), kMaxSpansPerAge);
  least_ready_ = ready_.size;
  least_loose_spans_ = loose_spans_;
  if (blocks + spans + stale_.size == 0) return;
  trimming_ = true;
  worker().Post([this, blocks, spans] { Trim(blocks, spans); });
}

void SpanHeap::Trim(size_t blocks, size_t spans) {
  Lock lock(mutex_);
  while (stale_.back != nullptr) DropBlock(&stale_, &lock);
  for (; blocks > 0 && ready_.size > ReadyWanted(); --blocks) DropBlock(&ready_, &lock);
  for (; spans > 0 && warm_.back != nullptr; --spans) CoolSpan(&lock);
  trimming_ = false;
}

void SpanHeap::ReleaseFree() {
  Lock lock(mutex_);
  while (stale_.back != nullptr) DropBlock(&stale_, &lock);
  while (ready_.back != nullptr) DropBlock(&ready_, &lock);
  while (warm_.back != nullptr) CoolSpan(&lock);
}

/// The one that has been free for longest.
void SpanHeap::DropBlock(List* list, Lock* lock) {
  Block* const block = list->back;
  list->Remove(block);
  cold_spans_ -= static_cast<size_t>(std::popcount(block->cold));
  const auto node = blocks_.extract(reinterpret_cast<uintptr_t>(block->data));
  lock->unlock();
  block->space->Give(block->data, kBlockBytes);
  lock->lock();
}

/// Drops the pages of one free span of the block that has had some for longest. Meanwhile it counts
/// as taken, so nobody takes it and its block stays.
void SpanHeap::CoolSpan(Lock* lock) {
  Block* const block = warm_.back;
  const int index = std::countr_zero(block->free & ~block->cold);
  const uint32_t bit = uint32_t{1} << index;
  Change(block, block->free & ~bit, block->cold);
  lock->unlock();
  ::madvise(block->data + static_cast<size_t>(index) * kSpanBytes, kSpanBytes, MADV_DONTNEED);
  lock->lock();
  Change(block, block->free | bit, block->cold | bit);
}

uint64_t SpanHeap::held_bytes() const {
  std::lock_guard lock(mutex_);
  return (blocks_.size() * kSpansPerBlock - cold_spans_) * kSpanBytes;
}

size_t SpanHeap::ready_blocks() const {
  std::lock_guard lock(mutex_);
  return ready_.size;
}

void SpanHeap::Settle() { worker().Drain(); }

// --- the process's own ---

SpanHeap& ProcessSpans() {
  // Never destroyed: what static objects hold is given back later than any order would allow.
  static SpanHeap& heap = *new SpanHeap;
  return heap;
}

#if CAIRN_SANITIZED

void* TakeSpan() {
  void* const span = std::aligned_alloc(SpanHeap::kSpanBytes, SpanHeap::kSpanBytes);
  CAIRN_CHECK(span != nullptr);
  return span;
}

void GiveSpan(void* span) { std::free(span); }

#else

void* TakeSpan() { return ProcessSpans().Take(); }

void GiveSpan(void* span) { ProcessSpans().Give(span); }

#endif

}  // namespace cairn

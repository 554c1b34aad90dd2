#pragma once

// SlabPages: cells of one size in spans of 64 KiB, so that a cell costs its own bytes and nothing
// else. It keeps the pages that have room apart from those that have none, and gives back those
// without live cells. Thread: one at a time; RemoteCells is how the others hand cells back.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "server/platform/span_heap.h"

namespace cairn {

class SlabPages {
 public:
  static constexpr size_t kPageBytes = SpanHeap::kSpanBytes;
  static constexpr size_t kMinCellBytes = 16;

  /// Cells are 8-byte aligned, and on cache lines when `cell_bytes` is a multiple of one. At least
  /// kMinCellBytes.
  explicit SlabPages(size_t cell_bytes) : cell_bytes_(static_cast<uint32_t>(cell_bytes)) {}
  SlabPages(const SlabPages&) = delete;
  SlabPages& operator=(const SlabPages&) = delete;
  /// Gives every page back, whatever is live in it.
  ~SlabPages();

  /// Contents undefined. Cost: O(1), a span at times.
  void* Take();
  void Give(void* cell);
  /// Whether Take() needs no further page.
  bool has_room() const { return open_ != nullptr; }

  size_t cell_bytes() const { return cell_bytes_; }
  size_t page_count() const { return page_count_; }
  /// How many cells a page holds.
  size_t capacity() const { return (kPageBytes - first_cell()) / cell_bytes_; }

 private:
  struct Page;
  struct FreeCell {
    FreeCell* next;
  };

  size_t first_cell() const;
  Page* NewPage();
  static void Link(Page** list, Page* page);
  static void Unlink(Page** list, Page* page);

  const uint32_t cell_bytes_;
  // Both lists are doubly linked through the pages: `open_` pages have room, `full_` ones none.
  Page* open_ = nullptr;
  Page* full_ = nullptr;
  size_t page_count_ = 0;
};

/// Cells that other threads freed, until their owner takes them back.
class RemoteCells {
 public:
  /// `size_bytes` comes back from Pop. Thread: any.
  void Push(void* cell, size_t size_bytes);
  /// nullptr: none. Thread: the owner.
  void* Pop(size_t* size_bytes);

  /// Of all cells that were ever pushed; and of those that were not popped yet. Thread: the owner.
  uint64_t pushed_bytes() const { return pushed_bytes_.load(std::memory_order_relaxed); }
  uint64_t waiting_bytes() const { return pushed_bytes() - popped_bytes_; }

 private:
  struct Cell {
    Cell* next;
    size_t size_bytes;
  };
  static_assert(sizeof(Cell) <= SlabPages::kMinCellBytes);

  Cell* taken_ = nullptr;      // off the shared list
  uint64_t popped_bytes_ = 0;  // grows only, as the other
  std::atomic<uint64_t> pushed_bytes_{0};
  std::atomic<Cell*> shared_{nullptr};
};

}  // namespace cairn

#include "server/data/slab_pages.h"

#include "server/base/check.h"
#include "server/base/sanitizers.h"

#if CAIRN_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cairn {
namespace {

constexpr size_t kCacheLineBytes = 64;

// Free cells are poisoned, so that AddressSanitizer sees a use after free inside our own pages too.
inline void Poison([[maybe_unused]] void* memory, [[maybe_unused]] size_t size_bytes) {
#if CAIRN_ASAN
  ASAN_POISON_MEMORY_REGION(memory, size_bytes);
#endif
}

inline void Unpoison([[maybe_unused]] void* memory, [[maybe_unused]] size_t size_bytes) {
#if CAIRN_ASAN
  ASAN_UNPOISON_MEMORY_REGION(memory, size_bytes);
#endif
}

}  // namespace

struct SlabPages::Page {
  Page* next;
  Page* previous;
  FreeCell* free_list;
  uint32_t cell_bytes;
  uint32_t live;
  uint32_t bump;  // cells from here on were never handed out: their memory is still untouched
  uint32_t capacity;

  static Page* Of(const void* cell) {
    return reinterpret_cast<Page*>(reinterpret_cast<uintptr_t>(cell) & ~uintptr_t{kPageBytes - 1});
  }
  bool full() const { return free_list == nullptr && bump == capacity; }
};

size_t SlabPages::first_cell() const {
  return cell_bytes_ % kCacheLineBytes == 0 ? RoundUp(sizeof(Page), kCacheLineBytes) : sizeof(Page);
}

void SlabPages::Link(Page** list, Page* page) {
  page->previous = nullptr;
  page->next = *list;
  if (*list) (*list)->previous = page;
  *list = page;
}

void SlabPages::Unlink(Page** list, Page* page) {
  if (page->previous) {
    page->previous->next = page->next;
  } else {
    *list = page->next;
  }
  if (page->next) page->next->previous = page->previous;
}

SlabPages::~SlabPages() {
  for (Page** list : {&open_, &full_}) {
    while (Page* page = *list) {
      Unlink(list, page);
      Unpoison(page, kPageBytes);
      GiveSpan(page);
    }
  }
}

SlabPages::Page* SlabPages::NewPage() {
  Page* page = static_cast<Page*>(TakeSpan());
  page->free_list = nullptr;
  page->cell_bytes = cell_bytes_;
  page->live = 0;
  page->bump = 0;
  page->capacity = static_cast<uint32_t>(capacity());
  ++page_count_;
  Link(&open_, page);
  return page;
}

void* SlabPages::Take() {
  Page* page = open_ != nullptr ? open_ : NewPage();
  void* cell;
  if (page->free_list) {
    cell = page->free_list;
    Unpoison(cell, cell_bytes_);
    page->free_list = page->free_list->next;
  } else {
    cell = reinterpret_cast<char*>(page) + first_cell() + size_t{page->bump++} * cell_bytes_;
  }
  ++page->live;
  if (page->full()) {
    Unlink(&open_, page);
    Link(&full_, page);
  }
  return cell;
}

void SlabPages::Give(void* cell) {
  Page* page = Page::Of(cell);
  CAIRN_CHECK(page->cell_bytes == cell_bytes_);
  if (page->full()) {
    Unlink(&full_, page);
    Link(&open_, page);
  }
  FreeCell* free_cell = static_cast<FreeCell*>(cell);
  free_cell->next = page->free_list;
  page->free_list = free_cell;
  Poison(cell, cell_bytes_);
  // The last open page stays, or a key set and deleted in turn would take a page each time.
  if (--page->live == 0 && (page->next || page->previous)) {
    Unlink(&open_, page);
    Unpoison(page, kPageBytes);
    GiveSpan(page);
    --page_count_;
  }
}

void RemoteCells::Push(void* cell, size_t size_bytes) {
  Cell* freed = static_cast<Cell*>(cell);
  freed->size_bytes = size_bytes;
  // Before it is seen: the owner must not pop more than was pushed.
  pushed_bytes_.fetch_add(size_bytes, std::memory_order_relaxed);
  Cell* head = shared_.load(std::memory_order_relaxed);
  do {
    freed->next = head;
  } while (!shared_.compare_exchange_weak(head, freed, std::memory_order_release,
                                          std::memory_order_relaxed));
}

void* RemoteCells::Pop(size_t* size_bytes) {
  if (taken_ == nullptr) {
    if (shared_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    taken_ = shared_.exchange(nullptr, std::memory_order_acquire);
  }
  Cell* cell = taken_;
  taken_ = cell->next;
  *size_bytes = cell->size_bytes;
  popped_bytes_ += cell->size_bytes;
  return cell;
}

}  // namespace cairn

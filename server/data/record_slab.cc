#include "server/data/record_slab.h"

#include <cstdlib>

#include "server/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define CAIRN_SLAB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAIRN_SLAB_ASAN 1
#endif
#endif
#ifdef CAIRN_SLAB_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cairn {
namespace {

// Free records are poisoned, so that AddressSanitizer sees a use after free inside our own pages
// too.
inline void Poison([[maybe_unused]] void* memory, [[maybe_unused]] size_t size_bytes) {
#ifdef CAIRN_SLAB_ASAN
  ASAN_POISON_MEMORY_REGION(memory, size_bytes);
#endif
}

inline void Unpoison([[maybe_unused]] void* memory, [[maybe_unused]] size_t size_bytes) {
#ifdef CAIRN_SLAB_ASAN
  ASAN_UNPOISON_MEMORY_REGION(memory, size_bytes);
#endif
}

}  // namespace

struct RecordSlab::Page {
  Page* next;
  Page* previous;
  FreeRecord* free_list;
  uint32_t size_class;
  uint32_t live;
  uint32_t bump;  // records from here on were never handed out: their memory is still untouched
  uint32_t capacity;

  char* record(uint32_t index, size_t bytes) {
    return reinterpret_cast<char*>(this) + sizeof(Page) + index * bytes;
  }
  bool full() const { return free_list == nullptr && bump == capacity; }
};

int RecordSlab::ClassOf(size_t size_bytes) {
  if (size_bytes <= kMinRecordBytes) return 0;
  if (size_bytes <= kFineLimitBytes)
    return static_cast<int>((size_bytes + 7) / 8 - kMinRecordBytes / 8);
  return kFineClasses + static_cast<int>((size_bytes - kFineLimitBytes + 31) / 32) - 1;
}

size_t RecordSlab::ClassBytes(int size_class) {
  if (size_class < kFineClasses) return kMinRecordBytes + 8 * static_cast<size_t>(size_class);
  return kFineLimitBytes + 32 * static_cast<size_t>(size_class - kFineClasses + 1);
}

size_t RecordSlab::RoundUp(size_t size_bytes) {
  return size_bytes > kRecordLimitBytes ? (size_bytes + 15) & ~size_t{15}
                                        : ClassBytes(ClassOf(size_bytes));
}

void RecordSlab::Link(Page** list, Page* page) {
  page->previous = nullptr;
  page->next = *list;
  if (*list) (*list)->previous = page;
  *list = page;
}

void RecordSlab::Unlink(Page** list, Page* page) {
  if (page->previous) {
    page->previous->next = page->next;
  } else {
    *list = page->next;
  }
  if (page->next) page->next->previous = page->previous;
}

RecordSlab::~RecordSlab() {
  while (DrainRemote(SIZE_MAX) != 0) {
  }
  for (SizeClass& size_class : classes_) {
    for (Page** list : {&size_class.open, &size_class.full}) {
      while (Page* page = *list) {
        Unlink(list, page);
        Unpoison(page, kPageBytes);
        std::free(page);
      }
    }
  }
}

RecordSlab::Page* RecordSlab::NewPage(int size_class) {
  void* memory = std::aligned_alloc(kPageBytes, kPageBytes);
  CAIRN_CHECK(memory != nullptr);
  Page* page = static_cast<Page*>(memory);
  page->free_list = nullptr;
  page->size_class = static_cast<uint32_t>(size_class);
  page->live = 0;
  page->bump = 0;
  page->capacity = static_cast<uint32_t>((kPageBytes - sizeof(Page)) / ClassBytes(size_class));
  ++page_count_;
  Link(&classes_[size_class].open, page);
  return page;
}

void* RecordSlab::Allocate(size_t size_bytes) {
  if (size_bytes > kRecordLimitBytes) {
    const size_t rounded = RoundUp(size_bytes);
    void* memory = std::malloc(rounded);
    CAIRN_CHECK(memory != nullptr);
    used_bytes_ += rounded;
    return memory;
  }
  const int index = ClassOf(size_bytes);
  SizeClass& size_class = classes_[index];
  const size_t bytes = ClassBytes(index);
  Page* page = size_class.open;
  if (page == nullptr) {
    // A good moment to take back what other threads freed: it may spare the page.
    constexpr size_t kDrainBeforePage = 64;
    DrainRemote(kDrainBeforePage);
    page = size_class.open ? size_class.open : NewPage(index);
  }
  void* record;
  if (page->free_list) {
    record = page->free_list;
    Unpoison(record, bytes);
    page->free_list = page->free_list->next;
  } else {
    record = page->record(page->bump++, bytes);
  }
  ++page->live;
  used_bytes_ += bytes;
  used_page_bytes_ += bytes;
  if (page->full()) {
    Unlink(&size_class.open, page);
    Link(&size_class.full, page);
  }
  return record;
}

void RecordSlab::FreeInPage(void* record, size_t class_bytes) {
  Page* page =
      reinterpret_cast<Page*>(reinterpret_cast<uintptr_t>(record) & ~uintptr_t{kPageBytes - 1});
  SizeClass& size_class = classes_[page->size_class];
  CAIRN_CHECK(ClassBytes(static_cast<int>(page->size_class)) == class_bytes);
  used_page_bytes_ -= class_bytes;
  if (page->full()) {
    Unlink(&size_class.full, page);
    Link(&size_class.open, page);
  }
  FreeRecord* free_record = static_cast<FreeRecord*>(record);
  free_record->next = page->free_list;
  page->free_list = free_record;
  Poison(record, class_bytes);
  // The last open page of a class stays, or a key set and deleted in turn would map a page each
  // time.
  if (--page->live == 0 && (page->next || page->previous)) {
    Unlink(&size_class.open, page);
    Unpoison(page, kPageBytes);
    std::free(page);
    --page_count_;
  }
}

void RecordSlab::Free(void* record, size_t size_bytes) {
  const size_t rounded = RoundUp(size_bytes);
  used_bytes_ -= rounded;
  if (size_bytes > kRecordLimitBytes) {
    std::free(record);
  } else {
    FreeInPage(record, rounded);
  }
}

void RecordSlab::FreeRemote(void* record, size_t size_bytes) {
  const size_t rounded = RoundUp(size_bytes);
  remote_bytes_.fetch_add(rounded, std::memory_order_relaxed);
  if (size_bytes > kRecordLimitBytes) {
    std::free(record);
    return;
  }
  FreeRecord* free_record = static_cast<FreeRecord*>(record);
  free_record->size_bytes = rounded;
  FreeRecord* head = remote_.load(std::memory_order_relaxed);
  do {
    free_record->next = head;
  } while (!remote_.compare_exchange_weak(head, free_record, std::memory_order_release,
                                          std::memory_order_relaxed));
}

size_t RecordSlab::DrainRemote(size_t max_records) {
  size_t drained = 0;
  while (drained < max_records) {
    if (draining_ == nullptr) {
      if (remote_.load(std::memory_order_relaxed) == nullptr) break;
      draining_ = remote_.exchange(nullptr, std::memory_order_acquire);
    }
    FreeRecord* record = draining_;
    draining_ = record->next;
    FreeInPage(record, record->size_bytes);
    ++drained;
  }
  return drained;
}

}  // namespace cairn

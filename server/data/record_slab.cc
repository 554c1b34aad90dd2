#include "server/data/record_slab.h"

#include <cstdlib>

#include "server/base/check.h"

namespace cairn {

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

void* RecordSlab::Allocate(size_t size_bytes) {
  if (size_bytes > kRecordLimitBytes) {
    const size_t rounded = RoundUp(size_bytes);
    void* memory = std::malloc(rounded);
    CAIRN_CHECK(memory != nullptr);
    used_bytes_ += rounded;
    return memory;
  }
  SlabPages& pages = classes_[static_cast<size_t>(ClassOf(size_bytes))];
  if (!pages.has_room()) {
    // A good moment to take back what other threads freed: it may spare the page.
    constexpr size_t kDrainBeforePage = 64;
    DrainRemote(kDrainBeforePage);
  }
  used_bytes_ += pages.cell_bytes();
  used_page_bytes_ += pages.cell_bytes();
  return pages.Take();
}

void RecordSlab::FreeInPage(void* record, size_t class_bytes) {
  used_page_bytes_ -= class_bytes;
  classes_[static_cast<size_t>(ClassOf(class_bytes))].Give(record);
}

uint64_t RecordSlab::page_bytes() const {
  uint64_t pages = 0;
  for (const SlabPages& each : classes_) pages += each.page_count();
  return pages * kPageBytes;
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
  if (size_bytes > kRecordLimitBytes) {
    remote_heap_bytes_.fetch_add(rounded, std::memory_order_relaxed);
    std::free(record);
  } else {
    remote_.Push(record, rounded);
  }
}

size_t RecordSlab::DrainRemote(size_t max_records) {
  size_t drained = 0, class_bytes = 0;
  while (drained < max_records) {
    void* const record = remote_.Pop(&class_bytes);
    if (record == nullptr) break;
    FreeInPage(record, class_bytes);
    ++drained;
  }
  return drained;
}

}  // namespace cairn

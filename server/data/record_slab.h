#pragma once

// RecordSlab: the allocator of entries. Size classes of 8 bytes up to 256 and of 32 bytes up to
// 1,024, each in SlabPages, so that a record costs its own bytes and nothing else (a general
// allocator rounds 40 to 48 and 68 to 80). Bigger records come from malloc. Not a general
// allocator: the caller names the size again when it frees. Thread: executor, except FreeRemote, by
// which the snapshot walker and the reaper hand records back. Owner: Keyspace.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "server/data/slab_pages.h"

namespace cairn {

class RecordSlab {
 public:
  static constexpr size_t kPageBytes = SlabPages::kPageBytes;
  static constexpr size_t kMinRecordBytes = SlabPages::kMinCellBytes;
  static constexpr size_t kFineLimitBytes = 256;  ///< classes of 8 bytes up to here
  static constexpr size_t kRecordLimitBytes =
      1024;  ///< classes of 32 bytes up to here, malloc above
  static constexpr int kFineClasses = (kFineLimitBytes - kMinRecordBytes) / 8 + 1;
  static constexpr int kClassCount = kFineClasses + (kRecordLimitBytes - kFineLimitBytes) / 32;

  RecordSlab() : classes_(MakeClasses(std::make_index_sequence<kClassCount>())) {}
  RecordSlab(const RecordSlab&) = delete;
  RecordSlab& operator=(const RecordSlab&) = delete;
  /// Records above kRecordLimitBytes must have been freed before.
  ~RecordSlab() = default;

  /// Returns 8-byte aligned memory; aborts when the system refuses. Cost: O(1), a page at times.
  void* Allocate(size_t size_bytes);
  /// `size_bytes` as at Allocate.
  void Free(void* record, size_t size_bytes);
  /// As Free, from any thread: the record waits on a list until the executor drains it.
  void FreeRemote(void* record, size_t size_bytes);
  /// Takes back at most `max_records` of what FreeRemote left. Returns how many.
  size_t DrainRemote(size_t max_records);

  /// Bytes of live records, rounded to their classes. Records on the remote list count as freed.
  uint64_t used_bytes() const {
    return used_bytes_ - remote_.pushed_bytes() -
           remote_heap_bytes_.load(std::memory_order_relaxed);
  }
  /// The part of used_bytes() that lies in pages. Thread: executor.
  uint64_t used_page_bytes() const { return used_page_bytes_ - remote_.waiting_bytes(); }
  /// Bytes of pages held, used or not. Thread: executor.
  uint64_t page_bytes() const;
  /// What a record of this size takes.
  static size_t RoundUp(size_t size_bytes);

 private:
  static int ClassOf(size_t size_bytes);
  static size_t ClassBytes(int size_class);
  template <size_t... I>
  static std::array<SlabPages, sizeof...(I)> MakeClasses(std::index_sequence<I...>) {
    return {SlabPages(ClassBytes(I))...};
  }
  void FreeInPage(void* record, size_t class_bytes);

  std::array<SlabPages, kClassCount> classes_;
  uint64_t used_bytes_ = 0;
  uint64_t used_page_bytes_ = 0;  // with those on the remote list
  RemoteCells remote_;
  std::atomic<uint64_t> remote_heap_bytes_{0};  // grows only: of bigger records freed remotely
};

}  // namespace cairn

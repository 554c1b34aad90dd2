#pragma once

// RecordSlab: the allocator of entries. Size classes of 8 bytes up to 256 and of 32 bytes up to
// 1,024, in pages of 64 KiB, so that a record costs its own bytes and nothing else (a general
// allocator rounds 40 to 48 and 68 to 80). Bigger records come from malloc. Not a general
// allocator: the caller names the size again when it frees. Thread: executor, except FreeRemote, by
// which the snapshot walker and the reaper hand records back. Owner: Keyspace.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cairn {

class RecordSlab {
 public:
  static constexpr size_t kPageBytes = 64 * 1024;
  static constexpr size_t kMinRecordBytes = 16;
  static constexpr size_t kFineLimitBytes = 256;  ///< classes of 8 bytes up to here
  static constexpr size_t kRecordLimitBytes =
      1024;  ///< classes of 32 bytes up to here, malloc above
  static constexpr int kFineClasses = (kFineLimitBytes - kMinRecordBytes) / 8 + 1;
  static constexpr int kClassCount = kFineClasses + (kRecordLimitBytes - kFineLimitBytes) / 32;

  RecordSlab() = default;
  RecordSlab(const RecordSlab&) = delete;
  RecordSlab& operator=(const RecordSlab&) = delete;
  /// Frees every page. Records above kRecordLimitBytes must have been freed before.
  ~RecordSlab();

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
    return used_bytes_ - remote_bytes_.load(std::memory_order_relaxed);
  }
  /// The part of used_bytes() that lies in pages. Thread: executor. Records on the remote list
  /// count as used until they are drained.
  uint64_t used_page_bytes() const { return used_page_bytes_; }
  /// Bytes of pages held, used or not.
  uint64_t page_bytes() const { return page_count_ * kPageBytes; }
  /// What a record of this size takes.
  static size_t RoundUp(size_t size_bytes);

 private:
  struct FreeRecord {
    FreeRecord* next;
    size_t size_bytes;  // remote list only
  };
  struct Page;
  // Both lists are doubly linked through the pages: `open` pages have room, `full` ones none.
  struct SizeClass {
    Page* open = nullptr;
    Page* full = nullptr;
  };

  static int ClassOf(size_t size_bytes);
  static size_t ClassBytes(int size_class);
  static void Link(Page** list, Page* page);
  static void Unlink(Page** list, Page* page);
  Page* NewPage(int size_class);
  void FreeInPage(void* record, size_t class_bytes);

  SizeClass classes_[kClassCount];
  uint64_t used_bytes_ = 0;
  uint64_t used_page_bytes_ = 0;
  uint64_t page_count_ = 0;
  FreeRecord* draining_ = nullptr;  // taken from remote_, not yet freed
  std::atomic<FreeRecord*> remote_{nullptr};
  std::atomic<uint64_t> remote_bytes_{0};  // grows only: bytes ever freed remotely
};

}  // namespace cairn

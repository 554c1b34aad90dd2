#pragma once

// What the process uses of memory, asked of the allocator, the heap of spans and the kernel: the
// figures behind INFO memory and maxmemory. Not an allocator. Builds with CAIRN_JEMALLOC ask
// jemalloc, others the C library. Any thread.

#include <cstddef>
#include <cstdint>

namespace cairn {

/// All in bytes.
struct MemoryFigures {
  uint64_t allocated = 0;  ///< handed out to the program
  uint64_t active = 0;     ///< in pages that hold at least one allocation
  uint64_t resident = 0;   ///< of the allocator, backed by physical pages
  uint64_t rss = 0;        ///< of the whole process, from the kernel
  uint64_t retained = 0;   ///< address space the allocator keeps without pages
};

/// Cost: about 15 us (refreshes jemalloc's epoch, reads /proc/self/statm). Blob arena memory is
/// mapped directly and shows in rss only; add BlobArena's counters.
MemoryFigures ReadMemoryFigures();

/// The first of the figures alone. Cost: about 5 us (jemalloc's epoch).
uint64_t ReadAllocatedBytes();

/// Bytes that the calling thread ever got from the allocator, and all threads in spans, given back
/// or not: what the thread uses cannot have grown by more. 0 when the allocator does not tell (all
/// but jemalloc). Cost: two loads.
uint64_t ThreadAllocatedBytes();

/// Bytes that the calling thread has got from the allocator less those it gave back, also of other
/// threads; 0 when the allocator does not tell. Of one thread only differences mean something.
int64_t ThreadLiveBytes();

/// MemoryFigures for one thread that asks for them often, as those who watch a server do: read anew
/// only once they are kMaxAgeUs old or the thread's part has changed by kMaxGrown. Source: Redis's
/// serverCron takes them ten times a second.
class MemorySample {
 public:
  static constexpr int64_t kMaxAgeUs = 100'000;
  /// What this thread takes another may give back, which only a new reading shows: so far may they
  /// be apart.
  static constexpr int64_t kMaxGrown = 1 << 20;

  /// `now_us`: monotonic. Stays in place. Cost: that of ReadMemoryFigures when they are read, which
  /// is each time where the allocator does not tell what a thread has of it; else nothing.
  const MemoryFigures& Read(int64_t now_us);
  /// What is handed out now: as it was read, and what this thread has got and given back since.
  /// Requires: Read() came before.
  uint64_t AllocatedBytes() const;
  /// Something was given back on purpose: the next Read reads.
  void Forget() { read_us_ = kNever; }

 private:
  static constexpr int64_t kNever = INT64_MIN / 2;
  int64_t Grown() const;
  MemoryFigures figures_;
  int64_t read_us_ = kNever;
  int64_t live_bytes_ = 0;   // ThreadLiveBytes then
  uint64_t span_bytes_ = 0;  // taken then
};

/// Bytes the allocator really set aside for a pointer it gave out; 0 for null. Cost: 4 ns
/// (jemalloc).
size_t UsableSize(const void* pointer);

/// Physical memory of the machine, in bytes.
uint64_t TotalSystemMemory();

/// Gives unused pages back to the kernel. Cost: milliseconds; for MEMORY PURGE.
void PurgeAllocator();

/// Lets the allocator return pages from a thread of its own instead of while it serves requests.
/// Nothing where there is no such thread.
void SetAllocatorBackgroundThread(bool on);

/// "jemalloc-5.3.0" or "libc".
const char* AllocatorName();

}  // namespace cairn

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

/// Cost: about 10 us (refreshes jemalloc's epoch, reads /proc/self/statm). Blob arena memory is
/// mapped directly and shows in rss only; add BlobArena's counters.
MemoryFigures ReadMemoryFigures();

/// Bytes that the calling thread ever got from the allocator, and all threads in spans, given back
/// or not: what the thread uses cannot have grown by more. 0 when the allocator does not tell (all
/// but jemalloc). Cost: two loads.
uint64_t ThreadAllocatedBytes();

/// Bytes that the calling thread has got from the allocator less those it gave back, also of other
/// threads; 0 when the allocator does not tell. Of one thread only differences mean something.
int64_t ThreadLiveBytes();

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

#include "server/platform/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "server/base/sanitizers.h"
#include "server/platform/span_heap.h"

#if defined(CAIRN_JEMALLOC)
#include <jemalloc/jemalloc.h>

#include <string>
#else
#include <malloc.h>
#if CAIRN_SANITIZED
// Declared here because GCC ships the functions without allocator_interface.h.
extern "C" {
size_t __sanitizer_get_current_allocated_bytes(void);
size_t __sanitizer_get_heap_size(void);
size_t __sanitizer_get_free_bytes(void);
}
#endif
#endif

namespace cairn {
namespace {

uint64_t ResidentSetSize() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long total_pages = 0;
  unsigned long long resident_pages = 0;
  const int fields = std::fscanf(file, "%llu %llu", &total_pages, &resident_pages);
  std::fclose(file);
  return fields == 2 ? resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

#if defined(CAIRN_JEMALLOC)

uint64_t ReadStatistic(const char* name) {
  size_t value = 0;
  size_t size = sizeof(value);
  return ::mallctl(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}

uint64_t ReadHeapBytes() {
  // jemalloc gathers its statistics only when the epoch advances.
  uint64_t epoch = 1;
  size_t size = sizeof(epoch);
  ::mallctl("epoch", &epoch, &size, &epoch, size);
  // What threads keep in their caches was freed, though the arenas still count it as handed out.
  static const std::string cached_name =
      "stats.arenas." + std::to_string(MALLCTL_ARENAS_ALL) + ".tcache_bytes";
  const uint64_t allocated = ReadStatistic("stats.allocated");
  const uint64_t cached = ReadStatistic(cached_name.c_str());
  return allocated > cached ? allocated - cached : 0;
}

MemoryFigures ReadAllocatorFigures() {
  return {.allocated = ReadHeapBytes(),
          .active = ReadStatistic("stats.active"),
          .resident = ReadStatistic("stats.resident"),
          .rss = ResidentSetSize(),
          .retained = ReadStatistic("stats.retained")};
}

/// A counter that jemalloc keeps for the calling thread; nullptr: it has none of the name.
const uint64_t* CounterOfThread(const char* name) {
  uint64_t* pointer = nullptr;
  size_t size = sizeof(pointer);
  return ::mallctl(name, &pointer, &size, nullptr, 0) == 0 ? pointer : nullptr;
}

uint64_t AllocatorBytesOfThread() {
  static thread_local const uint64_t* const counter = CounterOfThread("thread.allocatedp");
  return counter != nullptr ? *counter : 0;
}

uint64_t FreedBytesOfThread() {
  static thread_local const uint64_t* const counter = CounterOfThread("thread.deallocatedp");
  return counter != nullptr ? *counter : 0;
}

void PurgeHeap() {
  const std::string name = "arena." + std::to_string(MALLCTL_ARENAS_ALL) + ".purge";
  ::mallctl(name.c_str(), nullptr, nullptr, nullptr, 0);
}

#else

MemoryFigures ReadAllocatorFigures() {
  MemoryFigures figures;
  figures.rss = ResidentSetSize();
#if CAIRN_SANITIZED
  // Sanitizers replace the allocator, and mallinfo2 then reports zeros.
  figures.allocated = __sanitizer_get_current_allocated_bytes();
  figures.active = figures.allocated;
  figures.resident = __sanitizer_get_heap_size();
  figures.retained = __sanitizer_get_free_bytes();
#else
  const struct mallinfo2 heap = ::mallinfo2();
  figures.allocated = heap.uordblks + heap.hblkhd;
  figures.active = heap.arena + heap.hblkhd;
  figures.resident = figures.active;
#endif
  return figures;
}

uint64_t ReadHeapBytes() { return ReadAllocatorFigures().allocated; }

uint64_t AllocatorBytesOfThread() { return 0; }
uint64_t FreedBytesOfThread() { return 0; }

void PurgeHeap() {
#if !CAIRN_SANITIZED
  ::malloc_trim(0);
#endif
}

#endif

}  // namespace

#if defined(CAIRN_JEMALLOC)

void SetAllocatorBackgroundThread(bool on) {
  ::mallctl("background_thread", nullptr, nullptr, &on, sizeof(on));
}

#define CAIRN_TEXT_OF(x) #x
#define CAIRN_TEXT(x) CAIRN_TEXT_OF(x)

const char* AllocatorName() {
  return "jemalloc-" CAIRN_TEXT(JEMALLOC_VERSION_MAJOR) "." CAIRN_TEXT(
      JEMALLOC_VERSION_MINOR) "." CAIRN_TEXT(JEMALLOC_VERSION_BUGFIX);
}

#else

void SetAllocatorBackgroundThread(bool) {}

const char* AllocatorName() { return "libc"; }

#endif

MemoryFigures ReadMemoryFigures() {
  MemoryFigures figures = ReadAllocatorFigures();
  const SpanHeap& spans = ProcessSpans();
  figures.allocated += spans.taken_bytes();
  figures.active += spans.taken_bytes();
  figures.resident += spans.held_bytes();
  return figures;
}

uint64_t ReadAllocatedBytes() { return ReadHeapBytes() + ProcessSpans().taken_bytes(); }

const MemoryFigures& MemorySample::Read(int64_t now_us) {
  if (AllocatorBytesOfThread() != 0 && now_us - read_us_ < kMaxAgeUs &&
      std::abs(Grown()) < kMaxGrown)
    return figures_;
  figures_ = ReadMemoryFigures();
  read_us_ = now_us;
  live_bytes_ = ThreadLiveBytes();
  span_bytes_ = ProcessSpans().taken_bytes();
  return figures_;
}

int64_t MemorySample::Grown() const {
  return ThreadLiveBytes() - live_bytes_ +
         static_cast<int64_t>(ProcessSpans().taken_bytes() - span_bytes_);
}

uint64_t MemorySample::AllocatedBytes() const {
  return static_cast<uint64_t>(
      std::max<int64_t>(static_cast<int64_t>(figures_.allocated) + Grown(), 0));
}

int64_t ThreadLiveBytes() {
  return static_cast<int64_t>(AllocatorBytesOfThread() - FreedBytesOfThread());
}

uint64_t ThreadAllocatedBytes() {
  const uint64_t bytes = AllocatorBytesOfThread();
  return bytes == 0 ? 0 : bytes + ProcessSpans().ever_taken_bytes();
}

void PurgeAllocator() {
  ProcessSpans().ReleaseFree();
  PurgeHeap();
}

size_t UsableSize(const void* pointer) { return ::malloc_usable_size(const_cast<void*>(pointer)); }

uint64_t TotalSystemMemory() {
  // Two system calls, and asked for with each piece of a checkpoint.
  static const uint64_t bytes = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace cairn

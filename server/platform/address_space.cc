#include "server/platform/address_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

namespace cairn {
namespace {

/// No MAP_NORESERVE: the system shall refuse what is more than the machine has.
char* Map(size_t bytes) {
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return map == MAP_FAILED ? nullptr : static_cast<char*>(map);
}

}  // namespace

AddressSpace::~AddressSpace() {
  for (const auto& [begin, bytes] : maps_) ::munmap(begin, bytes);
}

char* AddressSpace::Take(size_t bytes) {
  bytes = RoundUp(bytes, kAlignment);
  std::lock_guard lock(mutex_);
  if (char* const range = free_.Take(bytes)) return range;
  // One alignment more, as the system aligns to pages only.
  size_t wide = std::max(bytes, map_bytes_) + kAlignment;
  char* begin = Map(wide);
  // A limit of address space may leave room for what is needed now.
  if (begin == nullptr) begin = Map(wide = bytes + kAlignment);
  if (begin == nullptr) return nullptr;
  maps_.emplace_back(begin, wide);
  const size_t head =
      RoundUp(reinterpret_cast<uintptr_t>(begin), kAlignment) - reinterpret_cast<uintptr_t>(begin);
  // Advice only: without huge pages everything still works, slower.
  ::madvise(begin + head, wide - kAlignment,
            pages_ == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  free_.Insert(begin + head, wide - kAlignment);
  return free_.Take(bytes);
}

void AddressSpace::Give(char* range, size_t bytes) {
  bytes = RoundUp(bytes, kAlignment);
  ::madvise(range, bytes, MADV_DONTNEED);
  std::lock_guard lock(mutex_);
  free_.Insert(range, bytes);
}

}  // namespace cairn

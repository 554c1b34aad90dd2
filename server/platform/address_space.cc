#include "server/platform/address_space.h"

#include <sys/mman.h>

#include <cstdint>
#include <iterator>

namespace cairn {
namespace {

constexpr size_t RoundUp(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

/// No MAP_NORESERVE: the system shall refuse what is more than the machine has.
char* Map(size_t bytes) {
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return map == MAP_FAILED ? nullptr : static_cast<char*>(map);
}

}  // namespace

AddressSpace::~AddressSpace() {
  for (const auto& [begin, bytes] : spans_) ::munmap(begin, bytes);
}

char* AddressSpace::Take(size_t bytes) {
  bytes = RoundUp(bytes, kAlignment);
  std::lock_guard lock(mutex_);
  auto found = by_size_.lower_bound({bytes, nullptr});
  if (found == by_size_.end()) {
    // One alignment more, as the system aligns to pages only.
    size_t wide = (bytes > kSpanBytes ? bytes : kSpanBytes) + kAlignment;
    char* begin = Map(wide);
    // A limit of address space may leave room for what is needed now.
    if (begin == nullptr) begin = Map(wide = bytes + kAlignment);
    if (begin == nullptr) return nullptr;
    spans_.emplace_back(begin, wide);
    const size_t head = RoundUp(reinterpret_cast<uintptr_t>(begin), kAlignment) -
                        reinterpret_cast<uintptr_t>(begin);
    // Advice only: without huge pages everything still works, slower.
    ::madvise(begin + head, wide - kAlignment, MADV_HUGEPAGE);
    Insert(begin + head, wide - kAlignment);
    found = by_size_.lower_bound({bytes, nullptr});
  }
  const auto [size, range] = *found;
  Erase(free_.find(range));
  if (size > bytes) Insert(range + bytes, size - bytes);
  return range;
}

void AddressSpace::Give(char* range, size_t bytes) {
  bytes = RoundUp(bytes, kAlignment);
  ::madvise(range, bytes, MADV_DONTNEED);
  std::lock_guard lock(mutex_);
  Insert(range, bytes);
}

void AddressSpace::Insert(char* range, size_t bytes) {
  auto next = free_.lower_bound(range);
  if (next != free_.end() && range + bytes == next->first) {
    bytes += next->second;
    const auto joined = next++;
    Erase(joined);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == range) {
      range = before->first;
      bytes += before->second;
      Erase(before);
    }
  }
  free_.emplace(range, bytes);
  by_size_.emplace(bytes, range);
}

void AddressSpace::Erase(std::map<char*, size_t>::iterator range) {
  by_size_.erase({range->second, range->first});
  free_.erase(range);
}

}  // namespace cairn

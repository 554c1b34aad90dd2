#include "server/base/listpack_index.h"

#include <algorithm>
#include <bit>

#include "server/base/hash.h"
#include "server/base/strings.h"

namespace cairn {

uint32_t ListpackIndex::HashOf(std::string_view text) const {
  return static_cast<uint32_t>(HashBytes(text, seed_));
}

void ListpackIndex::Put(Slot slot) {
  const size_t mask = slots_.size() - 1;
  size_t i = slot.hash & mask;
  while (slots_[i].at != 0) i = (i + 1) & mask;
  slots_[i] = slot;
}

void ListpackIndex::MakeRoom(size_t elements) {
  if (elements * 2 <= slots_.size()) return;
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max<size_t>(kFewestSlots, std::bit_ceil(elements * 2)), Slot{});
  for (const Slot& slot : old) {
    if (slot.at != 0) Put(slot);
  }
}

uint32_t ListpackIndex::Find(const ListpackView& view, std::string_view text) {
  if (slots_.empty()) {
    const uint32_t count = view.count() / (1 + skip_);
    if (passed_ < uint64_t{count} * kPassedForOne) {
      passed_ += count;
      return view.Find(text, view.begin(), skip_);
    }
    MakeRoom(count + 1);
    char scratch[kMaxInt64Chars];
    for (uint32_t at = view.begin(); at != view.end();) {
      Added(view.Get(at).Text(scratch), at);
      for (uint32_t i = 0; i <= skip_ && at != view.end(); ++i) at = view.Next(at);
    }
  }
  const uint32_t hash = HashOf(text);
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i].at != 0; i = (i + 1) & mask) {
    if (slots_[i].hash == hash && view.Get(slots_[i].at).Equals(text)) return slots_[i].at;
  }
  return view.end();
}

void ListpackIndex::Added(std::string_view text, uint32_t at) {
  if (slots_.empty()) return;
  MakeRoom(++used_);
  Put({HashOf(text), at});
}

void ListpackIndex::Resized(uint32_t at, int64_t growth) {
  if (growth == 0) return;
  for (Slot& slot : slots_) {
    if (slot.at > at) slot.at = static_cast<uint32_t>(slot.at + growth);
  }
}

void ListpackIndex::Forget() {
  slots_.clear();
  used_ = 0;
  passed_ = 0;
}

bool ListpackIndex::HoldsTwice(const ListpackView& view, uint32_t skip, uint64_t seed) {
  ListpackIndex index(skip, seed);
  index.MakeRoom(view.count() / (1 + skip) + 1);
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end();) {
    const std::string_view text = view.Get(at).Text(scratch);
    if (index.Find(view, text) != view.end()) return true;
    index.Added(text, at);
    for (uint32_t i = 0; i <= skip && at != view.end(); ++i) at = view.Next(at);
  }
  return false;
}

}  // namespace cairn

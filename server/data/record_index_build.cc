// RecordIndex::Build: the index of many records at once, from its pages up. Inserting them one by
// one splits each page about once per record it ends with, and each split hashes 70 members that
// lie anywhere in memory; here each member is hashed once, where it was just made. The trie is the
// one that the inserts would have made.

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "server/base/check.h"
#include "server/base/prefetch.h"
#include "server/data/record_index.h"

namespace cairn {

/// The records below one place of a directory of the full width, as far as it is known yet.
class RecordIndex::Digits {
 public:
  static constexpr int kSlots = 1 << kMaxDirectoryBits;

  /// Sorts `items`, whose hashes agree in `depth` bits, by the bits that a directory there goes by.
  Digits(std::span<Hashed> items, int depth) : items_(items) {
    const auto digit = [depth](const Hashed& item) {
      return item.hash << depth >> (64 - kMaxDirectoryBits);
    };
    for (const Hashed& item : items) ++begin_[digit(item) + 1];
    for (int i = 0; i < kSlots; ++i) begin_[i + 1] += begin_[i];
    // In place, each item straight to where its digit's next one belongs.
    std::array<size_t, kSlots + 1> next = begin_;
    for (size_t own = 0; own < kSlots; ++own) {
      while (next[own] < begin_[own + 1]) {
        Hashed& here = items[next[own]];
        const size_t wanted = digit(here);
        if (wanted == own) {
          ++next[own];
        } else {
          std::swap(here, items[next[wanted]++]);
        }
      }
    }
  }
  /// The items of the slots [from, to).
  std::span<Hashed> Of(int from, int to) const {
    return items_.subspan(begin_[from], begin_[to] - begin_[from]);
  }
  /// How many bits a directory needs so that the items of [from, to) have pages of their own, or
  /// the full width. Slots that are one page's are so many that their number tells its depth.
  int BitsFor(int from, int to) const {
    const int bits = kMaxDirectoryBits - std::countr_zero(static_cast<unsigned>(to - from));
    if (bits == kMaxDirectoryBits || Of(from, to).size() <= kPageRecords) return bits;
    const int middle = from + (to - from) / 2;
    return std::max(BitsFor(from, middle), BitsFor(middle, to));
  }

 private:
  std::span<Hashed> items_;
  std::array<size_t, kSlots + 1> begin_ = {};
};

bool RecordIndex::Build(std::span<const ScoredRecord* const> records) {
  CAIRN_CHECK(root_ == nullptr);
  if (records.empty()) return true;
  std::vector<Hashed> items;
  items.reserve(records.size());
  constexpr size_t kAhead =
      16;  // where records were freed before, new ones are all over the memory
  for (size_t i = 0; i < records.size(); ++i) {
    if (i + kAhead < records.size()) PrefetchLine(records[i + kAhead]);
    items.push_back({HashOf(records[i]), records[i]});
    record_bytes_ += RecordSlab::RoundUp(records[i]->bytes());
  }
  bool unique = true;
  root_ = BuildDirectory(items, 0, &unique);
  return unique;
}

RecordIndex::Directory* RecordIndex::BuildDirectory(std::span<Hashed> items, int depth,
                                                    bool* unique) {
  const Digits digits(items, depth);
  Directory* directory = NewDirectory(depth, digits.BitsFor(0, Digits::kSlots));
  BuildSlots(directory, digits, 0, Digits::kSlots, unique);
  return directory;
}

// Fills the slots that [from, to) of the full width are of `directory`.
void RecordIndex::BuildSlots(Directory* directory, const Digits& digits, int from, int to,
                             bool* unique) {
  const std::span<Hashed> items = digits.Of(from, to);
  const int width = to - from;
  const int depth =
      directory->depth + kMaxDirectoryBits - std::countr_zero(static_cast<unsigned>(width));
  if (items.size() <= kPageRecords || depth >= kMaxDepth) {
    const int shift = kMaxDirectoryBits - directory->bits;
    std::fill(directory->slots + (from >> shift), directory->slots + (to >> shift),
              SlotFor(BuildPage(items, depth, unique)));
  } else if (width == 1) {
    directory->slots[from] = SlotFor(BuildDirectory(items, depth, unique));
  } else {
    BuildSlots(directory, digits, from, from + width / 2, unique);
    BuildSlots(directory, digits, from + width / 2, to, unique);
  }
}

RecordIndex::Page* RecordIndex::BuildPage(std::span<const Hashed> items, int depth, bool* unique) {
  Page* page = NewPage(depth);
  for (const Hashed& item : items) {
    if (page->count == kPageRecords) {
      // So many that agree in kMaxDepth bits are one member, many times over.
      *unique = false;
      record_bytes_ -= RecordSlab::RoundUp(item.record->bytes());
      owner_.home().slab->Free(const_cast<ScoredRecord*>(item.record), item.record->bytes());
      continue;
    }
    for (int i = 0; i < page->count; ++i) {
      if (items[static_cast<size_t>(i)].hash == item.hash &&
          page->record(i)->member() == item.record->member())
        *unique = false;
    }
    page->Append(item.record, Fingerprint(item.hash), /*is_shared_record=*/false);
  }
  size_ += page->count;
  return page;
}

}  // namespace cairn

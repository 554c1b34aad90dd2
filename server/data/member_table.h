#pragma once

// MemberTable: the members of a big hash or set (and the member index of anything else that wants
// one), found by hash in O(1), kept in hash order at the grain of a page. A trie of small
// extendible directories over MemberPages: each directory names pages or directories by up to 8
// more bits of the hash, and a page that is full splits alone. So nothing ever grows by more than a
// page and a directory of 2 KiB, SCAN has a place in the order as its cursor, and a view shares all
// but what was written after its cut. Why not SegTable: its records are allocations of their own
// with a slot of 8 bytes each, which cost a third more memory at 16-byte members than these pages,
// and as many frees as there are members.
//
// Not a value by itself: it belongs to a Container, whose rules (F1 to F5) it follows for its
// directories, its pages and the blobs of long records. Thread: as the container.
//
//   T1  A page of depth d holds the records whose hash begins with its d bits, and stands in all
//       2^(directory end - d) slots of its directory that begin so.
//   T2  A directory below another stands in exactly one slot.
//   T3  Kept counters (size, bytes, pages) equal what a walk finds.

#include <cstdint>
#include <string_view>

#include "server/data/container.h"
#include "server/data/member_page.h"

namespace cairn {

class MemberTable {
 public:
  /// An empty table of `owner`, with a value to each member or without.
  MemberTable(Container& owner, bool has_values);
  /// Takes over everything that `old` reaches: for Fork. Cost: O(1).
  MemberTable(Container& owner, const MemberTable& old);
  MemberTable(const MemberTable&) = delete;
  MemberTable& operator=(const MemberTable&) = delete;
  ~MemberTable() = default;
  /// Frees everything. Requires: the owner still owns its nodes. Thread: any. Cost: O(pages).
  void Destroy();

  uint64_t size() const { return size_; }
  /// Bytes of directories, pages and long records.
  uint64_t bytes() const { return bytes_; }
  /// Blocks a free has to visit.
  uint64_t block_count() const { return pages_ + externals_; }
  uint64_t page_count() const { return pages_; }

  /// Returns false when absent. Borrows until the table changes. Cost: O(1).
  bool Find(std::string_view key, Member* out = nullptr) const;
  /// Container::PrefetchMember.
  void Prefetch(std::string_view key, int pass) const;
  /// Adds a member or sets its value. Returns true when it is new. Cost: O(1), now and then a
  /// split.
  bool Set(std::string_view key, std::string_view value);
  bool Insert(std::string_view key) { return Set(key, {}); }
  /// Returns false when absent.
  bool Erase(std::string_view key);

  /// Every member, by pages in hash order: visit(const Member&) -> bool goes on. at_page(first hash
  /// of the page) comes before the members of a page, when those before it are not read any more.
  template <typename Visit, typename AtPage>
  bool ForEach(Visit&& visit, AtPage&& at_page) const {
    return root_ == nullptr || ForEachIn(*root_, 0, visit, at_page);
  }
  template <typename Visit>
  bool ForEach(Visit&& visit) const {
    return ForEach(visit, [](uint64_t) {});
  }
  /// Whether `page` is the one that `hash` falls into. Does not read the page.
  bool Reaches(const MemberPage* page, uint64_t hash) const {
    return root_ != nullptr && PageOf(hash) == page;
  }
  /// What the table and its forks have in common, and no other table of the keyspace ever had. A
  /// view holds one of them at most: no two of its keys hold the same table (COPY clones).
  uint64_t id() const { return id_; }
  /// The hash of the member that the blob of a long record holds.
  uint64_t HashOf(const Blob& blob) const { return member_record::ExternalHash(blob, seed()); }
  /// Visits about `count` members from the place `cursor` (0 = start) on; returns the next place, 0
  /// at the end. Each member present throughout is seen exactly once over a full scan, whatever
  /// changes meanwhile. Cursors fit in 52 bits. Cost: O(count + members of a page).
  template <typename Visit>
  uint64_t Scan(uint64_t cursor, uint64_t count, Visit&& visit) const;
  /// A fair random member. Requires: size() > 0. `random` seeds the choice.
  Member Random(uint64_t random) const;

  void CheckInvariants() const;

 private:
  static constexpr int kMaxDirectoryBits = 8;
  static constexpr int kMaxDepth = 48;  // 17 members that agree in so many bits do not happen
  static constexpr int kMaxLevels = kMaxDepth / kMaxDirectoryBits + 2;
  static constexpr int kCursorShift = 12;

  struct Directory {
    uint64_t generation;
    uint8_t depth;  // bits of hash before its own
    uint8_t bits;
    __extension__ uint64_t slots[];

    static size_t Bytes(int bits) { return sizeof(Directory) + (size_t{8} << bits); }
    size_t slot_count() const { return size_t{1} << bits; }
    int end_depth() const { return depth + bits; }
    size_t SlotOf(uint64_t hash) const { return hash << depth >> 1 >> (63 - bits); }
  };
  // A slot: address of a page, or of a directory with bit 0 set.
  static uint64_t Slot(const MemberPage* page) { return reinterpret_cast<uint64_t>(page); }
  static uint64_t Slot(const Directory* directory) {
    return reinterpret_cast<uint64_t>(directory) | 1;
  }
  static bool IsDirectory(uint64_t slot) { return slot & 1; }
  static Directory* AsDirectory(uint64_t slot) {
    return reinterpret_cast<Directory*>(slot & ~uint64_t{1});
  }
  static MemberPage* AsPage(uint64_t slot) { return reinterpret_cast<MemberPage*>(slot); }

  // The way from the root to a page.
  struct Path {
    Directory* directories[kMaxLevels];
    int levels = 0;
    MemberPage* page = nullptr;
    Directory*& last() { return directories[levels - 1]; }
  };

  uint64_t seed() const { return owner_.home().hash_seed; }
  Path Descend(uint64_t hash) const;
  const MemberPage* PageOf(uint64_t hash) const;
  MemberPage* NewPage(size_t bytes, int depth);
  /// `hash` falls into the page.
  void FreePage(MemberPage* page, uint64_t hash);
  Directory* NewDirectory(int depth, int bits);
  void FreeDirectory(Directory* directory);
  /// Makes the directories of the path writable, from the root on.
  void OwnPath(Path* path, uint64_t hash);
  void PutDirectory(Path* path, int level, uint64_t hash, Directory* fresh);
  void PutPage(Path* path, uint64_t hash, MemberPage* fresh);
  /// Puts a copy of the page, in a block for `bytes`, in its place.
  void CopyPage(Path* path, uint64_t hash, size_t bytes);
  void CopyRecord(const MemberPage& from, size_t i, MemberPage* to) const;
  void Split(Path* path, uint64_t hash);
  void SplitInto(const MemberPage& page, MemberPage** halves);
  void Shrink(Path* path, uint64_t hash);
  bool Merge(Path* path, uint64_t hash);
  /// How a member is to be written.
  struct Record {
    const MemberKey& key;
    std::string_view value;
    MemberElement value_element;
    size_t bytes;
    bool external;
  };
  void Add(const Record& record);
  bool Overwrite(Path* path, size_t i, const Record& record);
  void DropRecord(MemberPage* page, size_t i);
  void DestroyIn(Directory* directory);
  // What a walk finds, for T3.
  struct Tally {
    uint64_t size = 0, bytes = 0, pages = 0, externals = 0;
  };
  void CheckDirectory(const Directory& directory, uint64_t prefix, Tally* found) const;
  void CheckPage(const MemberPage& page, uint64_t prefix, Tally* found) const;

  /// `prefix`: the hash bits above the directory's.
  template <typename Visit, typename AtPage>
  bool ForEachIn(const Directory& directory, uint64_t prefix, Visit& visit, AtPage& at_page) const;

  Container& owner_;
  const bool has_values_;
  const uint64_t id_;
  Directory* root_ = nullptr;
  uint64_t size_ = 0;
  uint64_t bytes_ = 0;
  uint64_t pages_ = 0;
  uint64_t externals_ = 0;
};

template <typename Visit, typename AtPage>
bool MemberTable::ForEachIn(const Directory& directory, uint64_t prefix, Visit& visit,
                            AtPage& at_page) const {
  for (size_t i = 0; i < directory.slot_count();) {
    const uint64_t slot = directory.slots[i];
    const uint64_t first = i == 0 ? prefix : prefix | uint64_t{i} << (64 - directory.end_depth());
    if (IsDirectory(slot)) {
      if (!ForEachIn(*AsDirectory(slot), first, visit, at_page)) return false;
      ++i;
      continue;
    }
    at_page(first);
    const MemberPage& page = *AsPage(slot);
    for (size_t record = 0; record < page.count; ++record) {
      if (!visit(member_record::Read(page.record(record), has_values_))) return false;
    }
    i += size_t{1} << (directory.end_depth() - page.depth);
  }
  return true;
}

template <typename Visit>
uint64_t MemberTable::Scan(uint64_t cursor, uint64_t count, Visit&& visit) const {
  constexpr uint64_t kCursorEnd = uint64_t{1} << (64 - kCursorShift);
  if (root_ == nullptr || cursor >= kCursorEnd) return 0;
  for (uint64_t seen = 0; seen < count;) {
    const uint64_t from = cursor << kCursorShift;
    const MemberPage& page = *PageOf(from);
    // A page is taken in parts, so that COUNT 10 does not mean a hundred.
    int part_bits = 0;
    while (uint64_t{page.count} >> part_bits > count && page.depth + part_bits < 64 - kCursorShift)
      ++part_bits;
    const int depth = page.depth + part_bits;
    const uint64_t width_less_one = depth == 0 ? UINT64_MAX : (uint64_t{1} << (64 - depth)) - 1;
    const uint64_t last = from | width_less_one;
    for (size_t i = 0; i < page.count; ++i) {
      const uint64_t hash = member_record::Hash(page.record(i), seed());
      if (hash < from || hash > last) continue;
      visit(member_record::Read(page.record(i), has_values_));
      ++seen;
    }
    if (last == UINT64_MAX) return 0;
    cursor = (last >> kCursorShift) + 1;
    if (page.count == 0) ++seen;  // empty pages bound the time too
  }
  return cursor;
}

}  // namespace cairn

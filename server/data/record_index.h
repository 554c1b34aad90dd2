#pragma once

// RecordIndex: finds the ScoredRecord of a member in O(1) and keeps the records in hash order at
// the grain of a page, which SCAN goes by. A trie of extendible directories over pages of 512
// bytes; a page that is full splits alone, so nothing grows by more than a page and a directory. It
// owns the records it points to. Copy-on-write by the rules of container.h; a page that was copied
// marks its records as shared with a view: those are replaced and retired, never edited or freed.
// Thread: as the container it belongs to.
//
//   I1  A page of depth d holds records whose hash begins with its d bits, and stands in all slots
//   of
//       its directory that begin so.
//   I2  A directory below another stands in exactly one slot.
//   I3  size, pages, directory_bytes and record_bytes are what a walk finds.

#include <cstdint>
#include <span>
#include <string_view>

#include "server/data/container.h"
#include "server/data/scored_record.h"

namespace cairn {

class RecordIndex {
 public:
  explicit RecordIndex(const Container& owner) : owner_(owner) {}
  RecordIndex(const RecordIndex&) = delete;
  RecordIndex& operator=(const RecordIndex&) = delete;
  /// Takes over everything that `old` reaches (F2). Cost: O(1).
  void ForkFrom(const RecordIndex& old);
  /// Frees everything, records included. Requires: the owner owns its nodes. Thread: any.
  void Destroy();

  uint64_t size() const { return size_; }
  /// Pages, directories and records.
  uint64_t Bytes() const { return pages_ * sizeof(Page) + directory_bytes_ + record_bytes_; }

  const ScoredRecord* Find(std::string_view member) const;
  /// Container::PrefetchMember.
  void Prefetch(std::string_view member, int pass) const;
  /// Adds a record. Requires: no record has its member.
  void Insert(const ScoredRecord* record);
  /// Fills an empty index. Takes over `records`, in any order. Returns false when a member comes
  /// twice; then the index is fit to be destroyed only, and may have freed some. Cost: O(n), and 16
  /// bytes a record while it runs.
  [[nodiscard]] bool Build(std::span<const ScoredRecord* const> records);
  /// Gives a member another score, in its record or a new one. Returns the record it now has.
  /// `may_edit`: the record may keep its place. Requires: the member is there.
  const ScoredRecord* SetScore(std::string_view member, double score);
  /// Takes a record out, and frees or retires it. Requires: it is there.
  void Erase(const ScoredRecord* record);

  /// Visits about `count` records from the place `cursor` (0 = start) on; returns the next place, 0
  /// at the end. A record present throughout is seen exactly once over a full scan. Cursors fit in
  /// 52 bits.
  template <typename Visitor>
  uint64_t Scan(uint64_t cursor, uint64_t count, Visitor&& visit) const;
  void CheckInvariants() const;

 private:
  static constexpr int kPageRecords = 70;
  static constexpr int kMaxDirectoryBits = 7;
  static constexpr int kMaxDepth = 48;  // 70 records that agree in so many bits do not happen
  static constexpr int kMaxLevels = kMaxDepth / kMaxDirectoryBits + 2;
  static constexpr int kCursorShift = 12;
  static constexpr int kJoinBelow = kPageRecords / 4;

  struct Page {
    uint64_t generation;
    uint8_t count;
    uint8_t depth;
    uint8_t shared[(kPageRecords + 7) / 8];  // bit i: a view may read record i
    uint8_t fingerprints[kPageRecords];
    uint8_t refs[kPageRecords * 6];

    const ScoredRecord* record(int i) const {
      uint64_t word = 0;
      std::memcpy(&word, refs + i * 6, 6);
      return reinterpret_cast<const ScoredRecord*>(word);
    }
    void set_record(int i, const ScoredRecord* record) {
      const auto word = reinterpret_cast<uint64_t>(record);
      std::memcpy(refs + i * 6, &word, 6);
    }
    bool is_shared(int i) const { return shared[i / 8] >> (i % 8) & 1; }
    void set_shared(int i, bool on) {
      shared[i / 8] = static_cast<uint8_t>((shared[i / 8] & ~(1u << (i % 8))) |
                                           static_cast<unsigned>(on) << (i % 8));
    }
    void Append(const ScoredRecord* record, uint8_t fingerprint, bool is_shared_record) {
      fingerprints[count] = fingerprint;
      set_record(count, record);
      set_shared(count, is_shared_record);
      ++count;
    }
  };
  static_assert(sizeof(Page) == 512);

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
  static uint64_t SlotFor(const Page* page) { return reinterpret_cast<uint64_t>(page); }
  static uint64_t SlotFor(const Directory* directory) {
    return reinterpret_cast<uint64_t>(directory) | 1;
  }
  static bool IsDirectory(uint64_t slot) { return slot & 1; }
  static Directory* AsDirectory(uint64_t slot) {
    return reinterpret_cast<Directory*>(slot & ~uint64_t{1});
  }
  static Page* AsPage(uint64_t slot) { return reinterpret_cast<Page*>(slot); }
  static uint8_t Fingerprint(uint64_t hash) { return static_cast<uint8_t>(hash); }

  struct Path {
    Directory* directories[kMaxLevels];
    int levels = 0;
    Page* page = nullptr;
    Directory* last() const { return directories[levels - 1]; }
  };

  uint64_t HashOf(std::string_view member) const;
  uint64_t HashOf(const ScoredRecord* record) const { return HashOf(record->member()); }
  Path Descend(uint64_t hash) const;
  static int FindIn(const Page& page, uint64_t hash, std::string_view member);
  Path OwnedPath(uint64_t hash);
  Page* NewPage(int depth);
  Directory* NewDirectory(int depth, int bits);
  void Discard(void* block, uint64_t generation, size_t bytes) const;
  void DiscardRecord(const Page& page, int i);
  static void PutPage(Directory* directory, uint64_t hash, Page* page);
  void ReplaceDirectory(Path* path, int level, uint64_t hash, Directory* fresh);
  void Split(Path* path, uint64_t hash);
  void Join(Path* path, uint64_t hash);
  void DestroyIn(Directory* directory);
  struct Hashed {
    uint64_t hash;
    const ScoredRecord* record;
  };
  class Digits;
  Directory* BuildDirectory(std::span<Hashed> items, int depth, bool* unique);
  void BuildSlots(Directory* directory, const Digits& digits, int from, int to, bool* unique);
  Page* BuildPage(std::span<const Hashed> items, int depth, bool* unique);
  struct Tally {
    uint64_t size = 0, pages = 0, directory_bytes = 0, record_bytes = 0;
  };
  void CheckDirectory(const Directory& directory, uint64_t prefix, Tally* found) const;

  const Container& owner_;
  Directory* root_ = nullptr;
  uint64_t size_ = 0;
  uint64_t pages_ = 0;
  uint64_t directory_bytes_ = 0;
  uint64_t record_bytes_ = 0;
};

template <typename Visitor>
uint64_t RecordIndex::Scan(uint64_t cursor, uint64_t count, Visitor&& visit) const {
  constexpr uint64_t kCursorEnd = uint64_t{1} << (64 - kCursorShift);
  if (root_ == nullptr || cursor >= kCursorEnd) return 0;
  for (uint64_t seen = 0; seen < count;) {
    const uint64_t from = cursor << kCursorShift;
    const Page& page = *Descend(from).page;
    // A page is taken in parts, so that COUNT 10 does not mean 70.
    int depth = page.depth;
    while (uint64_t{page.count} >> (depth - page.depth) > count && depth < 64 - kCursorShift)
      ++depth;
    const uint64_t last = from | (depth == 0 ? UINT64_MAX : (uint64_t{1} << (64 - depth)) - 1);
    for (int i = 0; i < page.count; ++i) {
      const uint64_t hash = HashOf(page.record(i));
      if (hash < from || hash > last) continue;
      visit(*page.record(i));
      ++seen;
    }
    if (last == UINT64_MAX) return 0;
    cursor = (last >> kCursorShift) + 1;
    if (page.count == 0) ++seen;  // empty pages bound the time too
  }
  return cursor;
}

}  // namespace cairn

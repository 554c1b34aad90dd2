#pragma once

// SegTable: hash table of records in hash order, with copy-on-write of its structure for snapshots.
// Extendible hashing by 256 partitions; a full segment splits alone, so no insert ever moves more
// than one segment. A record's place in the order (its hash) never changes, whatever splits or
// merges, which is what SCAN, expiry and snapshots build on. The table owns its structure and
// points to records it does not own: the caller frees what Exchange and Erase give back, or retires
// it when they say so (R4). Executor only. P (policy): Record, Hash, Key, ExpireAtMs; kBucketBits,
// kStashBuckets, kStashReserve, kSlots, kRootBits.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/check.h"
#include "server/base/prefetch.h"
#include "server/data/frame_pool.h"
#include "server/data/seg_layout.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

template <typename P>
class SegTable {
 public:
  using Record = typename P::Record;
  using Seg = Segment<P>;

  /// Where a record stands. Valid until the table changes. segment == nullptr: absent.
  struct Place {
    Seg* segment = nullptr;
    int bucket = 0;
    int slot = 0;
    explicit operator bool() const { return segment != nullptr; }
    uint64_t& word() const { return segment->buckets[bucket].slots[slot]; }
    Record* record() const { return reinterpret_cast<Record*>(word() & kSlotPointerMask); }
  };

  SegTable(SnapshotGate* gate, FramePool* frames, uint64_t seed)
      : gate_(gate), frames_(frames), seed_(seed) {}
  SegTable(const SegTable&) = delete;
  SegTable& operator=(const SegTable&) = delete;
  /// Frees the structure, not the records. Requires: no view reads it.
  ~SegTable() {
    DestroyStructure([this](Seg* segment) { frames_->Give(segment); });
  }

  uint64_t size() const { return size_; }
  uint64_t structure_bytes() const { return structure_bytes_; }
  uint64_t segment_count() const { return segment_count_; }
  uint64_t HashOf(std::string_view key) const { return P::Hash(key, seed_); }

  // The three steps of a look-up for a batch, each of which needs what the one before asked for:
  // the directory's slot, the bucket, the record.
  void PrefetchSlot(uint64_t hash) const {
    if (root_ == nullptr) return;
    // All directories are about as deep as the first one, whose header is at hand.
    const uint32_t depth = root_->partitions[0]->depth;
    const Directory* directory = root_->partitions[root_->PartitionOf(hash)];
    PrefetchLine(directory);
    PrefetchLine(&directory->slots[hash << root_->bits >> 1 >> (63 - depth)]);
  }
  // A look-up that changes nothing does not read the segment's header.
  void PrefetchBucket(uint64_t hash, bool for_write) const {
    if (root_ == nullptr) return;
    const uint64_t ref = *root_->SlotOf(hash);
    const Seg* segment = SegmentRef::Get<P>(ref);
    if (for_write) PrefetchLine(segment);
    PrefetchLine(&segment->buckets[BucketOf(ref, hash)]);
  }
  void PrefetchRecord(uint64_t hash) const {
    if (root_ == nullptr) return;
    const uint64_t ref = *root_->SlotOf(hash);
    const Bucket& bucket = SegmentRef::Get<P>(ref)->buckets[BucketOf(ref, hash)];
    for (uint32_t match = bucket.Match(Fingerprint(hash)); match; match &= match - 1) {
      // A short record begins in one line and often ends in the next.
      constexpr size_t kShortRecordBytes = 40;
      const char* record =
          reinterpret_cast<const char*>(bucket.slots[__builtin_ctz(match)] & kSlotPointerMask);
      PrefetchLine(record);
      PrefetchLine(record + kShortRecordBytes);
    }
  }

  /// Cost: the bucket's line and the record's, more only when the bucket has overflowed.
  Place Find(uint64_t hash, std::string_view key) const {
    if (root_ == nullptr) [[unlikely]]
      return {};
    const uint64_t ref = *root_->SlotOf(hash);
    Seg* segment = SegmentRef::Get<P>(ref);
    int at = BucketOf(ref, hash);
    for (;;) {
      const Bucket& bucket = segment->buckets[at];
      for (uint32_t match = bucket.Match(Fingerprint(hash)); match; match &= match - 1) {
        const int slot = __builtin_ctz(match);
        const uint64_t word = bucket.slots[slot];
        if (word >> 48 != SlotHash(hash)) continue;
        if (P::Key(*reinterpret_cast<const Record*>(word & kSlotPointerMask)) == key)
          return {segment, at, slot};
      }
      if (bucket.link == 0) [[likely]]
        return {};
      at = Seg::LinkTarget(bucket.link);
    }
  }

  /// R2: makes the segment of `place` writable, copying it when a view still needs it.
  void Own(Place* place) { place->segment = OwnSegment(place->segment); }
  /// R3: whether the record may be changed in place. Requires: owned.
  bool IsPrivate(const Place& place, uint64_t hash) const {
    return !(place.word() & kSlotShared) || gate_->Passed(Position(hash) + 1);
  }

  /// Requires: the key is absent. Cost: O(1), now and then one split.
  void Insert(uint64_t hash, Record* record) {
    if (root_ == nullptr) CreateRoot();
    CAIRN_CHECK((reinterpret_cast<uint64_t>(record) & ~kSlotPointerMask) == 0);
    for (;;) {
      Seg* segment = OwnSegment(SegmentOf(hash));
      if (segment->Place(hash, MakeSlot(record, hash))) {
        segment->earliest_expiry_ms = std::min(segment->earliest_expiry_ms, P::ExpireAtMs(*record));
        ++size_;
        return;
      }
      Split(segment);
    }
  }

  /// What left the table and whether a view may still read it.
  struct Removed {
    Record* record;
    bool shared;
  };
  /// Puts another record of the same key. Requires: owned.
  Removed Exchange(const Place& place, uint64_t hash, Record* record) {
    const Removed removed{place.record(), !IsPrivate(place, hash)};
    place.word() = MakeSlot(record, hash);
    place.segment->earliest_expiry_ms =
        std::min(place.segment->earliest_expiry_ms, P::ExpireAtMs(*record));
    return removed;
  }
  /// Requires: owned. May merge the segment with its buddy, and what they become with its own.
  Removed Erase(const Place& place, uint64_t hash) {
    const Removed removed{place.record(), !IsPrivate(place, hash)};
    Seg* segment = place.segment;
    segment->Clear(place.bucket, place.slot);
    --size_;
    if (segment->count <= kMergeBelow && segment->count % kMergeCheckEvery == 0) TryMerge(segment);
    return removed;
  }
  /// Keeps the segment's bound when an expiry was edited in place.
  void NoteExpiry(const Place& place, int64_t expire_at_ms) {
    place.segment->earliest_expiry_ms = std::min(place.segment->earliest_expiry_ms, expire_at_ms);
  }
  /// Sets the bound to what a full look found, where the header may be written without a copy.
  void TightenExpiry(Seg* segment, int64_t earliest_ms) {
    if (ReadersOf(segment) == 0) segment->earliest_expiry_ms = earliest_ms;
  }

  /// The cut froze this table as the `cut_index`-th of the walk's order.
  void FreezeAs(uint32_t cut_index) {
    base_ = static_cast<uint64_t>(cut_index) << kPositionHashBits;
    frozen_generation_ = gate_->generation();
  }
  /// Its place in the walk's order; holds while a view that froze it is open.
  uint32_t cut_index() const { return static_cast<uint32_t>(base_ >> kPositionHashBits); }
  /// Whether an open view froze this table: then it keeps its place in later cuts.
  bool HasPlace() const {
    return gate_->active() && frozen_generation_ >= gate_->OldestOpened() - 1;
  }
  /// The views (bits) that froze this table and have not come to their end. What never had a
  /// structure at their cut they do not read.
  unsigned Readers() const { return gate_->Readers(made_generation_, kWatermarkEnd); }
  Root* root() const { return root_; }
  uint64_t Position(uint64_t hash) const { return PositionOf(base_, hash); }

  /// The segment that covers `hash`; nullptr in a table never written.
  Seg* SegmentOf(uint64_t hash) const {
    return root_ ? SegmentRef::Get<P>(*root_->SlotOf(hash)) : nullptr;
  }
  /// First hash after the segment; 0 = it was the last.
  static uint64_t HashAfter(const Seg* segment) {
    return segment->depth ? segment->prefix + (uint64_t{1} << (64 - segment->depth)) : 0;
  }

  /// visit(Record&) -> bool goes on; by segments in hash order. The table must not change
  /// meanwhile.
  template <typename Visit>
  bool ForEach(Visit&& visit) const {
    uint64_t hash = 0;
    Seg* segment = SegmentOf(0);
    while (segment) {
      if (!ForEachIn(segment, visit)) return false;
      hash = HashAfter(segment);
      segment = hash ? SegmentOf(hash) : nullptr;
    }
    return true;
  }
  template <typename Visit>
  static bool ForEachIn(Seg* segment, Visit&& visit) {
    for (Bucket& bucket : segment->buckets) {
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        if (!visit(
                *reinterpret_cast<Record*>(bucket.slots[__builtin_ctz(used)] & kSlotPointerMask)))
          return false;
      }
    }
    return true;
  }

  uint64_t Scan(uint64_t cursor, size_t min_buckets, const auto& visit) const;
  Record* Random(uint64_t random) const;
  /// From a record that `random` picks, onwards in hash order and round the end, until
  /// visit(const Record&) -> bool is false or everything was visited once. skip(Seg&) -> bool
  /// leaves out whole segments. The table must not change meanwhile, but for TightenExpiry.
  void VisitFromRandom(uint64_t random, const auto& skip, const auto& visit);
  void Reserve(uint64_t keys);
  void CheckInvariants() const;
  /// Visits all structure once, freeing segments through `free_segment`. For the destructor and the
  /// reaper.
  template <typename FreeSegment>
  void DestroyStructure(FreeSegment&& free_segment);

  static constexpr int kCursorShift = 12;  ///< SCAN cursors keep the top 52 bits of the hash
  static constexpr int kMaxDepth =
      40;  ///< segments this deep would need 550 keys that agree in 40 hash bits

 private:
  static constexpr uint32_t kMergeBelow = Seg::kCapacity / 4;
  static constexpr uint32_t kMergeCheckEvery = Seg::kCapacity >= 64 ? 16 : 1;
  static constexpr uint32_t kMergedAtMost = Seg::kCapacity * 2 / 5;
  static constexpr int kMaxReservedDepth = 14;

  struct Item {
    uint64_t hash;
    uint64_t word;
  };

  static int BucketOf(uint64_t ref, uint64_t hash) {
    return static_cast<int>(hash << SegmentRef::Depth(ref) >> (64 - P::kBucketBits));
  }
  // One past the segment's last position.
  uint64_t EndOf(const Seg* segment) const {
    return Position(segment->prefix) + (uint64_t{1} << (kPositionHashBits - segment->depth));
  }
  uint64_t RecordHash(uint64_t word) const {
    return P::Hash(P::Key(*reinterpret_cast<const Record*>(word & kSlotPointerMask)), seed_);
  }

  Seg* NewSegment(uint64_t prefix, int depth) {
    Seg* segment = static_cast<Seg*>(frames_->Take());
    std::memset(static_cast<void*>(segment), 0, sizeof(Seg));
    segment->generation = gate_->generation();
    segment->prefix = prefix;
    segment->depth = static_cast<uint8_t>(depth);
    segment->earliest_expiry_ms = INT64_MAX;
    structure_bytes_ += sizeof(Seg);
    ++segment_count_;
    return segment;
  }
  void FreeSegment(Seg* segment) {
    structure_bytes_ -= sizeof(Seg);
    --segment_count_;
    frames_->Give(segment);
  }
  Directory* NewDirectory(uint32_t depth) {
    Directory* directory = static_cast<Directory*>(std::malloc(Directory::Bytes(depth)));
    CAIRN_CHECK(directory != nullptr);
    directory->generation = gate_->generation();
    directory->depth = depth;
    directory->deepest = 0;
    structure_bytes_ += Directory::Bytes(depth);
    return directory;
  }
  Root* NewRoot(uint32_t bits) {
    Root* root = static_cast<Root*>(std::malloc(Root::Bytes(bits)));
    CAIRN_CHECK(root != nullptr);
    root->generation = gate_->generation();
    root->bits = bits;
    root->unused = 0;
    structure_bytes_ += Root::Bytes(bits);
    return root;
  }
  void CreateRoot() {
    made_generation_ = gate_->generation();
    root_ = NewRoot(0);
    root_->partitions[0] = NewDirectory(0);
    root_->partitions[0]->deepest = 1;
    root_->partitions[0]->slots[0] = SegmentRef::Make(NewSegment(0, 0));
  }

  Seg* OwnSegment(Seg* segment) {
    if (segment->generation == gate_->generation()) [[likely]]
      return segment;
    const unsigned readers = ReadersOf(segment);
    if (readers == 0) {
      segment->generation = gate_->generation();
      return segment;
    }
    return CopySegment(segment, readers);
  }
  // Exactly the views whose frozen directory has this segment and that have not passed it: those
  // will emit it when it comes to them through the queue.
  unsigned ReadersOf(const Seg* segment) const {
    if (segment->generation == gate_->generation()) return 0;
    return gate_->Readers(segment->generation, EndOf(segment));
  }
  Seg* CopySegment(Seg* old, unsigned readers);
  Directory* OwnDirectory(uint64_t hash);
  Root* OwnRoot();
  void ReplaceDirectory(uint64_t hash, Directory* fresh);
  void DropDirectory(Directory* old, uint64_t end);
  void ReplaceRoot(Root* fresh);
  void SetSlots(Directory* directory, const Seg* segment);
  void Collect(const Seg* segment, std::vector<Item>* items) const;
  void Split(Seg* segment);
  void Build(uint64_t prefix, int depth, std::vector<Item>& items, int64_t earliest_ms,
             std::vector<Seg*>* out);
  bool Fill(Seg* segment, const std::vector<Item>& items) const;
  void Deepen(uint64_t hash, int depth);
  bool Partition();
  bool Unpartition();
  void TryMerge(Seg* segment);
  Seg* MergeWithBuddy(Seg* segment);
  void Halve(uint64_t hash);
  bool BelongsTo(const Seg* segment, int main_bucket, uint64_t word) const;

  SnapshotGate* const gate_;
  FramePool* const frames_;
  const uint64_t seed_;
  Root* root_ = nullptr;
  uint64_t base_ = 0;
  uint64_t made_generation_ = 0;    // when it got a structure: older views do not read it
  uint64_t frozen_generation_ = 0;  // of the last cut that froze it, before it was raised
  uint64_t size_ = 0;
  uint64_t structure_bytes_ = 0;
  uint64_t segment_count_ = 0;
  std::vector<Item> scratch_;  // of Split and TryMerge, kept to spare the allocation
};

}  // namespace cairn

#include "server/data/seg_table_structure.h"
#include "server/data/seg_table_visit.h"

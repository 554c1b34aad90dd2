#pragma once

// The half of SegTable that looks without changing: SCAN, random choice, the invariants. Included
// by seg_table.h only.

#include "server/data/seg_table.h"

namespace cairn {

// Whether a word found in the bucket chain of `main_bucket` has that bucket as its own: chains are
// shared.
template <typename P>
bool SegTable<P>::BelongsTo(const Seg* segment, int main_bucket, uint64_t word) const {
  return segment->MainBucket(RecordHash(word)) == main_bucket;
}

// The cursor is a place in the hash order, so splits and merges between two calls cannot lose or
// repeat a key: a call covers [cursor, end of some bucket) and returns that end.
template <typename P>
uint64_t SegTable<P>::Scan(uint64_t cursor, size_t min_buckets, const auto& visit) const {
  constexpr uint64_t kCursorEnd = uint64_t{1} << (64 - kCursorShift);
  if (root_ == nullptr || cursor >= kCursorEnd) return 0;
  for (size_t visited = 0; visited < min_buckets; ++visited) {
    const uint64_t from = cursor << kCursorShift;
    const Seg* segment = SegmentOf(from);
    const int main_bucket = segment->MainBucket(from);
    const uint64_t width = uint64_t{1} << (64 - segment->depth - P::kBucketBits);
    const bool whole = (from & (width - 1)) == 0;
    for (int at = main_bucket;;) {
      const Bucket& bucket = segment->buckets[at];
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        const uint64_t word = bucket.slots[__builtin_ctz(used)];
        if (at != main_bucket && !BelongsTo(segment, main_bucket, word)) continue;
        // After a merge the cursor may stand inside a wider bucket: what is before it was seen.
        if (!whole && RecordHash(word) < from) continue;
        visit(*reinterpret_cast<const Record*>(word & kSlotPointerMask));
      }
      if (bucket.link == 0) break;
      at = Seg::LinkTarget(bucket.link);
    }
    const uint64_t end = (from & ~(width - 1)) + width;
    if (end == 0) return 0;
    cursor = end >> kCursorShift;
  }
  return cursor;
}

// Hashes are uniform, so a random hash finds a segment about in proportion to its share of the
// keys; accepting by the segment's density evens out the rest, and a random slot that is taken is a
// fair one inside it.
template <typename P>
typename SegTable<P>::Record* SegTable<P>::Random(uint64_t random) const {
  if (size_ == 0) return nullptr;
  const auto next = [&random] {
    random += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t mixed = (random ^ random >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
  };
  constexpr int kSegmentTries = 128, kSlotTries = 256;
  Seg* segment = SegmentOf(0);
  // Densest segment assumed: four times the mean. Above it a key is a little too rare.
  const double scale = 4.0 * static_cast<double>(size_);
  for (int i = 0; i < kSegmentTries; ++i) {
    segment = SegmentOf(next());
    const double density =
        static_cast<double>(segment->count) * static_cast<double>(uint64_t{1} << segment->depth);
    if (static_cast<double>(next() >> 11) * 0x1p-53 * scale < density) break;
  }
  while (segment->count == 0) {
    const uint64_t hash = HashAfter(segment);
    segment = SegmentOf(hash);
  }
  for (int i = 0; i < kSlotTries; ++i) {
    const uint64_t pick = next();
    const Bucket& bucket = segment->buckets[(pick >> 32) % Seg::kBuckets];
    const uint32_t slot = static_cast<uint32_t>(pick) % P::kSlots;
    if (bucket.Occupied() >> slot & 1)
      return reinterpret_cast<Record*>(bucket.slots[slot] & kSlotPointerMask);
  }
  uint64_t skip = next() % segment->count;
  Record* found = nullptr;
  ForEachIn(segment, [&](Record& record) {
    found = &record;
    return skip-- != 0;
  });
  return found;
}

template <typename P>
void SegTable<P>::VisitFromRandom(uint64_t random, const auto& skip, const auto& visit) {
  if (size_ == 0) return;
  const auto next = [&random] {
    random += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t mixed = (random ^ random >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
  };
  // Any record may be the first, those of the stash too, or what overflowed would hardly be seen.
  constexpr int kStartTries = 64;
  Seg* const start = SegmentOf(next());
  int from = 0;
  uint32_t from_slots = ~0u;
  for (int i = 0; i < kStartTries; ++i) {
    const uint64_t pick = next();
    from = static_cast<int>((pick >> 32) % Seg::kBuckets);
    const uint32_t slot = static_cast<uint32_t>(pick) % P::kSlots;
    from_slots = ~0u << slot;
    if (start->buckets[from].Occupied() >> slot & 1) break;
  }
  const auto visit_bucket = [&](const Seg* segment, int at, uint32_t slots) {
    const Bucket& bucket = segment->buckets[at];
    for (uint32_t used = bucket.Occupied() & slots; used; used &= used - 1) {
      if (!visit(*reinterpret_cast<const Record*>(bucket.slots[__builtin_ctz(used)] &
                                                  kSlotPointerMask)))
        return false;
    }
    return true;
  };
  const auto visit_buckets = [&](const Seg* segment, int first, int end) {
    for (int at = first; at < end; ++at) {
      if (!visit_bucket(segment, at, ~0u)) return false;
    }
    return true;
  };
  const bool skip_start = skip(*start);
  if (!skip_start &&
      !(visit_bucket(start, from, from_slots) && visit_buckets(start, from + 1, Seg::kBuckets)))
    return;
  for (Seg* segment = SegmentOf(HashAfter(start)); segment != start;
       segment = SegmentOf(HashAfter(segment))) {
    if (!skip(*segment) && !visit_buckets(segment, 0, Seg::kBuckets)) return;
  }
  if (!skip_start && visit_buckets(start, 0, from)) visit_bucket(start, from, ~from_slots);
}

template <typename P>
void SegTable<P>::CheckInvariants() const {
  if (root_ == nullptr) {
    CAIRN_CHECK(size_ == 0);
    return;
  }
  uint64_t total = 0, segments = 0, hash = 0;
  do {
    const uint64_t ref = *root_->SlotOf(hash);
    const Seg* segment = SegmentRef::Get<P>(ref);
    CAIRN_CHECK(segment->depth == SegmentRef::Depth(ref) && segment->prefix == hash);
    uint32_t count = 0, stash = 0;
    for (int main_bucket = 0; main_bucket < Seg::kMainBuckets; ++main_bucket) {
      for (int at = main_bucket;;) {
        const Bucket& bucket = segment->buckets[at];
        for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
          const int slot = __builtin_ctz(used);
          const uint64_t word = bucket.slots[slot];
          const Record& record = *reinterpret_cast<const Record*>(word & kSlotPointerMask);
          const uint64_t full = RecordHash(word);
          CAIRN_CHECK(slot < P::kSlots && bucket.fingerprints[slot] == Fingerprint(full));
          CAIRN_CHECK(word >> 48 == SlotHash(full));
          CAIRN_CHECK(segment->depth == 0 ||
                      (full ^ segment->prefix) >> (64 - segment->depth) == 0);  // V8
          if (segment->MainBucket(full) != main_bucket) {
            CAIRN_CHECK(at != main_bucket);
            continue;
          }
          CAIRN_CHECK(P::ExpireAtMs(record) >= segment->earliest_expiry_ms);
          ++count;
          stash += at != main_bucket;
        }
        if (bucket.link == 0) break;
        CAIRN_CHECK(Seg::LinkTarget(bucket.link) > at && bucket.link <= P::kStashBuckets);
        at = Seg::LinkTarget(bucket.link);
      }
    }
    CAIRN_CHECK(count == segment->count && stash == segment->stash_count);
    total += count;
    ++segments;
    hash = HashAfter(segment);
  } while (hash != 0);
  CAIRN_CHECK(total == size_ && segments == segment_count_);
  for (size_t i = 0; i < size_t{1} << root_->bits; ++i) {
    const Directory* directory = root_->partitions[i];
    uint32_t deepest = 0;
    for (size_t slot = 0; slot < size_t{1} << directory->depth; ++slot) {
      deepest += SegmentRef::Depth(directory->slots[slot]) ==
                 static_cast<int>(root_->bits + directory->depth);
    }
    CAIRN_CHECK(deepest == directory->deepest);
  }
}

}  // namespace cairn

#pragma once

// The memory layout of SegTable: root -> directories of partitions -> segments -> buckets of one cache line.
// Shared by the table (executor) and by FrozenWalk (walker), which read the same bytes under the rules of
// docs/snapshot.md. No behaviour beyond reading and placing words.

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cairn {

/// A slot: 45 bits of record address (8-byte aligned, below 2^48), bit 0 SHARED, top 16 bits of hash.
inline constexpr uint64_t kSlotShared = 1;
inline constexpr uint64_t kSlotPointerMask = 0x0000'ffff'ffff'fff8;
/// The hash bits a slot keeps: those a table of 256 .. 100,000 segments splits by, so that splits seldom
/// touch records. They also weed out seven of eight false fingerprint matches and more.
inline constexpr int kSlotHashFirstBit = 8, kSlotHashBits = 16;

inline uint64_t SlotHash(uint64_t hash) { return hash << kSlotHashFirstBit >> (64 - kSlotHashBits); }
inline uint64_t MakeSlot(const void* record, uint64_t hash) {
  return reinterpret_cast<uint64_t>(record) | SlotHash(hash) << 48;
}
/// 1..255, so that 0 can mean an empty slot. From the low bits: the high ones choose the bucket.
inline uint8_t Fingerprint(uint64_t hash) {
  const uint8_t low = static_cast<uint8_t>(hash);
  return low ? low : 255;
}

inline constexpr int kBucketSlots = 7;

/// One cache line. `link` in the low nibble names the stash bucket that takes what did not fit, 0 = none.
struct alignas(64) Bucket {
  uint8_t fingerprints[kBucketSlots];
  uint8_t link;
  uint64_t slots[kBucketSlots];

  /// Bit i set: slot i has this fingerprint.
  uint32_t Match(uint8_t fingerprint) const {
#if defined(__SSE2__)
    const __m128i line = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(this));
    return static_cast<uint32_t>(_mm_movemask_epi8(
               _mm_cmpeq_epi8(line, _mm_set1_epi8(static_cast<char>(fingerprint))))) &
           0x7f;
#else
    uint32_t bits = 0;
    for (int i = 0; i < kBucketSlots; ++i) bits |= static_cast<uint32_t>(fingerprints[i] == fingerprint) << i;
    return bits;
#endif
  }
  uint32_t Occupied() const { return ~Match(0) & 0x7f; }
};
static_assert(sizeof(Bucket) == 64);

/// `P::kBucketBits` main buckets, `P::kStashBuckets` overflow buckets (at most 15), `P::kSlots` usable slots each.
template <typename P>
struct Segment {
  static constexpr int kMainBuckets = 1 << P::kBucketBits;
  static constexpr int kBuckets = kMainBuckets + P::kStashBuckets;
  static constexpr uint32_t kUsableMask = (1u << P::kSlots) - 1;
  static constexpr uint32_t kCapacity = kBuckets * P::kSlots;

  uint64_t generation;
  uint64_t prefix;              ///< left-aligned hash bits
  int64_t earliest_expiry_ms;   ///< lower bound of the expiries inside; INT64_MAX when none
  uint64_t log_position;        ///< stream offset of the last write, kept for the append-only file's reply gate
  uint32_t count;
  uint16_t stash_count;
  uint8_t depth;                ///< bits of prefix
  Bucket buckets[kBuckets];     ///< the stash buckets stand at the end; link n means kMainBuckets + n - 1

  static int LinkTarget(uint8_t link) { return kMainBuckets + link - 1; }
  int MainBucket(uint64_t hash) const {
    return static_cast<int>(hash << depth >> (64 - P::kBucketBits));
  }

  /// Puts a word for `hash`; false when neither its bucket nor the stash can take it. No displacement.
  bool Place(uint64_t hash, uint64_t word) {
    int at = MainBucket(hash);
    for (;;) {
      Bucket& bucket = buckets[at];
      if (const uint32_t free = ~bucket.Occupied() & kUsableMask) {
        const int slot = __builtin_ctz(free);
        bucket.fingerprints[slot] = Fingerprint(hash);
        bucket.slots[slot] = word;
        ++count;
        stash_count = static_cast<uint16_t>(stash_count + (at >= kMainBuckets));
        return true;
      }
      if (bucket.link == 0 && !(bucket.link = EmptiestStashAfter(at))) return false;
      at = LinkTarget(bucket.link);
    }
  }

  void Clear(int bucket, int slot) {
    buckets[bucket].fingerprints[slot] = 0;
    buckets[bucket].slots[slot] = 0;
    --count;
    if (bucket < kMainBuckets || --stash_count != 0) return;
    for (Bucket& each : buckets) each.link = 0;  // nothing overflows any more: lookups get short again
  }

 private:
  // Chains link to higher numbers only, so they cannot close into a ring. The last buckets are kept for
  // chains that have to go on: a first link prefers the lower ones.
  uint8_t EmptiestStashAfter(int at) const {
    const int first = at < kMainBuckets ? 1 : at - kMainBuckets + 2;
    const int last = at < kMainBuckets ? P::kStashBuckets - P::kStashReserve : P::kStashBuckets;
    int best = 0, best_free = 0;
    for (int link = first; link <= P::kStashBuckets; ++link) {
      if (link > last && best != 0) break;
      const int free = __builtin_popcount(~buckets[kMainBuckets + link - 1].Occupied() & kUsableMask);
      if (free > best_free) {
        best = link;
        best_free = free;
      }
    }
    return static_cast<uint8_t>(best);
  }
};

/// A directory slot: segment address with the segment's depth in the low 6 bits, so that a lookup knows the
/// bucket without touching the segment's header.
struct SegmentRef {
  static constexpr uint64_t kDepthMask = 63;
  template <typename P>
  static uint64_t Make(const Segment<P>* segment) {
    return reinterpret_cast<uint64_t>(segment) | segment->depth;
  }
  template <typename P>
  static Segment<P>* Get(uint64_t word) {
    return reinterpret_cast<Segment<P>*>(word & ~kDepthMask);
  }
  static int Depth(uint64_t word) { return static_cast<int>(word & kDepthMask); }
};

/// Extendible directory of one partition: 2^depth slots, chosen by the hash bits after the root's.
struct Directory {
  uint64_t generation;
  uint32_t depth;
  uint32_t deepest;  ///< segments that need all of `depth`; 0 = the directory can halve
  uint64_t slots[];

  static size_t Bytes(uint32_t depth) { return sizeof(Directory) + (size_t{8} << depth); }
};

/// One partition for small tables, 2^bits for grown ones.
struct Root {
  uint64_t generation;
  uint32_t bits;
  uint32_t unused;
  Directory* partitions[];

  static size_t Bytes(uint32_t bits) { return sizeof(Root) + (size_t{8} << bits); }
  size_t PartitionOf(uint64_t hash) const { return hash >> 1 >> (63 - bits); }
  uint64_t* SlotOf(uint64_t hash) const {
    Directory* directory = partitions[PartitionOf(hash)];
    return &directory->slots[hash << bits >> 1 >> (63 - directory->depth)];
  }
};

}  // namespace cairn

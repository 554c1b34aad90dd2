#pragma once

// EntryPolicy: how the keyspace's tables read an Entry, and the geometry of their segments: 64 main
// and 13 stash buckets, 4,992 bytes, of which a page of FramePool holds 13. Pure; executor and
// walker.

#include <cstdint>
#include <string_view>

#include "server/base/hash.h"
#include "server/data/entry.h"
#include "server/data/seg_table.h"

namespace cairn {

struct EntryReading {
  using Record = Entry;
  static uint64_t Hash(std::string_view key, uint64_t seed) { return HashBytes(key, seed); }
  static std::string_view Key(const Entry& entry) { return entry.key(); }
  /// INT64_MAX when it never expires.
  static int64_t ExpireAtMs(const Entry& entry) {
    return entry.has_expiry() ? entry.expire_at_ms() : INT64_MAX;
  }
  /// Thread: walker.
  static void Destroy(RecordSlab& slab, Entry* entry) { Entry::DestroyRemote(slab, entry); }
};

struct EntryPolicy : EntryReading {
  static constexpr int kBucketBits = 6, kStashBuckets = 13, kStashReserve = 3, kSlots = 7,
                       kRootBits = 8;
};

using EntryTable = SegTable<EntryPolicy>;
static_assert(sizeof(Segment<EntryPolicy>) == 4992);

}  // namespace cairn

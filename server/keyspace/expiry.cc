// Expiry, lazy and active. The active cycle goes round each database in hash order; a segment's
// header bounds the expiries inside, so a segment with nothing due costs one compare, and no second
// table of TTLs exists.

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "server/keyspace/entry_policy.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

constexpr uint64_t kSegmentsPerEffort = 1024;
constexpr uint64_t kSegmentsPerClockRead = 16;
// As many as in Redis: with thousands of databases each has its turn once a minute or so.
constexpr uint32_t kDatabasesPerCycle = 16;
// Keys sampled per cycle and database for the mean TTL, and the most segments gone through for
// them.
constexpr size_t kTtlSamples = 16, kTtlSegments = 32;

int64_t MonotonicUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

bool Keyspace::IsExpired(const Entry& entry) const { return entry.IsPast(now_ms_) && lazy_expiry_; }

void Database::Expire(KeyRef key) {
  CAIRN_CHECK(Remove(key, true));
  ++owner_->figures_.expired_keys;
  if (owner_->listener_ != nullptr) owner_->listener_->OnExpired(index_, key.key);
}

// Expires what is due in the segment at `hash`. Adds the keys with a TTL that it looked at to
// *seen.
uint64_t Database::ExpireSegmentAt(uint64_t hash, int64_t now_ms, uint64_t* seen) {
  auto* segment = table_->SegmentOf(hash);
  if (segment->earliest_expiry_ms >= now_ms) return 0;
  std::vector<std::string> due;
  int64_t earliest_ms = INT64_MAX;
  EntryTable::ForEachIn(segment, [&](const Entry& entry) {
    if (!entry.has_expiry()) return true;
    const int64_t at_ms = entry.expire_at_ms();
    if (now_ms > at_ms) {
      due.emplace_back(entry.key());
    } else {
      earliest_ms = std::min(earliest_ms, at_ms);
    }
    ++*seen;
    return true;
  });
  // After the removals the header may belong to a copy or a merged segment, so the bound comes
  // first.
  table_->TightenExpiry(segment, earliest_ms);
  for (const std::string& key : due) {
    const KeyRef ref = MakeKey(key);
    const Entry* entry = Peek(ref);
    // The listener of an earlier one may have changed this one.
    if (entry != nullptr && entry->IsPast(now_ms)) Expire(ref);
  }
  return due.size();
}

// The mean TTL as Redis keeps it: a fiftieth of each new sample.
void Database::EstimateTtl(uint64_t random, int64_t now_ms) {
  if (expire_count_ == 0) {
    average_ttl_ms_ = 0;
    return;
  }
  int64_t sum_ms = 0, keys = 0;
  Sample(random, kTtlSamples, true, kTtlSegments, [&](const Entry& entry) {
    if (entry.expire_at_ms() < now_ms) return;
    // Capped, so that the sum cannot overflow.
    sum_ms +=
        std::min(entry.expire_at_ms() - now_ms, INT64_MAX / static_cast<int64_t>(kTtlSamples));
    ++keys;
  });
  if (keys == 0) return;
  const int64_t sample_ms = sum_ms / keys;
  average_ttl_ms_ = average_ttl_ms_ == 0 ? sample_ms : average_ttl_ms_ / 50 * 49 + sample_ms / 50;
}

uint64_t Keyspace::ActiveExpire(int64_t budget_us, int effort) {
  const int64_t began_us = MonotonicUs(), deadline_us = began_us + budget_us;
  uint64_t expired = 0, seen = 0, ticks = 0;
  bool out_of_time = false;
  const uint32_t databases = std::min(kDatabasesPerCycle, database_count());
  for (uint32_t i = 0; i < databases && !out_of_time; ++i) {
    Database& database = db(expire_database_);
    database.EstimateTtl(NextRandom(), now_ms_);
    uint64_t left =
        database.expire_count_ == 0
            ? 0
            : std::min(kSegmentsPerEffort * static_cast<uint64_t>(std::clamp(effort, 1, 10)),
                       database.table_->segment_count());
    for (; left > 0 && !out_of_time; --left) {
      const uint64_t hash = database.expire_cursor_;
      const uint64_t before = seen;
      database.expire_cursor_ = EntryTable::HashAfter(database.table_->SegmentOf(hash));
      expired += database.ExpireSegmentAt(hash, now_ms_, &seen);
      if (seen != before || ++ticks % kSegmentsPerClockRead == 0)
        out_of_time = MonotonicUs() >= deadline_us;
    }
    if (!out_of_time) expire_database_ = (expire_database_ + 1) % database_count();
    if (database.expire_count_ != 0) out_of_time = MonotonicUs() >= deadline_us;
  }
  figures_.expire_cycle_us += MonotonicUs() - began_us;
  if (out_of_time) ++figures_.expire_cycle_time_limit_hits;
  const double stale_percent =
      seen > 0 ? 100.0 * static_cast<double>(expired) / static_cast<double>(seen) : 0;
  figures_.expired_stale_percent = figures_.expired_stale_percent * 0.95 + stale_percent * 0.05;
  return expired;
}

}  // namespace cairn

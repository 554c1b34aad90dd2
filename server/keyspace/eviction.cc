#include "server/keyspace/eviction.h"

#include <algorithm>
#include <optional>
#include <string>

#include "server/keyspace/entry_policy.h"
#include "server/keyspace/keyspace.h"

namespace cairn {

namespace {

bool IsCandidate(const Entry& entry, bool volatile_only) {
  return (!volatile_only || entry.has_expiry()) && entry.MayEvict();
}

}  // namespace

void EvictionPool::Offer(uint64_t score, uint32_t database, std::string_view key) {
  std::erase_if(
      sorted_, [&](const Candidate& each) { return each.database == database && each.key == key; });
  const auto place =
      std::lower_bound(sorted_.begin(), sorted_.end(), score,
                       [](const Candidate& each, uint64_t wanted) { return each.score < wanted; });
  if (sorted_.size() == kCandidates) {
    if (place == sorted_.begin()) return;  // no better than the worst
    std::rotate(sorted_.begin(), sorted_.begin() + 1, place);
    *(place - 1) = {score, database, std::string(key)};
    return;
  }
  sorted_.insert(place, {score, database, std::string(key)});
}

bool EvictionPool::TakeBest(Candidate* out) {
  if (sorted_.empty()) return false;
  *out = std::move(sorted_.back());
  sorted_.pop_back();
  return true;
}

// Hashes are uniform, so the keys that follow a random place in the hash order are a fair sample.
void Database::Sample(uint64_t random, size_t keys, bool volatile_only, size_t max_segments,
                      const std::function<void(const Entry&)>& visit) {
  size_t segments = 0;
  // The segment that is looked at, when that begins at its front, and whether it has an expiry.
  EntryTable::Seg* whole = nullptr;
  bool expires = false;
  const auto skip = [&](EntryTable::Seg& segment) {
    // Its bound was of a key that is gone: it is not looked through again.
    if (whole != nullptr && !expires) table_->TightenExpiry(whole, INT64_MAX);
    const bool skipped = volatile_only && segment.earliest_expiry_ms == INT64_MAX;
    whole = volatile_only && !skipped && segments > 0 ? &segment : nullptr;
    ++segments;
    expires = false;
    return skipped;
  };
  table_->VisitFromRandom(random, skip, [&](const Entry& entry) {
    expires |= entry.has_expiry();
    if (!IsCandidate(entry, volatile_only)) return segments <= max_segments;
    visit(entry);
    return --keys != 0 && segments <= max_segments;
  });
}

uint64_t Database::Evict(KeyRef key, bool lazy) {
  const uint64_t bytes = Peek(key)->MemoryUsage();
  Remove(key, lazy);
  ++owner_->figures_.evicted_keys;
  if (owner_->listener_ != nullptr) owner_->listener_->OnEvicted(index_, key.key);
  return bytes;
}

uint64_t Keyspace::ScoreOf(const Entry& entry, EvictionRules::Order order) const {
  switch (order) {
    case EvictionRules::Order::kFrequency:
      return 255 - FrequencyOf(entry);
    case EvictionRules::Order::kTtl:
      return UINT64_MAX - static_cast<uint64_t>(entry.expire_at_ms());
    default:
      return IdleSeconds(entry);
  }
}

uint64_t Keyspace::EvictOne(const EvictionRules& rules) {
  if (!(rules == eviction_rules_)) {
    eviction_pool_.Clear();  // scores of another order
    eviction_rules_ = rules;
  }
  const auto candidates = [&rules](const Database& database) {
    return rules.volatile_only ? database.expire_count() : database.size();
  };
  if (rules.order == EvictionRules::Order::kRandom) {
    for (uint32_t i = 0; i < database_count(); ++i) {
      Database& database = db(evict_database_++ % database_count());
      if (candidates(database) == 0) continue;
      std::optional<std::string> key;
      database.Sample(NextRandom(), 1, rules.volatile_only, SIZE_MAX,
                      [&key](const Entry& entry) { key = entry.key(); });
      if (key.has_value()) return database.Evict(database.MakeKey(*key), rules.lazy);
    }
    return 0;
  }
  for (;;) {
    bool found = false;
    for (const auto& database : databases_) {
      if (candidates(*database) == 0) continue;
      database->Sample(NextRandom(), static_cast<size_t>(rules.samples), rules.volatile_only,
                       SIZE_MAX, [&](const Entry& entry) {
                         found = true;
                         eviction_pool_.Offer(ScoreOf(entry, rules.order), database->index(),
                                              entry.key());
                       });
    }
    if (!found) return 0;
    EvictionPool::Candidate best;
    while (eviction_pool_.TakeBest(&best)) {
      Database& database = db(best.database);
      const KeyRef key = database.MakeKey(best.key);
      const Entry* entry = database.Peek(key);
      // Deleted, made persistent or replaced since it was sampled.
      if (entry == nullptr || !IsCandidate(*entry, rules.volatile_only)) continue;
      return database.Evict(key, rules.lazy);
    }
  }
}

}  // namespace cairn

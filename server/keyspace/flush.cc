// What becomes of databases that are emptied at once. Without views the reaper frees the table.
// Views that froze it read it to the end, and it is kept for them; what came after their cuts they
// do not read.

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/keyspace/entry_policy.h"
#include "server/keyspace/keyspace.h"

namespace cairn {
namespace {

/// Entries that the reaper frees before it gives way: some 0.1 ms.
constexpr size_t kReapedPerTurn = 1024;
constexpr std::chrono::microseconds kCountBudget{100};

// A view may read nodes of it through an older header, whoever else holds it.
bool MayStandOnFrozenNodes(const Entry& entry) {
  if (entry.form() != ValueForm::kObject) return false;
  const Container* container = entry.object()->AsContainer();
  return container != nullptr && container->MayBeFrozen();
}

}  // namespace

uint64_t Keyspace::Flush(uint32_t index, bool lazy) {
  const uint64_t keys = Replace(index, lazy);
  CountFlushed();
  return keys;
}

// Puts an empty table in place of a database's.
uint64_t Keyspace::Replace(uint32_t index, bool lazy) {
  Database& database = db(index);
  const uint64_t keys = database.size();
  std::unique_ptr<EntryTable> old = std::exchange(database.table_, NewTable());
  database.expire_count_ = 0;
  database.average_ttl_ms_ = 0;
  database.expire_cursor_ = 0;
  if (old->root() != nullptr) FreeTable(std::move(old), lazy);
  return keys;
}

uint64_t Keyspace::FlushAll(bool lazy) {
  uint64_t keys = 0;
  for (uint32_t i = 0; i < database_count(); ++i) keys += Replace(i, lazy);
  CountFlushed();
  return keys;
}

// Gives up a whole table. The views that froze it read it to the end, whatever part of it is still
// frozen.
void Keyspace::FreeTable(std::unique_ptr<EntryTable> table, bool lazy) {
  const unsigned readers = table->Readers();
  if (readers == 0) return ReapTable(std::move(table), lazy);
  detached_.push_back({.table = std::move(table), .lanes = readers});
  detached_.back().CountSegment();  // something to go by at once, whatever else is to be counted
}

// Requires: no view reads the table.
void Keyspace::ReapTable(std::unique_ptr<EntryTable> table, bool lazy) {
  if (!lazy) {
    std::vector<Entry*> kept;
    table->ForEach([this, &kept](Entry& entry) {
      if (!views_.empty() && MayStandOnFrozenNodes(entry)) {
        kept.push_back(&entry);
      } else {
        Entry::Destroy(slab_, &entry);
      }
      return true;
    });
    if (kept.empty()) return;
    Reap([all = EntriesToKeep(),
          kept = std::move(kept)] { all->insert(all->end(), kept.begin(), kept.end()); },
         0);
    return;
  }
  const uint64_t keys = table->size();
  std::shared_ptr<EntryTable> shared = std::move(table);
  std::shared_ptr<std::vector<Entry*>> kept;
  if (!views_.empty()) kept = EntriesToKeep();
  Reap(
      [this, shared, kept]() {
        AskForShortSlices();
        size_t destroyed = 0;
        shared->ForEach([this, &kept, &destroyed](Entry& entry) {
          if (kept != nullptr && MayStandOnFrozenNodes(entry)) {
            kept->push_back(&entry);
            return true;
          }
          Entry::DestroyRemote(slab_, &entry);
          if (++destroyed % kReapedPerTurn == 0) GiveWay();
          return true;
        });
        shared->DestroyStructure([this](void* segment) { frames_.GiveRemote(segment); });
        AskForUsualSlices();
      },
      keys);
}

// Where the reaper puts what may go only when the views that are open now have ended.
std::shared_ptr<std::vector<Entry*>> Keyspace::EntriesToKeep() {
  const unsigned lanes = gate_.open_lanes();
  for (const Kept& each : kept_) {
    if (each.lanes == lanes) return each.entries;
  }
  kept_.push_back({std::make_shared<std::vector<Entry*>>(), lanes});
  return kept_.back().entries;
}

// The view of this lane has ended, and with it perhaps the last that reads something.
void Keyspace::FreeUnread(unsigned lane) {
  std::vector<std::unique_ptr<EntryTable>> free_now;
  std::erase_if(detached_, [&](Detached& each) {
    each.lanes &= ~lane;
    if (each.lanes != 0) return false;
    free_now.push_back(std::move(each.table));
    return true;
  });
  for (auto& table : free_now) ReapTable(std::move(table), true);
  std::erase_if(kept_, [&](Kept& each) {
    each.lanes &= ~lane;
    if (each.lanes != 0) return false;
    // Behind every job that puts something there.
    Reap(
        [this, entries = std::move(each.entries)] {
          for (Entry* entry : *entries) Entry::DestroyRemote(slab_, entry);
        },
        0);
    return true;
  });
}

void Keyspace::Detached::CountSegment() {
  Segment<EntryPolicy>* const segment = table->SegmentOf(next_hash);
  EntryTable::ForEachIn(segment, [this](const Entry& entry) {
    counted_bytes += entry.OwnedBytes();
    ++counted_keys;
    return true;
  });
  next_hash = EntryTable::HashAfter(segment);
  all_counted = next_hash == 0;
}

uint64_t Keyspace::Detached::SizeBytes() const {
  uint64_t bytes = counted_bytes;
  if (!all_counted && counted_keys != 0) {
    bytes = static_cast<uint64_t>(
        static_cast<double>(counted_bytes) *
        (static_cast<double>(table->size()) / static_cast<double>(counted_keys)));
  }
  return table->structure_bytes() + bytes;
}

void Keyspace::CountFlushed() {
  if (detached_.empty()) return;
  const auto until = std::chrono::steady_clock::now() + kCountBudget;
  for (Detached& each : detached_) {
    while (!each.all_counted) {
      each.CountSegment();
      if (std::chrono::steady_clock::now() >= until) return;
    }
  }
}

uint64_t Keyspace::detached_keys() const {
  uint64_t keys = 0;
  for (const Detached& each : detached_) keys += each.table->size();
  return keys;
}

}  // namespace cairn

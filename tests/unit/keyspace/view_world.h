#pragma once

// The world of the explorer: tables with segments of four slots in two databases, their gate, and
// up to four views, each with what it ought to see and what it has seen. It drives SegTable and
// FrozenWalk as Database and View do, one step at a time on one thread. Not a model: what it runs
// is the engine's own code at another geometry. For tests; names of rules and invariants are those
// of docs/snapshot.md.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/data/frozen_walk.h"
#include "server/data/record_slab.h"
#include "server/keyspace/entry_policy.h"

namespace cairn::explorer {

struct TinyPolicy : EntryReading {
  static constexpr int kBucketBits = 1, kStashBuckets = 2, kStashReserve = 1, kSlots = 1,
                       kRootBits = 1;
  // Keys name their place in the order, so that a test can put them where it wants: "@hh.." is hash
  // 0xhh...
  static uint64_t Hash(std::string_view key, uint64_t seed) {
    const uint64_t mixed = HashBytes(key, seed);
    if (key.empty() || key[0] != '@') return mixed;
    return static_cast<uint64_t>(std::stoul(std::string(key.substr(1, 2)), nullptr, 16)) << 56 |
           mixed >> 8;
  }
};

using Table = SegTable<TinyPolicy>;
using Walk = FrozenWalk<TinyPolicy>;
struct Datum {
  std::string text;
  int64_t expire_at_ms;
  bool operator==(const Datum&) const = default;
};
inline Datum DatumOf(const Entry& entry) {
  char scratch[24];
  return {std::string(entry.StringView(scratch)), entry.expire_at_ms()};
}
using Model = std::map<std::string, Datum>;

constexpr int kDatabases = 2;

class World {
  /// One view with what it ought to see and what it has seen.
  struct Observed {
    ViewLane* lane = nullptr;
    std::unique_ptr<Walk> walk;
    std::array<Model, kDatabases> cut, emitted;
    std::map<const Segment<TinyPolicy>*, uint64_t> sums;  // as of the cut
    int repeated = 0;
  };
  // First, so that their deduced types are known below.
  static auto Visitor(Observed& view, std::function<void()> meanwhile = {}) {
    return [&view, meanwhile = std::move(meanwhile)](const FrozenTable& table,
                                                     const Entry& entry) mutable {
      if (meanwhile) std::exchange(meanwhile, {})();
      const bool fresh =
          view.emitted[table.database].insert({std::string(entry.key()), DatumOf(entry)}).second;
      view.repeated += !fresh;
      return Status::Ok();
    };
  }

 public:
  World() : frames_(sizeof(Segment<TinyPolicy>)) {
    for (auto& table : live_) table = NewTable();
  }
  ~World() {
    for (auto& table : live_) DestroyAll(*table);
    EXPECT_EQ(slab_.used_bytes(), 0u);
  }

  /// A value that was never there before, so that no write goes unnoticed for writing what was
  /// there.
  void Set(int db, const std::string& key) {
    ++stamp_;
    Put(db, key, ValueInput::Integer(stamp_), std::to_string(stamp_), kNoExpiry);
  }
  void Increment(int db, const std::string& key) {
    Entry* entry = Mutable(db, key);
    if (entry == nullptr || entry->form() != ValueForm::kInt) return;
    entry->set_integer(entry->integer() + 1);
    models_[db][key].text = std::to_string(entry->integer());
  }
  /// No longer an integer from then on, and soon of another size class.
  void Append(int db, const std::string& key) {
    const auto old = models_[db].find(key);
    if (old == models_[db].end()) return;
    const std::string text = old->second.text + "+" + std::to_string(++stamp_) + "........";
    Put(db, key, ValueInput::RawString(text), text, old->second.expire_at_ms);
  }
  /// The value under another name, with its time to live, in place of what stood there.
  void Rename(int db, const std::string& from, const std::string& to) {
    const auto old = models_[db].find(from);
    if (old == models_[db].end()) return;
    const Datum datum = old->second;
    Table& table = *live_[db];
    const Entry* entry = table.Find(table.HashOf(from), from).record();
    Put(db, to, entry->ShareValue(), datum.text, datum.expire_at_ms);
    Remove(db, from);
  }
  void Expire(int db, const std::string& key) {
    if (!models_[db].count(key)) return;
    const int64_t at_ms = kFirstExpiryMs + ++stamp_;
    Entry* entry = Mutable(db, key);
    if (entry->has_expiry()) {
      entry->set_expire_at_ms(at_ms);
      Table& table = *live_[db];
      table.NoteExpiry(table.Find(table.HashOf(key), key), at_ms);
      models_[db][key].expire_at_ms = at_ms;
    } else {
      Put(db, key, entry->ShareValue(), std::string(models_[db][key].text), at_ms);
    }
  }
  /// The clock passes every time to live so far, and the cycle visits each segment of the database,
  /// as Database::ExpireSegmentAt does one.
  void PassTimeAndExpire(int db) {
    Table& table = *live_[db];
    if (table.root() == nullptr) return;
    const int64_t now_ms = kFirstExpiryMs + ++stamp_;
    uint64_t hash = 0;
    do {
      auto* segment = table.SegmentOf(hash);
      hash = Table::HashAfter(segment);
      if (segment->earliest_expiry_ms >= now_ms) continue;
      std::vector<std::string> due;
      Table::ForEachIn(segment, [&](const Entry& entry) {
        if (entry.has_expiry()) due.emplace_back(entry.key());
        return true;
      });
      table.TightenExpiry(segment, INT64_MAX);
      for (const std::string& key : due) Remove(db, key);
    } while (hash != 0);
  }
  void Remove(int db, const std::string& key) {
    Table& table = *live_[db];
    const uint64_t hash = table.HashOf(key);
    auto place = table.Find(hash, key);
    EXPECT_EQ(static_cast<bool>(place), models_[db].erase(key) == 1);
    if (!place) return;
    table.Own(&place);
    Dispose(table, table.Erase(place, hash), hash);
  }
  void Flush(int db) {
    auto old = std::exchange(live_[db], NewTable());
    models_[db].clear();
    if (const unsigned readers = old->Readers(); readers != 0) {
      detached_.push_back({std::move(old), readers});
    } else {
      DestroyAll(*old);
    }
  }
  void Swap() {
    std::swap(live_[0], live_[1]);
    std::swap(models_[0], models_[1]);
  }

  bool viewing() const { return !views_.empty(); }
  size_t views() const { return views_.size(); }
  void Begin() {
    if (views_.size() == SnapshotGate::kMaxViews) return;
    if (views_.empty()) next_cut_index_ = 0;
    std::vector<FrozenTable> tables;
    for (uint32_t db = 0; db < kDatabases; ++db) {
      Table& table = *live_[db];
      table.FreezeAs(table.HasPlace() ? table.cut_index() : next_cut_index_++);
      if (table.root()) tables.push_back({table.cut_index(), db, table.root(), table.size(), 0});
    }
    std::sort(tables.begin(), tables.end(),
              [](const FrozenTable& x, const FrozenTable& y) { return x.cut_index < y.cut_index; });
    auto view = std::make_unique<Observed>();
    view->lane = gate_.Open();
    view->walk = std::make_unique<Walk>(&gate_, view->lane, &frames_, &slab_, std::move(tables));
    view->cut = models_;
    ForEachFrozen(*view, [&view](const FrozenTable&, const Segment<TinyPolicy>* segment) {
      view->sums[segment] = SumOf(*segment);
    });
    views_.push_back(std::move(view));
  }
  /// V3: what the views have still to read is as it was at the cut, to the byte. And with what they
  /// have read it is all of the cut, each key once (V1, V2).
  void CheckFrozen() const {
    for (const auto& view : views_) {
      std::array<Model, kDatabases> all = view->emitted;
      int repeated = view->repeated;
      const FrozenTable* table = nullptr;
      const auto add = [&](Entry& entry) {
        repeated += !all[table->database].insert({std::string(entry.key()), DatumOf(entry)}).second;
        return true;
      };
      ForEachFrozen(*view, [&](const FrozenTable& of, Segment<TinyPolicy>* segment) {
        table = &of;
        const auto sum = view->sums.find(segment);
        ASSERT_NE(sum, view->sums.end())
            << "the frozen directory shows a segment made after the cut";
        EXPECT_EQ(sum->second, SumOf(*segment)) << "prefix " << std::hex << segment->prefix;
        Table::ForEachIn(segment, add);
      });
      EXPECT_EQ(repeated, 0);
      EXPECT_EQ(all, view->cut);
    }
  }
  /// `meanwhile` runs when the walker stands at the first entry: what the executor does while a
  /// segment is being read.
  void WalkOne(size_t i = 0, std::function<void()> meanwhile = {}) {
    if (i < views_.size()) {
      ASSERT_TRUE(views_[i]->walk->WalkNext(Visitor(*views_[i], std::move(meanwhile))).ok());
    }
  }
  bool PopOne(size_t i = 0) {
    if (i >= views_.size()) return false;
    Observed& view = *views_[i];
    auto popped = view.walk->PopOne(Visitor(view));
    EXPECT_TRUE(popped.ok());
    return *popped;
  }
  /// Walks to the end and compares with the cut (V1, V2).
  void Complete(size_t i = 0) {
    Observed& view = *views_[i];
    while (!view.walk->done()) {
      while (PopOne(i)) {
      }
      WalkOne(i);
    }
    EXPECT_EQ(view.repeated, 0);
    EXPECT_EQ(view.emitted, view.cut);
    End(i);
  }
  void CompleteAll() {
    // The youngest first: an older one still reads what both share.
    while (viewing()) Complete(views_.size() - 1);
  }
  void End(size_t i = 0) {
    Observed& view = *views_[i];
    view.walk->Finish();
    const unsigned lane = gate_.BitOf(*view.lane);
    gate_.Close(*view.lane);  // checks that nothing is retained (V6)
    views_.erase(views_.begin() + static_cast<std::ptrdiff_t>(i));
    std::erase_if(detached_, [this, lane](Detached& each) {
      each.lanes &= ~lane;
      if (each.lanes == 0) DestroyAll(*each.table);
      return each.lanes == 0;
    });
  }
  /// V7, V8 and the allocation balance.
  void CheckLive() {
    uint64_t bytes = 0;
    for (int db = 0; db < kDatabases; ++db) {
      live_[db]->CheckInvariants();
      Model found;
      live_[db]->ForEach([&](const Entry& entry) {
        found[std::string(entry.key())] = DatumOf(entry);
        bytes += entry.MemoryUsage();
        return true;
      });
      EXPECT_EQ(found, models_[db]);
    }
    if (!viewing()) {
      EXPECT_EQ(slab_.used_bytes(), bytes);
    }
  }
  void AbortAll() {
    while (viewing()) End(views_.size() - 1);
  }
  uint64_t watermark(size_t i = 0) const { return views_[i]->lane->watermark(); }

 private:
  friend class StateWriter;  // view_state.h: reads all of it

  static constexpr int64_t kFirstExpiryMs = 5000;

  /// The segments at or ahead of W that were not visited from the queue either.
  static void ForEachFrozen(const Observed& view, const auto& visit) {
    for (const FrozenTable& table : view.walk->tables()) {
      const uint64_t base = static_cast<uint64_t>(table.cut_index) << kPositionHashBits;
      const uint64_t end = base + (uint64_t{1} << kPositionHashBits);
      for (uint64_t at = std::max(base, view.lane->watermark()); at < end;) {
        const uint64_t hash = (at - base) << (64 - kPositionHashBits);
        const uint64_t ref = *table.root->SlotOf(hash);
        if (!view.walk->visited_early(at)) visit(table, SegmentRef::Get<TinyPolicy>(ref));
        at += uint64_t{1} << (kPositionHashBits - SegmentRef::Depth(ref));
      }
    }
  }
  /// Of the segment and its records, the access words left out (R1).
  static uint64_t SumOf(const Segment<TinyPolicy>& segment) {
    uint64_t sum = HashBytes({reinterpret_cast<const char*>(&segment), sizeof segment}, 1);
    for (const Bucket& bucket : segment.buckets) {
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        const auto* record =
            reinterpret_cast<const char*>(bucket.slots[__builtin_ctz(used)] & kSlotPointerMask);
        constexpr size_t kAccessBytes = 3;
        const size_t bytes = reinterpret_cast<const Entry*>(record)->RecordBytes();
        sum = HashBytes({record + kAccessBytes, bytes - kAccessBytes}, sum);
      }
    }
    return sum;
  }
  std::unique_ptr<Table> NewTable() { return std::make_unique<Table>(&gate_, &frames_, 42); }
  void DestroyAll(Table& table) {
    table.ForEach([this](Entry& entry) {
      Entry::Destroy(slab_, &entry);
      return true;
    });
  }
  void Dispose(const Table& table, Table::Removed removed, uint64_t hash) {
    if (removed.shared) {
      gate_.Retire(Retired::Kind::kRecord, removed.record, table.Position(hash),
                   removed.record->MemoryUsage());
    } else {
      Entry::Destroy(slab_, removed.record);
    }
  }
  void Put(int db, const std::string& key, ValueInput value, const std::string& text,
           int64_t at_ms) {
    Table& table = *live_[db];
    models_[db][key] = {text, at_ms};
    const uint64_t hash = table.HashOf(key);
    auto place = table.Find(hash, key);
    if (place) {
      table.Own(&place);
      if (table.IsPrivate(place, hash) && place.record()->TryOverwrite(value, at_ms, 0)) {
        if (at_ms != kNoExpiry) table.NoteExpiry(place, at_ms);
        return;
      }
    }
    Entry* fresh = Entry::Create(slab_, key, std::move(value), at_ms, 0);
    if (place) {
      Dispose(table, table.Exchange(place, hash, fresh), hash);
    } else {
      table.Insert(hash, fresh);
    }
  }
  Entry* Mutable(int db, const std::string& key) {
    Table& table = *live_[db];
    const uint64_t hash = table.HashOf(key);
    auto place = table.Find(hash, key);
    if (!place) return nullptr;
    table.Own(&place);
    Entry* entry = place.record();
    if (table.IsPrivate(place, hash)) return entry;
    Entry* fresh = Entry::Create(slab_, key, entry->ShareValue(), entry->expire_at_ms(), 0);
    Dispose(table, table.Exchange(place, hash, fresh), hash);
    return fresh;
  }
  RecordSlab slab_;
  FramePool frames_;
  SnapshotGate gate_;
  std::array<std::unique_ptr<Table>, kDatabases> live_;
  struct Detached {
    std::unique_ptr<Table> table;
    unsigned lanes;
  };
  std::vector<Detached> detached_;
  std::vector<std::unique_ptr<Observed>> views_;
  std::array<Model, kDatabases> models_;
  uint32_t next_cut_index_ = 0;
  int64_t stamp_ = 1000;
};

}  // namespace cairn::explorer

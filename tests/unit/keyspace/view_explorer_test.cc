// The explorer: tables with segments of four slots, two databases, and every interleaving of writer
// commands with walker steps to a depth, then long seeded runs. It drives SegTable and FrozenWalk
// as Database does.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "server/data/frozen_walk.h"
#include "server/data/record_slab.h"
#include "server/keyspace/entry_policy.h"

namespace cairn {
namespace {

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
  int64_t value;
  int64_t expire_at_ms;
  bool operator==(const Datum&) const = default;
};
using Model = std::map<std::string, Datum>;

constexpr int kDatabases = 2;
const std::array<const char*, 6> kKeys = {"@00", "@10", "@45", "@90", "@b0", "@f0"};

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
  static auto Visitor(Observed& view) {
    return [&view](const FrozenTable& table, const Entry& entry) {
      const bool fresh =
          view.emitted[table.database]
              .insert({std::string(entry.key()), {entry.integer(), entry.expire_at_ms()}})
              .second;
      view.repeated += !fresh;
      return Status::Ok();
    };
  }
  auto Destroyer() {
    return [this](Entry* entry) { Entry::DestroyRemote(slab_, entry); };
  }

 public:
  World() : frames_(sizeof(Segment<TinyPolicy>)) {
    for (auto& table : live_) table = NewTable();
  }
  ~World() {
    for (auto& table : live_) DestroyAll(*table);
    EXPECT_EQ(slab_.used_bytes(), 0u);
  }

  void Set(int db, const std::string& key, int64_t value, int64_t at_ms = kNoExpiry) {
    Table& table = *live_[db];
    models_[db][key] = {value, at_ms};
    const uint64_t hash = table.HashOf(key);
    auto place = table.Find(hash, key);
    if (place) {
      table.Own(&place);
      if (table.IsPrivate(place, hash) &&
          place.record()->TryOverwrite(ValueInput::Integer(value), at_ms, 0)) {
        if (at_ms != kNoExpiry) table.NoteExpiry(place, at_ms);
        return;
      }
    }
    Entry* fresh = Entry::Create(slab_, key, ValueInput::Integer(value), at_ms, 0);
    if (place) {
      Dispose(table, table.Exchange(place, hash, fresh), hash);
    } else {
      table.Insert(hash, fresh);
    }
  }
  void Increment(int db, const std::string& key) {
    if (Entry* entry = Mutable(db, key)) {
      entry->set_integer(entry->integer() + 1);
      ++models_[db][key].value;
    }
  }
  void Expire(int db, const std::string& key, int64_t at_ms) {
    if (!models_[db].count(key)) return;
    Entry* entry = Mutable(db, key);
    if (entry->has_expiry()) {
      entry->set_expire_at_ms(at_ms);
      Table& table = *live_[db];
      table.NoteExpiry(table.Find(table.HashOf(key), key), at_ms);
      models_[db][key].expire_at_ms = at_ms;
    } else {
      Set(db, key, entry->integer(), at_ms);
    }
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
    if (viewing()) {
      detached_.push_back({std::move(old), gate_.open_lanes()});
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
    ForEachFrozen(*view, [&view](const Segment<TinyPolicy>* segment) {
      view->sums[segment] = SumOf(*segment);
    });
    views_.push_back(std::move(view));
  }
  /// V3: what the views have still to read is as it was at the cut, to the byte.
  void CheckFrozen() const {
    for (const auto& view : views_) {
      ForEachFrozen(*view, [&view](const Segment<TinyPolicy>* segment) {
        const auto sum = view->sums.find(segment);
        ASSERT_NE(sum, view->sums.end())
            << "the frozen directory shows a segment made after the cut";
        EXPECT_EQ(sum->second, SumOf(*segment)) << "prefix " << std::hex << segment->prefix;
      });
    }
  }
  void WalkOne(size_t i = 0) {
    if (i < views_.size()) {
      ASSERT_TRUE(views_[i]->walk->WalkNext(Visitor(*views_[i])).ok());
    }
  }
  bool PopOne(size_t i = 0) {
    if (i >= views_.size()) return false;
    Observed& view = *views_[i];
    auto popped = view.walk->PopOne(Visitor(view), Destroyer());
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
    view.walk->Finish(Destroyer());
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
        found[std::string(entry.key())] = {entry.integer(), entry.expire_at_ms()};
        bytes += entry.MemoryUsage();
        return true;
      });
      EXPECT_EQ(found, models_[db]);
    }
    if (!viewing()) {
      EXPECT_EQ(slab_.used_bytes(), bytes);
    }
  }
  uint64_t watermark(size_t i = 0) const { return views_[i]->lane->watermark(); }

 private:
  /// The segments at or ahead of W that were not visited from the queue either.
  static void ForEachFrozen(const Observed& view, const auto& visit) {
    for (const FrozenTable& table : view.walk->tables()) {
      const uint64_t base = static_cast<uint64_t>(table.cut_index) << kPositionHashBits;
      const uint64_t end = base + (uint64_t{1} << kPositionHashBits);
      for (uint64_t at = std::max(base, view.lane->watermark()); at < end;) {
        const uint64_t hash = (at - base) << (64 - kPositionHashBits);
        const uint64_t ref = *table.root->SlotOf(hash);
        if (!view.walk->visited_early(at)) visit(SegmentRef::Get<TinyPolicy>(ref));
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
};

using Command = void (*)(World&);
const std::array<Command, 13> kCommands = {
    [](World& world) { world.WalkOne(); },
    [](World& world) { world.PopOne(); },
    [](World& world) { world.Set(0, "@00", 100); },
    [](World& world) { world.Set(0, "@f0", 101); },
    [](World& world) { world.Increment(0, "@10"); },
    [](World& world) { world.Increment(0, "@b0"); },
    [](World& world) { world.Remove(0, "@10"); },
    [](World& world) { world.Remove(0, "@90"); },
    [](World& world) {
      for (const char* key : {"@11", "@91", "@92", "@12"}) world.Set(0, key, 7);  // forces splits
    },
    [](World& world) { world.Expire(0, "@45", 5000); },
    [](World& world) { world.Set(1, "@10", 9); },
    [](World& world) { world.Flush(0); },
    [](World& world) { world.Swap(); },
};

/// With a second view that is cut, walked and ended in between.
const std::array<Command, 12> kCommandsOfTwoViews = {
    [](World& world) { world.WalkOne(0); },
    [](World& world) { world.PopOne(0); },
    [](World& world) { world.views() < 2 ? world.Begin() : world.WalkOne(1); },
    [](World& world) { world.PopOne(1); },
    [](World& world) { world.Set(0, "@00", 100); },
    [](World& world) { world.Increment(0, "@10"); },
    [](World& world) { world.Increment(0, "@b0"); },
    [](World& world) { world.Remove(0, "@90"); },
    [](World& world) {
      for (const char* key : {"@11", "@91", "@92", "@12"}) world.Set(0, key, 7);  // forces splits
    },
    [](World& world) { world.Flush(0); },
    [](World& world) { world.Swap(); },
    [](World& world) {
      if (world.views() == 2) world.End(0);  // the older one is aborted
    },
};

void Prepare(World& world) {
  // An earlier view leaves SHARED bits behind that must mean nothing to the next.
  for (size_t i = 0; i < kKeys.size(); ++i) world.Set(0, kKeys[i], static_cast<int64_t>(i));
  world.Set(1, "@20", 50);
  world.Begin();
  world.Increment(0, "@10");
  world.Increment(1, "@20");
  world.Complete();
  world.Begin();
}

template <size_t kCount>
void RunSequence(const std::array<Command, kCount>& commands, const std::vector<int>& sequence) {
  World world;
  Prepare(world);
  for (int command : sequence) commands[static_cast<size_t>(command)](world);
  world.CheckFrozen();
  world.CheckLive();
  world.CompleteAll();
  world.CheckLive();
}

/// CAIRN_EXPLORER_DEPTH asks for more (each step about ten times the time).
int Depth() {
  if (const char* asked = std::getenv("CAIRN_EXPLORER_DEPTH")) return std::atoi(asked);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 4;  // 28,561 sequences; a sanitizer makes each ten times dearer
#else
  return 5;  // 371,293
#endif
}

template <size_t kCount>
void RunEverySequence(const std::array<Command, kCount>& commands, int depth) {
  std::vector<int> sequence(static_cast<size_t>(depth), 0);
  for (;;) {
    RunSequence(commands, sequence);
    if (::testing::Test::HasFailure()) {
      std::string text;
      for (int command : sequence) text += " " + std::to_string(command);
      FAIL() << "commands:" << text;
    }
    size_t at = 0;
    while (at < sequence.size() && ++sequence[at] == static_cast<int>(kCount)) sequence[at++] = 0;
    if (at == sequence.size()) break;
  }
}

TEST(ViewExplorerTest, EveryInterleavingToADepth) { RunEverySequence(kCommands, Depth()); }

TEST(ViewExplorerTest, EveryInterleavingOfTwoViewsToADepth) {
  RunEverySequence(kCommandsOfTwoViews, Depth());
}

TEST(ViewExplorerTest, LongRandomRunsWithViewsThatEndOrAreAborted) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    World world;
    const uint64_t names = 8 + random() % 60;
    const uint64_t write_share = 1 + random() % 12;
    for (int step = 0; step < 4000 && !::testing::Test::HasFailure(); ++step) {
      const int db = static_cast<int>(random() % kDatabases);
      // Half of the keys stand just before or behind the watermark: the adversary reads it.
      char key[8];
      uint64_t near = random() % names * 256 / names;
      const size_t view = world.viewing() ? random() % world.views() : 0;
      if (world.viewing() && random() % 2) near = (world.watermark(view) >> 40) + random() % 3 - 1;
      std::snprintf(key, sizeof key, "@%02x%c", static_cast<unsigned>(near & 0xff),
                    static_cast<char>('a' + random() % 2));
      if (random() % 12 >= write_share) {
        random() % 3 ? world.WalkOne(view) : static_cast<void>(world.PopOne(view));
        continue;
      }
      switch (random() % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
          world.Set(db, key, step);
          break;
        case 5:
        case 6:
        case 7:
          world.Increment(db, key);
          break;
        case 8:
        case 9:
        case 10:
        case 11:
          world.Remove(db, key);
          break;
        case 12:
        case 13:
          world.Expire(db, key, static_cast<int64_t>(random() % 9000));
          break;
        case 14:
          if (random() % 8 == 0) world.Swap();
          break;
        default:
          if (random() % 16 == 0) world.Flush(db);
          break;
      }
      if (random() % 50 == 0) {
        if (world.views() <= random() % (SnapshotGate::kMaxViews + 1)) {
          world.Begin();
        } else if (random() % 4 == 0) {
          world.End(view);  // abort: disk full, for instance
        } else {
          world.Complete(view);
        }
      }
      world.CheckFrozen();
      if (step % 64 == 0) world.CheckLive();
    }
    world.CompleteAll();
    world.CheckLive();
  }
}

}  // namespace
}  // namespace cairn

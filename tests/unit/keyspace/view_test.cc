#include "server/keyspace/view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/data/member_value.h"
#include "server/keyspace/keyspace.h"
#include "server/platform/memory.h"
#include "tests/support/collecting_sink.h"

namespace cairn {
namespace {

CollectedKeys Contents(Keyspace& keyspace) {
  CollectedKeys keys;
  keyspace.ForEachDatabase([&](Database& db) {
    db.ForEach([&](const Entry& entry) {
      std::string copy;
      keys[{db.index(), std::string(entry.key())}] = {std::string(StringBytes(&entry).Whole(&copy)),
                                                      entry.expire_at_ms()};
      return true;
    });
  });
  return keys;
}

/// Strings of 5,000 bytes and more are big here, in chunks of 1 KiB.
Keyspace::Options WithBigStrings(uint32_t databases, uint64_t seed) {
  return {.databases = databases,
          .hash_seed = seed,
          .listener = nullptr,
          .big_string_bytes = 5000,
          .string_chunk_bytes = 1024};
}

void WalkAll(View* view, CollectingSink& sink, size_t budget = 100) {
  for (;;) {
    Result<bool> more = view->Step(sink, budget);
    ASSERT_TRUE(more.ok()) << more.status().message();
    if (!*more) return;
  }
}

void Fill(Keyspace& keyspace, uint32_t db, int keys) {
  Database& database = keyspace.db(db);
  for (int i = 0; i < keys; ++i) {
    const std::string value = i % 50 == 0 ? std::string(6000, 'b')
                              : i % 3     ? "v" + std::to_string(i)
                                          : std::to_string(i);
    database.Set(database.MakeKey("key:" + std::to_string(i)), ValueInput::String(value),
                 i % 7 ? kNoExpiry : 1000 + i);
  }
}

// One random command; near the watermark half of the time, when `order` gives the keys by position.
void Disturb(Keyspace& keyspace, std::mt19937_64& random, int keys,
             const std::vector<std::pair<uint64_t, int>>& order) {
  Database& db = keyspace.db(random() % 8 ? 0 : 1);
  int number = static_cast<int>(random() % static_cast<uint64_t>(keys + keys / 2));
  if (random() % 2 && keyspace.active_view() != nullptr && !order.empty()) {
    const uint64_t position = keyspace.active_view()->watermark();
    auto at = std::lower_bound(order.begin(), order.end(), std::pair<uint64_t, int>(position, 0));
    const auto index =
        std::min<int64_t>(at - order.begin() + static_cast<int64_t>(random() % 40) - 10,
                          static_cast<int64_t>(order.size()) - 1);
    number = order[static_cast<size_t>(std::max<int64_t>(index, 0))].second;
  }
  const std::string name = "key:" + std::to_string(number);
  const KeyRef key = db.MakeKey(name);
  switch (random() % 12) {
    case 0:
    case 1:
    case 2:
      db.Set(key, ValueInput::String("new" + std::to_string(random())), kNoExpiry);
      break;
    case 3:
      db.Set(key, ValueInput::String(std::string(5000 + random() % 3000, 'n')), kNoExpiry);
      break;
    case 4:
    case 5:
      db.Remove(key, random() % 2);
      break;
    case 6:
    case 7:
      if (const Entry* entry = db.LookupWrite(key); entry && entry->form() == ValueForm::kInt) {
        Entry* mine = db.Mutable(key);
        mine->set_integer(mine->integer() + 1);
      }
      break;
    case 8:
    case 9:
      db.SetExpiry(key, random() % 2 ? kNoExpiry : static_cast<int64_t>(random() % 100000));
      break;
    case 10:
      if (const Entry* entry = db.LookupWrite(key)) {
        const size_t size = entry->StringSize() + random() % 200;
        StringEdit edit = db.EditString(key, size);
        if (size) edit.Write(random() % size, "!");
      }
      break;
    default:
      db.LookupRead(key);
      if (random() % 64 == 0) keyspace.ActiveExpire(200, 1);
      break;
  }
}

std::vector<std::pair<uint64_t, int>> KeysByPosition(Keyspace& keyspace, int keys) {
  std::vector<std::pair<uint64_t, int>> order;
  for (int i = 0; i < keys; ++i)
    order.emplace_back(keyspace.db(0).MakeKey("key:" + std::to_string(i)).hash >> 16, i);
  std::sort(order.begin(), order.end());
  return order;
}

TEST(ViewTest, EmitsTheStateAtTheCutWhateverHappensLater) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Keyspace keyspace(WithBigStrings(3, seed));
    keyspace.set_lazy_expiry(false);
    const int keys = seed % 2 ? 2000 : 30000;
    Fill(keyspace, 0, keys);
    Fill(keyspace, 1, keys / 10);
    const auto order = KeysByPosition(keyspace, keys);
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 2000; ++i) Disturb(keyspace, random, keys, order);
      const CollectedKeys cut = Contents(keyspace);
      View* view = keyspace.BeginView();
      ASSERT_NE(view, nullptr);
      EXPECT_EQ(view->key_count(), cut.size());
      CollectingSink sink;
      bool more = true;
      int step = 0;
      while (more) {
        for (int i = 0; i < keys / 50; ++i) Disturb(keyspace, random, keys, order);
        if (++step == 9 && round == 1) keyspace.Swap(0, 1);
        if (step == 12 && round == 2) keyspace.FlushAll(true);
        Result<bool> stepped = view->Step(sink, 50);
        ASSERT_TRUE(stepped.ok());
        more = *stepped;
      }
      EXPECT_EQ(sink.repeated, 0u);
      EXPECT_EQ(sink.keys, cut);
      EXPECT_EQ(sink.announced_keys, cut.size());
      const CollectedKeys live = Contents(keyspace);
      keyspace.EndView(view);
      EXPECT_EQ(keyspace.retained_bytes(), 0u);
      EXPECT_EQ(Contents(keyspace), live);
      keyspace.ForEachDatabase([](Database& db) { db.CheckInvariants(); });
      if (round == 2) Fill(keyspace, 0, keys);
    }
    keyspace.FlushAll(false);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
  }
}

TEST(ViewTest, WalkerThreadAgainstAdversarialWriter) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Keyspace keyspace(WithBigStrings(2, seed));
    keyspace.set_lazy_expiry(false);
    const int keys = 20000;
    Fill(keyspace, 0, keys);
    Fill(keyspace, 1, 500);
    const auto order = KeysByPosition(keyspace, keys);
    for (int round = 0; round < 4; ++round) {
      const CollectedKeys cut = Contents(keyspace);
      View* view = keyspace.BeginView();
      CollectingSink sink;
      std::atomic<bool> finished{false};
      std::thread walker([&] {
        WalkAll(view, sink, 32);
        finished.store(true);
      });
      int commands = 0;
      while (!finished.load() || commands < 20000) {
        Disturb(keyspace, random, keys, order);
        if (++commands == 3000 && round == 1) keyspace.Swap(0, 1);
        if (commands == 6000 && round == 3) keyspace.FlushAll(true);
      }
      walker.join();
      EXPECT_EQ(sink.repeated, 0u);
      EXPECT_TRUE(sink.keys == cut)
          << sink.keys.size() << " keys walked, " << cut.size() << " at the cut";
      keyspace.EndView(view);
      keyspace.ForEachDatabase([](Database& db) { db.CheckInvariants(); });
      if (round == 1) keyspace.Swap(0, 1);
    }
    keyspace.FlushAll(false);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
  }
}

// Four walkers at a time, each of its own cut, that begin and end in any order.
TEST(ViewTest, SeveralWalkersEachSeeTheirOwnCut) {
  struct Running {
    View* view;
    CollectedKeys cut;
    CollectingSink sink;
    std::atomic<bool> finished{false};
    std::thread walker;
  };
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Keyspace keyspace(WithBigStrings(2, seed));
    keyspace.set_lazy_expiry(false);
    const int keys = 3000;
    Fill(keyspace, 0, keys);
    Fill(keyspace, 1, 500);
    const auto order = KeysByPosition(keyspace, keys);
    std::vector<std::unique_ptr<Running>> running;
    for (int round = 0; round < 60; ++round) {
      if (round < 50 && running.size() < SnapshotGate::kMaxViews && random() % 3 != 0) {
        auto fresh = std::make_unique<Running>();
        fresh->cut = Contents(keyspace);
        fresh->view = keyspace.BeginView();
        ASSERT_NE(fresh->view, nullptr);
        if (running.size() + 1 == SnapshotGate::kMaxViews) {
          EXPECT_EQ(keyspace.BeginView(), nullptr);
        }
        const size_t budget = random() % 2 ? 16 : 200;
        fresh->walker = std::thread([each = fresh.get(), budget] {
          WalkAll(each->view, each->sink, budget);
          each->finished.store(true);
        });
        running.push_back(std::move(fresh));
      }
      for (int i = 0; i < 500; ++i) Disturb(keyspace, random, keys, order);
      if (round % 11 == 5) keyspace.Swap(0, 1);
      if (round % 17 == 9) {
        keyspace.FlushAll(true);
        Fill(keyspace, 0, keys);
      }
      if (running.empty() || (running.size() < SnapshotGate::kMaxViews && round < 50)) continue;
      // Any of them: the youngest may well end first.
      const size_t at = random() % running.size();
      Running& ended = *running[at];
      while (!ended.finished.load()) Disturb(keyspace, random, keys, order);
      ended.walker.join();
      EXPECT_EQ(ended.sink.repeated, 0u);
      EXPECT_TRUE(ended.sink.keys == ended.cut)
          << ended.sink.keys.size() << " keys walked, " << ended.cut.size() << " at the cut";
      keyspace.EndView(ended.view);
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(at));
      keyspace.ForEachDatabase([](Database& db) { db.CheckInvariants(); });
    }
    for (auto& each : running) {
      each->walker.join();
      EXPECT_TRUE(each->sink.keys == each->cut);
      keyspace.EndView(each->view);
    }
    EXPECT_EQ(keyspace.view_count(), 0u);
    EXPECT_EQ(keyspace.retained_bytes(), 0u);
    keyspace.FlushAll(false);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
  }
}

TEST(ViewTest, FailingSinkEndsTheWalkAndLosesNothing) {
  Keyspace keyspace({.databases = 2});
  Fill(keyspace, 0, 5000);
  const CollectedKeys before = Contents(keyspace);
  for (int64_t fail_after : {0, 1, 2500, 4999}) {
    View* view = keyspace.BeginView();
    CollectingSink sink;
    sink.fail_after = fail_after;
    Result<bool> more = true;
    do {
      Database& db = keyspace.db(0);
      for (int i = 0; i < 5000; i += 7) {
        const std::string name = "key:" + std::to_string(i);
        const KeyRef key = db.MakeKey(name);
        db.Set(key, db.Peek(key)->ShareValue(), db.Peek(key)->expire_at_ms());
      }
      more = view->Step(sink, 200);
    } while (more.ok() && *more);
    EXPECT_FALSE(more.ok());
    EXPECT_GT(keyspace.retained_bytes(), 0u);
    EXPECT_GT(keyspace.retained_value_bytes(), 0u);
    EXPECT_LT(keyspace.retained_value_bytes(), keyspace.retained_bytes());
    keyspace.EndView(view);
    EXPECT_EQ(keyspace.retained_bytes(), 0u);
    EXPECT_EQ(Contents(keyspace), before);
  }
}

// A memory limit evicts nothing for what a save holds: not even for the places in its queue.
TEST(ViewTest, WhatIsHeldForAViewIsNotEvictable) {
  Keyspace keyspace({.databases = 1});
  Database& db = keyspace.db(0);
  const auto overwrite = [&](char letter) {
    for (int i = 0; i < 50'000; ++i) {
      db.Set(db.MakeKey("key:" + std::to_string(i)), ValueInput::String(std::string(60, letter)),
             kNoExpiry);
    }
  };
  const auto evictable = [&] {
    return ReadMemoryFigures().allocated - keyspace.SlabFreeBytes() - keyspace.BytesNotEvictable();
  };
  overwrite('a');
  const uint64_t before = evictable();
  View* view = keyspace.BeginView();
  overwrite('b');
  constexpr uint64_t kSlack = 256 * 1024;
  EXPECT_GT(keyspace.retained_value_bytes(), 50'000 * 60u);
  EXPECT_LT(evictable(), before + kSlack);
  CollectingSink sink;
  WalkAll(view, sink);
  keyspace.EndView(view);
  EXPECT_EQ(keyspace.retained_bytes(), 0u);
  sink.keys.clear();
  EXPECT_LT(evictable(), before + kSlack);
}

TEST(ViewTest, FlushDuringTheWalkKeepsTheCutAndFreesAtTheEnd) {
  Keyspace keyspace({.databases = 2});
  Fill(keyspace, 0, 8000);
  const CollectedKeys cut = Contents(keyspace);
  View* view = keyspace.BeginView();
  CollectingSink sink;
  ASSERT_TRUE(view->Step(sink, 1000).ok());
  EXPECT_EQ(keyspace.FlushAll(false), 8000u);
  EXPECT_EQ(keyspace.detached_keys(), 8000u);
  keyspace.db(0).Set(keyspace.db(0).MakeKey("after"), ValueInput::Integer(1), kNoExpiry);
  WalkAll(view, sink);
  EXPECT_EQ(sink.keys, cut);
  keyspace.EndView(view);
  keyspace.DrainReaper();
  EXPECT_EQ(keyspace.detached_keys(), 0u);
  EXPECT_EQ(keyspace.RecordBytes(),
            keyspace.db(0).Peek(keyspace.db(0).MakeKey("after"))->MemoryUsage());
}

// Whatever it is made of: records, values of their own allocations, a big hash.
TEST(ViewTest, WhatAFlushedDatabaseHoldsForAViewIsNotEvictable) {
  Keyspace keyspace({.databases = 2});
  Database& db = keyspace.db(0);
  uint64_t value_bytes = 0;
  const auto allocated = [] { return static_cast<double>(ReadMemoryFigures().allocated); };
  const auto evictable = [&] {
    return allocated() -
           static_cast<double>(keyspace.SlabFreeBytes() + keyspace.BytesNotEvictable());
  };
  keyspace.db(1).Set(keyspace.db(1).MakeKey("k"), ValueInput::Integer(1), kNoExpiry);
  const double before = evictable();
  constexpr uint64_t kKeys = 60'000;
  for (uint64_t i = 0; i < kKeys; ++i) {
    const std::string value(i % 30 == 0 ? 20'000 : 60, 'v');
    db.Set(db.MakeKey("key:" + std::to_string(i)), ValueInput::String(value), kNoExpiry);
  }
  auto* hash = new MemberValue(*keyspace.value_home(), ValueType::kHash);
  for (int i = 0; i < 20'000; ++i) {
    hash->table().Set("field:" + std::to_string(i), std::string(60, 'f'));
  }
  db.Set(db.MakeKey("hash"), ValueInput::FromObject(ValueType::kHash, ObjectRef::Adopt(hash)),
         kNoExpiry);
  db.ForEach([&value_bytes](const Entry& entry) {
    value_bytes += entry.MemoryUsage();
    return true;
  });
  const uint64_t all_bytes = value_bytes + db.TableBytes();
  const uint64_t not_evictable = keyspace.BytesNotEvictable();
  View* view = keyspace.BeginView();
  EXPECT_EQ(keyspace.Flush(0, true), kKeys + 1);
  // From what was counted by then, some hundreds of keys, the rest is guessed.
  EXPECT_GT(keyspace.BytesNotEvictable() - not_evictable, all_bytes / 4);
  for (int i = 0; i < 2000; ++i) keyspace.CountFlushed();
  EXPECT_EQ(keyspace.BytesNotEvictable() - not_evictable, all_bytes);
  constexpr double kSlack = 5e6;
  if (allocated() > 0) {  // a sanitizer's allocator does not tell
    EXPECT_NEAR(evictable(), before, kSlack);
  }
  keyspace.EndView(view);
  keyspace.DrainReaper();
  if (allocated() > 0) {
    EXPECT_NEAR(evictable(), before, kSlack);
  }
}

// What came after the cut no view reads: it is not kept for any, however often it comes and goes.
TEST(ViewTest, AFlushFreesAtOnceWhatCameAfterTheCut) {
  for (const bool lazy : {false, true}) {
    Keyspace keyspace({.databases = 2});
    Fill(keyspace, 0, 100);
    const CollectedKeys first_cut = Contents(keyspace);
    View* first = keyspace.BeginView();
    EXPECT_EQ(keyspace.FlushAll(lazy), 100u);
    const uint64_t held_bytes = keyspace.RecordBytes();
    for (int round = 0; round < 3; ++round) {
      Fill(keyspace, round % 2, 3000);
      EXPECT_EQ(keyspace.FlushAll(lazy), 3000u);
      EXPECT_EQ(keyspace.detached_keys(), 100u);
      keyspace.DrainReaper();
      EXPECT_EQ(keyspace.RecordBytes(), held_bytes);
    }
    // Of two views the younger alone reads what came between them, and keeps it.
    Fill(keyspace, 1, 3000);
    const CollectedKeys second_cut = Contents(keyspace);
    View* second = keyspace.BeginView();
    keyspace.FlushAll(lazy);
    EXPECT_EQ(keyspace.detached_keys(), 3100u);
    CollectingSink sink;
    WalkAll(second, sink);
    EXPECT_EQ(sink.keys, second_cut);
    keyspace.EndView(second);
    EXPECT_EQ(keyspace.detached_keys(), 100u);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), held_bytes);
    CollectingSink first_sink;
    WalkAll(first, first_sink);
    EXPECT_EQ(first_sink.keys, first_cut);
    keyspace.EndView(first);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
  }
}

TEST(ViewTest, DatabasesThatWereNeverUsedNeedNoPlace) {
  constexpr uint32_t kMost = Keyspace::kMaxFrozenTables - 1;
  constexpr uint32_t kDatabases = kMost + 10;
  Keyspace keyspace({.databases = kDatabases, .hash_seed = 5});
  const auto use = [&](uint32_t index) {
    Database& db = keyspace.db(index);
    db.Set(db.MakeKey("k"), ValueInput::Integer(index), kNoExpiry);
  };
  const auto expect_keys = [&](size_t keys) {
    View* view = keyspace.BeginView();
    ASSERT_NE(view, nullptr);
    CollectingSink sink;
    WalkAll(view, sink);
    keyspace.EndView(view);
    EXPECT_EQ(sink.keys, Contents(keyspace));
    EXPECT_EQ(sink.keys.size(), keys);
  };
  use(0);
  use(kDatabases - 1);
  expect_keys(2);
  // As many as there are places, and one more.
  for (uint32_t i = 1; i < kMost - 1; ++i) use(i);
  expect_keys(kMost);
  use(kDatabases - 2);
  EXPECT_EQ(keyspace.BeginView(), nullptr);
  keyspace.Flush(0, false);
  expect_keys(kMost);
}

TEST(ViewTest, EmptyKeyspaceIsWalkedAtOnce) {
  Keyspace keyspace({.databases = 4});
  View* view = keyspace.BeginView();
  CollectingSink sink;
  Result<bool> more = view->Step(sink, 10);
  ASSERT_TRUE(more.ok());
  EXPECT_FALSE(*more);
  EXPECT_TRUE(sink.keys.empty());
  keyspace.EndView(view);
}

TEST(ViewTest, IdleTimeIsEmittedOnlyWhenAsked) {
  class MetaSink : public CollectingSink {
   public:
    Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override {
      last = meta;
      return CollectingSink::Key(key, meta);
    }
    KeyMeta last;
  };
  Keyspace keyspace({.databases = 1});
  keyspace.set_now_ms(1000000);
  keyspace.db(0).Set(keyspace.db(0).MakeKey("k"), ValueInput::Integer(1), kNoExpiry);
  keyspace.set_now_ms(1090000);
  for (const bool on : {false, true}) {
    keyspace.set_save_access(on);
    View* view = keyspace.BeginView();
    MetaSink sink;
    WalkAll(view, sink);
    EXPECT_EQ(sink.last.lru_idle_s, on ? 90 : -1);
    EXPECT_EQ(sink.last.lfu_frequency, -1);
    keyspace.EndView(view);
  }
}

// R6: first in first out they would wait for the last segment that was superseded before them.
TEST(ViewTest, OldValuesGoWithTheSegmentTheyStoodIn) {
  Keyspace keyspace({.databases = 1, .hash_seed = 3});
  constexpr int kKeys = 20000;
  Fill(keyspace, 0, kKeys);
  View* view = keyspace.BeginView();
  Database& db = keyspace.db(0);
  for (int i = 0; i < kKeys; ++i) {
    const std::string name = "key:" + std::to_string(i);
    db.Set(db.MakeKey(name), ValueInput::String("new"), kNoExpiry);
  }
  const uint64_t all = keyspace.retained_value_bytes();
  CollectingSink sink;
  while (sink.keys.size() < kKeys * 3 / 4) {
    Result<bool> more = view->Step(sink, 1);
    ASSERT_TRUE(more.ok() && *more);
  }
  EXPECT_LT(keyspace.retained_value_bytes(), all * 2 / 3);
  keyspace.EndView(view);
  EXPECT_EQ(keyspace.retained_bytes(), 0u);
}

TEST(ViewTest, SmallSharedStateCostsNoMoreThanSegmentCopies) {
  Keyspace keyspace({.databases = 1, .hash_seed = 3});
  Fill(keyspace, 0, 20000);
  View* view = keyspace.BeginView();
  Database& db = keyspace.db(0);
  const uint64_t table_bytes = db.TableBytes();
  for (int i = 0; i < 20000; ++i) {
    const std::string name = "key:" + std::to_string(i);
    const KeyRef key = db.MakeKey(name);
    if (db.Peek(key)->form() == ValueForm::kInt) db.Mutable(key)->set_integer(1);
  }
  const uint64_t first = keyspace.retained_bytes();
  // Every segment once, and the replaced entries.
  EXPECT_LE(first, table_bytes + 20000 * 48);
  for (int i = 0; i < 20000; ++i) {
    const std::string name = "key:" + std::to_string(i);
    const KeyRef key = db.MakeKey(name);
    if (db.Peek(key)->form() == ValueForm::kInt) db.Mutable(key)->set_integer(2);
  }
  EXPECT_EQ(keyspace.retained_bytes(), first);  // private by now (R3)
  keyspace.EndView(view);
}

}  // namespace
}  // namespace cairn

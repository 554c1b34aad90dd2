#include "server/keyspace/keyspace.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>

#include "server/data/record_slab.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

struct Model {
  std::string value;
  int64_t expire_at_ms = kNoExpiry;
  bool operator==(const Model&) const = default;
};

class RecordingListener : public KeyspaceListener {
 public:
  void OnExpired(uint32_t db, std::string_view key) override { expired.emplace_back(db, key); }
  void OnEvicted(uint32_t, std::string_view) override {}
  std::vector<std::pair<uint32_t, std::string>> expired;
};

/// A value that takes long to free, and tells how often another thread than its maker's did.
class HeavyObject final : public Object {
 public:
  explicit HeavyObject(std::atomic<int>* freed_elsewhere, size_t effort = 1'000'000)
      : freed_elsewhere_(freed_elsewhere), effort_(effort) {}
  ~HeavyObject() override {
    if (std::this_thread::get_id() != maker_) freed_elsewhere_->fetch_add(1);
  }
  Status Emit(ValueSink&) const override { return Status::Ok(); }
  size_t MemoryUsage() const override { return sizeof(*this); }
  size_t FreeEffort() const override { return effort_; }
  const char* EncodingName() const override { return "heavy"; }
  const char* TypeName() const override { return "heavy"; }

 private:
  std::atomic<int>* const freed_elsewhere_;
  const size_t effort_;
  const std::thread::id maker_ = std::this_thread::get_id();
};

std::string Text(const Entry& entry) {
  std::string copy;
  return std::string(StringBytes(&entry).Whole(&copy));
}

void ExpectEqual(const Database& db, const std::unordered_map<std::string, Model>& model) {
  ASSERT_EQ(db.size(), model.size());
  size_t seen = 0;
  db.ForEach([&](const Entry& entry) {
    const auto found = model.find(std::string(entry.key()));
    EXPECT_TRUE(found != model.end());
    EXPECT_EQ(Text(entry), found->second.value);
    EXPECT_EQ(entry.expire_at_ms(), found->second.expire_at_ms);
    ++seen;
    return true;
  });
  EXPECT_EQ(seen, model.size());
}

TEST(KeyspaceTest, AgreesWithModelUnderRandomCommands) {
  for (uint64_t seed : {1u, 2u, 3u, 4u}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Keyspace keyspace({.databases = 1, .hash_seed = seed});
    Database& db = keyspace.db(0);
    std::unordered_map<std::string, Model> model;
    const uint64_t keys = seed == 1 ? 300 : 60000;
    for (int step = 0; step < 200000; ++step) {
      // Grows for the first half, shrinks in the second: splits, partitions, merges.
      const bool shrinking = step > 100000;
      const std::string name = "key:" + std::to_string(random() % keys);
      const KeyRef key = db.MakeKey(name);
      const uint64_t dice = random() % 10;
      if (dice < (shrinking ? 2u : 6u)) {
        const std::string value =
            random() % 3 ? "v" + std::to_string(random()) : std::to_string(random() % 1000);
        const int64_t at_ms =
            random() % 4 ? kNoExpiry : static_cast<int64_t>(1000 + random() % 1000);
        db.Set(key, ValueInput::String(value), at_ms);
        model[name] = {value, at_ms};
      } else if (dice < (shrinking ? 8u : 7u)) {
        EXPECT_EQ(db.Remove(key, random() % 2), model.erase(name) == 1);
      } else if (dice == 8) {
        const int64_t at_ms = random() % 2 ? kNoExpiry : static_cast<int64_t>(random() % 5000);
        EXPECT_EQ(db.SetExpiry(key, at_ms), model.count(name) == 1);
        if (model.count(name)) model[name].expire_at_ms = at_ms;
      } else {
        const Entry* entry = db.LookupRead(key);
        ASSERT_EQ(entry != nullptr, model.count(name) == 1);
        if (entry) {
          EXPECT_EQ(Text(*entry), model[name].value);
        }
      }
      if (step % 20000 == 0) db.CheckInvariants();
    }
    db.CheckInvariants();
    ExpectEqual(db, model);
    while (!model.empty()) {
      EXPECT_TRUE(db.Remove(db.MakeKey(model.begin()->first), false));
      model.erase(model.begin());
    }
    db.CheckInvariants();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
    EXPECT_EQ(db.expire_count(), 0u);
  }
}

TEST(KeyspaceTest, ScanSeesEachLastingKeyOnceWhileTheTableGrowsAndShrinks) {
  for (const bool grow : {true, false}) {
    SCOPED_TRACE(grow ? "growing" : "shrinking");
    std::mt19937_64 random(11);
    Keyspace keyspace({.databases = 1, .hash_seed = 5});
    Database& db = keyspace.db(0);
    const int lasting = 3000;
    for (int i = 0; i < lasting; ++i)
      db.Set(db.MakeKey("last" + std::to_string(i)), ValueInput::Integer(i), kNoExpiry);
    const int others = 60000;
    int next = grow ? 0 : others;
    if (!grow) {
      for (int i = 0; i < others; ++i)
        db.Set(db.MakeKey("x" + std::to_string(i)), ValueInput::Integer(i), kNoExpiry);
    }
    std::map<std::string, int> seen;
    uint64_t cursor = 0;
    int calls = 0;
    do {
      cursor = db.Scan(cursor, 1 + random() % 20,
                       [&](const Entry& entry) { ++seen[std::string(entry.key())]; });
      EXPECT_LT(cursor, uint64_t{1} << 52);
      ++calls;
      for (int i = 0; i < 200; ++i) {
        if (grow && next < others) {
          db.Set(db.MakeKey("x" + std::to_string(next++)), ValueInput::Integer(1), kNoExpiry);
        } else if (!grow && next > 0) {
          db.Remove(db.MakeKey("x" + std::to_string(--next)), false);
        }
      }
    } while (cursor != 0);
    for (int i = 0; i < lasting; ++i) EXPECT_EQ(seen["last" + std::to_string(i)], 1) << i;
    for (const auto& [key, times] : seen) EXPECT_EQ(times, 1) << key;
    EXPECT_GT(calls, 20);
    db.CheckInvariants();
  }
}

TEST(KeyspaceTest, MutableStringKeepsBytesAndZeroesGrowth) {
  Keyspace keyspace({.databases = 1});
  Database& db = keyspace.db(0);
  const KeyRef key = db.MakeKey("s");
  db.Set(key, ValueInput::String("12"), 77);
  std::string model = "12";
  std::mt19937_64 random(3);
  for (size_t size : {5u, 5u, 44u, 4096u, 4097u, 9000u, 9001u, 200000u, 200000u, 3000000u}) {
    char* data = db.MutableString(key, size);
    model.resize(size);
    EXPECT_EQ(std::string_view(data, size), model);
    const size_t at = random() % size;
    data[at] = model[at] = 'x';
    const Entry* entry = db.LookupRead(key);
    EXPECT_EQ(Text(*entry), model);
    EXPECT_EQ(entry->expire_at_ms(), 77);
    EXPECT_STREQ(entry->EncodingName(), "raw");
  }
  // A reply still holds the blob: the next edit must not change it.
  for (const bool big : {false, true}) {
    if (!big) db.Set(key, ValueInput::String(std::string(200000, 's')), 77);
    if (big) db.Set(key, ValueInput::String(std::string(3000000, 'b')), 77);
    const BlobRef held = db.LookupRead(key)->BlobValue();
    const std::string before(held.view());
    db.EditString(key, before.size()).Write(0, "#");
    EXPECT_EQ(held.view(), before);
    EXPECT_EQ(Text(*db.LookupRead(key)), "#" + before.substr(1));
    EXPECT_EQ(db.LookupRead(key)->form(), big ? ValueForm::kObject : ValueForm::kBlob);
    EXPECT_EQ(db.LookupRead(key)->expire_at_ms(), 77);
  }
}

TEST(KeyspaceTest, ExpiredKeysVanishLazilyAndAreReported) {
  RecordingListener listener;
  Keyspace keyspace({.databases = 2, .listener = &listener});
  Database& db = keyspace.db(1);
  keyspace.set_now_ms(1000);
  db.Set(db.MakeKey("k"), ValueInput::String("v"), 1000);
  EXPECT_NE(db.LookupRead(db.MakeKey("k")), nullptr);  // due only when its time has passed
  keyspace.set_now_ms(1001);
  keyspace.set_lazy_expiry(false);
  EXPECT_NE(db.LookupRead(db.MakeKey("k")), nullptr);
  keyspace.set_lazy_expiry(true);
  EXPECT_EQ(db.LookupWrite(db.MakeKey("k")), nullptr);
  ASSERT_EQ(listener.expired.size(), 1u);
  EXPECT_EQ(listener.expired[0], (std::pair<uint32_t, std::string>(1, "k")));
  EXPECT_EQ(db.size(), 0u);
  EXPECT_EQ(keyspace.figures().expired_keys, 1u);
}

TEST(KeyspaceTest, ActiveCycleFindsAllDueKeysAndSkipsQuietSegments) {
  RecordingListener listener;
  Keyspace keyspace({.databases = 2, .hash_seed = 9, .listener = &listener});
  Database& db = keyspace.db(0);
  const int keys = 20000;
  for (int i = 0; i < keys; ++i) {
    db.Set(db.MakeKey("k" + std::to_string(i)), ValueInput::Integer(i),
           i % 2 ? 1000 + i : kNoExpiry);
  }
  keyspace.set_now_ms(500);
  EXPECT_EQ(keyspace.ActiveExpire(1000000, 10), 0u);
  keyspace.set_now_ms(11000);
  uint64_t expired = 0;
  for (int round = 0; round < 4; ++round) expired += keyspace.ActiveExpire(1000000, 10);
  EXPECT_EQ(expired, 5000u);
  EXPECT_EQ(listener.expired.size(), 5000u);
  db.CheckInvariants();
  EXPECT_EQ(db.expire_count(), 5000u);
  EXPECT_GT(db.average_ttl_ms(), 0);
  keyspace.set_now_ms(100000);
  for (int round = 0; round < 4; ++round) keyspace.ActiveExpire(1000000, 1);
  EXPECT_EQ(db.expire_count(), 0u);
  EXPECT_GT(keyspace.figures().expire_cycle_us, 0);
  EXPECT_EQ(db.size(), 10000u);
  db.CheckInvariants();
}

TEST(KeyspaceTest, ActiveCyclesTakeTurnsThroughManyDatabases) {
  constexpr uint32_t kDatabases = 40, kAtOnce = 16;
  Keyspace keyspace({.databases = kDatabases, .hash_seed = 9});
  for (uint32_t i = 0; i < kDatabases; ++i)
    keyspace.db(i).Set(keyspace.db(i).MakeKey("k"), ValueInput::Integer(1), 1000);
  keyspace.set_now_ms(2000);
  uint64_t expired = 0;
  for (uint32_t done = 0; done < kDatabases; done += kAtOnce) {
    const uint64_t now = keyspace.ActiveExpire(1'000'000, 1);
    EXPECT_LE(now, kAtOnce);
    expired += now;
  }
  EXPECT_EQ(expired, kDatabases);
}

TEST(KeyspaceTest, TheShareOfStaleKeysFallsWhenNothingIsDue) {
  Keyspace keyspace({.databases = 1, .hash_seed = 9});
  Database& db = keyspace.db(0);
  for (const char* key : {"a", "b"}) db.Set(db.MakeKey(key), ValueInput::Integer(1), 1000);
  keyspace.set_now_ms(2000);
  keyspace.ActiveExpire(1'000'000, 1);
  EXPECT_DOUBLE_EQ(keyspace.figures().expired_stale_percent, 5);
  keyspace.ActiveExpire(1'000'000, 1);
  EXPECT_DOUBLE_EQ(keyspace.figures().expired_stale_percent, 4.75);
}

TEST(KeyspaceTest, RandomIsFair) {
  Keyspace keyspace({.databases = 1, .hash_seed = 4});
  Database& db = keyspace.db(0);
  EXPECT_EQ(db.Random(1), nullptr);
  for (const int keys : {1, 10, 2000}) {
    for (int i = 0; i < keys; ++i)
      db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i), kNoExpiry);
    std::vector<int> hits(static_cast<size_t>(keys));
    std::mt19937_64 random(17);
    const int draws = 200 * keys;
    for (int i = 0; i < draws; ++i) ++hits[static_cast<size_t>(db.Random(random())->integer())];
    double chi_square = 0;
    for (int count : hits) chi_square += (count - 200.0) * (count - 200.0) / 200.0;
    EXPECT_LT(chi_square, keys * 1.4 + 30) << keys;
  }
}

TEST(KeyspaceTest, FlushEmptiesAndTheReaperFrees) {
  for (const bool lazy : {false, true}) {
    Keyspace keyspace({.databases = 3});
    for (uint32_t index : {0u, 2u}) {
      Database& db = keyspace.db(index);
      for (int i = 0; i < 5000; ++i) {
        db.Set(db.MakeKey(std::to_string(i)),
               ValueInput::String(i % 100 ? "some value" : std::string(100000, 'x')), i);
      }
    }
    EXPECT_EQ(keyspace.Flush(2, lazy), 5000u);
    EXPECT_EQ(keyspace.db(2).size(), 0u);
    EXPECT_EQ(keyspace.db(0).size(), 5000u);
    EXPECT_EQ(keyspace.FlushAll(lazy), 5000u);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);
    EXPECT_EQ(keyspace.db(0).expire_count(), 0u);
    keyspace.db(2).Set(keyspace.db(2).MakeKey("again"), ValueInput::Integer(1), kNoExpiry);
    keyspace.db(2).CheckInvariants();
  }
}

TEST(KeyspaceTest, TheReaperIsTheLastToHoldAHeavyValue) {
  constexpr int kRounds = 20000;  // the reaper may be quicker than the rest of a removal
  std::atomic<int> freed_elsewhere = 0;
  for (const bool lazy : {false, true}) {
    freed_elsewhere = 0;
    Keyspace keyspace({.databases = 1});
    Database& db = keyspace.db(0);
    for (int i = 0; i < kRounds; ++i) {
      const auto key = db.MakeKey("heavy");
      db.Set(key,
             ValueInput::FromObject(ValueType::kModule,
                                    ObjectRef::Adopt(new HeavyObject(&freed_elsewhere))),
             kNoExpiry);
      ASSERT_TRUE(db.Remove(key, lazy));
    }
    keyspace.DrainReaper();
    EXPECT_EQ(freed_elsewhere, kRounds);
  }
}

TEST(KeyspaceTest, WhatIsReplacedIsFreedInPlaceWhereRemovingItWouldBe) {
  for (const size_t effort : {100u, 1'000'000u}) {
    std::atomic<int> freed_elsewhere = 0;
    Keyspace keyspace({.databases = 1});
    Database& db = keyspace.db(0);
    const auto key = db.MakeKey("key");
    db.Set(key,
           ValueInput::FromObject(ValueType::kModule,
                                  ObjectRef::Adopt(new HeavyObject(&freed_elsewhere, effort))),
           kNoExpiry);
    db.Set(key, ValueInput::String("other"), kNoExpiry);
    keyspace.DrainReaper();
    EXPECT_EQ(freed_elsewhere, effort > 1000 ? 1 : 0);
  }
}

TEST(KeyspaceTest, FreedRecordsAreTakenBackWithoutAnyStore) {
  Keyspace keyspace({.databases = 1});
  Database& db = keyspace.db(0);
  for (int i = 0; i < 50000; ++i)
    db.Set(db.MakeKey(std::to_string(i)), ValueInput::String("some value"), kNoExpiry);
  EXPECT_EQ(keyspace.FlushAll(true), 50000u);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (keyspace.RecordBytes() != 0 && std::chrono::steady_clock::now() < deadline)
    keyspace.TakeBackFreed();
  EXPECT_EQ(keyspace.RecordBytes(), 0u);
}

TEST(KeyspaceTest, ReservedTableHoldsWhatItIsGiven) {
  Keyspace keyspace({.databases = 1});
  Database& db = keyspace.db(0);
  db.Reserve(300000);
  const uint64_t bytes = db.TableBytes();
  for (int i = 0; i < 300000; ++i)
    db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i), kNoExpiry);
  db.CheckInvariants();
  EXPECT_LT(db.TableBytes(), bytes * 5 / 4);  // hardly a split was needed
}

TEST(KeyspaceTest, MemoryPerKeyStaysWithinSixtyBytes) {
  Keyspace keyspace({.databases = 1, .hash_seed = 77});
  Database& db = keyspace.db(0);
  double worst = 0;
  char name[17];
  for (int i = 0; i < 1100000; ++i) {
    std::snprintf(name, sizeof name, "key:%012d", i);
    db.Set(db.MakeKey(name), ValueInput::String("value-of-16bytes"), kNoExpiry);
    if (i >= 500000 && i % 10000 == 0) {
      const double bytes = static_cast<double>(keyspace.RecordBytes() + keyspace.SlabFreeBytes() +
                                               keyspace.OverheadBytes()) /
                           (i + 1);
      worst = std::max(worst, bytes);
    }
  }
  RecordProperty("worst_bytes_per_key", std::to_string(worst));
  std::printf("worst bytes per key over one doubling: %.1f\n", worst);
  EXPECT_LT(worst, 60.0);
}

TEST(KeyspaceTest, LfuCountsAndDecays) {
  Keyspace keyspace({.databases = 1});
  keyspace.set_access_mode(true, 0, 1);
  keyspace.set_now_ms(60000);
  Database& db = keyspace.db(0);
  const Entry* entry = db.Set(db.MakeKey("k"), ValueInput::Integer(1), kNoExpiry);
  EXPECT_EQ(keyspace.FrequencyOf(*entry), 5);
  for (int i = 0; i < 10; ++i) db.LookupRead(db.MakeKey("k"));  // log factor 0: every hit counts
  EXPECT_EQ(keyspace.FrequencyOf(*entry), 15);
  keyspace.set_now_ms(60000 * 5);
  EXPECT_EQ(keyspace.FrequencyOf(*entry), 11);
}

}  // namespace
}  // namespace cairn

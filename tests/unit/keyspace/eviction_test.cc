#include "server/keyspace/eviction.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "server/keyspace/keyspace.h"

namespace cairn {
namespace {

TEST(EvictionPoolTest, KeepsTheBestSixteenAndGivesTheBestFirst) {
  EvictionPool pool;
  for (uint64_t i = 0; i < 40; ++i) pool.Offer(i * 7 % 40, 0, "key" + std::to_string(i * 7 % 40));
  EXPECT_EQ(pool.size(), EvictionPool::kCandidates);
  EvictionPool::Candidate best;
  for (uint64_t score = 39; score >= 24; --score) {
    ASSERT_TRUE(pool.TakeBest(&best));
    EXPECT_EQ(best.score, score);
    EXPECT_EQ(best.key, "key" + std::to_string(score));
  }
  EXPECT_FALSE(pool.TakeBest(&best));
}

TEST(EvictionPoolTest, AKeyOfferedAgainTakesItsNewScore) {
  EvictionPool pool;
  pool.Offer(5, 0, "a");
  pool.Offer(6, 0, "b");
  pool.Offer(5, 1, "a");  // another database, another key
  pool.Offer(9, 0, "a");
  EXPECT_EQ(pool.size(), 3u);
  EvictionPool::Candidate best;
  ASSERT_TRUE(pool.TakeBest(&best));
  EXPECT_EQ(best.key, "a");
  EXPECT_EQ(best.database, 0u);
}

TEST(SampleTest, EveryKeyIsAboutAsLikely) {
  Keyspace keyspace({.databases = 1, .hash_seed = 5});
  Database& db = keyspace.db(0);
  constexpr int kKeys = 3000, kDraws = 60000;
  for (int i = 0; i < kKeys; ++i)
    db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i), kNoExpiry);
  std::map<int64_t, int> drawn;
  uint64_t random = 88172645463325252;
  for (int i = 0; i < kDraws; ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    db.Sample(random, 5, false, SIZE_MAX, [&](const Entry& entry) { ++drawn[entry.integer()]; });
  }
  // 100 expected of each. Neighbours are drawn together, so the spread is wider than a binomial's.
  int low = 0, high = 0;
  for (int i = 0; i < kKeys; ++i) {
    low += drawn[i] < 40;
    high += drawn[i] > 250;
  }
  EXPECT_LE(low, kKeys / 50);
  EXPECT_LE(high, kKeys / 50);
  EXPECT_EQ(drawn.size(), static_cast<size_t>(kKeys));
}

TEST(SampleTest, VisitsEverythingOnceWhenAskedForMore) {
  for (int keys : {1, 7, 1000}) {
    Keyspace keyspace({.databases = 1, .hash_seed = 6});
    Database& db = keyspace.db(0);
    for (int i = 0; i < keys; ++i)
      db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i), i % 10 == 3 ? 5000 : kNoExpiry);
    for (uint64_t random : {uint64_t{0}, uint64_t{1} << 63, UINT64_MAX, uint64_t{123456789}}) {
      std::map<int64_t, int> all, timed;
      db.Sample(random, SIZE_MAX, false, SIZE_MAX, [&](const Entry& e) { ++all[e.integer()]; });
      db.Sample(random, SIZE_MAX, true, SIZE_MAX, [&](const Entry& e) { ++timed[e.integer()]; });
      EXPECT_EQ(all.size(), static_cast<size_t>(keys));
      EXPECT_EQ(timed.size(), static_cast<size_t>(db.expire_count()));
      for (const auto& [key, times] : all) EXPECT_EQ(times, 1);
      for (const auto& [key, times] : timed) EXPECT_EQ(key % 10, 3);
    }
  }
}

TEST(EvictOneTest, EmptiesTheKeyspaceUnderEveryOrderWhileTheTableShrinks) {
  using Order = EvictionRules::Order;
  for (Order order : {Order::kRandom, Order::kIdle, Order::kFrequency, Order::kTtl}) {
    for (bool volatile_only : {false, true}) {
      if (order == Order::kTtl && !volatile_only) continue;
      Keyspace keyspace({.databases = 2, .hash_seed = 9});
      for (int i = 0; i < 3000; ++i) {
        Database& db = keyspace.db(i % 2);
        db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i), i % 3 ? 1000 + i : kNoExpiry);
      }
      const EvictionRules rules{.order = order, .volatile_only = volatile_only};
      uint64_t evicted = 0;
      while (keyspace.EvictOne(rules) != 0) ++evicted;
      EXPECT_EQ(evicted, volatile_only ? 2000u : 3000u);
      EXPECT_EQ(keyspace.figures().evicted_keys, evicted);
      EXPECT_EQ(keyspace.db(0).size() + keyspace.db(1).size(), 3000 - evicted);
      keyspace.ForEachDatabase([](Database& db) {
        db.CheckInvariants();
        EXPECT_EQ(db.expire_count(), 0u);
      });
    }
  }
}

TEST(AverageTtlTest, IsEstimatedWhileNothingIsDue) {
  Keyspace keyspace({.databases = 2});
  keyspace.set_now_ms(1'000'000);
  Database& db = keyspace.db(0);
  for (int i = 0; i < 1000; ++i)
    db.Set(db.MakeKey(std::to_string(i)), ValueInput::Integer(i),
           i % 4 ? kNoExpiry : 1'000'000 + 60'000);
  keyspace.ActiveExpire(1000, 1);
  EXPECT_EQ(db.average_ttl_ms(), 60'000);
  EXPECT_EQ(keyspace.db(1).average_ttl_ms(), 0);
  for (int i = 0; i < 1000; ++i) db.SetExpiry(db.MakeKey(std::to_string(i)), kNoExpiry);
  keyspace.ActiveExpire(1000, 1);
  EXPECT_EQ(db.average_ttl_ms(), 0);
}

class KeptObject final : public Object {
 public:
  Status Emit(ValueSink&) const override { return Status::Ok(); }
  size_t MemoryUsage() const override { return sizeof(*this); }
  size_t FreeEffort() const override { return 1; }
  bool MayEvict() const override { return false; }
  const char* EncodingName() const override { return "kept"; }
  const char* TypeName() const override { return "kept"; }
};

TEST(EvictOneTest, WhatMustStayStaysUnderEveryOrder) {
  using Order = EvictionRules::Order;
  for (Order order : {Order::kRandom, Order::kIdle, Order::kFrequency, Order::kTtl}) {
    Keyspace keyspace({.databases = 2, .hash_seed = 9});
    for (int i = 0; i < 400; ++i) {
      Database& db = keyspace.db(i % 2);
      ValueInput value = ValueInput::Integer(i);
      if (i % 4 == 0) {
        value = ValueInput::FromObject(ValueType::kModule, ObjectRef::Adopt(new KeptObject));
      }
      db.Set(db.MakeKey(std::to_string(i)), value, 1000 + i);
    }
    const EvictionRules rules{.order = order, .volatile_only = order == Order::kTtl};
    uint64_t evicted = 0;
    while (keyspace.EvictOne(rules) != 0) ++evicted;
    EXPECT_EQ(evicted, 300u);
    EXPECT_EQ(keyspace.EvictOne(rules), 0u) << "and it is not looked for without end";
    EXPECT_EQ(keyspace.db(0).size(), 100u);
    EXPECT_EQ(keyspace.db(1).size(), 0u);
  }
}

}  // namespace
}  // namespace cairn

// SegTable with segments of a few slots, so that splits, doublings, merges and overflow chains
// happen all the time, against a std::map. Records are plain structs: the table does not own them.

#include "server/data/seg_table.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "server/base/hash.h"

namespace cairn {
namespace {

struct alignas(8) Item {
  std::string key;
  int64_t expire_at_ms = INT64_MAX;
};

struct SmallPolicy {
  using Record = Item;
  static uint64_t Hash(std::string_view key, uint64_t seed) { return HashBytes(key, seed); }
  static std::string_view Key(const Item& item) { return item.key; }
  static int64_t ExpireAtMs(const Item& item) { return item.expire_at_ms; }
  static constexpr int kBucketBits = 2, kStashBuckets = 3, kStashReserve = 1, kSlots = 3,
                       kRootBits = 3;
};
using SmallTable = SegTable<SmallPolicy>;

class SegTableTest : public ::testing::Test {
 protected:
  SegTableTest() : frames_(sizeof(SmallTable::Seg)), table_(&gate_, &frames_, 42) {}

  bool Insert(const std::string& key, int64_t expire_at_ms = INT64_MAX) {
    if (items_.count(key)) return false;
    items_[key] = std::make_unique<Item>(Item{key, expire_at_ms});
    table_.Insert(table_.HashOf(key), items_[key].get());
    return true;
  }
  bool Erase(const std::string& key) {
    const uint64_t hash = table_.HashOf(key);
    auto place = table_.Find(hash, key);
    if (!place) return false;
    table_.Own(&place);
    const auto removed = table_.Erase(place, hash);
    EXPECT_EQ(removed.record, items_[key].get());
    EXPECT_FALSE(removed.shared);  // no view is open
    items_.erase(key);
    return true;
  }
  void ExpectSame() {
    table_.CheckInvariants();
    EXPECT_EQ(table_.size(), items_.size());
    std::set<std::string> seen;
    uint64_t last_prefix = 0;
    table_.ForEach([&](const Item& item) {
      EXPECT_TRUE(seen.insert(item.key).second);
      const SmallTable::Seg* segment = table_.SegmentOf(table_.HashOf(item.key));
      EXPECT_GE(segment->prefix, last_prefix);  // hash order at the grain of segments
      last_prefix = segment->prefix;
      return true;
    });
    EXPECT_EQ(seen.size(), items_.size());
    for (const auto& [key, item] : items_) {
      const auto place = table_.Find(table_.HashOf(key), key);
      ASSERT_TRUE(place) << key;
      EXPECT_EQ(place.record(), item.get());
    }
  }

  SnapshotGate gate_;
  ViewLane* lane_ = nullptr;
  FramePool frames_;
  SmallTable table_;
  std::map<std::string, std::unique_ptr<Item>> items_;
};

TEST_F(SegTableTest, EqualsTheModelWhileItGrowsAndShrinks) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    for (uint64_t phase = 0; phase < 6; ++phase) {
      const uint64_t insert_share = phase % 2 ? 2 : 8;
      for (int step = 0; step < 3000; ++step) {
        const std::string key = "key:" + std::to_string(random() % 3000);
        if (random() % 10 < insert_share) {
          const bool there = items_.count(key) != 0;
          EXPECT_EQ(Insert(key), !there);
        } else {
          const bool there = items_.count(key) != 0;
          EXPECT_EQ(Erase(key), there);
        }
      }
      ExpectSame();
    }
    while (!items_.empty()) EXPECT_TRUE(Erase(std::string(items_.begin()->first)));
    ExpectSame();
  }
}

TEST_F(SegTableTest, ShrinksToOneSegmentAgain) {
  for (int i = 0; i < 5000; ++i) Insert(std::to_string(i));
  EXPECT_GT(table_.segment_count(), 300u);
  const uint64_t grown_bytes = table_.structure_bytes();
  for (int i = 0; i < 5000; ++i) EXPECT_TRUE(Erase(std::to_string(i)));
  ExpectSame();
  EXPECT_EQ(table_.segment_count(), 1u);
  EXPECT_LT(table_.structure_bytes(), grown_bytes / 10);
}

TEST_F(SegTableTest, SegmentKeepsALowerBoundOfItsExpiries) {
  for (int i = 0; i < 500; ++i) Insert(std::to_string(i), 1000 + i);
  table_.CheckInvariants();  // checks the bound of each segment
  const std::string key = "77";
  auto place = table_.Find(table_.HashOf(key), key);
  table_.Own(&place);
  place.record()->expire_at_ms = 5;
  table_.NoteExpiry(place, 5);
  table_.CheckInvariants();
  EXPECT_EQ(place.segment->earliest_expiry_ms, 5);
  place.record()->expire_at_ms = INT64_MAX;
  int64_t earliest = INT64_MAX;
  SmallTable::ForEachIn(place.segment, [&](const Item& item) {
    earliest = std::min(earliest, item.expire_at_ms);
    return true;
  });
  table_.TightenExpiry(place.segment, earliest);
  EXPECT_EQ(place.segment->earliest_expiry_ms, earliest);
  table_.CheckInvariants();
}

TEST_F(SegTableTest, AViewMakesWritersCopyASegmentOnceAndOnlyAheadOfTheWatermark) {
  for (int i = 0; i < 200; ++i) Insert(std::to_string(i));
  table_.FreezeAs(0);
  lane_ = gate_.Open();
  const std::string key = "50";
  const uint64_t hash = table_.HashOf(key);
  auto place = table_.Find(hash, key);
  const SmallTable::Seg* frozen = place.segment;
  table_.Own(&place);
  EXPECT_NE(place.segment, frozen);
  EXPECT_FALSE(table_.IsPrivate(place, hash));
  const SmallTable::Seg* copy = place.segment;
  table_.Own(&place);
  EXPECT_EQ(place.segment, copy);  // owned by now
  EXPECT_TRUE(table_.Exchange(place, hash, place.record()).shared);
  EXPECT_TRUE(table_.IsPrivate(place, hash));
  EXPECT_GT(gate_.retained_bytes(), sizeof(SmallTable::Seg));
  EXPECT_EQ(gate_.retained_record_bytes(), 0u);
  // Behind W nothing is copied, and what is marked SHARED is private all the same.
  lane_->PublishWatermark(kWatermarkEnd);
  const std::string other = "51";
  auto behind = table_.Find(table_.HashOf(other), other);
  const SmallTable::Seg* stamped = behind.segment;
  table_.Own(&behind);
  EXPECT_EQ(behind.segment, stamped);
  EXPECT_TRUE(table_.IsPrivate(behind, table_.HashOf(other)));
  Retired item;
  while (lane_->Pop(&item)) {
    item.kind == Retired::Kind::kSegment ? frames_.GiveRemote(item.object) : std::free(item.object);
    gate_.Released(item.kind, item.size_bytes);
  }
  gate_.Close(*lane_);
  ExpectSame();
}

}  // namespace
}  // namespace cairn

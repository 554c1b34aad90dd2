// Big hashes and sets under snapshots: changed through MembersEdit, renamed, copied, expired,
// deleted and flushed while a view reads them, in steps and by a thread. What the walk emits is
// what the keyspace held at the cut, member by member (V1).

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "persistence/packed_value.h"
#include "server/base/strings.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/member_edit.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

using Members = std::map<std::string, std::string>;
using Dataset = std::map<std::string, Members>;

/// Takes hashes and sets; a key or member that comes twice fails the test.
class MembersSink final : public DatasetSink, public ValueSink {
 public:
  Dataset keys;
  /// Called before a field is taken, with how many of its value there are: what the executor does
  /// while the walker stands inside of a value.
  std::function<void(size_t)> inside;

  Status Aux(std::string_view, std::string_view) override { return Refused("aux"); }
  Status FunctionLibrary(std::string_view) override { return Refused("function"); }
  Status SelectDatabase(uint32_t index, uint64_t, uint64_t) override {
    prefix_ = std::to_string(index) + "/";
    return Status::Ok();
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta&) override {
    const auto [at, fresh] = keys.insert({prefix_ + std::string(key), {}});
    EXPECT_TRUE(fresh) << key;
    current_ = &at->second;
    return static_cast<ValueSink*>(this);
  }
  Status Begin(ValueKind, uint64_t count) override {
    announced_ = count;
    return Status::Ok();
  }
  Status Item(std::string_view element) override { return Field(element, ""); }
  Status Field(std::string_view field, std::string_view value) override {
    if (inside) inside(current_->size());
    EXPECT_TRUE(current_->emplace(field, value).second) << field;
    return Status::Ok();
  }
  Status Packed(uint8_t type, std::string_view blob) override {
    return UnpackValue(type, blob, *this);
  }
  Status End() override {
    EXPECT_EQ(current_->size(), announced_);
    return Status::Ok();
  }
  Status String(std::string_view) override { return Refused("string"); }
  Status Integer(int64_t) override { return Refused("string"); }
  Status Scored(std::string_view, double) override { return Refused("sorted set"); }
  Status BeginModule(uint64_t) override { return Refused("module"); }
  Status ModuleUnsigned(uint64_t) override { return Refused("module"); }
  Status ModuleSigned(int64_t) override { return Refused("module"); }
  Status ModuleDouble(double) override { return Refused("module"); }
  Status ModuleFloat(float) override { return Refused("module"); }
  Status ModuleString(std::string_view) override { return Refused("module"); }

 private:
  std::string prefix_;
  Members* current_ = nullptr;
  uint64_t announced_ = 0;
};

Dataset Contents(Keyspace& keyspace) {
  Dataset all;
  keyspace.ForEachDatabase([&](Database& db) {
    db.ForEach([&](const Entry& entry) {
      Members& members = all[std::to_string(db.index()) + "/" + std::string(entry.key())];
      char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
      MembersView(entry).ForEach([&](const Member& member) {
        members.emplace(member.key.Text(key_scratch), member.value.Text(value_scratch));
        return true;
      });
      return true;
    });
  });
  return all;
}

class MembersUnderViewTest : public testing::Test {
 protected:
  MembersUnderViewTest() { keyspace_.emplace(Keyspace::Options{.databases = 2, .hash_seed = 5}); }

  Keyspace& keyspace() { return *keyspace_; }
  /// Edits keep the reference, so the name has to last.
  KeyRef Key(const std::string& name) {
    return keyspace().db(0).MakeKey(*names_.insert(name).first);
  }

  static std::string RandomText(std::mt19937_64& random, uint64_t space) {
    const uint64_t number = random() % space;
    if (number % 3 == 0) return std::to_string(number * 37);
    if (number % 40 == 1) return std::string(600 + number % 200, 'x') + std::to_string(number);
    return "member-" + std::to_string(number);
  }

  // A few keys, so that each is big and often met by the walk.
  void Disturb(std::mt19937_64& random) {
    Database& db = keyspace().db(0);
    const uint64_t number = random() % 12;
    const std::string name = "key:" + std::to_string(number);
    const KeyRef key = Key(name);
    const ValueType type = number % 2 ? ValueType::kHash : ValueType::kSet;
    const Entry* entry = db.Peek(key);
    const std::string other = "key:" + std::to_string((number + 2 * (random() % 6)) % 12);
    switch (random() % 128) {
      case 0:
        if (entry == nullptr || name == other) return;
        db.Set(Key(other), entry->ShareValue(), kNoExpiry);
        db.Remove(key, random() % 2);
        return;
      case 1:
        if (entry != nullptr && name != other) db.Set(Key(other), entry->CloneValue(), kNoExpiry);
        return;
      case 2:
        if (random() % 4 == 0) db.Remove(key, random() % 2);
        return;
      case 3:
        db.SetExpiry(key, random() % 2 ? kNoExpiry : 1'000'000);
        return;
      case 4:
        if (random() % 32 == 0) keyspace().Swap(0, 1);
        if (random() % 64 == 0) keyspace().Flush(0, random() % 2);
        return;
      default:
        break;
    }
    MembersEdit edit(keyspace(), db, key, entry, type, limits_);
    for (uint64_t i = random() % 40; i > 0; --i) {
      if (random() % 3 == 0) {
        edit.Erase(RandomText(random, 2000));
      } else {
        edit.Set(RandomText(random, 2000), type == ValueType::kHash ? RandomText(random, 300) : "");
      }
    }
    edit.Commit();
  }

  /// Sets so many fields of a hash in database 0 to one value.
  void WriteFields(const std::string& key, size_t count, const std::string& value) {
    Database& db = keyspace().db(0);
    MembersEdit edit(keyspace(), db, Key(key), db.Peek(Key(key)), ValueType::kHash, limits_);
    for (size_t i = 0; i < count; ++i) edit.Set("field:" + std::to_string(i), value);
    edit.Commit();
  }

  /// Writes a hash of so many fields anew, at the start and in the middle of a walk through it:
  /// what the walk has read is not held until it is through.
  void ExpectFreedBehindTheWalk(size_t fields, const std::string& padding) {
    Database& db = keyspace().db(0);
    WriteFields("big", fields, "before" + padding);
    for (const bool at_the_start : {true, false}) {
      const uint64_t value_bytes = db.Peek(Key("big"))->object()->MemoryUsage();
      const Dataset cut = Contents(keyspace());
      View* view = keyspace().BeginView();
      MembersSink sink;
      sink.inside = [&](size_t done) {
        const uint64_t retained = keyspace().retained_value_bytes();
        if (done == (at_the_start ? 0 : fields / 2))
          WriteFields("big", fields, (at_the_start ? "after" : "later") + padding);
        if (at_the_start && done == 1) {
          EXPECT_GT(retained, value_bytes * 9 / 10);
        }
        if (done == fields * 8 / 10) {  // what is retained lies ahead, whenever it was written
          EXPECT_LT(retained, value_bytes * 3 / 10);
          EXPECT_GT(retained, value_bytes / 10);
        }
        if (done == fields - 1) {
          EXPECT_LT(retained, value_bytes / 10);
        }
      };
      while (*view->Step(sink, 10)) {
      }
      EXPECT_EQ(sink.keys, cut);
      keyspace().EndView(view);
      CheckAll();
    }
  }

  void CheckAll() {
    keyspace().ForEachDatabase([](Database& db) {
      db.CheckInvariants();
      db.ForEach([](const Entry& entry) {
        if (entry.form() == ValueForm::kObject) entry.object()->AsContainer()->CheckInvariants();
        return true;
      });
    });
  }

  PackedLimits limits_;
  std::optional<Keyspace> keyspace_;
  std::set<std::string> names_;
};

TEST_F(MembersUnderViewTest, StepsOfAWalkSeeTheStateOfTheCut) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 600; ++i) Disturb(random);
    const Dataset cut = Contents(keyspace());
    View* view = keyspace().BeginView();
    MembersSink sink;
    for (bool more = true; more;) {
      for (uint64_t i = random() % 80; i > 0; --i) Disturb(random);
      CheckAll();
      Result<bool> step = view->Step(sink, 1);
      ASSERT_TRUE(step.ok());
      more = *step;
    }
    for (int i = 0; i < 50; ++i) Disturb(random);
    keyspace().EndView(view);
    EXPECT_EQ(sink.keys, cut);
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
    CheckAll();
  }
}

// Renamed between two cuts, a value stands at one place for the older view and at another for the
// younger; its nodes must outlast both.
TEST_F(MembersUnderViewTest, StepsOfSeveralWalksEachSeeTheirOwnCut) {
  struct Walk {
    Dataset cut;
    View* view;
    MembersSink sink;
  };
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 300; ++i) Disturb(random);
    std::vector<std::unique_ptr<Walk>> walks;
    for (int step = 0; step < 200 || !walks.empty(); ++step) {
      for (uint64_t i = random() % 30; i > 0; --i) Disturb(random);
      if (step < 200 && walks.size() < SnapshotGate::kMaxViews && random() % 8 == 0) {
        walks.push_back(std::make_unique<Walk>());
        walks.back()->cut = Contents(keyspace());
        walks.back()->view = keyspace().BeginView();
        ASSERT_NE(walks.back()->view, nullptr);
      }
      if (walks.empty()) continue;
      const size_t at = random() % walks.size();
      Walk& walk = *walks[at];
      Result<bool> more = walk.view->Step(walk.sink, 1);
      ASSERT_TRUE(more.ok());
      const bool aborted = *more && random() % 200 == 0;
      if (*more && !aborted) continue;
      if (!aborted) {
        EXPECT_EQ(walk.sink.keys, walk.cut);
      }
      keyspace().EndView(walk.view);
      walks.erase(walks.begin() + static_cast<std::ptrdiff_t>(at));
      CheckAll();
    }
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
  }
}

// The same with writes, and steps of other walks, while a walk stands in the middle of a value:
// pages that it has read are freed, those ahead of it and those that others read are not.
TEST_F(MembersUnderViewTest, WalksThatAreMetInsideOfAValueEachSeeTheirOwnCut) {
  struct Walk {
    Dataset cut;
    View* view;
    MembersSink sink;
  };
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 600; ++i) Disturb(random);
    std::vector<std::unique_ptr<Walk>> walks(3);
    for (auto& walk : walks) {
      walk = std::make_unique<Walk>();
      for (int i = 0; i < 100; ++i) Disturb(random);
      walk->cut = Contents(keyspace());
      walk->view = keyspace().BeginView();
      ASSERT_NE(walk->view, nullptr);
    }
    // Each walks as often as its own random numbers say, the later ones inside of the first.
    const auto step = [](Walk& walk) {
      Result<bool> more = walk.view->Step(walk.sink, 1);
      ASSERT_TRUE(more.ok());
      if (*more) return;
      EXPECT_EQ(walk.sink.keys, walk.cut);
      walk.view = nullptr;
    };
    std::vector<View*> views;
    for (auto& walk : walks) views.push_back(walk->view);
    for (size_t at = 0; at < walks.size(); ++at) {
      walks[at]->sink.inside = [&, at](size_t) {
        if (random() % 8 == 0) Disturb(random);
        if (random() % 400 != 0 || at + 1 == walks.size()) return;
        if (walks[at + 1]->view != nullptr) step(*walks[at + 1]);
      };
    }
    for (auto& walk : walks) {
      while (walk->view != nullptr) step(*walk);
    }
    for (View* view : views) keyspace().EndView(view);
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
    CheckAll();
  }
}

TEST_F(MembersUnderViewTest, PagesThatWereReadAreFreedBeforeTheValueIsThrough) {
  ExpectFreedBehindTheWalk(20'000, "");
}

TEST_F(MembersUnderViewTest, LongMembersThatWereReadAreFreedBeforeTheValueIsThrough) {
  ExpectFreedBehindTheWalk(8'000, std::string(2 * kMaxPageRecordBytes, 'x'));
}

TEST_F(MembersUnderViewTest, ALongMemberIsHeldOnceHoweverOftenItIsWritten) {
  constexpr size_t kFields = 1'000;
  const std::string padding(2 * kMaxPageRecordBytes, 'x');
  WriteFields("big", kFields, "before" + padding);
  const uint64_t value_bytes = keyspace().db(0).Peek(Key("big"))->object()->MemoryUsage();
  const Dataset cut = Contents(keyspace());
  View* view = keyspace().BeginView();
  for (int i = 0; i < 5; ++i) WriteFields("big", kFields, std::to_string(i) + padding);
  EXPECT_GT(keyspace().retained_value_bytes(), value_bytes * 9 / 10);
  EXPECT_LT(keyspace().retained_value_bytes(), value_bytes * 11 / 10);
  MembersSink sink;
  while (*view->Step(sink, 10)) {
  }
  EXPECT_EQ(sink.keys, cut);
  keyspace().EndView(view);
}

TEST_F(MembersUnderViewTest, WhatWasPutOffForAnotherValueIsFreedWithItsOwn) {
  constexpr size_t kFields = 20'000;
  Database& db = keyspace().db(0);
  for (const std::string& padding : {std::string(), std::string(kMaxPageRecordBytes, 'x')}) {
    const auto write_both = [&](const std::string& value) {
      for (const char* key : {"one", "two"}) WriteFields(key, kFields, value + padding);
    };
    write_both("before");
    const uint64_t value_bytes = db.Peek(Key("one"))->object()->MemoryUsage();
    const Dataset cut = Contents(keyspace());
    View* view = keyspace().BeginView();
    MembersSink sink;
    int begun = 0;
    sink.inside = [&](size_t done) {
      begun += done == 0 ? 1 : 0;
      if (done == 0 && begun == 1) write_both("after");
      const uint64_t retained = keyspace().retained_value_bytes();
      if (begun == 2 && done == 1) {
        EXPECT_GT(retained, value_bytes * 9 / 10);
      }
      if (begun == 2 && done == kFields - 1) {
        EXPECT_LT(retained, value_bytes / 10);
      }
    };
    while (*view->Step(sink, 10)) {
    }
    EXPECT_EQ(begun, 2);
    EXPECT_EQ(sink.keys, cut);
    keyspace().EndView(view);
    CheckAll();
  }
}

TEST_F(MembersUnderViewTest, AThreadWalksWhileTheExecutorWrites) {
  std::mt19937_64 random(23);
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 400; ++i) Disturb(random);
    const Dataset cut = Contents(keyspace());
    View* view = keyspace().BeginView();
    MembersSink sink;
    std::atomic<bool> done{false};
    std::thread walker([&] {
      for (;;) {
        std::this_thread::yield();
        Result<bool> more = view->Step(sink, 1);
        if (!more.ok() || !*more) break;
      }
      done.store(true, std::memory_order_release);
    });
    int changes = 0;
    while (!done.load(std::memory_order_acquire) || changes < 200) {
      Disturb(random);
      ++changes;
    }
    walker.join();
    keyspace().EndView(view);
    EXPECT_EQ(sink.keys, cut);
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
    CheckAll();
  }
}

TEST_F(MembersUnderViewTest, AWriteCopiesPagesNotTheValue) {
  Database& db = keyspace().db(0);
  {
    MembersEdit edit(keyspace(), db, Key("big"), nullptr, ValueType::kHash, limits_);
    for (int i = 0; i < 100000; ++i) edit.Set("field:" + std::to_string(i), "a value");
    edit.Commit();
  }
  View* view = keyspace().BeginView();
  for (int i = 0; i < 10; ++i) {
    MembersEdit edit(keyspace(), db, Key("big"), db.Peek(Key("big")), ValueType::kHash, limits_);
    edit.Set("field:" + std::to_string(i * 997), "changed");
    edit.Commit();
  }
  EXPECT_LT(keyspace().retained_bytes(), 120'000u);
  MembersSink sink;
  while (*view->Step(sink, 10)) {
  }
  EXPECT_EQ(sink.keys["0/big"].size(), 100000u);
  EXPECT_EQ(sink.keys["0/big"]["field:997"], "a value");
  keyspace().EndView(view);
  CheckAll();
}

TEST_F(MembersUnderViewTest, ReplaceOfPackedBytesStaysInPlace) {
  Database& db = keyspace().db(0);
  const auto set = [&](const std::string& field, const std::string& value) {
    MembersEdit edit(keyspace(), db, Key("h"), db.Peek(Key("h")), ValueType::kHash, limits_);
    edit.Set(field, value);
    return edit.Commit();
  };
  EXPECT_EQ(set("f", "1"), MembersEdit::Outcome::kCreated);
  db.SetExpiry(Key("h"), 5000);
  const Entry* entry = db.Peek(Key("h"));
  EXPECT_EQ(set("f", "2"), MembersEdit::Outcome::kKept);
  EXPECT_EQ(db.Peek(Key("h")), entry);
  EXPECT_EQ(entry->expire_at_ms(), 5000);
  View* view = keyspace().BeginView();
  set("f", "3");
  EXPECT_NE(db.Peek(Key("h")), entry);
  MembersSink sink;
  while (*view->Step(sink, 10)) {
  }
  EXPECT_EQ(sink.keys["0/h"]["f"], "2");
  keyspace().EndView(view);
}

}  // namespace
}  // namespace cairn

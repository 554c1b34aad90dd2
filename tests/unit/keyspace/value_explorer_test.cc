// The explorer of values: sequences of commands on values of each type, in a real Keyspace, with
// the steps of up to two walkers: APPEND, INCR, HSET, ZADD, LPUSH, RENAME, DEL, EXPIRE, and times
// to live that end while a view walks, at a look-up or by the cycle. What a view emits is the state
// at its cut, and what is live is what a keyspace without views makes of the same commands. All
// sequences of a length, then seeded ones. view_explorer_test.cc does the same for the table alone
// and goes deeper. CAIRN_VALUE_EXPLORER_DEPTH asks for more.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/base/sanitizers.h"
#include "server/data/quicklist.h"
#include "server/data/sorted_set.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/member_edit.h"
#include "server/keyspace/view.h"
#include "tests/support/asked_number.h"
#include "tests/support/collecting_sink.h"
#include "tests/unit/keyspace/payload_sink.h"

namespace cairn {
namespace {

/// Commands on database 0; each returns whether it found something to do.
class Side {
 public:
  Side() : keyspace({.databases = 2, .hash_seed = 5}) {
    db().Reserve(1400);  // four segments: a walk is several steps
    keyspace.set_now_ms(now_ms_);
  }
  ~Side() {
    keyspace.FlushAll(false);
    keyspace.DrainReaper();
    EXPECT_EQ(keyspace.RecordBytes(), 0u);  // V6
  }

  bool Set(const std::string& name, int stamp) {
    db().Set(db().MakeKey(name), ValueInput::Integer(stamp), kNoExpiry);
    return true;
  }
  bool Increment(const std::string& name) {
    const Entry* entry = LookUp(name);
    if (entry == nullptr || entry->form() != ValueForm::kInt) return false;
    Entry* mine = db().Mutable(db().MakeKey(name));
    mine->set_integer(mine->integer() + 1);
    return true;
  }
  bool Append(const std::string& name, int stamp) {
    const Entry* entry = LookUp(name);
    if (entry == nullptr || !entry->is_string()) return false;
    const std::string bytes = "+" + std::to_string(stamp);
    const size_t size = entry->StringSize();
    db().EditString(db().MakeKey(name), size + bytes.size(), size).Write(size, bytes);
    return true;
  }
  bool SetFields(const std::string& name, int first, int count, int stamp) {
    const Entry* entry = LookUp(name);
    if (entry != nullptr && entry->type() != ValueType::kHash) return false;
    const PackedLimits limits;
    MembersEdit edit(keyspace, db(), db().MakeKey(name), entry, ValueType::kHash, limits);
    for (int i = first; i < first + count; ++i)
      edit.Set("field " + std::to_string(i), "value " + std::to_string(stamp));
    edit.Commit();
    return true;
  }
  bool Score(const std::string& name, int member, int stamp) {
    auto* set = static_cast<SortedSet*>(Writable<SortedSet>(name, ValueType::kSortedSet));
    if (set == nullptr) return false;
    const std::string text = "member " + std::to_string(member);
    if (!set->Insert(text, stamp)) set->SetScore(text, stamp);
    return true;
  }
  bool Push(const std::string& name, int stamp) {
    const ListShape shape{.fill = 4};
    auto* list = static_cast<QuickList*>(Writable<QuickList>(name, ValueType::kList, shape));
    if (list == nullptr) return false;
    list->Push(stamp % 2, "element " + std::to_string(stamp));
    return true;
  }
  bool Rename(const std::string& from, const std::string& to) {
    const Entry* entry = LookUp(from);
    if (entry == nullptr || from == to) return false;
    db().Set(db().MakeKey(to), entry->ShareValue(), entry->expire_at_ms());
    return Remove(from);
  }
  bool Remove(const std::string& name) { return db().Remove(db().MakeKey(name), false); }
  bool Expire(const std::string& name) {
    return LookUp(name) != nullptr && db().SetExpiry(db().MakeKey(name), now_ms_ + 50);
  }
  /// Keys may be past their time from now on, and stay until somebody comes by.
  bool PassTime() {
    keyspace.set_now_ms(now_ms_ += 100);
    return db().expire_count() > 0;
  }
  bool Cycle() { return keyspace.ActiveExpire(1'000'000, 10) > 0; }
  bool Flush() { return keyspace.Flush(0, false) > 0; }
  bool Swap() {
    keyspace.Swap(0, 1);
    return true;
  }

  Keyspace keyspace;

 private:
  Database& db() { return keyspace.db(0); }
  const Entry* LookUp(const std::string& name) { return db().LookupWrite(db().MakeKey(name)); }
  /// The value to change, a new one where there is none; nullptr when it has another type.
  template <typename Type, typename... Shape>
  Container* Writable(const std::string& name, ValueType type, const Shape&... shape) {
    const Entry* entry = LookUp(name);
    if (entry != nullptr && entry->type() != type) return nullptr;
    const KeyRef key = db().MakeKey(name);
    if (entry == nullptr) {
      auto* fresh = new Type(*keyspace.value_home(), shape...);
      db().Set(key, ValueInput::FromObject(type, ObjectRef::Adopt(fresh)), kNoExpiry);
    }
    return db().MutableContainer(key);
  }

  int64_t now_ms_ = 1000;
};

/// The fields of a hash in the order of their names.
class FieldsInOrder final : public CollectingSink {
 public:
  Status Begin(ValueKind, uint64_t) override { return Status::Ok(); }
  Status Field(std::string_view field, std::string_view value) override {
    EXPECT_TRUE(fields_.emplace(field, value).second) << field << " is there twice";
    return Status::Ok();
  }
  Status End() override { return Status::Ok(); }
  std::string Text() const {
    std::string text;
    for (const auto& [field, value] : fields_) text += field + "=" + value + ";";
    return text;
  }

 private:
  std::map<std::string, std::string> fields_;
};

/// What is live. Where in its table a field of a large hash stands depends on whether its page was
/// copied for a view, and so does the order in which a file would have the fields.
Payloads LiveOf(Side& side) {
  Payloads all = PayloadsOf(side.keyspace);
  side.keyspace.ForEachDatabase([&](Database& db) {
    db.ForEach([&](const Entry& entry) {
      if (entry.type() != ValueType::kHash || entry.is_packed()) return true;
      FieldsInOrder fields;
      EXPECT_TRUE(entry.Emit(fields).ok());
      all[{db.index(), std::string(entry.key())}].bytes = fields.Text();
      return true;
    });
  });
  return all;
}

class World {
 public:
  World() {
    const auto fill = [](Side& side) {
      side.Set("string", 7);
      side.Append("string", 1);
      side.Set("number", 3);
      side.SetFields("packed", 0, 3, 1);
      side.SetFields("hash", 0, 100, 2);  // more than are kept packed
      for (int i = 0; i < 12; ++i) {
        side.Score("zset", i, i);
        side.Push("list", i);
      }
    };
    fill(side_);
    fill(twin_);
  }
  ~World() {
    while (!views_.empty()) Step(views_.size() - 1);
  }

  /// The command on both sides.
  bool Do(const std::function<bool(Side&)>& command) {
    const bool done = command(side_);
    EXPECT_EQ(command(twin_), done);
    return done;
  }
  int Stamp() { return ++stamp_; }

  bool Begin() {
    if (views_.size() == 2) return false;
    views_.push_back(std::make_unique<Observed>());
    views_.back()->cut = PayloadsOf(side_.keyspace);
    views_.back()->view = side_.keyspace.BeginView();
    return true;
  }
  /// A segment more of a view; at its end it is compared with the cut (V1, V2). `meanwhile` runs
  /// when the walker has come to a key and before it has read the value.
  bool Step(size_t i, std::function<void()> meanwhile = {}) {
    if (i >= views_.size()) return false;
    Observed& observed = *views_[i];
    observed.sink.meanwhile = std::move(meanwhile);
    Result<bool> more = observed.view->Step(observed.sink, 1);
    EXPECT_TRUE(more.ok());
    if (more.ok() && *more) return true;
    observed.sink.Finish();
    EXPECT_EQ(observed.sink.repeated, 0);
    EXPECT_EQ(Differences(observed.sink.keys, observed.cut), "");
    End(i);
    return true;
  }
  bool Abort() {
    if (views_.empty()) return false;
    End(0);
    return true;
  }
  /// V7, V8.
  void CheckLive() {
    EXPECT_EQ(Differences(LiveOf(side_), LiveOf(twin_)), "");
    side_.keyspace.ForEachDatabase([](Database& db) {
      db.CheckInvariants();
      db.ForEach([](const Entry& entry) {
        if (entry.form() == ValueForm::kObject) entry.object()->AsContainer()->CheckInvariants();
        return true;
      });
    });
    if (views_.empty()) {
      EXPECT_EQ(side_.keyspace.retained_bytes(), 0u);
    }
  }

 private:
  class Sink final : public PayloadSink {
   public:
    std::function<void()> meanwhile;
    Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override {
      Result<ValueSink*> sink = PayloadSink::Key(key, meta);
      if (meanwhile) std::exchange(meanwhile, {})();
      return sink;
    }
  };
  struct Observed {
    Payloads cut;
    View* view = nullptr;
    Sink sink;
  };
  void End(size_t i) {
    side_.keyspace.EndView(views_[i]->view);
    views_.erase(views_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  Side side_;
  Side twin_;  // the same without views
  std::vector<std::unique_ptr<Observed>> views_;
  int stamp_ = 100;
};

/// Everything at once, while a walker stands in a segment.
bool WriteAll(World& world) {
  const int stamp = world.Stamp();
  return world.Do([stamp](Side& side) {
    side.Append("string", stamp);
    side.SetFields("hash", stamp % 100, 30, stamp);
    side.Score("zset", stamp % 12, stamp);
    side.Push("list", stamp);
    return true;
  });
}

using Command = bool (*)(World&);
#define CAIRN_DO(call)                                                       \
  [](World& world) {                                                         \
    [[maybe_unused]] const int stamp = world.Stamp();                        \
    return world.Do([stamp](Side& side) { return (void)stamp, side.call; }); \
  }
const std::array<Command, 20> kCommands = {
    [](World& world) { return world.Begin(); },
    [](World& world) { return world.Step(0); },
    [](World& world) { return world.Step(1); },
    [](World& world) { return world.Step(0, [&world] { WriteAll(world); }); },
    [](World& world) { return world.Abort(); },
    CAIRN_DO(Append("string", stamp)),
    CAIRN_DO(Increment("number")),
    CAIRN_DO(SetFields("packed", 1, 3, stamp)),
    CAIRN_DO(SetFields("hash", 40, 3, stamp)),
    CAIRN_DO(Score("zset", 5, stamp)),
    CAIRN_DO(Push("list", stamp)),
    CAIRN_DO(Rename("hash", "other")),
    CAIRN_DO(Rename("other", "hash")),
    CAIRN_DO(SetFields("other", 60, 3, stamp)),
    CAIRN_DO(Rename("list", "zset")),  // over a value of another type
    CAIRN_DO(Remove("hash")),
    CAIRN_DO(Expire("hash")),
    CAIRN_DO(Expire("string")),
    CAIRN_DO(PassTime()),
    CAIRN_DO(Cycle()),
};
/// Too rare to be worth their place in all sequences.
const std::array<Command, 8> kRareCommands = {
    CAIRN_DO(Flush()),
    CAIRN_DO(Swap()),
    CAIRN_DO(Set("string", stamp)),
    CAIRN_DO(Set("hash", stamp)),
    CAIRN_DO(Rename("zset", "packed")),
    CAIRN_DO(Rename("string", "number")),
    CAIRN_DO(Expire("zset")),
    CAIRN_DO(Expire("list")),
};
#undef CAIRN_DO

#if CAIRN_SANITIZED
constexpr uint64_t kShortLength = 2;
#else
constexpr uint64_t kShortLength = 3;
#endif

/// Each begins with a view. One with a command that finds nothing to do is the same as a shorter
/// one, which has its own turn.
uint64_t RunEverySequence(size_t length) {
  uint64_t runs = 0;
  std::vector<size_t> sequence(length, 0);
  for (;; ++runs) {
    size_t at = 0;
    {
      World world;
      world.Begin();
      while (at < length && kCommands[sequence[at]](world)) ++at;
      if (at == length) world.CheckLive();
    }
    if (testing::Test::HasFailure()) {
      std::string text;
      for (size_t command : sequence) text += " " + std::to_string(command);
      ADD_FAILURE() << "commands:" << text;
      return runs;
    }
    // The next one differs at the place where this one had nothing to do, or at the last.
    at = std::min(at, length - 1);
    std::fill(sequence.begin() + static_cast<std::ptrdiff_t>(at) + 1, sequence.end(), size_t{0});
    while (++sequence[at] == kCommands.size()) {
      sequence[at] = 0;
      if (at-- == 0) return runs + 1;
    }
  }
}

TEST(ValueExplorerTest, EveryInterleavingToADepth) {
  const uint64_t longest = AskedNumber("CAIRN_VALUE_EXPLORER_DEPTH", kShortLength);
  for (uint64_t length = 1; length <= longest && !testing::Test::HasFailure(); ++length) {
    const uint64_t runs = RunEverySequence(length);
    std::printf("  depth %d: %llu sequences\n", static_cast<int>(length),
                static_cast<unsigned long long>(runs));
  }
}

TEST(ValueExplorerTest, LongRandomRuns) {
  const uint64_t seeds = AskedNumber("CAIRN_VALUE_EXPLORER_SEEDS", 30);
  for (uint64_t seed = 1; seed <= seeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    World world;
    const uint64_t walks = 1 + random() % 40;  // of 64
    for (int step = 0; step < 300 && !testing::Test::HasFailure(); ++step) {
      if (random() % 64 < walks) {
        world.Step(random() % 2);
      } else if (random() % 24 == 0) {
        kRareCommands[random() % kRareCommands.size()](world);
      } else {
        kCommands[random() % kCommands.size()](world);
      }
      if (step % 16 == 0) world.CheckLive();
    }
    world.CheckLive();
  }
}

}  // namespace
}  // namespace cairn

// Two walkers at once, each a thread with a cut of its own (a save beside a rewrite, or beside a
// copy for replicas), while values of every type that is built in are changed, renamed, copied,
// deleted, flushed and swapped: strings in one piece and in chunks, integers, hashes, sets, sorted
// sets, lists with compressed nodes, streams with groups. Each value is encoded on the walker as
// the file would have it and compared with what stood there at its cut. Made for the preset tsan;
// the sinks share nothing, so that only the engine's own synchronisation is there to be found.

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/data/quicklist.h"
#include "server/data/sorted_set.h"
#include "server/data/stream_value.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/member_edit.h"
#include "server/keyspace/view.h"
#include "tests/unit/keyspace/payload_sink.h"

namespace cairn {
namespace {

class TwoWalkersTest : public testing::Test {
 protected:
  static constexpr uint64_t kTypes = 7, kKeys = 20 * kTypes;

  TwoWalkersTest() : keyspace_(Small()) {}
  ~TwoWalkersTest() override {
    keyspace_.FlushAll(false);
    keyspace_.DrainReaper();
    EXPECT_EQ(keyspace_.RecordBytes(), 0u);  // V6
  }

  struct Walker {
    Payloads cut;
    View* view = nullptr;
    PayloadSink sink;
    std::thread thread;
  };
  void Cut(Walker& walker) {
    walker.cut = PayloadsOf(keyspace_);
    walker.view = keyspace_.BeginView();
    ASSERT_NE(walker.view, nullptr);
  }
  void Start(Walker& walker, std::atomic<int>* ended) {
    walker.thread = std::thread([&walker, ended] {
      Result<bool> more = true;
      while (more.ok() && *more) {
        more = walker.view->Step(walker.sink, 1);
        std::this_thread::yield();
      }
      walker.sink.Finish();
      EXPECT_TRUE(more.ok());
      ended->fetch_add(1, std::memory_order_release);
    });
  }
  void End(Walker& walker) {
    walker.thread.join();
    EXPECT_EQ(walker.sink.repeated, 0);
    EXPECT_TRUE(walker.sink.keys == walker.cut)
        << walker.sink.keys.size() << " keys walked, " << walker.cut.size() << " at the cut";
    keyspace_.EndView(walker.view);
  }

  /// One command. A key's number says what type it has, under whatever name it comes to stand.
  void Disturb() {
    const uint64_t number = Below(kKeys);
    const KeyRef key = Key(number);
    const Entry* entry = db().Peek(key);
    switch (Below(60)) {
      case 0:
        if (entry != nullptr) db().Remove(key, Below(2));
        return;
      case 1:
      case 2: {
        const uint64_t other = (number + kTypes * (1 + Below(kKeys / kTypes - 1))) % kKeys;
        if (entry == nullptr) return;
        const bool rename = Below(2);
        db().Set(Key(other), rename ? entry->ShareValue() : entry->CloneValue(), kNoExpiry);
        if (rename) db().Remove(key, false);
        return;
      }
      case 3:
        if (entry != nullptr) db().SetExpiry(key, Below(2) ? kNoExpiry : 1'000'000);
        return;
      case 4:
        if (Below(10) == 0) keyspace_.Swap(0, 1);
        if (Below(60) == 0) keyspace_.Flush(0, Below(2));
        return;
      default:
        break;
    }
    switch (number % kTypes) {
      case 0:
        return ChangeString(key, entry);
      case 1:
        return ChangeInteger(key, entry);
      case 2:
        return ChangeMembers(key, entry, ValueType::kHash);
      case 3:
        return ChangeMembers(key, entry, ValueType::kSet);
      case 4:
        return ChangeSortedSet(key, entry);
      case 5:
        return ChangeList(key, entry);
      default:
        return ChangeStream(key, entry);
    }
  }

  void CheckAll() {
    keyspace_.ForEachDatabase([](Database& db) {
      db.CheckInvariants();
      db.ForEach([](const Entry& entry) {
        if (entry.form() == ValueForm::kObject) entry.object()->AsContainer()->CheckInvariants();
        return true;
      });
    });
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  std::mt19937_64& random() { return random_; }
  Keyspace& keyspace() { return keyspace_; }

 private:
  static Keyspace::Options Small() {
    Keyspace::Options options;
    options.databases = 2;
    options.hash_seed = 3;
    options.big_string_bytes = 8192;
    options.string_chunk_bytes = 1024;
    return options;
  }
  Database& db() { return keyspace_.db(0); }
  /// Edits keep the reference, so the names have to last.
  KeyRef Key(uint64_t number) {
    return db().MakeKey(*names_.insert("key:" + std::to_string(number)).first);
  }
  std::string Text() {
    if (Below(3) == 0) return std::to_string(Below(5000));
    return std::string(Below(40), static_cast<char>('a' + Below(4))) + std::to_string(Below(500));
  }
  template <typename Type, typename... Shape>
  Type& Container(KeyRef key, const Entry* entry, ValueType type, const Shape&... shape) {
    if (entry == nullptr) {
      auto* fresh = new Type(*keyspace_.value_home(), shape...);
      db().Set(key, ValueInput::FromObject(type, ObjectRef::Adopt(fresh)), kNoExpiry);
    }
    return static_cast<Type&>(*db().MutableContainer(key));
  }

  void ChangeString(KeyRef key, const Entry* entry) {
    if (entry == nullptr || Below(30) == 0) {
      const std::string bytes(Below(12'000), static_cast<char>('a' + Below(26)));
      db().Set(key, ValueInput::RawString(bytes), kNoExpiry);
      return;
    }
    const std::string bytes = Text() + "!";
    const size_t at = Below(entry->StringSize() + 1);
    const size_t size = std::max(entry->StringSize(), at + bytes.size());
    db().EditString(key, size, at).Write(at, bytes);
  }
  void ChangeInteger(KeyRef key, const Entry* entry) {
    if (entry == nullptr) {
      db().Set(key, ValueInput::Integer(static_cast<int64_t>(Below(100))), kNoExpiry);
      return;
    }
    Entry* mine = db().Mutable(key);
    mine->set_integer(mine->integer() + 1);
  }
  void ChangeMembers(KeyRef key, const Entry* entry, ValueType type) {
    MembersEdit edit(keyspace_, db(), key, entry, type, limits_);
    for (uint64_t i = 1 + Below(20); i > 0; --i) {
      if (Below(3) == 0) {
        edit.Erase(Text());
      } else {
        edit.Set(Text(), type == ValueType::kHash ? Text() : "");
      }
    }
    edit.Commit();
  }
  void ChangeSortedSet(KeyRef key, const Entry* entry) {
    auto& set = Container<SortedSet>(key, entry, ValueType::kSortedSet);
    for (uint64_t i = 1 + Below(12); i > 0; --i) {
      const std::string member = Text();
      const double score = static_cast<double>(Below(1000)) / 8;
      if (Below(4) == 0) {
        set.Erase(member);
      } else if (!set.Insert(member, score)) {
        set.SetScore(member, score);
      }
    }
    if (set.size() == 0) db().Remove(key, false);
  }
  void ChangeList(KeyRef key, const Entry* entry) {
    const ListShape shape{.fill = 16, .compress_depth = 1};
    auto& list = Container<QuickList>(key, entry, ValueType::kList, shape);
    for (uint64_t i = 1 + Below(12); i > 0; --i) {
      const uint64_t size = list.size();
      const uint64_t dice = size == 0 ? 0 : Below(6);
      if (dice < 2) {
        list.Push(Below(2), Text());
      } else if (dice == 2) {
        list.Insert(Below(size), Below(2), Text());
      } else if (dice == 3) {
        list.Replace(Below(size), Text());
      } else if (dice == 4) {
        list.EraseRange(Below(size), 1);
      } else {
        list.EraseEqual(Text(), 2, Below(2));
      }
    }
    if (list.size() == 0) db().Remove(key, false);
  }
  void ChangeStream(KeyRef key, const Entry* entry) {
    auto& stream = Container<StreamValue>(key, entry, ValueType::kStream);
    const StreamNodeLimits limits{.max_bytes = 512, .max_entries = 10};
    StreamGroup* group = stream.FindGroup("group");
    if (group == nullptr) group = stream.AddGroup("group", StreamId{}, 0);
    StreamConsumer* consumer = group->FindConsumer("reader");
    if (consumer == nullptr) consumer = group->AddConsumer("reader", 5);
    for (uint64_t i = 1 + Below(8); i > 0; --i) {
      const std::string field = Text(), value = Text();
      const std::string_view fields[] = {field, value};
      const StreamId id{stream.last_id.ms + 1, 0};
      stream.Append(id, fields, limits);
      if (Below(2)) group->Deliver(id, consumer, 7, 1, stream);
      const StreamId old{1 + Below(id.ms), 0};
      if (Below(3) == 0) group->Acknowledge(old, stream);
      if (Below(4) == 0 && stream.Erase(old)) stream.NoteDeleted(old);
    }
    if (Below(8) == 0) {
      StreamTrim trim;
      trim.kind = StreamTrim::Kind::kMaxLength;
      trim.max_length = 40;
      stream.Trim(trim);
    }
    if (Below(40) == 0) stream.RemoveGroup(group);
  }

  std::mt19937_64 random_{29};
  PackedLimits limits_;
  Keyspace keyspace_;
  std::set<std::string> names_;
};

TEST_F(TwoWalkersTest, EachSeesItsOwnCutOfEveryTypeWhileAllAreWritten) {
  for (int round = 0; round < 6 && !HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    for (int i = 0; i < 1500; ++i) Disturb();
    Walker save, rewrite;
    ASSERT_NO_FATAL_FAILURE(Cut(save));
    for (int i = 0; i < 150; ++i) Disturb();  // what the younger one has and the older one must not
    ASSERT_NO_FATAL_FAILURE(Cut(rewrite));
    std::atomic<int> ended{0};
    Start(save, &ended);
    Start(rewrite, &ended);
    int commands = 0;
    for (; ended.load(std::memory_order_acquire) < 2 || commands < 300; ++commands) Disturb();
    // Either may be the first to go.
    End(round % 2 ? save : rewrite);
    End(round % 2 ? rewrite : save);
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
    CheckAll();
  }
}

}  // namespace
}  // namespace cairn

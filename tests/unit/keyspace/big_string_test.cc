// Big strings in a keyspace (Database::EditString, ChunkedString): which form a string has when,
// what a write under a view costs, and an explorer of its own: every interleaving, to a depth, of
// writes, copies, renames, replies that stay and walks of up to two views over two keys of a few
// chunks each. CAIRN_EXPLORER_DEPTH asks for more depth.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/sanitizers.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/view.h"
#include "tests/support/asked_number.h"
#include "tests/support/collecting_sink.h"

namespace cairn {
namespace {

constexpr size_t kChunk = 2048;
constexpr size_t kBig = 3 * kChunk;

std::string Text(const Entry& entry) {
  std::string copy;
  return std::string(StringBytes(&entry).Whole(&copy));
}

Keyspace::Options Small() {
  return {.databases = 2,
          .hash_seed = 5,
          .listener = nullptr,
          .big_string_bytes = kBig,
          .string_chunk_bytes = kChunk};
}

class BigStringTest : public testing::Test {
 protected:
  void Put(const std::string& name, std::string_view bytes, int64_t at_ms = kNoExpiry) {
    db_.Set(db_.MakeKey(name), ValueInput::String(bytes), at_ms);
  }
  void Write(const std::string& name, size_t at, std::string_view bytes) {
    const KeyRef key = db_.MakeKey(name);
    const size_t size = std::max(db_.Peek(key)->StringSize(), at + bytes.size());
    db_.EditString(key, size, at).Write(at, bytes);
  }
  const Entry& At(const std::string& name) { return *db_.Peek(db_.MakeKey(name)); }
  CollectedKeys Walk(View* view) {
    CollectingSink sink;
    for (;;) {
      Result<bool> more = view->Step(sink, 10);
      EXPECT_TRUE(more.ok());
      if (!*more) break;
    }
    EXPECT_EQ(sink.repeated, 0u);
    return sink.keys;
  }

  Keyspace keyspace_{Small()};
  Database& db_ = keyspace_.db(0);
};

TEST_F(BigStringTest, StaysOneBlockUntilItIsSharedOrFull) {
  Put("k", std::string(kBig, 'a'), 99);
  Write("k", 5, "x");
  EXPECT_EQ(At("k").form(), ValueForm::kBlob);
  const std::string grown(kBig / 2, 'g');  // more than the allocator's class has room for
  Write("k", kBig, grown);
  EXPECT_EQ(At("k").form(), ValueForm::kObject);
  EXPECT_EQ(At("k").expire_at_ms(), 99);
  std::string model(kBig, 'a');
  model[5] = 'x';
  model += grown;
  EXPECT_EQ(Text(At("k")), model);
  // One byte less than big: copied whole.
  Put("small", std::string(kBig - 1, 'a'));
  const BlobRef reply = At("small").BlobValue();
  Write("small", 0, "x");
  EXPECT_EQ(At("small").form(), ValueForm::kBlob);
}

TEST_F(BigStringTest, ReturnsToOneBlockWhenNobodySharesIt) {
  Put("k", std::string(8 * kChunk, 'a'));
  View* view = keyspace_.BeginView();
  Write("k", 0, "1");
  Write("k", 3 * kChunk, "2");
  EXPECT_EQ(At("k").form(), ValueForm::kObject);
  keyspace_.EndView(view);
  for (int i = 0; i < 3; ++i) Write("k", 5 * kChunk, "3");
  EXPECT_EQ(At("k").form(), ValueForm::kBlob);
  std::string model(8 * kChunk, 'a');
  model[0] = '1';
  model[3 * kChunk] = '2';
  model[5 * kChunk] = '3';
  EXPECT_EQ(Text(At("k")), model);
}

TEST_F(BigStringTest, AWriteUnderAViewCopiesAChunkAndTheViewReadsTheCut) {
  const std::string cut(64 * kChunk, 'a');
  Put("k", cut);
  View* view = keyspace_.BeginView();
  Write("k", 70, "x");
  Write("k", 71, "y");
  Write("k", 64 * kChunk, "tail");
  const uint64_t structure = 3 * 5120;  // a segment, the directory, the record
  EXPECT_LE(keyspace_.retained_bytes(), structure + 2 * kChunk + 65 * 16);
  EXPECT_GE(keyspace_.retained_value_bytes(), kChunk);
  EXPECT_EQ(Walk(view).at({0, "k"}).value, cut);
  keyspace_.EndView(view);
  EXPECT_EQ(keyspace_.retained_bytes(), 0u);
  EXPECT_EQ(Text(At("k")).substr(69, 4), "axya");
}

TEST_F(BigStringTest, ASecondViewOfAStringInChunks) {
  Put("k", std::string(10 * kChunk, 'a'));
  View* first = keyspace_.BeginView();
  Write("k", 0, "1");
  const std::string second_cut = Text(At("k"));
  View* second = keyspace_.BeginView();
  Write("k", 1, "2");
  Write("k", 10 * kChunk, "3");
  EXPECT_EQ(Walk(second).at({0, "k"}).value, second_cut);
  EXPECT_EQ(Walk(first).at({0, "k"}).value, std::string(10 * kChunk, 'a'));
  keyspace_.EndView(first);
  keyspace_.EndView(second);
  EXPECT_EQ(Text(At("k")), "12" + second_cut.substr(2) + "3");
}

TEST_F(BigStringTest, DeletedCopiedAndFlushedUnderAView) {
  const std::string cut(10 * kChunk, 'a');
  for (const char* name : {"a", "b", "c"}) Put(name, cut);
  View* view = keyspace_.BeginView();
  for (const char* name : {"a", "b", "c"}) Write(name, 2 * kChunk, "x");
  db_.Set(db_.MakeKey("copy"), At("b").CloneValue(), kNoExpiry);
  db_.Remove(db_.MakeKey("a"), false);
  Write("copy", 0, "y");
  Write("b", 1, "z");
  EXPECT_EQ(Text(At("copy")).substr(0, 3), "yaa");
  EXPECT_EQ(Text(At("b")).substr(0, 3), "aza");
  keyspace_.FlushAll(true);
  const CollectedKeys keys = Walk(view);
  ASSERT_EQ(keys.size(), 3u);
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(keys.at({0, name}).value, cut);
  keyspace_.EndView(view);
  keyspace_.DrainReaper();
  EXPECT_EQ(keyspace_.retained_bytes(), 0u);
  EXPECT_EQ(keyspace_.RecordBytes(), 0u);
}

TEST_F(BigStringTest, MemoryUsageCountsBlockTableAndChunks) {
  Put("k", std::string(8 * kChunk, 'a'));
  const size_t before = At("k").MemoryUsage();
  const BlobRef reply = At("k").BlobValue();
  Write("k", 0, "x");
  const size_t one = At("k").MemoryUsage();
  EXPECT_GE(one, before + kChunk + 8 * 16);
  Write("k", kChunk, "x");
  EXPECT_EQ(At("k").MemoryUsage(), one + kChunk + sizeof(Blob));
}

/// Two keys and what they should hold; up to two views with what they should see. Commands return
/// whether there was anything to do.
class World {
 public:
  World() : keyspace_(Small()), db_(&keyspace_.db(0)) {
    Set("a");
    Set("b");
  }
  ~World() {
    CompleteAll();
    CheckLive();
    for (const auto& [slice, bytes] : replies_) EXPECT_EQ(slice.view(), bytes);
  }

  bool Set(const std::string& name) {
    models_[name] = std::string(kBig + kChunk / 2, static_cast<char>('A' + ++counter_ % 26));
    db_->Set(db_->MakeKey(name), ValueInput::String(models_[name]), kNoExpiry);
    return true;
  }
  bool Write(const std::string& name, size_t at) {
    if (!models_.count(name)) return false;
    const std::string bytes = std::to_string(++counter_);
    std::string& model = models_[name];
    const size_t size = std::max(model.size(), at + bytes.size());
    db_->EditString(db_->MakeKey(name), size, at).Write(at, bytes);
    model.resize(size);
    model.replace(at, bytes.size(), bytes);
    return true;
  }
  bool Append(const std::string& name) {
    return models_.count(name) && Write(name, models_[name].size());
  }
  bool Copy(const std::string& from, const std::string& to, bool both) {
    const Entry* entry = db_->Peek(db_->MakeKey(from));
    if (entry == nullptr) return false;
    db_->Set(db_->MakeKey(to), both ? entry->CloneValue() : entry->ShareValue(), kNoExpiry);
    models_[to] = models_[from];
    if (!both) Remove(from);
    return true;
  }
  bool Remove(const std::string& name) {
    const bool there = models_.erase(name) == 1;
    EXPECT_EQ(db_->Remove(db_->MakeKey(name), false), there);
    return there;
  }
  bool Expire(const std::string& name) {
    if (!models_.count(name)) return false;
    db_->SetExpiry(db_->MakeKey(name), 1 + ++counter_);
    return true;
  }
  bool Reply(const std::string& name) {
    const Entry* entry = db_->Peek(db_->MakeKey(name));
    if (entry == nullptr) return false;
    const BlobSlice slice = entry->form() == ValueForm::kObject
                                ? entry->chunks()->SliceAt(100, SIZE_MAX / 2)
                                : BlobSlice{entry->BlobValue(), 100, 3000};
    replies_.emplace_back(slice, std::string(slice.view()));
    return true;
  }
  bool SendReplies() {
    const bool any = !replies_.empty();
    replies_.clear();
    return any;
  }

  size_t views() const { return views_.size(); }
  bool Begin() {
    if (views_.size() == 2) return false;
    views_.push_back(std::make_unique<Observed>());
    views_.back()->view = keyspace_.BeginView();
    views_.back()->cut = models_;
    return true;
  }
  /// One key more of a view; at its end it is compared with the cut (V1, V2).
  bool Step(size_t i) {
    if (i >= views_.size()) return false;
    Observed& view = *views_[i];
    Result<bool> more = view.view->Step(view.sink, 1);
    EXPECT_TRUE(more.ok());
    if (!more.ok() || !*more) End(i);
    return true;
  }
  void Abort() {
    if (views_.empty()) return;
    keyspace_.EndView(views_[0]->view);
    views_.erase(views_.begin());
  }
  void CheckLive() {
    std::map<std::string, std::string> found;
    db_->ForEach([&](const Entry& entry) {
      found[std::string(entry.key())] = Text(entry);
      if (entry.form() == ValueForm::kObject) entry.chunks()->CheckInvariants();
      return true;
    });
    EXPECT_TRUE(found == models_);
    for (const auto& [slice, bytes] : replies_) EXPECT_TRUE(slice.view() == bytes);
    if (views_.empty()) {
      EXPECT_EQ(keyspace_.retained_bytes(), 0u);
    }
  }

 private:
  struct Observed {
    View* view = nullptr;
    CollectingSink sink;
    std::map<std::string, std::string> cut;
  };
  void End(size_t i) {
    Observed& view = *views_[i];
    EXPECT_EQ(view.sink.repeated, 0u);
    std::map<std::string, std::string> seen;
    for (const auto& [key, value] : view.sink.keys) seen[key.second] = value.value;
    EXPECT_TRUE(seen == view.cut);
    keyspace_.EndView(view.view);
    views_.erase(views_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void CompleteAll() {
    while (!views_.empty()) Step(views_.size() - 1);
  }

  Keyspace keyspace_;
  Database* db_;
  std::map<std::string, std::string> models_;
  std::vector<std::unique_ptr<Observed>> views_;
  std::vector<std::pair<BlobSlice, std::string>> replies_;
  int counter_ = 0;
};

using Command = bool (*)(World&);
const std::array<Command, 13> kCommands = {
    [](World& world) { return world.Begin(); },
    [](World& world) { return world.Step(0); },
    [](World& world) { return world.Step(1); },
    [](World& world) { return world.Write("a", kChunk + 3); },
    [](World& world) { return world.Write("b", 2 * kChunk - 1); },  // over the edge of a chunk
    [](World& world) { return world.Append("a"); },
    [](World& world) { return world.Copy("a", "b", true); },
    [](World& world) { return world.Copy("b", "a", false); },
    [](World& world) { return world.Remove("a"); },
    [](World& world) { return world.Set("b"); },
    [](World& world) { return world.Expire("a"); },
    [](World& world) { return world.Reply("a"); },
    [](World& world) { return world.SendReplies(); },
};

#if CAIRN_SANITIZED
constexpr uint64_t kShortLength = 4;
#else
constexpr uint64_t kShortLength = 5;
#endif

// Each sequence begins with a view and a write to both keys, so that there are chunks to share. One
// with a command that finds nothing to do is the same as a shorter one, which has its own turn.
void RunEverySequence(size_t length) {
  std::vector<size_t> sequence(length, 0);
  for (;;) {
    size_t at = 0;
    {
      World world;
      world.Begin();
      world.Write("a", 0);
      while (at < length && kCommands[sequence[at]](world)) ++at;
      if (at == length) world.CheckLive();
    }
    if (testing::Test::HasFailure()) {
      std::string text;
      for (size_t command : sequence) text += " " + std::to_string(command);
      FAIL() << "commands:" << text;
    }
    // The next one differs at the place where this one had nothing to do, or at the last.
    at = std::min(at, length - 1);
    std::fill(sequence.begin() + static_cast<std::ptrdiff_t>(at) + 1, sequence.end(), size_t{0});
    while (++sequence[at] == kCommands.size()) {
      sequence[at] = 0;
      if (at-- == 0) return;
    }
  }
}

TEST(BigStringExplorerTest, EveryInterleavingToADepth) {
  const uint64_t longest = AskedNumber("CAIRN_EXPLORER_DEPTH", kShortLength);
  for (uint64_t length = 1; length <= longest; ++length) RunEverySequence(length);
}

TEST(BigStringExplorerTest, LongRandomRuns) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    uint64_t random = seed * 0x9e3779b97f4a7c15;
    const auto below = [&random](uint64_t bound) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      return (random >> 33) % bound;
    };
    World world;
    for (int step = 0; step < 500 && !testing::Test::HasFailure(); ++step) {
      const std::string name(1, static_cast<char>('a' + below(3)));
      if (below(3) == 0) {
        world.Write(name, below(kBig));
      } else if (below(40) == 0) {
        world.Abort();
      } else {
        kCommands[below(kCommands.size())](world);
      }
      if (step % 8 == 0) world.CheckLive();
    }
  }
}

}  // namespace
}  // namespace cairn

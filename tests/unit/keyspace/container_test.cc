// Containers under snapshots (container.h, F1 to F5), with a container of a few nodes that says
// nothing about any type: changed, renamed, copied, deleted and flushed while a view reads it, in
// steps and by a thread (run under the preset tsan too).

#include "server/data/container.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/keyspace/keyspace.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

std::atomic<int64_t> live_nodes{0};

constexpr size_t kNodes = 8;
using Numbers = std::array<int64_t, kNodes>;

/// Eight numbers, each in a node of its own.
class NumberBox final : public Container {
 public:
  explicit NumberBox(const ValueHome& home) : Container(home) {
    for (Node*& node : nodes_) node = NewNode(0);
  }
  ~NumberBox() override {
    if (!owns_nodes()) return;
    for (Node* node : nodes_) std::free(node);
    live_nodes.fetch_sub(kNodes);
  }
  void Set(size_t i, int64_t number) {
    Node* node = nodes_[i];
    if (MayWrite(node->generation)) {
      node->generation = generation();
      node->number = number;
      return;
    }
    nodes_[i] = NewNode(number);
    live_nodes.fetch_sub(1);
    Discard(node, node->generation, sizeof(Node));
  }
  Numbers numbers() const {
    Numbers numbers;
    for (size_t i = 0; i < kNodes; ++i) numbers[i] = nodes_[i]->number;
    return numbers;
  }

  Container* Fork(uint64_t frozen_until) override { return new NumberBox(*this, frozen_until); }
  Container* Clone() const override {
    auto* copy = new NumberBox(home());
    for (size_t i = 0; i < kNodes; ++i) copy->Set(i, nodes_[i]->number);
    return copy;
  }
  void CheckInvariants() const override {}
  Status Emit(ValueSink& sink) const override {
    for (const Node* node : nodes_) CAIRN_RETURN_IF_ERROR(sink.Integer(node->number));
    return Status::Ok();
  }
  size_t MemoryUsage() const override {
    return sizeof(*this) + (owns_nodes() ? kNodes * sizeof(Node) : 0);
  }
  size_t FreeEffort() const override { return 100; }  // enough for the reaper
  const char* EncodingName() const override { return "box"; }
  const char* TypeName() const override { return "box"; }

 private:
  struct Node {
    uint64_t generation;
    int64_t number;
  };
  NumberBox(NumberBox& old, uint64_t frozen_until)
      : Container(old, frozen_until), nodes_(old.nodes_) {}
  Node* NewNode(int64_t number) {
    live_nodes.fetch_add(1);
    return new (std::malloc(sizeof(Node))) Node{generation(), number};
  }
  std::array<Node*, kNodes> nodes_;
};

/// Takes the numbers of each key; a key that comes twice fails the test.
class BoxSink final : public DatasetSink, public ValueSink {
 public:
  std::map<std::string, std::vector<int64_t>> boxes;

  Status Aux(std::string_view, std::string_view) override { return Refused("aux"); }
  Status FunctionLibrary(std::string_view) override { return Refused("function"); }
  Status SelectDatabase(uint32_t index, uint64_t, uint64_t) override {
    prefix_ = std::to_string(index) + "/";
    return Status::Ok();
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta&) override {
    const auto [at, fresh] = boxes.insert({prefix_ + std::string(key), {}});
    EXPECT_TRUE(fresh) << key;
    current_ = &at->second;
    return static_cast<ValueSink*>(this);
  }
  Status Integer(int64_t value) override {
    current_->push_back(value);
    return Status::Ok();
  }
  Status String(std::string_view) override { return Refused("string"); }
  Status Begin(ValueKind, uint64_t) override { return Refused("container"); }
  Status Item(std::string_view) override { return Refused("container"); }
  Status Field(std::string_view, std::string_view) override { return Refused("container"); }
  Status Scored(std::string_view, double) override { return Refused("container"); }
  Status Packed(uint8_t, std::string_view) override { return Refused("packed"); }
  Status BeginModule(uint64_t) override { return Refused("module"); }
  Status ModuleUnsigned(uint64_t) override { return Refused("module"); }
  Status ModuleSigned(int64_t) override { return Refused("module"); }
  Status ModuleDouble(double) override { return Refused("module"); }
  Status ModuleFloat(float) override { return Refused("module"); }
  Status ModuleString(std::string_view) override { return Refused("module"); }
  Status End() override { return Refused("module"); }

 private:
  std::string prefix_;
  std::vector<int64_t>* current_ = nullptr;
};

std::map<std::string, std::vector<int64_t>> Contents(Keyspace& keyspace) {
  std::map<std::string, std::vector<int64_t>> all;
  keyspace.ForEachDatabase([&](Database& db) {
    db.ForEach([&](const Entry& entry) {
      const Numbers numbers = static_cast<const NumberBox*>(entry.object())->numbers();
      all[std::to_string(db.index()) + "/" + std::string(entry.key())] = {numbers.begin(),
                                                                          numbers.end()};
      return true;
    });
  });
  return all;
}

class ContainerTest : public testing::Test {
 protected:
  ContainerTest() { keyspace_.emplace(Keyspace::Options{.databases = 2, .hash_seed = 7}); }
  ~ContainerTest() override {
    keyspace_.reset();
    EXPECT_EQ(live_nodes.load(), 0);
  }

  Keyspace& keyspace() { return *keyspace_; }
  KeyRef Key(const std::string& name) { return keyspace().db(0).MakeKey(name); }
  void Put(const std::string& name) {
    auto* box = new NumberBox(*keyspace().value_home());
    keyspace().db(0).Set(Key(name), ValueInput::FromObject(ValueType::kList, ObjectRef::Adopt(box)),
                         kNoExpiry);
  }
  NumberBox* Mutable(const std::string& name) {
    return static_cast<NumberBox*>(keyspace().db(0).MutableContainer(Key(name)));
  }

  /// To database 1, over what stood there.
  void MoveAway(const std::string& name) {
    Database& to = keyspace().db(1);
    to.Set(to.MakeKey(name), keyspace().db(0).Peek(Key(name))->ShareValue(), kNoExpiry);
    keyspace().db(0).Remove(Key(name), false);
  }

  void Disturb(std::mt19937_64& random) {
    Database& db = keyspace().db(0);
    const std::string name = "box:" + std::to_string(random() % 300);
    const KeyRef key = Key(name);
    const Entry* entry = db.Peek(key);
    if (entry == nullptr) return Put(name);
    const std::string other_name = "box:" + std::to_string(random() % 300);
    const KeyRef other = Key(other_name);
    switch (random() % 16) {
      case 0:
        if (name == other_name) return;
        db.Set(other, entry->ShareValue(), kNoExpiry);
        db.Remove(key, random() % 2);
        break;
      case 1:
        if (name != other_name) db.Set(other, entry->CloneValue(), kNoExpiry);
        break;
      case 2:
        db.Remove(key, random() % 2);
        break;
      case 3:
        db.SetExpiry(key, random() % 2 ? kNoExpiry : 1'000'000);
        break;
      case 4:
        if (random() % 64 == 0) keyspace().Swap(0, 1);
        if (random() % 64 == 0) keyspace().Flush(random() % 2, random() % 2);
        break;
      case 5:
        MoveAway(name);
        break;
      default:
        for (uint64_t i = random() % 4; i > 0; --i)
          Mutable(name)->Set(random() % kNodes, static_cast<int64_t>(random()));
        break;
    }
  }

  std::optional<Keyspace> keyspace_;
};

TEST_F(ContainerTest, ForkSharesNodesUntilTheyAreWritten) {
  Put("a");
  Mutable("a")->Set(0, 5);
  View* view = keyspace().BeginView();
  NumberBox* box = Mutable("a");
  EXPECT_EQ(live_nodes.load(), 8);
  box->Set(1, 6);
  EXPECT_EQ(Mutable("a"), box);  // private now
  box->Set(1, 7);
  EXPECT_LT(keyspace().retained_bytes(), 8192u);  // the segment and the header, no shared node
  BoxSink sink;
  while (*view->Step(sink, 10)) {
  }
  EXPECT_EQ(sink.boxes["0/a"], (std::vector<int64_t>{5, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Mutable("a")->numbers(), (Numbers{5, 7}));
  keyspace().EndView(view);
}

TEST_F(ContainerTest, CopyLivesOnItsOwn) {
  Put("a");
  keyspace().db(0).Set(Key("b"), keyspace().db(0).Peek(Key("a"))->CloneValue(), kNoExpiry);
  Mutable("a")->Set(0, 1);
  EXPECT_EQ(Mutable("b")->numbers(), Numbers{});
}

TEST_F(ContainerTest, DeletedAfterAChangeWaitsForTheWalker) {
  Put("a");
  View* view = keyspace().BeginView();
  Mutable("a")->Set(0, 1);
  keyspace().db(0).Remove(Key("a"), false);
  EXPECT_EQ(live_nodes.load(), 8);  // the fork and its nodes are queued, not freed
  BoxSink sink;
  while (*view->Step(sink, 10)) {
  }
  EXPECT_EQ(sink.boxes["0/a"], std::vector<int64_t>(kNodes, 0));
  keyspace().EndView(view);
}

// F3: no view reads the table that is flushed, but one reads nodes of what was moved there.
TEST_F(ContainerTest, MovedToADatabaseThatIsFlushedWaitsForTheWalker) {
  for (const bool lazy : {false, true}) {
    Put("a");
    View* view = keyspace().BeginView();
    Mutable("a")->Set(0, 1);
    MoveAway("a");
    keyspace().Flush(1, lazy);
    keyspace().DrainReaper();
    EXPECT_EQ(keyspace().detached_keys(), 0u);
    EXPECT_EQ(live_nodes.load(), 8);
    BoxSink sink;
    while (*view->Step(sink, 10)) {
    }
    EXPECT_EQ(sink.boxes["0/a"], std::vector<int64_t>(kNodes, 0));
    keyspace().EndView(view);
    keyspace().DrainReaper();
    EXPECT_EQ(live_nodes.load(), 0);
  }
}

TEST_F(ContainerTest, StepsOfAWalkSeeTheStateOfTheCut) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 600; ++i) Disturb(random);
    const auto cut = Contents(keyspace());
    View* view = keyspace().BeginView();
    BoxSink sink;
    for (bool more = true; more;) {
      for (uint64_t i = random() % 60; i > 0; --i) Disturb(random);
      Result<bool> step = view->Step(sink, 1);
      ASSERT_TRUE(step.ok());
      more = *step;
    }
    keyspace().EndView(view);
    EXPECT_EQ(sink.boxes, cut);
    EXPECT_EQ(keyspace().retained_bytes(), 0u);
  }
}

TEST_F(ContainerTest, AWalkGivenUpFreesWhatItHeld) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 600; ++i) Disturb(random);
  View* view = keyspace().BeginView();
  for (int i = 0; i < 2000; ++i) Disturb(random);
  keyspace().EndView(view);
  EXPECT_EQ(keyspace().retained_bytes(), 0u);
}

TEST_F(ContainerTest, AThreadWalksWhileTheExecutorWrites) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 600; ++i) Disturb(random);
    const auto cut = Contents(keyspace());
    View* view = keyspace().BeginView();
    BoxSink sink;
    std::atomic<bool> done{false};
    std::thread walker([&] {
      for (;;) {
        Result<bool> more = view->Step(sink, 1);
        if (!more.ok() || !*more) break;
        std::this_thread::yield();
      }
      done.store(true, std::memory_order_release);
    });
    while (!done.load(std::memory_order_acquire)) Disturb(random);
    walker.join();
    keyspace().EndView(view);
    EXPECT_EQ(sink.boxes, cut);
  }
}

}  // namespace
}  // namespace cairn

// StreamValue against a plain model, with and without a view over it, and foreign bytes.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "server/data/record_slab.h"
#include "server/data/stream_builder.h"
#include "server/data/stream_value.h"

namespace cairn {
namespace {

using Fields = std::vector<std::string>;
using Model = std::map<StreamId, Fields>;

std::vector<std::string_view> Views(const Fields& fields) { return {fields.begin(), fields.end()}; }

Model Contents(const StreamValue& stream, bool reverse = false) {
  Model model;
  StreamIterator at(stream, kMinStreamId, kMaxStreamId, reverse);
  while (at.Next()) {
    Fields fields;
    at.entry().ForEachField([&fields](std::string_view field, std::string_view value) {
      fields.emplace_back(field);
      fields.emplace_back(value);
    });
    EXPECT_TRUE(model.emplace(at.entry().id, fields).second);
  }
  return model;
}

/// Feeds the events of one value into a builder.
class ToBuilder final : public ValueSink {
 public:
  explicit ToBuilder(const ValueHome& home) : builder_(home) {}
  Status String(std::string_view) override { return Refused("string"); }
  Status Integer(int64_t) override { return Refused("integer"); }
  Status Begin(ValueKind, uint64_t) override { return Status::Ok(); }
  Status Item(std::string_view) override { return Refused("item"); }
  Status Field(std::string_view id, std::string_view listpack) override {
    return builder_.Node(id, listpack);
  }
  Status Scored(std::string_view, double) override { return Refused("member"); }
  Status Packed(uint8_t, std::string_view) override { return Refused("packed"); }
  Status StreamState(const StreamStateRecord& state) override { return builder_.State(state); }
  Status StreamGroup(const StreamGroupRecord& group) override { return builder_.Group(group); }
  Status StreamPending(const StreamPendingRecord& each) override { return builder_.Pending(each); }
  Status StreamConsumers(uint64_t) override { return Status::Ok(); }
  Status StreamConsumer(const StreamConsumerRecord& each) override {
    return builder_.Consumer(each);
  }
  Status StreamConsumerPending(StreamId id) override { return builder_.ConsumerPending(id); }
  Status BeginModule(uint64_t) override { return Refused("module"); }
  Status ModuleUnsigned(uint64_t) override { return Refused("module"); }
  Status ModuleSigned(int64_t) override { return Refused("module"); }
  Status ModuleDouble(double) override { return Refused("module"); }
  Status ModuleFloat(float) override { return Refused("module"); }
  Status ModuleString(std::string_view) override { return Refused("module"); }
  Status End() override { return Status::Ok(); }

  StreamBuilder builder_;
};

class StreamTest : public ::testing::Test {
 protected:
  ~StreamTest() override { stream_->Unref(); }

  Fields RandomFields(std::mt19937_64& random) {
    Fields fields;
    const int names = static_cast<int>(random() % 3);
    for (int i = 0; i <= names; ++i) {
      fields.push_back("name" + std::to_string(random() % 2));
      fields.push_back(random() % 2 ? std::to_string(static_cast<int64_t>(random()))
                                    : std::string(random() % 80, 'v'));
    }
    return fields;
  }
  void Check() {
    stream_->CheckInvariants();
    ASSERT_EQ(Contents(*stream_), model_);
    ASSERT_EQ(Contents(*stream_, true), model_);
    ASSERT_EQ(stream_->length(), model_.size());
    ASSERT_EQ(stream_->first_id(), model_.empty() ? kMinStreamId : model_.begin()->first);
  }
  void Add(StreamId id, const Fields& fields, StreamNodeLimits limits = {}) {
    stream_->Append(id, Views(fields), limits);
    model_.emplace(id, fields);
  }
  StreamId RandomId(std::mt19937_64& random) {
    if (model_.empty() || random() % 4 == 0) return {random() % 500, random() % 3};
    auto at = model_.begin();
    std::advance(at, static_cast<ptrdiff_t>(random() % model_.size()));
    return at->first;
  }

  SnapshotGate gate_;
  ViewLane* lane_ = nullptr;
  RecordSlab slab_;
  const ValueHome home_{&gate_, &slab_, 0};
  StreamValue* stream_ = new StreamValue(home_);
  Model model_;
};

TEST_F(StreamTest, RandomChangesAgreeWithAMap) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  uint64_t ms = 1;
  for (int i = 0; i < 3000; ++i) {
    const int kind = static_cast<int>(random() % 10);
    if (kind < 7) {
      ms += random() % 3;
      StreamId id{ms, stream_->last_id.ms == ms ? stream_->last_id.sequence + 1 : 0};
      Add(id, RandomFields(random), {600, 12});
    } else if (kind < 9) {
      const StreamId id = RandomId(random);
      ASSERT_EQ(stream_->Erase(id), model_.erase(id) == 1);
    } else {
      StreamTrim trim;
      trim.kind = random() % 2 ? StreamTrim::Kind::kMaxLength : StreamTrim::Kind::kMinId;
      trim.max_length = model_.size() - std::min<size_t>(model_.size(), random() % 20);
      trim.min_id = RandomId(random);
      const size_t before = model_.size();
      if (trim.kind == StreamTrim::Kind::kMaxLength) {
        while (model_.size() > trim.max_length) model_.erase(model_.begin());
      } else {
        model_.erase(model_.begin(), model_.lower_bound(trim.min_id));
      }
      ASSERT_EQ(stream_->Trim(trim), before - model_.size());
    }
    if (i % 20 == 0) Check();
  }
  Check();
}

TEST_F(StreamTest, AFinderFindsWhatIsThereWhateverItPasses) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr uint64_t kLast = 600;
  for (uint64_t ms = 1; ms <= kLast; ++ms) {
    if (random() % 3 != 0) Add({ms, random() % 2}, RandomFields(random), {600, 12});
  }
  for (uint64_t n = kLast / 2; n > 0; --n) stream_->Erase({1 + random() % kLast, random() % 2});
  for (uint64_t most_passed : {1u, 5u, 300u}) {
    StreamFinder finder(*stream_);
    for (uint64_t ms = 0; ms <= kLast + 2; ms += 1 + random() % most_passed) {
      for (uint64_t sequence : {0u, 0u, 1u}) {
        const StreamId id{ms, sequence};
        const StreamEntry* found = finder.Find(id);
        ASSERT_EQ(found != nullptr, stream_->Contains(id));
        ASSERT_TRUE(found == nullptr || found->id == id);
      }
    }
  }
}

TEST_F(StreamTest, ApproximateTrimTakesWholeNodesAndHeedsTheLimit) {
  for (uint64_t i = 1; i <= 100; ++i) Add({i, 0}, {"f", "v"}, {0, 10});
  StreamTrim trim{StreamTrim::Kind::kMaxLength, true, 55, {}, 0};
  EXPECT_EQ(stream_->Trim(trim), 40u);
  trim.max_length = 0;
  trim.limit = 25;
  EXPECT_EQ(stream_->Trim(trim), 20u);
  EXPECT_EQ(stream_->length(), 40u);
  EXPECT_EQ(stream_->first_id(), (StreamId{61, 0}));
}

TEST_F(StreamTest, ANodeIsFullAtItsLimitsOfEntriesAndBytes) {
  for (uint64_t i = 1; i <= 100; ++i) Add({i, 0}, {"f", "v"}, {4096, 100});
  EXPECT_EQ(stream_->node_count(), 1u);
  Add({101, 0}, {"f", "v"}, {4096, 100});
  EXPECT_EQ(stream_->node_count(), 2u);
  Add({102, 0}, {"f", std::string(4096, 'x')}, {4096, 100});
  EXPECT_EQ(stream_->node_count(), 3u);
  Check();
}

TEST_F(StreamTest, AViewKeepsWhatItSawWhileAForkChanges) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (uint64_t i = 1; i <= 300; ++i) Add({i, 0}, RandomFields(random), {600, 12});
  StreamGroup* group = stream_->AddGroup("g", kMinStreamId, 0);
  StreamConsumer* consumer = group->AddConsumer("c", 1);
  for (uint64_t i = 1; i <= 200; ++i) group->Deliver({i, 0}, consumer, 5, 1, *stream_);

  lane_ = gate_.Open();
  StreamValue* frozen = stream_;
  stream_ = frozen->Fork(kWatermarkEnd);
  const Model at_cut = model_;
  for (uint64_t i = 301; i <= 400; ++i) Add({i, 0}, RandomFields(random), {600, 12});
  for (uint64_t i = 1; i <= 300; i += 2)
    ASSERT_EQ(stream_->Erase({i, 0}), model_.erase({i, 0}) == 1);
  StreamGroup* live = stream_->FindGroup("g");
  for (uint64_t i = 1; i <= 200; i += 3) ASSERT_TRUE(live->Acknowledge({i, 0}, *stream_));
  live->Deliver({2, 0}, live->AddConsumer("d", 2), 9, 2, *stream_);
  Check();

  EXPECT_EQ(Contents(*frozen), at_cut);
  EXPECT_EQ(frozen->FindGroup("g")->pending().size(), 200u);
  EXPECT_EQ(frozen->FindGroup("g")->consumer_count(), 1u);
  frozen->Unref();
  lane_->PublishWatermark(kWatermarkEnd);
  Retired item;
  while (lane_->Pop(&item)) {
    ASSERT_EQ(item.kind, Retired::Kind::kBlock);
    std::free(item.object);
    gate_.Released(item.kind, item.size_bytes);
  }
  gate_.Close(*lane_);
  Check();
}

TEST_F(StreamTest, EmitAndBuildGiveTheSameStreamWithItsGroups) {
  std::mt19937_64 random(7);
  for (uint64_t i = 1; i <= 250; ++i) Add({i, i % 3}, RandomFields(random), {600, 12});
  ASSERT_TRUE(stream_->Erase({100, 1}));
  stream_->NoteDeleted({100, 1});
  model_.erase({100, 1});
  StreamGroup* group = stream_->AddGroup("g", {50, 2}, 50);
  for (const char* name : {"b", "a", "c"}) group->AddConsumer(name, 3);
  for (uint64_t i = 1; i <= 50; ++i)
    group->Deliver({i, i % 3}, group->FindConsumer(i % 2 ? "a" : "b"), 77, i, *stream_);
  ASSERT_NE(stream_->AddGroup("empty", kMinStreamId, -1), nullptr);

  ToBuilder sink(home_);
  ASSERT_TRUE(stream_->Emit(sink).ok());
  Result<ObjectRef> built = sink.builder_.Finish();
  ASSERT_TRUE(built.ok()) << built.status().message();
  const auto& copy = static_cast<const StreamValue&>(*built->get());
  copy.CheckInvariants();
  EXPECT_EQ(Contents(copy), model_);
  EXPECT_EQ(copy.last_id, stream_->last_id);
  EXPECT_EQ(copy.max_deleted_id, (StreamId{100, 1}));
  EXPECT_EQ(copy.entries_added, 250u);
  EXPECT_EQ(copy.FindGroup("g")->pending().Find({10, 1})->delivery_count, 10u);
  EXPECT_EQ(copy.FindGroup("g")->FindConsumer("a")->pending.size(), 25u);
  StreamValue* clone = stream_->Clone();
  clone->CheckInvariants();
  EXPECT_EQ(Contents(*clone), model_);
  clone->Unref();
}

TEST_F(StreamTest, PlacesOfRemovedConsumersAreTakenAgain) {
  StreamGroup* group = stream_->AddGroup("g", kMinStreamId, 0);
  std::mt19937_64 random(3);
  std::map<uint32_t, std::string> model;
  for (int step = 0; step < 2000; ++step) {
    if (model.size() < 40 && (model.empty() || random() % 2)) {
      const std::string name = "c" + std::to_string(step);
      EXPECT_TRUE(model.emplace(group->AddConsumer(name, 1)->index, name).second);
    } else {
      const auto victim = std::next(model.begin(), static_cast<int>(random() % model.size()));
      group->RemoveConsumer(group->FindConsumer(victim->second), *stream_);
      model.erase(victim);
    }
    group->CheckInvariants();
  }
  for (const auto& [index, name] : model) {
    EXPECT_LT(index, 40u);
    EXPECT_EQ(group->FindConsumer(name)->index, index);
  }
}

TEST_F(StreamTest, EveryFlippedByteOfANodeIsRefusedOrHarmless) {
  for (uint64_t i = 1; i <= 6; ++i) Add({i, 0}, {"f", i % 2 ? "value" : "12345"});
  Add({7, 0}, {"other", "x", "names", "y"});
  const std::string good = [this] {
    struct Grab final : ValueSink {
      std::string node;
      Status String(std::string_view) override { return Status::Ok(); }
      Status Integer(int64_t) override { return Status::Ok(); }
      Status Begin(ValueKind, uint64_t) override { return Status::Ok(); }
      Status Item(std::string_view) override { return Status::Ok(); }
      Status Field(std::string_view, std::string_view listpack) override {
        node = listpack;
        return Status::Ok();
      }
      Status Scored(std::string_view, double) override { return Status::Ok(); }
      Status Packed(uint8_t, std::string_view) override { return Status::Ok(); }
      Status StreamState(const StreamStateRecord&) override { return Status::Ok(); }
      Status BeginModule(uint64_t) override { return Status::Ok(); }
      Status ModuleUnsigned(uint64_t) override { return Status::Ok(); }
      Status ModuleSigned(int64_t) override { return Status::Ok(); }
      Status ModuleDouble(double) override { return Status::Ok(); }
      Status ModuleFloat(float) override { return Status::Ok(); }
      Status ModuleString(std::string_view) override { return Status::Ok(); }
      Status End() override { return Status::Ok(); }
    } grab;
    EXPECT_TRUE(stream_->Emit(grab).ok());
    return grab.node;
  }();
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      auto* stream = new StreamValue(home_);
      if (stream->AppendNode({1, 0}, bad).ok()) {
        EXPECT_TRUE(stream->FinishNodes(stream->length(), {}, false).ok());
        stream->CheckInvariants();
        Contents(*stream);
      } else {
        ++refused;
      }
      stream->Unref();
    }
  }
  EXPECT_GT(refused, 100);
}

TEST_F(StreamTest, RadixNodesAreThoseThatRedisReports) {
  EXPECT_EQ(stream_->radix_nodes(), 1u);
  Add({1, 0}, {"f", "v"}, {0, 1});
  EXPECT_EQ(stream_->radix_nodes(), 2u);
}

TEST_F(StreamTest, RadixNodesAreCountedAsNodesComeAndGo) {
  std::mt19937_64 random(31);
  for (int round = 0; round < 60; ++round) {
    // Steps of every size: keys part at each of the sixteen bytes.
    const int most_bits = 1 + round % 60;
    StreamId next = stream_->last_id;
    std::vector<StreamId> ids;
    for (int i = 0; i < 40; ++i) {
      const uint64_t step = 1 + (random() & ((uint64_t{1} << most_bits) - 1));
      if (random() % 2 == 0) {
        if (next.ms > UINT64_MAX - step) break;
        next = {next.ms + step, random() % 3 == 0 ? random() : 0};
      } else {
        if (next.sequence > UINT64_MAX - step) continue;
        next.sequence += step;
      }
      Add(next, {"f", "v"}, {0, 1});
      ids.push_back(next);
      stream_->CheckInvariants();
    }
    std::shuffle(ids.begin(), ids.end(), random);
    if (round % 2 == 0) ids.resize(ids.size() / 2);
    for (StreamId id : ids) {
      ASSERT_TRUE(stream_->Erase(id));
      stream_->CheckInvariants();
    }
  }
}

TEST(StreamIdTest, TextsAreReadAsRedisReadsThem) {
  const auto read = [](std::string_view text, StreamIdForms forms = StreamIdForms::kPlain) {
    const auto id = ParseStreamId(text, forms, 9);
    return id.has_value() ? FormatStreamId(id->id) : "none";
  };
  EXPECT_EQ(read("5"), "5-9");
  EXPECT_EQ(read("5-3"), "5-3");
  EXPECT_EQ(read("18446744073709551615-18446744073709551615"),
            "18446744073709551615-18446744073709551615");
  for (const char* bad :
       {"", "-", "+", "a", "1-", "-1", "1-a", "1-2-3", "18446744073709551616", "5-*"})
    EXPECT_EQ(read(bad), "none") << bad;
  EXPECT_EQ(read("-", StreamIdForms::kBounds), "0-0");
  EXPECT_EQ(read("+", StreamIdForms::kBounds), "18446744073709551615-18446744073709551615");
  EXPECT_FALSE(ParseStreamId("7-*", StreamIdForms::kAutomatic, 0)->has_sequence);
}

}  // namespace
}  // namespace cairn

// SortedSet and its packed form against a plain map, with and without a frozen reader.

#include "server/data/sorted_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/data/ordered_builder.h"
#include "server/data/packed_sorted_set.h"

namespace cairn {
namespace {

using Pair = std::pair<double, std::string>;
using Model = std::map<std::string, double>;
using SetRef = std::unique_ptr<SortedSet, void (*)(SortedSet*)>;
SetRef Hold(SortedSet* set) {
  return {set, [](SortedSet* each) { each->Unref(); }};
}

std::vector<Pair> Sorted(const Model& model) {
  std::vector<Pair> pairs;
  for (const auto& [member, score] : model) pairs.emplace_back(score, member);
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

template <typename Set>
std::vector<Pair> Pairs(const Set& set, uint64_t rank = 0, uint64_t n = UINT64_MAX,
                        bool reverse = false) {
  std::vector<Pair> pairs;
  set.Visit(rank, n, reverse, [&pairs](std::string_view member, double score) {
    pairs.emplace_back(score, member);
    return true;
  });
  return pairs;
}

class SortedSetTest : public ::testing::Test {
 protected:
  double RandomScore() {
    switch (random_() % 5) {
      case 0:
        return static_cast<double>(random_() % 10);
      case 1:
        return static_cast<double>(static_cast<int64_t>(random_()));
      case 2:
        return 0.1 * static_cast<double>(random_() % 100);
      case 3:
        return random_() % 2 ? INFINITY : -INFINITY;
      default:
        return std::ldexp(1.0, static_cast<int>(random_() % 600) - 300);
    }
  }
  std::string RandomMember(uint64_t about) {
    const uint64_t number = random_() % about;
    return number % 7 == 0 ? std::string(70, 'x') + std::to_string(number) : std::to_string(number);
  }

  void Step(SortedSet* set, Model* model, uint64_t about) {
    const std::string member = RandomMember(about);
    const auto found = model->find(member);
    double score = 0;
    ASSERT_EQ(set->Find(member, &score), found != model->end());
    if (found != model->end()) {
      ASSERT_EQ(score, found->second);
    }
    switch (random_() % 8) {
      case 0:
      case 1:
        ASSERT_EQ(set->Erase(member), model->erase(member) == 1);
        break;
      case 2: {
        if (random_() % 20 != 0 || model->empty()) break;
        const auto pairs = Sorted(*model);
        const uint64_t from = random_() % pairs.size();
        const uint64_t n = random_() % std::min<uint64_t>(pairs.size() - from, 40);
        set->EraseRange({from, n});
        for (uint64_t i = from; i < from + n; ++i) model->erase(pairs[i].second);
        break;
      }
      default: {
        const double fresh =
            found != model->end() && random_() % 2 ? found->second + 1e-3 : RandomScore();
        if (found != model->end()) {
          set->SetScore(member, fresh);
        } else {
          ASSERT_TRUE(set->Insert(member, fresh));
        }
        (*model)[member] = fresh;
      }
    }
  }

  std::vector<const ScoredRecord*> RecordsOf(const std::vector<Pair>& pairs) {
    std::vector<const ScoredRecord*> records;
    for (const auto& [score, member] : pairs)
      records.push_back(ScoredRecord::Create(slab_, member, score));
    return records;
  }

  void DrainQueue() {
    Retired item;
    while (lane_->Pop(&item)) {
      if (item.kind == Retired::Kind::kMemberRecord) {
        slab_.FreeRemote(item.object, item.position);
      } else {
        std::free(item.object);
      }
      gate_.Released(item.kind, item.size_bytes);
    }
  }

  RecordSlab slab_;
  SnapshotGate gate_;
  ViewLane* lane_ = nullptr;
  ValueHome home_{&gate_, &slab_, 7};
  std::mt19937_64 random_{1};
};

TEST_F(SortedSetTest, AgreesWithAMap) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  const SetRef set = Hold(new SortedSet(home_));
  Model model;
  for (uint64_t about : {20, 3000, 200}) {
    for (int i = 0; i < 8000; ++i) {
      Step(set.get(), &model, about);
      if (HasFatalFailure()) return;
      if (i % 500 == 0) {
        set->CheckInvariants();
        ASSERT_EQ(Pairs(*set), Sorted(model));
      }
    }
  }
  const auto pairs = Sorted(model);
  for (size_t i = 0; i < pairs.size(); ++i) {
    ASSERT_EQ(set->RankOf({pairs[i].first, pairs[i].second}), i);
  }
  auto reversed = pairs;
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(Pairs(*set, set->size() - 1, UINT64_MAX, true), reversed);
  const SetRef clone = Hold(set->Clone());
  clone->CheckInvariants();
  EXPECT_EQ(Pairs(*clone), pairs);
}

TEST_F(SortedSetTest, RangesAreThoseOfTheSortedSequence) {
  const SetRef set = Hold(new SortedSet(home_));
  Model model;
  for (int i = 0; i < 2000; ++i) Step(set.get(), &model, 1500);
  const auto pairs = Sorted(model);
  for (int i = 0; i < 300; ++i) {
    ScoreRange range{pairs[random_() % pairs.size()].first, pairs[random_() % pairs.size()].first,
                     random_() % 2 == 0, random_() % 2 == 0};
    std::vector<Pair> expected;
    for (const Pair& pair : pairs) {
      const bool above = range.min_exclusive ? pair.first > range.min : pair.first >= range.min;
      const bool below = range.max_exclusive ? pair.first < range.max : pair.first <= range.max;
      if (above && below) expected.push_back(pair);
    }
    const RankRange ranks = set->Range(range);
    ASSERT_EQ(Pairs(*set, ranks.from, ranks.count), expected);
  }
}

TEST_F(SortedSetTest, ScanSeesEveryMemberOnce) {
  const SetRef set = Hold(new SortedSet(home_));
  for (int i = 0; i < 5000; ++i) set->Insert(std::to_string(i), i);
  std::map<std::string, int> seen;
  uint64_t cursor = 0, calls = 0;
  do {
    cursor = set->Scan(cursor, 10,
                       [&seen](std::string_view member, double) { ++seen[std::string(member)]; });
    // Splitting pages meanwhile loses nothing.
    set->Insert("new" + std::to_string(calls++), 1);
  } while (cursor != 0);
  EXPECT_GT(calls, 100u);
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(seen[std::to_string(i)], 1);
}

TEST_F(SortedSetTest, AViewSeesTheStateOfTheCut) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  SortedSet* set = new SortedSet(home_);
  Model model;
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 200; ++i) Step(set, &model, 600);
    lane_ = gate_.Open();
    const SetRef frozen = Hold(set);
    const auto at_cut = Sorted(model);
    set = set->Fork(1000);
    for (int i = 0; i < 400; ++i) {
      Step(set, &model, 600);
      if (HasFatalFailure()) return;
      if (i % 50 == 0) {
        ASSERT_EQ(Pairs(*frozen), at_cut);
      }
    }
    frozen->CheckInvariants();
    set->CheckInvariants();
    ASSERT_EQ(Pairs(*set), Sorted(model));
    lane_->PublishWatermark(1000);
    for (int i = 0; i < 100; ++i) Step(set, &model, 600);
    DrainQueue();
    lane_->PublishWatermark(kWatermarkEnd);
    gate_.Close(*lane_);
    set->CheckInvariants();
    ASSERT_EQ(Pairs(*set), Sorted(model));
  }
  set->Unref();
  while (slab_.DrainRemote(SIZE_MAX) != 0) {
  }
  EXPECT_EQ(slab_.used_bytes(), 0u);
}

// Fill makes the index from its pages up; what it makes is what inserting makes.
TEST_F(SortedSetTest, FillMakesWhatInsertingMakes) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  for (const size_t count : {0, 1, 69, 70, 71, 5000, 40'000}) {
    SCOPED_TRACE(count);
    Model model;
    while (model.size() < count) model[RandomMember(10 * count)] = RandomScore();
    const SetRef inserted = Hold(new SortedSet(home_)), filled = Hold(new SortedSet(home_));
    ASSERT_TRUE(filled->Fill(RecordsOf(Sorted(model))));
    for (const auto& [member, score] : model) inserted->Insert(member, score);
    filled->CheckInvariants();
    ASSERT_EQ(Pairs(*filled), Sorted(model));
    std::vector<std::string> scans[2];
    for (const SortedSet* set : {inserted.get(), filled.get()}) {
      uint64_t cursor = 0;
      do {
        std::set<std::string> part;  // inside a page the order is nobody's business
        cursor = set->Scan(cursor, 10, [&](auto member, double) { part.emplace(member); });
        auto& all = scans[set == filled.get()];
        all.insert(all.end(), part.begin(), part.end());
      } while (cursor != 0);
    }
    ASSERT_EQ(scans[0], scans[1]);  // the same pages
    for (int i = 0; i < 2000; ++i) Step(filled.get(), &model, 10 * count + 10);
    filled->CheckInvariants();
    ASSERT_EQ(Pairs(*filled), Sorted(model));
  }
}

TEST_F(SortedSetTest, FillRefusesAMemberThatComesTwice) {
  for (const size_t times : {2, 71, 2000}) {
    for (const size_t others : {0, 50, 5000}) {
      std::vector<Pair> pairs;
      for (size_t i = 0; i < others; ++i) pairs.emplace_back(i, std::to_string(i));
      for (size_t i = 0; i < times; ++i) pairs.emplace_back(others + i, "again");
      EXPECT_FALSE(Hold(new SortedSet(home_))->Fill(RecordsOf(pairs)));
      while (slab_.DrainRemote(SIZE_MAX) != 0) {
      }
      EXPECT_EQ(slab_.used_bytes(), 0u);  // the set had all records, and they went with it
    }
  }
}

TEST_F(SortedSetTest, AWalkerThreadReadsWhileTheExecutorWrites) {
  SortedSet* set = new SortedSet(home_);
  Model model;
  for (int i = 0; i < 3000; ++i) Step(set, &model, 2000);
  for (int round = 0; round < 15; ++round) {
    lane_ = gate_.Open();
    SortedSet* frozen = set;
    const auto at_cut = Sorted(model);
    set = set->Fork(1000);
    std::atomic<bool> stop{false};
    bool same = true;
    std::thread walker([&] {
      for (int i = 0; i < 3; ++i) same = same && Pairs(*frozen) == at_cut;
      lane_->PublishWatermark(1000);
      while (!stop.load(std::memory_order_acquire)) DrainQueue();
      DrainQueue();
      frozen->Unref();
      lane_->PublishWatermark(kWatermarkEnd);
    });
    for (int i = 0; i < 500; ++i) Step(set, &model, 2000);
    stop.store(true, std::memory_order_release);
    walker.join();
    gate_.Close(*lane_);
    EXPECT_TRUE(same);
    ASSERT_EQ(Pairs(*set), Sorted(model));
  }
  set->Unref();
}

TEST_F(SortedSetTest, AMillionMembersStayUnderTheBar) {
  const SetRef set = Hold(new SortedSet(home_));
  constexpr int kMembers = 200000;
  char member[17];
  for (int i = 0; i < kMembers; ++i) {
    std::snprintf(member, sizeof member, "%016llx", static_cast<unsigned long long>(random_()));
    set->Insert(member, std::ldexp(static_cast<double>(random_() >> 11), -53));
  }
  EXPECT_LE(set->MemoryUsage(), uint64_t{57} * kMembers);
}

// --- the packed form ---------------------------------------------------------------------------

TEST(PackedSortedSetTest, AgreesWithAMap) {
  std::mt19937_64 random(std::random_device{}());
  std::string packed = NewListpack();
  Model model;
  for (int i = 0; i < 3000; ++i) {
    const std::string member = std::to_string(random() % 40);
    const double score = random() % 2 ? static_cast<double>(random() % 9) : 0.5 * (random() % 9);
    const PackedSortedSetView view(packed);
    double old = 0;
    const uint32_t at = view.Find(member, &old, nullptr);
    ASSERT_EQ(at != 0, model.contains(member));
    ListpackIndex index(PackedSortedSetView::kSkip, 7);
    for (int asked = 0; asked < 8; ++asked) ASSERT_EQ(view.Find(member, &old, nullptr, &index), at);
    uint64_t rank = 0;
    if (at != 0) {
      ASSERT_EQ(view.Find(member, nullptr, &rank), at);
      ASSERT_EQ(Pairs(view, rank, 1)[0].second, member);
    }
    if (at != 0) {
      ASSERT_EQ(old, model[member]);
      PackedSortedSetErase(&packed, at);
      model.erase(member);
    }
    if (random() % 3 != 0) {
      PackedSortedSetInsert(&packed, member, score);
      model[member] = score;
    }
    ASSERT_EQ(Pairs(PackedSortedSetView(packed)), Sorted(model));
    ASSERT_TRUE(model.empty() || PackedSortedSetView::Validate(packed, 7));
  }
}

TEST(PackedSortedSetTest, RefusesWhatIsNoSortedSet) {
  const auto pack = [](std::initializer_list<std::string_view> items) {
    std::string packed = NewListpack();
    for (std::string_view item : items) ListpackAppend(&packed, item);
    return packed;
  };
  EXPECT_TRUE(PackedSortedSetView::Validate(pack({"a", "1", "b", "1", "c", "inf"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"a"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"a", "x"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"a", "nan"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"a", "2", "b", "1"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"b", "1", "a", "1"}), 7));
  EXPECT_FALSE(PackedSortedSetView::Validate(pack({"a", "1", "a", "2"}), 7));
}

TEST(PackedSortedSetTest, ScoreRangesAreThoseOfTheSortedSequence) {
  std::mt19937_64 random(std::random_device{}());
  const double infinity = INFINITY;
  for (int i = 0; i < 2000; ++i) {
    std::string packed = NewListpack();
    std::vector<double> scores;
    for (uint64_t n = random() % 12; n > 0; --n) {
      const double score = random() % 9 == 0 ? (random() % 2 ? infinity : -infinity)
                                             : 0.5 * static_cast<double>(random() % 9);
      PackedSortedSetInsert(&packed, "m" + std::to_string(n), score);
      scores.push_back(score);
    }
    std::sort(scores.begin(), scores.end());
    const auto bound = [&] {
      return random() % 4 ? 0.5 * static_cast<double>(random() % 9)
                          : (random() % 2 ? infinity : -infinity);
    };
    const ScoreRange range{bound(), bound(), random() % 2 == 0, random() % 2 == 0};
    RankRange expected;
    for (double score : scores) {
      if (range.IsEmpty()) break;
      expected.from += range.IsBelow(score);
      expected.count += !range.IsBelow(score) && range.IsNotPast(score);
    }
    const uint64_t most = random() % 2 ? UINT64_MAX : random() % 12;
    const RankRange found = PackedSortedSetView(packed).Range(range, most);
    ASSERT_EQ(found.from, expected.from);
    ASSERT_EQ(found.count, std::min(most, expected.count));
  }
}

// --- made of what files hold -------------------------------------------------------------------

class SortedSetBuilderTest : public SortedSetTest {};

TEST_F(SortedSetBuilderTest, AListpackInOrderStaysAsItIs) {
  // The score 5 as a string: redis-server keeps what it is given, and so DUMP gives it back.
  const std::string listpack(
      "\x0d\0\0\0\x02\0\x81"
      "a\x02\x81"
      "5\x02\xff",
      13);
  ASSERT_TRUE(ListpackView::Validate(listpack));
  SortedSetBuilder builder(home_, {});
  ASSERT_TRUE(builder.AddListpack(listpack).ok());
  EXPECT_EQ(builder.size(), 1u);
  const Result<ValueInput> value = builder.TakeValue();
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->bytes, listpack);
}

TEST_F(SortedSetBuilderTest, AListpackOutOfOrderIsSorted) {
  std::string listpack = NewListpack(), sorted = NewListpack();
  for (const char* each : {"b", "2", "a", "1"}) ListpackAppend(&listpack, each);
  for (const char* each : {"a", "1", "b", "2"}) ListpackAppend(&sorted, each);
  SortedSetBuilder builder(home_, {});
  ASSERT_TRUE(builder.AddListpack(listpack).ok());
  const Result<ValueInput> value = builder.TakeValue();
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->bytes, sorted);
}

TEST_F(SortedSetBuilderTest, AMemberThatComesTwiceIsRefused) {
  for (const char* second : {"1", "2", "0"}) {
    std::string listpack = NewListpack();
    for (const char* each : {"a", "1", "a", second}) ListpackAppend(&listpack, each);
    SortedSetBuilder builder(home_, {});
    ASSERT_TRUE(builder.AddListpack(listpack).ok());
    EXPECT_FALSE(builder.TakeValue().ok());
  }
}

TEST(PackedSortedSetTest, LexRangesFromEitherSide) {
  std::string packed = NewListpack();
  for (std::string_view member : {"a", "b", "c", "d"}) PackedSortedSetInsert(&packed, member, 0);
  const PackedSortedSetView view(packed);
  LexRange range;
  ASSERT_TRUE(LexRange::Parse("(a", "[c", &range));
  for (const bool reverse : {false, true}) {
    const RankRange ranks = view.Range(range, reverse);
    EXPECT_EQ(ranks.from, 1u);
    EXPECT_EQ(ranks.count, 2u);
  }
  ASSERT_TRUE(LexRange::Parse("-", "+", &range));
  EXPECT_EQ(view.Range(range, true).count, 4u);
  ASSERT_TRUE(LexRange::Parse("[x", "[z", &range));
  EXPECT_EQ(view.Range(range, false).count, 0u);
  EXPECT_FALSE(LexRange::Parse("a", "[z", &range));
  EXPECT_FALSE(LexRange::Parse("+x", "[z", &range));
}

TEST(ScoreRangeTest, ReadsBoundsAsStrtodDoes) {
  ScoreRange range;
  EXPECT_TRUE(ScoreRange::Parse("(1", "inf", &range));
  EXPECT_TRUE(range.min_exclusive && !range.max_exclusive && range.max == INFINITY);
  EXPECT_TRUE(ScoreRange::Parse("", "(", &range));
  EXPECT_EQ(range.min, 0);
  EXPECT_TRUE(ScoreRange::Parse(" 5", "0x10", &range));
  EXPECT_EQ(range.max, 16);
  EXPECT_FALSE(ScoreRange::Parse("nan", "1", &range));
  EXPECT_FALSE(ScoreRange::Parse("1x", "1", &range));
}

}  // namespace
}  // namespace cairn

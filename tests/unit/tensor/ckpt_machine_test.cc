// DECLARE as the state machine has it, against a plain model: what a rank declares, in whatever
// order and in how many calls, becomes one list by name and number.

#include "tensor_module/ckpt_machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tensor_module/ckpt_check.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kRows = 1 << 20;

ShardSpec Spec(const std::string& name, uint64_t row, DType dtype = DType::kU8) {
  ShardSpec spec;
  spec.name = name;
  spec.group = "weights";
  spec.dtype = dtype;
  spec.shape = {kRows, 2};
  spec.extent = {{row, 0}, {1, 2}};
  spec.Settle();
  return spec;
}

class CkptMachineTest : public testing::Test {
 protected:
  void SetUp() override {
    BeginRequest request;
    request.step = 1;
    request.world = 3;
    request.new_id = "tx";
    ASSERT_TRUE(Begin(&run_, request, {}).ok());
  }
  const RankPart& Part(uint32_t rank) { return *FindRank(*run_.transactions[0], rank); }
  std::string DeclareNow(uint32_t rank, const std::vector<ShardSpec>& specs) {
    const Status status = Declare(&run_, "tx", rank, specs, {});
    return status.ok() ? "OK" : std::string(status.message());
  }

  CkptRun run_;
};

TEST_F(CkptMachineTest, DeclarationsInAnyOrderMakeOneListByNameAndNumber) {
  std::mt19937 random(5);
  std::map<std::string, std::vector<uint64_t>> model;  // rows in the order they came
  for (int call = 0; call < 60; ++call) {
    std::vector<ShardSpec> specs;
    for (size_t i = 0; i < 1 + random() % 50; ++i) {
      const std::string name(1, static_cast<char>('a' + random() % 9));
      const uint64_t row = random() % 200;
      specs.push_back(Spec(name, row));
      std::vector<uint64_t>& rows = model[name];
      if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(row);
    }
    const CkptRun before = run_;
    ASSERT_EQ(DeclareNow(1, specs), "OK");
    size_t at = 0;
    for (const auto& [name, rows] : model) {
      for (size_t i = 0; i < rows.size(); ++i, ++at) {
        ASSERT_LT(at, Part(1).specs.size());
        const ShardSpec& spec = *Part(1).specs[at];
        ASSERT_EQ(spec.name + std::to_string(spec.index), name + std::to_string(i));
        ASSERT_EQ(spec.extent.off[0], rows[i]);
        ASSERT_EQ(Part(1).data[at]->cells().size(), spec.cell_count());
        ASSERT_EQ(FindShard(Part(1), name, static_cast<uint32_t>(i)).value(), at);
      }
    }
    ASSERT_EQ(Part(1).specs.size(), at);
    ASSERT_EQ(Part(1).data.size(), at);
    ASSERT_TRUE(IsConsistent(run_));
    // Who looks at the run as it was sees nothing of this.
    const RankPart* old = FindRank(*before.transactions[0], 1);
    ASSERT_LE(old == nullptr ? 0 : old->specs.size(), at);
  }
}

TEST_F(CkptMachineTest, ARefusedDeclarationLeavesTheRunAsItWas) {
  ASSERT_EQ(DeclareNow(0, {Spec("b", 0), Spec("d", 0)}), "OK");
  const Transaction* before = run_.transactions[0].get();
  for (const uint32_t rank : {0u, 1u}) {
    const std::string refused =
        DeclareNow(rank, {Spec("a", 7), Spec("c", 7), Spec("d", 7, DType::kF32), Spec("e", 7)});
    EXPECT_EQ(refused,
              "CKPTDIVERGED 'd' was declared by rank 0 as U8 [1048576,2] of group 'weights'");
    EXPECT_EQ(run_.transactions[0].get(), before);
  }
  // Against what came earlier in the same call.
  EXPECT_EQ(DeclareNow(2, {Spec("x", 0), Spec("x", 1, DType::kI8)}).substr(0, 45),
            "CKPTDIVERGED 'x' was declared by rank 2 as U8");
  EXPECT_EQ(run_.transactions[0].get(), before);
  EXPECT_EQ(FindRank(*before, 2), nullptr);
}

TEST_F(CkptMachineTest, APreparedRankMayRepeatItselfAndNoMore) {
  ShardSpec empty = Spec("a", 0);
  empty.extent.len = {0, 2};
  empty.Settle();
  ASSERT_EQ(DeclareNow(0, {empty}), "OK");
  ASSERT_TRUE(Prepare(&run_, "tx", 0, false, {}).ok());
  EXPECT_EQ(DeclareNow(0, {empty}), "OK");
  EXPECT_EQ(DeclareNow(0, {empty, Spec("a", 1)}),
            "CKPTDIVERGED rank 0 is prepared and did not declare this of 'a'");
  EXPECT_EQ(DeclareNow(0, {Spec("b", 1)}),
            "CKPTDIVERGED rank 0 is prepared and did not declare this of 'b'");
}

TEST_F(CkptMachineTest, AVoteOfBeforeCountsByThisClock) {
  ASSERT_EQ(DeclareNow(0, {}), "OK");
  const Moment now = {5000, /*replayed=*/false};
  for (const int64_t voted_ms : {int64_t{1}, int64_t{1} << 46}) {
    CkptRun run = run_;
    ASSERT_TRUE(Prepare(&run, "tx", 0, false, now, voted_ms).ok());
    const Transaction& transaction = *run.transactions[0];
    EXPECT_EQ(transaction.first_prepare_ms, voted_ms);
    EXPECT_EQ(transaction.last_prepare_ms, voted_ms);
    EXPECT_EQ(transaction.deadline_ms, now.now_ms + transaction.timeout_ms);
  }
}

TEST_F(CkptMachineTest, ATransactionOfBeforeCountsByThisClock) {
  const Moment now = {5000, /*replayed=*/false};
  for (const int64_t began_ms : {int64_t{1}, int64_t{1} << 46}) {
    CkptRun run = run_;
    BeginRequest request;
    request.step = 2;
    request.attempt = 1;
    request.new_id = "new";
    request.began_ms = began_ms;
    ASSERT_TRUE(Begin(&run, request, now).ok());
    ASSERT_EQ(run.transactions.size(), 2u);
    const Transaction &fenced = *run.transactions[0], &begun = *run.transactions[1];
    EXPECT_EQ(begun.began_ms, began_ms);
    EXPECT_EQ(begun.deadline_ms, now.now_ms + begun.timeout_ms);
    EXPECT_EQ(fenced.free_at_ms, now.now_ms + kGraceMs);
    EXPECT_EQ(run.log->back().at_ms, began_ms) << "the log tells when it happened";
  }
}

/// What IMPORT logs: a transaction of its own, whatever is open and however many ranks the run has.
TEST_F(CkptMachineTest, WhatIsReplayedJoinsNobody) {
  BeginRequest request;
  request.step = 1;
  request.world = 3;
  request.new_id = "other";
  EXPECT_EQ(Begin(&run_, request, {}).value().id, "tx");
  request.world = 1;
  EXPECT_EQ(Begin(&run_, request, {}).status().message().substr(0, 9), "CKPTWORLD");
  run_.config.world = 3;
  const Moment replayed = {0, /*replayed=*/true};
  EXPECT_EQ(Begin(&run_, request, replayed).value().id, "other");
  ASSERT_EQ(run_.transactions.size(), 2u);
  EXPECT_EQ(run_.transactions[1]->world, 1u);
  // Logs of older servers have a BEGIN of each who joined by name.
  EXPECT_EQ(Begin(&run_, request, replayed).value().id, "other");
  EXPECT_EQ(run_.transactions.size(), 2u);
}

/// A rank that comes after the others have given up is told so, once: they do not wait for it, nor
/// it for them. All others go on as they like.
TEST_F(CkptMachineTest, WhoComesAfterAnAbortIsToldOnce) {
  int made = 0;
  const auto begin = [&](uint32_t rank, int64_t now_ms = 1000, uint64_t step = 1) {
    BeginRequest request;
    request.step = step;
    request.rank = rank;
    request.world = 3;
    request.new_id = "again" + std::to_string(made++);
    const Result<Begun> begun = Begin(&run_, request, {now_ms, false});
    return begun.ok() ? begun->id : std::string(begun.status().message());
  };
  const std::string told = "CKPTABORTED transaction tx was aborted: rank 1 has a set";
  EXPECT_EQ(begin(1), "tx");
  ASSERT_TRUE(Abort(&run_, "tx", "rank 1 has a set", {1000, false}).ok());
  EXPECT_EQ(begin(2, 1000, 2), "again1") << "another step";
  EXPECT_EQ(begin(2), told);
  EXPECT_EQ(begin(2), "again3") << "it knows by now";
  EXPECT_EQ(begin(0), "again3") << "it began that one, and comes again";
  EXPECT_EQ(begin(1), "again3");
  ASSERT_TRUE(Abort(&run_, "again3", "", {1000, false}).ok());
  EXPECT_EQ(begin(1), "again6") << "all knew of it";

  // Who sent to it without a BEGIN of its own has come to it as well; nobody is told for ever.
  ASSERT_TRUE(Prepare(&run_, "again6", 0, false, {1000, false}).ok());
  ASSERT_TRUE(Abort(&run_, "again6", "", {1000, false}).ok());
  const CkptRun aborted = run_;
  EXPECT_EQ(begin(0), "again7");
  run_ = aborted;
  EXPECT_EQ(begin(2, 1000 + kDefaultTimeoutMs), "again8");
  run_ = aborted;
  EXPECT_EQ(begin(2).substr(0, 11), "CKPTABORTED");
}

TEST_F(CkptMachineTest, DeadlinesAreArmedWithoutASweep) {
  Transaction loaded = *run_.transactions[0], over = loaded;
  loaded.deadline_ms = 0;
  over.id = "over";
  over.state = TxState::kExpired;
  over.free_at_ms = 10;
  run_.transactions = {Kept<Transaction>::Make(Transaction(loaded)),
                       Kept<Transaction>::Make(Transaction(over))};
  CkptRun replayed = run_;
  EXPECT_FALSE(ArmDeadlines(&replayed, {1000, true}));
  EXPECT_TRUE(ArmDeadlines(&run_, {1000, false}));
  ASSERT_EQ(run_.transactions.size(), 2u);
  EXPECT_EQ(run_.transactions[0]->deadline_ms, 1000 + loaded.timeout_ms);
  EXPECT_FALSE(ArmDeadlines(&run_, {2000, false}));
  const Swept swept = Sweep(&run_, {1000, false});
  EXPECT_EQ(swept.forgotten, std::vector<std::string>{"over"});
}

/// Quadratic in either number, this would take minutes.
TEST_F(CkptMachineTest, ManyShardsOfOneTensorBeforeAsManyOfAnother) {
  constexpr size_t kCount = 100'000;
  for (const char* name : {"z", "a"}) {
    std::vector<ShardSpec> specs;
    for (size_t i = 0; i < kCount; ++i) specs.push_back(Spec(name, kCount - i));
    ASSERT_EQ(DeclareNow(0, specs), "OK");
  }
  ASSERT_EQ(Part(0).specs.size(), 2 * kCount);
  EXPECT_EQ(Part(0).specs[kCount - 1]->name + std::to_string(Part(0).specs[kCount - 1]->index),
            "a99999");
  EXPECT_EQ(Part(0).specs[2 * kCount - 1]->extent.off[0], 1u);
}

TEST_F(CkptMachineTest, TheMostShardsOfARankAndOneMore) {
  // As many as there may be but one, in the room of one.
  Transaction transaction = *run_.transactions[0];
  RankPart part;
  const Kept<ShardSpec> spec = Kept<ShardSpec>::Make(Spec("a", 5));
  part.specs = SharedList(std::vector<Kept<ShardSpec>>(kMaxShardsPerRank - 1, spec));
  part.data = SharedList(
      std::vector<Kept<ShardData>>(kMaxShardsPerRank - 1, Kept<ShardData>::Make(ShardData(*spec))));
  transaction.ranks.push_back(Kept<RankPart>::Make(std::move(part)));
  run_.transactions[0] = Kept<Transaction>::Make(std::move(transaction));
  const std::string refused = "ERR a rank declares at most 1048576 shards";
  EXPECT_EQ(DeclareNow(0, {Spec("b", 0), Spec("c", 0)}), refused) << "one too many in one call";
  EXPECT_EQ(DeclareNow(0, {Spec("b", 0)}), "OK");
  EXPECT_EQ(Part(0).specs.size(), kMaxShardsPerRank);
  EXPECT_EQ(DeclareNow(0, {Spec("c", 0)}), refused);
  EXPECT_EQ(DeclareNow(0, {Spec("a", 5), Spec("b", 0)}), "OK") << "nothing new";
}

TEST_F(CkptMachineTest, RanksThatMeanOtherTensorsByOneNameAreNotConsistent) {
  ASSERT_EQ(DeclareNow(0, {Spec("a", 0)}), "OK");
  ASSERT_EQ(DeclareNow(1, {Spec("a", 1), Spec("a", 2)}), "OK");
  ASSERT_TRUE(IsConsistent(run_));
  const auto with = [&](size_t shard, ShardSpec spec) {
    CkptRun forged = run_;
    Transaction transaction = *forged.transactions[0];
    RankPart part = *transaction.ranks[1];
    part.specs.Own(shard) = Kept<ShardSpec>::Make(std::move(spec));
    transaction.ranks[1] = Kept<RankPart>::Make(std::move(part));
    forged.transactions[0] = Kept<Transaction>::Make(std::move(transaction));
    return forged;
  };
  ShardSpec good = Spec("a", 3);
  good.index = 1;
  EXPECT_TRUE(IsConsistent(with(1, good)));
  ShardSpec flat = good;
  flat.shape = {kRows};
  flat.extent = {{3}, {1}};
  EXPECT_FALSE(IsConsistent(with(1, flat)));
  ShardSpec other = good;
  other.dtype = DType::kI8;
  EXPECT_FALSE(IsConsistent(with(1, other)));
  good.index = 2;
  EXPECT_FALSE(IsConsistent(with(1, good))) << "1 is missing";
  EXPECT_TRUE(IsConsistent(run_)) << "and the run has not changed";
}

}  // namespace
}  // namespace cairn::tensor

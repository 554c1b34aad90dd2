// The sum of what a run's transactions await, kept up to date by each change, against the sum over
// all their shards: after each step of random histories, and when it is counted anew from a file.

#include "tensor_module/ckpt_promise.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <map>
#include <random>

#include "tensor_module/ckpt_commit.h"
#include "tensor_module/ckpt_machine.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kRows = 64, kWorld = 4;

ShardSpec Spec(const std::string& name, uint64_t row, uint64_t rows) {
  ShardSpec spec;
  spec.name = name;
  spec.group = "weights";
  spec.dtype = DType::kU8;
  spec.shape = {kRows};
  spec.extent = {{row}, {rows}};
  spec.Settle();
  return spec;
}

/// What lies in no file and is counted by nobody: for each box the least that any rank lacks of it.
uint64_t Model(const CkptRun& run) {
  uint64_t all = 0;
  for (const auto& transaction : run.transactions) {
    if (!transaction->live()) continue;
    std::map<std::string, std::map<std::pair<Shape, Shape>, uint64_t>> names;
    for (const auto& part : transaction->ranks) {
      for (size_t i = 0; i < part->specs.size(); ++i) {
        const ShardSpec& spec = *part->specs[i];
        const uint64_t missing = spec.size_bytes - part->data[i]->received_bytes();
        auto& boxes = names[spec.name];
        const auto [box, fresh] = boxes.try_emplace({spec.extent.off, spec.extent.len}, missing);
        box->second = std::min(box->second, missing);
      }
    }
    for (const auto& [name, boxes] : names) {
      uint64_t missing = 0;
      for (const auto& [extent, bytes] : boxes) missing += bytes;
      const LogicalTensor* old = run.Latest() == nullptr ? nullptr : run.Latest()->Find(name);
      all += missing - std::min(missing, old == nullptr ? 0 : old->size_bytes());
    }
  }
  return all;
}

/// As a file has it: no transaction counts anything.
CkptRun Loaded(const CkptRun& run) {
  CkptRun loaded = run;
  for (auto& transaction : loaded.transactions) transaction.Own().promise = Promise();
  CountPromises(&loaded);
  return loaded;
}

/// One change of a kind that commands make.
class Histories : public testing::TestWithParam<int> {
 protected:
  uint64_t Below(uint64_t end) { return random_() % end; }
  std::string Name() { return std::string(1, static_cast<char>('a' + Below(4))); }
  std::string AnyTx() {
    if (run_.transactions.empty()) return "none";
    return run_.transactions[Below(run_.transactions.size())]->id;
  }

  void BeginOne() {
    BeginRequest request;
    request.step = Below(6);
    request.world = kWorld;
    request.attempt = run_.highest_attempt + (Below(30) == 0 ? 1 : 0);
    request.new_id = "tx" + std::to_string(step_);
    std::ignore = Begin(&run_, request, Now());
  }
  void DeclareSome() {
    std::vector<ShardSpec> specs;
    // Now and then more of a name than are put among the others one by one.
    const bool many = Below(20) == 0;
    for (size_t i = 0; i <= (many ? 300 : Below(5)); ++i) {
      const uint64_t row = Below(8) * 8;
      specs.push_back(Spec(Name(), row, std::min<uint64_t>(Below(5) * 8, kRows - row)));
      if (Below(6) == 0) specs.back().alias_of = "a";
      specs.back().Settle();
    }
    const CkptRun before = run_;
    const bool refuse = Below(4) == 0;
    uint64_t asked = 0;
    const Status status = Declare(&run_, AnyTx(), static_cast<uint32_t>(Below(kWorld)), specs,
                                  Now(), [&](uint64_t bytes) {
                                    asked = bytes;
                                    return refuse ? Status::Client("CKPTQUOTA") : Status::Ok();
                                  });
    EXPECT_EQ(Model(run_) - Model(before), status.ok() ? asked : 0);
  }
  void PutSome() {
    const std::string tx = AnyTx();
    Result<const Transaction*> found = FindLive(run_, tx);
    if (!found.ok() || found.value()->ranks.empty()) return;
    const RankPart part = *found.value()->ranks[Below(found.value()->ranks.size())];
    if (part.specs.empty()) return;
    const size_t shard = Below(part.specs.size());
    const ShardSpec& spec = *part.specs[shard];
    const uint64_t received = part.data[shard]->received_bytes();
    if (received == spec.size_bytes) return;
    PartialCell cell;
    cell.received = {{0, received + 1 + Below(spec.size_bytes - received)}};
    std::vector<Cell> cells(1);
    cells[0].partial = Kept<PartialCell>::Make(std::move(cell));
    EXPECT_TRUE(
        StoreShard(&run_, tx, part.rank, shard, ShardData(spec, std::move(cells)), Now()).ok());
  }
  void CommitOne() {
    Version version;
    version.step = Below(6);
    for (const char* name : {"a", "b", "c", "d"}) {
      if (Below(2) == 0) continue;
      version.tensors.push_back(Kept<LogicalTensor>::Make(
          LogicalTensor{name, "weights", DType::kU8, {Below(kRows / 2)}, "", {}}));
    }
    run_.config.keep = Below(4);
    EXPECT_TRUE(CommitVersion(&run_, std::move(version), "", Now()).ok());
  }
  void EndOne() {
    if (Below(2) == 0) {
      std::ignore = Abort(&run_, AnyTx(), "", Now());
    } else {
      std::ignore = EndByClock(&run_, AnyTx(), Now());
    }
  }
  void StepOnce() {
    ++step_;
    const uint64_t kind = Below(100);
    if (kind < 6) return BeginOne();
    if (kind < 10) return CommitOne();
    if (kind < 12) return EndOne();
    if (kind < 16) {
      std::ignore = Rollback(&run_, Below(6), Now());
    } else if (kind < 20) {
      std::ignore = DeleteVersion(&run_, Below(6), Now());
    } else if (kind < 21) {
      Sweep(&run_, {static_cast<int64_t>(Below(20)) * 60'000, false});
    } else if (kind < 25) {
      run_ = Loaded(run_);
    } else {
      return kind < 55 ? DeclareSome() : PutSome();
    }
  }
  static Moment Now() { return {1000, false}; }

  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
  CkptRun run_;
  int step_ = 0;
};

TEST_P(Histories, TheRunningSumIsTheSumOverTheShards) {
  uint64_t most = 0;
  for (int i = 0; i < 2000; ++i) {
    const CkptRun before = run_;
    const uint64_t was = AwaitedBytes(before);
    StepOnce();
    ASSERT_EQ(AwaitedBytes(run_), Model(run_)) << "step " << i;
    ASSERT_EQ(AwaitedBytes(before), was) << "step " << i << ": who looks at the run as it was";
    most = std::max(most, AwaitedBytes(run_));
  }
  EXPECT_GT(most, 2 * kRows) << "histories that promise nothing show nothing";
}

INSTANTIATE_TEST_SUITE_P(Seeds, Histories, testing::Range(1, 9));

TEST(CkptPromiseTest, WhatIsRefusedTakesNoMemoryFirst) {
  CkptRun run;
  BeginRequest request;
  request.new_id = "tx";
  ASSERT_TRUE(Begin(&run, request, {}).ok());
  std::vector<ShardSpec> specs(4, Spec("w", 0, 0));
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].name += std::to_string(i);
    specs[i].shape = {kMaxTensorBytes};
    specs[i].extent = Extent::Whole(specs[i].shape);
    specs[i].Settle();
  }
  const auto peak_kb = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const int64_t before_kb = peak_kb();
  const Status refused = Declare(&run, "tx", 0, specs, {}, [](uint64_t bytes) {
    return bytes == 4 * kMaxTensorBytes ? Status::Client("CKPTQUOTA") : Status::Ok();
  });
  EXPECT_EQ(refused.message(), "CKPTQUOTA");
  EXPECT_LT(peak_kb() - before_kb, 32 * 1024) << "a shard of 2^40 bytes has 64 MiB of cells";
}

TEST(CkptPromiseTest, MoreThanCanBeCountedIsTheMost) {
  CkptRun run;
  BeginRequest request;
  request.new_id = "tx";
  ASSERT_TRUE(Begin(&run, request, {}).ok());
  Transaction transaction = *run.transactions[0];
  ShardSpec spec = Spec("a", 0, 1);
  spec.size_bytes = uint64_t{3} << 62;
  ShardSpec other = spec;
  other.name = "b";
  transaction.promise.Add({Kept<ShardSpec>::Make(spec), Kept<ShardSpec>::Make(other)}, nullptr);
  EXPECT_EQ(transaction.promise.bytes(), UINT64_MAX);
  transaction.promise.Receive(spec, 5, nullptr);
  EXPECT_EQ(transaction.promise.bytes(), other.size_bytes + 5);
}

}  // namespace
}  // namespace cairn::tensor

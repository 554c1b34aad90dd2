#include "tensor_module/ckpt_ballot.h"

#include <gtest/gtest.h>

#include <random>

#include "tensor_module/ckpt_commit.h"
#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kRows = 12, kColumns = 8;

class CkptBallotTest : public testing::Test {
 protected:
  static ShardSpec Spec(const std::string& name, Extent extent) {
    ShardSpec spec;
    spec.name = name;
    spec.group = name < "n" ? "weights" : "moments";
    spec.dtype = DType::kU8;
    spec.shape = {kRows, kColumns};
    spec.extent = std::move(extent);
    spec.Settle();
    return spec;
  }
  ShardSpec Alias(const std::string& name, const std::string& of) {
    ShardSpec spec = Spec(name, Extent::Whole({kRows, kColumns}));
    spec.alias_of = of;
    spec.Settle();
    return spec;
  }
  void Begin(uint32_t world, bool coverage = false) {
    run_ = CkptRun();
    BeginRequest request;
    request.step = 1;
    request.world = world;
    request.coverage = coverage;
    request.new_id = "tx";
    ASSERT_TRUE(cairn::tensor::Begin(&run_, request, {}).ok());
  }
  /// Declares, fills with bytes that depend on the name and `odd` alone, and votes.
  void Vote(uint32_t rank, const std::vector<ShardSpec>& specs, int odd = 0) {
    ASSERT_TRUE(Declare(&run_, "tx", rank, specs, {}).ok());
    const RankPart part = *FindRank(*run_.transactions[0], rank);
    for (size_t i = 0; i < part.specs.size(); ++i) {
      const ShardSpec& spec = *part.specs[i];
      if (spec.size_bytes == 0 || !spec.alias_of.empty()) continue;
      const std::string bytes(spec.size_bytes, static_cast<char>(spec.name[0] + odd));
      ShardData data = *part.data[i];
      ASSERT_TRUE(
          data.Refer(spec, 0, {pool_.InternOne(memory_.Slice(bytes), DType::kU8).value()}).ok());
      ASSERT_TRUE(StoreShard(&run_, "tx", rank, i, std::move(data), {}).ok());
    }
    ASSERT_TRUE(Prepare(&run_, "tx", rank, false, {}).ok());
  }
  /// What came out of a file has no ballots.
  static CkptRun WithoutBallots(const CkptRun& run) {
    CkptRun out = run;
    Transaction transaction = *out.transactions[0];
    transaction.names = {};
    for (auto& each : transaction.ranks) {
      RankPart part = *each;
      part.ballot = {};
      each = Kept<RankPart>::Make(std::move(part));
    }
    out.transactions[0] = Kept<Transaction>::Make(std::move(transaction));
    return out;
  }
  static std::string Describe(const CkptRun& run) {
    std::string out;
    for (const VersionRow& row : run.versions) {
      for (const RankSummary& rank : row.version->ranks) {
        out += std::to_string(rank.shards) + "/" + std::to_string(rank.bytes) + " ";
      }
      for (const auto& tensor : row.version->tensors) {
        out += "\n" + tensor->name + " " + tensor->group + " " + tensor->alias_of;
        for (const StoredShard& shard : tensor->shards) {
          out += " [" + std::to_string(shard.extent.off[0]) + "," +
                 std::to_string(shard.extent.off[1]) + " " + std::to_string(shard.extent.len[0]) +
                 "x" + std::to_string(shard.extent.len[1]) + " " + std::to_string(shard.phase);
          for (const ChunkRef& chunk : shard.chunks) out += " " + Hash128Hex(chunk->hash());
          out += "]";
        }
      }
    }
    return out;
  }
  /// Commits both ways. Returns whether there was a tiling.
  bool CommitBothWays() {
    const bool tiled = FindTiling(*run_.transactions[0]).has_value();
    CkptRun plain = WithoutBallots(run_);
    EXPECT_FALSE(FindTiling(*plain.transactions[0]).has_value());
    const Status by_ballots = Commit(&run_, "tx", Durable::kMem, "", {}).status();
    const Status by_all = Commit(&plain, "tx", Durable::kMem, "", {}).status();
    EXPECT_EQ(by_ballots.message(), by_all.message());
    EXPECT_EQ(Describe(run_), Describe(plain));
    committed_ = by_all.ok();
    return tiled;
  }

  TestMemory memory_;
  ChunkPool pool_{memory_};
  CkptRun run_;
  bool committed_ = false;
};

TEST_F(CkptBallotTest, RowsOneBehindTheOtherAreATiling) {
  Begin(3);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    Vote(rank, {Spec("b", {{rank * 4, 0}, {4, kColumns}}),
                Spec("a", {{rank * 4, 0}, {4, kColumns}}), Alias("z", "a")});
  }
  EXPECT_TRUE(CommitBothWays());
  EXPECT_TRUE(committed_);
  const Version& version = *run_.Latest();
  ASSERT_EQ(version.tensors.size(), 3u);
  EXPECT_EQ(version.tensors[0]->name, "a");
  EXPECT_EQ(version.tensors[0]->shards.size(), 3u);
}

TEST_F(CkptBallotTest, WholeTensorsDealtOutAreATilingAndSoAreReplicas) {
  const Extent whole = Extent::Whole({kRows, kColumns});
  Begin(3);
  Vote(2, {Spec("a", whole)});
  Vote(0, {Spec("c", whole), Spec("b", whole)});
  Vote(1, {});
  EXPECT_TRUE(CommitBothWays());
  EXPECT_TRUE(committed_);
  Begin(2);
  Vote(0, {Spec("a", whole)});
  Vote(1, {Spec("a", whole)});
  EXPECT_TRUE(CommitBothWays());
  EXPECT_TRUE(committed_);
  EXPECT_EQ(run_.Latest()->tensors[0]->shards.size(), 1u);
  Begin(2);
  Vote(0, {Spec("a", whole)});
  Vote(1, {Spec("a", whole)}, 1);
  EXPECT_FALSE(CommitBothWays()) << "other bytes";
  EXPECT_FALSE(committed_);
}

TEST_F(CkptBallotTest, TheCellsOfAGridAreATilingInAnyOrder) {
  // Six ranks as two along the rows and three along the columns, and the other way about.
  const auto cell = [](const std::string& name, uint32_t row, uint32_t column) {
    const uint64_t from = column == 0 ? 0 : column * 3 - 1, to = column * 3 + 2;
    return Spec(name, {{row * 6, from}, {6, to - from}});
  };
  Begin(6);
  for (uint32_t rank = 0; rank < 6; ++rank) {
    Vote(rank, {cell("a", rank / 3, rank % 3), cell("b", rank % 2, rank / 2),
                // One of each pair has the rows of the other.
                Spec("c", {{rank / 2 * 4, 0}, {4, kColumns}}),
                // Rows from the last to the first.
                Spec("d", {{(5 - rank) * 2, 0}, {2, kColumns}})});
  }
  EXPECT_TRUE(CommitBothWays());
  EXPECT_TRUE(committed_);
  const Version& version = *run_.Latest();
  EXPECT_EQ(version.tensors[0]->shards.size(), 6u);
  EXPECT_EQ(version.tensors[1]->shards.size(), 6u);
  EXPECT_EQ(version.tensors[2]->shards.size(), 3u);
  EXPECT_EQ(version.tensors[3]->shards.size(), 6u);
}

TEST_F(CkptBallotTest, WhatIsNearlyAGridIsNone) {
  const auto vote_all = [&](const std::vector<Extent>& extents) {
    Begin(static_cast<uint32_t>(extents.size()));
    for (uint32_t rank = 0; rank < extents.size(); ++rank) Vote(rank, {Spec("a", extents[rank])});
    return CommitBothWays();
  };
  EXPECT_TRUE(vote_all({{{0, 0}, {6, 4}}, {{6, 4}, {6, 4}}, {{0, 4}, {6, 4}}, {{6, 0}, {6, 4}}}));
  EXPECT_TRUE(committed_);
  EXPECT_FALSE(vote_all({{{0, 0}, {6, 4}}, {{6, 4}, {6, 4}}, {{0, 4}, {6, 4}}}));
  EXPECT_FALSE(committed_) << "a cell is missing";
  EXPECT_FALSE(vote_all({{{0, 0}, {6, 4}}, {{6, 4}, {6, 4}}, {{0, 4}, {6, 4}}, {{0, 4}, {6, 4}}}));
  EXPECT_FALSE(committed_) << "one is there twice in place of it";
  EXPECT_FALSE(vote_all({{{0, 0}, {6, 4}}, {{7, 4}, {5, 4}}, {{0, 4}, {6, 4}}, {{7, 0}, {5, 4}}}));
  EXPECT_FALSE(committed_) << "a row is missing";
  EXPECT_FALSE(vote_all({{{0, 0}, {6, 4}}, {{5, 4}, {7, 4}}, {{0, 4}, {6, 4}}, {{5, 0}, {7, 4}}}));
  EXPECT_TRUE(committed_) << "a row is there twice";
  EXPECT_FALSE(vote_all({{{0, 0}, {12, 4}}, {{0, 4}, {6, 4}}, {{6, 4}, {6, 4}}}));
  EXPECT_TRUE(committed_) << "another number of cuts";
  EXPECT_FALSE(vote_all({{{0, 0}, {6, 8}}, {{6, 0}, {6, 4}}, {{6, 4}, {6, 4}}, {{6, 4}, {0, 4}}}));
  EXPECT_TRUE(committed_) << "one is empty";
}

TEST_F(CkptBallotTest, GapsOverlapsAndLostAliasesAreFound) {
  Begin(2);
  Vote(0, {Spec("a", {{0, 0}, {5, kColumns}})});
  Vote(1, {Spec("a", {{6, 0}, {6, kColumns}})});
  EXPECT_FALSE(CommitBothWays());
  EXPECT_FALSE(committed_);
  Begin(2);
  Vote(0, {Spec("a", {{0, 0}, {7, kColumns}})});
  Vote(1, {Spec("a", {{6, 0}, {6, kColumns}})});
  EXPECT_FALSE(CommitBothWays());
  EXPECT_TRUE(committed_);
  Begin(1);
  Vote(0, {Spec("a", Extent::Whole({kRows, kColumns})), Alias("z", "nothing")});
  EXPECT_FALSE(CommitBothWays());
  EXPECT_FALSE(committed_);
}

TEST_F(CkptBallotTest, ARequiredGroupThatIsMissingIsFoundBothWays) {
  Begin(1);
  run_.config.require = {"weights", "moments"};
  Vote(0, {Spec("a", Extent::Whole({kRows, kColumns}))});
  EXPECT_TRUE(CommitBothWays());
  EXPECT_FALSE(committed_);
  Begin(1);
  run_.config.require = {"weights", "moments"};
  Vote(0,
       {Spec("a", Extent::Whole({kRows, kColumns})), Spec("p", Extent::Whole({kRows, kColumns}))});
  EXPECT_TRUE(CommitBothWays());
  EXPECT_TRUE(committed_);
}

TEST_F(CkptBallotTest, AboveTheMostNamesThereAreNoBallots) {
  Transaction transaction;
  NameTable names;
  while (names.heads.size() < kMaxBallotNames - 1) {
    names.heads.push_back(
        Kept<ShardSpec>::Make(Alias("n" + std::to_string(names.heads.size()), "a")));
    names.ids.emplace(names.heads.back()->name, names.heads.size() - 1);
  }
  transaction.names = Kept<NameTable>::Make(std::move(names));
  RankPart part;
  for (const char* name : {"x", "y"}) {
    part.specs = {Kept<ShardSpec>::Make(Alias(name, "a"))};
    part.data = {Kept<ShardData>::Make(ShardData(*part.specs[0]))};
    EXPECT_EQ(static_cast<bool>(MakeBallot(&transaction, part)), *name == 'x');
    EXPECT_EQ(transaction.names->heads.size(), kMaxBallotNames);
  }
  part.specs = {Kept<ShardSpec>::Make(Alias("n7", "a"))};
  EXPECT_EQ(MakeBallot(&transaction, part)->ids[0], 7u);
}

TEST_F(CkptBallotTest, BothWaysAgreeOnAnySharding) {
  std::mt19937_64 random(11);
  int tilings = 0, committed = 0, refused = 0;
  for (int round = 0; round < 600; ++round) {
    const auto world = static_cast<uint32_t>(1 + random() % 4);
    Begin(world, random() % 2 == 0);
    std::vector<std::vector<ShardSpec>> specs(world);
    for (char name = 'a'; name < 'f'; ++name) {
      const std::string text(1, static_cast<char>(name + (random() % 2 == 0 ? 14 : 0)));
      switch (random() % 11) {
        case 0:  // on one rank
        case 1:
          specs[random() % world].push_back(Spec(text, Extent::Whole({kRows, kColumns})));
          break;
        case 2:  // on each
          for (auto& each : specs) each.push_back(Spec(text, Extent::Whole({kRows, kColumns})));
          break;
        case 3: {  // columns, perhaps all but the last ones
          const uint64_t each = kColumns / world, left = random() % 3 == 0;
          for (uint32_t rank = 0; rank < world; ++rank) {
            const uint64_t end = rank + 1 == world ? kColumns - left : (rank + 1) * each;
            specs[rank].push_back(Spec(text, {{0, rank * each}, {kRows, end - rank * each}}));
          }
          break;
        }
        case 4:  // blocks
          for (uint64_t block = 0; block < 4; ++block) {
            specs[random() % world].push_back(Spec(text, {{block / 2 * 6, block % 2 * 4}, {6, 4}}));
          }
          break;
        case 5:
          specs[random() % world].push_back(Alias(text, random() % 2 == 0 ? "a" : "c"));
          break;
        case 6: {  // rows in any order, several on one rank
          for (uint64_t row : {8, 0, 4}) {
            specs[random() % world].push_back(Spec(text, {{row, 0}, {4, kColumns}}));
          }
          break;
        }
        case 7:  // a grid of which ranks have copies, perhaps but for one cell
          for (uint64_t at = random() % 8 == 0, end = 4 + random() % 5; at < end; ++at) {
            const uint64_t row = at % 2 * 6, column = at / 2 % 2 * 4;
            specs[(at * 3 + random() % 2) % world].push_back(Spec(text, {{row, column}, {6, 4}}));
          }
          break;
        default: {  // rows in order, perhaps with a gap or an overlap
          uint64_t begin = 0;
          for (uint32_t rank = 0; rank < world; ++rank) {
            const uint64_t end = rank + 1 == world ? kRows : (rank + 1) * (kRows / world);
            if (random() % 16 == 0 && begin > 0) --begin;
            if (begin < end)
              specs[rank].push_back(Spec(text, {{begin, 0}, {end - begin, kColumns}}));
            begin = end + (random() % 16 == 0 ? 1 : 0);
          }
        }
      }
    }
    for (uint32_t rank = world; rank-- > 0;) {
      if (random() % 12 != 0) Vote(rank, specs[rank]);
    }
    tilings += CommitBothWays();
    ++(committed_ ? committed : refused);
  }
  EXPECT_GT(tilings, 60);
  EXPECT_GT(committed, tilings / 2);
  EXPECT_GT(refused, 60);
}

}  // namespace
}  // namespace cairn::tensor

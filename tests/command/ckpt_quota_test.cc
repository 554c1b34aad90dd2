// CKPTQUOTA at DECLARE: what open transactions await of the memory is promised to them, whichever
// run they are of and wherever its key has gone, until they have it or are over. What comes without
// a promise asks for the rest.

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

class CkptQuotaTest : public CkptTest {
 protected:
  void Limit(uint64_t bytes) { harness_.SetSetting("tensor-memory-limit", std::to_string(bytes)); }
  /// DECLARE of `bytes` by a transaction of another run, which is aborted again: "fits", or the
  /// error.
  std::string Try(size_t bytes) {
    const std::string tx = Call({"CKPT.BEGIN", "probe", "1"}).text;
    const std::string reply = Run({"CKPT.DECLARE", "probe", tx, "RANK", "0", "1", "w", "weights",
                                   "U8", "SHAPE", "1", std::to_string(bytes)});
    Run({"CKPT.ABORT", "probe", tx});
    return reply == ":1" ? "fits" : reply;
  }
  static std::string Done(size_t bytes) { return ":" + std::to_string(bytes); }
  static std::string Refused(size_t bytes, size_t used, size_t promised) {
    return "-CKPTQUOTA " + std::to_string(bytes) +
           " bytes more of tensors would pass 'tensor-memory-limit' (" + std::to_string(used) +
           " of " + std::to_string(10 * kChunk) + " in use" +
           (promised == 0 ? ")"
                          : ", " + std::to_string(promised) + " promised to open transactions)");
  }
};

TEST_F(CkptQuotaTest, RanksTogetherArePromisedNoMoreThanThereIs) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1, {"RANK", "0", "WORLD", "4"});
  EXPECT_EQ(DeclareU8(tx, "a", 4 * kChunk, 0), ":1");
  EXPECT_EQ(DeclareU8(tx, "b", 4 * kChunk, 1), ":1");
  EXPECT_EQ(DeclareU8(tx, "c", 4 * kChunk, 2), Refused(4 * kChunk, 0, 8 * kChunk));
  EXPECT_EQ(DeclareU8(tx, "c", 2 * kChunk + 1, 2), Refused(2 * kChunk + 1, 0, 8 * kChunk))
      << "a byte too many";
  EXPECT_EQ(DeclareU8(tx, "c", 2 * kChunk, 2), ":1") << "fits to the byte";
  EXPECT_EQ(DeclareU8(tx, "d", 1, 3), Refused(1, 0, 10 * kChunk));
  EXPECT_EQ(DeclareU8(tx, "d", 0, 3), ":1") << "wants nothing";
  EXPECT_EQ(Put(tx, "a", 0, Fill(4 * kChunk, 1), 0), Done(4 * kChunk))
      << "what was promised is there";
  EXPECT_EQ(Put(tx, "b", 0, Fill(4 * kChunk, 2), 1), Done(4 * kChunk));
  EXPECT_EQ(Put(tx, "c", 0, Fill(2 * kChunk, 3), 2), Done(2 * kChunk));
  EXPECT_EQ(DeclareU8(tx, "c", 2 * kChunk, 2), ":1") << "again, with all memory taken";
  EXPECT_EQ(DeclareU8(tx, "d1", 1, 3), Refused(1, 10 * kChunk, 0));
  for (int rank = 0; rank < 4; ++rank) Rank(tx, rank, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "bytes"), Done(10 * kChunk));
}

TEST_F(CkptQuotaTest, WhatIsReceivedIsPromisedNoMore) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1), four = std::to_string(4 * kChunk);
  Rank(tx, 0, "DECLARE",
       {"2", "a", "weights", "U8", "SHAPE", "1", four, "b", "weights", "U8", "SHAPE", "1", four});
  EXPECT_EQ(Try(2 * kChunk + 1), Refused(2 * kChunk + 1, 0, 8 * kChunk));
  Put(tx, "a", 0, Fill(4 * kChunk, 1));
  EXPECT_EQ(Try(2 * kChunk + 1), Refused(2 * kChunk + 1, 4 * kChunk, 4 * kChunk));
  EXPECT_EQ(Try(2 * kChunk), "fits");
  Put(tx, "b", 0, Fill(4 * kChunk, 1));  // the bytes of a: they take nothing
  EXPECT_EQ(Try(6 * kChunk + 1), Refused(6 * kChunk + 1, 4 * kChunk, 0));
  EXPECT_EQ(Try(6 * kChunk), "fits");
}

TEST_F(CkptQuotaTest, WhatIsReferencedIsPromisedNoMore) {
  const std::string bytes = Fill(kChunk, 3);
  Save(1, bytes);
  Limit(2 * kChunk);
  const std::string tx = Begin(2);
  DeclareU8(tx, "new", kChunk);
  EXPECT_NE(Try(1), "fits");
  Rank(tx, 0, "REF", {"new", "AT", "0", "1", Hash128Hex(HashBytes128(bytes))});
  EXPECT_EQ(Try(kChunk), "fits");
}

TEST_F(CkptQuotaTest, WhatIsOverIsPromisedNoMore) {
  Limit(10 * kChunk);
  const struct {
    const char* how;
    std::function<void(const std::string& tx)> end;
  } kEnds[] = {
      {"ABORT",
       [&](const std::string& tx) {
         Run({"CKPT.ABORT", "run", tx});
       }},
      {"expiry",
       [&](const std::string&) {
         harness_.AdvanceMs(1001);
         Run({"CKPT.SWEEP", "run"});
       }},
      {"fencing",
       [&](const std::string&) {
         Begin(9, {"ATTEMPT", "9"});
       }},
      {"DEL",
       [&](const std::string&) {
         Run({"DEL", "run"});
       }},
      {"FLUSHALL", [&](const std::string&) { Run({"FLUSHALL"}); }},
      {"SET",
       [&](const std::string&) {
         Run({"SET", "run", "a string"});
       }},
      {"TTL",
       [&](const std::string&) {
         Run({"PEXPIRE", "run", "10"});
         harness_.AdvanceMs(11);
         Run({"EXISTS", "run"});
       }},
  };
  for (const auto& [how, end] : kEnds) {
    SCOPED_TRACE(how);
    const std::string tx = Begin(1, {"TIMEOUT", "1000"});
    ASSERT_EQ(DeclareU8(tx, "w", 8 * kChunk), ":1");
    ASSERT_EQ(Try(2 * kChunk + 1), Refused(2 * kChunk + 1, 0, 8 * kChunk));
    end(tx);
    EXPECT_EQ(Try(10 * kChunk), "fits");
    Run({"DEL", "run"});
  }
}

TEST_F(CkptQuotaTest, PromisesGoWhereTheirRunGoes) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1);
  ASSERT_EQ(DeclareU8(tx, "w", 4 * kChunk), ":1");
  EXPECT_EQ(Run({"RENAME", "run", "other"}), "+OK");
  EXPECT_EQ(Try(6 * kChunk + 1), Refused(6 * kChunk + 1, 0, 4 * kChunk));
  EXPECT_EQ(Run({"COPY", "other", "copy"}), ":1");
  EXPECT_EQ(Try(2 * kChunk + 1), Refused(2 * kChunk + 1, 0, 8 * kChunk))
      << "both may be uploaded to";
  EXPECT_EQ(Run({"DEL", "copy"}), ":1");
  EXPECT_EQ(Run({"MOVE", "other", "3"}), ":1");
  EXPECT_EQ(Try(6 * kChunk + 1), Refused(6 * kChunk + 1, 0, 4 * kChunk));
  EXPECT_EQ(Run({"SWAPDB", "3", "5"}), "+OK");
  EXPECT_EQ(Try(6 * kChunk + 1), Refused(6 * kChunk + 1, 0, 4 * kChunk));
  EXPECT_EQ(Run({"SWAPDB", "0", "5"}), "+OK");
  const std::string payload = Call({"DUMP", "other"}).text;
  Run({"DEL", "other"});
  EXPECT_EQ(Try(10 * kChunk), "fits");
  EXPECT_EQ(Run({"RESTORE", "back", "0", payload}), "+OK");
  EXPECT_EQ(Try(6 * kChunk + 1), Refused(6 * kChunk + 1, 0, 4 * kChunk))
      << "as a transaction from a file";
  EXPECT_EQ(Try(6 * kChunk), "fits");
}

TEST_F(CkptQuotaTest, ACopyThatNobodyHasChangedCountsForItsOriginalToo) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1);
  ASSERT_EQ(DeclareU8(tx, "w", 4 * kChunk), ":1");
  EXPECT_EQ(Run({"COPY", "run", "copy"}), ":1");
  EXPECT_EQ(DeclareU8(tx, "v", 2 * kChunk + 1), Refused(2 * kChunk + 1, 0, 8 * kChunk));
  EXPECT_EQ(DeclareU8(tx, "v", 2 * kChunk), ":1");
}

TEST_F(CkptQuotaTest, ABoxOfSeveralReplicasIsStoredOnce) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1, {"RANK", "0", "WORLD", "3", "COVERAGE"});
  for (int rank = 0; rank < 3; ++rank)
    EXPECT_EQ(DeclareU8(tx, "w", 8 * kChunk, rank), ":1") << rank;
  Put(tx, "w", 0, Fill(8 * kChunk, 1), 1);
  EXPECT_EQ(Try(2 * kChunk), "fits") << "the others bring the same bytes";
  EXPECT_EQ(Try(2 * kChunk + 1), Refused(2 * kChunk + 1, 8 * kChunk, 0));
}

TEST_F(CkptQuotaTest, WhatLatestHasMayBeShared) {
  Save(1, Fill(8 * kChunk, 1));
  Limit(10 * kChunk);
  const std::string tx = Begin(2, {"RANK", "0", "WORLD", "2"});
  EXPECT_EQ(DeclareU8(tx, "w", 10 * kChunk + 1, 0), Refused(2 * kChunk + 1, 8 * kChunk, 0));
  EXPECT_EQ(DeclareU8(tx, "w", 10 * kChunk, 0), ":1") << "8 chunks of it may be those of LATEST";
  EXPECT_EQ(DeclareU8(tx, "v", 1, 1), Refused(1, 8 * kChunk, 2 * kChunk));
}

TEST_F(CkptQuotaTest, LyingDeclarationsDoNotAddUpToNothing) {
  Limit(10 * kChunk);
  const std::string tx = Begin(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Word(DeclareU8(tx, "w", uint64_t{1} << 40)), "-CKPTQUOTA");
  EXPECT_EQ(Try(10 * kChunk), "fits") << "what was refused is not promised";
}

// --- what comes without a promise ---

class ClaimTest : public CkptQuotaTest {
 protected:
  static constexpr size_t kPromised = 4 * kChunk;
  static uint64_t Used() { return LinkedInModule()->memory.used_bytes(); }
  static uint64_t Live() { return LinkedInModule()->memory.live_bytes(); }
  static Lines Words(const std::string& line, const std::string& last = "") {
    Lines words;
    for (size_t at = 0; at < line.size();) {
      const size_t end = std::min(line.find(' ', at), line.size());
      words.push_back(line.substr(at, end - at));
      at = end + 1;
    }
    if (!last.empty()) words.push_back(last);
    return words;
  }
  std::string SetF32(const std::string& key, size_t bytes, int seed) {
    return Run(Words("TENSOR.SET " + key + " F32 SHAPE 1 " + std::to_string(bytes / 4) + " BLOB",
                     Fill(bytes, seed)));
  }
};

TEST_F(ClaimTest, WhatIsPromisedIsNobodyElsesAndALimitIsReachedToTheByte) {
  const std::string bytes = Fill(3 * kChunk, 1), head = "CKPT.SAVE run 2 1 w U8 SHAPE 1 ";
  const std::string size = std::to_string(bytes.size());
  std::string tx;
  const struct {
    std::string name;
    std::function<void()> before;
    std::function<Lines()> command;
    uint64_t need;
  } kCases[] = {
      {"SAVE", [] {}, [&] { return Words(head + size + " BLOB", bytes); }, bytes.size()},
      {"STATE", [&] { tx = Begin(1); },
       [&] { return Words("CKPT.STATE run " + tx + " RANK 0 s KIND user BLOB", bytes); },
       bytes.size()},
      {"MERGE",
       [&] {
         for (int step : {1, 2}) {
           Run(Words("CKPT.SAVE run " + std::to_string(step) + " 1 w F32 SHAPE 1 " +
                         std::to_string(kChunk) + " BLOB",
                     Fill(4 * kChunk, step)));
         }
       },
       [] { return Words("CKPT.MERGE run 3 2 1 1 2 1"); }, 4 * kChunk},
      {"SET", [] {}, [&] { return Words("TENSOR.SET k U8 SHAPE 1 " + size + " BLOB", bytes); },
       bytes.size()},
      {"SET ZEROS", [] {}, [&] { return Words("TENSOR.SET k U8 SHAPE 1 " + size + " ZEROS"); },
       bytes.size()},
      {"MSET", [] {}, [&] { return Words("TENSOR.MSET 1 k U8 SHAPE 1 " + size + " BLOB", bytes); },
       bytes.size()},
      {"BEGINSET", [] {}, [&] { return Words("TENSOR.BEGINSET k U8 SHAPE 1 " + size); },
       bytes.size()},
      {"WRITE", [&] { Run(Words("TENSOR.BEGINSET k U8 SHAPE 1 " + size + " UPLOAD u")); },
       [&] { return Words("TENSOR.WRITE k u 100 BLOB", bytes.substr(0, kChunk)); }, 3 * kChunk},
      {"SETSLICE", [&] { SetF32("k", 4 * kChunk, 1); },
       [&] {
         return Words("TENSOR.SETSLICE k SLICE 1 0 " + std::to_string(kChunk / 2) + " 2 BLOB",
                      bytes.substr(0, kChunk));
       },
       3 * kChunk},
      {"CAST", [&] { SetF32("k", kChunk, 1); }, [] { return Words("TENSOR.CAST k d F64"); },
       2 * kChunk},
      {"LERP",
       [&] {
         SetF32("a", 2 * kChunk, 1);
         SetF32("b", 2 * kChunk, 2);
       },
       [] { return Words("TENSOR.LERP a b 0.5"); }, 2 * kChunk},
      {"AVG",
       [&] {
         SetF32("a", 2 * kChunk, 1);
         SetF32("b", 2 * kChunk, 2);
       },
       [] { return Words("TENSOR.AVG d 2 a b"); }, 2 * kChunk},
      {"CAT",
       [&] {
         SetF32("a", kChunk + 4, 1);
         SetF32("b", kChunk, 2);
       },
       [] { return Words("TENSOR.CAT d DIM 0 2 a b"); }, 2 * kChunk + 4},
  };
  for (const auto& each : kCases) {
    SCOPED_TRACE(each.name);
    Limit(0);
    each.before();
    const std::string promised = Call({"CKPT.BEGIN", "promised", "1"}).text;
    Run({"CKPT.DECLARE", "promised", promised, "RANK", "0", "1", "w", "weights", "U8", "SHAPE", "1",
         std::to_string(kPromised)});
    const uint64_t live = Live();
    Limit(live + kPromised + each.need - 1);
    const std::string refused = Run(each.command());
    EXPECT_EQ(Word(refused), each.name == "SAVE" || each.name == "STATE" || each.name == "MERGE"
                                 ? "-CKPTQUOTA"
                                 : "-OOM");
    EXPECT_NE(refused.find(std::to_string(kPromised) + " promised to open transactions"),
              std::string::npos)
        << refused;
    EXPECT_EQ(Live(), live) << "refused before memory is taken";
    Limit(live + kPromised + each.need);
    EXPECT_NE(Run(each.command())[0], '-');
    EXPECT_LE(Live(), live + each.need) << "no more than it has asked for";
    EXPECT_EQ(Used(), Live());
    EXPECT_EQ(Run({"CKPT.PUT", "promised", promised, "RANK", "0", "w", "AT", "0", "BLOB",
                   Fill(kPromised, 9)}),
              ":" + std::to_string(kPromised))
        << "what was promised is there";
    Run({"FLUSHALL"});
  }
}

TEST_F(ClaimTest, CommandsAtWorkAreNotGivenTheSameRoom) {
  SetF32("k", 4 * kChunk, 1);
  Limit(Live() + 12 * kChunk);  // for one of 8 chunks
  FakeClient one(harness_), two(harness_);
  one.Send({{"TENSOR.CAST", "k", "d", "F64"}});
  ASSERT_TRUE(one.session().suspended);
  EXPECT_EQ(Used(), 12 * kChunk) << "claimed, whatever of it is allocated by now";
  two.Send({{"TENSOR.CAST", "k", "e", "F64"}});
  EXPECT_EQ(Word(two.TakeReplies()), "-OOM");
  EXPECT_EQ(Word(Save(1, Fill(4 * kChunk + 1, 1))), "-CKPTQUOTA");
  EXPECT_EQ(Wait(one), "+OK\r\n");
  EXPECT_EQ(Used(), Live());
  Run({"DEL", "d"});
  two.Send({{"TENSOR.CAST", "k", "e", "F64"}});
  EXPECT_EQ(Wait(two), "+OK\r\n");
  Run({"DEL", "e"});
  one.Send({{"TENSOR.CAST", "k", "d", "F64"}});
  one.Disconnect();
  while (jobs_->working() > 0) ASSERT_TRUE(harness_.RunPosted());
  EXPECT_EQ(Used(), 4 * kChunk) << "a client that goes away claims no more";
}

}  // namespace
}  // namespace cairn

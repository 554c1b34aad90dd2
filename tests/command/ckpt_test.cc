// CKPT transactions in process: C1 to C9 of the design, from BEGIN to COMMIT, waiting and the
// clock.

#include <gtest/gtest.h>

#include <cstring>

#include "tensor_module/ckpt_commit.h"
#include "tests/support/ckpt_fixture.h"

namespace cairn {
namespace {

// --- the happy path ---

TEST_F(CkptTest, OneRankSavesAndLoads) {
  const std::string tx = Begin(7);
  EXPECT_EQ(tx.size(), 16u);
  EXPECT_EQ(Rank(tx, 0, "DECLARE",
                 {"2", "w", "weights", "F32", "SHAPE", "2", "2", "3", "b", "weights", "BF16",
                  "SHAPE", "0"}),
            ":2");
  const std::string w = Fill(24, 1);
  EXPECT_EQ(Put(tx, "w", 0, w), ":24");
  EXPECT_EQ(Put(tx, "b", 0, "ab"), ":2");
  EXPECT_EQ(Run({"CKPT.LIST", "run"}), "[]") << "nothing is visible before COMMIT";
  EXPECT_TRUE(Call({"CKPT.LOAD", "run", "LATEST", "w"}).IsError());
  EXPECT_EQ(Rank(tx, 0, "PREPARE"), "[\"rank\", :0, \"shards\", :2, \"bytes\", :26]");
  const RespValue commit = Call({"CKPT.COMMIT", "run", tx, "TAG", "best"});
  EXPECT_EQ(Field(commit, "step"), ":7");
  EXPECT_EQ(Field(commit, "state"), "\"latest\"");
  EXPECT_EQ(Field(commit, "tags"), "[\"best\"]");
  EXPECT_EQ(Bytes("LATEST", "w"), w);
  EXPECT_EQ(Bytes("7", "b"), "ab");
  EXPECT_EQ(Bytes("@best", "w"), w);
  harness_.Call({"HELLO", "3"});
  EXPECT_EQ(Run({"CKPT.LOAD", "run", "latest", "b"}),
            "{\"dtype\": \"BF16\", \"shape\": [], \"blob\": \"ab\"}");
}

TEST_F(CkptTest, ScalarsEmptyTensorsStatesAndAliases) {
  const std::string tx = Begin(1);
  EXPECT_EQ(
      Rank(tx, 0, "DECLARE",
           {"4",     "scalar", "weights", "F64",   "SHAPE",   "0",       "empty", "weights", "F32",
            "SHAPE", "2",      "0",       "5",     "head",    "weights", "U8",    "SHAPE",   "1",
            "3",     "ALIAS",  "embed",   "embed", "weights", "U8",      "SHAPE", "1",       "3"}),
      ":4");
  EXPECT_EQ(Put(tx, "scalar", 0, "12345678"), ":8");
  EXPECT_EQ(Put(tx, "embed", 0, "xyz"), ":3");
  EXPECT_EQ(Put(tx, "empty", 0, ""), ":0");
  EXPECT_EQ(Word(Put(tx, "head", 0, "xyz")), "-CKPTOFFSET") << "an alias has no bytes";
  EXPECT_EQ(Rank(tx, 0, "STATE", {"main", "KIND", "RNG", "BLOB", "seed"}), "+OK");
  EXPECT_EQ(Rank(tx, 0, "STATE", {"main", "KIND", "rng", "BLOB", "seed"}), "+OK") << "again";
  EXPECT_EQ(Word(Rank(tx, 0, "STATE", {"main", "KIND", "RNG", "BLOB", "other"})), "-CKPTDIVERGED");
  EXPECT_EQ(Rank(tx, 0, "STATE", {"none", "KIND", "USER", "BLOB", ""}), "+OK");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "bytes"), ":15");
  EXPECT_EQ(Bytes("1", "head"), "xyz") << "C12";
  EXPECT_EQ(Bytes("1", "empty"), "");
  EXPECT_EQ(Bytes("1", "scalar"), "12345678");
  EXPECT_EQ(Run({"CKPT.STATEGET", "run", "1", "RANK", "0", "KIND", "rng"}),
            "[[\"kind\", \"rng\", \"name\", \"main\", \"blob\", \"seed\"]]");
  EXPECT_EQ(Run({"CKPT.STATEGET", "run", "1", "RANK", "1"}), "[]");
  EXPECT_EQ(Call({"CKPT.STATEGET", "run", "1", "RANK", "0"}).elements.size(), 2u);
}

/// Each option's word as a name, behind a tensor that could have the option; a group is named
/// SHAPE.
TEST_F(CkptTest, ATensorMayBeNamedAsAnOption) {
  const std::string tx = Begin(1);
  EXPECT_EQ(Rank(tx, 0, "DECLARE", {"6",     "a",     "weights", "U8",    "SHAPE", "0",  //
                                    "alias", "g",     "U8",      "SHAPE", "1",     "1",  //
                                    "Shard", "off",   "U8",      "SHAPE", "1",     "1",  //
                                    "ALIAS", "shape", "U8",      "SHAPE", "0",           //
                                    "tied",  "g",     "U8",      "SHAPE", "0",     "ALIAS",
                                    "a",     "b",     "shape",   "U8",    "SHAPE", "0"}),
            ":6");
  for (const std::string name : {"a", "alias", "Shard", "ALIAS", "b"}) Put(tx, name, 0, "x");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "tensors"), ":6");
  for (const std::string name : {"a", "alias", "Shard", "ALIAS", "tied", "b"}) {
    EXPECT_EQ(Bytes("1", name), "x") << name;
  }
}

// --- C1 ---

TEST_F(CkptTest, WithoutARequiredGroupThereIsNoCheckpoint) {
  EXPECT_EQ(Run({"CKPT.CREATE", "run", "REQUIRE", "2", "weights", "rng"}), "+OK");
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 1);
  Put(tx, "w", 0, "x");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTINCOMPLETE group rng missing");
  EXPECT_EQ(Word(Rank(tx, 0, "STATE", {"s", "KIND", "rng", "BLOB", "1"})), "-CKPTDIVERGED")
      << "what is prepared is frozen";
  EXPECT_EQ(Run({"CKPT.ABORT", "run", tx}), "+OK");
  const std::string next = Begin(1);
  EXPECT_NE(next, tx);
  DeclareU8(next, "w", 1);
  Put(next, "w", 0, "x");
  Rank(next, 0, "STATE", {"s", "KIND", "rng", "BLOB", "1"});
  Rank(next, 0, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", next}), "state"), "\"latest\"");
  EXPECT_EQ(Word(Save(2, "y")), "-CKPTINCOMPLETE") << "SAVE keeps to it as well";
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 1u);
}

// --- C3, C4 ---

TEST_F(CkptTest, PrepareNamesWhatIsMissingAndFreezes) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 10);
  Put(tx, "w", 0, "abc");
  EXPECT_EQ(Rank(tx, 0, "PREPARE"), "-CKPTINCOMPLETE rank 0 lacks bytes 3 to 10 of 'w'");
  EXPECT_EQ(Put(tx, "w", 5, "fghij"), ":3");
  EXPECT_EQ(
      Rank(tx, 0, "OFFSET", {"w"}),
      "[\"name\", \"w\", \"shard\", :0, \"offset\", :3, \"size\", :10, \"holes\", [[:3, :2]]]");
  EXPECT_EQ(Put(tx, "w", 3, "de"), ":10");
  EXPECT_EQ(Rank(tx, 0, "PREPARE")[0], '[');
  EXPECT_EQ(Put(tx, "w", 3, "de"), ":10") << "the same again, C5";
  EXPECT_EQ(Word(Put(tx, "w", 3, "DE")), "-CKPTDIVERGED");
  EXPECT_EQ(DeclareU8(tx, "w", 10), ":1");
  EXPECT_EQ(Word(DeclareU8(tx, "more", 1)), "-CKPTDIVERGED");
  EXPECT_EQ(Rank(tx, 0, "PREPARE"), "[\"rank\", :0, \"shards\", :1, \"bytes\", :10]");
}

TEST_F(CkptTest, AllRanksMustVoteEvenThoseWithNothing) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "3"});
  EXPECT_EQ(Begin(5, {"RANK", "2", "WORLD", "3"}), tx) << "C5";
  DeclareU8(tx, "w", 1);
  Put(tx, "w", 0, "x");
  Rank(tx, 0, "PREPARE");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTINCOMPLETE ranks 1,2 not prepared");
  EXPECT_EQ(Field(Call({"CKPT.STATUS", "run", tx}), "ranks_missing"), "[:1, :2]");
  Rank(tx, 1, "PREPARE");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTINCOMPLETE rank 2 not prepared");
  EXPECT_EQ(Rank(tx, 2, "PREPARE"), "[\"rank\", :2, \"shards\", :0, \"bytes\", :0]");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "world"), ":3");
}

TEST_F(CkptTest, CoverageCommitsWhenAReplicaDies) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "4", "COVERAGE"});
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTINCOMPLETE ranks 0,1,2,3 not prepared");
  const auto shard = [&](int rank, const char* off) {
    Rank(tx, rank, "DECLARE",
         {"1", "w", "weights", "U8", "SHAPE", "1", "4", "SHARD", "OFF", "1", off, "LEN", "1", "2"});
  };
  shard(0, "0");
  shard(1, "0");
  shard(2, "2");
  shard(3, "2");
  Put(tx, "w", 0, "ab", 1);
  Put(tx, "w", 0, "cd", 2);
  Rank(tx, 1, "PREPARE");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTINCOMPLETE 'w' not covered by what is prepared");
  Rank(tx, 2, "PREPARE");
  EXPECT_EQ(Field(Call({"CKPT.COMMIT", "run", tx}), "step"), ":5");
  EXPECT_EQ(Bytes("5", "w"), "abcd") << "C10";
}

TEST_F(CkptTest, ReplicasWithOtherBytesAreFound) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2"});
  for (int rank : {0, 1}) {
    DeclareU8(tx, "w", 2, rank);
    Put(tx, "w", 0, rank == 0 ? "ab" : "aB", rank);
    Rank(tx, rank, "PREPARE");
  }
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), "-CKPTDIVERGED ranks 0 and 1 have other bytes of 'w'");
}

TEST_F(CkptTest, CommitWaitsForTheVotesAndThenGivesUp) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2"});
  Rank(tx, 0, "PREPARE");
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"CKPT.COMMIT", "run", tx, "WAIT", "1000"});
  EXPECT_EQ(harness_.Received(waiter), "");
  harness_.TakePropagated();
  Rank(tx, 1, "PREPARE");
  const std::vector<RespValue> replies = harness_.TakeReplies(waiter);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(Field(replies[0], "state"), "\"latest\"");
  const Lines logged = harness_.TakePropagated();
  ASSERT_EQ(logged.size(), 2u);
  EXPECT_EQ(logged[1].substr(0, 16 + 5 + 16 - 4), "CKPT.COMMIT run " + tx + " ");

  const std::string other = Begin(6, {"RANK", "0", "WORLD", "2"});
  harness_.Send(waiter, {"CKPT.COMMIT", "run", other, "WAIT", "1000"});
  harness_.AdvanceMs(1001);
  EXPECT_EQ(harness_.Received(waiter), "-CKPTINCOMPLETE ranks 0,1 not prepared");
  harness_.Send(waiter, {"CKPT.COMMIT", "run", other, "WAIT", "1000"});
  Run({"CKPT.ABORT", "run", other, "REASON", "disk"});
  EXPECT_EQ(harness_.Received(waiter), "-CKPTABORTED transaction " + other + " was aborted: disk");
  const std::string last = Begin(7, {"RANK", "0", "WORLD", "2"});
  harness_.Send(waiter, {"CKPT.COMMIT", "run", last, "WAIT", "1000"});
  Run({"DEL", "run"});
  EXPECT_EQ(harness_.Received(waiter), "-ERR no such run");
}

TEST_F(CkptTest, CommitWaitsForALoadedTransactionUntilItExpires) {  // C9
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2", "TIMEOUT", "1000"});
  Rank(tx, 0, "PREPARE");
  const std::string payload = Call({"DUMP", "run"}).text;
  EXPECT_EQ(Run({"RESTORE", "run", "0", payload, "REPLACE"}), "+OK");
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"CKPT.COMMIT", "run", tx, "WAIT", "600000"});
  harness_.AdvanceMs(999);
  EXPECT_EQ(harness_.Received(waiter), "");
  harness_.AdvanceMs(3);
  EXPECT_EQ(Word(harness_.Received(waiter)), "-CKPTTIMEOUT");
}

TEST_F(CkptTest, CommitWaitsOnWhileBytesArrive) {  // C4
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2", "TIMEOUT", "1000"});
  DeclareU8(tx, "w", 100, 1);
  Rank(tx, 0, "PREPARE");
  Session& waiter = harness_.AddSession();
  Session& short_of_time = harness_.AddSession();
  const auto arrive = [&](uint64_t at) {
    harness_.AdvanceMs(600);
    EXPECT_EQ(Put(tx, "w", at, "x", 1), ":" + std::to_string(at + 1));
  };
  harness_.Send(waiter, {"CKPT.COMMIT", "run", tx, "WAIT", "600000"});
  harness_.Send(short_of_time, {"CKPT.COMMIT", "run", tx, "WAIT", "3000"});
  for (uint64_t at = 0; at < 4; ++at) arrive(at);
  harness_.AdvanceMs(599);
  EXPECT_EQ(harness_.Received(waiter), "") << "the deadline of BEGIN has passed twice";
  EXPECT_EQ(harness_.Received(short_of_time), "");
  EXPECT_EQ(Put(tx, "w", 4, "x", 1), ":5");
  harness_.AdvanceMs(3);
  EXPECT_EQ(harness_.Received(short_of_time), "-CKPTINCOMPLETE rank 1 not prepared");
  harness_.engine().blocking.CheckInvariants();
  EXPECT_EQ(Put(tx, "w", 5, std::string(95, 'x'), 1), ":100");
  harness_.AdvanceMs(900);
  Rank(tx, 1, "PREPARE");
  const std::vector<RespValue> replies = harness_.TakeReplies(waiter);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(Field(replies[0], "step"), ":5");
}

TEST_F(CkptTest, CommitThatWaitsEndsWithItsTransaction) {  // C4, C9
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2", "TIMEOUT", "1000"});
  DeclareU8(tx, "w", 100, 1);
  Session& waiter = harness_.AddSession();
  Session& asked = harness_.AddSession();
  harness_.Send(waiter, {"CKPT.COMMIT", "run", tx, "WAIT", "600000"});
  harness_.Send(asked, {"CKPT.COMMIT", "run", tx, "WAIT", "600000"});
  harness_.AdvanceMs(900);
  Put(tx, "w", 0, "x", 1);
  harness_.AdvanceMs(200);
  EXPECT_EQ(harness_.Received(waiter), "");
  harness_.engine().dispatcher->UnblockByTimeout(asked);  // as CLIENT UNBLOCK does
  EXPECT_EQ(Word(harness_.Received(asked)), "-CKPTINCOMPLETE");
  harness_.AdvanceMs(799);
  EXPECT_EQ(harness_.Received(waiter), "");
  harness_.TakePropagated();
  harness_.AdvanceMs(5);
  EXPECT_EQ(Word(harness_.Received(waiter)), "-CKPTTIMEOUT");
  const Lines logged = harness_.TakePropagated();
  ASSERT_EQ(logged.size(), 1u);
  EXPECT_TRUE(logged[0].starts_with("CKPT.ABORT run " + tx + " EXPIRED AT ")) << logged[0];
  harness_.engine().blocking.CheckInvariants();
}

TEST_F(CkptTest, StatusListsSomeOfManyMissingRanks) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "65536"});
  Rank(tx, 1, "PREPARE");
  const std::string first = "0,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";
  const RespValue status = Call({"CKPT.STATUS", "run", tx});
  EXPECT_EQ(Field(status, "missing"), "\"ranks " + first + " and 65519 more not prepared\"");
  for (size_t i = 0; i + 1 < status.elements.size(); i += 2) {
    if (status.elements[i].text != "ranks_missing") continue;
    EXPECT_EQ(status.elements[i + 1].elements.size(), tensor::kListedRanks);
    EXPECT_EQ(status.elements[i + 1].elements.back().integer, 16);
  }
}

TEST_F(CkptTest, WaitForSeesTheNextVersion) {
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"CKPT.WAITFOR", "run", "AFTER", "3", "TIMEOUT", "500"});
  EXPECT_EQ(harness_.Received(waiter), "") << "the run need not be there";
  Save(3, "a");
  EXPECT_EQ(harness_.Received(waiter), "");
  Save(4, "b");
  const std::vector<RespValue> replies = harness_.TakeReplies(waiter);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(Field(replies[0], "step"), ":4");
  harness_.Send(waiter, {"CKPT.WAITFOR", "run", "AFTER", "4", "TIMEOUT", "500"});
  harness_.AdvanceMs(501);
  EXPECT_EQ(harness_.Received(waiter), "-CKPTTIMEOUT no version after step 4");
  EXPECT_EQ(Field(Call({"CKPT.WAITFOR", "run", "AFTER", "0"}), "step"), ":4");
}

// --- C5, C6, C9 ---

TEST_F(CkptTest, CommitAndPrepareRepeatTheirFirstAnswer) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 2);
  Put(tx, "w", 0, "ab");
  const std::string prepared = Rank(tx, 0, "PREPARE");
  const std::string committed = Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Begin(1), tx);
  EXPECT_EQ(Rank(tx, 0, "PREPARE"), prepared);
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), committed);
  EXPECT_EQ(Put(tx, "w", 0, "ab"), "-CKPTNOTX transaction " + tx + " is committed, as step 1");
  const std::string payload = Call({"DUMP", "run"}).text;
  Run({"DEL", "run"});
  EXPECT_EQ(Run({"RESTORE", "run", "0", payload}), "+OK");
  EXPECT_EQ(Rank(tx, 0, "PREPARE"), prepared) << "also after a restart";
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx}), committed);
}

TEST_F(CkptTest, ALowerAttemptIsFenced) {
  const std::string old = Begin(5, {"ATTEMPT", "1"});
  DeclareU8(old, "w", 2);
  const std::string tx = Begin(5, {"ATTEMPT", "2"});
  EXPECT_NE(tx, old);
  EXPECT_EQ(Word(Put(old, "w", 0, "ab")), "-CKPTFENCED");
  EXPECT_EQ(Word(Rank(old, 0, "PREPARE")), "-CKPTFENCED");
  EXPECT_EQ(Word(Run({"CKPT.COMMIT", "run", old})), "-CKPTFENCED");
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "6", "ATTEMPT", "1"})), "-CKPTFENCED");
  EXPECT_EQ(Word(Run({"CKPT.RESUME", "run", "RANK", "0", "ATTEMPT", "1"})), "-CKPTFENCED");
  harness_.AdvanceMs(tensor::kGraceMs + 1);
  EXPECT_EQ(DeclareU8(tx, "w", 2), ":1");
  EXPECT_EQ(Word(Put(old, "w", 0, "ab")), "-CKPTFENCED") << "forgotten, but by name";
}

TEST_F(CkptTest, WorldsDoNotMix) {
  const std::string tx = Begin(5, {"RANK", "0", "WORLD", "2"});
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "5", "RANK", "0", "WORLD", "3"})), "-CKPTWORLD");
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "6", "RANK", "2", "WORLD", "2"})), "-CKPTWORLD");
  EXPECT_EQ(Word(DeclareU8(tx, "w", 1, 2)), "-CKPTWORLD");
  EXPECT_EQ(Word(Rank(tx, 7, "PREPARE")), "-CKPTWORLD");
  Run({"CKPT.CREATE", "fixed", "WORLD", "4"});
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "fixed", "1", "RANK", "0", "WORLD", "2"})), "-CKPTWORLD");
  EXPECT_EQ(Call({"CKPT.BEGIN", "fixed", "1"}).text.size(), 16u);
}

TEST_F(CkptTest, ACommittedStepIsBegunAnewByAHigherAttemptOnly) {  // C5
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 2);
  Put(tx, "w", 0, "ab");
  Rank(tx, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "1", "RANK", "0", "WORLD", "2"}),
            "-CKPTWORLD step 1 was saved by a world of 1: another begins it with a higher attempt");
  EXPECT_EQ(Begin(1), tx);
  EXPECT_NE(Begin(1, {"RANK", "0", "WORLD", "2", "ATTEMPT", "1"}), tx);
}

TEST_F(CkptTest, ANameOfATransactionIsTakenOnce) {
  EXPECT_EQ(Begin(1, {"TX", "mine"}), "mine");
  EXPECT_EQ(Begin(1, {"TX", "mine"}), "mine") << "the same again";
  const std::string taken = "-CKPTBUSY a transaction 'mine' is there, or was";
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "2", "TX", "mine"}), taken);
  Run({"CKPT.ABORT", "run", "mine"});
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "1", "TX", "mine"}), taken);
  EXPECT_EQ(Begin(1, {"TX", "another"}), "another");
  DeclareU8("another", "w", 2);
  Put("another", "w", 0, "ab");
  Rank("another", 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", "another"});
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "2", "TX", "another"}),
            "-CKPTBUSY a transaction 'another' is there, or was");
}

TEST_F(CkptTest, NoProgressExpiresAndTheChunksAreFoundForAWhile) {
  const std::string bytes = Fill(kChunk, 3);
  const std::string hash = Hash128Hex(HashBytes128(bytes));
  const std::string tx = Begin(5, {"TIMEOUT", "1000"});
  DeclareU8(tx, "w", kChunk);
  harness_.AdvanceMs(900);
  EXPECT_EQ(Put(tx, "w", 0, bytes), ":" + std::to_string(kChunk));
  harness_.AdvanceMs(900);
  EXPECT_EQ(Field(Call({"CKPT.STATUS", "run", tx}), "state"), "\"open\"") << "PUT is progress";
  harness_.AdvanceMs(200);
  EXPECT_EQ(Field(Call({"CKPT.STATUS", "run", tx}), "state"), "\"expired\"");
  harness_.TakePropagated();
  EXPECT_EQ(Word(Rank(tx, 0, "PREPARE")), "-CKPTTIMEOUT");
  EXPECT_EQ(harness_.TakePropagated(), Lines{"CKPT.ABORT run " + tx + " EXPIRED" + AtNow()});
  const std::string next = Begin(5);
  EXPECT_EQ(Call({"CKPT.HAVE", "run", next, "2", hash, std::string(32, '0')}).text, "\x80");
  DeclareU8(next, "w", kChunk);
  EXPECT_EQ(Rank(next, 0, "REF", {"w", "AT", "0", "1", hash}), ":" + std::to_string(kChunk));
  harness_.AdvanceMs(tensor::kGraceMs + 1);
  EXPECT_EQ(Rank(next, 0, "PREPARE")[0], '[');
  EXPECT_EQ(Word(Rank(tx, 0, "PREPARE")), "-CKPTTIMEOUT");
}

TEST_F(CkptTest, OpenTransactionsAndPausesAreBounded) {
  Run({"CKPT.CREATE", "run", "MAXCONCURRENT", "2", "MINPAUSE", "100"});
  Begin(1);
  const std::string tx = Begin(2);
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "3"})), "-CKPTBUSY");
  Rank(tx, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "3"})), "-CKPTBUSY");
  harness_.AdvanceMs(100);
  EXPECT_EQ(Begin(3).size(), 16u);
}

TEST_F(CkptTest, ATransactionFromAFileExpiresToo) {
  Run({"CKPT.CREATE", "run", "MAXCONCURRENT", "1", "TIMEOUT", "1000"});
  const std::string tx = Begin(1);
  const std::string payload = Call({"DUMP", "run"}).text;
  harness_.AdvanceMs(5000);
  Run({"RESTORE", "run", "0", payload, "REPLACE"});
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "2"})), "-CKPTBUSY") << "its time counts from here";
  harness_.AdvanceMs(999);
  harness_.TakePropagated();
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "run", "2"})), "-CKPTBUSY");
  EXPECT_TRUE(harness_.TakePropagated().empty());
  harness_.AdvanceMs(1);
  EXPECT_EQ(Begin(2).size(), 16u);
  EXPECT_EQ(Word(Rank(tx, 0, "PREPARE")), "-CKPTTIMEOUT");
}

}  // namespace
}  // namespace cairn

// TENSOR commands whose work is done in two halves: what they see when keys change meanwhile.

#include <gtest/gtest.h>

#include "server/base/checksum.h"
#include "tests/support/fake_client.h"
#include "tests/support/tensor_fixture.h"

namespace cairn {
namespace {

class LongTensorWork : public TensorFixture {
 protected:
  static constexpr size_t kBig = 1 << 20;
  void SetBig(const std::string& key, char fill) {
    CAIRN_CHECK(Run({"TENSOR.SET", key, "U8", "SHAPE", "1", std::to_string(kBig), "BLOB",
                     std::string(kBig, fill)}) == "+OK");
  }
};

TEST_F(LongTensorWork, AnswersAsTheSameCommandInATransactionDoes) {
  SetBig("k", 7);
  SetBig("same", 7);
  FakeClient client(harness_);
  for (const Lines& args :
       {Lines{"TENSOR.STATS", "k", "HIST", "3"}, Lines{"TENSOR.EQUAL", "k", "same"},
        Lines{"TENSOR.EQUAL", "k", "same", "ATOL", "1"},
        Lines{"TENSOR.GET", "k", "AS", "F32", "SLICE", "1", "0", "-1", "3"},
        Lines{"TENSOR.MGET", "2", "k", "none", "AS", "BF16"}, Lines{"TENSOR.INFO", "k"},
        Lines{"TENSOR.CAST", "k", "d", "F16"}}) {
    SCOPED_TRACE(args[0]);
    client.Send({args});
    ASSERT_TRUE(client.session().suspended);
    const std::string late = Wait(client);
    client.Send({{"MULTI"}, args, {"EXEC"}});
    EXPECT_EQ(client.TakeReplies(), "+OK\r\n+QUEUED\r\n*1\r\n" + late);
  }
}

TEST_F(LongTensorWork, ReadersSeeTheValueOfTheirBeginning) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.GET", "k", "BLOB", "AS", "U16", "SLICE", "1", "0", "100000", "1"}});
  ASSERT_TRUE(client.session().suspended);
  SetBig("k", 2);
  EXPECT_EQ(Wait(client).substr(0, 13), std::string("$200000\r\n\1\0\1\0", 13));
  client.Send({{"TENSOR.STATS", "k"}});
  Run({"DEL", "k"});
  EXPECT_NE(Wait(client).find("count"), std::string::npos);
}

TEST_F(LongTensorWork, CastOfASourceThatChangedIsMadeOfTheNewOne) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.CAST", "k", "d", "U16"}});
  SetBig("k", 2);
  harness_.TakePropagated();
  EXPECT_EQ(Wait(client), "+OK\r\n");
  EXPECT_EQ(Blob("d").substr(0, 4), std::string("\2\0\2\0", 4));
  const std::string count = std::to_string(Blob("d").size() / 2);
  EXPECT_EQ(harness_.TakePropagated(),
            (Lines{"TENSOR.SET d U16 SHAPE 1 " + count + " BLOB " + Blob("d")}))
      << "a replay needs no arithmetic";
  client.Send({{"TENSOR.CAST", "k", "e", "U16"}});
  Run({"DEL", "k"});
  EXPECT_EQ(Wait(client), "-ERR no such key\r\n");
}

TEST_F(LongTensorWork, LittleWaitsForLibTorchOnAWorkerToo) {
  Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", "4", "BLOB", "abcd"});
  Run({"CKPT.SAVE", "run", "1", "1", "w", "U8", "SHAPE", "1", "4", "BLOB", "abcd"});
  const Lines casts[] = {{"TENSOR.GET", "k", "AS", "U16"},
                         {"TENSOR.GET", "k", "SLICE", "1", "0", "4", "2"},
                         {"TENSOR.MGET", "1", "k", "AS", "U16"},
                         {"TENSOR.CAST", "k", "d", "U16"},
                         {"CKPT.LOAD", "run", "1", "w", "AS", "U16"},
                         {"CKPT.MLOAD", "run", "1", "1", "w", "AS", "U16"}};
  for (const bool ready : {true, false}) {
    TheCompute().ready = ready;
    FakeClient client(harness_);
    for (const Lines& args : casts) {
      client.Send({args});
      EXPECT_EQ(client.session().suspended, !ready) << args[0];
      EXPECT_NE(Wait(client).substr(0, 1), "-") << args[0];
    }
    client.Send({{"TENSOR.GET", "k"}});
    EXPECT_FALSE(client.session().suspended) << "needs no LibTorch";
    client.TakeReplies();
  }
  TheCompute().ready = true;
}

TEST_F(LongTensorWork, ASourceThatNeverRestsIsFinishedInPlace) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.CAST", "k", "d", "U16"}});
  int halves = 0;
  for (std::string replies; replies.empty(); replies = client.TakeReplies()) {
    SetBig("k", static_cast<char>(10 + ++halves));
    ASSERT_TRUE(harness_.RunPosted());
    client.RunTurn();
    ASSERT_LT(halves, 10);
  }
  EXPECT_EQ(halves, tensor::kLateAttempts);
  EXPECT_EQ(Blob("d").substr(0, 2), std::string({static_cast<char>(10 + halves), '\0'}));
}

TEST_F(LongTensorWork, SetSliceKeepsWhatOthersWroteMeanwhile) {
  SetBig("k", 1);
  FakeClient client(harness_);
  const Lines every_second = {
      "TENSOR.SETSLICE",       "k", "SLICE", "1", "0", std::to_string(kBig), "2", "BLOB",
      std::string(kBig / 2, 9)};
  client.Send({every_second});
  ASSERT_TRUE(client.session().suspended);
  Run({"TENSOR.SETSLICE", "k", "SLICE", "1", "1", "2", "1", "BLOB", "\5"});
  EXPECT_EQ(Wait(client), "+OK\r\n");
  EXPECT_EQ(Blob("k").substr(0, 4), std::string("\x09\x05\x09\x01", 4));
}

TEST_F(LongTensorWork, ASealedSetJudgesElsewhereAndItsTtlCountsFromTheEnd) {
  const std::string bytes(kBig, 'x');
  FakeClient client(harness_);
  const Lines set = {"TENSOR.SET", "k",
                     "U8",         "SHAPE",
                     "1",          std::to_string(kBig),
                     "BLOB",       bytes,
                     "XXH3",       Hash128Hex(HashBytes128(bytes)),
                     "NX",         "PX",
                     "1000"};
  client.Send({set});
  ASSERT_TRUE(client.session().suspended);
  harness_.AdvanceMs(500);
  EXPECT_EQ(Wait(client), "+OK\r\n");
  EXPECT_EQ(Run({"PTTL", "k"}), ":1000");
  Run({"DEL", "k"});
  client.Send({set});
  SetBig("k", 1);
  EXPECT_EQ(Wait(client), "$-1\r\n") << "NX: another was faster";
  Lines bad = set;
  bad[9] = std::string(32, '0');
  bad.erase(bad.begin() + 10);
  client.Send({bad});
  EXPECT_EQ(Wait(client).substr(0, 11), "-TENSORHASH");
  EXPECT_EQ(Blob("k"), std::string(kBig, 1));
}

TEST_F(LongTensorWork, UploadsOfTwoWritersLoseNoPiece) {
  Run({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "1", std::to_string(2 * kBig), "UPLOAD", "u"});
  FakeClient one(harness_), two(harness_);
  const auto piece = [](size_t offset, char fill, size_t size) {
    return Lines{"TENSOR.WRITE", "k", "u", std::to_string(offset), "BLOB", std::string(size, fill)};
  };
  one.Send({piece(1, 'a', kBig - 1)});
  two.Send({piece(kBig + 3, 'b', kBig - 3)});
  ASSERT_TRUE(one.session().suspended && two.session().suspended);
  Wait(one);
  Wait(two);
  Run(piece(0, 'c', 1));
  Run(piece(kBig, 'd', 3));
  one.Send({{"TENSOR.ENDSET", "k", "u", "XXH3",
             Hash128Hex(HashBytes128("c" + std::string(kBig - 1, 'a') + "ddd" +
                                     std::string(kBig - 3, 'b')))}});
  EXPECT_EQ(Wait(one), "+OK\r\n");
}

TEST_F(LongTensorWork, TheNextRequestIsReceivedWhileOneWorksAndRunsBehindIt) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.CAST", "k", "d", "U16"}});
  ASSERT_TRUE(client.session().suspended);
  client.Send(
      {{"TENSOR.SET", "k", "U8", "SHAPE", "1", std::to_string(kBig), "BLOB", std::string(kBig, 2)},
       {"TENSOR.GET", "k", "BLOB", "SLICE", "1", "0", "2", "1"},
       {"PING"}});
  EXPECT_EQ(client.session().deferred.size(), 1u) << "one alone";
  EXPECT_EQ(client.TakeReplies(), "");
  EXPECT_EQ(Blob("k").substr(0, 1), "\1") << "it has not run";
  std::string replies = Wait(client);
  while (!replies.ends_with("PONG\r\n")) replies += Wait(client);
  EXPECT_EQ(replies, "+OK\r\n+OK\r\n$2\r\n\2\2\r\n+PONG\r\n");
  EXPECT_EQ(Blob("d").substr(0, 2), std::string("\1\0", 2)) << "of the value before";
}

TEST_F(LongTensorWork, AProtocolErrorBehindOneIsToldBehindItsReply) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.CAST", "k", "d", "U16"}});
  ASSERT_TRUE(client.session().suspended);
  client.SendRaw("*1\r\nPING\r\n");
  EXPECT_EQ(client.TakeReplies(), "");
  EXPECT_FALSE(client.session().close_after_reply);
  EXPECT_EQ(Wait(client), "+OK\r\n-ERR Protocol error: expected '$', got 'P'\r\n");
  EXPECT_TRUE(client.session().close_after_reply);
}

TEST_F(LongTensorWork, AClientThatGoesAwayLeavesNoEffect) {
  SetBig("k", 1);
  FakeClient client(harness_);
  client.Send({{"TENSOR.CAST", "k", "d", "U16"}});
  client.Disconnect();
  while (jobs_->working() > 0) ASSERT_TRUE(harness_.RunPosted());
  EXPECT_EQ(Run({"EXISTS", "d"}), ":0");
}

}  // namespace
}  // namespace cairn

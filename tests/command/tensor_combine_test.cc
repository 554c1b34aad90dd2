// TENSOR.DIST, LERP, AVG and CAT in process: replies, errors, TTLs, what is propagated, and sources
// that change while they are worked on.

#include <gtest/gtest.h>

#include "tests/support/fake_client.h"
#include "tests/support/tensor_fixture.h"

namespace cairn {
namespace {

class TensorCombineTest : public TensorFixture {
 protected:
  void SetF32(const std::string& key, const Lines& values) {
    Lines args = {"TENSOR.SET", key,
                  "F32",        "SHAPE",
                  "1",          std::to_string(values.size()),
                  "VALUES",     std::to_string(values.size())};
    args.insert(args.end(), values.begin(), values.end());
    CAIRN_CHECK(Run(args) == "+OK");
  }
  std::string Values(const std::string& key) { return Run({"TENSOR.GET", key, "VALUES"}); }
  /// `size` floats, all of one value.
  void SetBig(const std::string& key, float value) {
    std::string bytes;
    for (size_t i = 0; i < kBig; ++i) {
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    CAIRN_CHECK(Run({"TENSOR.SET", key, "F32", "SHAPE", "1", std::to_string(kBig), "BLOB",
                     bytes}) == "+OK");
  }
  std::string First(const std::string& key) {
    return Run({"TENSOR.GET", key, "VALUES", "SLICE", "1", "0", "1", "1"});
  }
  static constexpr size_t kBig = 1 << 18;
};

TEST_F(TensorCombineTest, DistTellsHowFarTwoAreApart) {
  SetF32("a", {"3", "4", "0", "0"});
  SetF32("b", {"4", "3", "0", "0"});
  SetF32("z", {"0", "0", "0", "0"});
  harness_.Call({"HELLO", "3"});
  EXPECT_EQ(Run({"TENSOR.DIST", "a", "b"}),
            "{\"changed_percent\": ,50, \"l2\": ,1.4142135623730951, \"max\": ,1, "
            "\"cosine\": ,0.95999999999999996}");
  EXPECT_EQ(Run({"TENSOR.DIST", "a", "z"}),
            "{\"changed_percent\": ,50, \"l2\": ,5, \"max\": ,4, \"cosine\": nil}");
  Run({"TENSOR.SET", "e", "F32", "SHAPE", "1", "0", "ZEROS"});
  EXPECT_EQ(Run({"TENSOR.DIST", "e", "e"}),
            "{\"changed_percent\": ,0, \"l2\": ,0, \"max\": ,0, \"cosine\": nil}");
  EXPECT_EQ(Run({"TENSOR.DIST", "a", "e"}), "-ERR the tensors differ: F32 [4] and F32 [0]");
  EXPECT_EQ(Run({"TENSOR.DIST", "a", "none"}), "-ERR no such key");
  Run({"TENSOR.SET", "i", "I8", "SHAPE", "1", "3", "VALUES", "3", "-128", "0", "127"});
  Run({"TENSOR.SET", "j", "I8", "SHAPE", "1", "3", "VALUES", "3", "127", "0", "127"});
  EXPECT_NE(Run({"TENSOR.DIST", "i", "j"}).find("\"max\": ,255"), std::string::npos);
}

TEST_F(TensorCombineTest, LerpMovesATensorAndKeepsItsTtl) {
  SetF32("d", {"0", "10"});
  SetF32("s", {"10", "20"});
  Run({"EXPIRE", "d", "100"});
  harness_.TakeEvents();
  harness_.TakePropagated();
  EXPECT_EQ(Run({"TENSOR.LERP", "d", "s", "0.25"}), "+OK");
  EXPECT_EQ(Values("d"), "[\"2.5\", \"12.5\"]");
  EXPECT_EQ(harness_.TakeEvents(), (Lines{"0 tensor.lerp d"}));
  EXPECT_EQ(harness_.TakePropagated(), (Lines{"TENSOR.LERP d s 0.25"}));
  EXPECT_EQ(Run({"TTL", "d"}), ":100");
  EXPECT_EQ(Run({"TENSOR.LERP", "d", "s", "1"}), "+OK");
  EXPECT_EQ(Values("d"), Values("s"));
  EXPECT_EQ(Run({"TENSOR.LERP", "d", "s", "x"}), "-ERR value is not a valid float");
  EXPECT_EQ(Run({"TENSOR.LERP", "d", "s", "inf"}),
            "-ERR a weight is 0 or a number of magnitude 1e-30 to 1e30");
  EXPECT_EQ(Run({"TENSOR.LERP", "none", "s", "1"}), "-ERR no such key");
  EXPECT_EQ(Run({"TENSOR.LERP", "d", "none", "1"}), "-ERR no such key");
  EXPECT_EQ(Run({"EXISTS", "none"}), ":0");
}

TEST_F(TensorCombineTest, AvgTakesWeightsAndAnyDestination) {
  SetF32("a", {"1", "2"});
  SetF32("b", {"3", "6"});
  Run({"SET", "d", "a string"});
  Run({"EXPIRE", "d", "100"});
  harness_.TakePropagated();
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "b"}), "+OK");
  EXPECT_EQ(Values("d"), "[\"2\", \"4\"]");
  EXPECT_EQ(Run({"TTL", "d"}), ":-1");
  EXPECT_EQ(Run({"TENSOR.AVG", "a", "2", "a", "b", "weights", "2", "1", "3"}), "+OK");
  EXPECT_EQ(Values("a"), "[\"2.5\", \"5\"]");
  EXPECT_EQ(harness_.TakePropagated(),
            (Lines{"TENSOR.AVG d 2 a b", "TENSOR.AVG a 2 a b weights 2 1 3"}));
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "b", "WEIGHTS", "1", "1"}),
            "-ERR WEIGHTS has 1 numbers for 2 tensors");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "b", "WEIGHTS", "2", "1", "-1"}),
            "-ERR the weights of an average add up to nothing");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "3", "a", "b"}), "-ERR syntax error");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "0", "a"}), "-ERR value is out of range, must be 1 to 256");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "b", "c"}), "-ERR syntax error");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "none"}), "-ERR no such key");
  EXPECT_EQ(Values("d"), "[\"2\", \"4\"]") << "errors change nothing";
}

TEST_F(TensorCombineTest, WhatHasNoAverageIsTheLastOrAnError) {
  Run({"TENSOR.SET", "i", "I64", "SHAPE", "1", "2", "VALUES", "2", "1", "2"});
  Run({"TENSOR.SET", "j", "I64", "SHAPE", "1", "2", "VALUES", "2", "5", "9"});
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "i", "j"}), "+OK");
  EXPECT_EQ(Values("d"), "[:5, :9]");
  EXPECT_EQ(Run({"TENSOR.LERP", "i", "j", "0.1"}), "+OK");
  EXPECT_EQ(Values("i"), "[:5, :9]");
  Run({"TENSOR.SET", "f", "F8_E4M3", "SHAPE", "1", "2", "ZEROS"});
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "1", "f"}),
            "-ERR there is no arithmetic of F8_E4M3: cast the tensors first");
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "i", "f"}),
            "-ERR the tensors differ: I64 [2] and F8_E4M3 [2]");
  Run({"SET", "s", "x"});
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "1", "s"}).substr(0, 10), "-WRONGTYPE");
}

TEST_F(TensorCombineTest, CatJoinsAlongADimension) {
  Run({"TENSOR.SET", "a", "I8", "SHAPE", "2", "2", "1", "VALUES", "2", "1", "2"});
  Run({"TENSOR.SET", "b", "I8", "SHAPE", "2", "2", "2", "VALUES", "4", "3", "4", "5", "6"});
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "-1", "2", "a", "b"}), "+OK");
  EXPECT_EQ(Run({"TENSOR.GET", "d", "META", "VALUES"}),
            "[\"dtype\", \"I8\", \"shape\", [:2, :3], \"values\", [:1, :3, :4, :2, :5, :6]]");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "0", "2", "d", "d"}), "+OK");
  EXPECT_EQ(Run({"TENSOR.GET", "d", "META"}), "[\"dtype\", \"I8\", \"shape\", [:4, :3]]");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "0", "2", "a", "b"}),
            "-ERR the tensors differ: I8 [2,1] and I8 [2,2]");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "2", "1", "a"}),
            "-ERR DIM 2 is none of a tensor of 2 dimensions");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "x", "1", "a"}),
            "-ERR value is not an integer or out of range");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DAM", "0", "1", "a"}), "-ERR syntax error");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "0", "1", "a", "b"}), "-ERR syntax error");
}

TEST_F(TensorCombineTest, KeysAreFoundAndTheLimitHolds) {
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.AVG", "d", "2", "a", "b", "WEIGHTS", "2", "1", "2"}),
            "[\"d\", \"a\", \"b\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.CAT", "d", "DIM", "0", "2", "a", "b"}),
            "[\"d\", \"a\", \"b\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.LERP", "d", "s", "1"}), "[\"d\", \"s\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.DIST", "a", "b"}), "[\"a\", \"b\"]");
  SetBig("a", 1);
  SetBig("b", 2);
  harness_.SetSetting("tensor-memory-limit", std::to_string(9 * kBig));
  EXPECT_EQ(Run({"TENSOR.AVG", "d", "2", "a", "b"}).substr(0, 5), "-OOM ");
  EXPECT_EQ(Run({"TENSOR.CAT", "d", "DIM", "0", "2", "a", "b"}).substr(0, 5), "-OOM ");
  EXPECT_EQ(Run({"TENSOR.LERP", "a", "b", "0.5"}).substr(0, 5), "-OOM ");
  EXPECT_EQ(Run({"EXISTS", "d"}), ":0");
  EXPECT_EQ(First("a"), "[\"1\"]");
}

// --- long work ---

TEST_F(TensorCombineTest, AnswersAsTheSameCommandInATransactionDoes) {
  SetBig("a", 1);
  SetBig("b", 2);
  FakeClient client(harness_);
  for (const Lines& args : {Lines{"TENSOR.DIST", "a", "b"}, Lines{"TENSOR.AVG", "d", "2", "a", "b"},
                            Lines{"TENSOR.CAT", "d", "DIM", "0", "2", "a", "b"}}) {
    SCOPED_TRACE(args[0]);
    client.Send({args});
    ASSERT_TRUE(client.session().suspended);
    const std::string late = Wait(client);
    const std::string made = Run({"DUMP", "d"});
    client.Send({{"MULTI"}, args, {"EXEC"}});
    EXPECT_EQ(client.TakeReplies(), "+OK\r\n+QUEUED\r\n*1\r\n" + late);
    EXPECT_EQ(Run({"DUMP", "d"}), made);
  }
}

TEST_F(TensorCombineTest, SourcesThatChangedAreTakenAsTheyAre) {
  SetBig("a", 1);
  SetBig("b", 2);
  FakeClient client(harness_);
  client.Send({{"TENSOR.AVG", "d", "2", "a", "b"}});
  ASSERT_TRUE(client.session().suspended);
  SetBig("b", 4);
  harness_.TakePropagated();
  EXPECT_EQ(Wait(client), "+OK\r\n");
  EXPECT_EQ(First("d"), "[\"2.5\"]");
  EXPECT_EQ(harness_.TakePropagated(), (Lines{"TENSOR.AVG d 2 a b"}));
  client.Send({{"TENSOR.LERP", "a", "b", "0.5"}});
  Run({"DEL", "a"});
  EXPECT_EQ(Wait(client), "-ERR no such key\r\n");
  EXPECT_EQ(Run({"EXISTS", "a"}), ":0");
}

}  // namespace
}  // namespace cairn

// The TENSOR commands in process, with PlainCompute in LibTorch's place: replies, errors, TTLs and
// what is propagated. What is written of them: tensor_form_test.cc; long ones: tensor_jobs_test.cc.

#include <gtest/gtest.h>

#include "server/base/checksum.h"
#include "tests/support/tensor_fixture.h"

namespace cairn {
namespace {

using TensorCommandTest = TensorFixture;

// --- SET and GET ---

TEST_F(TensorCommandTest, SetAndGetInEveryForm) {
  const std::string bytes = Raw<float>({1.5f, -2, 0, 4});
  EXPECT_EQ(Run({"tensor.set", "k", "float32", "shape", "2", "2", "2", "blob", bytes}), "+OK");
  EXPECT_EQ(Blob("k"), bytes);
  EXPECT_EQ(Run({"TENSOR.GET", "k", "META"}), "[\"dtype\", \"F32\", \"shape\", [:2, :2]]");
  EXPECT_EQ(Run({"TENSOR.GET", "k", "VALUES"}), "[\"1.5\", \"-2\", \"0\", \"4\"]");
  EXPECT_EQ(Run({"TENSOR.GET", "k", "META", "VALUES", "AS", "I32"}),
            "[\"dtype\", \"I32\", \"shape\", [:2, :2], \"values\", [:1, :-2, :0, :4]]");
  EXPECT_EQ(harness_.Call({"TENSOR.GET", "k"}).elements[5].text, bytes);
  EXPECT_EQ(harness_.Call({"TENSOR.GET", "k", "RANGE", "4", "100"}).text, bytes.substr(4));
  EXPECT_EQ(Run({"TENSOR.GET", "k", "RANGE", "16", "1"}), "\"\"");
  EXPECT_TRUE(harness_.Call({"TENSOR.GET", "k", "RANGE", "17", "1"}).IsError());
  EXPECT_EQ(Run({"TENSOR.GET", "k", "VALUES", "SLICE", "2", "0", "2", "1", "-1", "2", "1"}),
            "[\"-2\", \"4\"]");
  EXPECT_EQ(Run({"TENSOR.GET", "none"}), "nil");
  harness_.Call({"HELLO", "3"});
  EXPECT_EQ(Run({"TENSOR.GET", "k", "META", "VALUES"}),
            "{\"dtype\": \"F32\", \"shape\": [:2, :2], \"values\": [,1.5, ,-2, ,0, ,4]}");
}

TEST_F(TensorCommandTest, EveryDTypeTakesZerosScalarsAndEmptyTensors) {
  const char* types[] = {"F64", "F32", "F16", "BF16", "I64",     "I32",     "I16", "I8",  "U64",
                         "U32", "U16", "U8",  "BOOL", "F8_E4M3", "F8_E5M2", "C64", "C128"};
  for (const char* type : types) {
    SCOPED_TRACE(type);
    EXPECT_EQ(Run({"TENSOR.SET", "scalar", type, "SHAPE", "0", "ZEROS"}), "+OK");
    EXPECT_EQ(Run({"TENSOR.GET", "scalar", "META"}),
              "[\"dtype\", \"" + std::string(type) + "\", \"shape\", []]");
    EXPECT_EQ(Run({"TENSOR.SET", "empty", type, "SHAPE", "2", "3", "0", "BLOB", ""}), "+OK");
    EXPECT_EQ(Run({"TENSOR.GET", "empty", "BLOB"}), "\"\"");
    EXPECT_EQ(Run({"TENSOR.GET", "empty", "VALUES"}), "[]");
    EXPECT_EQ(harness_.Call({"TENSOR.INFO", "empty"}).elements[5].integer, 0);
  }
}

TEST_F(TensorCommandTest, BytesAreKeptBitForBit) {
  // A signalling NaN with a payload, -0.0, and a denormal.
  const std::string bytes = Raw<uint32_t>({0x7f800001u, 0x80000000u, 0x00000001u, 0xffc12345u});
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "1", "4", "BLOB", bytes});
  EXPECT_EQ(Blob("k"), bytes);
  EXPECT_EQ(Run({"COPY", "k", "c"}), ":1");
  EXPECT_EQ(Blob("c"), bytes);
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  EXPECT_EQ(Run({"RESTORE", "r", "0", payload}), "+OK");
  EXPECT_EQ(Blob("r"), bytes);
  EXPECT_EQ(Run({"TENSOR.EQUAL", "k", "r"}), ":1");
}

TEST_F(TensorCommandTest, BadPayloadsAreRefusedAndChangeNothing) {
  Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", "2", "BLOB", "ab"});
  harness_.TakePropagated();
  const auto refused = [&](Lines args) {
    args.insert(args.begin(), {"TENSOR.SET", "k"});
    return Run(args);
  };
  EXPECT_EQ(refused({"F32", "SHAPE", "1", "2", "BLOB", "1234567"}),
            "-ERR the blob has 7 bytes, but F32 [2] takes 8");
  EXPECT_EQ(refused({"F64", "SHAPE", "2", "4294967296", "536870912", "BLOB", ""}),
            "-ERR a tensor of shape [4294967296,536870912] is larger than 1099511627776 bytes");
  EXPECT_EQ(refused({"BOOL", "SHAPE", "1", "3", "BLOB", std::string("\0\1\2", 3)}),
            "-ERR byte 2 of a BOOL tensor is neither 0 nor 1");
  EXPECT_EQ(refused({"U8", "SHAPE", "0", "BLOB", "x", "XXH3", std::string(32, '0')}).substr(0, 11),
            "-TENSORHASH");
  EXPECT_EQ(refused({"F32", "SHAPE", "1", "2", "VALUES", "2", "1", "nan", "GUARD", "FINITE"}),
            "-TENSORNOTFINITE element 1 is NaN or infinite");
  EXPECT_EQ(refused({"I8", "SHAPE", "1", "1", "VALUES", "1", "300"}),
            "-ERR value 0 is not a number of type I8");
  EXPECT_EQ(refused({"F32", "SHAPE", "0", "BLOB", "abcd", "WHAT"}), "-ERR syntax error");
  EXPECT_EQ(refused({"F31", "SHAPE", "0", "BLOB", "abcd"}), "-ERR unknown dtype 'F31'");
  EXPECT_EQ(Blob("k"), "ab");
  EXPECT_TRUE(harness_.TakePropagated().empty());
}

TEST_F(TensorCommandTest, ASealOpensAndIsKept) {
  const std::string hash = Hash128Hex(HashBytes128("abcd"));
  EXPECT_EQ(Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", "4", "BLOB", "abcd", "XXH3", hash}), "+OK");
  const RespValue info = harness_.Call({"TENSOR.INFO", "k"});
  EXPECT_EQ(info.elements[12].text, "xxh3");
  EXPECT_EQ(info.elements[13].text, hash);
}

TEST_F(TensorCommandTest, NxXxAndTheTtl) {
  const Lines set = {"TENSOR.SET", "k", "U8", "SHAPE", "0", "BLOB", "x"};
  const auto with = [&](Lines more) {
    Lines args = set;
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  };
  EXPECT_EQ(with({"XX"}), "nil");
  EXPECT_EQ(with({"NX", "EX", "10"}), "+OK");
  EXPECT_EQ(with({"NX"}), "nil");
  EXPECT_EQ(Run({"PTTL", "k"}), ":10000");
  const std::string at = std::to_string(harness_.now_ms() + 10000);
  EXPECT_EQ(harness_.TakePropagated().back(), "TENSOR.SET k U8 SHAPE 0 BLOB x NX PXAT " + at);
  EXPECT_EQ(with({"KEEPTTL"}), "+OK");
  EXPECT_EQ(Run({"PTTL", "k"}), ":10000");
  EXPECT_EQ(with({"XX"}), "+OK");
  EXPECT_EQ(Run({"PTTL", "k"}), ":-1");
  with({"PX", "5"});
  harness_.AdvanceMs(6);
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
  EXPECT_EQ(with({"EX", "9223372036854775"}), "-ERR invalid expire time in 'tensor.set' command");
}

TEST_F(TensorCommandTest, WrongTypesAndArity) {
  Run({"SET", "s", "x"});
  const std::string wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
  for (const Lines& args : {Lines{"TENSOR.GET", "s"}, Lines{"TENSOR.INFO", "s"},
                            Lines{"TENSOR.STATS", "s"}, Lines{"TENSOR.CHECK", "s"},
                            Lines{"TENSOR.EQUAL", "s", "s"}, Lines{"TENSOR.CAST", "s", "d", "F32"},
                            Lines{"TENSOR.SETSLICE", "s", "SLICE", "0", "BLOB", "x"}}) {
    EXPECT_EQ(Run(args), wrong) << args[0];
  }
  EXPECT_EQ(Run({"TENSOR.SET", "k", "F32", "SHAPE", "0"}),
            "-ERR wrong number of arguments for 'tensor.set' command");
  EXPECT_EQ(Run({"TENSOR.SET", "s", "U8", "SHAPE", "0", "BLOB", "y"}), "+OK") << "as SET does";
  EXPECT_EQ(Run({"GET", "s"}), wrong);
  EXPECT_EQ(Run({"TENSOR.EQUAL", "s", "none"}), "-ERR no such key");
}

TEST_F(TensorCommandTest, MSetIsAllOrNothing) {
  EXPECT_EQ(Run({"TENSOR.MSET", "2", "a", "U8", "SHAPE", "0", "BLOB", "x", "b", "BOOL", "SHAPE",
                 "0", "BLOB", "\2"}),
            "-ERR byte 0 of a BOOL tensor is neither 0 nor 1");
  EXPECT_EQ(Run({"EXISTS", "a", "b"}), ":0");
  EXPECT_EQ(Run({"TENSOR.MSET", "2", "a", "U8", "SHAPE", "0", "BLOB", "x", "b", "BOOL", "SHAPE",
                 "0", "BLOB", "\1"}),
            "+OK");
  Run({"SET", "s", "x"});
  EXPECT_EQ(Run({"TENSOR.MGET", "4", "a", "none", "s", "b", "AS", "U16"}),
            "[[\"dtype\", \"U16\", \"shape\", [], \"blob\", \"x\\x00\"], nil, nil, "
            "[\"dtype\", \"U16\", \"shape\", [], \"blob\", \"\\x01\\x00\"]]");
}

// ACLs go by what it finds (tests/e2e/test_tensor.py).
TEST_F(TensorCommandTest, MSetNamesItsKeys) {
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.MSET", "2", "a", "U8", "SHAPE", "1", "3", "BLOB",
                 "xyz", "b", "U8", "SHAPE", "0", "BLOB", "x"}),
            "[\"a\", \"b\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.MSET", "9", "a", "U8", "SHAPE", "0", "BLOB", "x"}),
            "-ERR Invalid arguments specified for command");
}

// --- parts ---

TEST_F(TensorCommandTest, SetSliceChangesOneValueOnly) {
  Run({"TENSOR.SET", "k", "U8", "SHAPE", "2", "3", "3", "BLOB", "abcdefghi", "EX", "100"});
  Run({"COPY", "k", "c"});
  harness_.TakePropagated();
  EXPECT_EQ(
      Run({"TENSOR.SETSLICE", "k", "SLICE", "2", "0", "3", "2", "1", "3", "1", "BLOB", "WXYZ"}),
      "+OK");
  EXPECT_EQ(Blob("k"), "aWXdefgYZ");
  EXPECT_EQ(Blob("c"), "abcdefghi");
  EXPECT_EQ(Run({"TTL", "k"}), ":100");
  EXPECT_EQ(harness_.TakePropagated().size(), 1u);
  EXPECT_EQ(Run({"TENSOR.SETSLICE", "k", "SLICE", "1", "0", "1", "1", "BLOB", "ab"}),
            "-ERR the blob has 2 bytes, but U8 [1,3] takes 3");
  EXPECT_EQ(Run({"TENSOR.SETSLICE", "none", "SLICE", "0", "BLOB", "x"}), "-ERR no such key");
  EXPECT_EQ(Run({"TENSOR.SETSLICE", "k", "SLICE", "1", "5", "9", "1", "BLOB", ""}), "+OK");
}

TEST_F(TensorCommandTest, CastStoresAnotherTensor) {
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "1", "3", "VALUES", "3", "1.9", "-300", "nan"});
  EXPECT_EQ(Run({"TENSOR.CAST", "k", "d", "I8"}), "+OK");
  EXPECT_EQ(Run({"TENSOR.GET", "d", "META", "VALUES"}),
            "[\"dtype\", \"I8\", \"shape\", [:3], \"values\", [:1, :-128, :0]]");
  EXPECT_EQ(Run({"TENSOR.CAST", "k", "same", "FLOAT"}), "+OK");
  EXPECT_EQ(Run({"TENSOR.EQUAL", "k", "same"}), ":1");
  EXPECT_EQ(Run({"TENSOR.CAST", "none", "d", "I8"}), "-ERR no such key");
  EXPECT_EQ(Run({"TENSOR.CAST", "k", "d", "I9"}), "-ERR unknown dtype 'I9'");
}

// --- looking ---

TEST_F(TensorCommandTest, StatsCheckAndEqual) {
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "1", "4", "VALUES", "4", "3", "-4", "0", "nan"});
  harness_.Call({"HELLO", "3"});
  EXPECT_EQ(
      Run({"TENSOR.STATS", "k", "HIST", "2"}),
      "{\"count\": :4, \"nan\": :1, \"inf\": :0, \"zeros\": :1, \"min\": ,-4, \"max\": ,3, "
      "\"mean\": ,-0.33333333333333331, \"std\": ,3.5118845842842465, \"l1\": ,7, \"l2\": ,5, "
      "\"hist\": [:1, :2]}");
  EXPECT_EQ(Run({"TENSOR.CHECK", "k"}), "{\"finite\": :0, \"first_bad\": :3}");
  Run({"TENSOR.SET", "z", "F32", "SHAPE", "1", "4", "ZEROS"});
  EXPECT_EQ(Run({"TENSOR.CHECK", "z"}), "{\"finite\": :1, \"first_bad\": nil}");
  EXPECT_EQ(Run({"TENSOR.EQUAL", "k", "z"}), ":0");
  EXPECT_EQ(Run({"TENSOR.EQUAL", "z", "z", "RTOL", "0"}), ":1");
  Run({"TENSOR.SET", "c", "C64", "SHAPE", "0", "ZEROS"});
  EXPECT_EQ(Run({"TENSOR.STATS", "c"}),
            "-ERR complex tensors have no order and so no statistics: cast the tensor first");
  EXPECT_EQ(Run({"TENSOR.CHECK", "c"}), "{\"finite\": :1, \"first_bad\": nil}");
}

TEST_F(TensorCommandTest, KeysOfTensorsAreKeysLikeOthers) {
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "1", "1000", "ZEROS"});
  EXPECT_EQ(harness_.TakeEvents(), (Lines{"0 new k", "0 tensor.set k"}));
  EXPECT_EQ(Run({"TYPE", "k"}), "+tensor");
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "k"}), "\"raw\"");
  EXPECT_GT(harness_.Call({"MEMORY", "USAGE", "k"}).integer, 4000);
  EXPECT_EQ(Run({"SCAN", "0", "TYPE", "tensor"}), "[\"0\", [\"k\"]]");
  EXPECT_EQ(Run({"RENAME", "k", "l"}), "+OK");
  EXPECT_EQ(Run({"EXPIRE", "l", "5"}), ":1");
  harness_.AdvanceMs(5001);
  EXPECT_EQ(Run({"TENSOR.INFO", "l"}), "nil");
}

TEST_F(TensorCommandTest, CommandInfoNamesKeysAndFlags) {
  const RespValue info = harness_.Call({"COMMAND", "INFO", "tensor.set"}).elements[0];
  EXPECT_EQ(info.elements[1].integer, -6);
  EXPECT_EQ(info.elements[2].ToString(), "[+write, +denyoom, +module]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.CAST", "a", "b", "F32"}), "[\"a\", \"b\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.EQUAL", "a", "b"}), "[\"a\", \"b\"]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "TENSOR.MGET", "2", "a", "b"}), "[\"a\", \"b\"]");
  // Every synopsis reads as the mini-language has it: a spec that does not stops the process.
  for (const Command* command : harness_.engine().commands.top_level()) {
    if (!command->full_name.starts_with("tensor.")) continue;
    const RespValue docs = harness_.Call({"COMMAND", "DOCS", command->full_name});
    EXPECT_NE(docs.ToString().find("\"arguments\""), std::string::npos) << command->full_name;
  }
}

// --- uploads ---

TEST_F(TensorCommandTest, AnUploadInAnyOrderBecomesATensorAtOnce) {
  const std::string id = harness_.Call({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "1", "10"}).text;
  EXPECT_EQ(id.size(), 16u);
  const std::string begun = harness_.TakePropagated().back();
  EXPECT_EQ(begun.substr(0, 38), "TENSOR.BEGINSET k U8 SHAPE 1 10 UPLOAD");
  EXPECT_NE(begun.find(" PXAT "), std::string::npos);
  EXPECT_EQ(Run({"TENSOR.WRITE", "k", id, "6", "BLOB", "ghij"}), ":0");
  EXPECT_EQ(Run({"TENSOR.ENDSET", "k", id}),
            "-TENSORINCOMPLETE bytes 0 to 6 are missing, 1 ranges in all");
  EXPECT_EQ(Run({"TENSOR.WRITE", "k", id, "0", "BLOB", "abc"}), ":3");
  EXPECT_EQ(Run({"TENSOR.OFFSET", "k", id}),
            "[\"offset\", :3, \"nbytes\", :10, \"holes\", [[:3, :3]]]");
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0") << "nothing is visible yet";
  EXPECT_EQ(
      Run({"TENSOR.WRITE", "k", id, "3", "BLOB", "def", "XXH3", Hash128Hex(HashBytes128("def"))}),
      ":10");
  EXPECT_EQ(Run({"TENSOR.ENDSET", "k", id, "XXH3", std::string(32, 'a')}).substr(0, 11),
            "-TENSORHASH");
  EXPECT_EQ(Run({"TENSOR.ENDSET", "k", id, "XXH3", Hash128Hex(HashBytes128("abcdefghij"))}), "+OK");
  EXPECT_EQ(Blob("k"), "abcdefghij");
  EXPECT_EQ(Run({"TENSOR.OFFSET", "k", id}),
            "-TENSORUPLOAD there is no such upload: it was never begun, has ended, or expired");
}

TEST_F(TensorCommandTest, UploadsAreSavedAbortedAndExpire) {
  const std::string id = harness_.Call({"TENSOR.BEGINSET", "k", "BOOL", "SHAPE", "1", "4"}).text;
  Run({"TENSOR.WRITE", "k", id, "2", "BLOB", "\1\3"});
  const std::string name = "k:upload:" + id;
  EXPECT_EQ(Run({"TYPE", name}), "+tensorupload");
  const std::string payload = harness_.Call({"DUMP", name}).text;
  EXPECT_EQ(Run({"TENSOR.ABORTSET", "k", id}), "+OK");
  EXPECT_EQ(Run({"RESTORE", name, "0", payload}), "+OK") << "its state is a value";
  EXPECT_EQ(Run({"TENSOR.OFFSET", "k", id}),
            "[\"offset\", :0, \"nbytes\", :4, \"holes\", [[:0, :2]]]");
  Run({"TENSOR.WRITE", "k", id, "0", "BLOB", std::string("\0\0", 2)});
  EXPECT_EQ(Run({"TENSOR.ENDSET", "k", id}), "-ERR byte 3 of a BOOL tensor is neither 0 nor 1");
  EXPECT_EQ(Run({"TENSOR.WRITE", "k", id, "3", "BLOB", "ab"}),
            "-TENSOROFFSET 2 bytes at 3 end behind the tensor's 4");
  const std::string other = harness_.Call({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "0"}).text;
  harness_.AdvanceMs(24 * 3600 * 1000 + 1);
  EXPECT_TRUE(harness_.Call({"TENSOR.OFFSET", "k", other}).IsError());
  EXPECT_EQ(Run({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "0", "UPLOAD", "mine"}), "\"mine\"");
  EXPECT_EQ(Run({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "0", "UPLOAD", "mine"}),
            "-TENSORUPLOAD an upload of this name exists");
}

// --- limits ---

TEST_F(TensorCommandTest, TheMemoryLimitHoldsAndLetsGo) {
  harness_.SetSetting("tensor-memory-limit", "1000");
  EXPECT_EQ(Run({"TENSOR.SET", "a", "U8", "SHAPE", "1", "600", "ZEROS"}), "+OK");
  EXPECT_EQ(harness_.Run({"TENSOR.SET", "b", "U8", "SHAPE", "1", "600", "ZEROS"}).substr(0, 5),
            "-OOM ");
  EXPECT_EQ(harness_.Run({"TENSOR.CAST", "a", "b", "F32"}).substr(0, 5), "-OOM ");
  EXPECT_EQ(Run({"DEL", "a"}), ":1");
  EXPECT_EQ(Run({"TENSOR.SET", "b", "U8", "SHAPE", "1", "600", "ZEROS"}), "+OK");
}

TEST_F(TensorCommandTest, ValuesAreBounded) {
  Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", "1048577", "ZEROS"});
  EXPECT_EQ(harness_.Run({"TENSOR.GET", "k", "VALUES"}).substr(0, 40),
            "-ERR VALUES returns at most 1048576 numb");
  EXPECT_EQ(harness_.Call({"TENSOR.GET", "k", "VALUES", "SLICE", "1", "0", "1048576", "1"})
                .elements.size(),
            1048576u);
}

TEST_F(TensorCommandTest, MoreThanTheMachineHasIsRefusedAtOnce) {
  const std::string most = std::to_string(tensor::kMaxTensorBytes);
  EXPECT_EQ(harness_.Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", most, "ZEROS"}).substr(0, 5),
            "-OOM ");
  EXPECT_EQ(harness_.Run({"TENSOR.BEGINSET", "k", "U8", "SHAPE", "1", most}).substr(0, 5), "-OOM ");
}

}  // namespace
}  // namespace cairn

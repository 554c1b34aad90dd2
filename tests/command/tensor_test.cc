// The TENSOR commands in process, with PlainCompute in LibTorch's place: replies, errors, TTLs,
// what is propagated, and what work in two halves sees when keys change meanwhile.

#include <gtest/gtest.h>

#include <cstring>

#include "server/base/checksum.h"
#include "server/engine/job_runner.h"
#include "server/engine/module_host.h"
#include "tensor_module/module.h"
#include "tests/support/command_harness.h"
#include "tests/support/fake_client.h"

namespace cairn {

CommandFamily CommandCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily MemoryCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

using Lines = std::vector<std::string>;

int LinkedIn(const CairnApi* api, CairnModule* self, int, const char* const*) {
  static const tensor::PlainCompute compute;
  auto* module = new tensor::Module(*api, self, compute);
  api->module_describe(self, "tensor", 100, module,
                       [](void* data) { delete static_cast<tensor::Module*>(data); });
  return module->Register();
}

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string out;
  for (const T& value : values) out.append(reinterpret_cast<const char*>(&value), sizeof value);
  return out;
}

class TensorCommandTest : public testing::Test {
 protected:
  TensorCommandTest() {
    host_.Attach(harness_.engine());
    CAIRN_CHECK(host_.LoadEntryPoint(LinkedIn, "linked in", {}).ok());
    harness_.engine().jobs = jobs_.get();
  }
  ~TensorCommandTest() override {
    jobs_.reset();
    harness_.engine().jobs = nullptr;
  }
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string Blob(const std::string& key) {
    return harness_.Call({"TENSOR.GET", key, "BLOB"}).text;
  }

  ModuleHost host_;  // before the keyspace, whose values it frees
  CommandHarness harness_{CommandCommands(),   KeyCommands(),     KeyDumpCommands(),
                          KeyExpireCommands(), KeyScanCommands(), MemoryCommands(),
                          SessionCommands(),   StringCommands()};
  std::unique_ptr<JobRunner> jobs_ = std::make_unique<JobRunner>(harness_.engine());
};

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

TEST_F(TensorCommandTest, DumpIsTheWorkedExampleOfTheDocs) {
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "0", "VALUES", "1", "1"});
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  EXPECT_EQ(HexEncode(payload.substr(0, payload.size() - 8)),
            "078171a8ab9ed7a7b002"
            "020102000204"
            "05040000803f00"
            "0a00");
}

/// A DUMP payload of these bytes of a value, hexadecimal.
std::string Payload(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  const uint64_t crc = Crc64(0, bytes);
  return bytes.append(reinterpret_cast<const char*>(&crc), sizeof crc);
}

/// An unsigned item of 64 bits, hexadecimal.
std::string Item64(uint64_t value) {
  std::string item = "0281";
  for (int shift = 56; shift >= 0; shift -= 8) {
    const char byte = static_cast<char>(value >> shift);
    item += HexEncode({&byte, 1});
  }
  return item;
}

TEST_F(TensorCommandTest, TheFormWithAHashIsReadAndWrittenAnew) {
  const std::string head = "078171a8ab9ed7a7b001", piece =
                                                       "05046162636400"
                                                       "0a00";
  Run({"TENSOR.SET", "k", "U8", "SHAPE", "1", "4", "BLOB", "abcd"});
  const std::string now = harness_.Call({"DUMP", "k"}).text;
  const std::string shape =
                        "020b"
                        "0201"
                        "0204",
                    size = "0204";
  const Hash128 hash = HashBytes128("abcd");
  const std::string sealed = "0201" + Item64(hash.low) + Item64(hash.high);
  for (const std::string& known : {std::string("0200"), sealed}) {
    Run({"DEL", "r"});
    ASSERT_EQ(Run({"RESTORE", "r", "0", Payload(head + shape + known + size + piece)}), "+OK");
    EXPECT_EQ(Blob("r"), "abcd");
    EXPECT_EQ(harness_.Call({"DUMP", "r"}).text, now);
  }
  const std::string other = "0201" + Item64(hash.low) + Item64(hash.high ^ 1);
  for (const std::string& bad : {head + shape + other + size + piece,   // another seal
                                 head + shape + "0202" + size + piece,  // neither yes nor no
                                 head + shape + size + piece,           // the form of version 2
                                 "078171a8ab9ed7a7b003" + shape + size + piece}) {
    EXPECT_EQ(Run({"RESTORE", "bad", "0", Payload(bad)}), "-ERR Bad data format") << bad;
  }
}

TEST_F(TensorCommandTest, EqualValuesAreWrittenAlikeHoweverTheyCame) {
  std::string bytes(9'000'003, '\0');  // three pieces
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 1000);
  const std::string count = std::to_string(bytes.size());
  const auto dump = [&](const std::string& key) { return harness_.Call({"DUMP", key}).text; };
  Run({"TENSOR.SET", "whole", "U8", "SHAPE", "1", count, "BLOB", bytes});
  const std::string want = dump("whole");
  Run({"TENSOR.INFO", "whole"});  // works out the hash
  EXPECT_EQ(dump("whole"), want);
  Run({"TENSOR.SET", "sealed", "U8", "SHAPE", "1", count, "BLOB", bytes, "XXH3",
       Hash128Hex(HashBytes128(bytes))});
  EXPECT_EQ(dump("sealed"), want);

  constexpr size_t kPart = 700'001;  // on no grid
  Run({"TENSOR.BEGINSET", "sent", "U8", "SHAPE", "1", count, "UPLOAD", "it"});
  Run({"TENSOR.BEGINSET", "other", "U8", "SHAPE", "1", count, "UPLOAD", "it"});
  for (size_t at = 0; at < bytes.size(); at += kPart) {
    Run({"TENSOR.WRITE", "sent", "it", std::to_string(at), "BLOB", bytes.substr(at, kPart)});
  }
  for (size_t at = 0; at < bytes.size(); at += 2 * kPart) {
    Run({"TENSOR.WRITE", "other", "it", std::to_string(at), "BLOB", bytes.substr(at, 2 * kPart)});
  }
  EXPECT_EQ(dump("sent:upload:it"), dump("other:upload:it"));
  ASSERT_EQ(Run({"TENSOR.ENDSET", "sent", "it"}), "+OK");
  EXPECT_EQ(dump("sent"), want);

  std::string changed = bytes;
  changed.replace(5'000'000, 3, "abc");
  Run({"TENSOR.SET", "cut", "U8", "SHAPE", "1", count, "BLOB", changed});
  Run({"TENSOR.SETSLICE", "cut", "SLICE", "1", "5000000", "5000003", "1", "BLOB",
       bytes.substr(5'000'000, 3)});
  EXPECT_EQ(dump("cut"), want);

  EXPECT_EQ(Run({"RESTORE", "again", "0", want}), "+OK");
  EXPECT_EQ(Blob("again"), bytes);
  EXPECT_EQ(dump("again"), want);
}

TEST_F(TensorCommandTest, ValuesThatNoTensorMakesAreRefused) {
  Run({"TENSOR.SET", "k", "F32", "SHAPE", "1", "2", "VALUES", "2", "1", "2"});
  const std::string good = harness_.Call({"DUMP", "k"}).text;
  const size_t end = good.size() - 8;
  int refused = 0;
  for (size_t at = 10; at < end - 2; ++at) {
    std::string bad = good.substr(0, end);
    bad[at] = static_cast<char>(bad[at] ^ 1);
    uint64_t crc = Crc64(0, bad);
    bad.append(reinterpret_cast<const char*>(&crc), sizeof crc);
    const RespValue reply = harness_.Call({"RESTORE", "r" + std::to_string(at), "0", bad});
    if (reply.IsError()) {
      ++refused;
      EXPECT_EQ(reply.text, "ERR Bad data format") << at;
    }
  }
  // All but changes of the eight payload bytes themselves and of F32 to another type of its width.
  EXPECT_GE(refused, static_cast<int>(end - 12 - 8 - 2));
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

// --- long work ---

class LongTensorWork : public TensorCommandTest {
 protected:
  static constexpr size_t kBig = 1 << 20;
  void SetBig(const std::string& key, char fill) {
    CAIRN_CHECK(Run({"TENSOR.SET", key, "U8", "SHAPE", "1", std::to_string(kBig), "BLOB",
                     std::string(kBig, fill)}) == "+OK");
  }
  /// Runs loop and turns until the client has a reply.
  std::string Wait(FakeClient& client) {
    std::string replies = client.TakeReplies();
    while (replies.empty()) {
      if (!client.input_ready) CAIRN_CHECK(harness_.RunPosted());
      if (client.input_ready) client.RunTurn();
      replies = client.TakeReplies();
    }
    return replies;
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
  EXPECT_EQ(harness_.TakePropagated(), (Lines{"TENSOR.CAST k d U16"})) << "a replay makes the same";
  client.Send({{"TENSOR.CAST", "k", "e", "U16"}});
  Run({"DEL", "k"});
  EXPECT_EQ(Wait(client), "-ERR no such key\r\n");
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

// How tensors are written, in DUMP as in files: the same for equal values, and all that is no
// tensor's is refused.

#include <gtest/gtest.h>

#include "server/base/checksum.h"
#include "tests/support/tensor_fixture.h"

namespace cairn {
namespace {

using TensorFormTest = TensorFixture;

TEST_F(TensorFormTest, DumpIsTheWorkedExampleOfTheDocs) {
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

TEST_F(TensorFormTest, TheFormWithAHashIsReadAndWrittenAnew) {
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

TEST_F(TensorFormTest, EqualValuesAreWrittenAlikeHoweverTheyCame) {
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

TEST_F(TensorFormTest, ValuesThatNoTensorMakesAreRefused) {
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

}  // namespace
}  // namespace cairn

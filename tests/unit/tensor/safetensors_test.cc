#include "tensor_module/safetensors.h"

#include <gtest/gtest.h>

#include "tests/unit/tensor/test_memory.h"

namespace cairn::tensor {
namespace {

std::string File(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}
std::string Why(const std::string& header, const std::string& data = "") {
  const Result<SafetensorsFile> read = ReadSafetensors(File(header, data));
  return read.ok() ? "" : std::string(read.status().message());
}

TEST(SafetensorsTest, TheWorkedExampleOfTheHeader) {
  const std::string header = R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";
  EXPECT_EQ(header.size(), 0x35u);
  const SafetensorsFile file = ReadSafetensors(File(header, Raw<float>({1.0f}))).value();
  ASSERT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.tensors[0].name, "w");
  EXPECT_EQ(file.tensors[0].offset, 8 + header.size());
  EXPECT_EQ(file.tensors[0].size_bytes, 4u);
}

TEST(SafetensorsTest, NamesMetadataSpacesAndAnyOrder) {
  const std::string header =
      " {\"__metadata__\": {\"a\": \"b\\n\"}, \"b\\u00e9\\ud83d\\ude00\": {\"data_offsets\": [4, "
      "4],"
      "\"shape\": [0, 7], \"dtype\": \"BF16\"},\n\"a\": {\"dtype\": \"U8\", \"shape\": [2, 2], "
      "\"data_offsets\":[0,4]}}   ";
  EXPECT_NE(Why(header, "abcd"), "") << "a header begins with '{'";
  const SafetensorsFile file = ReadSafetensors(File(header.substr(1), "abcd")).value();
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "a");
  EXPECT_EQ(file.tensors[1].name, "b\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_EQ(file.metadata[0].second, "b\n");
}

TEST(SafetensorsTest, ForgedHeadersAreRefused) {
  const auto one = [](const std::string& inner) { return "{\"w\":{" + inner + "}}"; };
  const std::string good = R"("dtype":"U8","shape":[4],"data_offsets":[0,4])";
  EXPECT_EQ(Why(one(good), "abcd"), "");
  EXPECT_NE(Why(one(good), "abc"), "") << "the file ends before";
  EXPECT_NE(Why(one(good), "abcde"), "") << "a byte that nobody names";
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[4],"data_offsets":[1,5])"), "abcde"), "") << "a hole";
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"), "abcd"), "");
  EXPECT_NE(Why(one(R"("dtype":"U16","shape":[4],"data_offsets":[0,4])"), "abcd"), "");
  EXPECT_NE(Why(one(R"("dtype":"u8","shape":[4],"data_offsets":[0,4])"), "abcd"), "");
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])"), "abcd"), "");
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])"), "abcd"), "");
  EXPECT_NE(Why(one(R"("dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,0])")), "");
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4])")), "");
  EXPECT_NE(Why(one(R"("dtype":"U8","shape":[4])"), "abcd"), "");
  EXPECT_NE(Why(one(good + R"(,"dtype":"U8")"), "abcd"), "");
  EXPECT_NE(Why(one(good + R"(,"more":1)"), "abcd"), "");
  const std::string twice = "{\"w\":{" + good + "},\"w\":{" + good + "}}";
  EXPECT_NE(Why(twice, "abcd"), "");
  const std::string overlap = "{\"w\":{" + good + "},\"v\":{" + good + "}}";
  EXPECT_NE(Why(overlap, "abcd"), "");
  EXPECT_NE(Why(one(good) + "x", "abcd"), "");
  EXPECT_NE(Why("{\"w\":{" + good, "abcd"), "");
  EXPECT_NE(Why("{\"\\ud800\":{" + good + "}}", "abcd"), "");
  EXPECT_NE(Why(std::string("{\"\0\":{", 6) + good + "}}", "abcd"), "");
  EXPECT_FALSE(ReadSafetensors("1234567").ok());
  EXPECT_FALSE(ReadSafetensors(std::string(8, '\xff') + "{}").ok());
  EXPECT_FALSE(ReadSafetensors(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}").ok());
  EXPECT_EQ(Why("{}"), "");
}

TEST(SafetensorsTest, WhatIsWrittenIsReadAndAligned) {
  std::vector<ArchiveTensor> tensors = {{"q\"\\\n", DType::kF64, {2}, 0, 16, {}},
                                        {"s", DType::kU8, {}, 0, 1, {}},
                                        {"e", DType::kF16, {3, 0}, 0, 0, {}}};
  const std::string header = SafetensorsHeader(tensors).value();
  EXPECT_EQ(header.size() % 64, 0u);
  const SafetensorsFile file = ReadSafetensors(header + std::string(17, 'x')).value();
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors[0].name, tensors[0].name);
  EXPECT_EQ(file.tensors[0].offset, header.size());
  EXPECT_EQ(file.metadata[0].first, "format");
}

TEST(SafetensorsTest, NamesThatAHeaderCannotHaveAreRefused) {
  const auto why = [](const std::string& name) {
    const Result<std::string> header = SafetensorsHeader({{name, DType::kU8, {}, 0, 1, {}}});
    return header.ok() ? "" : std::string(header.status().message());
  };
  EXPECT_EQ(why("__metadata__"), "ERR safetensors: no tensor can have the name '__metadata__'");
  EXPECT_EQ(why("__metadata__2"), "");
  EXPECT_EQ(why("a\xff"
                "b"),
            "ERR safetensors: the name \"a\\xffb\" is not UTF-8");
}

TEST(IsUtf8Test, IsWhatTheTableOfUnicodeSays) {
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
                           "x\xe2\x82\xacy\xf0\x9f\x98\x80z"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xc2\xc0", "\xe0\x9f\xbf",
        "\xe0\xa0", "\xe1\x80\x7f", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

}  // namespace
}  // namespace cairn::tensor

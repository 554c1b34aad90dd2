#include "tensor_module/dtype.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace cairn::tensor {
namespace {

TEST(DTypeTest, SafetensorsNamesAndSizesAreTheSeventeen) {
  const std::pair<const char*, size_t> expected[] = {
      {"F64", 8},  {"F32", 4},     {"F16", 2},     {"BF16", 2}, {"I64", 8},  {"I32", 4},
      {"I16", 2},  {"I8", 1},      {"U64", 8},     {"U32", 4},  {"U16", 2},  {"U8", 1},
      {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"C64", 8},  {"C128", 16}};
  ASSERT_EQ(std::size(expected), kDTypeCount);
  std::set<DType> seen;
  for (const auto& [name, size] : expected) {
    DType dtype;
    ASSERT_TRUE(ParseDType(name, &dtype)) << name;
    EXPECT_EQ(DTypeName(dtype), name);
    EXPECT_EQ(DTypeSize(dtype), size) << name;
    seen.insert(dtype);
  }
  EXPECT_EQ(seen.size(), kDTypeCount);
}

TEST(DTypeTest, NumbersInFilesNeverChange) {
  EXPECT_EQ(static_cast<int>(DType::kF64), 0);
  EXPECT_EQ(static_cast<int>(DType::kBF16), 3);
  EXPECT_EQ(static_cast<int>(DType::kBool), 12);
  EXPECT_EQ(static_cast<int>(DType::kC128), 16);
}

TEST(DTypeTest, AliasesOfRedisAiAndTorchWhateverTheCase) {
  const std::pair<const char*, DType> aliases[] = {
      {"FLOAT", DType::kF32},         {"double", DType::kF64},
      {"INT8", DType::kI8},           {"uint16", DType::kU16},
      {"bfloat16", DType::kBF16},     {"torch.bfloat16", DType::kBF16},
      {"Torch.Float32", DType::kF32}, {"half", DType::kF16},
      {"long", DType::kI64},          {"float8_e4m3fn", DType::kF8E4M3},
      {"complex64", DType::kC64},     {"bool", DType::kBool},
      {"torch.bool", DType::kBool},   {"f32", DType::kF32},
      {"cdouble", DType::kC128}};
  for (const auto& [name, expected] : aliases) {
    DType dtype;
    ASSERT_TRUE(ParseDType(name, &dtype)) << name;
    EXPECT_EQ(dtype, expected) << name;
  }
}

TEST(DTypeTest, UnknownNamesLeaveTheResultAlone) {
  for (const char* name : {"", "F", "F33", "torch.", "float32 ", "BF-16", "STRING"}) {
    DType dtype = DType::kI16;
    EXPECT_FALSE(ParseDType(name, &dtype)) << name;
    EXPECT_EQ(dtype, DType::kI16);
  }
}

}  // namespace
}  // namespace cairn::tensor

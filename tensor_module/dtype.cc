#include "tensor_module/dtype.h"

#include <array>

#include "server/base/strings.h"

namespace cairn::tensor {

namespace {

struct Row {
  std::string_view name;
  size_t size;
  DTypeClass kind;
};

constexpr std::array<Row, kDTypeCount> kRows = {{
    {"F64", 8, DTypeClass::kFloat},
    {"F32", 4, DTypeClass::kFloat},
    {"F16", 2, DTypeClass::kFloat},
    {"BF16", 2, DTypeClass::kFloat},
    {"I64", 8, DTypeClass::kSigned},
    {"I32", 4, DTypeClass::kSigned},
    {"I16", 2, DTypeClass::kSigned},
    {"I8", 1, DTypeClass::kSigned},
    {"U64", 8, DTypeClass::kUnsigned},
    {"U32", 4, DTypeClass::kUnsigned},
    {"U16", 2, DTypeClass::kUnsigned},
    {"U8", 1, DTypeClass::kUnsigned},
    {"BOOL", 1, DTypeClass::kBool},
    {"F8_E4M3", 1, DTypeClass::kFloat},
    {"F8_E5M2", 1, DTypeClass::kFloat},
    {"C64", 8, DTypeClass::kComplex},
    {"C128", 16, DTypeClass::kComplex},
}};

struct Alias {
  std::string_view name;
  DType dtype;
};

// RedisAI's DOUBLE and FLOAT mean the same as torch's.
constexpr Alias kAliases[] = {
    {"double", DType::kF64},
    {"float64", DType::kF64},
    {"float", DType::kF32},
    {"float32", DType::kF32},
    {"half", DType::kF16},
    {"float16", DType::kF16},
    {"bfloat16", DType::kBF16},
    {"int64", DType::kI64},
    {"long", DType::kI64},
    {"int32", DType::kI32},
    {"int", DType::kI32},
    {"int16", DType::kI16},
    {"short", DType::kI16},
    {"int8", DType::kI8},
    {"char", DType::kI8},
    {"uint64", DType::kU64},
    {"uint32", DType::kU32},
    {"uint16", DType::kU16},
    {"uint8", DType::kU8},
    {"byte", DType::kU8},
    {"float8_e4m3fn", DType::kF8E4M3},
    {"float8_e4m3", DType::kF8E4M3},
    {"float8_e5m2", DType::kF8E5M2},
    {"complex64", DType::kC64},
    {"cfloat", DType::kC64},
    {"complex128", DType::kC128},
    {"cdouble", DType::kC128},
};

constexpr std::string_view kTorchPrefix = "torch.";

const Row& RowOf(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

size_t DTypeSize(DType dtype) { return RowOf(dtype).size; }
DTypeClass ClassOf(DType dtype) { return RowOf(dtype).kind; }
std::string_view DTypeName(DType dtype) { return RowOf(dtype).name; }

bool ParseDType(std::string_view name, DType* out) {
  if (EqualsIgnoreCase(name.substr(0, kTorchPrefix.size()), kTorchPrefix)) {
    name.remove_prefix(kTorchPrefix.size());
  }
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (!EqualsIgnoreCase(name, kRows[i].name)) continue;
    *out = static_cast<DType>(i);
    return true;
  }
  for (const Alias& alias : kAliases) {
    if (!EqualsIgnoreCase(name, alias.name)) continue;
    *out = alias.dtype;
    return true;
  }
  return false;
}

}  // namespace cairn::tensor

#pragma once

// DType: the seventeen element types of a tensor, by safetensors' names, and the spellings clients
// of other systems use. Knows sizes and names; numeric.h knows values. Pure; any thread.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn::tensor {

/// The number is written to files: never renumber.
enum class DType : uint8_t {
  kF64 = 0,
  kF32 = 1,
  kF16 = 2,
  kBF16 = 3,
  kI64 = 4,
  kI32 = 5,
  kI16 = 6,
  kI8 = 7,
  kU64 = 8,
  kU32 = 9,
  kU16 = 10,
  kU8 = 11,
  kBool = 12,
  kF8E4M3 = 13,  ///< finite only: no infinities, NaN is S.1111.111 (OFP8 "FN")
  kF8E5M2 = 14,
  kC64 = 15,  ///< real and imaginary F32
  kC128 = 16,
};
inline constexpr size_t kDTypeCount = 17;

enum class DTypeClass : uint8_t { kFloat, kSigned, kUnsigned, kBool, kComplex };

/// Bytes of one element: 1, 2, 4, 8 or 16.
size_t DTypeSize(DType dtype);
DTypeClass ClassOf(DType dtype);
/// "F32", "BF16" ...: the name that replies and files carry.
std::string_view DTypeName(DType dtype);
/// Reads a name in any letter case: safetensors' (F32), RedisAI's (FLOAT, INT8) and torch's
/// (float32, half, torch.bfloat16). Returns false, *out untouched, when it is none.
bool ParseDType(std::string_view name, DType* out);

/// Numbers that one element is written with in VALUES: 2 for complex types.
inline size_t ScalarsPerElement(DType dtype) {
  return ClassOf(dtype) == DTypeClass::kComplex ? 2 : 1;
}
/// NaN and infinity exist in the type.
inline bool HasNonFinite(DType dtype) {
  return ClassOf(dtype) == DTypeClass::kFloat || ClassOf(dtype) == DTypeClass::kComplex;
}

}  // namespace cairn::tensor

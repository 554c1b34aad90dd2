#pragma once

// Values of single elements: between their bytes and a double or 64-bit integer, with rounding to
// the nearest, ties to even, as IEEE 754 has it. For replies, VALUES, comparing and the types
// LibTorch lacks; bulk loops are in stats.cc. Bytes are little-endian and need no alignment. Pure;
// any thread.

#include <cstdint>
#include <cstring>
#include <string_view>

#include "tensor_module/dtype.h"

namespace cairn::tensor {

float HalfToFloat(uint16_t bits);
uint16_t FloatToHalf(float value);
uint16_t FloatToBFloat16(float value);
inline float BFloat16ToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
float E4M3ToFloat(uint8_t bits);
float E5M2ToFloat(uint8_t bits);
/// Values past the largest finite one become NaN, as the type has no infinity.
uint8_t FloatToE4M3(float value);
uint8_t FloatToE5M2(float value);

/// One number of a tensor: exact for every type but complex ones, whose two parts are two numbers.
struct Scalar {
  DTypeClass kind = DTypeClass::kFloat;  ///< kFloat, kSigned or kUnsigned (also for BOOL)
  double real = 0;                       ///< kFloat
  int64_t integer = 0;                   ///< kSigned
  uint64_t natural = 0;                  ///< kUnsigned
  double AsDouble() const;
};

/// Number `part` (0, or 1 for the imaginary part) of the element at `at`.
Scalar LoadScalar(DType dtype, const char* at, size_t part = 0);
/// Writes `value` as `dtype` (one part of complex ones): floats round, integers from floats are cut
/// toward zero, what does not fit an integer becomes its nearest bound, NaN becomes 0, BOOL is
/// value != 0.
void StoreScalar(DType dtype, const Scalar& value, char* at, size_t part = 0);
/// Reads a number of VALUES: decimal integers for integer types, 0 or 1 for BOOL, any float text
/// ("nan" and "inf" included) for others. False when it is none or does not fit the type.
bool ParseScalar(DType dtype, std::string_view text, Scalar* out);

/// The element has a NaN or infinity in it.
bool IsNonFinite(DType dtype, const char* at);

}  // namespace cairn::tensor

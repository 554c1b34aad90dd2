#include "tensor_module/numeric.h"

#include <bit>
#include <cmath>
#include <limits>

#include "server/base/strings.h"

namespace cairn::tensor {

namespace {

template <typename T>
T Load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <typename T>
void Store(T value, char* at) {
  std::memcpy(at, &value, sizeof value);
}

/// A small binary float: `mantissa` bits, exponent bias, and whether the top exponent is infinity
/// and NaN.
struct SmallFloat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  bool has_infinity;
};
constexpr SmallFloat kHalf{5, 10, 15, true};
constexpr SmallFloat kE5M2{5, 2, 15, true};
constexpr SmallFloat kE4M3{4, 3, 7, false};

float SmallToFloat(SmallFloat format, uint32_t bits) {
  const uint32_t sign = bits >> (format.exponent_bits + format.mantissa_bits) & 1;
  const uint32_t top = (1u << format.exponent_bits) - 1;
  const uint32_t exponent = bits >> format.mantissa_bits & top;
  const uint32_t mantissa = bits & ((1u << format.mantissa_bits) - 1);
  const uint32_t all_ones = (1u << format.mantissa_bits) - 1;
  uint32_t wide;
  if (format.has_infinity ? exponent == top : exponent == top && mantissa == all_ones) {
    // NaN payloads keep their bits at the top, so that a round trip is exact.
    wide = 0x7f800000u | mantissa << (23 - format.mantissa_bits);
    if (!format.has_infinity) wide = 0x7fc00000u;
  } else {
    const float magnitude =
        exponent == 0
            ? std::ldexp(static_cast<float>(mantissa), 1 - format.bias - format.mantissa_bits)
            : std::ldexp(static_cast<float>(mantissa | 1u << format.mantissa_bits),
                         static_cast<int>(exponent) - format.bias - format.mantissa_bits);
    wide = std::bit_cast<uint32_t>(magnitude);
  }
  return std::bit_cast<float>(wide | sign << 31);
}

/// What the top of the range gives: infinity, or NaN where the format has none.
uint32_t Overflowed(SmallFloat format) {
  const uint32_t top = ((1u << format.exponent_bits) - 1) << format.mantissa_bits;
  return format.has_infinity ? top : top | ((1u << format.mantissa_bits) - 1);
}

uint32_t FloatToSmall(SmallFloat format, float value) {
  const uint32_t wide = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (wide >> 31) << (format.exponent_bits + format.mantissa_bits);
  const uint32_t magnitude = wide & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    if (!format.has_infinity) return sign | Overflowed(format);
    const uint32_t payload = (magnitude & 0x7fffffu) >> (23 - format.mantissa_bits);
    // A payload of low bits only would read as infinity: it becomes the quiet NaN.
    const uint32_t quiet = 1u << (format.mantissa_bits - 1);
    return sign | Overflowed(format) | (payload != 0 ? payload : quiet);
  }
  if (magnitude == 0x7f800000u) return sign | Overflowed(format);
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + format.bias;
  // 24-bit significand, and by how much it is too fine for the format.
  uint32_t significand =
      magnitude >> 23 == 0 ? magnitude & 0x7fffffu : (magnitude & 0x7fffffu) | 0x800000u;
  int shift = 23 - format.mantissa_bits + (exponent <= 0 ? 1 - exponent : 0);
  if (shift > 25) return sign;
  const uint32_t rest = significand & ((1u << shift) - 1), half = 1u << (shift - 1);
  significand >>= shift;
  if (rest > half || (rest == half && (significand & 1))) ++significand;
  uint32_t bits = exponent <= 0
                      ? significand
                      : (static_cast<uint32_t>(exponent - 1) << format.mantissa_bits) + significand;
  return sign | (bits >= Overflowed(format) ? Overflowed(format) : bits);
}

Scalar Real(double value) { return {DTypeClass::kFloat, value, 0, 0}; }
Scalar Integer(int64_t value) { return {DTypeClass::kSigned, 0, value, 0}; }
Scalar Natural(uint64_t value) { return {DTypeClass::kUnsigned, 0, 0, value}; }

template <typename T>
T ToInteger(const Scalar& value) {
  using Limits = std::numeric_limits<T>;
  if (value.kind == DTypeClass::kFloat) {
    if (std::isnan(value.real)) return 0;
    // 2^63 and 2^64 are exact doubles, the largest integers are not.
    const double past_end = std::ldexp(1.0, Limits::digits);
    if (value.real >= past_end) return Limits::max();
    if (value.real <= static_cast<double>(Limits::min())) return Limits::min();
    return static_cast<T>(value.real);
  }
  if (value.kind == DTypeClass::kSigned) {
    if (std::cmp_less(value.integer, Limits::min())) return Limits::min();
    if (std::cmp_greater(value.integer, Limits::max())) return Limits::max();
    return static_cast<T>(value.integer);
  }
  return std::cmp_greater(value.natural, Limits::max()) ? Limits::max()
                                                        : static_cast<T>(value.natural);
}

float ToFloat(const Scalar& value) {
  switch (value.kind) {
    case DTypeClass::kSigned:
      return static_cast<float>(value.integer);
    case DTypeClass::kUnsigned:
      return static_cast<float>(value.natural);
    default:
      return static_cast<float>(value.real);
  }
}

}  // namespace

float HalfToFloat(uint16_t bits) { return SmallToFloat(kHalf, bits); }
uint16_t FloatToHalf(float value) { return static_cast<uint16_t>(FloatToSmall(kHalf, value)); }
float E4M3ToFloat(uint8_t bits) { return SmallToFloat(kE4M3, bits); }
float E5M2ToFloat(uint8_t bits) { return SmallToFloat(kE5M2, bits); }
uint8_t FloatToE4M3(float value) { return static_cast<uint8_t>(FloatToSmall(kE4M3, value)); }
uint8_t FloatToE5M2(float value) { return static_cast<uint8_t>(FloatToSmall(kE5M2, value)); }

uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) {
    const uint32_t cut = bits >> 16;
    return static_cast<uint16_t>(cut & 0x7fu ? cut : cut | 0x40u);
  }
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

double Scalar::AsDouble() const {
  switch (kind) {
    case DTypeClass::kSigned:
      return static_cast<double>(integer);
    case DTypeClass::kUnsigned:
      return static_cast<double>(natural);
    default:
      return real;
  }
}

Scalar LoadScalar(DType dtype, const char* at, size_t part) {
  switch (dtype) {
    case DType::kF64:
      return Real(Load<double>(at));
    case DType::kF32:
      return Real(Load<float>(at));
    case DType::kF16:
      return Real(HalfToFloat(Load<uint16_t>(at)));
    case DType::kBF16:
      return Real(BFloat16ToFloat(Load<uint16_t>(at)));
    case DType::kI64:
      return Integer(Load<int64_t>(at));
    case DType::kI32:
      return Integer(Load<int32_t>(at));
    case DType::kI16:
      return Integer(Load<int16_t>(at));
    case DType::kI8:
      return Integer(Load<int8_t>(at));
    case DType::kU64:
      return Natural(Load<uint64_t>(at));
    case DType::kU32:
      return Natural(Load<uint32_t>(at));
    case DType::kU16:
      return Natural(Load<uint16_t>(at));
    case DType::kU8:
      return Natural(Load<uint8_t>(at));
    case DType::kBool:
      return Natural(Load<uint8_t>(at));
    case DType::kF8E4M3:
      return Real(E4M3ToFloat(Load<uint8_t>(at)));
    case DType::kF8E5M2:
      return Real(E5M2ToFloat(Load<uint8_t>(at)));
    case DType::kC64:
      return Real(Load<float>(at + part * sizeof(float)));
    case DType::kC128:
      return Real(Load<double>(at + part * sizeof(double)));
  }
  return {};
}

void StoreScalar(DType dtype, const Scalar& value, char* at, size_t part) {
  switch (dtype) {
    case DType::kF64:
      return Store(value.AsDouble(), at);
    case DType::kF32:
      return Store(ToFloat(value), at);
    case DType::kF16:
      return Store(FloatToHalf(ToFloat(value)), at);
    case DType::kBF16:
      return Store(FloatToBFloat16(ToFloat(value)), at);
    case DType::kI64:
      return Store(ToInteger<int64_t>(value), at);
    case DType::kI32:
      return Store(ToInteger<int32_t>(value), at);
    case DType::kI16:
      return Store(ToInteger<int16_t>(value), at);
    case DType::kI8:
      return Store(ToInteger<int8_t>(value), at);
    case DType::kU64:
      return Store(ToInteger<uint64_t>(value), at);
    case DType::kU32:
      return Store(ToInteger<uint32_t>(value), at);
    case DType::kU16:
      return Store(ToInteger<uint16_t>(value), at);
    case DType::kU8:
      return Store(ToInteger<uint8_t>(value), at);
    case DType::kBool:
      return Store(static_cast<uint8_t>(value.AsDouble() != 0), at);
    case DType::kF8E4M3:
      return Store(FloatToE4M3(ToFloat(value)), at);
    case DType::kF8E5M2:
      return Store(FloatToE5M2(ToFloat(value)), at);
    case DType::kC64:
      return Store(ToFloat(value), at + part * sizeof(float));
    case DType::kC128:
      return Store(value.AsDouble(), at + part * sizeof(double));
  }
}

bool ParseScalar(DType dtype, std::string_view text, Scalar* out) {
  const DTypeClass kind = ClassOf(dtype);
  const int bits = static_cast<int>(DTypeSize(dtype)) * 8;
  if (kind == DTypeClass::kSigned) {
    int64_t value = 0;
    if (!ParseInt64(text, &value)) return false;
    *out = Integer(value);
    return bits == 64 || (value >= -(int64_t{1} << (bits - 1)) && value < int64_t{1} << (bits - 1));
  }
  if (kind == DTypeClass::kUnsigned || kind == DTypeClass::kBool) {
    uint64_t value = 0;
    if (!ParseUint64(text, &value)) return false;
    *out = Natural(value);
    if (kind == DTypeClass::kBool) return value <= 1;
    return bits == 64 || value < uint64_t{1} << bits;
  }
  double value = 0;
  if (EqualsIgnoreCase(text, "nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (!ParseDouble(text, &value)) {
    return false;
  }
  *out = Real(value);
  return true;
}

bool IsNonFinite(DType dtype, const char* at) {
  if (!HasNonFinite(dtype)) return false;
  for (size_t part = 0; part < ScalarsPerElement(dtype); ++part) {
    if (!std::isfinite(LoadScalar(dtype, at, part).real)) return true;
  }
  return false;
}

}  // namespace cairn::tensor

#include "tensor_module/combine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor_module/vector_clones.h"

namespace cairn::tensor {

namespace {

constexpr size_t kBlock = 2048;  // numbers: the sum and one input stay in the first cache

/// The steps of a sum; `weight` is what Apply's comments say.
enum class Step : uint8_t { kSet, kScale, kAddScaled, kDivide, kApproach };

template <typename Real>
inline __attribute__((always_inline)) void ApplyTo(Step step, const Real* input, Real weight,
                                                   Real* sum, size_t count) {
  switch (step) {
    case Step::kSet:
      for (size_t i = 0; i < count; ++i) sum[i] = input[i];
      return;
    case Step::kScale:  // sum = input * weight
      for (size_t i = 0; i < count; ++i) sum[i] = input[i] * weight;
      return;
    case Step::kAddScaled:  // sum += input * weight
      for (size_t i = 0; i < count; ++i) {
        const Real scaled = input[i] * weight;
        sum[i] = sum[i] + scaled;
      }
      return;
    case Step::kDivide:  // sum /= weight
      for (size_t i = 0; i < count; ++i) sum[i] = sum[i] / weight;
      return;
    case Step::kApproach: {
      // sum += (input - sum) * weight, from the end that is nearer: exact at both ends.
      const bool near = std::abs(weight) < Real{0.5};
      const Real rest = Real{1} - weight;
      for (size_t i = 0; i < count; ++i) {
        const Real distance = input[i] - sum[i];
        const Real forth = distance * weight, back = distance * rest;
        sum[i] = near ? sum[i] + forth : input[i] - back;
      }
      return;
    }
  }
}
CAIRN_VECTOR_CLONES void Apply(Step step, const float* input, float weight, float* sum, size_t n) {
  ApplyTo(step, input, weight, sum, n);
}
CAIRN_VECTOR_CLONES void Apply(Step step, const double* input, double weight, double* sum,
                               size_t n) {
  ApplyTo(step, input, weight, sum, n);
}

// Which of two NaN an operation passes on differs between instruction sets.
template <typename Real>
inline __attribute__((always_inline)) void OneNan(Real* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = values[i] == values[i] ? values[i] : std::numeric_limits<Real>::quiet_NaN();
  }
}
CAIRN_VECTOR_CLONES void SettleNans(float* values, size_t count) { OneNan(values, count); }
CAIRN_VECTOR_CLONES void SettleNans(double* values, size_t count) { OneNan(values, count); }

CAIRN_VECTOR_CLONES void WidenBF16(const char* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    to[i] = std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
}
/// Requires: settled NaN.
CAIRN_VECTOR_CLONES void NarrowBF16(const float* from, char* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(from[i]);
    // To nearest, ties to even; the quiet NaN stays one.
    const auto rounded = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    std::memcpy(to + i * 2, &rounded, sizeof rounded);
  }
}

CAIRN_VECTOR_CLONES void WidenF16(const char* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    // Shifted into place and scaled by 2^(127-15): exact, denormals too; the top exponent by hand.
    const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t wide = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : scaled;
    to[i] = std::bit_cast<float>(wide | static_cast<uint32_t>(bits & 0x8000) << 16);
  }
}
/// Requires: settled NaN.
CAIRN_VECTOR_CLONES void NarrowF16(const float* from, char* to, size_t count) {
  constexpr uint32_t kLeastNormal = 0x38800000u, kTooLarge = 0x47800000u, kHalf = 0x3f000000u;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(from[i]), magnitude = bits & 0x7fffffffu;
    // To nearest, ties to even: of a normal number by adding below its last bit, of a denormal by
    // an addition to 0.5, whose last bit is worth as much as the smallest denormal.
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const float raised = std::bit_cast<float>(magnitude) + 0.5f;
    const uint32_t denormal = std::bit_cast<uint32_t>(raised) - kHalf;
    const uint32_t beyond = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < kLeastNormal ? denormal : normal;
    const uint32_t half = magnitude >= kTooLarge ? beyond : finite;
    const auto narrow = static_cast<uint16_t>(half | (bits >> 16 & 0x8000u));
    std::memcpy(to + i * 2, &narrow, sizeof narrow);
  }
}

void Load(DType dtype, const char* from, float* to, size_t count) {
  switch (dtype) {
    case DType::kBF16:
      return WidenBF16(from, to, count);
    case DType::kF16:
      return WidenF16(from, to, count);
    default:
      std::memcpy(to, from, count * sizeof(float));
  }
}
void Load(DType, const char* from, double* to, size_t count) {
  std::memcpy(to, from, count * sizeof(double));
}

void Store(DType dtype, const float* from, char* to, size_t count) {
  switch (dtype) {
    case DType::kBF16:
      return NarrowBF16(from, to, count);
    case DType::kF16:
      return NarrowF16(from, to, count);
    default:
      std::memcpy(to, from, count * sizeof(float));
  }
}
void Store(DType, const double* from, char* to, size_t count) {
  std::memcpy(to, from, count * sizeof(double));
}

double TotalOf(const std::vector<double>& weights) {
  double total = 0;
  for (double weight : weights) total += weight;
  return total;
}

/// `size`: bytes of one number. The two parts of a complex element are numbers like others.
template <typename Real>
void CombineAs(DType dtype, size_t size, const Recipe& recipe,
               std::span<const std::string_view> inputs, char* out) {
  alignas(64) Real sum[kBlock];
  alignas(64) Real input[kBlock];
  const bool average = recipe.method == Recipe::Method::kAverage;
  const auto total = static_cast<Real>(TotalOf(recipe.weights));
  const size_t numbers = inputs[0].size() / size;
  for (size_t at = 0; at < numbers; at += kBlock) {
    const size_t count = std::min(kBlock, numbers - at);
    for (size_t i = 0; i < inputs.size(); ++i) {
      Load(dtype, inputs[i].data() + at * size, input, count);
      const Step first = average ? Step::kScale : Step::kSet;
      const Step next = average ? Step::kAddScaled : Step::kApproach;
      Apply(i == 0 ? first : next, input, static_cast<Real>(recipe.weights[i]), sum, count);
    }
    if (average) Apply(Step::kDivide, input, total, sum, count);
    SettleNans(sum, count);
    Store(dtype, sum, out + at * size, count);
  }
}

}  // namespace

Combining HowCombined(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kC64:
    case DType::kC128:
      return Combining::kBlend;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return Combining::kNone;
    default:
      return Combining::kNewest;
  }
}

Status CheckRecipe(const Recipe& recipe) {
  for (double weight : recipe.weights) {
    const double size = std::abs(weight);
    if (size == 0 || (size >= kLeastWeight && size <= kMostWeight)) continue;
    return Status::Client("ERR a weight is 0 or a number of magnitude 1e-30 to 1e30");
  }
  const double total = std::abs(TotalOf(recipe.weights));
  if (recipe.method == Recipe::Method::kAverage && total < kLeastWeight) {
    return Status::Client("ERR the weights of an average add up to nothing");
  }
  return Status::Ok();
}

void Combine(DType dtype, const Recipe& recipe, std::span<const std::string_view> inputs,
             char* out) {
  CAIRN_CHECK(!inputs.empty() && inputs.size() == recipe.weights.size());
  switch (dtype) {
    case DType::kF64:
    case DType::kC128:
      return CombineAs<double>(dtype, sizeof(double), recipe, inputs, out);
    case DType::kF32:
    case DType::kC64:
      return CombineAs<float>(dtype, sizeof(float), recipe, inputs, out);
    default:
      return CombineAs<float>(dtype, DTypeSize(dtype), recipe, inputs, out);
  }
}

}  // namespace cairn::tensor

#include "tensor_module/plain_floats.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "tensor_module/vector_clones.h"

namespace cairn::tensor {

namespace {

typedef float Floats __attribute__((vector_size(kSumLanes * sizeof(float))));
typedef int32_t FloatMarks __attribute__((vector_size(kSumLanes * sizeof(int32_t))));
typedef uint32_t Words __attribute__((vector_size(kSumLanes * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kSumLanes * sizeof(uint16_t))));

constexpr int64_t kSizeBits = std::numeric_limits<int64_t>::max();  // all but the sign

// --- any processor ---

struct LoadF32 {
  static constexpr size_t kSize = 4;
  static inline __attribute__((always_inline)) void At(const char* from, Floats* out) {
    std::memcpy(out, from, sizeof *out);
  }
};
struct LoadBF16 {
  static constexpr size_t kSize = 2;
  static inline __attribute__((always_inline)) void At(const char* from, Floats* out) {
    Halves bits;
    std::memcpy(&bits, from, sizeof bits);
    const Words wide = __builtin_convertvector(bits, Words) << 16;
    std::memcpy(out, &wide, sizeof *out);
  }
};

template <typename Load, bool all>
inline __attribute__((always_inline)) void SumFloats(const char* from, size_t count,
                                                     BlockSums* out) {
  const Lanes none = {};
  const Floats nothing = {}, infinity = nothing + std::numeric_limits<float>::infinity();
  Lanes sum = none, l1 = none, squares = none;
  Floats low = infinity, high = -infinity;
  FloatMarks zeros = {};
  for (size_t i = 0; i < count; i += kSumLanes) {
    Floats given;
    Load::At(from + i * Load::kSize, &given);
    const Lanes value = __builtin_convertvector(given, Lanes);
    low = given < low ? given : low;
    high = given > high ? given : high;
    sum += value;
    squares += value * value;
    if constexpr (all) {
      zeros -= given == nothing;
      l1 += (Lanes)((Marks)value & kSizeBits);
    }
  }
  for (size_t i = 0; i < kSumLanes; ++i) out->zeros += zeros[i];
  AddUp(low, high, kSumLanes, sum, l1, squares, out);
}

template <typename Load>
inline __attribute__((always_inline)) double SpreadOfFloats(const char* from, size_t count,
                                                            double mean) {
  Lanes spread = {};
  for (size_t i = 0; i < count; i += kSumLanes) {
    Floats given;
    Load::At(from + i * Load::kSize, &given);
    const Lanes distance = __builtin_convertvector(given, Lanes) - mean;
    spread += distance * distance;
  }
  return Total(spread);
}

CAIRN_VECTOR_CLONES void FiguresOfF32(const char* from, size_t n, BlockSums* out) {
  SumFloats<LoadF32, false>(from, n, out);
}
CAIRN_VECTOR_CLONES void FiguresOfBF16(const char* from, size_t n, BlockSums* out) {
  SumFloats<LoadBF16, false>(from, n, out);
}
CAIRN_VECTOR_CLONES void SumsOfF32(const char* from, size_t n, BlockSums* out) {
  SumFloats<LoadF32, true>(from, n, out);
}
CAIRN_VECTOR_CLONES void SumsOfBF16(const char* from, size_t n, BlockSums* out) {
  SumFloats<LoadBF16, true>(from, n, out);
}
CAIRN_VECTOR_CLONES double SpreadOfF32(const char* from, size_t n, double mean) {
  return SpreadOfFloats<LoadF32>(from, n, mean);
}
CAIRN_VECTOR_CLONES double SpreadOfBF16(const char* from, size_t n, double mean) {
  return SpreadOfFloats<LoadBF16>(from, n, mean);
}

constexpr PlainFloatLoops kAnyProcessor = {
    "any", {FiguresOfF32, SumsOfF32, SpreadOfF32}, {FiguresOfBF16, SumsOfBF16, SpreadOfBF16}};

// --- AVX-512: sixteen floats at a time, converted by one instruction each eight ---

#if defined(__x86_64__)

#define CAIRN_AVX512 __attribute__((target("avx512f,popcnt")))

constexpr size_t kStep = 2 * kSumLanes;
constexpr __mmask16 kLowHalf = 0xff;
/// The processor's own look-ahead ends with each page of 4 KiB.
constexpr size_t kAheadBytes = 4096;

/// `keep`: which of the sixteen are there; zeros stand for the others.
template <bool half>
CAIRN_AVX512 inline __m512 Load512(const char* from, size_t at, __mmask16 keep) {
  if constexpr (half) {
    const auto* bits = reinterpret_cast<const __m128i*>(from + at * 2);
    const __m128i low = _mm_loadu_si128(bits);
    const __m128i high = keep == kLowHalf ? _mm_setzero_si128() : _mm_loadu_si128(bits + 1);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(keep, _mm512_maskz_cvtepu16_epi32(keep, both), 16));
  } else {
    return _mm512_maskz_loadu_ps(keep, from + at * 4);
  }
}

// With masks, for without them the compiler's own headers bring warnings of undefined registers.
CAIRN_AVX512 inline __m512d LowLanes(__m512 given) {
  return _mm512_maskz_cvtps_pd(
      0xff, (__m256)__builtin_shufflevector(given, given, 0, 1, 2, 3, 4, 5, 6, 7));
}
CAIRN_AVX512 inline __m512d HighLanes(__m512 given) {
  const __m512d as_doubles = _mm512_castps_pd(given);
  return _mm512_maskz_cvtps_pd(0xff,
                               _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xf, as_doubles, 1)));
}

struct Running512 {
  __m512 low, high;
  __m512d sum, l1, squares;
  int64_t zeros;
};

template <bool all>
CAIRN_AVX512 inline void AddLanes(__m512d value, Running512* run) {
  run->sum = _mm512_add_pd(run->sum, value);
  // The product of two floats is exact in F64: to round it or not is the same.
  run->squares = _mm512_fmadd_pd(value, value, run->squares);
  if constexpr (all) {
    const __m512i size =
        _mm512_maskz_and_epi64(0xff, _mm512_castpd_si512(value), _mm512_set1_epi64(kSizeBits));
    run->l1 = _mm512_add_pd(run->l1, _mm512_castsi512_pd(size));
  }
}

template <bool half, bool all>
CAIRN_AVX512 inline void AddStep(const char* from, size_t at, __mmask16 keep, Running512* run) {
  constexpr size_t kBytes = half ? 2 : 4;
  _mm_prefetch(from + at * kBytes + kAheadBytes, _MM_HINT_T0);
  const __m512 given = Load512<half>(from, at, keep);
  run->low = _mm512_mask_min_ps(run->low, keep, given, run->low);
  run->high = _mm512_mask_max_ps(run->high, keep, given, run->high);
  if constexpr (all) {
    const __mmask16 zeros = _mm512_mask_cmp_ps_mask(keep, given, _mm512_setzero_ps(), _CMP_EQ_OQ);
    run->zeros += _mm_popcnt_u32(zeros);
  }
  AddLanes<all>(LowLanes(given), run);
  AddLanes<all>(HighLanes(given), run);
}

template <bool half, bool all>
CAIRN_AVX512 void Sums512(const char* from, size_t count, BlockSums* out) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const __m512d none = _mm512_setzero_pd();
  Running512 run = {_mm512_set1_ps(kInfinity), _mm512_set1_ps(-kInfinity), none, none, none, 0};
  size_t at = 0;
  for (; at + kStep <= count; at += kStep) AddStep<half, all>(from, at, 0xffff, &run);
  if (at < count) AddStep<half, all>(from, at, kLowHalf, &run);
  alignas(64) float low[kStep], high[kStep];
  _mm512_store_ps(low, run.low);
  _mm512_store_ps(high, run.high);
  out->zeros = run.zeros;
  AddUp(low, high, kStep, (Lanes)run.sum, (Lanes)run.l1, (Lanes)run.squares, out);
}

constexpr PlainFloatLoops kLoops[] = {{"avx512f",
                                       {Sums512<false, false>, Sums512<false, true>, SpreadOfF32},
                                       {Sums512<true, false>, Sums512<true, true>, SpreadOfBF16}},
                                      kAnyProcessor};

#else

constexpr PlainFloatLoops kLoops[] = {kAnyProcessor};

#endif

}  // namespace

std::span<const PlainFloatLoops> PlainFloatLoopsHere() {
  const std::span<const PlainFloatLoops> all(kLoops);
#if defined(__x86_64__)
  static const bool has_avx512 = __builtin_cpu_supports("avx512f");
  if (!has_avx512) return all.subspan(1);
#endif
  return all;
}

}  // namespace cairn::tensor

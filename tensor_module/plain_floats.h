#pragma once

// Sums over blocks of F32 and BF16 without NaN and infinity: nearly all that comes, and read on
// each upload, so these loops are for speed, one set for each kind of processor. All make the same
// bits, and those that stats.cc makes of the same values in doubles: every number goes to the lane
// of its place, lanes add in F64 in order and are added up at the end. Pure; any thread.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace cairn::tensor {

/// Lanes are summed apart, which keeps the order of additions the same at every vector width.
inline constexpr size_t kSumLanes = 8;
typedef double Lanes __attribute__((vector_size(kSumLanes * sizeof(double))));
typedef int64_t Marks __attribute__((vector_size(kSumLanes * sizeof(int64_t))));

inline __attribute__((always_inline)) double Total(const Lanes& lanes) {
  double total = 0;
  for (size_t i = 0; i < kSumLanes; ++i) total += lanes[i];
  return total;
}
inline __attribute__((always_inline)) int64_t Total(const Marks& marks) {
  int64_t total = 0;
  for (size_t i = 0; i < kSumLanes; ++i) total += marks[i];
  return total;
}

/// What one pass tells of a block; `spread`, the sum of squared distances from the mean, takes a
/// second one.
struct BlockSums {
  int64_t nan = 0, inf = 0, zeros = 0;
  double min = std::numeric_limits<double>::infinity(), max = -min;
  double sum = 0, l1 = 0, squares = 0, spread = 0;
};

/// What lanes have come to. `low` and `high`: `count` numbers, the extremes so far.
inline __attribute__((always_inline)) void AddUp(const auto& low, const auto& high, size_t count,
                                                 const Lanes& sum, const Lanes& l1,
                                                 const Lanes& squares, BlockSums* out) {
  for (size_t i = 0; i < count; ++i) {
    out->min = std::min(out->min, static_cast<double>(low[i]));
    out->max = std::max(out->max, static_cast<double>(high[i]));
  }
  out->sum = Total(sum);
  out->l1 = Total(l1);
  out->squares = Total(squares);
}

/// The loops for one set of instructions. `count` is a multiple of kSumLanes, `from` need not be
/// aligned.
struct PlainFloatLoops {
  struct OfType {
    /// min, max, sum and squares.
    void (*figures)(const char* from, size_t count, BlockSums* out);
    /// zeros and l1 too.
    void (*sums)(const char* from, size_t count, BlockSums* out);
    double (*spread)(const char* from, size_t count, double mean);
  };
  const char* instructions;
  OfType f32, bf16;
};

/// Those that this processor can run, the fastest first; one at least.
std::span<const PlainFloatLoops> PlainFloatLoopsHere();

}  // namespace cairn::tensor

#pragma once

// One pass over a payload: counts, extremes, mean, deviation, norms, the search for NaN and
// infinities, and a histogram; and the comparison of two payloads. All sums are in F64 whatever the
// dtype, and elements that are not finite are counted but take no part in them. Own loops, written
// for the vectoriser: LibTorch's isfinite().all() ran at 0.64 GB/s where these reach memory speed,
// and its bf16 norm accumulates in bf16. Pure; any thread.

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "tensor_module/tensor.h"

namespace cairn::tensor {

struct Stats {
  uint64_t count = 0;  ///< elements
  uint64_t nan = 0;
  uint64_t inf = 0;
  uint64_t zeros = 0;  ///< of either sign
  // Over the finite elements; NaN when there are none.
  double min = 0, max = 0, mean = 0;
  double std = 0;  ///< with n-1 below the line, as torch.std; NaN for fewer than two
  double l1 = 0, l2 = 0;
};

/// What one pass tells of a piece of a payload; pieces are added up by Add.
struct ChunkFigures {
  uint64_t count = 0;       ///< elements; numbers for complex types, two an element
  uint64_t not_finite = 0;  ///< NaN or infinite
  // Over the finite ones; min > max when there are none.
  double min = kNoMinimum, max = -kNoMinimum, sum = 0, squares = 0;
  void Add(const ChunkFigures& other);
  static constexpr double kNoMinimum = std::numeric_limits<double>::infinity();
};
/// Requires: `bytes` holds whole elements. Cost: 2 to 14 GB/s on one core, F32 and BF16 the
/// fastest.
ChunkFigures ComputeFigures(DType dtype, std::string_view bytes);
/// Whether they cost little more than fetching the bytes from memory.
constexpr bool FiguresAreCheap(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16;
}

/// How two payloads of one dtype differ; pieces are added up.
struct Difference {
  uint64_t count = 0;                            ///< numbers, two for a complex element
  uint64_t changed = 0;                          ///< whose bits differ
  double squares = 0;                            ///< sum of squared differences of the finite ones
  double max = 0;                                ///< largest difference
  double dot = 0, a_squares = 0, b_squares = 0;  ///< for the cosine
  void Add(const Difference& other);
};
/// Requires: as many bytes in both, whole elements.
Difference Compare(DType dtype, std::string_view a, std::string_view b);

/// Most bins of a histogram.
inline constexpr uint64_t kMaxHistogramBins = 4096;

/// Every dtype but the complex ones. Cost: 1 to 14 GB/s on one core (bench/tensor_bench).
Stats ComputeStats(DType dtype, const Chunks& chunks);
/// Finite elements in `bins` bins of equal width from min to max, both ends included; one bin holds
/// all when min == max.
std::vector<uint64_t> Histogram(DType dtype, const Chunks& chunks, double min, double max,
                                size_t bins);
/// No NaN and no infinity; *index is the first element that has one. Any dtype. Cost: near memory
/// speed.
bool IsFinite(DType dtype, const Chunks& chunks, uint64_t* index);

/// Same dtype, shape and bytes, bit for bit.
bool IsIdentical(const Tensor& a, const Tensor& b);
/// |a - b| <= atol + rtol * |b| for every element, NaN equal to nothing, as torch.allclose; dtypes
/// may differ. Different shapes are not close.
bool IsClose(const Tensor& a, const Tensor& b, double rtol, double atol);

}  // namespace cairn::tensor

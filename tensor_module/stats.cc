#include "tensor_module/stats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor_module/numeric.h"
#include "tensor_module/plain_floats.h"
#include "tensor_module/vector_clones.h"

namespace cairn::tensor {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kBlock = 2048;  // doubles: 16 KiB, so both passes over a block hit the first cache

// --- a block as doubles ---

template <typename T>
inline __attribute__((always_inline)) void Widen(const char* from, double* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof(T), sizeof value);
    to[i] = static_cast<double>(value);
  }
}

CAIRN_VECTOR_CLONES void WidenF64(const char* from, double* to, size_t n) {
  Widen<double>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenF32(const char* from, double* to, size_t n) {
  Widen<float>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenI64(const char* from, double* to, size_t n) {
  Widen<int64_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenI32(const char* from, double* to, size_t n) {
  Widen<int32_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenI16(const char* from, double* to, size_t n) {
  Widen<int16_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenI8(const char* from, double* to, size_t n) {
  Widen<int8_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenU64(const char* from, double* to, size_t n) {
  Widen<uint64_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenU32(const char* from, double* to, size_t n) {
  Widen<uint32_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenU16(const char* from, double* to, size_t n) {
  Widen<uint16_t>(from, to, n);
}
CAIRN_VECTOR_CLONES void WidenU8(const char* from, double* to, size_t n) {
  Widen<uint8_t>(from, to, n);
}

CAIRN_VECTOR_CLONES void WidenBF16(const char* from, double* to, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    to[i] = std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
}

CAIRN_VECTOR_CLONES void WidenF16(const char* from, double* to, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    // Shifted into place and scaled by 2^(127-15): exact, denormals included. The top exponent is
    // moved by hand.
    const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t special = magnitude | 0x7f800000u;
    const uint32_t wide = magnitude >= 0x0f800000u ? special : scaled;
    to[i] = std::bit_cast<float>(wide | static_cast<uint32_t>(bits & 0x8000) << 16);
  }
}

void WidenSlowly(DType dtype, const char* from, double* to, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = LoadScalar(dtype, from + i * DTypeSize(dtype)).AsDouble();
}

void WidenBlock(DType dtype, const char* from, double* to, size_t n) {
  switch (dtype) {
    case DType::kF64:
      return WidenF64(from, to, n);
    case DType::kF32:
      return WidenF32(from, to, n);
    case DType::kF16:
      return WidenF16(from, to, n);
    case DType::kBF16:
      return WidenBF16(from, to, n);
    case DType::kI64:
      return WidenI64(from, to, n);
    case DType::kI32:
      return WidenI32(from, to, n);
    case DType::kI16:
      return WidenI16(from, to, n);
    case DType::kI8:
      return WidenI8(from, to, n);
    case DType::kU64:
      return WidenU64(from, to, n);
    case DType::kU32:
      return WidenU32(from, to, n);
    case DType::kU16:
      return WidenU16(from, to, n);
    case DType::kU8:
    case DType::kBool:
      return WidenU8(from, to, n);
    default:
      return WidenSlowly(dtype, from, to, n);
  }
}

/// Calls visit(bytes, count) for every block of a piece of the payload, as it lies there.
template <typename Visit>
void ForEachRawBlock(DType dtype, std::string_view bytes, Visit visit) {
  const size_t size = DTypeSize(dtype);
  const char* from = bytes.data();
  for (size_t left = bytes.size() / size; left > 0;) {
    const size_t count = std::min(left, kBlock);
    visit(from, count);
    from += count * size;
    left -= count;
  }
}

/// Calls visit(doubles, count) for each of them.
template <typename Visit>
void ForEachBlockOf(DType dtype, std::string_view bytes, Visit visit) {
  alignas(64) double block[kBlock];
  ForEachRawBlock(dtype, bytes, [&](const char* from, size_t count) {
    WidenBlock(dtype, from, block, count);
    visit(block, count);
  });
}

template <typename Visit>
void ForEachBlock(DType dtype, const Chunks& chunks, Visit visit) {
  for (const BlobSlice& chunk : chunks) ForEachBlockOf(dtype, chunk.view(), visit);
}

/// The two numbers of a complex element, each by itself.
DType PartsOf(DType dtype) {
  if (dtype == DType::kC64) return DType::kF32;
  return dtype == DType::kC128 ? DType::kF64 : dtype;
}

// --- statistics ---

/// `count` is a multiple of kSumLanes.
CAIRN_VECTOR_CLONES void SumBlock(const double* values, size_t count, BlockSums* out) {
  const Lanes zero = {}, infinity = zero + kInfinity;
  Lanes low = infinity, high = -infinity, sum = zero, l1 = zero, squares = zero;
  Marks nans = {}, infs = {}, zeros = {};
  for (size_t i = 0; i < count; i += kSumLanes) {
    Lanes value;
    std::memcpy(&value, values + i, sizeof value);
    const Lanes size = value < zero ? -value : value;
    const Marks finite = size < infinity;
    nans -= value != value;
    infs -= size == infinity;
    zeros -= value == zero;
    const Lanes kept = finite ? value : zero, kept_size = finite ? size : zero;
    const Lanes low_value = finite ? value : infinity, high_value = finite ? value : -infinity;
    low = low_value < low ? low_value : low;
    high = high_value > high ? high_value : high;
    sum += kept;
    l1 += kept_size;
    squares += kept * kept;
  }
  out->nan = Total(nans);
  out->inf = Total(infs);
  out->zeros = Total(zeros);
  AddUp(low, high, kSumLanes, sum, l1, squares, out);
}

/// Sum of squared distances from `mean` over the finite values.
CAIRN_VECTOR_CLONES double SpreadOfBlock(const double* values, size_t count, double mean) {
  const Lanes zero = {}, infinity = zero + kInfinity;
  Lanes spread = zero;
  for (size_t i = 0; i < count; i += kSumLanes) {
    Lanes value;
    std::memcpy(&value, values + i, sizeof value);
    const Lanes size = value < zero ? -value : value;
    const Lanes distance = size < infinity ? value - mean : zero;
    spread += distance * distance;
  }
  return Total(spread);
}

/// Running totals; mean and spread are merged block by block (Chan, Golub, LeVeque 1979), which
/// does not cancel as sum-of-squares minus square-of-sum does.
struct RunningSums {
  uint64_t finite = 0;
  double mean = 0, spread = 0, l1 = 0, squares = 0;
  void Merge(const BlockSums& block, uint64_t count) {
    if (count == 0) return;
    const double block_mean = block.sum / static_cast<double>(count);
    const double distance = block_mean - mean;
    const double before = static_cast<double>(finite), added = static_cast<double>(count);
    finite += count;
    const double total = static_cast<double>(finite);
    mean += distance * (added / total);
    spread += block.spread + distance * distance * (before * added / total);
    l1 += block.l1;
    squares += block.squares;
  }
};

// --- finite check ---

/// Some element has all bits of `mask` set.
template <typename Bits>
inline __attribute__((always_inline)) bool AnyMasked(const char* from, size_t count, Bits mask) {
  Bits any = 0;
  for (size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, from + i * sizeof(Bits), sizeof bits);
    any |= static_cast<Bits>((bits & mask) == mask);
  }
  return any != 0;
}
CAIRN_VECTOR_CLONES bool AnyMasked64(const char* from, size_t n, uint64_t mask) {
  return AnyMasked(from, n, mask);
}
CAIRN_VECTOR_CLONES bool AnyMasked32(const char* from, size_t n, uint32_t mask) {
  return AnyMasked(from, n, mask);
}
CAIRN_VECTOR_CLONES bool AnyMasked16(const char* from, size_t n, uint16_t mask) {
  return AnyMasked(from, n, mask);
}
CAIRN_VECTOR_CLONES bool AnyMasked8(const char* from, size_t n, uint8_t mask) {
  return AnyMasked(from, n, mask);
}

bool AnyNonFinite(DType dtype, const char* from, size_t bytes) {
  switch (dtype) {
    case DType::kF64:
    case DType::kC128:
      return AnyMasked64(from, bytes / 8, 0x7ff0000000000000u);
    case DType::kF32:
    case DType::kC64:
      return AnyMasked32(from, bytes / 4, 0x7f800000u);
    case DType::kF16:
      return AnyMasked16(from, bytes / 2, 0x7c00);
    case DType::kBF16:
      return AnyMasked16(from, bytes / 2, 0x7f80);
    case DType::kF8E4M3:
      return AnyMasked8(from, bytes, 0x7f);
    case DType::kF8E5M2:
      return AnyMasked8(from, bytes, 0x7c);
    default:
      return false;
  }
}

/// The spread, out of the other sums, where that loses no more than ten bits to cancellation: of
/// numbers around zero it loses none, and of such are nearly all. False: a pass of its own must
/// tell.
bool SpreadOfSums(uint64_t count, BlockSums* sums) {
  constexpr double kLeastShare = 0x1p-10;
  const double spread = sums->squares - sums->sum * (sums->sum / static_cast<double>(count));
  if (!std::isfinite(sums->squares) || !(spread >= sums->squares * kLeastShare)) return false;
  sums->spread = spread;
  return true;
}

/// False: the block is not one of floats without NaN and infinity, and `sums` is nothing.
bool SumPlainFloats(DType dtype, const char* from, size_t count, bool all, BlockSums* sums) {
  if (!FiguresAreCheap(dtype) || count % kSumLanes != 0) return false;
  const PlainFloatLoops& best = PlainFloatLoopsHere().front();
  const PlainFloatLoops::OfType& loops = dtype == DType::kF32 ? best.f32 : best.bf16;
  (all ? loops.sums : loops.figures)(from, count, sums);
  // Squares of floats do not overflow, so one that is not finite makes their sum so.
  if (!std::isfinite(sums->squares)) return false;
  if (all && !SpreadOfSums(count, sums)) {
    sums->spread = loops.spread(from, count, sums->sum / static_cast<double>(count));
  }
  return true;
}

BlockSums SumsOfDoubles(DType dtype, const char* from, size_t count, bool all) {
  BlockSums sums;
  alignas(64) double block[kBlock];
  WidenBlock(dtype, from, block, count);
  const size_t padded = (count + kSumLanes - 1) / kSumLanes * kSumLanes;
  std::fill(block + count, block + padded, kNan);
  SumBlock(block, padded, &sums);
  sums.nan -= static_cast<int64_t>(padded - count);
  const uint64_t finite = count - static_cast<uint64_t>(sums.nan + sums.inf);
  if (all && finite > 0 && !SpreadOfSums(finite, &sums)) {
    sums.spread = SpreadOfBlock(block, padded, sums.sum / static_cast<double>(finite));
  }
  return sums;
}

/// Sums of `count` <= kBlock elements at `from`. `all`: zeros, L1 and spread too.
BlockSums SumsOf(DType dtype, const char* from, size_t count, bool all) {
  BlockSums sums;
  if (!SumPlainFloats(dtype, from, count, all, &sums))
    sums = SumsOfDoubles(dtype, from, count, all);
  // Which of two zeros is the smaller one is a matter of their order, and the lanes'.
  sums.min += 0.0;
  sums.max += 0.0;
  return sums;
}

bool IsCloseElement(DType a_type, const char* a, DType b_type, const char* b, double rtol,
                    double atol) {
  const size_t parts = std::max(ScalarsPerElement(a_type), ScalarsPerElement(b_type));
  double distance2 = 0, size2 = 0;
  bool same = true;
  for (size_t part = 0; part < parts; ++part) {
    const double x = part < ScalarsPerElement(a_type) ? LoadScalar(a_type, a, part).AsDouble() : 0;
    const double y = part < ScalarsPerElement(b_type) ? LoadScalar(b_type, b, part).AsDouble() : 0;
    same = same && x == y;
    distance2 += (x - y) * (x - y);
    size2 += y * y;
  }
  if (same) return true;  // infinities of one sign
  return std::isfinite(distance2) && std::sqrt(distance2) <= atol + rtol * std::sqrt(size2);
}

}  // namespace

Stats ComputeStats(DType dtype, const Chunks& chunks) {
  Stats stats;
  RunningSums sums;
  stats.min = kInfinity;
  stats.max = -kInfinity;
  for (const BlobSlice& chunk : chunks) {
    ForEachRawBlock(dtype, chunk.view(), [&](const char* from, size_t count) {
      const BlockSums block = SumsOf(dtype, from, count, /*all=*/true);
      sums.Merge(block, count - static_cast<uint64_t>(block.nan + block.inf));
      stats.count += count;
      stats.nan += static_cast<uint64_t>(block.nan);
      stats.inf += static_cast<uint64_t>(block.inf);
      stats.zeros += static_cast<uint64_t>(block.zeros);
      stats.min = std::min(stats.min, block.min);
      stats.max = std::max(stats.max, block.max);
    });
  }
  stats.l1 = sums.l1;
  stats.l2 = std::sqrt(sums.squares);
  stats.mean = sums.finite > 0 ? sums.mean : kNan;
  stats.std =
      sums.finite > 1 ? std::sqrt(sums.spread / static_cast<double>(sums.finite - 1)) : kNan;
  if (sums.finite == 0) stats.min = stats.max = kNan;
  return stats;
}

void ChunkFigures::Add(const ChunkFigures& other) {
  count += other.count;
  not_finite += other.not_finite;
  min = std::min(min, other.min);
  max = std::max(max, other.max);
  sum += other.sum;
  squares += other.squares;
}

ChunkFigures ComputeFigures(DType dtype, std::string_view bytes) {
  ChunkFigures figures;
  const DType part = PartsOf(dtype);
  ForEachRawBlock(part, bytes, [&](const char* from, size_t count) {
    const BlockSums block = SumsOf(part, from, count, /*all=*/false);
    const auto bad = static_cast<uint64_t>(block.nan + block.inf);
    figures.Add({count, bad, block.min, block.max, block.sum, block.squares});
  });
  return figures;
}

void Difference::Add(const Difference& other) {
  count += other.count;
  changed += other.changed;
  squares += other.squares;
  max = std::max(max, other.max);
  dot += other.dot;
  a_squares += other.a_squares;
  b_squares += other.b_squares;
}

Difference Compare(DType dtype, std::string_view a, std::string_view b) {
  const DType part = PartsOf(dtype);
  const size_t size = DTypeSize(part);
  Difference out;
  alignas(64) double other[kBlock];
  size_t at = 0;
  ForEachBlockOf(part, a, [&](const double* block, size_t count) {
    WidenBlock(part, b.data() + at, other, count);
    for (size_t i = 0; i < count; ++i) {
      out.changed += std::memcmp(a.data() + at + i * size, b.data() + at + i * size, size) != 0;
      const double x = block[i], y = other[i];
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      out.squares += (x - y) * (x - y);
      out.max = std::max(out.max, std::abs(x - y));
      out.dot += x * y;
      out.a_squares += x * x;
      out.b_squares += y * y;
    }
    out.count += count;
    at += count * size;
  });
  return out;
}

std::vector<uint64_t> Histogram(DType dtype, const Chunks& chunks, double min, double max,
                                size_t bins) {
  std::vector<uint64_t> counts(bins, 0);
  // Halved, so that the whole range of F64 does not overflow.
  const double width = max / 2 - min / 2;
  ForEachBlock(dtype, chunks, [&](const double* block, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const double value = block[i];
      if (!(value >= min && value <= max)) continue;
      const double place =
          width > 0 ? (value / 2 - min / 2) / width * static_cast<double>(bins) : 0;
      ++counts[std::min(static_cast<size_t>(place), bins - 1)];
    }
  });
  return counts;
}

bool IsFinite(DType dtype, const Chunks& chunks, uint64_t* index) {
  const size_t size = DTypeSize(dtype);
  uint64_t base = 0;
  for (const BlobSlice& chunk : chunks) {
    const char* from = chunk.view().data();
    if (AnyNonFinite(dtype, from, chunk.size)) {
      size_t at = 0;
      while (!IsNonFinite(dtype, from + at * size)) ++at;
      *index = base + at;
      return false;
    }
    base += chunk.size / size;
  }
  return true;
}

bool IsIdentical(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  for (size_t i = 0; i < a.chunks().size(); ++i) {
    const BlobSlice &x = a.chunks()[i], &y = b.chunks()[i];
    const bool shared = x.blob.get() == y.blob.get() && x.offset == y.offset;
    if (!shared && x.view() != y.view()) return false;
  }
  return true;
}

bool IsClose(const Tensor& a, const Tensor& b, double rtol, double atol) {
  if (a.shape() != b.shape()) return false;
  const size_t a_size = DTypeSize(a.dtype()), b_size = DTypeSize(b.dtype());
  const auto at = [](const Tensor& tensor, uint64_t byte) {
    return tensor.chunks()[byte / kChunkBytes].view().data() + byte % kChunkBytes;
  };
  for (uint64_t i = 0; i < a.numel(); ++i) {
    if (!IsCloseElement(a.dtype(), at(a, i * a_size), b.dtype(), at(b, i * b_size), rtol, atol))
      return false;
  }
  return true;
}

}  // namespace cairn::tensor

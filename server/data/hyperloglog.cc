#include "server/data/hyperloglog.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "server/base/check.h"

namespace cairn::hyperloglog {
namespace {

constexpr std::string_view kMagic = "HYLL";
constexpr size_t kEncodingAt = 4, kCountAt = 8;
constexpr uint8_t kCountStale = 0x80;  // in the highest byte of the count
constexpr uint64_t kHashSeed = 0xadc83b19;
constexpr int kHashTailBits = 64 - kIndexBits;  // 50
constexpr uint8_t kRegisterMask = (1 << kRegisterBits) - 1;
constexpr size_t kHistogramSize = size_t{1} << kRegisterBits;
using Histogram = std::array<uint32_t, kHistogramSize>;
constexpr double kAlphaInfinity = 0.721347520444481703680;  // 1 / (2 ln 2), Ertl

constexpr size_t kMaxZeroRun = 64, kMaxValueRun = 4;
constexpr uint8_t kMaxRunValue = 32;

Status Corrupt() {
  return {StatusCode::kCorruption, "HyperLogLog runs do not make 16384 registers"};
}

// --- hash ------------------------------------------------------------------------------------

uint64_t LoadLittle64(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

void StoreLittle64(uint64_t word, char* at) {
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  std::memcpy(at, &word, sizeof word);
}

/// MurmurHash2's 64-bit variant, which files depend on.
uint64_t Hash(std::string_view bytes) {
  constexpr uint64_t kFactor = 0xc6a4a7935bd1e995;
  constexpr int kShift = 47;
  uint64_t hash = kHashSeed ^ (bytes.size() * kFactor);
  const size_t whole = bytes.size() / 8 * 8;
  for (size_t i = 0; i < whole; i += 8) {
    uint64_t word = LoadLittle64(bytes.data() + i) * kFactor;
    word ^= word >> kShift;
    hash = (hash ^ word * kFactor) * kFactor;
  }
  if (whole != bytes.size()) {
    for (size_t i = bytes.size(); i > whole; --i)
      hash ^= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i - 1])) << (8 * (i - 1 - whole));
    hash *= kFactor;
  }
  hash = (hash ^ hash >> kShift) * kFactor;
  return hash ^ hash >> kShift;
}

// --- registers, eight at a time --------------------------------------------------------------

constexpr size_t kGroup = 8, kGroupBytes = kGroup * kRegisterBits / 8;

/// Eight registers of a dense string as the bytes of a word, the first lowest. Requires: a header
/// ahead of `at`, which is read too, so that nothing behind the last group is.
uint64_t LoadGroup(const char* at) {
  uint64_t bits = LoadLittle64(at - 2) >> 16;
  bits = (bits & 0xffffff) | (bits & 0xffffff000000) << 8;
  bits = (bits & 0xfff00000fff) | (bits & 0xfff00000fff000) << 4;
  return (bits & 0x3f003f003f003f) | (bits & 0xfc00fc00fc00fc0) << 2;
}

void StoreGroup(uint64_t group, char* at) {
  uint64_t bits = (group & 0x3f003f003f003f) | (group & 0x3f003f003f003f00) >> 2;
  bits = (bits & 0xfff00000fff) | (bits & 0xfff00000fff0000) >> 4;
  bits = (bits & 0xffffff) | (bits & 0xffffff00000000) >> 8;
  for (size_t i = 0; i < kGroupBytes; ++i) at[i] = static_cast<char>(bits >> (8 * i));
}

/// The greater of each two bytes, none of which is above 63.
uint64_t GreaterOfBytes(uint64_t a, uint64_t b) {
  constexpr uint64_t kTopBits = 0x8080808080808080;
  const uint64_t not_less = ((a | kTopBits) - b) & kTopBits;  // top bit: a >= b
  const uint64_t from_a = (not_less >> 7) * 0xff;
  return (a & from_a) | (b & ~from_a);
}

/// How many registers have each value.
class Tally {
 public:
  void Add(uint64_t group) {
    if (group == 0) {
      parts_[0][0] += kGroup;
      return;
    }
    // Neighbours are often equal: counted in one place, each would wait for the one before.
    for (size_t i = 0; i < kGroup; ++i) ++parts_[i % kParts][group >> (8 * i) & 0xff];
  }
  Histogram Sum() const {
    Histogram sum{};
    for (const Histogram& part : parts_) {
      for (size_t value = 0; value < sum.size(); ++value) sum[value] += part[value];
    }
    return sum;
  }

 private:
  static constexpr size_t kParts = 4;
  std::array<Histogram, kParts> parts_{};
};

// --- runs of the sparse form -----------------------------------------------------------------

struct Run {
  uint8_t value = 0;  // 0: zero and xzero
  size_t length = 0;
  size_t bytes = 0;  // 1, or 2 for xzero
};

/// The run at `at`; length 0 when it is cut off.
Run ReadRun(std::string_view bytes, size_t at) {
  const uint8_t byte = static_cast<uint8_t>(bytes[at]);
  if (byte & 0x80) return {static_cast<uint8_t>((byte >> 2 & 0x1f) + 1), size_t{byte & 3u} + 1, 1};
  if (!(byte & 0x40)) return {0, size_t{byte & 0x3fu} + 1, 1};
  if (at + 1 >= bytes.size()) return {};
  return {0, (size_t{byte & 0x3fu} << 8 | static_cast<uint8_t>(bytes[at + 1])) + 1, 2};
}

/// The lengths of runs of one byte; 0 for the first byte of longer ones.
constexpr auto kShortRunLengths = [] {
  std::array<uint8_t, 256> lengths{};
  for (size_t byte = 0; byte < 0x40; ++byte) lengths[byte] = static_cast<uint8_t>(byte + 1);
  for (size_t byte = 0x80; byte < 0x100; ++byte) lengths[byte] = (byte & 3) + 1;
  return lengths;
}();

void AppendZeros(std::string* out, size_t length) {
  if (length == 0) return;
  const size_t coded = length - 1;
  if (length > kMaxZeroRun) {
    out->push_back(static_cast<char>(0x40 | coded >> 8));
    out->push_back(static_cast<char>(coded & 0xff));
  } else {
    out->push_back(static_cast<char>(coded));
  }
}

char ValueRun(uint8_t value, size_t length) {
  return static_cast<char>(0x80 | (value - 1) << 2 | static_cast<int>(length - 1));
}

void AppendValues(std::string* out, uint8_t value, size_t length) {
  if (length != 0) out->push_back(ValueRun(value, length));
}

/// visit(first register, Run) for each run. Errors: kCorruption when they do not make all
/// registers.
template <typename Visit>
Status ForEachRun(std::string_view bytes, Visit&& visit) {
  size_t index = 0;
  for (size_t at = kHeaderBytes; at < bytes.size();) {
    const Run run = ReadRun(bytes, at);
    if (run.length == 0 || index + run.length > kRegisters) return Corrupt();
    visit(index, run);
    index += run.length;
    at += run.bytes;
  }
  return index == kRegisters ? Status::Ok() : Corrupt();
}

/// Joins neighbouring value runs of one value, from the run before the change on. It looks at as
/// many runs as a change can have made neighbours, and no further, so that the bytes are Redis's.
void JoinRuns(std::string* bytes, size_t at) {
  constexpr int kRunsLookedAt = 5;
  for (int i = 0; i < kRunsLookedAt && at < bytes->size(); ++i) {
    const Run run = ReadRun(*bytes, at);
    if (run.length == 0) return;
    if (run.value != 0 && at + 1 < bytes->size()) {
      const Run next = ReadRun(*bytes, at + 1);
      if (next.value == run.value && run.length + next.length <= kMaxValueRun) {
        (*bytes)[at + 1] = ValueRun(run.value, run.length + next.length);
        bytes->erase(at, 1);
        continue;  // the joined run may join with what follows
      }
    }
    at += run.bytes;
  }
}

Result<bool> RaiseAfterMakingDense(std::string* bytes, Observation seen) {
  CAIRN_RETURN_IF_ERROR(MakeDense(bytes));
  const bool raised = RaiseDense(bytes->data(), seen);
  return raised;
}

Result<bool> RaiseSparse(std::string* bytes, Observation seen, size_t sparse_max_bytes) {
  if (seen.value > kMaxRunValue) return RaiseAfterMakingDense(bytes, seen);
  size_t first = 0, at = kHeaderBytes, before = kHeaderBytes;
  Run run;
  for (;;) {
    if (at >= bytes->size()) return Corrupt();
    size_t length = kShortRunLengths[static_cast<uint8_t>((*bytes)[at])];
    const bool is_short = length != 0;
    if (!is_short) length = ReadRun(*bytes, at).length;
    if (length == 0) return Corrupt();
    if (seen.index < first + length) break;
    before = at;
    at += is_short ? 1 : 2;
    first += length;
  }
  run = ReadRun(*bytes, at);
  if (run.value >= seen.value) return false;

  if (run.length == 1 && run.bytes == 1) {
    (*bytes)[at] = ValueRun(seen.value, 1);
  } else {
    std::string split;
    const size_t ahead = seen.index - first, behind = first + run.length - 1 - seen.index;
    run.value == 0 ? AppendZeros(&split, ahead) : AppendValues(&split, run.value, ahead);
    AppendValues(&split, seen.value, 1);
    run.value == 0 ? AppendZeros(&split, behind) : AppendValues(&split, run.value, behind);
    if (split.size() > run.bytes && bytes->size() + split.size() - run.bytes > sparse_max_bytes)
      return RaiseAfterMakingDense(bytes, seen);
    bytes->replace(at, run.bytes, split);
  }
  JoinRuns(bytes, before);
  ForgetEstimate(bytes->data());
  return true;
}

// --- estimate --------------------------------------------------------------------------------

double Sigma(double x) {
  if (x == 1.0) return std::numeric_limits<double>::infinity();
  double y = 1, z = x, before;
  do {
    x *= x;
    before = z;
    z += x * y;
    y += y;
  } while (before != z);
  return z;
}

double Tau(double x) {
  if (x == 0.0 || x == 1.0) return 0.0;
  double y = 1.0, z = 1 - x, before;
  do {
    x = std::sqrt(x);
    before = z;
    y *= 0.5;
    z -= std::pow(1 - x, 2) * y;
  } while (before != z);
  return z / 3;
}

uint64_t EstimateFrom(const Histogram& counts) {
  const double m = kRegisters;
  double z = m * Tau((m - counts[kHashTailBits + 1]) / m);
  for (size_t j = kHashTailBits; j >= 1; --j) {
    z += counts[j];
    z *= 0.5;
  }
  z += m * Sigma(counts[0] / m);
  return static_cast<uint64_t>(std::llround(kAlphaInfinity * m * m / z));
}

}  // namespace

std::string Empty() {
  std::string bytes(kHeaderBytes, '\0');
  bytes.replace(0, kMagic.size(), kMagic);
  bytes[kEncodingAt] = static_cast<char>(Encoding::kSparse);
  AppendZeros(&bytes, kRegisters);
  return bytes;
}

bool HasValidHeader(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic)) return false;
  const uint8_t encoding = static_cast<uint8_t>(bytes[kEncodingAt]);
  if (encoding == static_cast<uint8_t>(Encoding::kDense)) return bytes.size() == kDenseBytes;
  return encoding == static_cast<uint8_t>(Encoding::kSparse);
}

Encoding EncodingOf(std::string_view bytes) { return static_cast<Encoding>(bytes[kEncodingAt]); }

Observation Observe(std::string_view element) {
  const uint64_t hash = Hash(element);
  // A bit past the end bounds the run where all 50 bits are zero.
  const uint64_t tail = hash >> kIndexBits | uint64_t{1} << kHashTailBits;
  return {static_cast<uint32_t>(hash & (kRegisters - 1)),
          static_cast<uint8_t>(std::countr_zero(tail) + 1)};
}

uint8_t DenseRegister(std::string_view bytes, size_t index) {
  const size_t bit = index * kRegisterBits;
  const char* at = bytes.data() + kHeaderBytes + bit / 8;
  const unsigned low = static_cast<uint8_t>(at[0]);
  const bool last_byte = bit % 8 <= 8 - kRegisterBits;  // the register ends in this byte
  const unsigned high = last_byte ? 0 : static_cast<uint8_t>(at[1]);
  return static_cast<uint8_t>((low | high << 8) >> bit % 8) & kRegisterMask;
}

bool RaiseDense(char* bytes, Observation seen) {
  if (DenseRegister({bytes, kDenseBytes}, seen.index) >= seen.value) return false;
  const size_t bit = seen.index * kRegisterBits;
  uint8_t* at = reinterpret_cast<uint8_t*>(bytes) + kHeaderBytes + bit / 8;
  const unsigned shift = bit % 8;
  at[0] = static_cast<uint8_t>((at[0] & ~(kRegisterMask << shift)) | seen.value << shift);
  if (shift > 8 - kRegisterBits) {
    at[1] =
        static_cast<uint8_t>((at[1] & ~(kRegisterMask >> (8 - shift))) | seen.value >> (8 - shift));
  }
  return true;
}

Result<bool> Raise(std::string* bytes, Observation seen, size_t sparse_max_bytes) {
  if (EncodingOf(*bytes) == Encoding::kSparse) return RaiseSparse(bytes, seen, sparse_max_bytes);
  const bool raised = RaiseDense(bytes->data(), seen);
  return raised;
}

Status MakeDense(std::string* bytes) {
  if (EncodingOf(*bytes) == Encoding::kDense) return Status::Ok();
  std::string dense(kDenseBytes, '\0');
  dense.replace(0, kHeaderBytes, *bytes, 0, kHeaderBytes);
  dense[kEncodingAt] = static_cast<char>(Encoding::kDense);
  Registers registers{};
  CAIRN_RETURN_IF_ERROR(MergeInto(*bytes, &registers));
  StoreDense(registers, dense.data());
  *bytes = std::move(dense);
  return Status::Ok();
}

Status MergeInto(std::string_view bytes, Registers* max) {
  if (EncodingOf(bytes) == Encoding::kSparse) {
    return ForEachRun(bytes, [max](size_t first, const Run& run) {
      for (size_t i = first; run.value != 0 && i < first + run.length; ++i)
        (*max)[i] = std::max((*max)[i], run.value);
    });
  }
  const char* at = bytes.data() + kHeaderBytes;
  for (size_t i = 0; i < kRegisters; i += kGroup, at += kGroupBytes) {
    char* group = reinterpret_cast<char*>(max->data() + i);
    StoreLittle64(GreaterOfBytes(LoadLittle64(group), LoadGroup(at)), group);
  }
  return Status::Ok();
}

void StoreDense(const Registers& registers, char* bytes) {
  char* at = bytes + kHeaderBytes;
  for (size_t i = 0; i < kRegisters; i += kGroup, at += kGroupBytes)
    StoreGroup(LoadLittle64(reinterpret_cast<const char*>(registers.data() + i)), at);
}

Result<uint64_t> Estimate(std::string_view bytes) {
  if (EncodingOf(bytes) == Encoding::kSparse) {
    Histogram counts{};
    CAIRN_RETURN_IF_ERROR(ForEachRun(bytes, [&counts](size_t, const Run& run) {
      counts[run.value] += static_cast<uint32_t>(run.length);
    }));
    return EstimateFrom(counts);
  }
  Tally tally;
  const char* at = bytes.data() + kHeaderBytes;
  for (size_t i = 0; i < kRegisters; i += kGroup, at += kGroupBytes) tally.Add(LoadGroup(at));
  return EstimateFrom(tally.Sum());
}

uint64_t Estimate(const Registers& registers) {
  Tally tally;
  for (size_t i = 0; i < kRegisters; i += kGroup)
    tally.Add(LoadLittle64(reinterpret_cast<const char*>(registers.data() + i)));
  return EstimateFrom(tally.Sum());
}

std::optional<uint64_t> CachedEstimate(std::string_view bytes) {
  if (static_cast<uint8_t>(bytes[kCountAt + 7]) & kCountStale) return std::nullopt;
  return LoadLittle64(bytes.data() + kCountAt);
}

void StoreEstimate(char* bytes, uint64_t estimate) {
  for (size_t i = 0; i < 8; ++i) bytes[kCountAt + i] = static_cast<char>(estimate >> (8 * i));
}

void ForgetEstimate(char* bytes) {
  bytes[kCountAt + 7] = static_cast<char>(static_cast<uint8_t>(bytes[kCountAt + 7]) | kCountStale);
}

std::string Describe(std::string_view bytes) {
  CAIRN_CHECK(EncodingOf(bytes) == Encoding::kSparse);
  std::string text;
  for (size_t at = kHeaderBytes; at < bytes.size();) {
    const Run run = ReadRun(bytes, at);
    if (run.length == 0) break;  // cut off
    if (!text.empty()) text += ' ';
    if (run.value != 0) {
      text += "v:" + std::to_string(run.value) + ',' + std::to_string(run.length);
    } else {
      text += (run.bytes == 1 ? "z:" : "Z:") + std::to_string(run.length);
    }
    at += run.bytes;
  }
  return text;
}

}  // namespace cairn::hyperloglog

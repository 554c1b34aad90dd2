#pragma once

// HyperLogLog: an estimate of how many different elements were seen, in a string of the layout that
// Redis stores, byte for byte, so that dumps cross in both directions. These functions work on such
// strings; keys and replies are the commands'. Any thread.
//
//   string   := "HYLL" encoding(1) 0 0 0 count(8, little-endian) registers
//   encoding := 0 dense | 1 sparse
//   count    := the last estimate; bit 63 set: registers changed since, it does not hold
//   dense    := 16,384 registers of 6 bits, lowest bits first
//   sparse   := run*, together 16,384 registers:
//               00nnnnnn           n+1 registers that are 0           ("zero", up to 64)
//               01nnnnnn nnnnnnnn  n+1 registers that are 0           ("xzero", up to 16,384)
//               1vvvvvnn           n+1 registers with the value v+1   ("val", up to 4 of 1..32)
//
// Worked example: an empty one is 48 59 4c 4c 01 000000 0000000000000000 7f ff: one xzero of
// 16,384.
//
// An element's hash chooses a register by its low 14 bits; the register keeps the longest run of
// zeros (plus 1) seen in the other 50. Sources: Redis 7.0 PFADD (layout, hash, limits); O. Ertl,
// "New cardinality estimation algorithms for HyperLogLog sketches", arXiv 1702.01284 (estimator).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/base/status.h"

namespace cairn::hyperloglog {

inline constexpr int kIndexBits = 14;
inline constexpr size_t kRegisters = size_t{1} << kIndexBits;
inline constexpr int kRegisterBits = 6;
inline constexpr size_t kHeaderBytes = 16;
inline constexpr size_t kDenseBytes = kHeaderBytes + kRegisters * kRegisterBits / 8;

enum class Encoding : uint8_t { kDense = 0, kSparse = 1 };

/// Every register unpacked: what merging and counting of several keys work on.
using Registers = std::array<uint8_t, kRegisters>;

/// What one element asks for: register `index` is at least `value` (1..51).
struct Observation {
  uint32_t index;
  uint8_t value;
};

/// A new, empty string: sparse, 18 bytes.
std::string Empty();
/// Whether the header is that of a HyperLogLog and a dense one has its full length. Says nothing of
/// the runs of a sparse one.
bool HasValidHeader(std::string_view bytes);
/// Requires of this and all below: HasValidHeader(bytes).
Encoding EncodingOf(std::string_view bytes);

Observation Observe(std::string_view element);

/// Raises a register of a dense string. Returns whether it was lower. Does not touch the count.
bool RaiseDense(char* bytes, Observation seen);
/// Value of a register of a dense string, 0..63.
uint8_t DenseRegister(std::string_view bytes, size_t index);
/// Raises a register of a string of either encoding; a sparse one becomes dense when it would pass
/// `sparse_max_bytes` or the value does not fit a run. Returns whether anything changed.
/// Errors: kCorruption when the runs do not add up. Cost: O(size) for sparse ones.
Result<bool> Raise(std::string* bytes, Observation seen, size_t sparse_max_bytes);

/// Errors: kCorruption as above; *bytes is untouched then.
Status MakeDense(std::string* bytes);
/// max[i] = max(max[i], register i), where max[i] is at most 63. Errors: kCorruption.
Status MergeInto(std::string_view bytes, Registers* max);
/// Writes every register of a dense string, each at most 63. Does not touch the count.
void StoreDense(const Registers& registers, char* bytes);

/// The estimate. Errors: kCorruption. Cost: about 10 us for a dense one.
Result<uint64_t> Estimate(std::string_view bytes);
uint64_t Estimate(const Registers& registers);

/// The stored estimate while it holds.
std::optional<uint64_t> CachedEstimate(std::string_view bytes);
void StoreEstimate(char* bytes, uint64_t estimate);
void ForgetEstimate(char* bytes);

/// The runs of a sparse string as PFDEBUG DECODE shows them, whatever they add up to:
/// "z:3 v:2,1 Z:16380".
std::string Describe(std::string_view bytes);

}  // namespace cairn::hyperloglog

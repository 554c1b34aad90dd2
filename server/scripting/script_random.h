#pragma once

// ScriptRandom: the numbers of math.random: rand48, the same on every machine, and one sequence for
// all scripts and functions, which goes on from run to run until a script seeds it. Not for
// secrets. Thread: executor.

#include <cstdint>

namespace cairn {

/// Source: rand.c of Redis 7.0, after drand48 of BSD.
class ScriptRandom {
 public:
  static constexpr int32_t kMax = INT32_MAX;
  void Seed(int32_t seed) {
    state_ = (static_cast<uint64_t>(static_cast<uint32_t>(seed)) << 16) | kSeedLow;
  }
  /// 0 .. 2^31 - 1.
  int32_t Next() {
    state_ = (state_ * 0x5DEECE66D + 0xB) & ((uint64_t{1} << 48) - 1);
    return static_cast<int32_t>(state_ >> 17);
  }

 private:
  static constexpr uint64_t kSeedLow = 0x330E;
  uint64_t state_ = 0x1234ABCD330E;
};

}  // namespace cairn

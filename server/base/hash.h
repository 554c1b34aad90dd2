#pragma once

// The hash of the tables: XXH3-64 with a seed, compiled into the caller because keys are short and
// a call would cost as much as the hash. The value depends on the seed of the process and never
// leaves it; what is written to a file or the wire is in checksum.h, included here. Pure; any
// thread.

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <string_view>

#include "server/base/checksum.h"

namespace cairn {

/// 64 well-mixed bits. `seed` is drawn at random by the owner at start, so that clients cannot
/// choose colliding keys. Cost: 6-7 ns for 8-64 bytes.
inline uint64_t HashBytes(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

/// The next of a sequence of well-mixed numbers (splitmix64). Any state will do; not for secrets.
inline uint64_t NextRandom(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15;
  uint64_t mixed = (*state ^ *state >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return mixed ^ mixed >> 31;
}

}  // namespace cairn

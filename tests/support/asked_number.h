#pragma once

// AskedNumber: how long a test goes on, or where it begins, by an environment variable.

#include <cstdint>
#include <cstdlib>

namespace cairn {

inline uint64_t AskedNumber(const char* variable, uint64_t otherwise) {
  const char* asked = std::getenv(variable);
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : otherwise;
}

}  // namespace cairn

#pragma once

// CAIRN_CHECK: the one way a programmer's error ends the process. It is always on, in release too:
// a store that goes on after a broken invariant writes the damage to disk. Not for operating errors
// (Status) and not for what a client sends.

#include <cstdio>
#include <cstdlib>

namespace cairn {

/// Prints the failed condition with its place to standard error and aborts. The crash handler that
/// server/app installs turns the abort into the crash report of the log.
[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "CAIRN_CHECK failed: %s at %s:%d\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace cairn

#define CAIRN_CHECK(condition)                              \
  do {                                                      \
    if (!(condition)) [[unlikely]]                          \
      ::cairn::CheckFailed(#condition, __FILE__, __LINE__); \
  } while (0)

#pragma once

// CheckAof: `cairn-check aof PATH [--fix]`. Reads a manifest, a directory that holds one, or a single
// append-only file, prints a verdict and offsets for each file, and with `fix` cuts the tail of the last
// file. Never starts a server and never applies a command. Single-threaded.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include "server/base/status.h"

namespace cairn {

class Env;

struct CheckAofOptions {
  bool fix = false;  ///< cut a torn or corrupt tail of the last file; asks nothing
  /// Checks the RDB at the start of a file and returns the offset behind it (check_rdb supplies it).
  std::function<Result<uint64_t>(const std::string& path)> check_rdb;
};

/// Prints to `out`. Returns 0 when every file is sound (or was mended), 1 otherwise.
int CheckAof(Env& env, const std::string& path, const CheckAofOptions& options, std::FILE* out);

}  // namespace cairn

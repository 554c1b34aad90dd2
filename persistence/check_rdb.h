#pragma once

// CheckRdb and VerifyRdbFile: an RDB file read in count mode. No value is kept: memory of
// VerifyRdbFile is the reader's buffer and one compressed string, which a save has none of more
// than kMaxCompressedBytes; the checker needs room for the largest string. CheckRdb is the `rdb`
// half of cairn-check and talks to a person; VerifyRdbFile is what a save calls before it renames
// its temp file. Any thread.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "server/base/status.h"

namespace cairn {

class Env;

/// Reads `path` to its end and reports to `out`. Returns the exit status: 0 sound, 1 damaged or
/// unreadable.
int CheckRdb(Env& env, const std::string& path, std::FILE* out);

/// Reads the RDB at the start of `path` (an AOF base, or an AOF with an RDB preamble). Returns the
/// offset behind it. Errors: the reader's.
Result<uint64_t> CheckRdbPart(Env& env, const std::string& path);

/// What a save knows about the file it wrote.
struct ExpectedCounts {
  uint64_t keys = 0;
  uint64_t expires = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> checksum;  ///< RdbWriter::checksum(); absent = do not compare
};

/// Parses `path` back and compares. Errors: the reader's, or kCorruption naming the figure that
/// differs. Cost: one pass over the file. `on_progress` is called every 128 KiB with the offset
/// reached; its error ends the pass and is returned.
Status VerifyRdbFile(Env& env, const std::string& path, const ExpectedCounts& expected,
                     const std::function<Status(uint64_t)>& on_progress = nullptr);

}  // namespace cairn

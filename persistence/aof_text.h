#pragma once

// The text of an append-only file: the strict command parser and the check lines, shared by reader,
// writer and checker. Everything here works on bytes in memory and knows no file. Pure functions;
// any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

enum class AofParse : uint8_t { kCommand, kIncomplete, kInvalid };

/// Reads the one command that begins at text[*offset]. kCommand: `args` are views into `text`,
/// *offset is behind it. Otherwise *offset is where reading failed and *reason says why. Lengths
/// are plain decimal digits without sign or leading zero, as every server writes them.
AofParse ParseAofCommand(std::string_view text, uint64_t* offset,
                         std::vector<std::string_view>* args, std::string* reason);

/// The numbers of a check line (aof_reader.h, FormatAofCheckLine).
struct AofCheckLine {
  uint64_t group_bytes = 0;
  uint64_t checksum = 0;
  uint64_t synced_bytes = 0;
  uint64_t line_bytes = 0;  ///< CRLF included
};

inline constexpr std::string_view kAofCheckMark = "#CAIRN:";
/// Longest check line: mark, two 20-digit numbers, 16 hex digits, separators.
inline constexpr size_t kMaxAofCheckLine = 80;

/// Reads the check line at text[offset], which begins with kAofCheckMark. kIncomplete: the line's
/// end is missing. kInvalid: not in the exact form.
AofParse ParseAofCheckLine(std::string_view text, uint64_t offset, AofCheckLine* line);

/// The value a check line at `file_offset` must carry for `group`.
uint64_t AofGroupChecksum(uint64_t file_offset, uint64_t synced_bytes,
                          std::span<const std::string_view> group);

/// Whether a group at `begin` or behind it is sound and says that at least `least_synced` bytes of
/// the file were durable. (Its place in the file is part of the check, so bytes of a value cannot
/// pass for one.) Cost: linear in the text, also when that is nothing but check lines of long
/// groups.
bool HasSoundAofGroup(std::string_view text, uint64_t begin, uint64_t least_synced);

/// True when the check line at `offset` is well-formed and its group is whole and matches.
bool VerifyAofGroup(std::string_view text, uint64_t offset, const AofCheckLine& line);

}  // namespace cairn

#include "persistence/aof_text.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "persistence/aof_reader.h"
#include "server/base/checksum.h"

namespace cairn {
namespace {

constexpr size_t kMaxDigits = 19;

/// Reads `<mark><digits>\r\n` at *position. *position stays on the byte that failed.
AofParse ParseCount(std::string_view text, char mark, uint64_t* position, uint64_t* value) {
  uint64_t at = *position;
  const uint64_t size = text.size();
  if (at >= size) return AofParse::kIncomplete;
  if (text[at] != mark) return AofParse::kInvalid;
  const uint64_t first = ++at;
  uint64_t number = 0;
  while (at < size && static_cast<unsigned char>(text[at] - '0') <= 9 && at - first < kMaxDigits) {
    number = number * 10 + static_cast<uint64_t>(text[at] - '0');
    ++at;
  }
  *position = at;
  if (at >= size) return AofParse::kIncomplete;
  if (at == first || (text[first] == '0' && at - first > 1) || text[at] != '\r') {
    return AofParse::kInvalid;
  }
  *position = ++at;
  if (at >= size) return AofParse::kIncomplete;
  if (text[at] != '\n') return AofParse::kInvalid;
  *position = at + 1;
  *value = number;
  return AofParse::kCommand;
}

bool ParseDigits(std::string_view text, uint64_t* value) {
  if (text.empty() || (text[0] == '0' && text.size() > 1)) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseHex16(std::string_view text, uint64_t* value) {
  if (text.size() != 16) return false;
  for (char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  return std::from_chars(text.data(), text.data() + 16, *value, 16).ec == std::errc();
}

void StoreLittleEndian(uint64_t value, char* out) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

/// The checksum in front of a group: of its place, its size and what was synced.
uint64_t HeaderChecksum(uint64_t file_offset, uint64_t group_bytes, uint64_t synced_bytes) {
  std::array<char, 24> header;
  StoreLittleEndian(file_offset, header.data());
  StoreLittleEndian(group_bytes, header.data() + 8);
  StoreLittleEndian(synced_bytes, header.data() + 16);
  // Starting from all ones: from zero, a group of zeros at offset zero would have the checksum
  // zero.
  return Crc64(~uint64_t{0}, {header.data(), header.size()});
}

/// Whether the numbers of a check line at `offset` can be true.
bool IsPossible(std::string_view text, uint64_t offset, const AofCheckLine& line) {
  return line.group_bytes <= text.size() - offset - line.line_bytes && line.synced_bytes <= offset;
}

/// Checksums, from 0, of how a text begins: those of every step are kept once they are known, so
/// that any part of the text has its checksum for the price of two steps.
class PrefixChecksums {
 public:
  explicit PrefixChecksums(std::string_view text)
      : text_(text), step_bytes_(std::max<uint64_t>(kStepBytes, text.size() / kMaxSteps)) {}

  /// Of the text's first `size` bytes.
  uint64_t Of(uint64_t size) {
    const uint64_t whole = size / step_bytes_;
    while (known_.size() <= whole) {
      const uint64_t at = (known_.size() - 1) * step_bytes_;
      known_.push_back(Crc64(known_.back(), text_.substr(at, step_bytes_)));
    }
    const uint64_t at = whole * step_bytes_;
    return Crc64(known_[whole], text_.substr(at, size - at));
  }

 private:
  static constexpr uint64_t kStepBytes = 512;
  static constexpr uint64_t kMaxSteps = uint64_t{1} << 20;
  const std::string_view text_;
  const uint64_t step_bytes_;
  std::vector<uint64_t> known_{0};
};

}  // namespace

AofParse ParseAofCommand(std::string_view text, uint64_t* offset,
                         std::vector<std::string_view>* args, std::string* reason) {
  uint64_t count = 0;
  AofParse parsed = ParseCount(text, '*', offset, &count);
  if (parsed == AofParse::kCommand && count == 0) parsed = AofParse::kInvalid;
  if (parsed != AofParse::kCommand) {
    *reason =
        parsed == AofParse::kIncomplete ? "a command is cut short" : "expected '*' and a count";
    return parsed;
  }
  args->clear();
  for (; count > 0; --count) {
    uint64_t length = 0;
    parsed = ParseCount(text, '$', offset, &length);
    if (parsed != AofParse::kCommand) {
      *reason =
          parsed == AofParse::kIncomplete ? "a command is cut short" : "expected '$' and a length";
      return parsed;
    }
    const uint64_t left = text.size() - *offset;
    if (length > left || left - length < 2) {
      const bool wrong_end = length < left && text[*offset + length] != '\r';
      *reason = wrong_end ? "an argument does not end in CRLF" : "an argument is cut short";
      if (wrong_end) *offset += length;
      return wrong_end ? AofParse::kInvalid : AofParse::kIncomplete;
    }
    const char* end = text.data() + *offset + length;
    if (end[0] != '\r' || end[1] != '\n') {
      *reason = "an argument does not end in CRLF";
      *offset += length;
      return AofParse::kInvalid;
    }
    args->emplace_back(text.data() + *offset, length);
    *offset += length + 2;
  }
  return AofParse::kCommand;
}

AofParse ParseAofCheckLine(std::string_view text, uint64_t offset, AofCheckLine* line) {
  const std::string_view window = text.substr(offset, kMaxAofCheckLine);
  const size_t newline = window.find('\n');
  if (newline == std::string_view::npos) {
    return window.size() < kMaxAofCheckLine ? AofParse::kIncomplete : AofParse::kInvalid;
  }
  if (newline < kAofCheckMark.size() + 1 || window[newline - 1] != '\r') return AofParse::kInvalid;
  const std::string_view body =
      window.substr(kAofCheckMark.size(), newline - 1 - kAofCheckMark.size());
  const size_t first = body.find(':');
  const size_t second = first == std::string_view::npos ? first : body.find(':', first + 1);
  if (second == std::string_view::npos) return AofParse::kInvalid;
  line->line_bytes = newline + 1;
  const bool valid = ParseDigits(body.substr(0, first), &line->group_bytes) &&
                     ParseHex16(body.substr(first + 1, second - first - 1), &line->checksum) &&
                     ParseDigits(body.substr(second + 1), &line->synced_bytes);
  return valid ? AofParse::kCommand : AofParse::kInvalid;
}

uint64_t AofGroupChecksum(uint64_t file_offset, uint64_t synced_bytes,
                          std::span<const std::string_view> group) {
  uint64_t bytes = 0;
  for (std::string_view piece : group) bytes += piece.size();
  uint64_t checksum = HeaderChecksum(file_offset, bytes, synced_bytes);
  for (std::string_view piece : group) checksum = Crc64(checksum, piece);
  return checksum;
}

bool HasSoundAofGroup(std::string_view text, uint64_t begin, uint64_t least_synced) {
  PrefixChecksums prefixes(text.substr(std::min<uint64_t>(begin, text.size())));
  for (size_t at = begin; (at = text.find(kAofCheckMark, at)) != std::string_view::npos;
       at += kAofCheckMark.size()) {
    AofCheckLine line;
    if (ParseAofCheckLine(text, at, &line) != AofParse::kCommand ||
        line.synced_bytes < least_synced || !IsPossible(text, at, line)) {
      continue;
    }
    const uint64_t group = at + line.line_bytes - begin;
    const uint64_t before =
        HeaderChecksum(at, line.group_bytes, line.synced_bytes) ^ prefixes.Of(group);
    if ((prefixes.Of(group + line.group_bytes) ^ Crc64OverZeros(before, line.group_bytes)) ==
        line.checksum)
      return true;
  }
  return false;
}

bool VerifyAofGroup(std::string_view text, uint64_t offset, const AofCheckLine& line) {
  if (!IsPossible(text, offset, line)) return false;
  const std::string_view group = text.substr(offset + line.line_bytes, line.group_bytes);
  return AofGroupChecksum(offset, line.synced_bytes, {&group, 1}) == line.checksum;
}

std::string FormatAofCheckLine(uint64_t file_offset, uint64_t synced_bytes,
                               std::span<const std::string_view> group) {
  constexpr std::string_view kHex = "0123456789abcdef";
  uint64_t bytes = 0;
  for (std::string_view piece : group) bytes += piece.size();
  const uint64_t checksum = AofGroupChecksum(file_offset, synced_bytes, group);
  std::string line(kAofCheckMark);
  line += std::to_string(bytes) + ":";
  for (int shift = 60; shift >= 0; shift -= 4) line += kHex[(checksum >> shift) & 15];
  return line + ":" + std::to_string(synced_bytes) + "\r\n";
}

}  // namespace cairn

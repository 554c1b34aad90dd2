#include "server/data/stream_id.h"

#include <cctype>
#include <charconv>

#include "server/base/check.h"

namespace cairn {
namespace {

constexpr size_t kMaxIdText = 127;

/// Redis reads the two numbers with strtoull: leading white space, a '+' and leading zeros are
/// allowed, a sign that makes it negative is not.
bool ParseNumber(std::string_view text, uint64_t* out) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

void PutBigEndian(uint64_t value, char* out) {
  for (int i = 7; i >= 0; --i, value >>= 8) out[i] = static_cast<char>(value);
}

uint64_t GetBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

}  // namespace

std::optional<StreamId> NextStreamId(StreamId id) {
  if (id.sequence != UINT64_MAX) return StreamId{id.ms, id.sequence + 1};
  if (id.ms != UINT64_MAX) return StreamId{id.ms + 1, 0};
  return std::nullopt;
}

std::optional<StreamId> PreviousStreamId(StreamId id) {
  if (id.sequence != 0) return StreamId{id.ms, id.sequence - 1};
  if (id.ms != 0) return StreamId{id.ms - 1, UINT64_MAX};
  return std::nullopt;
}

std::string FormatStreamId(StreamId id) {
  char text[48];
  char* end = std::to_chars(text, text + sizeof text, id.ms).ptr;
  *end++ = '-';
  end = std::to_chars(end, text + sizeof text, id.sequence).ptr;
  return std::string(text, end);
}

std::array<char, 16> EncodeStreamId(StreamId id) {
  std::array<char, 16> bytes;
  PutBigEndian(id.ms, bytes.data());
  PutBigEndian(id.sequence, bytes.data() + 8);
  return bytes;
}

StreamId DecodeStreamId(std::string_view bytes) {
  CAIRN_CHECK(bytes.size() == 16);
  return {GetBigEndian(bytes.substr(0, 8)), GetBigEndian(bytes.substr(8))};
}

std::optional<StreamIdText> ParseStreamId(std::string_view text, StreamIdForms forms,
                                          uint64_t missing_sequence) {
  if (text.size() > kMaxIdText) return std::nullopt;
  text = text.substr(0, text.find('\0'));
  if (forms != StreamIdForms::kPlain) {
    if (text == "-") return StreamIdText{kMinStreamId};
    if (text == "+") return StreamIdText{kMaxStreamId};
  }
  StreamIdText result;
  const size_t dash = text.find('-');
  if (!ParseNumber(text.substr(0, dash), &result.id.ms)) return std::nullopt;
  result.id.sequence = missing_sequence;
  if (dash == std::string_view::npos) return result;
  const std::string_view sequence = text.substr(dash + 1);
  if (forms == StreamIdForms::kAutomatic && sequence == "*") {
    result.id.sequence = 0;
    result.has_sequence = false;
    return result;
  }
  if (!ParseNumber(sequence, &result.id.sequence)) return std::nullopt;
  return result;
}

}  // namespace cairn

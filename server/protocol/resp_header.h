#pragma once

// The first line of a RESP value: a type byte and a number. For replies, for what the append-only
// file and replicas get, and for rewrites.

#include <charconv>
#include <cstddef>
#include <cstdint>

namespace cairn {

/// Room for the longest header: type byte, 20 digits with sign, CR LF.
inline constexpr size_t kRespHeaderBytes = 24;

/// Writes it to `to`, which has room for kRespHeaderBytes. Returns its size.
inline size_t FormatRespHeader(char* to, char type, int64_t value) {
  to[0] = type;
  char* end;
  if (value >= 0 && value < 10) {
    to[1] = static_cast<char>('0' + value);
    end = to + 2;
  } else if (value >= 10 && value < 100) {  // with those above nearly all, several times a command
    to[1] = static_cast<char>('0' + value / 10);
    to[2] = static_cast<char>('0' + value % 10);
    end = to + 3;
  } else {
    end = std::to_chars(to + 1, to + kRespHeaderBytes - 2, value).ptr;
  }
  end[0] = '\r';
  end[1] = '\n';
  return static_cast<size_t>(end + 2 - to);
}

}  // namespace cairn

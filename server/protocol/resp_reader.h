#pragma once

// A client's view of replies: parses RESP2 and RESP3 replies into a tree. For tests, tools and the
// bench client; of its own replies the server parses only the pushes ahead of an error. It copies
// every byte and is not built for speed. Value types; any thread.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn {

struct RespValue {
  enum class Kind : unsigned char {
    kNull,
    kSimple,
    kError,
    kInteger,
    kBulk,
    kDouble,
    kBigNumber,
    kBoolean,
    kVerbatim,
    kBlobError,
    kArray,
    kSet,
    kPush,
    kMap,
  };
  Kind kind = Kind::kNull;
  /// Bytes of strings, errors and verbatim text (without "txt:"); digits of doubles and big
  /// numbers.
  std::string text;
  /// Three letters of a verbatim string.
  std::string extension;
  int64_t integer = 0;  ///< of kInteger; 0 or 1 of kBoolean
  /// Elements; of maps key, value, key, value, ...
  std::vector<RespValue> elements;
  /// Attribute pairs that stood in front of this value: key, value, ...
  std::vector<RespValue> attributes;

  bool IsNull() const { return kind == Kind::kNull; }
  bool IsError() const { return kind == Kind::kError || kind == Kind::kBlobError; }
  /// Canonical text on one line: "OK" simple as +OK, bulks in quotes with \xNN for bytes outside
  /// printable ASCII, arrays [a, b], sets ~[..], pushes >[..], maps {k: v}, null as nil, -ERR text.
  std::string ToString() const;
};

enum class ReplyParse : unsigned char { kValue, kNeedMore, kMalformed };

struct ReplyLimits {
  size_t max_depth = 64;
  size_t max_bulk_bytes = size_t{2} << 30;
  size_t max_elements = size_t{1} << 27;  ///< announced count of one aggregate
};

/// Parses the first reply in `bytes`. On kValue stores it in *value and its length in *consumed; on
/// the others leaves both alone. Cost: starts over on each call.
ReplyParse ParseReply(std::string_view bytes, size_t* consumed, RespValue* value,
                      const ReplyLimits& limits = {});

}  // namespace cairn

#pragma once

// Stream IDs as text, as the 16 big-endian bytes of files, and as numbers to step through. Pure
// functions; any thread. Source: Redis 7.0 (which texts count as IDs was read off redis-server).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "persistence/value_sink.h"

namespace cairn {

inline constexpr StreamId kMinStreamId{0, 0};
inline constexpr StreamId kMaxStreamId{UINT64_MAX, UINT64_MAX};

/// The next (previous) ID; nullopt at the end of the range.
std::optional<StreamId> NextStreamId(StreamId id);
std::optional<StreamId> PreviousStreamId(StreamId id);

/// "ms-sequence".
std::string FormatStreamId(StreamId id);

/// Big-endian, so that byte order is ID order.
std::array<char, 16> EncodeStreamId(StreamId id);
/// Requires: 16 bytes.
StreamId DecodeStreamId(std::string_view bytes);

/// What an ID argument said.
struct StreamIdText {
  StreamId id;
  bool has_sequence = true;  ///< false: "ms-*", only where `automatic` allows it
};
enum class StreamIdForms : uint8_t {
  kPlain,      ///< "ms" or "ms-sequence"
  kBounds,     ///< also "-" and "+", the least and the greatest ID
  kAutomatic,  ///< also "ms-*"
};
/// Reads an ID; a missing sequence is `missing_sequence`. nullopt when `text` is none.
std::optional<StreamIdText> ParseStreamId(std::string_view text, StreamIdForms forms,
                                          uint64_t missing_sequence);

}  // namespace cairn

#pragma once

// What a primary says to its replica that is not RESP: the line that answers PSYNC, the header of
// the full copy, and the copy's end. Pure functions and one small state machine over bytes from
// outside (tests/fuzz/replica_link_fuzz.cc); nothing here knows connections.
//
//   answer    = *LF ( "+FULLRESYNC" SP id SP offset | "+CONTINUE" [SP id] | "-" text ) CRLF
//   id        = 40 bytes, no space            offset = decimal, 0 .. 2^63-1
//   copy      = *LF ( "$" length CRLF length-bytes | "$EOF:" mark CRLF bytes mark )
//   mark      = 40 bytes; what comes behind it comes only after the replica has spoken
//
//   example:  "\n\n+FULLRESYNC 7cf5..4b 3281\r\n"  "\n$EOF:0f1e..9a\r\nREDIS0010....0f1e..9a"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

inline constexpr size_t kReplicationIdBytes = 40;
/// A line of the handshake beyond this many bytes is none. Source: Redis reads into 1024 bytes.
inline constexpr size_t kMaxLinkLineBytes = 1024;

struct PsyncAnswer {
  enum class Kind : uint8_t {
    kWait,        ///< an empty line: the primary is alive and not ready
    kFullResync,  ///< id and offset are set
    kContinue,    ///< id may be set
    kTryLater,    ///< -NOMASTERLINK, -LOADING
    kRefused,     ///< another error: the primary does not know PSYNC
    kBroken,      ///< nothing a primary says
  };
  Kind kind = Kind::kBroken;
  std::string_view id = {};  ///< views the line; empty: not named
  uint64_t offset = 0;
};
/// `line` without its end.
PsyncAnswer ParsePsyncAnswer(std::string_view line);

struct CopyHeader {
  enum class Kind : uint8_t {
    kWait,    ///< an empty line
    kLength,  ///< length is set
    kMark,    ///< mark is set
    kError,   ///< "-..": the primary gave up
    kBroken,
  };
  Kind kind = Kind::kBroken;
  uint64_t length = 0;
  std::string_view mark = {};  ///< kReplicationIdBytes long, views the line
};
CopyHeader ParseCopyHeader(std::string_view line);

/// Tells the bytes of a copy from what ends it. Feed it what is read; it says what belongs to the
/// file.
class CopyReader {
 public:
  /// By length.
  explicit CopyReader(uint64_t length) : left_(length), done_(length == 0) {}
  /// By mark. Requires: kReplicationIdBytes.
  explicit CopyReader(std::string_view mark);

  /// Takes bytes. *file is appended what is known to be of the file; returns how many bytes were
  /// taken: all, but behind a copy of known length. Requires: not done.
  size_t Take(std::string_view bytes, std::string* file);
  bool done() const { return done_; }
  bool by_mark() const { return !mark_.empty(); }

 private:
  uint64_t left_ = 0;
  std::string mark_;
  std::string tail_;  // the last bytes, which may be the mark
  bool done_ = false;
};

}  // namespace cairn

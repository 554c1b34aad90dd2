#pragma once

// PeerSocket: a TCP connection to another server that its user waits for: each call returns when it
// is done or its time is over. For MIGRATE, whose meaning is that nothing else happens meanwhile;
// all else talks through the loop (transport.h). Thread: any, one at a time.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/base/status.h"

namespace cairn {

/// Longest line that ReadLine takes: error lines of a server are shorter.
inline constexpr size_t kMaxPeerLineBytes = 1024;

class PeerSocket {
 public:
  /// Resolves `host` and begins to connect to the first address that takes it, for at most
  /// `timeout_ms`. A peer that has not answered by then, or refuses later, shows at the first
  /// Write, as in Redis. Errors: kIo when the name leads nowhere or no attempt could begin.
  static Result<std::unique_ptr<PeerSocket>> Connect(const std::string& host, int port,
                                                     int64_t timeout_ms);
  ~PeerSocket();
  PeerSocket(const PeerSocket&) = delete;
  PeerSocket& operator=(const PeerSocket&) = delete;

  /// Sends all of `bytes`. Errors: kCancelled when it took longer than `timeout_ms`, kIo when the
  /// connection broke.
  Status Write(std::string_view bytes, int64_t timeout_ms);
  /// The next line, without its "\r\n" or "\n". Errors: as Write, kIo also at the end of the stream
  /// and for a line of more than kMaxPeerLineBytes.
  Result<std::string> ReadLine(int64_t timeout_ms);

 private:
  explicit PeerSocket(int fd) : fd_(fd) {}

  const int fd_;
  std::string received_;  // beyond the lines that were read
};

}  // namespace cairn

#pragma once

// PeerConnections: the connections of MIGRATE to other servers, kept for a while because keys are
// mostly moved in a row. By "host:port" as given. Thread: executor.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "server/platform/peer_socket.h"
#include "server/platform/transport.h"

namespace cairn {

/// Connections kept at once. Source: MIGRATE_SOCKET_CACHE_ITEMS of Redis 7.0.
inline constexpr size_t kMaxPeerConnections = 64;
/// How long one is kept unused. Source: MIGRATE_SOCKET_CACHE_TTL of Redis 7.0.
inline constexpr int64_t kPeerIdleMs = 10'000;

struct PeerConnection {
  std::unique_ptr<PeerSocket> socket;
  int64_t selected_db = -1;  ///< in which the peer has this connection; -1: not known
  int64_t used_ms = 0;       ///< by the loop's clock
};

class PeerConnections {
 public:
  explicit PeerConnections(EventLoopPort& loop) : loop_(loop) {}
  PeerConnections(const PeerConnections&) = delete;
  PeerConnections& operator=(const PeerConnections&) = delete;
  ~PeerConnections();

  /// The kept connection or a new one; the one longest unused makes room. Borrowed until the next
  /// call here. Errors: of PeerSocket::Connect.
  Result<PeerConnection*> Get(const std::string& host, int port, int64_t timeout_ms);
  /// Closes one that broke.
  void Drop(const std::string& host, int port);
  size_t size() const { return connections_.size(); }

 private:
  static std::string NameOf(const std::string& host, int port);
  void CloseIdle();

  EventLoopPort& loop_;
  std::map<std::string, PeerConnection> connections_;
  TimerId timer_ = 0;  // runs while there are any
};

}  // namespace cairn

#include "server/engine/peer_connections.h"

#include <algorithm>

namespace cairn {

namespace {
constexpr int64_t kLookMs = 1000;
}  // namespace

PeerConnections::~PeerConnections() {
  if (timer_ != 0) loop_.StopTimer(timer_);
}

std::string PeerConnections::NameOf(const std::string& host, int port) {
  return host + ":" + std::to_string(port);
}

Result<PeerConnection*> PeerConnections::Get(const std::string& host, int port,
                                             int64_t timeout_ms) {
  const std::string name = NameOf(host, port);
  const auto found = connections_.find(name);
  if (found != connections_.end()) {
    found->second.used_ms = loop_.NowMillis();
    return &found->second;
  }
  if (connections_.size() >= kMaxPeerConnections) {
    connections_.erase(std::min_element(
        connections_.begin(), connections_.end(),
        [](const auto& a, const auto& b) { return a.second.used_ms < b.second.used_ms; }));
  }
  Result<std::unique_ptr<PeerSocket>> socket = PeerSocket::Connect(host, port, timeout_ms);
  if (!socket.ok()) return socket.status();
  if (timer_ == 0) timer_ = loop_.StartTimer(kLookMs, kLookMs, [this] { CloseIdle(); });
  PeerConnection& connection = connections_[name];
  connection.socket = std::move(*socket);
  connection.used_ms = loop_.NowMillis();
  return &connection;
}

void PeerConnections::Drop(const std::string& host, int port) {
  connections_.erase(NameOf(host, port));
}

void PeerConnections::CloseIdle() {
  const int64_t now_ms = loop_.NowMillis();
  std::erase_if(connections_,
                [now_ms](const auto& each) { return now_ms - each.second.used_ms > kPeerIdleMs; });
  if (!connections_.empty()) return;
  loop_.StopTimer(timer_);
  timer_ = 0;
}

}  // namespace cairn

#pragma once

// SocketConnector: outgoing TCP connections for the engine (a replica's link to its primary): the
// name is looked up on libuv's threads, the addresses are tried in turn without blocking. Thread:
// loop.

#include <memory>

#include "server/net/event_loop.h"
#include "server/platform/transport.h"

namespace cairn {

class SocketConnector final : public Connector {
 public:
  explicit SocketConnector(EventLoop& loop) : loop_(loop) {}
  std::unique_ptr<Connecting> Connect(const ConnectRequest& request, StreamReceiver* receiver,
                                      Done done) override;

 private:
  EventLoop& loop_;
};

}  // namespace cairn

#pragma once

// Listener: one listening socket (TCP of either family, or unix) that accepts and hands over
// descriptors. It does not know clients or limits. Thread: loop.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "server/base/status.h"
#include "server/net/event_loop.h"

namespace cairn {

/// An accepted socket: non-blocking, close-on-exec.
struct Accepted {
  int fd = -1;
  std::string peer, local;
  bool unix_socket = false;
  bool loopback = false;  ///< the peer is this machine (unix sockets always)
};

class Listener {
 public:
  using AcceptFn = std::function<void(const Accepted&)>;

  /// Binds `address` ("127.0.0.1", "::1", "localhost", "*", "::*") and listens; names are looked up
  /// while the caller waits. Errors, in Redis's words: kNotFound when this machine does not have
  /// the address, kUnsupported when it does not have the family, kIo for anything else.
  static Result<std::unique_ptr<Listener>> ListenTcp(EventLoop& loop, const std::string& address,
                                                     int port, int backlog, AcceptFn on_accept);
  /// Replaces a leftover socket file. `mode` 0 leaves the permissions to umask.
  static Result<std::unique_ptr<Listener>> ListenUnix(EventLoop& loop, const std::string& path,
                                                      unsigned mode, int backlog,
                                                      AcceptFn on_accept);
  ~Listener();

 private:
  Listener(int fd, AcceptFn on_accept) : fd_(fd), on_accept_(std::move(on_accept)) {}
  /// A listener of `fd`, which it takes over also when that fails. Errors: as EventLoop::Watch.
  static Result<std::unique_ptr<Listener>> Of(EventLoop& loop, int fd, AcceptFn on_accept);
  void AcceptAll();

  int fd_;
  std::string unix_path_;
  AcceptFn on_accept_;
  UvPoll poll_;
};

}  // namespace cairn

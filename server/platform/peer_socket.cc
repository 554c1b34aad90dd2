#include "server/platform/peer_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace cairn {

namespace {

int64_t MonotonicMillis() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             steady_clock::now().time_since_epoch())
      .count();
}

/// Waits until `fd` is ready for `events` or `deadline_ms` has come. False: it has.
bool WaitUntil(int fd, short events, int64_t deadline_ms) {
  for (;;) {
    const int64_t left_ms = deadline_ms - MonotonicMillis();
    if (left_ms <= 0) return false;
    pollfd waiting{.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left_ms, 1 << 30)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // the call that follows says what is wrong
  }
}

int64_t DeadlineAfter(int64_t timeout_ms) {
  int64_t deadline_ms = 0;
  if (__builtin_add_overflow(MonotonicMillis(), timeout_ms, &deadline_ms)) return INT64_MAX;
  return deadline_ms;
}

Status TimedOut() { return {StatusCode::kCancelled, "timed out"}; }
Status Broken(std::string_view call) {
  return Status::Io(std::string(call) + ": " + std::strerror(errno));
}

}  // namespace

Result<std::unique_ptr<PeerSocket>> PeerSocket::Connect(const std::string& host, int port,
                                                        int64_t timeout_ms) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) return Status::Io(std::string("getaddrinfo: ") + ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  Status last = Status::Io("no address");
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int fd = ::socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                            address->ai_protocol);
    if (fd < 0) {
      last = Broken("socket");
      continue;
    }
    if (::connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
      last = Broken("connect");
      ::close(fd);
      continue;
    }
    // What became of the attempt shows when something is sent.
    (void)WaitUntil(fd, POLLOUT, DeadlineAfter(timeout_ms));
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return std::unique_ptr<PeerSocket>(new PeerSocket(fd));
  }
  return last;
}

PeerSocket::~PeerSocket() { ::close(fd_); }

Status PeerSocket::Write(std::string_view bytes, int64_t timeout_ms) {
  const int64_t deadline_ms = DeadlineAfter(timeout_ms);
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      return Broken("send");
    } else if (!WaitUntil(fd_, POLLOUT, deadline_ms)) {
      return TimedOut();
    }
  }
  return Status::Ok();
}

Result<std::string> PeerSocket::ReadLine(int64_t timeout_ms) {
  const int64_t deadline_ms = DeadlineAfter(timeout_ms);
  for (;;) {
    if (const size_t end = received_.find('\n'); end != std::string::npos) {
      const size_t size = end > 0 && received_[end - 1] == '\r' ? end - 1 : end;
      std::string line = received_.substr(0, size);
      received_.erase(0, end + 1);
      return line;
    }
    if (received_.size() > kMaxPeerLineBytes) return Status::Io("the peer's line is too long");
    char buffer[4096];
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
    if (got > 0) {
      received_.append(buffer, static_cast<size_t>(got));
    } else if (got == 0) {
      return Status::Io("the peer ended the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
      return Broken("recv");
    } else if (!WaitUntil(fd_, POLLIN, deadline_ms)) {
      return TimedOut();
    }
  }
}

}  // namespace cairn

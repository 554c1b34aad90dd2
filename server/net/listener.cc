#include "server/net/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "server/net/socket_stream.h"

namespace cairn {

namespace {

// Connections taken per wake-up, so that a flood of connects does not starve the connected.
constexpr int kMaxAcceptsPerWake = 1000;

Status SystemError(const std::string& what) { return Status::Io(what + ": " + std::strerror(errno)); }

// Fills `storage` from a textual address; false when it is none.
bool ParseAddress(const std::string& address, int port, sockaddr_storage* storage, socklen_t* size) {
  std::memset(storage, 0, sizeof *storage);
  auto* v4 = reinterpret_cast<sockaddr_in*>(storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(storage);
  if (address == "*" || inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    *size = sizeof *v4;
    return true;
  }
  if (address == "::*" || inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    *size = sizeof *v6;
    return true;
  }
  return false;
}

bool IsLoopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
  }
  if (address.ss_family == AF_INET6) {
    const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
  }
  return true;
}

int BoundPort(int fd) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  if (bound.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in&>(bound).sin_port);
  if (bound.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6&>(bound).sin6_port);
  return 0;
}

}  // namespace

Listener::Listener(EventLoop& loop, int fd, AcceptFn on_accept) : fd_(fd), on_accept_(std::move(on_accept)) {
  CAIRN_CHECK(uv_poll_init_socket(loop.uv(), poll_.get(), fd_) == 0);
  poll_.get()->data = this;
  uv_poll_start(poll_.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (handle->data != nullptr) static_cast<Listener*>(handle->data)->AcceptAll();
  });
}

Listener::~Listener() {
  poll_.Reset();
  ::close(fd_);
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

Result<std::unique_ptr<Listener>> Listener::ListenTcp(EventLoop& loop, const std::string& address, int port,
                                                      int backlog, AcceptFn on_accept) {
  sockaddr_storage storage;
  socklen_t size = 0;
  if (!ParseAddress(address, port, &storage, &size)) {
    return Status(StatusCode::kNotFound, "Name or service not known");
  }
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return Status(errno == EAFNOSUPPORT ? StatusCode::kNotFound : StatusCode::kIo, std::strerror(errno));
  }
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (storage.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd, backlog) != 0) {
    const int error = errno;
    ::close(fd);
    const bool absent = error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
    return Status(absent ? StatusCode::kNotFound : StatusCode::kIo,
                  std::string(absent ? "" : "bind: ") + std::strerror(error));
  }
  std::unique_ptr<Listener> listener(new Listener(loop, fd, std::move(on_accept)));
  listener->port_ = BoundPort(fd);
  return listener;
}

Result<std::unique_ptr<Listener>> Listener::ListenUnix(EventLoop& loop, const std::string& path, unsigned mode,
                                                       int backlog, AcceptFn on_accept) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Status::Io("unix socket path is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return SystemError("socket");
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, backlog) != 0) {
    const Status failed = SystemError("bind");
    ::close(fd);
    return failed;
  }
  if (mode != 0) ::chmod(path.c_str(), mode);
  std::unique_ptr<Listener> listener(new Listener(loop, fd, std::move(on_accept)));
  listener->unix_path_ = path;
  return listener;
}

void Listener::AcceptAll() {
  for (int i = 0; i < kMaxAcceptsPerWake; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;  // EAGAIN, or a connection that died in the queue
    Accepted accepted;
    accepted.fd = fd;
    accepted.unix_socket = !unix_path_.empty();
    accepted.loopback = accepted.unix_socket || IsLoopback(peer);
    accepted.peer = FormatAddress(reinterpret_cast<sockaddr*>(&peer), unix_path_);
    sockaddr_storage local{};
    size = sizeof local;
    getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size);
    accepted.local = FormatAddress(reinterpret_cast<sockaddr*>(&local), unix_path_);
    on_accept_(accepted);
  }
}

}  // namespace cairn

#include "server/net/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "server/net/socket_stream.h"

namespace cairn {

namespace {

// Connections taken per wake-up, so that a flood of connects does not starve the connected.
constexpr int kMaxAcceptsPerWake = 1000;

Status SystemError(const std::string& what) {
  return Status::Io(what + ": " + std::strerror(errno));
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

/// Where to listen for `address`: one with a colon is of IPv6, names are looked up, "*" and "::*"
/// are every address of their family.
Result<Addresses> FindAddresses(const std::string& address, int port) {
  addrinfo hints{};
  hints.ai_family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const bool every = address == "*" || address == "::*";
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(every ? nullptr : address.c_str(), std::to_string(port).c_str(),
                                   &hints, &found);
  if (failed != 0) return Status::Io(::gai_strerror(failed));
  return Addresses(found);
}

/// The failure of a call on a listening socket, in the kinds that ListenTcp tells apart.
Status ListenError(int error, const std::string& text) {
  switch (error) {
    case EADDRNOTAVAIL:
      return {StatusCode::kNotFound, text};
    case ENOPROTOOPT:
    case EPROTONOSUPPORT:
    case ESOCKTNOSUPPORT:
    case EPFNOSUPPORT:
    case EAFNOSUPPORT:
      return {StatusCode::kUnsupported, text};
    default:
      return Status::Io(text);
  }
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

}  // namespace

Result<std::unique_ptr<Listener>> Listener::Of(EventLoop& loop, int fd, AcceptFn on_accept) {
  std::unique_ptr<Listener> listener(new Listener(fd, std::move(on_accept)));
  Result<UvPoll> poll = loop.Watch(fd, listener.get());
  if (!poll.ok()) return poll.status();
  listener->poll_ = std::move(*poll);
  CAIRN_RETURN_IF_ERROR(loop.WaitFor(listener->poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (handle->data != nullptr) static_cast<Listener*>(handle->data)->AcceptAll();
  }));
  return listener;
}

Listener::~Listener() {
  poll_.reset();
  ::close(fd_);
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

Result<std::unique_ptr<Listener>> Listener::ListenTcp(EventLoop& loop, const std::string& address,
                                                      int port, int backlog, AcceptFn on_accept) {
  Result<Addresses> addresses = FindAddresses(address, port);
  if (!addresses.ok()) return addresses.status();
  int fd = -1;
  const addrinfo* chosen = addresses->get();
  for (; chosen != nullptr; chosen = chosen->ai_next) {
    fd = ::socket(chosen->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) break;
  }
  if (fd < 0) {
    const int error = errno;
    return ListenError(error, "unable to bind socket, errno: " + std::to_string(error));
  }
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (chosen->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  const char* call = "bind: ";
  bool listens = ::bind(fd, chosen->ai_addr, chosen->ai_addrlen) == 0;
  if (listens) {
    call = "listen: ";
    listens = ::listen(fd, backlog) == 0;
  }
  if (!listens) {
    const int error = errno;
    ::close(fd);
    return ListenError(error, std::string(call) + std::strerror(error));
  }
  return Of(loop, fd, std::move(on_accept));
}

Result<std::unique_ptr<Listener>> Listener::ListenUnix(EventLoop& loop, const std::string& path,
                                                       unsigned mode, int backlog,
                                                       AcceptFn on_accept) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status::Io("unix socket path too long (" + std::to_string(path.size()) +
                      "), must be under " + std::to_string(sizeof address.sun_path));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return SystemError("socket");
  // Nobody can connect ahead of listen(2): the mode is there by then.
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      (mode != 0 && ::chmod(path.c_str(), mode) != 0) || ::listen(fd, backlog) != 0) {
    const Status failed = SystemError("bind");
    ::close(fd);
    return failed;
  }
  auto listener = Of(loop, fd, std::move(on_accept));
  if (listener.ok()) (*listener)->unix_path_ = path;
  return listener;
}

void Listener::AcceptAll() {
  for (int i = 0; i < kMaxAcceptsPerWake; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int fd =
        ::accept4(fd_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
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

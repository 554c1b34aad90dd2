#include "server/net/socket_connector.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "server/net/socket_stream.h"

namespace cairn {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// One attempt. The look-up cannot be called back once it runs: its request outlives the attempt and
// then finds nobody.
class Attempt final : public Connecting {
 public:
  Attempt(EventLoop& loop, ConnectRequest request, StreamReceiver* receiver, Connector::Done done)
      : loop_(loop), request_(std::move(request)), receiver_(receiver), done_(std::move(done)) {}
  ~Attempt() override {
    if (lookup_ != nullptr) lookup_->attempt = nullptr;
    poll_.reset();
    if (fd_ >= 0) ::close(fd_);
  }

  void Start() {
    lookup_ = new Lookup;
    lookup_->attempt = this;
    lookup_->request.data = lookup_;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    const std::string port = std::to_string(request_.port);
    const int failed = uv_getaddrinfo(loop_.uv(), &lookup_->request, &Attempt::OnLookup,
                                      request_.host.c_str(), port.c_str(), &hints);
    if (failed == 0) return;
    delete std::exchange(lookup_, nullptr);
    FinishLater(Status::Io(uv_strerror(failed)));
  }

 private:
  struct Lookup {
    uv_getaddrinfo_t request;
    Attempt* attempt;
  };

  static void OnLookup(uv_getaddrinfo_t* request, int status, addrinfo* found) {
    auto* lookup = static_cast<Lookup*>(request->data);
    Attempt* attempt = lookup->attempt;
    delete lookup;
    if (attempt != nullptr) {
      attempt->lookup_ = nullptr;
      for (const addrinfo* each = found; status == 0 && each != nullptr; each = each->ai_next) {
        Address address;
        std::memcpy(&address.storage, each->ai_addr, each->ai_addrlen);
        address.size = each->ai_addrlen;
        attempt->addresses_.push_back(address);
      }
      attempt->last_error_ = status == 0 ? "no address" : uv_strerror(status);
      attempt->TryNext();
    }
    uv_freeaddrinfo(found);
  }

  // Binds to the wanted source address; best effort, as in Redis: without it the connection is
  // made all the same.
  void Bind(int family) const {
    if (request_.source_address.empty()) return;
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST;
    addrinfo* found = nullptr;
    if (::getaddrinfo(request_.source_address.c_str(), nullptr, &hints, &found) != 0) return;
    [[maybe_unused]] const int bound = ::bind(fd_, found->ai_addr, found->ai_addrlen);
    ::freeaddrinfo(found);
  }

  void TryNext() {
    while (next_ < addresses_.size()) {
      const Address& address = addresses_[next_++];
      const int family = address.get()->sa_family;
      fd_ = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd_ < 0) {
        last_error_ = std::strerror(errno);
        continue;
      }
      Bind(family);
      if (::connect(fd_, address.get(), address.size) != 0 && errno != EINPROGRESS) {
        last_error_ = std::strerror(errno);
      } else if (const Status waits = WaitWritable(); !waits.ok()) {
        last_error_ = waits.message();
      } else {
        return;
      }
      ::close(std::exchange(fd_, -1));
    }
    Finish(Status::Io(last_error_));
  }

  Status WaitWritable() {
    Result<UvPoll> poll = loop_.Watch(fd_, this);
    if (!poll.ok()) return poll.status();
    poll_ = std::move(*poll);
    return loop_.WaitFor(poll_, UV_WRITABLE, [](uv_poll_t* handle, int, int) {
      if (handle->data != nullptr) static_cast<Attempt*>(handle->data)->OnConnected();
    });
  }

  void OnConnected() {
    poll_.reset();
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) {
      last_error_ = std::strerror(error);
      ::close(std::exchange(fd_, -1));
      TryNext();
      return;
    }
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    Address peer, local;
    peer.size = local.size = sizeof(sockaddr_storage);
    ::getpeername(fd_, reinterpret_cast<sockaddr*>(&peer.storage), &peer.size);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&local.storage), &local.size);
    auto stream =
        std::make_unique<SocketStream>(loop_, std::exchange(fd_, -1), FormatAddress(peer.get(), ""),
                                       FormatAddress(local.get(), ""));
    if (const Status started = stream->Start(receiver_); !started.ok()) return Finish(started);
    Finish(std::unique_ptr<Stream>(std::move(stream)));
  }

  void Finish(Result<std::unique_ptr<Stream>> outcome) {
    // The callback may destroy this attempt.
    const Connector::Done done = std::move(done_);
    done(std::move(outcome));
  }

  void FinishLater(Status status) {
    loop_.Post([this, status = std::move(status), alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) Finish(status);
    });
  }

  EventLoop& loop_;
  const ConnectRequest request_;
  StreamReceiver* const receiver_;
  Connector::Done done_;
  Lookup* lookup_ = nullptr;
  std::vector<Address> addresses_;
  size_t next_ = 0;
  int fd_ = -1;
  std::string last_error_;
  UvPoll poll_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace

std::unique_ptr<Connecting> SocketConnector::Connect(const ConnectRequest& request,
                                                     StreamReceiver* receiver, Done done) {
  auto attempt = std::make_unique<Attempt>(loop_, request, receiver, std::move(done));
  attempt->Start();
  return attempt;
}

}  // namespace cairn

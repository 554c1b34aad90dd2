#include "server/net/socket_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cairn {

namespace {

// One writev: the kernel takes at most IOV_MAX (1024); replies gather far fewer.
constexpr size_t kMaxPieces = 64;

}  // namespace

std::string FormatAddress(const sockaddr* address, const std::string& unix_path) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(v4->sin_port));
  }
  if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  return unix_path + ":0";
}

SocketStream::SocketStream(EventLoop& loop, int fd, std::string peer, std::string local)
    : loop_(loop), fd_(fd), peer_(std::move(peer)), local_(std::move(local)) {}

SocketStream::~SocketStream() {
  *alive_ = false;
  if (queued_) loop_.ForgetRead(this);
  poll_.reset();
  if (fd_ >= 0) ::close(fd_);
}

Status SocketStream::Start(StreamReceiver* receiver) {
  receiver_ = receiver;
  Result<UvPoll> poll = loop_.Watch(fd_, this);
  if (!poll.ok()) return poll.status();
  poll_ = std::move(*poll);
  reading_ = true;
  return ChangeInterest();
}

Status SocketStream::ChangeInterest() {
  if (closed_ || ended_) return Status::Ok();
  const int interest = (reading_ ? UV_READABLE : 0) | (want_writable_ ? UV_WRITABLE : 0);
  if (interest == interest_) return Status::Ok();
  interest_ = interest;
  if (interest == 0) {
    uv_poll_stop(poll_->get());
    return Status::Ok();
  }
  return loop_.WaitFor(poll_, interest, [](uv_poll_t* handle, int status, int events) {
    if (handle->data != nullptr) static_cast<SocketStream*>(handle->data)->OnPoll(status, events);
  });
}

void SocketStream::UpdateInterest() {
  if (const Status changed = ChangeInterest(); !changed.ok()) FailLater(changed);
}

void SocketStream::OnPoll(int status, int events) {
  // The receiver destroys this object in OnClosed at the earliest, which is posted, never called
  // from in here.
  if (status < 0) {
    // An error condition on the socket: read(2) says which, behind what came before it. libuv no
    // longer watches.
    interest_ = 0;
    events = UV_READABLE;
  }
  if (events & UV_WRITABLE) {
    want_writable_ = false;
    UpdateInterest();
    receiver_->OnWritable();
    if (closed_) return;
  }
  if ((events & UV_READABLE) && !queued_) {
    queued_ = true;
    loop_.EnqueueRead(this);
  }
}

std::span<char> SocketStream::BeginRead() {
  std::span<char> space;
  if (!closed_ && !ended_ && reading_) {
    space = receiver_->ReadBuffer();
    if (space.empty()) PauseReads();
  }
  queued_ = !space.empty();
  return space;
}

void SocketStream::EndRead(ssize_t result) {
  queued_ = false;
  if (closed_ || ended_) return;
  UpdateInterest();
  if (result > 0) {
    receiver_->OnRead(static_cast<size_t>(result));
  } else if (result == 0) {
    Fail(Status::Ok());
  } else if (result != -EAGAIN && result != -EINTR) {
    Fail(Status::Io(std::string("read: ") + std::strerror(static_cast<int>(-result))));
  }
}

size_t SocketStream::TryWrite(std::span<const std::string_view> pieces) {
  if (closed_ || broken_) return 0;
  iovec vectors[kMaxPieces];
  const size_t count = std::min(pieces.size(), kMaxPieces);
  size_t offered = 0;
  for (size_t i = 0; i < count; ++i) {
    vectors[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
    offered += pieces[i].size();
  }
  // A single piece, the usual reply, spares the kernel the vector.
  const ssize_t written =
      count == 1 ? ::send(fd_, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL) : [&] {
        msghdr message{};
        message.msg_iov = vectors;
        message.msg_iovlen = count;
        return ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      }();
  return Wrote(offered, written < 0 ? -errno : written);
}

size_t SocketStream::Wrote(size_t offered, ssize_t result) {
  if (closed_ || broken_) return 0;
  if (result < 0 && result != -EAGAIN && result != -EINTR) {
    FailLater(Status::Io(std::string("write: ") + std::strerror(static_cast<int>(-result))));
    return 0;
  }
  const size_t taken = result < 0 ? 0 : static_cast<size_t>(result);
  if (taken < offered) {
    want_writable_ = true;
    UpdateInterest();
  }
  return taken;
}

void SocketStream::Fail(const Status& reason) {
  if (closed_ || ended_) return;
  uv_poll_stop(poll_->get());
  interest_ = 0;
  ended_ = true;
  broken_ = !reason.ok();
  receiver_->OnEnd(reason);
}

void SocketStream::FailLater(const Status& reason) {
  loop_.Post([this, alive = alive_, reason] {
    if (*alive) Fail(reason);
  });
}

void SocketStream::Close() {
  if (closed_) return;
  closed_ = true;
  poll_.reset();
  ::close(fd_);
  fd_ = -1;
  const std::shared_ptr<bool> alive = alive_;
  loop_.Post([this, alive] {
    if (*alive) receiver_->OnClosed();
  });
}

void SocketStream::PauseReads() {
  reading_ = false;
  UpdateInterest();
}

void SocketStream::ResumeReads() {
  reading_ = true;
  UpdateInterest();
}

}  // namespace cairn

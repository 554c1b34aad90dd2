#pragma once

// SocketStream: a connected socket (TCP or unix) as a Stream, on a uv_poll_t. uv_poll rather than
// uv_tcp: libuv's stream writes need an allocation and an epoll_ctl per partial write and hide the
// moment a socket becomes writable; with poll the receiver's bytes go out in one writev and come in
// by one read per turn, straight to where the receiver wants them. Thread: loop.

#include <uv.h>

#include <cstdint>
#include <memory>
#include <string>

#include "server/net/event_loop.h"
#include "server/platform/transport.h"

namespace cairn {

class SocketStream final : public Stream {
 public:
  /// Takes over `fd` (non-blocking).
  SocketStream(EventLoop& loop, int fd, std::string peer, std::string local);
  ~SocketStream() override;

  /// Starts reading. The receiver must outlive the stream. Errors: as EventLoop::Watch; the
  /// stream is of no use then.
  Status Start(StreamReceiver* receiver);

  size_t TryWrite(std::span<const std::string_view> pieces) override;
  /// The same for one piece of `offered` bytes that a SocketBatch wrote: `result` as there.
  size_t Wrote(size_t offered, ssize_t result);
  /// Where the next bytes shall go; empty: it does not read now.
  std::span<char> BeginRead();
  /// What a receive into that place came to: as recv(2), or -errno.
  void EndRead(ssize_t result);
  void Close() override;
  void PauseReads() override;
  void ResumeReads() override;
  const std::string& peer_address() const override { return peer_; }
  const std::string& local_address() const override { return local_; }
  int fd() const override { return fd_; }

 private:
  /// Waits for what is wanted now. Errors: as EventLoop::WaitFor.
  Status ChangeInterest();
  /// The same from inside a call on the stream or a callback; an error ends it.
  void UpdateInterest();
  void OnPoll(int status, int events);
  void Fail(const Status& reason);
  /// OnEnd must not be called from inside a call on the stream: it is posted.
  void FailLater(const Status& reason);

  EventLoop& loop_;
  int fd_;
  std::string peer_, local_;
  StreamReceiver* receiver_ = nullptr;
  UvPoll poll_;
  int interest_ = 0;
  bool reading_ = false;
  bool want_writable_ = false;
  bool closed_ = false;
  bool ended_ = false;   // nothing more will be read
  bool broken_ = false;  // and nothing can be written
  bool queued_ = false;  // the loop is to read from it, or has read what it was not told of yet
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// Formats a socket address as CLIENT LIST shows it; unix sockets as "path:0".
std::string FormatAddress(const struct sockaddr* address, const std::string& unix_path);

}  // namespace cairn

#pragma once

// Transport: the port to streams, timers and the event loop. server/net implements it over libuv,
// tests over memory; nothing above the platform floor knows of sockets. Everything here belongs to
// the loop's thread, except EventLoopPort::Post. Interfaces only.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/base/status.h"

namespace cairn {

/// What a stream tells its user. Called from the loop, never from inside a call on the stream.
class StreamReceiver {
 public:
  virtual ~StreamReceiver() = default;
  /// Asks where the next bytes shall go: the final place of a big argument, or an input buffer. An
  /// empty span pauses reading.
  virtual std::span<char> ReadBuffer() = 0;
  /// `size` bytes arrived in the span last given by ReadBuffer. Requires: size > 0.
  virtual void OnRead(size_t size) = 0;
  /// The stream takes bytes again after TryWrite accepted fewer than offered.
  virtual void OnWritable() = 0;
  /// The peer ended its side (ok) or the stream broke (kIo). Last call of the stream but OnClosed.
  virtual void OnEnd(const Status& reason) = 0;
  /// Answers Close: the stream is gone and will not call again; receiver and stream may be
  /// destroyed.
  virtual void OnClosed() = 0;
};

/// A connected byte stream (TCP, unix socket, TLS, or memory in tests). Thread: loop.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Offers `pieces` in order with one vectored write. Returns how many bytes were taken; fewer
  /// than offered means that OnWritable follows when there is room. After a failure it takes
  /// nothing and OnEnd follows. The pieces are borrowed for the call only.
  virtual size_t TryWrite(std::span<const std::string_view> pieces) = 0;
  /// Ends the stream now; OnClosed follows. Idempotent.
  virtual void Close() = 0;
  virtual void PauseReads() = 0;
  virtual void ResumeReads() = 0;
  /// "ip:port", "[ip6]:port", or "path:0" on a unix socket, as CLIENT LIST shows them.
  virtual const std::string& peer_address() const = 0;
  virtual const std::string& local_address() const = 0;
  /// The descriptor for display; -1 when there is none.
  virtual int fd() const = 0;
};

struct ConnectRequest {
  std::string host;  ///< name or address
  int port = 0;
  std::string source_address;  ///< to connect from; empty: the system chooses
};

/// An attempt to connect; destroying it gives up, and nothing is called any more.
class Connecting {
 public:
  virtual ~Connecting() = default;
};

/// Makes outgoing connections. Thread: loop.
class Connector {
 public:
  virtual ~Connector() = default;
  /// Called once, from the loop, never from inside Connect. `receiver` hears of the stream from
  /// then on. Errors: kIo with the system's text. How long it may take is the caller's to say.
  using Done = std::function<void(Result<std::unique_ptr<Stream>>)>;
  virtual std::unique_ptr<Connecting> Connect(const ConnectRequest& request,
                                              StreamReceiver* receiver, Done done) = 0;
};

/// Identifies a timer for its loop's lifetime; 0 is never used.
using TimerId = uint64_t;

class EventLoopPort {
 public:
  virtual ~EventLoopPort() = default;
  /// Runs `job` on the loop's thread, in the order of posting, after the current callback. Thread:
  /// any.
  virtual void Post(std::function<void()> job) = 0;
  /// Calls `fn` after `delay_ms` and then every `period_ms` (0: once). A late loop skips missed
  /// periods.
  virtual TimerId StartTimer(int64_t delay_ms, int64_t period_ms, std::function<void()> fn) = 0;
  /// The timer will not fire again, not even when it is due. Unknown ids are ignored, so that a
  /// one-shot timer may be stopped after it fired.
  virtual void StopTimer(TimerId id) = 0;
  /// Monotonic milliseconds, fixed for the length of a loop turn.
  virtual int64_t NowMillis() const = 0;
};

}  // namespace cairn

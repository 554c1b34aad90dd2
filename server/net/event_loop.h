#pragma once

// EventLoop: the libuv loop as the engine's EventLoopPort: posted jobs, timers, signals, and the
// end-of-poll step that reads from all sockets a poll found readable, together, and then runs
// everything that made ready. It knows nothing of clients. All libuv
// handles of the server are UvOwned, which frees its memory in the close callback, never earlier.
// Thread: the loop's, but for Post.

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "server/base/status.h"
#include "server/net/socket_batch.h"
#include "server/platform/transport.h"

namespace cairn {

/// A libuv handle on the heap that closes itself with its owner: libuv keeps using the memory until
/// the close callback, so the callback is what frees it.
template <typename Handle>
class UvOwned {
 public:
  UvOwned() : handle_(new Handle()) {}
  ~UvOwned() { Reset(); }
  UvOwned(const UvOwned&) = delete;
  UvOwned& operator=(const UvOwned&) = delete;
  Handle* get() const { return handle_; }
  /// States that the handle was never initialised: plain delete.
  void Abandon() {
    delete handle_;
    handle_ = nullptr;
  }
  void Reset() {
    if (handle_ == nullptr) return;
    auto* base = reinterpret_cast<uv_handle_t*>(handle_);
    base->data = nullptr;
    uv_close(base, [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
    handle_ = nullptr;
  }

 private:
  Handle* handle_;
};

using UvPoll = std::unique_ptr<UvOwned<uv_poll_t>>;

class SocketStream;

class EventLoop final : public EventLoopPort {
 public:
  EventLoop();
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void Post(std::function<void()> job) override;
  TimerId StartTimer(int64_t delay_ms, int64_t period_ms, std::function<void()> fn) override;
  void StopTimer(TimerId id) override;
  int64_t NowMillis() const override;

  /// Called after each poll, when all readable sockets have been read.
  void SetAfterPoll(std::function<void()> fn) { after_poll_ = std::move(fn); }
  void OnSignal(int signal_number, std::function<void(int)> fn);
  /// Runs until Stop().
  void Run();
  /// One turn without waiting: keeps sockets answered during a long load. Posted jobs run too.
  void RunOnceNoWait();
  /// The jobs posted so far, and nothing else.
  void RunPosted();
  /// One turn without waiting in which only sockets are served, from inside the after-poll step:
  /// timers, signals and posted jobs keep until the step that called has ended. Not reentrant.
  void RunSocketsNoWait();
  void Stop();
  /// Has `stream` read from when this poll is over, with all others. Once a poll.
  void EnqueueRead(SocketStream* stream) { readable_.push_back(stream); }
  /// The stream is going: it will not be read from.
  void ForgetRead(SocketStream* stream);
  /// For whoever has operations for many sockets. Empty between calls.
  SocketBatch& batch() { return batch_; }
  /// A handle over `fd`, with `data` for its callback. Errors: kIo, the system does not take one
  /// more (fs.epoll.max_user_watches, memory), or nothing can be waited for there.
  Result<UvPoll> Watch(int fd, void* data);
  /// From now on `callback` is told of `events` at the handle's descriptor. Errors: as Watch; the
  /// handle waits for nothing then. Each change of what it waits for goes through here: libuv by
  /// itself registers a descriptor only when the loop polls, and ends the process if that fails.
  [[nodiscard]] Status WaitFor(const UvPoll& poll, int events, uv_poll_cb callback);
  uv_loop_t* uv() { return &loop_; }

 private:
  struct Timer {
    UvOwned<uv_timer_t> handle;
    std::function<void()> fn;
    bool repeats = false;
    EventLoop* loop = nullptr;
    TimerId id = 0;
  };
  struct Signal {
    UvOwned<uv_signal_t> handle;
    std::function<void(int)> fn;
    EventLoop* loop = nullptr;
    bool missed = false;  // came while only sockets were served
  };
  static void FireTimer(uv_timer_t* handle);
  void ReadSockets();
  void CatchUp();

  uv_loop_t loop_;
  // Not uv_async_t: its callback spins until the sender has come back from waking the loop, and a
  // thread that the loop itself has put off its core comes back when the loop sleeps.
  int wake_fd_ = -1;
  UvPoll wake_;
  std::unique_ptr<UvOwned<uv_check_t>> check_;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  std::unordered_map<TimerId, std::unique_ptr<Timer>> timers_;
  std::vector<std::unique_ptr<Signal>> signals_;
  TimerId next_timer_ = 1;
  std::function<void()> after_poll_;
  SocketBatch batch_;
  std::vector<SocketStream*> readable_;
  struct Read {
    SocketStream* stream;
    std::span<char> space;
    ssize_t result;
  };
  std::vector<Read>
      reads_;  // those whose streams are still to be told, of a turn inside a turn last
  bool sockets_only_ = false;
  bool missed_signal_ = false;
  std::vector<TimerId> missed_timers_;  // one-shot ones
};

}  // namespace cairn

#include "server/net/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "server/base/check.h"
#include "server/net/socket_stream.h"

namespace cairn {

EventLoop::EventLoop() {
  CAIRN_CHECK(uv_loop_init(&loop_) == 0);
  wake_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  CAIRN_CHECK(wake_fd_ >= 0);
  auto wake = Watch(wake_fd_, this);
  CAIRN_CHECK(wake.ok());
  wake_ = std::move(*wake);
  const Status waits = WaitFor(wake_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    static_cast<EventLoop*>(handle->data)->RunPosted();
  });
  CAIRN_CHECK(waits.ok());
  check_ = std::make_unique<UvOwned<uv_check_t>>();
  uv_check_init(&loop_, check_->get());
  check_->get()->data = this;
  uv_check_start(check_->get(), [](uv_check_t* handle) {
    auto* self = static_cast<EventLoop*>(handle->data);
    self->ReadSockets();
    if (self->after_poll_) self->after_poll_();
    if (!self->sockets_only_) self->CatchUp();
  });
}

EventLoop::~EventLoop() {
  timers_.clear();
  signals_.clear();
  check_.reset();
  wake_.reset();
  // Two turns run the close callbacks, which free the handles.
  while (uv_run(&loop_, UV_RUN_NOWAIT) != 0) {
  }
  CAIRN_CHECK(uv_loop_close(&loop_) == 0);
  ::close(wake_fd_);
}

Result<UvPoll> EventLoop::Watch(int fd, void* data) {
  auto poll = std::make_unique<UvOwned<uv_poll_t>>();
  if (const int failed = uv_poll_init(&loop_, poll->get(), fd); failed != 0) {
    poll->Abandon();
    return Status::Io(uv_strerror(failed));
  }
  poll->get()->data = data;
  return poll;
}

Status EventLoop::WaitFor(const UvPoll& poll, int events, uv_poll_cb callback) {
  uv_poll_t* handle = poll->get();
  uv_os_fd_t fd = -1;
  int failed = uv_poll_start(handle, events, callback);
  if (failed == 0) failed = uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd);
  if (failed != 0) return Status::Io(uv_strerror(failed));
  // uv_poll_start has taken the descriptor out. libuv, which is to put it in again, finds it there
  // and only says what to wait for.
  epoll_event nothing_yet{};
  nothing_yet.data.fd = fd;
  if (::epoll_ctl(uv_backend_fd(&loop_), EPOLL_CTL_ADD, fd, &nothing_yet) == 0) return Status::Ok();
  const int error = errno;
  uv_poll_stop(handle);
  return Status::Io(std::string("epoll_ctl: ") + std::strerror(error));
}

void EventLoop::Post(std::function<void()> job) {
  bool first;
  {
    std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(job));
  }
  // Fails only when the count is at its end, and then the loop wakes all the same.
  if (first) (void)::eventfd_write(wake_fd_, 1);
}

void EventLoop::RunPosted() {
  if (sockets_only_) return;  // the descriptor stays readable
  eventfd_t count;
  (void)::eventfd_read(wake_fd_, &count);
  std::vector<std::function<void()>> jobs;
  {
    std::lock_guard lock(posted_mutex_);
    jobs.swap(posted_);
  }
  for (auto& job : jobs) job();
}

void EventLoop::FireTimer(uv_timer_t* handle) {
  auto* due = static_cast<Timer*>(handle->data);
  if (due->loop->sockets_only_) {
    if (!due->repeats) due->loop->missed_timers_.push_back(due->id);
    return;
  }
  if (due->repeats) {
    due->fn();  // may stop and free this timer: nothing of it is used afterwards
    return;
  }
  std::function<void()> once = std::move(due->fn);
  due->loop->timers_.erase(due->id);
  once();
}

// All streams say where their bytes shall go before the first of them is told what came. What a
// receiver does with its own may run this again (a script of a primary that takes too long), or
// close and destroy other streams.
void EventLoop::ReadSockets() {
  if (readable_.empty()) return;
  const size_t begin = reads_.size();
  for (SocketStream* stream : readable_) {
    const std::span<char> space = stream->BeginRead();
    if (!space.empty()) reads_.push_back({stream, space, 0});
  }
  readable_.clear();
  const size_t end = reads_.size();
  for (size_t i = begin; i < end; ++i)
    batch_.AddReceive(reads_[i].stream->fd(), reads_[i].space, &reads_[i].result);
  batch_.Run();
  for (size_t i = begin; i < end; ++i) {
    const Read read = reads_[i];
    if (read.stream != nullptr) read.stream->EndRead(read.result);
  }
  reads_.resize(begin);
}

void EventLoop::ForgetRead(SocketStream* stream) {
  std::erase(readable_, stream);
  for (Read& read : reads_)
    if (read.stream == stream) read.stream = nullptr;
}

void EventLoop::RunSocketsNoWait() {
  sockets_only_ = true;
  uv_run(&loop_, UV_RUN_NOWAIT);
  sockets_only_ = false;
}

// What came while only sockets were served: asked for again, so that it runs from the loop itself.
void EventLoop::CatchUp() {
  for (TimerId id : std::exchange(missed_timers_, {})) {
    const auto found = timers_.find(id);
    if (found != timers_.end()) uv_timer_start(found->second->handle.get(), FireTimer, 0, 0);
  }
  if (!std::exchange(missed_signal_, false)) return;
  for (const auto& signal : signals_) {
    if (std::exchange(signal->missed, false)) signal->fn(signal->handle.get()->signum);
  }
}

TimerId EventLoop::StartTimer(int64_t delay_ms, int64_t period_ms, std::function<void()> fn) {
  auto timer = std::make_unique<Timer>();
  timer->fn = std::move(fn);
  timer->repeats = period_ms > 0;
  timer->loop = this;
  timer->id = next_timer_++;
  uv_timer_init(&loop_, timer->handle.get());
  timer->handle.get()->data = timer.get();
  uv_timer_start(timer->handle.get(), FireTimer, static_cast<uint64_t>(delay_ms < 0 ? 0 : delay_ms),
                 static_cast<uint64_t>(period_ms < 0 ? 0 : period_ms));
  const TimerId id = timer->id;
  timers_.emplace(id, std::move(timer));
  return id;
}

void EventLoop::StopTimer(TimerId id) {
  const auto found = timers_.find(id);
  if (found == timers_.end()) return;
  // The callback of a repeating timer may be running on this very object: stop it now, free it
  // later.
  uv_timer_stop(found->second->handle.get());
  std::shared_ptr<Timer> dying(std::move(found->second));
  timers_.erase(found);
  Post([dying] {});
}

int64_t EventLoop::NowMillis() const { return static_cast<int64_t>(uv_now(&loop_)); }

void EventLoop::OnSignal(int signal_number, std::function<void(int)> fn) {
  auto signal = std::make_unique<Signal>();
  signal->fn = std::move(fn);
  uv_signal_init(&loop_, signal->handle.get());
  signal->handle.get()->data = signal.get();
  signal->loop = this;
  uv_signal_start(
      signal->handle.get(),
      [](uv_signal_t* handle, int number) {
        auto* self = static_cast<Signal*>(handle->data);
        if (self->loop->sockets_only_) {
          self->missed = self->loop->missed_signal_ = true;
        } else {
          self->fn(number);
        }
      },
      signal_number);
  signals_.push_back(std::move(signal));
}

void EventLoop::Run() { uv_run(&loop_, UV_RUN_DEFAULT); }
void EventLoop::RunOnceNoWait() { uv_run(&loop_, UV_RUN_NOWAIT); }
void EventLoop::Stop() { uv_stop(&loop_); }

}  // namespace cairn

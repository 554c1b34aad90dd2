#include "server/platform/worker.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "server/base/check.h"

namespace cairn {
namespace {

/// The kernel's encoding of "this thread, class idle"; glibc has no header for it.
constexpr int kIoPriorityWhoThread = 1;
constexpr int kIoPriorityIdle = 3 << 13;

void ApplyOptions(const WorkerOptions& options) {
  pthread_setname_np(pthread_self(), options.name.substr(0, 15).c_str());
  const auto thread_id = static_cast<id_t>(::syscall(SYS_gettid));
  if (options.nice_level != 0) {
    errno = 0;
    const int current = ::getpriority(PRIO_PROCESS, thread_id);
    if (errno == 0) ::setpriority(PRIO_PROCESS, thread_id, current + options.nice_level);
  }
  if (options.idle_io) ::syscall(SYS_ioprio_set, kIoPriorityWhoThread, 0, kIoPriorityIdle);
}

}  // namespace

WorkerThread::WorkerThread(WorkerOptions options)
    : options_(std::move(options)), thread_([this] { Run(); }) {}

WorkerThread::~WorkerThread() { Stop(); }

void WorkerThread::Post(std::function<void()> job) {
  std::lock_guard lock(mutex_);
  CAIRN_CHECK(!stopping_);
  jobs_.push_back(std::move(job));
  ++posted_;
  wake_.notify_one();
}

size_t WorkerThread::pending() const {
  std::lock_guard lock(mutex_);
  return posted_ - finished_;
}

void WorkerThread::Drain() {
  CAIRN_CHECK(std::this_thread::get_id() != thread_.get_id());
  std::unique_lock lock(mutex_);
  const size_t target = posted_;
  idle_.wait(lock, [&] { return finished_ >= target; });
}

void WorkerThread::Stop() {
  CAIRN_CHECK(std::this_thread::get_id() != thread_.get_id());
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void WorkerThread::Run() {
  ApplyOptions(options_);
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // What the job captured is freed before it counts as finished.
    lock.lock();
    ++finished_;
    idle_.notify_all();
  }
}

}  // namespace cairn

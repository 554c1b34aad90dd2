#include "server/platform/worker.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

#include "server/base/check.h"

namespace cairn {
namespace {

/// The kernel's encoding of "this thread, class idle"; glibc has no header for it.
constexpr int kIoPriorityWhoThread = 1;
constexpr int kIoPriorityIdle = 3 << 13;

/// As in <linux/sched/types.h>, which glibc's headers cannot be included beside.
struct SchedAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline,
      period;  // nanoseconds; runtime is the slice of a fair thread, 0 = usual
};

void SetSlice(uint64_t slice_ns) {
  SchedAttributes attributes{};
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;  // somebody chose a policy for us
  attributes.size = sizeof attributes;
  attributes.runtime = slice_ns;
  // A wish: kernels that know no slices ignore it.
  (void)::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

constexpr uint64_t kUsualSlice = 0;
constexpr uint64_t kShortSliceNs = 100'000;  // the least the kernel grants

void ApplyOptions(const WorkerOptions& options) {
  SetSlice(options.gives_way ? kShortSliceNs : kUsualSlice);  // the executor's is inherited
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

void AskForShortSlices() { SetSlice(kShortSliceNs); }

void AskForUsualSlices() { SetSlice(kUsualSlice); }

void GiveWay() { ::sched_yield(); }

int64_t ThreadCpuMicros() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000LL + time.tv_nsec / 1000;
}

uint64_t ThreadWaits() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<uint64_t>(usage.ru_nvcsw);
}

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

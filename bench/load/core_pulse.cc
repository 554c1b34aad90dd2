#include "bench/load/core_pulse.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

namespace cairn {

namespace {

bool GoAheadOn(unsigned core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  const sched_param first{sched_get_priority_max(SCHED_FIFO)};
  return pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0 &&
         pthread_setschedparam(pthread_self(), SCHED_FIFO, &first) == 0;
}

}  // namespace

int64_t NowNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

CorePulse::CorePulse() : started_(std::thread::hardware_concurrency()) {
  for (unsigned core = 0; core < std::thread::hardware_concurrency(); ++core)
    threads_.emplace_back([this, core] { Run(core); });
  started_.wait();
}

CorePulse::Stops CorePulse::End() {
  ending_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return refused_ ? Stops() : stops_;
}

void CorePulse::Run(unsigned core) {
  if (!GoAheadOn(core)) refused_ = true;
  started_.arrive_and_wait();
  int64_t last_ns = NowNanos();
  while (!ending_ && !refused_) {
    last_ns = Pulse(last_ns);
    std::this_thread::sleep_for(std::chrono::nanoseconds(kPeriodNs));
  }
}

int64_t CorePulse::Pulse(int64_t last_of_core_ns) {
  std::lock_guard lock(mutex_);
  const int64_t now_ns = NowNanos();
  if (now_ns - last_of_core_ns > kStopNs) stops_.of_a_core.push_back({last_of_core_ns, now_ns});
  if (last_pulse_ns_ != 0 && now_ns - last_pulse_ns_ > kStopNs)
    stops_.of_all.push_back({last_pulse_ns_, now_ns});
  return last_pulse_ns_ = now_ns;
}

}  // namespace cairn

#include "server/engine/log_throttle.h"

#include <utility>

#include "server/engine/engine.h"

namespace cairn {

namespace {

// Between two looks at whether the disk has caught up.
constexpr int64_t kLookEveryMs = 1;
// A disk that is just too slow is over the limit and under it many times a second.
constexpr int64_t kLogEveryUs = 10'000'000;

}  // namespace

LogThrottle::LogThrottle(Engine& engine, std::function<bool()> over_limit)
    : engine_(engine), over_limit_(std::move(over_limit)) {}

LogThrottle::~LogThrottle() {
  if (timer_running_) engine_.loop.StopTimer(timer_);
}

bool LogThrottle::HoldsWrites() {
  if (over_limit_()) {
    if (began_us_ < 0) Begin();
    return true;
  }
  if (began_us_ >= 0) {
    held_us_ = held_us();
    began_us_ = -1;
  }
  return false;
}

void LogThrottle::Begin() {
  began_us_ = engine_.env.MonotonicMicros();
  ++holds_;
  if (logged_us_ < 0 || began_us_ - logged_us_ >= kLogEveryUs) {
    logged_us_ = began_us_;
    engine_.log.Log(LogLevel::kWarning,
                    "The disk does not keep up with the append only file: commands that write wait "
                    "for it (aof-buffer-limit, aof-unsynced-limit)");
  }
  if (timer_running_) return;
  timer_running_ = true;
  timer_ = engine_.loop.StartTimer(kLookEveryMs, kLookEveryMs, [this] {
    if (HoldsWrites()) return;
    timer_running_ = false;
    engine_.loop.StopTimer(timer_);
    engine_.ResumeHeld();
  });
}

uint64_t LogThrottle::held_us() const {
  const int64_t running_us = began_us_ < 0 ? 0 : engine_.env.MonotonicMicros() - began_us_;
  return held_us_ + static_cast<uint64_t>(running_us);
}

}  // namespace cairn

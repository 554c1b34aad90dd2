#include "server/engine/snapshot_throttle.h"

#include <algorithm>
#include <utility>

#include "server/engine/engine.h"

namespace cairn {

namespace {

// Between two looks at whether the walker has caught up.
constexpr int64_t kLookEveryMs = 1;

}  // namespace

SnapshotThrottle::SnapshotThrottle(Engine& engine, std::function<void()> give_up)
    : engine_(engine), give_up_(std::move(give_up)) {}

SnapshotThrottle::~SnapshotThrottle() {
  if (timer_running_) engine_.loop.StopTimer(timer_);
}

bool SnapshotThrottle::HoldsWrites() {
  const uint64_t retained = engine_.keyspace.retained_value_bytes();
  if (retained > peak_bytes_) peak_bytes_ = retained;
  const Settings& settings = engine_.settings();
  const uint64_t limit = settings.snapshot_retained_limit;
  const uint64_t bound = holding_ ? limit - std::min(limit / 16, kSlackBytes) : limit;
  if (retained <= bound) [[likely]] {
    if (holding_) StopHolding(engine_.env.MonotonicMicros());
    return false;
  }
  const int64_t now_us = engine_.env.MonotonicMicros();
  if (given_up_ || now_us < grace_until_us_) return false;
  if (!holding_) StartHolding(now_us);
  if (now_us - began_us_ < settings.snapshot_max_write_delay * 1000LL) return true;
  StopHolding(now_us);
  if (settings.snapshot_over_limit_policy == SnapshotOverLimitPolicy::kAbort) {
    // What is held goes as soon as the walker sees it; nobody waits for that.
    given_up_ = true;
    give_up_();
  } else {
    grace_until_us_ = now_us + kGraceUs;
  }
  return false;
}

void SnapshotThrottle::StartHolding(int64_t now_us) {
  holding_ = true;
  began_us_ = now_us;
  ++holds_;
  if (timer_running_) return;
  timer_running_ = true;
  timer_ = engine_.loop.StartTimer(kLookEveryMs, kLookEveryMs, [this] {
    if (HoldsWrites()) return;
    timer_running_ = false;
    engine_.loop.StopTimer(timer_);
    engine_.ResumeHeld();
  });
}

void SnapshotThrottle::StopHolding(int64_t now_us) {
  holding_ = false;
  held_us_ += static_cast<uint64_t>(now_us - began_us_);
}

uint64_t SnapshotThrottle::held_us() const {
  const int64_t running_us = holding_ ? engine_.env.MonotonicMicros() - began_us_ : 0;
  return held_us_ + static_cast<uint64_t>(running_us);
}

}  // namespace cairn

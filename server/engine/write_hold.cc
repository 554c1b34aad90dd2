#include "server/engine/write_hold.h"

#include <utility>

#include "server/engine/engine.h"

namespace cairn {

namespace {

// Between two looks at whether those who wait may go on.
constexpr int64_t kLookEveryMs = 1;

}  // namespace

WriteHold::WriteHold(Engine& engine, std::function<bool()> still_holds)
    : engine_(engine), still_holds_(std::move(still_holds)) {}

WriteHold::~WriteHold() {
  if (timer_running_) engine_.loop.StopTimer(timer_);
}

void WriteHold::Begin(int64_t now_us) {
  began_us_ = now_us;
  ++holds_;
  if (timer_running_) return;
  timer_running_ = true;
  timer_ = engine_.loop.StartTimer(kLookEveryMs, kLookEveryMs, [this] {
    if (still_holds_()) return;
    timer_running_ = false;
    engine_.loop.StopTimer(timer_);
    engine_.ResumeHeld();
  });
}

void WriteHold::End(int64_t now_us) {
  held_us_ += static_cast<uint64_t>(now_us - began_us_);
  began_us_ = -1;
}

uint64_t WriteHold::held_us() const {
  const int64_t running_us = holding() ? engine_.env.MonotonicMicros() - began_us_ : 0;
  return held_us_ + static_cast<uint64_t>(running_us);
}

}  // namespace cairn

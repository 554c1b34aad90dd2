#include "server/engine/log_throttle.h"

#include <utility>

#include "server/engine/engine.h"

namespace cairn {

namespace {

// A disk that is just too slow is over the limit and under it many times a second.
constexpr int64_t kLogEveryUs = 10'000'000;

}  // namespace

LogThrottle::LogThrottle(Engine& engine, std::function<bool()> over_limit)
    : engine_(engine),
      over_limit_(std::move(over_limit)),
      hold_(engine, [this] { return HoldsWrites(); }) {}

bool LogThrottle::HoldsWrites() {
  const bool over = over_limit_();
  if (over == hold_.holding()) return over;
  const int64_t now_us = engine_.env.MonotonicMicros();
  if (!over) {
    hold_.End(now_us);
    return false;
  }
  hold_.Begin(now_us);
  if (logged_us_ < 0 || now_us - logged_us_ >= kLogEveryUs) {
    logged_us_ = now_us;
    engine_.log.Log(LogLevel::kWarning,
                    "The disk does not keep up with the append only file: commands that write wait "
                    "for it (aof-buffer-limit, aof-unsynced-limit)");
  }
  return true;
}

}  // namespace cairn

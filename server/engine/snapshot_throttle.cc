#include "server/engine/snapshot_throttle.h"

#include <algorithm>
#include <utility>

#include "server/engine/engine.h"

namespace cairn {

uint64_t SnapshotRetainedLimit(const Settings& settings) {
  constexpr uint64_t kLeastBytes = uint64_t{64} << 20;
  constexpr uint64_t kPartOfMaxmemory = 50;
  if (settings.snapshot_retained_limit != 0) return settings.snapshot_retained_limit;
  return std::max(kLeastBytes, settings.maxmemory / kPartOfMaxmemory);
}

SnapshotThrottle::SnapshotThrottle(Engine& engine, std::function<void()> give_up)
    : engine_(engine),
      give_up_(std::move(give_up)),
      hold_(engine, [this] { return HoldsWrites(); }) {}

bool SnapshotThrottle::HoldsWrites() {
  const uint64_t retained = engine_.keyspace.retained_value_bytes();
  if (retained > peak_bytes_) peak_bytes_ = retained;
  const Settings& settings = engine_.settings();
  const uint64_t limit = SnapshotRetainedLimit(settings);
  const uint64_t bound = hold_.holding() ? limit - std::min(limit / 16, kSlackBytes) : limit;
  if (retained <= bound) [[likely]] {
    if (hold_.holding()) hold_.End(engine_.env.MonotonicMicros());
    return false;
  }
  const int64_t now_us = engine_.env.MonotonicMicros();
  if (given_up_ || now_us < grace_until_us_) return false;
  if (!hold_.holding()) hold_.Begin(now_us);
  if (now_us - hold_.began_us() < settings.snapshot_max_write_delay * 1000LL) return true;
  hold_.End(now_us);
  if (settings.snapshot_over_limit_policy == SnapshotOverLimitPolicy::kAbort) {
    // What is held goes as soon as the walker sees it; nobody waits for that.
    given_up_ = true;
    give_up_();
  } else {
    grace_until_us_ = now_us + kGraceUs;
  }
  return false;
}

}  // namespace cairn

#pragma once

// Why clients are held back, and which of their commands: by CLIENT PAUSE, by a shutdown that waits
// for replicas, by a failover. Each ends for itself; the strictest of them counts (as in Redis 7).
// While any is on the dataset stays as it is: nothing expires, nothing is evicted, and a replica
// does not run its primary's stream. Thread: executor.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace cairn {

/// What a pause holds; a later one is stricter.
enum class PauseMode : uint8_t { kNone, kWrites, kAll };

enum class PauseReason : uint8_t { kCommand, kShutdown, kFailover };
inline constexpr size_t kPauseReasons = 3;

class ClientPauses {
 public:
  /// Until `until_ms` (wall clock, ms). Adds to a pause of the same reason: it gets no milder and
  /// no shorter.
  void Pause(PauseReason reason, PauseMode mode, int64_t until_ms) {
    One& one = Of(reason);
    one.mode = std::max(one.mode, mode);
    one.until_ms = std::max(one.until_ms, until_ms);
    Count();
  }
  void End(PauseReason reason) {
    Of(reason) = {};
    Count();
  }
  /// Ends those whose time is over.
  void EndDue(int64_t now_ms) {
    for (One& one : pauses_)
      if (now_ms >= one.until_ms) one = {};
    Count();
  }
  /// The strictest of all that are on.
  PauseMode mode() const { return mode_; }
  bool IsOn(PauseReason reason) const { return Of(reason).mode != PauseMode::kNone; }
  /// Whether one may be over at `now_ms`.
  bool MayBeDue(int64_t now_ms) const { return now_ms >= next_end_ms_; }

 private:
  struct One {
    PauseMode mode = PauseMode::kNone;
    int64_t until_ms = 0;
  };
  One& Of(PauseReason reason) { return pauses_[static_cast<size_t>(reason)]; }
  const One& Of(PauseReason reason) const { return pauses_[static_cast<size_t>(reason)]; }
  void Count() {
    mode_ = PauseMode::kNone;
    next_end_ms_ = INT64_MAX;
    for (const One& one : pauses_) {
      if (one.mode == PauseMode::kNone) continue;
      mode_ = std::max(mode_, one.mode);
      next_end_ms_ = std::min(next_end_ms_, one.until_ms);
    }
  }

  std::array<One, kPauseReasons> pauses_;
  PauseMode mode_ = PauseMode::kNone;
  int64_t next_end_ms_ = INT64_MAX;
};

}  // namespace cairn

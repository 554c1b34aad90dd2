#pragma once

// SnapshotThrottle: back-pressure of a running save or rewrite. When the old values held for its
// view pass snapshot-retained-limit, commands that write are held (their sessions are suspended,
// reads and everybody else go on) until the walker has caught up. It decides that and resumes them;
// the dispatcher suspends. Thread: executor.
//
//   free --HoldsWrites, over the limit--> holding --walker caught up--> free
//   holding --longer than snapshot-max-write-delay--> abort: the save is given up, free
//                                                 --> throttle: free for kGraceUs, then as before

#include <cstdint>
#include <functional>

#include "server/engine/write_hold.h"

namespace cairn {

class Engine;
struct Settings;

/// Bytes of old values from which on writers wait: snapshot-retained-limit, or what "auto" makes of
/// maxmemory. More memory takes a save longer, in which more is overwritten.
uint64_t SnapshotRetainedLimit(const Settings& settings);

class SnapshotThrottle {
 public:
  /// `give_up` ends the save.
  SnapshotThrottle(Engine& engine, std::function<void()> give_up);
  SnapshotThrottle(const SnapshotThrottle&) = delete;
  SnapshotThrottle& operator=(const SnapshotThrottle&) = delete;

  /// A view was opened: its peak begins at 0.
  void Begin() {
    peak_bytes_ = 0;
    given_up_ = false;
  }
  /// Whether a command that writes must wait now. Cost: two loads while below the limit.
  bool HoldsWrites();
  /// Most bytes of old values seen since Begin(). As of the last write command or tick.
  uint64_t peak_bytes() const { return peak_bytes_; }
  /// Spells of holding, and how long they took together, since start or ResetFigures.
  uint64_t holds() const { return hold_.holds(); }
  uint64_t held_us() const { return hold_.held_us(); }
  void ResetFigures() {
    hold_.ResetFigures();
    peak_bytes_ = 0;
  }

  /// Caught up is a little below the limit, so that more than one command can go.
  static constexpr uint64_t kSlackBytes = 256 * 1024;
  /// With `throttle`, how long writers go free after each snapshot-max-write-delay in vain.
  static constexpr int64_t kGraceUs = 1000;

 private:
  Engine& engine_;
  const std::function<void()> give_up_;
  bool given_up_ = false;
  int64_t grace_until_us_ = 0;
  uint64_t peak_bytes_ = 0;
  WriteHold hold_;
};

}  // namespace cairn

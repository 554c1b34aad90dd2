#pragma once

// WriteHold: spells in which commands that write wait (their sessions are suspended, reads and
// everybody else go on). Who decides that (SnapshotThrottle, LogThrottle) begins and ends them; a
// look each millisecond asks again and lets those who wait go on. Thread: executor.

#include <cstdint>
#include <functional>

#include "server/platform/transport.h"

namespace cairn {

class Engine;

class WriteHold {
 public:
  /// `still_holds`: whether commands that write must wait, asked each millisecond from Begin on
  /// until it says no. It may call Begin and End.
  WriteHold(Engine& engine, std::function<bool()> still_holds);
  WriteHold(const WriteHold&) = delete;
  WriteHold& operator=(const WriteHold&) = delete;
  ~WriteHold();

  bool holding() const { return began_us_ >= 0; }
  /// When the spell began, monotonic microseconds. Requires: holding.
  int64_t began_us() const { return began_us_; }
  /// Requires: not holding.
  void Begin(int64_t now_us);
  /// Requires: holding.
  void End(int64_t now_us);

  /// Spells, and how long they took together, since start or ResetFigures.
  uint64_t holds() const { return holds_; }
  uint64_t held_us() const;
  void ResetFigures() { holds_ = held_us_ = 0; }

 private:
  Engine& engine_;
  const std::function<bool()> still_holds_;
  int64_t began_us_ = -1;
  uint64_t holds_ = 0;
  uint64_t held_us_ = 0;
  TimerId timer_ = 0;
  bool timer_running_ = false;
};

}  // namespace cairn

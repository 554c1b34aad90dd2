#pragma once

// LogThrottle: back-pressure of the append-only file. When the disk does not keep up, commands that
// write are held (their sessions are suspended, reads and everybody else go on) until it has: so
// the loop never waits, memory is bounded, and so is what a power cut takes. It decides that and
// resumes them; the dispatcher suspends. Thread: executor.
//
//   free --HoldsWrites, over a limit--> holding --the disk has caught up (a look each ms)--> free

#include <cstdint>
#include <functional>

#include "server/engine/write_hold.h"

namespace cairn {

class Engine;

class LogThrottle {
 public:
  /// `over_limit`: AofWriter::ShouldThrottle, false without a log.
  LogThrottle(Engine& engine, std::function<bool()> over_limit);
  LogThrottle(const LogThrottle&) = delete;
  LogThrottle& operator=(const LogThrottle&) = delete;

  /// Whether a command that writes must wait now.
  bool HoldsWrites();
  /// Spells of holding, and how long they took together, since start or ResetFigures.
  uint64_t holds() const { return hold_.holds(); }
  uint64_t held_us() const { return hold_.held_us(); }
  void ResetFigures() { hold_.ResetFigures(); }

 private:
  Engine& engine_;
  const std::function<bool()> over_limit_;
  int64_t logged_us_ = -1;
  WriteHold hold_;
};

}  // namespace cairn

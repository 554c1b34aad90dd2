#pragma once

// Failover: FAILOVER, this primary's orderly hand-over to one of its replicas: writes are paused,
// the replica catches up, then the roles change, by PSYNC .. FAILOVER, without loss. Thread:
// executor.
//
//   kNone --Start--> kWaitsForSync --Check: a replica has all--> kHandsOver --OnPsyncAnswered-->
//   kNone
//     ^                  |   |                                     ^   |
//     +-- Abort, timeout +   +-- timeout with FORCE: Check --------+   +-- refused: Abort, primary
//     again

#include <cstdint>
#include <string>

#include "server/engine/engine.h"

namespace cairn {

class Replication;

class Failover {
 public:
  enum class State : uint8_t { kNone, kWaitsForSync, kHandsOver };

  struct Request {
    std::string host;  ///< empty: whichever replica has all first
    int64_t port = 0;
    int64_t timeout_ms = 0;  ///< 0: none
    bool force = false;
  };

  Failover(Engine& engine, Replication& replication) : engine_(engine), replication_(replication) {}

  /// Errors: client lines in Redis's words.
  Status Start(const Request& request);
  void Abort(std::string_view why);
  /// Looks whether it can go on: at each acknowledgement and ten times a second.
  void Check();
  void OnPsyncAnswered(bool granted);
  State state() const { return state_; }
  /// As INFO names it.
  std::string_view state_name() const;

 private:
  void HandOver();
  void Clear();

  Engine& engine_;
  Replication& replication_;
  State state_ = State::kNone;
  Request request_;
  int64_t ends_ms_ = 0;  // wall clock; 0: never
};

}  // namespace cairn

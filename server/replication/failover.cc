#include "server/replication/failover.h"

#include <limits>

#include "server/base/strings.h"
#include "server/replication/replication.h"

namespace cairn {

std::string_view Failover::state_name() const {
  switch (state_) {
    case State::kNone:
      return "no-failover";
    case State::kWaitsForSync:
      return "waiting-for-sync";
    case State::kHandsOver:
      return "failover-in-progress";
  }
  return "no-failover";
}

Status Failover::Start(const Request& request) {
  if (state_ != State::kNone) return Status::Client("ERR FAILOVER already in progress.");
  if (replication_.is_replica())
    return Status::Client("ERR FAILOVER is not valid when server is a replica.");
  const Primary& primary = replication_.primary();
  if (primary.replica_count() == 0)
    return Status::Client("ERR FAILOVER requires connected replicas.");
  if (request.force && (request.timeout_ms == 0 || request.host.empty())) {
    return Status::Client(
        "ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
  }
  if (!request.host.empty()) {
    const Peer* target = primary.FindByAddress(request.host, request.port);
    if (target == nullptr)
      return Status::Client("ERR FAILOVER target HOST and PORT is not a replica.");
    if (!target->online()) return Status::Client("ERR FAILOVER target replica is not online.");
  }
  request_ = request;
  const int64_t now_ms = engine_.env.WallMicros() / 1000;
  constexpr int64_t kEver = std::numeric_limits<int64_t>::max();
  ends_ms_ = request.timeout_ms == 0               ? 0
             : request.timeout_ms > kEver - now_ms ? kEver
                                                   : now_ms + request.timeout_ms;
  engine_.log.Log(LogLevel::kNotice, "FAILOVER requested to {}:{}.",
                  request.host.empty() ? "any replica" : request.host, request.port);
  engine_.Pause(PauseReason::kFailover, PauseMode::kWrites, kEver);
  state_ = State::kWaitsForSync;
  replication_.UpdateFacts();
  return Status::Ok();
}

void Failover::Abort(std::string_view why) {
  if (state_ == State::kNone) return;
  engine_.log.Log(LogLevel::kNotice, "Aborting failover to {}:{} while {}: {}", request_.host,
                  request_.port, state_name(), why);
  const bool handed_over = state_ == State::kHandsOver;
  Clear();
  if (handed_over) replication_.Promote();
}

void Failover::Clear() {
  state_ = State::kNone;
  request_ = {};
  ends_ms_ = 0;
  engine_.EndPause(PauseReason::kFailover);
  replication_.UpdateFacts();
}

void Failover::Check() {
  if (state_ != State::kWaitsForSync) return;
  if (ends_ms_ != 0 && engine_.env.WallMicros() / 1000 >= ends_ms_) {
    if (request_.force) {
      engine_.log.Log(LogLevel::kNotice, "Failover to {}:{} time out exceeded, failing over.",
                      request_.host, request_.port);
      HandOver();
    } else {
      Abort("Replica never caught up before timeout");
    }
    return;
  }
  const Primary& primary = replication_.primary();
  const uint64_t all = replication_.StreamOffset();
  if (all != primary.offset()) return;  // not even sent yet
  for (const auto& [id, peer] : primary.peers()) {
    if (!peer->online() || peer->acked_offset() != all) continue;
    if (!request_.host.empty() &&
        peer.get() != primary.FindByAddress(request_.host, request_.port)) {
      continue;
    }
    request_.host = peer->address();
    request_.port = peer->listening_port;
    engine_.log.Log(LogLevel::kNotice, "Failover target: {}:{} is synced.", request_.host,
                    request_.port);
    HandOver();
    return;
  }
}

void Failover::HandOver() {
  state_ = State::kHandsOver;
  replication_.Follow(request_.host, static_cast<int>(request_.port), /*failover=*/true);
}

void Failover::OnPsyncAnswered(bool granted) {
  if (state_ != State::kHandsOver) return;
  if (granted) {
    Clear();
  } else {
    Abort("Failover target rejected psync request");
  }
}

}  // namespace cairn

#include "server/engine/engine.h"

#include <algorithm>
#include <utility>

#include "server/base/checksum.h"
#include "server/engine/durability.h"
#include "server/engine/output_limit.h"
#include "server/engine/peer_connections.h"
#include "server/platform/memory.h"

namespace cairn {

Engine::Engine(Env& env_in, EventLoopPort& loop_in, Logger& log_in, Config& config_in,
               Keyspace& keyspace_in, BlobArena& arena_in)
    : env(env_in),
      loop(loop_in),
      log(log_in),
      config(config_in),
      keyspace(keyspace_in),
      arena(arena_in),
      draw_state_(env_in.RandomU64()) {
  RegisterHooks();
  UpdateObservation();
}

Engine::~Engine() = default;

void Engine::RegisterHooks() {
  const auto observe = [this](const Settings&, const Settings&) {
    UpdateObservation();
    return Status::Ok();
  };
  for (std::string_view name : {"slowlog-log-slower-than", "latency-monitor-threshold"}) {
    config.OnChange(name, observe);
  }
  // A password set later binds new connections only, as in Redis: those that are in stay in.
  config.OnChange("requirepass", [this](const Settings&, const Settings& after) {
    acl.SetDefaultPassword(after.requirepass);
    return Status::Ok();
  });
  config.SetLineSource("user", [this] { return acl.UserLines(); });
}

void Engine::UpdateObservation() {
  constexpr int64_t kNever = INT64_MAX;
  const Settings& current = settings();
  const int64_t slow_us =
      current.slowlog_log_slower_than < 0 ? kNever : current.slowlog_log_slower_than;
  const int64_t latency_us =
      current.latency_monitor_threshold == 0 ? kNever : current.latency_monitor_threshold * 1000;
  const int64_t from_us = monitors.empty() ? std::min(slow_us, latency_us) : 0;
  observe_from_ticks = from_us == kNever ? UINT64_MAX : stats.ticks.FromMicros(from_us);
}

void Engine::NoteLatency(std::string_view event, int64_t latency_ms) {
  const int64_t threshold_ms = settings().latency_monitor_threshold;
  if (threshold_ms == 0 || latency_ms < threshold_ms) return;
  latency.Add(event, env.WallMicros() / 1000000, latency_ms);
}

void Engine::HoldReply(Session& session) {
  session.reply_gate.Hold(session.sent_bytes + session.output.size(), propagation.offset(),
                          propagation.handed_over());
}

void Engine::OutputAdded(Session& session) {
  if (session.port == nullptr || session.closing) return;
  // Whatever is said may rest on any write so far, and on that of the command that runs, whose
  // effect comes into the stream behind it.
  if (durability != nullptr && durability->GatesReplies() && session.source == nullptr) {
    session.reply_gate.Hold(session.sent_bytes + session.output.size(), ReplyGate::kOffsetToCome,
                            propagation.handed_over());
    if (!session.told_in_turn) told_in_turn_.push_back(session.id);
    session.told_in_turn = true;
  }
  session.port->OutputReady();
  if (session.output.size() + session.held_push_bytes() > kReplyBufferInitialBytes)
    IsOverOutputLimit(*this, session);
}

void Engine::EndOfTurn() {
  tracking.SendBroadcasts();
  SettleTold();
}

void Engine::SettleTold() {
  for (const uint64_t id : told_in_turn_) {
    Session* const session = FindSession(id);
    if (session == nullptr) continue;
    session->told_in_turn = false;
    HoldReply(*session);
  }
  told_in_turn_.clear();
}

std::string Engine::NewId() const {
  char bytes[20];
  env.FillRandom(bytes);
  return HexEncode(std::string_view(bytes, sizeof bytes));
}

Session* Engine::CreateSession(SessionPort* port, SessionKind kind) {
  const uint64_t id = next_session_id_++;
  auto session = std::make_unique<Session>(id, port, kind, &session_counts_);
  session->created_ms = session->last_interaction_ms = env.WallMicros() / 1000;
  if (kind != SessionKind::kInternal && kind != SessionKind::kPrimary) acl.LogInAsDefault(*session);
  Session* raw = session.get();
  sessions_.emplace(id, std::move(session));
  return raw;
}

void Engine::DestroySession(Session* session) {
  DetachSession(*session);
  sessions_.erase(session->id);
}

void Engine::DetachSession(Session& session) {
  watches.UnwatchAll(session);
  blocking.Forget(session);
  pubsub.Leave(session);
  monitors.Leave(session);
  tracking.Disable(session);
  if (replicas != nullptr) replicas->Forget(session);
}

Session* Engine::FindSession(uint64_t id) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

void Engine::HoldSession(Session& session) {
  session.suspended = true;
  held_sessions_.push_back(session.id);
}

void Engine::ResumeHeld() {
  for (uint64_t id : std::exchange(held_sessions_, {})) {
    Session* session = FindSession(id);
    // It may have been resumed meanwhile, and wait for a key by now.
    if (session == nullptr || !session->suspended || session->blocked != nullptr ||
        session->job != 0)
      continue;
    session->suspended = false;
    if (session->port != nullptr) session->port->InputReady();
  }
}

void Engine::Pause(PauseReason reason, PauseMode mode, int64_t until_ms) {
  pauses_.Pause(reason, mode, until_ms);
  UpdateExpiry();
}

void Engine::EndPause(PauseReason reason) {
  const PauseMode before = pauses_.mode();
  pauses_.End(reason);
  PauseChanged(before);
}

void Engine::EndDuePauses() {
  // A script that runs sees one state of the keys that are past their time from start to end.
  if (script != nullptr || !pauses_.MayBeDue(now_ms())) return;
  const PauseMode before = pauses_.mode();
  pauses_.EndDue(now_ms());
  PauseChanged(before);
}

void Engine::PauseChanged(PauseMode before) {
  UpdateExpiry();
  if (pauses_.mode() >= before) return;
  for (uint64_t id : std::exchange(paused_sessions_, {})) {
    Session* session = FindSession(id);
    if (session != nullptr && session->port != nullptr && !session->closing && session->EndPause())
      session->port->InputReady();
  }
}

void Engine::HoldByPause(Session& session) {
  if (session.suspended) return;
  session.suspended = true;
  paused_sessions_.push_back(session.id);
}

void Engine::UpdateExpiry() { keyspace.set_hide_expired(is_replica() || is_paused()); }

PeerConnections& Engine::peers() {
  if (peers_ == nullptr) peers_ = std::make_unique<PeerConnections>(loop);
  return *peers_;
}

uint64_t Engine::UsedMemory(uint64_t allocated) const {
  return allocated - std::min(allocated, keyspace.SlabFreeBytes()) + arena.in_use_bytes();
}

void Engine::PublishKeyspaceEvent(std::string_view event, std::string_view key, uint32_t db) {
  const int wanted = settings().notify_keyspace_events;
  const std::string number = std::to_string(db);
  if (wanted & kNotifyKeyspace) {
    const std::string channel = "__keyspace@" + number + "__:" + std::string(key);
    pubsub.Publish(SubscriptionKind::kChannel, channel, event);
  }
  if (wanted & kNotifyKeyevent) {
    const std::string channel = "__keyevent@" + number + "__:" + std::string(event);
    pubsub.Publish(SubscriptionKind::kChannel, channel, key);
  }
}

void Engine::RefreshClock() { keyspace.set_now_ms(env.WallMicros() / 1000); }

}  // namespace cairn

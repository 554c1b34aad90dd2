#include "server/engine/engine.h"

#include <algorithm>
#include <utility>

#include "server/base/checksum.h"
#include "server/engine/durability.h"
#include "server/platform/memory.h"

namespace cairn {

Engine::Engine(Env& env_in, EventLoopPort& loop_in, Logger& log_in, Config& config_in,
               Keyspace& keyspace_in, BlobArena& arena_in)
    : env(env_in),
      loop(loop_in),
      log(log_in),
      config(config_in),
      keyspace(keyspace_in),
      arena(arena_in) {}

Engine::~Engine() = default;

std::string Engine::NewId() const {
  char bytes[20];
  env.FillRandom(bytes);
  return HexEncode(std::string_view(bytes, sizeof bytes));
}

Session* Engine::CreateSession(SessionPort* port, SessionKind kind) {
  const uint64_t id = next_session_id_++;
  auto session = std::make_unique<Session>(id, port, kind);
  session->created_ms = session->last_interaction_ms = env.WallMicros() / 1000;
  session->authenticated = kind == SessionKind::kInternal || settings().requirepass.empty();
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
    if (session == nullptr || !session->suspended || session->blocked != nullptr) continue;
    session->suspended = false;
    if (session->port != nullptr) session->port->InputReady();
  }
}

bool Engine::IsPaused(bool write) const {
  if (pause_mode == PauseMode::kNone || now_ms() >= pause_until_ms) return false;
  return pause_mode == PauseMode::kAll || write;
}

uint64_t Engine::UsedMemory() const {
  const uint64_t allocated = ReadMemoryFigures().allocated;
  return allocated - std::min(allocated, keyspace.SlabFreeBytes()) + arena.in_use_bytes();
}

void Engine::RefreshClock() { keyspace.set_now_ms(env.WallMicros() / 1000); }

}  // namespace cairn

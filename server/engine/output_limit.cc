#include "server/engine/output_limit.h"

#include <algorithm>

#include "server/engine/engine.h"
#include "server/protocol/reply_buffer.h"

namespace cairn {
namespace {

ClientClass ClassOf(const Session& session) {
  if (session.kind == SessionKind::kPubsub) return kClientPubsub;
  return session.kind == SessionKind::kReplica ? kClientReplica : kClientNormal;
}

OutputBufferLimit LimitOf(const Engine& engine, const Session& session) {
  const Settings& settings = engine.settings();
  OutputBufferLimit limit = settings.client_output_buffer_limit[ClassOf(session)];
  // What the backlog keeps anyway is no reason to cut a replica off.
  if (session.kind == SessionKind::kReplica && limit.hard_bytes != 0)
    limit.hard_bytes = std::max<decltype(limit.hard_bytes)>(
        limit.hard_bytes, static_cast<decltype(limit.hard_bytes)>(settings.repl_backlog_size));
  return limit;
}

}  // namespace

uint64_t CountedOutput(const Session& session) {
  uint64_t size = session.output.size() + session.held_push_bytes();
  // Small replies are free, as in Redis, where each client has a buffer of its own for them: a
  // limit that is below them would leave nobody who can raise it.
  if (size <= kReplyBufferInitialBytes) size = 0;
  if (session.source != nullptr) size += session.source->waiting_bytes();
  return size;
}

bool IsOverOutputLimit(Engine& engine, Session& session) {
  if (session.port == nullptr || session.kind == SessionKind::kPrimary) return false;
  if (session.closing || session.over_output_limit) return true;
  const OutputBufferLimit limit = LimitOf(engine, session);
  const uint64_t size = CountedOutput(session);
  bool over = limit.hard_bytes != 0 && size >= limit.hard_bytes;
  if (limit.soft_bytes != 0 && size >= limit.soft_bytes) {
    if (session.soft_limit_since_ms == 0) session.soft_limit_since_ms = engine.now_ms();
    over = over || engine.now_ms() - session.soft_limit_since_ms > limit.soft_seconds * 1000;
  } else {
    session.soft_limit_since_ms = 0;
  }
  if (!over) return false;
  engine.log.Log(LogLevel::kWarning,
                 "Client id={} addr={} is closed for overcoming of output buffer limits.",
                 session.id, session.peer_address);
  ++engine.stats.output_buffer_limit_disconnections;
  session.over_output_limit = session.close_after_reply = true;
  session.port->OutputReady();
  return true;
}

bool StopsReply(Engine& engine, Session& session) {
  if (session.reply_mode == ReplyMode::kOn || session.reply_mode == ReplyMode::kSkipNext)
    return IsOverOutputLimit(engine, session);
  const OutputBufferLimit limit = LimitOf(engine, session);
  return limit.hard_bytes != 0 && CountedOutput(session) >= limit.hard_bytes;
}

}  // namespace cairn

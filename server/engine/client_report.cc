#include "server/engine/client_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/engine/command_spec.h"
#include "server/engine/pubsub.h"
#include "server/engine/tracking.h"

namespace cairn {

namespace {

/// Between MULTI and EXEC, or within EXEC, where the queue is still there.
bool InOrAtTransaction(const Session& session) {
  return session.in_transaction() || !session.transaction.queue.empty();
}

/// One letter a state, in Redis's order.
std::string Flags(const Session& session) {
  std::string flags;
  if (session.monitor) flags += 'O';
  if (session.kind == SessionKind::kReplica) flags += 'S';
  if (session.kind == SessionKind::kPrimary) flags += 'M';
  if (session.kind == SessionKind::kPubsub) flags += 'P';
  if (InOrAtTransaction(session)) flags += 'x';
  if (session.suspended) flags += 'b';
  if (session.tracking != nullptr) {
    flags += 't';
    if (session.tracking->broken_redirection) flags += 'R';
    if (session.tracking->broadcast) flags += 'B';
  }
  if (session.transaction.dirty_cas) flags += 'd';
  if (session.close_after_reply && !session.over_output_limit) flags += 'c';
  if (session.closing || session.over_output_limit) flags += 'A';
  if (session.unix_socket) flags += 'U';
  if (session.no_evict) flags += 'e';
  return flags.empty() ? "N" : flags;
}

std::string CommandName(const CommandSpec* command) {
  if (command == nullptr) return "NULL";
  if (command->parent.empty()) return std::string(command->name);
  return fmt::format("{}|{}", command->parent, command->name);
}

}  // namespace

std::string ClientLine(const Session& session, int64_t now_ms, const CommandSpec* command,
                       size_t argument_bytes) {
  const SessionPort* port = session.port;
  const size_t query_bytes = port != nullptr ? port->query_bytes() : 0;
  const size_t query_capacity = port != nullptr ? port->query_capacity() : 0;
  // One growing buffer stands for Redis's fixed buffer and its overflow list: what is beyond the
  // size an idle client keeps counts as the list.
  const size_t unsent = session.output.size();
  const size_t fixed = std::min(unsent, kReplyBufferInitialBytes);
  const OutputSource* source = session.source;
  const size_t in_source = source != nullptr ? source->waiting_bytes() : 0;
  const size_t overflow = unsent - fixed + in_source;
  const size_t pieces =
      (unsent > fixed ? 1 : 0) + (source != nullptr ? source->waiting_pieces() : 0);
  const size_t footprint = session.output.footprint();
  std::string line = fmt::format(
      "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} "
      "ssub={} multi={}",
      session.id, session.peer_address, session.local_address, port != nullptr ? port->fd() : -1,
      session.name, (now_ms - session.created_ms) / 1000,
      (now_ms - session.last_interaction_ms) / 1000, Flags(session), session.db,
      PubSub::CountOf(session, SubscriptionKind::kChannel),
      PubSub::CountOf(session, SubscriptionKind::kPattern),
      PubSub::CountOf(session, SubscriptionKind::kShard),
      InOrAtTransaction(session) ? static_cast<int64_t>(session.transaction.queue.size()) : -1);
  line += fmt::format(
      " qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} "
      "tot-mem={}",
      query_bytes, query_capacity - std::min(query_capacity, query_bytes), argument_bytes,
      session.transaction.queue_bytes, std::min(footprint, kReplyBufferInitialBytes), footprint,
      fixed, pieces, overflow,
      session.MemoryUsage() + session.output.referenced_bytes() + in_source + argument_bytes);
  line += fmt::format(
      " events={} cmd={} user={} redir={} resp={}", overflow > 0 ? "rw" : "r", CommandName(command),
      session.user,
      session.tracking != nullptr ? static_cast<int64_t>(session.tracking->redirect) : -1,
      session.reply.version());
  return line;
}

Status SetClientName(Session& session, std::string_view name) {
  for (char c : name) {
    if (c < '!' || c > '~') {
      return Status::Client(
          "ERR Client names cannot contain spaces, newlines or special characters.");
    }
  }
  session.name = name;
  return Status::Ok();
}

}  // namespace cairn

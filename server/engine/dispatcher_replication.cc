// The dispatcher's part in replication: what a replica, or a primary with too few replicas,
// refuses; what a replica of this server must not send; how far a session has written.

#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

// A replica takes writes from its primary only; a primary with too few good replicas takes none.
Status Dispatcher::CheckWritable() const {
  const ReplicaFeed& replicas = *engine_.replicas;
  if (!replicas.is_replica()) {
    return replicas.has_enough_replicas() ? Status::Ok() : RespError(resp_errors::kNoReplicas);
  }
  return engine_.settings().replica_read_only ? RespError(resp_errors::kReadonly) : Status::Ok();
}

// What the primary sends is never refused. A replica that cannot write its own files ends instead,
// unless replica-ignore-disk-write-errors says that following matters more.
Status Dispatcher::CheckDiskOfReplica(const RequestFlags& flags) {
  if (engine_.durability == nullptr || !(flags.all & kCmdWrite)) return Status::Ok();
  const Status refusal = engine_.durability->WriteRefusal();
  if (refusal.ok() || engine_.settings().replica_ignore_disk_write_errors) return Status::Ok();
  engine_.log.Log(LogLevel::kWarning, "Replica was unable to write command to disk: {}",
                  refusal.message());
  engine_.exit_code = 1;
  engine_.stop_requested = true;
  return Status::Ok();
}

// Behind EXEC, where there is one. WAIT itself keeps what it waits for.
void Dispatcher::NoteWrittenNow(Session& session) const {
  if (engine_.propagation.in_group()) return;
  if (session.blocked != nullptr && !session.wrote) return;
  session.wrote = false;
  session.written_offset = engine_.replicas != nullptr ? engine_.replicas->StreamOffset() : 0;
}

// A reply would stand in the middle of what the replica is fed.
void Dispatcher::DropFed(Session& session, std::string_view sent) const {
  engine_.log.Log(LogLevel::kWarning, "Replica {} sent what has a reply ({}): disconnecting it",
                  session.peer_address, sent);
  session.port->Close(false);
}

}  // namespace cairn

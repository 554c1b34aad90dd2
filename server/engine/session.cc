#include "server/engine/session.h"

#include "server/engine/blocking.h"
#include "server/engine/pubsub.h"
#include "server/engine/tracking.h"
#include "server/protocol/resp_reader.h"

namespace cairn {

Session::Session(uint64_t session_id, SessionPort* connection, SessionKind session_kind,
                 SessionCounts* counts)
    : id(session_id),
      kind(session_kind),
      port(connection),
      reply(&output),
      suspended(connection != nullptr && counts != nullptr ? &counts->suspended : nullptr),
      client_(connection != nullptr && counts != nullptr ? &counts->clients : nullptr) {
  client_ = true;
}

Session::~Session() = default;

void Session::BecomeReplica() {
  kind = SessionKind::kReplica;
  client_ = false;
}

OwnedCommand OwnedCommand::From(const CommandSpec* spec, std::span<const std::string_view> args,
                                const Request* request) {
  OwnedCommand owned;
  owned.spec = spec;
  owned.args.reserve(args.size());
  for (size_t i = 0; i < args.size(); ++i) {
    const BlobRef* blob = request != nullptr ? request->FindBlob(i) : nullptr;
    owned.args.push_back(blob != nullptr ? *blob : BlobRef::Copy(args[i]));
  }
  return owned;
}

size_t OwnedCommand::MemoryUsage() const {
  size_t bytes = sizeof(OwnedCommand) + args.capacity() * sizeof(BlobRef);
  for (const BlobRef& arg : args) bytes += arg->footprint();
  return bytes;
}

ReplyBuffer& Session::PushBuffer() {
  if (!holds_pushes) return output;
  if (held_pushes_ == nullptr) held_pushes_ = std::make_unique<ReplyBuffer>();
  return *held_pushes_;
}

void Session::ReleasePushes() {
  holds_pushes = false;
  if (held_pushes_ == nullptr) return;
  output.Append(held_pushes_->Flatten());
  held_pushes_.reset();
}

void Session::TakeBackReply(ReplyBuffer::Mark mark) {
  std::string_view written = output.Since(mark);
  while (written.starts_with('>')) {
    size_t size = 0;
    RespValue push;
    if (ParseReply(written, &size, &push) != ReplyParse::kValue) break;
    mark.text += size;
    written.remove_prefix(size);
  }
  output.RollbackTo(mark);
}

bool Session::IsLocal() const {
  const std::string_view peer = peer_address;
  return unix_socket || peer.starts_with("127.0.0.1:") || peer.starts_with("[::1]:") ||
         peer.starts_with("::1:");
}

size_t Session::MemoryUsage() const {
  size_t bytes = sizeof(Session) + output.footprint() + name.capacity() + peer_address.capacity();
  if (port != nullptr) bytes += port->query_capacity();
  bytes += transaction.queue_bytes;
  for (const OwnedCommand& command : deferred) bytes += command.MemoryUsage();
  for (const WatchedKey& key : transaction.watched)
    bytes += sizeof(WatchedKey) + key.key.capacity();
  if (subscriptions != nullptr) bytes += subscriptions->MemoryUsage();
  if (blocked != nullptr) bytes += sizeof(BlockedState) + blocked->command.MemoryUsage();
  return bytes;
}

}  // namespace cairn

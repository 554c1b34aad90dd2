// REPLICAOF, SLAVEOF, PSYNC, SYNC, REPLCONF, FAILOVER, ROLE, WAIT: replication as commands. What
// they set in motion is in replication.h.

#include <array>

#include "server/base/strings.h"
#include "server/engine/blocking.h"
#include "server/engine/client_report.h"
#include "server/engine/key_access.h"
#include "server/replication/replication.h"

namespace cairn {

namespace {

/// A host name beyond this is refused. Source: NET_HOST_STR_LEN, Redis 7.0.15.
constexpr size_t kMaxHostBytes = 255;
constexpr int64_t kMaxPort = 65535;

// --- roles ---

Status ReplicaOf(CommandContext& ctx) {
  Engine& engine = ctx.engine();
  Replication& replication = ReplicationOf(engine);
  if (replication.failover().state() != Failover::State::kNone)
    return Status::Client("ERR REPLICAOF not allowed while failing over.");
  if (ctx.ArgIs(1, "no") && ctx.ArgIs(2, "one")) {
    if (replication.is_replica()) {
      replication.Promote();
      engine.log.Log(LogLevel::kNotice, "MASTER MODE enabled (user request from '{}')",
                     ClientLine(ctx.session(), ctx.now_ms(), &ctx.spec(), 0));
    }
    ctx.reply().Ok();
    return Status::Ok();
  }
  if (ctx.session().kind == SessionKind::kReplica)
    return Status::Client("ERR Command is not valid when client is a replica.");
  int64_t port = 0;
  if (!ctx.ArgInt64(2, &port).ok() || port < 0 || port > kMaxPort)
    return Status::Client("ERR Invalid master port");
  const ReplicaLink& link = replication.link();
  if (replication.is_replica() && EqualsIgnoreCase(link.host(), ctx.arg(1)) &&
      link.master_port() == port) {
    ctx.reply().SimpleString("OK Already connected to specified master");
    return Status::Ok();
  }
  replication.Follow(std::string(ctx.arg(1)), static_cast<int>(port), /*failover=*/false);
  ctx.reply().Ok();
  return Status::Ok();
}

Status Role(CommandContext& ctx) {
  Replication& replication = ReplicationOf(ctx.engine());
  RespWriter& reply = ctx.reply();
  if (replication.is_replica()) {
    const ReplicaLink& link = replication.link();
    static constexpr std::string_view kNames[] = {"none",      "connect",   "connecting",
                                                  "handshake", "handshake", "sync",
                                                  "sync",      "sync",      "connected"};
    const bool up = link.state() == LinkState::kConnected;
    reply.ArrayHeader(5);
    reply.Bulk("slave");
    reply.Bulk(link.host());
    reply.Integer(link.master_port());
    reply.Bulk(kNames[static_cast<size_t>(link.state())]);
    reply.Integer(up ? static_cast<int64_t>(replication.primary().offset()) : -1);
    return Status::Ok();
  }
  size_t online = 0;
  for (const auto& [id, peer] : replication.primary().peers()) online += peer->shown_online();
  reply.ArrayHeader(3);
  reply.Bulk("master");
  reply.Integer(static_cast<int64_t>(replication.told_offset()));
  reply.ArrayHeader(online);
  for (const auto& [id, peer] : replication.primary().peers()) {
    if (!peer->shown_online()) continue;
    reply.ArrayHeader(3);
    reply.Bulk(peer->address());
    reply.BulkInt64(peer->listening_port);
    reply.BulkInt64(static_cast<int64_t>(peer->acked_offset()));
  }
  return Status::Ok();
}

Status FailoverCommand(CommandContext& ctx) {
  Failover& failover = ReplicationOf(ctx.engine()).failover();
  Failover::Request request;
  bool abort = false, to = false;
  for (size_t i = 1; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "timeout") && i + 1 < ctx.argc() && request.timeout_ms == 0) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &request.timeout_ms));
      if (request.timeout_ms <= 0)
        return Status::Client("ERR FAILOVER timeout must be greater than 0");
    } else if (ctx.ArgIs(i, "abort") && ctx.argc() == 2) {
      abort = true;
    } else if (ctx.ArgIs(i, "to") && i + 2 < ctx.argc() && !to) {
      to = true;
      request.host = ctx.arg(i + 1);
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 2, &request.port));
      i += 2;
    } else if (ctx.ArgIs(i, "force") && !request.force) {
      request.force = true;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  if (abort) {
    if (failover.state() == Failover::State::kNone)
      return Status::Client("ERR No failover in progress.");
    failover.Abort("Failover manually aborted");
  } else {
    CAIRN_RETURN_IF_ERROR(failover.Start(request));
  }
  ctx.reply().Ok();
  return Status::Ok();
}

// --- the replica's side of the wire ---

/// PSYNC .. FAILOVER: the primary asks this replica of its to take over.
Status TakeOver(CommandContext& ctx) {
  Engine& engine = ctx.engine();
  Replication& replication = ReplicationOf(engine);
  engine.log.Log(LogLevel::kWarning, "Failover request received for replid {}.", ctx.arg(1));
  if (!replication.is_replica())
    return Status::Client("ERR PSYNC FAILOVER can't be sent to a master.");
  if (!EqualsIgnoreCase(ctx.arg(1), engine.replication_id))
    return Status::Client("ERR PSYNC FAILOVER replid must match my replid.");
  replication.Promote();
  engine.log.Log(LogLevel::kNotice, "MASTER MODE enabled (failover request from '{}')",
                 ClientLine(ctx.session(), ctx.now_ms(), &ctx.spec(), 0));
  return Status::Ok();
}

Status Sync(CommandContext& ctx) {
  Replication& replication = ReplicationOf(ctx.engine());
  Session& session = ctx.session();
  const bool psync = ctx.argc() > 1;
  if (session.kind == SessionKind::kReplica || session.monitor) return Status::Ok();
  if (session.port == nullptr || session.obeys())
    return Status::Client("ERR only a connected client can be a replica");
  if (psync && ctx.argc() > 3 && ctx.ArgIs(3, "failover")) CAIRN_RETURN_IF_ERROR(TakeOver(ctx));
  if (replication.failover().state() != Failover::State::kNone)
    return Status::Client("NOMASTERLINK Can't SYNC while failing over");
  if (replication.is_replica() && !replication.link_is_up())
    return Status::Client("NOMASTERLINK Can't SYNC while not connected with my master");
  if (!session.output.empty())
    return Status::Client("ERR SYNC and PSYNC are invalid with pending output");
  Peer& peer = replication.primary().PeerOf(session);
  if (peer.without_data && !peer.takes_eof)
    return Status::Client("ERR Filtered replica requires EOF capability");
  int64_t offset = 0;
  if (psync) CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &offset));
  peer.pre_psync = !psync;
  // Whatever it watched, listened to or silenced is over: it is fed from here on.
  Engine& engine = ctx.engine();
  engine.watches.UnwatchAll(session);
  engine.pubsub.Leave(session);
  engine.tracking.Disable(session);
  session.reply_mode = ReplyMode::kOn;
  replication.primary().Sync(session, psync ? ctx.arg(1) : "?", offset);
  return Status::Ok();
}

Status TellFilter(Peer& peer, std::string_view words) {
  const Result<std::vector<std::string>> wanted = SplitArgs(words);
  if (!wanted.ok()) return Status::Client("ERR Missing rdb-filter-only values");
  for (const std::string& word : *wanted) {
    if (!EqualsIgnoreCase(word, "functions"))
      return QuotingError({"ERR Unsupported rdb-filter-only option: ", word});
  }
  // Nothing that can be named includes the data.
  peer.without_data = true;
  peer.without_functions = wanted->empty();
  return Status::Ok();
}

Status Tell(CommandContext& ctx, size_t i) {
  Peer& peer = ReplicationOf(ctx.engine()).primary().PeerOf(ctx.session());
  if (ctx.ArgIs(i, "listening-port")) {
    int64_t port = 0;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &port));
    peer.listening_port = static_cast<int>(port);
  } else if (ctx.ArgIs(i, "ip-address")) {
    if (ctx.arg(i + 1).size() > kMaxHostBytes) {
      return Status::Client("ERR REPLCONF ip-address provided by replica instance is too long: " +
                            std::to_string(ctx.arg(i + 1).size()) + " bytes");
    }
    peer.announced_ip = ctx.arg(i + 1);
  } else if (ctx.ArgIs(i, "capa")) {
    peer.takes_eof = peer.takes_eof || ctx.ArgIs(i + 1, "eof");
    peer.takes_psync2 = peer.takes_psync2 || ctx.ArgIs(i + 1, "psync2");
  } else if (ctx.ArgIs(i, "rdb-only")) {
    int64_t only = 0;
    CAIRN_RETURN_IF_ERROR(ArgInRange(ctx, i + 1, 0, 1, &only));
    peer.only_file = only == 1;
  } else if (ctx.ArgIs(i, "rdb-filter-only")) {
    return TellFilter(peer, ctx.arg(i + 1));
  } else {
    return QuotingError({"ERR Unrecognized REPLCONF option: ", ctx.arg(i)});
  }
  return Status::Ok();
}

Status ReplConf(CommandContext& ctx) {
  if (ctx.argc() % 2 == 0) return RespError(resp_errors::kSyntax);
  Replication& replication = ReplicationOf(ctx.engine());
  for (size_t i = 1; i < ctx.argc(); i += 2) {
    if (ctx.ArgIs(i, "ack")) {
      int64_t offset = 0;
      if (ParseInt64(ctx.arg(i + 1), &offset) && offset >= 0)
        replication.primary().OnAck(ctx.session(), static_cast<uint64_t>(offset));
      replication.failover().Check();
      return Status::Ok();
    }
    if (ctx.ArgIs(i, "getack")) {
      if (ctx.session().kind == SessionKind::kPrimary) replication.link().RequestAck();
      return Status::Ok();
    }
    CAIRN_RETURN_IF_ERROR(Tell(ctx, i));
  }
  ctx.reply().Ok();
  return Status::Ok();
}

// --- WAIT ---

void ReplyAcked(CommandContext& ctx) {
  const Primary& primary = ReplicationOf(ctx.engine()).primary();
  ctx.reply().Integer(static_cast<int64_t>(primary.CountAcked(ctx.session().written_offset)));
}

Status Wait(CommandContext& ctx) {
  Replication& replication = ReplicationOf(ctx.engine());
  if (replication.is_replica()) {
    return Status::Client(
        "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if "
        "a replica is configured to be writable (which is not the default) writes to replicas are "
        "just local and are not propagated.");
  }
  int64_t replicas = 0, timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(1, &replicas));
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, 2, TimeoutUnit::kMilliseconds, &timeout_ms));
  Primary& primary = replication.primary();
  const uint64_t offset = ctx.session().written_offset;
  if (static_cast<int64_t>(primary.CountAcked(offset)) >= replicas || !ctx.CanBlock()) {
    ReplyAcked(ctx);
    return Status::Ok();
  }
  primary.AddWaiter(ctx.session(), offset, static_cast<size_t>(replicas), ReplyAcked);
  primary.RequestAcks();
  return ctx.Block({.timeout_ms = timeout_ms, .on_timeout = ReplyAcked});
}

// --- the table ---

constexpr uint64_t kRoleFlags = kCmdAdmin | kCmdNoScript | kCmdStale | kCmdNoAsyncLoading;
constexpr uint64_t kSyncFlags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading | kCmdNoMulti;
constexpr std::string_view kTargetSynopsis = "args(host-port{host port:integer}|no-one{NO ONE})";

constexpr std::array kReplicationSpecs = {
    CommandSpec{.name = "replicaof",
                .arity = 3,
                .flags = kRoleFlags,
                .group = "server",
                .since = "5.0.0",
                .complexity = "O(1)",
                .summary = "Follows another server, or with NO ONE nobody any more.",
                .synopsis = kTargetSynopsis,
                .handler = ReplicaOf},
    CommandSpec{.name = "slaveof",
                .arity = 3,
                .flags = kRoleFlags,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Follows another server, or with NO ONE nobody any more.",
                .synopsis = kTargetSynopsis,
                .deprecated_since = "5.0.0",
                .replaced_by = "`REPLICAOF`",
                .handler = ReplicaOf},
    CommandSpec{.name = "role",
                .arity = 1,
                .flags = kCmdNoScript | kCmdLoading | kCmdStale | kCmdFast,
                .acl = kAclAdmin | kAclDangerous,
                .group = "server",
                .since = "2.8.12",
                .complexity = "O(1)",
                .summary = "Tells the role of this server in replication.",
                .handler = Role},
    CommandSpec{.name = "failover",
                .arity = -1,
                .flags = kCmdAdmin | kCmdNoScript | kCmdStale,
                .group = "server",
                .since = "6.2.0",
                .complexity = "O(1)",
                .summary = "Hands over to one of this server's replicas, without losing a write.",
                .synopsis = "[TO=target{host port:integer [FORCE]}] [ABORT] "
                            "[TIMEOUT=milliseconds:integer]",
                .handler = FailoverCommand},
    CommandSpec{.name = "psync",
                .arity = -3,
                .flags = kSyncFlags,
                .group = "server",
                .since = "2.8.0",
                .summary = "Sent by a replica: the stream from an offset on, or a full copy.",
                .synopsis = "replicationid offset:integer",
                .handler = Sync},
    CommandSpec{.name = "sync",
                .arity = 1,
                .flags = kSyncFlags,
                .group = "server",
                .since = "1.0.0",
                .summary = "Sent by an old replica: a full copy, then the stream.",
                .handler = Sync},
    CommandSpec{
        .name = "replconf",
        .arity = -1,
        .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale | kCmdAllowBusy | kCmdSystem,
        .group = "server",
        .since = "3.0.0",
        .complexity = "O(1)",
        .summary = "Sent between a replica and its primary: what each tells of itself.",
        .handler = ReplConf},
    CommandSpec{.name = "wait",
                .arity = 3,
                .flags = kCmdNoScript,
                .acl = kAclConnection,
                .group = "generic",
                .since = "3.0.0",
                .complexity = "O(1)",
                .summary = "Waits until replicas have received what this connection wrote.",
                .synopsis = "numreplicas:integer timeout:integer",
                .tips = "request_policy:all_shards response_policy:agg_min",
                .handler = Wait},
};
static_assert(ValidSpecs(kReplicationSpecs));

}  // namespace

CommandFamily ReplicationCommands() { return kReplicationSpecs; }

}  // namespace cairn

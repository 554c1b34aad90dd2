// What a client says about itself and its connection: authentication, protocol version, database,
// transactions. CLIENT and its subcommands are in client_commands.cc.

#include <array>

#include "server/base/strings.h"
#include "server/engine/client_report.h"
#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

// --- authentication and protocol
// -----------------------------------------------------------------------------

Status Auth(CommandContext& ctx) {
  if (ctx.argc() > 3) return RespError(resp_errors::kSyntax);
  Acl& acl = ctx.engine().acl;
  if (ctx.argc() == 2 && acl.default_user().needs_no_password())
    return RespError(resp_errors::kNoPasswordSet);
  const std::string_view user = ctx.argc() == 3 ? ctx.arg(1) : acl.default_user().name();
  CAIRN_RETURN_IF_ERROR(acl.Authenticate(ctx.session(), user, ctx.arg(ctx.argc() - 1), ctx.arg(0)));
  ctx.reply().Ok();
  return Status::Ok();
}

Status HelloReply(CommandContext& ctx) {
  RespWriter& reply = ctx.reply();
  reply.MapHeader(7);
  reply.Bulk("server");
  reply.Bulk("redis");
  reply.Bulk("version");
  reply.Bulk("7.0.15");
  reply.Bulk("proto");
  reply.Integer(reply.version());
  reply.Bulk("id");
  reply.Integer(static_cast<int64_t>(ctx.session().id));
  reply.Bulk("mode");
  reply.Bulk("standalone");
  reply.Bulk("role");
  reply.Bulk(ctx.engine().is_replica() ? "replica" : "master");
  reply.Bulk("modules");
  reply.ArrayHeader(0);
  return Status::Ok();
}

Status Hello(CommandContext& ctx) {
  int64_t version = ctx.reply().version();
  if (ctx.argc() >= 2) {
    if (!ParseInt64(ctx.arg(1), &version)) return RespError(resp_errors::kProtocolNotInteger);
    if (version != 2 && version != 3) return RespError(resp_errors::kNoProto);
  }
  // Each option takes effect in its turn, whatever becomes of those behind it.
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "auth") && i + 2 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(
          ctx.engine().acl.Authenticate(ctx.session(), ctx.arg(i + 1), ctx.arg(i + 2), ctx.arg(0)));
      i += 2;
    } else if (ctx.ArgIs(i, "setname") && i + 1 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(SetClientName(ctx.session(), ctx.arg(++i)));
    } else {
      return QuotingError({"ERR Syntax error in HELLO option '", ctx.arg(i), "'"});
    }
  }
  if (!ctx.session().authenticated) return RespError(resp_errors::kNoAuthHello);
  ctx.reply().set_version(static_cast<int>(version));
  return HelloReply(ctx);
}

Status Quit(CommandContext& ctx) {
  ctx.reply().Ok();
  ctx.session().close_after_reply = true;
  return Status::Ok();
}

void Discard(CommandContext& ctx) {
  ctx.engine().watches.UnwatchAll(ctx.session());
  ctx.session().transaction = TransactionState();
}

Status Reset(CommandContext& ctx) {
  Session& session = ctx.session();
  Discard(ctx);
  session.db = 0;
  session.name.clear();
  // A SKIP is of this very command.
  if (session.reply_mode != ReplyMode::kSkipThis) session.reply_mode = ReplyMode::kOn;
  ctx.engine().pubsub.Leave(session);
  ctx.engine().monitors.Leave(session);
  ctx.engine().tracking.Disable(session);
  ctx.engine().acl.LogInAsDefault(session);
  ctx.reply().set_version(2);
  ctx.reply().SimpleString("RESET");
  return Status::Ok();
}

// --- small talk
// ----------------------------------------------------------------------------------------------

Status Ping(CommandContext& ctx) {
  if (ctx.argc() > 2) return WrongArity("ping");
  if (ctx.session().kind == SessionKind::kPubsub && ctx.reply().version() == 2) {
    // In the form of a message, for clients that expect nothing else now.
    ctx.reply().ArrayHeader(2);
    ctx.reply().Bulk("pong");
    ctx.reply().Bulk(ctx.argc() == 2 ? ctx.arg(1) : "");
  } else if (ctx.argc() == 2) {
    ctx.reply().Bulk(ctx.arg(1));
  } else {
    ctx.reply().SimpleString("PONG");
  }
  return Status::Ok();
}

Status Echo(CommandContext& ctx) {
  ctx.reply().Bulk(ctx.arg(1));
  return Status::Ok();
}

Status Select(CommandContext& ctx) {
  int64_t index;
  CAIRN_RETURN_IF_ERROR(ArgInRange(ctx, 1, INT32_MIN, INT32_MAX, &index));
  if (index < 0 || index >= static_cast<int64_t>(ctx.keyspace().database_count())) {
    return RespError(resp_errors::kDbIndexOutOfRange);
  }
  ctx.session().db = static_cast<uint32_t>(index);
  ctx.reply().Ok();
  return Status::Ok();
}

// --- transactions
// --------------------------------------------------------------------------------------------

Status Multi(CommandContext& ctx) {
  if (ctx.session().in_transaction()) return RespError(resp_errors::kNestedMulti);
  ctx.session().transaction.active = true;
  ctx.reply().Ok();
  return Status::Ok();
}

// A watched key that was alive at WATCH and has passed its TTL since counts as changed, even before
// anything removes it.
bool WatchedKeyExpired(CommandContext& ctx) {
  for (const WatchedKey& watched : ctx.session().transaction.watched) {
    if (watched.expired_at_watch) continue;
    Database& db = ctx.keyspace().db(watched.db);
    if (IsPastTtl(db.Peek(db.MakeKey(watched.key)), ctx.now_ms())) return true;
  }
  return false;
}

Status Exec(CommandContext& ctx) {
  TransactionState& transaction = ctx.session().transaction;
  if (!transaction.active) return RespError(resp_errors::kExecWithoutMulti);
  if (transaction.dirty_exec) {
    Discard(ctx);
    return RespError(resp_errors::kExecAbort);
  }
  if (transaction.dirty_cas || WatchedKeyExpired(ctx)) {
    Discard(ctx);
    ctx.reply().NullArray();
    return Status::Ok();
  }
  return ctx.engine().dispatcher->ExecuteTransaction(ctx);
}

Status DiscardTransaction(CommandContext& ctx) {
  if (!ctx.session().in_transaction()) return RespError(resp_errors::kDiscardWithoutMulti);
  Discard(ctx);
  ctx.reply().Ok();
  return Status::Ok();
}

Status Watch(CommandContext& ctx) {
  if (ctx.session().in_transaction()) return RespError(resp_errors::kWatchInMulti);
  for (size_t i = 1; i < ctx.argc(); ++i) {
    const bool expired = IsPastTtl(ctx.db().Peek(ctx.Key(i)), ctx.now_ms());
    ctx.engine().watches.Watch(ctx.session(), ctx.session().db, ctx.arg(i), expired);
  }
  ctx.reply().Ok();
  return Status::Ok();
}

Status Unwatch(CommandContext& ctx) {
  ctx.engine().watches.UnwatchAll(ctx.session());
  ctx.session().transaction.dirty_cas = false;
  ctx.reply().Ok();
  return Status::Ok();
}

constexpr uint64_t kTalk = kCmdNoScript | kCmdLoading | kCmdStale | kCmdFast;

constexpr std::array kSessionSpecs = {
    CommandSpec{.name = "auth",
                .arity = -2,
                .flags = kTalk | kCmdNoAuth | kCmdAllowBusy,
                .acl = kAclConnection,
                .group = "connection",
                .since = "1.0.0",
                .complexity = "O(N) where N is the number of passwords defined for the user",
                .summary = "Authenticates the connection.",
                .synopsis = "[username@6.0.0] password",
                .history = "6.0.0|A user name may stand before the password.",
                .handler = Auth},
    CommandSpec{
        .name = "hello",
        .arity = -1,
        .flags = kTalk | kCmdNoAuth | kCmdAllowBusy,
        .acl = kAclConnection,
        .group = "connection",
        .since = "6.0.0",
        .complexity = "O(1)",
        .summary = "Chooses the protocol version, and may authenticate and name the connection.",
        .synopsis = "[arguments{protover:integer [AUTH=username_password{username password}] "
                    "[SETNAME=clientname]}]",
        .history =
            "6.2.0|The version may be left out: the reply describes the connection as it is.",
        .handler = Hello},
    CommandSpec{.name = "ping",
                .arity = -1,
                .flags = kCmdFast,
                .acl = kAclConnection,
                .group = "connection",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Answers PONG, or the message given.",
                .synopsis = "[message]",
                .tips = "request_policy:all_shards response_policy:all_succeeded",
                .handler = Ping},
    CommandSpec{.name = "echo",
                .arity = 2,
                .flags = kCmdFast | kCmdLoading | kCmdStale,
                .acl = kAclConnection,
                .group = "connection",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Returns its message.",
                .synopsis = "message",
                .handler = Echo},
    CommandSpec{.name = "quit",
                .arity = -1,
                .flags = kTalk | kCmdNoAuth | kCmdAllowBusy,
                .acl = kAclConnection,
                .group = "connection",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Closes the connection after the reply.",
                .handler = Quit},
    CommandSpec{.name = "reset",
                .arity = 1,
                .flags = kTalk | kCmdNoAuth | kCmdAllowBusy,
                .acl = kAclConnection,
                .group = "connection",
                .since = "6.2.0",
                .complexity = "O(1)",
                .summary = "Brings the connection back to the state it had when new.",
                .handler = Reset},
    CommandSpec{.name = "select",
                .arity = 2,
                .flags = kCmdFast | kCmdLoading | kCmdStale,
                .acl = kAclConnection,
                .group = "connection",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Changes the connection's database.",
                .synopsis = "index:integer",
                .handler = Select},
    CommandSpec{.name = "multi",
                .arity = 1,
                .flags = kTalk | kCmdAllowBusy,
                .acl = kAclTransaction,
                .group = "transactions",
                .since = "1.2.0",
                .complexity = "O(1)",
                .summary = "Begins a transaction: the commands that follow are queued.",
                .handler = Multi},
    CommandSpec{.name = "exec",
                .arity = 1,
                .flags = kCmdNoScript | kCmdLoading | kCmdStale | kCmdSkipSlowlog,
                .acl = kAclTransaction,
                .group = "transactions",
                .since = "1.2.0",
                .complexity = "Depends on commands in the transaction",
                .summary = "Runs the queued commands as one unit.",
                .handler = Exec},
    CommandSpec{.name = "discard",
                .arity = 1,
                .flags = kTalk | kCmdAllowBusy,
                .acl = kAclTransaction,
                .group = "transactions",
                .since = "2.0.0",
                .complexity = "O(N), when N is the number of queued commands",
                .summary = "Gives the transaction up.",
                .handler = DiscardTransaction},
    CommandSpec{.name = "watch",
                .arity = -2,
                .flags = kTalk | kCmdAllowBusy,
                .acl = kAclTransaction,
                .keys = {KeyRange(1, -1, 1, kKeyRO)},
                .group = "transactions",
                .since = "2.2.0",
                .complexity = "O(1) for every key.",
                .summary = "Makes the next EXEC depend on these keys staying as they are.",
                .synopsis = "key#0...",
                .handler = Watch},
    CommandSpec{.name = "unwatch",
                .arity = 1,
                .flags = kTalk | kCmdAllowBusy,
                .acl = kAclTransaction,
                .group = "transactions",
                .since = "2.2.0",
                .complexity = "O(1)",
                .summary = "Forgets all watched keys.",
                .handler = Unwatch},
};
static_assert(ValidSpecs(kSessionSpecs));

}  // namespace

CommandFamily SessionCommands() { return kSessionSpecs; }

}  // namespace cairn

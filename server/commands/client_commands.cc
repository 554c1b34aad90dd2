// CLIENT: who is connected, and what to do about them.

#include <array>

#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

// One line of CLIENT LIST, fields and order as Redis 7.0 prints them.
std::string Describe(const Session& session, int64_t now_ms) {
  std::string flags;
  if (session.in_transaction()) flags += 'x';
  if (session.suspended) flags += 'b';
  if (session.transaction.dirty_cas) flags += 'd';
  if (session.close_after_reply) flags += 'c';
  if (session.closing) flags += 'A';
  if (session.unix_socket) flags += 'U';
  if (session.no_evict) flags += 'e';
  if (flags.empty()) flags = "N";
  std::string command = "NULL";
  if (session.last_command != nullptr) {
    command = session.last_command->parent.empty()
                  ? std::string(session.last_command->name)
                  : std::string(session.last_command->parent) + "|" +
                        std::string(session.last_command->name);
  }
  const size_t query = session.port->query_bytes();
  const size_t capacity = session.port->query_capacity();
  const int64_t queued =
      session.in_transaction() ? static_cast<int64_t>(session.transaction.queue.size()) : -1;
  return fmt::format(
      "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 "
      "multi={} qbuf={} "
      "qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} "
      "events=r cmd={} user={} "
      "redir=-1 resp={}",
      session.id, session.peer_address, session.local_address, session.port->fd(), session.name,
      (now_ms - session.created_ms) / 1000, (now_ms - session.last_interaction_ms) / 1000, flags,
      session.db, queued, query, capacity > query ? capacity - query : 0, 0,
      session.transaction.argv_bytes, session.output.footprint(), session.output.footprint(),
      session.output.size(), 0, 0, session.MemoryUsage(), command, session.user,
      session.reply.version());
}

bool Listed(const Session& session) { return session.port != nullptr && !session.closing; }

Status Id(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.session().id));
  return Status::Ok();
}

Status ClientInfo(CommandContext& ctx) {
  ctx.reply().Verbatim("txt", Describe(ctx.session(), ctx.now_ms()) + "\n");
  return Status::Ok();
}

bool KnownType(std::string_view word, bool* normal) {
  *normal = EqualsIgnoreCase(word, "normal");
  return *normal || EqualsIgnoreCase(word, "master") || EqualsIgnoreCase(word, "replica") ||
         EqualsIgnoreCase(word, "slave") || EqualsIgnoreCase(word, "pubsub");
}

Status List(CommandContext& ctx) {
  std::string out;
  const auto add = [&](const Session& session) {
    if (Listed(session)) out += Describe(session, ctx.now_ms()) + "\n";
  };
  if (ctx.argc() == 2) {
    for (const auto& [id, session] : ctx.engine().sessions()) add(*session);
  } else if (ctx.argc() == 4 && ctx.ArgIs(2, "type")) {
    bool normal;
    if (!KnownType(ctx.arg(3), &normal)) {
      return Status::Client("ERR Unknown client type '" + std::string(ctx.arg(3)) + "'");
    }
    for (const auto& [id, session] : ctx.engine().sessions()) {
      if (normal) add(*session);
    }
  } else if (ctx.argc() > 3 && ctx.ArgIs(2, "id")) {
    for (size_t i = 3; i < ctx.argc(); ++i) {
      int64_t id;
      if (!ParseInt64(ctx.arg(i), &id) || id < 1) return Status::Client("ERR Invalid client ID");
      if (const Session* session = ctx.engine().FindSession(static_cast<uint64_t>(id)))
        add(*session);
    }
  } else {
    return RespError(resp_errors::kSyntax);
  }
  ctx.reply().Verbatim("txt", out);
  return Status::Ok();
}

struct KillFilter {
  std::string_view address, local_address, user;
  uint64_t id = 0;
  bool by_type = false, normal_type = true;
  bool skip_me = true;
};

Status ParseKillFilter(CommandContext& ctx, KillFilter* filter) {
  if (ctx.argc() % 2 != 0) return RespError(resp_errors::kSyntax);
  for (size_t i = 2; i < ctx.argc(); i += 2) {
    const std::string_view value = ctx.arg(i + 1);
    if (ctx.ArgIs(i, "id")) {
      int64_t id;
      if (!ParseInt64(value, &id) || id < 1)
        return Status::Client("ERR client-id should be greater than 0");
      filter->id = static_cast<uint64_t>(id);
    } else if (ctx.ArgIs(i, "type")) {
      filter->by_type = true;
      if (!KnownType(value, &filter->normal_type)) {
        return Status::Client("ERR Unknown client type '" + std::string(value) + "'");
      }
    } else if (ctx.ArgIs(i, "addr")) {
      filter->address = value;
    } else if (ctx.ArgIs(i, "laddr")) {
      filter->local_address = value;
    } else if (ctx.ArgIs(i, "user")) {
      if (value != "default")
        return Status::Client("ERR No such user '" + std::string(value) + "'");
      filter->user = value;
    } else if (ctx.ArgIs(i, "skipme") &&
               (EqualsIgnoreCase(value, "yes") || EqualsIgnoreCase(value, "no"))) {
      filter->skip_me = EqualsIgnoreCase(value, "yes");
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

Status Kill(CommandContext& ctx) {
  KillFilter filter;
  const bool old_form = ctx.argc() == 3;
  if (old_form) {
    filter.address = ctx.arg(2);
    filter.skip_me = false;
  } else {
    CAIRN_RETURN_IF_ERROR(ParseKillFilter(ctx, &filter));
  }
  int64_t killed = 0;
  for (const auto& [id, session] : ctx.engine().sessions()) {
    if (!Listed(*session)) continue;
    if (!filter.address.empty() && session->peer_address != filter.address) continue;
    if (!filter.local_address.empty() && session->local_address != filter.local_address) continue;
    if (!filter.user.empty() && session->user != filter.user) continue;
    if (filter.id != 0 && session->id != filter.id) continue;
    if (filter.by_type && !filter.normal_type) continue;
    if (filter.skip_me && session.get() == &ctx.session()) continue;
    ++killed;
    if (session.get() == &ctx.session()) {
      session->close_after_reply = true;
    } else {
      session->port->Close(false);
    }
  }
  if (!old_form) {
    ctx.reply().Integer(killed);
  } else if (killed == 0) {
    return RespError(resp_errors::kNoSuchClient);
  } else {
    ctx.reply().Ok();
  }
  return Status::Ok();
}

Status SetName(CommandContext& ctx) {
  for (char c : ctx.arg(2)) {
    if (c < '!' || c > '~') {
      return Status::Client(
          "ERR Client names cannot contain spaces, newlines or special characters.");
    }
  }
  ctx.session().name = ctx.arg(2);
  ctx.reply().Ok();
  return Status::Ok();
}

Status GetName(CommandContext& ctx) {
  if (ctx.session().name.empty()) {
    ctx.reply().Null();
  } else {
    ctx.reply().Bulk(ctx.session().name);
  }
  return Status::Ok();
}

Status NoEvict(CommandContext& ctx) {
  if (!ctx.ArgIs(2, "on") && !ctx.ArgIs(2, "off")) return RespError(resp_errors::kSyntax);
  ctx.session().no_evict = ctx.ArgIs(2, "on");
  ctx.reply().Ok();
  return Status::Ok();
}

Status Pause(CommandContext& ctx) {
  if (ctx.argc() > 4) return WrongArity("client|pause");
  PauseMode mode = PauseMode::kAll;
  if (ctx.argc() == 4) {
    if (ctx.ArgIs(3, "write")) {
      mode = PauseMode::kWrites;
    } else if (!ctx.ArgIs(3, "all")) {
      return Status::Client("ERR CLIENT PAUSE mode must be WRITE or ALL");
    }
  }
  int64_t pause_ms;
  if (!ParseInt64(ctx.arg(2), &pause_ms)) return RespError(resp_errors::kTimeoutNotInteger);
  if (pause_ms < 0) return RespError(resp_errors::kTimeoutNegative);
  Engine& engine = ctx.engine();
  // A longer or stricter pause that runs already stays.
  if (engine.IsPaused(true)) {
    pause_ms = std::max(pause_ms, engine.pause_until_ms - ctx.now_ms());
    if (engine.pause_mode == PauseMode::kAll) mode = PauseMode::kAll;
  }
  engine.pause_until_ms = ctx.now_ms() + pause_ms;
  engine.pause_mode = mode;
  ctx.reply().Ok();
  return Status::Ok();
}

Status Unpause(CommandContext& ctx) {
  ctx.engine().pause_until_ms = 0;
  ctx.reply().Ok();
  return Status::Ok();
}

Status Reply(CommandContext& ctx) {
  Session& session = ctx.session();
  if (ctx.ArgIs(2, "on")) {
    session.reply_mode = ReplyMode::kOn;
    ctx.reply().Ok();
  } else if (ctx.ArgIs(2, "off")) {
    session.reply_mode = ReplyMode::kOff;
  } else if (ctx.ArgIs(2, "skip")) {
    if (session.reply_mode != ReplyMode::kOff) session.reply_mode = ReplyMode::kSkipNext;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  return Status::Ok();
}

// Nothing blocks a client yet but CLIENT PAUSE, which Redis does not unblock either.
Status Unblock(CommandContext& ctx) {
  int64_t id;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &id));
  if (ctx.argc() == 4 && !ctx.ArgIs(3, "timeout") && !ctx.ArgIs(3, "error")) {
    return Status::Client("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
  }
  ctx.reply().Integer(0);
  return Status::Ok();
}

constexpr uint64_t kClientFlags = kCmdNoScript | kCmdLoading | kCmdStale;
constexpr CommandSpec Sub(std::string_view name, int arity, uint64_t flags, std::string_view since,
                          std::string_view complexity, std::string_view summary,
                          std::string_view synopsis, CommandHandler handler) {
  return {.name = name,
          .parent = "client",
          .arity = arity,
          .flags = kClientFlags | flags,
          .acl = kAclConnection,
          .group = "connection",
          .since = since,
          .complexity = complexity,
          .summary = summary,
          .synopsis = synopsis,
          .handler = handler};
}

constexpr std::array kClientSpecs = {
    CommandSpec{.name = "client",
                .arity = -2,
                .group = "connection",
                .since = "2.4.0",
                .complexity = "Depends on subcommand.",
                .summary = "Looks at and steers connections."},
    Sub("id", 2, 0, "5.0.0", "O(1)", "The connection's number.", "", Id),
    Sub("info", 2, 0, "6.2.0", "O(1)", "What CLIENT LIST says of this connection.", "", ClientInfo),
    Sub("list", -2, kCmdAdmin, "2.4.0", "O(N) where N is the number of client connections",
        "All connections, a line each.",
        "[TYPE=client-type(NORMAL|MASTER|REPLICA|PUBSUB)@5.0.0] "
        "[ID=id{client-id:integer...}@6.2.0]",
        List),
    Sub("kill", -3, kCmdAdmin, "2.4.0", "O(N) where N is the number of client connections",
        "Closes the connections that match.", "filter...", Kill),
    Sub("setname", 3, 0, "2.6.9", "O(1)", "Names the connection.", "connection-name", SetName),
    Sub("getname", 2, 0, "2.6.9", "O(1)", "The connection's name.", "", GetName),
    Sub("no-evict", 3, kCmdAdmin, "7.0.0", "O(1)", "Keeps the connection out of client eviction.",
        "enabled(ON|OFF)", NoEvict),
    Sub("pause", -3, kCmdAdmin, "3.0.0", "O(1)", "Lets commands wait for a while.",
        "timeout:integer [mode(WRITE|ALL)@6.2.0]", Pause),
    Sub("unpause", 2, kCmdAdmin, "6.2.0", "O(N) Where N is the number of paused clients",
        "Ends a pause.", "", Unpause),
    Sub("reply", 3, 0, "3.2.0", "O(1)", "Turns replies off, on, or off for one command.",
        "on-off-skip(ON|OFF|SKIP)", Reply),
    Sub("unblock", -3, kCmdAdmin, "5.0.0", "O(log N) where N is the number of client connections",
        "Wakes a client that waits in a blocking command.",
        "client-id:integer [timeout-error(TIMEOUT|ERROR)]", Unblock),
};
static_assert(ValidSpecs(kClientSpecs));

}  // namespace

CommandFamily ClientCommands() { return kClientSpecs; }

}  // namespace cairn

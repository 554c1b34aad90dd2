// CLIENT: looking at connections, naming, pausing and ending them. What a line of CLIENT LIST holds
// is in engine/client_report.

#include <array>
#include <limits>
#include <optional>

#include "server/base/strings.h"
#include "server/engine/client_report.h"
#include "server/engine/command_reference.h"
#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

constexpr CommandSpec kClientSpec{
    .name = "client",
    .arity = -2,
    .group = "connection",
    .since = "2.4.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the commands about connections.",
};

// --- identity --------------------------------------------------------------------------------

Status ClientId(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.session().id));
  return Status::Ok();
}
constexpr CommandSpec kClientIdSpec{
    .name = "id",
    .parent = "client",
    .arity = 2,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Gives the number of this connection.",
    .handler = ClientId,
};

Status ClientGetName(CommandContext& ctx) {
  if (ctx.session().name.empty()) {
    ctx.reply().Null();
  } else {
    ctx.reply().Bulk(ctx.session().name);
  }
  return Status::Ok();
}
constexpr CommandSpec kClientGetnameSpec{
    .name = "getname",
    .parent = "client",
    .arity = 2,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "2.6.9",
    .complexity = "O(1)",
    .summary = "Gives the name of this connection.",
    .handler = ClientGetName,
};

Status ClientSetName(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(SetClientName(ctx.session(), ctx.arg(2)));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientSetnameSpec{
    .name = "setname",
    .parent = "client",
    .arity = 3,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "2.6.9",
    .complexity = "O(1)",
    .summary = "Names this connection.",
    .synopsis = "connection-name",
    .handler = ClientSetName,
};

/// How CLIENT LIST and INFO show the session that asks: it is busy with this very command.
std::string LineOf(CommandContext& ctx, const Session& session) {
  const bool asks = &session == &ctx.session();
  size_t argument_bytes = 0;
  if (asks) {
    for (std::string_view arg : ctx.args().subspan(1)) argument_bytes += arg.size();
  }
  const CommandSpec* command = asks ? &ctx.spec() : session.last_command;
  if (asks && ctx.in_exec()) command = ctx.engine().commands.Find("exec")->spec;
  return ClientLine(session, ctx.engine().env.WallMicros() / 1000, command, argument_bytes);
}

Status ClientInfo(CommandContext& ctx) {
  ctx.reply().Verbatim("txt", LineOf(ctx, ctx.session()) + "\n");
  return Status::Ok();
}
constexpr CommandSpec kClientInfoSpec{
    .name = "info",
    .parent = "client",
    .arity = 2,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Describes this connection in one line.",
    .tips = "nondeterministic_output",
    .handler = ClientInfo,
};

// --- the list --------------------------------------------------------------------------------

/// The types of CLIENT LIST and KILL.
enum class ClientType : uint8_t { kNormal, kReplica, kPubsub, kMaster };

Status ParseClientType(std::string_view word, ClientType* out) {
  static constexpr struct {
    std::string_view word;
    ClientType type;
  } kTypes[] = {{"normal", ClientType::kNormal},
                {"slave", ClientType::kReplica},
                {"replica", ClientType::kReplica},
                {"pubsub", ClientType::kPubsub},
                {"master", ClientType::kMaster}};
  for (const auto& each : kTypes) {
    if (!EqualsIgnoreCase(word, each.word)) continue;
    *out = each.type;
    return Status::Ok();
  }
  return QuotingError({"ERR Unknown client type '", word, "'"});
}

bool IsOfType(const Session& session, ClientType type) {
  switch (type) {
    case ClientType::kNormal:
      return session.kind == SessionKind::kNormal;
    case ClientType::kReplica:
      return session.kind == SessionKind::kReplica;
    case ClientType::kPubsub:
      return session.kind == SessionKind::kPubsub;
    case ClientType::kMaster:
      return session.kind == SessionKind::kPrimary;
  }
  return false;
}

/// Sessions behind a connection that is still up; scripts and loaders are no clients.
bool IsConnected(const Session& session) { return session.port != nullptr && !session.closing; }

Status ClientList(CommandContext& ctx) {
  std::string lines;
  if (ctx.argc() > 3 && ctx.ArgIs(2, "ID")) {
    for (size_t i = 3; i < ctx.argc(); ++i) {
      int64_t id;
      if (!ParseInt64(ctx.arg(i), &id)) return Status::Client("ERR Invalid client ID");
      const Session* session = ctx.engine().FindSession(static_cast<uint64_t>(id));
      if (session != nullptr && IsConnected(*session)) lines += LineOf(ctx, *session) + "\n";
    }
    ctx.reply().Verbatim("txt", lines);
    return Status::Ok();
  }
  std::optional<ClientType> wanted;
  if (ctx.argc() == 4 && ctx.ArgIs(2, "TYPE")) {
    CAIRN_RETURN_IF_ERROR(ParseClientType(ctx.arg(3), &wanted.emplace()));
  } else if (ctx.argc() != 2) {
    return RespError(resp_errors::kSyntax);
  }
  for (const auto& [id, session] : ctx.engine().sessions()) {
    if (!IsConnected(*session) || (wanted && !IsOfType(*session, *wanted))) continue;
    lines += LineOf(ctx, *session) + "\n";
  }
  ctx.reply().Verbatim("txt", lines);
  return Status::Ok();
}
constexpr CommandSpec kClientListSpec{
    .name = "list",
    .parent = "client",
    .arity = -2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "2.4.0",
    .complexity = "O(N) in the number of connections",
    .summary = "Describes the connections, one a line.",
    .synopsis =
        "[TYPE=normal_master_replica_pubsub(NORMAL|MASTER|REPLICA|PUBSUB)@5.0.0] "
        "[ID=id{client-id:integer...}@6.2.0]",
    .tips = "nondeterministic_output",
    .history =
        "2.8.12|`id` field.\n5.0.0|`TYPE` filter.\n6.0.0|`user` field.\n6.2.0|`argv-mem`, "
        "`tot-mem`, `laddr`, `redir` fields; `ID` filter.\n7.0.0|`resp`, `multi-mem`, `rbs`, "
        "`rbp` fields.\n7.0.3|`ssub` field.",
    .handler = ClientList,
};

// --- ending connections ----------------------------------------------------------------------

struct KillFilter {
  uint64_t id = 0;
  std::optional<std::string_view> address;  ///< given as "", nobody has it
  std::optional<std::string_view> local_address;
  std::string_view user;
  std::optional<ClientType> type;
  bool skip_me = true;

  bool Matches(const Session& session) const {
    if (address && session.peer_address != *address) return false;
    if (local_address && session.local_address != *local_address) return false;
    if (type && !IsOfType(session, *type)) return false;
    if (id != 0 && session.id != id) return false;
    return user.empty() || (session.authenticated && session.user == user);
  }
};

Status ParseKillOption(const Acl& acl, std::string_view option, std::string_view value,
                       KillFilter* filter) {
  if (EqualsIgnoreCase(option, "ID")) {
    int64_t id;
    if (!ParseInt64(value, &id) || id < 1)
      return Status::Client("ERR client-id should be greater than 0");
    filter->id = static_cast<uint64_t>(id);
    return Status::Ok();
  }
  if (EqualsIgnoreCase(option, "TYPE")) return ParseClientType(value, &filter->type.emplace());
  if (EqualsIgnoreCase(option, "ADDR")) {
    filter->address = value;
  } else if (EqualsIgnoreCase(option, "LADDR")) {
    filter->local_address = value;
  } else if (EqualsIgnoreCase(option, "USER")) {
    if (acl.Find(value) == nullptr)
      return Status::Client("ERR No such user '" + std::string(UpToNul(value)) + "'");
    filter->user = value;
  } else if (EqualsIgnoreCase(option, "SKIPME") &&
             (EqualsIgnoreCase(value, "yes") || EqualsIgnoreCase(value, "no"))) {
    filter->skip_me = EqualsIgnoreCase(value, "yes");
  } else {
    return RespError(resp_errors::kSyntax);
  }
  return Status::Ok();
}

int64_t KillMatching(CommandContext& ctx, const KillFilter& filter) {
  int64_t killed = 0;
  for (const auto& [id, session] : ctx.engine().sessions()) {
    if (!IsConnected(*session) || !filter.Matches(*session)) continue;
    if (session.get() == &ctx.session()) {
      if (filter.skip_me) continue;
      session->close_after_reply = true;
    } else {
      session->port->Close(/*after_output=*/false);
    }
    ++killed;
  }
  return killed;
}

Status ClientKill(CommandContext& ctx) {
  KillFilter filter;
  if (ctx.argc() == 3) {
    filter.address = ctx.arg(2);
    filter.skip_me = false;
    if (KillMatching(ctx, filter) == 0) return RespError(resp_errors::kNoSuchClient);
    ctx.reply().Ok();
    return Status::Ok();
  }
  for (size_t i = 2; i < ctx.argc(); i += 2) {
    if (i + 1 >= ctx.argc()) return RespError(resp_errors::kSyntax);
    CAIRN_RETURN_IF_ERROR(ParseKillOption(ctx.engine().acl, ctx.arg(i), ctx.arg(i + 1), &filter));
  }
  ctx.reply().Integer(KillMatching(ctx, filter));
  return Status::Ok();
}
constexpr CommandSpec kClientKillSpec{
    .name = "kill",
    .parent = "client",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "2.4.0",
    .complexity = "O(N) in the number of connections",
    .summary = "Closes connections by address, id, type or user.",
    .synopsis =
        "filter(\"ip:port\"~2.8.12|new-format([ID=client-id:integer@2.8.12]|[TYPE=normal_master"
        "_slave_pubsub(NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB)@2.8.12]|[USER=username]|"
        "[ADDR=\"ip:port\"]|[LADDR=\"ip:port\"@6.2.0]|[SKIPME=\"yes/no\"])...)",
    .history =
        "2.8.12|Filters.\n2.8.12|`ID` filter.\n3.2.0|`master` type.\n5.0.0|`replica` type "
        "beside `slave`.\n6.2.0|`LADDR` filter.",
    .handler = ClientKill,
};

// --- switches --------------------------------------------------------------------------------

Status ClientNoEvict(CommandContext& ctx) {
  const bool on = ctx.ArgIs(2, "ON");
  if (!on && !ctx.ArgIs(2, "OFF")) return RespError(resp_errors::kSyntax);
  ctx.session().no_evict = on;
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientNoEvictSpec{
    .name = "no-evict",
    .parent = "client",
    .arity = 3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Exempts this connection from the eviction of clients.",
    .synopsis = "enabled(ON|OFF)",
    .handler = ClientNoEvict,
};

Status ClientReply(CommandContext& ctx) {
  Session& session = ctx.session();
  if (ctx.ArgIs(2, "ON")) {
    session.reply_mode = ReplyMode::kOn;
    ctx.reply().Ok();
  } else if (ctx.ArgIs(2, "OFF")) {
    session.reply_mode = ReplyMode::kOff;
  } else if (ctx.ArgIs(2, "SKIP")) {
    if (session.reply_mode != ReplyMode::kOff) session.reply_mode = ReplyMode::kSkipNext;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  return Status::Ok();
}
constexpr CommandSpec kClientReplySpec{
    .name = "reply",
    .parent = "client",
    .arity = 3,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "3.2.0",
    .complexity = "O(1)",
    .summary = "Switches the replies to this connection on or off.",
    .synopsis = "on_off_skip(ON|OFF|SKIP)",
    .handler = ClientReply,
};

Status ClientPause(CommandContext& ctx) {
  if (ctx.argc() > 4) return UnknownSubcommandOrArity("client", ctx.arg(1));
  PauseMode mode = PauseMode::kAll;
  if (ctx.argc() == 4) {
    if (ctx.ArgIs(3, "WRITE")) {
      mode = PauseMode::kWrites;
    } else if (!ctx.ArgIs(3, "ALL")) {
      return Status::Client("ERR CLIENT PAUSE mode must be WRITE or ALL");
    }
  }
  int64_t timeout_ms;
  if (!ParseInt64(ctx.arg(2), &timeout_ms)) return RespError(resp_errors::kTimeoutNotInteger);
  if (timeout_ms < 0) return RespError(resp_errors::kTimeoutNegative);
  if (timeout_ms > std::numeric_limits<int64_t>::max() - ctx.now_ms()) {
    return Status::Client("ERR timeout is out of range");
  }
  ctx.engine().Pause(PauseReason::kCommand, mode, ctx.now_ms() + timeout_ms);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientPauseSpec{
    .name = "pause",
    .parent = "client",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "2.9.50",
    .complexity = "O(1)",
    .summary = "Holds back the commands of all clients for a while.",
    .synopsis = "timeout:integer [mode(WRITE|ALL)@6.2.0]",
    .history = "6.2.0|Modes `WRITE` and `ALL`.",
    .handler = ClientPause,
};

Status ClientUnpause(CommandContext& ctx) {
  ctx.engine().EndPause(PauseReason::kCommand);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientUnpauseSpec{
    .name = "unpause",
    .parent = "client",
    .arity = 2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.2.0",
    .complexity = "O(N) in the number of connections held back",
    .summary = "Ends CLIENT PAUSE.",
    .handler = ClientUnpause,
};

Status ClientUnblock(CommandContext& ctx) {
  if (ctx.argc() > 4) return UnknownSubcommandOrArity("client", ctx.arg(1));
  if (ctx.argc() == 4 && !ctx.ArgIs(3, "TIMEOUT") && !ctx.ArgIs(3, "ERROR")) {
    return Status::Client("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
  }
  int64_t id;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &id));
  Session* session = ctx.engine().FindSession(static_cast<uint64_t>(id));
  // One that CLIENT PAUSE holds back does not wait in a command.
  const bool waits = session != nullptr && session->blocked != nullptr;
  if (waits && ctx.argc() == 4 && ctx.ArgIs(3, "ERROR")) {
    ctx.engine().dispatcher->UnblockWithError(*session,
                                              "UNBLOCKED client unblocked via CLIENT UNBLOCK");
  } else if (waits) {
    // Unlike one whose time is over, it counts as failed.
    ++session->blocked->counted->counters.failed;
    ctx.engine().dispatcher->UnblockByTimeout(*session);
  }
  ctx.reply().Integer(waits ? 1 : 0);
  return Status::Ok();
}
constexpr CommandSpec kClientUnblockSpec{
    .name = "unblock",
    .parent = "client",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "5.0.0",
    .complexity = "O(log N) in the number of connections",
    .summary = "Ends the waiting of a client blocked in a command.",
    .synopsis = "client-id:integer [timeout_error(TIMEOUT|ERROR)]",
    .handler = ClientUnblock,
};

constexpr CommandSpec kClientHelpSpec{
    .name = "help",
    .parent = "client",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kClientSpecs = {
    kClientSpec,      kClientIdSpec,    kClientGetnameSpec, kClientSetnameSpec,
    kClientInfoSpec,  kClientListSpec,  kClientKillSpec,    kClientNoEvictSpec,
    kClientReplySpec, kClientPauseSpec, kClientUnpauseSpec, kClientUnblockSpec,
    kClientHelpSpec,
};
static_assert(ValidSpecs(kClientSpecs));

}  // namespace

CommandFamily ClientCommands() { return kClientSpecs; }

}  // namespace cairn

// Watching what is run: MONITOR shows every command, SLOWLOG keeps those that took long.

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

Status Monitor(CommandContext& ctx) {
  if (!ctx.CanBlock()) {
    return Status::Client("ERR MONITOR isn't allowed for DENY BLOCKING client");
  }
  // Asked twice it is silent the second time, as in Redis, and so is a replica's connection.
  if (ctx.session().monitor || ctx.session().kind == SessionKind::kReplica) return Status::Ok();
  ctx.engine().monitors.Join(ctx.session());
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kMonitorSpec{
    .name = "monitor",
    .arity = 1,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "1.0.0",
    .summary = "Shows every command that is run, as it is run.",
    .handler = Monitor,
};

constexpr CommandSpec kSlowlogSpec{
    .name = "slowlog",
    .arity = -2,
    .group = "server",
    .since = "2.2.12",
    .complexity = "Depends on subcommand.",
    .summary = "Groups the commands about the log of slow commands.",
};

void ReplyEntry(RespWriter& reply, const SlowLogEntry& entry) {
  reply.ArrayHeader(6);
  reply.Integer(entry.id);
  reply.Integer(entry.unix_s);
  reply.Integer(entry.duration_us);
  reply.ArrayHeader(entry.args.size());
  for (const std::string& arg : entry.args) reply.Bulk(arg);
  reply.Bulk(entry.peer_address);
  reply.Bulk(entry.client_name);
}

Status SlowlogGet(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("slowlog", ctx.arg(1));
  int64_t count = 10;
  if (ctx.argc() == 3 && (!ParseInt64(ctx.arg(2), &count) || count < -1)) {
    return Status::Client("ERR count should be greater than or equal to -1");
  }
  const auto& entries = ctx.engine().slowlog.entries();
  const size_t shown =
      count == -1 ? entries.size() : std::min(entries.size(), static_cast<size_t>(count));
  ctx.reply().ArrayHeader(shown);
  for (size_t i = 0; i < shown; ++i) ReplyEntry(ctx.reply(), entries[i]);
  return Status::Ok();
}
constexpr CommandSpec kSlowlogGetSpec{
    .name = "get",
    .parent = "slowlog",
    .arity = -2,
    .flags = kCmdAdmin | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.2.12",
    .complexity = "O(N) where N is the number of entries returned",
    .summary = "Returns the newest entries of the slow log.",
    .synopsis = "[count:integer]",
    .tips = "request_policy:all_nodes nondeterministic_output",
    .history = "4.0.0|Entries tell the client's address and name.",
    .handler = SlowlogGet,
};

Status SlowlogLen(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.engine().slowlog.entries().size()));
  return Status::Ok();
}
constexpr CommandSpec kSlowlogLenSpec{
    .name = "len",
    .parent = "slowlog",
    .arity = 2,
    .flags = kCmdAdmin | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.2.12",
    .complexity = "O(1)",
    .summary = "Counts the entries of the slow log.",
    .tips = "request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
    .handler = SlowlogLen,
};

Status SlowlogReset(CommandContext& ctx) {
  ctx.engine().slowlog.Reset();
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kSlowlogResetSpec{
    .name = "reset",
    .parent = "slowlog",
    .arity = 2,
    .flags = kCmdAdmin | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.2.12",
    .complexity = "O(N) where N is the number of entries in the slowlog",
    .summary = "Empties the slow log.",
    .tips = "request_policy:all_nodes response_policy:all_succeeded",
    .handler = SlowlogReset,
};

constexpr CommandSpec kSlowlogHelpSpec{
    .name = "help",
    .parent = "slowlog",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kSlowlogSpecs = {
    kMonitorSpec,    kSlowlogSpec,      kSlowlogGetSpec,
    kSlowlogLenSpec, kSlowlogResetSpec, kSlowlogHelpSpec,
};
static_assert(ValidSpecs(kSlowlogSpecs));

}  // namespace

CommandFamily SlowlogCommands() { return kSlowlogSpecs; }

}  // namespace cairn

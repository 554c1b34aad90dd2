// CONFIG: settings by name while the server runs, and the counters of INFO.

#include <array>
#include <vector>

#include "server/engine/command_reference.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

constexpr CommandSpec kConfigSpec{
    .name = "config",
    .arity = -2,
    .group = "server",
    .since = "2.0.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the commands about settings.",
};

Status ConfigGet(CommandContext& ctx) {
  const std::vector<Config::NameAndValue> found = ctx.engine().config.Get(ctx.args().subspan(2));
  ctx.reply().MapHeader(found.size());
  for (const auto& [name, value] : found) {
    ctx.reply().Bulk(name);
    ctx.reply().Bulk(value);
  }
  return Status::Ok();
}
constexpr CommandSpec kConfigGetSpec{
    .name = "get",
    .parent = "config",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.0.0",
    .complexity = "O(N) in the number of settings asked for",
    .summary = "Gives the settings whose names match.",
    .synopsis = "parameter{parameter}...",
    .history = "7.0.0|Several patterns in one call.",
    .handler = ConfigGet,
};

Status ConfigSet(CommandContext& ctx) {
  if (ctx.argc() % 2 != 0) return RespError(resp_errors::kSyntax);
  std::vector<Config::NameAndValue> pairs;
  for (size_t i = 2; i < ctx.argc(); i += 2) pairs.emplace_back(ctx.arg(i), ctx.arg(i + 1));
  SetContext caller;
  caller.client_is_local = ctx.session().IsLocal();
  caller.loading = ctx.engine().loading;
  CAIRN_RETURN_IF_ERROR(ctx.engine().config.Set(pairs, caller));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kConfigSetSpec{
    .name = "set",
    .parent = "config",
    .arity = -4,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.0.0",
    .complexity = "O(N) in the number of settings given",
    .summary = "Changes settings, all of them or none.",
    .synopsis = "parameter_value{parameter value}...",
    .tips = "request_policy:all_nodes response_policy:all_succeeded",
    .history = "7.0.0|Several settings in one call.",
    .handler = ConfigSet,
};

Status ConfigRewrite(CommandContext& ctx) {
  Engine& engine = ctx.engine();
  if (Status written = engine.config.Rewrite(); !written.ok()) {
    if (written.code() == StatusCode::kClient) return written;
    engine.log.Log(LogLevel::kWarning, "CONFIG REWRITE failed: {}", written.message());
    return Status::Client("ERR Rewriting config file: " + std::string(written.message()));
  }
  engine.log.Log(LogLevel::kWarning, "CONFIG REWRITE executed with success.");
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kConfigRewriteSpec{
    .name = "rewrite",
    .parent = "config",
    .arity = 2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.8.0",
    .complexity = "O(1)",
    .summary = "Writes the settings in force back to the configuration file.",
    .handler = ConfigRewrite,
};

Status ConfigResetStat(CommandContext& ctx) {
  Engine& engine = ctx.engine();
  engine.stats.Reset();
  engine.commands.ResetCounters();
  engine.keyspace.ResetFigures();
  if (engine.durability != nullptr) engine.durability->ResetFigures();
  if (engine.replicas != nullptr) engine.replicas->ResetCounts();
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kConfigResetstatSpec{
    .name = "resetstat",
    .parent = "config",
    .arity = 2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Sets the counters of INFO back to zero.",
    .handler = ConfigResetStat,
};

constexpr CommandSpec kConfigHelpSpec{
    .name = "help",
    .parent = "config",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kConfigSpecs = {
    kConfigSpec,        kConfigGetSpec,       kConfigSetSpec,
    kConfigRewriteSpec, kConfigResetstatSpec, kConfigHelpSpec,
};
static_assert(ValidSpecs(kConfigSpecs));

}  // namespace

CommandFamily ConfigCommands() { return kConfigSpecs; }

}  // namespace cairn

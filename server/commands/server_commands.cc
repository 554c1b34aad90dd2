// What the server says of itself: INFO, TIME, LOLWUT. Settings are in config_commands.cc,
// memory in memory_commands.cc, saving in persistence_commands.cc.

#include <fmt/format.h>

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"
#include "server/engine/info_report.h"
#include "server/engine/version.h"

namespace cairn {

namespace {

Status InfoCommand(CommandContext& ctx) {
  ctx.reply().Verbatim("txt", InfoReport(ctx.engine(), ctx.args().subspan(1)));
  return Status::Ok();
}
constexpr CommandSpec kInfoSpec{
    .name = "info",
    .arity = -1,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclDangerous,
    .group = "server",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Reports on the server, section by section.",
    .synopsis = "[section...]",
    .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
    .history = "7.0.0|Several sections in one call.",
    .handler = InfoCommand,
};

Status Time(CommandContext& ctx) {
  const int64_t now_us = ctx.engine().env.WallMicros();
  ctx.reply().ArrayHeader(2);
  ctx.reply().BulkInt64(now_us / 1000000);
  ctx.reply().BulkInt64(now_us % 1000000);
  return Status::Ok();
}
constexpr CommandSpec kTimeSpec{
    .name = "time",
    .arity = 1,
    .flags = kCmdLoading | kCmdStale | kCmdFast,
    .group = "server",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Gives the wall clock of the server.",
    .tips = "nondeterministic_output",
    .handler = Time,
};

/// A heap of stones, wider towards the ground; the seed places them.
std::string DrawCairn(uint64_t seed) {
  static constexpr std::string_view kStones[] = {"o", "()", "(_)", "(__)"};
  constexpr int kLayers = 6;
  std::string picture;
  for (int layer = 1; layer <= kLayers; ++layer) {
    std::string row;
    while (row.size() < static_cast<size_t>(layer) * 4) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      row += kStones[seed >> 62];
    }
    picture += std::string(2 + (kLayers * 4 + 4 - row.size()) / 2, ' ') + row + "\n";
  }
  return picture;
}

Status Lolwut(CommandContext& ctx) {
  if (ctx.argc() >= 3 && ctx.ArgIs(1, "VERSION")) {
    int64_t version;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &version));
  }
  ctx.reply().Verbatim(
      "txt", fmt::format("{}\nCairnKV {}, Redis ver. {}\n", DrawCairn(ctx.engine().env.RandomU64()),
                         kCairnVersion, kRedisVersion));
  return Status::Ok();
}
constexpr CommandSpec kLolwutSpec{
    .name = "lolwut",
    .arity = -1,
    .flags = kCmdReadonly | kCmdFast,
    .group = "server",
    .since = "5.0.0",
    .summary = "Draws a picture and tells the version.",
    .synopsis = "[VERSION=version:integer]",
    .handler = Lolwut,
};

// --- function libraries: none can be loaded yet ------------------------------------------------

constexpr CommandSpec kFunctionSpec{
    .name = "function",
    .arity = -2,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the commands about function libraries.",
};

Status FunctionFlush(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("function", ctx.arg(1));
  if (ctx.argc() == 3 && !ctx.ArgIs(2, "SYNC") && !ctx.ArgIs(2, "ASYNC")) {
    return Status::Client("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
  }
  // There are no libraries, so nothing changes and nothing is propagated.
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kFunctionFlushSpec{
    .name = "flush",
    .parent = "function",
    .arity = -2,
    .flags = kCmdWrite | kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(N) in the number of functions",
    .summary = "Removes all function libraries.",
    .synopsis = "[async(ASYNC|SYNC)]",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .handler = FunctionFlush,
};

constexpr CommandSpec kFunctionHelpSpec{
    .name = "help",
    .parent = "function",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kServerSpecs = {
    kInfoSpec, kTimeSpec, kLolwutSpec, kFunctionSpec, kFunctionFlushSpec, kFunctionHelpSpec,
};
static_assert(ValidSpecs(kServerSpecs));

}  // namespace

CommandFamily ServerCommands() { return kServerSpecs; }

}  // namespace cairn

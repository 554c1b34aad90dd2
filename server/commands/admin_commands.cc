// Watching and tuning: INFO, CONFIG, TIME, MEMORY. CLIENT, COMMAND and DEBUG have files of their
// own.

#include <array>
#include <set>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/info_report.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

Status Info(CommandContext& ctx) {
  std::set<std::string> sections;
  for (size_t i = 1; i < ctx.argc(); ++i) sections.insert(ToLower(ctx.arg(i)));
  ctx.reply().Verbatim("txt", InfoReport(ctx.engine(), sections));
  return Status::Ok();
}

Status Time(CommandContext& ctx) {
  const int64_t now_us = ctx.engine().env.WallMicros();
  ctx.reply().ArrayHeader(2);
  ctx.reply().BulkInt64(now_us / 1000000);
  ctx.reply().BulkInt64(now_us % 1000000);
  return Status::Ok();
}

// --- CONFIG
// --------------------------------------------------------------------------------------------------

Status ConfigGet(CommandContext& ctx) {
  const auto found = ctx.engine().config.Get(ctx.args().subspan(2));
  ctx.reply().MapHeader(found.size());
  for (const auto& [name, value] : found) {
    ctx.reply().Bulk(name);
    ctx.reply().Bulk(value);
  }
  return Status::Ok();
}

Status ConfigSet(CommandContext& ctx) {
  if (ctx.argc() % 2 != 0) return WrongArity("config|set");
  std::vector<Config::NameAndValue> pairs;
  for (size_t i = 2; i < ctx.argc(); i += 2) pairs.emplace_back(ctx.arg(i), ctx.arg(i + 1));
  const std::string& peer = ctx.session().peer_address;
  const bool local =
      ctx.session().unix_socket || peer.starts_with("127.") || peer.starts_with("[::1]");
  CAIRN_RETURN_IF_ERROR(
      ctx.engine().config.Set(pairs, {.client_is_local = local, .loading = ctx.engine().loading}));
  ctx.reply().Ok();
  return Status::Ok();
}

Status ConfigRewrite(CommandContext& ctx) {
  if (Status written = ctx.engine().config.Rewrite(); !written.ok()) {
    if (written.code() == StatusCode::kClient) return written;
    return Status::Client("ERR Rewriting config file: " + std::string(written.message()));
  }
  ctx.reply().Ok();
  return Status::Ok();
}

Status ConfigResetStat(CommandContext& ctx) {
  ctx.engine().stats.Reset();
  ctx.engine().commands.ResetCounters();
  ctx.keyspace().ResetFigures();
  ctx.engine().durability->ResetFigures();
  ctx.reply().Ok();
  return Status::Ok();
}

// --- MEMORY
// --------------------------------------------------------------------------------------------------

Status MemoryUsage(CommandContext& ctx) {
  for (size_t i = 3; i < ctx.argc(); i += 2) {
    int64_t samples;
    if (!ctx.ArgIs(i, "samples") || i + 1 >= ctx.argc()) return RespError(resp_errors::kSyntax);
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &samples));
    if (samples < 0) return RespError(resp_errors::kSyntax);
  }
  const Entry* entry = ctx.db().LookupRead(ctx.Key(2), kLookupNoTouch | kLookupNoStats);
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  // The key's share of the table stands beside what only it holds.
  const uint64_t share = ctx.db().size() ? ctx.db().TableBytes() / ctx.db().size() : 0;
  ctx.reply().Integer(static_cast<int64_t>(entry->MemoryUsage() + std::min<uint64_t>(share, 64)));
  return Status::Ok();
}

Status MemoryPurge(CommandContext& ctx) {
  ctx.engine().arena.ReleaseRetained();
  PurgeAllocator();
  ctx.reply().Ok();
  return Status::Ok();
}

Status MemoryMallocStats(CommandContext& ctx) {
  const MemoryFigures figures = ReadMemoryFigures();
  ctx.reply().Verbatim(
      "txt", std::string(AllocatorName()) + " allocated=" + std::to_string(figures.allocated) +
                 " active=" + std::to_string(figures.active) + " resident=" +
                 std::to_string(figures.resident) + " rss=" + std::to_string(figures.rss) + "\n");
  return Status::Ok();
}

// --- FUNCTION: no library can be loaded yet, so flushing is all there is to do
// ----------------------------------

Status FunctionFlush(CommandContext& ctx) {
  if (ctx.argc() > 3 || (ctx.argc() == 3 && !ctx.ArgIs(2, "sync") && !ctx.ArgIs(2, "async"))) {
    return Status::Client("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
  }
  ctx.reply().Ok();
  return Status::Ok();
}

constexpr uint64_t kConfigFlags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale;

constexpr std::array kAdminSpecs = {
    CommandSpec{.name = "info",
                .arity = -1,
                .flags = kCmdLoading | kCmdStale,
                .acl = kAclDangerous,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Figures about the server, by section.",
                .synopsis = "[section...]",
                .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
                .history = "7.0.0|Several sections in one call.",
                .handler = Info},
    CommandSpec{.name = "time",
                .arity = 1,
                .flags = kCmdLoading | kCmdStale | kCmdFast,
                .group = "server",
                .since = "2.6.0",
                .complexity = "O(1)",
                .summary = "The server's clock: seconds and microseconds.",
                .tips = "nondeterministic_output",
                .handler = Time},
    CommandSpec{.name = "config",
                .arity = -2,
                .group = "server",
                .since = "2.0.0",
                .complexity = "Depends on subcommand.",
                .summary = "Reads and changes settings."},
    CommandSpec{.name = "get",
                .parent = "config",
                .arity = -3,
                .flags = kConfigFlags,
                .group = "server",
                .since = "2.0.0",
                .complexity = "O(N) when N is the number of configuration parameters provided",
                .summary = "Values of the settings that match.",
                .synopsis = "parameter{parameter}...",
                .history = "7.0.0|Several patterns in one call.",
                .handler = ConfigGet},
    CommandSpec{.name = "set",
                .parent = "config",
                .arity = -4,
                .flags = kConfigFlags,
                .group = "server",
                .since = "2.0.0",
                .complexity = "O(N) when N is the number of configuration parameters provided",
                .summary = "Changes settings, all or none.",
                .synopsis = "parameter_value{parameter value}...",
                .tips = "request_policy:all_nodes response_policy:all_succeeded",
                .history = "7.0.0|Several settings in one call.",
                .handler = ConfigSet},
    CommandSpec{.name = "rewrite",
                .parent = "config",
                .arity = 2,
                .flags = kConfigFlags,
                .group = "server",
                .since = "2.8.0",
                .complexity = "O(1)",
                .summary = "Writes the settings in force into the file.",
                .tips = "request_policy:all_nodes response_policy:all_succeeded",
                .handler = ConfigRewrite},
    CommandSpec{.name = "resetstat",
                .parent = "config",
                .arity = 2,
                .flags = kConfigFlags,
                .group = "server",
                .since = "2.0.0",
                .complexity = "O(1)",
                .summary = "Sets INFO's counters back.",
                .tips = "request_policy:all_nodes response_policy:all_succeeded",
                .handler = ConfigResetStat},
    CommandSpec{.name = "memory",
                .arity = -2,
                .group = "server",
                .since = "4.0.0",
                .complexity = "Depends on subcommand.",
                .summary = "Where memory goes."},
    CommandSpec{.name = "usage",
                .parent = "memory",
                .arity = -3,
                .flags = kCmdReadonly,
                .keys = {OneKey(2, kKeyRO)},
                .group = "server",
                .since = "4.0.0",
                .complexity = "O(N) where N is the number of samples.",
                .summary = "Bytes a key and its value take.",
                .synopsis = "key#0 [SAMPLES=count:integer]",
                .handler = MemoryUsage},
    CommandSpec{.name = "purge",
                .parent = "memory",
                .arity = 2,
                .group = "server",
                .since = "4.0.0",
                .complexity = "Depends on how much memory is allocated, could be slow",
                .summary = "Gives free memory back to the system.",
                .tips = "request_policy:all_shards response_policy:all_succeeded",
                .handler = MemoryPurge},
    CommandSpec{.name = "malloc-stats",
                .parent = "memory",
                .arity = 2,
                .group = "server",
                .since = "4.0.0",
                .complexity = "Depends on how much memory is allocated, could be slow",
                .summary = "The allocator's own figures.",
                .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
                .handler = MemoryMallocStats},
    CommandSpec{.name = "function",
                .arity = -2,
                .group = "scripting",
                .since = "7.0.0",
                .complexity = "Depends on subcommand.",
                .summary = "Function libraries."},
    CommandSpec{.name = "flush",
                .parent = "function",
                .arity = -2,
                .flags = kCmdNoScript | kCmdWrite,
                .acl = kAclScripting,
                .group = "scripting",
                .since = "7.0.0",
                .complexity = "O(N) where N is the number of functions deleted",
                .summary = "Removes all function libraries.",
                .synopsis = "[async(ASYNC|SYNC)]",
                .tips = "request_policy:all_shards response_policy:all_succeeded",
                .handler = FunctionFlush},
};
static_assert(ValidSpecs(kAdminSpecs));

}  // namespace

CommandFamily AdminCommands() { return kAdminSpecs; }

}  // namespace cairn

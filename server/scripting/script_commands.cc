// EVAL and its kin, and SCRIPT: the commands' words; what they do is script_host.h.

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"
#include "server/scripting/script_args.h"
#include "server/scripting/script_host.h"

namespace cairn {

namespace {

constexpr uint64_t kReadFlags =
    kCmdNoScript | kCmdStale | kCmdSkipMonitor | kCmdNoMandatoryKeys | kCmdReadonly;
constexpr uint64_t kEvalFlags = (kReadFlags & ~kCmdReadonly) | kCmdMayReplicate;
constexpr uint32_t kAnyUse = kKeyRW | kKeyAccess | kKeyUpdate;
constexpr uint32_t kReadUse = kKeyRO | kKeyAccess;

Status ReadKeyCount(const CommandContext& ctx, size_t* keys) {
  int64_t count;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &count));
  CAIRN_RETURN_IF_ERROR(CheckScriptKeyCount(ctx, count));
  *keys = static_cast<size_t>(count);
  return Status::Ok();
}

uint64_t FlagsOfBody(const Engine& engine, uint64_t flags, std::span<const std::string_view> args) {
  return FlagsOfScript(flags, engine.scripts->DeclaredBy(args[1]));
}

uint64_t FlagsOfCached(const Engine& engine, uint64_t flags,
                       std::span<const std::string_view> args) {
  const CachedScript* script = engine.scripts->Find(args[1]);
  return script == nullptr ? flags : FlagsOfScript(flags, script->flags);
}

Status RunScript(CommandContext& ctx, const CachedScript& script, size_t keys, bool read_only) {
  ScriptHost& host = *ctx.engine().scripts;
  const auto words = ctx.args().subspan(kScriptFirstKey);
  return host.Run(ctx, host.eval_engine(), script.function, script.sha, script.flags,
                  /*is_eval=*/true, read_only, words.first(keys), words.subspan(keys));
}

Status RunBody(CommandContext& ctx, bool read_only) {
  ShowToMonitors(ctx);
  size_t keys;
  CAIRN_RETURN_IF_ERROR(ReadKeyCount(ctx, &keys));
  const Result<const CachedScript*> script = ctx.engine().scripts->Define(ctx.arg(1));
  if (!script.ok()) return script.status();
  return RunScript(ctx, **script, keys, read_only);
}

Status RunCached(CommandContext& ctx, bool read_only) {
  ShowToMonitors(ctx);
  if (ctx.arg(1).size() != kScriptShaDigits) return RespError(resp_errors::kNoScript);
  size_t keys;
  CAIRN_RETURN_IF_ERROR(ReadKeyCount(ctx, &keys));
  const CachedScript* script = ctx.engine().scripts->Find(ctx.arg(1));
  if (script == nullptr) return RespError(resp_errors::kNoScript);
  return RunScript(ctx, *script, keys, read_only);
}

Status Eval(CommandContext& ctx) { return RunBody(ctx, false); }
constexpr CommandSpec kEvalSpec{
    .name = "eval",
    .arity = -3,
    .flags = kEvalFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(
        kAnyUse, "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")},
    .find_flags = FlagsOfBody,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "Depends on the script that is executed.",
    .summary = "Runs a Lua script in the server.",
    .synopsis = "script numkeys:integer [key#0...] [arg...]",
    .handler = Eval,
};

Status EvalSha(CommandContext& ctx) { return RunCached(ctx, false); }
constexpr CommandSpec kEvalShaSpec{
    .name = "evalsha",
    .arity = -3,
    .flags = kEvalFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(kAnyUse, {})},
    .find_flags = FlagsOfCached,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "Depends on the script that is executed.",
    .summary = "Runs a Lua script that the server has cached.",
    .synopsis = "sha1 numkeys:integer [key#0...] [arg...]",
    .handler = EvalSha,
};

Status EvalRo(CommandContext& ctx) { return RunBody(ctx, true); }
constexpr CommandSpec kEvalRoSpec{
    .name = "eval_ro",
    .arity = -3,
    .flags = kReadFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(
        kReadUse,
        "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")},
    .find_flags = FlagsOfBody,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "Depends on the script that is executed.",
    .summary = "Runs a Lua script that must not write.",
    .synopsis = "script numkeys:integer [key#0...] [arg...]",
    .handler = EvalRo,
};

Status EvalShaRo(CommandContext& ctx) { return RunCached(ctx, true); }
constexpr CommandSpec kEvalShaRoSpec{
    .name = "evalsha_ro",
    .arity = -3,
    .flags = kReadFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(kReadUse, {})},
    .find_flags = FlagsOfCached,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "Depends on the script that is executed.",
    .summary = "Runs a cached Lua script that must not write.",
    .synopsis = "sha1 numkeys:integer [key#0...] [arg...]",
    .handler = EvalShaRo,
};

constexpr CommandSpec kScriptSpec{
    .name = "script",
    .arity = -2,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "Depends on subcommand.",
    .summary = "Groups the commands about cached scripts.",
};

Status ScriptLoad(CommandContext& ctx) {
  const Result<const CachedScript*> script = ctx.engine().scripts->Define(ctx.arg(2));
  if (!script.ok()) return script.status();
  ctx.reply().Bulk((*script)->sha);
  return Status::Ok();
}
constexpr CommandSpec kScriptLoadSpec{
    .name = "load",
    .parent = "script",
    .arity = 3,
    .flags = kCmdNoScript | kCmdStale,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "O(N) with N being the length in bytes of the script body.",
    .summary = "Puts a script into the cache without running it.",
    .synopsis = "script",
    .tips = "request_policy:all_nodes response_policy:all_succeeded",
    .handler = ScriptLoad,
};

Status ScriptExists(CommandContext& ctx) {
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i)
    ctx.reply().Integer(ctx.engine().scripts->Find(ctx.arg(i)) != nullptr);
  return Status::Ok();
}
constexpr CommandSpec kScriptExistsSpec{
    .name = "exists",
    .parent = "script",
    .arity = -3,
    .flags = kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "2.6.0",
    .complexity =
        "O(N) with N being the number of scripts to check (so checking a single script is an O(1) "
        "operation).",
    .summary = "Tells which scripts are cached.",
    .synopsis = "sha1...",
    .tips = "request_policy:all_shards response_policy:agg_logical_and",
    .handler = ScriptExists,
};

Status ScriptFlush(CommandContext& ctx) {
  bool lazy;
  if (ctx.argc() > 3 || !ReadFlushMode(ctx, &lazy))
    return Status::Client("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
  ctx.engine().scripts->Flush(lazy);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kScriptFlushSpec{
    .name = "flush",
    .parent = "script",
    .arity = -2,
    .flags = kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "O(N) with N being the number of scripts in cache",
    .summary = "Empties the cache of scripts.",
    .synopsis = "[async(ASYNC|SYNC)@6.2.0]",
    .tips = "request_policy:all_nodes response_policy:all_succeeded",
    .history = "6.2.0|The modes `ASYNC` and `SYNC`.",
    .handler = ScriptFlush,
};

Status ScriptKill(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().scripts->Kill(/*is_eval=*/true));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kScriptKillSpec{
    .name = "kill",
    .parent = "script",
    .arity = 2,
    .flags = kCmdNoScript | kCmdAllowBusy,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Ends the script that runs, unless it has written.",
    .tips = "request_policy:all_shards response_policy:one_succeeded",
    .handler = ScriptKill,
};

Status ScriptDebug(CommandContext& ctx) {
  if (!ctx.session().output.empty())
    return Status::Client("ERR SCRIPT DEBUG must be called outside a pipeline");
  if (ctx.ArgIs(2, "no")) {
    ctx.reply().Ok();
    return Status::Ok();
  }
  if (ctx.ArgIs(2, "yes") || ctx.ArgIs(2, "sync"))
    return Status::Client("ERR scripts cannot be debugged on this server");
  return Status::Client("ERR Use SCRIPT DEBUG YES/SYNC/NO");
}
constexpr CommandSpec kScriptDebugSpec{
    .name = "debug",
    .parent = "script",
    .arity = 3,
    .flags = kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "3.2.0",
    .complexity = "O(1)",
    .summary = "Switches the debugger of scripts, of which there is none: only NO is accepted.",
    .synopsis = "mode(YES|SYNC|NO)",
    .handler = ScriptDebug,
};

constexpr CommandSpec kScriptHelpSpec{
    .name = "help",
    .parent = "script",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kScriptSpecs = {
    kEvalSpec,       kEvalShaSpec,     kEvalRoSpec,       kEvalShaRoSpec,
    kScriptSpec,     kScriptDebugSpec, kScriptExistsSpec, kScriptFlushSpec,
    kScriptKillSpec, kScriptLoadSpec,  kScriptHelpSpec,
};
static_assert(ValidSpecs(kScriptSpecs));

}  // namespace

CommandFamily ScriptCommands() { return kScriptSpecs; }

}  // namespace cairn

// FUNCTION and FCALL: the commands' words; what they do is function_host.h.

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"
#include "server/scripting/function_host.h"
#include "server/scripting/script_args.h"

namespace cairn {

namespace {

FunctionHost& HostOf(CommandContext& ctx) {
  return static_cast<FunctionHost&>(*ctx.engine().functions);
}

// --- FCALL -----------------------------------------------------------------------------------

constexpr uint64_t kReadFlags = kCmdNoScript | kCmdStale | kCmdSkipMonitor | kCmdNoMandatoryKeys |
                                kCmdMovableKeys | kCmdReadonly;
constexpr uint64_t kCallFlags = (kReadFlags & ~kCmdReadonly) | kCmdMayReplicate;

uint64_t FlagsOfFunction(const Engine& engine, uint64_t flags,
                         std::span<const std::string_view> args) {
  const auto& host = static_cast<const FunctionHost&>(*engine.functions);
  const FunctionSet::Found* found = host.set().FindFunction(args[1]);
  return found == nullptr ? flags : FlagsOfScript(flags, found->function->flags);
}

Status CallFunction(CommandContext& ctx, bool read_only) {
  ShowToMonitors(ctx);
  FunctionHost& host = HostOf(ctx);
  if (host.set().FindFunction(ctx.arg(1)) == nullptr)
    return Status::Client("ERR Function not found");
  int64_t keys = 0;
  if (!ParseInt64(ctx.arg(2), &keys)) return Status::Client("ERR Bad number of keys provided");
  CAIRN_RETURN_IF_ERROR(CheckScriptKeyCount(ctx, keys));
  return host.Call(ctx, static_cast<size_t>(keys), read_only);
}

Status FCall(CommandContext& ctx) { return CallFunction(ctx, /*read_only=*/false); }
constexpr CommandSpec kFCallSpec{
    .name = "fcall",
    .arity = -3,
    .flags = kCallFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(
        kKeyRW | kKeyAccess | kKeyUpdate,
        "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")},
    .find_flags = FlagsOfFunction,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "That of the function.",
    .summary = "Calls a function of a library.",
    .synopsis = "function numkeys:integer [key#0...] [arg...]",
    .handler = FCall,
};

Status FCallRo(CommandContext& ctx) { return CallFunction(ctx, /*read_only=*/true); }
constexpr CommandSpec kFCallRoSpec{
    .name = "fcall_ro",
    .arity = -3,
    .flags = kReadFlags,
    .acl = kAclScripting,
    .keys = {ScriptKeys(
        kKeyRO | kKeyAccess,
        "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")},
    .find_flags = FlagsOfFunction,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "That of the function.",
    .summary = "Calls a function of a library that must not write.",
    .synopsis = "function numkeys:integer [key#0...] [arg...]",
    .handler = FCallRo,
};

// --- FUNCTION --------------------------------------------------------------------------------

constexpr CommandSpec kFunctionSpec{
    .name = "function",
    .arity = -2,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the commands about function libraries.",
};

/// The libraries changed: that is counted, logged and sent to replicas as the command was sent.
Status ReplyChanged(CommandContext& ctx) {
  ctx.AddDirty(1);
  ctx.reply().Ok();
  return Status::Ok();
}

Status FunctionLoad(CommandContext& ctx) {
  bool replace = false;
  for (size_t i = 2; i + 1 < ctx.argc(); ++i) {
    if (!ctx.ArgIs(i, "replace")) return QuotingError({"ERR Unknown option given: ", ctx.arg(i)});
    replace = true;
  }
  Result<std::string> name = HostOf(ctx).Load(ctx.arg(ctx.argc() - 1), replace);
  if (!name.ok()) return name.status();
  ctx.AddDirty(1);
  ctx.reply().Bulk(*name);
  return Status::Ok();
}
constexpr CommandSpec kFunctionLoadSpec{
    .name = "load",
    .parent = "function",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(1), the time to compile the code aside.",
    .summary = "Makes a library of source code.",
    .synopsis = "[REPLACE] function-code",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .handler = FunctionLoad,
};

Status FunctionDelete(CommandContext& ctx) {
  if (!HostOf(ctx).Delete(ctx.arg(2))) return Status::Client("ERR Library not found");
  return ReplyChanged(ctx);
}
constexpr CommandSpec kFunctionDeleteSpec{
    .name = "delete",
    .parent = "function",
    .arity = 3,
    .flags = kCmdWrite | kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Removes a library and its functions.",
    .synopsis = "library-name",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .handler = FunctionDelete,
};

Status FunctionFlush(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("function", ctx.arg(1));
  bool lazy;
  if (!ReadFlushMode(ctx, &lazy))
    return Status::Client("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
  HostOf(ctx).Clear(lazy);
  return ReplyChanged(ctx);
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

Status FunctionDump(CommandContext& ctx) {
  const Result<std::string> payload = HostOf(ctx).Dump();
  if (!payload.ok()) return payload.status();
  ctx.reply().Bulk(*payload);
  return Status::Ok();
}
constexpr CommandSpec kFunctionDumpSpec{
    .name = "dump",
    .parent = "function",
    .arity = 2,
    .flags = kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(N) in the number of functions",
    .summary = "Returns all libraries in a form that FUNCTION RESTORE takes.",
    .handler = FunctionDump,
};

Status FunctionRestore(CommandContext& ctx) {
  if (ctx.argc() > 4) return UnknownSubcommandOrArity("function", ctx.arg(1));
  RestorePolicy policy = RestorePolicy::kAppend;
  if (ctx.argc() == 4) {
    if (ctx.ArgIs(3, "flush")) {
      policy = RestorePolicy::kFlush;
    } else if (ctx.ArgIs(3, "replace")) {
      policy = RestorePolicy::kReplace;
    } else if (!ctx.ArgIs(3, "append")) {
      return Status::Client(
          "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.");
    }
  }
  CAIRN_RETURN_IF_ERROR(HostOf(ctx).RestorePayload(ctx.arg(2), policy));
  return ReplyChanged(ctx);
}
constexpr CommandSpec kFunctionRestoreSpec{
    .name = "restore",
    .parent = "function",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(N) in the number of functions",
    .summary = "Makes the libraries that FUNCTION DUMP returned.",
    .synopsis = "serialized-value [policy(FLUSH|APPEND|REPLACE)]",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .handler = FunctionRestore,
};

struct ListOptions {
  bool with_code = false;
  std::string_view pattern;
  bool has_pattern = false;
};

// Line ends become spaces, at the end too: Redis trims other errors there.
Status UnknownArgument(std::string_view word) {
  std::string line = "ERR Unknown argument ";
  for (const char c : UpToNul(word)) line += c == '\r' || c == '\n' ? ' ' : c;
  return Status::Client(std::move(line));
}

Status ParseList(const CommandContext& ctx, ListOptions* out) {
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (!out->with_code && ctx.ArgIs(i, "withcode")) {
      out->with_code = true;
    } else if (!out->has_pattern && ctx.ArgIs(i, "libraryname")) {
      if (i + 1 == ctx.argc()) return Status::Client("ERR library name argument was not given");
      out->pattern = ctx.arg(++i);
      out->has_pattern = true;
    } else {
      return UnknownArgument(ctx.arg(i));
    }
  }
  return Status::Ok();
}

void ReplyFunction(RespWriter& reply, const LuaFunction& function) {
  reply.MapHeader(3);
  reply.Bulk("name");
  reply.Bulk(function.name);
  reply.Bulk("description");
  if (function.has_description) {
    reply.Bulk(function.description);
  } else {
    reply.Null();
  }
  reply.Bulk("flags");
  std::vector<std::string_view> flags;
  for (std::string_view name :
       {"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"}) {
    if (function.flags & ScriptFlagNamed(name)) flags.push_back(name);
  }
  reply.SetHeader(flags.size());
  for (std::string_view name : flags) reply.SimpleString(name);
}

Status FunctionList(CommandContext& ctx) {
  ListOptions options;
  CAIRN_RETURN_IF_ERROR(ParseList(ctx, &options));
  RespWriter& reply = ctx.reply();
  const ReplyBuffer::Mark mark = reply.BeginDeferred();
  size_t count = 0;
  for (const auto& [name, library] : HostOf(ctx).set().libraries()) {
    if (options.has_pattern && !GlobMatch(options.pattern, name, /*nocase=*/true)) continue;
    ++count;
    reply.MapHeader(options.with_code ? 4 : 3);
    reply.Bulk("library_name");
    reply.Bulk(name);
    reply.Bulk("engine");
    reply.Bulk("LUA");
    reply.Bulk("functions");
    reply.ArrayHeader(library->functions.size());
    for (const LuaFunction& function : library->functions) ReplyFunction(reply, function);
    if (!options.with_code) continue;
    reply.Bulk("library_code");
    reply.Bulk(library->source);
  }
  reply.EndDeferredArray(mark, count);
  return Status::Ok();
}
constexpr CommandSpec kFunctionListSpec{
    .name = "list",
    .parent = "function",
    .arity = -2,
    .flags = kCmdNoScript,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(N) in the number of functions",
    .summary = "Lists the libraries and their functions.",
    .synopsis = "[LIBRARYNAME=library-name-pattern] [WITHCODE]",
    .tips = "nondeterministic_output_order",
    .handler = FunctionList,
};

Status FunctionStats(CommandContext& ctx) {
  const ScriptScope* running = ctx.engine().script;
  if (running != nullptr && running->is_eval) return RespError(resp_errors::kBusyScript);
  const FunctionHost& host = HostOf(ctx);
  RespWriter& reply = ctx.reply();
  reply.MapHeader(2);
  reply.Bulk("running_script");
  if (running == nullptr) {
    reply.Null();
  } else {
    reply.MapHeader(3);
    reply.Bulk("name");
    reply.Bulk(running->name);
    reply.Bulk("command");
    reply.ArrayHeader(host.running_args().size());
    for (std::string_view arg : host.running_args()) reply.Bulk(arg);
    reply.Bulk("duration_ms");
    reply.Integer((ctx.engine().env.MonotonicMicros() - running->began_us) / 1000);
  }
  reply.Bulk("engines");
  reply.MapHeader(1);
  reply.Bulk("LUA");
  reply.MapHeader(2);
  reply.Bulk("libraries_count");
  reply.Integer(static_cast<int64_t>(host.set().libraries().size()));
  reply.Bulk("functions_count");
  reply.Integer(static_cast<int64_t>(host.set().function_count()));
  return Status::Ok();
}
constexpr CommandSpec kFunctionStatsSpec{
    .name = "stats",
    .parent = "function",
    .arity = 2,
    .flags = kCmdNoScript | kCmdAllowBusy,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Tells which function runs, and how many there are.",
    .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
    .handler = FunctionStats,
};

Status FunctionKill(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().scripts->Kill(/*is_eval=*/false));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kFunctionKillSpec{
    .name = "kill",
    .parent = "function",
    .arity = 2,
    .flags = kCmdNoScript | kCmdAllowBusy,
    .acl = kAclScripting,
    .group = "scripting",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Ends the function that runs, unless it has written.",
    .tips = "request_policy:all_shards response_policy:one_succeeded",
    .handler = FunctionKill,
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

constexpr std::array kFunctionSpecs = {
    kFCallSpec,          kFCallRoSpec,       kFunctionSpec,     kFunctionLoadSpec,
    kFunctionDeleteSpec, kFunctionFlushSpec, kFunctionDumpSpec, kFunctionRestoreSpec,
    kFunctionListSpec,   kFunctionStatsSpec, kFunctionKillSpec, kFunctionHelpSpec,
};
static_assert(ValidSpecs(kFunctionSpecs));

}  // namespace

CommandFamily FunctionCommands() { return kFunctionSpecs; }

}  // namespace cairn

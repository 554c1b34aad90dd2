// MODULE: the modules that are loaded, and loading one more.

#include <array>

#include "server/engine/engine.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

constexpr CommandSpec kModuleSpec{
    .name = "module",
    .arity = -2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "Depends on subcommand.",
    .summary = "Lists, loads and unloads modules.",
};

Status ModuleList(CommandContext& ctx) {
  std::vector<LoadedModule> modules;
  if (ctx.engine().modules != nullptr) modules = ctx.engine().modules->modules();
  RespWriter& reply = ctx.reply();
  reply.ArrayHeader(modules.size());
  for (const LoadedModule& module : modules) {
    reply.MapHeader(4);
    reply.Bulk("name");
    reply.Bulk(module.name);
    reply.Bulk("ver");
    reply.Integer(module.version);
    reply.Bulk("path");
    reply.Bulk(module.path);
    reply.Bulk("args");
    reply.ArrayHeader(module.arguments.size());
    for (const std::string& argument : module.arguments) reply.Bulk(argument);
  }
  return Status::Ok();
}
constexpr CommandSpec kModuleListSpec{
    .name = "list",
    .parent = "module",
    .arity = 2,
    .flags = kCmdAdmin | kCmdNoScript,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(N) in the number of modules.",
    .summary = "Lists the modules that are loaded.",
    .tips = "nondeterministic_output_order",
    .handler = ModuleList,
};

Status LoadInto(CommandContext& ctx, std::vector<std::string> arguments) {
  Status loaded = Status::Io("this process was started without a module host");
  if (ctx.engine().modules != nullptr) {
    loaded = ctx.engine().modules->LoadModule(std::string(ctx.arg(2)), arguments);
  }
  if (!loaded.ok()) {
    ctx.engine().log.Log(LogLevel::kWarning, "{}", loaded.message());
    return Status::Client("ERR Error loading the extension. Please check the server logs.");
  }
  ctx.reply().Ok();
  return Status::Ok();
}

Status ModuleLoad(CommandContext& ctx) {
  return LoadInto(ctx, {ctx.args().begin() + 3, ctx.args().end()});
}
constexpr CommandSpec kModuleLoadSpec{
    .name = "load",
    .parent = "module",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading | kCmdProtected,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Loads a module.",
    .synopsis = "path:string [arg:string...]",
    .handler = ModuleLoad,
};

/// No module here has settings of its own, so a CONFIG pair names one that does not exist.
Status ModuleLoadEx(CommandContext& ctx) {
  for (size_t i = 3; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "args")) {
      const auto first = ctx.args().begin() + static_cast<ptrdiff_t>(i) + 1;
      return LoadInto(ctx, {first, ctx.args().end()});
    }
    if (!ctx.ArgIs(i, "config") || i + 2 >= ctx.argc()) {
      return RespError(resp_errors::kSyntax);
    }
    ctx.engine().log.Log(LogLevel::kWarning, "Module {} has no setting '{}'. Module not loaded",
                         ctx.arg(2), ctx.arg(i + 1));
    return Status::Client("ERR Error loading the extension. Please check the server logs.");
  }
  return LoadInto(ctx, {});
}
constexpr CommandSpec kModuleLoadExSpec{
    .name = "loadex",
    .parent = "module",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading | kCmdProtected,
    .group = "server",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Loads a module, with settings of its own.",
    .synopsis =
        "path:string [CONFIG=configs{name:string value:string}+...] "
        "[ARGS=args{arg:string}...]",
    .handler = ModuleLoadEx,
};

Status ModuleUnload(CommandContext& ctx) {
  if (ctx.engine().modules == nullptr) {
    return Status::Client("ERR Error unloading module: no such module with that name");
  }
  CAIRN_RETURN_IF_ERROR(ctx.engine().modules->UnloadModule(ctx.arg(2)));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kModuleUnloadSpec{
    .name = "unload",
    .parent = "module",
    .arity = 3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading | kCmdProtected,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Unloads a module that has no value types.",
    .synopsis = "name:string",
    .handler = ModuleUnload,
};

Status ModuleHelp(CommandContext& ctx) {
  constexpr std::array<std::string_view, 11> kLines = {
      "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "LIST",
      "    Lists the modules that are loaded.",
      "LOAD <path> [<arg> ...]",
      "    Loads the module library at <path> and hands it the arguments.",
      "LOADEX <path> [CONFIG <name> <value>] [ARGS <arg> ...]",
      "    The same with settings of the module's own.",
      "UNLOAD <name>",
      "    Unloads a module that has no value types.",
      "HELP",
      "    This text.",
  };
  ctx.reply().ArrayHeader(kLines.size());
  for (std::string_view line : kLines) ctx.reply().SimpleString(line);
  return Status::Ok();
}
constexpr CommandSpec kModuleHelpSpec{
    .name = "help",
    .parent = "module",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Says what the subcommands do.",
    .handler = ModuleHelp,
};

constexpr std::array kModuleSpecs = {
    kModuleSpec,       kModuleListSpec,   kModuleLoadSpec,
    kModuleLoadExSpec, kModuleUnloadSpec, kModuleHelpSpec,
};
static_assert(ValidSpecs(kModuleSpecs));

}  // namespace

CommandFamily ModuleCommands() { return kModuleSpecs; }

}  // namespace cairn

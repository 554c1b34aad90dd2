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
    .summary = "Lists and loads modules.",
};

/// A unix socket, or an address of this machine.
bool IsLocal(const Session& session) {
  const std::string_view peer = session.peer_address;
  return session.unix_socket || peer.starts_with("127.") || peer.starts_with("[::1]:");
}

/// enable-module-command: what a client may do.
Status CheckAllowed(const CommandContext& ctx, const Session& session) {
  const GuardedAccess access = ctx.settings().enable_module_command;
  if (access == GuardedAccess::kYes || (access == GuardedAccess::kLocal && IsLocal(session)))
    return Status::Ok();
  return Status::Client(
      "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", "
      "you can run it "
      "from a local connection, otherwise you need to set this option in the configuration file, "
      "and then "
      "restart the server.");
}

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

Status ModuleLoad(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(CheckAllowed(ctx, ctx.session()));
  Status loaded = Status::Io("this process was started without a module host");
  if (ctx.engine().modules != nullptr) {
    const std::vector<std::string> arguments(ctx.args().begin() + 3, ctx.args().end());
    loaded = ctx.engine().modules->LoadModule(std::string(ctx.arg(2)), arguments);
  }
  if (!loaded.ok()) {
    ctx.engine().log.Log(LogLevel::kWarning, "{}", loaded.message());
    return Status::Client("ERR Error loading the extension. Please check the server logs.");
  }
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kModuleLoadSpec{
    .name = "load",
    .parent = "module",
    .arity = -3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Loads a module.",
    .synopsis = "path [arg...]",
    .handler = ModuleLoad,
};

Status ModuleUnload(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(CheckAllowed(ctx, ctx.session()));
  if (ctx.engine().modules == nullptr) {
    return Status::Client("ERR Error unloading module: no such module with that name");
  }
  return ctx.engine().modules->UnloadModule(ctx.arg(2));
}
constexpr CommandSpec kModuleUnloadSpec{
    .name = "unload",
    .parent = "module",
    .arity = 3,
    .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary =
        "Unloads a module, which no module allows: values and queued commands may point into it.",
    .synopsis = "name",
    .handler = ModuleUnload,
};

Status ModuleHelp(CommandContext& ctx) {
  constexpr std::array<std::string_view, 9> kLines = {
      "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "LIST",
      "    Lists the modules that are loaded.",
      "LOAD <path> [<arg> ...]",
      "    Loads the module library at <path> and hands it the arguments.",
      "UNLOAD <name>",
      "    Says why a module cannot be unloaded.",
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
    kModuleSpec, kModuleListSpec, kModuleLoadSpec, kModuleUnloadSpec, kModuleHelpSpec,
};
static_assert(ValidSpecs(kModuleSpecs));

}  // namespace

CommandFamily ModuleCommands() { return kModuleSpecs; }

}  // namespace cairn

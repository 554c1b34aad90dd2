#include "server/engine/command_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "server/base/strings.h"
#include "server/engine/command_docs.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

template <typename Bits>
struct BitName {
  Bits bit;
  std::string_view name;
};

constexpr BitName<uint64_t> kFlagNames[] = {
    {kCmdWrite, "write"},
    {kCmdReadonly, "readonly"},
    {kCmdDenyOom, "denyoom"},
    {kCmdModule, "module"},
    {kCmdAdmin, "admin"},
    {kCmdPubsub, "pubsub"},
    {kCmdNoScript, "noscript"},
    {kCmdBlocking, "blocking"},
    {kCmdLoading, "loading"},
    {kCmdStale, "stale"},
    {kCmdSkipMonitor, "skip_monitor"},
    {kCmdSkipSlowlog, "skip_slowlog"},
    {kCmdAsking, "asking"},
    {kCmdFast, "fast"},
    {kCmdNoAuth, "no_auth"},
    {kCmdNoAsyncLoading, "no_async_loading"},
    {kCmdNoMulti, "no_multi"},
    {kCmdMovableKeys, "movablekeys"},
    {kCmdAllowBusy, "allow_busy"},
    {kCmdNoMandatoryKeys, "no_mandatory_keys"},
};

constexpr BitName<uint64_t> kCategoryNames[] = {
    {kAclKeyspace, "@keyspace"},
    {kAclRead, "@read"},
    {kAclWrite, "@write"},
    {kAclSet, "@set"},
    {kAclSortedSet, "@sortedset"},
    {kAclList, "@list"},
    {kAclHash, "@hash"},
    {kAclString, "@string"},
    {kAclBitmap, "@bitmap"},
    {kAclHyperLogLog, "@hyperloglog"},
    {kAclGeo, "@geo"},
    {kAclStream, "@stream"},
    {kAclPubsub, "@pubsub"},
    {kAclAdmin, "@admin"},
    {kAclFast, "@fast"},
    {kAclSlow, "@slow"},
    {kAclBlocking, "@blocking"},
    {kAclDangerous, "@dangerous"},
    {kAclConnection, "@connection"},
    {kAclTransaction, "@transaction"},
    {kAclScripting, "@scripting"},
};

constexpr BitName<uint32_t> kKeyFlagNames[] = {
    {kKeyRO, "RO"},
    {kKeyRW, "RW"},
    {kKeyOW, "OW"},
    {kKeyRM, "RM"},
    {kKeyAccess, "access"},
    {kKeyUpdate, "update"},
    {kKeyInsert, "insert"},
    {kKeyDelete, "delete"},
    {kKeyNotKey, "not_key"},
    {kKeyIncomplete, "incomplete"},
    {kKeyVariableFlags, "variable_flags"},
};

template <typename Bits, size_t N>
std::vector<std::string_view> NamesOf(Bits bits, const BitName<Bits> (&names)[N]) {
  std::vector<std::string_view> result;
  for (const BitName<Bits>& each : names) {
    if (bits & each.bit) result.push_back(each.name);
  }
  return result;
}

std::string UsageOf(const DocArgument& argument);

std::string JoinUsage(const std::vector<DocArgument>& arguments, std::string_view separator) {
  std::string joined;
  for (const DocArgument& argument : arguments) {
    if (!joined.empty()) joined += separator;
    joined += UsageOf(argument);
  }
  return joined;
}

std::string UsageOf(const DocArgument& argument) {
  std::string usage;
  if (argument.token && !argument.token->empty()) usage = *argument.token;
  std::string value;
  if (argument.type == "oneof") {
    value = JoinUsage(argument.arguments, "|");
    // Brackets set alternatives apart, unless those of an optional argument already do.
    if (!argument.optional || argument.token || argument.multiple) value = "<" + value + ">";
  } else if (argument.type == "block") {
    value = JoinUsage(argument.arguments, " ");
  } else if (argument.type != "pure-token") {
    value = argument.name;
  }
  if (!usage.empty() && !value.empty()) usage += ' ';
  usage += value;
  if (argument.multiple)
    usage = fmt::format("{} [{} ...]", usage, argument.multiple_token ? usage : value);
  return argument.optional ? "[" + usage + "]" : usage;
}

}  // namespace

std::vector<std::string_view> CommandFlagNames(uint64_t flags) {
  return NamesOf(flags, kFlagNames);
}
std::vector<std::string_view> AclCategoryNames(uint64_t acl) {
  return NamesOf(acl, kCategoryNames);
}
std::vector<std::string_view> KeyFlagNames(uint32_t flags) { return NamesOf(flags, kKeyFlagNames); }

uint64_t AclCategoryByName(std::string_view name) {
  for (const auto& each : kCategoryNames) {
    if (EqualsIgnoreCase(each.name.substr(1), name)) return each.bit;
  }
  return 0;
}

std::string UsageLine(const CommandSpec& spec) {
  std::string usage = spec.parent.empty() ? "" : ToUpper(spec.parent) + " ";
  usage += ToUpper(spec.name);
  const std::string arguments = JoinUsage(ParseSynopsis(spec.synopsis), " ");
  if (!arguments.empty()) usage += " " + arguments;
  return usage;
}

Status ReplyContainerHelp(CommandContext& ctx) {
  const Command* container = ctx.engine().commands.FindByFullName(ctx.spec().parent);
  // rename-command may have taken the container's old name away: then nothing can be listed by it.
  if (container == nullptr) return UnknownSubcommand(ctx.spec().parent, ctx.spec().name);
  RespWriter& reply = ctx.reply();
  const std::string name = ToUpper(container->spec->name);
  reply.ArrayHeader(1 + 2 * container->subcommands.size());
  reply.SimpleString(name + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
  const auto describe = [&](const Command& sub) {
    reply.SimpleString(UsageLine(*sub.spec).substr(name.size() + 1));
    reply.SimpleString("    " + std::string(sub.spec->summary));
  };
  // HELP itself comes last, wherever its family stands among those of the container.
  const Command* help = nullptr;
  for (const Command* sub : container->subcommands) {
    if (sub->spec == &ctx.spec()) {
      help = sub;
    } else {
      describe(*sub);
    }
  }
  if (help != nullptr) describe(*help);
  return Status::Ok();
}

std::string GenerateCommandReference(const CommandTable& table) {
  std::map<std::string_view, std::vector<const Command*>> groups;
  for (const auto& command : table.all()) {
    if (command->spec->handler != nullptr) groups[command->spec->group].push_back(command.get());
  }
  std::string text =
      "# Commands\n\n"
      "Generated from the command table by `cairn-server --generate-commands`; edit the specs "
      "beside the\n"
      "handlers in `server/commands`, not this file.\n";
  for (auto& [group, commands] : groups) {
    std::sort(commands.begin(), commands.end(),
              [](const Command* a, const Command* b) { return a->full_name < b->full_name; });
    text += fmt::format("\n## {}\n", group);
    for (const Command* command : commands) {
      const CommandSpec& spec = *command->spec;
      text += fmt::format("\n### `{}`\n\n{}\n\n", UsageLine(spec), spec.summary);
      text += fmt::format("Since {}.", spec.since);
      if (!spec.complexity.empty())
        text += fmt::format(" Cost: {}.",
                            spec.complexity.substr(0, spec.complexity.find_last_not_of('.') + 1));
      text += fmt::format(" Categories: {}.\n", fmt::join(AclCategoryNames(command->acl), " "));
    }
  }
  return text;
}

}  // namespace cairn

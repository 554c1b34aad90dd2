// COMMAND: what the server can do, derived from the specs.

#include <array>
#include <utility>

#include "server/base/strings.h"
#include "server/engine/command_docs.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

constexpr std::pair<uint64_t, std::string_view> kFlagNames[] = {
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
    {kCmdMayReplicate, "may_replicate"},
    {kCmdNoAsyncLoading, "no_async_loading"},
    {kCmdNoMulti, "no_multi"},
    {kCmdMovableKeys, "movablekeys"},
    {kCmdAllowBusy, "allow_busy"},
};
constexpr std::pair<uint64_t, std::string_view> kCategoryNames[] = {
    {kAclKeyspace, "keyspace"},
    {kAclRead, "read"},
    {kAclWrite, "write"},
    {kAclSet, "set"},
    {kAclSortedSet, "sortedset"},
    {kAclList, "list"},
    {kAclHash, "hash"},
    {kAclString, "string"},
    {kAclBitmap, "bitmap"},
    {kAclHyperLogLog, "hyperloglog"},
    {kAclGeo, "geo"},
    {kAclStream, "stream"},
    {kAclPubsub, "pubsub"},
    {kAclAdmin, "admin"},
    {kAclFast, "fast"},
    {kAclSlow, "slow"},
    {kAclBlocking, "blocking"},
    {kAclDangerous, "dangerous"},
    {kAclConnection, "connection"},
    {kAclTransaction, "transaction"},
    {kAclScripting, "scripting"},
};
constexpr std::pair<uint64_t, std::string_view> kKeyFlagNames[] = {
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

template <size_t N>
void StatusSet(RespWriter& reply, uint64_t bits,
               const std::pair<uint64_t, std::string_view> (&names)[N], std::string_view prefix) {
  size_t count = 0;
  for (const auto& [bit, name] : names) count += (bits & bit) != 0;
  reply.SetHeader(count);
  for (const auto& [bit, name] : names) {
    if (bits & bit) reply.SimpleString(std::string(prefix) + std::string(name));
  }
}

std::vector<std::string_view> Words(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    words.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return words;
}

void WriteKeySpec(RespWriter& reply, const KeySpec& key) {
  reply.MapHeader(key.notes.empty() ? 3 : 4);
  if (!key.notes.empty()) {
    reply.Bulk("notes");
    reply.Bulk(key.notes);
  }
  reply.Bulk("flags");
  StatusSet(reply, key.flags, kKeyFlagNames, "");
  reply.Bulk("begin_search");
  reply.MapHeader(2);
  reply.Bulk("type");
  if (key.begin == KeySpec::Begin::kKeyword) {
    reply.Bulk("keyword");
    reply.Bulk("spec");
    reply.MapHeader(2);
    reply.Bulk("keyword");
    reply.Bulk(key.keyword);
    reply.Bulk("startfrom");
    reply.Integer(key.index);
  } else {
    reply.Bulk(key.begin == KeySpec::Begin::kIndex ? "index" : "unknown");
    reply.Bulk("spec");
    reply.MapHeader(key.begin == KeySpec::Begin::kIndex ? 1 : 0);
    if (key.begin == KeySpec::Begin::kIndex) {
      reply.Bulk("index");
      reply.Integer(key.index);
    }
  }
  reply.Bulk("find_keys");
  reply.MapHeader(2);
  reply.Bulk("type");
  const bool range = key.find == KeySpec::Find::kRange;
  const bool counted = key.find == KeySpec::Find::kKeyCount;
  reply.Bulk(range ? "range" : counted ? "keynum" : "unknown");
  reply.Bulk("spec");
  reply.MapHeader(range || counted ? 3 : 0);
  if (!range && !counted) return;
  reply.Bulk(range ? "lastkey" : "keynumidx");
  reply.Integer(key.last);
  reply.Bulk(range ? "keystep" : "firstkey");
  reply.Integer(range ? key.step : key.limit);
  reply.Bulk(range ? "limit" : "keystep");
  reply.Integer(range ? key.limit : key.step);
}

void WriteInfo(RespWriter& reply, const Command& command) {
  const CommandSpec& spec = *command.spec;
  reply.ArrayHeader(10);
  reply.Bulk(command.full_name);
  reply.Integer(spec.arity);
  StatusSet(reply, command.flags, kFlagNames, "");
  reply.Integer(command.first_key);
  reply.Integer(command.last_key);
  reply.Integer(command.key_step);
  StatusSet(reply, command.acl, kCategoryNames, "@");
  const auto tips = Words(spec.tips, ' ');
  reply.SetHeader(tips.size());
  for (std::string_view tip : tips) reply.Bulk(tip);
  size_t specs = 0;
  while (specs < spec.keys.size() && spec.keys[specs].begin != KeySpec::Begin::kNone) ++specs;
  reply.SetHeader(specs);
  for (size_t i = 0; i < specs; ++i) WriteKeySpec(reply, spec.keys[i]);
  reply.SetHeader(command.subcommands.size());
  for (const Command* sub : command.subcommands) WriteInfo(reply, *sub);
}

Status All(CommandContext& ctx) {
  const auto& commands = ctx.engine().commands.top_level();
  ctx.reply().ArrayHeader(commands.size());
  for (const Command* command : commands) WriteInfo(ctx.reply(), *command);
  return Status::Ok();
}

Status Count(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.engine().commands.top_level().size()));
  return Status::Ok();
}

Status Info(CommandContext& ctx) {
  if (ctx.argc() == 2) return All(ctx);
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (const Command* command = ctx.engine().commands.FindByFullName(ctx.arg(i))) {
      WriteInfo(ctx.reply(), *command);
    } else {
      ctx.reply().NullArray();
    }
  }
  return Status::Ok();
}

Status List(CommandContext& ctx) {
  enum class By { kNone, kModule, kCategory, kPattern } by = By::kNone;
  if (ctx.argc() == 5 && ctx.ArgIs(2, "filterby")) {
    by = ctx.ArgIs(3, "module")    ? By::kModule
         : ctx.ArgIs(3, "aclcat")  ? By::kCategory
         : ctx.ArgIs(3, "pattern") ? By::kPattern
                                   : By::kNone;
  }
  if (ctx.argc() != 2 && by == By::kNone) return RespError(resp_errors::kSyntax);
  uint64_t category = 0;
  if (by == By::kCategory) {
    for (const auto& [bit, name] : kCategoryNames) {
      if (ctx.ArgIs(4, name)) category = bit;
    }
  }
  size_t count = 0;
  const ReplyBuffer::Mark mark = ctx.reply().BeginDeferred();
  for (const auto& command : ctx.engine().commands.all()) {
    if (by == By::kNone && command->parent != nullptr) continue;
    if (by == By::kModule && !(command->flags & kCmdModule)) continue;
    if (by == By::kCategory && !(command->acl & category)) continue;
    if (by == By::kPattern && !GlobMatch(ctx.arg(4), command->full_name, true)) continue;
    ctx.reply().Bulk(command->full_name);
    ++count;
  }
  ctx.reply().EndDeferredArray(mark, count);
  return Status::Ok();
}

void WriteArguments(RespWriter& reply, const std::vector<DocArgument>& arguments) {
  reply.ArrayHeader(arguments.size());
  for (const DocArgument& argument : arguments) {
    const size_t flags = argument.optional + argument.multiple + argument.multiple_token;
    reply.MapHeader(2 + (argument.key_spec_index >= 0) + argument.token.has_value() +
                    !argument.since.empty() + !argument.deprecated_since.empty() + (flags > 0) +
                    !argument.arguments.empty());
    const auto field = [&](std::string_view name, std::string_view value) {
      reply.Bulk(name);
      reply.Bulk(value);
    };
    field("name", argument.name);
    field("type", argument.type);
    if (argument.key_spec_index >= 0) {
      reply.Bulk("key_spec_index");
      reply.Integer(argument.key_spec_index);
    }
    if (argument.token.has_value()) field("token", *argument.token);
    if (!argument.since.empty()) field("since", argument.since);
    if (!argument.deprecated_since.empty()) field("deprecated_since", argument.deprecated_since);
    if (flags > 0) {
      reply.Bulk("flags");
      reply.SetHeader(flags);
      if (argument.optional) reply.SimpleString("optional");
      if (argument.multiple) reply.SimpleString("multiple");
      if (argument.multiple_token) reply.SimpleString("multiple_token");
    }
    if (!argument.arguments.empty()) {
      reply.Bulk("arguments");
      WriteArguments(reply, argument.arguments);
    }
  }
}

void WriteDocs(RespWriter& reply, const Command& command) {
  const CommandSpec& spec = *command.spec;
  const auto history = Words(spec.history, '\n');
  reply.MapHeader(4 + !history.empty() + !spec.synopsis.empty() + !command.subcommands.empty() +
                  (spec.deprecated_since.empty() ? 0 : 3));
  const auto field = [&](std::string_view name, std::string_view value) {
    reply.Bulk(name);
    reply.Bulk(value);
  };
  field("summary", spec.summary);
  field("since", spec.since);
  field("group", spec.group);
  field("complexity", spec.complexity);
  if (!spec.deprecated_since.empty()) {
    reply.Bulk("doc_flags");
    reply.SetHeader(1);
    reply.SimpleString("deprecated");
    field("deprecated_since", spec.deprecated_since);
    field("replaced_by", spec.replaced_by);
  }
  if (!history.empty()) {
    reply.Bulk("history");
    reply.SetHeader(history.size());
    for (std::string_view line : history) {
      const size_t bar = line.find('|');
      reply.ArrayHeader(2);
      reply.Bulk(line.substr(0, bar));
      reply.Bulk(bar == std::string_view::npos ? std::string_view() : line.substr(bar + 1));
    }
  }
  if (!spec.synopsis.empty()) {
    reply.Bulk("arguments");
    WriteArguments(reply, ParseSynopsis(spec.synopsis));
  }
  if (!command.subcommands.empty()) {
    reply.Bulk("subcommands");
    reply.MapHeader(command.subcommands.size());
    for (const Command* sub : command.subcommands) {
      reply.Bulk(sub->full_name);
      WriteDocs(reply, *sub);
    }
  }
}

Status Docs(CommandContext& ctx) {
  std::vector<const Command*> wanted;
  if (ctx.argc() == 2) {
    wanted.assign(ctx.engine().commands.top_level().begin(),
                  ctx.engine().commands.top_level().end());
  }
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (const Command* command = ctx.engine().commands.FindByFullName(ctx.arg(i)))
      wanted.push_back(command);
  }
  ctx.reply().MapHeader(wanted.size());
  for (const Command* command : wanted) {
    ctx.reply().Bulk(command->full_name);
    WriteDocs(ctx.reply(), *command);
  }
  return Status::Ok();
}

Status Keys(CommandContext& ctx, bool with_flags) {
  const auto args = ctx.args().subspan(2);
  Command* container = nullptr;
  const Command* command = ctx.engine().commands.Resolve(args, &container);
  if (command == nullptr) return Status::Client("ERR Invalid command specified");
  if (command->spec->keys[0].begin == KeySpec::Begin::kNone) {
    return Status::Client("ERR The command has no key arguments");
  }
  const int arity = command->spec->arity;
  const int argc = static_cast<int>(args.size());
  if ((arity > 0 && arity != argc) || argc < -arity) {
    return Status::Client("ERR Invalid number of arguments specified for command");
  }
  std::vector<KeyPosition> keys;
  CAIRN_RETURN_IF_ERROR(ExtractKeys(*command, args, &keys));
  ctx.reply().ArrayHeader(keys.size());
  for (const KeyPosition& key : keys) {
    if (with_flags) {
      ctx.reply().ArrayHeader(2);
      ctx.reply().Bulk(args[key.index]);
      StatusSet(ctx.reply(), key.flags, kKeyFlagNames, "");
    } else {
      ctx.reply().Bulk(args[key.index]);
    }
  }
  return Status::Ok();
}

Status GetKeys(CommandContext& ctx) { return Keys(ctx, false); }
Status GetKeysAndFlags(CommandContext& ctx) { return Keys(ctx, true); }

constexpr uint64_t kFlags = kCmdLoading | kCmdStale;
constexpr CommandSpec Sub(std::string_view name, int arity, std::string_view since,
                          std::string_view complexity, std::string_view summary,
                          std::string_view synopsis, CommandHandler handler) {
  return {.name = name,
          .parent = "command",
          .arity = arity,
          .flags = kFlags,
          .acl = kAclConnection,
          .group = "server",
          .since = since,
          .complexity = complexity,
          .summary = summary,
          .synopsis = synopsis,
          .handler = handler};
}

constexpr std::array kCommandSpecs = {
    CommandSpec{.name = "command",
                .arity = -1,
                .flags = kFlags,
                .acl = kAclConnection,
                .group = "server",
                .since = "2.8.13",
                .complexity = "O(N) where N is the total number of Redis commands",
                .summary = "Describes every command.",
                .tips = "nondeterministic_output_order",
                .handler = All},
    Sub("count", 2, "2.8.13", "O(1)", "How many commands there are.", "", Count),
    Sub("info", -2, "2.8.13", "O(N) where N is the number of commands to look up",
        "Describes the named commands.", "[command-name...]", Info),
    Sub("list", -2, "7.0.0", "O(N) where N is the total number of Redis commands",
        "Names of commands.",
        "[FILTERBY=filterby(MODULE=module-name|ACLCAT=category|PATTERN=pattern:pattern)]", List),
    Sub("docs", -2, "7.0.0", "O(N) where N is the number of commands to look up",
        "Documentation of commands.", "[command-name...]", Docs),
    Sub("getkeys", -3, "2.8.13", "O(N) where N is the number of arguments to the command",
        "The keys a full command would touch.", "command [arg...]", GetKeys),
    Sub("getkeysandflags", -3, "7.0.0", "O(N) where N is the number of arguments to the command",
        "The keys a full command would touch, and how.", "command [arg...]", GetKeysAndFlags),
};
static_assert(ValidSpecs(kCommandSpecs));

}  // namespace

CommandFamily CommandCommands() { return kCommandSpecs; }

}  // namespace cairn

// COMMAND: the command table as clients see it. What the words for flags and categories are stands
// in engine/command_reference.

#include <algorithm>
#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/command_docs.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

void ReplyNames(RespWriter& reply, const std::vector<std::string_view>& names) {
  reply.SetHeader(names.size());
  for (std::string_view name : names) reply.SimpleString(name);
}

/// The parts of `text` between single `separator`s; none for an empty text.
std::vector<std::string_view> SplitAt(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// --- COMMAND INFO ----------------------------------------------------------------------------

struct NamedNumber {
  std::string_view name;
  int64_t value;
};

void ReplyNumbers(RespWriter& reply, std::initializer_list<NamedNumber> numbers) {
  reply.MapHeader(numbers.size());
  for (const NamedNumber& number : numbers) {
    reply.Bulk(number.name);
    reply.Integer(number.value);
  }
}

void ReplySearchHeader(RespWriter& reply, std::string_view which, std::string_view type) {
  reply.Bulk(which);
  reply.MapHeader(2);
  reply.Bulk("type");
  reply.Bulk(type);
  reply.Bulk("spec");
}

void ReplyBegin(RespWriter& reply, const KeySpec& key) {
  switch (key.begin) {
    case KeySpec::Begin::kIndex:
      ReplySearchHeader(reply, "begin_search", "index");
      return ReplyNumbers(reply, {{"index", key.index}});
    case KeySpec::Begin::kKeyword:
      ReplySearchHeader(reply, "begin_search", "keyword");
      reply.MapHeader(2);
      reply.Bulk("keyword");
      reply.Bulk(key.keyword);
      reply.Bulk("startfrom");
      return reply.Integer(key.index);
    default:
      ReplySearchHeader(reply, "begin_search", "unknown");
      return reply.MapHeader(0);
  }
}

void ReplyFind(RespWriter& reply, const KeySpec& key) {
  switch (key.find) {
    case KeySpec::Find::kRange:
      ReplySearchHeader(reply, "find_keys", "range");
      return ReplyNumbers(reply,
                          {{"lastkey", key.last}, {"keystep", key.step}, {"limit", key.limit}});
    case KeySpec::Find::kKeyCount:
      ReplySearchHeader(reply, "find_keys", "keynum");
      return ReplyNumbers(
          reply, {{"keynumidx", key.last}, {"firstkey", key.limit}, {"keystep", key.step}});
    case KeySpec::Find::kUnknown:
      ReplySearchHeader(reply, "find_keys", "unknown");
      return reply.MapHeader(0);
  }
}

void ReplyKeySpecs(RespWriter& reply, const CommandSpec& spec) {
  const auto end = std::find_if(spec.keys.begin(), spec.keys.end(), [](const KeySpec& key) {
    return key.begin == KeySpec::Begin::kNone;
  });
  reply.SetHeader(static_cast<size_t>(end - spec.keys.begin()));
  for (auto key = spec.keys.begin(); key != end; ++key) {
    reply.MapHeader(key->notes.empty() ? 3 : 4);
    if (!key->notes.empty()) {
      reply.Bulk("notes");
      reply.Bulk(key->notes);
    }
    reply.Bulk("flags");
    ReplyNames(reply, KeyFlagNames(key->flags));
    ReplyBegin(reply, *key);
    ReplyFind(reply, *key);
  }
}

void ReplyInfo(RespWriter& reply, const Command* command) {
  if (command == nullptr) return reply.Null();
  const CommandSpec& spec = *command->spec;
  reply.ArrayHeader(10);
  reply.Bulk(command->full_name);
  reply.Integer(spec.arity);
  ReplyNames(reply, CommandFlagNames(command->flags));
  reply.Integer(command->first_key);
  reply.Integer(command->last_key);
  reply.Integer(command->key_step);
  ReplyNames(reply, AclCategoryNames(command->acl));
  const std::vector<std::string_view> tips = SplitAt(spec.tips, ' ');
  reply.SetHeader(tips.size());
  for (std::string_view tip : tips) reply.Bulk(tip);
  ReplyKeySpecs(reply, spec);
  // Redis sends an empty set where there are none, and an array where there are some.
  if (command->subcommands.empty()) return reply.SetHeader(0);
  reply.ArrayHeader(command->subcommands.size());
  for (const Command* sub : command->subcommands) ReplyInfo(reply, sub);
}

void ReplyAllInfo(CommandContext& ctx) {
  const auto& commands = ctx.engine().commands.top_level();
  ctx.reply().ArrayHeader(commands.size());
  for (const Command* command : commands) ReplyInfo(ctx.reply(), command);
}

Status CommandAll(CommandContext& ctx) {
  ReplyAllInfo(ctx);
  return Status::Ok();
}
constexpr CommandSpec kCommandSpec{
    .name = "command",
    .arity = -1,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(N) in the number of commands",
    .summary = "Describes all commands.",
    .tips = "nondeterministic_output_order",
    .handler = CommandAll,
};

Status CommandInfo(CommandContext& ctx) {
  if (ctx.argc() == 2) {
    ReplyAllInfo(ctx);
    return Status::Ok();
  }
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i)
    ReplyInfo(ctx.reply(), ctx.engine().commands.FindByFullName(ctx.arg(i)));
  return Status::Ok();
}
constexpr CommandSpec kCommandInfoSpec{
    .name = "info",
    .parent = "command",
    .arity = -2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(N) in the number of names given",
    .summary = "Describes commands by name.",
    .synopsis = "[command-name...]",
    .tips = "nondeterministic_output_order",
    .history = "7.0.0|No names: all commands.",
    .handler = CommandInfo,
};

Status CommandCount(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.engine().commands.top_level().size()));
  return Status::Ok();
}
constexpr CommandSpec kCommandCountSpec{
    .name = "count",
    .parent = "command",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Counts the commands.",
    .handler = CommandCount,
};

// --- COMMAND LIST ----------------------------------------------------------------------------

Status CommandList(CommandContext& ctx) {
  enum class Filter : uint8_t { kNone, kModule, kCategory, kPattern } filter = Filter::kNone;
  if (ctx.argc() == 5 && ctx.ArgIs(2, "FILTERBY")) {
    if (ctx.ArgIs(3, "MODULE")) {
      filter = Filter::kModule;
    } else if (ctx.ArgIs(3, "ACLCAT")) {
      filter = Filter::kCategory;
    } else if (ctx.ArgIs(3, "PATTERN")) {
      filter = Filter::kPattern;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  } else if (ctx.argc() != 2) {
    return RespError(resp_errors::kSyntax);
  }
  const std::string_view wanted = filter == Filter::kNone ? std::string_view() : ctx.arg(4);
  const uint64_t category = filter == Filter::kCategory ? AclCategoryByName(wanted) : 0;
  const auto matches = [&](const Command& command) {
    switch (filter) {
      case Filter::kNone:
        return true;
      case Filter::kModule:
        // A module's commands carry its name as their group.
        return (command.flags & kCmdModule) != 0 && EqualsIgnoreCase(command.spec->group, wanted);
      case Filter::kCategory:
        return (command.acl & category) != 0;
      case Filter::kPattern:
        return GlobMatch(wanted, command.full_name, /*nocase=*/true);
    }
    return false;
  };
  size_t count = 0;
  const ReplyBuffer::Mark mark = ctx.reply().BeginDeferred();
  for (const auto& command : ctx.engine().commands.all()) {
    if (!matches(*command)) continue;
    ctx.reply().Bulk(command->full_name);
    ++count;
  }
  ctx.reply().EndDeferredArray(mark, count);
  return Status::Ok();
}
constexpr CommandSpec kCommandListSpec{
    .name = "list",
    .parent = "command",
    .arity = -2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "7.0.0",
    .complexity = "O(N) in the number of commands",
    .summary = "Names the commands, all or those that match.",
    .synopsis = "[FILTERBY=filterby(MODULE=module-name|ACLCAT=category|PATTERN=pattern:pattern)]",
    .tips = "nondeterministic_output_order",
    .handler = CommandList,
};

// --- COMMAND DOCS ----------------------------------------------------------------------------

/// Writes the pairs of a map that are there, and counts them.
class DocPairs {
 public:
  explicit DocPairs(RespWriter& reply) : reply_(reply), mark_(reply.BeginDeferred()) {}
  void Text(std::string_view name, std::string_view value) {
    if (!value.empty()) Always(name, value);
  }
  void Always(std::string_view name, std::string_view value) {
    Name(name);
    reply_.Bulk(value);
  }
  void Name(std::string_view name) {
    ++pairs_;
    reply_.Bulk(name);
  }
  void Flags(std::string_view name, const std::vector<std::string_view>& flags) {
    if (flags.empty()) return;
    Name(name);
    ReplyNames(reply_, flags);
  }
  void End() { reply_.EndDeferredMap(mark_, pairs_); }

 private:
  RespWriter& reply_;
  ReplyBuffer::Mark mark_;
  size_t pairs_ = 0;
};

void ReplyArguments(RespWriter& reply, const std::vector<DocArgument>& arguments) {
  reply.ArrayHeader(arguments.size());
  for (const DocArgument& argument : arguments) {
    DocPairs pairs(reply);
    pairs.Text("name", argument.name);
    pairs.Text("type", argument.type);
    if (argument.key_spec_index >= 0) {
      pairs.Name("key_spec_index");
      reply.Integer(argument.key_spec_index);
    }
    if (argument.token) pairs.Always("token", *argument.token);
    pairs.Text("since", argument.since);
    pairs.Text("deprecated_since", argument.deprecated_since);
    std::vector<std::string_view> flags;
    if (argument.optional) flags.push_back("optional");
    if (argument.multiple) flags.push_back("multiple");
    if (argument.multiple_token) flags.push_back("multiple_token");
    pairs.Flags("flags", flags);
    if (!argument.arguments.empty()) {
      pairs.Name("arguments");
      ReplyArguments(reply, argument.arguments);
    }
    pairs.End();
  }
}

void ReplyHistory(RespWriter& reply, std::string_view history) {
  const std::vector<std::string_view> lines = SplitAt(history, '\n');
  reply.SetHeader(lines.size());
  for (std::string_view line : lines) {
    const size_t bar = line.find('|');
    reply.ArrayHeader(2);
    reply.Bulk(line.substr(0, bar));
    reply.Bulk(line.substr(bar + 1));
  }
}

void ReplyDocs(RespWriter& reply, const Command& command) {
  const CommandSpec& spec = *command.spec;
  reply.Bulk(command.full_name);
  DocPairs pairs(reply);
  pairs.Text("summary", spec.summary);
  pairs.Text("since", spec.since);
  pairs.Text("group", (command.flags & kCmdModule) != 0 ? std::string_view("module") : spec.group);
  pairs.Text("complexity", spec.complexity);
  if ((command.flags & kCmdModule) != 0) pairs.Text("module", spec.group);
  std::vector<std::string_view> flags;
  if (!spec.deprecated_since.empty()) flags.push_back("deprecated");
  if ((command.flags & kCmdSystem) != 0) flags.push_back("syscmd");
  pairs.Flags("doc_flags", flags);
  pairs.Text("deprecated_since", spec.deprecated_since);
  pairs.Text("replaced_by", spec.replaced_by);
  if (!spec.history.empty()) {
    pairs.Name("history");
    ReplyHistory(reply, spec.history);
  }
  if (!spec.synopsis.empty()) {
    pairs.Name("arguments");
    ReplyArguments(reply, ParseSynopsis(spec.synopsis));
  }
  if (!command.subcommands.empty()) {
    pairs.Name("subcommands");
    reply.MapHeader(command.subcommands.size());
    for (const Command* sub : command.subcommands) ReplyDocs(reply, *sub);
  }
  pairs.End();
}

Status CommandDocs(CommandContext& ctx) {
  RespWriter& reply = ctx.reply();
  const CommandTable& table = ctx.engine().commands;
  if (ctx.argc() == 2) {
    reply.MapHeader(table.top_level().size());
    for (const Command* command : table.top_level()) ReplyDocs(reply, *command);
    return Status::Ok();
  }
  std::vector<const Command*> found;
  for (std::string_view name : ctx.args().subspan(2)) {
    if (const Command* command = table.FindByFullName(name)) found.push_back(command);
  }
  reply.MapHeader(found.size());
  for (const Command* command : found) ReplyDocs(reply, *command);
  return Status::Ok();
}
constexpr CommandSpec kCommandDocsSpec{
    .name = "docs",
    .parent = "command",
    .arity = -2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "7.0.0",
    .complexity = "O(N) in the number of names given",
    .summary = "Documents commands.",
    .synopsis = "[command-name...]",
    .tips = "nondeterministic_output_order",
    .handler = CommandDocs,
};

// --- COMMAND GETKEYS -------------------------------------------------------------------------

Status FindKeys(CommandContext& ctx, std::vector<KeyPosition>* keys) {
  const auto args = ctx.args().subspan(2);
  Command* container = nullptr;
  const Command* command = ctx.engine().commands.Resolve(args, &container);
  if (command == nullptr) return Status::Client("ERR Invalid command specified");
  const auto& specs = command->spec->keys;
  const bool has_keys = std::any_of(specs.begin(), specs.end(), [](const KeySpec& spec) {
    return spec.begin != KeySpec::Begin::kNone && !(spec.flags & kKeyNotKey);
  });
  if (!has_keys) return Status::Client("ERR The command has no key arguments");
  const int arity = command->spec->arity;
  const int given = static_cast<int>(args.size());
  if ((arity > 0 && arity != given) || given < -arity) {
    return Status::Client("ERR Invalid number of arguments specified for command");
  }
  // A range that begins behind the last argument (PFMERGE without sources).
  for (const KeySpec& spec : specs) {
    if (command->spec->find_keys == nullptr && spec.begin == KeySpec::Begin::kIndex &&
        spec.find == KeySpec::Find::kRange && static_cast<size_t>(spec.index) >= args.size())
      return Status::Client("ERR Invalid arguments specified for command");
  }
  const Status found = ExtractKeys(*command, args, keys);
  // EVAL may do without keys, however its count of them reads.
  return command->flags & kCmdNoMandatoryKeys ? Status::Ok() : found;
}

Status CommandGetKeys(CommandContext& ctx) {
  std::vector<KeyPosition> keys;
  CAIRN_RETURN_IF_ERROR(FindKeys(ctx, &keys));
  ctx.reply().ArrayHeader(keys.size());
  for (const KeyPosition& key : keys) ctx.reply().Bulk(ctx.arg(2 + key.index));
  return Status::Ok();
}
constexpr CommandSpec kCommandGetkeysSpec{
    .name = "getkeys",
    .parent = "command",
    .arity = -4,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(N) in the number of arguments",
    .summary = "Finds the keys in a command line.",
    .handler = CommandGetKeys,
};

Status CommandGetKeysAndFlags(CommandContext& ctx) {
  std::vector<KeyPosition> keys;
  CAIRN_RETURN_IF_ERROR(FindKeys(ctx, &keys));
  ctx.reply().ArrayHeader(keys.size());
  for (const KeyPosition& key : keys) {
    ctx.reply().ArrayHeader(2);
    ctx.reply().Bulk(ctx.arg(2 + key.index));
    ReplyNames(ctx.reply(), KeyFlagNames(key.flags));
  }
  return Status::Ok();
}
constexpr CommandSpec kCommandGetkeysandflagsSpec{
    .name = "getkeysandflags",
    .parent = "command",
    .arity = -4,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "7.0.0",
    .complexity = "O(N) in the number of arguments",
    .summary = "Finds the keys in a command line and tells what becomes of them.",
    .handler = CommandGetKeysAndFlags,
};

constexpr CommandSpec kCommandHelpSpec{
    .name = "help",
    .parent = "command",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "server",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kCommandSpecs = {
    kCommandSpec,     kCommandInfoSpec,    kCommandCountSpec,           kCommandListSpec,
    kCommandDocsSpec, kCommandGetkeysSpec, kCommandGetkeysandflagsSpec, kCommandHelpSpec,
};
static_assert(ValidSpecs(kCommandSpecs));

}  // namespace

CommandFamily CommandCommands() { return kCommandSpecs; }

}  // namespace cairn

// ACL: users and their permissions (engine/acl).

#include <fmt/format.h>

#include <array>

#include "server/base/checksum.h"
#include "server/base/strings.h"
#include "server/engine/acl.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

constexpr uint64_t kRuling = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale;
constexpr uint64_t kAsking = kCmdNoScript | kCmdLoading | kCmdStale;

constexpr CommandSpec kAclSpec{
    .name = "acl",
    .arity = -2,
    .group = "server",
    .since = "6.0.0",
    .complexity = "Depends on subcommand.",
    .summary = "Groups the commands about users and permissions.",
};

// --- users -----------------------------------------------------------------------------------

Status AclSetUser(CommandContext& ctx) {
  const std::string_view name = ctx.arg(2);
  for (char c : name) {
    if (c == ' ' || c == '\0' || (c >= '\t' && c <= '\r'))
      return Status::Client("ERR Usernames can't contain spaces or null characters");
  }
  CAIRN_RETURN_IF_ERROR(ctx.engine().acl.SetUser(name, ctx.args().subspan(3)));
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kAclSetUserSpec{
    .name = "setuser",
    .parent = "acl",
    .arity = -3,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N). Where N is the number of rules provided.",
    .summary = "Makes a user, or changes what it may do.",
    .synopsis = "username [rule...]",
    .history = "6.2.0|Rules for channels.\n7.0.0|Selectors and permissions by key.",
    .handler = AclSetUser,
};

Status AclDelUser(CommandContext& ctx) {
  Acl& acl = ctx.engine().acl;
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (ctx.arg(i) == acl.default_user().name())
      return Status::Client("ERR The 'default' user cannot be removed");
  }
  int64_t deleted = 0;
  for (size_t i = 2; i < ctx.argc(); ++i) deleted += acl.DeleteUser(ctx.arg(i));
  ctx.reply().Integer(deleted);
  return Status::Ok();
}
constexpr CommandSpec kAclDelUserSpec{
    .name = "deluser",
    .parent = "acl",
    .arity = -3,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(1) amortized time considering the typical user.",
    .summary = "Removes users and ends their connections.",
    .synopsis = "username...",
    .handler = AclDelUser,
};

void ReplySelector(CommandContext& ctx, const AclSelector& selector) {
  RespWriter& reply = ctx.reply();
  reply.Bulk("commands");
  reply.Bulk(selector.CommandRules(ctx.engine().commands));
  reply.Bulk("keys");
  reply.Bulk(selector.KeyRules());
  reply.Bulk("channels");
  reply.Bulk(selector.ChannelRules());
}

Status AclGetUser(CommandContext& ctx) {
  RespWriter& reply = ctx.reply();
  const AclUser* user = ctx.engine().acl.Find(ctx.arg(2));
  if (user == nullptr) {
    reply.Null();
    return Status::Ok();
  }
  reply.MapHeader(6);
  reply.Bulk("flags");
  const std::vector<std::string_view> words = user->FlagWords();
  reply.SetHeader(words.size());
  for (std::string_view word : words) reply.Bulk(word);
  reply.Bulk("passwords");
  reply.ArrayHeader(user->password_hashes().size());
  for (const std::string& hash : user->password_hashes()) reply.Bulk(hash);
  ReplySelector(ctx, user->root());
  reply.Bulk("selectors");
  reply.ArrayHeader(user->selectors().size());
  for (const AclSelector& selector : user->selectors()) {
    reply.MapHeader(3);
    ReplySelector(ctx, selector);
  }
  return Status::Ok();
}
constexpr CommandSpec kAclGetUserSpec{
    .name = "getuser",
    .parent = "acl",
    .arity = 3,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity =
        "O(N). Where N is the number of password, command and pattern rules that the user has.",
    .summary = "Returns the rules of a user.",
    .synopsis = "username",
    .history =
        "6.2.0|Rules for channels.\n"
        "7.0.0|Selectors; keys and channels are given as rules instead of lists.",
    .handler = AclGetUser,
};

Status AclList(CommandContext& ctx) {
  const auto& users = ctx.engine().acl.users();
  ctx.reply().ArrayHeader(users.size());
  for (const auto& [name, user] : users) ctx.reply().Bulk(user->Describe(ctx.engine().commands));
  return Status::Ok();
}
constexpr CommandSpec kAclListSpec{
    .name = "list",
    .parent = "acl",
    .arity = 2,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N). Where N is the number of configured users.",
    .summary = "Returns the rules of all users.",
    .handler = AclList,
};

Status AclUsers(CommandContext& ctx) {
  const auto& users = ctx.engine().acl.users();
  ctx.reply().ArrayHeader(users.size());
  for (const auto& [name, user] : users) ctx.reply().Bulk(name);
  return Status::Ok();
}
constexpr CommandSpec kAclUsersSpec{
    .name = "users",
    .parent = "acl",
    .arity = 2,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N). Where N is the number of configured users.",
    .summary = "Returns the names of all users.",
    .handler = AclUsers,
};

Status AclWhoAmI(CommandContext& ctx) {
  ctx.reply().Bulk(ctx.session().user);
  return Status::Ok();
}
constexpr CommandSpec kAclWhoAmISpec{
    .name = "whoami",
    .parent = "acl",
    .arity = 2,
    .flags = kAsking,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(1)",
    .summary = "Tells as whom this connection is logged in.",
    .handler = AclWhoAmI,
};

// --- files -----------------------------------------------------------------------------------

Status AclLoad(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().acl.LoadFile());
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kAclLoadSpec{
    .name = "load",
    .parent = "acl",
    .arity = 2,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N). Where N is the number of configured users.",
    .summary = "Reads the file of users again.",
    .handler = AclLoad,
};

Status AclSave(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().acl.SaveFile());
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kAclSaveSpec{
    .name = "save",
    .parent = "acl",
    .arity = 2,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N). Where N is the number of configured users.",
    .summary = "Writes the users to the file of users.",
    .handler = AclSave,
};

// --- looking up ------------------------------------------------------------------------------

Status AclCat(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("acl", ctx.arg(1));
  RespWriter& reply = ctx.reply();
  if (ctx.argc() == 2) {
    const std::vector<std::string_view> names = AclCategoryNames(~uint64_t{0});
    reply.ArrayHeader(names.size());
    for (std::string_view name : names) reply.Bulk(name.substr(1));
    return Status::Ok();
  }
  const uint64_t category = AclCategoryByName(UpToNul(ctx.arg(2)));
  if (category == 0) return QuotingError({"ERR Unknown category '", ctx.arg(2), "'"});
  const auto mark = reply.BeginDeferred();
  size_t count = 0;
  for (const auto& command : ctx.engine().commands.all()) {
    if (!(command->acl & category)) continue;
    reply.Bulk(command->full_name);
    ++count;
  }
  reply.EndDeferredArray(mark, count);
  return Status::Ok();
}
constexpr CommandSpec kAclCatSpec{
    .name = "cat",
    .parent = "acl",
    .arity = -2,
    .flags = kAsking,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(1) since the categories and commands are a fixed set.",
    .summary = "Lists the categories of commands, or the commands of one.",
    .synopsis = "[categoryname]",
    .handler = AclCat,
};

/// Bits of a generated password: when not asked otherwise, and at most.
constexpr int64_t kPasswordBits = 256, kMaxPasswordBits = 4096;

Status AclGenPass(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("acl", ctx.arg(1));
  int64_t bits = kPasswordBits;
  if (ctx.argc() == 3) {
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &bits));
    if (bits <= 0 || bits > kMaxPasswordBits) {
      return Status::Client(
          "ERR ACL GENPASS argument must be the number of bits for the output password, a "
          "positive number up to 4096");
    }
  }
  const auto digits = static_cast<size_t>((bits + 3) / 4);
  std::string bytes((digits + 1) / 2, '\0');
  ctx.engine().env.FillRandom(bytes);
  ctx.reply().Bulk(std::string_view(HexEncode(bytes)).substr(0, digits));
  return Status::Ok();
}
constexpr CommandSpec kAclGenPassSpec{
    .name = "genpass",
    .parent = "acl",
    .arity = -2,
    .flags = kAsking,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(1)",
    .summary = "Makes up a password.",
    .synopsis = "[bits:integer]",
    .handler = AclGenPass,
};

Status AclDryRun(CommandContext& ctx) {
  const AclUser* user = ctx.engine().acl.Find(ctx.arg(2));
  if (user == nullptr) return QuotingError({"ERR User '", ctx.arg(2), "' not found"});
  const std::span<const std::string_view> args = ctx.args().subspan(3);
  Command* container = nullptr;
  const Command* command = ctx.engine().commands.Resolve(args, &container);
  if (command == nullptr) return QuotingError({"ERR Command '", args[0], "' not found"});
  const int arity = command->spec->arity;
  const int argc = static_cast<int>(args.size());
  if ((arity > 0 && argc != arity) || argc < -arity) return WrongArity(command->full_name);
  AclRequest request(*command, args);
  const AclDecision decision = user->Check(request);
  const std::string_view object = args[decision.argument];
  switch (decision.verdict) {
    case AclVerdict::kCommand:
      ctx.reply().Bulk(
          fmt::format("This user has no permissions to run the '{}' command", command->full_name));
      break;
    case AclVerdict::kKey:
      ctx.reply().Bulk(
          fmt::format("This user has no permissions to access the '{}' key", UpToNul(object)));
      break;
    case AclVerdict::kChannel:
      ctx.reply().Bulk(
          fmt::format("This user has no permissions to access the '{}' channel", UpToNul(object)));
      break;
    default:
      ctx.reply().Ok();
  }
  return Status::Ok();
}
constexpr CommandSpec kAclDryRunSpec{
    .name = "dryrun",
    .parent = "acl",
    .arity = -4,
    .flags = kRuling,
    .group = "server",
    .since = "7.0.0",
    .complexity = "O(1).",
    .summary = "Tells whether a user might run a command, without running it.",
    .synopsis = "username command [arg...]",
    .handler = AclDryRun,
};

// --- log -------------------------------------------------------------------------------------

constexpr std::string_view kReasons[] = {"", "command", "key", "auth", "channel"};
constexpr std::string_view kContexts[] = {"toplevel", "multi", "lua"};
constexpr int64_t kLogEntriesShown = 10;

void ReplyLogEntry(RespWriter& reply, const AclLogEntry& entry, int64_t now_ms) {
  reply.MapHeader(7);
  reply.Bulk("count");
  reply.Integer(static_cast<int64_t>(entry.count));
  reply.Bulk("reason");
  reply.Bulk(kReasons[static_cast<size_t>(entry.reason)]);
  reply.Bulk("context");
  reply.Bulk(kContexts[static_cast<size_t>(entry.context)]);
  reply.Bulk("object");
  reply.Bulk(entry.object);
  reply.Bulk("username");
  reply.Bulk(entry.username);
  reply.Bulk("age-seconds");
  reply.Double(static_cast<double>(now_ms - entry.at_ms) / 1000);
  reply.Bulk("client-info");
  reply.Bulk(entry.client);
}

Status AclLog(CommandContext& ctx) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("acl", ctx.arg(1));
  Acl& acl = ctx.engine().acl;
  int64_t count = kLogEntriesShown;
  if (ctx.argc() == 3 && ctx.ArgIs(2, "reset")) {
    acl.ResetLog();
    ctx.reply().Ok();
    return Status::Ok();
  }
  if (ctx.argc() == 3) CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &count));
  const size_t shown = std::min(acl.log().size(), static_cast<size_t>(std::max<int64_t>(count, 0)));
  const int64_t now_ms = ctx.engine().env.WallMicros() / 1000;
  ctx.reply().ArrayHeader(shown);
  for (size_t i = 0; i < shown; ++i) ReplyLogEntry(ctx.reply(), acl.log()[i], now_ms);
  return Status::Ok();
}
constexpr CommandSpec kAclLogSpec{
    .name = "log",
    .parent = "acl",
    .arity = -2,
    .flags = kRuling,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(N) with N being the number of entries shown.",
    .summary = "Returns the newest refusals, or empties their log.",
    .synopsis = "[operation(count:integer|RESET)]",
    .handler = AclLog,
};

constexpr CommandSpec kAclHelpSpec{
    .name = "help",
    .parent = "acl",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "6.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kAclSpecs = {
    kAclSpec,        kAclSetUserSpec, kAclDelUserSpec, kAclGetUserSpec, kAclListSpec,
    kAclUsersSpec,   kAclWhoAmISpec,  kAclLoadSpec,    kAclSaveSpec,    kAclCatSpec,
    kAclGenPassSpec, kAclDryRunSpec,  kAclLogSpec,     kAclHelpSpec,
};
static_assert(ValidSpecs(kAclSpecs));

}  // namespace

CommandFamily AclCommands() { return kAclSpecs; }

}  // namespace cairn

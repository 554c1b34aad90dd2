// Consumer groups: making them, acknowledging, and looking at what is pending. Taking it over is in
// stream_claim_commands.cc.

#include <algorithm>
#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/stream_access.h"

namespace cairn {

namespace {

// --- XGROUP ----------------------------------------------------------------------------------

struct GroupOptions {
  bool make_stream = false;
  int64_t entries_read = StreamGroup::kEntriesReadUnknown;
};

/// What may follow the ID of XGROUP CREATE and SETID.
Status ParseGroupOptions(const CommandContext& ctx, bool create, GroupOptions* out) {
  for (size_t i = 5; i < ctx.argc(); ++i) {
    if (create && ctx.ArgIs(i, "mkstream")) {
      out->make_stream = true;
    } else if (ctx.ArgIs(i, "entriesread") && i + 1 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &out->entries_read));
      if (out->entries_read < 0 && out->entries_read != StreamGroup::kEntriesReadUnknown)
        return Status::Client("ERR value for ENTRIESREAD must be positive or -1");
    } else {
      return UnknownSubcommandOrArity("XGROUP", ctx.arg(1));
    }
  }
  return Status::Ok();
}

/// The stream of XGROUP's key. Errors: none there.
Status StreamForGroup(CommandContext& ctx, KeyRef key, StreamValue** out) {
  CAIRN_RETURN_IF_ERROR(StreamForWrite(ctx, key, out));
  if (*out != nullptr) return Status::Ok();
  return Status::Client(
      "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to "
      "use "
      "the MKSTREAM option to create an empty stream automatically.");
}

/// Stream and group of the subcommands that need both.
Status ExistingGroup(CommandContext& ctx, KeyRef key, StreamValue** stream, StreamGroup** group) {
  CAIRN_RETURN_IF_ERROR(StreamForGroup(ctx, key, stream));
  *group = (*stream)->FindGroup(ctx.arg(3));
  return *group != nullptr ? Status::Ok() : NoSuchGroup(ctx.arg(3), key.key);
}

/// "$" or an ID; where a group is set, as Redis has it, also "-" or "+".
Status ArgGroupPosition(const CommandContext& ctx, const StreamValue* stream, bool bounds,
                        StreamId* out) {
  if (ctx.arg(4) != "$") {
    const bool is_bound = ctx.arg(4) == "-" || ctx.arg(4) == "+";
    return bounds && is_bound ? ArgStreamStart(ctx, 4, out) : ArgStreamId(ctx, 4, 0, out);
  }
  *out = stream != nullptr ? stream->last_id : kMinStreamId;
  return Status::Ok();
}

Status XGroupCreate(CommandContext& ctx) {
  GroupOptions options;
  CAIRN_RETURN_IF_ERROR(ParseGroupOptions(ctx, true, &options));
  const KeyRef key = ctx.Key(2);
  StreamValue* stream = nullptr;
  if (options.make_stream) {
    CAIRN_RETURN_IF_ERROR(StreamForWrite(ctx, key, &stream));
  } else {
    CAIRN_RETURN_IF_ERROR(StreamForGroup(ctx, key, &stream));
  }
  if (ctx.argc() > 8) return UnknownSubcommandOrArity("XGROUP", ctx.arg(1));
  StreamId position;
  CAIRN_RETURN_IF_ERROR(ArgGroupPosition(ctx, stream, false, &position));

  if (stream == nullptr) {
    stream = CreateStream(ctx, key);
    ctx.TouchWatchers(ctx.db().index(), key.key);
  }
  if (stream->AddGroup(ctx.arg(3), position, options.entries_read) == nullptr)
    return Status::Client("BUSYGROUP Consumer Group name already exists");
  ctx.reply().Ok();
  ctx.Notify(NotifyClass::kStream, "xgroup-create", key.key, ctx.db().index());
  ctx.AddDirty(1);
  return Status::Ok();
}

Status XGroupSetId(CommandContext& ctx) {
  GroupOptions options;
  CAIRN_RETURN_IF_ERROR(ParseGroupOptions(ctx, false, &options));
  const KeyRef key = ctx.Key(2);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(ExistingGroup(ctx, key, &stream, &group));
  if (ctx.argc() != 5 && ctx.argc() != 7) return UnknownSubcommandOrArity("XGROUP", ctx.arg(1));
  StreamId position;
  CAIRN_RETURN_IF_ERROR(ArgGroupPosition(ctx, stream, true, &position));
  group->last_id = position;
  group->entries_read = options.entries_read;
  ctx.reply().Ok();
  ctx.Notify(NotifyClass::kStream, "xgroup-setid", key.key, ctx.db().index());
  ctx.AddDirty(1);
  return Status::Ok();
}

Status XGroupDestroy(CommandContext& ctx) {
  const KeyRef key = ctx.Key(2);
  StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamForGroup(ctx, key, &stream));
  StreamGroup* group = stream->FindGroup(ctx.arg(3));
  if (group == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  stream->RemoveGroup(group);
  ctx.reply().Integer(1);
  ctx.Notify(NotifyClass::kStream, "xgroup-destroy", key.key, ctx.db().index());
  ctx.AddDirty(1);
  ctx.SignalReady(ctx.db().index(), key.key);  // its blocked readers are told
  return Status::Ok();
}

Status XGroupCreateConsumer(CommandContext& ctx) {
  const KeyRef key = ctx.Key(2);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(ExistingGroup(ctx, key, &stream, &group));
  const bool fresh = group->FindConsumer(ctx.arg(4)) == nullptr;
  if (fresh) ConsumerOrNew(ctx, key, *group, ctx.arg(4));
  ctx.reply().Integer(fresh);
  return Status::Ok();
}

Status XGroupDelConsumer(CommandContext& ctx) {
  const KeyRef key = ctx.Key(2);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(ExistingGroup(ctx, key, &stream, &group));
  StreamConsumer* consumer = group->FindConsumer(ctx.arg(4));
  uint64_t pending = 0;
  if (consumer != nullptr) {
    pending = group->RemoveConsumer(consumer, *stream);
    ctx.Notify(NotifyClass::kStream, "xgroup-delconsumer", key.key, ctx.db().index());
    ctx.AddDirty(1);
  }
  ctx.reply().Integer(static_cast<int64_t>(pending));
  return Status::Ok();
}

Status XGroupHelp(CommandContext& ctx) {
  constexpr std::array<std::string_view, 17> kLines = {
      "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "CREATE <key> <groupname> <id|$> [option]",
      "    Create a new consumer group. Options are:",
      "    * MKSTREAM",
      "      Create the empty stream if it does not exist.",
      "    * ENTRIESREAD entries_read",
      "      Set the group's entries_read counter (internal use).",
      "CREATECONSUMER <key> <groupname> <consumer>",
      "    Create a new consumer in the specified group.",
      "DELCONSUMER <key> <groupname> <consumer>",
      "    Remove the specified consumer.",
      "DESTROY <key> <groupname>",
      "    Remove the specified group.",
      "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
      "    Set the current group ID and entries_read counter.",
      "HELP",
      "    Prints this help.",
  };
  ctx.reply().ArrayHeader(kLines.size());
  for (std::string_view line : kLines) ctx.reply().SimpleString(line);
  return Status::Ok();
}

constexpr CommandSpec GroupSubcommand(std::string_view name, int arity, uint64_t flags,
                                      uint32_t key_flags, std::string_view since,
                                      std::string_view complexity, std::string_view summary,
                                      std::string_view synopsis, std::string_view history,
                                      CommandHandler handler) {
  return {.name = name,
          .parent = "xgroup",
          .arity = arity,
          .flags = kCmdWrite | flags,
          .acl = kAclStream,
          .keys = {OneKey(2, key_flags)},
          .group = "stream",
          .since = since,
          .complexity = complexity,
          .summary = summary,
          .synopsis = synopsis,
          .history = history,
          .handler = handler};
}
constexpr CommandSpec kXGroupSpec{
    .name = "xgroup",
    .arity = -2,
    .group = "stream",
    .since = "5.0.0",
    .complexity = "Depends on subcommand.",
    .summary = "Makes and changes the consumer groups of a stream.",
};
constexpr CommandSpec kXGroupHelpSpec{
    .name = "help",
    .parent = "xgroup",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclStream,
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands of XGROUP.",
    .handler = XGroupHelp,
};

// --- XACK ------------------------------------------------------------------------------------

Status XAck(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const StreamValue* seen = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, key), &seen));
  if (seen == nullptr || seen->FindGroup(ctx.arg(2)) == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  std::vector<StreamId> ids(ctx.argc() - 3);
  for (size_t i = 0; i < ids.size(); ++i)
    CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, i + 3, 0, &ids[i]));

  auto* stream = static_cast<StreamValue*>(ctx.db().MutableContainer(key));
  StreamGroup* group = stream->FindGroup(ctx.arg(2));
  uint64_t acknowledged = 0;
  for (StreamId id : ids) acknowledged += group->Acknowledge(id, *stream);
  ctx.AddDirty(acknowledged);
  ctx.reply().Integer(static_cast<int64_t>(acknowledged));
  return Status::Ok();
}
constexpr CommandSpec kXAckSpec{
    .name = "xack",
    .arity = -4,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1) for each message ID processed.",
    .summary = "Acknowledges entries that a group has delivered.",
    .synopsis = "key#0 group id...",
    .handler = XAck,
};

// --- XPENDING --------------------------------------------------------------------------------

struct PendingQuery {
  int64_t min_idle_ms = 0;
  StreamId from, to;
  int64_t count = 0;
  size_t consumer_arg = 0;  ///< 0: all consumers
};

Status ParsePendingQuery(const CommandContext& ctx, PendingQuery* out) {
  size_t first = 3;
  if (ctx.ArgIs(3, "idle")) {
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(4, &out->min_idle_ms));
    if (ctx.argc() < 8) return RespError(resp_errors::kSyntax);
    first += 2;
  }
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(first + 2, &out->count));
  out->count = std::max<int64_t>(out->count, 0);
  CAIRN_RETURN_IF_ERROR(ArgStreamRange(ctx, first, first + 1, &out->from, &out->to));
  if (first + 3 < ctx.argc()) out->consumer_arg = first + 3;
  return Status::Ok();
}

void ReplyPendingSummary(CommandContext& ctx, const StreamGroup& group) {
  ctx.reply().ArrayHeader(4);
  ctx.reply().Integer(static_cast<int64_t>(group.pending().size()));
  if (group.pending().empty()) {
    ctx.reply().Null();
    ctx.reply().Null();
    ctx.reply().NullArray();
    return;
  }
  ReplyStreamId(ctx, group.pending().front().id);
  ReplyStreamId(ctx, group.pending().back().id);
  const auto mark = ctx.reply().BeginDeferred();
  size_t consumers = 0;
  group.ForEachConsumer([&](const StreamConsumer& consumer) {
    if (consumer.pending.empty()) return;
    ctx.reply().ArrayHeader(2);
    ctx.reply().Bulk(consumer.name);
    ctx.reply().BulkInt64(static_cast<int64_t>(consumer.pending.size()));
    ++consumers;
  });
  ctx.reply().EndDeferredArray(mark, consumers);
}

void ReplyPendingEntries(CommandContext& ctx, const StreamGroup& group, const PendingQuery& query) {
  const StreamConsumer* consumer = nullptr;
  if (query.consumer_arg != 0) {
    consumer = group.FindConsumer(ctx.arg(query.consumer_arg));
    if (consumer == nullptr) return ctx.reply().ArrayHeader(0);
  }
  const auto mark = ctx.reply().BeginDeferred();
  int64_t replied = 0;
  const auto visit = [&](const PendingDelivery& each) {
    if (replied == query.count || each.id > query.to) return false;
    const int64_t idle_ms = ctx.now_ms() - each.delivered_at_ms;
    if (query.min_idle_ms != 0 && idle_ms < query.min_idle_ms) return true;
    ctx.reply().ArrayHeader(4);
    ReplyStreamId(ctx, each.id);
    ctx.reply().Bulk(group.consumer(each.consumer).name);
    ctx.reply().Integer(std::max<int64_t>(idle_ms, 0));
    ctx.reply().Integer(static_cast<int64_t>(each.delivery_count));
    ++replied;
    return true;
  };
  if (consumer == nullptr) {
    group.pending().ForEachFrom(query.from, visit);
  } else {
    consumer->pending.ForEachFrom(
        query.from, [&](const PendingId& each) { return visit(*group.pending().Find(each.id)); });
  }
  ctx.reply().EndDeferredArray(mark, static_cast<size_t>(replied));
}

Status XPending(CommandContext& ctx) {
  const bool summary = ctx.argc() == 3;
  if (!summary && (ctx.argc() < 6 || ctx.argc() > 9)) return RespError(resp_errors::kSyntax);
  PendingQuery query;
  if (!summary) CAIRN_RETURN_IF_ERROR(ParsePendingQuery(ctx, &query));
  const KeyRef key = ctx.Key(1);
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, key), &stream));
  const StreamGroup* group = stream != nullptr ? stream->FindGroup(ctx.arg(2)) : nullptr;
  if (group == nullptr) {
    return NoSuchKeyOrGroup(key.key, ctx.arg(2));
  }
  if (summary) {
    ReplyPendingSummary(ctx, *group);
  } else {
    ReplyPendingEntries(ctx, *group, query);
  }
  return Status::Ok();
}
constexpr CommandSpec kXPendingSpec{
    .name = "xpending",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(N) with N being the number of elements returned, so asking for a small fixed "
        "number of entries per call is O(1). O(M), where M is the total number of entries "
        "scanned when used with the IDLE filter. When the command returns just the "
        "summary and the list of consumers is small, it runs in O(1) time; otherwise, an "
        "additional O(N) time for iterating every consumer.",
    .summary = "Shows what a group has delivered and not seen acknowledged.",
    .synopsis =
        "key#0 group [filters{[IDLE=min-idle-time:integer@6.2.0] start end count:integer "
        "[consumer]}]",
    .tips = "nondeterministic_output",
    .history = "6.2.0|Added the `IDLE` option and exclusive range intervals.",
    .handler = XPending,
};

constexpr std::array kStreamGroupSpecs = {
    kXGroupSpec,
    GroupSubcommand("create", -5, kCmdDenyOom, kKeyRW | kKeyInsert, "5.0.0", "O(1)",
                    "Makes a consumer group.",
                    "key#0 groupname id(id|'$'=new_id:pure-token) [MKSTREAM] "
                    "[ENTRIESREAD=entries_read:integer]",
                    "7.0.0|Added the `entries_read` named argument.", XGroupCreate),
    GroupSubcommand("setid", -5, 0, kKeyRW | kKeyUpdate, "5.0.0", "O(1)",
                    "Sets how far a group has read.",
                    "key#0 groupname id(id|'$'=new_id:pure-token) "
                    "[ENTRIESREAD=entries_read:integer]",
                    "7.0.0|Added the optional `entries_read` argument.", XGroupSetId),
    GroupSubcommand("destroy", 4, 0, kKeyRW | kKeyDelete, "5.0.0",
                    "O(N) where N is the number of entries in the group's pending entries list "
                    "(PEL).",
                    "Removes a consumer group.", "key#0 groupname", {}, XGroupDestroy),
    GroupSubcommand("createconsumer", 5, kCmdDenyOom, kKeyRW | kKeyInsert, "6.2.0", "O(1)",
                    "Makes a consumer.", "key#0 groupname consumername", {}, XGroupCreateConsumer),
    GroupSubcommand("delconsumer", 5, 0, kKeyRW | kKeyDelete, "5.0.0", "O(1)",
                    "Removes a consumer with its pending entries.", "key#0 groupname consumername",
                    {}, XGroupDelConsumer),
    kXGroupHelpSpec,
    kXAckSpec,
    kXPendingSpec,
};
static_assert(ValidSpecs(kStreamGroupSpecs));

}  // namespace

CommandFamily StreamGroupCommands() { return kStreamGroupSpecs; }

}  // namespace cairn

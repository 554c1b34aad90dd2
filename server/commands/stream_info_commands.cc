// XINFO: what a stream, its groups and their consumers look like from inside.

#include <algorithm>
#include <array>

#include "server/engine/stream_access.h"

namespace cairn {

namespace {

constexpr uint64_t kDefaultFullCount = 10;

void Name(CommandContext& ctx, std::string_view name) { ctx.reply().Bulk(name); }
void NamedNumber(CommandContext& ctx, std::string_view name, uint64_t value) {
  Name(ctx, name);
  ctx.reply().Integer(static_cast<int64_t>(value));
}
void NamedId(CommandContext& ctx, std::string_view name, StreamId id) {
  Name(ctx, name);
  ReplyStreamId(ctx, id);
}

void ReplyEntriesRead(CommandContext& ctx, const StreamValue& stream, const StreamGroup& group) {
  Name(ctx, "entries-read");
  if (group.entries_read == StreamGroup::kEntriesReadUnknown) {
    ctx.reply().Null();
  } else {
    ctx.reply().Integer(group.entries_read);
  }
  Name(ctx, "lag");
  if (const auto lag = stream.LagOf(group)) {
    ctx.reply().Integer(*lag);
  } else {
    ctx.reply().Null();
  }
}

// --- XINFO STREAM ----------------------------------------------------------------------------

/// The first or last entry, or null.
void ReplyEdge(CommandContext& ctx, const StreamValue& stream, std::string_view name, bool last) {
  Name(ctx, name);
  StreamIterator at(stream, kMinStreamId, kMaxStreamId, last);
  if (at.Next()) {
    ReplyStreamEntry(ctx, at.entry());
  } else {
    ctx.reply().Null();
  }
}

void ReplyPending(CommandContext& ctx, const StreamGroup& group, uint64_t count) {
  Name(ctx, "pending");
  const auto mark = ctx.reply().BeginDeferred();
  size_t replied = 0;
  group.pending().ForEachFrom(kMinStreamId, [&](const PendingDelivery& each) {
    if (count != 0 && replied == count) return false;
    ctx.reply().ArrayHeader(4);
    ReplyStreamId(ctx, each.id);
    ctx.reply().Bulk(group.consumer(each.consumer).name);
    ctx.reply().Integer(each.delivered_at_ms);
    ctx.reply().Integer(static_cast<int64_t>(each.delivery_count));
    ++replied;
    return true;
  });
  ctx.reply().EndDeferredArray(mark, replied);
}

void ReplyConsumerInFull(CommandContext& ctx, const StreamGroup& group,
                         const StreamConsumer& consumer, uint64_t count) {
  ctx.reply().MapHeader(4);
  Name(ctx, "name");
  ctx.reply().Bulk(consumer.name);
  NamedNumber(ctx, "seen-time", static_cast<uint64_t>(consumer.seen_at_ms));
  NamedNumber(ctx, "pel-count", consumer.pending.size());
  Name(ctx, "pending");
  const auto mark = ctx.reply().BeginDeferred();
  size_t replied = 0;
  consumer.pending.ForEachFrom(kMinStreamId, [&](const PendingId& each) {
    if (count != 0 && replied == count) return false;
    const PendingDelivery* delivery = group.pending().Find(each.id);
    ctx.reply().ArrayHeader(3);
    ReplyStreamId(ctx, each.id);
    ctx.reply().Integer(delivery->delivered_at_ms);
    ctx.reply().Integer(static_cast<int64_t>(delivery->delivery_count));
    ++replied;
    return true;
  });
  ctx.reply().EndDeferredArray(mark, replied);
}

void ReplyGroupInFull(CommandContext& ctx, const StreamValue& stream, const StreamGroup& group,
                      uint64_t count) {
  ctx.reply().MapHeader(7);
  Name(ctx, "name");
  ctx.reply().Bulk(group.name());
  NamedId(ctx, "last-delivered-id", group.last_id);
  ReplyEntriesRead(ctx, stream, group);
  NamedNumber(ctx, "pel-count", group.pending().size());
  ReplyPending(ctx, group, count);
  Name(ctx, "consumers");
  ctx.reply().ArrayHeader(group.consumer_count());
  group.ForEachConsumer(
      [&](const StreamConsumer& consumer) { ReplyConsumerInFull(ctx, group, consumer, count); });
}

/// "FULL [COUNT n]" behind the key. *count is 0 for all entries.
Status ParseFull(const CommandContext& ctx, bool* full, uint64_t* count) {
  *full = ctx.argc() > 3;
  if (!*full) return Status::Ok();
  if ((ctx.argc() != 4 && ctx.argc() != 6) || !ctx.ArgIs(3, "full") ||
      (ctx.argc() == 6 && !ctx.ArgIs(4, "count"))) {
    return UnknownSubcommandOrArity("XINFO", ctx.arg(1));
  }
  *count = kDefaultFullCount;
  if (ctx.argc() == 4) return Status::Ok();
  int64_t wanted = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(5, &wanted));
  if (wanted >= 0) *count = static_cast<uint64_t>(wanted);
  return Status::Ok();
}

Status StreamOfInfo(CommandContext& ctx, const StreamValue** out) {
  const Entry* entry = ReadKey(ctx, ctx.Key(2));
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  return StreamOf(entry, out);
}

Status XInfoStream(CommandContext& ctx) {
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOfInfo(ctx, &stream));
  bool full = false;
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ParseFull(ctx, &full, &count));

  ctx.reply().MapHeader(full ? 9 : 10);
  NamedNumber(ctx, "length", stream->length());
  NamedNumber(ctx, "radix-tree-keys", stream->node_count());
  NamedNumber(ctx, "radix-tree-nodes", stream->radix_nodes());
  NamedId(ctx, "last-generated-id", stream->last_id);
  NamedId(ctx, "max-deleted-entry-id", stream->max_deleted_id);
  NamedNumber(ctx, "entries-added", stream->entries_added);
  NamedId(ctx, "recorded-first-entry-id", stream->first_id());
  if (!full) {
    NamedNumber(ctx, "groups", stream->group_count());
    ReplyEdge(ctx, *stream, "first-entry", false);
    ReplyEdge(ctx, *stream, "last-entry", true);
    return Status::Ok();
  }
  Name(ctx, "entries");
  ReplyStreamRange(ctx, *stream, kMinStreamId, kMaxStreamId, count, false);
  Name(ctx, "groups");
  ctx.reply().ArrayHeader(stream->group_count());
  stream->ForEachGroup(
      [&](const StreamGroup& group) { ReplyGroupInFull(ctx, *stream, group, count); });
  return Status::Ok();
}

// --- XINFO GROUPS, CONSUMERS -----------------------------------------------------------------

Status XInfoGroups(CommandContext& ctx) {
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOfInfo(ctx, &stream));
  ctx.reply().ArrayHeader(stream->group_count());
  stream->ForEachGroup([&](const StreamGroup& group) {
    ctx.reply().MapHeader(6);
    Name(ctx, "name");
    ctx.reply().Bulk(group.name());
    NamedNumber(ctx, "consumers", group.consumer_count());
    NamedNumber(ctx, "pending", group.pending().size());
    NamedId(ctx, "last-delivered-id", group.last_id);
    ReplyEntriesRead(ctx, *stream, group);
  });
  return Status::Ok();
}

Status XInfoConsumers(CommandContext& ctx) {
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOfInfo(ctx, &stream));
  const StreamGroup* group = stream->FindGroup(ctx.arg(3));
  if (group == nullptr) {
    return NoSuchGroup(ctx.arg(3), ctx.arg(2));
  }
  ctx.reply().ArrayHeader(group->consumer_count());
  group->ForEachConsumer([&](const StreamConsumer& consumer) {
    ctx.reply().MapHeader(3);
    Name(ctx, "name");
    ctx.reply().Bulk(consumer.name);
    NamedNumber(ctx, "pending", consumer.pending.size());
    Name(ctx, "idle");
    ctx.reply().Integer(std::max<int64_t>(ctx.now_ms() - consumer.seen_at_ms, 0));
  });
  return Status::Ok();
}

Status XInfoHelp(CommandContext& ctx) {
  constexpr std::array<std::string_view, 9> kLines = {
      "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "CONSUMERS <key> <groupname>",
      "    Show consumers of <groupname>.",
      "GROUPS <key>",
      "    Show the stream consumer groups.",
      "STREAM <key> [FULL [COUNT <count>]",
      "    Show information about the stream.",
      "HELP",
      "    Prints this help.",
  };
  ctx.reply().ArrayHeader(kLines.size());
  for (std::string_view line : kLines) ctx.reply().SimpleString(line);
  return Status::Ok();
}

constexpr CommandSpec kXInfoSpec{
    .name = "xinfo",
    .arity = -2,
    .group = "stream",
    .since = "5.0.0",
    .complexity = "Depends on subcommand.",
    .summary = "Shows the inside of streams and their groups.",
};
constexpr CommandSpec kXInfoStreamSpec{
    .name = "stream",
    .parent = "xinfo",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(2, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Shows the counters and edges of a stream, or all of it.",
    .synopsis = "key#0 [FULL=full{[COUNT=count:integer]}]",
    .history =
        "6.0.0|Added the `FULL` modifier.\n7.0.0|Added the `max-deleted-entry-id`, "
        "`entries-added`, `recorded-first-entry-id`, `entries-read` and `lag` fields",
    .handler = XInfoStream,
};
constexpr CommandSpec kXInfoGroupsSpec{
    .name = "groups",
    .parent = "xinfo",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(2, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Shows the consumer groups of a stream.",
    .synopsis = "key#0",
    .history = "7.0.0|Added the `entries-read` and `lag` fields",
    .handler = XInfoGroups,
};
constexpr CommandSpec kXInfoConsumersSpec{
    .name = "consumers",
    .parent = "xinfo",
    .arity = 4,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(2, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Shows the consumers of a group.",
    .synopsis = "key#0 groupname",
    .tips = "nondeterministic_output",
    .handler = XInfoConsumers,
};
constexpr CommandSpec kXInfoHelpSpec{
    .name = "help",
    .parent = "xinfo",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclStream,
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands of XINFO.",
    .handler = XInfoHelp,
};

constexpr std::array kStreamInfoSpecs = {
    kXInfoSpec, kXInfoStreamSpec, kXInfoGroupsSpec, kXInfoConsumersSpec, kXInfoHelpSpec,
};
static_assert(ValidSpecs(kStreamInfoSpecs));

}  // namespace

CommandFamily StreamInfoCommands() { return kStreamInfoSpecs; }

}  // namespace cairn

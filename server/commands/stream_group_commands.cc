// Consumer groups: making them, acknowledging, looking at what is pending and taking it over. The
// log never carries XCLAIM and XAUTOCLAIM as sent, which depend on the clock, but what became of
// each entry.

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/stream_access.h"

namespace cairn {

namespace {

Status NoSuchGroup(std::string_view group, std::string_view key) {
  return QuotingError({"NOGROUP No such consumer group '", group, "' for key name '", key, "'"});
}

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

/// "$" or an ID.
Status ArgGroupPosition(const CommandContext& ctx, const StreamValue* stream, StreamId* out) {
  if (ctx.arg(4) != "$") return ArgStreamId(ctx, 4, 0, out);
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
  CAIRN_RETURN_IF_ERROR(ArgGroupPosition(ctx, stream, &position));

  if (stream == nullptr) {
    stream = CreateStream(ctx, key);
    ctx.TouchWatchers(ctx.db().index(), key.key);
  }
  if (stream->AddGroup(ctx.arg(3), position, options.entries_read) == nullptr)
    return Status::Client("BUSYGROUP Consumer Group name already exists");
  ctx.Notify(NotifyClass::kStream, "xgroup-create", key.key, ctx.db().index());
  ctx.AddDirty(1);
  ctx.reply().Ok();
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
  CAIRN_RETURN_IF_ERROR(ArgGroupPosition(ctx, stream, &position));
  group->last_id = position;
  group->entries_read = options.entries_read;
  ctx.Notify(NotifyClass::kStream, "xgroup-setid", key.key, ctx.db().index());
  ctx.AddDirty(1);
  ctx.reply().Ok();
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
  ctx.Notify(NotifyClass::kStream, "xgroup-destroy", key.key, ctx.db().index());
  ctx.AddDirty(1);
  ctx.SignalReady(ctx.db().index(), key.key);  // its blocked readers are told
  ctx.reply().Integer(1);
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
    return QuotingError(
        {"NOGROUP No such key '", key.key, "' or consumer group '", ctx.arg(2), "'"});
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

// --- XCLAIM ----------------------------------------------------------------------------------

struct ClaimOptions {
  int64_t min_idle_ms = 0;
  int64_t delivered_at_ms = -1;
  int64_t retry_count = -1;
  bool force = false;
  bool just_id = false;
  StreamId last_id;
};

Status ArgClaimNumber(const CommandContext& ctx, size_t i, std::string_view what, int64_t* out) {
  if (ParseInt64(ctx.arg(i), out)) return Status::Ok();
  return Status::Client("ERR Invalid " + std::string(what));
}

Status ParseClaimOption(const CommandContext& ctx, size_t* i, ClaimOptions* out) {
  const bool more = *i + 1 < ctx.argc();
  if (ctx.ArgIs(*i, "force")) {
    out->force = true;
  } else if (ctx.ArgIs(*i, "justid")) {
    out->just_id = true;
  } else if (ctx.ArgIs(*i, "idle") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "IDLE option argument for XCLAIM", &out->delivered_at_ms));
    // Whatever comes of bogus times is put right by SettleDeliveryTime.
    out->delivered_at_ms = static_cast<int64_t>(static_cast<uint64_t>(ctx.now_ms()) -
                                                static_cast<uint64_t>(out->delivered_at_ms));
  } else if (ctx.ArgIs(*i, "time") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "TIME option argument for XCLAIM", &out->delivered_at_ms));
  } else if (ctx.ArgIs(*i, "retrycount") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "RETRYCOUNT option argument for XCLAIM", &out->retry_count));
  } else if (ctx.ArgIs(*i, "lastid") && more) {
    CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, ++*i, 0, &out->last_id));
  } else {
    return Status::Client("ERR Unrecognized XCLAIM option '" + std::string(ctx.arg(*i)) + "'");
  }
  ++*i;
  return Status::Ok();
}

/// IDs up to the first argument that is none, then options.
Status ParseClaim(const CommandContext& ctx, std::vector<StreamId>* ids, ClaimOptions* out) {
  CAIRN_RETURN_IF_ERROR(
      ArgClaimNumber(ctx, 4, "min-idle-time argument for XCLAIM", &out->min_idle_ms));
  out->min_idle_ms = std::max<int64_t>(out->min_idle_ms, 0);
  size_t i = 5;
  for (StreamId id; i < ctx.argc() && ArgStreamId(ctx, i, 0, &id).ok(); ++i) ids->push_back(id);
  while (i < ctx.argc()) CAIRN_RETURN_IF_ERROR(ParseClaimOption(ctx, &i, out));
  if (out->delivered_at_ms < 0 || out->delivered_at_ms > ctx.now_ms())
    out->delivered_at_ms = ctx.now_ms();
  return Status::Ok();
}

/// A claim under way: what XCLAIM and XAUTOCLAIM do to each entry.
class Claim {
 public:
  Claim(CommandContext& ctx, KeyRef key, StreamValue& stream, StreamGroup& group,
        const ClaimOptions& options)
      : ctx_(ctx), key_(key), stream_(stream), group_(group), options_(options) {}

  /// An entry that is pending but no longer in the stream is forgotten, and that is propagated.
  void Forget(const PendingDelivery& delivery) {
    PropagateClaim(ctx_, key_, group_, group_.consumer(delivery.consumer).name, delivery);
    group_.Acknowledge(delivery.id, stream_);
    ctx_.AddDirty(1);
  }
  /// Gives an entry to the claiming consumer and replies it.
  void Take(StreamId id, uint64_t delivery_count) {
    if (consumer_ == nullptr) consumer_ = ConsumerOrNew(ctx_, key_, group_, ctx_.arg(3));
    group_.Deliver(id, consumer_, options_.delivered_at_ms, delivery_count, stream_);
    if (options_.just_id) {
      ReplyStreamId(ctx_, id);
    } else {
      StreamIterator at(stream_, id, id, false);
      if (at.Next()) ReplyStreamEntry(ctx_, at.entry());
    }
    PropagateClaim(ctx_, key_, group_, consumer_->name, *group_.pending().Find(id));
    ctx_.AddDirty(1);
  }
  bool IdleLongEnough(const PendingDelivery& delivery) const {
    return options_.min_idle_ms == 0 ||
           ctx_.now_ms() - delivery.delivered_at_ms >= options_.min_idle_ms;
  }

 private:
  CommandContext& ctx_;
  KeyRef key_;
  StreamValue& stream_;
  StreamGroup& group_;
  const ClaimOptions& options_;
  StreamConsumer* consumer_ = nullptr;
};

/// How often an entry has been delivered after this claim.
uint64_t NewCount(const ClaimOptions& options, uint64_t before) {
  if (options.retry_count >= 0) return static_cast<uint64_t>(options.retry_count);
  return before + !options.just_id;
}

Status XClaim(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(GroupForWrite(ctx, key, ctx.arg(2), &stream, &group));
  std::vector<StreamId> ids;
  ClaimOptions options;
  CAIRN_RETURN_IF_ERROR(ParseClaim(ctx, &ids, &options));

  ctx.PropagateNotAsSent();
  const bool moved = options.last_id > group->last_id;
  if (moved) group->last_id = options.last_id;
  Claim claim(ctx, key, *stream, *group, options);
  const uint64_t dirty_before = ctx.dirty();
  const auto mark = ctx.reply().BeginDeferred();
  size_t replied = 0;
  for (StreamId id : ids) {
    const PendingDelivery* delivery = group->pending().Find(id);
    if (!stream->Contains(id)) {
      if (delivery != nullptr) claim.Forget(PendingDelivery(*delivery));
      continue;
    }
    if (delivery == nullptr && !options.force) continue;
    if (delivery != nullptr && !claim.IdleLongEnough(*delivery)) continue;
    claim.Take(id, NewCount(options, delivery != nullptr ? delivery->delivery_count : 1));
    ++replied;
  }
  // XCLAIM in the log carries the group's position; without one it goes out by itself.
  if (moved && ctx.dirty() == dirty_before) {
    PropagateGroupPosition(ctx, key, *group);
    ctx.AddDirty(1);
  }
  ctx.reply().EndDeferredArray(mark, replied);
  return Status::Ok();
}
constexpr CommandSpec kXClaimSpec{
    .name = "xclaim",
    .arity = -6,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(log N) with N being the number of messages in the PEL of the consumer group.",
    .summary = "Gives pending entries to another consumer.",
    .synopsis =
        "key#0 group consumer min-idle-time id... [IDLE=ms:integer] "
        "[TIME=unix-time-milliseconds:unix-time] [RETRYCOUNT=count:integer] [FORCE] "
        "[JUSTID] [LASTID=id]",
    .tips = "nondeterministic_output",
    .handler = XClaim,
};

// --- XAUTOCLAIM ------------------------------------------------------------------------------

// Entries looked at for each one that may be claimed.
constexpr int64_t kAttemptsPerEntry = 10;
constexpr int64_t kDefaultClaims = 100;
constexpr int64_t kMostClaims = INT64_MAX / 16;

Status ParseAutoClaim(const CommandContext& ctx, ClaimOptions* out, StreamId* start,
                      int64_t* count) {
  CAIRN_RETURN_IF_ERROR(
      ArgClaimNumber(ctx, 4, "min-idle-time argument for XAUTOCLAIM", &out->min_idle_ms));
  out->min_idle_ms = std::max<int64_t>(out->min_idle_ms, 0);
  CAIRN_RETURN_IF_ERROR(ArgStreamStart(ctx, 5, start));
  for (size_t i = 6; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "count") && i + 1 < ctx.argc()) {
      if (!ParseInt64(ctx.arg(++i), count) || *count < 1 || *count > kMostClaims)
        return Status::Client("ERR COUNT must be > 0");
    } else if (ctx.ArgIs(i, "justid")) {
      out->just_id = true;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  out->delivered_at_ms = ctx.now_ms();
  return Status::Ok();
}

/// What one XAUTOCLAIM does, in the order of IDs.
struct ClaimPlan {
  std::vector<PendingDelivery> entries;  ///< to claim, or to forget because they are gone
  size_t claims = 0;
  StreamId next = kMinStreamId;  ///< where the next one goes on; 0-0: the end was reached
};

ClaimPlan PlanClaims(const StreamValue& stream, const StreamGroup& group, const Claim& claim,
                     StreamId start, int64_t count) {
  ClaimPlan plan;
  int64_t attempts = count * kAttemptsPerEntry;
  group.pending().ForEachFrom(start, [&](const PendingDelivery& each) {
    if (attempts == 0 || count == 0) {
      plan.next = each.id;
      return false;
    }
    --attempts;
    const bool there = stream.Contains(each.id);
    if (there && !claim.IdleLongEnough(each)) return true;
    plan.entries.push_back(each);
    plan.claims += there;
    --count;
    return true;
  });
  return plan;
}

Status XAutoClaim(CommandContext& ctx) {
  ClaimOptions options;
  StreamId start;
  int64_t count = kDefaultClaims;
  CAIRN_RETURN_IF_ERROR(ParseAutoClaim(ctx, &options, &start, &count));
  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(GroupForWrite(ctx, key, ctx.arg(2), &stream, &group));

  ctx.PropagateNotAsSent();
  Claim claim(ctx, key, *stream, *group, options);
  const ClaimPlan plan = PlanClaims(*stream, *group, claim, start, count);
  ctx.reply().ArrayHeader(3);
  ReplyStreamId(ctx, plan.next);
  ctx.reply().ArrayHeader(plan.claims);
  std::vector<StreamId> deleted;
  for (const PendingDelivery& each : plan.entries) {
    if (stream->Contains(each.id)) {
      claim.Take(each.id, NewCount(options, each.delivery_count));
    } else {
      claim.Forget(each);
      deleted.push_back(each.id);
    }
  }
  ctx.reply().ArrayHeader(deleted.size());
  for (StreamId id : deleted) ReplyStreamId(ctx, id);
  return Status::Ok();
}
constexpr CommandSpec kXAutoClaimSpec{
    .name = "xautoclaim",
    .arity = -6,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "stream",
    .since = "6.2.0",
    .complexity = "O(1) if COUNT is small.",
    .summary = "Gives pending entries that nobody works on to another consumer.",
    .synopsis = "key#0 group consumer min-idle-time start [COUNT=count:integer] [JUSTID]",
    .tips = "nondeterministic_output",
    .history =
        "7.0.0|Added an element to the reply array, containing deleted entries the command "
        "cleared from the PEL",
    .handler = XAutoClaim,
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
    kXClaimSpec,
    kXAutoClaimSpec,
};
static_assert(ValidSpecs(kStreamGroupSpecs));

}  // namespace

CommandFamily StreamGroupCommands() { return kStreamGroupSpecs; }

}  // namespace cairn

// XREAD and XREADGROUP: what is behind an ID in several streams, now or as soon as it comes. A
// reader of a group takes entries over: they become pending until it acknowledges them.

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/blocking.h"
#include "server/engine/stream_access.h"

namespace cairn {

namespace {

// A reader that was woken gets at most so many entries when it named no COUNT.
constexpr uint64_t kCountWhenWoken = 1000;

struct ReadOptions {
  bool group_given = false;
  std::string_view group, consumer;
  bool no_ack = false;
  bool block = false;
  int64_t timeout_ms = 0;
  uint64_t count = 0;  ///< 0: no limit
  size_t first_key = 0;
  size_t key_count = 0;
};

/// Where one stream is read from.
struct ReadPosition {
  StreamId after;
  bool new_entries = false;  ///< ">": what the group has not delivered yet
};

// --- arguments -------------------------------------------------------------------------------

Status OnlyForGroups(std::string_view option) {
  return Status::Client("ERR The " + std::string(option) +
                        " option is only supported by XREADGROUP. You called XREAD instead.");
}

Status ParseStreams(const CommandContext& ctx, size_t first, ReadOptions* out) {
  const size_t count = ctx.argc() - first;
  if (count % 2 != 0) {
    // XREADGROUP says so as well.
    return Status::Client(
        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be "
        "specified.");
  }
  out->first_key = first;
  out->key_count = count / 2;
  return Status::Ok();
}

Status ParseReadOption(const CommandContext& ctx, bool of_group, size_t* i, ReadOptions* out) {
  const size_t more = ctx.argc() - *i - 1;
  if (ctx.ArgIs(*i, "block") && more >= 1) {
    if (ctx.from_script()) {
      return QuotingError(
          {"ERR ", ctx.arg(0), " command is not allowed with BLOCK option from scripts"});
    }
    out->block = true;
    CAIRN_RETURN_IF_ERROR(
        ParseBlockTimeout(ctx, ++*i, TimeoutUnit::kMilliseconds, &out->timeout_ms));
  } else if (ctx.ArgIs(*i, "count") && more >= 1) {
    int64_t count = 0;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++*i, &count));
    out->count = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  } else if (ctx.ArgIs(*i, "streams") && more >= 1) {
    return ParseStreams(ctx, *i + 1, out);
  } else if (ctx.ArgIs(*i, "group") && more >= 2) {
    if (!of_group) return OnlyForGroups("GROUP");
    out->group_given = true;
    out->group = ctx.arg(*i + 1);
    out->consumer = ctx.arg(*i + 2);
    *i += 2;
  } else if (ctx.ArgIs(*i, "noack")) {
    if (!of_group) return OnlyForGroups("NOACK");
    out->no_ack = true;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  ++*i;
  return Status::Ok();
}

Status ParseReadOptions(const CommandContext& ctx, bool of_group, ReadOptions* out) {
  for (size_t i = 1; i < ctx.argc() && out->first_key == 0;)
    CAIRN_RETURN_IF_ERROR(ParseReadOption(ctx, of_group, &i, out));
  if (out->first_key == 0) return RespError(resp_errors::kSyntax);
  if (of_group && !out->group_given)
    return Status::Client("ERR Missing GROUP option for XREADGROUP");
  return Status::Ok();
}

Status ParsePosition(CommandContext& ctx, const ReadOptions& options, size_t i, ReadPosition* out) {
  const size_t id_arg = options.first_key + options.key_count + i;
  const KeyRef key = ctx.Key(options.first_key + i);
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, key), &stream));
  if (options.group_given && (stream == nullptr || stream->FindGroup(options.group) == nullptr)) {
    return QuotingError({"NOGROUP No such key '", key.key, "' or consumer group '", options.group,
                         "' in XREADGROUP with GROUP option"});
  }
  const std::string_view text = ctx.arg(id_arg);
  if (text == "$") {
    if (options.group_given) {
      return Status::Client(
          "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history "
          "of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ "
          "ID would just return an empty result set.");
    }
    out->after = stream != nullptr ? stream->last_id : kMinStreamId;
    return Status::Ok();
  }
  if (text == ">") {
    if (!options.group_given) {
      return Status::Client(
          "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
          "<consumer> option.");
    }
    out->new_entries = true;
    return Status::Ok();
  }
  return ArgStreamId(ctx, id_arg, 0, &out->after);
}

// --- replies ---------------------------------------------------------------------------------

/// Moves a group past `id`, counting what it has read where that can be known.
void AdvanceGroup(const StreamValue& stream, StreamGroup& group, StreamId id) {
  if (group.entries_read != StreamGroup::kEntriesReadUnknown && !stream.HasGapFrom(id)) {
    ++group.entries_read;
  } else if (stream.entries_added != 0) {
    group.entries_read = stream.EstimateEntriesUpTo(id);
  }
  group.last_id = id;
}

/// Delivers entries behind `after` to a consumer: replies them and makes them pending.
void DeliverNew(CommandContext& ctx, KeyRef key, StreamValue& stream, StreamGroup& group,
                StreamConsumer* consumer, const ReadOptions& options, uint64_t count) {
  const auto mark = ctx.reply().BeginDeferred();
  uint64_t replied = 0;
  const auto from = NextStreamId(group.last_id);
  StreamIterator at(stream, from.value_or(kMaxStreamId), kMaxStreamId, false);
  while (from.has_value() && (count == 0 || replied < count) && at.Next()) {
    const StreamId id = at.entry().id;
    AdvanceGroup(stream, group, id);
    ReplyStreamEntry(ctx, at.entry());
    ++replied;
    if (options.no_ack) continue;
    group.Deliver(id, consumer, ctx.now_ms(), 1, stream);
    PropagateClaim(ctx, key, group, consumer->name, {id, ctx.now_ms(), 1, consumer->index});
  }
  ctx.reply().EndDeferredArray(mark, replied);
  if (replied != 0) PropagateGroupPosition(ctx, key, group);
}

/// The consumer's own pending entries behind `after`; those deleted meanwhile have null fields.
void ReplyHistory(CommandContext& ctx, const StreamValue& stream, StreamGroup& group,
                  const StreamConsumer& consumer, StreamId after, uint64_t count) {
  const auto mark = ctx.reply().BeginDeferred();
  std::vector<StreamId> ids;
  const auto from = NextStreamId(after);
  if (from.has_value()) {
    consumer.pending.ForEachFrom(*from, [&](const PendingId& each) {
      ids.push_back(each.id);
      return count == 0 || ids.size() < count;
    });
  }
  for (StreamId id : ids) {
    StreamIterator at(stream, id, id, false);
    if (!at.Next()) {
      ctx.reply().ArrayHeader(2);
      ReplyStreamId(ctx, id);
      ctx.reply().NullArray();
      continue;
    }
    ReplyStreamEntry(ctx, at.entry());
    PendingDelivery* delivery = group.MutablePending(id, stream);
    delivery->delivered_at_ms = ctx.now_ms();
    ++delivery->delivery_count;
  }
  ctx.reply().EndDeferredArray(mark, ids.size());
}

/// One stream's part of the reply: its key, then its entries.
void BeginPart(CommandContext& ctx, KeyRef key) {
  if (ctx.reply().version() == 2) ctx.reply().ArrayHeader(2);
  ctx.reply().Bulk(key.key);
}

/// The whole reply: a map from keys to entries, an array of pairs in RESP2.
void EndParts(CommandContext& ctx, ReplyBuffer::Mark mark, size_t parts) {
  if (ctx.reply().version() == 3) {
    ctx.reply().EndDeferredMap(mark, parts);
  } else {
    ctx.reply().EndDeferredArray(mark, parts);
  }
}

void ReadForGroup(CommandContext& ctx, KeyRef key, const ReadOptions& options,
                  const ReadPosition& position, uint64_t count) {
  auto* stream = static_cast<StreamValue*>(ctx.db().MutableContainer(key));
  StreamGroup& group = *stream->FindGroup(options.group);
  BeginPart(ctx, key);  // ahead of the new consumer's event, for who hears of its own doing
  const bool known = group.FindConsumer(options.consumer) != nullptr;
  StreamConsumer* consumer = ConsumerOrNew(ctx, key, group, options.consumer);
  if (!known && options.no_ack) PropagateConsumer(ctx, key, group, options.consumer);
  if (position.new_entries) {
    DeliverNew(ctx, key, *stream, group, consumer, options, count);
  } else {
    ReplyHistory(ctx, *stream, group, *consumer, position.after, count);
  }
  ctx.AddDirty(1);
}

/// Whether a reader at `position` has something to get now.
bool HasEntriesFor(const StreamValue& stream, const ReadOptions& options,
                   const ReadPosition& position) {
  if (options.group_given && !position.new_entries) return true;  // its own history, even if empty
  if (stream.length() == 0) return false;
  const StreamId after =
      options.group_given ? stream.FindGroup(options.group)->last_id : position.after;
  return stream.EdgeId(false) > after;
}

/// Replies the part of one stream, which may turn out to be without entries.
void ReplyPart(CommandContext& ctx, KeyRef key, const StreamValue& stream,
               const ReadOptions& options, const ReadPosition& position, uint64_t count) {
  if (options.group_given) {
    ReadForGroup(ctx, key, options, position, count);
    return;
  }
  BeginPart(ctx, key);
  ReplyStreamRange(ctx, stream, *NextStreamId(position.after), kMaxStreamId, count, false);
}

/// Replies the part of one stream. Returns false, replying nothing, when it has none.
bool ReadOne(CommandContext& ctx, KeyRef key, const ReadOptions& options,
             const ReadPosition& position, uint64_t count) {
  const Entry* entry = ReadKey(ctx, key);
  if (entry == nullptr) return false;
  const auto* stream = static_cast<const StreamValue*>(entry->object());
  if (!HasEntriesFor(*stream, options, position)) return false;
  ReplyPart(ctx, key, *stream, options, position, count);
  return true;
}

// --- waiting ---------------------------------------------------------------------------------

Status RetryRead(CommandContext& ctx, KeyRef key, bool* served);

/// Parks the reader. "$" is asked for again as the ID it meant when the command came.
Status WaitForEntries(CommandContext& ctx, const ReadOptions& options,
                      std::span<const ReadPosition> positions) {
  std::vector<std::string> texts;
  std::vector<std::string_view> args(ctx.args().begin(), ctx.args().end());
  texts.reserve(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) {
    if (positions[i].new_entries) continue;
    args[options.first_key + options.key_count + i] =
        texts.emplace_back(FormatStreamId(positions[i].after));
  }
  BlockRequest request;
  request.keys = ctx.args().subspan(options.first_key, options.key_count);
  request.timeout_ms = options.timeout_ms;
  request.type = ValueType::kStream;
  request.also_when_gone = options.group_given;
  request.retry = RetryRead;
  request.args = args;
  return ctx.Block(request);
}

Status RetryRead(CommandContext& ctx, KeyRef key, bool* served) {
  const bool of_group = ctx.spec().name == "xreadgroup";
  ReadOptions options;
  CAIRN_RETURN_IF_ERROR(ParseReadOptions(ctx, of_group, &options));
  size_t i = 0;
  while (ctx.arg(options.first_key + i) != key.key) ++i;
  const StreamValue* stream = nullptr;
  const Entry* entry = ctx.db().LookupRead(key, kLookupNoStats);
  if (entry == nullptr || entry->type() != ValueType::kStream)
    return Status::Client("UNBLOCKED the stream key no longer exists");
  CAIRN_RETURN_IF_ERROR(StreamOf(entry, &stream));
  if (of_group && stream->FindGroup(options.group) == nullptr) {
    return Status::Client("NOGROUP the consumer group this client was blocked on no longer exists");
  }
  ReadPosition position;
  CAIRN_RETURN_IF_ERROR(ParsePosition(ctx, options, i, &position));
  // Who waits is served once the stream's last ID is behind its own, even if that entry is gone: a
  // stream that was renamed, restored or emptied in the meantime gives a part without entries.
  const StreamId after = of_group ? stream->FindGroup(options.group)->last_id : position.after;
  if (!(stream->last_id > after)) return Status::Ok();
  if (of_group) ctx.PropagateNotAsSent();
  const auto mark = ctx.reply().BeginDeferred();
  ReplyPart(ctx, key, *stream, options, position,
            options.count != 0 ? options.count : kCountWhenWoken);
  EndParts(ctx, mark, 1);
  *served = true;
  return Status::Ok();
}

Status Read(CommandContext& ctx, bool of_group) {
  ReadOptions options;
  CAIRN_RETURN_IF_ERROR(ParseReadOptions(ctx, of_group, &options));
  std::vector<ReadPosition> positions(options.key_count);
  for (size_t i = 0; i < positions.size(); ++i)
    CAIRN_RETURN_IF_ERROR(ParsePosition(ctx, options, i, &positions[i]));
  // What a group's reader changed goes out as what became of it, not as the command.
  if (of_group) ctx.PropagateNotAsSent();

  const auto mark = ctx.reply().BeginDeferred();
  size_t parts = 0;
  for (size_t i = 0; i < positions.size(); ++i)
    parts += ReadOne(ctx, ctx.Key(options.first_key + i), options, positions[i], options.count);
  if (parts != 0) {
    EndParts(ctx, mark, parts);
    return Status::Ok();
  }
  if (options.block) return WaitForEntries(ctx, options, positions);
  ctx.reply().NullArray();
  return Status::Ok();
}

// --- commands --------------------------------------------------------------------------------

Status XRead(CommandContext& ctx) { return Read(ctx, false); }
constexpr CommandSpec kXReadSpec{
    .name = "xread",
    .arity = -4,
    .flags = kCmdReadonly | kCmdBlocking | kCmdMovableKeys,
    .acl = kAclStream,
    .keys = {{KeySpec::Begin::kKeyword,
              kKeyRO | kKeyAccess,
              1,
              "STREAMS",
              KeySpec::Find::kRange,
              -1,
              1,
              2,
              {}}},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "For each stream mentioned: O(N) with N being the number of elements being "
        "returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the "
        "BLOCK option is used, XADD will pay O(M) time in order to serve the M clients "
        "blocked on the stream getting new data.",
    .summary = "Returns what streams have behind given IDs, waiting for it if asked to.",
    .synopsis =
        "[COUNT=count:integer] [BLOCK=milliseconds:integer] STREAMS=streams{key#0... id...}",
    .handler = XRead,
};

Status XReadGroup(CommandContext& ctx) { return Read(ctx, true); }
constexpr CommandSpec kXReadGroupSpec{
    .name = "xreadgroup",
    .arity = -7,
    .flags = kCmdWrite | kCmdBlocking | kCmdMovableKeys,
    .acl = kAclStream,
    .keys = {{KeySpec::Begin::kKeyword,
              kKeyRO | kKeyAccess,
              4,
              "STREAMS",
              KeySpec::Find::kRange,
              -1,
              1,
              2,
              {}}},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "For each stream mentioned: O(M) with M being the number of elements returned. If "
        "M is constant (e.g. always asking for the first 10 elements with COUNT), you can "
        "consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the "
        "O(N) time in order to serve the N clients blocked on the stream getting new data.",
    .summary = "Delivers entries of streams to a consumer of a group.",
    .synopsis =
        "GROUP=group_consumer{group consumer} [COUNT=count:integer] "
        "[BLOCK=milliseconds:integer] [NOACK] STREAMS=streams{key#0... id...}",
    .handler = XReadGroup,
};

constexpr std::array kStreamReadSpecs = {kXReadSpec, kXReadGroupSpec};
static_assert(ValidSpecs(kStreamReadSpecs));

}  // namespace

CommandFamily StreamReadCommands() { return kStreamReadSpecs; }

}  // namespace cairn

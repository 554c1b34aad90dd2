#include "server/engine/stream_access.h"

namespace cairn {
namespace {

Status InvalidStreamId() {
  return Status::Client("ERR Invalid stream ID specified as stream command argument");
}

/// One end of a range; `exclusive` steps past it.
Status ArgRangeEnd(const CommandContext& ctx, size_t i, bool is_start, StreamId* out) {
  std::string_view text = ctx.arg(i);
  const bool exclusive = text.size() > 1 && text[0] == '(';
  if (exclusive) text.remove_prefix(1);
  const auto forms = exclusive ? StreamIdForms::kPlain : StreamIdForms::kBounds;
  const auto parsed = ParseStreamId(text, forms, is_start ? 0 : UINT64_MAX);
  if (!parsed.has_value()) return InvalidStreamId();
  *out = parsed->id;
  if (!exclusive) return Status::Ok();
  const auto stepped = is_start ? NextStreamId(*out) : PreviousStreamId(*out);
  if (!stepped.has_value()) {
    return Status::Client(is_start ? "ERR invalid start ID for the interval"
                                   : "ERR invalid end ID for the interval");
  }
  *out = *stepped;
  return Status::Ok();
}

}  // namespace

Status StreamOf(const Entry* entry, const StreamValue** out) {
  *out = nullptr;
  if (entry == nullptr) return Status::Ok();
  if (entry->type() != ValueType::kStream) return RespError(resp_errors::kWrongType);
  *out = static_cast<const StreamValue*>(entry->object());
  return Status::Ok();
}

Status StreamForWrite(CommandContext& ctx, KeyRef key, StreamValue** out) {
  const StreamValue* stream = nullptr;
  *out = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ctx.db().LookupWrite(key), &stream));
  if (stream != nullptr) *out = static_cast<StreamValue*>(ctx.db().MutableContainer(key));
  return Status::Ok();
}

StreamValue* CreateStream(CommandContext& ctx, KeyRef key) {
  auto* stream = new StreamValue(*ctx.keyspace().value_home());
  StoreKey(ctx, ctx.db(), key,
           ValueInput::FromObject(ValueType::kStream, ObjectRef::Adopt(stream)));
  return stream;
}

Status NoSuchKeyOrGroup(std::string_view key, std::string_view group) {
  return QuotingError({"NOGROUP No such key '", key, "' or consumer group '", group, "'"});
}

Status NoSuchGroup(std::string_view group, std::string_view key) {
  return QuotingError({"NOGROUP No such consumer group '", group, "' for key name '", key, "'"});
}

Status GroupForWrite(CommandContext& ctx, KeyRef key, std::string_view group, StreamValue** stream,
                     StreamGroup** out) {
  const StreamValue* seen = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, key), &seen));  // a miss counts as a reader's
  *stream = seen != nullptr ? static_cast<StreamValue*>(ctx.db().MutableContainer(key)) : nullptr;
  *out = *stream != nullptr ? (*stream)->FindGroup(group) : nullptr;
  if (*out != nullptr) return Status::Ok();
  return NoSuchKeyOrGroup(key.key, group);
}

Status ArgStreamId(const CommandContext& ctx, size_t i, uint64_t missing_sequence, StreamId* out) {
  const auto parsed = ParseStreamId(ctx.arg(i), StreamIdForms::kPlain, missing_sequence);
  if (!parsed.has_value()) return InvalidStreamId();
  *out = parsed->id;
  return Status::Ok();
}

Status ArgStreamRange(const CommandContext& ctx, size_t from_arg, size_t to_arg, StreamId* from,
                      StreamId* to) {
  CAIRN_RETURN_IF_ERROR(ArgRangeEnd(ctx, from_arg, true, from));
  return ArgRangeEnd(ctx, to_arg, false, to);
}

Status ArgStreamStart(const CommandContext& ctx, size_t i, StreamId* out) {
  return ArgRangeEnd(ctx, i, true, out);
}

void ReplyStreamId(CommandContext& ctx, StreamId id) { ctx.reply().Bulk(FormatStreamId(id)); }

void ReplyStreamEntry(CommandContext& ctx, const StreamEntry& entry) {
  RespWriter& reply = ctx.reply();
  reply.ArrayHeader(2);
  ReplyStreamId(ctx, entry.id);
  reply.ArrayHeader(2 * entry.field_count);
  entry.ForEachField([&reply](std::string_view field, std::string_view value) {
    reply.Bulk(field);
    reply.Bulk(value);
  });
}

uint64_t ReplyStreamRange(CommandContext& ctx, const StreamValue& stream, StreamId from,
                          StreamId to, uint64_t count, bool reverse) {
  const auto mark = ctx.reply().BeginDeferred();
  uint64_t replied = 0;
  StreamIterator at(stream, from, to, reverse);
  while ((count == 0 || replied < count) && at.Next()) {
    ReplyStreamEntry(ctx, at.entry());
    ++replied;
  }
  ctx.reply().EndDeferredArray(mark, replied);
  return replied;
}

StreamConsumer* ConsumerOrNew(CommandContext& ctx, KeyRef key, StreamGroup& group,
                              std::string_view name) {
  if (StreamConsumer* consumer = group.FindConsumer(name)) {
    consumer->seen_at_ms = ctx.now_ms();
    return consumer;
  }
  ctx.AddDirty(1);
  ctx.Notify(NotifyClass::kStream, "xgroup-createconsumer", key.key, ctx.db().index());
  return group.AddConsumer(name, ctx.now_ms());
}

void PropagateClaim(CommandContext& ctx, KeyRef key, const StreamGroup& group,
                    std::string_view consumer, const PendingDelivery& delivery,
                    std::string_view id_text) {
  const std::string id = id_text.empty() ? FormatStreamId(delivery.id) : std::string(id_text);
  PropagateInstead(ctx, {"XCLAIM", key.key, group.name(), consumer, "0", id, "TIME",
                         IntegerText(delivery.delivered_at_ms), "RETRYCOUNT",
                         std::to_string(delivery.delivery_count), "FORCE", "JUSTID", "LASTID",
                         FormatStreamId(group.last_id)});
}

void PropagateGroupPosition(CommandContext& ctx, KeyRef key, const StreamGroup& group) {
  PropagateInstead(ctx, {"XGROUP", "SETID", key.key, group.name(), FormatStreamId(group.last_id),
                         "ENTRIESREAD", IntegerText(group.entries_read)});
}

void PropagateConsumer(CommandContext& ctx, KeyRef key, const StreamGroup& group,
                       std::string_view consumer) {
  PropagateInstead(ctx, {"XGROUP", "CREATECONSUMER", key.key, group.name(), consumer});
}

}  // namespace cairn

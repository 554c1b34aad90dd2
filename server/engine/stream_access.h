#pragma once

// What the stream commands share: looking a stream up, reading ID arguments, replying entries, and
// the commands by which changes of consumer groups reach the log. Free functions over
// CommandContext; they add nothing to what a handler may do. Thread: executor.

#include <string_view>

#include "server/data/stream_value.h"
#include "server/engine/key_access.h"

namespace cairn {

/// The stream of an entry, nullptr for none. Errors: WRONGTYPE.
Status StreamOf(const Entry* entry, const StreamValue** out);
/// The stream under `key` for changing, nullptr when absent. Errors: WRONGTYPE. Valid until the
/// next call that changes the key.
Status StreamForWrite(CommandContext& ctx, KeyRef key, StreamValue** out);
/// Stores an empty stream under a free key.
StreamValue* CreateStream(CommandContext& ctx, KeyRef key);
/// "NOGROUP No such key '..' or consumer group '..'"
Status NoSuchKeyOrGroup(std::string_view key, std::string_view group);
/// "NOGROUP No such consumer group '..' for key name '..'"
Status NoSuchGroup(std::string_view group, std::string_view key);
/// The group, or "NOGROUP No such key '..' or consumer group '..'".
Status GroupForWrite(CommandContext& ctx, KeyRef key, std::string_view group, StreamValue** stream,
                     StreamGroup** out);

/// arg(i) as an ID without "-", "+" and "*". Errors: Redis's line for what is none.
Status ArgStreamId(const CommandContext& ctx, size_t i, uint64_t missing_sequence, StreamId* out);
/// Two arguments as the ends of a range, each perhaps exclusive ("(5-1").
Status ArgStreamRange(const CommandContext& ctx, size_t from_arg, size_t to_arg, StreamId* from,
                      StreamId* to);
/// arg(i) as the start of a range.
Status ArgStreamStart(const CommandContext& ctx, size_t i, StreamId* out);

void ReplyStreamId(CommandContext& ctx, StreamId id);
/// [id, [field, value, ..]]
void ReplyStreamEntry(CommandContext& ctx, const StreamEntry& entry);
/// The array of entries of a range, `count` at most (0: all). Returns how many.
uint64_t ReplyStreamRange(CommandContext& ctx, const StreamValue& stream, StreamId from,
                          StreamId to, uint64_t count, bool reverse);

/// The consumer of a name, made when there is none: published, and counted as a change. `refresh`:
/// it has just been seen.
StreamConsumer* ConsumerOrNew(CommandContext& ctx, KeyRef key, StreamGroup& group,
                              std::string_view name);

/// XCLAIM .. FORCE JUSTID LASTID that makes a pending entry what it is now. `id_text`: its ID as
/// the command spelled it; empty: in full.
void PropagateClaim(CommandContext& ctx, KeyRef key, const StreamGroup& group,
                    std::string_view consumer, const PendingDelivery& delivery,
                    std::string_view id_text = {});
/// XGROUP SETID .. ENTRIESREAD.
void PropagateGroupPosition(CommandContext& ctx, KeyRef key, const StreamGroup& group);
/// XGROUP CREATECONSUMER.
void PropagateConsumer(CommandContext& ctx, KeyRef key, const StreamGroup& group,
                       std::string_view consumer);

}  // namespace cairn

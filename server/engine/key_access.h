#pragma once

// The openings and closings that handlers of several families share: look a key up as a reader
// does, insist on a string, reply one, propagate in another form. Free functions over
// CommandContext; they add nothing to what a handler may do. Thread: executor.

#include <initializer_list>
#include <string_view>

#include "server/base/strings.h"
#include "server/data/member_builder.h"
#include "server/engine/command_context.h"
#include "server/engine/engine.h"

namespace cairn {

/// Entry under `key` for a command that only reads, or nullptr, which is published as "keymiss".
inline const Entry* ReadKey(CommandContext& ctx, KeyRef key,
                            unsigned lookup_flags = kLookupDefault) {
  const Entry* entry = ctx.db().LookupRead(key, lookup_flags);
  if (entry == nullptr) [[unlikely]] {
    ctx.Notify(NotifyClass::kKeyMiss, "keymiss", key.key, ctx.db().index());
  }
  return entry;
}

/// OK when `entry` is absent or of `type`, WRONGTYPE otherwise.
inline Status ExpectType(const Entry* entry, ValueType type) {
  if (entry == nullptr || entry->type() == type) [[likely]]
    return Status::Ok();
  return RespError(resp_errors::kWrongType);
}

/// OK when `entry` is absent or a string, WRONGTYPE otherwise.
inline Status ExpectString(const Entry* entry) {
  if (entry == nullptr || entry->is_string()) [[likely]]
    return Status::Ok();
  return RespError(resp_errors::kWrongType);
}

/// Stores under `key` and publishes "new" when it was absent. The old TTL goes.
inline const Entry* StoreKey(CommandContext& ctx, Database& db, KeyRef key, ValueInput value,
                             int64_t expire_at_ms = kNoExpiry) {
  bool created = false;
  const Entry* entry = db.Set(key, std::move(value), expire_at_ms, &created);
  if (created) ctx.Notify(NotifyClass::kNew, "new", key.key, db.index());
  return entry;
}

/// Whether maxmemory-policy counts how often keys are used.
inline bool TracksFrequency(const Settings& settings) {
  return settings.maxmemory_policy == MaxmemoryPolicy::kAllkeysLfu ||
         settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLfu;
}

/// How often a new key counts as used. Source: LFU_INIT_VAL of Redis 7.0.
inline constexpr int kFirstFrequency = 5;

/// StoreKey for a command that has not looked `key` up: that its value is replaced is a use of it.
inline const Entry* SetKey(CommandContext& ctx, Database& db, KeyRef key, ValueInput value) {
  if (TracksFrequency(ctx.settings())) [[unlikely]]
    db.LookupWrite(key);
  return StoreKey(ctx, db, key, std::move(value));
}

/// Removes the target of a command that had nothing to store, also one whose time is over: as in
/// redis-server that is published as "del" then. dirty += 1 when there was one.
inline void RemoveTarget(CommandContext& ctx, KeyRef key, bool lazy) {
  if (ctx.db().Remove(key, lazy)) ctx.Changed(key, NotifyClass::kGeneric, "del");
}

/// States that `count` elements of `key` were taken away, and with `gone` the key: publishes
/// `event` and "del", then tells WATCHers and who keeps copies, so that who hears of both hears the
/// events first. dirty += count.
inline void PublishRemoval(CommandContext& ctx, KeyRef key, NotifyClass cls, std::string_view event,
                           bool gone, uint64_t count) {
  const uint32_t db = ctx.db().index();
  ctx.Notify(cls, event, key.key, db);
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, db);
  ctx.TouchWatchers(db, key.key);
  ctx.AddDirty(count);
}

/// Replies `size` bytes of a string from `at` on as a bulk string; many go by reference. Requires:
/// they are there.
void ReplyStringPart(CommandContext& ctx, const Entry& entry, size_t at, size_t size);

/// Replies a string entry as a bulk string, or null for nullptr. Long values go by reference.
inline void ReplyString(CommandContext& ctx, const Entry* entry) {
  RespWriter& reply = ctx.reply();
  if (entry == nullptr) return reply.Null();
  switch (entry->form()) {
    case ValueForm::kInt:
      return reply.BulkInt64(entry->integer());
    case ValueForm::kBlob: {
      BlobRef blob = entry->BlobValue();
      const size_t size = blob->size();
      return reply.BulkBlob({std::move(blob), 0, size});
    }
    case ValueForm::kObject:
      return ReplyStringPart(ctx, *entry, 0, entry->StringSize());
    default: {
      char scratch[kMaxInt64Chars + 3];
      return reply.Bulk(entry->StringView(scratch));
    }
  }
}

/// Replies a member, field or value as a bulk string. Long ones go by reference.
inline void ReplyElement(CommandContext& ctx, const ListpackValue& value, const Blob* blob) {
  if (value.is_integer) return ctx.reply().BulkInt64(value.integer);
  if (blob == nullptr || value.bytes.size() < kReplyByReferenceBytes)
    return ctx.reply().Bulk(value.bytes);
  const size_t offset = static_cast<size_t>(value.bytes.data() - blob->data());
  ctx.reply().BulkBlob({BlobRef::Share(const_cast<Blob*>(blob)), offset, value.bytes.size()});
}

/// Up to where containers stay packed, by the settings.
PackedLimits LimitsOf(const Settings& settings);

/// Cursor, MATCH and COUNT of SCAN, HSCAN, SSCAN and ZSCAN.
struct ScanArguments {
  uint64_t cursor = 0;
  int64_t count = 10;
  std::string_view pattern = "*";
  bool Matches(std::string_view text) const {
    return pattern == "*" || GlobMatch(pattern, text, false);
  }
};
/// arg(i) as a cursor, as C's strtoul reads it less the leading space: Redis takes a sign and even
/// an empty text.
Status ArgCursor(const CommandContext& ctx, size_t i, uint64_t* cursor);
/// key cursor [MATCH pattern] [COUNT count], the cursor being arg(2).
Status ParseElementScan(const CommandContext& ctx, ScanArguments* out);

/// PropagateAs that costs nothing while nobody listens.
inline void PropagateInstead(CommandContext& ctx, std::initializer_list<std::string_view> args) {
  if (ctx.engine().propagation.enabled())
    ctx.PropagateAs(std::vector<std::string>(args.begin(), args.end()));
}

/// The decimal text of an integer for PropagateInstead.
class IntegerText {
 public:
  explicit IntegerText(int64_t value) : size_(FormatInt64(value, digits_)) {}
  operator std::string_view() const { return {digits_, size_}; }

 private:
  char digits_[kMaxInt64Chars];
  size_t size_;
};

/// Removes a key whose time has already come when its TTL is set: DEL or UNLINK goes out instead of
/// the command, by lazyfree-lazy-expire.
void RemoveAlreadyExpired(CommandContext& ctx, KeyRef key);

/// True when a TTL ending at `expire_at_ms` removes the key at once; never while an append-only
/// file is loaded.
inline bool IsAlreadyExpired(const CommandContext& ctx, int64_t expire_at_ms) {
  return !ctx.obeys() && expire_at_ms <= ctx.now_ms();
}

/// arg(i) as an integer of `low`..`high`. Errors: not an integer, or Redis's line that names the
/// bounds.
Status ArgInRange(const CommandContext& ctx, size_t i, int64_t low, int64_t high, int64_t* out);

}  // namespace cairn

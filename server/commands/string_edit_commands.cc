// Strings in part and as numbers: ranges, APPEND, and the counters of the INCR family. All of them
// keep the key's TTL.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

// --- ranges ----------------------------------------------------------------------------------

/// Refuses a string that would grow beyond proto-max-bulk-len. The loader replays what was once
/// allowed.
Status CheckLength(const CommandContext& ctx, uint64_t size, uint64_t more) {
  if (ctx.obeys()) return Status::Ok();
  const uint64_t limit = static_cast<uint64_t>(ctx.settings().proto_max_bulk_len);
  if (size > limit || more > limit - size) return RespError(resp_errors::kStringTooLong);
  return Status::Ok();
}

Status Append(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const std::string_view tail = ctx.arg(2);
  const Entry* entry = ctx.db().LookupWrite(key);
  size_t size = tail.size();
  if (entry == nullptr) {
    StoreKey(ctx, ctx.db(), key, ValueInput::String(tail, ctx.ArgBlob(2)));
  } else {
    CAIRN_RETURN_IF_ERROR(ExpectString(entry));
    const size_t old_size = entry->StringSize();
    CAIRN_RETURN_IF_ERROR(CheckLength(ctx, old_size, tail.size()));
    size += old_size;
    // All of the growth is written here: none of it has to be zeroed.
    ctx.db().EditString(key, size, old_size).Write(old_size, tail);
  }
  ctx.Changed(key, NotifyClass::kString, "append");
  ctx.reply().Integer(static_cast<int64_t>(size));
  return Status::Ok();
}
constexpr CommandSpec kAppendSpec{
    .name = "append",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "string",
    .since = "2.0.0",
    .complexity = "O(1) when the added bytes are few: the room for a string grows in steps.",
    .summary = "Adds bytes at the end of a string.",
    .synopsis = "key#0 value",
    .handler = Append,
};

Status SetRange(CommandContext& ctx) {
  int64_t offset = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &offset));
  if (offset < 0) return RespError(resp_errors::kOffsetOutOfRange);
  const KeyRef key = ctx.Key(1);
  const std::string_view patch = ctx.arg(3);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  const size_t old_size = entry != nullptr ? entry->StringSize() : 0;
  if (patch.empty()) {
    ctx.reply().Integer(static_cast<int64_t>(old_size));
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(CheckLength(ctx, static_cast<uint64_t>(offset), patch.size()));
  const size_t size = std::max(old_size, static_cast<size_t>(offset) + patch.size());
  if (entry == nullptr) StoreKey(ctx, ctx.db(), key, ValueInput::RawString({}));
  const size_t at = static_cast<size_t>(offset);
  ctx.db().EditString(key, size, at).Write(at, patch);
  ctx.Changed(key, NotifyClass::kString, "setrange");
  ctx.reply().Integer(static_cast<int64_t>(size));
  return Status::Ok();
}
constexpr CommandSpec kSetRangeSpec{
    .name = "setrange",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "string",
    .since = "2.2.0",
    .complexity = "O(1) beside the copy of the new bytes, O(M) when their number M is large.",
    .summary = "Overwrites a string from an offset on, growing it with zero bytes.",
    .synopsis = "key#0 offset:integer value",
    .handler = SetRange,
};

Status GetRange(CommandContext& ctx) {
  int64_t start = 0, end = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &start));
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &end));
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  const int64_t size = entry != nullptr ? static_cast<int64_t>(entry->StringSize()) : 0;
  // Both counted from the end and crossed: empty even where clamping to the first byte would make
  // them meet.
  const bool crossed = start < 0 && end < 0 && start > end;
  if (start < 0) start = std::max<int64_t>(start + size, 0);
  if (end < 0) end = std::max<int64_t>(end + size, 0);
  end = std::min(end, size - 1);
  if (crossed || size == 0 || start > end) {
    ctx.reply().EmptyBulk();
    return Status::Ok();
  }
  const size_t length = static_cast<size_t>(end - start + 1);
  ReplyStringPart(ctx, *entry, static_cast<size_t>(start), length);
  return Status::Ok();
}
constexpr CommandSpec kGetRangeSpec{
    .name = "getrange",
    .arity = 4,
    .flags = kCmdReadonly,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "string",
    .since = "2.4.0",
    .complexity = "O(N) in the number of bytes returned.",
    .summary = "Returns the bytes of a string between two positions.",
    .synopsis = "key#0 start:integer end:integer",
    .handler = GetRange,
};
constexpr CommandSpec kSubStrSpec{
    .name = "substr",
    .arity = 4,
    .flags = kCmdReadonly,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(N) in the number of bytes returned.",
    .summary = "Returns the bytes of a string between two positions; the older name of GETRANGE.",
    .synopsis = "key#0 start:integer end:integer",
    .deprecated_since = "2.0.0",
    .replaced_by = "`GETRANGE`",
    .handler = GetRange,
};

// --- counters --------------------------------------------------------------------------------

/// The integer that a string entry reads as.
Status IntegerOf(const Entry& entry, int64_t* out) {
  if (entry.form() == ValueForm::kInt) {
    *out = entry.integer();
    return Status::Ok();
  }
  char scratch[kMaxInt64Chars + 3];
  const bool in_chunks = entry.form() == ValueForm::kObject;  // nothing that long is a number
  if (!in_chunks && ParseInt64(entry.StringView(scratch), out)) return Status::Ok();
  return RespError(resp_errors::kNotInteger);
}

Status AddInteger(CommandContext& ctx, int64_t delta) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  int64_t value = 0;
  if (entry != nullptr) CAIRN_RETURN_IF_ERROR(IntegerOf(*entry, &value));
  if (__builtin_add_overflow(value, delta, &value)) return RespError(resp_errors::kOverflow);
  if (entry == nullptr) {
    StoreKey(ctx, ctx.db(), key, ValueInput::Integer(value));
  } else if (entry->form() == ValueForm::kInt) {
    ctx.db().Mutable(key)->set_integer(value);
  } else {
    ctx.db().Replace(key, ValueInput::Integer(value));
  }
  ctx.Changed(key, NotifyClass::kString, "incrby");
  ctx.reply().Integer(value);
  return Status::Ok();
}

Status Incr(CommandContext& ctx) { return AddInteger(ctx, 1); }
constexpr CommandSpec kIncrSpec{
    .name = "incr",
    .arity = 2,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Adds one to an integer.",
    .synopsis = "key#0",
    .handler = Incr,
};

Status Decr(CommandContext& ctx) { return AddInteger(ctx, -1); }
constexpr CommandSpec kDecrSpec{
    .name = "decr",
    .arity = 2,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Takes one from an integer.",
    .synopsis = "key#0",
    .handler = Decr,
};

Status IncrBy(CommandContext& ctx) {
  int64_t delta = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &delta));
  return AddInteger(ctx, delta);
}
constexpr CommandSpec kIncrBySpec{
    .name = "incrby",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Adds to an integer.",
    .synopsis = "key#0 increment:integer",
    .handler = IncrBy,
};

Status DecrBy(CommandContext& ctx) {
  int64_t delta = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &delta));
  if (delta == std::numeric_limits<int64_t>::min())
    return RespError(resp_errors::kDecrementOverflow);
  return AddInteger(ctx, -delta);
}
constexpr CommandSpec kDecrBySpec{
    .name = "decrby",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Takes from an integer.",
    .synopsis = "key#0 decrement:integer",
    .handler = DecrBy,
};

/// A result of INCRBYFLOAT stays text even where it looks like an integer, as Redis keeps it.
ValueInput TextValue(std::string_view text) {
  if (text.size() > kMaxInlineValueBytes) return ValueInput::RawString(text);
  ValueInput value;
  value.form = ValueForm::kInline;
  value.bytes = text;
  return value;
}

Status IncrByFloat(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  long double value = 0, delta = 0;
  // Nothing that long is a number.
  const bool in_chunks = entry != nullptr && entry->form() == ValueForm::kObject;
  char scratch[kMaxInt64Chars + 3];
  if (in_chunks || (entry != nullptr && !ParseLongDouble(entry->StringView(scratch), &value)) ||
      !ParseLongDouble(ctx.arg(2), &delta)) {
    return RespError(resp_errors::kNotFloat);
  }
  value += delta;
  if (std::isnan(value) || std::isinf(value)) return RespError(resp_errors::kNanOrInfinity);
  const std::string text = FormatLongDouble(value);
  if (entry == nullptr) {
    StoreKey(ctx, ctx.db(), key, TextValue(text));
  } else {
    ctx.db().Replace(key, TextValue(text));
  }
  ctx.Changed(key, NotifyClass::kString, "incrbyfloat");
  ctx.reply().Bulk(text);
  // The result goes out, not the increment: another machine's rounding must not make another value.
  PropagateInstead(ctx, {"SET", key.key, text, "KEEPTTL"});
  return Status::Ok();
}
constexpr CommandSpec kIncrByFloatSpec{
    .name = "incrbyfloat",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Adds to a floating-point number.",
    .synopsis = "key#0 increment:double",
    .handler = IncrByFloat,
};

constexpr std::array kStringEditSpecs = {
    kAppendSpec, kSetRangeSpec, kGetRangeSpec, kSubStrSpec,      kIncrSpec,
    kDecrSpec,   kIncrBySpec,   kDecrBySpec,   kIncrByFloatSpec,
};
static_assert(ValidSpecs(kStringEditSpecs));

}  // namespace

CommandFamily StringEditCommands() { return kStringEditSpecs; }

}  // namespace cairn

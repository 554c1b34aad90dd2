// Time to live: setting it, asking for it, dropping it.

#include <algorithm>
#include <array>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

enum Condition : unsigned {
  kIfNone = 1u << 0,     // NX
  kIfSome = 1u << 1,     // XX
  kIfGreater = 1u << 2,  // GT
  kIfLess = 1u << 3,     // LT
};

Status ParseConditions(const CommandContext& ctx, unsigned* out) {
  unsigned given = 0;
  for (size_t i = 3; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "nx")) {
      given |= kIfNone;
    } else if (ctx.ArgIs(i, "xx")) {
      given |= kIfSome;
    } else if (ctx.ArgIs(i, "gt")) {
      given |= kIfGreater;
    } else if (ctx.ArgIs(i, "lt")) {
      given |= kIfLess;
    } else {
      return QuotingError({"ERR Unsupported option ", ctx.arg(i)});
    }
  }
  if ((given & kIfNone) && (given & ~kIfNone)) {
    return Status::Client("ERR NX and XX, GT or LT options at the same time are not compatible");
  }
  if ((given & kIfGreater) && (given & kIfLess)) {
    return Status::Client("ERR GT and LT options at the same time are not compatible");
  }
  *out = given;
  return Status::Ok();
}

/// Whether `at_ms` may take the place of `current_ms`. No TTL counts as endless.
bool MayReplace(unsigned conditions, int64_t current_ms, int64_t at_ms) {
  const bool has = current_ms != kNoExpiry;
  if ((conditions & kIfNone) && has) return false;
  if ((conditions & kIfSome) && !has) return false;
  if ((conditions & kIfGreater) && (!has || at_ms <= current_ms)) return false;
  if ((conditions & kIfLess) && has && at_ms >= current_ms) return false;
  return true;
}

/// The log gets the moment, not the span, and the conditions as sent.
void PropagateMoment(CommandContext& ctx, int64_t at_ms) {
  if (!ctx.engine().propagation.enabled()) return;
  std::vector<std::string> args(ctx.args().begin(), ctx.args().end());
  args[0] = "PEXPIREAT";
  args[2] = std::string(IntegerText(at_ms));
  ctx.PropagateAs(std::move(args));
}

/// `base_ms`: now for a span, 0 for a moment. `unit_ms`: 1000 or 1.
Status SetTimeToLive(CommandContext& ctx, int64_t base_ms, int64_t unit_ms) {
  unsigned conditions = 0;
  CAIRN_RETURN_IF_ERROR(ParseConditions(ctx, &conditions));
  int64_t at_ms = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &at_ms));
  if (__builtin_mul_overflow(at_ms, unit_ms, &at_ms) ||
      __builtin_add_overflow(at_ms, base_ms, &at_ms)) {
    return InvalidExpire(ctx.spec().name);
  }
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr || !MayReplace(conditions, entry->expire_at_ms(), at_ms)) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  if (IsAlreadyExpired(ctx, at_ms)) {
    RemoveAlreadyExpired(ctx, key);
    ctx.reply().Integer(1);
  } else {
    // Below zero only while loading; the value that means "no TTL" must not come of it.
    ctx.db().SetExpiry(key, std::max<int64_t>(at_ms, 0));
    if (base_ms != 0 || unit_ms != 1) PropagateMoment(ctx, at_ms);
    ctx.reply().Integer(1);  // who hears of its own EXPIRE hears it after the reply
    ctx.Changed(key, NotifyClass::kGeneric, "expire");
  }
  return Status::Ok();
}

Status Expire(CommandContext& ctx) { return SetTimeToLive(ctx, ctx.now_ms(), 1000); }
constexpr CommandSpec kExpireSpec{
    .name = "expire",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Lets a key live for so many seconds.",
    .synopsis = "key#0 seconds:integer [condition(NX|XX|GT|LT)@7.0.0]",
    .history = "7.0.0|Options `NX`, `XX`, `GT` and `LT`.",
    .handler = Expire,
};

Status PExpire(CommandContext& ctx) { return SetTimeToLive(ctx, ctx.now_ms(), 1); }
constexpr CommandSpec kPExpireSpec{
    .name = "pexpire",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "generic",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Lets a key live for so many milliseconds.",
    .synopsis = "key#0 milliseconds:integer [condition(NX|XX|GT|LT)@7.0.0]",
    .history = "7.0.0|Options `NX`, `XX`, `GT` and `LT`.",
    .handler = PExpire,
};

Status ExpireAt(CommandContext& ctx) { return SetTimeToLive(ctx, 0, 1000); }
constexpr CommandSpec kExpireAtSpec{
    .name = "expireat",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "generic",
    .since = "1.2.0",
    .complexity = "O(1)",
    .summary = "Lets a key live up to a Unix time in seconds.",
    .synopsis = "key#0 unix-time-seconds:unix-time [condition(NX|XX|GT|LT)@7.0.0]",
    .history = "7.0.0|Options `NX`, `XX`, `GT` and `LT`.",
    .handler = ExpireAt,
};

Status PExpireAt(CommandContext& ctx) { return SetTimeToLive(ctx, 0, 1); }
constexpr CommandSpec kPExpireAtSpec{
    .name = "pexpireat",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "generic",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Lets a key live up to a Unix time in milliseconds.",
    .synopsis = "key#0 unix-time-milliseconds:unix-time [condition(NX|XX|GT|LT)@7.0.0]",
    .history = "7.0.0|Options `NX`, `XX`, `GT` and `LT`.",
    .handler = PExpireAt,
};

// --- asking ----------------------------------------------------------------------------------

/// -2: no such key; -1: no TTL; else what is left of it, or its end. Seconds are rounded to the
/// nearest.
Status ReplyTimeToLive(CommandContext& ctx, bool moment, int64_t unit_ms) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1), kLookupNoTouch);
  int64_t answer = -2;
  if (entry != nullptr && !entry->has_expiry()) {
    answer = -1;
  } else if (entry != nullptr) {
    const int64_t at_ms = entry->expire_at_ms();
    const int64_t ms = moment ? at_ms : std::max<int64_t>(at_ms - ctx.now_ms(), 0);
    // Unsigned: the last moment there is, INT64_MAX ms, is rounded up as well.
    answer = unit_ms == 1 ? ms : static_cast<int64_t>((static_cast<uint64_t>(ms) + 500) / 1000);
  }
  ctx.reply().Integer(answer);
  return Status::Ok();
}

Status Ttl(CommandContext& ctx) { return ReplyTimeToLive(ctx, false, 1000); }
constexpr CommandSpec kTtlSpec{
    .name = "ttl",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Tells how many seconds a key has left.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .history = "2.8.0|Reply -2.",
    .handler = Ttl,
};

Status PTtl(CommandContext& ctx) { return ReplyTimeToLive(ctx, false, 1); }
constexpr CommandSpec kPTtlSpec{
    .name = "pttl",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "generic",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Tells how many milliseconds a key has left.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .history = "2.8.0|Reply -2.",
    .handler = PTtl,
};

Status ExpireTime(CommandContext& ctx) { return ReplyTimeToLive(ctx, true, 1000); }
constexpr CommandSpec kExpireTimeSpec{
    .name = "expiretime",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "generic",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Tells the Unix time in seconds at which a key ends.",
    .synopsis = "key#0",
    .handler = ExpireTime,
};

Status PExpireTime(CommandContext& ctx) { return ReplyTimeToLive(ctx, true, 1); }
constexpr CommandSpec kPExpireTimeSpec{
    .name = "pexpiretime",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "generic",
    .since = "7.0.0",
    .complexity = "O(1)",
    .summary = "Tells the Unix time in milliseconds at which a key ends.",
    .synopsis = "key#0",
    .handler = PExpireTime,
};

Status Persist(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  const bool had = entry != nullptr && entry->has_expiry();
  if (had) {
    ctx.db().SetExpiry(key, kNoExpiry);
    ctx.Changed(key, NotifyClass::kGeneric, "persist");
  }
  ctx.reply().Integer(had);
  return Status::Ok();
}
constexpr CommandSpec kPersistSpec{
    .name = "persist",
    .arity = 2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "generic",
    .since = "2.2.0",
    .complexity = "O(1)",
    .summary = "Lets a key live for ever.",
    .synopsis = "key#0",
    .handler = Persist,
};

constexpr std::array kKeyExpireSpecs = {
    kExpireSpec, kPExpireSpec,    kExpireAtSpec,    kPExpireAtSpec, kTtlSpec,
    kPTtlSpec,   kExpireTimeSpec, kPExpireTimeSpec, kPersistSpec,
};
static_assert(ValidSpecs(kKeyExpireSpecs));

}  // namespace

CommandFamily KeyExpireCommands() { return kKeyExpireSpecs; }

}  // namespace cairn

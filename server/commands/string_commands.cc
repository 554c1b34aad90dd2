// Strings as whole values: reading, replacing, and their life time. What changes part of a string
// or counts is in string_edit_commands.cc, LCS in string_lcs_commands.cc.

#include <algorithm>
#include <array>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

// --- options of SET and GETEX ----------------------------------------------------------------

enum Option : unsigned {
  kNx = 1u << 0,
  kXx = 1u << 1,
  kGet = 1u << 2,
  kKeepTtl = 1u << 3,
  kPersist = 1u << 4,
  kEx = 1u << 5,
  kPx = 1u << 6,
  kExAt = 1u << 7,
  kPxAt = 1u << 8,
};
constexpr unsigned kAnyExpiry = kEx | kPx | kExAt | kPxAt;
constexpr unsigned kLifetime = kAnyExpiry | kKeepTtl | kPersist;

/// An option word, where it is known, and what it cannot stand beside. A word may repeat: the last
/// one counts.
struct OptionRule {
  std::string_view word;
  unsigned option;
  unsigned excludes;
  bool takes_value;
};
constexpr std::array kSetRules = {
    OptionRule{"nx", kNx, kXx, false},
    OptionRule{"xx", kXx, kNx, false},
    OptionRule{"get", kGet, 0, false},
    OptionRule{"keepttl", kKeepTtl, kAnyExpiry, false},
    OptionRule{"ex", kEx, kLifetime & ~kEx, true},
    OptionRule{"px", kPx, kLifetime & ~kPx, true},
    OptionRule{"exat", kExAt, kLifetime & ~kExAt, true},
    OptionRule{"pxat", kPxAt, kLifetime & ~kPxAt, true},
};
constexpr std::array kGetExRules = {
    OptionRule{"persist", kPersist, kAnyExpiry, false},
    OptionRule{"ex", kEx, kLifetime & ~kEx, true},
    OptionRule{"px", kPx, kLifetime & ~kPx, true},
    OptionRule{"exat", kExAt, kLifetime & ~kExAt, true},
    OptionRule{"pxat", kPxAt, kLifetime & ~kPxAt, true},
};

struct StringOptions {
  unsigned given = 0;
  size_t expiry_arg = 0;  ///< index of the TTL's argument; 0 = none
};

Status ParseOptions(const CommandContext& ctx, size_t first, std::span<const OptionRule> rules,
                    StringOptions* out) {
  for (size_t i = first; i < ctx.argc(); ++i) {
    const OptionRule* found = nullptr;
    for (const OptionRule& rule : rules) {
      if (ctx.ArgIs(i, rule.word)) found = &rule;
    }
    if (found == nullptr || (out->given & found->excludes) ||
        (found->takes_value && i + 1 == ctx.argc())) {
      return RespError(resp_errors::kSyntax);
    }
    out->given |= found->option;
    if (found->takes_value) out->expiry_arg = ++i;
  }
  return Status::Ok();
}

/// The moment, in ms since the epoch, that the TTL argument means under `option`.
Status ExpiryMoment(const CommandContext& ctx, size_t arg, unsigned option, int64_t* at_ms) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t value = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(arg, &value));
  const bool seconds = option & (kEx | kExAt);
  if (value <= 0 || (seconds && value > kMax / 1000)) return InvalidExpire(ctx.spec().name);
  if (seconds) value *= 1000;
  if (option & (kEx | kPx)) {
    if (value > kMax - ctx.now_ms()) return InvalidExpire(ctx.spec().name);
    value += ctx.now_ms();
  }
  *at_ms = value;
  return Status::Ok();
}

// --- SET and its kin -------------------------------------------------------------------------

/// SET without options: the hot path, one look at the table.
Status SetPlain(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  SetKey(ctx, ctx.db(), key, ValueInput::String(ctx.arg(2), ctx.ArgBlob(2)));
  ctx.Changed(key, NotifyClass::kString, "set");
  ctx.reply().Ok();
  return Status::Ok();
}

/// SET key value with options goes out without GET, which would only cost a reader of the log.
void PropagateWithoutGet(CommandContext& ctx) {
  if (!ctx.engine().propagation.enabled()) return;
  std::vector<std::string> args;
  for (size_t i = 0; i < ctx.argc(); ++i) {
    if (i < 3 || !ctx.ArgIs(i, "get")) args.emplace_back(ctx.arg(i));
  }
  ctx.PropagateAs(std::move(args));
}

/// What SET, SETNX, SETEX and PSETEX share. Replies, but for GET, `done` or `refused`.
struct SetReplies {
  void (*done)(RespWriter&);
  void (*refused)(RespWriter&);
};

Status SetWithOptions(CommandContext& ctx, size_t value_arg, const StringOptions& options,
                      const SetReplies& replies) {
  const bool keep_ttl = options.given & kKeepTtl;
  int64_t at_ms = kNoExpiry;
  if (options.expiry_arg != 0)
    CAIRN_RETURN_IF_ERROR(ExpiryMoment(ctx, options.expiry_arg, options.given, &at_ms));

  const KeyRef key = ctx.Key(1);
  const bool get = options.given & kGet;
  if (get) {
    const Entry* shown = ReadKey(ctx, key);
    CAIRN_RETURN_IF_ERROR(ExpectString(shown));
    ReplyString(ctx, shown);
  }
  const Entry* old = ctx.db().LookupWrite(key);  // after GET a second use of the key, as in Redis
  if (((options.given & kNx) && old != nullptr) || ((options.given & kXx) && old == nullptr)) {
    if (!get) replies.refused(ctx.reply());
    return Status::Ok();
  }

  ValueInput value = ValueInput::String(ctx.arg(value_arg), ctx.ArgBlob(value_arg));
  if (keep_ttl && old != nullptr) {
    ctx.db().Replace(key, std::move(value));
  } else {
    StoreKey(ctx, ctx.db(), key, std::move(value), at_ms);
  }
  ctx.Changed(key, NotifyClass::kString, "set");
  if (at_ms != kNoExpiry) {
    ctx.Notify(NotifyClass::kGeneric, "expire", key.key, ctx.db().index());
    PropagateInstead(ctx, {"SET", key.key, ctx.arg(value_arg), "PXAT", IntegerText(at_ms)});
  } else if (get) {
    PropagateWithoutGet(ctx);
  }
  if (!get) replies.done(ctx.reply());
  return Status::Ok();
}

void ReplyOk(RespWriter& reply) { reply.Ok(); }
void ReplyNull(RespWriter& reply) { reply.Null(); }
void ReplyOne(RespWriter& reply) { reply.Integer(1); }
void ReplyZero(RespWriter& reply) { reply.Integer(0); }

Status Set(CommandContext& ctx) {
  if (ctx.argc() == 3) [[likely]]
    return SetPlain(ctx);
  StringOptions options;
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, 3, kSetRules, &options));
  return SetWithOptions(ctx, 2, options, {ReplyOk, ReplyNull});
}
/// The old value is read only with GET.
Status FindSetKeys(const CommandSpec&, std::span<const std::string_view> args,
                   std::vector<KeyPosition>* out) {
  const bool get = std::any_of(args.begin() + 3, args.end(),
                               [](std::string_view word) { return EqualsIgnoreCase(word, "GET"); });
  out->push_back({1, get ? kKeyRW | kKeyAccess | kKeyUpdate : kKeyOW | kKeyUpdate});
  return Status::Ok();
}
constexpr CommandSpec kSetSpec{
    .name = "set",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {KeySpec{KeySpec::Begin::kIndex,
                     kKeyRW | kKeyAccess | kKeyUpdate | kKeyVariableFlags,
                     1,
                     {},
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     "RW and ACCESS due to the optional `GET` argument"}},
    .find_keys = FindSetKeys,
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary =
        "Makes a key hold a string, whatever it held before; options guard, expire and return the "
        "old "
        "one.",
    .synopsis =
        "key#0 value [condition(NX|XX)@2.6.12] [GET@6.2.0] "
        "[expiration(EX=seconds:integer@2.6.12|PX=milliseconds:integer@2.6.12|EXAT=unix-time-"
        "seconds:unix-time@6.2.0|PXAT=unix-time-milliseconds:unix-time@6.2.0|KEEPTTL@6.0.0)]",
    .history =
        "2.6.12|Options `EX`, `PX`, `NX` and `XX`.\n"
        "6.0.0|Option `KEEPTTL`.\n"
        "6.2.0|Options `GET`, `EXAT` and `PXAT`.\n"
        "7.0.0|`NX` and `GET` may stand together.",
    .handler = Set,
};

Status SetNx(CommandContext& ctx) {
  return SetWithOptions(ctx, 2, {kNx, 0}, {ReplyOne, ReplyZero});
}
constexpr CommandSpec kSetNxSpec{
    .name = "setnx",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyOW | kKeyInsert)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Makes a key hold a string if the key does not exist.",
    .synopsis = "key#0 value",
    .handler = SetNx,
};

Status SetEx(CommandContext& ctx) { return SetWithOptions(ctx, 3, {kEx, 2}, {ReplyOk, ReplyNull}); }
constexpr CommandSpec kSetExSpec{
    .name = "setex",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate)},
    .group = "string",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Makes a key hold a string for so many seconds.",
    .synopsis = "key#0 seconds:integer value",
    .handler = SetEx,
};

Status PSetEx(CommandContext& ctx) {
  return SetWithOptions(ctx, 3, {kPx, 2}, {ReplyOk, ReplyNull});
}
constexpr CommandSpec kPSetExSpec{
    .name = "psetex",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate)},
    .group = "string",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Makes a key hold a string for so many milliseconds.",
    .synopsis = "key#0 milliseconds:integer value",
    .handler = PSetEx,
};

Status GetSet(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* old = ReadKey(ctx, key);
  CAIRN_RETURN_IF_ERROR(ExpectString(old));
  ReplyString(ctx, old);
  SetKey(ctx, ctx.db(), key, ValueInput::String(ctx.arg(2), ctx.ArgBlob(2)));
  ctx.Changed(key, NotifyClass::kString, "set");
  PropagateInstead(ctx, {"SET", key.key, ctx.arg(2)});
  return Status::Ok();
}
constexpr CommandSpec kGetSetSpec{
    .name = "getset",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Replaces a string and returns the one before.",
    .synopsis = "key#0 value",
    .deprecated_since = "6.2.0",
    .replaced_by = "`SET` with the `!GET` argument",
    .handler = GetSet,
};

/// MSET and MSETNX, once it is clear that they may write.
void SetAll(CommandContext& ctx) {
  for (size_t i = 1; i < ctx.argc(); i += 2) {
    const KeyRef key = ctx.Key(i);
    SetKey(ctx, ctx.db(), key, ValueInput::String(ctx.arg(i + 1), ctx.ArgBlob(i + 1)));
    ctx.Changed(key, NotifyClass::kString, "set");
  }
}

Status MSet(CommandContext& ctx) {
  if (ctx.argc() % 2 == 0) return WrongArity(ctx.spec().name);
  SetAll(ctx);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kMSetSpec{
    .name = "mset",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {KeyRange(1, -1, 2, kKeyOW | kKeyUpdate)},
    .group = "string",
    .since = "1.0.1",
    .complexity = "O(N) in the number of keys.",
    .summary = "Sets several keys at once.",
    .synopsis = "key_value{key#0 value}...",
    .tips = "request_policy:multi_shard response_policy:all_succeeded",
    .handler = MSet,
};

Status MSetNx(CommandContext& ctx) {
  if (ctx.argc() % 2 == 0) return WrongArity(ctx.spec().name);
  for (size_t i = 1; i < ctx.argc(); i += 2) {
    if (ctx.db().LookupWrite(ctx.Key(i)) != nullptr) {
      ctx.reply().Integer(0);
      return Status::Ok();
    }
  }
  SetAll(ctx);
  ctx.reply().Integer(1);
  return Status::Ok();
}
constexpr CommandSpec kMSetNxSpec{
    .name = "msetnx",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclString,
    .keys = {KeyRange(1, -1, 2, kKeyOW | kKeyInsert)},
    .group = "string",
    .since = "1.0.1",
    .complexity = "O(N) in the number of keys.",
    .summary = "Sets several keys at once, if none of them exists.",
    .synopsis = "key_value{key#0 value}...",
    .tips = "request_policy:multi_shard response_policy:agg_min",
    .handler = MSetNx,
};

// --- GET and its kin -------------------------------------------------------------------------

Status Get(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  ReplyString(ctx, entry);
  return Status::Ok();
}
constexpr CommandSpec kGetSpec{
    .name = "get",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Returns the string that a key holds.",
    .synopsis = "key#0",
    .handler = Get,
};

Status MGet(CommandContext& ctx) {
  ctx.reply().ArrayHeader(ctx.argc() - 1);
  for (size_t i = 1; i < ctx.argc(); ++i) {
    const Entry* entry = ReadKey(ctx, ctx.Key(i));
    ReplyString(ctx, entry != nullptr && entry->is_string() ? entry : nullptr);
  }
  return Status::Ok();
}
constexpr CommandSpec kMGetSpec{
    .name = "mget",
    .arity = -2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclString,
    .keys = {KeyRange(1, -1, 1, kKeyRO | kKeyAccess)},
    .group = "string",
    .since = "1.0.0",
    .complexity = "O(N) in the number of keys.",
    .summary = "Returns the strings of several keys.",
    .synopsis = "key#0...",
    .tips = "request_policy:multi_shard",
    .handler = MGet,
};

Status GetEx(CommandContext& ctx) {
  StringOptions options;
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, 2, kGetExRules, &options));
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ReadKey(ctx, key);
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  int64_t at_ms = kNoExpiry;
  if (options.expiry_arg != 0)
    CAIRN_RETURN_IF_ERROR(ExpiryMoment(ctx, options.expiry_arg, options.given, &at_ms));
  ReplyString(ctx, entry);

  if (at_ms != kNoExpiry && IsAlreadyExpired(ctx, at_ms)) {
    RemoveAlreadyExpired(ctx, key);
  } else if (at_ms != kNoExpiry) {
    ctx.db().SetExpiry(key, at_ms);
    ctx.Changed(key, NotifyClass::kGeneric, "expire");
    PropagateInstead(ctx, {"PEXPIREAT", key.key, IntegerText(at_ms)});
  } else if ((options.given & kPersist) && entry->has_expiry()) {
    ctx.db().SetExpiry(key, kNoExpiry);
    ctx.Changed(key, NotifyClass::kGeneric, "persist");
    PropagateInstead(ctx, {"PERSIST", key.key});
  }
  return Status::Ok();
}
constexpr CommandSpec kGetExSpec{
    .name = "getex",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclString,
    .keys = {KeySpec{KeySpec::Begin::kIndex,
                     kKeyRW | kKeyAccess | kKeyUpdate,
                     1,
                     {},
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     "RW and UPDATE because it changes the TTL"}},
    .group = "string",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Returns a string and may change how long its key lives.",
    .synopsis =
        "key#0 "
        "[expiration(EX=seconds:integer|PX=milliseconds:integer|EXAT=unix-time-seconds:unix-time|"
        "PXAT=unix-time-milliseconds:unix-time|PERSIST)]",
    .handler = GetEx,
};

Status GetDel(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ReadKey(ctx, key);
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  ReplyString(ctx, entry);
  if (entry == nullptr) return Status::Ok();
  const bool lazy = ctx.settings().lazyfree_lazy_user_del;
  ctx.db().Remove(key, lazy);
  ctx.Changed(key, NotifyClass::kGeneric, "del");
  PropagateInstead(ctx, {lazy ? "UNLINK" : "DEL", key.key});
  return Status::Ok();
}
constexpr CommandSpec kGetDelSpec{
    .name = "getdel",
    .arity = 2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "string",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Returns a string and removes its key.",
    .synopsis = "key#0",
    .handler = GetDel,
};

Status StrLen(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  ctx.reply().Integer(entry != nullptr ? static_cast<int64_t>(entry->StringSize()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kStrLenSpec{
    .name = "strlen",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclString,
    .keys = {OneKey(1, kKeyRO)},
    .group = "string",
    .since = "2.2.0",
    .complexity = "O(1)",
    .summary = "Tells how many bytes a string has.",
    .synopsis = "key#0",
    .handler = StrLen,
};

constexpr std::array kStringSpecs = {
    kSetSpec,    kSetNxSpec, kSetExSpec, kPSetExSpec, kGetSetSpec, kMSetSpec,
    kMSetNxSpec, kGetSpec,   kMGetSpec,  kGetExSpec,  kGetDelSpec, kStrLenSpec,
};
static_assert(ValidSpecs(kStringSpecs));

}  // namespace

CommandFamily StringCommands() { return kStringSpecs; }

}  // namespace cairn

// Hashes: what changes them. Reading is in hash_read_commands.cc.

#include <array>
#include <cmath>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/keyspace/member_edit.h"

namespace cairn {

namespace {

/// One command's change of the hash under arg(1). Requires: LookupHash said OK.
MembersEdit EditHash(CommandContext& ctx, KeyRef key, const Entry* entry,
                     const PackedLimits& limits) {
  return {ctx.keyspace(), ctx.db(), key, entry, ValueType::kHash, limits};
}

/// Finds the hash for writing; *entry = nullptr when absent.
Status LookupHash(CommandContext& ctx, KeyRef key, const Entry** entry) {
  *entry = ctx.db().LookupWrite(key);
  return ExpectType(*entry, ValueType::kHash);
}

/// Stores, calls reply() and publishes. Counts one change. Who hears of its own doing gets the
/// reply where Redis puts it: behind "new", before the event.
template <typename Reply>
void Finish(CommandContext& ctx, KeyRef key, MembersEdit& edit, std::string_view event,
            Reply&& reply) {
  const MembersEdit::Outcome outcome = edit.Commit();
  const uint32_t db = ctx.db().index();
  if (outcome == MembersEdit::Outcome::kCreated) ctx.Notify(NotifyClass::kNew, "new", key.key, db);
  reply();
  ctx.Changed(key, NotifyClass::kHash, event);
  if (outcome == MembersEdit::Outcome::kRemoved)
    ctx.Notify(NotifyClass::kGeneric, "del", key.key, db);
}

/// Sets the pairs from arg(2) on and calls reply(fields that are new).
template <typename Reply>
Status SetPairs(CommandContext& ctx, Reply&& reply) {
  if (ctx.argc() % 2 != 0) return WrongArity(ctx.spec().name);
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupHash(ctx, key, &entry));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditHash(ctx, key, entry, limits);
  int64_t created = 0;
  for (size_t i = 2; i < ctx.argc(); i += 2) created += edit.Set(ctx.arg(i), ctx.arg(i + 1));
  Finish(ctx, key, edit, "hset", [&] { reply(created); });
  ctx.AddDirty(ctx.argc() / 2 - 2);
  return Status::Ok();
}

Status HSet(CommandContext& ctx) {
  return SetPairs(ctx, [&ctx](int64_t created) { ctx.reply().Integer(created); });
}
constexpr CommandSpec kHSetSpec{
    .name = "hset",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1) a pair, so O(N) for N pairs.",
    .summary = "Sets fields of a hash.",
    .synopsis = "key#0 field_value{field value}...",
    .history = "4.0.0|More than one pair of `field` and `value`.",
    .handler = HSet,
};

Status HMSet(CommandContext& ctx) {
  return SetPairs(ctx, [&ctx](int64_t) { ctx.reply().Ok(); });
}
constexpr CommandSpec kHMSetSpec{
    .name = "hmset",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N pairs.",
    .summary = "Sets fields of a hash and replies OK.",
    .synopsis = "key#0 field_value{field value}...",
    .deprecated_since = "4.0.0",
    .replaced_by = "`HSET` with multiple field-value pairs",
    .handler = HMSet,
};

Status HSetNx(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupHash(ctx, key, &entry));
  if (entry != nullptr && MembersView(*entry).Find(ctx.arg(2))) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditHash(ctx, key, entry, limits);
  edit.Set(ctx.arg(2), ctx.arg(3));
  Finish(ctx, key, edit, "hset", [&ctx] { ctx.reply().Integer(1); });
  return Status::Ok();
}
constexpr CommandSpec kHSetNxSpec{
    .name = "hsetnx",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Sets a field of a hash unless it is there.",
    .synopsis = "key#0 field value",
    .handler = HSetNx,
};

Status HDel(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupHash(ctx, key, &entry));
  if (entry == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditHash(ctx, key, entry, limits);
  uint64_t deleted = 0;
  for (size_t i = 2; i < ctx.argc() && edit.size() > 0; ++i) deleted += edit.Erase(ctx.arg(i));
  if (deleted > 0) {
    Finish(ctx, key, edit, "hdel", [] {});  // replied below: behind all events
    ctx.AddDirty(deleted - 1);
  }
  ctx.reply().Integer(static_cast<int64_t>(deleted));
  return Status::Ok();
}
constexpr CommandSpec kHDelSpec{
    .name = "hdel",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N fields to remove.",
    .summary = "Removes fields from a hash.",
    .synopsis = "key#0 field...",
    .history = "2.4.0|More than one `field`.",
    .handler = HDel,
};

// --- counters --------------------------------------------------------------------------------

/// The text of a field, "0" when hash or field are absent. Borrows the entry or `scratch`.
std::string_view FieldText(const Entry* entry, std::string_view field, char* scratch,
                           Member* member) {
  if (entry == nullptr || !MembersView(*entry).Find(field, member)) return "0";
  return member->value.Text(scratch);
}

Status HIncrBy(CommandContext& ctx) {
  int64_t delta = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &delta));
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupHash(ctx, key, &entry));
  char scratch[kMaxInt64Chars];
  Member member;
  int64_t value = 0;
  if (!ParseInt64(FieldText(entry, ctx.arg(2), scratch, &member), &value))
    return RespError(resp_errors::kHashNotInteger);
  if (__builtin_add_overflow(value, delta, &value)) return RespError(resp_errors::kOverflow);
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditHash(ctx, key, entry, limits);
  edit.Set(ctx.arg(2), IntegerText(value));
  Finish(ctx, key, edit, "hincrby", [&] { ctx.reply().Integer(value); });
  return Status::Ok();
}
constexpr CommandSpec kHIncrBySpec{
    .name = "hincrby",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Adds to the integer in a field of a hash.",
    .synopsis = "key#0 field increment:integer",
    .handler = HIncrBy,
};

Status HIncrByFloat(CommandContext& ctx) {
  long double delta = 0, value = 0;
  if (!ParseLongDouble(ctx.arg(3), &delta)) return RespError(resp_errors::kNotFloat);
  if (std::isnan(delta) || std::isinf(delta)) return Status::Client("ERR value is NaN or Infinity");
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupHash(ctx, key, &entry));
  char scratch[kMaxInt64Chars];
  Member member;
  if (!ParseLongDouble(FieldText(entry, ctx.arg(2), scratch, &member), &value))
    return RespError(resp_errors::kHashNotFloat);
  value += delta;
  if (std::isnan(value) || std::isinf(value)) return RespError(resp_errors::kNanOrInfinity);
  const std::string text = FormatLongDouble(value);
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditHash(ctx, key, entry, limits);
  edit.Set(ctx.arg(2), text);
  Finish(ctx, key, edit, "hincrbyfloat", [&] { ctx.reply().Bulk(text); });
  // The sum goes out, not the summand: another machine might round otherwise.
  PropagateInstead(ctx, {"HSET", key.key, ctx.arg(2), text});
  return Status::Ok();
}
constexpr CommandSpec kHIncrByFloatSpec{
    .name = "hincrbyfloat",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.6.0",
    .complexity = "O(1)",
    .summary = "Adds to the number in a field of a hash.",
    .synopsis = "key#0 field increment:double",
    .handler = HIncrByFloat,
};

constexpr std::array kHashSpecs = {
    kHSetSpec, kHMSetSpec, kHSetNxSpec, kHDelSpec, kHIncrBySpec, kHIncrByFloatSpec,
};
static_assert(ValidSpecs(kHashSpecs));

}  // namespace

CommandFamily HashCommands() { return kHashSpecs; }

}  // namespace cairn

// Hashes: what only looks at them.

#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/data/member_sample.h"
#include "server/engine/key_access.h"
#include "server/engine/member_scan.h"
#include "server/engine/output_limit.h"

namespace cairn {

namespace {

/// The hash under arg(1) for reading; *entry = nullptr when absent.
Status ReadHash(CommandContext& ctx, const Entry** entry) {
  *entry = ReadKey(ctx, ctx.Key(1));
  return ExpectType(*entry, ValueType::kHash);
}

void ReplyKey(CommandContext& ctx, const Member& member) {
  ReplyElement(ctx, member.key, member.blob);
}
void ReplyValue(CommandContext& ctx, const Member& member) {
  ReplyElement(ctx, member.value, member.blob);
}

/// The value of a field, or null.
void ReplyField(CommandContext& ctx, const Entry* entry, std::string_view field) {
  Member member;
  if (entry == nullptr || !MembersView(*entry).Find(field, &member)) return ctx.reply().Null();
  ReplyValue(ctx, member);
}

Status HGet(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ReplyField(ctx, entry, ctx.arg(2));
  return Status::Ok();
}
constexpr CommandSpec kHGetSpec{
    .name = "hget",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Returns the value of a field of a hash.",
    .synopsis = "key#0 field",
    .handler = HGet,
};

Status HMGet(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) ReplyField(ctx, entry, ctx.arg(i));
  return Status::Ok();
}
constexpr CommandSpec kHMGetSpec{
    .name = "hmget",
    .arity = -3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N fields.",
    .summary = "Returns the values of fields of a hash.",
    .synopsis = "key#0 field...",
    .handler = HMGet,
};

Status HLen(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().Integer(entry ? static_cast<int64_t>(MembersView(*entry).size()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kHLenSpec{
    .name = "hlen",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO)},
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Returns how many fields a hash has.",
    .synopsis = "key#0",
    .handler = HLen,
};

Status HStrLen(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  Member member;
  char scratch[kMaxInt64Chars];
  const bool found = entry != nullptr && MembersView(*entry).Find(ctx.arg(2), &member);
  ctx.reply().Integer(found ? static_cast<int64_t>(member.value.Text(scratch).size()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kHStrLenSpec{
    .name = "hstrlen",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO)},
    .member_arg = 2,
    .group = "hash",
    .since = "3.2.0",
    .complexity = "O(1)",
    .summary = "Returns the length of the value of a field of a hash.",
    .synopsis = "key#0 field",
    .handler = HStrLen,
};

Status HExists(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().Integer(entry != nullptr && MembersView(*entry).Find(ctx.arg(2)));
  return Status::Ok();
}
constexpr CommandSpec kHExistsSpec{
    .name = "hexists",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO)},
    .member_arg = 2,
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(1)",
    .summary = "Tells whether a hash has a field.",
    .synopsis = "key#0 field",
    .handler = HExists,
};

// --- whole hashes ----------------------------------------------------------------------------

Status HKeys(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().ArrayHeader(entry ? MembersView(*entry).size() : 0);
  if (entry == nullptr) return Status::Ok();
  MembersView(*entry).ForEach([&ctx](const Member& member) {
    ReplyKey(ctx, member);
    return true;
  });
  return Status::Ok();
}
constexpr CommandSpec kHKeysSpec{
    .name = "hkeys",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N fields.",
    .summary = "Returns all fields of a hash.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output_order",
    .handler = HKeys,
};

Status HVals(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().ArrayHeader(entry ? MembersView(*entry).size() : 0);
  if (entry == nullptr) return Status::Ok();
  MembersView(*entry).ForEach([&ctx](const Member& member) {
    ReplyValue(ctx, member);
    return true;
  });
  return Status::Ok();
}
constexpr CommandSpec kHValsSpec{
    .name = "hvals",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N fields.",
    .summary = "Returns all values of a hash.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output_order",
    .handler = HVals,
};

Status HGetAll(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  ctx.reply().MapHeader(entry ? MembersView(*entry).size() : 0);
  if (entry == nullptr) return Status::Ok();
  MembersView(*entry).ForEach([&ctx](const Member& member) {
    ReplyKey(ctx, member);
    ReplyValue(ctx, member);
    return true;
  });
  return Status::Ok();
}
constexpr CommandSpec kHGetAllSpec{
    .name = "hgetall",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "hash",
    .since = "2.0.0",
    .complexity = "O(N) for N fields.",
    .summary = "Returns all fields and values of a hash.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output_order",
    .handler = HGetAll,
};

Status HScan(CommandContext& ctx) {
  MemberScan scan;
  CAIRN_RETURN_IF_ERROR(ScanMembers(ctx, ValueType::kHash, &scan));
  ReplyScanHead(ctx, scan.cursor, 2 * scan.found.size());
  for (const Member& member : scan.found) {
    ReplyKey(ctx, member);
    ReplyValue(ctx, member);
  }
  return Status::Ok();
}
constexpr CommandSpec kHScanSpec{
    .name = "hscan",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "hash",
    .since = "2.8.0",
    .complexity = "O(1) per call, O(N) for a whole walk over N fields.",
    .summary = "Walks over the fields of a hash, some at a call.",
    .synopsis = "key#0 cursor:integer [MATCH=pattern:pattern] [COUNT=count:integer]",
    .tips = "nondeterministic_output",
    .handler = HScan,
};

// --- random fields ---------------------------------------------------------------------------

constexpr int64_t kMaxLong = INT64_MAX;

/// HRANDFIELD's [count [WITHVALUES]].
Status ParseRandom(const CommandContext& ctx, int64_t* count, bool* with_values) {
  CAIRN_RETURN_IF_ERROR(ArgInRange(ctx, 2, -kMaxLong, kMaxLong, count));
  if (ctx.argc() > 4 || (ctx.argc() == 4 && !ctx.ArgIs(3, "withvalues")))
    return RespError(resp_errors::kSyntax);
  *with_values = ctx.argc() == 4;
  if (*with_values && (*count < -kMaxLong / 2 || *count > kMaxLong / 2))
    return RespError(resp_errors::kOutOfRange);
  return Status::Ok();
}

Status HRandField(CommandContext& ctx) {
  int64_t count = 0;
  bool with_values = false;
  const bool many = ctx.argc() > 2;
  if (many) CAIRN_RETURN_IF_ERROR(ParseRandom(ctx, &count, &with_values));
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadHash(ctx, &entry));
  if (!many) {
    if (entry == nullptr) {
      ctx.reply().Null();
    } else {
      ReplyKey(ctx, MembersView(*entry).Random(ctx.engine().Draw()));
    }
    return Status::Ok();
  }
  const uint64_t size = entry != nullptr && count != 0 ? MembersView(*entry).size() : 0;
  const uint64_t wanted = count < 0 ? static_cast<uint64_t>(-count) : static_cast<uint64_t>(count);
  const uint64_t shown = size == 0 ? 0 : count < 0 ? wanted : std::min(wanted, size);
  const bool pairs = with_values && ctx.reply().version() == 3;
  ctx.reply().ArrayHeader(with_values && !pairs ? 2 * shown : shown);
  if (shown == 0) return Status::Ok();
  const auto emit = [&](const Member& member) {
    if (pairs) ctx.reply().ArrayHeader(2);
    ReplyKey(ctx, member);
    if (with_values) ReplyValue(ctx, member);
  };
  const uint64_t random = ctx.engine().Draw();
  if (count < 0) {
    // However few there are, more of them may be asked for than memory holds.
    SampleWithRepeats(MembersView(*entry), shown, random, [&](const Member& member) {
      emit(member);
      return !StopsReply(ctx.engine(), ctx.session());
    });
  } else {
    SampleDistinct(MembersView(*entry), shown, random, emit);
  }
  return Status::Ok();
}
constexpr CommandSpec kHRandFieldSpec{
    .name = "hrandfield",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclHash,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "hash",
    .since = "6.2.0",
    .complexity = "O(N) for N fields returned.",
    .summary = "Returns random fields of a hash.",
    .synopsis = "key#0 [options{count:integer [WITHVALUES]}]",
    .tips = "nondeterministic_output",
    .handler = HRandField,
};

constexpr std::array kHashReadSpecs = {
    kHGetSpec,  kHMGetSpec, kHLenSpec,    kHStrLenSpec, kHExistsSpec,
    kHKeysSpec, kHValsSpec, kHGetAllSpec, kHScanSpec,   kHRandFieldSpec,
};
static_assert(ValidSpecs(kHashReadSpecs));

}  // namespace

CommandFamily HashReadCommands() { return kHashReadSpecs; }

}  // namespace cairn

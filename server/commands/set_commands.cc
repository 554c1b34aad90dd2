// Sets: members of one set. Operations on several are in set_operation_commands.cc.

#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/data/member_sample.h"
#include "server/engine/key_access.h"
#include "server/engine/member_scan.h"
#include "server/engine/output_limit.h"
#include "server/keyspace/member_edit.h"

namespace cairn {

namespace {

/// The set under arg(1) for reading; *entry = nullptr when absent.
Status ReadSet(CommandContext& ctx, const Entry** entry) {
  *entry = ReadKey(ctx, ctx.Key(1));
  return ExpectType(*entry, ValueType::kSet);
}

/// The set under `key` for writing; *entry = nullptr when absent.
Status LookupSet(CommandContext& ctx, KeyRef key, const Entry** entry) {
  *entry = ctx.db().LookupWrite(key);
  return ExpectType(*entry, ValueType::kSet);
}

MembersEdit EditSet(CommandContext& ctx, KeyRef key, const Entry* entry,
                    const PackedLimits& limits) {
  return {ctx.keyspace(), ctx.db(), key, entry, ValueType::kSet, limits};
}

/// Stores and publishes. Counts one change.
void Finish(CommandContext& ctx, KeyRef key, MembersEdit& edit, std::string_view event) {
  const MembersEdit::Outcome outcome = edit.Commit();
  const uint32_t db = ctx.db().index();
  if (outcome == MembersEdit::Outcome::kCreated) ctx.Notify(NotifyClass::kNew, "new", key.key, db);
  ctx.Changed(key, NotifyClass::kSet, event);
  if (outcome == MembersEdit::Outcome::kRemoved)
    ctx.Notify(NotifyClass::kGeneric, "del", key.key, db);
}

void ReplyMember(CommandContext& ctx, const Member& member) {
  ReplyElement(ctx, member.key, member.blob);
}

Status SAdd(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupSet(ctx, key, &entry));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditSet(ctx, key, entry, limits);
  uint64_t added = 0;
  for (size_t i = 2; i < ctx.argc(); ++i) added += edit.Insert(ctx.arg(i));
  if (added > 0) {
    Finish(ctx, key, edit, "sadd");
    ctx.AddDirty(added - 1);
  }
  ctx.reply().Integer(static_cast<int64_t>(added));
  return Status::Ok();
}
constexpr CommandSpec kSAddSpec{
    .name = "sadd",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .member_arg = 2,
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1) a member, so O(N) for N members.",
    .summary = "Adds members to a set.",
    .synopsis = "key#0 member...",
    .history = "2.4.0|More than one `member`.",
    .handler = SAdd,
};

Status SRem(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupSet(ctx, key, &entry));
  if (entry == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditSet(ctx, key, entry, limits);
  uint64_t removed = 0;
  for (size_t i = 2; i < ctx.argc() && edit.size() > 0; ++i) removed += edit.Erase(ctx.arg(i));
  if (removed > 0) {
    Finish(ctx, key, edit, "srem");
    ctx.AddDirty(removed - 1);
  }
  ctx.reply().Integer(static_cast<int64_t>(removed));
  return Status::Ok();
}
constexpr CommandSpec kSRemSpec{
    .name = "srem",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .member_arg = 2,
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members to remove.",
    .summary = "Removes members from a set.",
    .synopsis = "key#0 member...",
    .history = "2.4.0|More than one `member`.",
    .handler = SRem,
};

Status SMove(CommandContext& ctx) {
  const KeyRef from = ctx.Key(1);
  const KeyRef to = ctx.Key(2);
  const std::string_view member = ctx.arg(3);
  const Entry* source = ctx.db().LookupWrite(from);
  const Entry* target = ctx.db().LookupWrite(to);
  if (source == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(ExpectType(source, ValueType::kSet));
  CAIRN_RETURN_IF_ERROR(ExpectType(target, ValueType::kSet));
  const bool is_there = MembersView(*source).Find(member);
  if (from.key == to.key || !is_there) {
    ctx.reply().Integer(is_there);
    return Status::Ok();
  }
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit removal = EditSet(ctx, from, source, limits);
  removal.Erase(member);
  const bool gone = removal.Commit() == MembersEdit::Outcome::kRemoved;
  PublishRemoval(ctx, from, NotifyClass::kSet, "srem", gone, 1);
  MembersEdit addition = EditSet(ctx, to, ctx.db().LookupWrite(to), limits);
  if (addition.Insert(member)) Finish(ctx, to, addition, "sadd");
  ctx.reply().Integer(1);
  return Status::Ok();
}
constexpr CommandSpec kSMoveSpec{
    .name = "smove",
    .arity = 4,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyRW | kKeyInsert)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Moves a member from one set to another.",
    .synopsis = "source#0 destination#1 member",
    .handler = SMove,
};

// --- looking ---------------------------------------------------------------------------------

Status SIsMember(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadSet(ctx, &entry));
  ctx.reply().Integer(entry != nullptr && MembersView(*entry).Find(ctx.arg(2)));
  return Status::Ok();
}
constexpr CommandSpec kSIsMemberSpec{
    .name = "sismember",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO)},
    .member_arg = 2,
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Tells whether a set has a member.",
    .synopsis = "key#0 member",
    .handler = SIsMember,
};

Status SMIsMember(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadSet(ctx, &entry));
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i)
    ctx.reply().Integer(entry != nullptr && MembersView(*entry).Find(ctx.arg(i)));
  return Status::Ok();
}
constexpr CommandSpec kSMIsMemberSpec{
    .name = "smismember",
    .arity = -3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "set",
    .since = "6.2.0",
    .complexity = "O(N) for N members to look for.",
    .summary = "Tells which of some members a set has.",
    .synopsis = "key#0 member...",
    .handler = SMIsMember,
};

Status SCard(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadSet(ctx, &entry));
  ctx.reply().Integer(entry ? static_cast<int64_t>(MembersView(*entry).size()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kSCardSpec{
    .name = "scard",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Returns how many members a set has.",
    .synopsis = "key#0",
    .handler = SCard,
};

Status SMembers(CommandContext& ctx) {
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadSet(ctx, &entry));
  ctx.reply().SetHeader(entry ? MembersView(*entry).size() : 0);
  if (entry == nullptr) return Status::Ok();
  MembersView(*entry).ForEach([&ctx](const Member& member) {
    ReplyMember(ctx, member);
    return true;
  });
  return Status::Ok();
}
constexpr CommandSpec kSMembersSpec{
    .name = "smembers",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members.",
    .summary = "Returns all members of a set.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output_order",
    .handler = SMembers,
};

Status SScan(CommandContext& ctx) {
  MemberScan scan;
  CAIRN_RETURN_IF_ERROR(ScanMembers(ctx, ValueType::kSet, &scan));
  ReplyScanHead(ctx, scan.cursor, scan.found.size());
  for (const Member& member : scan.found) ReplyMember(ctx, member);
  return Status::Ok();
}
constexpr CommandSpec kSScanSpec{
    .name = "sscan",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "2.8.0",
    .complexity = "O(1) per call, O(N) for a whole walk over N members.",
    .summary = "Walks over the members of a set, some at a call.",
    .synopsis = "key#0 cursor:integer [MATCH=pattern:pattern] [COUNT=count:integer]",
    .tips = "nondeterministic_output",
    .handler = SScan,
};

// --- random members --------------------------------------------------------------------------

Status SRandMember(CommandContext& ctx) {
  int64_t count = 0;
  const bool many = ctx.argc() > 2;
  if (ctx.argc() > 3) return RespError(resp_errors::kSyntax);
  if (many) CAIRN_RETURN_IF_ERROR(ArgInRange(ctx, 2, -INT64_MAX, INT64_MAX, &count));
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(ReadSet(ctx, &entry));
  if (!many) {
    if (entry == nullptr) {
      ctx.reply().Null();
    } else {
      ReplyMember(ctx, MembersView(*entry).Random(ctx.engine().Draw()));
    }
    return Status::Ok();
  }
  if (entry == nullptr || count == 0) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  const MembersView view(*entry);
  const auto emit = [&ctx](const Member& member) { ReplyMember(ctx, member); };
  const uint64_t random = ctx.engine().Draw();
  if (count < 0) {
    ctx.reply().ArrayHeader(static_cast<uint64_t>(-count));
    // However few there are, more of them may be asked for than memory holds.
    SampleWithRepeats(view, static_cast<uint64_t>(-count), random, [&](const Member& member) {
      emit(member);
      return !StopsReply(ctx.engine(), ctx.session());
    });
  } else {
    const uint64_t shown = std::min(static_cast<uint64_t>(count), view.size());
    ctx.reply().ArrayHeader(shown);
    SampleDistinct(view, shown, random, emit);
  }
  return Status::Ok();
}
constexpr CommandSpec kSRandMemberSpec{
    .name = "srandmember",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1) without count, else O(N) for the absolute value N of count.",
    .summary = "Returns random members of a set.",
    .synopsis = "key#0 [count:integer@2.6.0]",
    .tips = "nondeterministic_output",
    .history = "2.6.0|The optional `count`.",
    .handler = SRandMember,
};

/// Takes the whole set: it goes out as the removal of the key.
void PopAll(CommandContext& ctx, KeyRef key, const Entry& entry) {
  const MembersView view(entry);
  const uint64_t size = view.size();
  ctx.Notify(NotifyClass::kSet, "spop", key.key, ctx.db().index());
  ctx.reply().SetHeader(size);
  view.ForEach([&ctx](const Member& member) {
    ReplyMember(ctx, member);
    return true;
  });
  ctx.db().Remove(key, ctx.settings().lazyfree_lazy_server_del);
  ctx.Notify(NotifyClass::kGeneric, "del", key.key, ctx.db().index());
  ctx.TouchWatchers(ctx.db().index(), key.key);
  ctx.AddDirty(size);
  PropagateInstead(ctx, {"DEL", key.key});
}

Status PopMany(CommandContext& ctx) {
  int64_t count = 0;
  if (!ParseInt64(ctx.arg(2), &count) || count < 0) return RespError(resp_errors::kMustBePositive);
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupSet(ctx, key, &entry));
  if (entry == nullptr || count == 0) {
    ctx.reply().SetHeader(0);
    return Status::Ok();
  }
  if (static_cast<uint64_t>(count) >= MembersView(*entry).size()) {
    PopAll(ctx, key, *entry);
    return Status::Ok();
  }
  // Which ones comes first: taking them out moves the others.
  std::vector<std::string> chosen;
  char scratch[kMaxInt64Chars];
  SampleDistinct(MembersView(*entry), static_cast<uint64_t>(count), ctx.engine().Draw(),
                 [&](const Member& member) { chosen.emplace_back(member.key.Text(scratch)); });
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditSet(ctx, key, entry, limits);
  ctx.Notify(NotifyClass::kSet, "spop", key.key, ctx.db().index());
  ctx.reply().SetHeader(chosen.size());
  for (const std::string& member : chosen) {
    edit.Erase(member);
    ctx.reply().Bulk(member);
    PropagateInstead(ctx, {"SREM", key.key, member});
  }
  edit.Commit();  // some are left
  ctx.TouchWatchers(ctx.db().index(), key.key);
  ctx.AddDirty(chosen.size());
  return Status::Ok();
}

Status SPop(CommandContext& ctx) {
  if (ctx.argc() > 3) return RespError(resp_errors::kSyntax);
  if (ctx.argc() == 3) return PopMany(ctx);
  const KeyRef key = ctx.Key(1);
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(LookupSet(ctx, key, &entry));
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  char scratch[kMaxInt64Chars];
  const std::string member(MembersView(*entry).Random(ctx.engine().Draw()).key.Text(scratch));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MembersEdit edit = EditSet(ctx, key, entry, limits);
  edit.Erase(member);
  const bool gone = edit.Commit() == MembersEdit::Outcome::kRemoved;
  ctx.Notify(NotifyClass::kSet, "spop", key.key, ctx.db().index());
  ctx.reply().Bulk(member);  // between the two events, for who hears of its own doing
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, ctx.db().index());
  ctx.TouchWatchers(ctx.db().index(), key.key);
  ctx.AddDirty(1);
  PropagateInstead(ctx, {"SREM", key.key, member});
  return Status::Ok();
}
constexpr CommandSpec kSPopSpec{
    .name = "spop",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(1) without count, else O(N) for the value N of count.",
    .summary = "Takes random members out of a set and returns them.",
    .synopsis = "key#0 [count:integer@3.2.0]",
    .tips = "nondeterministic_output",
    .history = "3.2.0|The `count` argument.",
    .handler = SPop,
};

constexpr std::array kSetSpecs = {
    kSAddSpec,  kSRemSpec,     kSMoveSpec, kSIsMemberSpec,   kSMIsMemberSpec,
    kSCardSpec, kSMembersSpec, kSScanSpec, kSRandMemberSpec, kSPopSpec,
};
static_assert(ValidSpecs(kSetSpecs));

}  // namespace

CommandFamily SetCommands() { return kSetSpecs; }

}  // namespace cairn

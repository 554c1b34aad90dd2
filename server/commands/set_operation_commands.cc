// Sets: intersection, union and difference of several, returned, counted or stored.

#include <algorithm>
#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

uint64_t HashSeed(CommandContext& ctx) { return ctx.keyspace().value_home()->hash_seed; }

/// The sets under arguments `from` .. `to` - 1; nullptr where the key is absent. Entries stay valid
/// until one of these keys is changed.
Status ReadSets(CommandContext& ctx, size_t from, size_t to, std::vector<const Entry*>* sets) {
  for (size_t i = from; i < to; ++i) {
    const Entry* entry = ReadKey(ctx, ctx.Key(i));
    CAIRN_RETURN_IF_ERROR(ExpectType(entry, ValueType::kSet));
    sets->push_back(entry);
  }
  return Status::Ok();
}

void ReplyMembers(CommandContext& ctx, const MembersView& view) {
  ctx.reply().SetHeader(view.size());
  view.ForEach([&ctx](const Member& member) {
    ReplyElement(ctx, member.key, member.blob);
    return true;
  });
}

/// Puts the result under arg(1), or removes that key when there is none; replies its size, ahead of
/// the event for who hears of its own doing. source_missing: one of SINTERSTORE's sets is not
/// there; the reply comes last then.
void StoreResult(CommandContext& ctx, MemberBuilder& result, std::string_view event,
                 bool source_missing = false) {
  const KeyRef key = ctx.Key(1);
  const uint64_t size = result.size();
  if (size > 0) {
    SetKey(ctx, ctx.db(), key, result.TakeValue());
    // Caches hear of it ahead of the reply, listeners behind.
    ctx.TouchWatchers(ctx.session().db, key.key);
    ctx.reply().Integer(static_cast<int64_t>(size));
    ctx.AddDirty(1);
    ctx.Notify(NotifyClass::kSet, event, key.key, ctx.session().db);
    return;
  }
  if (!source_missing) ctx.reply().Integer(0);
  RemoveTarget(ctx, key, ctx.settings().lazyfree_lazy_server_del);
  if (source_missing) ctx.reply().Integer(0);
}

/// A set that is asked for the members of another.
struct AskedSet {
  AskedSet(const Entry& entry, uint64_t seed) : view(entry), index(view.NewIndex(seed)) {}
  bool Holds(std::string_view member) { return view.Find(member, &index); }

  MembersView view;
  ListpackIndex index;
};

/// Calls take(const Member&, text) -> bool goes on for each member that all `sets` have. Cost: the
/// smallest set times their number.
template <typename Take>
void Intersect(CommandContext& ctx, std::vector<const Entry*> sets, Take&& take) {
  if (std::find(sets.begin(), sets.end(), nullptr) != sets.end()) return;
  std::stable_sort(sets.begin(), sets.end(), [](const Entry* a, const Entry* b) {
    return MembersView(*a).size() < MembersView(*b).size();
  });
  std::vector<AskedSet> others;
  for (size_t i = 1; i < sets.size(); ++i) others.emplace_back(*sets[i], HashSeed(ctx));
  char scratch[kMaxInt64Chars];
  MembersView(*sets[0]).ForEach([&](const Member& member) {
    const std::string_view text = member.key.Text(scratch);
    for (AskedSet& other : others) {
      if (!other.Holds(text)) return true;
    }
    return static_cast<bool>(take(member, text));
  });
}

Status SInter(CommandContext& ctx) {
  std::vector<const Entry*> sets;
  CAIRN_RETURN_IF_ERROR(ReadSets(ctx, 1, ctx.argc(), &sets));
  const ReplyBuffer::Mark mark = ctx.reply().BeginDeferred();
  size_t count = 0;
  Intersect(ctx, std::move(sets), [&](const Member& member, std::string_view) {
    ReplyElement(ctx, member.key, member.blob);
    ++count;
    return true;
  });
  ctx.reply().EndDeferredSet(mark, count);
  return Status::Ok();
}
constexpr CommandSpec kSInterSpec{
    .name = "sinter",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {KeyRange(1, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N*M) at worst for M sets the smallest of which has N members.",
    .summary = "Returns the members that all of some sets have.",
    .synopsis = "key#0...",
    .tips = "nondeterministic_output_order",
    .handler = SInter,
};

Status SInterStore(CommandContext& ctx) {
  std::vector<const Entry*> sets;
  CAIRN_RETURN_IF_ERROR(ReadSets(ctx, 2, ctx.argc(), &sets));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MemberBuilder result(*ctx.keyspace().value_home(), ValueType::kSet, limits);
  const bool missing = std::find(sets.begin(), sets.end(), nullptr) != sets.end();
  Intersect(ctx, std::move(sets), [&](const Member&, std::string_view text) {
    result.Insert(text);
    return true;
  });
  StoreResult(ctx, result, "sinterstore", missing);
  return Status::Ok();
}
constexpr CommandSpec kSInterStoreSpec{
    .name = "sinterstore",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate), KeyRange(2, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N*M) at worst for M sets the smallest of which has N members.",
    .summary = "Stores the members that all of some sets have.",
    .synopsis = "destination#0 key#1...",
    .handler = SInterStore,
};

Status SInterCard(CommandContext& ctx) {
  int64_t keys = 0;
  if (!ParseInt64(ctx.arg(1), &keys) || keys < 1)
    return Status::Client("ERR numkeys should be greater than 0");
  if (static_cast<uint64_t>(keys) > ctx.argc() - 2) return RespError(resp_errors::kTooManyKeys);
  const size_t after = 2 + static_cast<size_t>(keys);
  int64_t limit = 0;
  for (size_t i = after; i < ctx.argc(); i += 2) {
    if (!ctx.ArgIs(i, "limit") || i + 1 == ctx.argc()) return RespError(resp_errors::kSyntax);
    if (!ParseInt64(ctx.arg(i + 1), &limit) || limit < 0)
      return Status::Client("ERR LIMIT can't be negative");
  }
  std::vector<const Entry*> sets;
  CAIRN_RETURN_IF_ERROR(ReadSets(ctx, 2, after, &sets));
  int64_t count = 0;
  Intersect(ctx, std::move(sets),
            [&](const Member&, std::string_view) { return ++count != limit; });
  ctx.reply().Integer(count);
  return Status::Ok();
}
constexpr CommandSpec kSInterCardSpec{
    .name = "sintercard",
    .arity = -3,
    .flags = kCmdReadonly | kCmdMovableKeys,
    .acl = kAclSet,
    .keys = {KeySpec{
        KeySpec::Begin::kIndex, kKeyRO | kKeyAccess, 1, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}}},
    .group = "set",
    .since = "7.0.0",
    .complexity = "O(N*M) at worst for M sets the smallest of which has N members.",
    .summary = "Counts the members that all of some sets have, up to a limit.",
    .synopsis = "numkeys:integer key#0... [LIMIT=limit:integer]",
    .handler = SInterCard,
};

// --- union and difference --------------------------------------------------------------------

void Unite(CommandContext&, const std::vector<const Entry*>& sets, MemberBuilder* result) {
  char scratch[kMaxInt64Chars];
  for (const Entry* entry : sets) {
    if (entry == nullptr) continue;
    MembersView(*entry).ForEach([&](const Member& member) {
      result->Insert(member.key.Text(scratch));
      return true;
    });
  }
}

/// The members of the first that no other has: by asking the others for each of its members, or by
/// taking theirs out of a copy, whichever is less work. Cost: O(members of all sets).
void Subtract(CommandContext& ctx, const std::vector<const Entry*>& sets, MemberBuilder* result) {
  if (sets[0] == nullptr) return;
  std::vector<AskedSet> others;
  uint64_t other_members = 0;
  for (size_t i = 1; i < sets.size(); ++i) {
    if (sets[i] == sets[0]) return;
    if (sets[i] == nullptr) continue;
    others.emplace_back(*sets[i], HashSeed(ctx));
    other_members += others.back().view.size();
  }
  const MembersView first(*sets[0]);
  const bool ask = first.size() * others.size() / 2 <= first.size() + other_members;
  char scratch[kMaxInt64Chars];
  first.ForEach([&](const Member& member) {
    const std::string_view text = member.key.Text(scratch);
    for (size_t i = 0; ask && i < others.size(); ++i) {
      if (others[i].Holds(text)) return true;
    }
    result->Insert(text);
    return true;
  });
  for (size_t i = 0; !ask && i < others.size(); ++i) {
    others[i].view.ForEach([&](const Member& member) {
      result->Erase(member.key.Text(scratch));
      return result->size() > 0;
    });
  }
}

using Combine = void (*)(CommandContext& ctx, const std::vector<const Entry*>& sets,
                         MemberBuilder* result);

Status CombineAndReply(CommandContext& ctx, Combine combine) {
  std::vector<const Entry*> sets;
  CAIRN_RETURN_IF_ERROR(ReadSets(ctx, 1, ctx.argc(), &sets));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MemberBuilder result(*ctx.keyspace().value_home(), ValueType::kSet, limits);
  combine(ctx, sets, &result);
  ReplyMembers(ctx, result.View());
  return Status::Ok();
}

Status CombineAndStore(CommandContext& ctx, Combine combine, std::string_view event) {
  std::vector<const Entry*> sets;
  CAIRN_RETURN_IF_ERROR(ReadSets(ctx, 2, ctx.argc(), &sets));
  const PackedLimits limits = LimitsOf(ctx.settings());
  MemberBuilder result(*ctx.keyspace().value_home(), ValueType::kSet, limits);
  combine(ctx, sets, &result);
  StoreResult(ctx, result, event);
  return Status::Ok();
}

Status SUnion(CommandContext& ctx) { return CombineAndReply(ctx, Unite); }
constexpr CommandSpec kSUnionSpec{
    .name = "sunion",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {KeyRange(1, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members in all sets together.",
    .summary = "Returns the members that any of some sets has.",
    .synopsis = "key#0...",
    .tips = "nondeterministic_output_order",
    .handler = SUnion,
};

Status SUnionStore(CommandContext& ctx) { return CombineAndStore(ctx, Unite, "sunionstore"); }
constexpr CommandSpec kSUnionStoreSpec{
    .name = "sunionstore",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), KeyRange(2, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members in all sets together.",
    .summary = "Stores the members that any of some sets has.",
    .synopsis = "destination#0 key#1...",
    .handler = SUnionStore,
};

Status SDiff(CommandContext& ctx) { return CombineAndReply(ctx, Subtract); }
constexpr CommandSpec kSDiffSpec{
    .name = "sdiff",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSet,
    .keys = {KeyRange(1, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members in all sets together.",
    .summary = "Returns the members of a set that no other of some sets has.",
    .synopsis = "key#0...",
    .tips = "nondeterministic_output_order",
    .handler = SDiff,
};

Status SDiffStore(CommandContext& ctx) { return CombineAndStore(ctx, Subtract, "sdiffstore"); }
constexpr CommandSpec kSDiffStoreSpec{
    .name = "sdiffstore",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), KeyRange(2, -1, 1, kKeyRO | kKeyAccess)},
    .group = "set",
    .since = "1.0.0",
    .complexity = "O(N) for N members in all sets together.",
    .summary = "Stores the members of a set that no other of some sets has.",
    .synopsis = "destination#0 key#1...",
    .handler = SDiffStore,
};

constexpr std::array kSetOperationSpecs = {
    kSInterSpec,      kSInterStoreSpec, kSInterCardSpec, kSUnionSpec,
    kSUnionStoreSpec, kSDiffSpec,       kSDiffStoreSpec,
};
static_assert(ValidSpecs(kSetOperationSpecs));

}  // namespace

CommandFamily SetOperationCommands() { return kSetOperationSpecs; }

}  // namespace cairn

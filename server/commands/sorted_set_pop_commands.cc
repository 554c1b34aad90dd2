// Sorted sets: taking members from either end, at once or after waiting, and drawing random ones.

#include <array>
#include <limits>
#include <unordered_set>

#include "server/base/strings.h"
#include "server/engine/blocking.h"
#include "server/engine/key_access.h"
#include "server/engine/multi_pop.h"
#include "server/engine/output_limit.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

// --- taking from the ends --------------------------------------------------------------------

/// Takes `n` members from one end, replying each, in pairs if `nested`, and publishes what Redis
/// does.
void PopMembers(CommandContext& ctx, KeyRef key, const Entry* entry, bool from_max, uint64_t n,
                bool nested) {
  RespWriter& reply = ctx.reply();
  const SortedSetReader reader(*entry);
  const uint64_t size = reader.size();
  // Ahead of the members, for who hears of its own doing.
  const uint32_t db = ctx.db().index();
  ctx.Notify(NotifyClass::kSortedSet, from_max ? "zpopmax" : "zpopmin", key.key, db);
  ctx.TouchWatchers(db, key.key);
  reader.Visit(from_max ? size - 1 : 0, n, from_max,
               [&reply, nested](std::string_view member, double score) {
                 if (nested) reply.ArrayHeader(2);
                 reply.Bulk(member);
                 reply.Double(score);
                 return true;
               });
  const bool gone = n == size;
  if (gone) {
    ctx.db().Remove(key, /*lazy=*/false);
  } else {
    SortedSetEdit set(ctx, key, entry);
    set.EraseRange({from_max ? size - n : 0, n});
    set.Commit();
  }
  ctx.AddDirty(n);
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, db);
}

Status Pop(CommandContext& ctx, bool from_max) {
  if (ctx.argc() > 3) return RespError(resp_errors::kSyntax);
  int64_t count = 1;
  if (ctx.argc() == 3 && (!ParseInt64(ctx.arg(2), &count) || count < 0))
    return RespError(resp_errors::kMustBePositive);

  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  if (entry == nullptr || count == 0) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  const uint64_t n = std::min(static_cast<uint64_t>(count), SortedSetReader(*entry).size());
  const bool nested = ctx.reply().version() == 3 && ctx.argc() == 3;
  ctx.reply().ArrayHeader(nested ? n : n * 2);
  PopMembers(ctx, key, entry, from_max, n, nested);
  return Status::Ok();
}

Status ZPopMin(CommandContext& ctx) { return Pop(ctx, /*from_max=*/false); }
constexpr CommandSpec kZPopMinSpec{
    .name = "zpopmin",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "5.0.0",
    .complexity =
        "O(log(N)*M) with N being the number of elements in the sorted set, and M being "
        "the number of elements popped.",
    .summary = "Takes the members with the lowest scores and returns them.",
    .synopsis = "key#0 [count:integer]",
    .handler = ZPopMin,
};

Status ZPopMax(CommandContext& ctx) { return Pop(ctx, /*from_max=*/true); }
constexpr CommandSpec kZPopMaxSpec{
    .name = "zpopmax",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "5.0.0",
    .complexity =
        "O(log(N)*M) with N being the number of elements in the sorted set, and M being "
        "the number of elements popped.",
    .summary = "Takes the members with the highest scores and returns them.",
    .synopsis = "key#0 [count:integer]",
    .handler = ZPopMax,
};

// --- from the first of several ---------------------------------------------------------------

constexpr std::string_view PopName(bool from_min) { return from_min ? "ZPOPMIN" : "ZPOPMAX"; }

/// Replies the key and pairs and states the effect as ZPOPMIN or ZPOPMAX with a count.
void PopCounted(CommandContext& ctx, KeyRef key, const Entry* entry, bool from_min,
                uint64_t count) {
  const uint64_t n = std::min(count, SortedSetReader(*entry).size());
  ctx.reply().ArrayHeader(2);
  ctx.reply().Bulk(key.key);
  ctx.reply().ArrayHeader(n);
  PopMembers(ctx, key, entry, /*from_max=*/!from_min, n, /*nested=*/true);
  PropagateInstead(ctx, {PopName(from_min), key.key, IntegerText(static_cast<int64_t>(n))});
}

void PopOne(CommandContext& ctx, KeyRef key, const Entry* entry, bool from_min) {
  ctx.reply().ArrayHeader(3);
  ctx.reply().Bulk(key.key);
  PopMembers(ctx, key, entry, /*from_max=*/!from_min, 1, /*nested=*/false);
  PropagateInstead(ctx, {PopName(from_min), key.key});
}

constexpr PopKind kSortedSetPop{.type = ValueType::kSortedSet,
                                .first_end = "MIN",
                                .second_end = "MAX",
                                .pop_one = PopOne,
                                .pop_counted = PopCounted};

Status ZMPop(CommandContext& ctx) { return PopFromFirst(ctx, kSortedSetPop); }
constexpr CommandSpec kZMPopSpec{
    .name = "zmpop",
    .arity = -4,
    .flags = kCmdWrite | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {CountedKeys(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "7.0.0",
    .complexity =
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of "
        "elements in the sorted set, and M being the number of elements popped.",
    .summary = "Takes members from an end of the first of several sorted sets that is not empty.",
    .synopsis = "numkeys:integer key#0... where(MIN|MAX) [COUNT=count:integer]",
    .handler = ZMPop,
};

// --- waiting ---------------------------------------------------------------------------------

Status BZPopMin(CommandContext& ctx) { return BlockingPop<kSortedSetPop, /*kFirstEnd=*/true>(ctx); }
constexpr CommandSpec kBZPopMinSpec{
    .name = "bzpopmin",
    .arity = -3,
    .flags = kCmdWrite | kCmdNoScript | kCmdBlocking | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {KeyRange(1, -2, 1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "5.0.0",
    .complexity = "O(log(N)) with N being the number of elements in the sorted set.",
    .summary =
        "Takes the member with the lowest score of the first set that is not empty, and "
        "waits while there is none.",
    .synopsis = "key#0... timeout:double",
    .history = "6.0.0|Fractions of a second.",
    .handler = BZPopMin,
};

Status BZPopMax(CommandContext& ctx) {
  return BlockingPop<kSortedSetPop, /*kFirstEnd=*/false>(ctx);
}
constexpr CommandSpec kBZPopMaxSpec{
    .name = "bzpopmax",
    .arity = -3,
    .flags = kCmdWrite | kCmdNoScript | kCmdBlocking | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {KeyRange(1, -2, 1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "5.0.0",
    .complexity = "O(log(N)) with N being the number of elements in the sorted set.",
    .summary =
        "Takes the member with the highest score of the first set that is not empty, and "
        "waits while there is none.",
    .synopsis = "key#0... timeout:double",
    .history = "6.0.0|Fractions of a second.",
    .handler = BZPopMax,
};

Status BZMPop(CommandContext& ctx) { return BlockingMultiPop<kSortedSetPop>(ctx); }
constexpr CommandSpec kBZMPopSpec{
    .name = "bzmpop",
    .arity = -5,
    .flags = kCmdWrite | kCmdBlocking | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {CountedKeys(2, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "sorted-set",
    .since = "7.0.0",
    .complexity =
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of "
        "elements in the sorted set, and M being the number of elements popped.",
    .summary =
        "Takes members from the first of several sorted sets that is not empty, and waits "
        "while all are.",
    .synopsis = "timeout:double numkeys:integer key#0... where(MIN|MAX) [COUNT=count:integer]",
    .handler = BZMPop,
};

// --- random members --------------------------------------------------------------------------

uint64_t RandomBelow(CommandContext& ctx, uint64_t limit) { return ctx.engine().Draw() % limit; }

/// `n` different ranks below `size`, in random order (Floyd's algorithm, then what it drew
/// shuffled).
std::vector<uint64_t> DistinctRanks(CommandContext& ctx, uint64_t size, uint64_t n) {
  std::unordered_set<uint64_t> chosen;
  std::vector<uint64_t> ranks;
  for (uint64_t limit = size - n; limit < size; ++limit) {
    uint64_t rank = RandomBelow(ctx, limit + 1);
    if (!chosen.insert(rank).second) chosen.insert(rank = limit);
    ranks.push_back(rank);
  }
  for (size_t i = ranks.size(); i > 1; --i) std::swap(ranks[i - 1], ranks[RandomBelow(ctx, i)]);
  return ranks;
}

void ReplyRank(const SortedSetReader& set, uint64_t rank, PairReply& reply) {
  set.Visit(rank, 1, /*reverse=*/false, [&reply](std::string_view member, double score) {
    reply.Add(member, score);
    return false;
  });
}

/// `count` different members, or with a negative one as many draws that may repeat.
void DrawMembers(CommandContext& ctx, const SortedSetReader& set, int64_t count, bool with_scores) {
  const uint64_t size = set.size();
  if (count < 0) {
    const uint64_t draws = uint64_t{0} - static_cast<uint64_t>(count);
    PairReply reply(ctx.reply(), with_scores, draws);
    for (uint64_t i = 0; i < draws; ++i) {
      ReplyRank(set, RandomBelow(ctx, size), reply);
      // However few there are, more of them may be asked for than memory holds.
      if (StopsReply(ctx.engine(), ctx.session())) return;
    }
    return;
  }
  const auto wanted = static_cast<uint64_t>(count);
  if (wanted >= size) {
    PairReply reply(ctx.reply(), with_scores, size);
    set.Visit(0, size, /*reverse=*/false, [&reply](std::string_view member, double score) {
      reply.Add(member, score);
      return true;
    });
    return;
  }
  PairReply reply(ctx.reply(), with_scores, wanted);
  if (set.big() == nullptr) {
    // One walk that takes each with the chance that fills the rest: ranks have to be walked to.
    uint64_t left = size, still = wanted;
    set.Visit(0, size, /*reverse=*/false, [&](std::string_view member, double score) {
      if (RandomBelow(ctx, left--) < still) {
        reply.Add(member, score);
        --still;
      }
      return still > 0;
    });
    return;
  }
  for (uint64_t rank : DistinctRanks(ctx, size, wanted)) ReplyRank(set, rank, reply);
}

Status ZRandMember(CommandContext& ctx) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t count = 1;
  const bool has_count = ctx.argc() >= 3;
  const bool with_scores = ctx.argc() == 4;
  if (has_count) {
    CAIRN_RETURN_IF_ERROR(ArgInRange(ctx, 2, -kMax, kMax, &count));
    if (ctx.argc() > 4 || (with_scores && !ctx.ArgIs(3, "withscores")))
      return RespError(resp_errors::kSyntax);
    if (with_scores && (count < -kMax / 2 || count > kMax / 2))
      return RespError(resp_errors::kOutOfRange);
  }

  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  if (!has_count && entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  if (entry == nullptr || count == 0) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  const SortedSetReader set(*entry);
  if (has_count) {
    DrawMembers(ctx, set, count, with_scores);
    return Status::Ok();
  }
  set.Visit(RandomBelow(ctx, set.size()), 1, false, [&ctx](std::string_view member, double) {
    ctx.reply().Bulk(member);
    return false;
  });
  return Status::Ok();
}
constexpr CommandSpec kZRandMemberSpec{
    .name = "zrandmember",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity = "O(N) where N is the number of elements returned",
    .summary = "Returns random members.",
    .synopsis = "key#0 [options{count:integer [WITHSCORES]}]",
    .tips = "nondeterministic_output",
    .handler = ZRandMember,
};

constexpr std::array kSpecs = {kZPopMinSpec,  kZPopMaxSpec, kZMPopSpec,      kBZPopMinSpec,
                               kBZPopMaxSpec, kBZMPopSpec,  kZRandMemberSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily SortedSetPopCommands() { return kSpecs; }

}  // namespace cairn

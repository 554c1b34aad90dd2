// Sorted sets: reading, storing and removing ranges by rank, score and member bytes.

#include <array>
#include <span>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

enum class RangeBy : uint8_t { kAuto, kRank, kScore, kLex };
enum class Direction : uint8_t { kAuto, kForward, kReverse };

/// One question for a range, from ZRANGE or one of its older names.
struct RangeQuery {
  RangeBy by = RangeBy::kAuto;
  Direction direction = Direction::kAuto;
  bool with_scores = false;
  int64_t offset = 0;
  int64_t limit = -1;
  int64_t start = 0, stop = 0;  ///< kRank
  ScoreRange scores = {};
  LexRange members = {};
  bool reverse() const { return direction == Direction::kReverse; }
};

Status ParseRangeOptions(const CommandContext& ctx, size_t first, bool store, RangeQuery* query) {
  for (size_t i = first; i < ctx.argc(); ++i) {
    if (!store && ctx.ArgIs(i, "withscores")) {
      query->with_scores = true;
    } else if (ctx.ArgIs(i, "limit") && i + 2 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &query->offset));
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 2, &query->limit));
      i += 2;
    } else if (query->direction == Direction::kAuto && ctx.ArgIs(i, "rev")) {
      query->direction = Direction::kReverse;
    } else if (query->by == RangeBy::kAuto && ctx.ArgIs(i, "bylex")) {
      query->by = RangeBy::kLex;
    } else if (query->by == RangeBy::kAuto && ctx.ArgIs(i, "byscore")) {
      query->by = RangeBy::kScore;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  if (query->by == RangeBy::kAuto) query->by = RangeBy::kRank;
  if (query->limit != -1 && query->by == RangeBy::kRank) {
    return Status::Client(
        "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
  }
  if (query->with_scores && query->by == RangeBy::kLex) {
    return Status::Client("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
  }
  return Status::Ok();
}

/// Reads the two bounds from argument `first` on, in the order that the direction asks for.
Status ParseBounds(const CommandContext& ctx, size_t first, bool swapped, RangeQuery* query) {
  const std::string_view low = ctx.arg(first + swapped), high = ctx.arg(first + !swapped);
  switch (query->by) {
    case RangeBy::kScore:
      if (ScoreRange::Parse(low, high, &query->scores)) return Status::Ok();
      return RespError(resp_errors::kMinMaxNotFloat);
    case RangeBy::kLex:
      if (LexRange::Parse(low, high, &query->members)) return Status::Ok();
      return RespError(resp_errors::kMinMaxNotString);
    default:
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(first, &query->start));
      return ctx.ArgInt64(first + 1, &query->stop);
  }
}

/// Indices as Redis reads them, negative ones from the end, as ranks in the asked direction.
RankRange ClampRanks(int64_t start, int64_t stop, uint64_t size) {
  const auto length = static_cast<int64_t>(size);
  if (start < 0) start = std::max<int64_t>(start + length, 0);
  if (stop < 0) stop += length;
  if (start > stop || start >= length) return {};
  stop = std::min(stop, length - 1);
  return {static_cast<uint64_t>(start), static_cast<uint64_t>(stop - start + 1)};
}

/// The ranks a query means, counted from the lowest score.
RankRange Resolve(const SortedSetReader& set, const RangeQuery& query) {
  RankRange ranks;
  if (query.by == RangeBy::kRank) {
    ranks = ClampRanks(query.start, query.stop, set.size());
    if (query.reverse() && ranks.count != 0) ranks.from = set.size() - ranks.from - ranks.count;
    return ranks;
  }
  if (query.offset < 0) return {};
  const auto skipped = static_cast<uint64_t>(query.offset);
  const bool to_last = query.reverse() || query.limit < 0;
  const uint64_t most = to_last ? UINT64_MAX : skipped + static_cast<uint64_t>(query.limit);
  ranks = query.by == RangeBy::kScore ? set.Range(query.scores, most)
                                      : set.Range(query.members, query.reverse());
  if (skipped >= ranks.count) return {};
  if (!query.reverse()) ranks.from += skipped;
  ranks.count -= skipped;
  if (query.limit >= 0 && static_cast<uint64_t>(query.limit) < ranks.count) {
    const auto kept = static_cast<uint64_t>(query.limit);
    if (query.reverse()) ranks.from += ranks.count - kept;
    ranks.count = kept;
  }
  return ranks;
}

uint64_t FirstRank(const RankRange& ranks, bool reverse) {
  return reverse && ranks.count != 0 ? ranks.from + ranks.count - 1 : ranks.from;
}

Status ReadRange(CommandContext& ctx, RangeQuery query) {
  CAIRN_RETURN_IF_ERROR(ParseRangeOptions(ctx, 4, /*store=*/false, &query));
  const bool swapped = query.reverse() && query.by != RangeBy::kRank;
  CAIRN_RETURN_IF_ERROR(ParseBounds(ctx, 2, swapped, &query));

  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  if (entry == nullptr) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  const SortedSetReader set(*entry);
  const RankRange ranks = Resolve(set, query);
  PairReply reply(ctx.reply(), query.with_scores, ranks.count);
  set.Visit(FirstRank(ranks, query.reverse()), ranks.count, query.reverse(),
            [&reply](std::string_view member, double score) {
              reply.Add(member, score);
              return true;
            });
  return Status::Ok();
}

// --- reading ---------------------------------------------------------------------------------

Status ZRange(CommandContext& ctx) { return ReadRange(ctx, RangeQuery{}); }
constexpr CommandSpec kZRangeSpec{
    .name = "zrange",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements returned.",
    .summary = "Returns a range of members by rank, score or bytes, from either side.",
    .synopsis =
        "key#0 start stop [sortby(BYSCORE|BYLEX)@6.2.0] [REV@6.2.0] "
        "[LIMIT=offset_count{offset:integer count:integer}@6.2.0] [WITHSCORES]",
    .history = "6.2.0|Options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.",
    .handler = ZRange,
};

Status ZRevRange(CommandContext& ctx) {
  return ReadRange(ctx, {.by = RangeBy::kRank, .direction = Direction::kReverse});
}
constexpr CommandSpec kZRevRangeSpec{
    .name = "zrevrange",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements returned.",
    .summary = "Returns a range of members by rank, counted from the highest score.",
    .synopsis = "key#0 start:integer stop:integer [WITHSCORES]",
    .deprecated_since = "6.2.0",
    .replaced_by = "`ZRANGE` with the `REV` argument",
    .handler = ZRevRange,
};

Status ZRangeByScore(CommandContext& ctx) {
  return ReadRange(ctx, {.by = RangeBy::kScore, .direction = Direction::kForward});
}
constexpr CommandSpec kZRangeByScoreSpec{
    .name = "zrangebyscore",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "1.0.5",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements being returned. If M is constant (e.g. always asking for the "
        "first 10 elements with LIMIT), you can consider it O(log(N)).",
    .summary = "Returns the members with scores in a range, lowest first.",
    .synopsis =
        "key#0 min:double max:double [WITHSCORES@2.0.0] "
        "[LIMIT=offset_count{offset:integer count:integer}]",
    .history = "2.0.0|Option `WITHSCORES`.",
    .deprecated_since = "6.2.0",
    .replaced_by = "`ZRANGE` with the `BYSCORE` argument",
    .handler = ZRangeByScore,
};

Status ZRevRangeByScore(CommandContext& ctx) {
  return ReadRange(ctx, {.by = RangeBy::kScore, .direction = Direction::kReverse});
}
constexpr CommandSpec kZRevRangeByScoreSpec{
    .name = "zrevrangebyscore",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.2.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements being returned. If M is constant (e.g. always asking for the "
        "first 10 elements with LIMIT), you can consider it O(log(N)).",
    .summary = "Returns the members with scores in a range, highest first.",
    .synopsis =
        "key#0 max:double min:double [WITHSCORES] [LIMIT=offset_count{offset:integer "
        "count:integer}]",
    .history = "2.1.6|Bounds may be exclusive.",
    .deprecated_since = "6.2.0",
    .replaced_by = "`ZRANGE` with the `REV` and `BYSCORE` arguments",
    .handler = ZRevRangeByScore,
};

Status ZRangeByLex(CommandContext& ctx) {
  return ReadRange(ctx, {.by = RangeBy::kLex, .direction = Direction::kForward});
}
constexpr CommandSpec kZRangeByLexSpec{
    .name = "zrangebylex",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.8.9",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements being returned. If M is constant (e.g. always asking for the "
        "first 10 elements with LIMIT), you can consider it O(log(N)).",
    .summary = "Returns the members whose bytes are in a range, where all scores are equal.",
    .synopsis = "key#0 min max [LIMIT=offset_count{offset:integer count:integer}]",
    .deprecated_since = "6.2.0",
    .replaced_by = "`ZRANGE` with the `BYLEX` argument",
    .handler = ZRangeByLex,
};

Status ZRevRangeByLex(CommandContext& ctx) {
  return ReadRange(ctx, {.by = RangeBy::kLex, .direction = Direction::kReverse});
}
constexpr CommandSpec kZRevRangeByLexSpec{
    .name = "zrevrangebylex",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.8.9",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements being returned. If M is constant (e.g. always asking for the "
        "first 10 elements with LIMIT), you can consider it O(log(N)).",
    .summary =
        "Returns the members whose bytes are in a range, highest first, where all scores "
        "are equal.",
    .synopsis = "key#0 max min [LIMIT=offset_count{offset:integer count:integer}]",
    .deprecated_since = "6.2.0",
    .replaced_by = "`ZRANGE` with the `REV` and `BYLEX` arguments",
    .handler = ZRevRangeByLex,
};

// --- storing ---------------------------------------------------------------------------------

/// Redis puts one member after the other into a listpack, which does not know -0, until it has to
/// become a skiplist, which does. Only of a range of ranks it knows beforehand how many will come.
void ForgetNegativeZeros(const Settings& settings, bool reverse,
                         std::vector<ScoredMember>* members) {
  const size_t count = members->size();
  for (size_t i = 0; i < count; ++i) {
    ScoredMember& each = (*members)[reverse ? count - 1 - i : i];
    if (!StaysPacked(settings, i + 1, each.member.size(), 0)) return;
    each.score += 0.0;
  }
}

Status ZRangeStore(CommandContext& ctx) {
  RangeQuery query;
  CAIRN_RETURN_IF_ERROR(ParseRangeOptions(ctx, 5, /*store=*/true, &query));
  const bool swapped = query.reverse() && query.by != RangeBy::kRank;
  CAIRN_RETURN_IF_ERROR(ParseBounds(ctx, 3, swapped, &query));

  const Entry* entry = ReadKey(ctx, ctx.Key(2));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  std::vector<ScoredMember> members;
  if (entry != nullptr) {
    const SortedSetReader set(*entry);
    const RankRange ranks = Resolve(set, query);
    set.Visit(ranks.from, ranks.count, /*reverse=*/false,
              [&members](std::string_view member, double score) {
                members.push_back({std::string(member), score});
                return true;
              });
  }
  if (query.by != RangeBy::kRank || StaysPacked(ctx.settings(), members.size(), 0, 0))
    ForgetNegativeZeros(ctx.settings(), query.reverse(), &members);
  StoreSortedSet(ctx, ctx.Key(1), std::move(members), "zrangestore");
  return Status::Ok();
}
constexpr CommandSpec kZRangeStoreSpec{
    .name = "zrangestore",
    .arity = -5,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), OneKey(2, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements stored into the destination key.",
    .summary = "Stores a range of members as a sorted set of its own.",
    .synopsis =
        "dst#0 src#1 min max [sortby(BYSCORE|BYLEX)] [REV] "
        "[LIMIT=offset_count{offset:integer count:integer}]",
    .handler = ZRangeStore,
};

// --- removing --------------------------------------------------------------------------------

Status EraseRange(CommandContext& ctx, RangeBy by, std::string_view event) {
  RangeQuery query{.by = by, .direction = Direction::kForward};
  CAIRN_RETURN_IF_ERROR(ParseBounds(ctx, 2, /*swapped=*/false, &query));

  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  RankRange ranks;
  if (entry != nullptr) ranks = Resolve(SortedSetReader(*entry), query);
  if (ranks.count != 0) {
    SortedSetEdit set(ctx, key, entry);
    set.EraseRange(ranks);
    const bool gone = set.Commit();
    ctx.Changed(key, NotifyClass::kSortedSet, event);
    ctx.AddDirty(ranks.count - 1);
    if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, ctx.db().index());
  }
  ctx.reply().Integer(static_cast<int64_t>(ranks.count));
  return Status::Ok();
}

Status ZRemRangeByRank(CommandContext& ctx) {
  return EraseRange(ctx, RangeBy::kRank, "zremrangebyrank");
}
constexpr CommandSpec kZRemRangeByRankSpec{
    .name = "zremrangebyrank",
    .arity = 4,
    .flags = kCmdWrite,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements removed by the operation.",
    .summary = "Removes the members in a range of ranks.",
    .synopsis = "key#0 start:integer stop:integer",
    .handler = ZRemRangeByRank,
};

Status ZRemRangeByScore(CommandContext& ctx) {
  return EraseRange(ctx, RangeBy::kScore, "zremrangebyscore");
}
constexpr CommandSpec kZRemRangeByScoreSpec{
    .name = "zremrangebyscore",
    .arity = 4,
    .flags = kCmdWrite,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements removed by the operation.",
    .summary = "Removes the members with scores in a range.",
    .synopsis = "key#0 min:double max:double",
    .handler = ZRemRangeByScore,
};

Status ZRemRangeByLex(CommandContext& ctx) {
  return EraseRange(ctx, RangeBy::kLex, "zremrangebylex");
}
constexpr CommandSpec kZRemRangeByLexSpec{
    .name = "zremrangebylex",
    .arity = 4,
    .flags = kCmdWrite,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "sorted-set",
    .since = "2.8.9",
    .complexity =
        "O(log(N)+M) with N being the number of elements in the sorted set and M the "
        "number of elements removed by the operation.",
    .summary = "Removes the members whose bytes are in a range, where all scores are equal.",
    .synopsis = "key#0 min max",
    .handler = ZRemRangeByLex,
};

constexpr std::array kSpecs = {kZRangeSpec,           kZRevRangeSpec,       kZRangeByScoreSpec,
                               kZRevRangeByScoreSpec, kZRangeByLexSpec,     kZRevRangeByLexSpec,
                               kZRangeStoreSpec,      kZRemRangeByRankSpec, kZRemRangeByScoreSpec,
                               kZRemRangeByLexSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily SortedSetRangeCommands() { return kSpecs; }

}  // namespace cairn

// Sorted sets: adding, removing and asking for single members. Ranges are in
// sorted_set_range_commands.cc, taking from the ends in sorted_set_pop_commands.cc, unions and the
// like in sorted_set_combine_commands.cc.

#include <array>
#include <cmath>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

// --- ZADD ------------------------------------------------------------------------------------

/// Reads the option words from argument 2 on; returns the index of the first score.
size_t ParseAddOptions(const CommandContext& ctx, AddOptions* options) {
  const std::pair<std::string_view, bool AddOptions::*> words[] = {
      {"nx", &AddOptions::nx},     {"xx", &AddOptions::xx}, {"ch", &AddOptions::ch},
      {"incr", &AddOptions::incr}, {"gt", &AddOptions::gt}, {"lt", &AddOptions::lt}};
  for (size_t i = 2; i < ctx.argc(); ++i) {
    bool known = false;
    for (const auto& [word, field] : words) {
      if (!ctx.ArgIs(i, word)) continue;
      options->*field = known = true;
    }
    if (!known) return i;
  }
  return ctx.argc();
}

Status CheckAddOptions(const AddOptions& options, size_t pairs) {
  if (options.nx && options.xx)
    return Status::Client("ERR XX and NX options at the same time are not compatible");
  if ((options.gt && options.nx) || (options.lt && options.nx) || (options.gt && options.lt))
    return Status::Client("ERR GT, LT, and/or NX options at the same time are not compatible");
  if (options.incr && pairs > 1)
    return Status::Client("ERR INCR option supports a single increment-element pair");
  return Status::Ok();
}

Status Add(CommandContext& ctx, AddOptions options) {
  const size_t first = ParseAddOptions(ctx, &options);
  const size_t rest = ctx.argc() - first;
  if (rest == 0 || rest % 2 != 0) return RespError(resp_errors::kSyntax);
  CAIRN_RETURN_IF_ERROR(CheckAddOptions(options, rest / 2));
  std::vector<ScoredArgument> pairs(rest / 2);
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i].member = ctx.arg(first + 2 * i + 1);
    if (!ParseDouble(ctx.arg(first + 2 * i), &pairs[i].score))
      return RespError(resp_errors::kNotFloat);
  }
  return AddScored(ctx, options, pairs);
}

Status ZAdd(CommandContext& ctx) { return Add(ctx, AddOptions{}); }
constexpr CommandSpec kZAddSpec{
    .name = "zadd",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .member_arg = 3,
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity =
        "O(log(N)) for each item added, where N is the number of elements in the sorted "
        "set.",
    .summary = "Gives members their scores; options say which may be added or changed.",
    .synopsis =
        "key#0 [condition(NX|XX)@3.0.2] [comparison(GT|LT)@6.2.0] "
        "[CH=change:pure-token@3.0.2] [INCR=increment:pure-token@3.0.2] "
        "score_member{score:double member}...",
    .history =
        "2.4.0|Several members.\n"
        "3.0.2|Options `XX`, `NX`, `CH` and `INCR`.\n"
        "6.2.0|Options `GT` and `LT`.",
    .handler = ZAdd,
};

Status ZIncrBy(CommandContext& ctx) { return Add(ctx, AddOptions{.incr = true}); }
constexpr CommandSpec kZIncrBySpec{
    .name = "zincrby",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .member_arg = 3,
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity = "O(log(N)) where N is the number of elements in the sorted set.",
    .summary = "Adds to the score of a member and returns the sum.",
    .synopsis = "key#0 increment:integer member",
    .handler = ZIncrBy,
};

Status ZRem(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  uint64_t erased = 0;
  bool gone = false;
  if (entry != nullptr) {
    SortedSetEdit set(ctx, key, entry);
    for (size_t i = 2; i < ctx.argc() && set.size() != 0; ++i) erased += set.Erase(ctx.arg(i));
    gone = set.Commit();
  }
  if (erased != 0) PublishRemoval(ctx, key, NotifyClass::kSortedSet, "zrem", gone, erased);
  ctx.reply().Integer(static_cast<int64_t>(erased));
  return Status::Ok();
}
constexpr CommandSpec kZRemSpec{
    .name = "zrem",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .member_arg = 2,
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity =
        "O(M*log(N)) with N being the number of elements in the sorted set and M the "
        "number of elements to be removed.",
    .summary = "Takes members out of a sorted set; the last one takes the set along.",
    .synopsis = "key#0 member...",
    .history = "2.4.0|Several members.",
    .handler = ZRem,
};

// --- single members --------------------------------------------------------------------------

Status ZCard(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  ctx.reply().Integer(entry != nullptr ? static_cast<int64_t>(SortedSetReader(*entry).size()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kZCardSpec{
    .name = "zcard",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO)},
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity = "O(1)",
    .summary = "Tells how many members a sorted set has.",
    .synopsis = "key#0",
    .handler = ZCard,
};

Status ZScore(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  double score = 0;
  if (entry != nullptr && SortedSetReader(*entry).Find(ctx.arg(2), &score)) {
    ctx.reply().Double(score);
  } else {
    ctx.reply().Null();
  }
  return Status::Ok();
}
constexpr CommandSpec kZScoreSpec{
    .name = "zscore",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "sorted-set",
    .since = "1.2.0",
    .complexity = "O(1)",
    .summary = "Returns the score of a member.",
    .synopsis = "key#0 member",
    .handler = ZScore,
};

Status ZMScore(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    double score = 0;
    if (entry != nullptr && SortedSetReader(*entry).Find(ctx.arg(i), &score)) {
      ctx.reply().Double(score);
    } else {
      ctx.reply().Null();
    }
  }
  return Status::Ok();
}
constexpr CommandSpec kZMScoreSpec{
    .name = "zmscore",
    .arity = -3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity = "O(N) where N is the number of members being requested.",
    .summary = "Returns the scores of several members.",
    .synopsis = "key#0 member...",
    .handler = ZMScore,
};

Status Rank(CommandContext& ctx, bool reverse) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  std::optional<uint64_t> rank;
  if (entry != nullptr) rank = SortedSetReader(*entry).RankOf(ctx.arg(2));
  if (!rank) {
    ctx.reply().Null();
  } else {
    const uint64_t last = SortedSetReader(*entry).size() - 1;
    ctx.reply().Integer(static_cast<int64_t>(reverse ? last - *rank : *rank));
  }
  return Status::Ok();
}

Status ZRank(CommandContext& ctx) { return Rank(ctx, /*reverse=*/false); }
constexpr CommandSpec kZRankSpec{
    .name = "zrank",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity = "O(log(N))",
    .summary = "Tells a member's place, counted from the lowest score.",
    .synopsis = "key#0 member",
    .handler = ZRank,
};

Status ZRevRank(CommandContext& ctx) { return Rank(ctx, /*reverse=*/true); }
constexpr CommandSpec kZRevRankSpec{
    .name = "zrevrank",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .member_arg = 2,
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity = "O(log(N))",
    .summary = "Tells a member's place, counted from the highest score.",
    .synopsis = "key#0 member",
    .handler = ZRevRank,
};

// --- counting --------------------------------------------------------------------------------

Status ZCount(CommandContext& ctx) {
  ScoreRange range;
  if (!ScoreRange::Parse(ctx.arg(2), ctx.arg(3), &range))
    return RespError(resp_errors::kMinMaxNotFloat);
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  const uint64_t count = entry != nullptr ? SortedSetReader(*entry).Range(range).count : 0;
  ctx.reply().Integer(static_cast<int64_t>(count));
  return Status::Ok();
}
constexpr CommandSpec kZCountSpec{
    .name = "zcount",
    .arity = 4,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity = "O(log(N)) with N being the number of elements in the sorted set.",
    .summary = "Counts the members with scores in a range.",
    .synopsis = "key#0 min:double max:double",
    .handler = ZCount,
};

Status ZLexCount(CommandContext& ctx) {
  LexRange range;
  if (!LexRange::Parse(ctx.arg(2), ctx.arg(3), &range))
    return RespError(resp_errors::kMinMaxNotString);
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  const uint64_t count =
      entry != nullptr ? SortedSetReader(*entry).Range(range, /*reverse=*/false).count : 0;
  ctx.reply().Integer(static_cast<int64_t>(count));
  return Status::Ok();
}
constexpr CommandSpec kZLexCountSpec{
    .name = "zlexcount",
    .arity = 4,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.8.9",
    .complexity = "O(log(N)) with N being the number of elements in the sorted set.",
    .summary = "Counts the members whose bytes are in a range, where all scores are equal.",
    .synopsis = "key#0 min max",
    .handler = ZLexCount,
};

// --- walking ---------------------------------------------------------------------------------

Status ZScan(CommandContext& ctx) {
  ScanArguments scan;
  CAIRN_RETURN_IF_ERROR(ArgCursor(ctx, 2, &scan.cursor));
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  std::vector<std::pair<std::string, std::string>> found;
  uint64_t cursor = 0;
  if (entry != nullptr) {
    CAIRN_RETURN_IF_ERROR(ParseElementScan(ctx, &scan));
    const SortedSetReader set(*entry);
    const auto visit = [&](std::string_view member, double score) {
      if (scan.Matches(member)) {
        found.emplace_back(member,
                           set.big() != nullptr ? FormatDouble(score) : PackedScoreText(score));
      }
      return true;
    };
    if (set.big() != nullptr) {
      cursor = set.big()->Scan(scan.cursor, static_cast<uint64_t>(scan.count), visit);
    } else {
      set.Visit(0, UINT64_MAX, /*reverse=*/false, visit);
    }
  }
  ctx.reply().ArrayHeader(2);
  ctx.reply().BulkInt64(static_cast<int64_t>(cursor));
  ctx.reply().ArrayHeader(2 * found.size());
  for (const auto& [member, score] : found) {
    ctx.reply().Bulk(member);
    ctx.reply().Bulk(score);
  }
  return Status::Ok();
}
constexpr CommandSpec kZScanSpec{
    .name = "zscan",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "sorted-set",
    .since = "2.8.0",
    .complexity =
        "O(1) for every call. O(N) for a complete iteration, including enough command "
        "calls for the cursor to return back to 0. N is the number of elements inside the "
        "collection..",
    .summary = "Walks over the members of a sorted set and their scores, some at a call.",
    .synopsis = "key#0 cursor:integer [MATCH=pattern:pattern] [COUNT=count:integer]",
    .tips = "nondeterministic_output",
    .handler = ZScan,
};

constexpr std::array kSpecs = {kZScanSpec,    kZAddSpec,   kZIncrBySpec,  kZRemSpec,
                               kZCardSpec,    kZScoreSpec, kZMScoreSpec,  kZRankSpec,
                               kZRevRankSpec, kZCountSpec, kZLexCountSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily SortedSetCommands() { return kSpecs; }

}  // namespace cairn

// Sorted sets: union, intersection and difference of several, read, counted or stored. Plain sets
// may take part; their members score 1.

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <unordered_map>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

enum class Operation : uint8_t { kUnion, kInter, kDiff };
enum class Aggregate : uint8_t { kSum, kMin, kMax };

/// One of the sets that take part. An absent key is an empty one.
struct Source {
  const Entry* entry = nullptr;
  ListpackIndex index;  ///< for Find, while it is packed
  double weight = 1;

  bool is_plain_set() const { return entry != nullptr && entry->type() == ValueType::kSet; }
  uint64_t size() const {
    if (entry == nullptr) return 0;
    return is_plain_set() ? MembersView(*entry).size() : SortedSetReader(*entry).size();
  }
  bool Find(std::string_view member, double* score) {
    if (entry == nullptr) return false;
    if (!is_plain_set()) return SortedSetReader(*entry).Find(member, score, &index);
    *score = 1;
    return MembersView(*entry).Find(member, &index);
  }
  /// visit(std::string_view member, double score) -> bool goes on.
  template <typename Visitor>
  void Visit(Visitor&& visit) const {
    if (entry == nullptr) return;
    if (!is_plain_set()) return SortedSetReader(*entry).Visit(0, UINT64_MAX, false, visit);
    MembersView(*entry).ForEach([&visit](const Member& member) {
      char scratch[kMaxInt64Chars];
      return visit(member.key.Text(scratch), 1.0);
    });
  }
};

struct Combination {
  Operation operation = Operation::kUnion;
  Aggregate aggregate = Aggregate::kSum;
  bool with_scores = false;
  uint64_t limit = 0;  ///< ZINTERCARD; 0 = none
  std::vector<Source> sources;
};

/// What a command of the family takes.
struct Form {
  Operation operation;
  bool store = false;
  bool count_only = false;
};

Status ParseWeights(const CommandContext& ctx, size_t first, Combination* out) {
  for (size_t i = 0; i < out->sources.size(); ++i) {
    if (!ParseDouble(ctx.arg(first + i), &out->sources[i].weight))
      return Status::Client("ERR weight value is not a float");
  }
  return Status::Ok();
}

Status ParseAggregate(const CommandContext& ctx, size_t i, Aggregate* out) {
  if (ctx.ArgIs(i, "sum")) {
    *out = Aggregate::kSum;
  } else if (ctx.ArgIs(i, "min")) {
    *out = Aggregate::kMin;
  } else if (ctx.ArgIs(i, "max")) {
    *out = Aggregate::kMax;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  return Status::Ok();
}

Status ParseOptions(const CommandContext& ctx, size_t first, const Form& form, Combination* out) {
  const bool weighted = form.operation != Operation::kDiff && !form.count_only;
  for (size_t i = first; i < ctx.argc();) {
    const size_t remaining = ctx.argc() - i;
    if (weighted && remaining > out->sources.size() && ctx.ArgIs(i, "weights")) {
      CAIRN_RETURN_IF_ERROR(ParseWeights(ctx, i + 1, out));
      i += 1 + out->sources.size();
    } else if (weighted && remaining >= 2 && ctx.ArgIs(i, "aggregate")) {
      CAIRN_RETURN_IF_ERROR(ParseAggregate(ctx, i + 1, &out->aggregate));
      i += 2;
    } else if (!form.store && !form.count_only && ctx.ArgIs(i, "withscores")) {
      out->with_scores = true;
      ++i;
    } else if (form.count_only && remaining >= 2 && ctx.ArgIs(i, "limit")) {
      int64_t limit = 0;
      if (!ParseInt64(ctx.arg(i + 1), &limit) || limit < 0)
        return Status::Client("ERR LIMIT can't be negative");
      out->limit = static_cast<uint64_t>(limit);
      i += 2;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

/// Reads `numkeys key.. [options]` from argument `at` on and looks the keys up.
Status ParseCombination(CommandContext& ctx, size_t at, const Form& form, Combination* out) {
  out->operation = form.operation;
  int64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(at, &count));
  if (count < 1) {
    return Status::Client("ERR at least 1 input key is needed for '" +
                          std::string(ctx.spec().name) + "' command");
  }
  if (static_cast<uint64_t>(count) > ctx.argc() - at - 1) return RespError(resp_errors::kSyntax);
  const uint64_t seed = ctx.keyspace().value_home()->hash_seed;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const KeyRef key = ctx.Key(at + 1 + i);
    const Entry* entry = ReadKey(ctx, key);
    if (entry == nullptr || entry->type() != ValueType::kSet)
      CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
    const bool is_set = entry != nullptr && entry->type() == ValueType::kSet;
    out->sources.push_back({entry, {is_set ? 0u : PackedSortedSetView::kSkip, seed}});
  }
  return ParseOptions(ctx, at + 1 + static_cast<size_t>(count), form, out);
}

/// infinity times zero and infinity minus infinity count as 0.
double NanIsZero(double value) { return std::isnan(value) ? 0 : value; }

double Combine(Aggregate aggregate, double a, double b) {
  switch (aggregate) {
    case Aggregate::kMin:
      return b < a ? b : a;
    case Aggregate::kMax:
      return b > a ? b : a;
    default:
      return NanIsZero(a + b);
  }
}

// Smallest first, as Redis does it: sums of floats depend on their order.
void SortBySize(std::vector<Source>* sources) {
  std::stable_sort(sources->begin(), sources->end(),
                   [](const Source& a, const Source& b) { return a.size() < b.size(); });
}

std::vector<ScoredMember> Union(Combination& work) {
  SortBySize(&work.sources);
  std::unordered_map<std::string, double> scores;
  for (const Source& source : work.sources) {
    source.Visit([&](std::string_view member, double score) {
      const double weighted = NanIsZero(source.weight * score);
      const auto [found, added] = scores.try_emplace(std::string(member), weighted);
      if (!added) found->second = Combine(work.aggregate, found->second, weighted);
      return true;
    });
  }
  std::vector<ScoredMember> members;
  members.reserve(scores.size());
  for (const auto& [member, score] : scores) members.push_back({member, score});
  return members;
}

/// take(member, score) -> bool goes on.
template <typename Take>
void Intersect(Combination& work, Take&& take) {
  SortBySize(&work.sources);
  const Source& smallest = work.sources[0];
  smallest.Visit([&](std::string_view member, double score) {
    double sum = NanIsZero(smallest.weight * score);
    for (size_t i = 1; i < work.sources.size(); ++i) {
      double other = 0;
      if (!work.sources[i].Find(member, &other)) return true;
      sum = Combine(work.aggregate, sum, other * work.sources[i].weight);
    }
    return take(member, sum);
  });
}

std::vector<ScoredMember> Difference(Combination& work) {
  std::vector<ScoredMember> members;
  work.sources[0].Visit([&](std::string_view member, double score) {
    for (size_t i = 1; i < work.sources.size(); ++i) {
      double other = 0;
      if (work.sources[i].Find(member, &other)) return true;
    }
    members.push_back({std::string(member), score});
    return true;
  });
  return members;
}

std::vector<ScoredMember> Compute(Combination& work) {
  if (work.operation == Operation::kUnion) return Union(work);
  if (work.operation == Operation::kDiff) return Difference(work);
  std::vector<ScoredMember> members;
  Intersect(work, [&members](std::string_view member, double score) {
    members.push_back({std::string(member), score});
    return true;
  });
  return members;
}

// --- commands --------------------------------------------------------------------------------

Status Read(CommandContext& ctx, Operation operation) {
  Combination work;
  CAIRN_RETURN_IF_ERROR(ParseCombination(ctx, 1, {.operation = operation}, &work));
  std::vector<ScoredMember> members = Compute(work);
  std::sort(members.begin(), members.end(), [](const ScoredMember& a, const ScoredMember& b) {
    return a.score != b.score ? a.score < b.score : a.member < b.member;
  });
  PairReply reply(ctx.reply(), work.with_scores, members.size());
  for (const ScoredMember& each : members) reply.Add(each.member, each.score);
  return Status::Ok();
}

Status Store(CommandContext& ctx, Operation operation, std::string_view event) {
  Combination work;
  CAIRN_RETURN_IF_ERROR(ParseCombination(ctx, 2, {.operation = operation, .store = true}, &work));
  StoreSortedSet(ctx, ctx.Key(1), Compute(work), event);
  return Status::Ok();
}

Status ZUnion(CommandContext& ctx) { return Read(ctx, Operation::kUnion); }
constexpr CommandSpec kZUnionSpec{
    .name = "zunion",
    .arity = -3,
    .flags = kCmdReadonly | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {KeySpec{
        KeySpec::Begin::kIndex, kKeyRO | kKeyAccess, 1, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}}},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity =
        "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and "
        "M being the number of elements in the resulting sorted set.",
    .summary = "Returns the members that are in any of several sorted sets.",
    .synopsis =
        "numkeys:integer key#0... [WEIGHTS=weight:integer...] "
        "[AGGREGATE=aggregate(SUM|MIN|MAX)] [WITHSCORES]",
    .handler = ZUnion,
};

Status ZInter(CommandContext& ctx) { return Read(ctx, Operation::kInter); }
constexpr CommandSpec kZInterSpec{
    .name = "zinter",
    .arity = -3,
    .flags = kCmdReadonly | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {KeySpec{
        KeySpec::Begin::kIndex, kKeyRO | kKeyAccess, 1, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}}},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity =
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K "
        "being the number of input sorted sets and M being the number of elements in the "
        "resulting sorted set.",
    .summary = "Returns the members that are in all of several sorted sets.",
    .synopsis =
        "numkeys:integer key#0... [WEIGHTS=weight:integer...] "
        "[AGGREGATE=aggregate(SUM|MIN|MAX)] [WITHSCORES]",
    .handler = ZInter,
};

Status ZDiff(CommandContext& ctx) { return Read(ctx, Operation::kDiff); }
constexpr CommandSpec kZDiffSpec{
    .name = "zdiff",
    .arity = -3,
    .flags = kCmdReadonly | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {KeySpec{
        KeySpec::Begin::kIndex, kKeyRO | kKeyAccess, 1, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}}},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity =
        "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the "
        "sets, N is the size of the first set, and K is the size of the result set.",
    .summary = "Returns the members of the first sorted set that are in none of the others.",
    .synopsis = "numkeys:integer key#0... [WITHSCORES]",
    .handler = ZDiff,
};

Status ZUnionStore(CommandContext& ctx) { return Store(ctx, Operation::kUnion, "zunionstore"); }
constexpr CommandSpec kZUnionStoreSpec{
    .name = "zunionstore",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), KeySpec{KeySpec::Begin::kIndex,
                                                     kKeyRO | kKeyAccess,
                                                     2,
                                                     {},
                                                     KeySpec::Find::kKeyCount,
                                                     0,
                                                     1,
                                                     1,
                                                     {}}},
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity =
        "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and "
        "M being the number of elements in the resulting sorted set.",
    .summary = "Stores the members that are in any of several sorted sets.",
    .synopsis =
        "destination#0 numkeys:integer key#1... [WEIGHTS=weight:integer...] "
        "[AGGREGATE=aggregate(SUM|MIN|MAX)]",
    .handler = ZUnionStore,
};

Status ZInterStore(CommandContext& ctx) { return Store(ctx, Operation::kInter, "zinterstore"); }
constexpr CommandSpec kZInterStoreSpec{
    .name = "zinterstore",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), KeySpec{KeySpec::Begin::kIndex,
                                                     kKeyRO | kKeyAccess,
                                                     2,
                                                     {},
                                                     KeySpec::Find::kKeyCount,
                                                     0,
                                                     1,
                                                     1,
                                                     {}}},
    .group = "sorted-set",
    .since = "2.0.0",
    .complexity =
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K "
        "being the number of input sorted sets and M being the number of elements in the "
        "resulting sorted set.",
    .summary = "Stores the members that are in all of several sorted sets.",
    .synopsis =
        "destination#0 numkeys:integer key#1... [WEIGHTS=weight:integer...] "
        "[AGGREGATE=aggregate(SUM|MIN|MAX)]",
    .handler = ZInterStore,
};

Status ZDiffStore(CommandContext& ctx) { return Store(ctx, Operation::kDiff, "zdiffstore"); }
constexpr CommandSpec kZDiffStoreSpec{
    .name = "zdiffstore",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), KeySpec{KeySpec::Begin::kIndex,
                                                     kKeyRO | kKeyAccess,
                                                     2,
                                                     {},
                                                     KeySpec::Find::kKeyCount,
                                                     0,
                                                     1,
                                                     1,
                                                     {}}},
    .group = "sorted-set",
    .since = "6.2.0",
    .complexity =
        "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the "
        "sets, N is the size of the first set, and K is the size of the result set.",
    .summary = "Stores the members of the first sorted set that are in none of the others.",
    .synopsis = "destination#0 numkeys:integer key#1...",
    .handler = ZDiffStore,
};

Status ZInterCard(CommandContext& ctx) {
  Combination work;
  CAIRN_RETURN_IF_ERROR(
      ParseCombination(ctx, 1, {.operation = Operation::kInter, .count_only = true}, &work));
  uint64_t count = 0;
  Intersect(work, [&](std::string_view, double) { return ++count != work.limit; });
  ctx.reply().Integer(static_cast<int64_t>(count));
  return Status::Ok();
}
constexpr CommandSpec kZInterCardSpec{
    .name = "zintercard",
    .arity = -3,
    .flags = kCmdReadonly | kCmdMovableKeys,
    .acl = kAclSortedSet,
    .keys = {KeySpec{
        KeySpec::Begin::kIndex, kKeyRO | kKeyAccess, 1, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}}},
    .group = "sorted-set",
    .since = "7.0.0",
    .complexity =
        "O(N*K) worst case with N being the smallest input sorted set, K being the number "
        "of input sorted sets.",
    .summary = "Counts the members that are in all of several sorted sets.",
    .synopsis = "numkeys:integer key#0... [LIMIT=limit:integer]",
    .handler = ZInterCard,
};

constexpr std::array kSpecs = {kZUnionSpec,      kZInterSpec,     kZDiffSpec,     kZUnionStoreSpec,
                               kZInterStoreSpec, kZDiffStoreSpec, kZInterCardSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily SortedSetCombineCommands() { return kSpecs; }

}  // namespace cairn

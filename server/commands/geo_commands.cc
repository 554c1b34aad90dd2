// Geo: points kept as sorted sets of 52-bit geohashes; adding, reading, measuring. Searching is in
// geo_search_commands.cc.

#include <array>

#include "server/base/strings.h"
#include "server/engine/geo_arguments.h"
#include "server/engine/key_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

Status GeoAdd(CommandContext& ctx) {
  AddOptions options;
  size_t first = 2;
  for (; first < ctx.argc(); ++first) {
    if (ctx.ArgIs(first, "nx")) {
      options.nx = true;
    } else if (ctx.ArgIs(first, "xx")) {
      options.xx = true;
    } else if (ctx.ArgIs(first, "ch")) {
      options.ch = true;
    } else {
      break;
    }
  }
  const size_t rest = ctx.argc() - first;
  if (rest == 0 || rest % 3 != 0 || (options.nx && options.xx))
    return RespError(resp_errors::kSyntax);

  std::vector<ScoredArgument> points;
  std::vector<uint64_t> scores;  // at a longitude of 180 more than a double holds exactly
  for (size_t i = first; i < ctx.argc(); i += 3) {
    GeoPoint point;
    CAIRN_RETURN_IF_ERROR(ParseGeoPoint(ctx, i, &point));
    scores.push_back(GeoScore(EncodeGeo(point, kGeoMaxStep)));
    points.push_back({static_cast<double>(scores.back()), ctx.arg(i + 2)});
  }
  CAIRN_RETURN_IF_ERROR(AddScored(ctx, options, points));

  if (ctx.dirty() == 0 || !ctx.engine().propagation.enabled()) return Status::Ok();
  // The log is told what was made of the coordinates.
  std::vector<std::string> args = {"zadd"};
  for (size_t i = 1; i < first; ++i) args.emplace_back(ctx.arg(i));
  for (size_t i = 0; i < points.size(); ++i) {
    args.push_back(std::to_string(scores[i]));
    args.emplace_back(points[i].member);
  }
  ctx.PropagateAs(std::move(args));
  return Status::Ok();
}
constexpr CommandSpec kGeoAddSpec{
    .name = "geoadd",
    .arity = -5,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "geo",
    .since = "3.2.0",
    .complexity =
        "O(log(N)) for each item added, where N is the number of elements in the sorted "
        "set.",
    .summary = "Gives members their longitude and latitude.",
    .synopsis =
        "key#0 [condition(NX|XX)@6.2.0] [CH=change:pure-token@6.2.0] "
        "longitude_latitude_member{longitude:double latitude:double member}...",
    .history = "6.2.0|Options `CH`, `NX` and `XX`.",
    .handler = GeoAdd,
};

Status GeoDist(CommandContext& ctx) {
  double metres_per_unit = 1;
  if (ctx.argc() == 5) CAIRN_RETURN_IF_ERROR(ParseGeoUnit(ctx, 4, &metres_per_unit));
  if (ctx.argc() > 5) return RespError(resp_errors::kSyntax);

  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  double a = 0, b = 0;
  if (entry == nullptr || !SortedSetReader(*entry).Find(ctx.arg(2), &a) ||
      !SortedSetReader(*entry).Find(ctx.arg(3), &b)) {
    ctx.reply().Null();
    return Status::Ok();
  }
  ReplyDistance(ctx.reply(), GeoDistance(DecodeGeoScore(a), DecodeGeoScore(b)) / metres_per_unit);
  return Status::Ok();
}
constexpr CommandSpec kGeoDistSpec{
    .name = "geodist",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "3.2.0",
    .complexity = "O(log(N))",
    .summary = "Tells how far two members are from each other.",
    .synopsis = "key#0 member1 member2 [unit(M|KM|FT|MI)]",
    .handler = GeoDist,
};

Status GeoHash(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    double score = 0;
    if (entry != nullptr && SortedSetReader(*entry).Find(ctx.arg(i), &score)) {
      ctx.reply().Bulk(GeoHashText(DecodeGeoScore(score)));
    } else {
      ctx.reply().Null();
    }
  }
  return Status::Ok();
}
constexpr CommandSpec kGeoHashSpec{
    .name = "geohash",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "3.2.0",
    .complexity =
        "O(log(N)) for each member requested, where N is the number of elements in the "
        "sorted set.",
    .summary = "Returns the common geohash text of members.",
    .synopsis = "key#0 member...",
    .handler = GeoHash,
};

Status GeoPos(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    double score = 0;
    if (entry != nullptr && SortedSetReader(*entry).Find(ctx.arg(i), &score)) {
      ReplyPoint(ctx.reply(), DecodeGeoScore(score));
    } else {
      ctx.reply().NullArray();
    }
  }
  return Status::Ok();
}
constexpr CommandSpec kGeoPosSpec{
    .name = "geopos",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "3.2.0",
    .complexity = "O(N) where N is the number of members requested.",
    .summary = "Returns the longitude and latitude of members.",
    .synopsis = "key#0 member...",
    .handler = GeoPos,
};

constexpr std::array kSpecs = {kGeoAddSpec, kGeoDistSpec, kGeoHashSpec, kGeoPosSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily GeoCommands() { return kSpecs; }

}  // namespace cairn

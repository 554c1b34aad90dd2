// Geo: the searches. GEORADIUS and its kin are the old names of GEOSEARCH; all end in one search.

#include <algorithm>
#include <array>

#include "server/base/strings.h"
#include "server/engine/geo_arguments.h"
#include "server/engine/key_access.h"
#include "server/engine/sorted_set_access.h"

namespace cairn {

namespace {

enum class Sorting : uint8_t { kNone, kAscending, kDescending };

struct Search {
  GeoShape shape;
  const Entry* entry = nullptr;
  bool from_member = false, from_point = false, by_radius = false, by_box = false;
  bool with_distance = false, with_hash = false, with_point = false;
  bool any = false;
  uint64_t count = 0;  ///< 0 = all
  Sorting sorting = Sorting::kNone;
  size_t store_arg = 0;  ///< 0 = reply
  bool store_distance = false;
};

struct Found {
  std::string member;
  double score;
  GeoPoint point;
  double metres;
};

constexpr std::string_view kBadMember = "ERR could not decode requested zset member";

Status CenterFromMember(const CommandContext& ctx, size_t i, Search* search) {
  double score = 0;
  if (!SortedSetReader(*search->entry).Find(ctx.arg(i), &score)) return RespError(kBadMember);
  search->shape.center = DecodeGeoScore(score);
  return Status::Ok();
}

Status ParseRadius(const CommandContext& ctx, size_t i, GeoShape* shape) {
  CAIRN_RETURN_IF_ERROR(ParseGeoLength(ctx, i, "ERR need numeric radius",
                                       "ERR radius cannot be negative", &shape->radius));
  shape->is_box = false;
  return ParseGeoUnit(ctx, i + 1, &shape->metres_per_unit);
}

Status ParseBox(const CommandContext& ctx, size_t i, GeoShape* shape) {
  constexpr std::string_view kNegative = "ERR height or width cannot be negative";
  constexpr double kLeast = -1e308;
  double width = kLeast, height = kLeast;
  if (!ParseDouble(ctx.arg(i), &width)) return Status::Client("ERR need numeric width");
  if (!ParseDouble(ctx.arg(i + 1), &height)) return Status::Client("ERR need numeric height");
  if (width < 0 || height < 0) return RespError(kNegative);
  shape->width = width;
  shape->height = height;
  shape->is_box = true;
  return ParseGeoUnit(ctx, i + 2, &shape->metres_per_unit);
}

/// What distinguishes the commands of the family.
struct Form {
  bool is_search = false;  ///< GEOSEARCH and GEOSEARCHSTORE
  bool stores = false;     ///< GEOSEARCHSTORE
  bool may_store = false;  ///< GEORADIUS and GEORADIUSBYMEMBER
};

/// The options that take nothing. False when `i` is none of them.
bool ParseFlag(const CommandContext& ctx, size_t i, const Form& form, Search* search) {
  const std::pair<std::string_view, bool Search::*> words[] = {{"withdist", &Search::with_distance},
                                                               {"withhash", &Search::with_hash},
                                                               {"withcoord", &Search::with_point},
                                                               {"any", &Search::any}};
  for (const auto& [word, field] : words) {
    if (ctx.ArgIs(i, word)) return search->*field = true;
  }
  if (ctx.ArgIs(i, "asc") || ctx.ArgIs(i, "desc")) {
    search->sorting = ctx.ArgIs(i, "asc") ? Sorting::kAscending : Sorting::kDescending;
    return true;
  }
  if (form.stores && ctx.ArgIs(i, "storedist")) return search->store_distance = true;
  return false;
}

/// One option with arguments at `i`; *taken is how many arguments it has in all, 0 when it is none.
Status ParseOption(const CommandContext& ctx, size_t i, const Form& form, Search* search,
                   size_t* taken) {
  const size_t behind = ctx.argc() - i - 1;
  *taken = 0;
  if (ctx.ArgIs(i, "count") && behind >= 1) {
    int64_t count = 0;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &count));
    if (count <= 0) return Status::Client("ERR COUNT must be > 0");
    search->count = static_cast<uint64_t>(count);
    *taken = 2;
  } else if (form.may_store && behind >= 1 &&
             (ctx.ArgIs(i, "store") || ctx.ArgIs(i, "storedist"))) {
    search->store_arg = i + 1;
    search->store_distance = ctx.ArgIs(i, "storedist");
    *taken = 2;
  } else if (!form.is_search) {
    return Status::Ok();
  } else if (ctx.ArgIs(i, "frommember") && behind >= 1 && !search->from_point) {
    search->from_member = true;
    *taken = 2;
    if (search->entry != nullptr) return CenterFromMember(ctx, i + 1, search);
  } else if (ctx.ArgIs(i, "fromlonlat") && behind >= 2 && !search->from_member) {
    search->from_point = true;
    *taken = 3;
    return ParseGeoPoint(ctx, i + 1, &search->shape.center);
  } else if (ctx.ArgIs(i, "byradius") && behind >= 2 && !search->by_box) {
    search->by_radius = true;
    *taken = 3;
    return ParseRadius(ctx, i + 1, &search->shape);
  } else if (ctx.ArgIs(i, "bybox") && behind >= 3 && !search->by_radius) {
    search->by_box = true;
    *taken = 4;
    return ParseBox(ctx, i + 1, &search->shape);
  }
  return Status::Ok();
}

Status ParseOptions(const CommandContext& ctx, size_t first, const Form& form, Search* search) {
  for (size_t i = first; i < ctx.argc();) {
    if (ParseFlag(ctx, i, form, search)) {
      ++i;
      continue;
    }
    size_t taken = 0;
    CAIRN_RETURN_IF_ERROR(ParseOption(ctx, i, form, search, &taken));
    if (taken == 0) return RespError(resp_errors::kSyntax);
    i += taken;
  }
  if (search->store_arg != 0 &&
      (search->with_distance || search->with_hash || search->with_point)) {
    return Status::Client(std::string("ERR ") +
                          (form.stores ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS") +
                          " is not compatible with WITHDIST, WITHHASH and WITHCOORD options");
  }
  const std::string name(ctx.arg(0));
  if (form.is_search && !search->from_member && !search->from_point) {
    return Status::Client("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for " +
                          name);
  }
  if (form.is_search && !search->by_radius && !search->by_box)
    return Status::Client("ERR exactly one of BYRADIUS and BYBOX can be specified for " + name);
  if (search->any && search->count == 0)
    return Status::Client("ERR the ANY argument requires COUNT argument");
  return Status::Ok();
}

// --- finding ---------------------------------------------------------------------------------

/// Adds the members inside one cell, at most until `limit` (0 = all) are found.
void FindInCell(const SortedSetReader& set, GeoBits cell, const GeoShape& shape, uint64_t limit,
                std::vector<Found>* found) {
  ScoreRange scores;
  scores.min = static_cast<double>(GeoScore(cell));
  ++cell.bits;
  scores.max = static_cast<double>(GeoScore(cell));
  scores.max_exclusive = true;
  const RankRange ranks = set.Range(scores);
  set.Visit(ranks.from, ranks.count, /*reverse=*/false, [&](std::string_view member, double score) {
    const GeoPoint point = DecodeGeoScore(score);
    double metres = 0;
    if (shape.Contains(point, &metres))
      found->push_back({std::string(member), score, point, metres});
    return limit == 0 || found->size() < limit;
  });
}

std::vector<Found> Find(const Search& search) {
  const SortedSetReader set(*search.entry);
  const uint64_t limit = search.any ? search.count : 0;
  std::vector<Found> found;
  GeoBits last;
  for (const GeoBits& cell : CoverGeoShape(search.shape)) {
    // Wide searches have fewer than nine cells: the map ends.
    if (cell.step == 0 || cell == last) continue;
    if (limit != 0 && found.size() >= limit) break;
    FindInCell(set, cell, search.shape, limit, &found);
    last = cell;
  }
  Sorting sorting = search.sorting;
  if (search.count != 0 && sorting == Sorting::kNone && !search.any) sorting = Sorting::kAscending;
  if (sorting != Sorting::kNone) {
    std::stable_sort(found.begin(), found.end(), [sorting](const Found& a, const Found& b) {
      return sorting == Sorting::kAscending ? a.metres < b.metres : a.metres > b.metres;
    });
  }
  if (search.count != 0 && found.size() > search.count) found.resize(search.count);
  return found;
}

void ReplyFound(CommandContext& ctx, const Search& search, const std::vector<Found>& found) {
  RespWriter& reply = ctx.reply();
  const size_t extras = size_t{search.with_distance} + search.with_hash + search.with_point;
  reply.ArrayHeader(found.size());
  for (const Found& each : found) {
    if (extras != 0) reply.ArrayHeader(extras + 1);
    reply.Bulk(each.member);
    if (search.with_distance) ReplyDistance(reply, each.metres / search.shape.metres_per_unit);
    if (search.with_hash) reply.Integer(static_cast<int64_t>(each.score));
    if (search.with_point) ReplyPoint(reply, each.point);
  }
}

Status Finish(CommandContext& ctx, const Search& search, std::string_view event) {
  std::vector<Found> found;
  if (search.entry != nullptr) found = Find(search);
  if (search.store_arg == 0) {
    ReplyFound(ctx, search, found);
    return Status::Ok();
  }
  std::vector<ScoredMember> members;
  for (Found& each : found) {
    const double distance = each.metres / search.shape.metres_per_unit;
    members.push_back({std::move(each.member), search.store_distance ? distance : each.score});
  }
  const size_t stored = members.size();
  StoreSortedSet(ctx, ctx.Key(search.store_arg), std::move(members), event,
                 /*reply_first=*/false);
  if (stored != 0) ctx.AddDirty(stored - 1);
  return Status::Ok();
}

// --- commands --------------------------------------------------------------------------------

Status OpenSource(CommandContext& ctx, size_t key_arg, Search* search) {
  search->entry = ReadKey(ctx, ctx.Key(key_arg));
  return ExpectSortedSet(search->entry);
}

Status Radius(CommandContext& ctx, bool may_store) {
  constexpr size_t kFirstOption = 6;
  Search search;
  CAIRN_RETURN_IF_ERROR(OpenSource(ctx, 1, &search));
  CAIRN_RETURN_IF_ERROR(ParseGeoPoint(ctx, 2, &search.shape.center));
  CAIRN_RETURN_IF_ERROR(ParseRadius(ctx, 4, &search.shape));
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, kFirstOption, {.may_store = may_store}, &search));
  return Finish(ctx, search, "georadiusstore");
}

Status RadiusByMember(CommandContext& ctx, bool may_store) {
  constexpr size_t kFirstOption = 5;
  Search search;
  CAIRN_RETURN_IF_ERROR(OpenSource(ctx, 1, &search));
  if (search.entry != nullptr) {
    CAIRN_RETURN_IF_ERROR(CenterFromMember(ctx, 2, &search));
    CAIRN_RETURN_IF_ERROR(ParseRadius(ctx, 3, &search.shape));
  }
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, kFirstOption, {.may_store = may_store}, &search));
  return Finish(ctx, search, "georadiusstore");
}

Status GeoRadius(CommandContext& ctx) { return Radius(ctx, /*may_store=*/true); }
constexpr CommandSpec kGeoRadiusSpec{
    .name = "georadius",
    .arity = -6,
    .flags = kCmdWrite | kCmdDenyOom | kCmdMovableKeys,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess),
             KeySpec{KeySpec::Begin::kKeyword,
                     kKeyOW | kKeyUpdate,
                     6,
                     "STORE",
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     {}},
             KeySpec{KeySpec::Begin::kKeyword,
                     kKeyOW | kKeyUpdate,
                     6,
                     "STOREDIST",
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     {}}},
    .group = "geo",
    .since = "3.2.0",
    .complexity =
        "O(N+log(M)) where N is the number of elements inside the bounding box of the "
        "circular area delimited by center and radius and M is the number of items inside "
        "the index.",
    .summary = "Finds the members within a distance of a point, and may store them.",
    .synopsis =
        "key#0 longitude:double latitude:double radius:double unit(M|KM|FT|MI) "
        "[WITHCOORD] [WITHDIST] [WITHHASH] [count{COUNT=count:integer [ANY@6.2.0]}] "
        "[order(ASC|DESC)] [STORE=key#1] [STOREDIST=key#2]",
    .history =
        "6.2.0|`ANY` beside `COUNT`.\n"
        "7.0.0|Unit names in upper case.",
    .deprecated_since = "6.2.0",
    .replaced_by = "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
    .handler = GeoRadius,
};

Status GeoRadiusRo(CommandContext& ctx) { return Radius(ctx, /*may_store=*/false); }
constexpr CommandSpec kGeoRadiusRoSpec{
    .name = "georadius_ro",
    .arity = -6,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "3.2.10",
    .complexity =
        "O(N+log(M)) where N is the number of elements inside the bounding box of the "
        "circular area delimited by center and radius and M is the number of items inside "
        "the index.",
    .summary = "Finds the members within a distance of a point.",
    .synopsis =
        "key#0 longitude:double latitude:double radius:double unit(M|KM|FT|MI) "
        "[WITHCOORD] [WITHDIST] [WITHHASH] [count{COUNT=count:integer [ANY@6.2.0]}] "
        "[order(ASC|DESC)]",
    .history = "6.2.0|`ANY` beside `COUNT`.",
    .deprecated_since = "6.2.0",
    .replaced_by = "`GEOSEARCH` with the `BYRADIUS` argument",
    .handler = GeoRadiusRo,
};

Status GeoRadiusByMember(CommandContext& ctx) { return RadiusByMember(ctx, /*may_store=*/true); }
constexpr CommandSpec kGeoRadiusByMemberSpec{
    .name = "georadiusbymember",
    .arity = -5,
    .flags = kCmdWrite | kCmdDenyOom | kCmdMovableKeys,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess),
             KeySpec{KeySpec::Begin::kKeyword,
                     kKeyOW | kKeyUpdate,
                     5,
                     "STORE",
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     {}},
             KeySpec{KeySpec::Begin::kKeyword,
                     kKeyOW | kKeyUpdate,
                     5,
                     "STOREDIST",
                     KeySpec::Find::kRange,
                     0,
                     1,
                     0,
                     {}}},
    .group = "geo",
    .since = "3.2.0",
    .complexity =
        "O(N+log(M)) where N is the number of elements inside the bounding box of the "
        "circular area delimited by center and radius and M is the number of items inside "
        "the index.",
    .summary = "Finds the members within a distance of another, and may store them.",
    .synopsis =
        "key#0 member radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] "
        "[count{COUNT=count:integer [ANY]}] [order(ASC|DESC)] [STORE=key#1] "
        "[STOREDIST=key#2]",
    .history = "7.0.0|Unit names in upper case.",
    .deprecated_since = "6.2.0",
    .replaced_by =
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    .handler = GeoRadiusByMember,
};

Status GeoRadiusByMemberRo(CommandContext& ctx) { return RadiusByMember(ctx, /*may_store=*/false); }
constexpr CommandSpec kGeoRadiusByMemberRoSpec{
    .name = "georadiusbymember_ro",
    .arity = -5,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "3.2.10",
    .complexity =
        "O(N+log(M)) where N is the number of elements inside the bounding box of the "
        "circular area delimited by center and radius and M is the number of items inside "
        "the index.",
    .summary = "Finds the members within a distance of another.",
    .synopsis =
        "key#0 member radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] "
        "[count{COUNT=count:integer [ANY]}] [order(ASC|DESC)]",
    .deprecated_since = "6.2.0",
    .replaced_by = "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
    .handler = GeoRadiusByMemberRo,
};

Status GeoSearch(CommandContext& ctx) {
  Search search;
  CAIRN_RETURN_IF_ERROR(OpenSource(ctx, 1, &search));
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, 2, {.is_search = true}, &search));
  return Finish(ctx, search, {});
}
constexpr CommandSpec kGeoSearchSpec{
    .name = "geosearch",
    .arity = -7,
    .flags = kCmdReadonly,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "6.2.0",
    .complexity =
        "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box "
        "area around the shape provided as the filter and M is the number of items inside "
        "the shape",
    .summary = "Finds the members inside a circle or a box.",
    .synopsis =
        "key#0 from(FROMMEMBER=member|FROMLONLAT=longitude_latitude{longitude:double "
        "latitude:double}) by(circle{BYRADIUS=radius:double "
        "unit(M|KM|FT|MI)}|box{BYBOX=width:double height:double unit(M|KM|FT|MI)}) "
        "[order(ASC|DESC)] [count{COUNT=count:integer [ANY]}] [WITHCOORD] [WITHDIST] "
        "[WITHHASH]",
    .history = "7.0.0|Unit names in upper case.",
    .handler = GeoSearch,
};

Status GeoSearchStore(CommandContext& ctx) {
  Search search;
  search.store_arg = 1;
  CAIRN_RETURN_IF_ERROR(OpenSource(ctx, 2, &search));
  CAIRN_RETURN_IF_ERROR(ParseOptions(ctx, 3, {.is_search = true, .stores = true}, &search));
  return Finish(ctx, search, "geosearchstore");
}
constexpr CommandSpec kGeoSearchStoreSpec{
    .name = "geosearchstore",
    .arity = -8,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclGeo,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate), OneKey(2, kKeyRO | kKeyAccess)},
    .group = "geo",
    .since = "6.2.0",
    .complexity =
        "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box "
        "area around the shape provided as the filter and M is the number of items inside "
        "the shape",
    .summary = "Stores the members inside a circle or a box.",
    .synopsis =
        "destination#0 source#1 "
        "from(FROMMEMBER=member|FROMLONLAT=longitude_latitude{longitude:double "
        "latitude:double}) by(circle{BYRADIUS=radius:double "
        "unit(M|KM|FT|MI)}|box{BYBOX=width:double height:double unit(M|KM|FT|MI)}) "
        "[order(ASC|DESC)] [count{COUNT=count:integer [ANY]}] [STOREDIST]",
    .history = "7.0.0|Unit names in upper case.",
    .handler = GeoSearchStore,
};

constexpr std::array kSpecs = {kGeoRadiusSpec,           kGeoRadiusRoSpec, kGeoRadiusByMemberSpec,
                               kGeoRadiusByMemberRoSpec, kGeoSearchSpec,   kGeoSearchStoreSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily GeoSearchCommands() { return kSpecs; }

}  // namespace cairn

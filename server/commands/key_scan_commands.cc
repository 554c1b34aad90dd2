// Walking over keys: KEYS, SCAN, RANDOMKEY.

#include <array>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/output_limit.h"

namespace cairn {

namespace {

/// While it is there, the removals of keys past their time go out one by one, in no transaction but
/// a script's or EXEC's: keys that a walk came upon have nothing to do with each other.
class RemovalsApart {
 public:
  explicit RemovalsApart(CommandContext& ctx) : propagation_(ctx.engine().propagation) {
    propagation_.EndGroup();
  }
  RemovalsApart(const RemovalsApart&) = delete;
  RemovalsApart& operator=(const RemovalsApart&) = delete;
  ~RemovalsApart() { propagation_.BeginGroup(); }

 private:
  Propagation& propagation_;
};

Status RandomKey(CommandContext& ctx) {
  const RemovalsApart apart(ctx);
  // A key past its TTL is removed by the look-up and another is drawn, so this ends; a replica, or
  // a paused server, removes none and after some tries names one that is past its time, as a
  // replica of Redis does.
  int tries_left = 100;
  while (const Entry* drawn = ctx.db().Random(ctx.engine().Draw())) {
    const std::string name(drawn->key());
    if (ctx.db().LookupRead(ctx.db().MakeKey(name), kLookupNoTouch | kLookupNoStats) == nullptr &&
        !(ctx.keyspace().hides_expired() && --tries_left <= 0)) {
      continue;
    }
    ctx.reply().Bulk(name);
    return Status::Ok();
  }
  ctx.reply().Null();
  return Status::Ok();
}
constexpr CommandSpec kRandomKeySpec{
    .name = "randomkey",
    .arity = 1,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Returns some key of the database.",
    .tips = "request_policy:all_shards nondeterministic_output",
    .handler = RandomKey,
};

Status Keys(CommandContext& ctx) {
  const std::string_view pattern = ctx.arg(1);
  const bool all = pattern == "*";
  const ReplyBuffer::Mark mark = ctx.reply().BeginDeferred();
  size_t shown = 0;
  ctx.db().ForEach([&](const Entry& entry) {
    if ((all || GlobMatch(pattern, entry.key(), false)) && !entry.IsPast(ctx.now_ms())) {
      ctx.reply().Bulk(entry.key());
      ++shown;
      return !StopsReply(ctx.engine(), ctx.session());
    }
    return true;
  });
  ctx.reply().EndDeferredArray(mark, shown);
  return Status::Ok();
}
constexpr CommandSpec kKeysSpec{
    .name = "keys",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace | kAclDangerous,
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(N) in the number of keys of the database, names and pattern being short.",
    .summary = "Returns all keys that match a pattern.",
    .synopsis = "pattern:pattern",
    .tips = "request_policy:all_shards nondeterministic_output_order",
    .handler = Keys,
};

// --- SCAN ------------------------------------------------------------------------------------

struct ScanOptions : ScanArguments {
  std::string_view type;
  bool by_type = false;
};

Status ParseScan(const CommandContext& ctx, ScanOptions* out) {
  CAIRN_RETURN_IF_ERROR(ArgCursor(ctx, 1, &out->cursor));
  for (size_t i = 2; i < ctx.argc(); i += 2) {
    if (i + 1 == ctx.argc()) return RespError(resp_errors::kSyntax);
    if (ctx.ArgIs(i, "count")) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &out->count));
      if (out->count < 1) return RespError(resp_errors::kSyntax);
    } else if (ctx.ArgIs(i, "match")) {
      out->pattern = ctx.arg(i + 1);
    } else if (ctx.ArgIs(i, "type")) {
      out->type = ctx.arg(i + 1);
      out->by_type = true;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

Status Scan(CommandContext& ctx) {
  ScanOptions options;
  CAIRN_RETURN_IF_ERROR(ParseScan(ctx, &options));
  std::vector<std::string_view> found;  // views into entries
  std::vector<std::string> expired;
  uint64_t seen = 0;
  const auto visit = [&](const Entry& entry) {
    ++seen;
    if (!options.Matches(entry.key())) return;
    if (entry.IsPast(ctx.now_ms())) {
      expired.emplace_back(entry.key());
      return;
    }
    if (options.by_type) {
      // As in Redis, to ask for its type is to look it up.
      ctx.db().LookupRead(ctx.db().MakeKey(entry.key()), kLookupNoTouch);
      if (!EqualsIgnoreCase(options.type, entry.TypeName())) return;
    }
    found.push_back(entry.key());
  };
  // COUNT bounds the keys looked at. Where the table is sparse, ten buckets a wanted key bound the
  // time.
  uint64_t cursor = options.cursor;
  uint64_t buckets_left = static_cast<uint64_t>(options.count) * 10;
  do {
    cursor = ctx.db().Scan(cursor, 1, visit);
  } while (cursor != 0 && --buckets_left > 0 && seen < static_cast<uint64_t>(options.count));

  // A scan removes what it finds past its TTL, whatever its type, as any other look-up, and before
  // it answers, for who hears of its own doing.
  std::vector<std::string> kept;
  const RemovalsApart apart(ctx);
  if (!expired.empty()) {
    kept.assign(found.begin(), found.end());  // the entries may be gone then
    found.assign(kept.begin(), kept.end());
  }
  for (const std::string& key : expired) {
    const KeyRef gone = ctx.db().MakeKey(key);
    if (options.by_type) {
      ReadKey(ctx, gone, kLookupNoTouch);
    } else {
      ctx.db().LookupRead(gone, kLookupNoTouch | kLookupNoStats);
    }
  }
  RespWriter& reply = ctx.reply();
  reply.ArrayHeader(2);
  reply.BulkInt64(static_cast<int64_t>(cursor));
  reply.ArrayHeader(found.size());
  for (std::string_view key : found) reply.Bulk(key);
  return Status::Ok();
}
constexpr CommandSpec kScanSpec{
    .name = "scan",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .group = "generic",
    .since = "2.8.0",
    .complexity = "O(1) per call, O(N) for a whole walk over N keys.",
    .summary = "Walks over the keys of the database, some at a call.",
    .synopsis = "cursor:integer [MATCH=pattern:pattern] [COUNT=count:integer] [TYPE=type@6.0.0]",
    .tips = "nondeterministic_output request_policy:special",
    .history = "6.0.0|Option `TYPE`.",
    .handler = Scan,
};

constexpr std::array kKeyScanSpecs = {
    kRandomKeySpec,
    kKeysSpec,
    kScanSpec,
};
static_assert(ValidSpecs(kKeyScanSpecs));

}  // namespace

CommandFamily KeyScanCommands() { return kKeyScanSpecs; }

}  // namespace cairn

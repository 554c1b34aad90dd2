// Whole databases: their size, swapping two, emptying one or all.

#include <array>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/key_access.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

Status DbSize(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.db().size()));
  return Status::Ok();
}
constexpr CommandSpec kDbSizeSpec{
    .name = "dbsize",
    .arity = 1,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .group = "server",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Tells how many keys the database has.",
    .tips = "request_policy:all_shards response_policy:agg_sum",
    .handler = DbSize,
};

/// An index of SWAPDB. What is no int is answered with `refusal`.
Status SwapIndex(const CommandContext& ctx, size_t i, std::string_view refusal, int64_t* out) {
  constexpr int64_t kLow = std::numeric_limits<int>::min(), kHigh = std::numeric_limits<int>::max();
  return ArgInRange(ctx, i, kLow, kHigh, out).ok() ? Status::Ok() : RespError(refusal);
}

Status SwapDb(CommandContext& ctx) {
  int64_t first = 0, second = 0;
  CAIRN_RETURN_IF_ERROR(SwapIndex(ctx, 1, resp_errors::kInvalidFirstDb, &first));
  CAIRN_RETURN_IF_ERROR(SwapIndex(ctx, 2, resp_errors::kInvalidSecondDb, &second));
  const int64_t count = ctx.keyspace().database_count();
  if (first < 0 || second < 0 || first >= count || second >= count) {
    return RespError(resp_errors::kDbIndexOutOfRange);
  }
  if (first != second) {
    const auto a = static_cast<uint32_t>(first), b = static_cast<uint32_t>(second);
    ctx.engine().watches.TouchDatabase(ctx.keyspace(), a, b);
    ctx.engine().watches.TouchDatabase(ctx.keyspace(), b, a);
    ctx.keyspace().Swap(a, b);
    if (ctx.engine().modules != nullptr) ctx.engine().modules->OnSwapped(a, b);
    ctx.engine().blocking.SignalDatabase(a);
    ctx.engine().blocking.SignalDatabase(b);
  }
  ctx.AddDirty(1);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kSwapDbSpec{
    .name = "swapdb",
    .arity = 3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace | kAclDangerous,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(N) in the number of clients that watch or wait for keys of the two.",
    .summary = "Exchanges two databases.",
    .synopsis = "index1:integer index2:integer",
    .handler = SwapDb,
};

/// ASYNC or SYNC; without either, lazyfree-lazy-user-flush decides.
Status ParseFlushMode(const CommandContext& ctx, bool* lazy) {
  *lazy = ctx.settings().lazyfree_lazy_user_flush;
  if (ctx.argc() == 1) return Status::Ok();
  if (ctx.argc() > 2 || (!ctx.ArgIs(1, "sync") && !ctx.ArgIs(1, "async")))
    return RespError(resp_errors::kSyntax);
  *lazy = ctx.ArgIs(1, "async");
  return Status::Ok();
}

Status FlushDb(CommandContext& ctx) {
  bool lazy = false;
  CAIRN_RETURN_IF_ERROR(ParseFlushMode(ctx, &lazy));
  const uint32_t db = ctx.session().db;
  ctx.engine().watches.TouchDatabase(ctx.keyspace(), db, db);
  ctx.AddDirty(ctx.keyspace().Flush(db, lazy));
  ctx.engine().blocking.SignalDatabase(db);
  ctx.engine().tracking.InvalidateAll();
  ctx.PropagateAlways();
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kFlushDbSpec{
    .name = "flushdb",
    .arity = -1,
    .flags = kCmdWrite,
    .acl = kAclKeyspace | kAclDangerous,
    .group = "server",
    .since = "1.0.0",
    .complexity = "O(N) in the number of keys of the database.",
    .summary = "Removes all keys of the database.",
    .synopsis = "[async(ASYNC@4.0.0|SYNC@6.2.0)]",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .history =
        "4.0.0|Mode `ASYNC`.\n"
        "6.2.0|Mode `SYNC`.",
    .handler = FlushDb,
};

Status FlushAll(CommandContext& ctx) {
  bool lazy = false;
  CAIRN_RETURN_IF_ERROR(ParseFlushMode(ctx, &lazy));
  // The dump of a server that saves must not bring back at the next start what is thrown away here,
  // however soon the server ends: a save that runs must not put it back there, and one of nothing
  // follows before the reply.
  Durability* durability = ctx.engine().durability;
  const bool saves = durability != nullptr && !ctx.is_loading() && !ctx.settings().save.empty();
  if (saves) durability->AbortSave();
  for (uint32_t db = 0; db < ctx.keyspace().database_count(); ++db) {
    ctx.engine().watches.TouchDatabase(ctx.keyspace(), db, db);
    ctx.engine().blocking.SignalDatabase(db);
  }
  const uint64_t removed = ctx.keyspace().FlushAll(lazy);
  ctx.engine().tracking.InvalidateAll();
  ctx.PropagateAlways();
  // Counted first: the save has them.
  if (durability != nullptr) durability->AddChanges(removed);
  if (saves) {
    if (Status saved = durability->SaveNow(); !saved.ok()) {
      ctx.engine().log.Log(LogLevel::kWarning, "FLUSHALL could not save the empty dataset: {}",
                           saved.message());
    }
  }
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kFlushAllSpec{
    .name = "flushall",
    .arity = -1,
    .flags = kCmdWrite,
    .acl = kAclKeyspace | kAclDangerous,
    .group = "server",
    .since = "1.0.0",
    .complexity = "O(N) in the number of keys of all databases.",
    .summary = "Removes all keys of all databases.",
    .synopsis = "[async(ASYNC@4.0.0|SYNC@6.2.0)]",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .history =
        "4.0.0|Mode `ASYNC`.\n"
        "6.2.0|Mode `SYNC`.",
    .handler = FlushAll,
};

constexpr std::array kDatabaseSpecs = {
    kDbSizeSpec,
    kSwapDbSpec,
    kFlushDbSpec,
    kFlushAllSpec,
};
static_assert(ValidSpecs(kDatabaseSpecs));

}  // namespace

CommandFamily DatabaseCommands() { return kDatabaseSpecs; }

}  // namespace cairn

// XCLAIM and XAUTOCLAIM: pending entries that change hands. The log never carries these commands as
// sent, which depend on the clock, but what became of each entry.

#include <algorithm>
#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/stream_access.h"

namespace cairn {

namespace {

// --- XCLAIM ----------------------------------------------------------------------------------

struct ClaimOptions {
  int64_t min_idle_ms = 0;
  int64_t delivered_at_ms = -1;
  int64_t retry_count = -1;
  bool force = false;
  bool just_id = false;
  StreamId last_id;
};

Status ArgClaimNumber(const CommandContext& ctx, size_t i, std::string_view what, int64_t* out) {
  if (ParseInt64(ctx.arg(i), out)) return Status::Ok();
  return Status::Client("ERR Invalid " + std::string(what));
}

Status ParseClaimOption(const CommandContext& ctx, size_t* i, ClaimOptions* out) {
  const bool more = *i + 1 < ctx.argc();
  if (ctx.ArgIs(*i, "force")) {
    out->force = true;
  } else if (ctx.ArgIs(*i, "justid")) {
    out->just_id = true;
  } else if (ctx.ArgIs(*i, "idle") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "IDLE option argument for XCLAIM", &out->delivered_at_ms));
    // Whatever comes of bogus times is put right by SettleDeliveryTime.
    out->delivered_at_ms = static_cast<int64_t>(static_cast<uint64_t>(ctx.now_ms()) -
                                                static_cast<uint64_t>(out->delivered_at_ms));
  } else if (ctx.ArgIs(*i, "time") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "TIME option argument for XCLAIM", &out->delivered_at_ms));
  } else if (ctx.ArgIs(*i, "retrycount") && more) {
    CAIRN_RETURN_IF_ERROR(
        ArgClaimNumber(ctx, ++*i, "RETRYCOUNT option argument for XCLAIM", &out->retry_count));
  } else if (ctx.ArgIs(*i, "lastid") && more) {
    CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, ++*i, 0, &out->last_id));
  } else {
    return QuotingError({"ERR Unrecognized XCLAIM option '", ctx.arg(*i), "'"});
  }
  ++*i;
  return Status::Ok();
}

/// IDs up to the first argument that is none, then options.
Status ParseClaim(const CommandContext& ctx, std::vector<StreamId>* ids, ClaimOptions* out) {
  CAIRN_RETURN_IF_ERROR(
      ArgClaimNumber(ctx, 4, "min-idle-time argument for XCLAIM", &out->min_idle_ms));
  out->min_idle_ms = std::max<int64_t>(out->min_idle_ms, 0);
  size_t i = 5;
  for (StreamId id; i < ctx.argc() && ArgStreamId(ctx, i, 0, &id).ok(); ++i) ids->push_back(id);
  while (i < ctx.argc()) CAIRN_RETURN_IF_ERROR(ParseClaimOption(ctx, &i, out));
  if (out->delivered_at_ms < 0 || out->delivered_at_ms > ctx.now_ms())
    out->delivered_at_ms = ctx.now_ms();
  return Status::Ok();
}

/// A claim under way: what XCLAIM and XAUTOCLAIM do to each entry.
class Claim {
 public:
  Claim(CommandContext& ctx, KeyRef key, StreamValue& stream, StreamGroup& group,
        const ClaimOptions& options)
      : ctx_(ctx), key_(key), stream_(stream), group_(group), options_(options) {}

  /// An entry that is pending but no longer in the stream is forgotten, and that is propagated.
  void Forget(const PendingDelivery& delivery, std::string_view id_text = {}) {
    PropagateClaim(ctx_, key_, group_, group_.consumer(delivery.consumer).name, delivery, id_text);
    group_.Acknowledge(delivery.id, stream_);
    ctx_.AddDirty(1);
  }
  /// Gives an entry to the claiming consumer and replies it.
  void Take(const StreamEntry& entry, uint64_t delivery_count, std::string_view id_text = {}) {
    if (consumer_ == nullptr) consumer_ = ConsumerOrNew(ctx_, key_, group_, ctx_.arg(3));
    const PendingDelivery delivery =
        group_.Deliver(entry.id, consumer_, options_.delivered_at_ms, delivery_count, stream_);
    options_.just_id ? ReplyStreamId(ctx_, entry.id) : ReplyStreamEntry(ctx_, entry);
    PropagateClaim(ctx_, key_, group_, consumer_->name, delivery, id_text);
    ctx_.AddDirty(1);
  }
  bool IdleLongEnough(const PendingDelivery& delivery) const {
    return options_.min_idle_ms == 0 ||
           ctx_.now_ms() - delivery.delivered_at_ms >= options_.min_idle_ms;
  }

 private:
  CommandContext& ctx_;
  KeyRef key_;
  StreamValue& stream_;
  StreamGroup& group_;
  const ClaimOptions& options_;
  StreamConsumer* consumer_ = nullptr;
};

/// How often an entry has been delivered after this claim.
uint64_t NewCount(const ClaimOptions& options, uint64_t before) {
  if (options.retry_count >= 0) return static_cast<uint64_t>(options.retry_count);
  return before + !options.just_id;
}

Status XClaim(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  CAIRN_RETURN_IF_ERROR(GroupForWrite(ctx, key, ctx.arg(2), &stream, &group));
  std::vector<StreamId> ids;
  ClaimOptions options;
  CAIRN_RETURN_IF_ERROR(ParseClaim(ctx, &ids, &options));

  ctx.PropagateNotAsSent();
  const bool moved = options.last_id > group->last_id;
  if (moved) group->last_id = options.last_id;
  Claim claim(ctx, key, *stream, *group, options);
  const uint64_t dirty_before = ctx.dirty();
  const auto mark = ctx.reply().BeginDeferred();
  size_t replied = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const StreamId id = ids[i];
    const std::string_view id_text = ctx.arg(i + 5);
    const PendingDelivery* delivery = group->pending().Find(id);
    StreamIterator at(*stream, id, id, false);
    if (!at.Next()) {
      if (delivery != nullptr) claim.Forget(PendingDelivery(*delivery), id_text);
      continue;
    }
    if (delivery == nullptr && !options.force) continue;
    if (delivery != nullptr && !claim.IdleLongEnough(*delivery)) continue;
    claim.Take(at.entry(), NewCount(options, delivery != nullptr ? delivery->delivery_count : 1),
               id_text);
    ++replied;
  }
  // XCLAIM in the log carries the group's position; without one it goes out by itself.
  if (moved && ctx.dirty() == dirty_before) {
    PropagateGroupPosition(ctx, key, *group);
    ctx.AddDirty(1);
  }
  ctx.reply().EndDeferredArray(mark, replied);
  return Status::Ok();
}
constexpr CommandSpec kXClaimSpec{
    .name = "xclaim",
    .arity = -6,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(log N) with N being the number of messages in the PEL of the consumer group.",
    .summary = "Gives pending entries to another consumer.",
    .synopsis =
        "key#0 group consumer min-idle-time id... [IDLE=ms:integer] "
        "[TIME=unix-time-milliseconds:unix-time] [RETRYCOUNT=count:integer] [FORCE] "
        "[JUSTID] [LASTID=id]",
    .tips = "nondeterministic_output",
    .handler = XClaim,
};

// --- XAUTOCLAIM ------------------------------------------------------------------------------

// Entries looked at for each one that may be claimed.
constexpr int64_t kAttemptsPerEntry = 10;
constexpr int64_t kDefaultClaims = 100;
constexpr int64_t kMostClaims = INT64_MAX / 16;

Status ParseAutoClaim(const CommandContext& ctx, ClaimOptions* out, StreamId* start,
                      int64_t* count) {
  CAIRN_RETURN_IF_ERROR(
      ArgClaimNumber(ctx, 4, "min-idle-time argument for XAUTOCLAIM", &out->min_idle_ms));
  out->min_idle_ms = std::max<int64_t>(out->min_idle_ms, 0);
  CAIRN_RETURN_IF_ERROR(ArgStreamStart(ctx, 5, start));
  for (size_t i = 6; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "count") && i + 1 < ctx.argc()) {
      if (!ParseInt64(ctx.arg(++i), count) || *count < 1 || *count > kMostClaims)
        return Status::Client("ERR COUNT must be > 0");
    } else if (ctx.ArgIs(i, "justid")) {
      out->just_id = true;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  out->delivered_at_ms = ctx.now_ms();
  return Status::Ok();
}

/// What one XAUTOCLAIM does, in the order of IDs.
struct ClaimPlan {
  std::vector<PendingDelivery> entries;  ///< to claim, or to forget because they are gone
  size_t claims = 0;
  StreamId next = kMinStreamId;  ///< where the next one goes on; 0-0: the end was reached
};

ClaimPlan PlanClaims(const StreamValue& stream, const StreamGroup& group, const Claim& claim,
                     StreamId start, int64_t count) {
  ClaimPlan plan;
  StreamFinder finder(stream);
  int64_t attempts = count * kAttemptsPerEntry;
  group.pending().ForEachFrom(start, [&](const PendingDelivery& each) {
    if (attempts == 0 || count == 0) {
      plan.next = each.id;
      return false;
    }
    --attempts;
    const bool there = finder.Find(each.id) != nullptr;
    if (there && !claim.IdleLongEnough(each)) return true;
    plan.entries.push_back(each);
    plan.claims += there;
    --count;
    return true;
  });
  return plan;
}

Status XAutoClaim(CommandContext& ctx) {
  ClaimOptions options;
  StreamId start;
  int64_t count = kDefaultClaims;
  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  StreamGroup* group = nullptr;
  // A key that is missing is told of even if the arguments are wrong, whose error comes first.
  const Status found = GroupForWrite(ctx, key, ctx.arg(2), &stream, &group);
  CAIRN_RETURN_IF_ERROR(ParseAutoClaim(ctx, &options, &start, &count));
  CAIRN_RETURN_IF_ERROR(found);

  ctx.PropagateNotAsSent();
  Claim claim(ctx, key, *stream, *group, options);
  const ClaimPlan plan = PlanClaims(*stream, *group, claim, start, count);
  ctx.reply().ArrayHeader(3);
  ReplyStreamId(ctx, plan.next);
  ctx.reply().ArrayHeader(plan.claims);
  std::vector<StreamId> deleted;
  StreamFinder finder(*stream);
  for (const PendingDelivery& each : plan.entries) {
    if (const StreamEntry* entry = finder.Find(each.id)) {
      claim.Take(*entry, NewCount(options, each.delivery_count));
    } else {
      claim.Forget(each);
      deleted.push_back(each.id);
    }
  }
  ctx.reply().ArrayHeader(deleted.size());
  for (StreamId id : deleted) ReplyStreamId(ctx, id);
  return Status::Ok();
}
constexpr CommandSpec kXAutoClaimSpec{
    .name = "xautoclaim",
    .arity = -6,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "stream",
    .since = "6.2.0",
    .complexity = "O(1) if COUNT is small.",
    .summary = "Gives pending entries that nobody works on to another consumer.",
    .synopsis = "key#0 group consumer min-idle-time start [COUNT=count:integer] [JUSTID]",
    .tips = "nondeterministic_output",
    .history =
        "7.0.0|Added an element to the reply array, containing deleted entries the command "
        "cleared from the PEL",
    .handler = XAutoClaim,
};

constexpr std::array kStreamClaimSpecs = {kXClaimSpec, kXAutoClaimSpec};
static_assert(ValidSpecs(kStreamClaimSpecs));

}  // namespace

CommandFamily StreamClaimCommands() { return kStreamClaimSpecs; }

}  // namespace cairn

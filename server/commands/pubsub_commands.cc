// Publish and subscribe. A subscription is confirmed by a push of its own for each name, so that
// these commands answer as often as they were given names.

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"
#include "server/engine/pubsub.h"

namespace cairn {

namespace {

constexpr SubscriptionKind kChannel = SubscriptionKind::kChannel;
constexpr SubscriptionKind kPattern = SubscriptionKind::kPattern;
constexpr SubscriptionKind kShard = SubscriptionKind::kShard;

/// The words of the three families: "subscribe", "psubscribe", "ssubscribe".
constexpr std::string_view kConfirmed[] = {"subscribe", "psubscribe", "ssubscribe"};
constexpr std::string_view kEnded[] = {"unsubscribe", "punsubscribe", "sunsubscribe"};

/// What a confirmation counts: channels and patterns together, shard channels apart.
int64_t CountFor(const Session& session, SubscriptionKind kind) {
  if (kind == kShard) return static_cast<int64_t>(PubSub::CountOf(session, kShard));
  return static_cast<int64_t>(PubSub::CountOf(session, kChannel) +
                              PubSub::CountOf(session, kPattern));
}

/// Pushes "word, name, count"; a null name when there was nothing to end.
void Confirm(CommandContext& ctx, SubscriptionKind kind, std::string_view word,
             const std::string_view* name) {
  const Session::Push push(ctx.session(), 3);
  RespWriter& out = push.writer();
  out.Bulk(word);
  if (name != nullptr) {
    out.Bulk(*name);
  } else {
    out.Null();
  }
  out.Integer(CountFor(ctx.session(), kind));
}

Status SubscribeTo(CommandContext& ctx, SubscriptionKind kind) {
  // Inside MULTI the first two are let through, for clients that always did so.
  const bool in_multi = ctx.in_exec() && !ctx.from_script();
  if (!ctx.CanBlock() && (kind == kShard || !in_multi)) {
    return Status::Client("ERR " + ToUpper(ctx.spec().name) +
                          " isn't allowed for a DENY BLOCKING client");
  }
  for (size_t i = 1; i < ctx.argc(); ++i) {
    const std::string_view name = ctx.arg(i);
    ctx.engine().pubsub.Subscribe(ctx.session(), kind, name);
    Confirm(ctx, kind, kConfirmed[static_cast<size_t>(kind)], &name);
  }
  return Status::Ok();
}

Status UnsubscribeFrom(CommandContext& ctx, SubscriptionKind kind) {
  const std::string_view word = kEnded[static_cast<size_t>(kind)];
  PubSub& pubsub = ctx.engine().pubsub;
  for (size_t i = 1; i < ctx.argc(); ++i) {
    const std::string_view name = ctx.arg(i);
    pubsub.Unsubscribe(ctx.session(), kind, name);
    Confirm(ctx, kind, word, &name);
  }
  if (ctx.argc() > 1) return Status::Ok();
  const std::vector<std::string> names = PubSub::NamesOf(ctx.session(), kind);
  for (std::string_view name : names) {
    pubsub.Unsubscribe(ctx.session(), kind, name);
    Confirm(ctx, kind, word, &name);
  }
  if (names.empty()) Confirm(ctx, kind, word, nullptr);
  return Status::Ok();
}

constexpr uint64_t kListening = kCmdPubsub | kCmdNoScript | kCmdLoading | kCmdStale;
constexpr KeySpec kNoKeys = KeyRange(1, -1, 1, kKeyNotKey);

Status Subscribe(CommandContext& ctx) { return SubscribeTo(ctx, kChannel); }
constexpr CommandSpec kSubscribeSpec{
    .name = "subscribe",
    .arity = -2,
    .flags = kListening,
    .group = "pubsub",
    .since = "2.0.0",
    .complexity = "O(N) where N is the number of channels to subscribe to.",
    .summary = "Begins to listen to channels.",
    .synopsis = "channel...",
    .handler = Subscribe,
};

Status Unsubscribe(CommandContext& ctx) { return UnsubscribeFrom(ctx, kChannel); }
constexpr CommandSpec kUnsubscribeSpec{
    .name = "unsubscribe",
    .arity = -1,
    .flags = kListening,
    .group = "pubsub",
    .since = "2.0.0",
    .complexity = "O(N) where N is the number of clients already subscribed to a channel.",
    .summary = "Stops listening to channels, to all when none is named.",
    .synopsis = "[channel...]",
    .handler = Unsubscribe,
};

Status PSubscribe(CommandContext& ctx) { return SubscribeTo(ctx, kPattern); }
constexpr CommandSpec kPSubscribeSpec{
    .name = "psubscribe",
    .arity = -2,
    .flags = kListening,
    .group = "pubsub",
    .since = "2.0.0",
    .complexity = "O(N) where N is the number of patterns the client is already subscribed to.",
    .summary = "Begins to listen to all channels that match patterns.",
    .synopsis = "pattern{pattern:pattern}...",
    .handler = PSubscribe,
};

Status PUnsubscribe(CommandContext& ctx) { return UnsubscribeFrom(ctx, kPattern); }
constexpr CommandSpec kPUnsubscribeSpec{
    .name = "punsubscribe",
    .arity = -1,
    .flags = kListening,
    .group = "pubsub",
    .since = "2.0.0",
    .complexity =
        "O(N+M) where N is the number of patterns the client is already subscribed and M is the "
        "number of total patterns subscribed in the system (by any client).",
    .summary = "Stops listening to patterns, to all when none is named.",
    .synopsis = "[pattern:pattern...]",
    .handler = PUnsubscribe,
};

Status SSubscribe(CommandContext& ctx) { return SubscribeTo(ctx, kShard); }
constexpr CommandSpec kSSubscribeSpec{
    .name = "ssubscribe",
    .arity = -2,
    .flags = kListening,
    .keys = {kNoKeys},
    .group = "pubsub",
    .since = "7.0.0",
    .complexity = "O(N) where N is the number of shard channels to subscribe to.",
    .summary = "Begins to listen to shard channels.",
    .synopsis = "shardchannel...",
    .handler = SSubscribe,
};

Status SUnsubscribe(CommandContext& ctx) { return UnsubscribeFrom(ctx, kShard); }
constexpr CommandSpec kSUnsubscribeSpec{
    .name = "sunsubscribe",
    .arity = -1,
    .flags = kListening,
    .keys = {kNoKeys},
    .group = "pubsub",
    .since = "7.0.0",
    .complexity = "O(N) where N is the number of clients already subscribed to a shard channel.",
    .summary = "Stops listening to shard channels, to all when none is named.",
    .synopsis = "[shardchannel...]",
    .handler = SUnsubscribe,
};

// --- publishing ------------------------------------------------------------------------------

Status Publish(CommandContext& ctx) {
  ctx.reply().Integer(
      ctx.engine().pubsub.Publish(kChannel, ctx.arg(1), ctx.arg(2), ctx.ArgBlob(2)));
  ctx.PropagateToReplicas();
  return Status::Ok();
}
constexpr CommandSpec kPublishSpec{
    .name = "publish",
    .arity = 3,
    .flags = kCmdPubsub | kCmdLoading | kCmdStale | kCmdFast | kCmdMayReplicate,
    .group = "pubsub",
    .since = "2.0.0",
    .complexity =
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the "
        "total number of subscribed patterns (by any client).",
    .summary = "Sends a message to all who listen to a channel.",
    .synopsis = "channel message",
    .handler = Publish,
};

Status SPublish(CommandContext& ctx) {
  ctx.reply().Integer(ctx.engine().pubsub.Publish(kShard, ctx.arg(1), ctx.arg(2), ctx.ArgBlob(2)));
  ctx.PropagateToReplicas();
  return Status::Ok();
}
constexpr CommandSpec kSPublishSpec{
    .name = "spublish",
    .arity = 3,
    .flags = kCmdPubsub | kCmdLoading | kCmdStale | kCmdFast | kCmdMayReplicate,
    .keys = {OneKey(1, kKeyNotKey)},
    .group = "pubsub",
    .since = "7.0.0",
    .complexity =
        "O(N) where N is the number of clients subscribed to the receiving shard channel.",
    .summary = "Sends a message to all who listen to a shard channel.",
    .synopsis = "shardchannel message",
    .handler = SPublish,
};

// --- PUBSUB ----------------------------------------------------------------------------------

constexpr CommandSpec kPubsubSpec{
    .name = "pubsub",
    .arity = -2,
    .group = "pubsub",
    .since = "2.8.0",
    .complexity = "Depends on subcommand.",
    .summary = "Groups the commands that look at who listens.",
};

constexpr uint64_t kLooking = kCmdPubsub | kCmdLoading | kCmdStale;

Status ReplyNames(CommandContext& ctx, SubscriptionKind kind) {
  if (ctx.argc() > 3) return UnknownSubcommandOrArity("pubsub", ctx.arg(1));
  std::string_view glob;
  if (ctx.argc() == 3) glob = ctx.arg(2);
  const std::vector<std::string_view> names =
      ctx.engine().pubsub.Names(kind, ctx.argc() == 3 ? &glob : nullptr);
  ctx.reply().ArrayHeader(names.size());
  for (std::string_view name : names) ctx.reply().Bulk(name);
  return Status::Ok();
}

Status ReplyCounts(CommandContext& ctx, SubscriptionKind kind) {
  ctx.reply().ArrayHeader((ctx.argc() - 2) * 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    ctx.reply().Bulk(ctx.arg(i));
    ctx.reply().Integer(static_cast<int64_t>(ctx.engine().pubsub.ListenerCount(kind, ctx.arg(i))));
  }
  return Status::Ok();
}

Status PubsubChannels(CommandContext& ctx) { return ReplyNames(ctx, kChannel); }
constexpr CommandSpec kPubsubChannelsSpec{
    .name = "channels",
    .parent = "pubsub",
    .arity = -2,
    .flags = kLooking,
    .group = "pubsub",
    .since = "2.8.0",
    .complexity =
        "O(N) where N is the number of active channels, and assuming constant time pattern "
        "matching (relatively short channels and patterns)",
    .summary = "Lists the channels somebody listens to.",
    .synopsis = "[pattern:pattern]",
    .handler = PubsubChannels,
};

Status PubsubNumSub(CommandContext& ctx) { return ReplyCounts(ctx, kChannel); }
constexpr CommandSpec kPubsubNumSubSpec{
    .name = "numsub",
    .parent = "pubsub",
    .arity = -2,
    .flags = kLooking,
    .group = "pubsub",
    .since = "2.8.0",
    .complexity = "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
    .summary = "Counts those who listen to each of some channels.",
    .synopsis = "[channel...]",
    .handler = PubsubNumSub,
};

Status PubsubNumPat(CommandContext& ctx) {
  ctx.reply().Integer(static_cast<int64_t>(ctx.engine().pubsub.NameCount(kPattern)));
  return Status::Ok();
}
constexpr CommandSpec kPubsubNumPatSpec{
    .name = "numpat",
    .parent = "pubsub",
    .arity = 2,
    .flags = kLooking,
    .group = "pubsub",
    .since = "2.8.0",
    .complexity = "O(1)",
    .summary = "Counts the different patterns somebody listens to.",
    .handler = PubsubNumPat,
};

Status PubsubShardChannels(CommandContext& ctx) { return ReplyNames(ctx, kShard); }
constexpr CommandSpec kPubsubShardChannelsSpec{
    .name = "shardchannels",
    .parent = "pubsub",
    .arity = -2,
    .flags = kLooking,
    .group = "pubsub",
    .since = "7.0.0",
    .complexity =
        "O(N) where N is the number of active shard channels, and assuming constant time pattern "
        "matching (relatively short shard channels).",
    .summary = "Lists the shard channels somebody listens to.",
    .synopsis = "[pattern:pattern]",
    .handler = PubsubShardChannels,
};

Status PubsubShardNumSub(CommandContext& ctx) { return ReplyCounts(ctx, kShard); }
constexpr CommandSpec kPubsubShardNumSubSpec{
    .name = "shardnumsub",
    .parent = "pubsub",
    .arity = -2,
    .flags = kLooking,
    .group = "pubsub",
    .since = "7.0.0",
    .complexity =
        "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
    .summary = "Counts those who listen to each of some shard channels.",
    .synopsis = "[shardchannel...]",
    .handler = PubsubShardNumSub,
};

constexpr CommandSpec kPubsubHelpSpec{
    .name = "help",
    .parent = "pubsub",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "pubsub",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kPubsubSpecs = {
    kSubscribeSpec,
    kUnsubscribeSpec,
    kPSubscribeSpec,
    kPUnsubscribeSpec,
    kSSubscribeSpec,
    kSUnsubscribeSpec,
    kPublishSpec,
    kSPublishSpec,
    kPubsubSpec,
    kPubsubChannelsSpec,
    kPubsubNumSubSpec,
    kPubsubNumPatSpec,
    kPubsubShardChannelsSpec,
    kPubsubShardNumSubSpec,
    kPubsubHelpSpec,
};
// The key specs of SUNSUBSCRIBE reach past its arity, in Redis too: its channels may be left out.

}  // namespace

CommandFamily PubsubCommands() { return kPubsubSpecs; }

}  // namespace cairn

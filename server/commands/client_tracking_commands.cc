// CLIENT TRACKING and what belongs to it: tracking of the keys that clients cache
// (engine/tracking).

#include <array>

#include "server/base/strings.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

Status ParseTracking(CommandContext& ctx, TrackingState* options) {
  for (size_t i = 3; i < ctx.argc(); ++i) {
    const bool more = i + 1 < ctx.argc();
    if (ctx.ArgIs(i, "redirect") && more) {
      if (options->redirect != 0)
        return Status::Client("ERR A client can only redirect to a single other client");
      int64_t id;
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &id));
      if (ctx.engine().FindSession(static_cast<uint64_t>(id)) == nullptr)
        return Status::Client("ERR The client ID you want redirect to does not exist");
      options->redirect = static_cast<uint64_t>(id);
    } else if (ctx.ArgIs(i, "bcast")) {
      options->broadcast = true;
    } else if (ctx.ArgIs(i, "optin")) {
      options->opt_in = true;
    } else if (ctx.ArgIs(i, "optout")) {
      options->opt_out = true;
    } else if (ctx.ArgIs(i, "noloop")) {
      options->no_loop = true;
    } else if (ctx.ArgIs(i, "prefix") && more) {
      options->prefixes.emplace_back(ctx.arg(++i));
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

/// What the options may not be together, and with those the session tracks by already.
Status CheckModes(const Session& session, const TrackingState& wanted) {
  const TrackingState* now = session.tracking.get();
  if (!wanted.prefixes.empty() && !wanted.broadcast)
    return Status::Client("ERR PREFIX option requires BCAST mode to be enabled");
  if (now != nullptr && now->broadcast != wanted.broadcast) {
    return Status::Client(
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and "
        "then re-enabling it with a different mode.");
  }
  if (wanted.broadcast && (wanted.opt_in || wanted.opt_out))
    return Status::Client("ERR OPTIN and OPTOUT are not compatible with BCAST");
  if (wanted.opt_in && wanted.opt_out)
    return Status::Client("ERR You can't specify both OPTIN mode and OPTOUT mode");
  if (now != nullptr && ((wanted.opt_in && now->opt_out) || (wanted.opt_out && now->opt_in))) {
    return Status::Client(
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and "
        "then re-enabling it with a different mode.");
  }
  return wanted.broadcast ? Tracking::CheckPrefixes(session, wanted.prefixes) : Status::Ok();
}

Status ClientTracking(CommandContext& ctx) {
  TrackingState options;
  CAIRN_RETURN_IF_ERROR(ParseTracking(ctx, &options));
  if (ctx.ArgIs(2, "on")) {
    CAIRN_RETURN_IF_ERROR(CheckModes(ctx.session(), options));
    ctx.engine().tracking.Enable(ctx.session(), std::move(options));
  } else if (ctx.ArgIs(2, "off")) {
    ctx.engine().tracking.Disable(ctx.session());
  } else {
    return RespError(resp_errors::kSyntax);
  }
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientTrackingSpec{
    .name = "tracking",
    .parent = "client",
    .arity = -3,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.0.0",
    .complexity = "O(1), more with some options",
    .summary = "Switches the tracking of keys for client-side caches.",
    .synopsis =
        "status(ON|OFF) [REDIRECT=client-id:integer] [PREFIX=prefix+...] [BCAST] [OPTIN] "
        "[OPTOUT] [NOLOOP]",
    .handler = ClientTracking,
};

Status ClientCaching(CommandContext& ctx) {
  TrackingState* state = ctx.session().tracking.get();
  if (state == nullptr) {
    return Status::Client(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or "
        "OPTOUT mode enabled");
  }
  if (ctx.ArgIs(2, "yes")) {
    if (!state->opt_in) {
      return Status::Client(
          "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
    }
  } else if (ctx.ArgIs(2, "no")) {
    if (!state->opt_out) {
      return Status::Client(
          "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    }
  } else {
    return RespError(resp_errors::kSyntax);
  }
  state->caching = true;
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kClientCachingSpec{
    .name = "caching",
    .parent = "client",
    .arity = 3,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.0.0",
    .complexity = "O(1)",
    .summary = "Decides about tracking the keys of the next command.",
    .synopsis = "mode(YES|NO)",
    .handler = ClientCaching,
};

std::vector<std::string_view> FlagWords(const TrackingState* state) {
  if (state == nullptr) return {"off"};
  std::vector<std::string_view> words = {"on"};
  if (state->broadcast) words.push_back("bcast");
  if (state->opt_in) words.push_back("optin");
  if (state->opt_in && state->caching) words.push_back("caching-yes");
  if (state->opt_out) words.push_back("optout");
  if (state->opt_out && state->caching) words.push_back("caching-no");
  if (state->no_loop) words.push_back("noloop");
  if (state->broken_redirection) words.push_back("broken_redirect");
  return words;
}

int64_t RedirectionOf(const Session& session) {
  return session.tracking == nullptr ? -1 : static_cast<int64_t>(session.tracking->redirect);
}

Status ClientTrackingInfo(CommandContext& ctx) {
  const Session& session = ctx.session();
  RespWriter& reply = ctx.reply();
  reply.MapHeader(3);
  reply.Bulk("flags");
  const std::vector<std::string_view> words = FlagWords(session.tracking.get());
  reply.SetHeader(words.size());
  for (std::string_view word : words) reply.Bulk(word);
  reply.Bulk("redirect");
  reply.Integer(RedirectionOf(session));
  reply.Bulk("prefixes");
  std::vector<std::string> prefixes;
  if (session.tracking != nullptr) prefixes = session.tracking->prefixes;
  reply.ArrayHeader(prefixes.size());
  for (const std::string& prefix : prefixes) reply.Bulk(prefix);
  return Status::Ok();
}
constexpr CommandSpec kClientTrackinginfoSpec{
    .name = "trackinginfo",
    .parent = "client",
    .arity = 2,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Tells whether keys are tracked for this connection, and how.",
    .handler = ClientTrackingInfo,
};

Status ClientGetRedir(CommandContext& ctx) {
  ctx.reply().Integer(RedirectionOf(ctx.session()));
  return Status::Ok();
}
constexpr CommandSpec kClientGetredirSpec{
    .name = "getredir",
    .parent = "client",
    .arity = 2,
    .flags = kCmdNoScript | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "connection",
    .since = "6.0.0",
    .complexity = "O(1)",
    .summary = "Gives the connection that receives the invalidation messages.",
    .handler = ClientGetRedir,
};

constexpr std::array kClientTrackingSpecs = {
    kClientTrackingSpec,
    kClientCachingSpec,
    kClientTrackinginfoSpec,
    kClientGetredirSpec,
};
static_assert(ValidSpecs(kClientTrackingSpecs));

}  // namespace

CommandFamily ClientTrackingCommands() { return kClientTrackingSpecs; }

}  // namespace cairn

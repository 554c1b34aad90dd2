// WAIT: until enough replicas have what this client wrote. There are no replicas yet, so nothing
// but its timeout ends a wait for one.

#include <array>

#include "server/engine/blocking.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

void ReplyReplicas(CommandContext& ctx) { ctx.reply().Integer(0); }

Status Wait(CommandContext& ctx) {
  int64_t replicas = 0, timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(1, &replicas));
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, 2, TimeoutUnit::kMilliseconds, &timeout_ms));
  if (replicas <= 0) {
    ReplyReplicas(ctx);
    return Status::Ok();
  }
  return ctx.Block({.timeout_ms = timeout_ms, .on_timeout = ReplyReplicas});
}
constexpr CommandSpec kWaitSpec{
    .name = "wait",
    .arity = 3,
    .flags = kCmdNoScript,
    .acl = kAclConnection,
    .group = "generic",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Waits until replicas have received what this connection wrote.",
    .synopsis = "numreplicas:integer timeout:integer",
    .tips = "request_policy:all_shards response_policy:agg_min",
    .handler = Wait,
};

constexpr std::array kWaitSpecs = {kWaitSpec};
static_assert(ValidSpecs(kWaitSpecs));

}  // namespace

CommandFamily WaitCommands() { return kWaitSpecs; }

}  // namespace cairn

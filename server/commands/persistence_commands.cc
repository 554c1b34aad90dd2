// Saving, rewriting, and the end: what an operator asks of durability.

#include <array>

#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

Status Save(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().durability->Save());
  ctx.reply().Ok();
  return Status::Ok();
}

Status BgSave(CommandContext& ctx) {
  bool schedule = false;
  if (ctx.argc() > 1) {
    if (ctx.argc() != 2 || !ctx.ArgIs(1, "schedule")) return RespError(resp_errors::kSyntax);
    schedule = true;
  }
  std::string line;
  CAIRN_RETURN_IF_ERROR(ctx.engine().durability->StartBackgroundSave(schedule, &line));
  ctx.reply().SimpleString(line);
  return Status::Ok();
}

Status BgRewriteAof(CommandContext& ctx) {
  std::string line;
  CAIRN_RETURN_IF_ERROR(ctx.engine().durability->StartRewrite(&line));
  ctx.reply().SimpleString(line);
  return Status::Ok();
}

Status LastSave(CommandContext& ctx) {
  ctx.reply().Integer(ctx.engine().durability->figures().last_save_unix_s);
  return Status::Ok();
}

constexpr std::string_view kShutdownFailed = "ERR Errors trying to SHUTDOWN. Check logs.";

void ReplyShutdownFailed(CommandContext& ctx) { ctx.reply().Error(kShutdownFailed); }

Status Shutdown(CommandContext& ctx) {
  int save = -1;
  bool now = false, force = false, abort = false;
  for (size_t i = 1; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "nosave") && save != 1) {
      save = 0;
    } else if (ctx.ArgIs(i, "save") && save != 0) {
      save = 1;
    } else if (ctx.ArgIs(i, "now")) {
      now = true;
    } else if (ctx.ArgIs(i, "force")) {
      force = true;
    } else if (ctx.ArgIs(i, "abort")) {
      abort = true;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  if (abort && ctx.argc() > 2) return RespError(resp_errors::kSyntax);
  Engine& engine = ctx.engine();
  if (abort) {
    if (!engine.abort_shutdown || !engine.abort_shutdown())
      return Status::Client("ERR No shutdown in progress.");
    ctx.reply().Ok();
    return Status::Ok();
  }
  if (engine.script != nullptr) {
    if (save != 0) return BusyRefusal(*engine.script);
    // What the script has done so far is half a transaction: the log goes without it, and there is
    // no way back.
    engine.propagation.AbandonGroup();
    force = true;
  }
  if (!engine.prepare_shutdown || !engine.prepare_shutdown(save, now, force).ok()) {
    return Status::Client(std::string(kShutdownFailed));
  }
  // While replicas lag behind; answered only when it comes to nothing.
  if (engine.shutdown_waits) return ctx.Block({.on_timeout = ReplyShutdownFailed});
  engine.stop_requested = true;
  return Status::Ok();
}

constexpr std::array kPersistenceSpecs = {
    CommandSpec{.name = "save",
                .arity = 1,
                .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading | kCmdNoMulti,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(N) where N is the total number of keys in all databases",
                .summary = "Writes the snapshot file and returns when it is in place.",
                .handler = Save},
    CommandSpec{.name = "bgsave",
                .arity = -1,
                .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Writes the snapshot file in the background.",
                .synopsis = "[SCHEDULE@3.2.2]",
                .history = "3.2.2|`SCHEDULE`.",
                .handler = BgSave},
    CommandSpec{.name = "bgrewriteaof",
                .arity = 1,
                .flags = kCmdAdmin | kCmdNoScript | kCmdNoAsyncLoading,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Replaces the append-only file by a short one of the same data.",
                .handler = BgRewriteAof},
    CommandSpec{.name = "lastsave",
                .arity = 1,
                .flags = kCmdLoading | kCmdStale | kCmdFast,
                .acl = kAclAdmin | kAclDangerous,
                .group = "server",
                .since = "1.0.0",
                .complexity = "O(1)",
                .summary = "Unix time of the last good save.",
                .tips = "nondeterministic_output",
                .handler = LastSave},
    CommandSpec{
        .name = "shutdown",
        .arity = -1,
        .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale | kCmdNoMulti | kCmdAllowBusy,
        .group = "server",
        .since = "1.0.0",
        .complexity = "O(N) when saving, where N is the total number of keys in all databases when "
                      "saving data, "
                      "otherwise O(1)",
        .summary = "Saves as configured or as told, and ends the server.",
        .synopsis = "[nosave_save(NOSAVE|SAVE)] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]",
        .history = "7.0.0|`NOW`, `FORCE` and `ABORT`.",
        .handler = Shutdown},
};
static_assert(ValidSpecs(kPersistenceSpecs));

}  // namespace

CommandFamily PersistenceCommands() { return kPersistenceSpecs; }

}  // namespace cairn

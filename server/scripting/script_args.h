#pragma once

// What EVAL and FCALL have in common in their arguments: name, count of keys, keys, arguments.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/base/status.h"
#include "server/engine/engine.h"
#include "server/engine/script_scope.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

inline constexpr size_t kScriptFirstKey = 3;

/// The count at arg(2) of keys from kScriptFirstKey on.
constexpr KeySpec ScriptKeys(uint32_t flags, std::string_view notes) {
  return {KeySpec::Begin::kIndex, flags, 2, {}, KeySpec::Find::kKeyCount, 0, 1, 1, notes};
}

/// Checks a count of keys that was read from arg(2). Errors: Redis's lines.
inline Status CheckScriptKeyCount(const CommandContext& ctx, int64_t count) {
  if (count > static_cast<int64_t>(ctx.argc() - kScriptFirstKey))
    return RespError(resp_errors::kTooManyKeys);
  return count < 0 ? RespError(resp_errors::kNegativeKeys) : Status::Ok();
}

/// ASYNC or SYNC at arg(2); without it, lazyfree-lazy-user-flush decides. False: another word.
inline bool ReadFlushMode(const CommandContext& ctx, bool* lazy) {
  *lazy = ctx.argc() == 2 ? ctx.settings().lazyfree_lazy_user_flush : ctx.ArgIs(2, "async");
  return ctx.argc() == 2 || *lazy || ctx.ArgIs(2, "sync");
}

/// The flags of EVAL or FCALL for a script that declares `declared` (ScriptFlag bits). Source:
/// scriptFlagsToCmdFlags of Redis 7.0.
constexpr uint64_t FlagsOfScript(uint64_t command, uint32_t declared) {
  if (declared & kScriptCompat) return command;
  command &= ~(kCmdStale | kCmdDenyOom | kCmdWrite | kCmdMayReplicate);
  if (!(declared & (kScriptAllowOom | kScriptNoWrites))) command |= kCmdDenyOom;
  if (!(declared & kScriptNoWrites)) command |= kCmdWrite;
  if (declared & kScriptAllowStale) command |= kCmdStale;
  return command;
}

/// Monitors see the script before the commands it runs.
inline void ShowToMonitors(CommandContext& ctx) {
  ctx.engine().monitors.Feed(ctx.session().db, &ctx.session(), ctx.spec(), ctx.args());
}

}  // namespace cairn

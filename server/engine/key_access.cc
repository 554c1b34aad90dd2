#include "server/engine/key_access.h"

namespace cairn {

void RemoveAlreadyExpired(CommandContext& ctx, KeyRef key) {
  const bool lazy = ctx.settings().lazyfree_lazy_expire;
  PropagateInstead(ctx, {lazy ? "UNLINK" : "DEL", key.key});
  ctx.db().Remove(key, lazy);
  ctx.Changed(key, NotifyClass::kGeneric, "del");
}

Status ArgInRange(const CommandContext& ctx, size_t i, int64_t low, int64_t high, int64_t* out) {
  int64_t value = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i, &value));
  if (value < low || value > high) {
    return Status::Client("ERR value is out of range, value must between " + std::to_string(low) +
                          " and " + std::to_string(high));
  }
  *out = value;
  return Status::Ok();
}

}  // namespace cairn

#include "server/engine/multi_pop.h"

#include "server/base/strings.h"

namespace cairn {

Status ParseMultiPop(const CommandContext& ctx, size_t at, std::string_view first,
                     std::string_view second, MultiPop* out) {
  int64_t keys = 0;
  if (!ParseInt64(ctx.arg(at), &keys) || keys <= 0)
    return Status::Client("ERR numkeys should be greater than 0");
  out->first_key = at + 1;
  out->key_count = static_cast<size_t>(keys);
  if (out->key_count >= ctx.argc() - out->first_key) return RespError(resp_errors::kSyntax);
  const size_t word = out->first_key + out->key_count;
  out->first_end = ctx.ArgIs(word, first);
  if (!out->first_end && !ctx.ArgIs(word, second)) return RespError(resp_errors::kSyntax);

  bool has_count = false;
  for (size_t i = word + 1; i < ctx.argc(); i += 2) {
    if (has_count || !ctx.ArgIs(i, "COUNT") || i + 1 == ctx.argc())
      return RespError(resp_errors::kSyntax);
    int64_t count = 0;
    if (!ParseInt64(ctx.arg(i + 1), &count) || count <= 0)
      return Status::Client("ERR count should be greater than 0");
    out->count = static_cast<uint64_t>(count);
    has_count = true;
  }
  return Status::Ok();
}

}  // namespace cairn

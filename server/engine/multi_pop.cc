#include "server/engine/multi_pop.h"

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

Status ParseMultiPop(const CommandContext& ctx, size_t at, const PopKind& kind, MultiPop* out) {
  int64_t keys = 0;
  if (!ParseInt64(ctx.arg(at), &keys) || keys <= 0)
    return Status::Client("ERR numkeys should be greater than 0");
  out->first_key = at + 1;
  out->key_count = static_cast<size_t>(keys);
  if (out->key_count >= ctx.argc() - out->first_key) return RespError(resp_errors::kSyntax);
  const size_t word = out->first_key + out->key_count;
  out->first_end = ctx.ArgIs(word, kind.first_end);
  if (!out->first_end && !ctx.ArgIs(word, kind.second_end)) return RespError(resp_errors::kSyntax);

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

Status FirstOfType(CommandContext& ctx, ValueType type, size_t first_key, size_t key_count,
                   KeyRef* key, const Entry** entry) {
  *entry = nullptr;
  for (size_t i = 0; i < key_count && *entry == nullptr; ++i) {
    *key = ctx.Key(first_key + i);
    *entry = ctx.db().LookupWrite(*key);
    CAIRN_RETURN_IF_ERROR(ExpectType(*entry, type));
  }
  return Status::Ok();
}

Status PopFromFirst(CommandContext& ctx, const PopKind& kind) {
  MultiPop pop;
  CAIRN_RETURN_IF_ERROR(ParseMultiPop(ctx, 1, kind, &pop));
  KeyRef key{};
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(FirstOfType(ctx, kind.type, pop.first_key, pop.key_count, &key, &entry));
  if (entry == nullptr) {
    ctx.reply().NullArray();
    return Status::Ok();
  }
  kind.pop_counted(ctx, key, entry, pop.first_end, pop.count);
  return Status::Ok();
}

}  // namespace cairn

#include "server/engine/key_access.h"

#include <cerrno>
#include <cstdlib>

namespace cairn {

void ReplyStringPart(CommandContext& ctx, const Entry& entry, size_t at, size_t size) {
  if (entry.form() == ValueForm::kObject) {
    const ChunkedString& chunks = *entry.chunks();
    std::vector<BlobSlice> slices;
    for (size_t left = size; left > 0; left -= slices.back().size, at += slices.back().size)
      slices.push_back(chunks.SliceAt(at, left));
    return ctx.reply().BulkSlices(slices);
  }
  if (entry.form() == ValueForm::kBlob && size >= kReplyByReferenceBytes)
    return ctx.reply().BulkBlob({entry.BlobValue(), at, size});
  char scratch[kMaxInt64Chars + 3];
  ctx.reply().Bulk(entry.StringView(scratch).substr(at, size));
}

PackedLimits LimitsOf(const Settings& settings) {
  PackedLimits limits;
  limits.hash_max_listpack_entries = static_cast<uint64_t>(settings.hash_max_listpack_entries);
  limits.hash_max_listpack_value_bytes = static_cast<uint64_t>(settings.hash_max_listpack_value);
  limits.set_max_intset_entries = static_cast<uint64_t>(settings.set_max_intset_entries);
  limits.zset_max_listpack_entries = static_cast<uint64_t>(settings.zset_max_listpack_entries);
  limits.zset_max_listpack_value_bytes = static_cast<uint64_t>(settings.zset_max_listpack_value);
  limits.list_max_listpack_size = settings.list_max_listpack_size;
  limits.list_compress_depth = std::min(settings.list_compress_depth, 65535);
  return limits;
}

Status ArgCursor(const CommandContext& ctx, size_t i, uint64_t* cursor) {
  const std::string text(ctx.arg(i));
  char* end = nullptr;
  errno = 0;
  *cursor = std::strtoull(text.c_str(), &end, 10);
  const bool leading_space =
      !text.empty() && (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r'));
  if (leading_space || *end != '\0' || errno == ERANGE)
    return RespError(resp_errors::kInvalidCursor);
  return Status::Ok();
}

Status ParseElementScan(const CommandContext& ctx, ScanArguments* out) {
  for (size_t i = 3; i < ctx.argc(); i += 2) {
    if (i + 1 == ctx.argc()) return RespError(resp_errors::kSyntax);
    if (ctx.ArgIs(i, "count")) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &out->count));
      if (out->count < 1) return RespError(resp_errors::kSyntax);
    } else if (ctx.ArgIs(i, "match")) {
      out->pattern = ctx.arg(i + 1);
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

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

#include "server/engine/member_scan.h"

#include "server/engine/key_access.h"

namespace cairn {

Status ScanMembers(CommandContext& ctx, ValueType type, MemberScan* out) {
  ScanArguments scan;
  CAIRN_RETURN_IF_ERROR(ArgCursor(ctx, 2, &scan.cursor));
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectType(entry, type));
  if (entry == nullptr) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(ParseElementScan(ctx, &scan));
  char scratch[kMaxInt64Chars];
  out->cursor = MembersView(*entry).Scan(scan.cursor, static_cast<uint64_t>(scan.count),
                                         [&](const Member& member) {
                                           if (scan.Matches(member.key.Text(scratch)))
                                             out->found.push_back(member);
                                         });
  return Status::Ok();
}

void ReplyScanHead(CommandContext& ctx, uint64_t cursor, size_t elements) {
  ctx.reply().ArrayHeader(2);
  ctx.reply().BulkInt64(static_cast<int64_t>(cursor));
  ctx.reply().ArrayHeader(elements);
}

}  // namespace cairn

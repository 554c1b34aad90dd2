#include "server/engine/list_access.h"

#include <algorithm>

#include "server/engine/key_access.h"

namespace cairn {
namespace {

// Bits that Redis gives these two settings inside a list.
constexpr int kMaxFill = 32767;
constexpr int kMaxDepth = 65535;

}  // namespace

ListShape CurrentListShape(CommandContext& ctx) {
  return {.fill = std::min(ctx.settings().list_max_listpack_size, kMaxFill),
          .compress_depth = std::min(ctx.settings().list_compress_depth, kMaxDepth),
          .packed_threshold = ctx.engine().debug.quicklist_packed_threshold};
}

ListReader::ListReader(const Entry& entry) {
  if (entry.is_packed()) {
    packed_ = entry.Bytes();
    packed_count_ = ListpackView(packed_).count();
  } else {
    nodes_ = static_cast<const QuickList*>(entry.object());
  }
}

ListEdit::ListEdit(CommandContext& ctx, KeyRef key, const Entry* entry)
    : ctx_(ctx), key_(key), existed_(entry != nullptr) {
  if (entry != nullptr && !entry->is_packed()) {
    list_ = static_cast<QuickList*>(ctx.db().MutableContainer(key));
    list_->set_packed_threshold(ctx.engine().debug.quicklist_packed_threshold);
    return;
  }
  list_ = new QuickList(*ctx.keyspace().value_home(), CurrentListShape(ctx));
  fresh_ = ObjectRef::Adopt(list_);
  if (entry != nullptr) list_->AppendListpack(entry->Bytes(), ListpackView(entry->Bytes()).count());
}

bool ListEdit::Commit() {
  if (list_->size() == 0) {
    if (existed_) ctx_.db().Remove(key_, /*lazy=*/false);
    return existed_;
  }
  if (!fresh_) return false;
  const std::string_view packed = list_->SoleListpack();
  const bool small = !packed.empty() && packed.size() <= kMaxInlinePackedBytes;
  ValueInput value = small ? ValueInput::Packed(ValueType::kList, packed)
                           : ValueInput::FromObject(ValueType::kList, fresh_);
  if (existed_) {
    ctx_.db().Replace(key_, std::move(value));
  } else {
    StoreKey(ctx_, ctx_.db(), key_, std::move(value));
  }
  return false;
}

void ReplyItem(RespWriter& reply, const ListpackValue& item) {
  if (item.is_integer) {
    reply.BulkInt64(item.integer);
  } else {
    reply.Bulk(item.bytes);
  }
}

void PopElements(CommandContext& ctx, KeyRef key, const Entry* entry, bool at_head, uint64_t n) {
  const ListReader reader(*entry);
  const uint64_t size = reader.size();
  reader.Visit(at_head ? 0 : size - 1, n, !at_head, [&ctx](const ListpackValue& item) {
    ReplyItem(ctx.reply(), item);
    return true;
  });
  const bool gone = n == size;
  if (gone) {
    ctx.db().Remove(key, /*lazy=*/false);
  } else {
    ListEdit list(ctx, key, entry);
    list->EraseRange(at_head ? 0 : size - n, n);
    list.Commit();
  }
  PublishRemoval(ctx, key, NotifyClass::kList, at_head ? "lpop" : "rpop", gone, n);
}

}  // namespace cairn

#pragma once

// How list commands read and change a list, whatever form it stands in: one listpack inside its
// entry while it is short, a QuickList above. ListReader borrows the entry; ListEdit opens the list
// for changing, and Commit stores it back in the form that fits its size, or removes the key when
// it has become empty. Notifications and propagation are the command's own. Thread: executor.

#include "server/data/quicklist.h"
#include "server/engine/command_context.h"
#include "server/engine/engine.h"

namespace cairn {

/// The shape that lists made now take from the settings.
ListShape CurrentListShape(CommandContext& ctx);

/// OK when `entry` is absent or a list, WRONGTYPE otherwise.
inline Status ExpectList(const Entry* entry) {
  if (entry == nullptr || entry->type() == ValueType::kList) [[likely]]
    return Status::Ok();
  return RespError(resp_errors::kWrongType);
}

class ListReader {
 public:
  /// Requires: `entry` holds a list.
  explicit ListReader(const Entry& entry);
  /// nullptr while packed.
  const QuickList* nodes() const { return nodes_; }
  uint64_t size() const { return nodes_ != nullptr ? nodes_->size() : packed_count_; }
  /// As QuickList::Visit.
  template <typename Visitor>
  void Visit(uint64_t index, uint64_t n, bool reverse, Visitor&& visit) const {
    if (nodes_ != nullptr) return nodes_->Visit(index, n, reverse, visit);
    if (n != 0 && index < packed_count_)
      VisitListpack(ListpackView(packed_), static_cast<uint32_t>(index), reverse, &n, visit);
  }

 private:
  const QuickList* nodes_ = nullptr;
  std::string_view packed_;
  uint32_t packed_count_ = 0;
};

class ListEdit {
 public:
  /// Opens the list that `entry` (nullptr: absent, to be made) holds under `key` for changing.
  ListEdit(CommandContext& ctx, KeyRef key, const Entry* entry);
  QuickList* operator->() { return list_; }
  /// Stores what became of the list. Returns whether the key is gone because it became empty.
  bool Commit();

 private:
  CommandContext& ctx_;
  const KeyRef key_;
  const bool existed_;
  QuickList* list_;
  ObjectRef fresh_;  // list_, when it does not live in the table
};

/// Replies an element as a bulk string.
void ReplyItem(RespWriter& reply, const ListpackValue& item);

/// Takes `n` elements from one end of the list that `entry` holds under `key`, replying each, and
/// publishes what Redis does (lpop or rpop, then del). Requires: 1 <= n <= its size.
void PopElements(CommandContext& ctx, KeyRef key, const Entry* entry, bool at_head, uint64_t n);

}  // namespace cairn

#include "server/keyspace/member_edit.h"

namespace cairn {

MembersEdit::MembersEdit(Keyspace& keyspace, Database& db, KeyRef key, const Entry* entry,
                         ValueType type, const PackedLimits& limits)
    : db_(db),
      key_(key),
      existed_(entry != nullptr),
      builder_(*keyspace.value_home(), type, limits) {
  if (entry == nullptr) return;
  if (entry->form() == ValueForm::kObject) {
    in_place_ = true;
    builder_.StartTable(static_cast<MemberValue*>(db.MutableContainer(key)));
  } else {
    builder_.StartPacked(entry->Bytes(), entry->form());
  }
}

MembersEdit::Outcome MembersEdit::Commit(bool lazy) {
  if (builder_.size() == 0) {
    if (existed_) db_.Remove(key_, lazy);
    return existed_ ? Outcome::kRemoved : Outcome::kKept;
  }
  if (!existed_) {
    db_.Set(key_, builder_.TakeValue(), kNoExpiry);
    return Outcome::kCreated;
  }
  if (changed_ && !in_place_) db_.Replace(key_, builder_.TakeValue());
  return Outcome::kKept;
}

}  // namespace cairn

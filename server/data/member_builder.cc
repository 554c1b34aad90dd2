#include "server/data/member_builder.h"

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

// Room for one more element of ordinary size, so that the first edit does not move the bytes.
constexpr size_t kSpareBytes = 64;

}  // namespace

MemberBuilder::MemberBuilder(const ValueHome& home, ValueType type, const PackedLimits& limits)
    : home_(home),
      type_(type),
      limits_(limits),
      has_values_(type == ValueType::kHash),
      form_(has_values_ ? Form::kListpack : Form::kIntset),
      bytes_(has_values_ ? NewListpack() : NewIntset()),
      index_(has_values_ ? 1 : 0, home.hash_seed) {
  CAIRN_CHECK(type == ValueType::kHash || type == ValueType::kSet);
}

void MemberBuilder::StartPacked(std::string_view bytes, ValueForm form) {
  if (form == ValueForm::kInlineRaw) form_ = Form::kConverted;
  bytes_.reserve(bytes.size() + kSpareBytes);
  bytes_.assign(bytes);
}

void MemberBuilder::StartTable(MemberValue* table) {
  form_ = Form::kTable;
  table_ = table;
}

MembersView MemberBuilder::View() const {
  if (form_ == Form::kTable) return MembersView::OfTable(table_->table(), has_values_);
  if (form_ == Form::kIntset) return MembersView::OfIntset(bytes_);
  return MembersView::OfListpack(bytes_, has_values_);
}

void MemberBuilder::MoveToTable() {
  auto* table = new MemberValue(home_, type_);
  owned_ = ObjectRef::Adopt(table);
  char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
  View().ForEach([&](const Member& member) {
    table->table().Set(member.key.Text(key_scratch), member.value.Text(value_scratch));
    return true;
  });
  table_ = table;
  form_ = Form::kTable;
  bytes_.clear();
}

void MemberBuilder::KeepConvertedSmall() {
  if (form_ == Form::kConverted &&
      (bytes_.size() > kMaxInlinePackedBytes || size() > kMaxConvertedMembers))
    MoveToTable();
}

void MemberBuilder::Convert() {
  if (form_ == Form::kConverted || form_ == Form::kTable) return;
  if (form_ == Form::kIntset) {
    if (size() > kMaxConvertedMembers) return MoveToTable();
    const std::string intset = std::move(bytes_);
    bytes_ = NewListpack();
    char scratch[kMaxInt64Chars];
    MembersView::OfIntset(intset).ForEach([&](const Member& member) {
      ListpackAppend(&bytes_, member.key.Text(scratch));
      return true;
    });
  }
  form_ = Form::kConverted;
  KeepConvertedSmall();
}

bool MemberBuilder::SetInListpack(std::string_view member, std::string_view value) {
  const ListpackView view(bytes_);
  const uint32_t at = index_.Find(view, member);
  if (at != view.end()) {
    const auto old_size = static_cast<int64_t>(bytes_.size());
    if (has_values_) ListpackReplace(&bytes_, view.Next(at), value);
    index_.Resized(at, static_cast<int64_t>(bytes_.size()) - old_size);
    return false;
  }
  ListpackAppend(&bytes_, member);
  index_.Added(member, at);
  if (has_values_) ListpackAppend(&bytes_, value);
  return true;
}

bool MemberBuilder::Set(std::string_view member, std::string_view value) {
  if (form_ == Form::kListpack &&
      (member.size() > limits_.hash_max_listpack_value_bytes ||
       value.size() > limits_.hash_max_listpack_value_bytes ||
       bytes_.size() + member.size() + value.size() > kListpackMaxBytes)) {
    Convert();
  }
  if (form_ == Form::kIntset) {
    int64_t integer = 0;
    if (ParseInt64(member, &integer)) {
      if (!IntsetInsert(&bytes_, integer)) return false;
      if (IntsetView(bytes_).count() > limits_.set_max_intset_entries) Convert();
      return true;
    }
    Convert();
  }
  // What does not fit a record any more need not be copied into the listpack first.
  if (form_ == Form::kConverted &&
      bytes_.size() + member.size() + value.size() > kMaxInlinePackedBytes)
    MoveToTable();
  if (form_ == Form::kTable) return table_->table().Set(member, value);
  const bool is_new = SetInListpack(member, value);
  // Also an update does that, where the limit was lowered meanwhile.
  if (form_ == Form::kListpack && size() > limits_.hash_max_listpack_entries) Convert();
  KeepConvertedSmall();
  return is_new;
}

bool MemberBuilder::Erase(std::string_view member) {
  if (form_ == Form::kTable) return table_->table().Erase(member);
  if (form_ == Form::kIntset) {
    int64_t integer = 0;
    return ParseInt64(member, &integer) && IntsetErase(&bytes_, integer);
  }
  const ListpackView view(bytes_);
  const uint32_t at = index_.Find(view, member);
  if (at == view.end()) return false;
  ListpackErase(&bytes_, at, has_values_ ? 2 : 1);
  index_.Forget();
  return true;
}

ValueInput MemberBuilder::TakeValue() {
  if (form_ == Form::kTable) {
    CAIRN_CHECK(owned_);
    return ValueInput::FromObject(type_, std::move(owned_));
  }
  return ValueInput::Packed(type_, bytes_, form_ == Form::kConverted);
}

}  // namespace cairn

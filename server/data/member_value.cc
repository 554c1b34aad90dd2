#include "server/data/member_value.h"

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {

MemberValue::~MemberValue() {
  if (owns_nodes()) table_.Destroy();
}

Container* MemberValue::Clone() const {
  auto* copy = new MemberValue(home(), type_);
  char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
  table_.ForEach([&](const Member& member) {
    copy->table_.Set(member.key.Text(key_scratch), member.value.Text(value_scratch));
    return true;
  });
  return copy;
}

template <typename AtPage>
Status MemberValue::EmitPages(ValueSink& sink, AtPage&& at_page) const {
  const bool is_hash = type_ == ValueType::kHash;
  CAIRN_RETURN_IF_ERROR(sink.Begin(is_hash ? ValueKind::kHash : ValueKind::kSet, table_.size()));
  char key_scratch[kMaxInt64Chars], value_scratch[kMaxInt64Chars];
  Status status;
  const auto emit = [&](const Member& member) {
    const std::string_view key = member.key.Text(key_scratch);
    status = is_hash ? sink.Field(key, member.value.Text(value_scratch)) : sink.Item(key);
    return status.ok();
  };
  table_.ForEach(emit, at_page);
  return status.ok() ? sink.End() : status;
}

Status MemberValue::Emit(ValueSink& sink) const {
  return EmitPages(sink, [](uint64_t) {});
}

Status MemberValue::EmitFrozen(ValueSink& sink, FrozenPass& pass) const {
  const Status status = EmitPages(sink, [&](uint64_t hash) { pass.AtPage(table_, hash); });
  pass.AtEnd();
  return status;
}

MembersView::MembersView(const Entry& entry)
    : form_(Form::kListpack), has_values_(entry.type() == ValueType::kHash) {
  if (entry.form() == ValueForm::kObject) {
    // Hashes and sets have no other object.
    *this = OfTable(static_cast<const MemberValue*>(entry.object())->table(), has_values_);
  } else if (entry.type() == ValueType::kSet && entry.form() != ValueForm::kInlineRaw) {
    *this = OfIntset(entry.Bytes());
  } else {
    *this = OfListpack(entry.Bytes(), has_values_);
  }
}

MembersView MembersView::OfListpack(std::string_view bytes, bool has_values) {
  MembersView view(Form::kListpack, has_values);
  view.bytes_ = bytes;
  view.size_ = ListpackView(bytes).count() / (has_values ? 2 : 1);
  return view;
}

MembersView MembersView::OfIntset(std::string_view bytes) {
  MembersView view(Form::kIntset, false);
  view.bytes_ = bytes;
  view.size_ = IntsetView(bytes).count();
  return view;
}

MembersView MembersView::OfTable(const MemberTable& table, bool has_values) {
  MembersView view(Form::kTable, has_values);
  view.table_ = &table;
  view.size_ = table.size();
  return view;
}

bool MembersView::Find(std::string_view key, Member* out) const {
  if (form_ == Form::kTable) return table_->Find(key, out);
  if (form_ == Form::kIntset) {
    int64_t value = 0;
    if (!ParseInt64(key, &value) || !IntsetView(bytes_).Contains(value)) return false;
    if (out != nullptr) *out = OfInteger(value);
    return true;
  }
  const ListpackView view(bytes_);
  const uint32_t at = view.Find(key, view.begin(), has_values_ ? 1 : 0);
  if (at == view.end()) return false;
  if (out != nullptr) *out = ReadPacked(view, at);
  return true;
}

bool MembersView::Find(std::string_view key, ListpackIndex* index) const {
  if (form_ != Form::kListpack) return Find(key);
  const ListpackView view(bytes_);
  return index->Find(view, key) != view.end();
}

Member MembersView::Random(uint64_t random) const {
  CAIRN_CHECK(size_ > 0);
  if (form_ == Form::kTable) return table_->Random(random);
  const uint64_t index = random % size_;
  if (form_ == Form::kIntset)
    return OfInteger(IntsetView(bytes_).Get(static_cast<uint32_t>(index)));
  const ListpackView view(bytes_);
  return ReadPacked(view, view.Seek(static_cast<int64_t>(has_values_ ? 2 * index : index)));
}

}  // namespace cairn

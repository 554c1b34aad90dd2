#pragma once

// MemberValue: a big hash or set, a Container around a MemberTable. MembersView: any hash or set
// for reading, whatever holds it (listpack, intset, MemberValue), so that commands have one way to
// look. Changing them is MemberBuilder's and MembersEdit's. Thread: executor; MemberValue::Emit on
// the walker while frozen.

#include <cstdint>
#include <string_view>
#include <utility>

#include "server/base/intset.h"
#include "server/base/listpack.h"
#include "server/base/listpack_index.h"
#include "server/data/container.h"
#include "server/data/entry.h"
#include "server/data/member_table.h"

namespace cairn {

class MemberValue final : public Container {
 public:
  /// An empty one. `type` is kHash or kSet.
  MemberValue(const ValueHome& home, ValueType type)
      : Container(home), type_(type), table_(*this, type == ValueType::kHash) {}
  ~MemberValue() override;

  MemberTable& table() { return table_; }
  const MemberTable& table() const { return table_; }

  Container* Fork(uint64_t frozen_until) override { return new MemberValue(*this, frozen_until); }
  Container* Clone() const override;
  void CheckInvariants() const override { table_.CheckInvariants(); }
  void PrefetchMember(std::string_view member, int pass) const override {
    table_.Prefetch(member, pass);
  }
  Status Emit(ValueSink& sink) const override;
  Status EmitFrozen(ValueSink& sink, FrozenPass& pass) const override;
  size_t MemoryUsage() const override {
    return sizeof(*this) + (owns_nodes() ? table_.bytes() : 0);
  }
  size_t FreeEffort() const override { return owns_nodes() ? table_.block_count() : 1; }
  const char* EncodingName() const override { return "hashtable"; }
  const char* TypeName() const override { return type_ == ValueType::kHash ? "hash" : "set"; }

 private:
  MemberValue(MemberValue& old, uint64_t frozen_until)
      : Container(old, frozen_until), type_(old.type_), table_(*this, old.table_) {}

  template <typename AtPage>
  Status EmitPages(ValueSink& sink, AtPage&& at_page) const;

  const ValueType type_;
  MemberTable table_;
};

/// Borrows the entry or builder that it looks at, until that changes.
class MembersView {
 public:
  /// Requires: `entry` holds a hash or a set.
  explicit MembersView(const Entry& entry);
  static MembersView OfListpack(std::string_view bytes, bool has_values);
  static MembersView OfIntset(std::string_view bytes);
  static MembersView OfTable(const MemberTable& table, bool has_values);

  uint64_t size() const { return size_; }
  /// A form that Redis scans whole in one call: listpack, intset.
  bool is_packed() const { return form_ != Form::kTable; }
  /// Whether the members come in ascending numerical order.
  bool is_intset() const { return form_ == Form::kIntset; }

  /// Returns false when absent. Cost: O(1), O(n) in packed bytes.
  bool Find(std::string_view key, Member* out = nullptr) const;
  /// The same for who asks for many: `index` is of this view alone. Cost: O(1) in the mean.
  bool Find(std::string_view key, ListpackIndex* index) const;
  ListpackIndex NewIndex(uint64_t seed) const { return {has_values_ ? 1u : 0u, seed}; }
  /// visit(const Member&) -> bool goes on.
  template <typename Visit>
  bool ForEach(Visit&& visit) const;
  /// As MemberTable::Scan; packed forms come whole, with 0.
  template <typename Visit>
  uint64_t Scan(uint64_t cursor, uint64_t count, Visit&& visit) const;
  /// A fair random member. Requires: size() > 0. Cost: as Find.
  Member Random(uint64_t random) const;

 private:
  enum class Form : uint8_t { kListpack, kIntset, kTable };
  MembersView(Form form, bool has_values) : form_(form), has_values_(has_values) {}

  Member ReadPacked(const ListpackView& view, uint32_t at) const {
    Member member;
    member.key = view.Get(at);
    if (has_values_) member.value = view.Get(view.Next(at));
    return member;
  }
  static Member OfInteger(int64_t value) {
    Member member;
    member.key = {true, value, {}};
    return member;
  }

  Form form_;
  bool has_values_;
  uint64_t size_ = 0;
  std::string_view bytes_;  // kListpack, kIntset
  const MemberTable* table_ = nullptr;
};

template <typename Visit>
bool MembersView::ForEach(Visit&& visit) const {
  if (form_ == Form::kTable) return table_->ForEach(visit);
  if (form_ == Form::kIntset) {
    const IntsetView intset(bytes_);
    for (uint32_t i = 0; i < intset.count(); ++i) {
      if (!visit(OfInteger(intset.Get(i)))) return false;
    }
    return true;
  }
  const ListpackView view(bytes_);
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at)) {
    if (!visit(ReadPacked(view, at))) return false;
    if (has_values_) at = view.Next(at);
  }
  return true;
}

template <typename Visit>
uint64_t MembersView::Scan(uint64_t cursor, uint64_t count, Visit&& visit) const {
  if (form_ == Form::kTable) return table_->Scan(cursor, count, visit);
  ForEach([&visit](const Member& member) {
    visit(member);
    return true;
  });
  return 0;
}

}  // namespace cairn

#pragma once

// MemberBuilder: a hash or set being made or changed: which of the forms it has, when it moves on
// to the next, all as redis-server 7.0 reports it by OBJECT ENCODING. It holds packed bytes of its
// own, or a table that is its own or lent by the keyspace. It knows no keys: MembersEdit puts the
// result under one, the loader and the set operations take it. Thread: executor.
//
//   hash: listpack  --more fields or longer texts than the limits-->  converted
//   set:  intset    --a member that is no integer, or too many------>  converted
//   converted = a listpack while it is small (ValueForm::kInlineRaw), then a MemberValue; both are
//   "hashtable" outside. Nothing goes back.

#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/listpack_index.h"
#include "server/data/member_value.h"

namespace cairn {

/// Up to where containers stay packed: settings of the same names, as of now.
struct PackedLimits {
  uint64_t hash_max_listpack_entries = 512;
  uint64_t hash_max_listpack_value_bytes = 64;
  uint64_t set_max_intset_entries = 512;
  uint64_t zset_max_listpack_entries = 128;
  uint64_t zset_max_listpack_value_bytes = 64;
  int list_max_listpack_size = -2;
  int list_compress_depth = 0;
};

class MemberBuilder {
 public:
  /// A converted value stays a listpack up to this many members, so that looking one up stays O(1).
  static constexpr uint64_t kMaxConvertedMembers = 96;

  /// An empty hash or set. `home` and `limits` outlive the builder.
  MemberBuilder(const ValueHome& home, ValueType type, const PackedLimits& limits);

  /// Begins with what a packed entry holds, or with packed bytes of a file. Requires: nothing was
  /// added; the bytes are valid.
  void StartPacked(std::string_view bytes, ValueForm form);
  /// Begins with a table of the keyspace: changes go there.
  void StartTable(MemberValue* table);

  uint64_t size() const { return View().size(); }
  MembersView View() const;
  /// What TakeValue would give is a table.
  bool is_table() const { return table_ != nullptr; }

  /// Returns true when the member is new.
  bool Set(std::string_view member, std::string_view value);
  bool Insert(std::string_view member) { return Set(member, {}); }
  /// Returns false when absent.
  bool Erase(std::string_view member);
  /// Moves on to the converted form, as Redis does when it expects a large value.
  void Convert();

  /// The value. Packed bytes are borrowed from the builder: store it before the builder changes.
  /// Requires: the table is not the keyspace's.
  ValueInput TakeValue();

 private:
  enum class Form : uint8_t { kListpack, kIntset, kConverted, kTable };

  bool SetInListpack(std::string_view member, std::string_view value);
  void MoveToTable();
  void KeepConvertedSmall();

  const ValueHome& home_;
  const ValueType type_;
  const PackedLimits& limits_;
  const bool has_values_;
  Form form_;
  std::string bytes_;
  ListpackIndex index_;  // of bytes_, while they are a listpack
  MemberValue* table_ = nullptr;
  ObjectRef owned_;  // the table, when it is the builder's
};

}  // namespace cairn

#pragma once

// MembersEdit: one command's change of a hash or set under a key: begins with what the key holds,
// changes it through a MemberBuilder (a table in place, packed bytes in a copy), and Commit puts it
// back: one allocation at most for what is packed, no key for what is empty. Lives within one
// command; nothing else may change the key meanwhile. Thread: executor.

#include <optional>

#include "server/data/member_builder.h"
#include "server/keyspace/keyspace.h"

namespace cairn {

class MembersEdit {
 public:
  /// `entry`: what LookupWrite gave for `key`, a value of `type` or nullptr.
  MembersEdit(Keyspace& keyspace, Database& db, KeyRef key, const Entry* entry, ValueType type,
              const PackedLimits& limits);
  MembersEdit(const MembersEdit&) = delete;

  uint64_t size() const { return builder_.size(); }
  MembersView View() const { return builder_.View(); }
  bool Set(std::string_view member, std::string_view value) {
    changed_ = true;
    return builder_.Set(member, value);
  }
  bool Insert(std::string_view member) {
    const bool is_new = builder_.Insert(member);
    changed_ |= is_new;
    return is_new;
  }
  bool Erase(std::string_view member) {
    const bool was_there = builder_.Erase(member);
    changed_ |= was_there;
    return was_there;
  }
  void Convert() {
    changed_ = true;
    builder_.Convert();
  }

  enum class Outcome { kKept, kCreated, kRemoved };
  /// Stores the result; the TTL stays. An empty value removes the key, through the reaper when
  /// `lazy`.
  Outcome Commit(bool lazy = false);

 private:
  Database& db_;
  const KeyRef key_;
  const bool existed_;
  bool in_place_ = false;  // the builder works on the keyspace's own table
  bool changed_ = false;
  MemberBuilder builder_;
};

}  // namespace cairn

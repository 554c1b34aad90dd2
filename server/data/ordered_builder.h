#pragma once

// ListBuilder and SortedSetBuilder: a list or sorted set being made from the events of a file, and
// the form it ends in, as redis-server 7.0 loads it. They check what comes from outside: broken
// listpacks, members twice, scores that are no numbers. They know no keys; the value they give may
// borrow from them. Thread: executor.

#include <string>
#include <string_view>
#include <vector>

#include "server/data/entry.h"
#include "server/data/quicklist.h"
#include "server/data/sorted_set.h"

namespace cairn {

class ListBuilder {
 public:
  ListBuilder(const ValueHome& home, const ListShape& shape);
  /// Adds an element at the tail, where the nodes have room as after a push.
  void Append(std::string_view element) { list_->Push(/*at_head=*/false, element); }
  /// Adds a node as it stands. Empty ones are passed over. Errors: kCorruption.
  Status AppendListpack(std::string_view listpack);
  void AppendPlain(std::string_view element) { list_->AppendPlain(element); }
  uint64_t size() const { return list_->size(); }
  /// Requires: size() > 0. The value may borrow from the builder.
  ValueInput TakeValue();

 private:
  ObjectRef holder_;
  QuickList* list_;
};

/// Up to where a sorted set is packed.
struct SortedSetLimits {
  uint64_t entries = 128;
  uint64_t value_bytes = 64;
};

class SortedSetBuilder {
 public:
  SortedSetBuilder(const ValueHome& home, const SortedSetLimits& limits)
      : home_(home), limits_(limits) {}
  SortedSetBuilder(const SortedSetBuilder&) = delete;
  ~SortedSetBuilder();
  /// Adds a member. Errors: kCorruption for a NaN.
  Status Add(std::string_view member, double score);
  /// Takes a whole listpack of members and scores. Errors: kCorruption.
  Status AddListpack(std::string_view listpack);
  uint64_t size() const { return whole_ != 0 ? whole_ : records_.size(); }
  /// Requires: size() > 0. Errors: kCorruption when a member came twice. The value may borrow from
  /// the builder.
  Result<ValueInput> TakeValue();

 private:
  static Status Twice();

  const ValueHome home_;
  const SortedSetLimits limits_;
  std::vector<const ScoredRecord*> records_;  // owned until TakeValue
  size_t longest_ = 0;
  bool descending_ = true;  // as files hold them: from the highest to the lowest
  // Redis believes of a listpack that it was made within the limit on length.
  bool trust_length_ = false;
  std::string packed_;
  uint64_t whole_ = 0;  // members of packed_ that came as they stay
};

}  // namespace cairn

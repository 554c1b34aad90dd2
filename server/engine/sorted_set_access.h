#pragma once

// How sorted set commands read and change a sorted set, whatever form it stands in: a listpack
// inside its entry while it is small by the zset-max-listpack settings, a SortedSet above. The
// reader borrows the entry; the edit opens the set for changing, and Commit stores it back or
// removes the key when nothing is left. Notifications and propagation are the command's own.
// Thread: executor.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/data/packed_sorted_set.h"
#include "server/data/sorted_set.h"
#include "server/engine/command_context.h"
#include "server/engine/engine.h"

namespace cairn {

/// OK when `entry` is absent or a sorted set, WRONGTYPE otherwise.
inline Status ExpectSortedSet(const Entry* entry) {
  if (entry == nullptr || entry->type() == ValueType::kSortedSet) [[likely]]
    return Status::Ok();
  return RespError(resp_errors::kWrongType);
}

/// Whether a sorted set of so many members fits a listpack by the settings. member_bytes: of the
/// longest or newest member. packed_bytes: of the listpack without it.
bool StaysPacked(const Settings& settings, uint64_t members, size_t member_bytes,
                 size_t packed_bytes);

class SortedSetReader {
 public:
  /// Requires: `entry` holds a sorted set.
  explicit SortedSetReader(const Entry& entry);
  uint64_t size() const { return set_ != nullptr ? set_->size() : packed_.size(); }
  /// False when the member is not there. Cost: O(1), O(n) while packed.
  /// `index`: as of PackedSortedSetView::Find.
  bool Find(std::string_view member, double* score, ListpackIndex* index = nullptr) const {
    return set_ != nullptr ? set_->Find(member, score)
                           : packed_.Find(member, score, nullptr, index) != 0;
  }
  std::optional<uint64_t> RankOf(std::string_view member) const;
  /// The first `most` of the members in the range, or more where that costs nothing.
  RankRange Range(const ScoreRange& range, uint64_t most = UINT64_MAX) const {
    return set_ != nullptr ? set_->Range(range) : packed_.Range(range, most);
  }
  RankRange Range(const LexRange& range, bool reverse) const {
    return set_ != nullptr ? set_->Range(range) : packed_.Range(range, reverse);
  }
  /// Visits n members from `rank` on, upwards or, `reverse`, downwards:
  /// visit(std::string_view member, double score) -> bool goes on.
  template <typename Visitor>
  void Visit(uint64_t rank, uint64_t n, bool reverse, Visitor&& visit) const {
    if (set_ != nullptr) return set_->Visit(rank, n, reverse, visit);
    packed_.Visit(rank, n, reverse, visit);
  }
  /// nullptr while packed.
  const SortedSet* big() const { return set_; }

 private:
  const SortedSet* set_ = nullptr;
  PackedSortedSetView packed_;
};

class SortedSetEdit {
 public:
  /// Opens the set that `entry` (nullptr: absent, to be made) holds under `key` for changing.
  /// `first_member_bytes` decides the form of a new one, as in Redis.
  SortedSetEdit(CommandContext& ctx, KeyRef key, const Entry* entry, size_t first_member_bytes = 0);

  uint64_t size() const;
  bool Find(std::string_view member, double* score) const;
  /// Requires: the member is not there.
  void Insert(std::string_view member, double score);
  /// Requires: the member is there.
  void SetScore(std::string_view member, double score);
  bool Erase(std::string_view member);
  void EraseRange(RankRange range);
  /// Leaves the packed form, however few the members are.
  void Unpack() {
    if (set_ == nullptr) Convert();
  }
  /// Stores what became of the set. Returns whether the key is gone because it became empty.
  bool Commit();

 private:
  void Convert();

  CommandContext& ctx_;
  const KeyRef key_;
  const bool existed_;
  bool changed_ = false;
  std::string packed_;  // while set_ is nullptr
  SortedSet* set_ = nullptr;
  ObjectRef fresh_;  // set_, when it does not live in the table
};

/// The options of ZADD.
struct AddOptions {
  bool nx = false, xx = false, gt = false, lt = false, ch = false, incr = false;
};
/// A member to add, borrowed from the arguments.
struct ScoredArgument {
  double score = 0;
  std::string_view member;
};
/// What ZADD, ZINCRBY and GEOADD end in: adds or updates `pairs` in the set under arg(1), publishes
/// and replies. Requires: pairs is not empty; one pair only with `incr`.
Status AddScored(CommandContext& ctx, const AddOptions& options,
                 std::span<const ScoredArgument> pairs);

/// One member of a result.
struct ScoredMember {
  std::string member;
  double score;
};

/// What ZRANGESTORE, ZUNIONSTORE and GEOSEARCHSTORE end in: stores `members` under `key`, or
/// removes it when there are none, publishes `event` (or del) and replies their number. The members
/// are all different, in any order. reply_first: who hears of its own doing gets the reply ahead of
/// the event; geo commands reply last.
void StoreSortedSet(CommandContext& ctx, KeyRef key, std::vector<ScoredMember> members,
                    std::string_view event, bool reply_first = true);

/// Replies pairs as RESP2 does, flat, or nested as RESP3 does.
class PairReply {
 public:
  PairReply(RespWriter& reply, bool with_scores, uint64_t count);
  void Add(std::string_view member, double score);

 private:
  RespWriter& reply_;
  const bool with_scores_;
};

}  // namespace cairn

#pragma once

// SortedSet: a big sorted set: an index (score of a member, O(1)) and a ScoreOrder (ranks and
// ranges, O(log n)) over the same records, which the index owns. Both are shared with a running
// snapshot and copied piece by piece (container.h); a record that a view reads is replaced, never
// edited. Small sets are a listpack inside their entry: see packed_sorted_set.h. Executor; Emit and
// the const calls also the walker while frozen.
//
//   S1  Index and order hold the same records, each once.

#include <span>
#include <string_view>
#include <vector>

#include "server/data/record_index.h"
#include "server/data/score_order.h"
#include "server/data/score_range.h"

namespace cairn {

class SortedSet final : public Container {
 public:
  explicit SortedSet(const ValueHome& home);
  ~SortedSet() override;

  SortedSet* Fork(uint64_t frozen_until) override { return new SortedSet(*this, frozen_until); }
  SortedSet* Clone() const override;
  void CheckInvariants() const override;
  void PrefetchMember(std::string_view member, int pass) const override {
    members_.Prefetch(member, pass);
  }
  /// From the highest to the lowest, as Redis saves them.
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override;
  size_t FreeEffort() const override { return owns_nodes() ? order_.size() : 1; }
  const char* EncodingName() const override { return "skiplist"; }
  const char* TypeName() const override { return "zset"; }

  uint64_t size() const { return order_.size(); }
  bool Find(std::string_view member, double* score) const;
  uint64_t RankOf(const ScoreKey& key) const { return order_.RankOf(key); }
  RankRange Range(const ScoreRange& range) const;
  RankRange Range(const LexRange& range) const;
  /// visit(std::string_view member, double score) -> bool goes on.
  template <typename Visitor>
  void Visit(uint64_t rank, uint64_t n, bool reverse, Visitor&& visit) const {
    order_.Visit(rank, n, reverse, [&visit](const ScoredRecord& record) {
      return visit(record.member(), record.score());
    });
  }
  /// SCAN over the members; see RecordIndex::Scan.
  template <typename Visitor>
  uint64_t Scan(uint64_t cursor, uint64_t count, Visitor&& visit) const {
    return members_.Scan(cursor, count, [&visit](const ScoredRecord& record) {
      visit(record.member(), record.score());
    });
  }

  /// Fills an empty set. Takes over `records`, which are in order. Returns false when a member
  /// comes twice, and then the set is fit to be destroyed only.
  [[nodiscard]] bool Fill(std::span<const ScoredRecord* const> records);
  /// Adds a member. Returns false, changing nothing, when it is there already.
  bool Insert(std::string_view member, double score);
  /// Requires: the member is there.
  void SetScore(std::string_view member, double score);
  /// Returns whether the member was there.
  bool Erase(std::string_view member);
  void EraseRange(RankRange range);

 private:
  SortedSet(SortedSet& old, uint64_t frozen_until);

  RecordIndex members_;
  ScoreOrder order_;
};

}  // namespace cairn

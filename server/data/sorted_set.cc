#include "server/data/sorted_set.h"

namespace cairn {

SortedSet::SortedSet(const ValueHome& home) : Container(home), members_(*this) {}

SortedSet::SortedSet(SortedSet& old, uint64_t frozen_until)
    : Container(old, frozen_until), members_(*this) {
  members_.ForkFrom(old.members_);
  order_.ForkFrom(old.order_);
}

SortedSet::~SortedSet() {
  if (!owns_nodes()) return;
  order_.FreeNodes();
  members_.Destroy();
}

SortedSet* SortedSet::Clone() const {
  auto* clone = new SortedSet(home());
  std::vector<const ScoredRecord*> records;
  records.reserve(size());
  order_.Visit(0, size(), /*reverse=*/false, [&](const ScoredRecord& record) {
    records.push_back(ScoredRecord::Create(*home().slab, record.member(), record.score()));
    return true;
  });
  const bool unique = clone->Fill(records);
  CAIRN_CHECK(unique);  // S1
  return clone;
}

bool SortedSet::Fill(std::span<const ScoredRecord* const> records) {
  if (!members_.Build(records)) return false;
  order_.Build(records, *this);
  return true;
}

bool SortedSet::Find(std::string_view member, double* score) const {
  const ScoredRecord* record = members_.Find(member);
  if (record == nullptr) return false;
  if (score != nullptr) *score = record->score();
  return true;
}

RankRange SortedSet::Range(const ScoreRange& range) const {
  if (range.IsEmpty()) return {};
  const uint64_t from = order_.CountBefore(
      [&range](const ScoredRecord& record) { return range.IsBelow(record.score()); });
  const uint64_t to = order_.CountBefore(
      [&range](const ScoredRecord& record) { return range.IsNotPast(record.score()); });
  return {from, to > from ? to - from : 0};
}

RankRange SortedSet::Range(const LexRange& range) const {
  if (range.IsEmpty()) return {};
  const uint64_t from = order_.CountBefore(
      [&range](const ScoredRecord& record) { return range.IsBelow(record.member()); });
  const uint64_t to = order_.CountBefore(
      [&range](const ScoredRecord& record) { return range.IsNotPast(record.member()); });
  return {from, to > from ? to - from : 0};
}

bool SortedSet::Insert(std::string_view member, double score) {
  if (members_.Find(member) != nullptr) return false;
  const ScoredRecord* record = ScoredRecord::Create(*home().slab, member, score);
  members_.Insert(record);
  order_.Insert(record, *this);
  return true;
}

void SortedSet::SetScore(std::string_view member, double score) {
  const ScoredRecord* old = members_.Find(member);
  CAIRN_CHECK(old != nullptr);
  const ScoreOrder::Place place = order_.PlaceOf(*old);
  // The order finds its items by their scores, so they change only while the order does not look.
  if (order_.KeepsPlace(place, score)) {
    const ScoredRecord* fresh = members_.SetScore(member, score);
    if (fresh != old) order_.PointTo(place, fresh, *this);
    return;
  }
  order_.Erase(place, *this);
  order_.Insert(members_.SetScore(member, score), *this);
}

bool SortedSet::Erase(std::string_view member) {
  const ScoredRecord* record = members_.Find(member);
  if (record == nullptr) return false;
  order_.Erase(order_.PlaceOf(*record), *this);
  members_.Erase(record);
  return true;
}

void SortedSet::EraseRange(RankRange range) {
  std::vector<const ScoredRecord*> records;
  records.reserve(range.count);
  order_.Visit(range.from, range.count, /*reverse=*/false, [&records](const ScoredRecord& record) {
    records.push_back(&record);
    return true;
  });
  order_.EraseRange(range.from, records.size(), *this);
  for (const ScoredRecord* record : records) members_.Erase(record);
}

size_t SortedSet::MemoryUsage() const {
  return sizeof(*this) + (owns_nodes() ? members_.Bytes() + order_.Bytes() : 0);
}

Status SortedSet::Emit(ValueSink& sink) const {
  CAIRN_RETURN_IF_ERROR(sink.Begin(ValueKind::kSortedSet, size()));
  Status status;
  if (size() != 0) {
    order_.Visit(size() - 1, size(), /*reverse=*/true, [&](const ScoredRecord& record) {
      status = sink.Scored(record.member(), record.score());
      return status.ok();
    });
  }
  CAIRN_RETURN_IF_ERROR(status);
  return sink.End();
}

void SortedSet::CheckInvariants() const {
  members_.CheckInvariants();
  order_.CheckInvariants();
  CAIRN_CHECK(members_.size() == order_.size());  // S1
  if (size() == 0) return;
  order_.Visit(0, size(), /*reverse=*/false, [this](const ScoredRecord& record) {
    CAIRN_CHECK(members_.Find(record.member()) == &record);  // S1
    return true;
  });
}

}  // namespace cairn

#include "server/data/ordered_builder.h"

#include <algorithm>
#include <cmath>

#include "server/data/packed_sorted_set.h"

namespace cairn {

ListBuilder::ListBuilder(const ValueHome& home, const ListShape& shape)
    : list_(new QuickList(home, shape)) {
  holder_ = ObjectRef::Adopt(list_);
}

Status ListBuilder::AppendListpack(std::string_view listpack) {
  if (!ListpackView::Validate(listpack))
    return Status::Corruption("a list node is no whole listpack");
  const uint32_t count = ListpackView(listpack).count();
  if (count != 0) list_->AppendListpack(listpack, count);
  return Status::Ok();
}

ValueInput ListBuilder::TakeValue() {
  const std::string_view packed = list_->SoleListpack();
  if (!packed.empty() && packed.size() <= kMaxInlinePackedBytes)
    return ValueInput::Packed(ValueType::kList, packed);
  return ValueInput::FromObject(ValueType::kList, holder_);
}

SortedSetBuilder::~SortedSetBuilder() {
  for (const ScoredRecord* record : records_)
    home_.slab->Free(const_cast<ScoredRecord*>(record), record->bytes());
}

Status SortedSetBuilder::Add(std::string_view member, double score) {
  if (std::isnan(score)) return Status::Corruption("a sorted set holds a score that is no number");
  longest_ = std::max(longest_, member.size());
  // Here, where the record before is at hand: a look at all of them later fetches each again.
  descending_ = descending_ &&
                (records_.empty() || CompareScored(*records_.back(), ScoreKey{score, member}) >= 0);
  records_.push_back(ScoredRecord::Create(*home_.slab, member, score));
  return Status::Ok();
}

Status SortedSetBuilder::AddListpack(std::string_view listpack) {
  if (!ListpackView::Validate(listpack))
    return Status::Corruption("a sorted set is no whole listpack");
  const ListpackView pack(listpack);
  if (pack.count() % 2 != 0) return Status::Corruption("a sorted set ends with a member");
  if (size() == 0 && pack.count() / 2 <= limits_.entries &&
      PackedSortedSetView::Validate(listpack, home_.hash_seed)) {
    packed_ = listpack;
    whole_ = pack.count() / 2;
    return Status::Ok();
  }
  trust_length_ = true;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = pack.begin(); at != pack.end(); at = pack.Next(at)) {
    const std::string_view member = pack.Get(at).Text(scratch);
    at = pack.Next(at);
    double score = 0;
    if (!ReadPackedScore(pack.Get(at), &score))
      return Status::Corruption("a sorted set holds a score that is no number");
    CAIRN_RETURN_IF_ERROR(Add(member, score));
  }
  return Status::Ok();
}

Status SortedSetBuilder::Twice() { return Status::Corruption("a sorted set holds a member twice"); }

Result<ValueInput> SortedSetBuilder::TakeValue() {
  if (whole_ != 0) return ValueInput::Packed(ValueType::kSortedSet, packed_);
  if (descending_) {
    std::reverse(records_.begin(), records_.end());
  } else {
    std::sort(records_.begin(), records_.end(), [](const ScoredRecord* a, const ScoredRecord* b) {
      return CompareScored(*a, {b->score(), b->member()}) < 0;
    });
  }
  const bool is_short = trust_length_ || longest_ <= limits_.value_bytes;
  if (is_short && records_.size() <= limits_.entries) {
    packed_ = NewListpack();
    for (const ScoredRecord* record : records_) {
      ListpackAppend(&packed_, record->member());
      ListpackAppend(&packed_, PackedScoreText(record->score()));
    }
    if (ListpackIndex::HoldsTwice(ListpackView(packed_), PackedSortedSetView::kSkip,
                                  home_.hash_seed))
      return Twice();
    return ValueInput::Packed(ValueType::kSortedSet, packed_);
  }
  auto* set = new SortedSet(home_);
  ObjectRef holder = ObjectRef::Adopt(set);
  const bool unique = set->Fill(records_);
  records_.clear();
  if (!unique) return Twice();
  return ValueInput::FromObject(ValueType::kSortedSet, std::move(holder));
}

}  // namespace cairn

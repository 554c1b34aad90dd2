#include "server/engine/sorted_set_access.h"

#include <algorithm>
#include <cmath>

#include "server/engine/key_access.h"

namespace cairn {

bool StaysPacked(const Settings& settings, uint64_t members, size_t member_bytes,
                 size_t packed_bytes) {
  return members <= static_cast<uint64_t>(settings.zset_max_listpack_entries) &&
         member_bytes <= static_cast<uint64_t>(settings.zset_max_listpack_value) &&
         packed_bytes + member_bytes <= kListpackMaxBytes;
}

namespace {

enum class AddOutcome : uint8_t { kNothing, kSame, kUpdated, kAdded };

/// Adds or updates one member as the options say. *score becomes the member's score.
Status AddMember(SortedSetEdit& set, const AddOptions& options, std::string_view member,
                 double* score, AddOutcome* outcome) {
  double current = 0;
  *outcome = AddOutcome::kNothing;
  if (!set.Find(member, &current)) {
    if (options.xx) return Status::Ok();
    set.Insert(member, *score);
    *outcome = AddOutcome::kAdded;
    return Status::Ok();
  }
  if (options.nx) return Status::Ok();
  if (options.incr) {
    *score += current;
    if (std::isnan(*score)) return RespError(resp_errors::kScoreNan);
  }
  if ((options.lt && *score >= current) || (options.gt && *score <= current)) return Status::Ok();
  *outcome = AddOutcome::kSame;
  if (*score == current) return Status::Ok();
  set.SetScore(member, *score);
  *outcome = AddOutcome::kUpdated;
  return Status::Ok();
}

}  // namespace

SortedSetReader::SortedSetReader(const Entry& entry)
    : packed_(entry.is_packed() ? entry.Bytes() : std::string_view()) {
  if (!entry.is_packed()) set_ = static_cast<const SortedSet*>(entry.object());
}

std::optional<uint64_t> SortedSetReader::RankOf(std::string_view member) const {
  uint64_t rank = 0;
  double score = 0;
  if (set_ == nullptr) {
    if (packed_.Find(member, nullptr, &rank) == 0) return std::nullopt;
    return rank;
  }
  if (!set_->Find(member, &score)) return std::nullopt;
  return set_->RankOf({score, member});
}

SortedSetEdit::SortedSetEdit(CommandContext& ctx, KeyRef key, const Entry* entry,
                             size_t first_member_bytes)
    : ctx_(ctx), key_(key), existed_(entry != nullptr) {
  if (entry != nullptr && !entry->is_packed()) {
    set_ = static_cast<SortedSet*>(ctx.db().MutableContainer(key));
    return;
  }
  packed_ = entry != nullptr ? std::string(entry->Bytes()) : NewListpack();
  if (entry == nullptr && !StaysPacked(ctx.settings(), 1, first_member_bytes, 0)) Convert();
}

void SortedSetEdit::Convert() {
  auto* set = new SortedSet(*ctx_.keyspace().value_home());
  fresh_ = ObjectRef::Adopt(set);
  PackedSortedSetView(packed_).Visit(0, UINT64_MAX, false,
                                     [set](std::string_view member, double score) {
                                       set->Insert(member, score);
                                       return true;
                                     });
  set_ = set;
  packed_.clear();
}

uint64_t SortedSetEdit::size() const {
  return set_ != nullptr ? set_->size() : PackedSortedSetView(packed_).size();
}

bool SortedSetEdit::Find(std::string_view member, double* score) const {
  if (set_ != nullptr) return set_->Find(member, score);
  return PackedSortedSetView(packed_).Find(member, score, nullptr) != 0;
}

void SortedSetEdit::Insert(std::string_view member, double score) {
  changed_ = true;
  if (set_ == nullptr) {
    if (StaysPacked(ctx_.settings(), size() + 1, member.size(), packed_.size()))
      return PackedSortedSetInsert(&packed_, member, score);
    Convert();
  }
  set_->Insert(member, score);
}

void SortedSetEdit::SetScore(std::string_view member, double score) {
  changed_ = true;
  if (set_ != nullptr) return set_->SetScore(member, score);
  PackedSortedSetErase(&packed_, PackedSortedSetView(packed_).Find(member, nullptr, nullptr));
  PackedSortedSetInsert(&packed_, member, score);
}

bool SortedSetEdit::Erase(std::string_view member) {
  if (set_ != nullptr) return set_->Erase(member);
  const uint32_t at = PackedSortedSetView(packed_).Find(member, nullptr, nullptr);
  if (at == 0) return false;
  changed_ = true;
  PackedSortedSetErase(&packed_, at);
  return true;
}

void SortedSetEdit::EraseRange(RankRange range) {
  changed_ = true;
  if (set_ != nullptr) return set_->EraseRange(range);
  PackedSortedSetEraseRange(&packed_, range);
}

bool SortedSetEdit::Commit() {
  if (size() == 0) {
    if (existed_) ctx_.db().Remove(key_, /*lazy=*/false);
    return existed_;
  }
  if (!fresh_ && (set_ != nullptr || !changed_)) return false;
  ValueInput value = set_ == nullptr ? ValueInput::Packed(ValueType::kSortedSet, packed_)
                                     : ValueInput::FromObject(ValueType::kSortedSet, fresh_);
  if (existed_) {
    ctx_.db().Replace(key_, std::move(value));
  } else {
    StoreKey(ctx_, ctx_.db(), key_, std::move(value));
  }
  return false;
}

Status AddScored(CommandContext& ctx, const AddOptions& options,
                 std::span<const ScoredArgument> pairs) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectSortedSet(entry));
  uint64_t added = 0, updated = 0;
  AddOutcome outcome = AddOutcome::kNothing;
  double score = 0;
  Status failed;
  if (entry != nullptr || !options.xx) {
    SortedSetEdit set(ctx, key, entry, pairs[0].member.size());
    for (size_t i = 0; i < pairs.size() && failed.ok(); ++i) {
      score = pairs[i].score;
      failed = AddMember(set, options, pairs[i].member, &score, &outcome);
      added += outcome == AddOutcome::kAdded;
      updated += outcome == AddOutcome::kUpdated;
    }
    set.Commit();
  }
  if (failed.ok()) {  // before the event, for who hears of its own doing
    if (!options.incr) {
      ctx.reply().Integer(static_cast<int64_t>(options.ch ? added + updated : added));
    } else if (outcome == AddOutcome::kNothing) {
      ctx.reply().Null();
    } else {
      ctx.reply().Double(score);
    }
  }
  if (added + updated != 0) {
    ctx.Changed(key, NotifyClass::kSortedSet, options.incr ? "zincr" : "zadd");
    ctx.AddDirty(added + updated - 1);
  }
  return failed;
}

void StoreSortedSet(CommandContext& ctx, KeyRef key, std::vector<ScoredMember> members,
                    std::string_view event, bool reply_first) {
  Database& db = ctx.db();
  const auto size = static_cast<int64_t>(members.size());
  if (members.empty()) {
    if (reply_first) ctx.reply().Integer(0);
    RemoveTarget(ctx, key, ctx.settings().lazyfree_lazy_server_del);
    if (!reply_first) ctx.reply().Integer(0);
    return;
  }
  size_t longest = 0, total = 0;
  for (const ScoredMember& each : members) {
    longest = std::max(longest, each.member.size());
    total += each.member.size();
  }
  std::sort(members.begin(), members.end(), [](const ScoredMember& a, const ScoredMember& b) {
    return a.score != b.score ? a.score < b.score : a.member < b.member;
  });
  if (StaysPacked(ctx.settings(), members.size(), longest, total)) {
    std::string packed = NewListpack();
    for (const ScoredMember& each : members) {
      ListpackAppend(&packed, each.member);
      ListpackAppend(&packed, PackedScoreText(each.score));
    }
    SetKey(ctx, db, key, ValueInput::Packed(ValueType::kSortedSet, packed));
  } else {
    auto* set = new SortedSet(*ctx.keyspace().value_home());
    ObjectRef holder = ObjectRef::Adopt(set);
    std::vector<const ScoredRecord*> records;
    records.reserve(members.size());
    for (const ScoredMember& each : members)
      records.push_back(ScoredRecord::Create(*set->home().slab, each.member, each.score));
    const bool unique = set->Fill(records);
    CAIRN_CHECK(unique);  // the members are the keys of a map
    SetKey(ctx, db, key, ValueInput::FromObject(ValueType::kSortedSet, std::move(holder)));
  }
  if (reply_first) ctx.reply().Integer(size);
  ctx.Changed(key, NotifyClass::kSortedSet, event);
  if (!reply_first) ctx.reply().Integer(size);
}

PairReply::PairReply(RespWriter& reply, bool with_scores, uint64_t count)
    : reply_(reply), with_scores_(with_scores) {
  reply_.ArrayHeader(with_scores && reply.version() == 2 ? count * 2 : count);
}

void PairReply::Add(std::string_view member, double score) {
  if (with_scores_ && reply_.version() == 3) reply_.ArrayHeader(2);
  reply_.Bulk(member);
  if (with_scores_) reply_.Double(score);
}

}  // namespace cairn

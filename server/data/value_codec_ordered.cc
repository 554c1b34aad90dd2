// ValueBuilder's part in lists and sorted sets: the events go to their builders.

#include "persistence/packed_value.h"
#include "persistence/rdb_format.h"
#include "server/data/value_codec.h"

namespace cairn {

Status ValueBuilder::BeginList() {
  if (whole_ || open_ || module_ != nullptr)
    return Refuse(Status::Corruption("two values for one key"));
  constexpr int kMaxFill = 32767;
  list_.emplace(home_, ListShape{.fill = std::min(limits_.list_max_listpack_size, kMaxFill),
                                 .compress_depth = limits_.list_compress_depth});
  open_ = true;
  return Status::Ok();
}

Status ValueBuilder::ListNodeBlob(uint8_t rdb_type, std::string_view blob) {
  if (rdb_type == rdb::kString) {
    list_->AppendPlain(blob);
    return Status::Ok();
  }
  Result<std::string> converted = std::string();
  if (rdb_type == rdb::kListZiplist) {
    converted = ListpackOfZiplist(blob);
    if (!converted.ok()) return Refuse(converted.status());
    blob = *converted;
  }
  const Status status = list_->AppendListpack(blob);
  return status.ok() ? status : Refuse(status);
}

Status ValueBuilder::EndList() {
  open_ = false;
  if (list_->size() > 0) return Store(list_->TakeValue());
  empty_ = true;
  return Status::Ok();
}

Status ValueBuilder::BeginSortedSet() {
  if (whole_ || open_ || module_ != nullptr)
    return Refuse(Status::Corruption("two values for one key"));
  scored_.emplace(home_, SortedSetLimits{.entries = limits_.zset_max_listpack_entries,
                                         .value_bytes = limits_.zset_max_listpack_value_bytes});
  open_ = true;
  return Status::Ok();
}

Status ValueBuilder::Scored(std::string_view member, double score) {
  if (!open_ || !scored_.has_value()) return Refuse(Refused("container"));
  const Status status = scored_->Add(member, score);
  return status.ok() ? status : Refuse(status);
}

Status ValueBuilder::PackedSortedSet(uint8_t rdb_type, std::string_view blob) {
  Result<std::string> listpack = ListpackOf(rdb_type, blob);
  if (!listpack.ok()) return Refuse(listpack.status());
  CAIRN_RETURN_IF_ERROR(BeginSortedSet());
  const Status status = scored_->AddListpack(*listpack);
  return status.ok() ? EndSortedSet() : Refuse(status);
}

Status ValueBuilder::EndSortedSet() {
  open_ = false;
  if (scored_->size() == 0) {
    empty_ = true;
    return Status::Ok();
  }
  Result<ValueInput> value = scored_->TakeValue();
  return value.ok() ? Store(std::move(*value)) : Refuse(value.status());
}

}  // namespace cairn

#include "server/data/value_codec.h"

#include <algorithm>

#include "persistence/packed_value.h"
#include "persistence/rdb_format.h"
#include "server/base/intset.h"
#include "server/base/listpack.h"
#include "server/base/listpack_index.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

/// Size of the longest text of a field, or of a value that is no integer.
size_t LongestIn(const ListpackView& view) {
  size_t longest = 0;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at)) {
    longest = std::max(longest, view.Get(at).Text(scratch).size());
    at = view.Next(at);
    longest = std::max(longest, view.Get(at).bytes.size());
  }
  return longest;
}

/// Redis tries to see an integer in what it loads only up to this many bytes.
constexpr size_t kMaxIntegerText = 20;

}  // namespace

void ValueBuilder::Reset() {
  module_.reset();
  members_.reset();
  list_.reset();
  scored_.reset();
  stream_.reset();
  value_ = ValueInput();
  whole_ = open_ = empty_ = false;
  refusal_ = Status::Ok();
}

Result<ValueInput> ValueBuilder::Take() {
  if (!refusal_.ok()) return refusal_;
  if (!whole_) return Status::Corruption("a value ended before it was whole");
  whole_ = false;
  return std::move(value_);
}

Status ValueBuilder::Store(ValueInput value) {
  if (whole_ || module_ != nullptr) return Refuse(Status::Corruption("two values for one key"));
  value_ = std::move(value);
  whole_ = true;
  return Status::Ok();
}

Status ValueBuilder::Refuse(Status why) {
  if (refusal_.ok()) refusal_ = why;
  return why;
}

// --- strings ---------------------------------------------------------------------------------

Status ValueBuilder::String(std::string_view bytes) {
  int64_t integer = 0;
  if (bytes.size() <= kMaxIntegerText && ParseInt64(bytes, &integer)) return Integer(integer);
  if (bytes.size() > kMaxInlineValueBytes) return StringBlob(BlobRef::Copy(bytes));
  // The event's view dies with the call, the value is stored later.
  bytes_.assign(bytes);
  return Store(ValueInput::String(bytes_));
}

Status ValueBuilder::StringBlob(BlobRef bytes) {
  const std::string_view view = bytes.view();
  if (view.size() <= kMaxInlineValueBytes) return String(view);
  return Store(ValueInput::String(view, std::move(bytes)));
}

Status ValueBuilder::Integer(int64_t value) { return Store(ValueInput::Integer(value)); }

// --- hashes and sets -------------------------------------------------------------------------

Status ValueBuilder::Begin(ValueKind kind, uint64_t count) {
  switch (kind) {
    case ValueKind::kHash:
      return BeginMembers(ValueType::kHash, count);
    case ValueKind::kSet:
      return BeginMembers(ValueType::kSet, count);
    case ValueKind::kList:
      return BeginList();
    case ValueKind::kSortedSet:
      return BeginSortedSet();
    case ValueKind::kStream:
      if (whole_ || open_ || stream_.has_value() || module_ != nullptr)
        return Refuse(Status::Corruption("two values for one key"));
      stream_.emplace(home_);
      return Status::Ok();
    default:
      return Refuse(Refused("container"));
  }
}

Status ValueBuilder::BeginMembers(ValueType type, uint64_t count) {
  if (whole_ || open_ || module_ != nullptr)
    return Refuse(Status::Corruption("two values for one key"));
  members_.emplace(home_, type, limits_);
  open_ = true;
  // A hint that comes from outside: it decides the form, nothing is allocated for it.
  if (count > (type == ValueType::kHash ? limits_.hash_max_listpack_entries
                                        : limits_.set_max_intset_entries))
    members_->Convert();
  return Status::Ok();
}

Status ValueBuilder::Item(std::string_view element) {
  if (open_ && list_.has_value()) {
    list_->Append(element);
    return Status::Ok();
  }
  if (!open_ || !members_.has_value()) return Refuse(Refused("container"));
  if (members_->Insert(element)) return Status::Ok();
  return Refuse(Status::Corruption("a set holds a member twice"));
}

Status ValueBuilder::Field(std::string_view field, std::string_view value) {
  if (stream_.has_value())
    return ToStream([&](StreamBuilder& stream) { return stream.Node(field, value); });
  if (!open_ || !members_.has_value()) return Refuse(Refused("container"));
  if (members_->Set(field, value)) return Status::Ok();
  return Refuse(Status::Corruption("a hash holds a field twice"));
}

namespace {
Status FieldTtlRefusal() {
  return {
      StatusCode::kUnsupported,
      "a hash whose fields have expiry times of their own (Redis 7.4, Valkey 9) cannot be kept"};
}
}  // namespace

Status ValueBuilder::FieldExpiring(std::string_view field, std::string_view value,
                                   int64_t expire_at_ms) {
  return expire_at_ms < 0 ? Field(field, value) : Refuse(FieldTtlRefusal());
}

Status ValueBuilder::EndMembers() {
  open_ = false;
  if (members_->size() > 0) return Store(members_->TakeValue());
  empty_ = true;
  return Status::Ok();
}

Status ValueBuilder::Packed(uint8_t rdb_type, std::string_view blob) {
  if (open_ && list_.has_value()) return ListNodeBlob(rdb_type, blob);
  switch (rdb_type) {
    case rdb::kHashZipmap:
    case rdb::kHashZiplist:
    case rdb::kHashListpack:
      return PackedHash(rdb_type, blob);
    case rdb::kSetIntset:
    case rdb::kSetListpack:
      return PackedSet(rdb_type, blob);
    case rdb::kListZiplist:
      return FromEvents(rdb_type, blob);
    case rdb::kSortedSetZiplist:
    case rdb::kSortedSetListpack:
      return PackedSortedSet(rdb_type, blob);
    case rdb::kHashListpackExpiring:
      return Refuse(FieldTtlRefusal());
    default:
      return Refuse(Refused("container"));
  }
}

Status ValueBuilder::PackedHash(uint8_t rdb_type, std::string_view blob) {
  Result<std::string> listpack = ListpackOf(rdb_type, blob);
  if (!listpack.ok()) return Refuse(listpack.status());
  const ListpackView view(*listpack);
  if (view.count() % 2 != 0) return Refuse(Status::Corruption("a hash ends with a field"));
  if (ListpackIndex::HoldsTwice(view, 1, home_.hash_seed))
    return Refuse(Status::Corruption("a hash holds a field twice"));
  CAIRN_RETURN_IF_ERROR(BeginMembers(ValueType::kHash, 0));
  // Of any other form Redis believes that it was made within the limits on length.
  const bool too_long =
      rdb_type == rdb::kHashZipmap && LongestIn(view) > limits_.hash_max_listpack_value_bytes;
  const bool too_many = view.count() / 2 > limits_.hash_max_listpack_entries;
  members_->StartPacked(*listpack, ValueForm::kInline);
  if (too_long || too_many) members_->Convert();
  return EndMembers();
}

Status ValueBuilder::PackedSet(uint8_t rdb_type, std::string_view blob) {
  if (rdb_type == rdb::kSetListpack) return FromEvents(rdb_type, blob);
  if (!IntsetView::Validate(blob)) return Refuse(Status::Corruption("an intset is broken"));
  const uint32_t count = IntsetView(blob).count();
  CAIRN_RETURN_IF_ERROR(BeginMembers(ValueType::kSet, 0));
  members_->StartPacked(blob, ValueForm::kInline);
  if (count > limits_.set_max_intset_entries) members_->Convert();
  return EndMembers();
}

Status ValueBuilder::FromEvents(uint8_t rdb_type, std::string_view blob) {
  const Status status = UnpackValue(rdb_type, blob, *this);
  return status.ok() ? status : Refuse(status);
}

// --- streams ---------------------------------------------------------------------------------

template <typename Add>
Status ValueBuilder::ToStream(Add add) {
  if (!stream_.has_value()) return Refuse(Refused("stream event"));
  Status added = add(*stream_);
  return added.ok() ? added : Refuse(std::move(added));
}

Status ValueBuilder::StreamState(const StreamStateRecord& state) {
  return ToStream([&](StreamBuilder& stream) { return stream.State(state); });
}
Status ValueBuilder::StreamGroup(const StreamGroupRecord& group) {
  return ToStream([&](StreamBuilder& stream) { return stream.Group(group); });
}
Status ValueBuilder::StreamPending(const StreamPendingRecord& pending) {
  return ToStream([&](StreamBuilder& stream) { return stream.Pending(pending); });
}
Status ValueBuilder::StreamConsumers(uint64_t) {
  return ToStream([](StreamBuilder&) { return Status::Ok(); });
}
Status ValueBuilder::StreamConsumer(const StreamConsumerRecord& consumer) {
  return ToStream([&](StreamBuilder& stream) { return stream.Consumer(consumer); });
}
Status ValueBuilder::StreamConsumerPending(StreamId id) {
  return ToStream([id](StreamBuilder& stream) { return stream.ConsumerPending(id); });
}

Status ValueBuilder::EndStream() {
  Result<ObjectRef> object = stream_->Finish();
  stream_.reset();
  if (!object.ok()) return Refuse(object.status());
  return Store(ValueInput::FromObject(ValueType::kStream, std::move(*object)));
}

// --- module values ---------------------------------------------------------------------------

Status ValueBuilder::BeginModule(uint64_t type_id) {
  if (modules_ == nullptr) return Refuse(Refused("module"));
  Result<std::unique_ptr<ModuleValueReader>> reader = modules_->Open(type_id);
  if (!reader.ok()) return Refuse(reader.status());
  module_ = std::move(*reader);
  return Status::Ok();
}

template <typename Read>
Status ValueBuilder::ToModule(Read read) {
  if (module_ == nullptr) return Refuse(Status::Corruption("module data outside a module value"));
  Status status = read(*module_);
  return status.ok() ? status : Refuse(std::move(status));
}

Status ValueBuilder::ModuleUnsigned(uint64_t value) {
  return ToModule([&](ModuleValueReader& reader) { return reader.Unsigned(value); });
}
Status ValueBuilder::ModuleSigned(int64_t value) {
  return ToModule([&](ModuleValueReader& reader) { return reader.Signed(value); });
}
Status ValueBuilder::ModuleDouble(double value) {
  return ToModule([&](ModuleValueReader& reader) { return reader.Double(value); });
}
Status ValueBuilder::ModuleFloat(float value) {
  return ToModule([&](ModuleValueReader& reader) { return reader.Float(value); });
}
Status ValueBuilder::ModuleString(std::string_view bytes) {
  return ToModule([&](ModuleValueReader& reader) { return reader.String(bytes); });
}
Status ValueBuilder::ModuleStringBlob(BlobRef bytes) {
  return ToModule([&](ModuleValueReader& reader) { return reader.StringBlob(std::move(bytes)); });
}

Status ValueBuilder::End() {
  if (open_) return list_ ? EndList() : scored_ ? EndSortedSet() : EndMembers();
  if (stream_.has_value()) return EndStream();
  if (module_ == nullptr)
    return Refuse(Status::Corruption("the end of a value that was not begun"));
  Result<ObjectRef> object = module_->Finish();
  module_.reset();
  if (!object.ok()) return Refuse(object.status());
  return Store(ValueInput::FromObject(ValueType::kModule, std::move(*object)));
}

}  // namespace cairn

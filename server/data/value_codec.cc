#include "server/data/value_codec.h"

#include "server/base/strings.h"

namespace cairn {

namespace {

/// Redis tries to see an integer in what it loads only up to this many bytes.
constexpr size_t kMaxIntegerText = 20;

}  // namespace

void ValueBuilder::Reset() {
  module_.reset();
  value_ = ValueInput();
  whole_ = false;
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

// --- containers: no type of this server holds them yet ---------------------------------------

Status ValueBuilder::Begin(ValueKind, uint64_t) { return Refuse(Refused("container")); }
Status ValueBuilder::Item(std::string_view) { return Refuse(Refused("container")); }
Status ValueBuilder::Field(std::string_view, std::string_view) {
  return Refuse(Refused("container"));
}
Status ValueBuilder::Scored(std::string_view, double) { return Refuse(Refused("container")); }
Status ValueBuilder::Packed(uint8_t, std::string_view) { return Refuse(Refused("container")); }

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
  if (module_ == nullptr)
    return Refuse(Status::Corruption("the end of a value that was not begun"));
  Result<ObjectRef> object = module_->Finish();
  module_.reset();
  if (!object.ok()) return Refuse(object.status());
  return Store(ValueInput::FromObject(ValueType::kModule, std::move(*object)));
}

}  // namespace cairn

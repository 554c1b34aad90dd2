#include "server/engine/module_value.h"

#include <bit>

namespace cairn {

namespace {

constexpr std::string_view kNameAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr int kVersionBits = 10;
constexpr int kCharacterBits = 6;

class EventCollector final : public ModuleValueReader {
 public:
  EventCollector(const CairnType* type, uint64_t type_id, bool own_file)
      : type_(type), type_id_(type_id), own_file_(own_file) {}

  Status Unsigned(uint64_t value) override {
    return Add({ModuleEvent::Kind::kUnsigned, value, {}});
  }
  Status Signed(int64_t value) override {
    return Add({ModuleEvent::Kind::kSigned, static_cast<uint64_t>(value), {}});
  }
  Status Double(double value) override {
    return Add({ModuleEvent::Kind::kDouble, std::bit_cast<uint64_t>(value), {}});
  }
  Status Float(float value) override {
    return Add({ModuleEvent::Kind::kFloat, std::bit_cast<uint32_t>(value), {}});
  }
  Status String(std::string_view bytes) override {
    return Add({ModuleEvent::Kind::kString, 0, BlobRef::Copy(bytes)});
  }
  Status StringBlob(BlobRef bytes) override {
    return Add({ModuleEvent::Kind::kString, 0, std::move(bytes)});
  }
  Result<ObjectRef> Finish() override {
    if (type_ != nullptr) return LoadModuleValue(*type_, type_id_, events_, own_file_);
    return ObjectRef::Adopt(new ForeignObject(type_id_, std::move(events_)));
  }

 private:
  Status Add(ModuleEvent event) {
    events_.push_back(std::move(event));
    return Status::Ok();
  }

  const CairnType* const type_;
  const uint64_t type_id_;
  const bool own_file_;
  ModuleEvents events_;
};

Status EmitEvent(const ModuleEvent& event, ValueSink& sink) {
  switch (event.kind) {
    case ModuleEvent::Kind::kUnsigned:
      return sink.ModuleUnsigned(event.bits);
    case ModuleEvent::Kind::kSigned:
      return sink.ModuleSigned(static_cast<int64_t>(event.bits));
    case ModuleEvent::Kind::kDouble:
      return sink.ModuleDouble(std::bit_cast<double>(event.bits));
    case ModuleEvent::Kind::kFloat:
      return sink.ModuleFloat(std::bit_cast<float>(static_cast<uint32_t>(event.bits)));
    case ModuleEvent::Kind::kString:
      return sink.ModuleStringBlob(event.bytes);
  }
  return Status::Corruption("a module event of no kind");
}

}  // namespace

uint64_t ModuleTypeId(std::string_view name, int encoding_version) {
  if (name.size() != kModuleTypeNameChars) return 0;
  if (encoding_version < 0 || encoding_version > kMaxModuleEncodingVersion) return 0;
  uint64_t id = 0;
  for (char c : name) {
    const size_t digit = kNameAlphabet.find(c);
    if (digit == std::string_view::npos) return 0;
    id = id << kCharacterBits | digit;
  }
  return id << kVersionBits | static_cast<uint64_t>(encoding_version);
}

std::string ModuleTypeName(uint64_t type_id) {
  std::string name(kModuleTypeNameChars, ' ');
  type_id >>= kVersionBits;
  for (size_t i = kModuleTypeNameChars; i-- > 0; type_id >>= kCharacterBits) {
    name[i] = kNameAlphabet[type_id & ((1u << kCharacterBits) - 1)];
  }
  return name;
}

Status ModuleObject::Emit(ValueSink& sink) const {
  CAIRN_RETURN_IF_ERROR(sink.BeginModule(type_.id));
  CairnWriter writer{sink, {}};
  const int saved = type_.spec.save(value_, &writer, type_.module_data);
  if (!writer.status.ok()) return writer.status;
  if (saved != CAIRN_OK) return Status::Io("module type " + type_.name + " could not save a value");
  return sink.End();
}

ForeignObject::ForeignObject(uint64_t type_id, ModuleEvents events)
    : type_id_(type_id), name_(ModuleTypeName(type_id)), events_(std::move(events)) {}

Status ForeignObject::Emit(ValueSink& sink) const {
  CAIRN_RETURN_IF_ERROR(sink.BeginModule(type_id_));
  for (const ModuleEvent& event : events_) CAIRN_RETURN_IF_ERROR(EmitEvent(event, sink));
  return sink.End();
}

size_t ForeignObject::MemoryUsage() const {
  size_t bytes = sizeof *this + events_.capacity() * sizeof(ModuleEvent);
  for (const ModuleEvent& event : events_) {
    if (event.bytes) bytes += event.bytes->footprint();
  }
  return bytes;
}

Result<ObjectRef> LoadModuleValue(const CairnType& type, uint64_t type_id,
                                  const ModuleEvents& events, bool own_file) {
  CairnReader reader{events, own_file};
  const int version = static_cast<int>(type_id & kMaxModuleEncodingVersion);
  void* value = type.spec.load(&reader, version, type.module_data);
  if (value == nullptr) {
    return Status::Corruption("the bytes of a '" + type.type_name + "' value (" + type.name +
                              " version " + std::to_string(version) + ") do not make one");
  }
  ObjectRef object = ObjectRef::Adopt(new ModuleObject(type, value));
  if (reader.next != events.size()) {
    return Status::Corruption("a '" + type.type_name +
                              "' value is followed by bytes of no meaning");
  }
  return object;
}

std::unique_ptr<ModuleValueReader> NewModuleValueReader(const CairnType* type, uint64_t type_id,
                                                        bool own_file) {
  return std::make_unique<EventCollector>(type, type_id, own_file);
}

}  // namespace cairn

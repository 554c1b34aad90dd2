#include "server/data/entry.h"

#include <new>

#include "persistence/packed_value.h"
#include "persistence/rdb_format.h"
#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/data/chunked_string.h"
#include "server/data/container.h"
#include "server/data/record_slab.h"

namespace cairn {
namespace {

constexpr size_t kMaxNarrowKeyBytes = 65535;
constexpr size_t kFreeUnitBytes = 64 * 1024;

ValueInput MakeString(std::string_view bytes, BlobRef blob, ValueForm inline_form) {
  ValueInput input;
  if (bytes.size() <= kMaxInlineValueBytes) {
    input.form = inline_form;
    input.bytes = bytes;
    return input;
  }
  input.form = ValueForm::kBlob;
  input.blob = blob ? std::move(blob) : BlobRef::Copy(bytes);
  return input;
}

// What Redis holds in its big encoding goes out element by element, as it would from there.
Status EmitConverted(ValueType type, std::string_view bytes, ValueSink& sink) {
  switch (type) {
    case ValueType::kHash:
      return UnpackValue(rdb::kHashListpack, bytes, sink);
    case ValueType::kSet:
      return UnpackValue(rdb::kSetListpack, bytes, sink);
    default:
      CAIRN_CHECK(type == ValueType::kSortedSet);
      return UnpackValue(rdb::kSortedSetListpack, bytes, sink);
  }
}

Status EmitPacked(ValueType type, std::string_view bytes, ValueSink& sink) {
  switch (type) {
    case ValueType::kHash:
      return sink.Packed(rdb::kHashListpack, bytes);
    case ValueType::kSet:
      return sink.Packed(rdb::kSetIntset, bytes);
    case ValueType::kSortedSet:
      return sink.Packed(rdb::kSortedSetListpack, bytes);
    default:
      break;
  }
  CAIRN_CHECK(type == ValueType::kList);
  CAIRN_RETURN_IF_ERROR(sink.Begin(ValueKind::kList, 1));
  CAIRN_RETURN_IF_ERROR(sink.Packed(rdb::kListQuicklist2, bytes));
  return sink.End();
}

}  // namespace

ValueInput ValueInput::String(std::string_view bytes, BlobRef blob) {
  int64_t integer;
  if (bytes.size() < kMaxInt64Chars && ParseInt64(bytes, &integer)) return Integer(integer);
  return MakeString(bytes, std::move(blob), ValueForm::kInline);
}

ValueInput ValueInput::RawString(std::string_view bytes, BlobRef blob) {
  return MakeString(bytes, std::move(blob), ValueForm::kInlineRaw);
}

ValueInput ValueInput::Integer(int64_t value) {
  ValueInput input;
  input.form = ValueForm::kInt;
  input.integer = value;
  return input;
}

ValueInput ValueInput::FromObject(ValueType type, ObjectRef object) {
  CAIRN_CHECK(object);
  ValueInput input;
  input.type = type;
  input.form = ValueForm::kObject;
  input.object = std::move(object);
  return input;
}

ValueInput ValueInput::Packed(ValueType type, std::string_view bytes, bool converted) {
  CAIRN_CHECK(type != ValueType::kString && type != ValueType::kModule);
  CAIRN_CHECK(!converted || bytes.size() <= kMaxInlinePackedBytes);
  ValueInput input;
  input.type = type;
  if (bytes.size() <= kMaxInlinePackedBytes) {
    input.form = converted ? ValueForm::kInlineRaw : ValueForm::kInline;
    input.bytes = bytes;
  } else {
    input.form = ValueForm::kBlob;
    input.blob = BlobRef::Copy(bytes);
  }
  return input;
}

Entry* Entry::Create(RecordSlab& slab, std::string_view key, ValueInput value, int64_t expire_at_ms,
                     uint32_t access) {
  const bool is_inline = value.form <= ValueForm::kInlineRaw;
  const bool wide = key.size() > kMaxNarrowKeyBytes;
  const bool expires = expire_at_ms != kNoExpiry;
  CAIRN_CHECK(!is_inline || value.bytes.size() <= kMaxInlineValueBytes);
  const size_t size = sizeof(Entry) + (expires ? 8 : 0) + (wide ? 8 : 0) +
                      (is_inline ? value.bytes.size() : 8) + key.size();
  Entry* entry = new (slab.Allocate(size)) Entry;
  const uint32_t word = (access & kAccessMask) | static_cast<uint32_t>(value.type) << kTypeShift |
                        static_cast<uint32_t>(value.form) << kFormShift |
                        static_cast<uint32_t>(expires) << kExpiryShift |
                        static_cast<uint32_t>(wide) << kWideShift;
  entry->word0_.store(word, std::memory_order_relaxed);
  entry->key_size_ = wide ? 0 : static_cast<uint16_t>(key.size());
  entry->value_size_ = is_inline ? static_cast<uint16_t>(value.bytes.size()) : 0;
  char* out = entry->bytes();
  if (expires) std::memcpy(out + sizeof(Entry), &expire_at_ms, 8);
  if (wide) {
    const uint64_t key_size = key.size();
    std::memcpy(out + entry->wide_offset(), &key_size, 8);
  }
  if (!is_inline) {
    uint64_t payload = 0;
    switch (value.form) {
      case ValueForm::kInt:
        payload = static_cast<uint64_t>(value.integer);
        break;
      case ValueForm::kBlob:
        payload = reinterpret_cast<uint64_t>(value.blob.Release());
        break;
      default:
        payload = reinterpret_cast<uint64_t>(value.object.Release());
        break;
    }
    std::memcpy(out + entry->value_offset(), &payload, 8);
  }
  char* at = out + entry->key_offset();
  if (!key.empty()) std::memcpy(at, key.data(), key.size());
  if (is_inline && !value.bytes.empty())
    std::memcpy(at + key.size(), value.bytes.data(), value.bytes.size());
  return entry;
}

void Entry::DropReferences(Entry* entry) {
  if (entry->form() == ValueForm::kBlob) {
    entry->blob_unchecked()->Unref();
  } else if (entry->form() == ValueForm::kObject) {
    entry->object()->Unref();
  }
}

void Entry::Destroy(RecordSlab& slab, Entry* entry) {
  DropReferences(entry);
  slab.Free(entry, entry->RecordBytes());
}

void Entry::DestroyRemote(RecordSlab& slab, Entry* entry) {
  DropReferences(entry);
  slab.FreeRemote(entry, entry->RecordBytes());
}

BlobRef Entry::BlobValue() const { return BlobRef::Share(blob_unchecked()); }

Blob* Entry::blob_unchecked() const {
  CAIRN_CHECK(form() == ValueForm::kBlob);
  return reinterpret_cast<Blob*>(value_word());
}

const Object* Entry::object() const {
  CAIRN_CHECK(form() == ValueForm::kObject);
  return reinterpret_cast<const Object*>(value_word());
}

const ChunkedString* Entry::chunks() const {
  CAIRN_CHECK(is_string());
  return static_cast<const ChunkedString*>(object());
}

ObjectRef Entry::ShareObject() const { return ObjectRef::Share(object()); }

size_t Entry::StringSize() const {
  char scratch[kMaxInt64Chars];
  switch (form()) {
    case ValueForm::kInline:
    case ValueForm::kInlineRaw:
      return value_size_;
    case ValueForm::kInt:
      return FormatInt64(integer(), scratch);
    case ValueForm::kObject:
      return chunks()->size();
    default:
      return blob_unchecked()->size();
  }
}

std::string_view Entry::StringView(char* scratch) const {
  CAIRN_CHECK(is_string());
  if (form() == ValueForm::kInt) return {scratch, FormatInt64(integer(), scratch)};
  return Bytes();
}

std::string_view Entry::Bytes() const {
  if (is_inline()) return {bytes() + key_offset() + key_size(), value_size_};
  return blob_unchecked()->view();
}

ValueInput Entry::ShareValue() const {
  ValueInput input;
  input.type = type();
  input.form = form();
  switch (form()) {
    case ValueForm::kInline:
    case ValueForm::kInlineRaw:
      input.bytes = Bytes();
      break;
    case ValueForm::kInt:
      input.integer = integer();
      break;
    case ValueForm::kBlob:
      input.blob = BlobValue();
      break;
    case ValueForm::kObject:
      input.object = ShareObject();
      break;
  }
  return input;
}

ValueInput Entry::CloneValue() const {
  if (form() == ValueForm::kObject) {
    if (const Container* container = object()->AsContainer())
      return ValueInput::FromObject(type(), ObjectRef::Adopt(container->Clone()));
  }
  return ShareValue();
}

void Entry::set_integer(int64_t value) {
  CAIRN_CHECK(form() == ValueForm::kInt);
  std::memcpy(bytes() + value_offset(), &value, sizeof value);
}

void Entry::set_expire_at_ms(int64_t at_ms) {
  CAIRN_CHECK(has_expiry() && at_ms != kNoExpiry);
  std::memcpy(bytes() + sizeof(Entry), &at_ms, sizeof at_ms);
}

char* Entry::mutable_inline() {
  CAIRN_CHECK(is_inline());
  return bytes() + key_offset() + key_size();
}

bool Entry::TryOverwrite(const ValueInput& value, int64_t expire_at_ms, uint32_t access) {
  const bool to_inline = value.form <= ValueForm::kInlineRaw;
  if (value.type != type()) return false;
  if (has_expiry() != (expire_at_ms != kNoExpiry) || is_inline() != to_inline) return false;
  if (!to_inline && (form() != ValueForm::kInt || value.form != ValueForm::kInt)) return false;
  if (to_inline) {
    const size_t before = RecordBytes(), after = before - value_size_ + value.bytes.size();
    if (RecordSlab::RoundUp(before) != RecordSlab::RoundUp(after)) return false;
    value_size_ = static_cast<uint16_t>(value.bytes.size());
    if (!value.bytes.empty())
      std::memmove(mutable_inline(), value.bytes.data(), value.bytes.size());
  } else {
    set_integer(value.integer);
  }
  if (has_expiry()) set_expire_at_ms(expire_at_ms);
  constexpr uint32_t kReplaced = kAccessMask | 7u << kFormShift;
  word0_.store((word0_.load(std::memory_order_relaxed) & ~kReplaced) | (access & kAccessMask) |
                   static_cast<uint32_t>(value.form) << kFormShift,
               std::memory_order_relaxed);
  return true;
}

size_t Entry::RecordBytes() const { return key_offset() + key_size() + value_size_; }

size_t Entry::FreeEffort() const {
  if (form() == ValueForm::kBlob) return 1 + blob_unchecked()->footprint() / kFreeUnitBytes;
  if (form() == ValueForm::kObject) return object()->FreeEffort();
  return 1;
}

size_t Entry::MemoryUsage() const {
  size_t bytes = RecordSlab::RoundUp(RecordBytes());
  if (form() == ValueForm::kBlob) bytes += blob_unchecked()->footprint();
  if (form() == ValueForm::kObject) bytes += object()->MemoryUsage();
  return bytes;
}

bool Entry::IsLastHolder() const {
  if (form() == ValueForm::kObject) return object()->IsUnique();
  return form() != ValueForm::kBlob || blob_unchecked()->IsUnique();
}

size_t Entry::OwnedBytes() const {
  return IsLastHolder() ? MemoryUsage() : RecordSlab::RoundUp(RecordBytes());
}

Status Entry::Emit(ValueSink& sink) const {
  if (form() == ValueForm::kObject) return object()->Emit(sink);
  if (!is_string()) {
    return form() == ValueForm::kInlineRaw ? EmitConverted(type(), Bytes(), sink)
                                           : EmitPacked(type(), Bytes(), sink);
  }
  switch (form()) {
    case ValueForm::kInt:
      return sink.Integer(integer());
    case ValueForm::kBlob:
      return sink.StringBlob(BlobValue());
    default:
      return sink.String(Bytes());
  }
}

const char* Entry::TypeName() const {
  switch (type()) {
    case ValueType::kString:
      return "string";
    case ValueType::kList:
      return "list";
    case ValueType::kSet:
      return "set";
    case ValueType::kSortedSet:
      return "zset";
    case ValueType::kHash:
      return "hash";
    case ValueType::kStream:
      return "stream";
    case ValueType::kModule:
      return object()->TypeName();
  }
  return "unknown";
}

const char* Entry::EncodingName() const {
  if (form() == ValueForm::kObject) return object()->EncodingName();
  switch (type()) {
    case ValueType::kString:
      if (form() == ValueForm::kInt) return "int";
      return form() == ValueForm::kInline && value_size_ <= kEmbstrMaxBytes ? "embstr" : "raw";
    case ValueType::kSet:
      return form() == ValueForm::kInlineRaw ? "hashtable" : "intset";
    case ValueType::kHash:
      return form() == ValueForm::kInlineRaw ? "hashtable" : "listpack";
    case ValueType::kSortedSet:
      return form() == ValueForm::kInlineRaw ? "skiplist" : "listpack";
    default:
      return "quicklist";
  }
}

}  // namespace cairn

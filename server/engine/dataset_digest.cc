#include "server/engine/dataset_digest.h"

#include <openssl/sha.h>

#include "persistence/packed_value.h"
#include "server/base/checksum.h"
#include "server/base/strings.h"
#include "server/data/stream_value.h"

namespace cairn {

void Digest::Xor(std::string_view bytes) {
  unsigned char hash[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] ^= hash[i];
}

void Digest::Mix(std::string_view bytes) {
  Xor(bytes);
  unsigned char hash[SHA_DIGEST_LENGTH];
  SHA1(sum_.data(), sum_.size(), hash);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] = hash[i];
}

void Digest::Mix32(uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                         static_cast<char>(value >> 8), static_cast<char>(value)};
  Mix({bytes, sizeof bytes});
}

std::string Digest::Hex() const { return HexEncode(bytes()); }

namespace {

/// The number of a type as it goes into the digest.
uint32_t TypeNumber(ValueType type) {
  switch (type) {
    case ValueType::kString:
      return 0;
    case ValueType::kList:
      return 1;
    case ValueType::kSet:
      return 2;
    case ValueType::kSortedSet:
      return 3;
    case ValueType::kHash:
      return 4;
    case ValueType::kModule:
      return 5;
    case ValueType::kStream:
      return 6;
  }
  return 0;
}

/// Digests the events of one value. Packed blobs are taken apart: the digest does not tell how a
/// value is held.
class DigestSink final : public ValueSink {
 public:
  explicit DigestSink(Digest* digest) : digest_(*digest) {}

  Status String(std::string_view bytes) override {
    digest_.Mix(bytes);
    return Status::Ok();
  }
  Status Integer(int64_t value) override {
    char digits[kMaxInt64Chars];
    return String({digits, FormatInt64(value, digits)});
  }
  Status Begin(ValueKind kind, uint64_t) override {
    kind_ = kind;
    return Status::Ok();
  }
  Status Item(std::string_view element) override {
    if (kind_ == ValueKind::kSet) {
      digest_.Xor(element);
    } else {
      digest_.Mix(element);
    }
    return Status::Ok();
  }
  Status Field(std::string_view field, std::string_view value) override {
    return Pair(field, value);
  }
  Status Scored(std::string_view member, double score) override {
    return Pair(member, FormatDouble(score));
  }
  Status Packed(uint8_t rdb_type, std::string_view blob) override {
    return kind_ == ValueKind::kList ? UnpackListNode(rdb_type, blob, *this)
                                     : UnpackValue(rdb_type, blob, *this);
  }

  Status BeginModule(uint64_t) override {
    kind_ = ValueKind::kModule;
    module_ = Digest();
    return Status::Ok();
  }
  Status ModuleUnsigned(uint64_t value) override { return ModuleString(std::to_string(value)); }
  Status ModuleSigned(int64_t value) override { return ModuleString(std::to_string(value)); }
  Status ModuleDouble(double value) override { return ModuleString(FormatDouble(value)); }
  Status ModuleFloat(float value) override {
    return ModuleString(FormatDouble(static_cast<double>(value)));
  }
  Status ModuleString(std::string_view bytes) override {
    module_.Mix(bytes);
    return Status::Ok();
  }
  Status End() override {
    if (kind_ == ValueKind::kModule) digest_.Xor(module_);
    kind_ = ValueKind::kString;
    return Status::Ok();
  }

 private:
  /// Pairs come in any order, but within a pair order counts.
  Status Pair(std::string_view first, std::string_view second) {
    Digest pair;
    pair.Mix(first);
    pair.Mix(second);
    digest_.Xor(pair);
    return Status::Ok();
  }

  Digest& digest_;
  Digest module_;
  ValueKind kind_ = ValueKind::kString;
};

/// A stream's digest is that of its entries: files carry them packed.
void AddStream(const StreamValue& stream, Digest* digest) {
  StreamIterator at(stream, kMinStreamId, kMaxStreamId, false);
  while (at.Next()) {
    const StreamId id = at.entry().id;
    digest->Mix(std::to_string(id.ms) + '.' + std::to_string(id.sequence));
    at.entry().ForEachField([digest](std::string_view field, std::string_view value) {
      digest->Mix(field);
      digest->Mix(value);
    });
  }
}

Status AddValue(const Entry& entry, Digest* digest) {
  digest->Mix32(TypeNumber(entry.type()));
  if (entry.type() == ValueType::kStream) {
    AddStream(static_cast<const StreamValue&>(*entry.object()), digest);
  } else {
    DigestSink sink(digest);
    CAIRN_RETURN_IF_ERROR(entry.Emit(sink));
  }
  if (entry.has_expiry()) digest->Xor("!!expire!!");
  return Status::Ok();
}

}  // namespace

Result<Digest> DigestOfValue(const Entry* entry) {
  Digest digest;
  if (entry != nullptr) CAIRN_RETURN_IF_ERROR(AddValue(*entry, &digest));
  return digest;
}

Result<Digest> DigestOfKeyspace(Keyspace& keyspace) {
  Digest total;
  Status status;
  keyspace.ForEachDatabase([&total, &status](Database& db) {
    if (db.size() == 0 || !status.ok()) return;
    total.Mix32(db.index());
    db.ForEach([&total, &status](const Entry& entry) {
      Digest key;
      key.Mix(entry.key());
      status = AddValue(entry, &key);
      total.Xor(key);
      return status.ok();
    });
  });
  if (!status.ok()) return status;
  return total;
}

}  // namespace cairn

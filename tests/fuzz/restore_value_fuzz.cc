// RESTORE of any bytes, checksum not looked at: a value that is accepted holds its invariants, can
// be changed, and is saved to a payload that gives the same value again. Every type that
// ValueBuilder takes goes through here; the first byte chooses the limits, so that each encoding is
// met.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/check.h"
#include "server/data/value_codec.h"
#include "server/engine/dataset_digest.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/member_edit.h"

namespace cairn {
namespace {

PackedLimits LimitsFrom(uint8_t choice) {
  PackedLimits limits;
  if (choice & 1) limits.hash_max_listpack_entries = limits.set_max_intset_entries = 2;
  if (choice & 2) limits.hash_max_listpack_value_bytes = 8;
  if (choice & 4) limits.zset_max_listpack_entries = 2;
  if (choice & 8) limits.zset_max_listpack_value_bytes = 8;
  if (choice & 16) limits.list_max_listpack_size = 2;
  return limits;
}

/// Stores the payload's value under `key`; false when it is refused.
bool Restore(Keyspace& keyspace, const PackedLimits& limits, KeyRef key, std::string_view payload,
             bool skip_checksum) {
  ValueBuilder builder(nullptr, keyspace.value_home(), limits);
  if (!ReadDumpPayload(payload, builder, skip_checksum).ok()) return false;
  Result<ValueInput> value = builder.Take();
  if (!value.ok()) return false;
  keyspace.db(0).Set(key, std::move(*value), kNoExpiry);
  return true;
}

void CheckValue(const Entry& entry) {
  if (entry.form() != ValueForm::kObject) return;
  if (const Container* container = entry.object()->AsContainer()) container->CheckInvariants();
}

/// Adds and takes away, where the type has a way to.
void Change(Keyspace& keyspace, const PackedLimits& limits, KeyRef key) {
  const Entry* entry = keyspace.db(0).Peek(key);
  if (entry->type() != ValueType::kHash && entry->type() != ValueType::kSet) return;
  MembersEdit edit(keyspace, keyspace.db(0), key, entry, entry->type(), limits);
  for (int i = 0; i < 20; ++i)
    edit.Set("member:" + std::to_string(i * i), std::string(static_cast<size_t>(i * 40), 'v'));
  for (int i = 0; i < 20; i += 3) edit.Erase("member:" + std::to_string(i * i));
  edit.Commit();
  CheckValue(*keyspace.db(0).Peek(key));
}

}  // namespace
}  // namespace cairn

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  if (size == 0) return 0;
  const PackedLimits limits = LimitsFrom(data[0]);
  Keyspace keyspace(Keyspace::Options{.databases = 1, .hash_seed = 3});
  Database& db = keyspace.db(0);
  const KeyRef first = db.MakeKey("first"), second = db.MakeKey("second");
  if (!Restore(keyspace, limits, first, {reinterpret_cast<const char*>(data) + 1, size - 1}, true))
    return 0;
  const Entry* entry = db.Peek(first);
  CheckValue(*entry);
  const std::string digest = DigestOfValue(entry)->Hex();
  DumpWriter writer;
  CAIRN_CHECK(entry->Emit(writer.sink()).ok());
  const std::string payload = writer.Finish().value();
  CAIRN_CHECK(Restore(keyspace, limits, second, payload, false));
  CAIRN_CHECK(DigestOfValue(db.Peek(second))->Hex() == digest);
  db.Set(second, db.Peek(first)->CloneValue(), kNoExpiry);
  Change(keyspace, limits, first);
  CAIRN_CHECK(DigestOfValue(db.Peek(second))->Hex() == digest);
  db.CheckInvariants();
  return 0;
}

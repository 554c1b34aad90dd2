// What RESTORE makes of any bytes (checksum check off): a Status, or a value whose structure holds,
// that can be changed by a fork while a view reads it, and that is saved and loaded again as the
// same bytes.

#include <cstddef>
#include <cstdint>
#include <string>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/check.h"
#include "server/data/value_codec.h"
#include "server/keyspace/keyspace.h"

namespace cairn {
namespace {

std::string Saved(const Entry& entry) {
  DumpWriter writer;
  CAIRN_CHECK(entry.Emit(writer.sink()).ok());
  return writer.Finish().value();
}

const Entry* Put(Database& db, Keyspace& keyspace, std::string_view key, std::string_view payload) {
  ValueBuilder builder(nullptr, keyspace.value_home(), PackedLimits());
  if (!ReadDumpPayload(payload, builder, /*skip_checksum=*/true).ok()) return nullptr;
  Result<ValueInput> value = builder.Take();
  if (!value.ok()) return nullptr;
  const Entry* entry = db.Set(db.MakeKey(key), std::move(*value), kNoExpiry);
  if (entry->form() == ValueForm::kObject) entry->object()->AsContainer()->CheckInvariants();
  return entry;
}

}  // namespace
}  // namespace cairn

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  Keyspace keyspace({.databases = 1, .hash_seed = 1});
  Database& db = keyspace.db(0);
  const Entry* entry = Put(db, keyspace, "a", {reinterpret_cast<const char*>(data), size});
  if (entry == nullptr) return 0;
  const std::string payload = Saved(*entry);
  const Entry* again = Put(db, keyspace, "b", payload);
  CAIRN_CHECK(again != nullptr && again->type() == entry->type());
  const std::string second = Saved(*again);
  // Hash tables may come in another order.
  if (entry->type() == ValueType::kList || entry->type() == ValueType::kSortedSet)
    CAIRN_CHECK(second == payload);
  return 0;
}

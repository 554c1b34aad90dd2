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
#include "server/data/quicklist.h"
#include "server/data/sorted_set.h"
#include "server/data/stream_value.h"
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

void ChangeMembers(Keyspace& keyspace, const PackedLimits& limits, KeyRef key, const Entry* entry) {
  MembersEdit edit(keyspace, keyspace.db(0), key, entry, entry->type(), limits);
  for (int i = 0; i < 20; ++i)
    edit.Set("member:" + std::to_string(i * i), std::string(static_cast<size_t>(i * 40), 'v'));
  for (int i = 0; i < 20; i += 3) edit.Erase("member:" + std::to_string(i * i));
  edit.Commit();
}

void ChangeList(QuickList& list) {
  for (int i = 0; i < 12; ++i) list.Push(i % 2 == 0, std::string(static_cast<size_t>(i * 30), 'e'));
  list.Insert(list.size() / 2, /*after=*/true, "in the middle");
  list.Replace(list.size() - 1, "the last");
  list.EraseRange(list.size() / 3, list.size() / 4);
  list.EraseEqual("in the middle", 1, /*from_tail=*/true);
}

void ChangeSortedSet(SortedSet& set) {
  for (int i = 0; i < 20; ++i) set.Insert("member:" + std::to_string(i), i * 0.5 - 3);
  set.Erase("member:7");
  set.EraseRange({set.size() / 3, set.size() / 4});
}

void ChangeStream(StreamValue& stream) {
  const std::string_view fields[] = {"field", "value", "other", "one"};
  if (const auto next = NextStreamId(stream.last_id))
    stream.Append(*next, fields, StreamNodeLimits());
  if (stream.length() > 1) stream.Erase(stream.EdgeId(true));
}

/// Adds and takes away, in the middle too.
void Change(Keyspace& keyspace, const PackedLimits& limits, KeyRef key) {
  Database& db = keyspace.db(0);
  const Entry* entry = db.Peek(key);
  switch (entry->type()) {
    case ValueType::kHash:
    case ValueType::kSet:
      ChangeMembers(keyspace, limits, key, entry);
      break;
    case ValueType::kList:
      if (!entry->is_packed()) ChangeList(*static_cast<QuickList*>(db.MutableContainer(key)));
      break;
    case ValueType::kSortedSet:
      if (!entry->is_packed()) ChangeSortedSet(*static_cast<SortedSet*>(db.MutableContainer(key)));
      break;
    case ValueType::kStream:
      ChangeStream(*static_cast<StreamValue*>(db.MutableContainer(key)));
      break;
    default:
      return;
  }
  CheckValue(*db.Peek(key));
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

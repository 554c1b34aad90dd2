#pragma once

// ValueSink: a value in motion is a stream of events. Types emit it, formats consume it, readers
// emit it back: RDB save, AOF rewrite, DUMP, full sync, DEBUG DIGEST and the checker are sinks; the
// RDB reader is a source. Bytes and events only: no sink ever sees a Value or a client. One thread
// at a time per sink; views are valid during the call. The later types (streams, hash fields with a
// TTL, module aux data) have events too; a sink that cannot hold them inherits the refusal, so
// nothing is ever dropped in silence.

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "server/base/bytes.h"
#include "server/base/status.h"

namespace cairn {

/// The logical type that the events describe.
enum class ValueKind : uint8_t { kString, kList, kSet, kSortedSet, kHash, kStream, kModule };

/// What stands beside a value in a key record.
struct KeyMeta {
  int64_t expire_at_ms = -1;  ///< Unix time in ms; -1 = no TTL
  int64_t lru_idle_s = -1;    ///< seconds; -1 = not recorded
  int lfu_frequency = -1;     ///< 0..255; -1 = not recorded
};

struct StreamId {
  uint64_t ms = 0;
  uint64_t sequence = 0;
  friend auto operator<=>(const StreamId&, const StreamId&) = default;
};

struct StreamStateRecord {
  uint64_t length = 0;  ///< live entries
  StreamId last_id;
  StreamId first_id;
  StreamId max_deleted_id;
  uint64_t entries_added = 0;
  uint64_t group_count = 0;
};

struct StreamGroupRecord {
  std::string_view name;
  StreamId last_id;
  int64_t entries_read = -1;  ///< -1 = unknown
  uint64_t pending_count = 0;
  bool has_entries_read = true;  ///< false: it is not in the file (before RDB 10)
};

struct StreamPendingRecord {
  StreamId id;
  int64_t delivered_at_ms = 0;
  uint64_t delivery_count = 0;
};

struct StreamConsumerRecord {
  std::string_view name;
  int64_t seen_at_ms = 0;
  int64_t active_at_ms = -1;  ///< -1 = not recorded (before RDB 11)
  uint64_t pending_count = 0;
};

/// Events of one value. Exactly one begin call per value: String alone, or Begin .. End around
/// items.
class ValueSink {
 public:
  virtual ~ValueSink() = default;

  /// A whole string value.
  virtual Status String(std::string_view bytes) = 0;
  /// The same for bytes that already stand in a counted blob (sources use it from 64 KiB on): a
  /// sink that keeps blobs takes the reference instead of a copy.
  virtual Status StringBlob(BlobRef bytes) { return String(bytes.view()); }
  /// A whole string that stands in several pieces, in order. A sink that can take them one by one
  /// spares the copy that the default makes.
  virtual Status StringPieces(std::span<const std::string_view> pieces) {
    std::string whole;
    size_t size = 0;
    for (std::string_view piece : pieces) size += piece.size();
    whole.reserve(size);
    for (std::string_view piece : pieces) whole += piece;
    return String(whole);
  }
  /// A string value known to be an integer (encoded form "int").
  virtual Status Integer(int64_t value) = 0;

  /// A container of `count` items (members, fields, elements) follows, closed by End().
  virtual Status Begin(ValueKind kind, uint64_t count) = 0;
  virtual Status Item(std::string_view element) = 0;  ///< list element, set member
  virtual Status Field(std::string_view field, std::string_view value) = 0;  ///< hash
  virtual Status Scored(std::string_view member, double score) = 0;          ///< sorted set
  /// A container in one packed blob that is itself an RDB encoding (`rdb_type` of rdb_format.h),
  /// without Begin and End. Between Begin(kList, nodes) and End it is one node of a list instead:
  /// kListZiplist a ziplist, kListQuicklist2 a listpack, kString one element stored plainly.
  virtual Status Packed(uint8_t rdb_type, std::string_view blob) = 0;
  /// Hash field with a TTL of its own (Redis 7.4, Valkey 9); -1 = none.
  virtual Status FieldExpiring(std::string_view field, std::string_view value,
                               int64_t expire_at_ms) {
    return Refused("hash field TTL");
  }

  // A stream: Begin(kStream, listpacks), a Field(master id of 16 bytes, listpack) each,
  // StreamState, then per group StreamGroup, its pending entries, StreamConsumers, and per consumer
  // StreamConsumer with its StreamConsumerPending ids; End.
  virtual Status StreamState(const StreamStateRecord& state) { return Refused("stream"); }
  virtual Status StreamGroup(const StreamGroupRecord& group) { return Refused("stream"); }
  virtual Status StreamPending(const StreamPendingRecord& pending) { return Refused("stream"); }
  virtual Status StreamConsumers(uint64_t count) { return Refused("stream"); }
  virtual Status StreamConsumer(const StreamConsumerRecord& consumer) { return Refused("stream"); }
  virtual Status StreamConsumerPending(StreamId id) { return Refused("stream"); }

  /// A module value: 64-bit module type id (name and encoding version), then its opcodes, then
  /// End().
  virtual Status BeginModule(uint64_t type_id) = 0;
  virtual Status ModuleUnsigned(uint64_t value) = 0;
  virtual Status ModuleSigned(int64_t value) = 0;
  virtual Status ModuleDouble(double value) = 0;
  virtual Status ModuleFloat(float value) = 0;
  virtual Status ModuleString(std::string_view bytes) = 0;
  virtual Status ModuleStringBlob(BlobRef bytes) { return ModuleString(bytes.view()); }

  virtual Status End() = 0;

 protected:
  static Status Refused(std::string_view what) {
    return {StatusCode::kUnsupported,
            std::string(what) + " values are not supported by this receiver"};
  }
};

/// A dataset in motion: databases, keys with their meta, one value each. The RDB writer implements
/// it for saving; the engine implements it for loading.
class DatasetSink {
 public:
  virtual ~DatasetSink() = default;
  virtual Status Aux(std::string_view name, std::string_view value) = 0;
  /// A function library's source (Redis 7 FUNCTION2 opcode).
  virtual Status FunctionLibrary(std::string_view code) = 0;
  /// The keys that follow belong to database `index`; sizes are hints to presize by.
  virtual Status SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) = 0;
  /// Begins a key; the events of its value go to the returned sink before the next call here.
  /// A loader may return a sink that drops the value (expired key).
  virtual Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) = 0;
  /// What a module keeps beside the keys: its opcodes follow as module events, closed by End().
  /// `when` is 1 before and 2 after the keys. Refused by default: dropping it would lose a module's
  /// state.
  virtual Result<ValueSink*> ModuleAux(uint64_t type_id, uint64_t when) {
    return Status(StatusCode::kUnsupported,
                  "module auxiliary data is not supported by this receiver");
  }
};

}  // namespace cairn

#pragma once

// ValueSink: a value in motion is a stream of events. Types emit it, formats consume it, readers emit it
// back: RDB save, AOF rewrite, DUMP, full sync, DEBUG DIGEST and the checker are sinks; the RDB reader is a
// source. Bytes and events only: no sink ever sees a Value or a client. One thread at a time per sink;
// views are valid during the call.

#include <cstdint>
#include <string_view>

#include "server/base/bytes.h"
#include "server/base/status.h"

namespace cairn {

/// The logical type that the events describe.
enum class ValueKind : uint8_t { kString, kList, kSet, kSortedSet, kHash, kStream, kModule };

/// What stands beside a value in a key record.
struct KeyMeta {
  int64_t expire_at_ms = -1;   ///< Unix time in ms; -1 = no TTL
  int64_t lru_idle_s = -1;     ///< seconds; -1 = not recorded
  int lfu_frequency = -1;      ///< 0..255; -1 = not recorded
};

/// Events of one value. Exactly one begin call per value: String alone, or Begin .. End around items.
class ValueSink {
 public:
  virtual ~ValueSink() = default;

  /// A whole string value.
  virtual Status String(std::string_view bytes) = 0;
  /// A string value known to be an integer (encoded form "int").
  virtual Status Integer(int64_t value) = 0;

  /// A container of `count` items (members, fields, elements) follows, closed by End().
  virtual Status Begin(ValueKind kind, uint64_t count) = 0;
  virtual Status Item(std::string_view element) = 0;                        ///< list element, set member
  virtual Status Field(std::string_view field, std::string_view value) = 0;  ///< hash
  virtual Status Scored(std::string_view member, double score) = 0;          ///< sorted set
  /// A container in one packed blob that is itself an RDB encoding (`rdb_type` of rdb_format.h).
  virtual Status Packed(uint8_t rdb_type, std::string_view blob) = 0;

  /// A module value: 64-bit module type id (name and encoding version), then its opcodes, then End().
  virtual Status BeginModule(uint64_t type_id) = 0;
  virtual Status ModuleUnsigned(uint64_t value) = 0;
  virtual Status ModuleSigned(int64_t value) = 0;
  virtual Status ModuleDouble(double value) = 0;
  virtual Status ModuleFloat(float value) = 0;
  virtual Status ModuleString(std::string_view bytes) = 0;

  virtual Status End() = 0;
};

/// A dataset in motion: databases, keys with their meta, one value each. The RDB writer implements it for
/// saving; the engine implements it for loading.
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
};

}  // namespace cairn

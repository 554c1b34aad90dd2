#pragma once

// AofDatasetWriter: a DatasetSink that writes the dataset as commands: the BASE of a rewrite when
// aof-use-rdb-preamble is no. Containers become RPUSH, SADD, ZADD and HMSET of at most 64 items
// each, as Redis rewrites them; values that no command can build (modules) become RESTORE of their
// DUMP payload. It knows no files; bytes go to a ByteSink. Thread: the walker.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "persistence/byte_stream.h"
#include "persistence/rdb_writer.h"
#include "persistence/value_sink.h"

namespace cairn {

class AofDatasetWriter final : public DatasetSink, public ValueSink {
 public:
  /// Items per command, AOF_REWRITE_ITEMS_PER_CMD of Redis 7.0.
  static constexpr size_t kItemsPerCommand = 64;

  explicit AofDatasetWriter(ByteSink* sink) : sink_(sink) {}

  // DatasetSink
  Status Aux(std::string_view, std::string_view) override { return Status::Ok(); }
  Status FunctionLibrary(std::string_view code) override;
  Status SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) override;
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override;
  /// Writes what is buffered. Call once, after the last key.
  Status Finish();

  // ValueSink
  Status String(std::string_view bytes) override;
  Status Integer(int64_t value) override;
  Status Begin(ValueKind kind, uint64_t count) override;
  Status Item(std::string_view element) override;
  Status Field(std::string_view field, std::string_view value) override;
  Status Scored(std::string_view member, double score) override;
  Status Packed(uint8_t rdb_type, std::string_view blob) override;
  Status StreamState(const StreamStateRecord& state) override;
  Status StreamGroup(const StreamGroupRecord& group) override;
  Status StreamPending(const StreamPendingRecord& pending) override;
  Status StreamConsumers(uint64_t count) override;
  Status StreamConsumer(const StreamConsumerRecord& consumer) override;
  Status StreamConsumerPending(StreamId id) override;
  Status BeginModule(uint64_t type_id) override;
  Status ModuleUnsigned(uint64_t value) override;
  Status ModuleSigned(int64_t value) override;
  Status ModuleDouble(double value) override;
  Status ModuleFloat(float value) override;
  Status ModuleString(std::string_view bytes) override;
  Status End() override;

  uint64_t key_count() const { return keys_; }
  uint64_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kBufferBytes = size_t{64} << 10;

  Status Command(std::initializer_list<std::string_view> args);
  void PutCount(char type, size_t count);
  void PutBulk(std::string_view bytes);
  Status FlushWhenFull();
  Status AddItem(std::string_view first, std::optional<std::string_view> second);
  Status WriteItems();
  /// The value is complete: its PEXPIREAT follows.
  Status ValueDone();

  ByteSink* const sink_;
  std::string buffer_;
  uint64_t bytes_ = 0;
  uint64_t keys_ = 0;
  std::string key_;
  int64_t expire_at_ms_ = -1;
  std::string_view item_command_;  // of the container being written
  size_t words_per_item_ = 1;
  bool in_list_ = false;  // Packed is a node then
  std::vector<std::string> items_;
  std::optional<DumpWriter> dump_;  // a module value being written
};

}  // namespace cairn

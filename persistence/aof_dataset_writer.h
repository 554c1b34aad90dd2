#pragma once

// AofDatasetWriter: a DatasetSink that writes the dataset as commands: the BASE of a rewrite when
// aof-use-rdb-preamble is no. Containers become RPUSH, SADD, ZADD and HMSET of at most 64 items
// each, as Redis rewrites them, and of fewer when they are long; values that no command can build
// (modules) become RESTORE of their DUMP payload. It knows no files; bytes go to a ByteSink.
// Memory: the buffer and the items of one command, 64 KiB of each and what a short item is above
// it; long strings pass through. A stream or a module value is held whole. Thread: the walker.

#include <cstdint>
#include <optional>
#include <span>
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
  Status StringPieces(std::span<const std::string_view> pieces) override;
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
  /// Long bytes go to the sink as they are, behind what is buffered.
  Status Put(std::string_view bytes);
  Status PutBulk(std::string_view bytes);
  Status Flush();
  Status FlushWhenFull() { return buffer_.size() < kBufferBytes ? Status::Ok() : Flush(); }
  Status AddItem(std::string_view first, std::optional<std::string_view> second);
  /// One command with the item_command_ and these words.
  template <typename Words>
  Status WriteCommand(const Words& words);
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
  size_t items_bytes_ = 0;
  std::optional<DumpWriter> dump_;  // a module value being written
};

}  // namespace cairn

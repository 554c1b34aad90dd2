#pragma once

// The loading side of the engine: DatasetLoader puts what an RDB reader plays into the keyspace;
// CommandLoader runs what an append-only file says on an internal session. Neither opens files.
// Thread: executor.

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "persistence/aof_reader.h"
#include "persistence/value_sink.h"
#include "server/data/value_codec.h"
#include "server/engine/engine.h"

namespace cairn {

/// Storing a key first reads a bucket of the table, and keys come in no order: each would be a wait
/// for memory. So short keys with short values wait in a queue while their buckets are fetched,
/// and one that is not short is stored at once, behind those before it. Memory: the queue's keys
/// and values, each short, and the value that is being read.
class DatasetLoader final : public DatasetSink {
 public:
  /// Keys that are on their way; about as many lines as the processor fetches at a time.
  static constexpr size_t kAhead = 16;
  struct Options {
    bool drop_expired = true;  ///< keys past their TTL are not loaded (a primary's start)
    bool merge = false;  ///< DEBUG RELOAD MERGE: keys and libraries that exist are replaced instead
                         ///< of refused
    bool at_start = false;  ///< the dump of a start: replicas hear of what is dropped
  };
  DatasetLoader(Engine& engine, Options options);

  Status Aux(std::string_view name, std::string_view value) override;
  Status FunctionLibrary(std::string_view code) override;
  Status SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) override;
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override;
  Result<ValueSink*> ModuleAux(uint64_t type_id, uint64_t when) override;
  /// Stores what waits: call after the reader returned.
  Status Finish();

  uint64_t loaded() const { return loaded_; }
  uint64_t expired() const { return expired_; }
  /// Memory that the server which wrote the file then used, in bytes; 0 = it does not say.
  uint64_t saved_by_memory_bytes() const { return saved_by_memory_bytes_; }

 private:
  /// A key whose value is being read, or waits.
  struct Pending {
    explicit Pending(Engine& engine);
    Database* db = nullptr;
    std::string key;
    uint64_t hash = 0;
    KeyMeta meta;
    ValueBuilder builder;
  };
  Pending& place(size_t number) { return ahead_[number % kAhead]; }
  /// The key that is being read is whole.
  Status CloseKey();
  Status StoreUpTo(size_t number);
  Status Store(Pending& pending);

  Engine& engine_;
  const Options options_;
  Database* db_;
  std::deque<Pending> ahead_;  // kAhead of them; number n stands at n % kAhead
  size_t stored_ = 0;          // keys below this number are stored
  size_t closed_ = 0;          // keys below this number are whole
  bool reading_ = false;       // key number closed_ is being read
  uint64_t loaded_ = 0;
  uint64_t expired_ = 0;
  uint64_t saved_by_memory_bytes_ = 0;
};

class CommandLoader final : public CommandSink {
 public:
  explicit CommandLoader(Engine& engine);
  ~CommandLoader() override;
  Status BeginFile(std::string_view name) override;
  void Announce(std::span<const std::string_view> args) override;
  Status Command(std::span<const std::string_view> args) override;

 private:
  Engine& engine_;
  Session* session_;
  std::string file_;  // that is read
  // Of the last commands that were announced, the hashes of their first keys; number n stands at
  // n % kAofAhead.
  std::array<uint64_t, kAofAhead> announced_{};
  size_t announced_count_ = 0;
};

}  // namespace cairn

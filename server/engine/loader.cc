#include "server/engine/loader.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/function_store.h"
#include "server/engine/key_access.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

/// key-load-delay, which tests set to see a server that loads: so many microseconds a key; below
/// zero one microsecond for one key in so many.
void DelayLoad(Engine& engine) {
  const int64_t delay = engine.settings().key_load_delay;
  if (delay == 0) [[likely]]
    return;
  if (delay < 0 && engine.env.RandomU64() % static_cast<uint64_t>(-delay) != 0) return;
  std::this_thread::sleep_for(std::chrono::microseconds(std::max<int64_t>(delay, 1)));
}

}  // namespace

DatasetLoader::DatasetLoader(Engine& engine, Options options)
    : engine_(engine),
      options_(options),
      builder_(engine.module_values, engine.keyspace.value_home(), LimitsOf(engine.settings())) {}

Status DatasetLoader::Aux(std::string_view name, std::string_view value) {
  engine_.log.Log(LogLevel::kVerbose, "RDB field {}: {}", name, value);
  if (int64_t bytes = 0; name == "used-mem" && ParseInt64(value, &bytes) && bytes > 0) {
    saved_by_memory_bytes_ = static_cast<uint64_t>(bytes);
  }
  if (engine_.replicas != nullptr) engine_.replicas->OnLoadedField(name, value);
  return Status::Ok();
}

Status DatasetLoader::FunctionLibrary(std::string_view source) {
  if (engine_.functions == nullptr) {
    return Status(StatusCode::kUnsupported,
                  "the file holds a function library, which this server cannot run or keep");
  }
  const Status restored = engine_.functions->Restore(source, options_.merge);
  if (restored.ok()) return Status::Ok();
  return Status::Corruption("Failed loading the given functions: " +
                            std::string(restored.message()));
}

Status DatasetLoader::SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) {
  CAIRN_RETURN_IF_ERROR(StorePending());
  if (index >= engine_.keyspace.database_count()) {
    return Status::Corruption(
        "Data file was created with a server configured to handle more than " +
        std::to_string(engine_.keyspace.database_count()) + " databases");
  }
  db_ = &engine_.keyspace.db(index);
  db_->Reserve(key_count);
  return Status::Ok();
}

Result<ValueSink*> DatasetLoader::Key(std::string_view key, const KeyMeta& meta) {
  CAIRN_RETURN_IF_ERROR(StorePending());
  key_.assign(key);
  meta_ = meta;
  pending_ = true;
  drop_ = options_.drop_expired && meta.expire_at_ms != kNoExpiry &&
          meta.expire_at_ms < engine_.now_ms();
  builder_.Reset();
  return static_cast<ValueSink*>(&builder_);
}

Result<ValueSink*> DatasetLoader::ModuleAux(uint64_t, uint64_t) {
  return Status(StatusCode::kUnsupported,
                "the file holds data of a module that keeps state outside its keys");
}

Status DatasetLoader::StorePending() {
  if (!pending_) return Status::Ok();
  pending_ = false;
  DelayLoad(engine_);
  if (drop_) {
    ++expired_;
    return Status::Ok();
  }
  if (builder_.is_empty()) {
    engine_.log.Log(LogLevel::kNotice, "the key '{}' holds an empty container: left out", key_);
    return Status::Ok();
  }
  Result<ValueInput> value = builder_.Take();
  if (!value.ok()) return value.status();
  if (db_ == nullptr) db_ = &engine_.keyspace.db(0);
  const KeyRef ref = db_->MakeKey(key_);
  if (!options_.merge && db_->Peek(ref) != nullptr) {
    return Status::Corruption("RDB has duplicated key '" + key_ + "' in DB " +
                              std::to_string(db_->index()));
  }
  const Entry* entry = db_->Set(ref, std::move(*value), meta_.expire_at_ms);
  if (meta_.lfu_frequency >= 0 || meta_.lru_idle_s >= 0) {
    engine_.keyspace.RestoreAccess(*entry, meta_.lru_idle_s, meta_.lfu_frequency);
  }
  ++loaded_;
  return Status::Ok();
}

Status DatasetLoader::Finish() { return StorePending(); }

CommandLoader::CommandLoader(Engine& engine)
    : engine_(engine), session_(engine.CreateSession(nullptr, SessionKind::kInternal)) {}

CommandLoader::~CommandLoader() { engine_.DestroySession(session_); }

Status CommandLoader::BeginFile(std::string_view name) {
  file_ = name;
  session_->db = 0;
  session_->transaction = TransactionState();
  return Status::Ok();
}

Status CommandLoader::Command(std::span<const std::string_view> args) {
  session_->output.Clear();
  DelayLoad(engine_);
  if (engine_.dispatcher->RunArgs(*session_, args)) {
    return engine_.modules == nullptr ? Status::Ok() : engine_.modules->TakeLoadFailure();
  }
  return Status::Corruption("Unknown command '" + std::string(args[0]) +
                            "' reading the append only file " + file_);
}

}  // namespace cairn

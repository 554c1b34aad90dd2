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

DatasetLoader::Pending::Pending(Engine& engine)
    : builder(engine.module_values, engine.keyspace.value_home(), LimitsOf(engine.settings())) {}

DatasetLoader::DatasetLoader(Engine& engine, Options options)
    : engine_(engine), options_(options), db_(&engine.keyspace.db(0)) {
  while (ahead_.size() < kAhead) ahead_.emplace_back(engine);
}

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
  CAIRN_RETURN_IF_ERROR(CloseKey());
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
  CAIRN_RETURN_IF_ERROR(CloseKey());
  if (closed_ - stored_ == kAhead) CAIRN_RETURN_IF_ERROR(StoreUpTo(stored_ + 1));
  Pending& pending = place(closed_);
  pending.db = db_;
  pending.key.assign(key);
  pending.meta = meta;
  reading_ = true;
  return static_cast<ValueSink*>(&pending.builder);
}

Result<ValueSink*> DatasetLoader::ModuleAux(uint64_t, uint64_t) {
  return Status(StatusCode::kUnsupported,
                "the file holds data of a module that keeps state outside its keys");
}

Status DatasetLoader::CloseKey() {
  if (!reading_) return Status::Ok();
  reading_ = false;
  Pending& pending = place(closed_++);
  pending.hash = pending.db->MakeKey(pending.key).hash;
  if (!pending.builder.is_short() || pending.key.size() > kMaxInlineValueBytes) {
    return StoreUpTo(closed_);
  }
  // The bucket can be asked for once the directory's slot is here: half of the queue later.
  pending.db->PrefetchSlot(pending.hash);
  if (closed_ - stored_ > kAhead / 2) {
    const Pending& next = place(closed_ - 1 - kAhead / 2);
    next.db->PrefetchBucket(next.hash, /*for_write=*/true);
  }
  return Status::Ok();
}

Status DatasetLoader::StoreUpTo(size_t number) {
  while (stored_ < number) {
    Pending& pending = place(stored_++);
    CAIRN_RETURN_IF_ERROR(Store(pending));
    // The place may not be used again for a while, and what was dropped may be large.
    pending.builder.Reset();
  }
  return Status::Ok();
}

Status DatasetLoader::Store(Pending& pending) {
  DelayLoad(engine_);
  const KeyMeta& meta = pending.meta;
  if (options_.drop_expired && meta.expire_at_ms != kNoExpiry &&
      meta.expire_at_ms < engine_.now_ms()) {
    ++expired_;
    if (options_.at_start && engine_.replicas != nullptr)
      engine_.replicas->OnExpiredAtStart(pending.db->index(), pending.key);
    return Status::Ok();
  }
  if (pending.builder.is_empty()) {
    engine_.log.Log(LogLevel::kNotice, "the key '{}' holds an empty container: left out",
                    pending.key);
    return Status::Ok();
  }
  Result<ValueInput> value = pending.builder.Take();
  if (!value.ok()) return value.status();
  const KeyRef ref{pending.key, pending.hash};
  if (!options_.merge && pending.db->Peek(ref) != nullptr) {
    return Status::Corruption("RDB has duplicated key '" + pending.key + "' in DB " +
                              std::to_string(pending.db->index()));
  }
  const Entry* entry = pending.db->Set(ref, std::move(*value), meta.expire_at_ms);
  ModuleHost::OnStored(pending.db->index(), *entry);
  if (meta.lfu_frequency >= 0 || meta.lru_idle_s >= 0) {
    engine_.keyspace.RestoreAccess(*entry, meta.lru_idle_s, meta.lfu_frequency);
  }
  ++loaded_;
  return Status::Ok();
}

Status DatasetLoader::Finish() {
  CAIRN_RETURN_IF_ERROR(CloseKey());
  return StoreUpTo(closed_);
}

CommandLoader::CommandLoader(Engine& engine)
    : engine_(engine), session_(engine.CreateSession(nullptr, SessionKind::kInternal)) {}

CommandLoader::~CommandLoader() { engine_.DestroySession(session_); }

Status CommandLoader::BeginFile(std::string_view name) {
  file_ = name;
  session_->db = 0;
  session_->transaction = TransactionState();
  return Status::Ok();
}

// The three passes of Database, each when what the one before it asked for should be here. The
// database may be another one by the command's turn; what was fetched is of no use then.
void CommandLoader::Announce(std::span<const std::string_view> args) {
  constexpr size_t kStep = kAofAhead / 3;
  const auto* const command = engine_.commands.Recall(args[0]);
  if (command == nullptr || command->first_key <= 0 ||
      args.size() <= static_cast<size_t>(command->first_key)) {
    return;
  }
  const Database& db = engine_.keyspace.db(session_->db);
  const uint64_t hash = db.MakeKey(args[static_cast<size_t>(command->first_key)]).hash;
  announced_[announced_count_ % kAofAhead] = hash;
  db.PrefetchSlot(hash);
  const auto earlier = [this](size_t by) {
    return announced_[(announced_count_ - by) % kAofAhead];
  };
  if (announced_count_ >= kStep) db.PrefetchBucket(earlier(kStep), /*for_write=*/true);
  if (announced_count_ >= 2 * kStep) db.PrefetchEntry(earlier(2 * kStep));
  ++announced_count_;
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

// The loading half of DurabilityOfFiles: what comes from files, at the start, from a primary, and
// by DEBUG.

#include <algorithm>

#include "persistence/rdb_reader.h"
#include "server/engine/durability_impl.h"
#include "server/engine/function_store.h"
#include "server/engine/loader.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

constexpr int64_t kDebugLoadWaitMs = 10000;
/// Bytes of a primary's copy that are loaded between two turns of the loop: some milliseconds.
constexpr uint64_t kReplicaStepBytes = 256 * 1024;

/// An error of loading a file, with the file's name in it.
Status InFile(const std::string& path, const Status& status) {
  if (status.ok() || status.message().find(path) != std::string_view::npos) return status;
  return {status.code(), path + ": " + std::string(status.message())};
}

/// Supervisors and test suites wait for this line.
void LogLoaded(Engine& engine, std::string_view source, int64_t began_us) {
  engine.log.Log(LogLevel::kNotice, "DB loaded from {}: {:.3f} seconds", source,
                 static_cast<double>(engine.env.MonotonicMicros() - began_us) / 1e6);
}

}  // namespace

Status DurabilityOfFiles::LoadRdb(const std::string& path, const RdbLoad& how,
                                  uint64_t* end_offset) {
  auto source = OpenByteSource(engine_.env, path);
  if (!source.ok()) return source.status();
  RdbReadOptions options;
  options.verify_checksum = engine_.settings().rdbchecksum;
  options.progress_interval_bytes =
      static_cast<uint64_t>(engine_.settings().loading_process_events_interval_bytes);
  // A replica that loads has clients to answer, and a primary to keep company.
  if (engine_.is_replica())
    options.progress_interval_bytes = std::min(options.progress_interval_bytes, kReplicaStepBytes);
  // Which keys are past their time is for the primary of a replica to say, and in an append-only
  // file for what follows its base: it may have given them a longer life.
  const bool drop_expired = !engine_.is_replica() && !how.is_base;
  DatasetLoader loader(
      engine_, {.drop_expired = drop_expired, .merge = how.merge, .at_start = how.at_start});
  const uint64_t loaded = loaded_keys_;
  const uint64_t expired = expired_at_load_;
  const auto count = [&] {
    loaded_keys_ = loaded + loader.loaded();
    expired_at_load_ = expired + loader.expired();
  };
  options.on_progress = [&](uint64_t offset) {
    count();
    load_.saved_by_memory_bytes = loader.saved_by_memory_bytes();
    return LoadProgress(offset);
  };
  RdbReader reader(source->get(), options);
  Result<uint64_t> end = reader.Load(loader);
  if (!end.ok()) return InFile(path, end.status());
  CAIRN_RETURN_IF_ERROR(InFile(path, loader.Finish()));
  *end_offset = *end;
  count();
  engine_.log.Log(LogLevel::kNotice, "Done loading RDB, keys loaded: {}, keys expired: {}.",
                  loader.loaded(), loader.expired());
  return Status::Ok();
}

Result<AofLoadReport> DurabilityOfFiles::LoadAppendOnly(const AofLocation& location,
                                                        const AofManifest& manifest,
                                                        bool change_files) {
  BeginLoad(SizeOfAof(engine_.env, location, manifest));
  CommandLoader commands(engine_);
  AofLoadOptions options;
  options.load_truncated = engine_.settings().aof_load_truncated;
  options.load_corrupt_tail = engine_.settings().aof_load_corrupt_tail;
  options.change_files = change_files;
  options.progress_interval_bytes =
      static_cast<uint64_t>(engine_.settings().loading_process_events_interval_bytes);
  options.on_progress = [this](uint64_t loaded) { return LoadProgress(loaded); };
  options.on_log = [this](std::string_view line) { engine_.log.Line(LogLevel::kNotice, line); };
  const auto load_rdb = [this](const std::string& path) -> Result<uint64_t> {
    uint64_t end = 0;
    CAIRN_RETURN_IF_ERROR(LoadRdb(path, {.is_base = true}, &end));
    return end;
  };
  // An append-only file is replayed as it was written: keys past their TTL go when their DEL comes,
  // or by the next look-up after the load.
  engine_.keyspace.set_lazy_expiry(false);
  auto report = LoadAof(engine_.env, location, manifest, load_rdb, commands, options);
  engine_.keyspace.set_lazy_expiry(true);
  return report;
}

Status DurabilityOfFiles::LoadAtStart() {
  const Settings& settings = engine_.settings();
  if (const uint64_t swept = SweepServerDirectory(engine_.env, settings.dir, engine_.process_id);
      swept > 0) {
    engine_.log.Log(LogLevel::kNotice, "Removed {} temporary files of processes that ended", swept);
  }
  // Of a process that was killed with the log on. Where it cannot be removed it only takes room.
  if (!settings.appendonly) (void)engine_.env.RemoveIfThere(Location().ReservePath()).ok();
  engine_.loading = true;
  Status status = settings.appendonly ? LoadAppendOnlyAtStart() : LoadDumpAtStart();
  engine_.loading = false;
  last_save_ms_ = engine_.env.WallMicros() / 1000;
  return status;
}

Result<AofManifest> DurabilityOfFiles::PrepareAof(bool at_start) {
  std::vector<std::string> stray;
  auto manifest = at_start
                      ? PrepareAofDirectory(engine_.env, engine_.settings().dir, Location(), &stray)
                      : EnterAofDirectory(engine_.env, Location(), &stray);
  for (const std::string& name : stray) {
    engine_.log.Log(LogLevel::kWarning,
                    "No append only file manifest names {}: it is neither read nor touched", name);
  }
  return manifest;
}

// A file that is there but cannot be looked at is no reason to begin empty: the next save would
// replace it.
Status DurabilityOfFiles::LoadDumpAtStart() {
  const std::string path = PathInDir(engine_.settings().dbfilename);
  const auto size = engine_.env.FileSize(path);
  if (!size.ok() && size.status().code() == StatusCode::kNotFound) return Status::Ok();
  if (!size.ok()) return size.status();
  const int64_t began_us = engine_.env.MonotonicMicros();
  BeginLoad(*size);
  uint64_t end = 0;
  CAIRN_RETURN_IF_ERROR(LoadRdb(path, {.at_start = true}, &end));
  LogLoaded(engine_, "disk", began_us);
  return Status::Ok();
}

Status DurabilityOfFiles::LoadAppendOnlyAtStart() {
  const int64_t began_us = engine_.env.MonotonicMicros();
  auto manifest = PrepareAof(/*at_start=*/true);
  if (!manifest.ok()) return manifest.status();
  if (manifest->empty()) {
    // Redis 7 starts empty here even beside a dump.rdb and so loses it with the next save; we load
    // it and make it the first base (docs/differences.md).
    CAIRN_RETURN_IF_ERROR(LoadDumpAtStart());
    CAIRN_RETURN_IF_ERROR(BeginLog(std::move(*manifest)));
    return RewriteHere();
  }
  auto report = LoadAppendOnly(Location(), *manifest, true);
  if (!report.ok()) return report.status();
  LogLoaded(engine_, "append only file", began_us);
  return GoOnWithLog(std::move(*manifest), report->last_file_covered);
}

Status DurabilityOfFiles::LoadFromPrimary(const std::string& path) {
  AbortBackgroundSave();
  // What is logged belongs to the old dataset; RestartAppendOnly begins anew.
  CloseLog();
  awaits_copy_ = true;
  open_failures_ = 0;
  const auto size = engine_.env.FileSize(path);
  BeginLoad(size.ok() ? *size : 0);
  engine_.loading = true;
  engine_.keyspace.FlushAll(true);
  if (engine_.functions != nullptr)
    engine_.functions->Clear(/*lazy=*/true);  // the copy brings its own
  uint64_t end = 0;
  const Status status = LoadRdb(path, {}, &end);
  engine_.loading = false;
  if (!status.ok()) engine_.keyspace.FlushAll(true);
  return status;
}

void DurabilityOfFiles::EmptyForReload() {
  for (uint32_t db = 0; db < engine_.keyspace.database_count(); ++db) {
    engine_.watches.TouchDatabase(engine_.keyspace, db, db);
    engine_.blocking.SignalDatabase(db);
  }
  engine_.keyspace.FlushAll(false);
  engine_.tracking.InvalidateAll();
  if (engine_.functions != nullptr) engine_.functions->Clear(/*lazy=*/false);
}

Status DurabilityOfFiles::DebugReload(bool save, bool flush, bool merge) {
  // DEBUG is let through while a copy from the primary is loaded, of which half would be lost.
  if (engine_.loading) return RespError(resp_errors::kLoading);
  if (save && !RunJobHere(JobKind::kSave).ok()) return Status::Client("ERR");  // the log has why
  if (flush) EmptyForReload();
  const std::string path = PathInDir(engine_.settings().dbfilename);
  const auto size = engine_.env.FileSize(path);
  BeginLoad(size.ok() ? *size : 0);
  engine_.loading = true;
  uint64_t end = 0;
  const Status status = LoadRdb(path, {.merge = merge}, &end);
  engine_.loading = false;
  return status;
}

// Once the log thread has made its cuts and published what it was given, it removes none of the
// files that are read here, and shortens none.
Status DurabilityOfFiles::WaitForLog() {
  if (!aof_->protecting()) {
    return Status::Client("ERR The first rewrite of the append only file has not ended");
  }
  // What a transaction wrote before this is not in the files yet, and comes behind what is loaded.
  if (!aof_->WaitDurable(engine_.propagation.handed_over(), kDebugLoadWaitMs) ||
      !JoinPublishing(kDebugLoadWaitMs)) {
    return Status::Client("ERR The append only file could not be written");
  }
  return Status::Ok();
}

Status DurabilityOfFiles::DebugLoadAof() {
  if (engine_.loading) return RespError(resp_errors::kLoading);
  EndOfTurn();
  if (aof_ != nullptr) CAIRN_RETURN_IF_ERROR(WaitForLog());
  const AofLocation location = aof_ != nullptr ? aof_->location() : Location();
  Result<AofManifest> manifest = aof_ != nullptr ? Result<AofManifest>(aof_->manifest())
                                                 : LoadAofManifest(engine_.env, location);
  if (!manifest.ok()) return manifest.status();
  if (manifest->empty()) return Status::Client("ERR There is no append only file");
  EmptyForReload();
  engine_.loading = true;
  engine_.propagation.set_enabled(false);
  auto report = LoadAppendOnly(location, *manifest, false);
  engine_.propagation.set_enabled(aof_ != nullptr);
  engine_.loading = false;
  if (!report.ok()) return report.status();
  changes_saved_ = changes_;
  return Status::Ok();
}

}  // namespace cairn

#include "persistence/save_rules.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability_impl.h"
#include "server/engine/function_store.h"
#include "server/engine/module_host.h"
#include "server/keyspace/view.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

constexpr int kWalkerNice = 10;
/// A walker in a hurry gives way at one of so many chances, which makes its turns about 1 ms.
constexpr unsigned kHurriedTurn = 12;

Status Busy(std::string line) { return Status::Client("ERR " + std::move(line)); }

}  // namespace

std::unique_ptr<Durability> NewDurability(Engine& engine, std::function<void()> on_durable) {
  return std::make_unique<DurabilityOfFiles>(engine, std::move(on_durable));
}

DurabilityOfFiles::DurabilityOfFiles(Engine& engine, std::function<void()> on_durable)
    : engine_(engine),
      on_durable_(std::move(on_durable)),
      walker_(std::make_unique<WorkerThread>(
          WorkerOptions{.name = "walker", .nice_level = kWalkerNice, .gives_way = true})),
      throttle_(engine, [this] { GiveUpSnapshot(); }),
      log_throttle_(engine, [this] { return LogIsOverLimit(); }) {
  last_save_ms_ = last_attempt_ms_ = engine_.env.WallMicros() / 1000;
  RegisterHooks();
}

DurabilityOfFiles::~DurabilityOfFiles() {
  engine_.loop.StopTimer(patience_timer_);
  AbortBackgroundSave();
  walker_->Stop();
  if (copy_walker_ != nullptr) copy_walker_->Stop();
}

WorkerThread& DurabilityOfFiles::WalkerOf(JobKind kind) {
  if (kind != JobKind::kSync) return *walker_;
  if (copy_walker_ == nullptr) {
    copy_walker_ = std::make_unique<WorkerThread>(
        WorkerOptions{.name = "copy-walker", .nice_level = kWalkerNice, .gives_way = true});
  }
  return *copy_walker_;
}

std::string DurabilityOfFiles::PathInDir(const std::string& name) const {
  return engine_.settings().dir + "/" + name;
}

AofLocation DurabilityOfFiles::Location() const {
  return {PathInDir(engine_.settings().appenddirname), engine_.settings().appendfilename};
}

// --- cuts and jobs ---

SnapshotJobOptions DurabilityOfFiles::JobOptions(JobKind kind, const SyncSnapshot& sync) const {
  const Settings& settings = engine_.settings();
  SnapshotJobOptions options;
  if (kind == JobKind::kSave) {
    options.final_path = PathInDir(settings.dbfilename);
    options.temp_path = PathInDir("temp-" + std::to_string(engine_.process_id) + ".rdb");
  } else if (kind == JobKind::kSync) {
    options.temp_path = sync.path;
    options.durable = false;
  } else {
    options.temp_path = aof_->TempBasePath();
    options.as_commands = !settings.aof_use_rdb_preamble;
    // One walk for both: the new base is what a save of this moment would write.
    const SaveWish wish = WishToSave(engine_.env.WallMicros() / 1000);
    if ((wish.scheduled || wish.due) && !options.as_commands)
      options.also_final_path = PathInDir(settings.dbfilename);
  }
  options.rdb.compress = settings.rdbcompression;
  options.rdb.checksum = settings.rdbchecksum;
  options.rdb.aof_base = kind == JobKind::kRewrite;
  options.rdb.now_s = engine_.now_ms() / 1000;
  options.rdb.used_memory_bytes = ReadAllocatedBytes();
  if (engine_.functions != nullptr) options.function_libraries = engine_.functions->Sources();
  if (engine_.replicas != nullptr && kind != JobKind::kRewrite)
    options.rdb.fields = engine_.replicas->SnapshotFields();
  options.rdb.target = NextTarget(kind, !options.also_final_path.empty());
  // Replicas check what they receive.
  options.verify = settings.rdb_verify && kind != JobKind::kSync;
  options.incremental_sync = kind == JobKind::kRewrite ? settings.aof_rewrite_incremental_fsync
                                                       : settings.rdb_save_incremental_fsync;
  options.cpu_limit_percent = settings.snapshot_cpu_limit;
  // To be polite towards writers is no use to them once it would have them wait for the walker:
  // then it lets them in less often, yet more often than the kernel's ticks, 4 ms apart, would.
  options.gives_way = [this, hurry_from = SnapshotRetainedLimit(settings) / 8,
                       calls = 0u]() mutable {
    return engine_.keyspace.retained_value_bytes() < hurry_from || ++calls % kHurriedTurn == 0;
  };
  // A walk kept so slow that writers come to wait for it spares nobody either.
  options.in_a_hurry = [this, from = SnapshotRetainedLimit(settings) / 2] {
    return engine_.keyspace.retained_value_bytes() > from;
  };
  options.key_delay_us = settings.rdb_key_save_delay;
  return options;
}

std::string DurabilityOfFiles::ManifestName() const {
  return engine_.settings().appenddirname + "/" + engine_.settings().appendfilename + ".manifest";
}

SaveTarget DurabilityOfFiles::NextTarget(JobKind kind, bool saves_too) const {
  SaveTarget target;
  if (kind == JobKind::kSync) return target;
  if (kind == JobKind::kRewrite && LogIsElsewhere()) return target;
  target.directory = engine_.settings().dir;
  target.number = jobs_started_ + 1;
  if (kind == JobKind::kRewrite) target.files.push_back(ManifestName());
  if (kind == JobKind::kSave || saves_too) target.files.push_back(engine_.settings().dbfilename);
  return target;
}

SaveTarget DurabilityOfFiles::LogTarget() const {
  SaveTarget target;
  if (aof_ == nullptr || LogIsElsewhere()) return target;
  target.directory = engine_.settings().dir;
  target.number = jobs_started_;
  target.files.push_back(ManifestName());
  return target;
}

void DurabilityOfFiles::TellModules(const SaveTarget& target, std::string_view file) {
  if (engine_.modules == nullptr || target.number == 0) return;
  engine_.modules->OnSaved(file.empty() ? "" : target.directory + "/" + std::string(file),
                           target.number);
}

Status DurabilityOfFiles::Cut(Job& job) {
  EndOfTurn();
  const int64_t began_us = engine_.env.MonotonicMicros();
  job.view = engine_.keyspace.BeginView();
  if (job.view == nullptr)
    return Status::Client("ERR Too many databases are in use for a snapshot");
  if (job.kind == JobKind::kRewrite) aof_->BeginRewrite();
  if (job.sync.on_cut) job.sync.on_cut();
  last_cut_us_ = static_cast<uint64_t>(engine_.env.MonotonicMicros() - began_us);
  job.changes_at_cut = changes_;
  job.started_ms = engine_.env.WallMicros() / 1000;
  job.cut_us = snapshot_logged_us_ = began_us;
  throttle_.Begin();
  return Status::Ok();
}

Status DurabilityOfFiles::Launch(JobKind kind, SyncSnapshot sync) {
  EndOfTurn();  // the options name the offset of the cut
  SnapshotJobOptions options = JobOptions(kind, sync);
  std::optional<Job>& slot = SlotOf(kind);
  if (kind == JobKind::kRewrite) rewrite_scheduled_ = false;
  slot.emplace(Job{.kind = kind,
                   .number = ++jobs_started_,
                   .as_commands = options.as_commands,
                   .target = options.rdb.target,
                   .sync = std::move(sync)});
  slot->saves_too = !options.also_final_path.empty();
  // One that is asked for from here on is another: it wants what comes behind the cut.
  if (slot->saves_too) slot->was_scheduled = std::exchange(save_scheduled_, false);
  if (kind == JobKind::kSave) last_attempt_ms_ = engine_.env.WallMicros() / 1000;
  NoteDiskLoad();
  if (Status cut = Cut(*slot); !cut.ok()) {
    NoteFailedStart(*slot, cut);
    slot.reset();
    NoteDiskLoad();
    return cut;
  }
  slot->snapshot = std::make_unique<SnapshotJob>(engine_.env, *slot->view, std::move(options));
  WalkerOf(kind).Post([this, kind, snapshot = slot->snapshot.get(), outcome = slot->outcome,
                       number = slot->number] {
    outcome->status = snapshot->Run();
    engine_.loop.Post([this, kind, outcome, number, alive = std::weak_ptr<int>(alive_)] {
      if (alive.expired()) return;
      // JoinJob may have applied the outcome already and begun another job.
      std::optional<Job>& mine = SlotOf(kind);
      if (mine.has_value() && mine->number == number) OnJobDone(mine, outcome->status);
    });
  });
  return Status::Ok();
}

/// There was no view to walk. What is retried by itself waits as after any failure.
void DurabilityOfFiles::NoteFailedStart(const Job& job, const Status& status) {
  if (job.kind == JobKind::kSave) FinishSave(job, status);
  if (job.kind == JobKind::kRewrite) NoteFailedRewrite();
  if (job.was_scheduled) save_scheduled_ = true;
  TellModules(job.target, "");
}

Status DurabilityOfFiles::RunJobHere(JobKind kind) {
  // Of the same kind: it writes the same file. Another kind walks a view of its own.
  if (job_.has_value() && job_->kind == kind) JoinJob(job_);
  // What is saved here is newer than the cut of a rewrite that runs.
  if (job_.has_value() && job_->saves_too) job_->snapshot->DropAlso();
  EndOfTurn();
  SnapshotJobOptions options = JobOptions(kind, {});
  options.cpu_limit_percent = 100;  // clients wait for it: going slow would spare nobody
  options.gives_way = nullptr;
  options.also_final_path.clear();
  if (options.rdb.target.files.size() > 1) options.rdb.target.files.pop_back();
  Job job{.kind = kind,
          .number = ++jobs_started_,
          .as_commands = options.as_commands,
          .here = true,
          .target = options.rdb.target};
  if (Status cut = Cut(job); !cut.ok()) {
    NoteFailedStart(job, cut);
    return cut;
  }
  SnapshotJob snapshot(engine_.env, *job.view, std::move(options));
  Status status = snapshot.Run();
  engine_.keyspace.EndView(job.view);
  if (kind == JobKind::kSave) {
    FinishSave(job, status);
    TellModules(job.target, "");
  } else {
    FinishRewrite(job, status);
  }
  return status;
}

void DurabilityOfFiles::OnJobDone(std::optional<Job>& slot, Status status) {
  Job job = std::move(*slot);
  slot.reset();
  NoteDiskLoad();
  engine_.keyspace.EndView(job.view);
  if (job.kind == JobKind::kSave) {
    FinishSave(job, status);
    TellModules(job.target, "");
  } else if (job.kind == JobKind::kRewrite) {
    FinishRewrite(job, status);
  } else {
    job.sync.on_done(status);
  }
}

void DurabilityOfFiles::JoinJob(std::optional<Job>& slot) {
  // The walker posts to the loop, which is not turning now: ask the walker itself.
  WalkerOf(slot->kind).Drain();
  OnJobDone(slot, slot->outcome->status);
}

void DurabilityOfFiles::EndJob(JobKind kind) {
  if (!job_.has_value() || job_->kind != kind) return;
  job_->snapshot->Abort();
  JoinJob(job_);
}

void DurabilityOfFiles::AbortWalks() {
  for (std::optional<Job>* slot : {&job_, &copy_}) {
    if (slot->has_value()) (*slot)->snapshot->Abort();
  }
}

void DurabilityOfFiles::AbortBackgroundSave() {
  AbortWalks();
  for (std::optional<Job>* slot : {&job_, &copy_}) {
    if (slot->has_value()) JoinJob(*slot);
  }
}

// Which of two walks holds the old values up is not known: both do, as long as both are open.
void DurabilityOfFiles::GiveUpSnapshot() {
  if (!Walking()) return;
  engine_.log.Log(LogLevel::kWarning,
                  "The snapshot is given up: it holds more than snapshot-retained-limit ({} bytes) "
                  "and did not catch up in time",
                  SnapshotRetainedLimit(engine_.settings()));
  for (std::optional<Job>* slot : {&job_, &copy_}) {
    if (slot->has_value()) (*slot)->given_up = true;
  }
  AbortWalks();
}

void DurabilityOfFiles::FinishSave(const Job& job, const Status& status) {
  const int64_t now_ms = engine_.env.WallMicros() / 1000;
  if (!job.here) {
    last_save_duration_ms_ = now_ms - job.started_ms;
    saves_ += status.ok() || job.Failed(status);
  }
  if (status.ok()) {
    changes_saved_ = std::max(changes_saved_, job.changes_at_cut);
    last_save_ms_ = now_ms;
    last_save_ok_ = true;
    disk_failed_ = false;
    engine_.log.Log(LogLevel::kNotice, "DB saved on disk");
    if (!job.target.files.empty()) TellModules(job.target, job.target.files.back());
  } else if (job.Failed(status)) {
    engine_.log.Log(LogLevel::kWarning, "Error saving DB on disk: {}", status.message());
    // What writes is refused for saves of which nobody else hears that they fail.
    if (job.here) return;
    last_save_ok_ = false;
    if (status.code() != StatusCode::kCancelled) disk_failed_ = true;
    if (job.given_up) last_attempt_ms_ = now_ms;  // writers were held up to now
  }
}

// --- requests ---

Status DurabilityOfFiles::Save() {
  if (job_.has_value() && job_->kind == JobKind::kSave)
    return Busy("Background save already in progress");
  ++saves_;
  const Status status = RunJobHere(JobKind::kSave);
  return status.ok() ? status : Status::Client("ERR");
}

Status DurabilityOfFiles::SaveNow() { return RunJobHere(JobKind::kSave); }

Status DurabilityOfFiles::StartBackgroundSave(bool schedule, std::string* reply) {
  if (job_.has_value() && job_->kind == JobKind::kSave)
    return Busy("Background save already in progress");
  if (job_.has_value() || engine_.dispatcher->in_exec()) {
    if (!schedule && !engine_.dispatcher->in_exec()) {
      return Busy(
          "Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in "
          "order to "
          "schedule a BGSAVE whenever possible.");
    }
    save_scheduled_ = true;
    *reply = "Background saving scheduled";
    return Status::Ok();
  }
  save_scheduled_ = false;
  CAIRN_RETURN_IF_ERROR(Launch(JobKind::kSave));
  engine_.log.Log(LogLevel::kNotice, "Background saving started (cut in {} us)", last_cut_us_);
  *reply = "Background saving started";
  return Status::Ok();
}

Status DurabilityOfFiles::StartSyncSnapshot(SyncSnapshot request) {
  if (copy_.has_value() || engine_.propagation.in_group()) {
    return Status(StatusCode::kNoSpace, "another copy is being made");
  }
  return Launch(JobKind::kSync, std::move(request));
}

bool DurabilityOfFiles::HoldsWrites() {
  if (Walking() && throttle_.HoldsWrites()) return true;
  return log_throttle_.HoldsWrites();
}

Status DurabilityOfFiles::WriteRefusal() const {
  const Settings& settings = engine_.settings();
  if (disk_failed_ && settings.stop_writes_on_bgsave_error && !settings.save.empty()) {
    return RespError(resp_errors::kMisconf);
  }
  const bool failing = LogIsOn() && aof_->state() != AofState::kOk;
  if (failing || OpeningFails()) {
    // Redis names the cause alone; call and path stand in the log.
    const Status error = failing ? aof_->last_error() : open_error_;
    std::string_view cause = error.message();
    if (const size_t colon = cause.rfind(": "); colon != std::string_view::npos) {
      cause.remove_prefix(colon + 2);
    }
    return Status::Client("MISCONF Errors writing to the AOF file: " + std::string(cause));
  }
  return Status::Ok();
}

// --- time ---

void DurabilityOfFiles::Tick() {
  const int64_t now_ms = engine_.env.WallMicros() / 1000;
  if (engine_.loading) return;
  WarnOfOverdueSave(now_ms);  // also of a save that runs and does not come to an end
  LogSnapshotProgress();
  GiveUpLoneRewrite();
  if (LogIsMissing() && now_ms >= next_open_attempt_ms_) ReopenLog();
  if (job_.has_value() || publishing_.has_value()) return;
  if (rewrite_scheduled_ || (LogHasNoBase() && now_ms >= next_rewrite_attempt_ms_)) {
    std::string reply;
    rewrite_scheduled_ = false;
    if (Status started = StartRewrite(&reply); !started.ok()) {
      engine_.log.Log(LogLevel::kWarning, "Scheduled rewrite did not start: {}", started.message());
      if (next_rewrite_attempt_ms_ <= now_ms) NoteFailedRewrite();
    }
    return;
  }
  CheckSaveRules(now_ms);
  if (!job_.has_value()) CheckAutomaticRewrite();
}

DurabilityOfFiles::SaveWish DurabilityOfFiles::WishToSave(int64_t now_ms) const {
  const SaveRules rules = SaveRules::Of(engine_.settings().save);
  const int64_t since_s = (now_ms - last_save_ms_) / 1000;
  const int64_t since_attempt_s = (now_ms - last_attempt_ms_) / 1000;
  SaveWish wish;
  wish.scheduled = save_scheduled_ && (last_save_ok_ || since_attempt_s > SaveRules::kRetryDelayS);
  wish.due = rules.ShouldSave(static_cast<int64_t>(UnsavedChanges()), since_s, !last_save_ok_,
                              since_attempt_s);
  return wish;
}

void DurabilityOfFiles::CheckSaveRules(int64_t now_ms) {
  const SaveWish wish = WishToSave(now_ms);
  if (!wish.scheduled && !wish.due) return;
  if (wish.due) {
    engine_.log.Log(LogLevel::kNotice, "{} changes in {} seconds. Saving...", UnsavedChanges(),
                    (now_ms - last_save_ms_) / 1000);
  }
  std::string reply;
  if (Status started = StartBackgroundSave(false, &reply); !started.ok()) {
    engine_.log.Log(LogLevel::kWarning, "Save did not start: {}", started.message());
  }
}

bool DurabilityOfFiles::IsSaveOverdue(int64_t now_ms) const {
  int64_t longest_s = 0;
  for (const auto& [seconds, changes] : engine_.settings().save)
    longest_s = std::max(longest_s, seconds);
  return longest_s > 0 && UnsavedChanges() > 0 && now_ms - last_save_ms_ > 2 * longest_s * 1000;
}

// Saves that fail one after the other are easily overlooked: each is one line in the log.
void DurabilityOfFiles::WarnOfOverdueSave(int64_t now_ms) {
  constexpr int64_t kRepeatMs = 3600 * 1000;
  if (!IsSaveOverdue(now_ms)) {
    overdue_warned_ms_ = -1;
    return;
  }
  if (overdue_warned_ms_ >= 0 && now_ms - overdue_warned_ms_ < kRepeatMs) return;
  overdue_warned_ms_ = now_ms;
  engine_.log.Log(
      LogLevel::kWarning,
      "No save has succeeded for {} s, more than twice the longest of the save rules; {} "
      "changes are not in the RDB file",
      (now_ms - last_save_ms_) / 1000, UnsavedChanges());
}

Status DurabilityOfFiles::Shutdown(int save, bool force) {
  // Half a dataset must not replace a whole one.
  if (engine_.loading) save = 0;
  AbortBackgroundSave();
  EndOfTurn();
  // Closed last: when the save fails the server goes on, and so must the log.
  if (LogIsOn()) {
    engine_.log.Log(LogLevel::kNotice, "Calling fsync() on the AOF file.");
    if (!aof_->WaitDurable(aof_->appended_offset(), kDiskWaitMs) && !force) {
      return FailedShutdown(aof_->last_error());
    }
  }
  if (LogIsMissing() || (LogIsOn() && LogHasNoBase() && aof_->state() == AofState::kOk)) {
    engine_.log.Line(LogLevel::kNotice, "Writing the base of the AOF before exiting.");
    const Status completed = CompleteLog();
    if (!completed.ok() && !force) {
      engine_.log.Log(LogLevel::kWarning,
                      "Error trying to write the base of the AOF, can't exit: {}",
                      completed.message());
      return completed;
    }
  }
  if (save == 1 || (save != 0 && !engine_.settings().save.empty())) {
    engine_.log.Log(LogLevel::kNotice, "Saving the final RDB snapshot before exiting.");
    engine_.TellSupervisor("STATUS=Saving the final RDB snapshot\n");
    const Status saved = RunJobHere(JobKind::kSave);
    if (!saved.ok() && !force) {
      engine_.log.Log(LogLevel::kWarning, "Error trying to save the DB, can't exit.");
      engine_.TellSupervisor("STATUS=Error trying to save the DB, can't exit.\n");
      return saved;
    }
  }
  if (aof_ == nullptr) return Status::Ok();
  const Status closed = aof_->Close();
  return closed.ok() || force || !LogIsOn() ? Status::Ok() : FailedShutdown(closed);
}

Status DurabilityOfFiles::FailedShutdown(const Status& cause) {
  engine_.log.Log(LogLevel::kWarning, "The append only file could not be made durable: {}",
                  cause.message());
  return cause.ok() ? Status::Io("the append only file was not synced in time") : cause;
}

void DurabilityOfFiles::ResetFigures() {
  saves_ = rewrites_ = 0;
  throttle_.ResetFigures();
  log_throttle_.ResetFigures();
}

}  // namespace cairn

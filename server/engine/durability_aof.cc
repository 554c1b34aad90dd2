// The append-only half of DurabilityOfFiles: what goes to the log thread, and its rewrites.

#include <algorithm>
#include <future>

#include "server/engine/dispatcher.h"
#include "server/engine/durability_impl.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

/// After a rewrite that failed, until the next may begin by itself.
constexpr int64_t kRewriteRetryMs = 5000, kMaxRewriteRetryMs = 300'000;
/// How long a reply under everysec or no waits for the kernel to take the bytes. Above the time of
/// a write and, on most disks, of the sync that may be running; below what anybody calls a stall.
constexpr int64_t kPatienceMs = 3;
/// A rewrite wants room for its base and some growth; then a full disk is looked at again.
constexpr uint64_t kRewriteRoomPercent = 120;
constexpr int64_t kNoRoomRetryMs = 60000;
/// A log that could not be opened is tried again so often. A replica that has tried as many times
/// in vain as redis-server does is one that cannot write its files.
constexpr int64_t kReopenMs = 1000;
constexpr uint64_t kReplicaReopens = 10;

AofSyncPolicy PolicyOf(AppendFsync setting) {
  switch (setting) {
    case AppendFsync::kAlways:
      return AofSyncPolicy::kAlways;
    case AppendFsync::kEverysec:
      return AofSyncPolicy::kEverySecond;
    case AppendFsync::kNo:
      return AofSyncPolicy::kNever;
  }
  return AofSyncPolicy::kEverySecond;
}

}  // namespace

void DurabilityOfFiles::RegisterHooks() {
  engine_.config.OnChange("appendonly", [this](const Settings& before, const Settings& after) {
    if (before.appendonly == after.appendonly) return Status::Ok();
    NoteErrorPolicy();
    if (!after.appendonly) {
      open_failures_ = 0;
      CloseLog();
      return Status::Ok();
    }
    // What BGREWRITEAOF has begun to write while the log was off has all that a new one would.
    return aof_ != nullptr ? Status::Ok() : OpenLog();
  });
  engine_.config.OnChange("appendfsync", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetPolicy(PolicyOf(after.appendfsync));
    // Replies held under `always` are free to go under the other policies.
    engine_.loop.Post(on_durable_);
    return Status::Ok();
  });
  engine_.config.OnChange("aof-timestamp-enabled", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetTimestamps(after.aof_timestamp_enabled);
    return Status::Ok();
  });
  engine_.config.OnChange("aof-checksum", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetChecksum(after.aof_checksum);
    return Status::Ok();
  });
  engine_.config.OnChange("aof-disable-auto-gc", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetKeepHistory(after.aof_disable_auto_gc);
    return Status::Ok();
  });
  engine_.config.OnChange("aof-error-policy", [this](const Settings&, const Settings&) {
    NoteErrorPolicy();
    return Status::Ok();
  });
  engine_.config.OnChange("aof-buffer-limit", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetBufferLimit(after.aof_buffer_limit);
    return Status::Ok();
  });
  engine_.config.OnChange("aof-unsynced-limit", [this](const Settings&, const Settings& after) {
    if (aof_ != nullptr) aof_->SetUnsyncedLimit(after.aof_unsynced_limit);
    return Status::Ok();
  });
}

// --- the stream ---

void DurabilityOfFiles::EndOfTurn() {
  // BGREWRITEAOF and SAVE come here from inside their own command, whose group is open and still
  // empty; DEBUG RELOAD may come from inside EXEC, whose effects wait for its end.
  if (engine_.propagation.empty() || !engine_.propagation.CanTake()) return;
  Propagation::Taken taken = engine_.propagation.Take();
  if (engine_.replicas != nullptr) engine_.replicas->OnStream(taken.for_replicas());
  if (aof_ == nullptr) return;
  if (engine_.settings().latency_monitor_threshold == 0) {
    aof_->Append(std::move(taken.log), taken.database_before);
    return;
  }
  const int64_t began_us = engine_.env.MonotonicMicros();
  aof_->Append(std::move(taken.log), taken.database_before);
  engine_.NoteLatency("aof-write", (engine_.env.MonotonicMicros() - began_us) / 1000);
}

uint64_t DurabilityOfFiles::DurableOffset() {
  if (!LogIsOn()) return UINT64_MAX;
  const bool always = engine_.settings().appendfsync == AppendFsync::kAlways;
  // In this order: progress made after the look at the offset finds the wish.
  const bool wanted_before = release_wanted_.exchange(true, std::memory_order_seq_cst);
  uint64_t offset = always ? aof_->durable_offset() : aof_->written_offset();
  // What was waited for in vain has come: what is answered now has its own 3 ms.
  if (patience_over_ && offset >= given_up_offset_) {
    patience_over_ = false;
    held_since_us_ = -1;
  }
  // On a machine without a free core it is often not the disk that is waited for.
  if (!always && patience_over_ && offset < aof_->appended_offset() && aof_->WriteLate()) {
    offset = aof_->written_offset();
  }
  if (offset >= aof_->appended_offset()) {
    // The log thread may have come as far as this and not looked for the wish yet. It finds none
    // then, and who has asked here need not be who is held.
    release_wanted_.store(false, std::memory_order_relaxed);
    if (wanted_before) engine_.loop.Post(on_durable_);
    held_since_us_ = -1;
    patience_over_ = false;
    return offset;
  }
  if (always) return offset;
  // A disk that keeps even the page cache waiting must not stop the clients: as with redis-server,
  // what waits for it then is lost if this process is killed.
  if (patience_over_ || aof_->state() != AofState::kOk) return UINT64_MAX;
  if (held_since_us_ < 0) held_since_us_ = engine_.env.MonotonicMicros();
  if (patience_timer_ == 0) {
    patience_timer_ = engine_.loop.StartTimer(kPatienceMs, 0, [this] { PatienceEnds(); });
  }
  return offset;
}

void DurabilityOfFiles::PatienceEnds() {
  patience_timer_ = 0;
  if (held_since_us_ < 0) return;
  const int64_t left_us = held_since_us_ + kPatienceMs * 1000 - engine_.env.MonotonicMicros();
  if (left_us > 0) {
    patience_timer_ =
        engine_.loop.StartTimer((left_us + 999) / 1000, 0, [this] { PatienceEnds(); });
    return;
  }
  patience_over_ = true;
  given_up_offset_ = aof_ == nullptr ? 0 : aof_->appended_offset();
  on_durable_();
}

bool DurabilityOfFiles::HeldRepliesAreLost() const {
  return LogIsOn() && aof_->state() == AofState::kStopped &&
         engine_.settings().appendfsync == AppendFsync::kAlways;
}

void DurabilityOfFiles::NoteDiskLoad() {
  if (aof_ != nullptr) aof_->SetDiskBusy(job_.has_value());
}

AofCallbacks DurabilityOfFiles::Callbacks() {
  AofCallbacks callbacks;
  callbacks.on_progress = [this] {
    if (release_wanted_.exchange(false, std::memory_order_seq_cst)) engine_.loop.Post(on_durable_);
  };
  callbacks.on_state = [this](AofState state) {
    if (state != AofState::kDegraded && state != AofState::kStopped) return;
    engine_.log.Line(
        LogLevel::kWarning,
        state == AofState::kDegraded
            ? "Append only file: writes are refused until the disk recovers"
            : "Append only file: writes are refused until the server is started again");
    engine_.loop.Post(on_durable_);
    ExitIfAskedTo();
  };
  callbacks.on_log = [this](std::string_view line) { engine_.log.Line(LogLevel::kNotice, line); };
  if (engine_.modules != nullptr) {
    callbacks.sync_named = [modules = engine_.modules] { return modules->SyncNamed(); };
    callbacks.has_unsynced_names = [modules = engine_.modules] {
      return modules->HasUnsyncedNames();
    };
  }
  return callbacks;
}

void DurabilityOfFiles::NoteErrorPolicy() {
  const Settings& settings = engine_.settings();
  exit_on_aof_error_.store(
      settings.appendonly && settings.aof_error_policy == AofErrorPolicy::kExit,
      std::memory_order_relaxed);
}

/// aof-error-policy exit. Any thread.
void DurabilityOfFiles::ExitIfAskedTo() {
  if (!exit_on_aof_error_.load(std::memory_order_relaxed)) return;
  engine_.loop.Post([this] {
    engine_.log.Log(LogLevel::kWarning,
                    "The append only file cannot be written and aof-error-policy is exit");
    engine_.exit_code = 1;
    engine_.stop_requested = true;
  });
}

std::unique_ptr<AofWriter> DurabilityOfFiles::NewWriter() {
  const Settings& settings = engine_.settings();
  AofWriterOptions options;
  options.location = Location();
  options.policy = PolicyOf(settings.appendfsync);
  options.checksum = settings.aof_checksum;
  options.timestamps = settings.aof_timestamp_enabled;
  options.buffer_limit_bytes = settings.aof_buffer_limit;
  options.unsynced_limit_ms = settings.aof_unsynced_limit;
  options.keep_history = settings.aof_disable_auto_gc;
  NoteErrorPolicy();
  return std::make_unique<AofWriter>(engine_.env, std::move(options), Callbacks());
}

void DurabilityOfFiles::BeginStream(std::unique_ptr<AofWriter> writer, bool new_file) {
  // Two writers would share one directory.
  CAIRN_CHECK(aof_ == nullptr && !publishing_.has_value());
  aof_ = std::move(writer);
  Propagation& stream = engine_.propagation;
  // A new file is told its database by the writer, and replicas that read the stream already are
  // not told theirs anew.
  const bool fed = stream.enabled() && !stream.only_logged();
  stream.set_enabled(true);
  if (!new_file || !fed) stream.ResetSelectedDatabase();
  NoteDiskLoad();
  aof_->StartThread();
}

Status DurabilityOfFiles::GoOnWithLog(AofManifest manifest, bool last_file_covered) {
  auto writer = NewWriter();
  CAIRN_RETURN_IF_ERROR(
      writer->Open(std::move(manifest), engine_.propagation.handed_over(), last_file_covered));
  BeginStream(std::move(writer), /*new_file=*/false);
  return Status::Ok();
}

Status DurabilityOfFiles::BeginLog(AofManifest old_manifest) {
  auto writer = NewWriter();
  EndOfTurn();
  // Replicas may have been fed all along: what is not handed over yet goes to the log as well.
  CAIRN_RETURN_IF_ERROR(
      writer->OpenForFirstRewrite(std::move(old_manifest), engine_.propagation.handed_over()));
  CloseWriter();  // one that is in another directory
  BeginStream(std::move(writer), /*new_file=*/true);
  next_rewrite_attempt_ms_ = 0;  // whatever the files of an earlier log had to wait for
  return Status::Ok();
}

Status DurabilityOfFiles::OpenLog() {
  auto manifest = PrepareAof();
  if (!manifest.ok()) return manifest.status();
  CAIRN_RETURN_IF_ERROR(BeginLog(std::move(*manifest)));
  if (job_.has_value() || !engine_.propagation.CanTake()) return Status::Ok();  // Tick begins it
  const Status launched = Launch(JobKind::kRewrite);
  if (!launched.ok()) CloseLog();
  return launched;
}

void DurabilityOfFiles::CloseLog() {
  rewrite_scheduled_ = false;
  EndJob(JobKind::kRewrite);
  if (aof_ == nullptr) return;  // or it was open for that rewrite alone
  EndOfTurn();
  CloseWriter();
  engine_.propagation.set_enabled(false);
  engine_.loop.Post(on_durable_);
}

// The server goes on while the log that it should write is not there: it tells so, and tries again.
void DurabilityOfFiles::ReopenLog() {
  open_error_ = OpenLog();
  if (open_error_.ok()) {
    if (open_failures_ > 0) {
      engine_.log.Line(LogLevel::kNotice, "Append only file: it could be begun anew after all");
    }
    open_failures_ = 0;
    return;
  }
  next_open_attempt_ms_ = engine_.env.WallMicros() / 1000 + kReopenMs;
  if (open_failures_++ == 0) {
    engine_.log.Log(LogLevel::kWarning, "The append only file could not be begun anew: {}",
                    open_error_.message());
  }
  ExitIfAskedTo();
}

/// A replica goes on following for as long as redis-server does.
bool DurabilityOfFiles::OpeningFails() const {
  return LogIsMissing() && open_failures_ > (engine_.is_replica() ? kReplicaReopens : 0);
}

void DurabilityOfFiles::RestartAppendOnly() {
  if (engine_.loading) return;
  awaits_copy_ = false;
  if (LogIsMissing()) ReopenLog();
}

/// Without a base the files are worth nothing, and those of before, or none, would be read.
Status DurabilityOfFiles::CompleteLog() {
  if (aof_ == nullptr) {
    auto manifest = PrepareAof();
    if (!manifest.ok()) return manifest.status();
    CAIRN_RETURN_IF_ERROR(BeginLog(std::move(*manifest)));
  }
  if (!JoinPublishing(kDiskWaitMs)) return Status::Io("its base was not published in time");
  return aof_->protecting() ? Status::Ok() : RewriteHere();
}

void DurabilityOfFiles::CloseWriter() {
  if (aof_ == nullptr) return;
  if (const Status closed = aof_->Close(); !closed.ok()) {
    engine_.log.Log(LogLevel::kWarning, "Closing the append only file: {}", closed.message());
  }
  aof_.reset();
  // What was to be published was, or failed, or never will be.
  if (!JoinPublishing(0)) {
    TellModules(publishing_->target, "");
    publishing_.reset();
  }
}

bool DurabilityOfFiles::LogIsElsewhere() const {
  return aof_->location().directory != Location().directory;
}

// --- rewrite ---

Status DurabilityOfFiles::StartRewrite(std::string* reply) {
  if (Rewriting()) {
    return Status::Client("ERR Background append only file rewriting already in progress");
  }
  if (job_.has_value() || engine_.dispatcher->in_exec()) {
    rewrite_scheduled_ = true;
    *reply = "Background append only file rewriting scheduled";
    return Status::Ok();
  }
  *reply = "Background append only file rewriting started";
  // With the append-only file off, Redis writes one all the same: the files of a first rewrite.
  if (aof_ == nullptr) return OpenLog();
  Result<AofManifest> there = AofManifest();
  const bool moves = LogIsElsewhere();
  if (moves) there = PrepareAof();
  if (!there.ok()) return there.status();
  if (Status room = CheckRoomForRewrite(); !room.ok()) {
    last_rewrite_ok_ = false;
    next_rewrite_attempt_ms_ = engine_.env.WallMicros() / 1000 + kNoRoomRetryMs;
    return room;
  }
  CAIRN_RETURN_IF_ERROR(moves ? MoveLog(std::move(*there)) : Launch(JobKind::kRewrite));
  engine_.log.Log(LogLevel::kNotice, "Background append only file rewriting started (cut in {} us)",
                  last_cut_us_);
  return Status::Ok();
}

/// A rewrite that fills the disk would stop the log that it was to shorten.
Status DurabilityOfFiles::CheckRoomForRewrite() const {
  const uint64_t wanted = aof_->base_file_bytes() / 100 * kRewriteRoomPercent;
  const Result<uint64_t> room = engine_.env.FreeSpace(Location().directory);
  // Somebody removed the directory: the new files are what brings the log back.
  if (room.status().code() == StatusCode::kNotFound)
    return CreateAofDirectory(engine_.env, Location());
  // A file system that cannot tell is not asked.
  if (!room.ok() || *room >= wanted) return Status::Ok();
  return Status::Client("ERR Not enough room on the disk to rewrite the append only file: about " +
                        std::to_string(wanted) + " bytes are needed and " + std::to_string(*room) +
                        " are free");
}

Status DurabilityOfFiles::MoveLog(AofManifest found_there) {
  EndOfTurn();
  const std::string from = aof_->location().directory;
  CAIRN_RETURN_IF_ERROR(BeginLog(std::move(found_there)));
  engine_.log.Log(LogLevel::kNotice, "The append only file moves from {} to {}", from,
                  aof_->location().directory);
  engine_.loop.Post(on_durable_);  // what the old one held back
  return Launch(JobKind::kRewrite);
}

void DurabilityOfFiles::NoteFailedRewrite() {
  last_rewrite_ok_ = false;
  // Each attempt leaves one more increment behind, so the waits grow.
  constexpr uint64_t kMostDoublings = 6;
  const int64_t wait_ms =
      std::min(kRewriteRetryMs << std::min(rewrite_failures_, kMostDoublings), kMaxRewriteRetryMs);
  ++rewrite_failures_;
  const auto jitter_ms = static_cast<int64_t>(engine_.Draw() % static_cast<uint64_t>(wait_ms / 4));
  next_rewrite_attempt_ms_ = engine_.env.WallMicros() / 1000 + wait_ms + jitter_ms;
}

void DurabilityOfFiles::GiveUpLoneRewrite() {
  if (aof_ == nullptr || LogIsOn()) return;
  const bool failed = aof_->state() != AofState::kOk;
  if (!failed && !aof_->ShouldThrottle()) return;
  NoteFailedRewrite();
  engine_.log.Log(LogLevel::kWarning, "Error rewriting the append only file: {}",
                  failed ? aof_->last_error().message() : "the disk is slower than the writers");
  CloseLog();
}

void DurabilityOfFiles::FinishRewrite(const Job& job, const Status& status) {
  const bool saved = status.ok() && job.saves_too && job.snapshot->also_status().ok();
  if (job.was_scheduled && !saved) save_scheduled_ = true;
  if (aof_ == nullptr || !status.ok()) TellModules(job.target, "");
  if (aof_ == nullptr) return;
  if (!status.ok()) {
    aof_->AbortRewrite();
    if (job.Failed(status)) {
      NoteFailedRewrite();
      engine_.log.Log(LogLevel::kWarning, "Error rewriting the append only file: {}",
                      status.message());
    }
    if (job.given_up && job.saves_too) FinishSave(job, status);
    if (!engine_.settings().appendonly) CloseLog();
    return;
  }
  if (job.saves_too) {
    const Status& also = job.snapshot->also_status();
    if (saved) {
      FinishSave(job, also);
    } else {
      // Another file system, for instance: the save is due still, and walks by itself.
      engine_.log.Log(LogLevel::kNotice, "The new base does not serve as RDB file: {}",
                      also.message());
    }
  }
  // Held here too: a writer that is closed may not come to it.
  auto outcome = std::make_shared<std::promise<Status>>();
  publishing_.emplace(
      Publishing{job.number, job.started_ms, job.target, outcome, outcome->get_future()});
  // The kind of file was fixed when the job began.
  aof_->FinishRewrite(
      aof_->TempBasePath(), !job.as_commands,
      [this, outcome, number = job.number,
       alive = std::weak_ptr<int>(alive_)](const Status& published) {
        outcome->set_value(published);
        engine_.loop.Post([this, number, alive] {
          // JoinPublishing may have been quicker.
          if (!alive.expired() && publishing_.has_value() && publishing_->number == number) {
            JoinPublishing(0);
          }
        });
      });
}

bool DurabilityOfFiles::JoinPublishing(int64_t timeout_ms) {
  if (!publishing_.has_value()) return true;
  if (publishing_->published.wait_for(std::chrono::milliseconds(timeout_ms)) !=
      std::future_status::ready) {
    return false;
  }
  Publishing done = std::move(*publishing_);
  publishing_.reset();
  OnRewritePublished(done.started_ms, done.target, done.published.get());
  return true;
}

void DurabilityOfFiles::OnRewritePublished(int64_t started_ms, const SaveTarget& target,
                                           const Status& status) {
  last_rewrite_duration_ms_ = engine_.env.WallMicros() / 1000 - started_ms;
  publish_outcome_ = status;
  if (status.ok()) {
    last_rewrite_ok_ = true;
    rewrite_failures_ = 0;
    ++rewrites_;
    // Files that are kept as history name what the older saves named.
    if (!target.files.empty() && !engine_.settings().aof_disable_auto_gc) {
      TellModules(target, target.files.front());
    }
    engine_.log.Log(LogLevel::kNotice, "Background AOF rewrite finished successfully");
  } else {
    NoteFailedRewrite();
    engine_.log.Log(LogLevel::kWarning, "Background AOF rewrite failed: {}", status.message());
  }
  TellModules(target, "");
  if (!engine_.settings().appendonly) CloseLog();
}

Status DurabilityOfFiles::RewriteHere() {
  CAIRN_RETURN_IF_ERROR(RunJobHere(JobKind::kRewrite));
  if (!JoinPublishing(kDiskWaitMs)) return Status::Io("its base was not published in time");
  return publish_outcome_;
}

void DurabilityOfFiles::CheckAutomaticRewrite() {
  const Settings& settings = engine_.settings();
  if (aof_ == nullptr || settings.auto_aof_rewrite_percentage == 0) return;
  if (engine_.now_ms() < next_rewrite_attempt_ms_) return;
  const auto grown = [&settings](uint64_t current, uint64_t base) -> uint64_t {
    if (current < static_cast<uint64_t>(settings.auto_aof_rewrite_min_size)) return 0;
    base = std::max<uint64_t>(base, 1);
    if (current < base) return 0;
    const uint64_t percent = (current - base) * 100 / base;
    return percent < static_cast<uint64_t>(settings.auto_aof_rewrite_percentage) ? 0 : percent;
  };
  uint64_t percent = grown(aof_->current_size(), aof_->base_size());
  if (percent == 0 && engine_.modules != nullptr) {
    // A short file that names much: what it names stays until it is rewritten.
    const ModuleHost::NamedBytes bytes = engine_.modules->named_bytes();
    percent = grown(bytes.named, bytes.alive);
  }
  if (percent == 0) return;
  engine_.log.Log(LogLevel::kNotice, "Starting automatic rewriting of AOF on {}% growth", percent);
  std::string reply;
  if (Status started = StartRewrite(&reply); !started.ok()) {
    engine_.log.Log(LogLevel::kWarning, "Rewrite did not start: {}", started.message());
  }
}

}  // namespace cairn

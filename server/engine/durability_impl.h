#pragma once

// DurabilityOfFiles: Durability over real (or simulated) files: dump.rdb by SnapshotJob, the
// append-only files by AofWriter. One save or rewrite in the background at a time; a second request
// is refused or scheduled in Redis's words. SAVE goes on beside a rewrite, and a copy for replicas
// beside either, each with a view of its own.
//
//   idle --StartBackgroundSave/StartRewrite--> walking (walker thread) --OnJobDone--> idle
//   walking --AbortBackgroundSave--> walking, job returns kCancelled --OnJobDone--> idle
//
// The log (aof_) is one of
//
//   closed --OpenLog--> without a base --first rewrite published--> protecting
//   closed --start--> protecting
//   any --CloseLog--> closed
//
// and what it should be follows from the setting alone. appendonly yes: protecting. Tick opens what
// is closed, but not while a replica awaits the copy that replaces its dataset, and begins the
// first rewrite of what is without a base; both again after a while when they failed; no orderly
// end before. appendonly no: closed, but for a rewrite that BGREWRITEAOF asked for: its end, good
// or bad, closes the log.
//
// Thread: executor. The walker threads run SnapshotJob::Run and post OnJobDone back to the loop.

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>

#include "persistence/aof_reader.h"
#include "persistence/aof_writer.h"
#include "persistence/snapshot_job.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/log_throttle.h"
#include "server/engine/snapshot_throttle.h"
#include "server/platform/worker.h"

namespace cairn {

class DurabilityOfFiles final : public Durability {
 public:
  DurabilityOfFiles(Engine& engine, std::function<void()> on_durable);
  ~DurabilityOfFiles() override;

  Status LoadAtStart() override;
  Status Save() override;
  void AbortSave() override { EndJob(JobKind::kSave); }
  Status SaveNow() override;
  Status StartBackgroundSave(bool schedule, std::string* reply) override;
  Status StartRewrite(std::string* reply) override;
  void AbortBackgroundSave() override;
  Status StartSyncSnapshot(SyncSnapshot request) override;
  Status LoadFromPrimary(const std::string& path) override;
  void RestartAppendOnly() override;
  Status DebugReload(bool save, bool flush, bool merge) override;
  Status DebugLoadAof() override;
  void AddChanges(uint64_t changes) override { changes_ += changes; }
  void Tick() override;
  void EndOfTurn() override;
  uint64_t DurableOffset() override;
  bool GatesReplies() const override { return LogIsOn(); }
  bool HeldRepliesAreLost() const override;
  Status WriteRefusal() const override;
  bool MayHoldWrites() const override { return Walking() || LogIsOverLimit(); }
  bool HoldsWrites() override;
  SaveTarget LogTarget() const override;
  Status Shutdown(int save, bool force) override;
  DurabilityFigures figures() const override;
  LoadFigures load_figures() const override { return load_; }
  void ResetFigures() override;

 private:
  /// The longest that an end or a start waits for the disk.
  static constexpr int64_t kDiskWaitMs = 60000;
  enum class JobKind { kSave, kRewrite, kSync };
  /// How Run() ended: written by the walker before it posts, read after the post or after Drain().
  struct Outcome {
    Status status;
  };
  /// A running walk.
  struct Job {
    JobKind kind;
    uint64_t number = 0;
    View* view = nullptr;
    std::shared_ptr<Outcome> outcome = std::make_shared<Outcome>();
    std::unique_ptr<SnapshotJob> snapshot = nullptr;
    uint64_t changes_at_cut = 0;
    int64_t started_ms = 0;
    int64_t cut_us = 0;          ///< monotonic
    bool as_commands = false;    ///< the rewrite writes commands, not an RDB file
    bool saves_too = false;      ///< the rewrite's base is also the RDB file of a save that was due
    bool was_scheduled = false;  ///< that save had been asked for (save_scheduled_)
    bool given_up = false;       ///< by GiveUpSnapshot
    bool here = false;           ///< on the executor: who asked for it is told how it ended
    SaveTarget target = {};      ///< what modules were told of it
    SyncSnapshot sync = {};      ///< of kSync
    /// A job that was cancelled has not failed, unless it was given up.
    bool Failed(const Status& status) const {
      return !status.ok() && (given_up || status.code() != StatusCode::kCancelled);
    }
  };
  /// A rewrite whose walk has ended and whose manifest is being replaced.
  struct Publishing {
    uint64_t number;  ///< of its job
    int64_t started_ms;
    SaveTarget target;
    std::shared_ptr<std::promise<Status>> outcome;  ///< kept, the log thread's
    std::future<Status> published;
  };
  /// Why a save should begin now.
  struct SaveWish {
    bool scheduled = false;  ///< BGSAVE SCHEDULE, or BGSAVE inside MULTI
    bool due = false;        ///< a save rule
  };

  std::string PathInDir(const std::string& name) const;
  AofLocation Location() const;
  SnapshotJobOptions JobOptions(JobKind kind, const SyncSnapshot& sync) const;
  /// What modules hear of the next save: nothing unless its files stay in the server's directory.
  SaveTarget NextTarget(JobKind kind, bool saves_too) const;
  void TellModules(const SaveTarget& target, std::string_view file);
  /// The cut: hands the stream over, freezes the keyspace, rotates the log when rewriting. Errors:
  /// a client's line when there is no view to be had; nothing has happened then.
  Status Cut(Job& job);
  Status Launch(JobKind kind, SyncSnapshot sync = {});
  std::optional<Job>& SlotOf(JobKind kind) { return kind == JobKind::kSync ? copy_ : job_; }
  WorkerThread& WalkerOf(JobKind kind);
  bool LogIsOverLimit() const { return LogIsOn() && aof_->ShouldThrottle(); }
  bool Walking() const { return job_.has_value() || copy_.has_value(); }
  void OnJobDone(std::optional<Job>& slot, Status status);
  void NoteFailedStart(const Job& job, const Status& status);
  void NoteFailedRewrite();
  void FinishSave(const Job& job, const Status& status);
  std::string ManifestName() const;
  void FinishRewrite(const Job& job, const Status& status);
  void OnRewritePublished(int64_t started_ms, const SaveTarget& target, const Status& status);
  /// Waits for what is being published and applies its outcome. False: not in time.
  bool JoinPublishing(int64_t timeout_ms);
  bool Rewriting() const {
    return (job_.has_value() && job_->kind == JobKind::kRewrite) || publishing_.has_value();
  }
  /// A whole rewrite before it returns.
  Status RewriteHere();
  /// snapshot-over-limit-policy abort: ends the running walk; its outcome comes through the loop.
  void GiveUpSnapshot();
  /// Ends all walks that run; their outcomes come through the loop, or by JoinJob.
  void AbortWalks();
  /// Waits for the running job and applies its outcome.
  void JoinJob(std::optional<Job>& slot);
  /// Ends the save or rewrite that runs if it is of this kind; copies go on.
  void EndJob(JobKind kind);
  Status RunJobHere(JobKind kind);
  /// Empties the keyspace and the functions; who watches keys or keeps copies of them is told.
  void EmptyForReload();

  void RegisterHooks();
  std::unique_ptr<AofWriter> NewWriter();
  /// `new_file`: its first group goes into a file that was just made.
  void BeginStream(std::unique_ptr<AofWriter> writer, bool new_file);
  struct RdbLoad {
    bool merge = false;    ///< DEBUG RELOAD MERGE
    bool is_base = false;  ///< of an append-only file: commands follow
    bool at_start = false;
  };
  Status LoadRdb(const std::string& path, const RdbLoad& how, uint64_t* end_offset);
  Result<AofLoadReport> LoadAppendOnly(const AofLocation& location, const AofManifest& manifest,
                                       bool change_files);
  Result<AofManifest> PrepareAof(bool at_start = false);
  Status LoadDumpAtStart();
  Status LoadAppendOnlyAtStart();
  /// closed -> protecting: appends to the files that were loaded.
  Status GoOnWithLog(AofManifest manifest, bool last_file_covered);
  /// closed -> without a base.
  Status BeginLog(AofManifest old_manifest);
  /// The same, and its first rewrite begins as soon as it can. Closed again upon an error.
  Status OpenLog();
  void ReopenLog();
  void CloseLog();
  /// Errors of its end go to the server's log.
  void CloseWriter();
  /// "dir" has been changed since the append-only file was opened.
  bool LogIsElsewhere() const;
  /// The rewrite that takes the log along to the new "dir". Until it has ended, the files in the
  /// old one end at its cut, and nothing in the new one counts.
  Status MoveLog(AofManifest found_there);
  bool LogIsMissing() const {
    return aof_ == nullptr && engine_.settings().appendonly && !engine_.loading && !awaits_copy_;
  }
  /// For so long that writes are refused.
  bool OpeningFails() const;
  /// Clients rest on the log. With appendonly no it may be open for a rewrite alone, whose failure
  /// and whose pace are no client's business.
  bool LogIsOn() const { return aof_ != nullptr && engine_.settings().appendonly; }
  bool LogHasNoBase() const { return aof_ != nullptr && !aof_->protecting(); }
  /// closed or without a base -> protecting, before it returns.
  Status CompleteLog();
  void ExitIfAskedTo();
  void NoteErrorPolicy();
  /// The rewrite with appendonly no ends with the first error of its log, or when its disk is
  /// slower than the writers, whom it may not hold back.
  void GiveUpLoneRewrite();
  AofCallbacks Callbacks();
  void BeginLoad(uint64_t total_bytes);
  Status LoadProgress(uint64_t offset);
  void LogSnapshotProgress();
  Status FailedShutdown(const Status& cause);
  /// Until all that was handed over is in files that stay as they are. Errors: a client's line.
  Status WaitForLog();
  void PatienceEnds();
  void NoteDiskLoad();
  Status CheckRoomForRewrite() const;
  SaveWish WishToSave(int64_t now_ms) const;
  void CheckSaveRules(int64_t now_ms);
  bool IsSaveOverdue(int64_t now_ms) const;
  void WarnOfOverdueSave(int64_t now_ms);
  void CheckAutomaticRewrite();

  Engine& engine_;
  const std::function<void()> on_durable_;
  std::unique_ptr<WorkerThread> walker_;
  std::unique_ptr<WorkerThread> copy_walker_;  // started by the first copy
  std::unique_ptr<AofWriter> aof_;
  std::optional<Job> job_;   // a save or a rewrite
  std::optional<Job> copy_;  // a copy for replicas
  uint64_t jobs_started_ = 0;
  bool save_scheduled_ = false;
  bool rewrite_scheduled_ = false;
  std::atomic<bool> exit_on_aof_error_{false};
  std::optional<Publishing> publishing_;
  Status publish_outcome_;      // of the last one
  bool awaits_copy_ = false;    // since a primary's copy began to be loaded
  uint64_t open_failures_ = 0;  // in a row, of a log that is missing
  Status open_error_;           // of the last of them
  int64_t next_open_attempt_ms_ = 0;

  /// Set by the executor when replies may be held, taken back by the log thread that tells it of
  /// progress: so a wake-up is sent only when somebody waits, and once.
  std::atomic<bool> release_wanted_{false};
  int64_t held_since_us_ = -1;    // everysec and no: since when the kernel has not had everything
  bool patience_over_ = false;    // it took too long: replies go out as redis-server's do
  uint64_t given_up_offset_ = 0;  // up to where the log went then: once written, it is waited again
  TimerId patience_timer_ = 0;

  uint64_t UnsavedChanges() const { return changes_ - changes_saved_; }

  uint64_t changes_ = 0;        // since start
  uint64_t changes_saved_ = 0;  // of them, those ahead of the newest cut that was saved
  int64_t last_save_ms_ = 0;
  int64_t last_attempt_ms_ = 0;
  bool last_save_ok_ = true;
  // Since the last save that was well, one failed, other than by being given up: writes are
  // refused.
  bool disk_failed_ = false;
  int64_t last_save_duration_ms_ = -1;
  uint64_t saves_ = 0;
  bool last_rewrite_ok_ = true;
  int64_t last_rewrite_duration_ms_ = -1;
  int64_t overdue_warned_ms_ = -1;
  uint64_t rewrites_ = 0;
  uint64_t rewrite_failures_ = 0;  // since the last that succeeded
  int64_t next_rewrite_attempt_ms_ = 0;
  uint64_t last_cut_us_ = 0;
  SnapshotThrottle throttle_;
  LogThrottle log_throttle_;
  uint64_t loaded_keys_ = 0, expired_at_load_ = 0;
  LoadFigures load_;
  int64_t load_logged_us_ = 0;      // when the log last heard of the running load, monotonic
  uint64_t load_logged_bytes_ = 0;  // what it heard then
  int64_t snapshot_logged_us_ = 0;  // and of the running save, rewrite or copy
  /// Posted outcomes hold it weakly: those that arrive after this object are dropped.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace cairn

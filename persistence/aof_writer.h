#pragma once

// AofWriter: takes the bytes of the propagation stream from the executor and makes them durable, on
// a thread of its own (the log thread). The executor hands over one filled buffer a turn and never
// writes or syncs. Not a parser and not a rewriter: what stands in a new BASE is the walker's
// affair; this class makes the cut (a rotation of the INCR file at one byte of the stream) and
// swaps the manifest.
//
// Threads: methods marked [executor] belong to the one thread that appends; those marked [any] are
// safe anywhere. Whoever touches the file holds io_mutex_: the log thread for as long as it works;
// the executor inside Append, when the log thread is idle and the disk has been quick lately: a
// small write to the page cache is cheaper than waking another thread, and the bytes are the
// kernel's before the reply leaves; inside WriteLate when the log thread does not come to it; under
// always the sync thread when it ends a sync, for what came meanwhile. The executor never waits for
// the mutex, never syncs (that is the sync thread's) and never writes while a sync runs. Callbacks
// come from whoever holds io_mutex_. Without StartThread() a test drives the log thread's work by
// RunOnce().
//
// Invariants (docs/aof.md explains them):
//  A1 durable_offset <= written_offset <= appended_offset; each only grows.
//  A2 Every byte at or above durable_offset is still in memory (policies always and everysec) or
//  can
//     be read back from the last INCR (policy never).
//  A3 The file of a failed sync is never synced again to vouch for data: retained bytes move to a
//     new INCR.
//  A4 A file ends after a whole group whenever no write is in flight; a group holds whole commands
//     only.
//  A5 The manifest on disk at any instant names files whose replay gives at least durable_offset.
//  A6 No INCR is used before the one ahead of it has been synced to its end.
//  A7 Bytes appended before BeginRewrite lie in INCRs below the cut, bytes after it in INCRs from
//     the cut on.
//  A8 Nothing is written to the last INCR while it is not known which manifest is on disk.
//  A9 Bytes below written_offset are the kernel's: the end of this process alone loses none of
//  them.
//  A10 A new file has no name that is in the history, and no bytes of a file that was there before.
//  A11 What bytes name outside these files is durable before they are written, under each policy.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "persistence/aof_manifest.h"
#include "server/base/status.h"

namespace cairn {

class Env;
class WritableFile;

enum class AofSyncPolicy : uint8_t { kAlways, kEverySecond, kNever };

/// kOk: the disk takes what comes. kDegraded: a write or sync failed, bytes are retained, retried
/// with back-off; the engine refuses writes (MISCONF). kStopped: the disk's state is not known any
/// more; only a restart helps. kClosed: before Open and after Close.
enum class AofState : uint8_t { kClosed, kOk, kDegraded, kStopped };

struct AofWriterOptions {
  AofLocation location;
  AofSyncPolicy policy = AofSyncPolicy::kEverySecond;
  bool checksum = true;                        ///< `aof-checksum`: a #CAIRN line before each group
  bool timestamps = false;                     ///< `aof-timestamp-enabled`: #TS lines
  uint64_t buffer_limit_bytes = 256ull << 20;  ///< `aof-buffer-limit`
  int64_t unsynced_limit_ms = 10'000;          ///< `aof-unsynced-limit`; 0 = none
  uint64_t reserve_bytes = 16ull << 20;        ///< size of the reserve file; 0 = none
  /// Under policy always, with checks on, the open file is kept this much longer than what it
  /// holds, filled with kAofPadding: a sync that finds the file's length as it was waits for the
  /// data only, not for the file system's journal. Taken away when the file ends. 0 = none
  uint64_t pad_bytes = 256ull << 10;
  bool keep_history = false;    ///< `aof-disable-auto-gc`: leave superseded files
  bool executor_writes = true;  ///< false: every write is the log thread's
};

struct AofCallbacks {
  /// written_offset() or durable_offset() has grown, by any number of appends: once after a write
  /// and once after a sync. Not called for what Append itself wrote. Log thread; post to a loop.
  std::function<void()> on_progress;
  /// state() changed.
  std::function<void(AofState)> on_state;
  /// A line for the server's log.
  std::function<void(std::string_view line)> on_log;
  /// Before each write: makes durable what the bytes appended so far name outside these files
  /// (A11). An error keeps them from being written, as one of the write itself. Whoever writes;
  /// not the executor. May be unset, as the next.
  std::function<Status()> sync_named;
  /// sync_named would have to wait for the disk: the executor leaves the write to others.
  std::function<bool()> has_unsynced_names;
};

class AofWriter {
 public:
  /// Outcome of FinishRewrite; called on the log thread.
  using Done = std::function<void(const Status&)>;

  /// Under everysec, with more than this not yet durable, a sync begins before its second is over.
  static constexpr uint64_t kMaxUnsyncedBytes = uint64_t{16} << 20;

  AofWriter(Env& env, AofWriterOptions options, AofCallbacks callbacks);
  /// Closes as Close() does; errors of that are lost, so call Close().
  ~AofWriter();
  AofWriter(const AofWriter&) = delete;
  AofWriter& operator=(const AofWriter&) = delete;

  /// Begins to append at `stream_offset` after `manifest` (as the reader left it).
  /// `last_file_covered` (AofLoadReport) tells whether the last INCR may be continued when checks
  /// are on; otherwise the next INCR is opened. Blocks on the disk; call before serving. [executor]
  Status Open(AofManifest manifest, uint64_t stream_offset, bool last_file_covered);
  /// The same for append-only turned on at run time: writes go to a temporary INCR and no manifest
  /// names it until the first FinishRewrite; the old files stay valid until then. Follow it by
  /// BeginRewrite(). AbortRewrite() in this phase keeps waiting for the next rewrite. Clients wait
  /// meanwhile: it syncs nothing, which is the first FinishRewrite's. [executor]
  Status OpenForFirstRewrite(AofManifest old_manifest, uint64_t stream_offset);
  void StartThread();
  /// Writes and syncs all that was appended (whatever the policy), joins the thread, closes the
  /// file and keeps it; what no manifest names, for the first rewrite was not done, is removed.
  /// Returns the error that kept bytes from being durable. [executor]
  Status Close();

  /// Takes over one turn's effects: whole commands, a MULTI..EXEC never split over two calls.
  /// `database_before` is the database selected ahead of the first byte, -1 when the bytes begin
  /// with their own SELECT: a rotation must open the new file with it, because each file is loaded
  /// from database 0. Cost: one lock, one clock reading, no copy, and one write when it is done
  /// here (see Threads). [executor]
  void Append(std::string bytes, int64_t database_before);
  /// For bytes that should have been written by now and are not: under everysec and no, writes up
  /// to 1 MiB of them here, when nobody has begun to (the log thread has no core, as it seems) and
  /// nothing says that the disk would keep this thread waiting: no sync runs, and the last write
  /// was quick. True: it wrote something. [executor]
  bool WriteLate();
  uint64_t appended_offset() const { return appended_offset_.load(std::memory_order_acquire); }
  uint64_t written_offset() const { return written_offset_.load(std::memory_order_acquire); }
  /// Under policy never this stays at the last offset that some sync (rotation, close) covered.
  uint64_t durable_offset() const { return durable_offset_.load(std::memory_order_acquire); }
  /// Waits until `offset` is durable, forcing a sync whatever the policy, and the cuts asked for so
  /// far are made: manifest() names all files then. False at the timeout or when the writer is not
  /// kOk. Needs the thread. [any, but not the log thread]
  bool WaitDurable(uint64_t offset, int64_t timeout_ms);

  /// True while writers should be held back: more bytes than the limit are not durable (never: not
  /// written), or (everysec) the oldest of them is older than the limit of that. False when the
  /// disk fails: then it is not waiting that is asked for. [any]
  bool ShouldThrottle() const;
  /// Age of the oldest byte that is not durable, in ms; 0 = all are. Under policy never as well as
  /// that can be known. [any]
  int64_t oldest_unsynced_ms() const;

  void SetPolicy(AofSyncPolicy policy);       ///< [any]
  void SetChecksum(bool on);                  ///< [any] on again: from the next INCR on
  void SetTimestamps(bool on);                ///< [any]
  void SetBufferLimit(uint64_t limit_bytes);  ///< [any]
  void SetUnsyncedLimit(int64_t limit_ms);    ///< [any]
  void SetKeepHistory(bool on);               ///< [any] off again: what was kept is deleted now
  /// While true the executor never writes itself: somebody floods the page cache (a save, a
  /// rewrite) and a write may wait for the disk. [any]
  void SetDiskBusy(bool busy) { disk_busy_.store(busy, std::memory_order_relaxed); }

  /// The cut: bytes appended so far end the old INCR, bytes from now on begin the next one. The
  /// file work follows on the log thread. Returns the stream offset of the cut. [executor]
  uint64_t BeginRewrite();
  /// Where the walker should write the new BASE: in the directory, swept at start when left over.
  /// [any]
  std::string TempBasePath() const;
  const AofLocation& location() const { return location_; }  ///< [any]
  /// Publishes `base_temp_path` (closed and synced by the caller) as the new BASE; everything
  /// before the cut becomes HISTORY and is deleted. Asynchronous, since it renames and syncs;
  /// `done` gets the outcome. On an error the old BASE and all INCRs stay in force and the
  /// temporary file is removed. [executor]
  void FinishRewrite(std::string base_temp_path, bool is_rdb, Done done);
  /// Gives the rewrite up: old BASE and all INCRs stay in force. [executor]
  void AbortRewrite();

  AofState state() const { return state_.load(std::memory_order_acquire); }
  /// The failure that left kOk; OK while in kOk. [any]
  Status last_error() const;
  /// INFO's aof_last_write_status. [any]
  bool last_write_ok() const { return state() == AofState::kOk; }
  /// False until the first FinishRewrite after OpenForFirstRewrite. [any]
  bool protecting() const { return protecting_.load(std::memory_order_acquire); }
  /// Bytes of BASE + INCRs in force, and of that what it was after the last rewrite or start. [any]
  uint64_t current_size() const { return current_size_.load(std::memory_order_relaxed); }
  uint64_t base_size() const { return base_size_.load(std::memory_order_relaxed); }
  /// Bytes of the BASE alone: what the next rewrite will need, more or less. [any]
  uint64_t base_file_bytes() const { return base_file_bytes_.load(std::memory_order_relaxed); }
  uint64_t delayed_fsync_count() const { return delayed_syncs_.load(std::memory_order_relaxed); }
  /// Memory that the appended bytes take which are still kept (A2), as the allocator has it. [any]
  uint64_t held_bytes() const { return held_bytes_.load(std::memory_order_relaxed); }
  /// A copy of the manifest in force. [any]
  AofManifest manifest() const;

  /// Does what is due now (by the clock of Env) without waiting, and returns in how many ms it
  /// wants to be called again, -1 = when something is appended. Only without StartThread(). [log
  /// thread]
  int64_t RunOnce();

 private:
  /// A group is one write; more buffers than this go into the next one (IOV_MAX is 1024).
  static constexpr size_t kMaxGroupBuffers = 1000;

  /// Counts memory in a total for as long as it lives.
  class Held {
   public:
    Held() = default;
    Held(std::atomic<uint64_t>* total, uint64_t size_bytes)
        : total_(total), size_bytes_(size_bytes) {
      total_->fetch_add(size_bytes_, std::memory_order_relaxed);
    }
    Held(const Held& other) : total_(other.total_), size_bytes_(other.size_bytes_) {
      if (total_ != nullptr) total_->fetch_add(size_bytes_, std::memory_order_relaxed);
    }
    Held(Held&& other) noexcept
        : total_(std::exchange(other.total_, nullptr)), size_bytes_(other.size_bytes_) {}
    Held& operator=(Held other) noexcept {
      std::swap(total_, other.total_);
      std::swap(size_bytes_, other.size_bytes_);
      return *this;
    }
    ~Held() {
      if (total_ != nullptr) total_->fetch_sub(size_bytes_, std::memory_order_relaxed);
    }

   private:
    std::atomic<uint64_t>* total_ = nullptr;
    uint64_t size_bytes_ = 0;
  };
  /// One Append: bytes that are retained until a sync covered them.
  struct Buffer {
    std::string bytes;
    Held held;
    int64_t database_before = -1;
    uint64_t end_offset = 0;  ///< stream offset behind the bytes
    int64_t appended_us = 0;
    uint64_t file_offset = 0;  ///< where its group begins in the file, once written
  };
  struct Cut {};
  using Item = std::variant<Buffer, Cut>;
  /// End of a rewrite: a path to publish, or empty to give up.
  struct Ending {
    std::string base_temp_path;
    bool is_rdb = true;
    Done done;
    uint64_t cut = 0;  ///< the number of its rewrite's cut, from 1
  };

  Held HoldingOf(const std::string& bytes);
  void ThreadMain();
  void Wake();
  bool WriteHere(int64_t now_us);
  bool MayWriteHere(const std::unique_lock<std::mutex>& io) const;
  bool WroteHere(size_t count, int64_t now_us);
  bool ShouldWakeForSync();
  int64_t Work(bool final);
  int64_t WorkLocked(bool final);
  void SampleSettings();
  int64_t NextWish(int64_t now_us, bool final) const;
  void TakeQueues();
  bool ProcessItems(int64_t now_us);
  bool MakeCut(int64_t now_us);
  /// `named`: the caller knows that sync_named has nothing to do.
  Status WriteGroup(size_t count, bool named = false);
  void PadFor(uint64_t group_bytes);
  void TrimPadding();
  bool SyncIsDue(int64_t now_us, bool final) const;
  bool MuchIsUnsynced() const;
  void NoteSlowDisk(int64_t now_us, int64_t took_us);
  Status SyncFile();
  void AfterSync(uint64_t synced_size, uint64_t durable_offset);
  void PublishDurable(uint64_t offset);
  void ReportProgress();
  void UpdateOldest();
  Status Publish(const AofManifest& manifest);
  Result<std::unique_ptr<WritableFile>> CreateIncrement(const AofFile& file);
  Status OpenNext();
  Status OpenLast(bool covered);
  void UseNewFile(std::unique_ptr<WritableFile> file);
  Status Rotate();
  void ProcessEndings();
  Status FinishOnLogThread(const Ending& ending);
  void DeleteHistory();
  void RecountOlderFiles();
  void UpdateSizes();

  /// What a sync will have made durable when it succeeds.
  struct SyncJob {
    uint64_t size;    ///< of the file
    uint64_t offset;  ///< of the stream
  };
  bool MustBeQuiet(bool final) const;
  void OpenSyncFile();
  void StartSyncThread();
  void StopSyncThread();
  void SyncThreadMain();
  void StartSync();
  void Gather(std::unique_lock<std::mutex>& io, uint64_t goal_bytes, int64_t longest_us);
  uint64_t WaitingBytes() const;
  bool GoOn();
  void FinishSync(const SyncJob& job, const Status& status);

  void Fail(const Status& status, std::string_view what, int64_t now_us);
  bool Recover(int64_t now_us);
  Status RepairFile();
  Status DrainRetained();
  Status SyncOrSuspect();
  Status MoveRetainedToNewFile();
  Status ReadBack();
  void RemoveUnnamed();
  bool CreateReserve();
  void ReleaseReserve();
  void SetState(AofState state);
  void SetError(const Status& status);
  void Log(std::string_view line) const;

  Env& env_;
  const AofLocation location_;
  const uint64_t reserve_bytes_;
  const uint64_t pad_bytes_;
  const AofCallbacks callbacks_;

  // Settings, read by the log thread at each step.
  std::atomic<AofSyncPolicy> policy_;
  std::atomic<bool> checksum_;
  std::atomic<bool> timestamps_;
  std::atomic<uint64_t> buffer_limit_bytes_;
  std::atomic<int64_t> unsynced_limit_us_;
  std::atomic<bool> keep_history_;
  std::atomic<bool> disk_busy_{false};
  std::atomic<bool> sync_busy_{false};  ///< what is appended is taken when the sync ends
  const bool executor_writes_;

  // Published by the log thread (appended_offset_ by the executor).
  std::atomic<uint64_t> appended_offset_{0}, written_offset_{0}, durable_offset_{0};
  std::atomic<uint64_t> held_bytes_{0};  ///< outlives every Buffer
  std::atomic<AofState> state_{AofState::kClosed};
  std::atomic<bool> protecting_{false};
  std::atomic<uint64_t> current_size_{0}, base_size_{0}, base_file_bytes_{0}, delayed_syncs_{0};
  std::atomic<int64_t> oldest_unsynced_us_{
      -1};  ///< when the oldest byte that is not durable was appended
  std::atomic<uint64_t> cuts_asked_{0}, cuts_made_{0};
  std::atomic<uint64_t> force_sync_offset_{0};  ///< WaitDurable's wish

  mutable std::mutex mutex_;  ///< guards the six below
  std::condition_variable wake_, progress_;
  std::vector<Item> queue_;
  std::vector<Ending> ending_queue_;
  bool stop_ = false;
  bool wake_wanted_ = false;
  Status error_;
  AofManifest published_manifest_;

  // Belongs to whoever holds io_mutex_; taken before mutex_, never after it.
  std::mutex io_mutex_;
  AofManifest manifest_;
  std::unique_ptr<WritableFile> file_;
  std::deque<Item> todo_;  ///< taken, not written
  std::deque<Ending> endings_;
  /// File offset of the first group behind each sync that began, and the database selected ahead of
  /// it (-1: it selects its own).
  std::deque<std::pair<uint64_t, int64_t>> database_marks_;
  std::deque<Buffer> unsynced_;     ///< written, not known to be durable
  uint64_t group_end_ = 0;          ///< size of the file up to its last whole group
  uint64_t synced_size_ = 0;        ///< size of the file that its last good sync covered
  uint64_t sync_started_size_ = 0;  ///< the same for syncs that have begun
  uint64_t sync_started_offset_ = 0;
  uint64_t older_files_bytes_ = 0;  ///< files in force without the open one
  AofSyncPolicy step_policy_ = AofSyncPolicy::kEverySecond;
  bool step_checksum_ = true;
  bool padding_ = true;         ///< until the open file could not be padded
  bool covered_ = true;         ///< every byte of the file lies in a checked group
  bool select_needed_ = false;  ///< the file is new: its first group must name its database
  bool repair_needed_ = false;  ///< a write failed: cut the file to group_end_ first
  bool cut_unsynced_ = false;   ///< what was cut off may come back: sync before the next file (A6)
  bool file_suspect_ = false;   ///< a sync failed: move to a new file
  bool reserve_present_ = false;
  bool reserve_spent_ = false;  ///< freed because the disk was full
  int waiting_cuts_ = 0;        ///< Cuts in todo_
  uint64_t cut_sequence_ = 0;   ///< first INCR behind the running rewrite's cut; 0 = none
  Status cut_error_;            ///< why there is none
  int64_t last_sync_us_ = 0;
  int64_t retry_at_us_ = 0;
  int64_t backoff_us_ = 0;
  int64_t failing_since_us_ = 0;
  int64_t last_timestamp_s_ = -1;
  bool manifest_unknown_ = false;       ///< publishing a new last INCR failed half way (A8)
  bool manifest_stale_ = false;         ///< manifest_ has HISTORY that the one on disk may not know
  bool history_kept_by_error_ = false;  ///< deleting failed: not again before the next rewrite
  bool sync_scheduled_ = false;         ///< the log thread will wake up by itself to sync
  int64_t slow_until_us_ = 0;           ///< the disk was slow: the executor keeps off until then
  bool last_write_slow_ = false;        ///< the last write waited for the disk
  uint64_t reported_written_ = 0, reported_durable_ = 0;

  // The sync thread. It has a descriptor of its own, as a file handle belongs to one thread.
  std::condition_variable sync_wake_, sync_idle_;  // with io_mutex_
  std::unique_ptr<WritableFile> sync_file_;        // none: syncs are the log thread's own
  std::optional<SyncJob> sync_job_;                // handed over, not taken
  bool sync_in_flight_ = false;
  bool sync_stop_ = false;
  uint64_t gather_goal_bytes_ = 0;  ///< not 0: it waits until so much is there to be written
  std::thread sync_thread_;

  bool rewriting_ = false;  // executor's own
  std::thread thread_;
};

}  // namespace cairn

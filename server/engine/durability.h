#pragma once

// Durability: saves, the append-only file and loading, as the rest of the engine asks for them.
// Formats and threads are persistence's; this decides when: save rules, automatic rewrite, MISCONF,
// shutdown, the gate that holds replies under appendfsync always. Thread: executor; completions
// arrive through the loop.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "persistence/save_target.h"
#include "server/base/status.h"

namespace cairn {

class Engine;

/// What INFO persistence and LASTSAVE read.
struct DurabilityFigures {
  bool save_running = false;
  bool rewrite_running = false;
  bool rewrite_scheduled = false;
  bool save_scheduled = false;
  uint64_t changes_since_save = 0;
  int64_t last_save_unix_s = 0;
  bool last_save_ok = true;
  int64_t last_save_duration_s = -1;
  int64_t current_save_started_s = -1;
  uint64_t saves = 0;
  uint64_t current_save_keys_total = 0, current_save_keys_done = 0;
  int64_t last_load_keys_expired = 0, last_load_keys_loaded = 0;
  bool aof_enabled = false;
  bool aof_last_write_ok = true;
  std::string_view aof_state = "closed";  ///< or ok, degraded, stopped (docs/aof.md)
  bool aof_last_rewrite_ok = true;
  int64_t last_rewrite_duration_s = -1;
  int64_t current_rewrite_started_s = -1;
  uint64_t rewrites = 0;
  uint64_t rewrite_failures = 0;  ///< since the last that succeeded
  uint64_t aof_current_bytes = 0, aof_base_bytes = 0, aof_buffer_bytes = 0;
  uint64_t aof_delayed_fsync = 0;
  int64_t aof_unsynced_ms = 0;   ///< age of the oldest byte that is not durable
  uint64_t aof_write_holds = 0;  ///< spells in which writers had to wait for the log
  uint64_t aof_write_held_us = 0;
  bool aof_pending_bio_fsync = false;
  uint64_t last_cut_us = 0;          ///< how long the executor stood still for the last cut
  uint64_t retained_bytes = 0;       ///< old values held for the running view
  uint64_t retained_bytes_peak = 0;  ///< of the last or running view
  uint64_t structure_bytes = 0;      ///< superseded segments, directories and places in queues
  uint64_t write_holds = 0;          ///< spells in which writers had to wait for the walker
  uint64_t write_held_us = 0;        ///< and how long they took together
  uint64_t snapshot_bytes = 0;       ///< written by the running save or rewrite
  int64_t snapshot_running_us = -1;  ///< since its cut; -1 = none runs
  bool save_overdue = false;         ///< more than twice the longest rule without a good save
};

/// Bits of Loading progress for INFO while loading.
struct LoadFigures {
  int64_t started_s = 0;
  uint64_t total_bytes = 0, loaded_bytes = 0;
  uint64_t saved_by_memory_bytes = 0;  ///< of the server that wrote the RDB file, as it says in it
};

/// A copy of the dataset for replicas, written to a file of its own.
struct SyncSnapshot {
  std::string path;              ///< removed again when the copy fails
  std::function<void()> on_cut;  ///< at the cut, after the stream so far was handed over
  std::function<void(const Status&)> on_done;  ///< on the executor, once
};

class Durability {
 public:
  virtual ~Durability() = default;

  /// Loads the dataset at start as settings say (append-only file first, else dump.rdb). Errors end
  /// the start.
  virtual Status LoadAtStart() = 0;

  /// SAVE: returns when the file is in place. Client error when a save runs.
  virtual Status Save() = 0;
  /// Ends the background save that runs, if one does; its file gets its final name only if it was
  /// written and synced already.
  virtual void AbortSave() = 0;
  /// A save for nobody in particular, which returns when the file is in place. Errors: the disk's.
  virtual Status SaveNow() = 0;
  /// BGSAVE [SCHEDULE]. *reply is the status line ("Background saving started").
  virtual Status StartBackgroundSave(bool schedule, std::string* reply) = 0;
  /// BGREWRITEAOF. *reply is the status line.
  virtual Status StartRewrite(std::string* reply) = 0;
  /// Waits for (or aborts) background jobs; used by shutdown and DEBUG RELOAD.
  virtual void AbortBackgroundSave() = 0;

  /// Cuts and writes a copy for replicas. Errors: kNoSpace while another snapshot runs: try later.
  virtual Status StartSyncSnapshot(SyncSnapshot request) = 0;
  /// Replaces the dataset by the file a primary sent. The log is closed until RestartAppendOnly.
  /// Runs on the executor's turn: whoever calls it
  /// makes `serve_while_loading` give way. Errors: those of the reader; the dataset is then empty.
  virtual Status LoadFromPrimary(const std::string& path) = 0;
  /// The dataset of LoadFromPrimary, or what this server makes of its lack, is to stay: with
  /// appendonly yes the log begins anew with it. What fails is tried again.
  virtual void RestartAppendOnly() = 0;

  /// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE], DEBUG LOADAOF. Refused while something is loaded.
  virtual Status DebugReload(bool save, bool flush, bool merge) = 0;
  virtual Status DebugLoadAof() = 0;

  /// CONFIG SET appendonly, appendfsync, save ...: registered with Config by the implementation.
  /// Counts a command's changes toward the save rules.
  virtual void AddChanges(uint64_t changes) = 0;
  /// Every 100 ms: save rules, automatic rewrite, retries, back-pressure release.
  virtual void Tick() = 0;
  /// End of a loop turn: hands the propagation buffer to the log thread.
  virtual void EndOfTurn() = 0;
  /// Stream offset up to which replies may leave now: what is durable under appendfsync always,
  /// what the kernel has under everysec and no; UINT64_MAX when nothing is held. When it is behind,
  /// `on_durable` follows as soon as it has grown.
  virtual uint64_t DurableOffset() = 0;
  /// True when replies must wait for DurableOffset().
  virtual bool GatesReplies() const = 0;
  /// True when what is held can never become durable: its connections must be closed, unanswered.
  virtual bool HeldRepliesAreLost() const = 0;
  /// MISCONF: why writes are refused now, or OK.
  virtual Status WriteRefusal() const = 0;
  /// False while no snapshot runs and the log is within its limits, until a command that is not
  /// plain (command_table.h) or a later turn changes it: then HoldsWrites need not be asked.
  virtual bool MayHoldWrites() const { return true; }
  /// Whether a write command must wait for the walker of a running snapshot, or for the disk to
  /// take the log. Its session is then held (Engine::HoldSession) and resumed from a timer.
  virtual bool HoldsWrites() = 0;
  /// What may be said of other files in the server's directory by effects that go to the
  /// append-only file now (module_api.h, log_target); no files: nothing.
  virtual SaveTarget LogTarget() const = 0;
  /// SHUTDOWN: final save and flush. `save`: 1, 0, or -1 for as the save rules say.
  virtual Status Shutdown(int save, bool force) = 0;

  virtual DurabilityFigures figures() const = 0;
  virtual LoadFigures load_figures() const = 0;
  virtual void ResetFigures() = 0;
};

/// The implementation. The engine must outlive it. `on_durable` is called on the executor when
/// DurableOffset() has advanced: the connections then release held replies.
std::unique_ptr<Durability> NewDurability(Engine& engine, std::function<void()> on_durable);

}  // namespace cairn

#pragma once

// Engine: the parts that a command needs to reach, held together. It owns none of the policy: each
// part is a class of its own, built and destroyed by server/app/server in a fixed order. Nothing
// global: tests build an Engine of their own. Thread: executor, but for what the parts say of
// themselves.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/engine/acl.h"
#include "server/engine/blocking.h"
#include "server/engine/client_pauses.h"
#include "server/engine/command_context.h"
#include "server/engine/command_table.h"
#include "server/engine/config.h"
#include "server/engine/latency.h"
#include "server/engine/monitor.h"
#include "server/engine/propagation.h"
#include "server/engine/pubsub.h"
#include "server/engine/replica_feed.h"
#include "server/engine/script_scope.h"
#include "server/engine/session.h"
#include "server/engine/slowlog.h"
#include "server/engine/stats.h"
#include "server/engine/tracking.h"
#include "server/engine/transaction.h"
#include "server/keyspace/keyspace.h"
#include "server/platform/blob_arena.h"
#include "server/platform/env.h"
#include "server/platform/memory.h"
#include "server/platform/transport.h"

namespace cairn {

class Durability;
class Dispatcher;
class FunctionStore;
class JobRunner;
class ModuleHost;
class ScriptHost;
class ModuleValueFactory;
class PeerConnections;

/// What DEBUG and tests switch.
struct DebugSwitches {
  bool active_expire = true;
  bool skip_checksum_validation = false;
  bool deny_scripts_disabled = false;
  bool pause_cron = false;
  bool reply_buffer_resizing = true;  ///< idle clients give reply memory back
  /// How long a client must be idle before it does; -1: never.
  int64_t reply_buffer_peak_reset_ms = kDefaultPeakResetMs;
  uint64_t quicklist_packed_threshold =
      kDefaultPackedThreshold;  ///< list elements from this size get a node each
  static constexpr int64_t kDefaultPeakResetMs = 5000;
  static constexpr uint64_t kDefaultPackedThreshold = 1ull << 30;
};

class Engine {
 public:
  Engine(Env& env, EventLoopPort& loop, Logger& log, Config& config, Keyspace& keyspace,
         BlobArena& arena);
  ~Engine();

  Env& env;
  EventLoopPort& loop;
  Logger& log;
  Config& config;
  Keyspace& keyspace;
  BlobArena& arena;

  CommandTable commands;
  Stats stats;
  Propagation propagation;
  WatchTable watches;
  BlockingTable blocking{*this};
  PubSub pubsub{*this};
  Tracking tracking{*this};
  Acl acl{*this};
  MonitorFeed monitors{*this};
  SlowLog slowlog;
  LatencyMonitor latency;
  DebugSwitches debug;

  Durability* durability = nullptr;  ///< set by app before the first command
  Dispatcher* dispatcher = nullptr;
  ReplicaFeed* replicas = nullptr;  ///< nullptr: no replication (tests)
  JobRunner* jobs = nullptr;        ///< nullptr: every command runs at once
  ModuleHost* modules = nullptr;
  ScriptHost* scripts = nullptr;                ///< server/scripting; nullptr: no scripts here
  FunctionStore* functions = nullptr;           ///< nullptr: no function libraries
  ModuleValueFactory* module_values = nullptr;  ///< the same host, as loading and RESTORE see it

  const Settings& settings() const { return config.settings(); }
  /// Connections to other servers (MIGRATE), made with the first use.
  PeerConnections& peers();

  // --- identity ---
  std::string run_id;          ///< 40 hex digits, new at each start
  std::string replication_id;  ///< 40 hex digits that name the history of the dataset
  /// 40 random hex digits.
  std::string NewId() const;
  std::string executable;  ///< as started
  int64_t started_ms = 0;
  int64_t process_id = 0;
  std::vector<std::pair<int, std::string>> listen_addresses;  ///< for INFO and logs

  // --- sessions ---
  Session* CreateSession(SessionPort* port, SessionKind kind);
  void DestroySession(Session* session);
  /// Takes the session out of everything that could reach it from elsewhere (watched keys, lines of
  /// waiters, subscriptions, monitors, tracking): its connection is closing. Idempotent.
  void DetachSession(Session& session);
  Session* FindSession(uint64_t id) const;
  /// Connected sessions by id.
  const std::map<uint64_t, std::unique_ptr<Session>>& sessions() const { return sessions_; }
  const SessionCounts& session_counts() const { return session_counts_; }
  /// Whose command runs now, the outermost one; nullptr between commands.
  Session* running_session = nullptr;
  /// Something was written for the session: it goes out at the end of the turn, once it may.
  void OutputAdded(Session& session);
  /// All that `session` has been told so far leaves only once the log has come to where the stream
  /// stands now (reply_gate.h). For when Durability::GatesReplies.
  void HoldReply(Session& session);
  /// What gathers over a turn and goes out with it (broadcast invalidations), and what may leave of
  /// what was told in it. Before the hand-over to the log, and each flush. Idempotent.
  void EndOfTurn();
  /// The second half of that: what was told so far depends on the stream as it stands now.
  void SettleTold();
  uint64_t last_session_id() const { return next_session_id_ - 1; }

  // --- scripts ---
  /// The script or function that runs, nullptr between them.
  ScriptScope* script = nullptr;
  /// Filled by server/scripting; empty: nothing is held.
  std::function<ScriptFigures()> script_figures;
  /// Lets the loop answer other clients (most with -BUSY) while the running script is over its
  /// time. Set by app; empty: there is no loop.
  std::function<void()> serve_while_busy;

  // --- states that gate commands ---
  bool loading = false;
  /// Lets the loop answer (with LOADING) while a long load runs; empty when the load runs inside a
  /// turn. False: the load is to be given up.
  std::function<bool()> serve_while_loading;
  const ClientPauses& pauses() const { return pauses_; }
  /// Holds clients back until `until_ms`, besides what holds them already (client_pauses.h).
  void Pause(PauseReason reason, PauseMode mode, int64_t until_ms);
  /// Ends that pause, and runs those again whom none holds any more.
  void EndPause(PauseReason reason);
  /// Ends the pauses whose time is over. Called by the gates and by cron.
  void EndDuePauses();
  bool is_paused() const { return pauses_.mode() != PauseMode::kNone; }
  /// Whether keys past their TTL stay (hidden) is for this server to say, or not: to be called when
  /// its role has changed.
  void UpdateExpiry();
  /// This server follows a primary.
  bool is_replica() const { return replicas != nullptr && replicas->is_replica(); }
  /// A replica that lost its primary and shall not answer from old data.
  bool is_stale() const {
    return is_replica() && !replicas->link_is_up() && !settings().replica_serve_stale_data;
  }

  /// used_memory: what the allocator handed out and the arena's blobs, less the room in the record
  /// slab's pages that holds no record: as in Redis, fragmentation is not use. Cost: 5 us.
  uint64_t UsedMemory() const { return UsedMemory(ReadAllocatedBytes()); }
  /// The same for whoever knows what the allocator handed out.
  uint64_t UsedMemory(uint64_t allocated) const;
  /// For reports, which are asked for again and again.
  MemorySample memory_sample;

  /// A number that commands choose members and keys by: each call another. Env's chance costs a
  /// system call, so it only seeds the sequence. Not for secrets.
  uint64_t Draw() { return NextRandom(&draw_state_); }

  // --- observation ---
  /// A command that took so many ticks is looked at once more: for monitors every one, for the slow
  /// log and the latency monitor by their settings. Kept by UpdateObservation.
  uint64_t observe_from_ticks = UINT64_MAX;
  /// After a change of monitors, of the settings behind it, or of the clock's ratio.
  void UpdateObservation();
  /// Something held the loop for `latency_ms`: kept when latency-monitor-threshold says so.
  void NoteLatency(std::string_view event, int64_t latency_ms);

  // --- clock ---
  /// Wall clock of this batch in ms; refreshed once per batch and per cron turn.
  int64_t now_ms() const { return keyspace.now_ms(); }
  void RefreshClock();
  int cron_hz = 10;  ///< turns of cron per second: hz, or more with dynamic-hz and many clients

  /// The session waits for the end of the pause that is on.
  void HoldByPause(Session& session);
  /// Sessions that wait until a snapshot's walker has caught up (SnapshotThrottle), by id.
  void HoldSession(Session& session);
  /// Lets them try again, in the order in which they came.
  void ResumeHeld();

  /// Set by SHUTDOWN and signals: the loop ends after this turn.
  bool stop_requested = false;
  int exit_code = 0;
  /// Runs the orderly end (save or flush as settings say); true when the process may exit.
  /// Implemented by app: SHUTDOWN and SIGTERM both call it. `save`: 1 save, 0 nosave, -1 as the
  /// save rules say.
  std::function<Status(int save, bool now, bool force)> prepare_shutdown;
  /// prepare_shutdown was Ok, but replicas lag: the end comes once they have caught up, or at
  /// shutdown-timeout.
  bool shutdown_waits = false;
  int64_t shutdown_deadline_ms = 0;  ///< when it waits no longer (loop.NowMillis())
  /// Takes back a shutdown that waits; false when none does.
  std::function<bool()> abort_shutdown;
  /// Tells the service manager a line of its protocol (sd_notify(3)). Set by app; empty: there is
  /// nobody to tell.
  std::function<void(std::string_view line)> tell_supervisor;
  void TellSupervisor(std::string_view line) const {
    if (tell_supervisor) tell_supervisor(line);
  }

  /// `key` changed: watchers and caches are told. `origin` is the session whose command did it;
  /// nullptr: it expired or was evicted.
  void KeyModified(Session* origin, uint32_t db, std::string_view key) {
    watches.Touch(db, key);
    if (tracking.active()) [[unlikely]]
      tracking.Invalidate(origin, key);
  }
  /// Every keyspace event passes here and is published as notify-keyspace-events says:
  /// "__keyspace@<db>__:<key>" with the event, then "__keyevent@<db>__:<event>" with the key.
  void NotifyKeyspaceEvent(NotifyClass cls, std::string_view event, std::string_view key,
                           uint32_t db) {
    if (on_keyspace_event) on_keyspace_event(cls, event, key, db);
    if (settings().notify_keyspace_events & static_cast<int>(cls)) [[unlikely]]
      PublishKeyspaceEvent(event, key, db);
  }
  /// Sees every event, whatever the setting (tests, modules).
  std::function<void(NotifyClass, std::string_view event, std::string_view key, uint32_t db)>
      on_keyspace_event;

 private:
  void RegisterHooks();
  void PublishKeyspaceEvent(std::string_view event, std::string_view key, uint32_t db);
  void PauseChanged(PauseMode before);

  ClientPauses pauses_;
  uint64_t draw_state_;
  std::unique_ptr<PeerConnections> peers_;
  SessionCounts session_counts_;  // of sessions_, which it outlives
  std::map<uint64_t, std::unique_ptr<Session>> sessions_;
  uint64_t next_session_id_ = 1;
  std::vector<uint64_t> told_in_turn_;  // sessions
  std::vector<uint64_t> held_sessions_;
  std::vector<uint64_t> paused_sessions_;
};

// --- CommandContext's ways to the engine, here because every command takes them ---

inline KeyRef CommandContext::Key(size_t i) const {
  const size_t at = i - first_key_;
  if ((at & key_shift_) == 0 && at >> key_shift_ < hash_count_)
    return {args_[i], key_hashes_[at >> key_shift_]};
  return engine_.keyspace.db(session_.db).MakeKey(args_[i]);
}

inline Database& CommandContext::db() { return engine_.keyspace.db(session_.db); }
inline Keyspace& CommandContext::keyspace() { return engine_.keyspace; }
inline int64_t CommandContext::now_ms() const { return engine_.keyspace.now_ms(); }

inline void CommandContext::TouchWatchers(uint32_t db, std::string_view key) {
  engine_.KeyModified(engine_.running_session, db, key);
}

inline void CommandContext::Notify(NotifyClass cls, std::string_view event, std::string_view key,
                                   uint32_t db) {
  engine_.NotifyKeyspaceEvent(cls, event, key, db);
}

inline void CommandContext::Changed(uint32_t db, KeyRef key, NotifyClass cls,
                                    std::string_view event) {
  ++dirty_;
  TouchWatchers(db, key.key);
  Notify(cls, event, key.key, db);
}

inline void CommandContext::Changed(KeyRef key, NotifyClass cls, std::string_view event) {
  Changed(session_.db, key, cls, event);
}

}  // namespace cairn

#pragma once

// Primary: this server as others' primary (a replica with replicas of its own included): who
// follows it, the backlog they read from, full and partial resync, PING, WAIT. Where the stream
// comes from is Replication's: from this server's own commands, or byte for byte from its primary.
// Thread: executor.
//
// Invariants (docs/replication.md cites them):
//   P1  The backlog's end is the offset of the stream; nothing is in it that is not whole groups of
//       commands, so that whoever joins at an end joins between two commands.
//   P2  A replica reads from its position on without gap: Trim never passes the least position.
//   P3  The stream behind a full copy begins at the copy's cut, with a SELECT of its own or with
//   the
//       database that the copy's field repl-stream-db names.
//   P4  A replica that was granted a partial resync had all bytes up to its offset from the history
//       that it names: this one's id, or the former id up to where that history ended.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/engine/engine.h"
#include "server/platform/worker.h"
#include "server/replication/backlog.h"
#include "server/replication/peer.h"

namespace cairn {

class CommandContext;

/// The names of the dataset's history. The present id is Engine::replication_id.
struct FormerHistory {
  std::string id = std::string(40, '0');
  int64_t end_offset = -1;  ///< first offset that is not of it; -1: there is none
};

class Primary {
 public:
  Primary(Engine& engine, FormerHistory& former);
  ~Primary();
  Primary(const Primary&) = delete;
  Primary& operator=(const Primary&) = delete;

  // --- the stream ---
  /// Offset behind the last byte of the stream.
  uint64_t offset() const { return backlog_ ? backlog_->end() : offset_; }
  bool has_backlog() const { return backlog_.has_value(); }
  const Backlog& backlog() const { return *backlog_; }
  /// Begins a backlog at `offset`; an old one goes. What was written between two backlogs is in
  /// neither, so nobody joins a copy from before.
  void BeginBacklog(uint64_t offset);
  /// repl-backlog-ttl counts from now on: before, none could have come.
  void BeginTtl() { no_replicas_since_s_ = now_s(); }
  void DropBacklog();
  /// The next bytes of the stream, whole commands. Without a backlog there is nobody to keep them
  /// for, and no offset moves.
  void Feed(std::string_view bytes);
  /// The offset without a backlog (a dataset that was loaded names it).
  void set_offset(uint64_t offset) { offset_ = offset; }
  void ApplyBacklogSize();

  // --- replicas ---
  /// What REPLCONF tells of `session` is kept there; made when it is not there yet.
  Peer& PeerOf(Session& session);
  Peer* FindPeer(const Session& session);
  const std::map<uint64_t, std::unique_ptr<Peer>>& peers() const { return peers_; }
  /// PSYNC or SYNC: `id` and `offset` as asked (SYNC: "?"). The reply and all that follows goes to
  /// the session.
  void Sync(Session& session, std::string_view id, int64_t offset);
  void OnAck(Session& session, uint64_t offset);
  void OnPeerOnline(Peer& peer);
  void Forget(Session& session);
  /// The replica that tells of itself as host:port; nullptr: none.
  Peer* FindByAddress(std::string_view host, int64_t port) const;
  void DisconnectAll();
  /// Replicas, those that only told of themselves left out.
  size_t replica_count() const;
  /// Online ones heard from within min-replicas-max-lag.
  size_t GoodReplicas() const;
  /// Those that have acknowledged `offset`.
  size_t CountAcked(uint64_t offset) const;
  /// At least one replica has not acknowledged all.
  bool AnyLags() const;

  /// WAIT: `session` is blocked until `count` replicas have `offset`.
  /// `on_timeout` is what it blocks with, and tells its wait from later ones.
  void AddWaiter(Session& session, uint64_t offset, size_t count,
                 void (*on_timeout)(CommandContext& ctx));
  /// Asks all replicas to acknowledge now, at the end of this turn; when writes are paused, behind
  /// the pause: whoever hands over waits for the offset to rest.
  void RequestAcks();

  void Tick();
  ReplicaFeed::SyncCounts counts;

  Engine& engine() { return engine_; }
  WorkerThread& reader();
  int64_t now_s() const { return engine_.env.WallMicros() / 1000000; }

 private:
  struct Waiter {
    uint64_t session;
    uint64_t offset;
    size_t count;
    void (*on_timeout)(CommandContext& ctx);
  };

  /// The session of `waiter` while it is blocked by its WAIT; nullptr when that has ended.
  Session* BlockedBy(const Waiter& waiter) const;

  bool TryPartial(Peer& peer, std::string_view id, int64_t offset);
  bool Joins(Peer& peer);
  void AskForCut(Peer& peer);
  void StartSnapshotIfDue();
  bool SnapshotIsDue() const;
  void StartSnapshot();
  void OnCut();
  void OnSnapshotDone(const std::shared_ptr<SyncFile>& file, const Status& status);
  void SendFileWithoutData(Peer& peer);
  void AttachToFile(Peer& peer, const std::shared_ptr<SyncFile>& file);
  bool WithMark(const Peer& peer) const;
  void WakeWaiters();
  void TrimBacklog();
  void EverySecond();
  void CheckPeers(int64_t now_s);
  std::string NextPath();

  Engine& engine_;
  FormerHistory& former_;
  std::optional<Backlog> backlog_;
  uint64_t offset_ = 0;  // while there is no backlog
  std::map<uint64_t, std::unique_ptr<Peer>> peers_;
  std::shared_ptr<SyncFile> running_;  // the walker writes it
  std::weak_ptr<SyncFile> latest_;     // who comes now may still join it
  std::unique_ptr<WorkerThread> reader_;
  std::vector<Waiter> waiters_;
  bool acks_requested_ = false;
  bool acks_held_ = false;  // until a pause is over
  uint64_t files_ = 0;
  int64_t no_replicas_since_s_ = 0;
  int64_t next_second_ms_ = 0;
  uint64_t seconds_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace cairn

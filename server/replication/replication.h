#pragma once

// Replication: what this server is in replication, and the door of everybody else to it: the
// engine's ReplicaFeed, the names of the dataset's history, the switch between primary and replica.
// The work is Primary's (others follow this server), ReplicaLink's (it follows another) and
// Failover's (it hands over). docs/replication.md tells the whole. Thread: executor.

#include <functional>
#include <memory>
#include <string>

#include "server/engine/engine.h"
#include "server/replication/failover.h"
#include "server/replication/primary.h"
#include "server/replication/replica.h"

namespace cairn {

class Replication final : public ReplicaFeed, public LinkListener {
 public:
  /// Sets engine.replicas. `connector` is borrowed.
  Replication(Engine& engine, Connector& connector);
  ~Replication() override;

  Engine& engine() { return engine_; }
  Primary& primary() { return primary_; }
  ReplicaLink& link() { return link_; }
  Failover& failover() { return failover_; }
  const FormerHistory& former() const { return former_; }

  /// Before the dataset is loaded: replicaof of the configuration.
  void PrepareStart();
  /// After it: takes up the history that the file named, and follows.
  void FinishStart();

  /// The process ends: a copy that is being loaded is given up.
  void StopLoading() { link_.StopLoading(); }

  /// REPLICAOF host port. `failover`: see ReplicaLink::Follow.
  void Follow(const std::string& host, int port, bool failover);
  /// REPLICAOF NO ONE: this server is the primary of its dataset, under a new name.
  void Promote();

  /// The offset that INFO and ROLE tell: behind the effects of every command so far. Of a
  /// transaction or script under way nothing counts until it is complete.
  uint64_t told_offset() const;

  // ReplicaFeed
  uint64_t StreamOffset() const override;
  void OnStream(std::string_view bytes) override;
  void Forget(Session& session) override;
  void Tick() override;
  void OnPrimaryCommandFailed(std::string_view line, std::string_view command) override;
  void OnLoadedField(std::string_view name, std::string_view value) override;
  void OnExpiredAtStart(uint32_t db, std::string_view key) override;
  bool ReplicasLag() const override { return !is_replica_ && primary_.AnyLags(); }
  NamedValues SnapshotFields() const override;
  NamedValues InfoFields() const override;
  uint64_t backlog_bytes() const override {
    return primary_.has_backlog() ? primary_.backlog().memory_bytes() : 0;
  }
  SyncCounts sync_counts() const override { return primary_.counts; }
  void ResetCounts() override { primary_.counts = {}; }
  void ChangeId() override;

  /// The server has become a replica, or a primary again. Set by app.
  std::function<void()> on_role_change;

  /// After a change of what gates commands depend on.
  void UpdateFacts();

  // LinkListener
  void OnLinkChanged() override { UpdateFacts(); }
  void OnPsyncAnswered(bool granted) override { failover_.OnPsyncAnswered(granted); }

 private:
  /// The file that was loaded at start names a history that replicas may know.
  bool knows_history() const {
    return loaded_.id.size() == kReplicationIdBytes && loaded_.offset >= 0;
  }
  void CountGoodReplicas();
  void AddLinkFields(NamedValues* out) const;
  void AddReplicaFields(NamedValues* out) const;

  Engine& engine_;
  FormerHistory former_;
  Primary primary_;
  ReplicaLink link_;
  Failover failover_;
  bool replica_when_told_ = false;  // what on_role_change was last told of
  // What the loaded file said of its history.
  struct Loaded {
    std::string id;
    int64_t offset = -1;
    int64_t db = -1;
  } loaded_;
  Propagation expired_at_start_;  // writes what OnExpiredAtStart feeds
};

/// The engine's replication. Requires: it was built with one.
inline Replication& ReplicationOf(Engine& engine) {
  return static_cast<Replication&>(*engine.replicas);
}

}  // namespace cairn

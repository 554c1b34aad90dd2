#pragma once

// ReplicaFeed: the port through which the engine speaks of replication: effects in order go down to
// the replicas, and what replication decides about this server (whose copy it is, whether the link
// stands, whether enough replicas listen) comes back as plain facts that gate commands. Implemented
// by server/replication; nullptr in an Engine that was built without it. Thread: executor.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn {

class Session;

/// Names and values of RDB auxiliary fields, or of INFO.
using NamedValues = std::vector<std::pair<std::string, std::string>>;

class ReplicaFeed {
 public:
  virtual ~ReplicaFeed() = default;

  // --- facts that gate commands; kept up to date by the implementation ---

  /// This server follows a primary (REPLICAOF): it decides no expiry and, with replica-read-only,
  /// takes no writes but the primary's.
  bool is_replica() const { return is_replica_; }
  /// It follows one and has all of its data as of a moment ago.
  bool link_is_up() const { return link_is_up_; }
  /// False when min-replicas-to-write asks for more good replicas than there are.
  bool has_enough_replicas() const { return has_enough_replicas_; }
  /// Offset of the replication stream behind all effects so far, those not handed over included.
  virtual uint64_t StreamOffset() const = 0;

  // --- what the engine tells ---

  /// The next bytes of the propagation stream: whole groups, in order. Called with what the
  /// append-only file is given, before it.
  virtual void OnStream(std::string_view bytes) = 0;
  /// The session is closing or turning into something else.
  virtual void Forget(Session& session) = 0;
  /// Every 100 ms.
  virtual void Tick() = 0;
  /// A command of the primary's was answered with an error: `line` without '-'.
  virtual void OnPrimaryCommandFailed(std::string_view line, std::string_view command) = 0;
  /// An auxiliary field of a dataset that is being loaded.
  virtual void OnLoadedField(std::string_view name, std::string_view value) = 0;
  /// A key past its time was left out as this server loaded its dump at start: replicas that go on
  /// from where the file ends have it still.
  virtual void OnExpiredAtStart(uint32_t db, std::string_view key) = 0;
  /// SHUTDOWN, before the final save: milliseconds it is worth waiting for replicas that lag; 0
  /// when none does.
  virtual bool ReplicasLag() const = 0;

  // --- what others ask ---

  /// The fields that name this history in an RDB file; empty when there is none to name.
  virtual NamedValues SnapshotFields() const = 0;
  /// INFO replication, in Redis's order.
  virtual NamedValues InfoFields() const = 0;
  /// Memory of the backlog, and of what replicas hold beyond it, in bytes.
  virtual uint64_t backlog_bytes() const = 0;
  /// Full and partial resyncs granted, partial ones refused.
  struct SyncCounts {
    uint64_t full = 0, partial_ok = 0, partial_refused = 0;
  };
  virtual SyncCounts sync_counts() const = 0;
  virtual void ResetCounts() = 0;
  /// DEBUG CHANGE-REPL-ID: a new history begins.
  virtual void ChangeId() = 0;

 protected:
  bool is_replica_ = false;
  bool link_is_up_ = false;
  bool has_enough_replicas_ = true;
};

}  // namespace cairn

#include "server/replication/replication.h"

#include <algorithm>
#include <utility>

#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"

namespace cairn {

Replication::Replication(Engine& engine, Connector& connector)
    : engine_(engine),
      primary_(engine, former_),
      link_(engine, connector, primary_, former_, *this),
      failover_(engine, *this) {
  engine_.replicas = this;
  engine_.config.OnChange("repl-backlog-size", [this](const Settings&, const Settings&) {
    primary_.ApplyBacklogSize();
    return Status::Ok();
  });
  for (std::string_view name : {"min-replicas-to-write", "min-replicas-max-lag"}) {
    engine_.config.OnChange(name, [this](const Settings&, const Settings&) {
      UpdateFacts();
      return Status::Ok();
    });
  }
}

Replication::~Replication() { engine_.replicas = nullptr; }

// --- facts ---

void Replication::CountGoodReplicas() {
  const Settings& settings = engine_.settings();
  has_enough_replicas_ =
      settings.min_replicas_to_write == 0 || settings.min_replicas_max_lag == 0 ||
      primary_.GoodReplicas() >= static_cast<size_t>(settings.min_replicas_to_write);
}

void Replication::UpdateFacts() {
  is_replica_ = link_.follows();
  link_is_up_ = link_.state() == LinkState::kConnected;
  CountGoodReplicas();
  engine_.UpdateExpiry();
  if (std::exchange(replica_when_told_, is_replica_) != is_replica_ && on_role_change)
    on_role_change();
}

uint64_t Replication::StreamOffset() const {
  // What is not handed over yet comes behind, unless nobody keeps it.
  const bool fed = !is_replica_ && primary_.has_backlog();
  const Propagation& stream = engine_.propagation;
  return primary_.offset() + (fed ? stream.waiting_for_replicas() : 0);
}

uint64_t Replication::told_offset() const {
  return engine_.propagation.CanTake() ? StreamOffset() : primary_.offset();
}

void Replication::OnStream(std::string_view bytes) {
  // A replica passes on what its primary sent, not what it made of it.
  if (!is_replica_) primary_.Feed(bytes);
}

void Replication::Forget(Session& session) {
  const bool was_peer = primary_.FindPeer(session) != nullptr;
  primary_.Forget(session);
  // The next write must not count on who has gone.
  if (was_peer) CountGoodReplicas();
}

void Replication::Tick() {
  primary_.Tick();
  link_.Tick();
  failover_.Check();
  UpdateFacts();
}

void Replication::OnPrimaryCommandFailed(std::string_view line, std::string_view command) {
  engine_.log.Log(LogLevel::kWarning,
                  "== CRITICAL == This replica is sending an error to its master: '{}' after "
                  "processing the command '{}'",
                  line, command);
  ++engine_.stats.unexpected_error_replies;
  const PropagationErrorBehavior wanted = engine_.settings().propagation_error_behavior;
  if (wanted == PropagationErrorBehavior::kIgnore) return;
  engine_.log.Log(LogLevel::kWarning, "propagation-error-behavior asks to end here");
  engine_.exit_code = 1;
  engine_.stop_requested = true;
}

// --- history ---

void Replication::OnLoadedField(std::string_view name, std::string_view value) {
  if (name == "repl-id") {
    loaded_.id = value;
  } else if (name == "repl-offset") {
    if (!ParseInt64(value, &loaded_.offset)) loaded_.offset = -1;
  } else if (name == "repl-stream-db") {
    if (!ParseInt64(value, &loaded_.db)) loaded_.db = -1;
    const bool exists =
        loaded_.db >= 0 && loaded_.db < static_cast<int64_t>(engine_.keyspace.database_count());
    if (!exists) loaded_.db = -1;
    if (exists && link_.state() == LinkState::kLoads)
      link_.OnCopyDatabase(static_cast<uint32_t>(loaded_.db));
  }
}

void Replication::OnExpiredAtStart(uint32_t db, std::string_view key) {
  if (!knows_history()) return;
  if (!primary_.has_backlog()) {
    primary_.BeginBacklog(static_cast<uint64_t>(loaded_.offset));
    expired_at_start_.set_fed(true);
  }
  const std::string_view args[] = {engine_.settings().lazyfree_lazy_expire ? "UNLINK" : "DEL", key};
  expired_at_start_.Append(db, args);
  primary_.Feed(expired_at_start_.Take().for_replicas());
}

NamedValues Replication::SnapshotFields() const {
  // Without a backlog the dataset is of no history that anybody shares: it never was, or a copy
  // failed half-way.
  if (!primary_.has_backlog()) return {};
  const int64_t db = is_replica_ ? static_cast<int64_t>(link_.selected_db())
                                 : std::max<int64_t>(engine_.propagation.selected_database(), 0);
  return {{"repl-stream-db", std::to_string(db)},
          {"repl-id", engine_.replication_id},
          {"repl-offset", std::to_string(primary_.offset())}};
}

void Replication::PrepareStart() {
  if (engine_.settings().replicaof.host.empty()) return;
  is_replica_ = true;
  engine_.UpdateExpiry();
}

void Replication::FinishStart() {
  const ReplicaofTarget target = engine_.settings().replicaof;
  if (knows_history() && !target.host.empty()) {
    engine_.replication_id = loaded_.id;
    primary_.BeginBacklog(static_cast<uint64_t>(loaded_.offset));
    link_.RememberHistory(static_cast<uint32_t>(std::max<int64_t>(loaded_.db, 0)));
  } else if (knows_history()) {
    // Replicas that knew the dataset before the restart go on with it.
    former_ = {loaded_.id, loaded_.offset + 1};
    if (!primary_.has_backlog()) primary_.BeginBacklog(static_cast<uint64_t>(loaded_.offset));
    engine_.propagation.set_fed(true);
    primary_.BeginTtl();
  }
  if (!target.host.empty()) link_.Follow(target.host, target.port, false);
  UpdateFacts();
}

void Replication::ChangeId() {
  engine_.replication_id = engine_.NewId();
  former_ = {};
}

// --- roles ---

void Replication::Follow(const std::string& host, int port, bool failover) {
  const bool was_primary = !is_replica_;
  // What was written so far is of the old role.
  if (engine_.durability != nullptr) engine_.durability->EndOfTurn();
  engine_.config.MutableSettings().replicaof = {host, port};
  if (was_primary) {
    engine_.propagation.set_fed(false);
    // The new primary may have been a replica of this one: its history is ours.
    const int64_t db = engine_.propagation.selected_database();
    link_.RememberHistory(static_cast<uint32_t>(std::max<int64_t>(db, 0)));
  }
  link_.Follow(host, port, failover);
  engine_.dispatcher->UnblockAll();
}

void Replication::Promote() {
  if (!is_replica_) return;
  if (engine_.durability != nullptr) engine_.durability->EndOfTurn();
  engine_.config.MutableSettings().replicaof = {};
  link_.Unfollow();
  // Up to here the history has the old name, too; from here on it is this server's own.
  former_ = {engine_.replication_id, static_cast<int64_t>(primary_.offset()) + 1};
  engine_.replication_id = engine_.NewId();
  engine_.log.Log(LogLevel::kNotice,
                  "Setting secondary replication ID to {}, valid up to offset: {}. New "
                  "replication ID is {}",
                  former_.id, former_.end_offset, engine_.replication_id);
  primary_.DisconnectAll();
  engine_.propagation.ResetSelectedDatabase();
  engine_.propagation.set_fed(primary_.has_backlog());
  UpdateFacts();
  // A copy that could not be loaded has left the log closed, and no other will come.
  if (engine_.durability != nullptr) engine_.durability->RestartAppendOnly();
}

// --- INFO ---

void Replication::AddLinkFields(NamedValues* out) const {
  const auto add = [out](std::string name, auto value) {
    if constexpr (std::is_arithmetic_v<decltype(value)>) {
      out->emplace_back(std::move(name), std::to_string(value));
    } else {
      out->emplace_back(std::move(name), std::string(value));
    }
  };
  const Settings& settings = engine_.settings();
  const int64_t heard_s = (engine_.loop.NowMillis() - link_.last_heard_ms()) / 1000;
  add("master_host", link_.host());
  add("master_port", link_.master_port());
  add("master_link_status", link_is_up_ ? "up" : "down");
  add("master_last_io_seconds_ago", link_is_up_ ? heard_s : int64_t{-1});
  add("master_sync_in_progress", link_.syncs() ? 1 : 0);
  add("slave_read_repl_offset", link_.read_offset());
  add("slave_repl_offset", primary_.offset());
  if (link_.syncs()) {
    const uint64_t total = link_.copy_total_bytes(), read = link_.copy_read_bytes();
    add("master_sync_total_bytes", total);
    add("master_sync_read_bytes", read);
    add("master_sync_left_bytes", static_cast<int64_t>(total) - static_cast<int64_t>(read));
    char percent[32];
    std::snprintf(
        percent, sizeof percent, "%.2f",
        total == 0 ? 0.0 : 100.0 * static_cast<double>(read) / static_cast<double>(total));
    add("master_sync_perc", percent);
    add("master_sync_last_io_seconds_ago", heard_s);
  }
  if (!link_is_up_) {
    const int64_t since = link_.down_since_s();
    add("master_link_down_since_seconds",
        since == 0 ? int64_t{-1} : engine_.env.WallMicros() / 1000000 - since);
  }
  add("slave_priority", settings.replica_priority);
  add("slave_read_only", settings.replica_read_only ? 1 : 0);
  add("replica_announced", settings.replica_announced ? 1 : 0);
}

void Replication::AddReplicaFields(NamedValues* out) const {
  const int64_t now_s = engine_.env.WallMicros() / 1000000;
  size_t number = 0;
  for (const auto& [id, peer] : primary_.peers()) {
    std::string_view state;
    switch (peer->state()) {
      case PeerState::kTold:
        continue;
      case PeerState::kWaitsForCut:
      case PeerState::kWaitsForFile:
        state = "wait_bgsave";
        break;
      case PeerState::kSendsFile:
        state = "send_bulk";
        break;
      case PeerState::kWaitsForAck:
      case PeerState::kOnline:
        state = "online";
        break;
    }
    const int64_t lag = peer->shown_online() ? now_s - peer->acked_at_s : 0;
    out->emplace_back("slave" + std::to_string(number++),
                      "ip=" + peer->address() + ",port=" + std::to_string(peer->listening_port) +
                          ",state=" + std::string(state) + ",offset=" +
                          std::to_string(peer->acked_offset()) + ",lag=" + std::to_string(lag));
  }
}

NamedValues Replication::InfoFields() const {
  NamedValues fields;
  const Settings& settings = engine_.settings();
  fields.emplace_back("role", is_replica_ ? "slave" : "master");
  if (is_replica_) AddLinkFields(&fields);
  fields.emplace_back("connected_slaves", std::to_string(primary_.replica_count()));
  if (settings.min_replicas_to_write > 0 && settings.min_replicas_max_lag > 0)
    fields.emplace_back("min_slaves_good_slaves", std::to_string(primary_.GoodReplicas()));
  AddReplicaFields(&fields);
  fields.emplace_back("master_failover_state", failover_.state_name());
  fields.emplace_back("master_replid", engine_.replication_id);
  fields.emplace_back("master_replid2", former_.id);
  const uint64_t offset = told_offset();
  fields.emplace_back("master_repl_offset", std::to_string(offset));
  fields.emplace_back("second_repl_offset", std::to_string(former_.end_offset));
  const bool active = primary_.has_backlog();
  fields.emplace_back("repl_backlog_active", active ? "1" : "0");
  fields.emplace_back("repl_backlog_size", std::to_string(settings.repl_backlog_size));
  fields.emplace_back("repl_backlog_first_byte_offset",
                      std::to_string(active ? primary_.backlog().begin() + 1 : 0));
  const uint64_t waiting = offset - primary_.offset();
  fields.emplace_back("repl_backlog_histlen",
                      std::to_string(active ? primary_.backlog().size() + waiting : 0));
  return fields;
}

}  // namespace cairn

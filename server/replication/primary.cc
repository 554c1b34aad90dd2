#include "server/replication/primary.h"

#include <algorithm>
#include <utility>

#include "persistence/rdb_writer.h"
#include "server/base/strings.h"
#include "server/engine/blocking.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/function_store.h"

namespace cairn {

namespace {

constexpr std::string_view kPing = "*1\r\n$4\r\nping\r\n";
constexpr std::string_view kGetAck = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
constexpr int64_t kSecondMs = 1000;
// Blocks of the backlog; more of them at a time are the reaper's to free.
constexpr size_t kFreedInPlace = 4;

}  // namespace

Primary::Primary(Engine& engine, FormerHistory& former)
    : engine_(engine), former_(former), no_replicas_since_s_(now_s()) {}

Primary::~Primary() {
  if (reader_ != nullptr) reader_->Stop();
}

WorkerThread& Primary::reader() {
  if (reader_ == nullptr)
    reader_ = std::make_unique<WorkerThread>(WorkerOptions{.name = "sync-reader"});
  return *reader_;
}

// --- the stream ---

void Primary::BeginBacklog(uint64_t offset) {
  DropBacklog();
  backlog_.emplace(offset, static_cast<uint64_t>(engine_.settings().repl_backlog_size));
  latest_.reset();
  BeginTtl();
}

void Primary::DropBacklog() {
  offset_ = offset();
  if (!backlog_) return;
  // It may be as long as the slowest replica was behind.
  auto dropped = std::make_shared<Backlog>(*std::exchange(backlog_, {}));
  engine_.keyspace.Reap([dropped = std::move(dropped)]() mutable { dropped.reset(); }, 0);
}

void Primary::ApplyBacklogSize() {
  if (!backlog_) return;
  backlog_->set_keep_bytes(static_cast<uint64_t>(engine_.settings().repl_backlog_size));
  TrimBacklog();
}

void Primary::Feed(std::string_view bytes) {
  if (!backlog_ || bytes.empty()) return;
  backlog_->Append(bytes);
  for (const auto& [id, peer] : peers_) {
    if (peer->online()) peer->session().port->OutputReady();
  }
  TrimBacklog();
}

void Primary::TrimBacklog() {
  uint64_t pinned = backlog_->end();
  for (const auto& [id, peer] : peers_) {
    if (peer->in_need_of_stream()) pinned = std::min(pinned, peer->position());
  }
  std::vector<std::string> taken = backlog_->Trim(pinned);
  // What a replica held that has gone may be gigabytes.
  if (taken.size() > kFreedInPlace)
    engine_.keyspace.Reap([blocks = std::move(taken)]() mutable { blocks = {}; }, 0);
}

// --- replicas ---

Peer& Primary::PeerOf(Session& session) {
  std::unique_ptr<Peer>& peer = peers_[session.id];
  if (peer == nullptr) peer = std::make_unique<Peer>(*this, session);
  return *peer;
}

Peer* Primary::FindPeer(const Session& session) {
  const auto found = peers_.find(session.id);
  return found == peers_.end() ? nullptr : found->second.get();
}

void Primary::Forget(Session& session) {
  std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.session == session.id; });
  const auto found = peers_.find(session.id);
  if (found == peers_.end()) return;
  session.source = nullptr;
  const bool was_replica = found->second->state() != PeerState::kTold;
  if (was_replica) {
    engine_.log.Log(LogLevel::kNotice, "Connection with replica {} lost.",
                    found->second->address());
  }
  peers_.erase(found);
  if (was_replica && replica_count() == 0) no_replicas_since_s_ = now_s();
  // What it held back would stay until the next write, which may never come.
  if (was_replica && backlog_) TrimBacklog();
}

Peer* Primary::FindByAddress(std::string_view host, int64_t port) const {
  for (const auto& [id, peer] : peers_) {
    if (peer->state() != PeerState::kTold && peer->listening_port == port &&
        EqualsIgnoreCase(peer->address(), host)) {
      return peer.get();
    }
  }
  return nullptr;
}

void Primary::DisconnectAll() {
  std::vector<Session*> sessions;
  for (const auto& [id, peer] : peers_) {
    if (peer->state() != PeerState::kTold) sessions.push_back(&peer->session());
  }
  for (Session* session : sessions) session->port->Close(false);
}

size_t Primary::replica_count() const {
  size_t count = 0;
  for (const auto& [id, peer] : peers_) count += peer->state() != PeerState::kTold;
  return count;
}

size_t Primary::GoodReplicas() const {
  const int64_t oldest = now_s() - engine_.settings().min_replicas_max_lag;
  size_t count = 0;
  for (const auto& [id, peer] : peers_) count += peer->shown_online() && peer->acked_at_s >= oldest;
  return count;
}

size_t Primary::CountAcked(uint64_t offset) const {
  size_t count = 0;
  for (const auto& [id, peer] : peers_)
    count += peer->shown_online() && peer->acked_offset() >= offset;
  return count;
}

bool Primary::AnyLags() const {
  for (const auto& [id, peer] : peers_) {
    if (peer->online() && peer->acked_offset() < offset()) return true;
  }
  return false;
}

// --- PSYNC and SYNC ---

void Primary::Sync(Session& session, std::string_view id, int64_t offset) {
  Peer& peer = PeerOf(session);
  engine_.log.Log(LogLevel::kNotice, "Replica {} asks for synchronization", peer.address());
  if (engine_.settings().repl_disable_tcp_nodelay) session.port->DelayPackets();
  if (!peer.pre_psync && TryPartial(peer, id, offset)) {
    ++counts.partial_ok;
    return;
  }
  if (!peer.pre_psync && id != "?") ++counts.partial_refused;
  ++counts.full;
  // What this server was before nobody followed it must not be taken for what follows from here.
  if (!backlog_ && !engine_.is_replica()) {
    engine_.replication_id = engine_.NewId();
    former_ = {};
    BeginBacklog(offset_);
    engine_.propagation.set_fed(true);
    engine_.log.Log(LogLevel::kNotice,
                    "Replication backlog created, my new replication IDs are '{}' and '{}'",
                    engine_.replication_id, former_.id);
  }
  session.BecomeReplica();
  session.source = &peer;
  AskForCut(peer);
}

bool Primary::TryPartial(Peer& peer, std::string_view id, int64_t offset) {
  const bool same = EqualsIgnoreCase(id, engine_.replication_id);
  const bool former = EqualsIgnoreCase(id, former_.id) && offset <= former_.end_offset;
  if (!same && !former) {
    if (id != "?") {
      engine_.log.Log(LogLevel::kNotice,
                      "Partial resynchronization not accepted: Replication ID mismatch (Replica "
                      "asked for '{}', my replication IDs are '{}' and '{}')",
                      id, engine_.replication_id, former_.id);
    } else {
      engine_.log.Log(LogLevel::kNotice, "Full resync requested by replica {}", peer.address());
    }
    return false;
  }
  // `offset` is that of the first byte it wants.
  if (offset < 1 || !backlog_ || !backlog_->Holds(static_cast<uint64_t>(offset) - 1)) {
    engine_.log.Log(LogLevel::kNotice,
                    "Unable to partial resync with replica {} for lack of backlog (Replica request "
                    "was: {}).",
                    peer.address(), offset);
    return false;
  }
  Session& session = peer.session();
  session.BecomeReplica();
  session.source = &peer;
  session.output.Append(peer.takes_psync2 ? "+CONTINUE " + engine_.replication_id + "\r\n"
                                          : std::string("+CONTINUE\r\n"));
  const uint64_t position = static_cast<uint64_t>(offset) - 1;
  engine_.log.Log(LogLevel::kNotice,
                  "Partial resynchronization request from {} accepted. Sending {} bytes of backlog "
                  "starting from offset {}.",
                  peer.address(), backlog_->end() - position, offset);
  peer.GoOnline(position);
  OnPeerOnline(peer);
  return true;
}

bool Primary::WithMark(const Peer& peer) const {
  return engine_.settings().repl_diskless_sync && peer.takes_eof;
}

void Primary::AskForCut(Peer& peer) {
  peer.WaitForCut();
  if (peer.without_data) {
    SendFileWithoutData(peer);
    return;
  }
  if (Joins(peer)) return;
  // Cuts are made between commands: not from in here.
  engine_.loop.Post([this, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) StartSnapshotIfDue();
  });
}

bool Primary::Joins(Peer& peer) {
  const std::shared_ptr<SyncFile> file = latest_.lock();
  if (file == nullptr || !backlog_ || !backlog_->Holds(file->cut_offset)) return false;
  engine_.log.Log(LogLevel::kNotice, "Replica {} joins the running copy", peer.address());
  AttachToFile(peer, file);
  return true;
}

void Primary::AttachToFile(Peer& peer, const std::shared_ptr<SyncFile>& file) {
  if (!peer.pre_psync) {
    peer.session().output.Append("+FULLRESYNC " + engine_.replication_id + " " +
                                 std::to_string(file->cut_offset) + "\r\n");
    peer.session().port->OutputReady();
  }
  peer.BeginFile(file);
  if (peer.state() == PeerState::kWaitsForFile && WithMark(peer)) peer.StartSending(true);
}

std::string Primary::NextPath() {
  return engine_.settings().dir + "/temp-sync-" + std::to_string(++files_) + "-" +
         std::to_string(engine_.process_id) + ".rdb";
}

void Primary::SendFileWithoutData(Peer& peer) {
  auto file = std::make_shared<SyncFile>(engine_, NextPath(), offset());
  RdbWriteOptions options;
  options.now_s = now_s();
  std::string bytes;
  StringByteSink sink(&bytes);
  RdbWriter writer(&sink, options);
  Status written = writer.Start();
  if (engine_.functions != nullptr && !peer.without_functions) {
    for (const std::string& source : engine_.functions->Sources()) {
      if (written.ok()) written = writer.FunctionLibrary(source);
    }
  }
  if (written.ok()) written = writer.Finish();
  if (written.ok()) {
    auto opened = engine_.env.OpenTruncate(file->path);
    written = opened.ok() ? (*opened)->Append(bytes) : opened.status();
  }
  if (!written.ok()) {
    engine_.log.Log(LogLevel::kWarning, "The copy for replica {}: {}", peer.address(),
                    written.message());
    peer.session().port->Close(false);
    return;
  }
  file->complete = true;
  file->size = bytes.size();
  AttachToFile(peer, file);
}

// --- the copy ---

bool Primary::SnapshotIsDue() const {
  const Settings& settings = engine_.settings();
  int64_t longest_s = -1;
  size_t waiting = 0;
  bool at_once = false;
  for (const auto& [id, peer] : peers_) {
    if (peer->state() != PeerState::kWaitsForCut) continue;
    ++waiting;
    longest_s = std::max(longest_s, now_s() - peer->asked_at_s);
    at_once = at_once || !WithMark(*peer);
  }
  if (waiting == 0) return false;
  if (at_once || settings.repl_diskless_sync_delay == 0) return true;
  const int most = settings.repl_diskless_sync_max_replicas;
  return longest_s >= settings.repl_diskless_sync_delay ||
         (most > 0 && waiting >= static_cast<size_t>(most));
}

void Primary::StartSnapshotIfDue() {
  if (running_ == nullptr && !engine_.loading && engine_.durability != nullptr && SnapshotIsDue())
    StartSnapshot();
}

void Primary::StartSnapshot() {
  const std::string path = NextPath();
  const Status started = engine_.durability->StartSyncSnapshot(
      {.path = path,
       .on_cut =
           [this, path] {
             // P3: what follows the cut brings its own SELECT.
             engine_.propagation.ResetSelectedDatabase();
             running_ = std::make_shared<SyncFile>(engine_, path, offset());
           },
       .on_done =
           [this](const Status& status) {
             // Those who wait hold the file too: it is let go last.
             const std::shared_ptr<SyncFile> file = std::exchange(running_, nullptr);
             OnSnapshotDone(file, status);
           }});
  if (!started.ok()) return;  // another snapshot runs: the next tick tries again
  engine_.log.Log(LogLevel::kNotice, "Starting a copy for replicas (cut at offset {})",
                  running_->cut_offset);
  latest_ = running_;
  OnCut();
}

void Primary::OnCut() {
  const std::shared_ptr<SyncFile> file = running_;
  for (const auto& [id, peer] : peers_) {
    if (peer->state() == PeerState::kWaitsForCut) AttachToFile(*peer, file);
  }
}

void Primary::OnSnapshotDone(const std::shared_ptr<SyncFile>& file, const Status& status) {
  uint64_t size = 0;
  Status outcome = status;
  if (outcome.ok()) {
    const Result<uint64_t> found = engine_.env.FileSize(file->path);
    if (found.ok()) {
      size = *found;
    } else {
      outcome = found.status();
    }
  }
  if (!outcome.ok()) {
    engine_.log.Log(LogLevel::kWarning, "The copy for replicas failed: {}", outcome.message());
    latest_.reset();
    std::vector<Session*> in_vain;
    for (const auto& [id, peer] : peers_) {
      if (peer->file() == file) in_vain.push_back(&peer->session());
    }
    for (Session* session : in_vain) session->port->Close(false);
    return;
  }
  file->complete = true;
  file->size = size;
  for (const auto& [id, peer] : peers_) {
    if (peer->file() == file) peer->OnFileComplete();
  }
}

void Primary::OnPeerOnline(Peer& peer) {
  engine_.log.Log(LogLevel::kNotice, "Synchronization with replica {} succeeded", peer.address());
}

// --- acknowledgements ---

void Primary::OnAck(Session& session, uint64_t offset) {
  Peer* peer = FindPeer(session);
  if (peer == nullptr || session.kind != SessionKind::kReplica) return;
  peer->OnAck(offset, now_s());
  if (!waiters_.empty()) WakeWaiters();
}

void Primary::AddWaiter(Session& session, uint64_t offset, size_t count,
                        void (*on_timeout)(CommandContext& ctx)) {
  // One that ended by its time may still be here.
  std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.session == session.id; });
  waiters_.push_back({session.id, offset, count, on_timeout});
}

Session* Primary::BlockedBy(const Waiter& waiter) const {
  Session* session = engine_.FindSession(waiter.session);
  const bool waits = session != nullptr && session->blocked != nullptr &&
                     session->blocked->request.on_timeout == waiter.on_timeout;
  return waits ? session : nullptr;
}

void Primary::RequestAcks() {
  if (acks_requested_) return;
  acks_requested_ = true;
  // After this turn's effects, on which the answer depends.
  engine_.loop.Post([this, alive = std::weak_ptr<int>(alive_)] {
    if (alive.expired()) return;
    acks_requested_ = false;
    const ClientPauses& pauses = engine_.pauses();
    acks_held_ = pauses.IsOn(PauseReason::kCommand) || pauses.IsOn(PauseReason::kFailover);
    if (!acks_held_ && !engine_.is_replica()) Feed(kGetAck);
  });
}

void Primary::WakeWaiters() {
  std::vector<Waiter> served;
  std::erase_if(waiters_, [&](const Waiter& waiter) {
    const bool done = CountAcked(waiter.offset) >= waiter.count;
    if (done) served.push_back(waiter);
    return done;
  });
  for (const Waiter& waiter : served) {
    // Its reply counts the acknowledgements, whether time or replicas ended its wait.
    if (Session* session = BlockedBy(waiter)) engine_.dispatcher->UnblockByTimeout(*session);
  }
}

// --- time ---

void Primary::Tick() {
  StartSnapshotIfDue();
  if (acks_held_) RequestAcks();
  const int64_t now_ms = engine_.loop.NowMillis();
  if (now_ms < next_second_ms_) return;
  next_second_ms_ = now_ms + kSecondMs;
  EverySecond();
}

void Primary::EverySecond() {
  const Settings& settings = engine_.settings();
  const int64_t now = now_s();
  ++seconds_;
  // Those whose time is over in WAIT have left: nobody wakes them again.
  std::erase_if(waiters_, [this](const Waiter& waiter) { return BlockedBy(waiter) == nullptr; });
  CheckPeers(now);
  if (engine_.is_replica()) return;
  const size_t replicas = replica_count();
  if (engine_.loading) {
    BeginTtl();
  } else if (replicas > 0) {
    const auto period = static_cast<uint64_t>(settings.repl_ping_replica_period);
    // A failover hands over to who has all: the offset must come to rest.
    if (seconds_ % period == 0 && !engine_.pauses().IsOn(PauseReason::kFailover)) Feed(kPing);
  } else if (backlog_ && settings.repl_backlog_ttl != 0 &&
             now - no_replicas_since_s_ > settings.repl_backlog_ttl) {
    // What is written from now on is in no backlog: the old names must not promise it.
    engine_.replication_id = engine_.NewId();
    former_ = {};
    DropBacklog();
    engine_.propagation.set_fed(false);
    engine_.log.Log(LogLevel::kNotice,
                    "Replication backlog freed after {} seconds without connected replicas.",
                    settings.repl_backlog_ttl);
  }
}

void Primary::CheckPeers(int64_t now) {
  const Settings& settings = engine_.settings();
  std::vector<Session*> gone;
  for (const auto& [id, peer] : peers_) {
    Session& session = peer->session();
    peer->NoteInput(now);
    switch (peer->state()) {
      case PeerState::kWaitsForCut:
      case PeerState::kWaitsForFile:
        // Tells the replica that the wait goes on.
        session.output.Append('\n');
        session.port->OutputReady();
        break;
      case PeerState::kOnline:
      case PeerState::kWaitsForAck:
        if (!peer->pre_psync && now - peer->acked_at_s > settings.repl_timeout) {
          engine_.log.Log(LogLevel::kWarning, "Disconnecting timedout replica (streaming sync): {}",
                          peer->address());
          gone.push_back(&session);
        }
        break;
      case PeerState::kSendsFile:
        if (engine_.loop.NowMillis() - peer->progress_at_ms > settings.repl_timeout * kSecondMs) {
          engine_.log.Log(LogLevel::kWarning, "Disconnecting timedout replica (full sync): {}",
                          peer->address());
          gone.push_back(&session);
        }
        break;
      case PeerState::kTold:
        break;
    }
  }
  for (Session* session : gone) session->port->Close(false);
}

}  // namespace cairn

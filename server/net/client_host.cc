#include "server/net/client_host.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "server/engine/client_report.h"
#include "server/engine/durability.h"
#include "server/engine/output_limit.h"
#include "server/net/socket_stream.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

// Cron looks at so many clients at least.
constexpr size_t kLeastLooks = 50;

constexpr std::string_view kProtectedModeLine =
    "DENIED Redis is running in protected mode because protected mode is enabled and no password "
    "is set for "
    "the default user. In this mode connections are only accepted from the loopback interface. If "
    "you want to "
    "connect from external computers to Redis you may adopt one of the following solutions: 1) "
    "Just disable "
    "protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface "
    "by "
    "connecting to Redis from the same host the server is running, however MAKE SURE Redis is not "
    "publicly "
    "accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) "
    "Alternatively "
    "you can just disable the protected mode by editing the Redis configuration file, and setting "
    "the protected "
    "mode option to 'no', and then restarting the server. 3) If you started the server manually "
    "just for "
    "testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication "
    "password for the "
    "default user. NOTE: You only need to do one of the above things in order for the server to "
    "start accepting "
    "connections from the outside.";

void TuneTcp(int fd, int keepalive_s, bool loopback) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (loopback) {
    // Where the system's default paces what it sends (bbr), a path inside the machine gains nothing
    // by it and pays a clock and a timer per segment. Every kernel has this one.
    constexpr std::string_view kUnpaced = "reno";
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
  }
  if (keepalive_s <= 0) return;
  const int interval = keepalive_s / 3 > 0 ? keepalive_s / 3 : 1;
  const int probes = 3;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof keepalive_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

}  // namespace

ClientHost::~ClientHost() {
  for (const auto& connection : connections_) engine_.DestroySession(connection->session_);
}

void ClientHost::Refuse(const Accepted& accepted, std::string_view line) {
  const std::string reply = "-" + std::string(line) + "\r\n";
  // Best effort: the socket is new and its buffer empty.
  [[maybe_unused]] const ssize_t sent =
      ::send(accepted.fd, reply.data(), reply.size(), MSG_NOSIGNAL);
  ::close(accepted.fd);
  ++engine_.stats.rejected_connections;
}

void ClientHost::OnAccept(const Accepted& accepted) {
  const Settings& settings = engine_.settings();
  if (open_ >= static_cast<size_t>(settings.maxclients)) {
    Refuse(accepted, resp_errors::kMaxClients);
    return;
  }
  if (settings.protected_mode && engine_.acl.default_user().needs_no_password() &&
      !accepted.loopback) {
    Refuse(accepted, kProtectedModeLine);
    return;
  }
  if (!accepted.unix_socket) TuneTcp(accepted.fd, settings.tcp_keepalive, accepted.loopback);
  auto stream = std::make_unique<SocketStream>(loop_, accepted.fd, accepted.peer, accepted.local);
  auto connection = std::make_unique<Connection>(*this, std::move(stream), &engine_.arena);
  Connection* raw = connection.get();
  if (Status started = raw->stream_->Start(raw); !started.ok()) {
    engine_.log.Log(LogLevel::kWarning,
                    "Error registering fd event for the new client: {} (addr: {})",
                    started.message(), accepted.peer);
    return;
  }
  raw->parser_.set_max_bulk_bytes(settings.proto_max_bulk_len);
  raw->session_ = engine_.CreateSession(raw, SessionKind::kNormal);
  raw->session_->peer_address = accepted.peer;
  raw->session_->local_address = accepted.local;
  raw->session_->unix_socket = accepted.unix_socket;
  raw->place_ = connections_.size();
  connections_.push_back(std::move(connection));
  ++open_;
  ++engine_.stats.connections_received;
}

void ClientHost::Enqueue(Connection* connection) {
  if (connection->in_ready_) return;
  connection->in_ready_ = true;
  ready_.push_back(connection);
}

void ClientHost::EnqueueFlush(Connection* connection) {
  if (connection->in_flush_) return;
  connection->in_flush_ = true;
  flush_.push_back(connection);
}

void ClientHost::OnParsed(Connection& connection) {
  connection.unparsed_ = false;
  if (!connection.parser_.waits_for_memory()) {
    // Its socket may have been looked at before this turn: between OnMemory() and now, or while a
    // script was busy.
    if (std::exchange(connection.reads_wait_, false)) connection.stream_->ResumeReads();
    return;
  }
  if (connection.in_cold_) return;
  connection.in_cold_ = true;
  cold_.push_back(&connection);
}

void ClientHost::OnMemory() {
  for (Connection* connection : std::exchange(cold_, {})) {
    connection->in_cold_ = false;
    if (connection->parser_.waits_for_memory() && !connection->parser_.memory_came()) {
      OnParsed(*connection);
    } else {
      connection->InputReady();
    }
  }
}

void ClientHost::AnswerBusy(Connection& connection) {
  engine_.dispatcher->RunBusy(*connection.session_, connection.parser_);
  OnParsed(connection);
  if (connection.peer_ended_) {
    connection.CloseAtEnd();
  } else {
    CheckLimits(connection);
  }
}

void ClientHost::ServeWhileBusy() {
  const Session* const caller = engine_.script->caller;
  if (!engine_.script->served) {
    engine_.script->served = true;
    // What came in the same turn as the script would wait behind it, perhaps a SCRIPT KILL.
    engine_.dispatcher->AnswerBatchBusy();
    for (Connection* connection : running_) {
      if (connection->session_ != caller) AnswerBusy(*connection);
    }
    RunBusyTurn();
  }
  OnMemory();
  loop_.RunSocketsNoWait();
}

// The turn inside of a turn: no effects to hand over.
void ClientHost::RunBusyTurn() {
  const Session* const caller = engine_.script->caller;
  std::vector<Connection*> later;
  for (Connection* connection : std::exchange(ready_, {})) {
    // What a session was kept from runs when the script is over.
    const Session& session = *connection->session_;
    if (&session == caller || (!session.suspended && !session.deferred.empty())) {
      later.push_back(connection);
      continue;
    }
    connection->in_ready_ = false;
    AnswerBusy(*connection);
  }
  ready_.insert(ready_.end(), later.begin(), later.end());
  later.clear();
  engine_.SettleTold();  // the effects of what the script has called so far are in the stream
  const uint64_t durable =
      engine_.durability != nullptr ? engine_.durability->DurableOffset() : UINT64_MAX;
  for (Connection* connection : std::exchange(flush_, {})) {
    if (connection->session_ == caller) {
      later.push_back(connection);
      continue;
    }
    connection->in_flush_ = false;
    // Effects are handed over when the script is over. Who waits for some is looked at again then:
    // held, it would be told only of progress that was asked for.
    if (!connection->Flush(durable)) EnqueueFlush(connection);
    if (connection->peer_ended_) connection->CloseAtEnd();
  }
  flush_.insert(flush_.end(), later.begin(), later.end());
  RemoveClosed();
}

// The loop tells of an end when the script is over, and many may come and go until then. Those
// whose input the turn around this one runs stay as long.
void ClientHost::RemoveClosed() {
  for (Connection* connection : std::exchange(closed_, {})) {
    if (connection->session_ != engine_.script->caller &&
        std::ranges::find(running_, connection) == running_.end())
      Remove(connection);
  }
}

void ClientHost::RunTurn() {
  if (engine_.script != nullptr) return RunBusyTurn();
  if (!ready_.empty()) {
    std::vector<Connection*> ready;
    ready.swap(ready_);
    turn_.clear();
    for (Connection* connection : ready) {
      connection->in_ready_ = false;
      connection->parser_.set_max_bulk_bytes(engine_.settings().proto_max_bulk_len);
      turn_.push_back({connection->session_, &connection->parser_});
    }
    running_ = ready;
    engine_.dispatcher->RunTurn(turn_);
    running_.clear();
    for (Connection* connection : ready) {
      OnParsed(*connection);
      if (connection->peer_ended_) {
        connection->CloseAtEnd();
      } else {
        CheckLimits(*connection);
      }
      CountMemory(*connection);
    }
    // Keep the vector's capacity for the next turn.
    ready.clear();
    if (ready_.empty()) ready_.swap(ready);
  }
  EndTurn();
  FlushAll();
  EvictClients();
  WakeIfPending();
  if (engine_.stop_requested) loop_.Stop();
}

void ClientHost::EndTurn() {
  engine_.EndOfTurn();
  if (engine_.durability != nullptr) engine_.durability->EndOfTurn();
}

void ClientHost::WakeIfPending() {
  // What became ready in this turn (a client served by another's push) must not wait for the next
  // event of a socket.
  engine_.EndOfTurn();
  if (!ready_.empty() || !flush_.empty()) loop_.Post([] {});
}

void ClientHost::FlushOrHold(Connection* connection, uint64_t durable) {
  connection->in_flush_ = false;
  if (connection->Flush(durable) || connection->in_held_) return;
  connection->in_held_ = true;
  held_.push_back(connection);
}

// Output of one piece, nearly all there is, leaves with one system call for all clients.
void ClientHost::FlushAll() {
  if (flush_.empty()) return;
  const uint64_t durable =
      engine_.durability != nullptr ? engine_.durability->DurableOffset() : UINT64_MAX;
  std::vector<Connection*> flush;
  flush.swap(flush_);
  sent_.resize(flush.size());
  for (size_t i = 0; i < flush.size(); ++i) {
    const std::string_view whole = flush[i]->WholeOutput(durable);
    sent_[i].batched = !whole.empty();
    if (sent_[i].batched) loop_.batch().AddSend(flush[i]->fd(), whole, &sent_[i].result);
  }
  loop_.batch().Run();
  for (size_t i = 0; i < flush.size(); ++i) {
    Connection* const connection = flush[i];
    if (sent_[i].batched) {
      connection->in_flush_ = false;
      connection->Sent(sent_[i].result);
    } else {
      FlushOrHold(connection, durable);
    }
    if (connection->peer_ended_) connection->CloseAtEnd();
    const Session& session = *connection->session_;
    if (!session.output.empty() || session.source != nullptr) CheckLimits(*connection);
    CountMemory(*connection);
  }
  flush.clear();
  if (flush_.empty()) flush_.swap(flush);
}

void ClientHost::ReleaseHeld() {
  const bool lost = engine_.durability != nullptr && engine_.durability->HeldRepliesAreLost();
  std::vector<Connection*> held;
  held.swap(held_);
  for (Connection* connection : held) {
    connection->in_held_ = false;
    if (lost) {
      connection->CloseNow();
    } else {
      EnqueueFlush(connection);
    }
  }
  held.clear();
  held_.swap(held);  // keeps the capacity: nothing is held before the flush
  // What was told outside of a turn too is in the log's hands before anybody waits for it.
  EndTurn();
  FlushAll();
}

void ClientHost::CheckLimits(Connection& connection) {
  Session& session = *connection.session_;
  if (session.closing) return;
  const Settings& settings = engine_.settings();
  if (connection.parser_.buffered_bytes() >
      static_cast<uint64_t>(settings.client_query_buffer_limit)) {
    engine_.log.Log(
        LogLevel::kWarning,
        "Closing client that reached max query buffer length: id={} addr={} (qbuf {} bytes)",
        session.id, session.peer_address, connection.parser_.buffered_bytes());
    ++engine_.stats.query_buffer_limit_disconnections;
    connection.CloseNow();
    return;
  }
  if (IsOverOutputLimit(engine_, session)) connection.CloseNow();
}

void ClientHost::CheckIdle(Connection& connection, int64_t now_ms) {
  Session& session = *connection.session_;
  const int timeout_s = engine_.settings().timeout;
  // Those who wait or listen are silent on purpose.
  const bool listens = session.kind != SessionKind::kNormal || session.monitor;
  if (timeout_s > 0 && !session.suspended && !listens &&
      now_ms - session.last_interaction_ms > timeout_s * 1000LL) {
    engine_.log.Log(LogLevel::kVerbose, "Closing idle client");
    connection.CloseNow();
    return;
  }
  const int64_t idle_ms = now_ms - session.last_interaction_ms;
  if (idle_ms > 2000) connection.parser_.ShrinkIfIdle();
  const DebugSwitches& debug = engine_.debug;
  if (debug.reply_buffer_resizing && debug.reply_buffer_peak_reset_ms >= 0 &&
      idle_ms > debug.reply_buffer_peak_reset_ms) {
    session.output.ShrinkIfIdle();
  }
}

void ClientHost::Cron(int per_second) {
  engine_.RefreshClock();
  engine_.EndDuePauses();
  const size_t share = connections_.size() / static_cast<size_t>(per_second) + 1;
  const size_t looks = std::min(connections_.size(), std::max(share, kLeastLooks));
  for (size_t i = 0; i < looks; ++i) {
    if (next_look_ >= connections_.size()) next_look_ = 0;
    Connection& connection = *connections_[next_look_++];
    if (connection.session_->closing) continue;
    CheckIdle(connection, engine_.now_ms());
    CheckLimits(connection);
    CountMemory(connection);
    NotePeaks(*connection.session_);
  }
  EvictClients();
}

void ClientHost::NotePeaks(const Session& session) {
  const int64_t now_s = engine_.now_ms() / 1000;
  engine_.stats.input_buffer.Sample(now_s, session.port->query_capacity());
  engine_.stats.output_buffer.Sample(now_s, CountedOutput(session));
}

uint64_t ClientHost::ClientsLimit() const {
  const Settings& settings = engine_.settings();
  if (settings.maxmemory_clients == 0) return 0;
  uint64_t limit = static_cast<uint64_t>(settings.maxmemory_clients);
  if (settings.maxmemory_clients < 0) {  // per cent of maxmemory
    const auto percent = static_cast<double>(-settings.maxmemory_clients);
    limit = static_cast<uint64_t>(static_cast<double>(settings.maxmemory) * percent / 100);
    if (limit == 0) return 0;
  }
  return std::max(limit, kLeastClientsBytes);
}

void ClientHost::CountMemory(Connection& connection) {
  if (!counts_memory_) return;
  const Session& session = *connection.session_;
  // What is closing is as good as gone; replicas have limits of their own.
  const bool counts = !session.closing && session.kind != SessionKind::kReplica;
  // Values that replies refer to count in full, as in Redis, which copies them.
  const size_t bytes = counts ? session.MemoryUsage() + session.output.referenced_bytes() : 0;
  clients_bytes_ += bytes - connection.counted_bytes_;
  connection.counted_bytes_ = bytes;
}

void ClientHost::EvictClients() {
  const uint64_t limit = ClientsLimit();
  if (limit == 0) {
    counts_memory_ = false;
    return;
  }
  if (!counts_memory_) {
    counts_memory_ = true;
    clients_bytes_ = 0;
    for (const auto& connection : connections_) {
      connection->counted_bytes_ = 0;
      CountMemory(*connection);
    }
  }
  if (clients_bytes_ <= limit) return;
  std::vector<Connection*> evictable;
  for (const auto& connection : connections_) {
    if (connection->counted_bytes_ > 0 && !connection->session_->no_evict)
      evictable.push_back(connection.get());
  }
  const auto smaller = [](const Connection* a, const Connection* b) {
    return a->counted_bytes_ < b->counted_bytes_;
  };
  std::make_heap(evictable.begin(), evictable.end(), smaller);
  while (clients_bytes_ > limit && !evictable.empty()) {
    std::pop_heap(evictable.begin(), evictable.end(), smaller);
    Connection* greediest = evictable.back();
    evictable.pop_back();
    const Session& session = *greediest->session_;
    engine_.log.Log(LogLevel::kNotice, "Evicting client: {}",
                    ClientLine(session, engine_.now_ms(), session.last_command, 0));
    ++engine_.stats.evicted_clients;
    greediest->CloseNow();
  }
}

void ClientHost::CloseAll() {
  ReleaseHeld();
  const uint64_t durable =
      engine_.durability != nullptr ? engine_.durability->DurableOffset() : UINT64_MAX;
  for (const auto& connection : connections_) {
    if (!connection->session_->closing) connection->Flush(durable);
    connection->CloseNow();
  }
}

void ClientHost::NoteClosed(Connection* connection) {
  --open_;
  if (engine_.script != nullptr) closed_.push_back(connection);
}

void ClientHost::Remove(Connection* connection) {
  std::erase(ready_, connection);
  std::erase(flush_, connection);
  std::erase(held_, connection);
  std::erase(cold_, connection);
  std::erase(closed_, connection);
  clients_bytes_ -= std::min<uint64_t>(clients_bytes_, connection->counted_bytes_);
  engine_.DestroySession(connection->session_);
  const size_t place = connection->place_;
  std::swap(connections_[place], connections_.back());
  connections_[place]->place_ = place;
  connections_.pop_back();
}

}  // namespace cairn

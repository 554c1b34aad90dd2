#include "server/replication/replica.h"

#include <algorithm>
#include <utility>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

constexpr int64_t kSecondMs = 1000;
constexpr int64_t kMaxPrimaryBulkBytes = int64_t{4} << 30;

}  // namespace

ReplicaLink::ReplicaLink(Engine& engine, Connector& connector, Primary& primary,
                         FormerHistory& former, LinkListener& listener)
    : engine_(engine),
      connector_(connector),
      primary_(primary),
      former_(former),
      listener_(listener) {}

ReplicaLink::~ReplicaLink() {
  loading_.reset();  // runs the load to its end, as given up
  if (writer_ != nullptr) writer_->Stop();
  if (session_ != nullptr) engine_.DestroySession(session_);
}

void ReplicaLink::SetState(LinkState state) {
  state_ = state;
  listener_.OnLinkChanged();
}

// --- whom it follows ---

void ReplicaLink::Follow(const std::string& host, int port, bool failover) {
  if (follows()) Drop("another primary is followed");
  host_ = host;
  port_ = port;
  failover_ = failover;
  engine_.log.Log(LogLevel::kNotice, "Connecting to MASTER {}:{}", host_, port_);
  SetState(LinkState::kConnect);
  Connect();
}

void ReplicaLink::Unfollow() {
  if (!follows()) return;
  Drop("no primary is followed any more");
  may_continue_ = false;
  down_since_s_ = 0;
  host_.clear();
  port_ = 0;
  SetState(LinkState::kNone);
}

void ReplicaLink::Connect() {
  last_attempt_ms_ = last_heard_ms_ = engine_.loop.NowMillis();
  SetState(LinkState::kConnecting);
  connecting_ = connector_.Connect(
      {.host = host_, .port = port_, .source_address = engine_.settings().bind_source_addr}, this,
      [this](Result<std::unique_ptr<Stream>> stream) { OnConnected(std::move(stream)); });
}

void ReplicaLink::OnConnected(Result<std::unique_ptr<Stream>> stream) {
  connecting_.reset();
  if (!stream.ok()) {
    Drop(stream.status().message());
    return;
  }
  stream_ = std::move(*stream);
  lines_.clear();
  output_.clear();
  last_heard_ms_ = engine_.loop.NowMillis();
  steps_ = {Step::kPing};
  SetState(LinkState::kHandshake);
  Send({"PING"});
}

void ReplicaLink::Drop(std::string_view why) {
  if (running_) {
    close_wanted_ = true;
    return;
  }
  if (state_ == LinkState::kLoads) {
    // The copy is whole: it is loaded all the same, and the stream asked for again.
    close_wanted_ = true;
    return;
  }
  engine_.log.Log(LogLevel::kNotice, "MASTER <-> REPLICA link to {}:{}: {}", host_, port_, why);
  connecting_.reset();
  if (stream_ != nullptr) {
    // It may be calling us right now: it goes when the loop turns.
    std::shared_ptr<Stream> dying(std::move(stream_));
    dying->Close();
    engine_.loop.Post([dying] {});
  }
  if (state_ == LinkState::kConnected) down_since_s_ = engine_.env.WallMicros() / 1000000;
  AbandonCopy();
  if (session_ != nullptr) {
    // S2: what was not run is asked for again.
    selected_db_ = session_->db;
    engine_.DestroySession(std::exchange(session_, nullptr));
    parser_.reset();
    reserved_ = {};
    raw_.clear();
  }
  lines_.clear();
  output_.clear();
  close_wanted_ = ack_wanted_ = false;
  SetState(LinkState::kConnect);
}

void ReplicaLink::Close(bool) {
  // Whoever closes may be walking over the sessions: this one goes when the loop turns.
  if (session_ == nullptr) return;
  session_->closing = true;
  engine_.loop.Post([this, id = session_->id, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired() && session_ != nullptr && session_->id == id) Drop("closed by command");
  });
}

void ReplicaLink::OnEnd(const Status& reason) {
  Drop(reason.ok() ? std::string_view("the primary closed the connection") : reason.message());
}

// --- bytes ---

std::span<char> ReplicaLink::ReadBuffer() {
  if (engine_.script != nullptr) {
    // A script is over its time, of a client here or of the primary, and the loop turns inside of
    // it. What the primary sends is neither run in the middle of it nor refused: it waits in the
    // kernel. Posted jobs run when the script has ended.
    engine_.loop.Post([this, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired() && stream_ != nullptr) stream_->ResumeReads();
    });
    return {};
  }
  if (state_ == LinkState::kLoads) return {};
  if (state_ == LinkState::kReceivesCopy && being_written_ + unwritten_.size() > kMaxUnwrittenBytes)
    return {};
  if (state_ == LinkState::kConnected) {
    if (HeldByPause()) return {};
    reserved_ = parser_->Reserve(kReadBytes);
    return reserved_;
  }
  input_.resize(kReadBytes);
  return input_;
}

void ReplicaLink::OnRead(size_t size) {
  last_heard_ms_ = engine_.loop.NowMillis();
  engine_.stats.net_input_bytes += size;
  engine_.stats.net_repl_input_bytes += size;
  if (state_ == LinkState::kConnected) {
    raw_.append(reserved_.data(), size);
    received_ += size;
    session_->received_bytes += size;
    parser_->Commit(size);
    RunStream();
    return;
  }
  const std::string_view bytes(input_.data(), size);
  if (state_ == LinkState::kReceivesCopy) {
    OnCopyBytes(bytes);
    return;
  }
  lines_.append(bytes);
  OnLines();
}

void ReplicaLink::OnLines() {
  while (state_ == LinkState::kHandshake || state_ == LinkState::kAwaitsPsync ||
         state_ == LinkState::kAwaitsCopy) {
    const size_t end = lines_.find('\n');
    if (end == std::string::npos) {
      if (lines_.size() > kMaxLinkLineBytes) Drop("the primary's line is too long");
      return;
    }
    std::string line = lines_.substr(0, end);
    lines_.erase(0, end + 1);
    if (line.ends_with('\r')) line.pop_back();
    if (!OnLine(line)) return;
  }
  // Behind the last line: the beginning of the copy, or of the stream.
  if (lines_.empty()) return;
  const std::string rest = std::exchange(lines_, {});
  if (state_ == LinkState::kReceivesCopy) {
    OnCopyBytes(rest);
  } else if (state_ == LinkState::kConnected) {
    for (std::string_view left = rest; !left.empty() && session_ != nullptr;) {
      const std::span<char> room = parser_->Reserve(kReadBytes);
      const size_t size = std::min(room.size(), left.size());
      std::copy_n(left.data(), size, room.data());
      left.remove_prefix(size);
      raw_.append(room.data(), size);
      received_ += size;
      parser_->Commit(size);
      RunStream();
    }
  }
}

bool ReplicaLink::OnLine(std::string_view line) {
  switch (state_) {
    case LinkState::kHandshake:
      return OnHandshakeLine(line);
    case LinkState::kAwaitsPsync:
      return OnPsyncLine(line);
    default:
      return OnCopyHeader(line);
  }
}

void ReplicaLink::Send(std::initializer_list<std::string_view> words) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (std::string_view word : words) {
    bytes += "$" + std::to_string(word.size()) + "\r\n";
    bytes.append(word);
    bytes += "\r\n";
  }
  SendRaw(bytes);
}

void ReplicaLink::SendRaw(std::string_view bytes) {
  output_.append(bytes);
  FlushOutput();
}

void ReplicaLink::FlushOutput() {
  if (stream_ == nullptr || output_.empty()) return;
  const std::string_view piece = output_;
  const size_t taken = stream_->TryWrite({&piece, 1});
  engine_.stats.net_output_bytes += taken;
  output_.erase(0, taken);
}

void ReplicaLink::SendAck() {
  ack_wanted_ = false;
  Send({"REPLCONF", "ACK", std::to_string(primary_.offset())});
}

uint64_t ReplicaLink::read_offset() const { return primary_.offset() + raw_.size(); }

// --- handshake ---

bool ReplicaLink::OnHandshakeLine(std::string_view line) {
  if (line.empty()) return true;
  const Step step = steps_.front();
  steps_.pop_front();
  const bool error = line.starts_with('-');
  switch (step) {
    case Step::kPing:
      // A primary that wants a password, or one that knows commands under other names, is alive.
      // What is no reply is no primary.
      if (!line.starts_with('+') && !line.starts_with("-NOAUTH") && !line.starts_with("-NOPERM") &&
          !line.starts_with("-ERR operation not permitted")) {
        Drop("Error reply to PING from master: '" + std::string(line) + "'");
        return false;
      }
      SendIntroduction();
      break;
    case Step::kAuth:
      if (error) {
        Drop("Unable to AUTH to MASTER: " + std::string(line));
        return false;
      }
      break;
    case Step::kPort:
    case Step::kIp:
    case Step::kCapabilities:
      if (error) {
        engine_.log.Log(LogLevel::kNotice, "(Non critical) Master does not understand REPLCONF: {}",
                        line);
      }
      break;
  }
  if (steps_.empty()) {
    SendPsync();
    return state_ == LinkState::kAwaitsPsync;
  }
  return true;
}

void ReplicaLink::SendIntroduction() {
  const Settings& settings = engine_.settings();
  if (!settings.masterauth.empty()) {
    if (settings.masteruser.empty()) {
      Send({"AUTH", settings.masterauth});
    } else {
      Send({"AUTH", settings.masteruser, settings.masterauth});
    }
    steps_.push_back(Step::kAuth);
  }
  const int port =
      settings.replica_announce_port != 0 ? settings.replica_announce_port : settings.port;
  Send({"REPLCONF", "listening-port", std::to_string(port)});
  steps_.push_back(Step::kPort);
  if (!settings.replica_announce_ip.empty()) {
    Send({"REPLCONF", "ip-address", settings.replica_announce_ip});
    steps_.push_back(Step::kIp);
  }
  Send({"REPLCONF", "capa", "eof", "capa", "psync2"});
  steps_.push_back(Step::kCapabilities);
}

void ReplicaLink::SendPsync() {
  SetState(LinkState::kAwaitsPsync);
  if (!may_continue_) {
    engine_.log.Log(LogLevel::kNotice, "Partial resynchronization not possible (no cached master)");
    Send({"PSYNC", "?", "-1"});
    return;
  }
  const std::string next = std::to_string(primary_.offset() + 1);
  engine_.log.Log(LogLevel::kNotice, "Trying a partial resynchronization (request {}:{}).",
                  engine_.replication_id, next);
  if (failover_) {
    Send({"PSYNC", engine_.replication_id, next, "FAILOVER"});
  } else {
    Send({"PSYNC", engine_.replication_id, next});
  }
}

bool ReplicaLink::OnPsyncLine(std::string_view line) {
  using Kind = PsyncAnswer::Kind;
  const PsyncAnswer answer = ParsePsyncAnswer(line);
  if (answer.kind == Kind::kWait) return true;
  const bool granted = answer.kind == Kind::kContinue || answer.kind == Kind::kFullResync;
  if (std::exchange(failover_, false)) {
    listener_.OnPsyncAnswered(granted);
    // Refused: this server is a primary again.
    if (state_ != LinkState::kAwaitsPsync) return false;
  }
  switch (answer.kind) {
    case Kind::kContinue:
      return OnContinue(answer.id);
    case Kind::kFullResync:
      return OnFullResync(answer.id, answer.offset);
    case Kind::kRefused:
      engine_.log.Log(LogLevel::kNotice,
                      "Master does not support PSYNC or is in error state "
                      "(reply: {}): trying SYNC",
                      line);
      copy_id_ = engine_.NewId();
      copy_offset_ = 0;
      SetState(LinkState::kAwaitsCopy);
      SendRaw("SYNC\r\n");
      return true;
    default:
      Drop("MASTER answered PSYNC with: " + std::string(line));
      return false;
  }
}

bool ReplicaLink::OnContinue(std::string_view id) {
  if (!may_continue_) {
    Drop("the primary goes on with what was not asked for");
    return false;
  }
  engine_.log.Log(LogLevel::kNotice, "Successful partial resynchronization with master.");
  engine_.TellSupervisor(
      "STATUS=MASTER <-> REPLICA sync: Partial Resynchronization accepted. Ready to accept "
      "connections in read-write mode.\n");
  if (!id.empty() && id != engine_.replication_id) {
    // S3: the same history under a new name; what came before keeps the old one.
    former_ = {engine_.replication_id, static_cast<int64_t>(primary_.offset()) + 1};
    engine_.replication_id = id;
    engine_.log.Log(LogLevel::kNotice, "Master replication ID changed to {}", id);
    // Replicas of this server hear of it when they come back.
    primary_.DisconnectAll();
  }
  if (!primary_.has_backlog()) primary_.BeginBacklog(primary_.offset());
  BeginStream(selected_db_);
  return true;
}

bool ReplicaLink::OnFullResync(std::string_view id, uint64_t offset) {
  engine_.log.Log(LogLevel::kNotice, "Full resync from master: {}:{}", id, offset);
  copy_id_ = id;
  copy_offset_ = offset;
  SetState(LinkState::kAwaitsCopy);
  return true;
}

// --- the stream ---

void ReplicaLink::BeginStream(uint32_t db) {
  session_ = engine_.CreateSession(this, SessionKind::kPrimary);
  session_->db = db;
  session_->user = "(superuser)";
  session_->peer_address = stream_->peer_address();
  session_->local_address = stream_->local_address();
  parser_ = std::make_unique<RequestParser>(&memory_);
  // The primary may allow more than this server: but not what cannot be.
  parser_->set_max_bulk_bytes(
      std::max(engine_.settings().proto_max_bulk_len, kMaxPrimaryBulkBytes));
  raw_.clear();
  received_ = passed_on_ = run_ = 0;
  may_continue_ = true;
  SetState(LinkState::kConnected);
  SendAck();
}

/// While clients are paused the dataset stays as it is: the stream waits in the kernel.
bool ReplicaLink::HeldByPause() {
  engine_.EndDuePauses();
  if (engine_.is_paused()) engine_.HoldByPause(*session_);
  return session_->suspended;
}

void ReplicaLink::InputReady() {
  if (session_ == nullptr) return;
  // Whoever ends a pause may be in the middle of a turn.
  engine_.loop.Post([this, id = session_->id, alive = std::weak_ptr<int>(alive_)] {
    if (alive.expired() || session_ == nullptr || session_->id != id) return;
    stream_->ResumeReads();
    RunStream();
  });
}

void ReplicaLink::RunStream() {
  if (HeldByPause()) return;
  running_ = true;
  // Whether a key is there is the primary's to say, whatever its time.
  engine_.keyspace.set_lazy_expiry(false);
  ReadySession ready{session_, parser_.get()};
  engine_.dispatcher->RunTurn({&ready, 1});
  engine_.keyspace.set_lazy_expiry(true);
  running_ = false;
  session_->output.Clear();
  // What was run ahead of an open transaction is passed on as well: the primary would send it again
  // if the link broke now.
  if (!session_->in_transaction()) {
    run_ = received_ - parser_->buffered_bytes();
  } else if (const size_t from = std::exchange(session_->transaction.input_bytes, 0); from > 0) {
    run_ = received_ - from;  // its MULTI was in this turn
  }
  if (run_ > passed_on_) {
    const size_t size = static_cast<size_t>(run_ - passed_on_);
    primary_.Feed(std::string_view(raw_).substr(0, size));
    raw_.erase(0, size);
    passed_on_ = run_;
  }
  if (!parser_->error().empty()) {
    engine_.log.Log(LogLevel::kWarning, "Protocol error from the primary: {}", parser_->error());
    may_continue_ = false;
    close_wanted_ = true;
  }
  if (close_wanted_) {
    Drop("closed");
  } else if (ack_wanted_) {
    SendAck();
  }
}

// --- time ---

void ReplicaLink::Tick() {
  if (state_ == LinkState::kNone) return;
  const int64_t now_ms = engine_.loop.NowMillis();
  if (state_ == LinkState::kConnect) {
    if (now_ms - last_attempt_ms_ >= kSecondMs) Connect();
    return;
  }
  if (now_ms < next_second_ms_) return;
  next_second_ms_ = now_ms + kSecondMs;
  if (session_ != nullptr && session_->suspended) last_heard_ms_ = now_ms;  // nobody listens
  const int64_t limit_ms = engine_.settings().repl_timeout * kSecondMs;
  if (state_ != LinkState::kLoads && now_ms - last_heard_ms_ > limit_ms) {
    Drop(state_ == LinkState::kConnected ? "MASTER timeout: no data nor PING received..."
                                         : "Timeout connecting to the MASTER or receiving data "
                                           "from it");
    return;
  }
  if (state_ == LinkState::kConnected) {
    SendAck();
  } else if (state_ == LinkState::kReceivesCopy || state_ == LinkState::kLoads) {
    SendRaw("\n");  // alive, and busy
  }
}

}  // namespace cairn

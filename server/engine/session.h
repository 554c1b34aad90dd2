#pragma once

// Session: what the engine knows of one client: identity, database, protocol version,
// authentication, transaction, reply buffer. It knows nothing of sockets: SessionPort is its way
// down to the connection (server/net, or a fake in tests). A session without a port is internal:
// the loader of the append-only file, a module's call, a script. Thread: executor.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/bytes.h"
#include "server/engine/acl_user.h"
#include "server/engine/command_job.h"
#include "server/engine/reply_gate.h"
#include "server/protocol/reply_buffer.h"
#include "server/protocol/resp_parser.h"
#include "server/protocol/resp_writer.h"

namespace cairn {

class Session;
struct BlockedState;
struct CommandSpec;
struct Subscriptions;
struct TrackingState;

/// Where a session's output comes from once its buffer is empty: a replica is fed a file, then the
/// stream, at its own pace. Thread: executor.
class OutputSource {
 public:
  virtual ~OutputSource() = default;
  /// Appends the next bytes to session.output, or nothing while there are none. Whoever has more
  /// later calls port->OutputReady().
  virtual void Fill(Session& session) = 0;
  /// Bytes in memory that wait for this session beyond its buffer: they count against
  /// client-output-buffer-limit.
  virtual uint64_t waiting_bytes() const = 0;
  /// In how many pieces they lie.
  virtual size_t waiting_pieces() const = 0;
};

/// The connection below a session.
class SessionPort {
 public:
  virtual ~SessionPort() = default;
  /// There is output to send at the end of this turn. Idempotent.
  virtual void OutputReady() = 0;
  /// Closes now (pending output is dropped) or once what is buffered has been sent.
  virtual void Close(bool after_output) = 0;
  /// The session may run again (CLIENT PAUSE ended, its job has worked): hand it to the dispatcher
  /// in the next turn.
  virtual void InputReady() = 0;
  /// Fewer and larger packets, later (repl-disable-tcp-nodelay). Without a TCP socket: nothing.
  virtual void DelayPackets() {}
  virtual int fd() const = 0;
  /// Bytes held for reading: buffered now, and capacity (CLIENT LIST qbuf, qbuf-free).
  virtual size_t query_bytes() const = 0;
  virtual size_t query_capacity() const = 0;
};

/// A command whose arguments are owned: queued by MULTI, or kept while its session may not run.
struct OwnedCommand {
  const CommandSpec* spec = nullptr;
  std::vector<BlobRef> args;
  /// Its first half is done: what runs is the job's Finish.
  std::unique_ptr<CommandJob> job = nullptr;
  /// Copies `args`; those that `request` (may be null) holds in blobs of their own are shared.
  static OwnedCommand From(const CommandSpec* spec, std::span<const std::string_view> args,
                           const Request* request);
  /// The same command anew, its arguments shared, without a job.
  OwnedCommand Again() const { return {spec, args, nullptr}; }
  size_t MemoryUsage() const;
};

/// kPrimary: what runs there came from the primary this server follows; kInternal: from a file.
enum class SessionKind : uint8_t { kNormal, kReplica, kPubsub, kPrimary, kInternal };
enum class ReplyMode : uint8_t { kOn, kOff, kSkipNext, kSkipThis };

/// How many sessions with a connection there are, for who asks often. Kept by the sessions.
struct SessionCounts {
  size_t clients = 0;    ///< but for replicas
  size_t suspended = 0;  ///< replicas too
};

/// A bool of which `count` (borrowed, may be null) says how many are true.
class CountedFlag {
 public:
  explicit CountedFlag(size_t* count) : count_(count) {}
  ~CountedFlag() { *this = false; }
  CountedFlag(const CountedFlag&) = delete;
  CountedFlag& operator=(const CountedFlag&) = delete;
  CountedFlag& operator=(bool on) {
    if (count_ != nullptr) *count_ += size_t{on} - size_t{on_};
    on_ = on;
    return *this;
  }
  operator bool() const { return on_; }

 private:
  size_t* const count_;
  bool on_ = false;
};

/// One key a session watches.
struct WatchedKey {
  uint32_t db;
  std::string key;
  bool expired_at_watch;  ///< already past its TTL when watched: its lazy removal is no change
  size_t place;           ///< among the key's watchers (transaction.h, W1)
};

struct TransactionState {
  bool active = false;      ///< between MULTI and EXEC
  bool dirty_cas = false;   ///< a watched key changed
  bool dirty_exec = false;  ///< a queued command was refused
  std::vector<OwnedCommand> queue;
  uint64_t flags_union = 0;    ///< CommandFlag bits of all queued commands
  uint64_t flags_lacking = 0;  ///< bits that one of them or more has not
  size_t queue_bytes = 0;      ///< of the commands in `queue`
  size_t input_bytes = 0;      ///< what of the session's input was left to parse ahead of its MULTI
  std::vector<WatchedKey> watched;
};

class Session {
 public:
  /// `counts` (borrowed, may be null): where one with a connection is counted.
  Session(uint64_t session_id, SessionPort* connection, SessionKind session_kind,
          SessionCounts* counts = nullptr);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const uint64_t id;
  SessionKind kind;   ///< kReplica: only by BecomeReplica
  SessionPort* port;  ///< nullptr: internal

  ReplyBuffer output;
  RespWriter reply;  ///< writes into output; its version is HELLO's

  uint32_t db = 0;
  bool authenticated = true;
  std::string user = "default";  ///< name of acl
  /// Whose permissions it has; nullptr: an internal session, which may do everything. Set by Acl.
  const AclUser* acl = nullptr;
  std::string name;          ///< CLIENT SETNAME
  std::string peer_address;  ///< "ip:port", "[v6]:port" or "path:0"
  std::string local_address;
  bool unix_socket = false;

  int64_t created_ms = 0;           ///< wall clock
  int64_t last_interaction_ms = 0;  ///< wall clock
  const CommandSpec* last_command = nullptr;
  uint64_t commands = 0;
  uint64_t received_bytes = 0, sent_bytes = 0;

  ReplyMode reply_mode = ReplyMode::kOn;
  bool no_evict = false;
  bool close_after_reply = false;
  /// Its output is over a limit (output_limit.h): it closes with the next flush, and nothing of
  /// that output is sent. Implies close_after_reply.
  bool over_output_limit = false;
  bool closing = false;
  void BecomeReplica();
  /// What is said to it would be sent; else it is not to be written at all.
  bool TakesOutput() const { return !closing && !close_after_reply; }

  TransactionState transaction;

  /// Feeds `output` when it is empty; nullptr: commands alone do. Borrowed.
  OutputSource* source = nullptr;
  /// Offset of the replication stream behind this session's last command or transaction, whoever
  /// wrote what is before it (WAIT).
  uint64_t written_offset = 0;
  /// It has written since, in a command or transaction that is not over.
  bool wrote = false;
  /// What it runs was decided elsewhere and is not refused here: a primary's stream or a file.
  bool obeys() const { return kind == SessionKind::kPrimary || kind == SessionKind::kInternal; }

  /// What of `output` must wait for the append-only file.
  ReplyGate reply_gate;

  /// Requests parsed while the session may not run (CLIENT PAUSE, blocked): run in order when it
  /// may.
  std::deque<OwnedCommand> deferred;
  CountedFlag suspended;
  uint64_t job = 0;  ///< of JobRunner, while the session waits for it; 0 = none
  /// Waits inside a blocking command (blocking.h); implies suspended.
  std::unique_ptr<BlockedState> blocked;

  /// What it listens to (pubsub.h); nullptr: nothing yet.
  std::unique_ptr<Subscriptions> subscriptions;
  /// The keys it caches are tracked (tracking.h); nullptr: they are not.
  std::unique_ptr<TrackingState> tracking;
  /// It sees every command (monitor.h).
  bool monitor = false;
  /// A command runs whose reply will not be sent (CLIENT REPLY): pushes are kept apart from it.
  bool holds_pushes = false;
  bool told_in_turn = false;  ///< Engine::OutputAdded

  /// Where pushes are written: `output`, or the side buffer while a reply is to be dropped.
  ReplyBuffer& PushBuffer();
  /// Moves what PushBuffer kept apart to `output`.
  void ReleasePushes();
  /// Bytes that PushBuffer kept apart.
  size_t held_push_bytes() const { return held_pushes_ == nullptr ? 0 : held_pushes_->size(); }
  /// Takes back what was replied since `mark`, but not the pushes ahead of it: what a command did
  /// before it failed has been done, and whoever listens to itself hears of it.
  void TakeBackReply(ReplyBuffer::Mark mark);

  /// A message that is no reply, of `parts` parts, each written to writer(): a push in RESP3, an
  /// array in RESP2. CLIENT REPLY does not silence it.
  class Push {
   public:
    Push(Session& session, size_t parts) : writer_(&session.PushBuffer(), session.reply.version()) {
      writer_.PushHeader(parts);
    }
    RespWriter& writer() const { return writer_; }

   private:
    mutable RespWriter writer_;
  };

  /// When the output buffer first passed its soft limit (wall clock ms), 0 = below.
  int64_t soft_limit_since_ms = 0;

  /// CLIENT PAUSE is over. False when the session was not suspended by it.
  bool EndPause() {
    if (!suspended || job != 0 || blocked != nullptr) return false;
    suspended = false;
    return true;
  }
  bool in_transaction() const { return transaction.active; }
  /// Something it sent before is not answered yet: what comes now waits behind that.
  bool has_unanswered() const { return suspended || !deferred.empty(); }
  /// Nothing about this session keeps a plain command (command_table.h) from running at once:
  /// every state that gates commands of a session must be named here.
  bool RunsAtOnce() const {
    return authenticated && !transaction.active && kind == SessionKind::kNormal && !monitor &&
           (acl == nullptr || acl->unrestricted());
  }
  /// Pauses hold clients, not those that stand for replicas. A primary's stream waits as a whole.
  bool MayBePaused() const {
    return (kind == SessionKind::kNormal || kind == SessionKind::kPubsub) && !monitor;
  }
  /// The peer is on this machine: unix socket or loopback (enable-debug-command local).
  bool IsLocal() const;
  /// Bytes this client costs, as CLIENT LIST tot-mem counts them.
  size_t MemoryUsage() const;

 private:
  CountedFlag client_;  // has a connection and is no replica
  std::unique_ptr<ReplyBuffer> held_pushes_;
};

}  // namespace cairn

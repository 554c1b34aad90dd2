#pragma once

// Dispatcher: runs requests. One turn of the loop hands it all sessions that have input; it parses
// their requests in batches, resolves commands, hashes first keys and prefetches buckets and
// entries for the whole batch, then executes strictly in order per session. It is the one place
// that decides whether a command may run (arity, authentication, transaction, loading, memory, disk
// errors), that writes error lines, counts, and hands effects to Propagation. Thread: executor.

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "server/engine/command_context.h"
#include "server/engine/command_table.h"
#include "server/engine/engine.h"
#include "server/engine/memory_limit.h"

namespace cairn {

struct BlockLine;

/// Requests looked at together by the prefetch passes.
inline constexpr size_t kBatchRequests = 32;
/// Keys prefetched together; those of a longer command beyond are looked up unprepared.
inline constexpr size_t kBatchKeys = 64;

/// A command that takes this long lets the clock be read again before the next one: the clock's
/// own grain.
inline constexpr double kClockStaleMicros = 1000;

/// A session with bytes to parse.
struct ReadySession {
  Session* session;
  RequestParser* parser;
};

class Dispatcher {
 public:
  explicit Dispatcher(Engine& engine) : engine_(engine), memory_limit_(engine) {}

  /// Runs everything the parsers hold. Sessions may be marked closing; none is destroyed here.
  void RunTurn(std::span<ReadySession> ready);

  /// Runs one command given as strings on an internal or test session (loader, modules, scripts).
  /// The reply goes to session.output. Returns false when the command is unknown.
  bool RunArgs(Session& session, std::span<const std::string_view> args);

  /// Runs what a session had to keep while it was suspended (CLIENT PAUSE ended). Stops early when
  /// it is suspended again.
  void RunDeferred(Session& session);

  /// Runs one command of a script: the reply is in scope.session->output. Errors: the gates refused
  /// it; the line is counted and nothing was replied. Requires: inside RunScript.
  Status RunScriptCommand(ScriptScope& scope, std::span<const std::string_view> args);
  /// Runs a script or function (`run`) as one unit: its commands do not wait, its effects go out
  /// together, the clock stands still. Errors: what it declares may not be done now, though the
  /// gates let its command pass; it did not run.
  Status RunScript(ScriptScope& scope, const std::function<void()>& run);

  /// While a script is over its time: runs what `parser` holds; most is answered with -BUSY.
  void RunBusy(Session& session, RequestParser& parser);
  /// The same for what other clients sent in the batch of the running script.
  void AnswerBatchBusy();

  /// EXEC: runs the queue as one unit. Called by the EXEC handler.
  Status ExecuteTransaction(CommandContext& exec);

  /// maxmemory, as commands are held to it.
  MemoryLimit& memory_limit() { return memory_limit_; }

  /// EXEC is running its queue, or a script its commands.
  bool in_exec() const { return in_exec_; }

  /// Ends the waiting of a blocked session as its timeout would (CLIENT UNBLOCK id TIMEOUT).
  void UnblockByTimeout(Session& session);
  /// Ends it with an error line (CLIENT UNBLOCK id ERROR).
  void UnblockWithError(Session& session, std::string_view line);
  /// Ends the waiting of all whose deadline has come. Called by the timer of BlockingTable.
  void UnblockDue();
  /// Asks those who wait for keys that went outside a command (expired, evicted) and has their
  /// answers sent. Called by the timers that remove keys.
  void ServeBetweenCommands();
  /// The role of this server changed: nobody waits on, and their connections close (Redis 7.0,
  /// REPLICAOF).
  void UnblockAll();

  /// Effects of a change made outside a command (expiry): DEL or UNLINK into the stream.
  void PropagateRemoval(uint32_t db, std::string_view key, bool lazy);

 private:
  struct Pending {
    Session* session = nullptr;
    Request request;
    Command* command = nullptr;
    Command* container = nullptr;  // set when the container is known but the subcommand is not
    uint32_t first_hash = 0;       // its keys' hashes in key_hashes_
    uint32_t hash_count = 0;
    size_t input_bytes = 0;  // of its session, not parsed ahead of it
    bool done = false;       // answered ahead of its turn, while a script kept the server
  };
  // What a request may do. Of EXEC: what any of its queue does.
  struct RequestFlags {
    uint64_t all = 0;      // CommandFlag bits of one or more
    uint64_t lacking = 0;  // bits that one or more has not
    bool exec = false;     // EXEC of a transaction
  };
  // What holds for all plain commands (command_table.h) until one that is not plain has run. Looked
  // up once a batch, so that nobody pays per command for states that are rare.
  struct Gates {
    bool open = false;       // nothing but the session's own state can keep a plain command back
    bool may_hold = false;   // writes must ask Durability::HoldsWrites
    bool held_back = false;  // replies wait for the append-only file
    bool fed = false;        // replicas are fed: WAIT wants to know how far the stream was
  };

  size_t FillBatch(std::span<ReadySession> ready, size_t* next);
  void Prepare(Pending& pending);
  void PrepareKeys(Pending& pending, Database& db);
  void PrefetchForBatch(size_t count);
  void PrefetchMembers(size_t count);
  void RunPending(Pending& pending);
  void ReadGates();
  /// The gates. True when the command may run now; otherwise it was answered, queued or deferred.
  bool Admit(Session& session, Command* command, Command* container,
             std::span<const std::string_view> args, const Request* request);
  Status CheckForm(Command* command, Command* container,
                   std::span<const std::string_view> args) const;
  Status CheckProtected(const Session& session, const Command& command) const;
  RequestFlags FlagsOf(const Session& session, const Command& command,
                       std::span<const std::string_view> args) const;
  Status CheckState(Session& session, const Command& command, const RequestFlags& flags);
  Status CheckWritable() const;
  Status CheckScriptWrites() const;
  Status CheckDiskOfReplica(const RequestFlags& flags);
  bool HeldForDisk(const Session& session, const RequestFlags& flags) const;
  bool HeldByPause(const Session& session, const RequestFlags& flags);
  static Status CheckSubscriber(const Session& session, const Command& command);
  void Call(CommandContext& ctx, Command& command);
  /// One command of EXEC.
  void RunQueued(Session& session, OwnedCommand& owned, std::span<const std::string_view> args);
  /// Once for each call, also of one that waits or goes on on a worker: when it begins to.
  void CountCall(Session& session, Command& command);
  /// `served` false: it waited for nothing, which says nothing of how long the command takes.
  void CountOutcome(Command& command, uint64_t ticks, bool failed, bool served = true);
  void SettleReplyMode(Session& session, ReplyBuffer::Mark mark);
  void AfterCommand(Session& session);
  void Track(Session& session, const Command& command, std::span<const std::string_view> args);
  /// CLIENT CACHING speaks of the next command that is not a CLIENT, refused or not, or of a whole
  /// transaction. `command`: nullptr for an unknown one. Requires: the session tracks.
  void EndCaching(Session& session, const Command* command);
  // dispatcher_observe.cc
  /// The session is the one on which the running script's commands run.
  bool IsScript(const Session& session) const;
  void Observe(const Session& session, const Command& command,
               std::span<const std::string_view> args, uint64_t ticks, bool blocked);
  void ObserveDuration(const Session& session, const Command& command,
                       std::span<const std::string_view> args, uint64_t ticks);
  Status CheckQueued(const Session& session, const Command& command,
                     std::span<const std::string_view> args);
  // dispatcher_script.cc
  void RunBusyRequest(Session& session, const Request& request);
  Status CheckScript(const ScriptScope& scope) const;
  Status CheckScriptCommand(ScriptScope& scope, const Command* command,
                            std::span<const std::string_view> args);
  // dispatcher_blocking.cc
  template <typename Reply>
  void Answer(Session& session, Reply&& answer, bool served = true);
  bool AskWaiter(Session& session, const BlockLine& line);
  void ServeReadyKeys();
  void Reject(Session& session, Command* command, std::span<const std::string_view> args,
              const Status& status);
  void SendError(Session& session, const Status& status);
  /// `tells_of_data`: the reply may rest on any write so far.
  void FinishReply(Session& session, bool tells_of_data);
  void Propagate(CommandContext& ctx);
  // dispatcher_replication.cc
  void NoteWritten(Session& session) const {
    if (session.wrote || gates_.fed) NoteWrittenNow(session);
  }
  void NoteWrittenNow(Session& session) const;
  void DropFed(Session& session, std::string_view sent) const;

  Engine& engine_;
  std::vector<Pending> batch_;
  size_t batch_at_ = 0, batch_size_ = 0;
  std::array<uint64_t, kBatchKeys> key_hashes_;
  size_t hashes_used_ = 0;
  bool looks_into_values_ = false;  // a command of the batch has a member_arg
  Gates gates_;
  bool in_turn_ = false;
  Session* flushing_ = nullptr;  // asked its port for a flush since the gates were read; in a turn
  uint64_t last_ticks_ = 0;
  uint64_t errors_seen_ = 0;          // error replies before the innermost command that runs
  uint64_t resolved_generation_ = 0;  // of the command table, when the batch was prepared
  bool in_exec_ = false;
  bool over_memory_ =
      false;  // when the last gate was passed: holds for EXEC and scripts as a whole
  MemoryLimit memory_limit_;
};

}  // namespace cairn

// Whether a command may run now: its form, who sends it and what state the server is in.

#include <algorithm>
#include <utility>

#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/protocol/error_text.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

bool EndsTransaction(std::string_view name) {
  return name == "exec" || name == "discard" || name == "quit" || name == "reset";
}

// Commands that act on the transaction itself and so are never queued in it. `name` is the full
// one: "slowlog|reset" is not among them.
bool ControlsTransaction(std::string_view name) {
  return EndsTransaction(name) || name == "multi" || name == "watch";
}

// Before an answer to a command that is not called: a SKIP asked for before it is of this one.
ReplyBuffer::Mark BeginUncalled(Session& session) {
  if (session.reply_mode == ReplyMode::kSkipNext) session.reply_mode = ReplyMode::kSkipThis;
  return session.output.Here();
}

}  // namespace

void Dispatcher::ReadGates() {
  flushing_ = nullptr;
  const Durability* durability = engine_.durability;
  gates_.open = !engine_.loading && !engine_.is_paused() && engine_.settings().maxmemory == 0 &&
                (durability == nullptr || durability->WriteRefusal().ok());
  gates_.fed = engine_.propagation.enabled() && !engine_.propagation.only_logged();
  gates_.may_hold = durability != nullptr && durability->MayHoldWrites();
  if (const ReplicaFeed* replicas = engine_.replicas; replicas != nullptr) {
    if (replicas->is_replica() && !replicas->link_is_up()) gates_.open = false;
    // A write may be refused: it takes the long way.
    if (replicas->is_replica() || !replicas->has_enough_replicas()) gates_.may_hold = true;
  }
  // What is said while a script runs does not rest on its effects, which cannot leave before its
  // end.
  gates_.held_back =
      durability != nullptr && engine_.script == nullptr && durability->GatesReplies();
}

Status Dispatcher::CheckForm(Command* command, Command* container,
                             std::span<const std::string_view> args) const {
  if (command == nullptr) {
    if (container != nullptr) return UnknownSubcommand(container->spec->name, args[1]);
    return UnknownCommand(args[0], args.subspan(1));
  }
  if (!FitsArity(*command, args.size()) || command->spec->handler == nullptr)
    return WrongArity(command->full_name);
  return Status::Ok();
}

Status Dispatcher::CheckProtected(const Session& session, const Command& command) const {
  if (!(command.flags & kCmdProtected) || session.obeys()) return Status::Ok();
  const bool is_module = command.full_name.starts_with("module");
  const Settings& settings = engine_.settings();
  const GuardedAccess access =
      is_module ? settings.enable_module_command : settings.enable_debug_command;
  if (access == GuardedAccess::kYes || (access == GuardedAccess::kLocal && session.IsLocal()))
    return Status::Ok();
  return Status::Client(
      std::string("ERR ") + (is_module ? "MODULE" : "DEBUG") +
      " command not allowed. If the enable-" + (is_module ? "module" : "debug") +
      "-command option is set to \"local\", you can run it from a local connection, otherwise you "
      "need to set this option in the configuration file, and then restart the server.");
}

Dispatcher::RequestFlags Dispatcher::FlagsOf(const Session& session, const Command& command,
                                             std::span<const std::string_view> args) const {
  uint64_t own = command.flags;
  if (command.spec->find_flags != nullptr) own = command.spec->find_flags(engine_, own, args);
  RequestFlags flags{own, ~own, session.in_transaction() && command.spec->name == "exec"};
  if (flags.exec) {
    flags.all |= session.transaction.flags_union;
    flags.lacking |= session.transaction.flags_lacking;
  }
  return flags;
}

Status Dispatcher::CheckState(Session& session, const Command& command, const RequestFlags& flags) {
  // What a log replays or a primary sends was admitted when it was first run: refusing it now
  // would lose data.
  if (session.kind == SessionKind::kInternal) return Status::Ok();
  if (session.kind == SessionKind::kPrimary) return CheckDiskOfReplica(flags);
  const bool write = flags.all & kCmdWrite;
  // A transaction in the making takes memory without bound, whatever its commands do.
  const bool deny_oom = (flags.all & kCmdDenyOom) ||
                        (session.in_transaction() && !EndsTransaction(command.full_name));
  // Nothing is evicted while a script waits for its clients to be served.
  if (engine_.script == nullptr) {
    over_memory_ = !memory_limit_.Hold();
    if (over_memory_ && deny_oom) return RespError(resp_errors::kOom);
  }
  if ((write || command.spec->name == "ping") && engine_.durability != nullptr) {
    CAIRN_RETURN_IF_ERROR(engine_.durability->WriteRefusal());
  }
  if (write && engine_.replicas != nullptr) CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (session.kind == SessionKind::kPubsub) [[unlikely]]
    CAIRN_RETURN_IF_ERROR(CheckSubscriber(session, command));
  if (engine_.is_stale() && (flags.lacking & kCmdStale)) return RespError(resp_errors::kMasterDown);
  if (engine_.loading && (flags.lacking & kCmdLoading)) return RespError(resp_errors::kLoading);
  if (engine_.script != nullptr && !(command.flags & kCmdAllowBusy)) [[unlikely]]
    return BusyRefusal(*engine_.script);
  // Monitors count as replicas.
  if ((session.monitor || session.kind == SessionKind::kReplica) &&
      (flags.all & (kCmdWrite | kCmdReadonly | kCmdMayReplicate))) [[unlikely]]
    return Status::Client("ERR Replica can't interact with the keyspace");
  return Status::Ok();
}

// Those who listen in RESP2 could not tell a reply from a message.
Status Dispatcher::CheckSubscriber(const Session& session, const Command& command) {
  if (session.reply.version() != 2) return Status::Ok();
  static constexpr std::string_view kAllowed[] = {"ping",         "subscribe",    "ssubscribe",
                                                  "unsubscribe",  "sunsubscribe", "psubscribe",
                                                  "punsubscribe", "quit",         "reset"};
  if (std::find(std::begin(kAllowed), std::end(kAllowed), command.full_name) != std::end(kAllowed))
    return Status::Ok();
  return Status::Client("ERR Can't execute '" + command.full_name +
                        "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
                        "allowed in this context");
}

bool Dispatcher::Admit(Session& session, Command* command, Command* container,
                       std::span<const std::string_view> args, const Request* request) {
  session.last_command = command != nullptr ? command->spec : nullptr;
  if (command == nullptr && container == nullptr &&
      (EqualsIgnoreCase(args[0], "post") || EqualsIgnoreCase(args[0], "host:"))) {
    // A browser was led to send an HTTP request here: hang up before its body is taken for
    // commands.
    engine_.log.Log(LogLevel::kWarning,
                    "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or "
                    "Host: commands "
                    "to Redis. Connection aborted.");
    if (session.port != nullptr) session.port->Close(false);
    return false;
  }
  if (Status form = CheckForm(command, container, args); !form.ok()) {
    Reject(session, command, args, form);
    return false;
  }
  if (Status guarded = CheckProtected(session, *command); !guarded.ok()) {
    Reject(session, command, args, guarded);
    return false;
  }
  if (!session.authenticated && !(command->flags & kCmdNoAuth) && !engine_.acl.open()) {
    Reject(session, command, args, RespError(resp_errors::kNoAuth));
    return false;
  }
  // A log and a primary put what one command did between MULTI and EXEC.
  if (session.in_transaction() && (command->flags & kCmdNoMulti) &&
      (session.kind == SessionKind::kNormal || session.kind == SessionKind::kPubsub)) {
    Reject(session, command, args, RespError(resp_errors::kNotInMulti));
    return false;
  }
  if (session.acl != nullptr && !session.acl->unrestricted()) [[unlikely]] {
    if (const AclDecision decision = Acl::Check(session, *command, args); !decision.allowed()) {
      engine_.acl.NoteRequest(
          session, decision, *command, args,
          session.in_transaction() ? AclContext::kMulti : AclContext::kToplevel);
      Reject(session, command, args, Acl::Refusal(decision, *command));
      return false;
    }
  }
  const RequestFlags flags = FlagsOf(session, *command, args);
  if (Status state = CheckState(session, *command, flags); !state.ok()) {
    Reject(session, command, args, state);
    return false;
  }
  if (engine_.is_paused() && HeldByPause(session, flags)) {
    if (request != nullptr)
      session.deferred.push_back(OwnedCommand::From(command->spec, args, request));
    engine_.HoldByPause(session);
    return false;
  }
  if (HeldForDisk(session, flags)) {
    if (request != nullptr)
      session.deferred.push_back(OwnedCommand::From(command->spec, args, request));
    engine_.HoldSession(session);
    return false;
  }
  if (session.in_transaction() && !in_exec_ && !ControlsTransaction(command->full_name)) {
    TransactionState& transaction = session.transaction;
    // One that will not run takes no memory.
    if (!transaction.dirty_exec && !transaction.dirty_cas) {
      transaction.flags_union |= flags.all;
      transaction.flags_lacking |= flags.lacking;
      transaction.queue.push_back(OwnedCommand::From(command->spec, args, request));
      transaction.queue_bytes += transaction.queue.back().MemoryUsage();
    }
    const ReplyBuffer::Mark mark = BeginUncalled(session);
    session.reply.SimpleString("QUEUED");
    SettleReplyMode(session, mark);
    FinishReply(session, /*tells_of_data=*/false);
    return false;
  }
  return true;
}

bool Dispatcher::HeldByPause(const Session& session, const RequestFlags& flags) {
  engine_.EndDuePauses();
  if (!session.MayBePaused()) return false;
  const PauseMode mode = engine_.pauses().mode();
  return mode == PauseMode::kAll ||
         (mode == PauseMode::kWrites && (flags.all & (kCmdWrite | kCmdMayReplicate)));
}

// What only queues in a transaction is not held: its EXEC is.
bool Dispatcher::HeldForDisk(const Session& session, const RequestFlags& flags) const {
  if (!gates_.may_hold || !session.MayBePaused() || session.port == nullptr) return false;
  if (session.in_transaction() && !flags.exec) return false;
  const bool may_write =
      (flags.all & kCmdWrite) || ((flags.all & kCmdMayReplicate) && !(flags.all & kCmdReadonly));
  return may_write && engine_.durability->HoldsWrites();
}

void Dispatcher::Reject(Session& session, Command* command, std::span<const std::string_view> args,
                        const Status& status) {
  if (command != nullptr) ++command->counters.rejected;
  if (session.source != nullptr) [[unlikely]] {
    DropFed(session, status.message());
    return;
  }
  const ReplyBuffer::Mark mark = BeginUncalled(session);
  if (command != nullptr && command->spec->name == "exec") {
    // A refused EXEC ends the transaction, and says so.
    engine_.watches.UnwatchAll(session);
    session.transaction = TransactionState();
    SendError(session, Status::Client("EXECABORT Transaction discarded because of: " +
                                      std::string(WithoutErr(status.message()))));
    // Monitors saw its MULTI and none of its commands: they are told that it is over.
    engine_.monitors.Feed(session.db, &session, *command->spec, args);
  } else {
    if (session.in_transaction()) session.transaction.dirty_exec = true;
    SendError(session, status);
  }
  if (session.tracking != nullptr) EndCaching(session, command);
  SettleReplyMode(session, mark);
  FinishReply(session, /*tells_of_data=*/false);
}

void Dispatcher::SendError(Session& session, const Status& status) {
  engine_.stats.CountError(status.message());
  session.reply.StatusReply(status);
  if (session.kind == SessionKind::kPrimary && engine_.replicas != nullptr) [[unlikely]] {
    const CommandSpec* command = session.last_command;
    engine_.replicas->OnPrimaryCommandFailed(status.message(),
                                             command != nullptr ? command->name : "unknown");
  }
}

}  // namespace cairn

// Whether a command may run now: its form, who sends it and what state the server is in.

#include <algorithm>
#include <utility>

#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

// Commands that act on the transaction itself and so are never queued in it. `name` is the full
// one: "slowlog|reset" is not among them.
bool ControlsTransaction(std::string_view name) {
  return name == "exec" || name == "discard" || name == "multi" || name == "watch" ||
         name == "quit" || name == "reset";
}

}  // namespace

void Dispatcher::ReadGates() {
  flushing_ = nullptr;
  const Durability* durability = engine_.durability;
  gates_.open = !engine_.loading && engine_.pause_mode == PauseMode::kNone &&
                engine_.settings().maxmemory == 0 &&
                (durability == nullptr || durability->WriteRefusal().ok());
  gates_.may_hold = durability != nullptr && durability->MayHoldWrites();
  if (const ReplicaFeed* replicas = engine_.replicas; replicas != nullptr) {
    if (replicas->is_replica() && !replicas->link_is_up()) gates_.open = false;
    // A write may be refused: it takes the long way.
    if (replicas->is_replica() || !replicas->has_enough_replicas()) gates_.may_hold = true;
  }
  gates_.throttled = durability != nullptr && durability->MayThrottle();
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

Status Dispatcher::CheckState(Session& session, const Command& command) {
  // What a log replays or a primary sends was admitted when it was first run: refusing it now
  // would lose data.
  if (session.kind == SessionKind::kInternal) return Status::Ok();
  if (session.kind == SessionKind::kPrimary) return CheckDiskOfReplica(command);
  const bool exec = command.spec->name == "exec" && session.in_transaction();
  const uint64_t queued = exec ? session.transaction.flags_union : 0;
  const bool write = (command.flags | queued) & kCmdWrite;
  // A transaction in the making takes memory without bound, whatever its commands do.
  const bool deny_oom = ((command.flags | queued) & kCmdDenyOom) ||
                        (session.in_transaction() && !ControlsTransaction(command.full_name));
  // Nothing is evicted while a script waits for its clients to be served.
  if (engine_.script == nullptr && !memory_limit_.Hold() && deny_oom)
    return RespError(resp_errors::kOom);
  if ((write || command.spec->name == "ping") && engine_.durability != nullptr) {
    CAIRN_RETURN_IF_ERROR(engine_.durability->WriteRefusal());
  }
  if (write && engine_.replicas != nullptr) CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (session.kind == SessionKind::kPubsub || session.monitor ||
      session.kind == SessionKind::kReplica) [[unlikely]]
    CAIRN_RETURN_IF_ERROR(CheckListener(session, command));
  if (engine_.is_stale() && !((command.flags | queued) & kCmdStale)) {
    return RespError(resp_errors::kMasterDown);
  }
  if (engine_.loading && !((command.flags | queued) & kCmdLoading)) {
    return RespError(resp_errors::kLoading);
  }
  if (engine_.script != nullptr && !(command.flags & kCmdAllowBusy)) [[unlikely]]
    return BusyRefusal(*engine_.script);
  return Status::Ok();
}

// Those who listen in RESP2 could not tell a reply from a message; monitors count as replicas.
Status Dispatcher::CheckListener(const Session& session, const Command& command) {
  if (session.kind == SessionKind::kPubsub && session.reply.version() == 2) {
    static constexpr std::string_view kAllowed[] = {"ping",         "subscribe",    "ssubscribe",
                                                    "unsubscribe",  "sunsubscribe", "psubscribe",
                                                    "punsubscribe", "quit",         "reset"};
    if (std::find(std::begin(kAllowed), std::end(kAllowed), command.full_name) ==
        std::end(kAllowed)) {
      return Status::Client("ERR Can't execute '" + command.full_name +
                            "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
                            "allowed in this context");
    }
  }
  if ((session.monitor || session.kind == SessionKind::kReplica) &&
      (command.flags & (kCmdWrite | kCmdReadonly | kCmdMayReplicate)))
    return Status::Client("ERR Replica can't interact with the keyspace");
  return Status::Ok();
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
    Reject(session, command, form);
    return false;
  }
  if (Status guarded = CheckProtected(session, *command); !guarded.ok()) {
    Reject(session, command, guarded);
    return false;
  }
  if (!session.authenticated && !(command->flags & kCmdNoAuth) && !engine_.acl.open()) {
    Reject(session, command, RespError(resp_errors::kNoAuth));
    return false;
  }
  // A log puts what one command did between MULTI and EXEC.
  // A log and a primary put what one command did between MULTI and EXEC.
  if (session.in_transaction() && (command->flags & kCmdNoMulti) &&
      (session.kind == SessionKind::kNormal || session.kind == SessionKind::kPubsub)) {
    Reject(session, command, RespError(resp_errors::kNotInMulti));
    return false;
  }
  if (session.acl != nullptr && !session.acl->unrestricted()) [[unlikely]] {
    if (const AclDecision decision = Acl::Check(session, *command, args); !decision.allowed()) {
      engine_.acl.NoteRequest(
          session, decision, *command, args,
          session.in_transaction() ? AclContext::kMulti : AclContext::kToplevel);
      Reject(session, command, Acl::Refusal(decision, *command));
      return false;
    }
  }
  if (Status state = CheckState(session, *command); !state.ok()) {
    Reject(session, command, state);
    return false;
  }
  if (engine_.pause_mode != PauseMode::kNone && session.MayBePaused() &&
      engine_.IsPaused(command->flags & (kCmdWrite | kCmdMayReplicate)) && !session.pause_exempt) {
    if (request != nullptr)
      session.deferred.push_back(OwnedCommand::From(command->spec, args, request));
    session.suspended = true;
    return false;
  }
  if (HeldForSnapshot(session, *command)) {
    if (request != nullptr)
      session.deferred.push_back(OwnedCommand::From(command->spec, args, request));
    engine_.HoldSession(session);
    return false;
  }
  if (session.in_transaction() && !in_exec_ && !ControlsTransaction(command->full_name)) {
    session.transaction.flags_union |= command->flags;
    session.transaction.queue.push_back(OwnedCommand::From(command->spec, args, request));
    session.transaction.queue_bytes += session.transaction.queue.back().MemoryUsage();
    session.reply.SimpleString("QUEUED");
    FinishReply(session);
    return false;
  }
  return true;
}

// What only queues in a transaction is not held: its EXEC is.
bool Dispatcher::HeldForSnapshot(const Session& session, const Command& command) const {
  if (!gates_.may_hold || !session.MayBePaused() || session.port == nullptr) return false;
  const bool exec = session.in_transaction() && command.spec->name == "exec";
  if (session.in_transaction() && !exec) return false;
  const uint64_t flags = command.flags | (exec ? session.transaction.flags_union : 0);
  const bool may_write =
      (flags & kCmdWrite) || ((flags & kCmdMayReplicate) && !(flags & kCmdReadonly));
  return may_write && engine_.durability->HoldsWrites();
}

void Dispatcher::Reject(Session& session, Command* command, const Status& status) {
  if (command != nullptr) ++command->counters.rejected;
  if (session.source != nullptr) [[unlikely]] {
    DropFed(session, status.message());
    return;
  }
  if (command != nullptr && command->spec->name == "exec") {
    // A refused EXEC ends the transaction, and says so.
    engine_.watches.UnwatchAll(session);
    session.transaction = TransactionState();
    std::string_view why = status.message();
    if (why.starts_with("ERR ")) why.remove_prefix(4);
    SendError(session,
              Status::Client("EXECABORT Transaction discarded because of: " + std::string(why)));
  } else {
    if (session.in_transaction()) session.transaction.dirty_exec = true;
    SendError(session, status);
  }
  if (session.tracking != nullptr) EndCaching(session, command);
  FinishReply(session);
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

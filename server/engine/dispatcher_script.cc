// The dispatcher's part in scripts: the gates that a script's commands pass in place of a client's,
// in Redis 7.0's order and words (script.c), the second look at a script that was queued, and what
// clients are told while a script keeps the server.

#include <utility>

#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/script_scope.h"

namespace cairn {

namespace {

constexpr std::string_view kRunsFunction =
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";

constexpr std::string_view kAofError = "MISCONF Errors writing to the AOF file: ";

Status Refused(std::string_view text) { return Status::Client("ERR " + std::string(text)); }

std::string_view AclWords(AclVerdict verdict) {
  switch (verdict) {
    case AclVerdict::kCommand:
      return "The user executing the script can't run this command or subcommand";
    case AclVerdict::kKey:
      return "The user executing the script can't access at least one of the keys mentioned in the "
             "command arguments";
    case AclVerdict::kChannel:
      return "The user executing the script can't publish to the channel mentioned in the command";
    default:
      return "The user executing the script is lacking the permissions for the command";
  }
}

// The refusal of writes in the words for a script that may write.
Status DiskRefusal(const Status& refusal) {
  const std::string_view why = refusal.message();
  constexpr std::string_view kBlocked =
      "but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' "
      "flag for read only scripts.";
  if (!why.starts_with(kAofError)) {
    return Status::Client("MISCONF Redis is configured to save RDB snapshots, " +
                          std::string(kBlocked));
  }
  return Status::Client("MISCONF Redis is configured to persist data to AOF, " +
                        std::string(kBlocked) +
                        " AOF error: " + std::string(why.substr(kAofError.size())));
}

}  // namespace

Status BusyRefusal(const ScriptScope& scope) {
  return RespError(scope.is_eval ? resp_errors::kBusyScript : kRunsFunction);
}

Status Dispatcher::CheckScriptCommand(ScriptScope& scope, const Command* command,
                                      std::span<const std::string_view> args) {
  if (command == nullptr) return Refused("Unknown Redis command called from script");
  if (!FitsArity(*command, args.size()) || command->spec->handler == nullptr)
    return Refused("Wrong number of args calling Redis command from script");
  if ((command->flags & kCmdNoScript) && !engine_.debug.deny_scripts_disabled)
    return Refused("This Redis command is not allowed from script");
  if (engine_.is_stale() && !(command->flags & kCmdStale))
    return Refused("Can not execute the command on a stale replica");
  const Session& caller = *scope.caller;
  if (caller.acl != nullptr && !caller.acl->unrestricted()) [[unlikely]] {
    if (const AclDecision decision = Acl::Check(caller, *command, args); !decision.allowed()) {
      engine_.acl.NoteRequest(caller, decision, *command, args, AclContext::kScript);
      return Refused(AclWords(decision.verdict));
    }
  }
  if (scope.read_only && (command->flags & (kCmdWrite | kCmdMayReplicate)))
    return Refused("Write commands are not allowed from read-only scripts.");
  // What follows a first write belongs to it.
  if ((command->flags & kCmdWrite) && !scope.wrote && !caller.obeys())
    CAIRN_RETURN_IF_ERROR(CheckScriptWrites());
  // Once it has written it must be let finish.
  if ((command->flags & kCmdDenyOom) && scope.over_memory && !scope.wrote &&
      !(scope.flags & kScriptAllowOom)) {
    return RespError(resp_errors::kOom);
  }
  return Status::Ok();
}

// Whether the server takes writes at all, in the order in which Redis asks.
Status Dispatcher::CheckScriptWrites() const {
  if (engine_.is_replica()) CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (engine_.durability != nullptr) CAIRN_RETURN_IF_ERROR(engine_.durability->WriteRefusal());
  return engine_.replicas != nullptr ? CheckWritable() : Status::Ok();
}

Status Dispatcher::RunScriptCommand(ScriptScope& scope, std::span<const std::string_view> args) {
  Command* command = engine_.commands.Recall(args[0]);
  Command* container = nullptr;
  if (command == nullptr) command = engine_.commands.Resolve(args, &container);
  if (Status refused = CheckScriptCommand(scope, command, args); !refused.ok()) {
    if (command != nullptr) ++command->counters.rejected;
    engine_.stats.CountError(refused.message());
    errors_seen_ = engine_.stats.total_error_replies;
    return refused;
  }
  if (command->flags & kCmdWrite) scope.wrote = true;
  last_ticks_ = TickClock::Now();
  CommandContext ctx(engine_, *scope.session, *command->spec, args);
  Call(ctx, *command);
  return Status::Ok();
}

// EXEC passed the gates with what was known of the script when it was queued; a command before it
// in the transaction may have defined it or changed the server's state. Only a writing script that
// was called by an _RO command comes here otherwise.
Status Dispatcher::CheckScript(const ScriptScope& scope) const {
  if (scope.caller->obeys()) return Status::Ok();
  const bool stale = engine_.is_stale();
  if (scope.flags & kScriptCompat)
    return stale ? RespError(resp_errors::kMasterDown) : Status::Ok();
  if (stale && !(scope.flags & kScriptAllowStale)) {
    return Status::Client(
        "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and "
        "'allow-stale' flag is not set on the script.");
  }
  if (scope.flags & kScriptNoWrites) return Status::Ok();
  if (engine_.is_replica() && engine_.settings().replica_read_only) {
    return Status::Client("READONLY Can not run script with write flag on readonly replica");
  }
  if (engine_.durability != nullptr) {
    if (const Status refusal = engine_.durability->WriteRefusal(); !refusal.ok())
      return DiskRefusal(refusal);
  }
  if (scope.read_only)
    return Refused("Can not execute a script with write flag using *_ro command.");
  if (engine_.replicas != nullptr) CAIRN_RETURN_IF_ERROR(CheckWritable());
  if (scope.over_memory && !(scope.flags & kScriptAllowOom)) {
    return Status::Client(
        "OOM allow-oom flag is not set on the script, can not run it when used memory > "
        "'maxmemory'");
  }
  return Status::Ok();
}

Status Dispatcher::RunScript(ScriptScope& scope, const std::function<void()>& run) {
  scope.over_memory = over_memory_ && engine_.settings().maxmemory != 0 && !scope.caller->obeys();
  CAIRN_RETURN_IF_ERROR(CheckScript(scope));
  ScriptScope* const outer_script = std::exchange(engine_.script, &scope);
  const bool outer_exec = std::exchange(in_exec_, true);
  run();
  in_exec_ = outer_exec;
  engine_.script = outer_script;
  return Status::Ok();
}

void Dispatcher::RunBusyRequest(Session& session, const Request& request) {
  Command* container = nullptr;
  Command* const command = engine_.commands.Resolve(request.args, &container);
  if (session.has_unanswered()) {
    session.deferred.push_back(
        OwnedCommand::From(command ? command->spec : nullptr, request.args, &request));
    return;
  }
  // The script's own state is not theirs: they may queue, and no reply waits for its effects.
  const bool outer_exec = std::exchange(in_exec_, false);
  const Gates outer_gates = gates_;
  gates_.held_back = false;
  flushing_ = nullptr;
  if (Admit(session, command, container, request.args, &request)) {
    last_ticks_ = TickClock::Now();
    CommandContext ctx(engine_, session, *command->spec, request.args);
    ctx.request_ = &request;
    Call(ctx, *command);
  }
  gates_ = outer_gates;
  flushing_ = nullptr;
  in_exec_ = outer_exec;
}

void Dispatcher::RunBusy(Session& session, RequestParser& parser) {
  Request request;
  while (!session.closing && !session.close_after_reply) {
    parser.set_authenticated(session.authenticated);
    const ParseResult result = parser.Next(&request);
    if (result == ParseResult::kRequest) {
      RunBusyRequest(session, request);
      continue;
    }
    if (result == ParseResult::kProtocolError && !session.has_unanswered()) {
      engine_.stats.CountError(parser.error());
      session.reply.Error(parser.error());
      session.close_after_reply = true;
      session.port->OutputReady();
    }
    return;
  }
}

void Dispatcher::AnswerBatchBusy() {
  for (size_t i = batch_at_ + 1; i < batch_size_; ++i) {
    Pending& pending = batch_[i];
    Session& session = *pending.session;
    if (&session == engine_.script->caller || pending.done) continue;
    pending.done = true;
    if (!session.closing && !session.close_after_reply) RunBusyRequest(session, pending.request);
  }
}

}  // namespace cairn

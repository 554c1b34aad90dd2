#include "server/engine/dispatcher.h"

#include <utility>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

// Commands that act on the transaction itself and so are never queued in it.
bool ControlsTransaction(std::string_view name) {
  return name == "exec" || name == "discard" || name == "multi" || name == "watch" ||
         name == "quit" || name == "reset";
}

}  // namespace

// --- turn: parse, prepare, execute ---

void Dispatcher::RunTurn(std::span<ReadySession> ready) {
  if (batch_.empty()) batch_.resize(kBatchRequests);
  for (ReadySession& each : ready) {
    if (!each.session->suspended && !each.session->deferred.empty()) RunDeferred(*each.session);
  }
  size_t next = 0;
  while (true) {
    const size_t count = FillBatch(ready, &next);
    if (count == 0) return;
    engine_.RefreshClock();
    memory_checked_ = false;
    for (size_t i = 0; i < count; ++i) Prepare(batch_[i]);
    if (count > 1) {
      for (size_t i = 0; i < count; ++i) {
        if (batch_[i].hashed)
          engine_.keyspace.db(batch_[i].session->db).PrefetchEntry(batch_[i].key_hash);
      }
    }
    last_ticks_ = TickClock::Now();
    for (size_t i = 0; i < count; ++i) RunPending(batch_[i]);
  }
}

size_t Dispatcher::FillBatch(std::span<ReadySession> ready, size_t* next) {
  size_t count = 0;
  while (*next < ready.size() && count < kBatchRequests) {
    Session& session = *ready[*next].session;
    RequestParser& parser = *ready[*next].parser;
    if (session.closing || session.close_after_reply || session.suspended) {
      ++*next;
      continue;
    }
    Pending& pending = batch_[count];
    pending.session = &session;
    parser.set_authenticated(session.authenticated);
    switch (parser.Next(&pending.request)) {
      case ParseResult::kRequest:
        ++count;
        // The next header's limits depend on whether this request authenticates.
        if (!session.authenticated) return count;
        break;
      case ParseResult::kNeedMore:
        ++*next;
        break;
      case ParseResult::kProtocolError:
        // Replies to requests before the broken one go first.
        if (count > 0) return count;
        engine_.stats.CountError(parser.error());
        session.reply.Error(parser.error());
        session.close_after_reply = true;
        session.port->OutputReady();
        ++*next;
        break;
    }
  }
  return count;
}

void Dispatcher::Prepare(Pending& pending) {
  Command* container = nullptr;
  pending.command = engine_.commands.Resolve(pending.request.args, &container);
  pending.container = container;
  pending.hashed = false;
  if (pending.command == nullptr) return;
  const int first = pending.command->first_key;
  if (first <= 0 || pending.request.args.size() <= static_cast<size_t>(first)) return;
  Database& db = engine_.keyspace.db(pending.session->db);
  pending.key_hash = db.MakeKey(pending.request.args[static_cast<size_t>(first)]).hash;
  pending.hashed = true;
  db.PrefetchBucket(pending.key_hash);
}

void Dispatcher::RunPending(Pending& pending) {
  Session& session = *pending.session;
  if (session.closing || session.close_after_reply) return;
  const Request& request = pending.request;
  if (session.suspended) {
    session.deferred.push_back(OwnedCommand::From(pending.command ? pending.command->spec : nullptr,
                                                  request.args, &request));
    return;
  }
  session.last_interaction_ms = engine_.now_ms();
  if (!Admit(session, pending.command, pending.container, request.args, &request)) return;
  CommandContext ctx(engine_, session, *pending.command->spec, request.args);
  ctx.request_ = &request;
  if (pending.hashed) {
    ctx.first_key_index_ = static_cast<size_t>(pending.command->first_key);
    ctx.first_key_hash_ = pending.key_hash;
  }
  Call(ctx, *pending.command);
}

void Dispatcher::RunDeferred(Session& session) {
  engine_.RefreshClock();
  memory_checked_ = false;
  last_ticks_ = TickClock::Now();
  while (!session.deferred.empty() && !session.suspended && !session.closing &&
         !session.close_after_reply) {
    OwnedCommand owned = std::move(session.deferred.front());
    session.deferred.pop_front();
    std::vector<std::string_view> args;
    for (const BlobRef& arg : owned.args) args.push_back(arg.view());
    Command* container = nullptr;
    Command* command = engine_.commands.Resolve(args, &container);
    const size_t kept = session.deferred.size();
    if (!Admit(session, command, container, args, nullptr)) {
      // Suspended once more: Admit had no request to keep, so the command goes back to the front.
      if (session.suspended && session.deferred.size() == kept)
        session.deferred.push_front(std::move(owned));
      continue;
    }
    CommandContext ctx(engine_, session, *command->spec, args);
    ctx.owned_ = &owned;
    Call(ctx, *command);
  }
}

bool Dispatcher::RunArgs(Session& session, std::span<const std::string_view> args) {
  Command* container = nullptr;
  Command* command = engine_.commands.Resolve(args, &container);
  last_ticks_ = TickClock::Now();
  memory_checked_ = false;
  if (Admit(session, command, container, args, nullptr)) {
    CommandContext ctx(engine_, session, *command->spec, args);
    Call(ctx, *command);
  }
  return command != nullptr;
}

// --- gates ---

Status Dispatcher::CheckForm(Command* command, Command* container,
                             std::span<const std::string_view> args) const {
  if (command == nullptr) {
    if (container != nullptr) return UnknownSubcommand(container->spec->name, args[1]);
    return UnknownCommand(args[0], args.subspan(1));
  }
  const int arity = command->spec->arity;
  const int argc = static_cast<int>(args.size());
  if ((arity > 0 && argc != arity) || argc < -arity) return WrongArity(command->full_name);
  if (command->spec->handler == nullptr) return WrongArity(command->full_name);
  return Status::Ok();
}

Status Dispatcher::CheckProtected(const Session& session, const Command& command) const {
  if (!(command.flags & kCmdProtected) || session.kind == SessionKind::kInternal)
    return Status::Ok();
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
  // What a log replays was admitted when it was first run: refusing it now would lose data.
  if (session.kind == SessionKind::kInternal) return Status::Ok();
  const bool exec = command.spec->name == "exec" && session.in_transaction();
  const uint64_t queued = exec ? session.transaction.flags_union : 0;
  const bool write = (command.flags | queued) & kCmdWrite;
  const bool deny_oom = (command.flags | queued) & kCmdDenyOom;
  if (deny_oom && OutOfMemory()) return RespError(resp_errors::kOom);
  if ((write || command.spec->name == "ping") && engine_.durability != nullptr) {
    CAIRN_RETURN_IF_ERROR(engine_.durability->WriteRefusal());
  }
  if (engine_.loading && !((command.flags | queued) & kCmdLoading)) {
    return RespError(resp_errors::kLoading);
  }
  return Status::Ok();
}

bool Dispatcher::Admit(Session& session, Command* command, Command* container,
                       std::span<const std::string_view> args, const Request* request) {
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
  if (!session.authenticated && !(command->flags & kCmdNoAuth)) {
    Reject(session, command, RespError(resp_errors::kNoAuth));
    return false;
  }
  if (session.in_transaction() && (command->flags & kCmdNoMulti)) {
    Reject(session, command, RespError(resp_errors::kNotInMulti));
    return false;
  }
  if (Status state = CheckState(session, *command); !state.ok()) {
    Reject(session, command, state);
    return false;
  }
  if (engine_.pause_mode != PauseMode::kNone && session.kind == SessionKind::kNormal &&
      engine_.IsPaused(command->flags & (kCmdWrite | kCmdMayReplicate)) && !session.pause_exempt) {
    if (request != nullptr)
      session.deferred.push_back(OwnedCommand::From(command->spec, args, request));
    session.suspended = true;
    return false;
  }
  if (session.in_transaction() && !in_exec_ && !ControlsTransaction(command->spec->name)) {
    session.transaction.flags_union |= command->flags;
    session.transaction.queue.push_back(OwnedCommand::From(command->spec, args, request));
    session.reply.SimpleString("QUEUED");
    FinishReply(session);
    return false;
  }
  return true;
}

bool Dispatcher::OutOfMemory() {
  const uint64_t limit = engine_.settings().maxmemory;
  if (limit == 0) return false;
  // Reading the allocator's figures costs microseconds: once per batch.
  if (!memory_checked_) {
    memory_checked_ = true;
    over_memory_ = engine_.UsedMemory() > limit;
  }
  return over_memory_;
}

void Dispatcher::Reject(Session& session, Command* command, const Status& status) {
  if (command != nullptr) ++command->counters.rejected;
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
  FinishReply(session);
}

void Dispatcher::SendError(Session& session, const Status& status) {
  engine_.stats.CountError(status.message());
  session.reply.StatusReply(status);
}

// --- execution ---

void Dispatcher::Call(CommandContext& ctx, Command& command) {
  Session& session = ctx.session_;
  ctx.in_exec_ = in_exec_;
  if (session.reply_mode == ReplyMode::kSkipNext) session.reply_mode = ReplyMode::kSkipThis;
  const bool write = command.flags & kCmdWrite;
  if (write && !in_exec_ && engine_.durability != nullptr &&
      session.kind != SessionKind::kInternal) {
    engine_.durability->ThrottleWrite();
  }
  const ReplyBuffer::Mark mark = session.output.Here();
  const uint64_t errors_before = engine_.stats.total_error_replies;
  engine_.propagation.BeginGroup();
  if (Status status = ctx.spec_.handler(ctx); !status.ok()) {
    session.output.RollbackTo(mark);
    SendError(session, status);
  }
  Propagate(ctx);
  engine_.propagation.EndGroup();

  const uint64_t ticks = TickClock::Now();
  CommandCounters& counters = command.counters;
  ++counters.calls;
  counters.usec_ticks += ticks - last_ticks_;
  last_ticks_ = ticks;
  if (engine_.stats.total_error_replies != errors_before) ++counters.failed;
  ++engine_.stats.commands_processed;
  ++session.commands;
  session.last_command = &ctx.spec_;

  if (session.reply_mode == ReplyMode::kOff || session.reply_mode == ReplyMode::kSkipThis) {
    session.output.RollbackTo(mark);
    if (session.reply_mode == ReplyMode::kSkipThis) session.reply_mode = ReplyMode::kOn;
  }
  if (!in_exec_) FinishReply(session);
}

void Dispatcher::Propagate(CommandContext& ctx) {
  if ((ctx.dirty_ == 0 && !ctx.propagate_always_) || ctx.is_loading()) return;
  if (engine_.durability != nullptr) engine_.durability->AddChanges(ctx.dirty_);
  if (ctx.propagate_nothing_ || !engine_.propagation.enabled()) return;
  if (ctx.rewritten_.empty()) {
    engine_.propagation.Append(ctx.session_.db, ctx.args_);
  } else {
    for (const auto& args : ctx.rewritten_)
      engine_.propagation.Append(ctx.session_.db, std::span(args));
  }
}

void Dispatcher::FinishReply(Session& session) {
  if (session.port == nullptr) return;
  // Whatever this reply says may rest on any write so far.
  if (engine_.durability != nullptr && engine_.durability->GatesReplies()) {
    session.reply_gate.Hold(session.sent_bytes + session.output.size(),
                            engine_.propagation.offset(), engine_.propagation.handed_over());
  }
  session.port->OutputReady();
}

Status Dispatcher::ExecuteTransaction(CommandContext& exec) {
  Session& session = exec.session_;
  TransactionState& transaction = session.transaction;
  std::vector<OwnedCommand> queue = std::move(transaction.queue);
  engine_.watches.UnwatchAll(session);
  transaction = TransactionState();

  in_exec_ = true;
  session.reply.ArrayHeader(queue.size());
  std::vector<std::string_view> args;
  for (OwnedCommand& owned : queue) {
    args.clear();
    for (const BlobRef& arg : owned.args) args.push_back(arg.view());
    Command* container = nullptr;
    Command* command = engine_.commands.Resolve(args, &container);
    CommandContext ctx(engine_, session, *owned.spec, args);
    ctx.owned_ = &owned;
    Call(ctx, *command);
  }
  in_exec_ = false;
  session.last_command = &exec.spec_;
  return Status::Ok();
}

void Dispatcher::PropagateRemoval(uint32_t db, std::string_view key, bool lazy) {
  engine_.watches.Touch(db, key);
  if (engine_.durability != nullptr) engine_.durability->AddChanges(1);
  const std::string_view args[] = {lazy ? "UNLINK" : "DEL", key};
  engine_.propagation.Append(db, args);
}

}  // namespace cairn

#include "server/engine/dispatcher.h"

#include <algorithm>
#include <utility>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/job_runner.h"
#include "server/engine/output_limit.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

// --- turn: parse, prepare, execute ---

void Dispatcher::RunTurn(std::span<ReadySession> ready) {
  if (batch_.empty()) batch_.resize(kBatchRequests);
  for (ReadySession& each : ready) {
    if (!each.session->suspended && !each.session->deferred.empty()) RunDeferred(*each.session);
  }
  in_turn_ = true;
  size_t next = 0;
  while (const size_t count = FillBatch(ready, &next)) {
    engine_.RefreshClock();
    memory_limit_.BeginBatch();
    ReadGates();
    if (hashes_used_ > 1) PrefetchForBatch(count);
    last_ticks_ = TickClock::Now();
    batch_size_ = count;
    for (batch_at_ = 0; batch_at_ < batch_size_; ++batch_at_) RunPending(batch_[batch_at_]);
    batch_at_ = batch_size_ = 0;
  }
  flushing_ = nullptr;
  in_turn_ = false;
}

// Passes over all keys of the batch, each far enough from the next that what it asked for is there.
void Dispatcher::PrefetchForBatch(size_t count) {
  const auto for_each_key = [&](auto&& prefetch) {
    for (size_t i = 0; i < count; ++i) {
      const Pending& pending = batch_[i];
      const Database& db = engine_.keyspace.db(pending.session->db);
      for (size_t j = 0; j < pending.hash_count; ++j)
        prefetch(db, pending, key_hashes_[pending.first_hash + j]);
    }
  };
  for_each_key([](const Database& db, const Pending& pending, uint64_t hash) {
    db.PrefetchBucket(hash, pending.command->flags & kCmdWrite);
  });
  for_each_key([](const Database& db, const Pending&, uint64_t hash) { db.PrefetchEntry(hash); });
  if (looks_into_values_) PrefetchMembers(count);
}

// Two more passes for the commands that look for a field or member in the value of their key.
void Dispatcher::PrefetchMembers(size_t count) {
  std::array<const Container*, kBatchRequests> containers;
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t i = 0; i < count; ++i) {
      const Pending& pending = batch_[i];
      const auto& args = pending.request.args;
      const auto member = pending.command == nullptr
                              ? size_t{0}
                              : static_cast<size_t>(pending.command->spec->member_arg);
      if (member == 0 || member >= args.size() || pending.hash_count == 0) continue;
      if (pass == 0) {
        containers[i] = engine_.keyspace.db(pending.session->db)
                            .PeekContainer({args[1], key_hashes_[pending.first_hash]});
      }
      if (containers[i] != nullptr) containers[i]->PrefetchMember(args[member], pass);
    }
  }
}

// Parses and prepares the next requests of the sessions from *next on. What leads to the buckets of
// their keys is on the way while the requests after them are parsed.
size_t Dispatcher::FillBatch(std::span<ReadySession> ready, size_t* next) {
  size_t count = 0;
  hashes_used_ = 0;
  looks_into_values_ = false;
  resolved_generation_ = engine_.commands.generation();
  for (; *next < ready.size(); ++*next) {
    Session& session = *ready[*next].session;
    RequestParser& parser = *ready[*next].parser;
    if (session.closing || session.close_after_reply) continue;
    const bool ahead = session.suspended;
    if (ahead && !JobRunner::ReadsAhead(session)) continue;
    // Let go in this turn: the next one runs what it sent before, and then this.
    if (!ahead && !session.deferred.empty()) continue;
    parser.set_authenticated(session.authenticated);
    ParseResult result;
    for (;;) {
      if (count == kBatchRequests || hashes_used_ == kBatchKeys) return count;
      Pending& pending = batch_[count];
      pending.input_bytes = parser.buffered_bytes();
      result = parser.Next(&pending.request);
      if (result != ParseResult::kRequest) break;
      pending.session = &session;
      Prepare(pending);
      ++count;
      // The next header's limits depend on whether this request authenticates.
      if (!session.authenticated) return count;
      if (ahead) break;
    }
    // An error behind a request that still runs is told behind its reply.
    if (result != ParseResult::kProtocolError || ahead) continue;
    // Replies to requests before the broken one go first.
    if (count > 0) return count;
    engine_.stats.CountError(parser.error());
    session.reply.Error(parser.error());
    session.close_after_reply = true;
    session.port->OutputReady();
  }
  return count;
}

void Dispatcher::Prepare(Pending& pending) {
  const auto& args = pending.request.args;
  pending.container = nullptr;
  pending.hash_count = 0;
  pending.done = false;
  pending.command = engine_.commands.Recall(args[0]);
  if (pending.command == nullptr) [[unlikely]] {
    pending.command = engine_.commands.Resolve(args, &pending.container);
    if (pending.command == nullptr) return;
  }
  const int first = pending.command->first_key;
  if (first <= 0 || args.size() <= static_cast<size_t>(first)) return;
  Database& db = engine_.keyspace.db(pending.session->db);
  looks_into_values_ |= pending.command->spec->member_arg != 0;
  pending.first_hash = static_cast<uint32_t>(hashes_used_);
  if (pending.command->last_key != first) return PrepareKeys(pending, db);
  const uint64_t hash = db.MakeKey(args[static_cast<size_t>(first)]).hash;
  key_hashes_[hashes_used_++] = hash;
  pending.hash_count = 1;
  db.PrefetchSlot(hash);
}

// Commands of several keys.
void Dispatcher::PrepareKeys(Pending& pending, Database& db) {
  const auto& args = pending.request.args;
  const Command& command = *pending.command;
  const size_t step = command.key_step == 2 ? 2 : 1;
  int64_t last = command.last_key;
  if (last < 0) last += static_cast<int64_t>(args.size());
  if (command.key_step > 2) last = command.first_key;
  for (size_t i = static_cast<size_t>(command.first_key);
       i < args.size() && static_cast<int64_t>(i) <= last && hashes_used_ < kBatchKeys; i += step) {
    const uint64_t hash = db.MakeKey(args[i]).hash;
    key_hashes_[hashes_used_++] = hash;
    ++pending.hash_count;
    db.PrefetchSlot(hash);
  }
}

void Dispatcher::RunPending(Pending& pending) {
  Session& session = *pending.session;
  if (session.closing || session.close_after_reply || pending.done) return;
  const Request& request = pending.request;
  if (engine_.commands.generation() != resolved_generation_) [[unlikely]] {
    // MODULE LOAD or UNLOAD ran earlier in this batch.
    pending.command = engine_.commands.Resolve(request.args, &pending.container);
    pending.hash_count = 0;
  }
  Command* const command = pending.command;
  if (session.has_unanswered()) {
    session.deferred.push_back(
        OwnedCommand::From(command ? command->spec : nullptr, request.args, &request));
    return;
  }
  session.last_interaction_ms = engine_.now_ms();
  const bool at_once = command != nullptr && command->plain && gates_.open &&
                       !(gates_.may_hold && (command->flags & kCmdWrite)) && session.RunsAtOnce() &&
                       FitsArity(*command, request.args.size());
  if (!at_once) {
    // It may be the MULTI.
    if (!session.in_transaction()) session.transaction.input_bytes = pending.input_bytes;
    if (!Admit(session, command, pending.container, request.args, &request)) return;
  }
  CommandContext ctx(engine_, session, *command->spec, request.args);
  ctx.request_ = &request;
  ctx.key_hashes_ = key_hashes_.data() + pending.first_hash;
  ctx.hash_count_ = pending.hash_count;
  ctx.first_key_ = static_cast<uint32_t>(command->first_key);
  ctx.key_shift_ = command->key_step == 2;
  Call(ctx, *command);
}

void Dispatcher::RunDeferred(Session& session) {
  engine_.RefreshClock();
  memory_limit_.BeginBatch();
  ReadGates();
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
  Command* command = engine_.commands.Recall(args[0]);
  if (command == nullptr) command = engine_.commands.Resolve(args, &container);
  if (session.has_unanswered()) {
    session.deferred.push_back(
        OwnedCommand::From(command != nullptr ? command->spec : nullptr, args, nullptr));
    return command != nullptr;
  }
  last_ticks_ = TickClock::Now();
  memory_limit_.BeginBatch();
  ReadGates();
  if (Admit(session, command, container, args, nullptr)) {
    CommandContext ctx(engine_, session, *command->spec, args);
    Call(ctx, *command);
  }
  return command != nullptr;
}

// --- execution ---

void Dispatcher::Call(CommandContext& ctx, Command& command) {
  Session& session = ctx.session_;
  ctx.in_exec_ = in_exec_;
  // A script's commands run on a session of their own, but for its caller.
  Session& client = engine_.script != nullptr && &session == engine_.script->session
                        ? *engine_.script->caller
                        : session;
  Session* const outer = std::exchange(engine_.running_session, &client);
  const uint64_t began = last_ticks_;
  const bool silent = session.reply_mode != ReplyMode::kOn;
  if (silent) [[unlikely]] {
    // A SKIP among the commands of EXEC is of what follows EXEC.
    if (session.reply_mode == ReplyMode::kSkipNext && !in_exec_)
      session.reply_mode = ReplyMode::kSkipThis;
    session.holds_pushes = true;
  }
  const ReplyBuffer::Mark mark = session.output.Here();
  // An error counts for the innermost command that made it.
  errors_seen_ = engine_.stats.total_error_replies;
  const bool fed = session.source != nullptr;
  engine_.propagation.BeginGroup();
  CommandJob* const job = ctx.owned_ != nullptr ? ctx.owned_->job.get() : nullptr;
  Status status = job != nullptr ? job->Finish(ctx) : ctx.spec_.handler(ctx);
  if (!status.ok()) {
    session.TakeBackReply(mark);
    SendError(session, status);
  }
  Propagate(ctx);
  engine_.propagation.EndGroup();
  NoteWritten(session);
  if (!command.plain) ReadGates();
  // Behind the handler: CONFIG RESETSTAT makes them fewer.
  if (job == nullptr) CountCall(session, command);
  if (ctx.goes_on_later_) {
    CAIRN_CHECK(status.ok());
    // Its outcome is counted, and answered, when it is done. Time on the worker is no time of the
    // executor.
    const uint64_t now = TickClock::Now();
    command.counters.usec_ticks += now - last_ticks_;
    last_ticks_ = now;
    if (ctx.dirty_ > 0 && now - began >= engine_.observe_from_ticks) [[unlikely]]
      ObserveDuration(session, command, ctx.args_, now - began);
    engine_.running_session = outer;
    session.ReleasePushes();
    if (outer == nullptr) AfterCommand(session);
    return;
  }
  if (fed && session.output.Here().text != mark.text) [[unlikely]]
    DropFed(session, command.full_name);

  const uint64_t ticks = TickClock::Now();
  const uint64_t spent = ticks - began;
  last_ticks_ = ticks;
  session.last_command = &ctx.spec_;
  const bool blocked = session.blocked != nullptr;
  if (spent >= engine_.observe_from_ticks) [[unlikely]]
    Observe(session, command, ctx.args_, spent, blocked);
  if (client.tracking != nullptr) [[unlikely]]
    Track(client, command, ctx.args_);
  engine_.running_session = outer;
  if (blocked) [[unlikely]] {
    // Its outcome is counted, and answered, once the waiting is over.
    session.blocked->counted = &command;
    session.blocked->spent_ticks = spent;
    session.ReleasePushes();
    return;
  }
  CountOutcome(command, spent, engine_.stats.total_error_replies > errors_seen_);
  errors_seen_ = engine_.stats.total_error_replies;
  if (silent) [[unlikely]] {
    SettleReplyMode(session, mark);
  } else if (session.holds_pushes && !in_exec_) {
    session.ReleasePushes();  // EXEC of a CLIENT REPLY OFF
  }
  if (in_exec_) return;
  FinishReply(session, !command.tells_no_data);
  if (outer == nullptr && (engine_.blocking.has_ready() || engine_.tracking.has_work()))
      [[unlikely]]
    AfterCommand(session);
}

void Dispatcher::AfterCommand(Session& session) {
  if (engine_.tracking.has_work()) {
    engine_.running_session = &session;
    engine_.tracking.Settle();
    engine_.running_session = nullptr;
  }
  if (engine_.blocking.has_ready()) ServeReadyKeys();
}

void Dispatcher::Track(Session& session, const Command& command,
                       std::span<const std::string_view> args) {
  // What a script reads its own commands tell.
  if ((command.flags & kCmdReadonly) && !(command.acl & kAclScripting) &&
      !session.tracking->broadcast)
    engine_.tracking.RememberKeys(session, command, args);
  EndCaching(session, &command);
}

void Dispatcher::EndCaching(Session& session, const Command* command) {
  const bool is_client =
      command != nullptr && command->parent != nullptr && command->parent->spec->name == "client";
  if (!in_exec_ && !session.in_transaction() && !is_client) session.tracking->caching = false;
}

void Dispatcher::CountCall(Session& session, Command& command) {
  ++command.counters.calls;
  ++engine_.stats.commands_processed;
  ++session.commands;
}

void Dispatcher::CountOutcome(Command& command, uint64_t ticks, bool failed, bool served) {
  CommandCounters& counters = command.counters;
  counters.usec_ticks += ticks;
  if (served && engine_.settings().latency_tracking) counters.RecordLatency(ticks);
  // What comes after a slow command in the same batch sees the time it took.
  if (!in_exec_ && engine_.stats.ticks.ToMicros(ticks) >= kClockStaleMicros) engine_.RefreshClock();
  counters.failed += failed;
}

void Dispatcher::SettleReplyMode(Session& session, ReplyBuffer::Mark mark) {
  if (session.reply_mode == ReplyMode::kOff || session.reply_mode == ReplyMode::kSkipThis) {
    session.output.RollbackTo(mark);
    if (session.reply_mode == ReplyMode::kSkipThis) session.reply_mode = ReplyMode::kOn;
  }
  if (session.holds_pushes && !in_exec_) session.ReleasePushes();
}

void Dispatcher::Propagate(CommandContext& ctx) {
  if (ctx.dirty_ == 0 && !ctx.propagate_always_ && !ctx.propagate_to_replicas_) return;
  // What is replayed from the append-only file too: the RDB file does not have it.
  if (engine_.durability != nullptr) engine_.durability->AddChanges(ctx.dirty_);
  if (ctx.is_loading()) return;
  if (ctx.propagate_nothing_ || !engine_.propagation.enabled()) return;
  auto reader = ctx.propagate_to_replicas_ ? EffectReader::kReplicas : EffectReader::kBoth;
  if (engine_.script != nullptr) [[unlikely]] {
    const ScriptScope& script = *engine_.script;
    if (!script.to_replicas) {
      if (!script.to_log || ctx.propagate_to_replicas_) return;
      reader = EffectReader::kLog;
    } else if (!script.to_log) {
      reader = EffectReader::kReplicas;
    }
  }
  if (ctx.rewritten_.empty()) {
    if (ctx.propagate_as_sent_) engine_.propagation.Append(ctx.session_.db, ctx.args_, reader);
  } else {
    for (const auto& args : ctx.rewritten_)
      engine_.propagation.Append(ctx.session_.db, std::span(args), reader);
  }
  ctx.session_.wrote = true;
}

void Dispatcher::FinishReply(Session& session, bool tells_of_data) {
  if (session.port == nullptr || session.kind == SessionKind::kPrimary) return;
  JudgeOutput(engine_, session);
  if (tells_of_data && gates_.held_back && session.source == nullptr) engine_.HoldReply(session);
  if (flushing_ == &session) return;
  // Flushes happen after a turn, so within it asking once is enough.
  if (in_turn_) flushing_ = &session;
  session.port->OutputReady();
}

Status Dispatcher::ExecuteTransaction(CommandContext& exec) {
  Session& session = exec.session_;
  TransactionState& transaction = session.transaction;
  std::vector<OwnedCommand> queue = std::move(transaction.queue);
  engine_.watches.UnwatchAll(session);
  transaction = TransactionState();
  // Stays there, though no longer active: CLIENT INFO within it shows the transaction.
  transaction.queue = std::move(queue);

  in_exec_ = true;
  session.reply.ArrayHeader(transaction.queue.size());
  std::vector<std::string_view> args;
  for (OwnedCommand& owned : transaction.queue) {
    args.clear();
    for (const BlobRef& arg : owned.args) args.push_back(arg.view());
    const bool told = session.TakesOutput();
    const ReplyBuffer::Mark mark = session.output.Here();
    RunQueued(session, owned, args);
    if (told) {
      JudgeOutput(engine_, session);
    } else {
      // It runs to its end, also after a CLIENT KILL of its own client in it.
      session.output.RollbackTo(mark);
    }
  }
  in_exec_ = false;
  transaction.queue.clear();
  return Status::Ok();
}

void Dispatcher::RunQueued(Session& session, OwnedCommand& owned,
                           std::span<const std::string_view> args) {
  Command* container = nullptr;
  Command* command = engine_.commands.Resolve(args, &container);
  if (command == nullptr) [[unlikely]] {
    // Its module was unloaded by a command of this very transaction.
    return SendError(session, UnknownCommand(args[0], args.subspan(1)));
  }
  if (Status refused = CheckQueued(session, *command, args); !refused.ok())
    return SendError(session, refused);
  CommandContext ctx(engine_, session, *command->spec, args);
  ctx.owned_ = &owned;
  Call(ctx, *command);
}

void Dispatcher::PropagateRemoval(uint32_t db, std::string_view key, bool lazy) {
  engine_.KeyModified(nullptr, db, key);
  const std::string_view args[] = {lazy ? "UNLINK" : "DEL", key};
  engine_.propagation.Append(db, args);
}

}  // namespace cairn

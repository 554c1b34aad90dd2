// The dispatcher's part in blocking commands: asking those who wait again when their key is ready,
// and ending their waiting by time or from outside. Who waits for what is in blocking.h.

#include <algorithm>
#include <utility>

#include "server/engine/blocking.h"
#include "server/engine/dispatcher.h"

namespace cairn {

namespace {

/// Parks one that waits once more, with `timeout_ms` as its deadline: behind others in line.
void ParkAgain(BlockingTable& blocking, Session& session, int64_t timeout_ms) {
  BlockedState& state = *session.blocked;
  std::vector<std::string> names;
  for (const BlockedState::Place& place : state.places) names.emplace_back(place.line->key);
  const std::vector<std::string_view> keys(names.begin(), names.end());
  BlockRequest request = state.request;
  request.keys = keys;
  const int64_t left_ms = std::exchange(request.timeout_ms, timeout_ms);
  OwnedCommand command = state.command.Again();
  Command* const counted = state.counted;
  const uint64_t spent_ticks = state.spent_ticks;
  blocking.Forget(session);
  blocking.Park(session, request, std::move(command));
  session.blocked->request.timeout_ms = left_ms;
  session.blocked->counted = counted;
  session.blocked->spent_ticks = spent_ticks;
}

}  // namespace

template <typename Reply>
void Dispatcher::Answer(Session& session, Reply&& answer, bool served) {
  BlockedState& state = *session.blocked;
  std::vector<std::string_view> args;
  args.reserve(state.command.args.size());
  for (const BlobRef& arg : state.command.args) args.push_back(arg.view());
  CommandContext ctx(engine_, session, *state.command.spec, args);
  ctx.owned_ = &state.command;

  const ReplyBuffer::Mark mark = session.output.Here();
  const uint64_t errors_before = engine_.stats.total_error_replies;
  const uint64_t began = TickClock::Now();
  engine_.propagation.BeginGroup();
  ctx.blocked_on_ = true;
  // CLIENT UNBLOCK runs while this does.
  Session* const outer = std::exchange(engine_.running_session, &session);
  session.holds_pushes = session.reply_mode != ReplyMode::kOn;
  if (Status status = answer(ctx); !status.ok()) {
    session.TakeBackReply(mark);
    SendError(session, status);
    ctx.blocked_on_ = false;
  }
  Propagate(ctx);
  engine_.propagation.EndGroup();
  NoteWritten(session);
  if (ctx.goes_on_later_) {
    // It waits for a worker now, not in line, and is answered when that is done.
    state.counted->counters.usec_ticks += state.spent_ticks + (TickClock::Now() - began);
    engine_.blocking.Forget(session);
    if (engine_.tracking.has_work()) engine_.tracking.Settle();
    engine_.running_session = outer;
    session.ReleasePushes();
    return;
  }
  if (ctx.blocked_on_) {
    // Not served: it keeps its place, and nothing happened.
    engine_.running_session = outer;
    session.ReleasePushes();
    return;
  }

  const uint64_t reply_ticks = TickClock::Now() - began;
  const uint64_t ticks = state.spent_ticks + reply_ticks;
  CountOutcome(*state.counted, ticks, engine_.stats.total_error_replies != errors_before, served);
  if (served && ticks >= engine_.observe_from_ticks) {
    ObserveDuration(session, *state.counted, args, ticks);
    engine_.NoteLatency("command-unblocking",
                        static_cast<int64_t>(engine_.stats.ticks.ToMicros(reply_ticks)) / 1000);
  }
  SettleReplyMode(session, mark);
  engine_.blocking.Release(session);
  FinishReply(session, /*tells_of_data=*/true);
  if (engine_.tracking.has_work()) engine_.tracking.Settle();
  engine_.running_session = outer;
}

bool Dispatcher::AskWaiter(Session& session, const BlockLine& line) {
  Database& db = engine_.keyspace.db(line.db);
  const KeyRef key = db.MakeKey(line.key);
  const Entry* entry = db.LookupRead(key, kLookupNoTouch | kLookupNoStats);
  if (entry == nullptr && line.want_gone == 0) return false;
  const BlockRequest& request = session.blocked->request;
  const bool fits = entry != nullptr && entry->type() == request.type;
  if (!fits && !request.also_when_gone) return true;
  Answer(session, [&](CommandContext& ctx) {
    bool served = false;
    const Status status = request.retry(ctx, key, &served);
    if (served) ctx.blocked_on_ = false;
    return status;
  });
  return true;
}

void Dispatcher::ServeReadyKeys() {
  engine_.RefreshClock();
  // Serving one may make keys ready for others (BLMOVE's destination): those come after.
  while (engine_.blocking.has_ready()) {
    engine_.blocking.ServeReady(
        [this](Session& session, const BlockLine& line) { return AskWaiter(session, line); });
  }
  last_ticks_ = TickClock::Now();
}

void Dispatcher::ServeBetweenCommands() {
  if (!engine_.blocking.has_ready()) return;
  ServeReadyKeys();
  engine_.loop.Post([] {});  // as in BlockingTable::OnTimer
}

void Dispatcher::UnblockByTimeout(Session& session) {
  session.blocked->request.timeout_ms = 0;  // also of one that would have looked again
  Answer(
      session,
      [](CommandContext& ctx) {
        ctx.blocked_on_ = false;
        ctx.ReplyTimedOut(ctx.session().blocked->request);
        return Status::Ok();
      },
      /*served=*/false);
}

void Dispatcher::UnblockWithError(Session& session, std::string_view line) {
  Answer(session, [line](CommandContext&) { return RespError(line); });
}

void Dispatcher::UnblockDue() {
  engine_.RefreshClock();
  for (Session* session : engine_.blocking.Due()) {
    BlockRequest& parked = session->blocked->request;
    const int64_t late_ms = engine_.env.MonotonicMicros() / 1000 - session->blocked->deadline_ms;
    const int64_t left_ms = std::max<int64_t>(parked.timeout_ms - late_ms, 0);
    parked.timeout_ms = left_ms;
    if (left_ms == 0) {
      UnblockByTimeout(*session);
      continue;
    }
    // Its command only wanted to look by now (module_api.h, wait_and_look). To wait on it takes
    // from what is left what passes until it looks again.
    int64_t still_left_ms = left_ms;
    Answer(*session, [&](CommandContext& ctx) {
      const BlockRequest& request = ctx.session().blocked->request;
      ctx.ReplyTimedOut(request);
      still_left_ms = request.timeout_ms;
      ctx.blocked_on_ = still_left_ms < left_ms;
      return Status::Ok();
    });
    if (still_left_ms < left_ms) {
      ParkAgain(engine_.blocking, *session, left_ms - still_left_ms);
    }
  }
}

void Dispatcher::UnblockAll() {
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->blocked == nullptr) continue;
    UnblockWithError(*session,
                     "UNBLOCKED force unblock from blocking operation, instance state changed "
                     "(master -> replica?)");
    session->close_after_reply = true;
  }
}

}  // namespace cairn

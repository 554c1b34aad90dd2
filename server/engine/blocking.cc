#include "server/engine/blocking.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"

namespace cairn {

BlockingTable::~BlockingTable() {
  if (timer_ != 0) engine_.loop.StopTimer(timer_);
}

std::string BlockingTable::MakeId(uint32_t db, std::string_view key) {
  std::string id(sizeof db + key.size(), '\0');
  std::memcpy(id.data(), &db, sizeof db);
  if (!key.empty()) std::memcpy(id.data() + sizeof db, key.data(), key.size());
  return id;
}

// --- going in and out ---

void BlockingTable::Park(Session& session, const BlockRequest& request, OwnedCommand command) {
  CAIRN_CHECK(session.blocked == nullptr);
  session.blocked = std::make_unique<BlockedState>();
  BlockedState& state = *session.blocked;
  state.request = request;
  state.request.keys = {};
  state.request.args = {};
  state.command = std::move(command);
  for (std::string_view key : request.keys) {
    const auto [found, added] = lines_.try_emplace(MakeId(session.db, key));
    BlockLine& line = found->second;
    if (added) {
      line.db = session.db;
      line.key = std::string_view(found->first).substr(sizeof line.db);
    } else if (line.sessions.back() == &session) {
      continue;  // a key named twice; the session can only be the last one in line
    }
    line.sessions.push_back(&session);
    line.want_gone += request.also_when_gone;
    state.places.push_back({&line, std::prev(line.sessions.end())});
  }
  if (!lines_.empty()) engine_.keyspace.set_observer(this);
  if (request.timeout_ms > 0) {
    const int64_t now_ms = NowMs();
    state.deadline_ms = request.timeout_ms > std::numeric_limits<int64_t>::max() - now_ms
                            ? std::numeric_limits<int64_t>::max()
                            : now_ms + request.timeout_ms;
    deadlines_.emplace(state.deadline_ms, session.id);
    ArmTimer();
  }
  // From here on: what is left behind the deadline, of one that only looks then (UnblockDue).
  state.request.timeout_ms = 0;
  session.suspended = true;
  ++blocked_;
}

void BlockingTable::LeaveLine(Session& session, const BlockedState::Place& place) {
  BlockLine& line = *place.line;
  line.sessions.erase(place.at);
  line.want_gone -= session.blocked->request.also_when_gone;
  if (line.sessions.empty()) lines_.erase(MakeId(line.db, line.key));
}

void BlockingTable::Forget(Session& session) {
  if (session.blocked == nullptr) return;
  for (const BlockedState::Place& place : session.blocked->places) LeaveLine(session, place);
  if (lines_.empty()) engine_.keyspace.set_observer(nullptr);
  if (session.blocked->deadline_ms != 0)
    deadlines_.erase({session.blocked->deadline_ms, session.id});
  session.blocked.reset();
  --blocked_;
}

void BlockingTable::Release(Session& session) {
  if (session.blocked == nullptr) return;
  Forget(session);
  session.suspended = false;
  if (session.port != nullptr) session.port->InputReady();
}

// --- signals ---

void BlockingTable::MarkReady(BlockLine& line) {
  if (line.ready) return;
  line.ready = true;
  ready_.push_back(MakeId(line.db, line.key));
}

void BlockingTable::SignalSlow(uint32_t db, std::string_view key, bool gone) {
  const auto found = lines_.find(MakeId(db, key));
  if (found != lines_.end() && (!gone || found->second.want_gone > 0)) MarkReady(found->second);
}

void BlockingTable::SignalDatabase(uint32_t db) {
  for (auto& [id, line] : lines_) {
    if (line.db == db) MarkReady(line);
  }
}

void BlockingTable::OnKeyCreated(uint32_t db, std::string_view key, ValueType) {
  SignalSlow(db, key, /*gone=*/false);
}

void BlockingTable::OnKeyGone(uint32_t db, std::string_view key, ValueType type) {
  if (type == ValueType::kStream || type == ValueType::kModule) SignalSlow(db, key, true);
}

void BlockingTable::ServeReady(const std::function<bool(Session&, const BlockLine&)>& ask) {
  const std::vector<std::string> ready = std::exchange(ready_, {});
  for (const std::string& id : ready) {
    const auto found = lines_.find(id);
    if (found == lines_.end()) continue;  // its waiters were served under another key, or left
    BlockLine& line = found->second;
    line.ready = false;
    for (auto at = line.sessions.begin();;) {
      const auto next = std::next(at);
      const bool last = next == line.sessions.end();
      // With its last session the line itself goes: nothing of it may be used then.
      if (!ask(**at, line) || last) break;
      at = next;
    }
  }
}

// --- deadlines ---

int64_t BlockingTable::NowMs() const { return engine_.env.MonotonicMicros() / 1000; }

std::vector<Session*> BlockingTable::Due() {
  std::vector<Session*> due;
  const int64_t now_ms = NowMs();
  for (const auto& [deadline_ms, id] : deadlines_) {
    if (deadline_ms > now_ms) break;
    due.push_back(engine_.FindSession(id));
  }
  return due;
}

// One timer stands for the earliest deadline. It is left alone when that session is served first:
// to fire once for nothing costs less than to set a timer for each request.
void BlockingTable::ArmTimer() {
  if (deadlines_.empty()) return;
  const int64_t due_ms = deadlines_.begin()->first;
  if (timer_ != 0) {
    if (timer_due_ms_ <= due_ms) return;
    engine_.loop.StopTimer(timer_);
  }
  timer_due_ms_ = due_ms;
  // One more than the difference: both clocks are cut to whole milliseconds.
  timer_ = engine_.loop.StartTimer(due_ms - NowMs() + 1, 0, [this] { OnTimer(); });
}

void BlockingTable::OnTimer() {
  timer_ = 0;
  engine_.dispatcher->UnblockDue();
  ArmTimer();
  // Timers run before the poll: a posted job keeps it from waiting, so that replies go out now.
  engine_.loop.Post([] {});
}

void BlockingTable::CheckInvariants() const {
  size_t places = 0, blocked = 0, deadlines = 0;
  for (const auto& [id, line] : lines_) {
    CAIRN_CHECK(!line.sessions.empty());  // B2
    size_t want_gone = 0;
    for (Session* session : line.sessions) {
      CAIRN_CHECK(session->blocked != nullptr);
      size_t here = 0;
      for (const BlockedState::Place& place : session->blocked->places) here += place.line == &line;
      CAIRN_CHECK(here == 1);  // B1
      want_gone += session->blocked->request.also_when_gone;
    }
    CAIRN_CHECK(want_gone == line.want_gone);
    places += line.sessions.size();
  }
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->blocked == nullptr) continue;
    ++blocked;
    CAIRN_CHECK(session->suspended);  // B3
    CAIRN_CHECK(places >= session->blocked->places.size());
    places -= session->blocked->places.size();
    if (session->blocked->deadline_ms == 0) continue;
    ++deadlines;
    CAIRN_CHECK(deadlines_.contains({session->blocked->deadline_ms, id}));  // B2
  }
  CAIRN_CHECK(places == 0);  // B1
  CAIRN_CHECK(blocked == blocked_);
  CAIRN_CHECK(deadlines == deadlines_.size());
  CAIRN_CHECK((engine_.keyspace.observer() == this) == !lines_.empty());  // B4
}

Status ParseBlockTimeout(const CommandContext& ctx, size_t i, TimeoutUnit unit,
                         int64_t* timeout_ms) {
  int64_t value = 0;
  if (unit == TimeoutUnit::kSeconds) {
    long double seconds = 0;
    if (!ParseLongDouble(ctx.arg(i), &seconds)) return RespError(resp_errors::kTimeoutNotFloat);
    const long double milliseconds = std::ceil(seconds * 1000);
    constexpr long double kLimit = 0x1p63L;
    // Redis lets the conversion wrap to the most negative number.
    value = milliseconds >= kLimit || milliseconds < -kLimit ? std::numeric_limits<int64_t>::min()
                                                             : static_cast<int64_t>(milliseconds);
  } else if (!ParseInt64(ctx.arg(i), &value)) {
    return RespError(resp_errors::kTimeoutNotInteger);
  }
  if (value < 0) return RespError(resp_errors::kTimeoutNegative);
  *timeout_ms = value;
  return Status::Ok();
}

}  // namespace cairn

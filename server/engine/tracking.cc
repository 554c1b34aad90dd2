#include "server/engine/tracking.h"

#include <algorithm>

#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/engine/command_table.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

/// Keys that one round of LimitTable invalidates, times the rounds in a row.
constexpr uint64_t kLimitEffort = 100;

bool Overlap(std::string_view a, std::string_view b) {
  return a.starts_with(b) || b.starts_with(a);
}

}  // namespace

// --- switching ---

Status Tracking::CheckPrefixes(const Session& session, std::span<const std::string> prefixes) {
  for (size_t i = 0; i < prefixes.size(); ++i) {
    if (session.tracking != nullptr) {
      for (const std::string& known : session.tracking->prefixes) {
        if (!Overlap(known, prefixes[i])) continue;
        return Status::Client("ERR Prefix '" + prefixes[i] +
                              "' overlaps with an existing prefix '" + known +
                              "'. Prefixes for a single client must not overlap.");
      }
    }
    for (size_t j = i + 1; j < prefixes.size(); ++j) {
      if (!Overlap(prefixes[i], prefixes[j])) continue;
      return Status::Client("ERR Prefix '" + prefixes[i] +
                            "' overlaps with another provided prefix '" + prefixes[j] +
                            "'. Prefixes for a single client must not overlap.");
    }
  }
  return Status::Ok();
}

void Tracking::AddPrefix(Session& session, const std::string& prefix) {
  if (!prefixes_[prefix].sessions.insert(session.id).second) return;
  std::vector<std::string>& own = session.tracking->prefixes;
  own.insert(std::lower_bound(own.begin(), own.end(), prefix), prefix);
}

void Tracking::Enable(Session& session, TrackingState options) {
  if (session.tracking == nullptr) {
    session.tracking = std::make_unique<TrackingState>();
    ++sessions_;
  }
  std::vector<std::string> known = std::move(session.tracking->prefixes);
  options.caching = session.tracking->caching;
  const std::vector<std::string> added = std::move(options.prefixes);
  *session.tracking = std::move(options);
  session.tracking->prefixes = std::move(known);
  if (!session.tracking->broadcast) return;
  if (added.empty()) AddPrefix(session, "");
  for (const std::string& prefix : added) AddPrefix(session, prefix);
}

void Tracking::Disable(Session& session) {
  if (session.tracking == nullptr) return;
  for (const std::string& prefix : session.tracking->prefixes) {
    const auto found = prefixes_.find(prefix);
    found->second.sessions.erase(session.id);
    if (found->second.sessions.empty()) prefixes_.erase(found);
  }
  session.tracking.reset();
  --sessions_;
}

// --- keys ---

void Tracking::RememberKeys(Session& session, const Command& command,
                            std::span<const std::string_view> args) {
  const TrackingState& state = *session.tracking;
  if ((state.opt_in && !state.caching) || (state.opt_out && state.caching)) return;
  // Shard channels look like keys and are none.
  if (command.flags & kCmdPubsub) return;
  // XREAD asks its own finder in Redis, which sees no keys where names and IDs do not match.
  const KeySpec& spec = command.spec->keys[0];
  if (spec.begin == KeySpec::Begin::kKeyword && spec.limit == 2) {
    const auto at = std::find_if(args.begin() + 1, args.end(), [&](std::string_view word) {
      return EqualsIgnoreCase(word, spec.keyword);
    });
    if ((args.end() - at) % 2 == 0) return;
  }
  std::vector<KeyPosition> keys;
  if (command.spec->keys[0].begin == KeySpec::Begin::kNone ||
      !ExtractKeys(command, args, &keys).ok()) {
    return;
  }
  for (const KeyPosition& key : keys) {
    if (key.flags & kKeyNotKey) continue;
    const auto [found, added] = table_.try_emplace(std::string(args[key.index]));
    items_ += found->second.insert(session.id).second;
  }
  over_limit_ = IsOverLimit();
}

bool Tracking::IsOverLimit() const {
  const auto limit = static_cast<size_t>(engine_.settings().tracking_table_max_keys);
  return limit != 0 && table_.size() > limit;
}

void Tracking::Tick() {
  over_limit_ = IsOverLimit();
  if (over_limit_) LimitTable();
}

void Tracking::Invalidate(Session* origin, std::string_view key) {
  for (auto& [prefix, state] : prefixes_) {
    if (!key.starts_with(prefix)) continue;
    state.changed.try_emplace(std::string(key), origin != nullptr ? origin->id : 0);
    broadcasts_waiting_ = true;
  }
  const auto found = table_.find(key);
  if (found == table_.end()) return;
  // Out of the table first: a message may close a connection.
  const std::set<uint64_t> sessions = std::move(found->second);
  items_ -= sessions.size();
  table_.erase(found);
  for (const uint64_t id : sessions) {
    Session* session = engine_.FindSession(id);
    if (session == nullptr || session->tracking == nullptr || session->tracking->broadcast)
      continue;
    const bool own = session == engine_.running_session;
    if (own && session->tracking->no_loop) continue;
    if (own) {
      pending_.emplace_back(std::string(key));
    } else {
      SendKeys(*session, {&key, 1});
    }
  }
}

void Tracking::InvalidateAll() {
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->tracking == nullptr) continue;
    if (session.get() == engine_.running_session) {
      pending_.emplace_back(std::nullopt);
    } else {
      SendFlush(*session);
    }
  }
  table_.clear();
  items_ = 0;
}

void Tracking::LimitTable() {
  const uint64_t effort = kLimitEffort * ++limit_rounds_;
  for (uint64_t i = 0; i < effort && IsOverLimit(); ++i) {
    const std::string key = table_.begin()->first;
    const std::set<uint64_t> sessions = std::move(table_.begin()->second);
    items_ -= sessions.size();
    table_.erase(table_.begin());
    for (const uint64_t id : sessions) {
      Session* session = engine_.FindSession(id);
      if (session == nullptr || session->tracking == nullptr || session->tracking->broadcast)
        continue;
      const std::string_view name = key;
      SendKeys(*session, {&name, 1});
    }
  }
  over_limit_ = IsOverLimit();
  if (!over_limit_) limit_rounds_ = 0;
}

// --- messages ---

void Tracking::Settle() {
  Session* session = engine_.running_session;
  for (const std::optional<std::string>& key : std::exchange(pending_, {})) {
    if (session == nullptr || session->tracking == nullptr) break;
    if (key) {
      const std::string_view name = *key;
      SendKeys(*session, {&name, 1});
    } else {
      SendFlush(*session);
    }
  }
  if (over_limit_) LimitTable();
}

Session* Tracking::TargetOf(Session& session) {
  TrackingState& state = *session.tracking;
  if (state.redirect == 0)
    return session.reply.version() == 3 && session.TakesOutput() ? &session : nullptr;
  Session* target = engine_.FindSession(state.redirect);
  if (target == nullptr || target->closing) {
    state.broken_redirection = true;
    if (session.reply.version() == 3 && session.TakesOutput()) {
      const Session::Push push(session, 2);
      push.writer().Bulk("tracking-redir-broken");
      push.writer().Integer(static_cast<int64_t>(state.redirect));
      engine_.OutputAdded(session);
    }
    return nullptr;
  }
  const bool listens = target->reply.version() == 3 || target->kind == SessionKind::kPubsub;
  return listens && target->TakesOutput() ? target : nullptr;
}

namespace {

/// The head of a message; its value, an array of keys or null, follows.
void WriteHead(RespWriter& out) {
  if (out.version() == 3) {
    out.Bulk("invalidate");
  } else {
    out.Bulk("message");
    out.Bulk(kInvalidateChannel);
  }
}

size_t PartsOf(const Session& target) { return target.reply.version() == 3 ? 2 : 3; }

}  // namespace

void Tracking::WriteKeys(RespWriter& out, std::span<const std::string_view> keys) {
  out.ArrayHeader(keys.size());
  for (std::string_view key : keys) out.Bulk(key);
}

void Tracking::SendKeys(Session& session, std::span<const std::string_view> keys) {
  Session* target = TargetOf(session);
  if (target == nullptr) return;
  const Session::Push push(*target, PartsOf(*target));
  WriteHead(push.writer());
  WriteKeys(push.writer(), keys);
  engine_.OutputAdded(*target);
}

void Tracking::SendFlush(Session& session) {
  Session* target = TargetOf(session);
  if (target == nullptr) return;
  const Session::Push push(*target, PartsOf(*target));
  WriteHead(push.writer());
  // The null is in the language of the session that tracks, as in Redis.
  push.writer().Raw(session.reply.version() == 3 ? "_\r\n" : "$-1\r\n");
  engine_.OutputAdded(*target);
}

void Tracking::SendPrefix(const Prefix& prefix) {
  for (const uint64_t id : prefix.sessions) {
    Session* session = engine_.FindSession(id);
    if (session == nullptr || session->tracking == nullptr) continue;
    std::vector<std::string_view> keys;
    for (const auto& [key, origin] : prefix.changed) {
      if (!session->tracking->no_loop || origin != id) keys.push_back(key);
    }
    if (!keys.empty()) SendKeys(*session, keys);
  }
}

void Tracking::SendBroadcasts() {
  if (!broadcasts_waiting_) return;
  broadcasts_waiting_ = false;
  for (auto& [name, prefix] : prefixes_) {
    if (prefix.changed.empty()) continue;
    SendPrefix(prefix);
    prefix.changed.clear();
  }
}

void Tracking::CheckInvariants() const {
  size_t items = 0, sessions = 0;
  for (const auto& [key, ids] : table_) {
    CAIRN_CHECK(!ids.empty());  // T2
    items += ids.size();
  }
  CAIRN_CHECK(items == items_);  // T1
  for (const auto& [name, prefix] : prefixes_) {
    CAIRN_CHECK(!prefix.sessions.empty());  // T2
    for (const uint64_t id : prefix.sessions) {
      const Session* session = engine_.FindSession(id);
      CAIRN_CHECK(session != nullptr && session->tracking != nullptr);
      const auto& own = session->tracking->prefixes;
      CAIRN_CHECK(std::count(own.begin(), own.end(), name) == 1);  // T2
    }
  }
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->tracking == nullptr) continue;
    ++sessions;
    for (const std::string& prefix : session->tracking->prefixes)
      CAIRN_CHECK(prefixes_.at(prefix).sessions.contains(id));  // T2
  }
  CAIRN_CHECK(sessions == sessions_);  // T1
}

}  // namespace cairn

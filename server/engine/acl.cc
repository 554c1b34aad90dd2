#include "server/engine/acl.h"

#include <algorithm>

#include "server/base/strings.h"
#include "server/engine/client_report.h"
#include "server/engine/dispatcher.h"
#include "server/engine/engine.h"
#include "server/protocol/resp_errors.h"

namespace cairn {

namespace {

constexpr std::string_view kDefaultName = "default";

bool SameRefusal(const AclLogEntry& a, const AclLogEntry& b) {
  return a.reason == b.reason && a.context == b.context && a.object == b.object &&
         a.username == b.username && b.at_ms - a.at_ms <= kAclLogGroupingMs;
}

bool AnySelector(const AclUser& user, const auto& holds) {
  return holds(user.root()) || std::ranges::any_of(user.selectors(), holds);
}

// Then nobody is cut off, whatever it listened to before it became this user. Rules that stay the
// same are no reason: redis-server 7.0.15 compares where they lie in memory, so it asks for every
// listener as soon as there was one.
bool KeepsChannels(const AclUser& before, const AclUser& after) {
  return AnySelector(after, [](const AclSelector& s) { return s.ChannelRules() == "&*"; }) ||
         !AnySelector(before, [](const AclSelector& s) { return !s.ChannelRules().empty(); });
}

}  // namespace

Acl::Acl(Engine& engine) : engine_(engine) {
  auto user = std::make_unique<AclUser>(std::string(kDefaultName), /*all_channels=*/false);
  default_ = user.get();
  MakeOpen(*default_);
  users_.emplace(kDefaultName, std::move(user));
  SetDefaultPassword(engine.settings().requirepass);
}

void Acl::MakeOpen(AclUser& user) const {
  for (std::string_view rule : {"+@all", "~*", "&*", "on", "nopass"})
    CAIRN_CHECK(user.Apply(engine_.commands, rule).ok());
}

bool Acl::AllChannelsByDefault() const {
  return engine_.settings().acl_pubsub_default == AclPubsubDefault::kAllChannels;
}

std::unique_ptr<AclUser> Acl::NewUser(std::string_view name) const {
  return std::make_unique<AclUser>(std::string(name), AllChannelsByDefault());
}

AclUser* Acl::Find(std::string_view name) const {
  const auto found = users_.find(name);
  return found == users_.end() ? nullptr : found->second.get();
}

void Acl::SetDefaultPassword(std::string_view password) {
  const std::string rule = password.empty() ? "nopass" : ">" + std::string(password);
  CAIRN_CHECK(default_->Apply(engine_.commands, "resetpass").ok());
  CAIRN_CHECK(default_->Apply(engine_.commands, rule).ok());
}

// --- changing users ---

Status Acl::SetUser(std::string_view name, std::span<const std::string_view> rules) {
  Result<std::vector<std::string>> joined = JoinSelectors(rules);
  if (!joined.ok()) return Status::Client("ERR " + std::string(joined.status().message()));
  AclUser* user = Find(name);
  AclUser changed = user != nullptr ? *user : AclUser(std::string(name), AllChannelsByDefault());
  for (const std::string& rule : *joined) {
    if (Status status = changed.Apply(engine_.commands, rule); !status.ok()) {
      return QuotingError({"ERR Error in ACL SETUSER modifier '", rule, "': ", status.message()});
    }
  }
  if (user == nullptr) {
    users_.emplace(name, std::make_unique<AclUser>(std::move(changed)));
    return Status::Ok();
  }
  CloseListenersCutOff(*user, changed);
  *user = std::move(changed);
  return Status::Ok();
}

bool Acl::DeleteUser(std::string_view name) {
  const auto found = users_.find(name);
  if (found == users_.end()) return false;
  CAIRN_CHECK(found->second.get() != default_);
  CloseSessionsOf(*found->second);
  users_.erase(found);
  return true;
}

// --- sessions ---

void Acl::LogIn(Session& session, const AclUser& user) {
  session.acl = &user;
  session.user = user.name();
  session.authenticated = true;
}

void Acl::LogInAsDefault(Session& session) {
  LogIn(session, *default_);
  session.authenticated = open();
}

void Acl::Expel(Session& session) {
  session.acl = default_;
  session.user = default_->name();
  session.authenticated = false;
  if (&session == engine_.running_session || session.port == nullptr) {
    session.close_after_reply = true;
  } else {
    session.port->Close(/*after_output=*/false);
  }
}

void Acl::CloseSessionsOf(const AclUser& user) {
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->acl == &user) Expel(*session);
  }
}

void Acl::CloseListenersCutOff(const AclUser& before, const AclUser& after) {
  if (KeepsChannels(before, after)) return;
  for (const auto& [id, session] : engine_.sessions()) {
    if (session->acl != &before || session->subscriptions == nullptr) continue;
    bool cut_off = false;
    for (const SubscriptionKind kind :
         {SubscriptionKind::kPattern, SubscriptionKind::kChannel, SubscriptionKind::kShard}) {
      for (const std::string& name : PubSub::NamesOf(*session, kind))
        cut_off |= !after.AllowsChannel(name, kind == SubscriptionKind::kPattern);
    }
    if (cut_off) Expel(*session);
  }
}

Status Acl::Authenticate(Session& session, std::string_view name, std::string_view password,
                         std::string_view command) {
  const AclUser* user = Find(name);
  if (user != nullptr && user->enabled() &&
      (user->needs_no_password() || user->HasPassword(password))) {
    LogIn(session, *user);
    return Status::Ok();
  }
  const bool queued = engine_.dispatcher != nullptr && engine_.dispatcher->in_exec();
  Note(session, AclVerdict::kAuth, command, name,
       queued ? AclContext::kMulti : AclContext::kToplevel);
  return RespError(resp_errors::kWrongPass);
}

AclDecision Acl::Check(const Session& session, const Command& command,
                       std::span<const std::string_view> args) {
  if (session.acl == nullptr || session.acl->unrestricted()) return {};
  AclRequest request(command, args);
  return session.acl->Check(request);
}

Status Acl::Refusal(const AclDecision& decision, const Command& command) {
  switch (decision.verdict) {
    case AclVerdict::kCommand:
      return NoPermCommand(command.full_name);
    case AclVerdict::kKey:
      return RespError(resp_errors::kNoPermKey);
    case AclVerdict::kChannel:
      return RespError(resp_errors::kNoPermChannel);
    case AclVerdict::kAuth:
    case AclVerdict::kAllowed:
      break;
  }
  CAIRN_CHECK(!"a request that may run is no refusal");
  return Status::Ok();
}

// --- log ---

void Acl::Note(const Session& session, AclVerdict reason, std::string_view object,
               std::string_view username, AclContext context) {
  const int64_t now_ms = engine_.env.WallMicros() / 1000;
  AclLogEntry entry{.reason = reason,
                    .context = context,
                    .object = std::string(object),
                    .username = std::string(username),
                    .at_ms = now_ms,
                    .client = ClientLine(session, now_ms, session.last_command, 0)};
  for (size_t i = 0; i < std::min(log_.size(), kAclLogScanned); ++i) {
    if (!SameRefusal(log_[i], entry)) continue;
    entry.count = log_[i].count + 1;
    log_.erase(log_.begin() + static_cast<ptrdiff_t>(i));
    break;
  }
  log_.push_front(std::move(entry));
  const auto limit = static_cast<size_t>(engine_.settings().acllog_max_len);
  if (log_.size() > limit) log_.resize(limit);
}

void Acl::NoteRequest(const Session& session, const AclDecision& decision, const Command& command,
                      std::span<const std::string_view> args, AclContext context) {
  const std::string_view object =
      decision.verdict == AclVerdict::kCommand ? command.full_name : args[decision.argument];
  Note(session, decision.verdict, object, session.user, context);
}

}  // namespace cairn

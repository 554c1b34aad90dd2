// Where users come from and go to: `user` lines of the configuration, and the file of `aclfile`.

#include "server/base/strings.h"
#include "server/engine/acl.h"
#include "server/engine/engine.h"
#include "server/protocol/error_text.h"

namespace cairn {

namespace {

constexpr std::string_view kNoFile =
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users "
    "via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis "
    "configuration file set) in order to store users in the Redis configuration.";
constexpr std::string_view kNothingChanged =
    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

bool HasSpaces(std::string_view text) {
  for (char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r') || c == '\0') return true;
  }
  return false;
}

std::vector<std::string_view> Views(std::span<const std::string> words) {
  return {words.begin(), words.end()};
}

/// Where the selector begins that no parenthesis closes. Requires: there is one.
size_t UnmatchedSelector(const std::vector<std::string_view>& rules) {
  size_t i = rules.size() - 1;
  while (!rules[i].starts_with('(') || rules[i].ends_with(')')) --i;
  return i;
}

}  // namespace

// Redis names the word that stands where the faulty rule would without "user" and the name ahead.
std::string Acl::CheckUserLine(const CommandTable& table, std::span<const std::string> words) {
  const auto fault = [&words](size_t at, std::string_view why) {
    const std::string& named = at == 0 ? "user" : words[at - 1];
    return "Error in user declaration '" + named + "': " + std::string(why);
  };
  const std::vector<std::string_view> rules = Views(words.subspan(1));
  Result<std::vector<std::string>> joined = JoinSelectors(rules);
  if (!joined.ok()) return fault(UnmatchedSelector(rules), kAclUnknownName);
  AclUser user(words[0], /*all_channels=*/false);
  for (size_t i = 0; i < joined->size(); ++i) {
    const Status status = user.Apply(table, (*joined)[i]);
    if (!status.ok() && status.message() != kAclUnknownName) return fault(i, status.message());
  }
  return "";
}

Status Acl::LoadConfiguredUsers() {
  const auto refuse = [this](const std::string& why) {
    engine_.log.Log(LogLevel::kWarning, "{}", why);
    return Status::Client("Critical error while loading ACLs. Exiting.");
  };
  for (const std::vector<std::string>& words : engine_.settings().user) {
    if (HasSpaces(words[0])) return refuse("Spaces not allowed in ACL usernames");
    AclUser* user = Find(words[0]);
    if (user == default_) CAIRN_CHECK(user->Apply(engine_.commands, "reset").ok());
    if (user == nullptr) user = users_.emplace(words[0], NewUser(words[0])).first->second.get();
    const std::vector<std::string_view> rules = Views(std::span(words).subspan(1));
    const auto joined = JoinSelectors(rules);
    if (!joined.ok()) return refuse(std::string(joined.status().message()));
    for (const std::string& rule : *joined) {
      if (const Status status = user->Apply(engine_.commands, rule); !status.ok()) {
        return refuse("Error loading ACL rule '" + rule + "' for the user named '" + words[0] +
                      "': " + std::string(status.message()));
      }
    }
    if (!user->enabled()) {
      engine_.log.Log(LogLevel::kNotice,
                      "The user '{}' is disabled (there is no 'on' modifier in the user "
                      "description). Make sure this is not a configuration error.",
                      user->name());
    }
  }
  return Status::Ok();
}

Status Acl::LoadAtStart() {
  const Settings& settings = engine_.settings();
  if (!settings.user.empty() && !settings.aclfile.empty()) {
    return Status::Client(
        "Configuring Redis with users defined in redis.conf and at the same setting an ACL file "
        "path is invalid. This setup is very likely to lead to configuration errors and security "
        "holes, please define either an ACL file or declare users directly in your redis.conf, "
        "but not both.");
  }
  if (settings.aclfile.empty()) return LoadConfiguredUsers();
  if (Status loaded = LoadFile(); !loaded.ok()) {
    return Status::Client("Aborting Redis startup because of ACL errors: " +
                          std::string(WithoutErr(loaded.message())));
  }
  return Status::Ok();
}

std::string Acl::ReadUserLine(const std::vector<std::string>& words, const std::string& where,
                              Users* users) const {
  if (words.size() < 2 || words[0] != "user")
    return where + " should start with user keyword followed by the username. ";
  const std::string& name = words[1];
  if (HasSpaces(name))
    return "'" + where + ": username '" + name + "' contains invalid characters. ";
  if (users->contains(name)) {
    return "WARNING: Duplicate user '" + name + "' found on line " +
           where.substr(where.rfind(':') + 1) + ". ";
  }
  std::vector<std::string> rules(words.begin() + 2, words.end());
  for (std::string& rule : rules) {
    const size_t end = rule.find_last_not_of("\r\n");
    rule.resize(end == std::string::npos ? 0 : end + 1);
  }
  const std::vector<std::string_view> views = Views(rules);
  Result<std::vector<std::string>> joined = JoinSelectors(views);
  if (!joined.ok()) return where + ": Unmatched parenthesis in selector definition.";
  std::unique_ptr<AclUser> user = NewUser(name);
  std::string errors;
  for (const std::string& rule : *joined) {
    const Status status = user->Apply(engine_.commands, rule);
    if (status.ok()) continue;
    // Only what names a command or category is told which word it was, as in Redis.
    const bool unknown = status.message() == kAclUnknownName;
    errors += where + ": " + (unknown ? "Error in applying operation '" + rule + "': " : "") +
              std::string(status.message()) + ". ";
  }
  users->emplace(name, std::move(user));
  return errors;
}

// Returns every error of the file in one text; empty when there is none.
std::string Acl::ReadUsers(std::string_view text, const std::string& file, Users* users) const {
  std::string errors;
  size_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    const size_t begin = line.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r\n") + 1 - begin);
    std::vector<std::string> words;
    // Rules are split at single spaces, without quotes: a glob may hold one.
    for (size_t at = 0; at <= line.size();) {
      const size_t space = std::min(line.find(' ', at), line.size());
      words.emplace_back(line.substr(at, space - at));
      at = space + 1;
    }
    errors += ReadUserLine(words, file + ":" + std::to_string(line_number), users);
  }
  return errors;
}

Status Acl::LoadFile() {
  const std::string& file = engine_.settings().aclfile;
  if (file.empty()) return RespError(kNoFile);
  const Result<std::string> text = engine_.env.ReadFileToString(file);
  if (!text.ok()) {
    std::string_view why = text.status().message();  // "open FILE: REASON"
    if (const size_t colon = why.rfind(": "); colon != why.npos) why.remove_prefix(colon + 2);
    return Status::Client("ERR Error loading ACLs, opening file '" + file +
                          "': " + std::string(why));
  }
  Users users;
  const std::string errors = ReadUsers(*text, file, &users);
  if (!errors.empty()) return Status::Client("ERR " + errors + std::string(kNothingChanged));

  // The default user is changed in place: sessions and new connections point to it.
  const auto found = users.find(default_->name());
  if (found != users.end()) {
    CloseListenersCutOff(*default_, *found->second);
    *default_ = std::move(*found->second);
    users.erase(found);
  } else {
    AclUser open(default_->name(), /*all_channels=*/false);
    MakeOpen(open);
    *default_ = std::move(open);
  }
  for (const auto& [name, user] : users_) {
    if (user.get() != default_) CloseSessionsOf(*user);
  }
  const auto kept = users_.find(default_->name());
  users.emplace(default_->name(), std::move(kept->second));
  users_ = std::move(users);
  return Status::Ok();
}

Status Acl::SaveFile() {
  const std::string& file = engine_.settings().aclfile;
  if (file.empty()) return RespError(kNoFile);
  std::string text;
  for (const auto& [name, user] : users_) text += user->Describe(engine_.commands) + "\n";
  if (Status written = engine_.env.WriteFileAtomically(file, text); !written.ok()) {
    engine_.log.Log(LogLevel::kWarning, "Saving ACL file '{}': {}", file, written.message());
    return Status::Client(
        "ERR There was an error trying to save the ACLs. Please check the server logs for more "
        "information");
  }
  return Status::Ok();
}

std::vector<std::string> Acl::UserLines() const {
  std::vector<std::string> lines;
  if (!engine_.settings().aclfile.empty()) return lines;
  for (const auto& [name, user] : users_) {
    lines.push_back(user->Describe(engine_.commands).substr(std::string_view("user ").size()));
  }
  return lines;
}

}  // namespace cairn

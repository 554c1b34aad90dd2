#pragma once

// Acl: all users by name, who is logged in as whom, the log of refusals, and the users' two homes:
// `user` lines of the configuration or the file of `aclfile`. What one user may do is acl_user.h.
// The default user always exists, never moves, and is everybody who has not said who they are.
// Thread: executor.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "server/engine/acl_user.h"
#include "server/engine/session.h"

namespace cairn {

class Engine;

/// Entries compared with a new refusal, newest first, and for how long an entry takes new ones in.
/// Source: acl.c of Redis 7.0.
inline constexpr size_t kAclLogScanned = 10;
inline constexpr int64_t kAclLogGroupingMs = 60000;

/// Where a refused request came from, as ACL LOG names it.
enum class AclContext : uint8_t { kToplevel, kMulti, kScript };

/// One line of ACL LOG.
struct AclLogEntry {
  uint64_t count = 1;
  AclVerdict reason = AclVerdict::kCommand;
  AclContext context = AclContext::kToplevel;
  std::string object;  ///< command, key, channel, or the command that tried to log in
  std::string username;
  int64_t at_ms = 0;   ///< wall clock of the last one
  std::string client;  ///< as CLIENT LIST has it
};

class Acl {
 public:
  explicit Acl(Engine& engine);
  Acl(const Acl&) = delete;
  Acl& operator=(const Acl&) = delete;

  AclUser& default_user() { return *default_; }
  const AclUser& default_user() const { return *default_; }
  /// New connections need no password: the default user is on and has none.
  bool open() const { return default_->enabled() && default_->needs_no_password(); }
  AclUser* Find(std::string_view name) const;
  const std::map<std::string, std::unique_ptr<AclUser>, std::less<>>& users() const {
    return users_;
  }

  /// ACL SETUSER: makes the user if need be; all rules or none. Sessions that listen to channels
  /// which are no longer theirs are closed. Errors: "ERR Error in ACL SETUSER modifier ...".
  Status SetUser(std::string_view name, std::span<const std::string_view> rules);
  /// ACL DELUSER of one: its sessions are closed. False when there is none. Requires: not default.
  bool DeleteUser(std::string_view name);
  /// The password of the default user is that of requirepass now; empty: none is needed.
  void SetDefaultPassword(std::string_view password);

  /// AUTH, HELLO AUTH: logs the session in. Errors: WRONGPASS, and an entry in the log. `command`
  /// is the word that asked, as typed.
  Status Authenticate(Session& session, std::string_view name, std::string_view password,
                      std::string_view command);
  /// Makes a session what a new connection is: the default user, logged in if that needs nothing.
  void LogInAsDefault(Session& session);
  void LogIn(Session& session, const AclUser& user);

  /// The permissions of the session for one request.
  static AclDecision Check(const Session& session, const Command& command,
                           std::span<const std::string_view> args);
  /// "NOPERM this user has no permissions to ...".
  static Status Refusal(const AclDecision& decision, const Command& command);

  // --- log ---
  /// Enters a refusal; alike ones within a minute count up. `object` as AclLogEntry has it.
  void Note(const Session& session, AclVerdict reason, std::string_view object,
            std::string_view username, AclContext context);
  /// What Note wants for a refused request.
  void NoteRequest(const Session& session, const AclDecision& decision, const Command& command,
                   std::span<const std::string_view> args, AclContext context);
  const std::deque<AclLogEntry>& log() const { return log_; }  ///< newest first
  void ResetLog() { log_.clear(); }

  // --- homes ---
  /// At start: the configuration's user lines, or the file. Errors: what to log before giving up.
  Status LoadAtStart();
  /// ACL LOAD: replaces all users by the file's, or none. Sessions of others than the default user
  /// are closed. Errors: "ERR ..." with one sentence a broken line.
  Status LoadFile();
  /// ACL SAVE: writes the file whole and durable before it takes the old one's place.
  Status SaveFile();
  /// Judges the words behind `user` in a configuration while it is read; empty when they are fine.
  /// Commands and categories that are not known may come with a module: LoadAtStart judges them.
  static std::string CheckUserLine(const CommandTable& table, std::span<const std::string> words);
  /// What CONFIG REWRITE writes for `user`: nothing when there is a file of users.
  std::vector<std::string> UserLines() const;

 private:
  using Users = std::map<std::string, std::unique_ptr<AclUser>, std::less<>>;
  bool AllChannelsByDefault() const;
  std::unique_ptr<AclUser> NewUser(std::string_view name) const;
  void MakeOpen(AclUser& user) const;
  void CloseSessionsOf(const AclUser& user);
  void CloseListenersCutOff(const AclUser& before, const AclUser& after);
  void Expel(Session& session);
  Status LoadConfiguredUsers();
  std::string ReadUsers(std::string_view text, const std::string& file, Users* users) const;
  std::string ReadUserLine(const std::vector<std::string>& words, const std::string& where,
                           Users* users) const;

  Engine& engine_;
  Users users_;
  AclUser* default_ = nullptr;  // in users_
  std::deque<AclLogEntry> log_;
};

}  // namespace cairn

#pragma once

// AclUser: one user and what it may do, as rules in Redis's language ("on >secret ~cache:* +@read
// (~log:* +append)") and as the sets they mean. A rule changes the sets; the texts of ACL LIST and
// GETUSER are computed back from them, as Redis 7.0 does. It knows the command table, no session
// and no file. Thread: executor.
//
//   user      on | off | nopass | resetpass | >password | <password | #hash | !hash
//             sanitize-payload | skip-sanitize-payload | clearselectors | reset | (selector)
//   selector  +command | -command | +command|subcommand | -command|subcommand | +command|first-arg
//             +@category | -@category | allcommands | nocommands
//             ~glob | %R~glob | %W~glob | %RW~glob | allkeys | resetkeys
//             &glob | allchannels | resetchannels

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "server/engine/command_table.h"

namespace cairn {

/// Commands that permissions tell apart; later ones (of modules) share the last bit.
/// Source: USER_COMMAND_BITS_COUNT of Redis 7.0.
inline constexpr size_t kAclCommandBits = 1024;

/// The refusal of a rule that names no command and no category.
inline constexpr std::string_view kAclUnknownName = "Unknown command or category name in ACL";

/// A text as C shows it: rules and names end at a NUL there, passwords and patterns do not.
inline std::string_view UpToNul(std::string_view text) { return text.substr(0, text.find('\0')); }

/// What a key may be used for; bits.
inline constexpr uint8_t kAclReadKey = 1, kAclWriteKey = 2;

/// Why a command was refused, least specific first: of several selectors the one that came furthest
/// is reported.
enum class AclVerdict : uint8_t { kAllowed, kCommand, kKey, kAuth, kChannel };

/// A verdict and the argument it is about (kKey, kChannel).
struct AclDecision {
  AclVerdict verdict = AclVerdict::kAllowed;
  size_t argument = 0;
  bool allowed() const { return verdict == AclVerdict::kAllowed; }
};

/// The keys and channels of one request, found once however many selectors ask.
class AclRequest {
 public:
  AclRequest(const Command& command, std::span<const std::string_view> args)
      : command_(command), args_(args) {}
  struct Key {
    size_t argument;
    uint8_t access;  ///< kAclReadKey, kAclWriteKey; 0: only its existence is asked
  };
  struct Channel {
    size_t argument;
    bool is_pattern;
  };
  const Command& command() const { return command_; }
  std::span<const std::string_view> args() const { return args_; }
  const std::vector<Key>& keys();
  std::vector<Channel> channels() const;

 private:
  const Command& command_;
  std::span<const std::string_view> args_;
  bool keys_found_ = false;
  std::vector<Key> keys_;
};

class AclSelector {
 public:
  explicit AclSelector(bool all_channels) : all_channels_(all_channels) {}

  /// Applies one rule. Errors: Redis's words for what is wrong with it.
  Status Apply(const CommandTable& table, std::string_view rule);

  AclDecision Check(AclRequest& request) const;
  bool AllowsKey(std::string_view key, uint8_t access) const;
  bool AllowsChannel(std::string_view channel, bool is_pattern) const;
  /// Everything, and what modules may add.
  bool unrestricted() const { return all_commands_ && all_keys_ && all_channels_; }
  bool all_channels() const { return all_channels_; }
  const std::vector<std::string>& channels() const { return channels_; }

  /// "-@all +get": the shortest categories first, then single commands.
  std::string CommandRules(const CommandTable& table) const;
  std::string KeyRules() const;      ///< "~* " without its space, "%R~a ~b"
  std::string ChannelRules() const;  ///< "&*", "&a &b"; empty when none
  /// All three as ACL LIST has them.
  std::string Describe(const CommandTable& table) const;

 private:
  struct KeyGlob {
    std::string glob;
    uint8_t access;
  };
  Status ApplyKeyRule(std::string_view rule);
  Status ApplyChannelRule(std::string_view glob);
  Status ApplyCommandRule(const CommandTable& table, std::string_view rule);
  Status AllowFirstArgument(const CommandTable& table, std::string_view name);
  bool ApplyCategory(const CommandTable& table, std::string_view name, bool allow);
  void SetCommand(const Command& command, bool allow);
  void SetAll(bool allow);
  bool HasCommand(const Command& command) const;
  bool AllowsCommand(const AclRequest& request) const;
  /// Commands of each category that this selector has and has not, by the category's bit.
  struct CategoryCounts {
    std::array<size_t, 64> on{}, off{};
  };
  CategoryCounts CountCategories(const CommandTable& table) const;

  std::bitset<kAclCommandBits> commands_;
  std::map<uint32_t, std::vector<std::string>> first_arguments_;  // by command id
  bool all_commands_ = false;     // every command, none was taken away since
  bool future_commands_ = false;  // commands that come later are allowed (+@all stands at the root)
  bool all_keys_ = false;
  bool all_channels_ = false;
  std::vector<KeyGlob> keys_;
  std::vector<std::string> channels_;
};

class AclUser {
 public:
  /// A new user: off, no password, no permission but the channels of `all_channels`
  /// (acl-pubsub-default).
  AclUser(std::string name, bool all_channels);

  /// Applies one rule; a selector stands in one piece, in parentheses. Errors: Redis's words.
  Status Apply(const CommandTable& table, std::string_view rule);

  const std::string& name() const { return name_; }
  bool enabled() const { return enabled_; }
  bool needs_no_password() const { return no_password_; }
  /// May do everything: the one test of the dispatcher's gate.
  bool unrestricted() const { return unrestricted_; }
  /// Cost: O(passwords); the comparison takes the same time wherever it fails.
  bool HasPassword(std::string_view password) const;

  /// The root permissions and, when they do not do, each selector.
  AclDecision Check(AclRequest& request) const;
  /// Whether any key may be used so: for commands that reach keys beyond their arguments (SORT BY).
  bool AllowsEveryKey(AclRequest& request, uint8_t access) const;
  bool AllowsChannel(std::string_view channel, bool is_pattern) const;

  std::vector<std::string_view> FlagWords() const;
  const std::vector<std::string>& password_hashes() const { return passwords_; }
  const AclSelector& root() const { return root_; }
  const std::vector<AclSelector>& selectors() const { return selectors_; }
  /// "user name on ~* ...", a line of ACL LIST and of a file.
  std::string Describe(const CommandTable& table) const;

 private:
  Status ApplyPasswordRule(std::string_view rule);
  Status AddSelector(const CommandTable& table, std::string_view rule);
  void Reset(const CommandTable& table);

  std::string name_;
  bool enabled_ = false;
  bool no_password_ = false;
  bool unrestricted_ = false;
  enum class Sanitize : uint8_t { kUnsaid, kYes, kSkip } sanitize_ = Sanitize::kUnsaid;
  bool all_channels_by_default_;
  std::vector<std::string> passwords_;  // SHA-256 in lower-case hex
  AclSelector root_;
  std::vector<AclSelector> selectors_;
};

/// Lower-case hex of the SHA-256 of a password.
std::string AclPasswordHash(std::string_view password);

/// Joins the words of a selector that was typed with spaces: "(~a", "+get)" becomes "(~a +get)".
/// Errors: "Unmatched parenthesis in acl selector starting at '(~a'."
Result<std::vector<std::string>> JoinSelectors(std::span<const std::string_view> rules);

}  // namespace cairn

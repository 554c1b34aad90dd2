// AclSelector: the permissions of a user's root and of its selectors (acl_user.h).

#include <algorithm>
#include <bit>

#include "server/base/strings.h"
#include "server/engine/acl_user.h"
#include "server/engine/command_reference.h"

namespace cairn {

namespace {

constexpr std::string_view kSyntaxError = "Syntax error";
constexpr std::string_view kAllKeysAlready =
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have "
    "any effect. Try 'resetkeys' to start with an empty list of patterns";
constexpr std::string_view kAllChannelsAlready =
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not "
    "have any effect. Try 'resetchannels' to start with an empty list of channels";
constexpr std::string_view kFirstArgumentOfSubcommand =
    "Allowing first-arg of a subcommand is not supported";

Status Refused(std::string_view why) { return Status::Client(std::string(why)); }

bool HasSpaces(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0'; });
}

/// What the flags of a key spec ask for.
uint8_t AccessOf(uint32_t key_flags) {
  uint8_t access = 0;
  if (key_flags & kKeyAccess) access |= kAclReadKey;
  if (key_flags & (kKeyInsert | kKeyDelete | kKeyUpdate)) access |= kAclWriteKey;
  return access;
}

/// By the name it has in Redis: rules do not follow rename-command. nullptr when unknown.
const Command* FindOriginal(const CommandTable& table, std::string_view full_name) {
  // Mostly it still has that name.
  const Command* known = table.FindByFullName(full_name);
  if (known != nullptr && EqualsIgnoreCase(known->full_name, full_name)) return known;
  for (const auto& command : table.all()) {
    if (EqualsIgnoreCase(command->full_name, full_name)) return command.get();
  }
  return nullptr;
}

}  // namespace

const std::vector<AclRequest::Key>& AclRequest::keys() {
  if (keys_found_) return keys_;
  keys_found_ = true;
  const auto& specs = command_.spec->keys;
  const bool has_keys = std::any_of(specs.begin(), specs.end(), [](const KeySpec& spec) {
    return spec.begin != KeySpec::Begin::kNone && !(spec.flags & kKeyNotKey);
  });
  std::vector<KeyPosition> positions;
  if (!has_keys || !ExtractKeys(command_, args_, &positions).ok()) return keys_;
  for (const KeyPosition& position : positions) {
    if (position.flags & kKeyNotKey) continue;
    keys_.push_back({position.index, AccessOf(position.flags)});
  }
  return keys_;
}

std::vector<AclRequest::Channel> AclRequest::channels() const {
  if (!(command_.flags & kCmdPubsub) || command_.parent != nullptr) return {};
  const std::string_view name = command_.spec->name;
  size_t end = 0;
  if (name == "publish" || name == "spublish") end = std::min<size_t>(2, args_.size());
  if (name == "subscribe" || name == "ssubscribe" || name == "psubscribe") end = args_.size();
  std::vector<Channel> channels;
  for (size_t i = 1; i < end; ++i) channels.push_back({i, name == "psubscribe"});
  return channels;
}

// --- asking ---

bool AclSelector::HasCommand(const Command& command) const {
  return commands_.test(std::min<size_t>(command.id, kAclCommandBits - 1));
}

bool AclSelector::AllowsCommand(const AclRequest& request) const {
  const Command& command = request.command();
  if (all_commands_ || (command.flags & kCmdNoAuth) || HasCommand(command)) return true;
  const auto found = first_arguments_.find(command.id);
  if (found == first_arguments_.end() || request.args().size() < 2) return false;
  return std::any_of(found->second.begin(), found->second.end(), [&](const std::string& word) {
    return EqualsIgnoreCase(word, request.args()[1]);
  });
}

bool AclSelector::AllowsKey(std::string_view key, uint8_t access) const {
  if (all_keys_) return true;
  return std::any_of(keys_.begin(), keys_.end(), [&](const KeyGlob& each) {
    return (each.access & access) == access && GlobMatch(each.glob, key, /*nocase=*/false);
  });
}

bool AclSelector::AllowsChannel(std::string_view channel, bool is_pattern) const {
  if (all_channels_) return true;
  return std::any_of(channels_.begin(), channels_.end(), [&](const std::string& glob) {
    // A pattern is allowed by the very same pattern only: what it matches cannot be told.
    return is_pattern ? glob == channel : GlobMatch(glob, channel, /*nocase=*/false);
  });
}

AclDecision AclSelector::Check(AclRequest& request) const {
  if (!AllowsCommand(request)) return {AclVerdict::kCommand, 0};
  if (!all_keys_) {
    for (const AclRequest::Key& key : request.keys()) {
      if (!AllowsKey(request.args()[key.argument], key.access))
        return {AclVerdict::kKey, key.argument};
    }
  }
  if (!all_channels_) {
    for (const AclRequest::Channel& channel : request.channels()) {
      if (!AllowsChannel(request.args()[channel.argument], channel.is_pattern))
        return {AclVerdict::kChannel, channel.argument};
    }
  }
  return {};
}

// --- changing ---

void AclSelector::SetAll(bool allow) {
  if (allow) {
    commands_.set();
  } else {
    commands_.reset();
  }
  all_commands_ = future_commands_ = allow;
  first_arguments_.clear();
}

void AclSelector::SetCommand(const Command& command, bool allow) {
  commands_.set(std::min<size_t>(command.id, kAclCommandBits - 1), allow);
  if (!allow) all_commands_ = false;
  first_arguments_.erase(command.id);
  for (const Command* sub : command.subcommands) SetCommand(*sub, allow);
}

bool AclSelector::ApplyCategory(const CommandTable& table, std::string_view name, bool allow) {
  if (EqualsIgnoreCase(name, "all")) {
    SetAll(allow);
    return true;
  }
  const uint64_t category = AclCategoryByName(name);
  if (category == 0) return false;
  for (const auto& command : table.all()) {
    if (command->acl & category && !(command->flags & kCmdModule)) SetCommand(*command, allow);
  }
  return true;
}

Status AclSelector::AllowFirstArgument(const CommandTable& table, std::string_view name) {
  const size_t bar = name.rfind('|');
  const Command* command = FindOriginal(table, name.substr(0, bar));
  if (command == nullptr) return Refused(kAclUnknownName);
  if (command->parent != nullptr) return Refused(kFirstArgumentOfSubcommand);
  const std::string_view word = name.substr(bar + 1);
  if (word.empty()) return Refused(kSyntaxError);
  if (!command->subcommands.empty()) {
    const Command* sub = FindOriginal(table, name);
    if (sub == nullptr) return Refused(kAclUnknownName);
    SetCommand(*sub, true);
    return Status::Ok();
  }
  std::vector<std::string>& words = first_arguments_[command->id];
  if (std::none_of(words.begin(), words.end(),
                   [word](const std::string& each) { return EqualsIgnoreCase(each, word); }))
    words.emplace_back(word);
  return Status::Ok();
}

Status AclSelector::ApplyCommandRule(const CommandTable& table, std::string_view rule) {
  const bool allow = rule[0] == '+';
  const std::string_view name = rule.substr(1);
  if (name.starts_with('@')) {
    return ApplyCategory(table, name.substr(1), allow) ? Status::Ok() : Refused(kAclUnknownName);
  }
  if (allow && name.find('|') != std::string_view::npos) return AllowFirstArgument(table, name);
  const Command* command = FindOriginal(table, name);
  if (command == nullptr) return Refused(kAclUnknownName);
  SetCommand(*command, allow);
  return Status::Ok();
}

Status AclSelector::ApplyKeyRule(std::string_view rule) {
  if (all_keys_) return Refused(kAllKeysAlready);
  uint8_t access = kAclReadKey | kAclWriteKey;
  size_t at = 1;
  if (rule[0] == '%') {
    access = 0;
    for (; at < rule.size() && rule[at] != '~'; ++at) {
      const char letter = static_cast<char>(rule[at] & ~0x20);
      const uint8_t bit = letter == 'R' ? kAclReadKey : letter == 'W' ? kAclWriteKey : 0;
      if (bit == 0 || (access & bit)) return Refused(kSyntaxError);
      access |= bit;
    }
    if (access == 0) return Refused(kSyntaxError);
    at = std::min(at + 1, rule.size());
  }
  const std::string_view glob = rule.substr(at);
  if (HasSpaces(glob)) return Refused(kSyntaxError);
  const auto found = std::find_if(keys_.begin(), keys_.end(),
                                  [glob](const KeyGlob& each) { return each.glob == glob; });
  if (found != keys_.end()) {
    found->access |= access;
  } else {
    keys_.push_back({std::string(glob), access});
  }
  return Status::Ok();
}

Status AclSelector::ApplyChannelRule(std::string_view glob) {
  if (all_channels_) return Refused(kAllChannelsAlready);
  if (HasSpaces(glob)) return Refused(kSyntaxError);
  if (std::find(channels_.begin(), channels_.end(), glob) == channels_.end())
    channels_.emplace_back(glob);
  return Status::Ok();
}

Status AclSelector::Apply(const CommandTable& table, std::string_view rule) {
  if (rule.empty()) return Refused(kSyntaxError);
  const std::string_view word = UpToNul(rule);  // patterns do not end there
  if (EqualsIgnoreCase(word, "allkeys") || word == "~*") {
    all_keys_ = true;
    keys_.clear();
  } else if (EqualsIgnoreCase(word, "resetkeys")) {
    all_keys_ = false;
    keys_.clear();
  } else if (EqualsIgnoreCase(word, "allchannels") || word == "&*") {
    all_channels_ = true;
    channels_.clear();
  } else if (EqualsIgnoreCase(word, "resetchannels")) {
    all_channels_ = false;
    channels_.clear();
  } else if (EqualsIgnoreCase(word, "allcommands")) {
    SetAll(true);
  } else if (EqualsIgnoreCase(word, "nocommands")) {
    SetAll(false);
  } else if (rule[0] == '~' || rule[0] == '%') {
    return ApplyKeyRule(rule);
  } else if (rule[0] == '&') {
    return ApplyChannelRule(rule.substr(1));
  } else if (rule[0] == '+' || rule[0] == '-') {
    return ApplyCommandRule(table, word);
  } else {
    return Refused(kSyntaxError);
  }
  return Status::Ok();
}

// --- describing ---

AclSelector::CategoryCounts AclSelector::CountCategories(const CommandTable& table) const {
  CategoryCounts counts;
  for (const auto& command : table.all()) {
    auto& side = HasCommand(*command) ? counts.on : counts.off;
    for (uint64_t left = command->acl; left != 0; left &= left - 1)
      ++side[static_cast<size_t>(std::countr_zero(left))];
  }
  return counts;
}

// The rules are found by applying them: `rest` is what is still to be said, `said` what the rules
// so far mean. Categories first, always the one that fits best; then the commands that differ.
std::string AclSelector::CommandRules(const CommandTable& table) const {
  const bool additive = !future_commands_;
  std::string rules = additive ? "-@all" : "+@all";
  AclSelector said(false);
  said.SetAll(!additive);
  AclSelector rest = *this;
  const std::vector<std::string_view> categories = AclCategoryNames(~uint64_t{0});
  std::vector<bool> applied(categories.size());
  while (true) {
    size_t best = categories.size(), least = SIZE_MAX, most = 0;
    const CategoryCounts counts = rest.CountCategories(table);
    for (size_t i = 0; i < categories.size(); ++i) {
      if (applied[i]) continue;
      const auto bit =
          static_cast<size_t>(std::countr_zero(AclCategoryByName(categories[i].substr(1))));
      const size_t on = counts.on[bit], off = counts.off[bit];
      const size_t different = additive ? off : on;
      const size_t same = additive ? on : off;
      if (same <= different || different > least || (different == least && same <= most)) continue;
      best = i;
      least = different;
      most = same;
    }
    if (best == categories.size()) break;
    applied[best] = true;
    const std::string_view name = categories[best].substr(1);
    said.ApplyCategory(table, name, additive);
    rest.ApplyCategory(table, name, !additive);
    rules += (additive ? " +@" : " -@") + std::string(name);
  }
  const auto add = [&](const Command& command) {
    const bool has = HasCommand(command);
    if (has != said.HasCommand(command)) {
      rules += (has ? " +" : " -") + command.full_name;
      said.SetCommand(command, has);
    }
    return has;
  };
  for (const Command* command : table.top_level()) {
    const bool has = add(*command);
    for (const Command* sub : command->subcommands) add(*sub);
    const auto words = first_arguments_.find(command->id);
    if (has || words == first_arguments_.end()) continue;
    for (const std::string& word : words->second) rules += " +" + command->full_name + "|" + word;
  }
  return rules;
}

std::string AclSelector::KeyRules() const {
  if (all_keys_) return "~*";
  std::string rules;
  for (const KeyGlob& key : keys_) {
    if (!rules.empty()) rules += ' ';
    rules += key.access == kAclReadKey ? "%R~" : key.access == kAclWriteKey ? "%W~" : "~";
    rules += key.glob;
  }
  return rules;
}

std::string AclSelector::ChannelRules() const {
  if (all_channels_) return "&*";
  std::string rules;
  for (const std::string& channel : channels_) rules += (rules.empty() ? "&" : " &") + channel;
  return rules;
}

std::string AclSelector::Describe(const CommandTable& table) const {
  std::string text = KeyRules();
  if (!text.empty()) text += ' ';
  if (!all_channels_) text += "resetchannels ";
  const std::string channels = ChannelRules();
  if (!channels.empty()) text += channels + " ";
  return text + CommandRules(table);
}

}  // namespace cairn

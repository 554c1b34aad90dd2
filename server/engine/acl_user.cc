#include "server/engine/acl_user.h"

#include <openssl/sha.h>

#include <algorithm>

#include "server/base/check.h"
#include "server/base/checksum.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

constexpr size_t kHashHexChars = 2 * SHA256_DIGEST_LENGTH;

constexpr std::string_view kSyntaxError = "Syntax error";
constexpr std::string_view kBadHash =
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal "
    "characters";
constexpr std::string_view kNoSuchPassword =
    "The password you are trying to remove from the user does not exist";

Status Refused(std::string_view why) { return Status::Client(std::string(why)); }

bool IsHash(std::string_view text) {
  return text.size() == kHashHexChars && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

std::string AclPasswordHash(std::string_view password) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(password.data()), password.size(), hash);
  return HexEncode(std::string_view(reinterpret_cast<const char*>(hash), sizeof hash));
}

Result<std::vector<std::string>> JoinSelectors(std::span<const std::string_view> rules) {
  std::vector<std::string> joined;
  std::string selector;
  const std::string_view* open = nullptr;
  for (const std::string_view& rule : rules) {
    const bool closes = rule.ends_with(')');
    if (rule.starts_with('(') && !closes) {
      selector = rule;  // forgets one that is open, as Redis does
      open = &rule;
    } else if (open == nullptr) {
      joined.emplace_back(rule);
    } else {
      selector += ' ';
      selector += UpToNul(rule);
      if (!closes) continue;
      joined.push_back(std::move(selector));
      open = nullptr;
    }
  }
  if (open != nullptr) {
    return Status::Client("Unmatched parenthesis in acl selector starting at '" +
                          std::string(UpToNul(*open)) + "'.");
  }
  return joined;
}

AclUser::AclUser(std::string name, bool all_channels)
    : name_(std::move(name)), all_channels_by_default_(all_channels), root_(all_channels) {}

void AclUser::Reset(const CommandTable& table) {
  passwords_.clear();
  enabled_ = no_password_ = false;
  sanitize_ = Sanitize::kYes;
  selectors_.clear();
  for (std::string_view rule : {"resetkeys", "resetchannels", "-@all"})
    CAIRN_CHECK(root_.Apply(table, rule).ok());
  if (all_channels_by_default_) CAIRN_CHECK(root_.Apply(table, "allchannels").ok());
}

Status AclUser::ApplyPasswordRule(std::string_view rule) {
  const char kind = rule[0];
  const std::string_view text = rule.substr(1);
  const bool hashed = kind == '#' || kind == '!';
  if (hashed && !IsHash(text)) return Refused(kBadHash);
  const std::string hash = hashed ? std::string(text) : AclPasswordHash(text);
  const auto found = std::find(passwords_.begin(), passwords_.end(), hash);
  if (kind == '>' || kind == '#') {
    if (found == passwords_.end()) passwords_.push_back(hash);
    no_password_ = false;
    return Status::Ok();
  }
  if (found == passwords_.end()) return Refused(kNoSuchPassword);
  passwords_.erase(found);
  return Status::Ok();
}

Status AclUser::AddSelector(const CommandTable& table, std::string_view rule) {
  if (!rule.ends_with(')')) return Refused(kSyntaxError);
  Result<std::vector<std::string>> rules = SplitArgs(UpToNul(rule.substr(1, rule.size() - 2)));
  if (!rules.ok()) return Refused(kSyntaxError);
  AclSelector selector(all_channels_by_default_);
  for (const std::string& each : *rules) CAIRN_RETURN_IF_ERROR(selector.Apply(table, each));
  selectors_.push_back(std::move(selector));
  return Status::Ok();
}

Status AclUser::Apply(const CommandTable& table, std::string_view rule) {
  if (rule.empty()) return Status::Ok();
  const std::string_view word = UpToNul(rule);  // passwords do not end there
  Status status;
  if (EqualsIgnoreCase(word, "on")) {
    enabled_ = true;
  } else if (EqualsIgnoreCase(word, "off")) {
    enabled_ = false;
  } else if (EqualsIgnoreCase(word, "nopass")) {
    no_password_ = true;
    passwords_.clear();
  } else if (EqualsIgnoreCase(word, "resetpass")) {
    no_password_ = false;
    passwords_.clear();
  } else if (EqualsIgnoreCase(word, "sanitize-payload")) {
    sanitize_ = Sanitize::kYes;
  } else if (EqualsIgnoreCase(word, "skip-sanitize-payload")) {
    sanitize_ = Sanitize::kSkip;
  } else if (std::string_view("><#!").find(rule[0]) != std::string_view::npos) {
    status = ApplyPasswordRule(rule);
  } else if (rule[0] == '(') {
    status = AddSelector(table, rule);
  } else if (EqualsIgnoreCase(word, "clearselectors")) {
    selectors_.clear();
  } else if (EqualsIgnoreCase(word, "reset")) {
    Reset(table);
  } else {
    status = root_.Apply(table, rule);
  }
  unrestricted_ = root_.unrestricted();
  return status;
}

bool AclUser::HasPassword(std::string_view password) const {
  const std::string hash = AclPasswordHash(password);
  bool found = false;
  for (const std::string& known : passwords_) {
    unsigned char difference = 0;
    for (size_t i = 0; i < kHashHexChars; ++i)
      difference |= static_cast<unsigned char>(hash[i] ^ known[i]);
    found |= difference == 0;
  }
  return found;
}

AclDecision AclUser::Check(AclRequest& request) const {
  AclDecision decision = root_.Check(request);
  for (const AclSelector& selector : selectors_) {
    if (decision.allowed()) break;
    const AclDecision other = selector.Check(request);
    if (other.allowed()) return other;
    if (other.verdict > decision.verdict ||
        (other.verdict == decision.verdict && other.argument > decision.argument))
      decision = other;
  }
  return decision;
}

bool AclUser::AllowsEveryKey(AclRequest& request, uint8_t access) const {
  // Only a glob of "*" covers names that are not known yet.
  const auto allows = [&](const AclSelector& selector) {
    return selector.AllowsKey("*", access) && selector.Check(request).allowed();
  };
  return allows(root_) || std::any_of(selectors_.begin(), selectors_.end(), allows);
}

bool AclUser::AllowsChannel(std::string_view channel, bool is_pattern) const {
  return root_.AllowsChannel(channel, is_pattern) ||
         std::any_of(selectors_.begin(), selectors_.end(), [&](const AclSelector& selector) {
           return selector.AllowsChannel(channel, is_pattern);
         });
}

std::vector<std::string_view> AclUser::FlagWords() const {
  std::vector<std::string_view> words = {enabled_ ? "on" : "off"};
  if (no_password_) words.push_back("nopass");
  if (sanitize_ == Sanitize::kSkip) words.push_back("skip-sanitize-payload");
  if (sanitize_ == Sanitize::kYes) words.push_back("sanitize-payload");
  return words;
}

std::string AclUser::Describe(const CommandTable& table) const {
  std::string line = "user " + name_;
  for (std::string_view word : FlagWords()) line += " " + std::string(word);
  for (const std::string& hash : passwords_) line += " #" + hash;
  line += " " + root_.Describe(table);
  for (const AclSelector& selector : selectors_) line += " (" + selector.Describe(table) + ")";
  return line;
}

}  // namespace cairn

#include "persistence/save_rules.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace cairn {
namespace {

Status Invalid() { return Status::Client("Invalid save parameters"); }

/// As lenient as Redis: a sign and leading zeros pass, too large means the largest.
bool ParseNumber(std::string_view text, int64_t* out) {
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return false;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (stop != text.data() + text.size()) return false;
  if (error == std::errc::result_out_of_range) {
    *out = text.front() == '-' ? std::numeric_limits<int64_t>::min()
                               : std::numeric_limits<int64_t>::max();
    return true;
  }
  return error == std::errc();
}

}  // namespace

SaveRules SaveRules::Of(std::span<const std::pair<int64_t, int64_t>> pairs) {
  SaveRules rules;
  for (const auto& [seconds, changes] : pairs) rules.rules_.push_back({seconds, changes});
  return rules;
}

SaveRules SaveRules::Default() {
  SaveRules rules;
  rules.rules_ = {{3600, 1}, {300, 100}, {60, 10000}};
  return rules;
}

Result<SaveRules> SaveRules::Parse(std::string_view value) {
  SaveRules rules;
  CAIRN_RETURN_IF_ERROR(rules.Add(value));
  return rules;
}

Status SaveRules::Add(std::string_view value) {
  if (value.empty()) {
    rules_.clear();
    return Status::Ok();
  }
  std::vector<int64_t> numbers;
  for (size_t at = 0; at <= value.size();) {
    const size_t space = std::min(value.find(' ', at), value.size());
    int64_t number = 0;
    const int64_t least = numbers.size() % 2 == 0 ? 1 : 0;
    if (!ParseNumber(value.substr(at, space - at), &number) || number < least) return Invalid();
    numbers.push_back(number);
    at = space + 1;
  }
  if (numbers.size() % 2 != 0) return Invalid();
  for (size_t i = 0; i < numbers.size(); i += 2) rules_.push_back({numbers[i], numbers[i + 1]});
  return Status::Ok();
}

std::string SaveRules::Format() const {
  std::string text;
  for (const SaveRule& rule : rules_) {
    if (!text.empty()) text += ' ';
    text += std::to_string(rule.seconds) + ' ' + std::to_string(rule.changes);
  }
  return text;
}

bool SaveRules::ShouldSave(int64_t changes, int64_t seconds_since_last_save, bool last_failed,
                           int64_t seconds_since_last_attempt) const {
  if (last_failed && seconds_since_last_attempt <= kRetryDelayS) return false;
  return std::any_of(rules_.begin(), rules_.end(), [&](const SaveRule& rule) {
    return changes >= rule.changes && seconds_since_last_save > rule.seconds;
  });
}

}  // namespace cairn

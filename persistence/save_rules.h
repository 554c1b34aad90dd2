#pragma once

// SaveRules: the `save <seconds> <changes>` tiers, as configured, shown and asked. Plain data
// without a clock: the caller brings the numbers. Owned and used by the loop thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/status.h"

namespace cairn {

struct SaveRule {
  int64_t seconds = 0;
  int64_t changes = 0;
  bool operator==(const SaveRule&) const = default;
};

class SaveRules {
 public:
  /// Wait after a failed save before the rules may start the next.
  static constexpr int64_t kRetryDelayS = 5;

  /// Without rules: never saves by itself.
  SaveRules() = default;
  /// From pairs of (seconds, changes), as the settings keep them.
  static SaveRules Of(std::span<const std::pair<int64_t, int64_t>> pairs);
  /// Redis's defaults: 3600 1, 300 100, 60 10000.
  static SaveRules Default();
  /// Parses a value as CONFIG SET save takes it: pairs in any number ("900 1 300 10"), "" for none.
  /// Errors: kClient "Invalid save parameters": Redis's reason, for the caller to put into its
  /// line.
  static Result<SaveRules> Parse(std::string_view value);

  /// One `save` line of a configuration file: appends its pairs; an empty value clears what came
  /// before it. On an error nothing has changed.
  Status Add(std::string_view value);
  /// As CONFIG GET save shows it: "3600 1 300 100"; "" without rules.
  std::string Format() const;

  /// True when any tier is due: at least its changes, more than its seconds since the last save,
  /// and, after a failure, more than kRetryDelayS since the last attempt. Cost: O(rules).
  bool ShouldSave(int64_t changes, int64_t seconds_since_last_save, bool last_failed,
                  int64_t seconds_since_last_attempt) const;

  bool empty() const { return rules_.empty(); }
  const std::vector<SaveRule>& rules() const { return rules_; }
  bool operator==(const SaveRules&) const = default;

 private:
  std::vector<SaveRule> rules_;
};

}  // namespace cairn

#include "server/engine/config.h"

#include <algorithm>

#include "server/base/strings.h"
#include "server/engine/settings_table.h"
#include "server/platform/env.h"
#include "server/platform/working_directory.h"
#include "server/protocol/resp_errors.h"

namespace cairn {
namespace {

constexpr int kMinHz = 1;
constexpr int kMaxHz = 500;
/// A smaller backlog is taken to be this.
constexpr int64_t kMinReplBacklogBytes = 16 * 1024;

Status SetFailed(std::string_view name, std::string_view reason) {
  return Status::Client("ERR CONFIG SET failed (possibly related to argument '" +
                        std::string(name) + "') - " + std::string(reason));
}

/// CONFIG SET parts the words of a value at single spaces, so two spaces make an empty word.
std::vector<std::string> SplitAtSpaces(std::string_view value) {
  std::vector<std::string> words;
  if (value.empty()) return words;
  while (true) {
    const size_t space = value.find(' ');
    words.emplace_back(value.substr(0, space));
    if (space == std::string_view::npos) return words;
    value.remove_prefix(space + 1);
  }
}

}  // namespace

Config::Config(Env& env, WorkingDirectory& directory) : env_(env), directory_(directory) {
  settings_.dir = directory_.Current();
}

std::vector<Config::NameAndValue> Config::Get(std::span<const std::string_view> patterns) const {
  std::vector<NameAndValue> found;
  const auto add = [&](std::string_view name, const SettingSpec& spec) {
    for (const NameAndValue& entry : found) {
      if (EqualsIgnoreCase(entry.first, name)) return;
    }
    found.emplace_back(name, FormatSetting(spec, settings_));
  };
  for (const std::string_view pattern : patterns) {
    if (!HasGlob(pattern)) {
      if (const SettingSpec* spec = FindSetting(pattern)) add(pattern, *spec);
      continue;
    }
    for (const SettingSpec* spec : AllSettings()) {
      if ((spec->flags & kSettingHidden) != 0) continue;
      if (GlobMatch(pattern, spec->name, true)) add(spec->name, *spec);
      if (spec->alias != nullptr && GlobMatch(pattern, spec->alias, true)) add(spec->alias, *spec);
    }
  }
  return found;
}

std::string Config::GetOne(std::string_view name) const {
  const SettingSpec* spec = FindSetting(name);
  CAIRN_CHECK(spec != nullptr);
  return FormatSetting(*spec, settings_);
}

bool Config::IsSensitive(std::string_view name) {
  const SettingSpec* spec = FindSetting(name);
  return spec != nullptr && (spec->flags & kSettingSensitive) != 0;
}

// -- CONFIG SET

Status Config::ChooseSettings(std::span<const NameAndValue> pairs, const SetContext& context,
                              std::vector<Chosen>* chosen) const {
  const GuardedAccess guard = settings_.enable_protected_configs;
  const bool may_protected =
      guard == GuardedAccess::kYes || (guard == GuardedAccess::kLocal && context.client_is_local);
  for (const auto& [name, value] : pairs) {
    bool is_alias = false;
    const SettingSpec* spec = FindSetting(name, &is_alias);
    if (spec == nullptr) {
      return QuotingError(
          {"ERR Unknown option or number of arguments for CONFIG SET - '", name, "'"});
    }
    if ((spec->flags & kSettingImmutable) != 0) {
      return SetFailed(name, "can't set immutable config");
    }
    if ((spec->flags & kSettingProtected) != 0 && !may_protected) {
      return SetFailed(name, "can't set protected config");
    }
    if (context.loading && (spec->flags & kSettingDenyLoading) != 0) {
      return Status::Client("LOADING Redis is loading the dataset in memory");
    }
    // As in Redis a setting and its old alias count as two, and the later one wins.
    std::string shown_name = is_alias ? spec->alias : spec->name;
    for (const Chosen& earlier : *chosen) {
      if (earlier.shown_name == shown_name) return SetFailed(name, "duplicate parameter");
    }
    chosen->push_back({spec, std::move(shown_name)});
  }
  return Status::Ok();
}

Status Config::Set(std::span<const NameAndValue> pairs, const SetContext& context) {
  std::vector<Chosen> chosen;
  CAIRN_RETURN_IF_ERROR(ChooseSettings(pairs, context, &chosen));
  const Settings before = settings_;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const SettingSpec& spec = *chosen[i].spec;
    const bool is_multi = (spec.flags & kSettingMultiArg) != 0;
    const std::vector<std::string> words =
        is_multi ? SplitAtSpaces(pairs[i].second) : std::vector<std::string>{pairs[i].second};
    std::string error = ParseSetting(spec, settings_, words);
    if (error.empty()) error = FixUp(spec);
    if (!error.empty()) {
      Restore(before);
      return SetFailed(chosen[i].shown_name, error);
    }
  }
  return RunHooks(chosen, before);
}

/// What a new value means inside Config itself. Returns an error text, empty when fine.
std::string Config::FixUp(const SettingSpec& spec) {
  settings_.hz = std::clamp(settings_.hz, kMinHz, kMaxHz);
  settings_.repl_backlog_size = std::max(settings_.repl_backlog_size, kMinReplBacklogBytes);
  if (std::string_view(spec.name) == "dir") {
    const Status changed = directory_.Change(settings_.dir);
    if (!changed.ok()) return std::string(changed.message());
    settings_.dir = directory_.Current();
  }
  return {};
}

void Config::Restore(const Settings& before) {
  // The old directory was there a moment ago. If it is gone by now, staying is all that is left.
  const bool was_elsewhere = directory_.Current() != before.dir;
  settings_ = before;
  if (was_elsewhere && !directory_.Change(before.dir).ok()) settings_.dir = directory_.Current();
}

Status Config::CallHooks(std::string_view name, const Settings& before, const Settings& after) {
  for (const auto& [hooked, hook] : hooks_) {
    if (hooked == name) CAIRN_RETURN_IF_ERROR(hook(before, after));
  }
  return Status::Ok();
}

Status Config::RunHooks(std::span<const Chosen> chosen, const Settings& before) {
  const Settings after = settings_;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const SettingSpec& spec = *chosen[i].spec;
    if (FormatSetting(spec, before) == FormatSetting(spec, after)) continue;
    const Status refused = CallHooks(spec.name, before, after);
    if (refused.ok()) continue;
    Restore(before);
    for (size_t j = 0; j <= i; ++j) {
      // Told to go back to what worked a moment ago; a second refusal leaves nothing better to do.
      const Status undone = CallHooks(chosen[j].spec->name, after, before);
      (void)undone;
    }
    return SetFailed(chosen[i].shown_name, refused.message());
  }
  return Status::Ok();
}

// -- Registration

void Config::OnChange(std::string_view name, ChangeHook hook) {
  bool is_alias = false;
  CAIRN_CHECK(FindSetting(name, &is_alias) != nullptr && !is_alias);
  hooks_.emplace_back(name, std::move(hook));
}

void Config::SetLineSource(std::string_view directive, LineSource source) {
  line_sources_.emplace_back(directive, std::move(source));
}

void Config::SetDirectiveCheck(std::string_view directive, DirectiveCheck check) {
  directive_checks_.emplace_back(directive, std::move(check));
}

}  // namespace cairn

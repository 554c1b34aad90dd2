// Config's start-up: arguments, files, include, and the form of the errors that end it.

#include <algorithm>
#include <cstring>

#include "server/base/strings.h"
#include "server/engine/config.h"
#include "server/engine/settings_table.h"
#include "server/platform/env.h"
#include "server/platform/working_directory.h"

namespace cairn {
namespace {

/// Files that include files, so deep; a file that includes itself ends here.
constexpr int kMaxIncludeDepth = 16;
constexpr std::string_view kBlank = " \t\r\n";

std::string_view Trim(std::string_view line) {
  const size_t first = line.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(kBlank) - first + 1);
}

std::string FatalText(std::string_view detail) {
  return "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n" + std::string(detail);
}

/// The errno text at the end of an Env error.
std::string_view ErrnoText(const Status& status) {
  const std::string_view message = status.message();
  const size_t colon = message.rfind(": ");
  return colon == std::string_view::npos ? message : message.substr(colon + 2);
}

std::string AbsolutePath(const std::string& directory, std::string_view path) {
  path = Trim(path);
  if (path.starts_with('/')) return std::string(path);
  std::string base = directory;
  while (path.starts_with("../")) {
    path.remove_prefix(3);
    if (const size_t slash = base.rfind('/'); slash != std::string::npos) base.resize(slash);
  }
  return base + (base.ends_with('/') ? "" : "/") + std::string(path);
}

/// Lines that Redis 7.0 accepts and that have had no meaning since.
bool IsForgotten(const std::vector<std::string>& words) {
  constexpr std::string_view kForgotten[] = {"list-max-ziplist-entries", "list-max-ziplist-value",
                                             "lua-replicate-commands"};
  return words.size() == 2 && std::ranges::any_of(kForgotten, [&](std::string_view name) {
           return EqualsIgnoreCase(words[0], name);
         });
}

/// "--save" with nothing after it, or another option, is save "".
bool IsBareSave(std::span<const std::string> arguments, size_t i) {
  if (!EqualsIgnoreCase(arguments[i], "--save")) return false;
  return i + 1 == arguments.size() || arguments[i + 1].starts_with("--");
}

}  // namespace

LaunchArguments ParseLaunchArguments(std::span<const std::string> arguments) {
  using Mode = LaunchArguments::Mode;
  LaunchArguments result;
  if (arguments.empty()) return result;
  const std::string& first = arguments[0];
  if (first == "-v" || first == "--version") result.mode = Mode::kVersion;
  if (first == "-h" || first == "--help") result.mode = Mode::kHelp;
  if (first == "--test-memory") result.mode = Mode::kTestMemory;
  if (first == "--check-system") result.mode = Mode::kCheckSystem;
  constexpr std::pair<std::string_view, Mode> kGenerators[] = {
      {"--generate-conf", Mode::kGenerateConf},
      {"--generate-commands", Mode::kGenerateCommands},
      {"--generate-differences", Mode::kGenerateDifferences}};
  for (const auto& [word, mode] : kGenerators) {
    if (first == word && arguments.size() == 1) result.mode = mode;
  }
  if (result.mode != Mode::kServe) return result;

  size_t i = 0;
  if (!first.starts_with('-')) {
    result.config_file = first;
    i = 1;
  }
  // A word that begins with "--" is a name only if the name before it has got a value: "--a --b"
  // gives a the value "--b". Redis has done so since 7.0.1, with the exception that IsBareSave
  // knows.
  bool last_name_has_value = true;
  for (; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "-" && (i == 0 || i + 1 == arguments.size())) {
      result.read_stdin = true;
    } else if (last_name_has_value && word.starts_with("--")) {
      if (!result.options.empty()) result.options += '\n';
      result.options += word.substr(2) + ' ';
      const auto words = SplitArgs(word);
      last_name_has_value = !words.ok() || words->size() != 1;
      if (!last_name_has_value && IsBareSave(arguments, i)) {
        result.options += "\"\"";
        last_name_has_value = true;
      }
    } else {
      result.options += QuoteRepr(word) + ' ';
      last_name_has_value = true;
    }
  }
  return result;
}

Status Config::Load(const LaunchArguments& arguments, std::string_view stdin_text) {
  std::string text;
  if (!arguments.config_file.empty()) {
    file_path_ = AbsolutePath(directory_.Current(), arguments.config_file);
    CAIRN_RETURN_IF_ERROR(ReadConfigFile(file_path_, &text));
  }
  if (arguments.read_stdin) text += stdin_text;
  if (!arguments.options.empty()) text += '\n' + arguments.options;
  return LoadText(text);
}

Status Config::LoadText(std::string_view text) {
  CAIRN_RETURN_IF_ERROR(LoadLines(text, 0));
  return CheckWhole();
}

Status Config::ReadConfigFile(const std::string& path, std::string* text) {
  Result<std::string> bytes = env_.ReadFileToString(path);
  if (!bytes.ok()) {
    return {bytes.status().code(), "Fatal error, can't open config file '" + path +
                                       "': " + std::string(ErrnoText(bytes.status()))};
  }
  *text = std::move(*bytes);
  return Status::Ok();
}

Status Config::CheckWhole() {
  if (settings_.cluster_enabled && !settings_.replicaof.host.empty()) {
    return Status::Corruption(FatalText("replicaof directive not allowed in cluster mode"));
  }
  if (!settings_.logfile.empty()) {
    const auto file = env_.OpenAppend(settings_.logfile);
    if (!file.ok()) {
      return Status::Corruption(
          FatalText("Can't open the log file: " + std::string(ErrnoText(file.status()))));
    }
  }
  return Status::Ok();
}

Status Config::LoadLines(std::string_view text, int depth) {
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    const auto words = SplitArgs(line);
    std::string error = "Unbalanced quotes in configuration line";
    if (words.ok()) {
      if (words->empty()) continue;
      Status fatal;
      error = LoadWords(*words, depth, &fatal);
      CAIRN_RETURN_IF_ERROR(fatal);
    }
    if (error.empty()) continue;
    return Status::Corruption(FatalText("Reading the configuration file, at line " +
                                        std::to_string(number) + "\n>>> '" + std::string(line) +
                                        "'\n" + error));
  }
  return Status::Ok();
}

/// Returns an error text for the line, empty when fine; *fatal is an error that is complete
/// already.
std::string Config::LoadWords(const std::vector<std::string>& words, int depth, Status* fatal) {
  if (const SettingSpec* spec = FindSetting(words[0])) {
    return LoadSetting(*spec, {words.begin() + 1, words.end()});
  }
  if (IsForgotten(words)) return {};
  if (words[0].find('.') != std::string::npos) {
    if (words.size() < 2) return "Module config specified without value";
    settings_.module_settings.push_back(words);
    return {};
  }
  return LoadDirective(words, depth, fatal);
}

std::string Config::LoadSetting(const SettingSpec& spec, std::vector<std::string> words) {
  const bool is_multi = (spec.flags & kSettingMultiArg) != 0;
  if (is_multi && words.size() == 1 && !words[0].empty()) {
    auto split = SplitArgs(words[0]);
    words = split.ok() ? std::move(*split) : std::vector<std::string>{};
  }
  const bool is_save = std::string_view(spec.name) == "save";
  std::vector<std::pair<int64_t, int64_t>> earlier_rules;
  // The first save line replaces the default rules, later ones add to it, an empty one removes all.
  const bool is_empty_save = words.size() == 1 && words[0].empty();
  if (is_save && save_seen_ && !is_empty_save) earlier_rules = settings_.save;
  std::string error = ParseSetting(spec, settings_, words);
  if (!error.empty()) return error;
  if (is_save) {
    settings_.save.insert(settings_.save.begin(), earlier_rules.begin(), earlier_rules.end());
    save_seen_ = true;
  }
  return FixUp(spec);
}

std::string Config::LoadDirective(const std::vector<std::string>& words, int depth, Status* fatal) {
  const size_t count = words.size() - 1;
  for (const DirectiveSpec& directive : AllDirectives()) {
    if (!EqualsIgnoreCase(words[0], directive.name)) continue;
    if (count < directive.min_words || count > directive.max_words) break;
    const std::vector<std::string> rest(words.begin() + 1, words.end());
    for (const auto& [name, check] : directive_checks_) {
      if (name != directive.name) continue;
      std::string error = check(rest);
      if (!error.empty()) return error;
    }
    const std::string_view name = directive.name;
    if (name == "include") {
      *fatal = Include(rest[0], depth + 1);
    } else if (name == "loadmodule") {
      settings_.loadmodule.push_back(rest);
    } else if (name == "user") {
      settings_.user.push_back(rest);
    } else {
      settings_.rename_command.push_back(rest);
    }
    return {};
  }
  if (EqualsIgnoreCase(words[0], "sentinel"))
    return "sentinel directive while not in sentinel mode";
  return "Bad directive or wrong number of arguments";
}

namespace {

/// The files of an `include`, as glob(3) finds and orders them: any part of the path may be a
/// pattern. Without one it is the path as it stands, whether it is there or not. What has a name
/// but cannot be looked at (a link to nothing) is one of them, so that reading it ends the start.
std::vector<std::string> PathsOf(Env& env, const std::string& pattern) {
  if (!HasGlob(pattern)) return {pattern};
  std::vector<std::string> found = {pattern.starts_with('/') ? "/" : ""};
  for (size_t at = 0; at < pattern.size();) {
    const size_t end = std::min(pattern.find('/', at), pattern.size());
    const std::string part = pattern.substr(at, end - at);
    at = end + 1;
    if (part.empty()) continue;
    const bool last = at >= pattern.size();
    std::vector<std::string> next;
    const auto add = [&](const std::string& path, bool is_named) {
      const Result<FileKind> kind = env.KindOf(path);
      const bool is_directory = kind.ok() && *kind == FileKind::kDirectory;
      const bool is_file = (kind.ok() && *kind == FileKind::kFile) || (is_named && !is_directory);
      if (last ? is_file : is_directory) next.push_back(last ? path : path + "/");
    };
    for (const std::string& directory : found) {
      const auto names = env.ListDir(directory.empty() ? "." : directory);
      if (!HasGlob(part)) {
        add(directory + part, names.ok() && std::ranges::find(*names, part) != names->end());
        continue;
      }
      if (!names.ok()) continue;
      for (const std::string& name : *names) {
        if ((part[0] == '.' || !name.starts_with('.')) && GlobMatch(part, name, false))
          add(directory + name, true);
      }
    }
    found = std::move(next);
  }
  std::ranges::sort(found, [](const std::string& a, const std::string& b) {
    return std::strcoll(a.c_str(), b.c_str()) < 0;
  });
  return found;
}

}  // namespace

Status Config::Include(const std::string& pattern, int depth) {
  if (depth > kMaxIncludeDepth) {
    return Status::Corruption(FatalText("include goes deeper than " +
                                        std::to_string(kMaxIncludeDepth) + " files at '" + pattern +
                                        "'"));
  }
  for (const std::string& path : PathsOf(env_, pattern)) {
    std::string text;
    CAIRN_RETURN_IF_ERROR(ReadConfigFile(path, &text));
    CAIRN_RETURN_IF_ERROR(LoadLines(text, depth));
  }
  return Status::Ok();
}

}  // namespace cairn

#pragma once

// Config: the one live Settings of a server and every way to change them: file, command line,
// CONFIG SET, CONFIG REWRITE. Names, types, ranges and texts come from settings_table; what a
// change means to a subsystem is that subsystem's hook (OnChange), which may refuse it. Config
// itself opens files and changes directory through Env and does nothing else. Owned by app/server,
// used on the executor thread only; a reference from settings() stays valid for its life, and its
// fields change under Set.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "server/engine/settings.h"

namespace cairn {

class Env;
class WorkingDirectory;
struct SettingSpec;

/// What argv asked for, before anything is read. `options` holds the "--name value" pairs as file
/// lines.
struct LaunchArguments {
  enum class Mode {
    kServe,
    kVersion,
    kHelp,
    kTestMemory,
    kCheckSystem,
    kGenerateConf,
    kGenerateCommands,
    kGenerateDifferences
  };
  Mode mode = Mode::kServe;
  std::string config_file;  ///< as typed; empty: none
  bool read_stdin = false;
  std::string options;
};

/// Reads the arguments after the program's name as Redis 7.0 does: a first word without '-' is the
/// file, a first or last "-" is standard input, "--name v v" becomes a line, "--save" without
/// values is save "". Never fails: what is wrong with a line is found when it is loaded.
LaunchArguments ParseLaunchArguments(std::span<const std::string> arguments);

/// The text of conf/cairn.conf: every setting commented out at its default, with its explanation.
std::string GenerateDefaultConfig();

/// docs/settings.md: the settings that have no effect yet, or none ever, and why.
std::string GenerateSettingsDifferences();

/// Text forms of notify-keyspace-events. Parse returns -1 when a letter is unknown.
int ParseKeyspaceEvents(std::string_view letters);
std::string FormatKeyspaceEvents(int flags);

/// Where a CONFIG SET comes from, for what only some callers may change and when.
struct SetContext {
  bool client_is_local = false;  ///< unix socket or loopback: enable-protected-configs local
  bool loading = false;
};

class Config {
 public:
  using NameAndValue = std::pair<std::string, std::string>;
  /// `before` are the values in force, `after` those about to be; !ok() refuses and everything is
  /// undone.
  using ChangeHook = std::function<Status(const Settings& before, const Settings& after)>;
  /// Lines (without the name) that CONFIG REWRITE writes for a directive whose truth lives
  /// elsewhere.
  using LineSource = std::function<std::vector<std::string>()>;
  /// Judges the words after a directive's name; returns an error text, empty when fine.
  using DirectiveCheck = std::function<std::string(std::span<const std::string> words)>;

  /// Borrows both. Settings are the defaults and dir the working directory.
  Config(Env& env, WorkingDirectory& directory);
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;

  const Settings& settings() const { return settings_; }
  /// Absolute path of the loaded file; empty: none (CONFIG REWRITE is then refused).
  const std::string& file_path() const { return file_path_; }

  /// Start-up: file, then `stdin_text` (when read_stdin), then options; the last mention of a
  /// setting wins. Hooks are not run. Errors, after which the start ends with status 1:
  /// kCorruption, the message is the complete text for stderr; kIo or kNotFound, a file could not
  /// be opened and the message is the line to log.
  Status Load(const LaunchArguments& arguments, std::string_view stdin_text);
  /// Start-up, one text: what Load does with each file. Errors: as Load.
  Status LoadText(std::string_view text);

  /// CONFIG GET: the settings any pattern matches, each once, in table order for globs. A name
  /// without glob characters comes back as typed; hidden settings answer to their exact name only.
  /// Cost: O(settings x patterns).
  std::vector<NameAndValue> Get(std::span<const std::string_view> patterns) const;
  /// CONFIG SET: all or nothing. Errors: client lines in Redis's words ("ERR CONFIG SET failed
  /// (possibly related to argument 'x') - ..."), nothing changed. Hooks run in the order of the
  /// pairs.
  Status Set(std::span<const NameAndValue> pairs, const SetContext& context);
  /// Value of one setting as CONFIG GET shows it. Requires: the setting exists.
  std::string GetOne(std::string_view name) const;

  /// CONFIG REWRITE: replaces the loaded file atomically, keeping comments and order. `all`: with
  /// the settings too that have their default and no line.
  /// Errors: "ERR The server is running without a config file", or kIo.
  Status Rewrite(bool all = false);

  /// Registers a hook for a setting (its real name, not an alias). A hook registered for several
  /// settings is called once per Set for each of them that changed. Requires: the setting exists.
  void OnChange(std::string_view name, ChangeHook hook);
  /// Registers the source of "user" or "loadmodule" lines for Rewrite; without one the loaded lines
  /// are kept.
  void SetLineSource(std::string_view directive, LineSource source);

  /// Registers who judges "rename-command", "user" or "loadmodule" lines while they are loaded.
  void SetDirectiveCheck(std::string_view directive, DirectiveCheck check);

  /// For tests, and for commands that are settings by another name: changes values without CONFIG
  /// SET's rules (REPLICAOF, ACL SETUSER). Hooks are not run.
  Settings& MutableSettings() { return settings_; }

  /// True when the setting's value must not reach SLOWLOG, MONITOR or the log (requirepass,
  /// masterauth, ...).
  static bool IsSensitive(std::string_view name);

 private:
  struct Chosen {
    const SettingSpec* spec;
    std::string shown_name;  ///< as errors name it
  };
  Status ReadConfigFile(const std::string& path, std::string* text);
  Status Include(const std::string& pattern, int depth);
  Status LoadLines(std::string_view text, int depth);
  std::string LoadWords(const std::vector<std::string>& words, int depth, Status* fatal);
  std::string LoadDirective(const std::vector<std::string>& words, int depth, Status* fatal);
  std::string LoadSetting(const SettingSpec& spec, std::vector<std::string> words);
  Status CheckWhole();
  std::string FixUp(const SettingSpec& spec);
  Status ChooseSettings(std::span<const NameAndValue> pairs, const SetContext& context,
                        std::vector<Chosen>* chosen) const;
  void Restore(const Settings& before);
  Status RunHooks(std::span<const Chosen> chosen, const Settings& before);
  Status CallHooks(std::string_view name, const Settings& before, const Settings& after);

  Env& env_;
  WorkingDirectory& directory_;
  Settings settings_;
  std::string file_path_;
  bool save_seen_ = false;  ///< the first save line of a start-up replaces the default rules
  std::vector<std::pair<std::string, ChangeHook>> hooks_;
  std::vector<std::pair<std::string, LineSource>> line_sources_;
  std::vector<std::pair<std::string, DirectiveCheck>> directive_checks_;
};

}  // namespace cairn

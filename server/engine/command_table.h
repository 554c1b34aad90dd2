#pragma once

// CommandTable: every command by its name at run time (rename-command applied), subcommands under
// their containers, with the counters INFO commandstats shows. Filled once by app/families and by
// modules at load. Look-up costs one probe of a small table. Thread: executor.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/base/histogram.h"
#include "server/engine/command_spec.h"

namespace cairn {

struct CommandCounters {
  uint64_t calls = 0;
  uint64_t usec_ticks = 0;  ///< cycles; Stats converts to microseconds
  uint64_t rejected = 0;
  uint64_t failed = 0;
  std::unique_ptr<Histogram> latency_us;  ///< made at the first call when latency-tracking is on
};

/// A registered command.
struct Command {
  const CommandSpec* spec = nullptr;
  std::string full_name;                          ///< "get", "client|list"
  uint64_t flags = 0;                             ///< spec flags and what is derived (movablekeys)
  uint64_t acl = 0;                               ///< categories with the derived ones
  int first_key = 0, last_key = 0, key_step = 0;  ///< legacy triple
  CommandCounters counters;
  std::vector<Command*> subcommands;  ///< containers only, in registration order
  Command* parent = nullptr;
  void* module_data = nullptr;  ///< for commands of modules
};

class CommandTable {
 public:
  CommandTable();
  ~CommandTable();
  /// Registers a family. Specs must outlive the table (they are constexpr, or owned by the module
  /// host).
  void Add(std::span<const CommandSpec> family);
  Command* AddModuleCommand(const CommandSpec* spec, void* module_data);

  /// The command by its run-time name, any letter case; nullptr when unknown.
  Command* Find(std::string_view name) const;
  /// The command that `args` name: a subcommand when args[0] is a container. nullptr when unknown;
  /// *container is set when the container exists but the subcommand does not.
  Command* Resolve(std::span<const std::string_view> args, Command** container) const;
  /// "name" or "container|sub", as COMMAND INFO takes it.
  Command* FindByFullName(std::string_view full_name) const;
  /// rename-command; an empty new name removes. Returns an error in Redis's words.
  Status Rename(std::string_view from, std::string_view to);

  /// Top-level commands in registration order.
  const std::vector<Command*>& top_level() const { return top_level_; }
  /// All commands, subcommands included.
  const std::vector<std::unique_ptr<Command>>& all() const { return commands_; }
  void ResetCounters();

 private:
  struct Slot {
    uint64_t hash = 0;
    std::string name;
    Command* command = nullptr;
  };
  static uint64_t HashName(std::string_view name);
  void Insert(std::string_view name, Command* command);

  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<Command*> top_level_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t used_ = 0;
};

/// Key positions of `args` by the command's own finder or its key specs. Errors: the two of COMMAND
/// GETKEYS.
Status ExtractKeys(const Command& command, std::span<const std::string_view> args,
                   std::vector<KeyPosition>* out);

}  // namespace cairn

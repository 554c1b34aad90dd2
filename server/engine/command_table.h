#pragma once

// CommandTable: every command by its name at run time (rename-command applied), subcommands under
// their containers, with the counters INFO commandstats shows. Filled once by app/families and by
// modules at load. Look-up costs one probe of a small table. Thread: executor.

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
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
  /// Run times in cycles (Stats converts), made at the first call while latency-tracking is on.
  std::unique_ptr<Histogram> latency_ticks;
  void RecordLatency(uint64_t ticks) {
    if (latency_ticks == nullptr) latency_ticks = std::make_unique<Histogram>();
    latency_ticks->Record(ticks);
  }
};

/// A registered command.
struct Command {
  const CommandSpec* spec = nullptr;
  uint32_t id = 0;                                ///< in order of registration
  std::string full_name;                          ///< "get", "client|list"
  uint64_t flags = 0;                             ///< spec flags and what is derived (movablekeys)
  uint64_t acl = 0;                               ///< categories with the derived ones
  int first_key = 0, last_key = 0, key_step = 0;  ///< legacy triple
  CommandCounters counters;
  std::vector<Command*> subcommands;  ///< containers only, in registration order
  Command* parent = nullptr;
  /// Only reads or writes keys: neither its gates nor what it may change outside of the keyspace
  /// need a look beyond those the dispatcher takes once a batch.
  bool plain = false;
  /// Its reply says nothing of the data (PING, INFO, CONFIG): it need not wait until writes are
  /// durable.
  bool tells_no_data = false;
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
  /// Takes out and destroys every command that was added with `module_data`.
  void RemoveModuleCommands(const void* module_data);
  /// Changes whenever a name or a Command may have come or gone: what was resolved before is stale.
  uint64_t generation() const { return generation_; }

  /// The command by its run-time name, any letter case; nullptr when unknown.
  Command* Find(std::string_view name) const;
  /// As Resolve for the names that matter for speed: up to eight letters, no subcommands, resolved
  /// before. nullptr says nothing: ask Resolve. Cost: about ten instructions.
  Command* Recall(std::string_view name) const {
    const uint64_t folded = FoldShortName(name);
    const Recalled& slot = recalled_[RecallSlot(folded)];
    return slot.folded == folded ? slot.command : nullptr;
  }
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
  // One name resolved before. `folded` consists of letters only, so that folding loses nothing.
  struct Recalled {
    uint64_t folded = 0;
    Command* command = nullptr;
  };
  static constexpr size_t kRecalled = 256;

  static uint64_t HashName(std::string_view name);
  /// The name in lower case (letters) as one word; names longer than eight bytes or empty give 1,
  /// which is no name's.
  static uint64_t FoldShortName(std::string_view name) {
    const size_t size = name.size();
    static_assert(std::endian::native == std::endian::little);
    if (size - 1 > 7) return 1;
    const char* p = name.data();
    uint64_t word;
    if (size >= 4) {
      uint32_t low, high;
      std::memcpy(&low, p, sizeof low);
      std::memcpy(&high, p + size - sizeof high, sizeof high);
      word = low | uint64_t{high} << (8 * (size - sizeof high));
    } else {
      word = static_cast<unsigned char>(p[0]) |
             uint64_t{static_cast<unsigned char>(p[size / 2])} << (8 * (size / 2)) |
             uint64_t{static_cast<unsigned char>(p[size - 1])} << (8 * (size - 1));
    }
    return word | 0x2020202020202020u >> (8 * (8 - size));
  }
  static size_t RecallSlot(uint64_t folded) {
    return (folded * 0x9E3779B97F4A7C15u) >> 56 & (kRecalled - 1);
  }
  void Remember(std::string_view name, Command* command) const;
  void Insert(std::string_view name, Command* command);

  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<Command*> top_level_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t used_ = 0;
  uint64_t generation_ = 0;
  mutable std::array<Recalled, kRecalled> recalled_;  // a memo, emptied when names change
};

/// `argc` words, the command's own counted, are neither too few nor too many.
inline bool FitsArity(const Command& command, size_t argc) {
  const int arity = command.spec->arity;
  const int count = static_cast<int>(argc);
  return arity > 0 ? count == arity : count >= -arity;
}

/// Key positions of `args` by the command's own finder or its key specs. Errors: the two of COMMAND
/// GETKEYS.
Status ExtractKeys(const Command& command, std::span<const std::string_view> args,
                   std::vector<KeyPosition>* out);

}  // namespace cairn

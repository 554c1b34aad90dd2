#include "server/engine/command_table.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "server/base/strings.h"

namespace cairn {

namespace {

constexpr size_t kInitialSlots = 1024;

uint64_t DerivedCategories(const CommandSpec& spec) {
  uint64_t acl = spec.acl;
  if (spec.flags & kCmdWrite) acl |= kAclWrite;
  if ((spec.flags & kCmdReadonly) && !(acl & kAclScripting)) acl |= kAclRead;
  if (spec.flags & kCmdAdmin) acl |= kAclAdmin | kAclDangerous;
  if (spec.flags & kCmdPubsub) acl |= kAclPubsub;
  if (spec.flags & kCmdBlocking) acl |= kAclBlocking;
  acl |= (spec.flags & kCmdFast) ? kAclFast : kAclSlow;
  return acl;
}

// Commands that run others, wait, or come from a module may do more than their flags say.
bool IsPlain(const CommandSpec& spec) {
  constexpr uint64_t kNeverPlain = kCmdAdmin | kCmdProtected | kCmdModule | kCmdBlocking |
                                   kCmdPubsub | kCmdNoScript | kCmdNoMulti;
  return spec.handler != nullptr && spec.parent.empty() &&
         (spec.flags & (kCmdWrite | kCmdReadonly)) && !(spec.flags & kNeverPlain) &&
         !(spec.acl & kAclDangerous);
}

bool TellsNoData(const CommandSpec& spec) {
  constexpr uint64_t kMayTell = kCmdWrite | kCmdReadonly | kCmdMayReplicate | kCmdModule |
                                kCmdBlocking | kCmdPubsub | kCmdProtected;
  return (spec.group == "connection" || spec.group == "server") && !(spec.flags & kMayTell);
}

bool IsRange(const KeySpec& key) {
  return key.begin == KeySpec::Begin::kIndex && key.find == KeySpec::Find::kRange;
}

int AbsoluteLast(const KeySpec& key) { return key.last >= 0 ? key.index + key.last : key.last; }

// The (first, last, step) triple of old clients, from the key specs: one range as it is; several
// ranges merged while they are plain and consecutive; whatever does not fit makes the command
// "movablekeys".
void DeriveLegacyRange(Command& command) {
  const auto& keys = command.spec->keys;
  size_t count = 0;
  while (count < keys.size() && keys[count].begin != KeySpec::Begin::kNone) ++count;
  if (count == 0) return;
  if (count == 1 && IsRange(keys[0])) {
    command.first_key = keys[0].index;
    command.last_key = AbsoluteLast(keys[0]);
    command.key_step = keys[0].step;
    if (keys[0].flags & kKeyIncomplete) command.flags |= kCmdMovableKeys;
    return;
  }
  int first = INT_MAX;
  int last = 0;
  int previous_last = 0;
  for (size_t i = 0; i < count; ++i) {
    const KeySpec& key = keys[i];
    if (!IsRange(key) || key.step != 1 || (previous_last != 0 && previous_last != key.index - 1)) {
      command.flags |= kCmdMovableKeys;
      continue;
    }
    if (key.flags & kKeyIncomplete) command.flags |= kCmdMovableKeys;
    first = std::min(first, key.index);
    // Unsigned, so that a negative (from the end) last key is the largest.
    const int absolute = AbsoluteLast(key);
    last = static_cast<int>(std::max(static_cast<unsigned>(last), static_cast<unsigned>(absolute)));
    previous_last = last;
  }
  if (first == INT_MAX) return;
  command.first_key = first;
  command.last_key = last;
  command.key_step = 1;
}

}  // namespace

CommandTable::CommandTable() : slots_(kInitialSlots) {}
CommandTable::~CommandTable() = default;

uint64_t CommandTable::HashName(std::string_view name) {
  // Case is folded by OR 0x20: good enough to hash by, the comparison decides.
  uint64_t hash = name.size() * 0x9E3779B97F4A7C15ull;
  size_t i = 0;
  for (; i + 8 <= name.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, name.data() + i, 8);
    hash = (hash ^ (word | 0x2020202020202020ull)) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  uint64_t word = 0;
  if (i < name.size()) std::memcpy(&word, name.data() + i, name.size() - i);
  hash = (hash ^ (word | 0x2020202020202020ull)) * 0xD6E8FEB86659FD93ull;
  return hash ^ (hash >> 29);
}

void CommandTable::Remember(std::string_view name, Command* command) const {
  const uint64_t folded = FoldShortName(name);
  if (folded == 1 || !command->subcommands.empty()) return;
  for (char c : name) {
    if ((c | 0x20) < 'a' || (c | 0x20) > 'z') return;
  }
  recalled_[RecallSlot(folded)] = {folded, command};
}

void CommandTable::Insert(std::string_view name, Command* command) {
  ++generation_;
  recalled_.fill({});
  CAIRN_CHECK(used_ * 2 < slots_.size());
  const std::string lower = ToLower(name);
  const uint64_t hash = HashName(lower);
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].command != nullptr && slots_[at].name != lower)
    at = (at + 1) & (slots_.size() - 1);
  if (slots_[at].command == nullptr && slots_[at].name.empty()) ++used_;
  slots_[at] = {hash, lower, command};
}

Command* CommandTable::Find(std::string_view name) const {
  const uint64_t hash = HashName(name);
  size_t at = hash & (slots_.size() - 1);
  // A removed name keeps its slot (name set, command null), so probing goes on past it.
  while (!slots_[at].name.empty()) {
    if (slots_[at].hash == hash && EqualsIgnoreCase(slots_[at].name, name))
      return slots_[at].command;
    at = (at + 1) & (slots_.size() - 1);
  }
  return nullptr;
}

void CommandTable::Add(std::span<const CommandSpec> family) {
  // Containers first: a family may list subcommands in any order.
  for (const bool subcommands : {false, true}) {
    for (const CommandSpec& spec : family) {
      if (spec.parent.empty() == subcommands) continue;
      auto command = std::make_unique<Command>();
      command->spec = &spec;
      command->id = static_cast<uint32_t>(commands_.size());
      command->flags = spec.flags;
      command->acl = DerivedCategories(spec);
      command->plain = IsPlain(spec);
      command->tells_no_data = TellsNoData(spec);
      DeriveLegacyRange(*command);
      if (subcommands) {
        Command* parent = Find(spec.parent);
        CAIRN_CHECK(parent != nullptr);
        command->full_name = std::string(spec.parent) + "|" + std::string(spec.name);
        command->parent = parent;
        parent->subcommands.push_back(command.get());
        recalled_.fill({});
      } else {
        command->full_name = std::string(spec.name);
        top_level_.push_back(command.get());
        Insert(spec.name, command.get());
      }
      commands_.push_back(std::move(command));
    }
  }
}

Command* CommandTable::AddModuleCommand(const CommandSpec* spec, void* module_data) {
  if (Find(spec->name) != nullptr) return nullptr;
  Add(std::span(spec, 1));
  commands_.back()->module_data = module_data;
  return commands_.back().get();
}

void CommandTable::RemoveModuleCommands(const void* module_data) {
  const auto leaves = [module_data](const Command* command) {
    return command->module_data == module_data;
  };
  recalled_.fill({});
  for (Slot& slot : slots_) {
    if (slot.command != nullptr && leaves(slot.command)) slot.command = nullptr;
  }
  std::erase_if(top_level_, leaves);
  std::erase_if(commands_, [&](const auto& command) { return leaves(command.get()); });
  ++generation_;
}

Command* CommandTable::Resolve(std::span<const std::string_view> args, Command** container) const {
  *container = nullptr;
  Command* command = Find(args[0]);
  if (command == nullptr) return nullptr;
  if (command->subcommands.empty()) {
    Remember(args[0], command);
    return command;
  }
  if (args.size() == 1) {
    // A container that runs bare (COMMAND) is a command; one that cannot is answered by its arity.
    return command;
  }
  for (Command* sub : command->subcommands) {
    if (EqualsIgnoreCase(sub->spec->name, args[1])) return sub;
  }
  *container = command;
  return nullptr;
}

Command* CommandTable::FindByFullName(std::string_view full_name) const {
  const size_t bar = full_name.find('|');
  Command* command = Find(full_name.substr(0, bar));
  if (command == nullptr || bar == std::string_view::npos) return command;
  for (Command* sub : command->subcommands) {
    if (EqualsIgnoreCase(sub->spec->name, full_name.substr(bar + 1))) return sub;
  }
  return nullptr;
}

Status CommandTable::Rename(std::string_view from, std::string_view to) {
  Command* command = Find(from);
  if (command == nullptr) return Status::Client("No such command in rename-command");
  if (!to.empty() && Find(to) != nullptr) {
    return Status::Client("Target command name already exists");
  }
  Insert(from, nullptr);
  if (!to.empty()) Insert(to, command);
  return Status::Ok();
}

void CommandTable::ResetCounters() {
  for (auto& command : commands_) command->counters = CommandCounters();
}

namespace {

// Resolves where a key spec begins; 0 when it does not apply to these arguments.
size_t BeginOf(const KeySpec& key, std::span<const std::string_view> args) {
  if (key.begin == KeySpec::Begin::kIndex) return static_cast<size_t>(key.index);
  if (key.begin != KeySpec::Begin::kKeyword) return 0;
  const int argc = static_cast<int>(args.size());
  const bool backwards = key.index < 0;
  int at = backwards ? argc + key.index : key.index;
  for (; at >= 1 && at < argc; at += backwards ? -1 : 1) {
    if (EqualsIgnoreCase(args[static_cast<size_t>(at)], key.keyword))
      return static_cast<size_t>(at + 1);
  }
  return 0;
}

bool AppendRange(const KeySpec& key, size_t begin, size_t argc, std::vector<KeyPosition>* out) {
  int64_t last;
  if (key.last >= 0) {
    last = static_cast<int64_t>(begin) + key.last;
  } else if (key.last == -1 && key.limit >= 2) {
    last =
        static_cast<int64_t>(begin) + (static_cast<int64_t>(argc - begin) / key.limit) + key.last;
  } else {
    last = static_cast<int64_t>(argc) + key.last;
  }
  if (last >= static_cast<int64_t>(argc)) return false;
  for (int64_t i = static_cast<int64_t>(begin); i <= last; i += key.step) {
    out->push_back({static_cast<size_t>(i), key.flags});
  }
  return true;
}

bool AppendCounted(const KeySpec& key, size_t begin, std::span<const std::string_view> args,
                   std::vector<KeyPosition>* out) {
  const size_t count_at = begin + static_cast<size_t>(key.last);
  int64_t count;
  if (count_at >= args.size() || !ParseInt64(args[count_at], &count) || count < 0) return false;
  count = static_cast<int32_t>(count);  // as Redis keeps it
  if (count < 1) return false;
  const size_t first = begin + static_cast<size_t>(key.limit);
  if (static_cast<uint64_t>(count) > args.size() ||
      first + static_cast<size_t>(count - 1) * static_cast<size_t>(key.step) >= args.size()) {
    return false;
  }
  for (int64_t i = 0; i < count; ++i) {
    out->push_back({first + static_cast<size_t>(i) * static_cast<size_t>(key.step), key.flags});
  }
  return true;
}

// Where the specs do not fit, Redis 7.0 asks an older finder: it reads the count as atoi does,
// knows no flags, and names the destination last.
void ExtractByLooseCount(const CommandSpec& spec, std::span<const std::string_view> args,
                         std::vector<KeyPosition>* out) {
  for (const KeySpec& key : spec.keys) {
    if (key.find != KeySpec::Find::kKeyCount || key.begin != KeySpec::Begin::kIndex) continue;
    const auto begin = static_cast<size_t>(key.index);
    const size_t first = begin + static_cast<size_t>(key.limit);
    if (begin + static_cast<size_t>(key.last) >= args.size() || first > args.size()) return;
    const std::string text(args[begin + static_cast<size_t>(key.last)]);
    const auto count = static_cast<int>(std::strtol(text.c_str(), nullptr, 10));
    if (count < 1 || static_cast<size_t>(count) > args.size() - first) return;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) out->push_back({first + i, 0});
  }
  if (out->empty()) return;
  for (const KeySpec& key : spec.keys) {
    if (key.find == KeySpec::Find::kRange && key.begin == KeySpec::Begin::kIndex)
      out->push_back({static_cast<size_t>(key.index), 0});
  }
}

}  // namespace

Status ExtractKeys(const Command& command, std::span<const std::string_view> args,
                   std::vector<KeyPosition>* out) {
  out->clear();
  if (command.spec->find_keys != nullptr) return command.spec->find_keys(*command.spec, args, out);
  for (const KeySpec& key : command.spec->keys) {
    if (key.begin == KeySpec::Begin::kNone) break;
    const size_t begin = BeginOf(key, args);
    if (begin == 0 || begin >= args.size()) continue;
    const bool whole = key.find == KeySpec::Find::kRange ? AppendRange(key, begin, args.size(), out)
                       : key.find == KeySpec::Find::kKeyCount ? AppendCounted(key, begin, args, out)
                                                              : true;
    if (whole) continue;
    out->clear();
    ExtractByLooseCount(*command.spec, args, out);
    break;
  }
  if (out->empty()) return Status::Client("ERR Invalid arguments specified for command");
  return Status::Ok();
}

}  // namespace cairn

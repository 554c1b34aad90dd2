#pragma once

// CommandSpec: all that is known of a command, written once, directly above its handler. COMMAND
// INFO, DOCS, GETKEYS and LIST, the ACL categories, the gates (MULTI, loading, memory,
// authentication) and docs/commands.md are derived from it. Literal type: specs are constexpr and
// checked at compile time.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "server/base/status.h"

namespace cairn {

class CommandContext;
class Engine;
struct CommandSpec;
using CommandHandler = Status (*)(CommandContext& ctx);

/// Command flags, named as COMMAND INFO prints them.
enum CommandFlag : uint64_t {
  kCmdWrite = 1ull << 0,
  kCmdReadonly = 1ull << 1,
  kCmdDenyOom = 1ull << 2,
  kCmdModule = 1ull << 3,
  kCmdAdmin = 1ull << 4,
  kCmdPubsub = 1ull << 5,
  kCmdNoScript = 1ull << 6,
  kCmdBlocking = 1ull << 7,
  kCmdLoading = 1ull << 8,
  kCmdStale = 1ull << 9,
  kCmdSkipMonitor = 1ull << 10,
  kCmdSkipSlowlog = 1ull << 11,
  kCmdAsking = 1ull << 12,
  kCmdFast = 1ull << 13,
  kCmdNoAuth = 1ull << 14,
  kCmdMayReplicate = 1ull << 15,  ///< internal: CLIENT PAUSE WRITE holds it like a write
  kCmdNoAsyncLoading = 1ull << 16,
  kCmdNoMulti = 1ull << 17,
  kCmdAllowBusy = 1ull << 18,
  kCmdMovableKeys = 1ull << 19,
  kCmdTouchesArbitraryKeys = 1ull << 20,  ///< internal
  kCmdProtected = 1ull << 21,  ///< internal: guarded by the setting enable-<name>-command
  kCmdSystem = 1ull << 22,     ///< internal: COMMAND DOCS shows the doc flag "syscmd"
  kCmdNoMandatoryKeys = 1ull << 23,
};

/// ACL categories beyond those implied by flags and group, named as ACL CAT prints them.
enum AclCategory : uint64_t {
  kAclKeyspace = 1ull << 0,
  kAclRead = 1ull << 1,
  kAclWrite = 1ull << 2,
  kAclSet = 1ull << 3,
  kAclSortedSet = 1ull << 4,
  kAclList = 1ull << 5,
  kAclHash = 1ull << 6,
  kAclString = 1ull << 7,
  kAclBitmap = 1ull << 8,
  kAclHyperLogLog = 1ull << 9,
  kAclGeo = 1ull << 10,
  kAclStream = 1ull << 11,
  kAclPubsub = 1ull << 12,
  kAclAdmin = 1ull << 13,
  kAclFast = 1ull << 14,
  kAclSlow = 1ull << 15,
  kAclBlocking = 1ull << 16,
  kAclDangerous = 1ull << 17,
  kAclConnection = 1ull << 18,
  kAclTransaction = 1ull << 19,
  kAclScripting = 1ull << 20,
};

/// Key spec flags, named as COMMAND INFO prints them.
enum KeyFlag : uint32_t {
  kKeyRO = 1u << 0,
  kKeyRW = 1u << 1,
  kKeyOW = 1u << 2,
  kKeyRM = 1u << 3,
  kKeyAccess = 1u << 4,
  kKeyUpdate = 1u << 5,
  kKeyInsert = 1u << 6,
  kKeyDelete = 1u << 7,
  kKeyNotKey = 1u << 8,
  kKeyIncomplete = 1u << 9,
  kKeyVariableFlags = 1u << 10,
};

struct KeySpec {
  enum class Begin : uint8_t { kNone, kIndex, kKeyword, kUnknown };
  enum class Find : uint8_t { kRange, kKeyCount, kUnknown };
  Begin begin = Begin::kNone;  ///< kNone: no key spec here
  uint32_t flags = 0;
  int index =
      0;  ///< kIndex: position of the first key; kKeyword: where to search from (may be < 0)
  std::string_view keyword = {};  ///< kKeyword
  Find find = Find::kRange;
  int last = 0;  ///< kRange: last key relative to the first, negative from the end; kKeyCount:
                 ///< index of the count
  int step = 1;
  int limit = 0;  ///< kRange with last = -1: fraction of the rest; kKeyCount: first key relative to
                  ///< the count
  std::string_view notes = {};
};

/// One key at argument `at`.
constexpr KeySpec OneKey(int at, uint32_t flags) {
  return {KeySpec::Begin::kIndex, flags, at, {}, KeySpec::Find::kRange, 0, 1, 0, {}};
}
/// Keys from argument `from` to `last` (negative: from the end), every `step`.
constexpr KeySpec KeyRange(int from, int last, int step, uint32_t flags) {
  return {KeySpec::Begin::kIndex, flags, from, {}, KeySpec::Find::kRange, last, step, 0, {}};
}

inline constexpr size_t kMaxKeySpecs = 4;

/// One key of a request with the flags that apply to it there.
struct KeyPosition {
  size_t index;
  uint32_t flags;
};
/// Finds the keys of a request where key specs cannot: the flags depend on an option, or keys stand
/// where no spec reaches. Returns an error when the arguments make no sense. Requires: *out empty.
using KeyFinder = Status (*)(const CommandSpec& spec, std::span<const std::string_view> args,
                             std::vector<KeyPosition>* out);

/// What one request may do, where that depends on its arguments: a script declares it. `flags` are
/// the command's. Returns CommandFlag bits. Requires: the arity fits.
using FlagsFinder = uint64_t (*)(const Engine& engine, uint64_t flags,
                                 std::span<const std::string_view> args);

struct CommandSpec {
  std::string_view name;         ///< lower case; a subcommand's own word ("setname")
  std::string_view parent = {};  ///< container of a subcommand ("client"), else empty
  int arity = 0;                 ///< counts the command word(s); negative: at least
  uint64_t flags = 0;            ///< CommandFlag bits
  uint64_t acl = 0;  ///< AclCategory bits in full (read/write/fast/slow.. derived are added)
  std::array<KeySpec, kMaxKeySpecs> keys = {};
  int member_arg = 0;  ///< argument that is looked up inside the value of key 1 (a field, a
                       ///< member): fetched ahead with its batch; 0 = none
  KeyFinder find_keys =
      nullptr;  ///< instead of `keys` for GETKEYS and ACLs, where those fall short
  FlagsFinder find_flags = nullptr;  ///< instead of `flags` for the gates
  std::string_view group =
      {};  ///< "string", "generic", "connection", "server", "transactions", "module" ..
  std::string_view since = {};
  std::string_view complexity = {};
  std::string_view summary = {};
  /// Arguments in the mini-language of command_docs.h, from which COMMAND DOCS "arguments" derives.
  std::string_view synopsis = {};
  std::string_view tips = {};     ///< space separated, e.g. "nondeterministic_output"
  std::string_view history = {};  ///< lines "version|text"
  std::string_view deprecated_since = {};
  std::string_view replaced_by = {};
  CommandHandler handler = nullptr;  ///< nullptr: a container, its subcommands carry handlers
};

/// True for a range of keys up to the last argument that may hold none: it begins just past the
/// least arguments, and right behind a key that is always there (PFMERGE's sources).
constexpr bool MayBeEmptyRange(const CommandSpec& spec, size_t at, int least) {
  if (at == 0) return false;
  const KeySpec& before = spec.keys[at - 1];
  const KeySpec& key = spec.keys[at];
  return key.last == -1 && key.step == 1 && key.limit == 0 && key.index == least &&
         before.begin == KeySpec::Begin::kIndex && before.find == KeySpec::Find::kRange &&
         before.last >= 0 && before.index + before.last + 1 == key.index;
}

/// Refuses specs that contradict themselves. Used in static_assert beside each family's table.
template <size_t N>
constexpr bool ValidSpecs(const std::array<CommandSpec, N>& specs) {
  for (const CommandSpec& spec : specs) {
    if (spec.name.empty() || spec.summary.empty() || spec.since.empty() || spec.group.empty())
      return false;
    if (spec.arity == 0) return false;
    if ((spec.flags & kCmdWrite) && (spec.flags & kCmdReadonly)) return false;
    const int least = spec.arity < 0 ? -spec.arity : spec.arity;
    for (size_t i = 0; i < spec.keys.size(); ++i) {
      const KeySpec& key = spec.keys[i];
      if (key.begin == KeySpec::Begin::kIndex && key.find == KeySpec::Find::kRange &&
          key.index >= least && !MayBeEmptyRange(spec, i, least))
        return false;
    }
    for (char c : spec.name) {
      if (c >= 'A' && c <= 'Z') return false;
    }
  }
  return true;
}

/// What a family exports: server/app/families.cc lists them by hand.
using CommandFamily = std::span<const CommandSpec>;

}  // namespace cairn

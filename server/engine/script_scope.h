#pragma once

// ScriptScope: one run of a script or function: who called it, on which session its commands run,
// what it may do and what it has done. Made by the front end (server/scripting), read by the
// dispatcher's gates, and alive for the length of the run. Engine::script points at the one that
// runs. Thread: executor.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/base/status.h"

namespace cairn {

class Session;

/// Flags of a script, as `#!lua flags=` and redis.register_function name them.
enum ScriptFlag : uint32_t {
  kScriptNoWrites = 1u << 0,        ///< no-writes
  kScriptAllowOom = 1u << 1,        ///< allow-oom
  kScriptAllowStale = 1u << 2,      ///< allow-stale
  kScriptNoCluster = 1u << 3,       ///< no-cluster
  kScriptAllowCrossSlot = 1u << 4,  ///< allow-cross-slot-keys
  /// EVAL without a `#!` line: the gates look at each command, not at the script.
  kScriptCompat = 1u << 31,
};

/// The flag of this name; 0: there is none.
constexpr uint32_t ScriptFlagNamed(std::string_view name) {
  if (name == "no-writes") return kScriptNoWrites;
  if (name == "allow-oom") return kScriptAllowOom;
  if (name == "allow-stale") return kScriptAllowStale;
  if (name == "no-cluster") return kScriptNoCluster;
  if (name == "allow-cross-slot-keys") return kScriptAllowCrossSlot;
  return 0;
}

struct ScriptScope {
  Session* caller = nullptr;   ///< whose permissions hold and who gets the reply
  Session* session = nullptr;  ///< the commands' own: database, protocol version, replies
  std::string_view name;       ///< SHA-1 of a script in hex, or a function's name
  uint32_t flags = 0;          ///< ScriptFlag bits
  bool is_eval = true;         ///< false: FCALL
  bool read_only = false;      ///< an _RO command or no-writes
  bool over_memory = false;    ///< memory was over maxmemory when it began, and nothing could go
  bool to_log = true;          ///< redis.set_repl: effects go to the append-only file
  bool to_replicas = true;     ///< redis.set_repl: effects go to replicas
  int64_t began_us = 0;        ///< monotonic

  bool wrote = false;   ///< a command that writes was run: no way back
  bool busy = false;    ///< over busy-reply-threshold: other clients are answered with -BUSY
  bool served = false;  ///< other clients were served meanwhile
  bool killed = false;  ///< SCRIPT KILL, FUNCTION KILL or SHUTDOWN NOSAVE: ends at the next look
};

/// What commands are answered with while `scope` is over its time.
Status BusyRefusal(const ScriptScope& scope);

/// What INFO and MEMORY say of scripts and functions. Bytes are those of the allocator.
struct ScriptFigures {
  uint64_t eval_vm_bytes = 0;       ///< interpreter of EVAL
  uint64_t functions_vm_bytes = 0;  ///< interpreter of functions
  uint64_t eval_cache_bytes = 0;    ///< cached scripts
  uint64_t functions_bytes = 0;     ///< libraries
  uint64_t cached_scripts = 0;
  uint64_t functions = 0;
  uint64_t libraries = 0;
};

}  // namespace cairn

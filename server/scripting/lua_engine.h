#pragma once

// LuaEngine: one Lua 5.1 interpreter in Redis 7.0's sandbox: it compiles, runs and frees functions,
// and turns what they return into replies. It knows no cache, no SHA and no command: that is the
// front ends' (script_host for EVAL, later function libraries), each with an interpreter of its
// own. The only unit that sees Lua's headers; Lua's errors are C++ exceptions (Debian's
// liblua5.1-c++) and end inside. Thread: executor; an engine that nobody refers to may be destroyed
// on any other.
//
// Sandbox (tests/command/scripting_test.cc breaks each rule):
//   L1  What a script can reach from _G is a stand-in without entries of its own; reads pass to the
//       real table behind it, writes of any kind are refused ("Attempt to modify a readonly
//       table"). The real tables are reachable from C++ alone.
//   L2  No bytecode is loaded, no file opened, no userdata with a finalizer made.
//   L3  An interpreter holds at most kLuaMemoryBytes; beyond, its script fails with "not enough
//       memory".
//   L4  Every hook interval the run is looked at: killed runs end, and cannot catch it. No code of
//       the script runs where the hook does not.
//   L5  The chunk's name is anchored and the collector stands still while source is compiled.
//   L6  C functions that recurse by their input (patterns, conversions, decoders) have a limit.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "server/engine/script_scope.h"

namespace cairn {

class Engine;
class ScriptRandom;

/// Bytes one interpreter may hold; those of its strings and tables, not of replies and keys.
inline constexpr size_t kLuaMemoryBytes = size_t{1} << 30;
/// Virtual-machine instructions between two looks at a run. Source: script_lua.c of Redis 7.0.
inline constexpr int kLuaHookInstructions = 100000;
/// Longest pattern of string.find and its kin: the matcher recurses once per item.
inline constexpr size_t kLuaPatternBytes = 16 * 1024;

/// A compiled function, until released.
using LuaRef = int;

/// What a library registered while it was loaded.
struct LuaFunction {
  std::string name;
  std::string description;
  bool has_description = false;
  uint32_t flags = 0;  ///< ScriptFlag bits
  LuaRef callback = 0;
};

class LuaEngine {
 public:
  /// kScripts: KEYS and ARGV are globals, redis.breakpoint, debug and replicate_commands exist.
  /// kFunctions: keys and arguments are parameters, and libraries can be loaded.
  enum class Use : uint8_t { kScripts, kFunctions };

  /// `random` is shared by all interpreters of a server and outlives them.
  LuaEngine(Engine& engine, ScriptRandom& random, Use use);
  ~LuaEngine();
  LuaEngine(const LuaEngine&) = delete;
  LuaEngine& operator=(const LuaEngine&) = delete;

  /// Compiles the body of a script, as chunk "@user_script".
  /// Errors: "ERR Error compiling script (new function): ...".
  Result<LuaRef> Compile(std::string_view body);
  void Release(LuaRef ref);

  /// Calls the function; its value, or its error in Redis's form, is written to the caller's reply.
  /// `look` is asked every kLuaHookInstructions and sets scope.killed when the run shall end;
  /// empty: nobody asks.
  void Run(ScriptScope& scope, LuaRef ref, std::span<const std::string_view> keys,
           std::span<const std::string_view> args, const std::function<void()>& look);

  /// Runs a library's code (without its `#!` line, but with that line's end) in chunk
  /// "@user_function" with redis.register_function; what it registers is appended to *out, also
  /// when it fails: the caller releases. Errors: Redis's line for FUNCTION LOAD; a library that
  /// runs longer than `limit_ms` (0: no limit) fails. Requires: kFunctions.
  Status LoadLibrary(std::string_view code, int64_t limit_ms, std::vector<LuaFunction>* out);

  /// Error replies of the last run that a command of it had made, and so counted, already.
  uint64_t TakeRepeatedErrors();

  /// What the interpreter holds, in bytes.
  size_t memory_bytes() const;
  /// L3 with another limit than kLuaMemoryBytes: a test that fills a gigabyte takes its time.
  void LimitMemory(size_t bytes);

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace cairn

#pragma once

// ScriptHost: what is known of scripts between runs: the cache of EVAL, its interpreter, and the
// session on which scripts run their commands. It says what a script declares, runs it as
// one unit, and stops it. Function libraries run through it too (Run). Thread: executor.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/base/status.h"
#include "server/engine/engine.h"
#include "server/scripting/lua_engine.h"
#include "server/scripting/script_random.h"

namespace cairn {

/// Hex digits of a script's SHA-1, by which EVALSHA names it.
inline constexpr size_t kScriptShaDigits = 40;

/// Smaller interpreters are freed at once, in some 0.3 ms.
inline constexpr size_t kLazyInterpreterBytes = size_t{1} << 20;

/// One cached script.
struct CachedScript {
  std::string sha;  ///< kScriptShaDigits lower-case hex digits
  std::string body;
  uint32_t flags = kScriptCompat;  ///< ScriptFlag bits
  LuaRef function = 0;
};

class ScriptHost {
 public:
  explicit ScriptHost(Engine& engine);
  ~ScriptHost();
  ScriptHost(const ScriptHost&) = delete;
  ScriptHost& operator=(const ScriptHost&) = delete;

  /// The script with this body, compiled if it is new. Errors: of its `#!` line and of the
  /// interpreter. Cost: one hash of the body when it is known.
  Result<const CachedScript*> Define(std::string_view body);
  /// The flags that a script with this body declares, known or not; kScriptCompat: none, or none
  /// that can be read.
  uint32_t DeclaredBy(std::string_view body) const;
  /// By SHA-1 in hex, either case; nullptr when unknown.
  const CachedScript* Find(std::string_view sha) const;
  /// Forgets all scripts and everything they left in the interpreter; one that runs goes on.
  /// `lazy`: the reaper frees what is much.
  void Flush(bool lazy);

  /// Runs a function of `lua` for the caller of `ctx`. `read_only`: by an _RO command. The reply is
  /// written, or the status says why it may not run (Dispatcher::RunScript).
  Status Run(CommandContext& ctx, LuaEngine& lua, LuaRef function, std::string_view name,
             uint32_t flags, bool is_eval, bool read_only, std::span<const std::string_view> keys,
             std::span<const std::string_view> args);

  /// SCRIPT KILL (`is_eval`) and FUNCTION KILL. Errors: NOTBUSY, UNKILLABLE, BUSY.
  Status Kill(bool is_eval);

  LuaEngine& eval_engine() { return *cached_.eval; }
  ScriptRandom& random() { return random_; }
  size_t cached_scripts() const { return cached_.by_sha.size(); }
  uint64_t cache_bytes() const { return cached_.bytes; }

 private:
  struct BodyHash {
    size_t operator()(std::string_view body) const;
  };
  void Look();

  /// All that SCRIPT FLUSH takes away.
  struct Cached {
    std::unique_ptr<LuaEngine> eval;
    std::unordered_map<std::string_view, std::unique_ptr<CachedScript>> by_sha;
    std::unordered_map<std::string_view, const CachedScript*, BodyHash> by_body;
    uint64_t bytes = 0;
  };
  Cached Empty();

  Engine& engine_;
  ScriptRandom random_;
  Cached cached_;
  std::unique_ptr<Session> session_;
  std::function<void()> look_;
  std::vector<Cached> retired_;  // until the running script ends
};

/// The flags in a `#!lua ...` line without its end. Errors: Redis's lines.
Status ParseScriptShebang(std::string_view line, uint32_t* flags);

}  // namespace cairn

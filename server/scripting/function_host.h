#pragma once

// FunctionHost: the function libraries of FUNCTION and FCALL: what each registered, in one
// interpreter of their own. A set of libraries can be made apart and joined or swapped in whole,
// which is how FUNCTION RESTORE keeps its word. Running a function is ScriptHost's; saving and
// loading see FunctionStore. Thread: executor.
//
//   F1  A function's name, letter case aside, belongs to one library.
//   F2  A library has at least one function. A load that fails leaves everything as it was.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "server/engine/engine.h"
#include "server/engine/function_store.h"
#include "server/scripting/lua_engine.h"
#include "server/scripting/script_host.h"

namespace cairn {

/// A library may run for so long while it is loaded. Source: LOAD_TIMEOUT_MS of Redis 7.0.
inline constexpr int64_t kFunctionLoadLimitMs = 500;

struct FunctionLibrary {
  std::string name;
  std::string source;                  ///< with its `#!` line
  std::vector<LuaFunction> functions;  ///< by name
};

/// Libraries by name, and their functions.
class FunctionSet {
 public:
  struct Found {
    const FunctionLibrary* library;
    const LuaFunction* function;
  };
  struct NoCase {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const;
  };
  using Libraries = std::map<std::string, std::unique_ptr<FunctionLibrary>, std::less<>>;

  const Libraries& libraries() const { return libraries_; }
  size_t function_count() const;
  const FunctionLibrary* Find(std::string_view library) const;
  /// By a function's name in any letter case.
  const Found* FindFunction(std::string_view name) const;
  /// Requires: no library of that name and no function of its is here.
  void Add(std::unique_ptr<FunctionLibrary> library);
  /// Takes it out; nullptr when there is none.
  std::unique_ptr<FunctionLibrary> Take(std::string_view library);
  /// The first function of `library` that another one has; empty: none.
  std::string Clash(const FunctionLibrary& library) const;

 private:
  Libraries libraries_;
  std::map<std::string, Found, NoCase> functions_;
};

enum class RestorePolicy : uint8_t { kAppend, kFlush, kReplace };

class FunctionHost final : public FunctionStore {
 public:
  FunctionHost(Engine& engine, ScriptHost& scripts);
  ~FunctionHost() override;
  FunctionHost(const FunctionHost&) = delete;
  FunctionHost& operator=(const FunctionHost&) = delete;

  /// FUNCTION LOAD. Returns the library's name. Errors: Redis's lines.
  Result<std::string> Load(std::string_view source, bool replace);
  /// FUNCTION DELETE; false: there is none of that name.
  bool Delete(std::string_view library);
  /// FUNCTION DUMP.
  Result<std::string> Dump() const;
  /// FUNCTION RESTORE: all of the payload or nothing. Errors: Redis's lines.
  Status RestorePayload(std::string_view payload, RestorePolicy policy);
  /// FCALL. `args` are the caller's, for FUNCTION STATS. Errors: no such function, or why it may
  /// not run.
  Status Call(CommandContext& ctx, size_t key_count, bool read_only);
  /// The arguments of the FCALL that runs; empty between them.
  std::span<const std::string_view> running_args() const { return running_args_; }

  const FunctionSet& set() const { return set_; }

  std::vector<std::string> Sources() const override;
  Status Restore(std::string_view source, bool replace) override;
  void Clear(bool lazy) override;

 private:
  /// Makes a library in `set`. Returns its name. Errors: Redis's lines; `set` is as it was then.
  Result<std::string> Create(FunctionSet& set, std::string_view source, bool replace,
                             int64_t limit_ms);
  /// Puts a library into `set` in place of the one of its name, or says what is in its way.
  Status Place(FunctionSet& set, std::unique_ptr<FunctionLibrary> library);
  void Release(const FunctionLibrary& library);
  void Release(FunctionSet& set);
  Status Join(FunctionSet incoming, bool replace);

  Engine& engine_;
  ScriptHost& scripts_;
  std::unique_ptr<LuaEngine> lua_;
  std::vector<std::unique_ptr<LuaEngine>> retired_;  // until the running function ends
  FunctionSet set_;
  std::span<const std::string_view> running_args_;
};

}  // namespace cairn

#pragma once

// What the files of lua_engine share: the interpreter's state and the small helpers around Lua's
// stack. Not for others.

#include <array>
#include <cstdint>
#include <lua5.1/lua.hpp>
#include <string_view>
#include <vector>

#include "server/engine/engine.h"
#include "server/scripting/lua_engine.h"
#include "server/scripting/script_random.h"

namespace cairn {

/// A stand-in and the real table behind it (L1).
struct LuaStandIn {
  const void* shown = nullptr;
  int real = LUA_NOREF;
  int shown_ref = LUA_NOREF;
};

struct LuaEngine::State {
  State(Engine& engine_in, ScriptRandom& random_in, Use use_in)
      : engine(engine_in), random(random_in), use(use_in) {}

  Engine& engine;
  ScriptRandom& random;
  const Use use;
  lua_State* lua = nullptr;
  size_t bytes = 0;  // what Lua holds
  size_t limit_bytes = kLuaMemoryBytes;
  bool unlimited = false;  // while the interpreter is built or closed, or collects
  ScriptScope* scope = nullptr;
  const std::function<void()>* look = nullptr;
  bool ends = false;  // the hook has raised its error, and does so at each line from here on
  std::vector<LuaStandIn> stand_ins;
  uint64_t stand_in_filter = 0;  // bits of hashed addresses: most tables are none
  const void* globals = nullptr;
  int globals_meta = LUA_NOREF;  // what getmetatable(_G) and getmetatable("") show
  int string_meta = LUA_NOREF;
  int real_globals = LUA_NOREF;
  int library_globals = LUA_NOREF;  // what a library sees in their place while it is loaded
  lua_CFunction table_insert = nullptr, table_foreach = nullptr;
  std::array<lua_CFunction, 4> matchers{};  // find, match, gmatch, gsub
  lua_CFunction set_metatable = nullptr, collect_garbage = nullptr;
  std::vector<LuaFunction>* registering = nullptr;  // while a library is loaded
  int64_t load_deadline_us = 0;                     // of that, monotonic; 0 = none
  int runs_since_collect = 0;
  bool collects_at_once = false;  // a cycle of the collector begins when the last one has ended
  std::vector<std::string_view> args;  // of redis.call, kept for its capacity
  std::vector<std::array<char, 32>> numbers;
  uint64_t repeated_errors = 0;  // replied since they were last taken, counted before

  /// The stand-in at `address`, nullptr when the table is an ordinary one.
  const LuaStandIn* FindStandIn(const void* address) const;
};

/// The state behind a Lua function's interpreter.
inline LuaEngine::State& LuaStateOf(lua_State* lua) {
  void* state = nullptr;
  lua_getallocf(lua, &state);
  return *static_cast<LuaEngine::State*>(state);
}

inline std::string_view LuaText(lua_State* lua, int index) {
  size_t size = 0;
  const char* bytes = lua_tolstring(lua, index, &size);
  return {bytes, size};
}
inline void LuaPush(lua_State* lua, std::string_view text) {
  lua_pushlstring(lua, text.data(), text.size());
}

/// Refuses to let a text that is made outside of Lua's own memory grow beyond what Lua may hold
/// (L3): few strings that are shared many times make it.
inline void LuaLimitText(lua_State* lua, size_t size_bytes) {
  if (size_bytes > LuaStateOf(lua).limit_bytes) luaL_error(lua, "not enough memory");
}

/// Puts the table behind a stand-in at the top of the stack in its place, for code that shows no
/// table to the script (L1).
void LuaReplaceStandIn(lua_State* lua);

/// Raises {err = "ERR text"} as redis.call does; a text that begins with '-' has its own code.
[[noreturn]] void LuaRaise(lua_State* lua, std::string_view text);
/// Pushes the table that LuaRaise raises.
void LuaPushError(lua_State* lua, std::string_view text);

// lua_engine_sandbox.cc: builds _G as scripts see it. `api` pushes the table `redis`.
void LuaBuildSandbox(lua_State* lua, LuaEngine::State& state);
/// Lets _G show the table that `globals` refers to: real_globals or library_globals.
void LuaShowGlobals(lua_State* lua, const LuaEngine::State& state, int globals);

// lua_engine_redis.cc
void LuaPushRedisTable(lua_State* lua, const LuaEngine::State& state);
/// The table `redis` as a library sees it while it is loaded.
void LuaPushLibraryTable(lua_State* lua);
int LuaMathRandom(lua_State* lua);
int LuaMathRandomSeed(lua_State* lua);

// lua_engine_convert.cc
/// Pushes the value of one RESP reply. Returns the bytes behind it.
std::string_view LuaPushReply(lua_State* lua, std::string_view resp);
/// Writes the value at the top of the stack as a reply and pops it. `version` is the script's,
/// which decides what a boolean is.
void LuaWriteReply(lua_State* lua, LuaEngine::State& state, RespWriter& reply, int version);

// lua_engine_bit.cc, lua_engine_struct.cc, lua_engine_msgpack.cc, lua_engine_json.cc: each leaves
// its table on the stack.
int LuaOpenBit(lua_State* lua);
int LuaOpenStruct(lua_State* lua);
int LuaOpenMsgpack(lua_State* lua);
int LuaOpenJson(lua_State* lua);

}  // namespace cairn

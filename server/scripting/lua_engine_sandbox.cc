// What a script sees of Lua: the tables of Redis 7.0 behind stand-ins (L1), and replacements for
// the functions that could get around them, load bytecode (L2) or run away (L5, L6).

#include <algorithm>
#include <cstring>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

constexpr std::string_view kReadonly = "Attempt to modify a readonly table";
// unpack gives so many values at most: Lua's own limit for what a C function may push.
constexpr int64_t kMostResults = LUAI_MAXCSTACK;

// Globals that pass, beside the libraries. Source: the lists of script_lua.c, and what
// redis-server 7.0.15 shows of _G.
constexpr std::string_view kAllowedGlobals[] = {
    "_VERSION", "assert", "collectgarbage", "error",  "gcinfo",       "getmetatable",
    "ipairs",   "load",   "loadstring",     "next",   "pairs",        "pcall",
    "rawequal", "rawget", "rawset",         "select", "setmetatable", "tonumber",
    "tostring", "type",   "unpack",         "xpcall",
};
constexpr const char* kLibraries[] = {"string", "table", "math",   "coroutine",
                                      "bit",    "cjson", "struct", "cmsgpack"};

uint64_t FilterBit(const void* address) {
  return uint64_t{1} << ((reinterpret_cast<uintptr_t>(address) >> 5) * 0x9E3779B97F4A7C15u >> 58);
}

[[noreturn]] void RaiseReadonly(lua_State* lua) {
  LuaPush(lua, kReadonly);
  lua_error(lua);
  __builtin_unreachable();
}

// __newindex of a stand-in.
int RefuseWrite(lua_State* lua) { return luaL_error(lua, "%s", kReadonly.data()); }

// __index of the real globals.
int RefuseUnknownGlobal(lua_State* lua) {
  const char* name = lua_tostring(lua, 2);
  return luaL_error(lua, "Script attempted to access nonexistent global variable '%s'",
                    name != nullptr ? name : "(null)");
}

const LuaStandIn* StandInAt(lua_State* lua, int index) {
  if (lua_type(lua, index) != LUA_TTABLE) return nullptr;
  return LuaStateOf(lua).FindStandIn(lua_topointer(lua, index));
}

// --- replacements in _G ---

int RawGet(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  luaL_checkany(lua, 2);
  lua_settop(lua, 2);
  if (const LuaStandIn* stand_in = StandInAt(lua, 1)) {
    lua_rawgeti(lua, LUA_REGISTRYINDEX, stand_in->real);
    lua_replace(lua, 1);
  }
  lua_rawget(lua, 1);
  return 1;
}

int RawSet(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  luaL_checkany(lua, 2);
  luaL_checkany(lua, 3);
  if (StandInAt(lua, 1) != nullptr) RaiseReadonly(lua);
  lua_settop(lua, 3);
  lua_rawset(lua, 1);
  return 1;
}

int Next(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  lua_settop(lua, 2);
  if (const LuaStandIn* stand_in = StandInAt(lua, 1)) {
    lua_rawgeti(lua, LUA_REGISTRYINDEX, stand_in->real);
    lua_replace(lua, 1);
  }
  if (lua_next(lua, 1)) return 2;
  lua_pushnil(lua);
  return 1;
}

int Pairs(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  lua_pushvalue(lua, lua_upvalueindex(1));
  lua_pushvalue(lua, 1);
  lua_pushnil(lua);
  return 3;
}

int GetMetatable(lua_State* lua) {
  luaL_checkany(lua, 1);
  LuaEngine::State& state = LuaStateOf(lua);
  if (lua_type(lua, 1) == LUA_TSTRING) {
    lua_rawgeti(lua, LUA_REGISTRYINDEX, state.string_meta);
    return 1;
  }
  if (StandInAt(lua, 1) != nullptr) {
    if (lua_topointer(lua, 1) == state.globals) {
      lua_rawgeti(lua, LUA_REGISTRYINDEX, state.globals_meta);
    } else {
      lua_pushnil(lua);
    }
    return 1;
  }
  if (!lua_getmetatable(lua, 1)) {
    lua_pushnil(lua);
    return 1;
  }
  luaL_getmetafield(lua, 1, "__metatable");
  return 1;
}

int SetMetatable(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  const int type = lua_type(lua, 2);
  luaL_argcheck(lua, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table expected");
  if (StandInAt(lua, 1) != nullptr) RaiseReadonly(lua);
  return LuaStateOf(lua).set_metatable(lua);
}

int TableInsert(lua_State* lua) {
  if (StandInAt(lua, 1) != nullptr &&
      (lua_gettop(lua) == 2 || (lua_gettop(lua) == 3 && lua_isnumber(lua, 2)))) {
    RaiseReadonly(lua);
  }
  return LuaStateOf(lua).table_insert(lua);
}

int TableForeach(lua_State* lua) {
  if (const LuaStandIn* stand_in = StandInAt(lua, 1)) {
    lua_rawgeti(lua, LUA_REGISTRYINDEX, stand_in->real);
    lua_replace(lua, 1);
  }
  return LuaStateOf(lua).table_foreach(lua);
}

// Lua's own computes the count in an int, which wraps.
int Unpack(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  const int64_t first = luaL_optint(lua, 2, 1);
  const int64_t last =
      lua_isnoneornil(lua, 3) ? static_cast<int64_t>(lua_objlen(lua, 1)) : luaL_checkint(lua, 3);
  if (first > last) return 0;
  const int64_t count = last - first + 1;
  if (count > kMostResults || !lua_checkstack(lua, static_cast<int>(count)))
    return luaL_error(lua, "too many results to unpack");
  for (int64_t i = first; i <= last; ++i) lua_rawgeti(lua, 1, static_cast<int>(i));
  return static_cast<int>(count);
}

// pcall as Redis has it: an error that is a table with `err` comes back as that text; an `err` that
// is no text comes behind the table.
int ProtectedCall(lua_State* lua) {
  const int count = lua_gettop(lua);
  if (count == 0) {  // Redis calls the place that it keeps for the outcome
    lua_pushboolean(lua, 0);
    lua_pushliteral(lua, "attempt to call a boolean value");
    return 2;
  }
  lua_pushboolean(lua, 1);
  lua_insert(lua, 1);
  if (lua_pcall(lua, count - 1, LUA_MULTRET, 0) == 0) return lua_gettop(lua);
  lua_remove(lua, 1);
  if (lua_istable(lua, -1)) {
    lua_getfield(lua, -1, "err");
    if (lua_isstring(lua, -1)) lua_replace(lua, -2);
  }
  lua_pushboolean(lua, 0);
  lua_insert(lua, 1);
  return lua_gettop(lua);
}

// Lua runs no hook inside a handler that it calls for an error of the hook, so of a run that is to
// end none of the script is called (L4).
int HandleError(lua_State* lua) {
  if (LuaStateOf(lua).ends) return 1;
  lua_pushvalue(lua, lua_upvalueindex(1));
  lua_insert(lua, 1);
  lua_call(lua, 1, 1);
  return 1;
}

// xpcall with HandleError in front of the script's handler.
int HandledCall(lua_State* lua) {
  luaL_checkany(lua, 2);
  lua_settop(lua, 2);
  if (lua_isfunction(lua, 2)) lua_pushcclosure(lua, HandleError, 1);
  lua_insert(lua, 1);
  const int failed = lua_pcall(lua, 0, LUA_MULTRET, 1);
  lua_pushboolean(lua, failed == 0);
  lua_replace(lua, 1);
  return lua_gettop(lua);
}

// Stopping or pacing the collector would outlive the script that asked for it.
int CollectGarbage(lua_State* lua) {
  const std::string_view what = luaL_optstring(lua, 1, "collect");
  if (what == "stop" || what == "restart") {
    lua_pushinteger(lua, 0);
    return 1;
  }
  if (what == "setpause" || what == "setstepmul") {
    lua_pushinteger(lua, LUAI_GCPAUSE);
    return 1;
  }
  return LuaStateOf(lua).collect_garbage(lua);
}

// --- source only ---

// Compiles `source` under the name at index `name`, which anchors it while the collector rests.
int LoadSource(lua_State* lua, std::string_view source, int name) {
  // What begins as bytecode meets the parser, and its error, as in Redis.
  if (!source.empty() && source[0] == LUA_SIGNATURE[0]) source = " \x1b";
  lua_gc(lua, LUA_GCSTOP, 0);
  const int failed = luaL_loadbuffer(lua, source.data(), source.size(), lua_tostring(lua, name));
  lua_gc(lua, LUA_GCRESTART, 0);
  if (failed == 0) return 1;
  lua_pushnil(lua);
  lua_insert(lua, -2);
  return 2;
}

int LoadString(lua_State* lua) {
  size_t size;
  const char* source = luaL_checklstring(lua, 1, &size);
  luaL_optstring(lua, 2, source);
  lua_settop(lua, 2);
  if (lua_isnil(lua, 2)) {
    // A name ends at its first NUL, so the source itself does not anchor it.
    lua_pushstring(lua, source);
    lua_replace(lua, 2);
  }
  return LoadSource(lua, {source, size}, 2);
}

// Gathers the pieces first: no code of the script runs while the parser does.
int Load(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TFUNCTION);
  luaL_optstring(lua, 2, "=(load)");
  lua_settop(lua, 2);
  if (lua_isnil(lua, 2)) {
    lua_pushliteral(lua, "=(load)");
    lua_replace(lua, 2);
  }
  lua_newtable(lua);
  int pieces = 0;
  for (;;) {
    lua_pushvalue(lua, 1);
    if (lua_pcall(lua, 0, 1, 0) != 0) {
      lua_pushnil(lua);
      lua_insert(lua, -2);
      return 2;
    }
    if (lua_isnil(lua, -1)) break;
    if (!lua_isstring(lua, -1)) {
      lua_pushnil(lua);
      lua_pushliteral(lua, "reader function must return a string");
      return 2;
    }
    const std::string_view piece = LuaText(lua, -1);
    if (piece.empty()) break;
    const bool bytecode = pieces == 0 && piece[0] == LUA_SIGNATURE[0];
    lua_rawseti(lua, 3, ++pieces);
    if (bytecode) break;  // refused by its first byte: no more is asked for
  }
  lua_settop(lua, 3);
  luaL_Buffer whole;
  luaL_buffinit(lua, &whole);
  for (int i = 1; i <= pieces; ++i) {
    lua_rawgeti(lua, 3, i);
    luaL_addvalue(&whole);
  }
  luaL_pushresult(&whole);
  return LoadSource(lua, LuaText(lua, -1), 2);
}

// --- patterns ---

template <size_t kWhich>
int Match(lua_State* lua) {
  if (lua_type(lua, 2) == LUA_TSTRING && lua_objlen(lua, 2) > kLuaPatternBytes)
    return luaL_error(lua, "pattern too complex");
  return LuaStateOf(lua).matchers[kWhich](lua);
}

template <size_t kWhich>
void WrapMatcher(lua_State* lua, LuaEngine::State& state, const char* name) {
  lua_getfield(lua, -1, name);
  state.matchers[kWhich] = lua_tocfunction(lua, -1);
  lua_pop(lua, 1);
  lua_pushcfunction(lua, Match<kWhich>);
  lua_setfield(lua, -2, name);
}

// --- building ---

void OpenLibrary(lua_State* lua, const char* name, lua_CFunction open) {
  lua_pushcfunction(lua, open);
  lua_pushstring(lua, name);
  lua_call(lua, 1, 0);
}

void SetOwnLibrary(lua_State* lua, const char* name, lua_CFunction open) {
  open(lua);
  lua_setglobal(lua, name);
}

/// Takes the field's C function out of the table at the top and puts ours in its place.
lua_CFunction Replace(lua_State* lua, const char* name, lua_CFunction ours) {
  lua_getfield(lua, -1, name);
  const lua_CFunction theirs = lua_tocfunction(lua, -1);
  lua_pop(lua, 1);
  lua_pushcfunction(lua, ours);
  lua_setfield(lua, -2, name);
  return theirs;
}

void ReplaceFunctions(lua_State* lua, LuaEngine::State& state) {
  lua_pushvalue(lua, LUA_GLOBALSINDEX);
  Replace(lua, "rawget", RawGet);
  Replace(lua, "rawset", RawSet);
  Replace(lua, "next", Next);
  Replace(lua, "getmetatable", GetMetatable);
  state.set_metatable = Replace(lua, "setmetatable", SetMetatable);
  state.collect_garbage = Replace(lua, "collectgarbage", CollectGarbage);
  Replace(lua, "unpack", Unpack);
  Replace(lua, "pcall", ProtectedCall);
  Replace(lua, "xpcall", HandledCall);
  Replace(lua, "loadstring", LoadString);
  Replace(lua, "load", Load);
  lua_getfield(lua, -1, "next");
  lua_pushcclosure(lua, Pairs, 1);
  lua_setfield(lua, -2, "pairs");
  lua_getfield(lua, -1, "table");
  state.table_insert = Replace(lua, "insert", TableInsert);
  state.table_foreach = Replace(lua, "foreach", TableForeach);
  lua_pop(lua, 1);
  lua_getfield(lua, -1, "math");
  Replace(lua, "random", LuaMathRandom);
  Replace(lua, "randomseed", LuaMathRandomSeed);
  lua_pop(lua, 1);
  lua_getfield(lua, -1, "string");
  WrapMatcher<0>(lua, state, "find");
  WrapMatcher<1>(lua, state, "match");
  WrapMatcher<2>(lua, state, "gmatch");
  WrapMatcher<3>(lua, state, "gsub");
  lua_getfield(lua, -1, "gmatch");
  lua_setfield(lua, -2, "gfind");
  lua_pop(lua, 2);
}

/// Turns the empty table below the real one (top) into its stand-in; pops the real one.
void MakeStandIn(lua_State* lua, LuaEngine::State& state) {
  LuaStandIn stand_in;
  lua_newtable(lua);
  lua_pushvalue(lua, -2);
  lua_setfield(lua, -2, "__index");
  lua_pushcfunction(lua, RefuseWrite);
  lua_setfield(lua, -2, "__newindex");
  lua_setmetatable(lua, -3);
  stand_in.real = luaL_ref(lua, LUA_REGISTRYINDEX);
  stand_in.shown = lua_topointer(lua, -1);
  lua_pushvalue(lua, -1);
  stand_in.shown_ref = luaL_ref(lua, LUA_REGISTRYINDEX);
  state.stand_ins.push_back(stand_in);
  state.stand_in_filter |= FilterBit(stand_in.shown);
}

/// Puts a stand-in for the table at the top into the field of the table below it; pops it.
void SetStandIn(lua_State* lua, LuaEngine::State& state, const char* field) {
  lua_newtable(lua);
  lua_insert(lua, -2);
  MakeStandIn(lua, state);
  lua_setfield(lua, -2, field);
}

/// What the table at the top does not have is an error to read.
void RefuseUnknown(lua_State* lua) {
  lua_newtable(lua);
  lua_pushcfunction(lua, RefuseUnknownGlobal);
  lua_setfield(lua, -2, "__index");
  lua_setmetatable(lua, -2);
}

/// A metatable to look at, with one field.
int MakeShownMetatable(lua_State* lua, LuaEngine::State& state) {
  lua_newtable(lua);
  lua_insert(lua, -2);
  lua_newtable(lua);
  lua_insert(lua, -2);
  lua_setfield(lua, -2, "__index");
  MakeStandIn(lua, state);
  return luaL_ref(lua, LUA_REGISTRYINDEX);
}

}  // namespace

const LuaStandIn* LuaEngine::State::FindStandIn(const void* address) const {
  if (!(stand_in_filter & FilterBit(address))) return nullptr;
  for (const LuaStandIn& stand_in : stand_ins) {
    if (stand_in.shown == address) return &stand_in;
  }
  return nullptr;
}

void LuaReplaceStandIn(lua_State* lua) {
  const LuaStandIn* const stand_in = StandInAt(lua, -1);
  if (stand_in == nullptr) return;
  lua_rawgeti(lua, LUA_REGISTRYINDEX, stand_in->real);
  lua_replace(lua, -2);
}

// The table that was _G from the start is the environment of every function made here, so it
// becomes the stand-in itself, emptied.
void LuaBuildSandbox(lua_State* lua, LuaEngine::State& state) {
  OpenLibrary(lua, "", luaopen_base);
  OpenLibrary(lua, LUA_TABLIBNAME, luaopen_table);
  OpenLibrary(lua, LUA_STRLIBNAME, luaopen_string);
  OpenLibrary(lua, LUA_MATHLIBNAME, luaopen_math);
  SetOwnLibrary(lua, "bit", LuaOpenBit);
  SetOwnLibrary(lua, "struct", LuaOpenStruct);
  SetOwnLibrary(lua, "cmsgpack", LuaOpenMsgpack);
  SetOwnLibrary(lua, "cjson", LuaOpenJson);
  ReplaceFunctions(lua, state);

  lua_newtable(lua);  // the real globals
  for (std::string_view name : kAllowedGlobals) {
    LuaPush(lua, name);
    lua_pushvalue(lua, -1);
    lua_rawget(lua, LUA_GLOBALSINDEX);
    lua_rawset(lua, -3);
  }
  for (const char* name : kLibraries) {
    lua_getglobal(lua, name);
    SetStandIn(lua, state, name);
  }
  LuaPushRedisTable(lua, state);
  SetStandIn(lua, state, "redis");
  lua_pushvalue(lua, LUA_GLOBALSINDEX);
  lua_setfield(lua, -2, "_G");
  RefuseUnknown(lua);

  lua_pushnil(lua);
  while (lua_next(lua, LUA_GLOBALSINDEX)) {
    lua_pop(lua, 1);
    lua_pushvalue(lua, -1);
    lua_pushnil(lua);
    lua_rawset(lua, LUA_GLOBALSINDEX);
  }
  lua_pushvalue(lua, LUA_GLOBALSINDEX);
  lua_insert(lua, -2);
  MakeStandIn(lua, state);
  state.globals = lua_topointer(lua, -1);
  state.real_globals = state.stand_ins.back().real;

  lua_pushcfunction(lua, RefuseUnknownGlobal);
  state.globals_meta = MakeShownMetatable(lua, state);
  lua_getfield(lua, -1, "string");
  state.string_meta = MakeShownMetatable(lua, state);
  lua_pop(lua, 1);
  if (state.use != LuaEngine::Use::kFunctions) return;

  lua_newtable(lua);
  LuaPushLibraryTable(lua);
  RefuseUnknown(lua);
  SetStandIn(lua, state, "redis");
  RefuseUnknown(lua);
  state.library_globals = luaL_ref(lua, LUA_REGISTRYINDEX);
}

void LuaShowGlobals(lua_State* lua, const LuaEngine::State& state, int globals) {
  lua_rawgeti(lua, LUA_REGISTRYINDEX, state.FindStandIn(state.globals)->shown_ref);
  lua_getmetatable(lua, -1);
  lua_rawgeti(lua, LUA_REGISTRYINDEX, globals);
  lua_setfield(lua, -2, "__index");
  lua_pop(lua, 2);
}

}  // namespace cairn

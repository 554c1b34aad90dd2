#include "server/scripting/lua_engine.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "server/protocol/resp_errors.h"
#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

// Collect a little every so many runs, in place of long cycles now and then. Source: script_lua.c.
constexpr int kRunsPerCollection = 50;
// Room for replies that is kept from run to run.
constexpr size_t kKeptReplyBytes = 256 * 1024;
// A message shows so much of itself where Redis cuts it (%.100s).
constexpr size_t kShownFailureBytes = 100;

// L3. Never refuses to shrink.
void* Allocate(void* user, void* block, size_t old_size, size_t new_size) {
  auto& state = *static_cast<LuaEngine::State*>(user);
  if (new_size == 0) {
    std::free(block);
    state.bytes -= old_size;
    return nullptr;
  }
  if (new_size > old_size && !state.unlimited &&
      state.bytes + (new_size - old_size) > state.limit_bytes) {
    return nullptr;
  }
  void* const moved = std::realloc(block, new_size);
  if (moved != nullptr) state.bytes += new_size - old_size;
  return moved;
}

// L4. Raised again at every line from here on, so that no pcall of the script holds it up.
void Hook(lua_State* lua, lua_Debug*) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.registering != nullptr) {
    if (state.load_deadline_us == 0 ||
        state.engine.env.MonotonicMicros() < state.load_deadline_us) {
      return;
    }
    lua_sethook(lua, Hook, LUA_MASKLINE, 0);
    LuaRaise(lua, "FUNCTION LOAD timeout");
  }
  if (*state.look && !state.scope->killed) (*state.look)();
  if (!state.scope->killed) return;
  lua_sethook(lua, Hook, LUA_MASKLINE, 0);
  LuaRaise(lua, "Script killed by user with SCRIPT KILL...");
}

// The message handler of a run: makes the error a table and notes where it was raised.
int NoteError(lua_State* lua) {
  lua_Debug where;
  bool known = lua_getstack(lua, 1, &where) && lua_getinfo(lua, "Sl", &where);
  if (known && *where.what == 'C')
    known = lua_getstack(lua, 2, &where) && lua_getinfo(lua, "Sl", &where);
  if (!lua_istable(lua, 1)) {
    std::string text = "ERR ";
    if (lua_isstring(lua, 1)) {
      text += LuaText(lua, 1);
    } else if (lua_isboolean(lua, 1)) {
      text += lua_toboolean(lua, 1) ? "true" : "false";
    } else if (lua_isnil(lua, 1)) {
      text += "nil";
    } else {
      lua_pushfstring(lua, "%s: %p", luaL_typename(lua, 1), lua_topointer(lua, 1));
      text += LuaText(lua, -1);
    }
    lua_settop(lua, 0);
    lua_createtable(lua, 0, 3);
    LuaPush(lua, text);
    lua_setfield(lua, 1, "err");
  }
  if (known) {
    lua_settop(lua, 1);
    if (LuaStateOf(lua).FindStandIn(lua_topointer(lua, 1)) == nullptr) {
      lua_pushliteral(lua, "source");
      lua_pushstring(lua, where.source);
      lua_rawset(lua, 1);
      lua_pushliteral(lua, "line");
      lua_pushinteger(lua, where.currentline);
      lua_rawset(lua, 1);
    }
  }
  lua_settop(lua, 1);
  return 1;
}

// A field of the table at the top as text up to its first NUL; `otherwise` when it is none.
std::string RawText(lua_State* lua, const char* field, const char* otherwise = "") {
  lua_pushstring(lua, field);
  lua_rawget(lua, -2);
  std::string text = lua_isstring(lua, -1) ? lua_tostring(lua, -1) : otherwise;
  lua_pop(lua, 1);
  return text;
}

struct RunCall {
  LuaEngine::State& state;
  LuaRef ref;
  std::span<const std::string_view> keys;
  std::span<const std::string_view> args;
  int failed = 0;
};

void PushStrings(lua_State* lua, std::span<const std::string_view> strings) {
  lua_createtable(lua, static_cast<int>(strings.size()), 0);
  for (size_t i = 0; i < strings.size(); ++i) {
    LuaPush(lua, strings[i]);
    lua_rawseti(lua, -2, static_cast<int>(i + 1));
  }
}

void SetError(RunCall& call, std::string line, bool counted) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.pop_back();
  if (counted) {
    ++call.state.repeated_errors;
  } else {
    call.state.engine.stats.CountError(line);
  }
  call.state.scope->caller->reply.Error(line);
}

// "Error running script <name>, ..." for what no handler could see: memory, errors of the handler.
void WriteFailure(lua_State* lua, RunCall& call) {
  std::string text = "execution failure";
  if (lua_isstring(lua, -1)) text = LuaText(lua, -1).substr(0, kShownFailureBytes);
  SetError(call, "ERR Error running script " + std::string(call.state.scope->name) + ", " + text,
           false);
}

void WriteError(lua_State* lua, RunCall& call) {
  if (!lua_istable(lua, -1)) return WriteFailure(lua, call);
  std::string line = RawText(lua, "err", "ERR unknown error");
  const std::string source = RawText(lua, "source");
  const std::string number = RawText(lua, "line");
  if (!source.empty() && !number.empty()) {
    line +=
        " script: " + std::string(call.state.scope->name) + ", on " + source + ":" + number + ".";
  }
  lua_pushliteral(lua, "ignore_error_stats_update");
  lua_rawget(lua, -2);
  const bool counted = lua_toboolean(lua, -1);
  lua_pop(lua, 1);
  SetError(call, std::move(line), counted);
}

int RunProtected(lua_State* lua) {
  auto& call = *static_cast<RunCall*>(lua_touserdata(lua, 1));
  LuaEngine::State& state = call.state;
  lua_settop(lua, 0);
  lua_pushcfunction(lua, NoteError);
  lua_rawgeti(lua, LUA_REGISTRYINDEX, call.ref);
  int parameters = 0;
  if (state.use == LuaEngine::Use::kScripts) {
    lua_rawgeti(lua, LUA_REGISTRYINDEX, state.real_globals);
    PushStrings(lua, call.keys);
    lua_setfield(lua, -2, "KEYS");
    PushStrings(lua, call.args);
    lua_setfield(lua, -2, "ARGV");
    lua_pop(lua, 1);
  } else {
    PushStrings(lua, call.keys);
    PushStrings(lua, call.args);
    parameters = 2;
  }
  call.failed = lua_pcall(lua, parameters, 1, 1);
  lua_sethook(lua, nullptr, 0, 0);
  if (call.failed) {
    WriteError(lua, call);
  } else {
    LuaWriteReply(lua, state, state.scope->caller->reply, state.scope->session->reply.version());
  }
  return 0;
}

struct CompileCall {
  std::string_view source;
  LuaRef ref = LUA_NOREF;
  std::string fault;
};

// Leaves a function or a message on the stack, which keeps the chunk's name meanwhile (L5).
int LoadChunk(lua_State* lua, std::string_view source, const char* name) {
  lua_pushstring(lua, name);
  // What begins as bytecode meets the parser, and its error (L2).
  if (!source.empty() && source[0] == LUA_SIGNATURE[0]) source = " \x1b";
  lua_gc(lua, LUA_GCSTOP, 0);
  const int failed = luaL_loadbuffer(lua, source.data(), source.size(), lua_tostring(lua, -1));
  lua_gc(lua, LUA_GCRESTART, 0);
  lua_remove(lua, -2);
  return failed;
}

int CompileProtected(lua_State* lua) {
  auto& call = *static_cast<CompileCall*>(lua_touserdata(lua, 1));
  if (LoadChunk(lua, call.source, "@user_script")) {
    call.fault = "ERR Error compiling script (new function): ";
    call.fault += LuaText(lua, -1);
    return 0;
  }
  call.ref = luaL_ref(lua, LUA_REGISTRYINDEX);
  return 0;
}

struct LoadCall {
  std::string_view code;
  std::string fault;
};

int LoadProtected(lua_State* lua) {
  auto& call = *static_cast<LoadCall*>(lua_touserdata(lua, 1));
  lua_settop(lua, 0);
  LuaShowGlobals(lua, LuaStateOf(lua), LuaStateOf(lua).library_globals);
  lua_pushcfunction(lua, NoteError);
  if (LoadChunk(lua, call.code, "@user_function")) {
    call.fault = "ERR Error compiling function: ";
    call.fault += LuaText(lua, -1);
    return 0;
  }
  if (lua_pcall(lua, 0, 0, 1) == 0) return 0;
  call.fault = "ERR Error registering functions: ";
  if (!lua_istable(lua, -1)) {
    if (lua_isstring(lua, -1)) call.fault += LuaText(lua, -1);
    return 0;
  }
  call.fault += RawText(lua, "err");
  return 0;
}

int BuildProtected(lua_State* lua) {
  LuaBuildSandbox(lua, LuaStateOf(lua));
  return 0;
}

}  // namespace

LuaEngine::LuaEngine(Engine& engine, ScriptRandom& random, Use use)
    : state_(std::make_unique<State>(engine, random, use)) {
  state_->unlimited = true;
  state_->lua = lua_newstate(Allocate, state_.get());
  CAIRN_CHECK(state_->lua != nullptr);
  CAIRN_CHECK(lua_cpcall(state_->lua, BuildProtected, nullptr) == 0);
  state_->unlimited = false;
}

LuaEngine::~LuaEngine() {
  state_->unlimited = true;
  lua_close(state_->lua);
}

Result<LuaRef> LuaEngine::Compile(std::string_view body) {
  CompileCall call;
  call.source = body;
  lua_State* const lua = state_->lua;
  const int top = lua_gettop(lua);  // not empty while a script runs
  if (lua_cpcall(lua, CompileProtected, &call) != 0) {
    call.fault = "ERR Error compiling script (new function): ";
    call.fault += lua_isstring(lua, -1) ? LuaText(lua, -1) : std::string_view("unknown error");
  }
  lua_settop(lua, top);
  if (call.ref == LUA_NOREF) return Status::Client(std::move(call.fault));
  return call.ref;
}

void LuaEngine::Release(LuaRef ref) { luaL_unref(state_->lua, LUA_REGISTRYINDEX, ref); }

void LuaEngine::Run(ScriptScope& scope, LuaRef ref, std::span<const std::string_view> keys,
                    std::span<const std::string_view> args, const std::function<void()>& look) {
  State& state = *state_;
  lua_State* const lua = state.lua;
  CAIRN_CHECK(state.scope == nullptr);
  state.scope = &scope;
  state.look = &look;
  if (look) lua_sethook(lua, Hook, LUA_MASKCOUNT, kLuaHookInstructions);
  RunCall call{state, ref, keys, args};
  const ReplyBuffer::Mark mark = scope.caller->output.Here();
  const int failed = lua_cpcall(lua, RunProtected, &call);
  lua_sethook(lua, nullptr, 0, 0);
  if (failed) {
    // Memory gave out around the script: while its arguments were set or its value was replied.
    scope.caller->output.RollbackTo(mark);
    WriteFailure(lua, call);
  }
  lua_settop(lua, 0);
  scope.session->output.Clear();
  if (scope.session->output.footprint() > kKeptReplyBytes) scope.session->output.ShrinkIfIdle();
  state.scope = nullptr;
  state.look = nullptr;
  if (failed == LUA_ERRMEM || call.failed == LUA_ERRMEM || state.bytes > state.limit_bytes / 2) {
    // Lua halves the buffer of its concatenations once a collection.
    for (size_t before = SIZE_MAX; state.bytes < before - before / 4;) {
      before = state.bytes;
      lua_gc(lua, LUA_GCCOLLECT, 0);
    }
  } else if (++state.runs_since_collect >= kRunsPerCollection) {
    state.runs_since_collect = 0;
    lua_gc(lua, LUA_GCSTEP, kRunsPerCollection);
  }
}

Status LuaEngine::LoadLibrary(std::string_view code, int64_t limit_ms,
                              std::vector<LuaFunction>* out) {
  CAIRN_CHECK(state_->use == Use::kFunctions && state_->registering == nullptr);
  lua_State* const lua = state_->lua;
  const int top = lua_gettop(lua);  // not empty while a function runs
  state_->registering = out;
  state_->load_deadline_us =
      limit_ms > 0 ? state_->engine.env.MonotonicMicros() + limit_ms * 1000 : 0;
  lua_sethook(lua, Hook, LUA_MASKCOUNT, kLuaHookInstructions);
  LoadCall call{code, {}};
  if (lua_cpcall(lua, LoadProtected, &call) != 0) {
    call.fault = "ERR Error registering functions: ";
    call.fault += lua_isstring(lua, -1) ? LuaText(lua, -1) : std::string_view("unknown error");
  }
  const bool looks = state_->look != nullptr && *state_->look;
  lua_sethook(lua, looks ? Hook : nullptr, looks ? LUA_MASKCOUNT : 0, kLuaHookInstructions);
  lua_settop(lua, top);
  LuaShowGlobals(lua, *state_, state_->real_globals);
  state_->registering = nullptr;
  if (!call.fault.empty()) return Status::Client(std::move(call.fault));
  return Status::Ok();
}

size_t LuaEngine::memory_bytes() const { return state_->bytes; }
void LuaEngine::LimitMemory(size_t bytes) { state_->limit_bytes = bytes; }

uint64_t LuaEngine::TakeRepeatedErrors() { return std::exchange(state_->repeated_errors, 0); }

}  // namespace cairn

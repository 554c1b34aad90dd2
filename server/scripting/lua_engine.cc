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
// What the collector looks at for each byte that is allocated, in percent, is at most this.
constexpr size_t kMostStep = 10000;
// Part of the limit that a run must have taken before all garbage is looked for behind it.
constexpr size_t kCollectedParts = 64;
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

// The collector allocates too, as it shrinks tables. Refused outside of a protected call, Lua would
// end the process.
void Collect(lua_State* lua, int what, int data) {
  LuaEngine::State& state = LuaStateOf(lua);
  const bool before = std::exchange(state.unlimited, true);
  lua_gc(lua, what, data);
  state.unlimited = before;
}

// Lua lets its garbage grow to the size of what is live, which may be more than there is room for.
// Above half the limit it begins each cycle at once, and makes steps that end it within half of the
// room. Returns what it looks at for each byte that is allocated, in percent.
size_t PaceCollector(lua_State* lua) {
  LuaEngine::State& state = LuaStateOf(lua);
  const bool short_of_room = state.bytes > state.limit_bytes / 2;
  if (!short_of_room && !state.collects_at_once) return LUAI_GCMUL;
  state.collects_at_once = short_of_room;
  size_t step = LUAI_GCMUL;
  if (short_of_room) {
    // A cycle looks at what is held, and once more, quickly, to free: 1.25 times the bytes.
    const size_t room = state.limit_bytes - std::min(state.bytes, state.limit_bytes - 1);
    step = std::min(250 * state.bytes / room, kMostStep);
  }
  lua_gc(lua, LUA_GCSETPAUSE, short_of_room ? 100 : LUAI_GCPAUSE);
  lua_gc(lua, LUA_GCSETSTEPMUL, static_cast<int>(step));
  if (short_of_room) Collect(lua, LUA_GCSTEP, 0);
  return step;
}

// After work that began with `begun_bytes`. All garbage is looked for only when the work itself
// took a good part of the room, so that the price follows what was done and not what is held.
void CollectAfter(LuaEngine::State& state, size_t begun_bytes, bool out_of_memory) {
  const size_t part = state.limit_bytes / kCollectedParts;
  const size_t room = state.limit_bytes - std::min(begun_bytes, state.limit_bytes);
  const bool took_much = state.bytes > begun_bytes + std::max(room / 4, part);
  if (took_much && (out_of_memory || state.bytes > state.limit_bytes / 2)) {
    // Lua halves the buffer of its concatenations once a collection.
    for (size_t before = SIZE_MAX; state.bytes < before - before / 4;) {
      before = state.bytes;
      Collect(state.lua, LUA_GCCOLLECT, 0);
    }
  }
  const size_t step = PaceCollector(state.lua);
  // There may be garbage from before; a part of what is held is looked at for each failure.
  if (out_of_memory && !took_much)
    Collect(state.lua, LUA_GCSTEP, static_cast<int>(part * 100 / step / 1024));
}

// L4. Raised again at every line from here on, so that no pcall of the script holds it up.
void Hook(lua_State* lua, lua_Debug*) {
  LuaEngine::State& state = LuaStateOf(lua);
  PaceCollector(lua);
  if (state.registering != nullptr) {
    if (state.load_deadline_us == 0 ||
        state.engine.env.MonotonicMicros() < state.load_deadline_us) {
      return;
    }
    lua_sethook(lua, Hook, LUA_MASKLINE, 0);
    state.ends = true;
    LuaRaise(lua, "FUNCTION LOAD timeout");
  }
  if (*state.look && !state.scope->killed) (*state.look)();
  if (!state.scope->killed) return;
  lua_sethook(lua, Hook, LUA_MASKLINE, 0);
  state.ends = true;
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

// Pops a value. It is text up to its first NUL; `otherwise` when it is none.
std::string TakeText(lua_State* lua, const char* otherwise) {
  std::string text = lua_isstring(lua, -1) ? lua_tostring(lua, -1) : otherwise;
  lua_pop(lua, 1);
  return text;
}

// A field of the table at the top.
std::string RawText(lua_State* lua, const char* field) {
  lua_pushstring(lua, field);
  lua_rawget(lua, -2);
  return TakeText(lua, "");
}

int GetErr(lua_State* lua) {
  lua_getfield(lua, 1, "err");
  return 1;
}

// The text of the error at the top, a table. Runs code of the script if that is behind a
// metatable.
std::string ErrorText(lua_State* lua, const char* otherwise) {
  lua_pushcfunction(lua, GetErr);
  lua_pushvalue(lua, -2);
  if (lua_pcall(lua, 1, 1, 0) == 0) return TakeText(lua, otherwise);
  std::string text = LuaStateOf(lua).ends ? RawText(lua, "err") : otherwise;
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

void SetError(RunCall& call, std::string text, bool counted) {
  const std::string line = ErrorLine(std::move(text));
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
  std::string line = ErrorText(lua, "ERR unknown error");
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
  int failed = 0;
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
  call.failed = LoadChunk(lua, call.source, "@user_script");
  if (call.failed) {
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
  int failed = 0;
};

int LoadProtected(lua_State* lua) {
  auto& call = *static_cast<LoadCall*>(lua_touserdata(lua, 1));
  lua_settop(lua, 0);
  LuaShowGlobals(lua, LuaStateOf(lua), LuaStateOf(lua).library_globals);
  lua_pushcfunction(lua, NoteError);
  call.failed = LoadChunk(lua, call.code, "@user_function");
  if (call.failed) {
    call.fault = "ERR Error compiling function: ";
    call.fault += LuaText(lua, -1);
    return 0;
  }
  call.failed = lua_pcall(lua, 0, 0, 1);
  if (call.failed == 0) return 0;
  call.fault = "ERR Error registering functions: ";
  if (!lua_istable(lua, -1)) {
    if (lua_isstring(lua, -1)) call.fault += LuaText(lua, -1);
    return 0;
  }
  call.fault += ErrorText(lua, "");
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
  const size_t begun_bytes = state_->bytes;
  const int failed = lua_cpcall(lua, CompileProtected, &call);
  if (failed != 0) {
    call.fault = "ERR Error compiling script (new function): ";
    call.fault += lua_isstring(lua, -1) ? LuaText(lua, -1) : std::string_view("unknown error");
  }
  lua_settop(lua, top);
  CollectAfter(*state_, begun_bytes, failed == LUA_ERRMEM || call.failed == LUA_ERRMEM);
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
  const size_t begun_bytes = state.bytes;
  PaceCollector(lua);
  lua_sethook(lua, Hook, LUA_MASKCOUNT, kLuaHookInstructions);
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
  state.ends = false;
  CollectAfter(state, begun_bytes, failed == LUA_ERRMEM || call.failed == LUA_ERRMEM);
  if (++state.runs_since_collect >= kRunsPerCollection) {
    state.runs_since_collect = 0;
    Collect(lua, LUA_GCSTEP, kRunsPerCollection);
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
  LoadCall call{code, {}, 0};
  const size_t begun_bytes = state_->bytes;
  const int failed = lua_cpcall(lua, LoadProtected, &call);
  if (failed != 0) {
    call.fault = "ERR Error registering functions: ";
    call.fault += lua_isstring(lua, -1) ? LuaText(lua, -1) : std::string_view("unknown error");
  }
  const bool runs = state_->scope != nullptr;
  lua_sethook(lua, runs ? Hook : nullptr, runs ? LUA_MASKCOUNT : 0, kLuaHookInstructions);
  lua_settop(lua, top);
  LuaShowGlobals(lua, *state_, state_->real_globals);
  state_->registering = nullptr;
  state_->ends = false;
  CollectAfter(*state_, begun_bytes, failed == LUA_ERRMEM || call.failed == LUA_ERRMEM);
  if (!call.fault.empty()) return Status::Client(std::move(call.fault));
  return Status::Ok();
}

size_t LuaEngine::memory_bytes() const { return state_->bytes; }
void LuaEngine::LimitMemory(size_t bytes) { state_->limit_bytes = bytes; }

uint64_t LuaEngine::TakeRepeatedErrors() { return std::exchange(state_->repeated_errors, 0); }

}  // namespace cairn

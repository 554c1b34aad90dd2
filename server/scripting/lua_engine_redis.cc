// The table `redis` as scripts see it, and math.random with Redis's generator.

#include <openssl/sha.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "server/base/checksum.h"
#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/version.h"
#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

constexpr int kReplAof = 1, kReplReplica = 2;
constexpr std::string_view kNoArguments =
    "Please specify at least one argument for this redis lib call";
constexpr std::string_view kBadArguments =
    "Lua redis lib command arguments must be strings or integers";

// A number as a command's argument: 17 significant digits.
std::string_view NumberText(double number, std::array<char, 32>* text) {
  constexpr double kExact = 1e15;  // whole numbers below need no printf
  if (number > -kExact && number < kExact && number == std::trunc(number) &&
      !(number == 0 && std::signbit(number))) {
    return {text->data(), FormatInt64(static_cast<int64_t>(number), text->data())};
  }
  const int size = std::snprintf(text->data(), text->size(), "%.17g", number);
  return {text->data(), static_cast<size_t>(size)};
}

// The arguments of redis.call as views of Lua's strings, which the stack keeps. Empty text: they
// are fine.
std::string_view ReadArguments(lua_State* lua, LuaEngine::State& state) {
  const int count = lua_gettop(lua);
  if (count == 0) return kNoArguments;
  state.args.clear();
  if (state.numbers.size() < static_cast<size_t>(count))
    state.numbers.resize(static_cast<size_t>(count));
  for (int i = 1; i <= count; ++i) {
    const int type = lua_type(lua, i);
    if (type == LUA_TSTRING) {
      state.args.push_back(LuaText(lua, i));
    } else if (type == LUA_TNUMBER) {
      state.args.push_back(
          NumberText(lua_tonumber(lua, i), &state.numbers[static_cast<size_t>(i - 1)]));
    } else {
      return kBadArguments;
    }
  }
  return {};
}

ScriptScope& RunningScope(lua_State* lua, const char* function) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.scope == nullptr)
    LuaRaise(lua, std::string(function) + " can only be called inside a script invocation");
  return *state.scope;
}

void PushCounted(lua_State* lua, std::string_view text) {
  LuaPushError(lua, text);
  lua_pushboolean(lua, 1);
  lua_setfield(lua, -2, "ignore_error_stats_update");
}

// Runs the command in state.args and pushes its reply. True when the reply is an error.
bool RunCommand(lua_State* lua, LuaEngine::State& state) {
  Session& session = *state.scope->session;
  Dispatcher& dispatcher = *state.engine.dispatcher;
  const Status refused = dispatcher.RunScriptCommand(*state.scope, state.args);
  lua_settop(lua, 0);  // room for the reply beside up to 8000 arguments
  if (!refused.ok()) {
    PushCounted(lua, "-" + std::string(refused.message()));
    return true;
  }
  ReplyBuffer& output = session.output;
  const std::string_view only = output.OnlyPiece();
  bool failed;
  if (!only.empty()) {
    failed = only[0] == '-';
    LuaPushReply(lua, only);
  } else if (output.empty()) {
    // CLIENT REPLY OFF, after DEBUG SET-DISABLE-DENY-SCRIPTS.
    lua_pushnil(lua);
    return false;
  } else {
    const std::string whole = output.Flatten();
    failed = whole[0] == '-';
    LuaPushReply(lua, whole);
  }
  output.Clear();
  return failed;
}

template <bool kRaise>
int Call(lua_State* lua) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.scope == nullptr)
    LuaRaise(lua, "redis.call/pcall can only be called inside a script invocation");
  bool failed = true;
  if (const std::string_view fault = ReadArguments(lua, state); !fault.empty()) {
    LuaPushError(lua, fault);
  } else {
    state.scope->session->output.Clear();
    failed = RunCommand(lua, state);
  }
  if (failed && kRaise) return lua_error(lua);
  return 1;
}

int Sha1Hex(lua_State* lua) {
  if (lua_gettop(lua) != 1) LuaRaise(lua, "wrong number of arguments");
  const std::string_view text = LuaText(lua, 1);
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  LuaPush(lua, HexEncode({reinterpret_cast<const char*>(digest), sizeof digest}));
  return 1;
}

int ErrorReply(lua_State* lua) {
  if (lua_gettop(lua) != 1 || lua_type(lua, -1) != LUA_TSTRING) {
    LuaPushError(lua, "wrong number or type of arguments");
    return 1;
  }
  const std::string_view text = lua_tostring(lua, -1);
  LuaPushError(lua, text.starts_with('-') ? std::string(text) : "-" + std::string(text));
  return 1;
}

int StatusReply(lua_State* lua) {
  if (lua_gettop(lua) != 1 || lua_type(lua, -1) != LUA_TSTRING) {
    LuaPushError(lua, "wrong number or type of arguments");
    return 1;
  }
  lua_newtable(lua);
  lua_pushvalue(lua, -2);
  lua_setfield(lua, -2, "ok");
  return 1;
}

int SetRepl(lua_State* lua) {
  ScriptScope& scope = RunningScope(lua, "redis.set_repl");
  if (lua_gettop(lua) != 1) LuaRaise(lua, "redis.set_repl() requires two arguments.");
  const double number = lua_tonumber(lua, -1);
  const int flags = number > -1e9 && number < 1e9 ? static_cast<int>(number) : -1;
  if ((flags & ~(kReplAof | kReplReplica)) != 0) {
    LuaRaise(lua, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.");
  }
  scope.to_log = flags & kReplAof;
  scope.to_replicas = flags & kReplReplica;
  return 0;
}

int AclCheckCmd(lua_State* lua) {
  const ScriptScope& scope = RunningScope(lua, "redis.acl_check_cmd");
  LuaEngine::State& state = LuaStateOf(lua);
  if (const std::string_view fault = ReadArguments(lua, state); !fault.empty())
    LuaRaise(lua, fault);
  Command* container = nullptr;
  const Command* command = state.engine.commands.Resolve(state.args, &container);
  if (command == nullptr) LuaRaise(lua, "Invalid command passed to redis.acl_check_cmd()");
  const bool allowed = scope.caller->acl == nullptr || scope.caller->acl->unrestricted() ||
                       Acl::Check(*scope.caller, *command, state.args).allowed();
  lua_pushboolean(lua, allowed);
  return 1;
}

int Log(lua_State* lua) {
  const int count = lua_gettop(lua);
  if (count < 2) LuaRaise(lua, "redis.log() requires two arguments or more.");
  if (!lua_isnumber(lua, 1)) LuaRaise(lua, "First argument must be a number (log level).");
  const double number = lua_tonumber(lua, 1);
  const int level = number > -1e9 && number < 1e9 ? static_cast<int>(number) : -1;
  if (level < 0 || level > 3) LuaRaise(lua, "Invalid debug level.");
  std::string line;
  for (int i = 2; i <= count; ++i) {
    if (!lua_isstring(lua, i)) continue;
    if (i != 2) line += ' ';
    line += LuaText(lua, i);
  }
  LuaStateOf(lua).engine.log.Log(static_cast<LogLevel>(level), "{}", line);
  return 0;
}

int SetResp(lua_State* lua) {
  ScriptScope& scope = RunningScope(lua, "redis.setresp");
  if (lua_gettop(lua) != 1) LuaRaise(lua, "redis.setresp() requires one argument.");
  const double version = std::trunc(lua_tonumber(lua, 1));
  if (version != 2 && version != 3) LuaRaise(lua, "RESP version must be 2 or 3.");
  scope.session->reply.set_version(static_cast<int>(version));
  return 0;
}

// There is no debugger.
int Breakpoint(lua_State* lua) {
  lua_pushboolean(lua, 0);
  return 1;
}
int Debug(lua_State*) { return 0; }

int ReplicateCommands(lua_State* lua) {
  lua_pushboolean(lua, 1);
  return 1;
}

// --- registering functions of a library ---

[[noreturn]] void RaiseRegister(lua_State* lua, const char* text) { LuaRaise(lua, text); }

void ReadFlags(lua_State* lua, uint32_t* flags) {
  for (int i = 1;; ++i) {
    lua_rawgeti(lua, -1, i);
    if (lua_isnil(lua, -1)) break;
    // In any letter case here; a `#!` line is stricter.
    const char* name = lua_isstring(lua, -1) ? lua_tostring(lua, -1) : "";
    const uint32_t flag = ScriptFlagNamed(ToLower(name));
    if (flag == 0) RaiseRegister(lua, "unknown flag given");
    *flags |= flag;
    lua_pop(lua, 1);
  }
  lua_pop(lua, 2);
}

bool IsFunctionName(std::string_view name) {
  for (const char c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return !name.empty();
}

// The table form: function_name, callback, description, flags. The callback is left at index 2.
void ReadNamed(lua_State* lua, LuaFunction* function, bool* has_name, bool* has_callback) {
  lua_settop(lua, 2);
  lua_pushnil(lua);
  while (lua_next(lua, 1)) {
    // The key stays as it is, lua_next goes on from it; a number is a name that nobody knows.
    const int type = lua_type(lua, -2);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
      RaiseRegister(lua, "named argument key given to redis.register_function is not a string");
    const std::string_view key = type == LUA_TSTRING ? LuaText(lua, -2) : std::string_view();
    if (key == "function_name") {
      if (!lua_isstring(lua, -1))
        RaiseRegister(lua,
                      "function_name argument given to redis.register_function must be a "
                      "string");
      function->name = LuaText(lua, -1);
      *has_name = true;
    } else if (key == "description") {
      if (!lua_isstring(lua, -1))
        RaiseRegister(lua,
                      "description argument given to redis.register_function must be a string");
      function->description = LuaText(lua, -1);
      function->has_description = true;
    } else if (key == "callback") {
      if (!lua_isfunction(lua, -1))
        RaiseRegister(lua, "callback argument given to redis.register_function must be a function");
      lua_pushvalue(lua, -1);
      lua_replace(lua, 2);
      *has_callback = true;
    } else if (key == "flags") {
      if (!lua_istable(lua, -1))
        RaiseRegister(lua,
                      "flags argument to redis.register_function must be a table "
                      "representing function flags");
      lua_pushvalue(lua, -1);
      ReadFlags(lua, &function->flags);
    } else {
      RaiseRegister(lua, "unknown argument given to redis.register_function");
    }
    lua_pop(lua, 1);
  }
}

int RegisterFunction(lua_State* lua) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.registering == nullptr)
    LuaRaise(lua, "redis.register_function can only be called on FUNCTION LOAD command");
  const int count = lua_gettop(lua);
  if (count < 1 || count > 2)
    RaiseRegister(lua, "wrong number of arguments to redis.register_function");
  LuaFunction function;
  bool has_name = false, has_callback = false;
  if (count == 1) {
    if (!lua_istable(lua, 1))
      RaiseRegister(lua,
                    "calling redis.register_function with a single argument is only "
                    "applicable to Lua table (representing named arguments).");
    ReadNamed(lua, &function, &has_name, &has_callback);
    if (!has_name) RaiseRegister(lua, "redis.register_function must get a function name argument");
    if (!has_callback) RaiseRegister(lua, "redis.register_function must get a callback argument");
  } else {
    if (!lua_isstring(lua, 1))
      RaiseRegister(lua, "first argument to redis.register_function must be a string");
    if (!lua_isfunction(lua, 2))
      RaiseRegister(lua, "second argument to redis.register_function must be a function");
    function.name = LuaText(lua, 1);
  }
  if (!IsFunctionName(function.name)) {
    RaiseRegister(lua,
                  "Library names can only contain letters, numbers, or underscores(_) and must be "
                  "at least one character long");
  }
  for (const LuaFunction& earlier : *state.registering) {
    if (earlier.name == function.name) RaiseRegister(lua, "Function already exists in the library");
  }
  lua_settop(lua, 2);
  function.callback = luaL_ref(lua, LUA_REGISTRYINDEX);
  state.registering->push_back(std::move(function));
  return 0;
}

void SetFunction(lua_State* lua, const char* name, lua_CFunction function) {
  lua_pushcfunction(lua, function);
  lua_setfield(lua, -2, name);
}

void SetNumber(lua_State* lua, const char* name, double value) {
  lua_pushnumber(lua, value);
  lua_setfield(lua, -2, name);
}

/// What a library may use already while it is loaded.
void SetLogAndVersion(lua_State* lua) {
  SetFunction(lua, "log", Log);
  SetNumber(lua, "LOG_DEBUG", 0);
  SetNumber(lua, "LOG_VERBOSE", 1);
  SetNumber(lua, "LOG_NOTICE", 2);
  SetNumber(lua, "LOG_WARNING", 3);
  LuaPush(lua, kRedisVersion);
  lua_setfield(lua, -2, "REDIS_VERSION");
  SetNumber(lua, "REDIS_VERSION_NUM", kRedisVersionNumber);
}

void SetConstants(lua_State* lua) {
  SetNumber(lua, "REPL_NONE", 0);
  SetNumber(lua, "REPL_AOF", kReplAof);
  SetNumber(lua, "REPL_SLAVE", kReplReplica);
  SetNumber(lua, "REPL_REPLICA", kReplReplica);
  SetNumber(lua, "REPL_ALL", kReplAof | kReplReplica);
}

}  // namespace

void LuaPushError(lua_State* lua, std::string_view text) {
  constexpr std::string_view kLineEnds = "\r\n";
  std::string line = "ERR ";
  if (text.starts_with('-')) {
    text.remove_prefix(1);
    if (const size_t space = text.find(' '); space != std::string_view::npos) {
      line = text.substr(0, space + 1);
      text.remove_prefix(space + 1);
    }
  }
  text.remove_prefix(std::min(text.find_first_not_of(kLineEnds), text.size()));
  line += text.substr(0, text.find_last_not_of(kLineEnds) + 1);
  lua_createtable(lua, 0, 2);
  lua_pushstring(lua, line.c_str());
  lua_setfield(lua, -2, "err");
}

void LuaRaise(lua_State* lua, std::string_view text) {
  LuaPushError(lua, text);
  lua_error(lua);
  __builtin_unreachable();
}

void LuaPushRedisTable(lua_State* lua, const LuaEngine::State& state) {
  lua_newtable(lua);
  SetFunction(lua, "call", Call<true>);
  SetFunction(lua, "pcall", Call<false>);
  SetFunction(lua, "sha1hex", Sha1Hex);
  SetFunction(lua, "error_reply", ErrorReply);
  SetFunction(lua, "status_reply", StatusReply);
  SetFunction(lua, "set_repl", SetRepl);
  SetFunction(lua, "acl_check_cmd", AclCheckCmd);
  SetFunction(lua, "setresp", SetResp);
  if (state.use == LuaEngine::Use::kScripts) {
    SetFunction(lua, "breakpoint", Breakpoint);
    SetFunction(lua, "debug", Debug);
    SetFunction(lua, "replicate_commands", ReplicateCommands);
  }
  SetLogAndVersion(lua);
  SetConstants(lua);
}

void LuaPushLibraryTable(lua_State* lua) {
  lua_newtable(lua);
  SetFunction(lua, "register_function", RegisterFunction);
  SetLogAndVersion(lua);
}

// Lua's own with another generator.
int LuaMathRandom(lua_State* lua) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.scope == nullptr)
    return luaL_error(lua, "math.random can only be called inside a script invocation");
  const double chance =
      static_cast<double>(state.random.Next() % ScriptRandom::kMax) / ScriptRandom::kMax;
  switch (lua_gettop(lua)) {
    case 0:
      lua_pushnumber(lua, chance);
      return 1;
    case 1: {
      const int upper = luaL_checkint(lua, 1);
      luaL_argcheck(lua, 1 <= upper, 1, "interval is empty");
      lua_pushnumber(lua, std::floor(chance * upper) + 1);
      return 1;
    }
    case 2: {
      const int lower = luaL_checkint(lua, 1);
      const int upper = luaL_checkint(lua, 2);
      luaL_argcheck(lua, lower <= upper, 2, "interval is empty");
      // The width wraps as an int does.
      const auto width =
          static_cast<int32_t>(static_cast<uint32_t>(upper) - static_cast<uint32_t>(lower) + 1);
      lua_pushnumber(lua, std::floor(chance * width) + lower);
      return 1;
    }
    default:
      return luaL_error(lua, "wrong number of arguments");
  }
}

int LuaMathRandomSeed(lua_State* lua) {
  LuaEngine::State& state = LuaStateOf(lua);
  if (state.scope == nullptr)
    return luaL_error(lua, "math.randomseed can only be called inside a script invocation");
  state.random.Seed(luaL_checkint(lua, 1));
  return 0;
}

}  // namespace cairn

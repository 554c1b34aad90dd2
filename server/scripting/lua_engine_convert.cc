// Replies to Lua values and back, as Redis 7.0 converts them:
//
//   RESP 2          Lua                 RESP 3 besides (after redis.setresp(3))
//   :1              number              _       nil
//   $ bulk          string              #       boolean
//   $-1, *-1        false               ,1.5    {double = 1.5}
//   +text           {ok = text}         (123    {big_number = "123"}
//   -text           {err = text}        =txt:x  {verbatim_string = {format, string}}
//   *               table               %, ~    {map = {}}, {set = {[member] = true}}
//
// Back, a table is looked at for err, ok, double, big_number, verbatim_string, map and set, in this
// order and without metamethods, and else is an array up to its first nil. Numbers lose their
// fraction.

#include <charconv>
#include <cstring>
#include <limits>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

// The line from `resp` behind its type byte; *resp goes on behind it.
std::string_view TakeLine(std::string_view* resp) {
  const size_t end = resp->find('\r', 1);
  const std::string_view line = resp->substr(1, end - 1);
  resp->remove_prefix(end + 2);
  return line;
}

int64_t ToCount(std::string_view digits) {
  int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::string_view TakeBulk(std::string_view* resp, size_t size) {
  const std::string_view bytes = resp->substr(0, size);
  resp->remove_prefix(size + 2);
  return bytes;
}

double ToDouble(std::string_view text) {
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  double value = std::numeric_limits<double>::quiet_NaN();
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void PushField(lua_State* lua, const char* name, std::string_view text) {
  lua_createtable(lua, 0, 1);
  LuaPush(lua, text);
  lua_setfield(lua, -2, name);
}

void PushCommandError(lua_State* lua, std::string_view line) {
  // A line of one word gets a code in front, as luaPushErrorBuff does.
  const std::string text =
      line.find(' ') == std::string_view::npos ? "ERR " + std::string(line) : std::string(line);
  PushField(lua, "err", text);
  lua_pushboolean(lua, 1);
  lua_setfield(lua, -2, "ignore_error_stats_update");
}

std::string_view PushArray(lua_State* lua, std::string_view resp, int64_t count) {
  lua_createtable(lua, static_cast<int>(count), 0);
  for (int64_t i = 1; i <= count; ++i) {
    resp = LuaPushReply(lua, resp);
    lua_rawseti(lua, -2, static_cast<int>(i));
  }
  return resp;
}

std::string_view PushMap(lua_State* lua, std::string_view resp, int64_t pairs) {
  lua_createtable(lua, 0, 1);
  lua_createtable(lua, 0, static_cast<int>(pairs));
  for (int64_t i = 0; i < pairs; ++i) {
    resp = LuaPushReply(lua, resp);
    resp = LuaPushReply(lua, resp);
    lua_rawset(lua, -3);
  }
  lua_setfield(lua, -2, "map");
  return resp;
}

std::string_view PushSet(lua_State* lua, std::string_view resp, int64_t count) {
  lua_createtable(lua, 0, 1);
  lua_createtable(lua, 0, static_cast<int>(count));
  for (int64_t i = 0; i < count; ++i) {
    resp = LuaPushReply(lua, resp);
    lua_pushboolean(lua, 1);
    lua_rawset(lua, -3);
  }
  lua_setfield(lua, -2, "set");
  return resp;
}

void PushVerbatim(lua_State* lua, std::string_view text) {
  lua_createtable(lua, 0, 1);
  lua_createtable(lua, 0, 2);
  LuaPush(lua, text.substr(4));
  lua_setfield(lua, -2, "string");
  LuaPush(lua, text.substr(0, 3));
  lua_setfield(lua, -2, "format");
  lua_setfield(lua, -2, "verbatim_string");
}

int64_t Truncate(double number) {
  constexpr double kLimit = 9223372036854775808.0;
  if (!(number >= -kLimit && number < kLimit)) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(number);
}

std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c == '\r' || c == '\n') c = ' ';
  }
  return line;
}

bool RawField(lua_State* lua, const char* name, int type) {
  lua_pushstring(lua, name);
  lua_rawget(lua, -2);
  if (lua_type(lua, -1) == type) return true;
  lua_pop(lua, 1);
  return false;
}

class ReplyWriter {
 public:
  ReplyWriter(lua_State* lua, LuaEngine::State& state, RespWriter& reply, int version)
      : lua_(lua), state_(state), reply_(reply), version_(version) {}

  /// Pops one value.
  void Write() {
    if (!lua_checkstack(lua_, 4)) {
      state_.engine.stats.CountError("ERR reached lua stack limit");
      reply_.Error("ERR reached lua stack limit");
      lua_pop(lua_, 1);
      return;
    }
    switch (lua_type(lua_, -1)) {
      case LUA_TSTRING:
        reply_.Bulk(LuaText(lua_, -1));
        break;
      case LUA_TBOOLEAN:
        WriteBoolean(lua_toboolean(lua_, -1));
        break;
      case LUA_TNUMBER:
        reply_.Integer(Truncate(lua_tonumber(lua_, -1)));
        break;
      case LUA_TTABLE:
        if (!WriteTagged()) WriteArray();
        break;
      default:
        reply_.Null();
    }
    lua_pop(lua_, 1);
  }

 private:
  void WriteBoolean(bool value) {
    if (version_ == 3) {
      reply_.Boolean(value);
    } else if (value) {
      reply_.Integer(1);
    } else {
      reply_.Null();
    }
  }

  // The table at the top when one of the special fields says what it is. Leaves the table.
  bool WriteTagged() {
    if (RawField(lua_, "err", LUA_TSTRING)) {
      WriteError();
    } else if (RawField(lua_, "ok", LUA_TSTRING)) {
      const std::string_view text = lua_tostring(lua_, -1);  // up to its first NUL
      reply_.SimpleString(OneLine(text));
    } else if (RawField(lua_, "double", LUA_TNUMBER)) {
      reply_.Double(lua_tonumber(lua_, -1));
    } else if (RawField(lua_, "big_number", LUA_TSTRING)) {
      reply_.BigNumber(OneLine(LuaText(lua_, -1)));
    } else if (RawField(lua_, "verbatim_string", LUA_TTABLE)) {
      if (!WriteVerbatim()) {
        lua_pop(lua_, 1);
        return WriteCollection();
      }
    } else {
      return WriteCollection();
    }
    lua_pop(lua_, 1);
    return true;
  }

  void WriteError() {
    const std::string line = ErrorLine(lua_tostring(lua_, -1));
    lua_pop(lua_, 1);
    lua_pushliteral(lua_, "ignore_error_stats_update");
    lua_rawget(lua_, -2);
    if (lua_toboolean(lua_, -1)) {
      ++state_.repeated_errors;
    } else {
      state_.engine.stats.CountError(line);
    }
    reply_.Error(line);
  }

  bool WriteVerbatim() {
    if (!RawField(lua_, "format", LUA_TSTRING)) return false;
    std::string format(lua_tostring(lua_, -1));
    lua_pop(lua_, 1);
    if (!RawField(lua_, "string", LUA_TSTRING)) return false;
    format.resize(3, ' ');
    reply_.Verbatim(format, LuaText(lua_, -1));
    lua_pop(lua_, 1);
    return true;
  }

  bool WriteCollection() {
    const bool is_map = RawField(lua_, "map", LUA_TTABLE);
    if (!is_map && !RawField(lua_, "set", LUA_TTABLE)) return false;
    const ReplyBuffer::Mark mark = reply_.BeginDeferred();
    size_t count = 0;
    lua_pushnil(lua_);
    while (lua_next(lua_, -2)) {
      if (is_map) {
        lua_pushvalue(lua_, -2);
        Write();
        Write();
      } else {
        lua_pop(lua_, 1);
        lua_pushvalue(lua_, -1);
        Write();
      }
      ++count;
    }
    if (is_map) {
      reply_.EndDeferredMap(mark, count);
    } else {
      reply_.EndDeferredSet(mark, count);
    }
    lua_pop(lua_, 1);
    return true;
  }

  void WriteArray() {
    const ReplyBuffer::Mark mark = reply_.BeginDeferred();
    int count = 0;
    for (;;) {
      lua_rawgeti(lua_, -1, count + 1);
      if (lua_isnil(lua_, -1)) break;
      Write();
      ++count;
    }
    lua_pop(lua_, 1);
    reply_.EndDeferredArray(mark, static_cast<size_t>(count));
  }

  lua_State* lua_;
  LuaEngine::State& state_;
  RespWriter& reply_;
  const int version_;
};

}  // namespace

std::string_view LuaPushReply(lua_State* lua, std::string_view resp) {
  luaL_checkstack(lua, 4, "reply");
  const char type = resp[0];
  const std::string_view line = TakeLine(&resp);
  switch (type) {
    case ':':
      lua_pushnumber(lua, static_cast<lua_Number>(ToCount(line)));
      return resp;
    case '$': {
      const int64_t size = ToCount(line);
      if (size < 0) {
        lua_pushboolean(lua, 0);
      } else {
        LuaPush(lua, TakeBulk(&resp, static_cast<size_t>(size)));
      }
      return resp;
    }
    case '+':
      PushField(lua, "ok", line);
      return resp;
    case '-':
      PushCommandError(lua, line);
      return resp;
    case '*':
    case '>': {
      const int64_t count = ToCount(line);
      if (count >= 0) return PushArray(lua, resp, count);
      lua_pushboolean(lua, 0);
      return resp;
    }
    case '%':
      return PushMap(lua, resp, ToCount(line));
    case '~':
      return PushSet(lua, resp, ToCount(line));
    case '_':
      lua_pushnil(lua);
      return resp;
    case '#':
      lua_pushboolean(lua, line == "t");
      return resp;
    case ',':
      lua_createtable(lua, 0, 1);
      lua_pushnumber(lua, ToDouble(line));
      lua_setfield(lua, -2, "double");
      return resp;
    case '(':
      PushField(lua, "big_number", line);
      return resp;
    case '=':
      PushVerbatim(lua, TakeBulk(&resp, static_cast<size_t>(ToCount(line))));
      return resp;
    case '|':
      // Attributes are not shown to scripts.
      for (int64_t i = 2 * ToCount(line); i > 0; --i) {
        resp = LuaPushReply(lua, resp);
        lua_pop(lua, 1);
      }
      return LuaPushReply(lua, resp);
    default:
      CAIRN_CHECK(false);
  }
  return resp;
}

void LuaWriteReply(lua_State* lua, LuaEngine::State& state, RespWriter& reply, int version) {
  ReplyWriter(lua, state, reply, version).Write();
}

}  // namespace cairn

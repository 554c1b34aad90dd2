// The table `cjson`: JSON with the choices, limits and error lines of lua-cjson 2.1.0: each
// instance (cjson.new) has its own settings, null is a light userdata, a table with keys 1..n is an
// array, an empty one an object, and numbers are written with 14 digits.

#include "server/scripting/lua_engine_json.h"

#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace cairn {

namespace {

JsonSettings& SettingsOf(lua_State* lua) {
  return *static_cast<JsonSettings*>(lua_touserdata(lua, lua_upvalueindex(1)));
}

// --- encoding ---

class Encoder {
 public:
  Encoder(lua_State* lua, const JsonSettings& settings) : lua_(lua), settings_(settings) {}
  const std::string& text() const { return out_; }

  /// The value at the top of the stack, which stays.
  void Value(int depth) {
    switch (lua_type(lua_, -1)) {
      case LUA_TSTRING:
        return String(-1);
      case LUA_TNUMBER:
        return Number(-1);
      case LUA_TBOOLEAN:
        out_ += lua_toboolean(lua_, -1) ? "true" : "false";
        return;
      case LUA_TTABLE:
        return Table(depth + 1);
      case LUA_TNIL:
        out_ += "null";
        return;
      case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(lua_, -1) == nullptr) {
          out_ += "null";
          return;
        }
        break;
      default:
        break;
    }
    Fail(-1, "type not supported");
  }

 private:
  void Fail(int index, const char* why) {
    luaL_error(lua_, "Cannot serialise %s: %s", lua_typename(lua_, lua_type(lua_, index)), why);
  }

  void String(int index) {
    static constexpr char kHex[] = "0123456789abcdef";
    out_ += '"';
    for (const char c : LuaText(lua_, index)) {
      const auto byte = static_cast<unsigned char>(c);
      switch (c) {
        case '"':
        case '\\':
        case '/':
          out_ += '\\';
          out_ += c;
          break;
        case '\b':
          out_ += "\\b";
          break;
        case '\t':
          out_ += "\\t";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\f':
          out_ += "\\f";
          break;
        case '\r':
          out_ += "\\r";
          break;
        default:
          if (byte < 0x20 || byte == 0x7f) {
            LuaLimitText(lua_, out_.size());
            out_ += "\\u00";
            out_ += kHex[byte >> 4];
            out_ += kHex[byte & 15];
          } else {
            out_ += c;
          }
      }
    }
    out_ += '"';
  }

  void Number(int index) {
    const double number = lua_tonumber(lua_, index);
    if (!std::isfinite(number)) {
      if (settings_.encode_invalid == JsonInvalid::kRefuse) Fail(index, "must not be NaN or Inf");
      if (settings_.encode_invalid == JsonInvalid::kNull) {
        out_ += "null";
        return;
      }
      if (std::isnan(number)) {
        out_ += "nan";
        return;
      }
    }
    char text[64];
    const int size = std::snprintf(text, sizeof text, "%.*g", settings_.precision, number);
    out_.append(text, static_cast<size_t>(size));
  }

  // The greatest index of an array; 0 or less: an object. An index that no int holds makes the
  // greatest one the least int, and one that comes later is greater; the count that it may be
  // beyond wraps: as lua-cjson computes on x86.
  int ArrayLength() {
    int max = 0;
    unsigned items = 0;
    lua_pushnil(lua_);
    while (lua_next(lua_, -2)) {
      const double key = lua_type(lua_, -2) == LUA_TNUMBER ? lua_tonumber(lua_, -2) : 0;
      if (!(key >= 1 && std::floor(key) == key)) {
        lua_pop(lua_, 2);
        return -1;
      }
      if (key > max) max = key <= INT_MAX ? static_cast<int>(key) : INT_MIN;
      ++items;
      lua_pop(lua_, 1);
    }
    const auto dense = static_cast<int>(items * static_cast<unsigned>(settings_.sparse_ratio));
    if (settings_.sparse_ratio > 0 && max > dense && max > settings_.sparse_safe) {
      if (!settings_.sparse_convert) Fail(-1, "excessively sparse array");
      return -1;
    }
    return max;
  }

  void Table(int depth) {
    LuaReplaceStandIn(lua_);
    if (depth > settings_.encode_max_depth || !lua_checkstack(lua_, 3))
      luaL_error(lua_, "Cannot serialise, excessive nesting (%d)", depth);
    const int length = ArrayLength();
    if (length > 0) {
      Array(length, depth);
    } else {
      Object(depth);
    }
  }

  void Array(int length, int depth) {
    out_ += '[';
    for (int i = 1; i <= length; ++i) {
      LuaLimitText(lua_, out_.size());
      if (i > 1) out_ += ',';
      lua_rawgeti(lua_, -1, i);
      Value(depth);
      lua_pop(lua_, 1);
    }
    out_ += ']';
  }

  void Object(int depth) {
    out_ += '{';
    bool first = true;
    lua_pushnil(lua_);
    while (lua_next(lua_, -2)) {
      LuaLimitText(lua_, out_.size());
      if (!first) out_ += ',';
      first = false;
      switch (lua_type(lua_, -2)) {
        case LUA_TNUMBER:
          out_ += '"';
          Number(-2);
          out_ += "\":";
          break;
        case LUA_TSTRING:
          String(-2);
          out_ += ':';
          break;
        default:
          Fail(-2, "table key must be a number or string");
      }
      Value(depth);
      lua_pop(lua_, 1);
    }
    out_ += '}';
  }

  lua_State* lua_;
  const JsonSettings& settings_;
  std::string out_;
};

int Encode(lua_State* lua) {
  luaL_argcheck(lua, lua_gettop(lua) == 1, 1, "expected 1 argument");
  Encoder encoder(lua, SettingsOf(lua));
  encoder.Value(0);
  LuaPush(lua, encoder.text());
  return 1;
}

// --- settings ---

void OnlyArguments(lua_State* lua, int most) {
  luaL_argcheck(lua, lua_gettop(lua) <= most, most + 1, "found too many arguments");
  while (lua_gettop(lua) < most) lua_pushnil(lua);
}

// Sets *value when the argument is given, and pushes it. A fault is said to be of argument 1,
// whichever it is, as lua-cjson does.
void IntegerOption(lua_State* lua, int index, int* value, int least, int most) {
  if (!lua_isnil(lua, index)) {
    const auto given = luaL_checkinteger(lua, index);
    if (given < least || given > most) {
      luaL_argerror(lua, 1,
                    lua_pushfstring(lua, "expected integer between %d and %d", least, most));
    }
    *value = static_cast<int>(given);
  }
  lua_pushinteger(lua, *value);
}

// The same for a boolean, which may also be given as a word.
void BooleanOption(lua_State* lua, int index, bool* value) {
  static const char* const kWords[] = {"off", "on", nullptr};
  if (lua_isboolean(lua, index)) {
    *value = lua_toboolean(lua, index);
  } else if (!lua_isnil(lua, index)) {
    *value = luaL_checkoption(lua, index, nullptr, kWords) == 1;
  }
  lua_pushboolean(lua, *value);
}

int SparseArray(lua_State* lua) {
  JsonSettings& settings = SettingsOf(lua);
  OnlyArguments(lua, 3);
  BooleanOption(lua, 1, &settings.sparse_convert);
  IntegerOption(lua, 2, &settings.sparse_ratio, 0, INT_MAX);
  IntegerOption(lua, 3, &settings.sparse_safe, 0, INT_MAX);
  return 3;
}

template <int JsonSettings::*kField, int kMost>
int SetInteger(lua_State* lua) {
  OnlyArguments(lua, 1);
  IntegerOption(lua, 1, &(SettingsOf(lua).*kField), 1, kMost);
  return 1;
}

template <bool JsonSettings::*kField>
int SetBoolean(lua_State* lua) {
  OnlyArguments(lua, 1);
  BooleanOption(lua, 1, &(SettingsOf(lua).*kField));
  return 1;
}

int EncodeInvalidNumbers(lua_State* lua) {
  static const char* const kWords[] = {"off", "on", "null", nullptr};
  JsonSettings& settings = SettingsOf(lua);
  OnlyArguments(lua, 1);
  if (lua_isboolean(lua, 1)) {
    settings.encode_invalid = lua_toboolean(lua, 1) ? JsonInvalid::kEncode : JsonInvalid::kRefuse;
  } else if (!lua_isnil(lua, 1)) {
    settings.encode_invalid = static_cast<JsonInvalid>(luaL_checkoption(lua, 1, nullptr, kWords));
  }
  if (settings.encode_invalid == JsonInvalid::kNull) {
    lua_pushliteral(lua, "null");
  } else {
    lua_pushboolean(lua, settings.encode_invalid == JsonInvalid::kEncode);
  }
  return 1;
}

int New(lua_State* lua) { return LuaOpenJson(lua); }

}  // namespace

int LuaOpenJson(lua_State* lua) {
  constexpr int kAnyDepth = INT_MAX;
  static constexpr luaL_Reg kFunctions[] = {
      {"encode", Encode},
      {"decode", LuaJsonDecode},
      {"encode_sparse_array", SparseArray},
      {"encode_max_depth", SetInteger<&JsonSettings::encode_max_depth, kAnyDepth>},
      {"decode_max_depth", SetInteger<&JsonSettings::decode_max_depth, kAnyDepth>},
      {"encode_number_precision", SetInteger<&JsonSettings::precision, 14>},
      {"encode_keep_buffer", SetBoolean<&JsonSettings::keep_buffer>},
      {"encode_invalid_numbers", EncodeInvalidNumbers},
      {"decode_invalid_numbers", SetBoolean<&JsonSettings::decode_invalid>},
      {"new", New},
  };
  lua_newtable(lua);
  new (lua_newuserdata(lua, sizeof(JsonSettings))) JsonSettings();
  for (const luaL_Reg& function : kFunctions) {
    lua_pushvalue(lua, -1);
    lua_pushcclosure(lua, function.func, 1);
    lua_setfield(lua, -3, function.name);
  }
  lua_pop(lua, 1);
  lua_pushlightuserdata(lua, nullptr);
  lua_setfield(lua, -2, "null");
  lua_pushliteral(lua, "cjson");
  lua_setfield(lua, -2, "_NAME");
  lua_pushliteral(lua, "2.1.0");
  lua_setfield(lua, -2, "_VERSION");
  return 1;
}

}  // namespace cairn

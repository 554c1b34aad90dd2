// The table `cmsgpack`: MessagePack with the choices and error lines of lua-cmsgpack 0.4.0: whole
// numbers are integers of the least size, others floats if nothing is lost; a table is an array
// when its keys are 1..n; tables nested deeper than 16 are nil.

#include <climits>
#include <cstdint>
#include <cstring>
#include <string>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

constexpr int kMostNesting = 16;

template <typename Word>
void AppendBig(std::string* out, Word word) {
  for (int shift = static_cast<int>(sizeof word) * 8 - 8; shift >= 0; shift -= 8)
    *out += static_cast<char>(static_cast<uint64_t>(word) >> shift & 0xff);
}

template <typename Word>
void AppendTagged(std::string* out, unsigned tag, Word word) {
  *out += static_cast<char>(tag);
  AppendBig(out, word);
}

void AppendTag(std::string* out, uint64_t tag) { *out += static_cast<char>(tag); }

void EncodeText(std::string* out, std::string_view text) {
  const size_t size = text.size();
  if (size < 32) {
    AppendTag(out, 0xa0 | size);
  } else if (size <= 0xff) {
    AppendTagged(out, 0xd9, static_cast<uint8_t>(size));
  } else if (size <= 0xffff) {
    AppendTagged(out, 0xda, static_cast<uint16_t>(size));
  } else {
    AppendTagged(out, 0xdb, static_cast<uint32_t>(size));
  }
  out->append(text);
}

void EncodeInteger(std::string* out, int64_t n) {
  if (n >= 0) {
    if (n <= 127) {
      AppendTag(out, static_cast<uint64_t>(n));
    } else if (n <= 0xff) {
      AppendTagged(out, 0xcc, static_cast<uint8_t>(n));
    } else if (n <= 0xffff) {
      AppendTagged(out, 0xcd, static_cast<uint16_t>(n));
    } else if (n <= 0xffffffff) {
      AppendTagged(out, 0xce, static_cast<uint32_t>(n));
    } else {
      AppendTagged(out, 0xcf, static_cast<uint64_t>(n));
    }
  } else if (n >= -32) {
    AppendTag(out, static_cast<uint64_t>(n));
  } else if (n >= INT8_MIN) {
    AppendTagged(out, 0xd0, static_cast<uint8_t>(n));
  } else if (n >= INT16_MIN) {
    AppendTagged(out, 0xd1, static_cast<uint16_t>(n));
  } else if (n >= INT32_MIN) {
    AppendTagged(out, 0xd2, static_cast<uint32_t>(n));
  } else {
    AppendTagged(out, 0xd3, static_cast<uint64_t>(n));
  }
}

void EncodeNumber(std::string* out, double number) {
  constexpr double kTwo63 = 9223372036854775808.0;
  if (number >= -kTwo63 && number < kTwo63) {
    const auto whole = static_cast<int64_t>(number);
    if (static_cast<double>(whole) == number) return EncodeInteger(out, whole);
  }
  const auto narrow = static_cast<float>(number);
  if (static_cast<double>(narrow) == number) {
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    AppendTagged(out, 0xca, bits);
  } else {
    uint64_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    AppendTagged(out, 0xcb, bits);
  }
}

void EncodeHeader(std::string* out, size_t count, unsigned small, unsigned medium) {
  if (count <= 15) {
    AppendTag(out, small | count);
  } else if (count <= 0xffff) {
    AppendTagged(out, medium, static_cast<uint16_t>(count));
  } else {
    AppendTagged(out, medium + 1, static_cast<uint32_t>(count));
  }
}

// The keys are 1 to their number.
bool IsArray(lua_State* lua) {
  const int top = lua_gettop(lua);
  int count = 0, max = 0;
  lua_pushnil(lua);
  while (lua_next(lua, -2)) {
    lua_pop(lua, 1);
    const double key = lua_type(lua, -1) == LUA_TNUMBER ? lua_tonumber(lua, -1) : 0;
    if (!(key > 0 && key <= INT_MAX && key == static_cast<int>(key))) {
      lua_settop(lua, top);
      return false;
    }
    if (key > max) max = static_cast<int>(key);
    ++count;
  }
  lua_settop(lua, top);
  return max == count;
}

void EncodeValue(lua_State* lua, std::string* out, int level);

void EncodeArray(lua_State* lua, std::string* out, int level) {
  const size_t size = lua_objlen(lua, -1);
  EncodeHeader(out, size, 0x90, 0xdc);
  luaL_checkstack(lua, 1, "in function mp_encode_lua_table_as_array");
  for (size_t i = 1; i <= size; ++i) {
    lua_pushnumber(lua, static_cast<lua_Number>(i));
    lua_gettable(lua, -2);
    EncodeValue(lua, out, level + 1);
  }
}

void EncodeMap(lua_State* lua, std::string* out, int level) {
  luaL_checkstack(lua, 3, "in function mp_encode_lua_table_as_map");
  size_t count = 0;
  lua_pushnil(lua);
  while (lua_next(lua, -2)) {
    lua_pop(lua, 1);
    ++count;
  }
  EncodeHeader(out, count, 0x80, 0xde);
  lua_pushnil(lua);
  while (lua_next(lua, -2)) {
    lua_pushvalue(lua, -2);
    EncodeValue(lua, out, level + 1);
    EncodeValue(lua, out, level + 1);
  }
}

// Pops the value.
void EncodeValue(lua_State* lua, std::string* out, int level) {
  LuaLimitText(lua, out->size());
  int type = lua_type(lua, -1);
  if (type == LUA_TTABLE && level == kMostNesting) type = LUA_TNIL;
  switch (type) {
    case LUA_TSTRING:
      EncodeText(out, LuaText(lua, -1));
      break;
    case LUA_TBOOLEAN:
      AppendTag(out, lua_toboolean(lua, -1) ? 0xc3 : 0xc2);
      break;
    case LUA_TNUMBER:
      EncodeNumber(out, lua_tonumber(lua, -1));
      break;
    case LUA_TTABLE:
      LuaReplaceStandIn(lua);
      if (IsArray(lua)) {
        EncodeArray(lua, out, level);
      } else {
        EncodeMap(lua, out, level);
      }
      break;
    default:
      AppendTag(out, 0xc0);
  }
  lua_pop(lua, 1);
}

int Pack(lua_State* lua) {
  const int count = lua_gettop(lua);
  if (count == 0) return luaL_argerror(lua, 0, "MessagePack pack needs input.");
  luaL_checkstack(lua, count, "Too many arguments for MessagePack pack.");
  std::string out;
  for (int i = 1; i <= count; ++i) {
    luaL_checkstack(lua, 1, "in function mp_check");
    lua_pushvalue(lua, i);
    EncodeValue(lua, &out, 0);
  }
  LuaPush(lua, out);
  return 1;
}

class Decoder {
 public:
  Decoder(lua_State* lua, std::string_view input) : lua_(lua), rest_(input) {}
  size_t left() const { return rest_.size(); }

  /// Pushes the next value. Its depth is bounded by Lua's stack (L6).
  void Value() {
    const auto tag = static_cast<uint8_t>(Take(1)[0]);
    luaL_checkstack(lua_, 1,
                    "too many return values at once; use unpack_one or unpack_limit instead.");
    if (tag < 0x80) return Number(tag);
    if (tag >= 0xe0) return Number(static_cast<int8_t>(tag));
    if (tag < 0x90) return Map(tag & 0xf);
    if (tag < 0xa0) return Array(tag & 0xf);
    if (tag < 0xc0) return Text(tag & 0x1f);
    Tagged(tag);
  }

 private:
  std::string_view Take(size_t count) {
    if (rest_.size() < count) luaL_error(lua_, "Missing bytes in input.");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  template <typename Word>
  Word Big() {
    uint64_t word = 0;
    for (char c : Take(sizeof(Word))) word = word << 8 | static_cast<unsigned char>(c);
    return static_cast<Word>(word);
  }

  void Number(double number) { lua_pushnumber(lua_, number); }

  template <typename Word, typename Float>
  void Real() {
    const Word bits = Big<Word>();
    Float number;
    std::memcpy(&number, &bits, sizeof number);
    Number(number);
  }

  void Text(size_t size) { LuaPush(lua_, Take(size)); }

  void Array(uint32_t count) {
    lua_newtable(lua_);
    luaL_checkstack(lua_, 1, "in function mp_decode_to_lua_array");
    for (uint32_t i = 1; count-- > 0; ++i) {
      lua_pushnumber(lua_, i);
      Value();
      lua_settable(lua_, -3);
    }
  }

  void Map(uint32_t count) {
    lua_newtable(lua_);
    while (count-- > 0) {
      Value();
      Value();
      lua_settable(lua_, -3);
    }
  }

  void Tagged(uint8_t tag) {
    switch (tag) {
      case 0xc0:
        return lua_pushnil(lua_);
      case 0xc2:
      case 0xc3:
        return lua_pushboolean(lua_, tag == 0xc3);
      case 0xca:
        return Real<uint32_t, float>();
      case 0xcb:
        return Real<uint64_t, double>();
      case 0xcc:
        return Number(Big<uint8_t>());
      case 0xcd:
        return Number(Big<uint16_t>());
      case 0xce:
        return Number(Big<uint32_t>());
      case 0xd0:
        return Number(Big<int8_t>());
      case 0xd1:
        return Number(Big<int16_t>());
      case 0xd2:
        return Number(Big<int32_t>());
      // Unsigned, but lua-cmsgpack gives it to Lua 5.1 as the integer that it has, with a sign.
      case 0xcf:
      case 0xd3:
        return Number(static_cast<double>(Big<int64_t>()));
      case 0xd9:
        return Text(Big<uint8_t>());
      case 0xda:
        return Text(Big<uint16_t>());
      case 0xdb:
        return Text(Big<uint32_t>());
      case 0xdc:
        return Array(Big<uint16_t>());
      case 0xdd:
        return Array(Big<uint32_t>());
      case 0xde:
        return Map(Big<uint16_t>());
      case 0xdf:
        return Map(Big<uint32_t>());
      default:
        luaL_error(lua_, "Bad data format in input.");
    }
  }

  lua_State* lua_;
  std::string_view rest_;
};

// `limit` 0 and `offset` 0: everything, without the offset behind.
int UnpackFrom(lua_State* lua, lua_Integer limit, lua_Integer offset) {
  const bool all = limit == 0 && offset == 0;
  luaL_checkstring(lua, 1);
  const std::string_view input = LuaText(lua, 1);
  const auto size = static_cast<int>(input.size());
  if (offset < 0 || limit < 0) {
    return luaL_error(lua, "Invalid request to unpack with offset of %d and limit of %d.",
                      static_cast<int>(offset), size);
  }
  if (static_cast<size_t>(offset) > input.size())
    return luaL_error(lua, "Start offset %d greater than input length %d.",
                      static_cast<int>(offset), size);
  if (all) limit = INT_MAX;
  Decoder decoder(lua, input.substr(static_cast<size_t>(offset)));
  int count = 0;
  for (; decoder.left() > 0 && count < limit; ++count) decoder.Value();
  if (all) return count;
  luaL_checkstack(lua, 1, "in function mp_unpack_full");
  lua_pushinteger(
      lua, decoder.left() == 0 ? -1 : static_cast<lua_Integer>(input.size() - decoder.left()));
  lua_insert(lua, 2);
  return count + 1;
}

int Unpack(lua_State* lua) { return UnpackFrom(lua, 0, 0); }

int UnpackOne(lua_State* lua) {
  const lua_Integer offset = luaL_optinteger(lua, 2, 0);
  lua_settop(lua, 1);
  return UnpackFrom(lua, 1, offset);
}

int UnpackLimit(lua_State* lua) {
  const lua_Integer limit = luaL_checkinteger(lua, 2);
  const lua_Integer offset = luaL_optinteger(lua, 3, 0);
  lua_settop(lua, 1);
  return UnpackFrom(lua, limit, offset);
}

}  // namespace

int LuaOpenMsgpack(lua_State* lua) {
  static constexpr luaL_Reg kFunctions[] = {
      {"pack", Pack},
      {"unpack", Unpack},
      {"unpack_one", UnpackOne},
      {"unpack_limit", UnpackLimit},
  };
  static constexpr std::pair<const char*, const char*> kTexts[] = {
      {"_NAME", "cmsgpack"},
      {"_VERSION", "lua-cmsgpack 0.4.0"},
      {"_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"},
      {"_DESCRIPTION", "MessagePack C implementation for Lua"},
  };
  lua_newtable(lua);
  for (const luaL_Reg& function : kFunctions) {
    lua_pushcfunction(lua, function.func);
    lua_setfield(lua, -2, function.name);
  }
  for (const auto& [name, text] : kTexts) {
    lua_pushstring(lua, text);
    lua_setfield(lua, -2, name);
  }
  return 1;
}

}  // namespace cairn

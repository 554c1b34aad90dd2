// The table `cjson`: JSON with the choices, limits and error lines of lua-cjson 2.1.0: each
// instance (cjson.new) has its own settings, null is a light userdata, a table with keys 1..n is an
// array, an empty one an object, and numbers are written with 14 digits.
//
// Grammar as in RFC 8259, and what strtod takes besides (hex, inf, nan, leading zeros) unless
// decode_invalid_numbers(false). A zero byte ends the text.

#include <strings.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

enum class Invalid : int { kRefuse = 0, kEncode = 1, kNull = 2 };

struct JsonSettings {
  int sparse_convert = 0, sparse_ratio = 2, sparse_safe = 10;
  int encode_max_depth = 1000, decode_max_depth = 1000;
  Invalid encode_invalid = Invalid::kRefuse;
  bool decode_invalid = true;
  bool keep_buffer = true;
  int precision = 14;
};

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
      if (settings_.encode_invalid == Invalid::kRefuse) Fail(index, "must not be NaN or Inf");
      if (settings_.encode_invalid == Invalid::kNull) {
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

  // The greatest index of an array; -1: an object.
  int ArrayLength() {
    double max = 0;
    int64_t items = 0;
    lua_pushnil(lua_);
    while (lua_next(lua_, -2)) {
      const double key = lua_type(lua_, -2) == LUA_TNUMBER ? lua_tonumber(lua_, -2) : 0;
      if (!(key >= 1 && std::floor(key) == key)) {
        lua_pop(lua_, 2);
        return -1;
      }
      if (key > max) max = key;
      ++items;
      lua_pop(lua_, 1);
    }
    if (settings_.sparse_ratio > 0 && max > static_cast<double>(items) * settings_.sparse_ratio &&
        max > settings_.sparse_safe) {
      if (!settings_.sparse_convert) Fail(-1, "excessively sparse array");
      return -1;
    }
    constexpr double kMost = std::numeric_limits<int>::max();
    return max <= kMost ? static_cast<int>(max) : -1;
  }

  void Table(int depth) {
    if (depth > settings_.encode_max_depth || !lua_checkstack(lua_, 3))
      luaL_error(lua_, "Cannot serialise, excessive depth (%d)", depth);
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

// --- decoding ---

enum class Token : uint8_t {
  kObjectBegin,
  kObjectEnd,
  kArrayBegin,
  kArrayEnd,
  kString,
  kNumber,
  kBoolean,
  kNull,
  kColon,
  kComma,
  kEnd,
  kError,
};
constexpr const char* kTokenNames[] = {
    "T_OBJ_BEGIN", "T_OBJ_END", "T_ARR_BEGIN", "T_ARR_END", "T_STRING", "T_NUMBER",
    "T_BOOLEAN",   "T_NULL",    "T_COLON",     "T_COMMA",   "T_END",    "T_ERROR",
};

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Lua's strings end with a zero byte, which stops every look-ahead here.
class Decoder {
 public:
  Decoder(lua_State* lua, const JsonSettings& settings, std::string_view text)
      : lua_(lua), settings_(settings), begin_(text.data()), at_(text.data()) {}

  void Document() {
    Next();
    Value();
    Next();
    if (token_ != Token::kEnd) Fail("the end");
  }

 private:
  void Fail(const char* expected) {
    const char* found = token_ == Token::kError ? fault_ : kTokenNames[static_cast<size_t>(token_)];
    luaL_error(lua_, "Expected %s but found %s at character %d", expected, found,
               static_cast<int>(index_) + 1);
  }

  void SetError(const char* what) {
    token_ = Token::kError;
    index_ = at_ - begin_;
    fault_ = what;
  }

  void Next() {
    while (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r') ++at_;
    index_ = at_ - begin_;
    switch (*at_) {
      case '\0':
        token_ = Token::kEnd;
        return;
      case '{':
        return Single(Token::kObjectBegin);
      case '}':
        return Single(Token::kObjectEnd);
      case '[':
        return Single(Token::kArrayBegin);
      case ']':
        return Single(Token::kArrayEnd);
      case ',':
        return Single(Token::kComma);
      case ':':
        return Single(Token::kColon);
      case '"':
        return NextString();
      default:
        return NextWord();
    }
  }

  void Single(Token token) {
    token_ = token;
    ++at_;
  }

  void NextWord() {
    if (*at_ == '-' || (*at_ >= '0' && *at_ <= '9')) {
      if (!settings_.decode_invalid && IsInvalidNumber()) return SetError("invalid number");
      return NextNumber();
    }
    if (std::strncmp(at_, "true", 4) == 0 || std::strncmp(at_, "false", 5) == 0) {
      token_ = Token::kBoolean;
      boolean_ = *at_ == 't';
      at_ += boolean_ ? 4 : 5;
      return;
    }
    if (std::strncmp(at_, "null", 4) == 0) {
      token_ = Token::kNull;
      at_ += 4;
      return;
    }
    if (settings_.decode_invalid && IsInvalidNumber()) return NextNumber();
    SetError("invalid token");
  }

  // What strtod takes and JSON does not.
  bool IsInvalidNumber() const {
    const char* p = at_;
    if (*p == '+') return true;
    if (*p == '-') ++p;
    if (*p == '0') return (p[1] | 0x20) == 'x' || (p[1] >= '0' && p[1] <= '9');
    if (*p >= '1' && *p <= '9') return false;
    return strncasecmp(p, "inf", 3) == 0 || strncasecmp(p, "nan", 3) == 0;
  }

  void NextNumber() {
    char* end;
    number_ = std::strtod(at_, &end);
    if (end == at_) return SetError("invalid number");
    token_ = Token::kNumber;
    at_ = end;
  }

  void NextString() {
    ++at_;
    string_.clear();
    for (; *at_ != '"'; ++at_) {
      if (*at_ == '\0') return SetError("unexpected end of string");
      if (*at_ != '\\') {
        string_ += *at_;
        continue;
      }
      if (at_[1] == 'u') {
        if (!UnicodeEscape()) return SetError("invalid unicode escape code");
        continue;
      }
      const char meant = Unescape(at_[1]);
      if (meant == '\0') return SetError("invalid escape code");
      string_ += meant;
      ++at_;
    }
    ++at_;
    token_ = Token::kString;
  }

  static char Unescape(char c) {
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      default:
        return '\0';
    }
  }

  static int32_t FourDigits(const char* digits) {
    int32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const int digit = HexValue(digits[i]);
      if (digit < 0) return -1;
      value = value << 4 | digit;
    }
    return value;
  }

  // Leaves at_ at the escape's last character.
  bool UnicodeEscape() {
    int32_t code = FourDigits(at_ + 2);
    if (code < 0) return false;
    int length = 6;
    if ((code & 0xF800) == 0xD800) {
      if ((code & 0x400) || at_[6] != '\\' || at_[7] != 'u') return false;
      const int32_t low = FourDigits(at_ + 8);
      if (low < 0 || (low & 0xFC00) != 0xDC00) return false;
      code = ((code & 0x3FF) << 10 | (low & 0x3FF)) + 0x10000;
      length = 12;
    }
    AppendUtf8(static_cast<uint32_t>(code));
    at_ += length - 1;
    return true;
  }

  void AppendUtf8(uint32_t code) {
    if (code < 0x80) {
      string_ += static_cast<char>(code);
      return;
    }
    if (code < 0x800) {
      string_ += static_cast<char>(0xC0 | code >> 6);
    } else {
      if (code < 0x10000) {
        string_ += static_cast<char>(0xE0 | code >> 12);
      } else {
        string_ += static_cast<char>(0xF0 | code >> 18);
        string_ += static_cast<char>(0x80 | (code >> 12 & 0x3F));
      }
      string_ += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    }
    string_ += static_cast<char>(0x80 | (code & 0x3F));
  }

  // Pushes the value that begins with the token at hand.
  void Value() {
    switch (token_) {
      case Token::kString:
        return LuaPush(lua_, string_);
      case Token::kNumber:
        return lua_pushnumber(lua_, number_);
      case Token::kBoolean:
        return lua_pushboolean(lua_, boolean_);
      case Token::kNull:
        // lua_pushlightuserdata of no address is cjson.null.
        return lua_pushlightuserdata(lua_, nullptr);
      case Token::kObjectBegin:
        return Object();
      case Token::kArrayBegin:
        return Array();
      default:
        Fail("value");
    }
  }

  void Descend(int slots) {
    ++depth_;
    if (depth_ > settings_.decode_max_depth || !lua_checkstack(lua_, slots)) {
      luaL_error(lua_, "Found too many nested data structures (%d)", depth_);
    }
  }

  void Object() {
    Descend(3);
    lua_newtable(lua_);
    Next();
    while (token_ != Token::kObjectEnd) {
      if (token_ != Token::kString) Fail("object key string");
      LuaPush(lua_, string_);
      Next();
      if (token_ != Token::kColon) Fail("colon");
      Next();
      Value();
      lua_rawset(lua_, -3);
      Next();
      if (token_ == Token::kObjectEnd) break;
      if (token_ != Token::kComma) Fail("comma or object end");
      Next();
      // Behind a comma a key must come.
      if (token_ != Token::kString) Fail("object key string");
    }
    --depth_;
  }

  void Array() {
    Descend(2);
    lua_newtable(lua_);
    Next();
    for (int i = 1; token_ != Token::kArrayEnd; ++i) {
      Value();
      lua_rawseti(lua_, -2, i);
      Next();
      if (token_ == Token::kArrayEnd) break;
      if (token_ != Token::kComma) Fail("comma or array end");
      Next();
      if (token_ == Token::kArrayEnd) Fail("value");
    }
    --depth_;
  }

  lua_State* lua_;
  const JsonSettings& settings_;
  const char* const begin_;
  const char* at_;
  Token token_ = Token::kEnd;
  ptrdiff_t index_ = 0;
  const char* fault_ = nullptr;
  std::string string_;
  double number_ = 0;
  bool boolean_ = false;
  int depth_ = 0;
};

int Decode(lua_State* lua) {
  luaL_argcheck(lua, lua_gettop(lua) == 1, 1, "expected 1 argument");
  luaL_checkstring(lua, 1);
  const std::string_view text = LuaText(lua, 1);
  if (text.size() >= 2 && (text[0] == '\0' || text[1] == '\0'))
    return luaL_error(lua, "JSON parser does not support UTF-16 or UTF-32");
  Decoder(lua, SettingsOf(lua), text).Document();
  return 1;
}

// --- settings ---

void OnlyArguments(lua_State* lua, int most) {
  luaL_argcheck(lua, lua_gettop(lua) <= most, most + 1, "found too many arguments");
  while (lua_gettop(lua) < most) lua_pushnil(lua);
}

// Sets *value when the argument is given, and pushes it.
void IntegerOption(lua_State* lua, int index, int* value, int least, int most) {
  if (!lua_isnil(lua, index)) {
    const auto given = luaL_checkinteger(lua, index);
    const char* fault = lua_pushfstring(lua, "expected integer between %d and %d", least, most);
    luaL_argcheck(lua, least <= given && given <= most, index, fault);
    *value = static_cast<int>(given);
  }
  lua_pushinteger(lua, *value);
}

int SparseArray(lua_State* lua) {
  JsonSettings& settings = SettingsOf(lua);
  OnlyArguments(lua, 3);
  if (!lua_isnil(lua, 1)) {
    luaL_checktype(lua, 1, LUA_TBOOLEAN);
    settings.sparse_convert = lua_toboolean(lua, 1);
  }
  lua_pushboolean(lua, settings.sparse_convert);
  IntegerOption(lua, 2, &settings.sparse_ratio, 0, std::numeric_limits<int>::max());
  IntegerOption(lua, 3, &settings.sparse_safe, 0, std::numeric_limits<int>::max());
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
  bool& value = SettingsOf(lua).*kField;
  if (!lua_isnil(lua, 1)) {
    luaL_checktype(lua, 1, LUA_TBOOLEAN);
    value = lua_toboolean(lua, 1);
  }
  lua_pushboolean(lua, value);
  return 1;
}

int EncodeInvalidNumbers(lua_State* lua) {
  static const char* const kWords[] = {"off", "on", "null", nullptr};
  JsonSettings& settings = SettingsOf(lua);
  OnlyArguments(lua, 1);
  if (lua_isboolean(lua, 1)) {
    settings.encode_invalid = lua_toboolean(lua, 1) ? Invalid::kEncode : Invalid::kRefuse;
  } else if (!lua_isnil(lua, 1)) {
    settings.encode_invalid = static_cast<Invalid>(luaL_checkoption(lua, 1, nullptr, kWords));
  }
  if (settings.encode_invalid == Invalid::kNull) {
    lua_pushliteral(lua, "null");
  } else {
    lua_pushboolean(lua, settings.encode_invalid == Invalid::kEncode);
  }
  return 1;
}

int New(lua_State* lua) { return LuaOpenJson(lua); }

}  // namespace

int LuaOpenJson(lua_State* lua) {
  constexpr int kAnyDepth = std::numeric_limits<int>::max();
  static constexpr luaL_Reg kFunctions[] = {
      {"encode", Encode},
      {"decode", Decode},
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

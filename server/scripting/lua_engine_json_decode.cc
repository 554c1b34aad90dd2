// cjson.decode. Grammar as in RFC 8259, and what strtod takes besides (hex, inf, nan, leading
// zeros) unless decode_invalid_numbers(false). A zero byte ends the text.

#include <strings.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "server/scripting/lua_engine_json.h"

namespace cairn {

namespace {

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
      luaL_error(lua_, "Found too many nested data structures (%d) at character %d", depth_,
                 static_cast<int>(at_ - begin_));
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

}  // namespace

int LuaJsonDecode(lua_State* lua) {
  luaL_argcheck(lua, lua_gettop(lua) == 1, 1, "expected 1 argument");
  luaL_checkstring(lua, 1);
  const std::string_view text = LuaText(lua, 1);
  if (text.size() >= 2 && (text[0] == '\0' || text[1] == '\0'))
    return luaL_error(lua, "JSON parser does not support UTF-16 or UTF-32");
  const auto& settings = *static_cast<JsonSettings*>(lua_touserdata(lua, lua_upvalueindex(1)));
  Decoder(lua, settings, text).Document();
  return 1;
}

}  // namespace cairn

// The table `struct`: C-like packing of numbers and strings, in the formats, sizes and error lines
// of struct 0.2 as Redis 7.0 has it:
//
//   >  <  !n     big endian, little endian, greatest alignment n (a power of two)
//   b B h H l L T iN IN    signed and unsigned integers; N bytes, 4 when not given, 32 at most
//   f d          float, double
//   x            a zero byte of padding
//   cN           N bytes; c0 packs the whole string, and unpacks as many as the number before says
//   s            a string up to and with a zero byte

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

constexpr int kMostIntegerBytes = 32;
constexpr int kNaturalAlignment = 8;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Format {
 public:
  Format(lua_State* lua, const char* text) : lua_(lua), at_(text) {}

  bool done() const { return *at_ == '\0'; }
  bool big() const { return big_; }

  /// The next option; *size is that of its field, 0 for options that have none of their own.
  char Next(size_t* size) {
    const char option = *at_++;
    *size = FieldSize(option);
    return option;
  }

  size_t Padding(size_t position, char option, size_t size) const {
    if (size == 0 || option == 'c') return 0;
    if (size > static_cast<size_t>(align_)) size = static_cast<size_t>(align_);
    return (size - (position & (size - 1))) & (size - 1);
  }

  /// An option that is no field.
  void Control(char option) {
    switch (option) {
      case ' ':
        return;
      case '>':
        big_ = true;
        return;
      case '<':
        big_ = false;
        return;
      case '!': {
        const int align = Number(kNaturalAlignment);
        if (align <= 0 || (align & (align - 1)) != 0)
          luaL_error(lua_, "alignment %d is not a power of 2", align);
        align_ = align;
        return;
      }
      default:
        luaL_argerror(lua_, 1, lua_pushfstring(lua_, "invalid format option '%c'", option));
    }
  }

 private:
  size_t FieldSize(char option) {
    switch (option) {
      case 'B':
      case 'b':
      case 'x':
        return 1;
      case 'H':
      case 'h':
        return sizeof(short);
      case 'L':
      case 'l':
      case 'T':
      case 'd':
        return 8;
      case 'f':
        return 4;
      case 'c':
        return static_cast<size_t>(Number(1));
      case 'i':
      case 'I': {
        const int size = Number(sizeof(int));
        if (size > kMostIntegerBytes) {
          luaL_error(lua_, "integral size %d is larger than limit of %d", size, kMostIntegerBytes);
        }
        return static_cast<size_t>(size);
      }
      default:
        return 0;
    }
  }

  int Number(int otherwise) {
    if (!IsDigit(*at_)) return otherwise;
    constexpr int kMax = std::numeric_limits<int>::max();
    int value = 0;
    do {
      const int digit = *at_ - '0';
      if (value > kMax / 10 || value * 10 > kMax - digit)
        luaL_error(lua_, "integral size overflow");
      value = value * 10 + digit;
      ++at_;
    } while (IsDigit(*at_));
    return value;
  }

  lua_State* lua_;
  const char* at_;
  bool big_ = false;
  int align_ = 1;
};

// What a conversion of x86 makes of it, out of range too.
uint64_t ToInteger(double number) {
  constexpr double kTwo63 = 9223372036854775808.0;
  constexpr uint64_t kOut = uint64_t{1} << 63;
  if (number < 0) {
    return number >= -kTwo63 ? static_cast<uint64_t>(static_cast<int64_t>(number)) : kOut;
  }
  if (number < kTwo63) return static_cast<uint64_t>(static_cast<int64_t>(number));
  // Above 2^63 what is left is converted and the top bit turned.
  if (number < 2 * kTwo63)
    return static_cast<uint64_t>(static_cast<int64_t>(number - kTwo63)) ^ kOut;
  return number >= 2 * kTwo63 ? 0 : kOut;
}

void PackInteger(lua_State* lua, std::string* out, int argument, bool big, size_t size) {
  uint64_t value = ToInteger(luaL_checknumber(lua, argument));
  char bytes[kMostIntegerBytes];
  for (size_t i = 0; i < size; ++i) {
    bytes[big ? size - 1 - i : i] = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  out->append(bytes, size);
}

double UnpackInteger(const char* bytes, bool big, bool is_signed, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[big ? i : size - 1 - i]);
  if (!is_signed) return static_cast<double>(value);
  const uint64_t sign = ~uint64_t{0} << ((size * 8 - 1) & 63);
  if (value & sign) value |= sign;
  return static_cast<double>(static_cast<int64_t>(value));
}

template <typename Float>
void PackFloat(std::string* out, double number, bool big) {
  const auto value = static_cast<Float>(number);
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  for (size_t i = 0; i < sizeof value; ++i) *out += bytes[big ? sizeof value - 1 - i : i];
}

template <typename Float>
double UnpackFloat(const char* from, bool big) {
  char bytes[sizeof(Float)];
  for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = from[big ? sizeof bytes - 1 - i : i];
  Float value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

bool IsInteger(char option) {
  return option != '\0' && std::strchr("bBhHlLTiI", option) != nullptr;
}

// The argument is `argument` + 1 in the error, as in struct 0.2.
size_t PackText(lua_State* lua, std::string* out, char option, int argument, size_t size) {
  size_t length;
  const char* text = luaL_checklstring(lua, argument, &length);
  if (size == 0) size = length;
  luaL_argcheck(lua, length >= size, argument + 1, "string too short");
  LuaLimitText(lua, out->size() + size);
  out->append(text, size);
  if (option == 's') {
    *out += '\0';
    ++size;
  }
  return size;
}

int Pack(lua_State* lua) {
  Format format(lua, luaL_checkstring(lua, 1));
  std::string out;
  int argument = 2;
  lua_pushnil(lua);  // what the first missing argument is
  // As far as fields are counted: struct counts the size that the format says.
  size_t position = 0;
  while (!format.done()) {
    size_t size;
    const char option = format.Next(&size);
    const size_t padding = format.Padding(position, option, size);
    position += padding;
    out.append(padding, '\0');
    if (IsInteger(option)) {
      PackInteger(lua, &out, argument++, format.big(), size);
    } else if (option == 'x') {
      out += '\0';
    } else if (option == 'f') {
      PackFloat<float>(&out, luaL_checknumber(lua, argument++), format.big());
    } else if (option == 'd') {
      PackFloat<double>(&out, luaL_checknumber(lua, argument++), format.big());
    } else if (option == 'c' || option == 's') {
      size = PackText(lua, &out, option, argument++, size);
    } else {
      format.Control(option);
    }
    position += size;
  }
  LuaPush(lua, out);
  return 1;
}

struct Data {
  const char* bytes;
  size_t size;
  bool Has(size_t position, size_t count) const {
    return count <= size && position <= size - count;
  }
};

// Unpacks a `c` or `s` field; returns its size. `results` were pushed before it.
size_t UnpackText(lua_State* lua, const Data& data, size_t position, char option, size_t size,
                  int* results) {
  if (option == 's') {
    const void* end = std::memchr(data.bytes + position, '\0', data.size - position);
    if (end == nullptr) luaL_error(lua, "unfinished string in data");
    const auto length = static_cast<size_t>(static_cast<const char*>(end) - data.bytes) - position;
    lua_pushlstring(lua, data.bytes + position, length);
    ++*results;
    return length + 1;
  }
  if (size == 0) {
    if (*results == 0 || !lua_isnumber(lua, -1))
      luaL_error(lua, "format 'c0' needs a previous size");
    size = ToInteger(lua_tonumber(lua, -1));
    lua_pop(lua, 1);
    --*results;
    luaL_argcheck(lua, data.Has(position, size), 2, "data string too short");
  }
  lua_pushlstring(lua, data.bytes + position, size);
  ++*results;
  return size;
}

int Unpack(lua_State* lua) {
  Format format(lua, luaL_checkstring(lua, 1));
  Data data{};
  data.bytes = luaL_checklstring(lua, 2, &data.size);
  auto position = static_cast<size_t>(luaL_optinteger(lua, 3, 1));
  luaL_argcheck(lua, position > 0, 3, "offset must be 1 or greater");
  --position;
  int results = 0;
  while (!format.done()) {
    size_t size;
    const char option = format.Next(&size);
    luaL_argcheck(lua, data.Has(position, size), 2, "data string too short");
    position += format.Padding(position, option, size);
    luaL_argcheck(lua, data.Has(position, size), 2, "data string too short");
    luaL_checkstack(lua, 2, "too many results");
    const char* at = data.bytes + position;
    if (IsInteger(option)) {
      const bool is_signed = option >= 'a';
      lua_pushnumber(lua, UnpackInteger(at, format.big(), is_signed, size));
      ++results;
    } else if (option == 'f' || option == 'd') {
      lua_pushnumber(lua, option == 'f' ? UnpackFloat<float>(at, format.big())
                                        : UnpackFloat<double>(at, format.big()));
      ++results;
    } else if (option == 'c' || option == 's') {
      size = UnpackText(lua, data, position, option, size, &results);
    } else if (option != 'x') {
      format.Control(option);
    }
    position += size;
  }
  lua_pushinteger(lua, static_cast<lua_Integer>(position + 1));
  return results + 1;
}

int Size(lua_State* lua) {
  Format format(lua, luaL_checkstring(lua, 1));
  size_t position = 0;
  while (!format.done()) {
    size_t size;
    const char option = format.Next(&size);
    position += format.Padding(position, option, size);
    if (option == 's') {
      luaL_argerror(lua, 1, "option 's' has no fixed size");
    } else if (option == 'c' && size == 0) {
      luaL_argerror(lua, 1, "option 'c0' has no fixed size");
    } else if (!IsAlphanumeric(option)) {
      format.Control(option);
    }
    position += size;
  }
  lua_pushinteger(lua, static_cast<lua_Integer>(position));
  return 1;
}

}  // namespace

int LuaOpenStruct(lua_State* lua) {
  lua_newtable(lua);
  lua_pushcfunction(lua, Pack);
  lua_setfield(lua, -2, "pack");
  lua_pushcfunction(lua, Unpack);
  lua_setfield(lua, -2, "unpack");
  lua_pushcfunction(lua, Size);
  lua_setfield(lua, -2, "size");
  return 1;
}

}  // namespace cairn

// The table `bit`: bitwise operations on 32-bit numbers with the results of LuaBitOp 1.0.2.

#include <bit>
#include <cstdint>
#include <cstring>

#include "server/scripting/lua_engine_state.h"

namespace cairn {

namespace {

constexpr int kHexDigits = 8;

// The low 32 bits of a number: rounded to an integer modulo 2^32 by adding 2^52 + 2^51.
uint32_t ToBits(lua_State* lua, int index) {
  const double biased = luaL_checknumber(lua, index) + 6755399441055744.0;
  return static_cast<uint32_t>(std::bit_cast<uint64_t>(biased));
}

int PushBits(lua_State* lua, uint32_t bits) {
  lua_pushnumber(lua, static_cast<int32_t>(bits));
  return 1;
}

int ToBit(lua_State* lua) { return PushBits(lua, ToBits(lua, 1)); }
int Not(lua_State* lua) { return PushBits(lua, ~ToBits(lua, 1)); }
int Swap(lua_State* lua) { return PushBits(lua, __builtin_bswap32(ToBits(lua, 1))); }

template <typename Operation>
int Fold(lua_State* lua, Operation operation) {
  uint32_t bits = ToBits(lua, 1);
  for (int i = lua_gettop(lua); i > 1; --i) bits = operation(bits, ToBits(lua, i));
  return PushBits(lua, bits);
}
int And(lua_State* lua) {
  return Fold(lua, [](uint32_t a, uint32_t b) { return a & b; });
}
int Or(lua_State* lua) {
  return Fold(lua, [](uint32_t a, uint32_t b) { return a | b; });
}
int Xor(lua_State* lua) {
  return Fold(lua, [](uint32_t a, uint32_t b) { return a ^ b; });
}

template <typename Operation>
int Shift(lua_State* lua, Operation operation) {
  const uint32_t bits = ToBits(lua, 1);
  return PushBits(lua, operation(bits, static_cast<int>(ToBits(lua, 2) & 31)));
}
int ShiftLeft(lua_State* lua) {
  return Shift(lua, [](uint32_t bits, int by) { return bits << by; });
}
int ShiftRight(lua_State* lua) {
  return Shift(lua, [](uint32_t bits, int by) { return bits >> by; });
}
int ShiftArithmetic(lua_State* lua) {
  return Shift(lua, [](uint32_t bits, int by) {
    return static_cast<uint32_t>(static_cast<int32_t>(bits) >> by);
  });
}
int RotateLeft(lua_State* lua) {
  return Shift(lua, [](uint32_t bits, int by) { return std::rotl(bits, by); });
}
int RotateRight(lua_State* lua) {
  return Shift(lua, [](uint32_t bits, int by) { return std::rotr(bits, by); });
}

// A negative count asks for capitals; the least int has no positive (CVE-2024-31449).
int ToHex(lua_State* lua) {
  uint32_t bits = ToBits(lua, 1);
  int count = lua_isnone(lua, 2) ? kHexDigits : static_cast<int32_t>(ToBits(lua, 2));
  const char* digits = "0123456789abcdef";
  if (count < 0) {
    digits = "0123456789ABCDEF";
    count = count < -kHexDigits ? kHexDigits : -count;
  }
  if (count > kHexDigits) count = kHexDigits;
  char text[kHexDigits];
  for (int i = count; --i >= 0; bits >>= 4) text[i] = digits[bits & 15];
  lua_pushlstring(lua, text, static_cast<size_t>(count));
  return 1;
}

}  // namespace

int LuaOpenBit(lua_State* lua) {
  static constexpr luaL_Reg kFunctions[] = {
      {"tobit", ToBit},       {"bnot", Not},
      {"band", And},          {"bor", Or},
      {"bxor", Xor},          {"lshift", ShiftLeft},
      {"rshift", ShiftRight}, {"arshift", ShiftArithmetic},
      {"rol", RotateLeft},    {"ror", RotateRight},
      {"bswap", Swap},        {"tohex", ToHex},
  };
  lua_newtable(lua);
  for (const luaL_Reg& function : kFunctions) {
    lua_pushcfunction(lua, function.func);
    lua_setfield(lua, -2, function.name);
  }
  return 1;
}

}  // namespace cairn

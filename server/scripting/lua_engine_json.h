#pragma once

// What the two halves of cjson share: the settings of one instance, and its decoder. Not for
// others.

#include "server/scripting/lua_engine_state.h"

namespace cairn {

/// What encode_invalid_numbers says.
enum class JsonInvalid : int { kRefuse = 0, kEncode = 1, kNull = 2 };

/// Settings of one cjson instance; the values are lua-cjson's.
struct JsonSettings {
  bool sparse_convert = false;
  int sparse_ratio = 2, sparse_safe = 10;
  int encode_max_depth = 1000, decode_max_depth = 1000;
  JsonInvalid encode_invalid = JsonInvalid::kRefuse;
  bool decode_invalid = true;
  bool keep_buffer = true;
  int precision = 14;
};

/// cjson.decode; its upvalue is a JsonSettings.
int LuaJsonDecode(lua_State* lua);

}  // namespace cairn

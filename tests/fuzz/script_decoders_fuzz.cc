// The decoders that scripts are given: cjson.decode, cmsgpack.unpack and struct.unpack take any
// bytes and end in values or a Lua error. What cjson and cmsgpack decoded is encoded and decoded
// again. The first byte chooses the decoder.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/scripting/lua_engine_state.h"

namespace {

using namespace cairn;

constexpr size_t kLimitBytes = 64 << 20;

void* Allocate(void* user, void* block, size_t old_size, size_t new_size) {
  auto& state = *static_cast<LuaEngine::State*>(user);
  if (new_size == 0) {
    std::free(block);
    state.bytes -= old_size;
    return nullptr;
  }
  if (new_size > old_size && state.bytes + new_size - old_size > state.limit_bytes) return nullptr;
  void* const moved = std::realloc(block, new_size);
  if (moved != nullptr) state.bytes += new_size - old_size;
  return moved;
}

// Calls table.function with the strings; leaves its results, or nothing after an error.
bool Call(lua_State* lua, const char* table, const char* function,
          std::initializer_list<std::string_view> strings) {
  lua_getglobal(lua, table);
  lua_getfield(lua, -1, function);
  lua_remove(lua, -2);
  for (std::string_view each : strings) LuaPush(lua, each);
  if (lua_pcall(lua, static_cast<int>(strings.size()), LUA_MULTRET, 0) == 0) return true;
  lua_settop(lua, 0);
  return false;
}

// Encodes the first result and decodes it again, if the encoder takes it.
void Again(lua_State* lua, const char* table, const char* encode, const char* decode) {
  if (lua_gettop(lua) == 0) return;
  lua_settop(lua, 1);
  lua_getglobal(lua, table);
  lua_getfield(lua, -1, encode);
  lua_remove(lua, -2);
  lua_insert(lua, 1);
  if (lua_pcall(lua, 1, 1, 0) != 0) return;
  const std::string text(LuaText(lua, -1));
  lua_settop(lua, 0);
  // Tables deeper than 16 are nil to cmsgpack.pack, also as keys, which unpack then refuses.
  const bool may_fail = std::string_view(table) == "cmsgpack";
  if (!Call(lua, table, decode, {text}) && !may_fail) std::abort();
}

int Open(lua_State* lua) {
  LuaOpenJson(lua);
  lua_setglobal(lua, "cjson");
  LuaOpenMsgpack(lua);
  lua_setglobal(lua, "cmsgpack");
  LuaOpenStruct(lua);
  lua_setglobal(lua, "struct");
  return 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // No decoder asks for the engine.
  alignas(Engine) static unsigned char engine[sizeof(Engine)];
  ScriptRandom random;
  LuaEngine::State state(reinterpret_cast<Engine&>(engine), random, LuaEngine::Use::kScripts);
  state.limit_bytes = kLimitBytes;
  lua_State* const lua = lua_newstate(Allocate, &state);
  if (lua == nullptr || lua_cpcall(lua, Open, nullptr) != 0) std::abort();
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      if (Call(lua, "cjson", "decode", {input})) Again(lua, "cjson", "encode", "decode");
      break;
    case 1:
      if (Call(lua, "cmsgpack", "unpack", {input})) Again(lua, "cmsgpack", "pack", "unpack");
      break;
    case 2: {
      const size_t end = input.find('\n');
      if (end == std::string_view::npos) break;
      Call(lua, "struct", "unpack", {input.substr(0, end), input.substr(end + 1)});
      break;
    }
    default:
      Call(lua, "struct", "size", {input});
  }
  lua_close(lua);
  return 0;
}

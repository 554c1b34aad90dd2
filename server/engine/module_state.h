#pragma once

// What the host keeps of one module and of one run of its command: the bodies behind the opaque
// names of module_api.h, for module_host.cc and module_api.cc alone. Thread: executor.

#include <deque>
#include <memory>
#include <string>

#include "server/engine/command_context.h"
#include "server/engine/module_host.h"
#include "server/engine/module_value.h"

namespace cairn {

/// A command of a module: the spec that the table points to, with what that points to, so that the
/// one handler of all module commands finds its way from the spec.
struct ModuleCommand : CommandSpec {
  std::string owned_name, owned_since, owned_complexity, owned_summary, owned_synopsis;
  CairnModule* module = nullptr;
  CairnCommandFn run = nullptr;
  CairnFindKeysFn find_positions = nullptr;
};

}  // namespace cairn

struct CairnModule {
  cairn::ModuleHost* host = nullptr;
  cairn::LoadedModule description;
  void* library = nullptr;  ///< dlopen's handle; nullptr when linked in
  void* data = nullptr;
  void (*free_data)(void*) = nullptr;
  void (*on_saved)(void* data, CairnBytes file, uint64_t number) = nullptr;
  int (*sync_named)(void* data, int wait) = nullptr;
  void (*named_bytes)(void* data, uint64_t* named, uint64_t* alive) = nullptr;
  void (*on_swapped)(void* data, uint32_t a, uint32_t b) = nullptr;
  void (*on_tick)(void* data, int64_t now_ms) = nullptr;
  std::deque<cairn::ModuleCommand> commands;  ///< addresses stay
  std::deque<CairnType> types;
  bool entered = false;  ///< registered for good
};

struct CairnContext {
  /// A run that a parked client's key or time has brought about.
  enum class Again : uint8_t { kNo, kKeyChanged, kLook, kTimedOut };

  cairn::CommandContext& command;
  cairn::ModuleHost& host;
  cairn::Status status = {};
  Again again = Again::kNo;
  bool waits = false;  ///< wait_for_key took it
};

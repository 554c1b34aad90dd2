#pragma once

// ModuleHost: opens modules, enters their commands and types, and makes module values of what files
// and RESTORE bring. Modules with types stay until the process ends: live values point into their
// code. The table they are given is module_api.cc. Build it before the keyspace and
// destroy it after, as values are freed by their modules. Thread: executor, but for what
// module_api.h allows from any thread.

#include <atomic>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/save_target.h"
#include "server/data/value_codec.h"
#include "server/engine/command_spec.h"
#include "server/engine/module_api.h"

struct CairnModule;

namespace cairn {

class Engine;
class Entry;
class Session;

/// The table of module_api.h.
const CairnApi& ModuleApi();

/// What MODULE LIST shows.
struct LoadedModule {
  std::string name;
  int version = 0;
  std::string path;
  std::vector<std::string> arguments;
};

class ModuleHost final : public ModuleValueFactory {
 public:
  ModuleHost();
  ModuleHost(const ModuleHost&) = delete;
  ModuleHost& operator=(const ModuleHost&) = delete;
  ~ModuleHost() override;

  /// The engine whose command table and log modules are entered in. Sets engine.modules and
  /// module_values. Requires: called once, before the first load.
  void Attach(Engine& engine);

  /// Opens the library at `path` and runs its CairnModule_OnLoad. Errors: kIo, saying which step
  /// failed; the library is closed again and nothing of it stays registered. Cost: for one that
  /// links LibTorch 400-800 ms (measured, Debian 12), so load at start.
  Status LoadModule(const std::string& path, std::span<const std::string> arguments);
  /// As LoadModule for an entry point that is linked in: tests.
  Status LoadEntryPoint(CairnModuleOnLoadFn on_load, const std::string& path,
                        std::span<const std::string> arguments);
  /// MODULE UNLOAD: takes the module's commands out, ends it and closes its library. Transactions
  /// that queued one of them are discarded at their EXEC. Errors, as client lines: an unknown name,
  /// a module with value types (values may be anywhere), one whose jobs run.
  Status UnloadModule(std::string_view name);
  /// In the order they were loaded.
  std::vector<LoadedModule> modules() const;

  /// Tells the modules what save `number` has become (module_api.h, watch_saves): `file` holds it
  /// now, relative to the server's directory; empty: it is over, nothing more will be.
  void OnSaved(std::string_view file, uint64_t number);

  /// Tells the module whose value it is that `entry` is under its key now (module_api.h,
  /// watch_values). For all who store what may be a module's.
  static void OnStored(uint32_t db, const Entry& entry);
  void OnSwapped(uint32_t a, uint32_t b);
  /// Lets the modules end what their clocks have ended (module_api.h, watch_clock). Requires:
  /// neither loading nor a replica, and writes are not paused.
  void Tick();
  /// For the table: one command of a module's own, from Tick() alone.
  void RunCommand(uint32_t db, std::span<const std::string_view> args);

  /// Asks the modules to make durable what effects name, before these are written to the
  /// append-only file (module_api.h, watch_log). Errors: kIo, kNoSpace. Thread: the one that
  /// writes.
  Status SyncNamed();
  /// SyncNamed() may have to wait for the disk. Thread: any.
  bool HasUnsyncedNames() const;
  /// What the append-only file names outside itself, about, and what a rewrite would name; bytes.
  struct NamedBytes {
    uint64_t named = 0, alive = 0;
  };
  NamedBytes named_bytes() const;
  /// A command of the append-only file could not be applied; the line is for the log.
  void FailLoad(std::string line) {
    if (load_failure_.empty()) load_failure_ = std::move(line);
  }
  /// The first FailLoad, as kCorruption; once.
  Status TakeLoadFailure();

  /// A reader for every type id; without its module the value is kept as it came.
  Result<std::unique_ptr<ModuleValueReader>> Open(uint64_t type_id) override;
  /// The registered type of these nine characters, or nullptr.
  const CairnType* FindType(std::string_view name) const;
  /// Both ids name one type, whatever their encoding versions.
  static bool SameType(uint64_t a, uint64_t b) { return a >> 10 == b >> 10; }

  /// What modules have allocated for themselves since they were loaded (module_api.h,
  /// run_as_startup). Thread: any.
  void AddStartupBytes(int64_t bytes) {
    startup_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  uint64_t startup_bytes() const {
    const int64_t bytes = startup_bytes_.load(std::memory_order_relaxed);
    return bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
  }

  // --- registration, called through the table ---
  int RegisterCommand(CairnModule& module, const CairnCommandSpec& spec);
  CairnType* RegisterType(CairnModule& module, const CairnTypeSpec& spec);
  Engine& engine() { return *engine_; }
  /// Room for the strings that log_target returns.
  SaveTarget& log_target() { return log_target_; }

 private:
  Status Enter(std::unique_ptr<CairnModule> module, CairnModuleOnLoadFn on_load);
  Status RegisterAll(CairnModule& module);
  /// No session has a pointer to a command of `module` afterwards.
  void ForgetCommands(const CairnModule& module);

  Engine* engine_ = nullptr;
  std::atomic<int64_t> startup_bytes_{0};  // outlives the modules, whose threads may add to it
  std::vector<std::unique_ptr<CairnModule>> modules_;
  std::string load_failure_;
  SaveTarget log_target_;
  std::unique_ptr<Session> session_;  // of RunCommand; made by the first
  /// Modules that name files in the append-only file; they have types, and so stay until the
  /// process ends. The log thread walks it while the executor may put one more in front.
  struct Namer {
    int (*sync_named)(void* data, int wait);
    void* data;
    const Namer* next;
  };
  std::deque<Namer> namer_room_;
  std::atomic<const Namer*> namers_{nullptr};
};

}  // namespace cairn

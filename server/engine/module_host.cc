#include "server/engine/module_host.h"

#include <dlfcn.h>

#include <algorithm>

#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/job_runner.h"
#include "server/engine/module_state.h"

namespace cairn {

namespace {

Status RunModuleCommand(CommandContext& ctx) {
  const auto& command = static_cast<const ModuleCommand&>(ctx.spec());
  CairnContext run{ctx, *command.module->host};
  command.run(&run, command.module->data);
  return run.status;
}

uint64_t TranslateCategories(uint64_t flags) {
  uint64_t out = 0;
  if (flags & CAIRN_CMD_BLOCKING) out |= kAclBlocking;
  if (flags & CAIRN_CMD_ADMIN) out |= kAclAdmin | kAclDangerous;
  return out;
}

uint64_t TranslateFlags(uint64_t flags) {
  uint64_t out = kCmdModule;
  if (flags & CAIRN_CMD_WRITE) out |= kCmdWrite;
  if (flags & CAIRN_CMD_READONLY) out |= kCmdReadonly;
  if (flags & CAIRN_CMD_DENY_OOM) out |= kCmdDenyOom;
  if (flags & CAIRN_CMD_FAST) out |= kCmdFast;
  if (flags & CAIRN_CMD_BLOCKING) out |= kCmdBlocking;
  if (flags & CAIRN_CMD_NO_MULTI) out |= kCmdNoMulti;
  if (flags & CAIRN_CMD_ADMIN) out |= kCmdAdmin;
  return out;
}

uint32_t TranslateKeyFlags(uint32_t flags) {
  uint32_t out = 0;
  if (flags & CAIRN_KEY_RO) out |= kKeyRO | kKeyAccess;
  if (flags & CAIRN_KEY_RW) out |= kKeyRW | kKeyAccess | kKeyUpdate;
  if (flags & CAIRN_KEY_OW) out |= kKeyOW | kKeyUpdate;
  if (flags & CAIRN_KEY_PARTIAL) out |= kKeyIncomplete;
  return out;
}

KeySpec TranslateKeys(const CairnKeySpec& keys) {
  KeySpec out;
  if (keys.find == CAIRN_KEYS_NONE) return out;
  out.begin = KeySpec::Begin::kIndex;
  out.index = keys.begin;
  out.flags = TranslateKeyFlags(keys.flags);
  if (keys.find == CAIRN_KEYS_RANGE) {
    out.last = keys.last;
    out.step = keys.step;
  } else if (keys.find == CAIRN_KEYS_COUNTED) {
    out.find = KeySpec::Find::kKeyCount;
    out.last = 0;
    out.limit = 1;
    out.step = keys.step;
  } else {
    out.find = KeySpec::Find::kUnknown;
  }
  return out;
}

Status FindModuleKeys(const CommandSpec& spec, std::span<const std::string_view> args,
                      std::vector<KeyPosition>* out) {
  const auto& command = static_cast<const ModuleCommand&>(spec);
  std::vector<CairnBytes> bytes;
  for (const std::string_view arg : args) bytes.push_back({arg.data(), arg.size()});
  std::vector<size_t> positions(args.size());
  const size_t found =
      command.find_positions(bytes.data(), bytes.size(), positions.data(), positions.size());
  if (found == 0 || found > positions.size())
    return Status::Client("ERR Invalid arguments specified for command");
  for (size_t i = 0; i < found; ++i) {
    CAIRN_CHECK(positions[i] < args.size());
    out->push_back({positions[i], command.keys[0].flags});
  }
  return Status::Ok();
}

/// A word of a configuration line.
std::string QuoteWord(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_of(" \t\r\n\"'\\#") == std::string::npos;
  return plain ? word : QuoteRepr(word);
}

std::string DlError() {
  const char* error = ::dlerror();
  return error != nullptr ? error : "unknown error";
}

}  // namespace

ModuleHost::ModuleHost() = default;

ModuleHost::~ModuleHost() {
  // Libraries stay mapped: nothing is gained by closing them at the end of the process.
  for (const auto& module : modules_) {
    if (module->free_data != nullptr) module->free_data(module->data);
  }
}

void ModuleHost::Attach(Engine& engine) {
  CAIRN_CHECK(engine_ == nullptr);
  engine_ = &engine;
  engine.modules = this;
  engine.module_values = this;
  // CONFIG REWRITE writes down what is loaded, MODULE LOAD's included.
  engine.config.SetLineSource("loadmodule", [this] {
    std::vector<std::string> lines;
    for (const auto& module : modules_) {
      std::string line = QuoteWord(module->description.path);
      for (const std::string& word : module->description.arguments) line += ' ' + QuoteWord(word);
      lines.push_back(std::move(line));
    }
    return lines;
  });
}

Status ModuleHost::LoadModule(const std::string& path, std::span<const std::string> arguments) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Status::Io("Module " + path + " failed to load: " + DlError());
  auto on_load = reinterpret_cast<CairnModuleOnLoadFn>(::dlsym(library, CAIRN_MODULE_ON_LOAD));
  Status status = Status::Io(
      "Module " + path + " does not export " CAIRN_MODULE_ON_LOAD "() symbol. Module not loaded.");
  if (on_load != nullptr) status = LoadEntryPoint(on_load, path, arguments);
  if (!status.ok()) {
    ::dlclose(library);
    return status;
  }
  modules_.back()->library = library;
  return status;
}

Status ModuleHost::LoadEntryPoint(CairnModuleOnLoadFn on_load, const std::string& path,
                                  std::span<const std::string> arguments) {
  auto module = std::make_unique<CairnModule>();
  module->host = this;
  module->description.path = path;
  module->description.arguments.assign(arguments.begin(), arguments.end());
  return Enter(std::move(module), on_load);
}

Status ModuleHost::Enter(std::unique_ptr<CairnModule> module, CairnModuleOnLoadFn on_load) {
  const std::string path = module->description.path;
  std::vector<const char*> argv;
  for (const std::string& argument : module->description.arguments)
    argv.push_back(argument.c_str());
  const int loaded =
      on_load(&ModuleApi(), module.get(), static_cast<int>(argv.size()), argv.data());
  Status status;
  if (loaded != CAIRN_OK) {
    status = Status::Io("Module " + path + " initialization failed. Module not loaded");
  } else if (module->description.name.empty()) {
    status = Status::Io("Module " + path + " did not describe itself. Module not loaded");
  } else {
    status = RegisterAll(*module);
  }
  if (!status.ok()) {
    if (module->free_data != nullptr) module->free_data(module->data);
    return status;
  }
  modules_.push_back(std::move(module));
  engine_->log.Log(LogLevel::kNotice, "Module '{}' loaded from {}",
                   modules_.back()->description.name, path);
  return Status::Ok();
}

// Nothing is entered until the module is known to be whole, so a failed load leaves no trace.
Status ModuleHost::RegisterAll(CairnModule& module) {
  for (const auto& other : modules_) {
    if (other->description.name == module.description.name) {
      return Status::Io("Module " + module.description.name + " is loaded already");
    }
  }
  for (ModuleCommand& command : module.commands) {
    if (engine_->commands.Find(command.name) != nullptr) {
      return Status::Io("Module " + module.description.name + ": the command name '" +
                        command.owned_name + "' is taken");
    }
  }
  if (module.sync_named != nullptr && module.types.empty()) {
    return Status::Io("Module " + module.description.name + " names files and has no types");
  }
  for (CairnType& type : module.types) type.module_data = module.data;
  for (ModuleCommand& command : module.commands) {
    CAIRN_CHECK(engine_->commands.AddModuleCommand(&command, &module) != nullptr);
  }
  module.entered = true;
  if (module.sync_named != nullptr) {
    namers_ = &namer_room_.emplace_back(Namer{module.sync_named, module.data, namers_.load()});
  }
  return Status::Ok();
}

int ModuleHost::RegisterCommand(CairnModule& module, const CairnCommandSpec& spec) {
  const std::string_view name = spec.name;
  const bool write = spec.flags & CAIRN_CMD_WRITE, readonly = spec.flags & CAIRN_CMD_READONLY;
  if (module.entered || module.description.name.empty() || name.empty() || name != ToLower(name) ||
      spec.arity == 0 || spec.run == nullptr) {
    return CAIRN_FAILED;
  }
  if (write && readonly) return CAIRN_FAILED;
  // Keys that nobody finds would be open to users who may not touch them.
  const bool found_by_it =
      std::any_of(std::begin(spec.keys), std::end(spec.keys),
                  [](const CairnKeySpec& keys) { return keys.find == CAIRN_KEYS_UNKNOWN; });
  if (found_by_it != (spec.find_keys != nullptr)) return CAIRN_FAILED;
  for (const ModuleCommand& other : module.commands) {
    if (other.name == name) return CAIRN_FAILED;
  }
  ModuleCommand& command = module.commands.emplace_back();
  command.name = command.owned_name = spec.name;
  command.since = command.owned_since = spec.since;
  command.complexity = command.owned_complexity = spec.complexity;
  command.summary = command.owned_summary = spec.summary;
  command.synopsis = command.owned_synopsis = spec.synopsis;
  command.module = &module;
  command.run = spec.run;
  command.find_positions = spec.find_keys;
  if (found_by_it) command.find_keys = FindModuleKeys;
  command.arity = spec.arity;
  command.flags = TranslateFlags(spec.flags);
  command.acl = TranslateCategories(spec.flags);
  for (size_t i = 0; i < CAIRN_MAX_KEY_SPECS && i < kMaxKeySpecs; ++i) {
    command.keys[i] = TranslateKeys(spec.keys[i]);
  }
  command.group = module.description.name;  // as COMMAND LIST FILTERBY MODULE looks for it
  command.handler = RunModuleCommand;
  return CAIRN_OK;
}

CairnType* ModuleHost::RegisterType(CairnModule& module, const CairnTypeSpec& spec) {
  const uint64_t id = ModuleTypeId(spec.name, spec.encoding_version);
  if (module.entered || id == 0 || FindType(spec.name) != nullptr) return nullptr;
  for (const CairnType& other : module.types) {
    if (SameType(other.id, id)) return nullptr;
  }
  if (!spec.save || !spec.load || !spec.free || !spec.memory_usage || !spec.free_effort)
    return nullptr;
  CairnType& type = module.types.emplace_back();
  type.name = spec.name;
  type.type_name = spec.type_name;
  type.id = id;
  type.spec = spec;
  type.spec.name = type.name.c_str();
  type.spec.type_name = type.type_name.c_str();
  return &type;
}

Status ModuleHost::UnloadModule(std::string_view name) {
  const auto refuse = [](std::string_view why) {
    return Status::Client("ERR Error unloading module: " + std::string(why));
  };
  const auto found = std::find_if(modules_.begin(), modules_.end(), [name](const auto& module) {
    return module->description.name == name;
  });
  if (found == modules_.end()) return refuse("no such module with that name");
  if (!(*found)->types.empty()) {
    return refuse("the module exports one or more module-side data types, can't unload");
  }
  bool busy = engine_->jobs != nullptr && engine_->jobs->working() > 0;
  for (const auto& [id, session] : engine_->sessions()) {
    for (const OwnedCommand& command : session->deferred) busy = busy || command.job != nullptr;
  }
  if (busy) {
    return refuse(
        "the module has blocked clients. Please wait for them to be unblocked and try again");
  }
  const std::unique_ptr<CairnModule> module = std::move(*found);
  modules_.erase(found);
  ForgetCommands(*module);
  engine_->commands.RemoveModuleCommands(module.get());
  if (module->free_data != nullptr) module->free_data(module->data);
  if (module->library != nullptr) ::dlclose(module->library);
  engine_->log.Log(LogLevel::kNotice, "Module {} unloaded", module->description.name);
  return Status::Ok();
}

void ModuleHost::ForgetCommands(const CairnModule& module) {
  const auto is_its = [&module](const CommandSpec* spec) {
    return spec != nullptr && spec->handler == RunModuleCommand &&
           static_cast<const ModuleCommand*>(spec)->module == &module;
  };
  for (const auto& [id, session] : engine_->sessions()) {
    if (is_its(session->last_command)) session->last_command = nullptr;
    // What was only deferred is resolved anew before it runs.
    for (OwnedCommand& command : session->deferred) {
      if (is_its(command.spec)) command.spec = nullptr;
    }
    TransactionState& transaction = session->transaction;
    if (!transaction.active) continue;  // one that is being executed resolves each as it comes
    for (const OwnedCommand& command : transaction.queue) {
      if (is_its(command.spec)) transaction.dirty_exec = true;
    }
    if (transaction.dirty_exec) transaction.queue.clear();
  }
}

void ModuleHost::OnSaved(std::string_view file, uint64_t number) {
  for (const auto& module : modules_) {
    if (module->on_saved != nullptr) {
      module->on_saved(module->data, {file.data(), file.size()}, number);
    }
  }
}

void ModuleHost::OnStored(uint32_t db, const Entry& entry) {
  if (entry.type() != ValueType::kModule) return;
  const auto* object = static_cast<const AnyModuleObject*>(entry.object());
  const CairnType* type = object->type();
  if (type == nullptr || type->on_stored == nullptr) return;
  const std::string_view key = entry.key();
  type->on_stored(type->module_data, db, {key.data(), key.size()},
                  static_cast<const ModuleObject*>(object)->value());
}

void ModuleHost::OnSwapped(uint32_t a, uint32_t b) {
  for (const auto& module : modules_) {
    if (module->on_swapped != nullptr) module->on_swapped(module->data, a, b);
  }
}

void ModuleHost::Tick() {
  const Engine& engine = *engine_;
  // What would be refused to clients is put off.
  const bool writable = engine.script == nullptr &&
                        (engine.durability == nullptr || engine.durability->WriteRefusal().ok()) &&
                        (engine.replicas == nullptr || engine.replicas->has_enough_replicas());
  if (!writable) return;
  for (const auto& module : modules_) {
    if (module->on_tick != nullptr) module->on_tick(module->data, engine.now_ms());
  }
}

void ModuleHost::RunCommand(uint32_t db, std::span<const std::string_view> args) {
  if (session_ == nullptr) session_ = std::make_unique<Session>(0, nullptr, SessionKind::kNormal);
  session_->db = db;
  engine_->dispatcher->RunArgs(*session_, args);
  session_->output.Clear();
}

Status ModuleHost::SyncNamed() {
  for (const Namer* namer = namers_.load(); namer != nullptr; namer = namer->next) {
    const int outcome = namer->sync_named(namer->data, 1);
    if (outcome == CAIRN_OK) continue;
    return {outcome == CAIRN_NO_SPACE ? StatusCode::kNoSpace : StatusCode::kIo,
            "what the append-only file names cannot be synced"};
  }
  return Status::Ok();
}

bool ModuleHost::HasUnsyncedNames() const {
  for (const Namer* namer = namers_.load(); namer != nullptr; namer = namer->next) {
    if (namer->sync_named(namer->data, 0) != CAIRN_OK) return true;
  }
  return false;
}

ModuleHost::NamedBytes ModuleHost::named_bytes() const {
  NamedBytes sum;
  for (const auto& module : modules_) {
    if (module->named_bytes == nullptr) continue;
    NamedBytes one;
    module->named_bytes(module->data, &one.named, &one.alive);
    sum.named += one.named;
    sum.alive += one.alive;
  }
  return sum;
}

Status ModuleHost::TakeLoadFailure() {
  if (load_failure_.empty()) return Status::Ok();
  return Status::Corruption(std::exchange(load_failure_, {}));
}

std::vector<LoadedModule> ModuleHost::modules() const {
  std::vector<LoadedModule> out;
  for (const auto& module : modules_) out.push_back(module->description);
  return out;
}

Result<std::unique_ptr<ModuleValueReader>> ModuleHost::Open(uint64_t type_id) {
  return NewModuleValueReader(FindType(ModuleTypeName(type_id)), type_id, engine_->loading);
}

const CairnType* ModuleHost::FindType(std::string_view name) const {
  for (const auto& module : modules_) {
    for (const CairnType& type : module->types) {
      if (type.name == name) return &type;
    }
  }
  return nullptr;
}

}  // namespace cairn

#include "server/scripting/function_host.h"

#include <algorithm>
#include <utility>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/strings.h"
#include "server/scripting/script_args.h"

namespace cairn {

namespace {

constexpr std::string_view kNameOption = "name=";

bool IsName(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

/// What stands in the first line of a library.
struct LibraryHead {
  std::string engine;
  std::string name;
  size_t code_at = 0;  ///< where the code begins: at the end of the first line
};

Status ReadHead(std::string_view source, LibraryHead* head) {
  if (!source.starts_with("#!")) return Status::Client("ERR Missing library metadata");
  head->code_at = UpToNul(source).find('\n');
  if (head->code_at == std::string_view::npos)
    return Status::Client("ERR Invalid library metadata");
  const Result<std::vector<std::string>> words = SplitArgs(source.substr(0, head->code_at));
  if (!words.ok() || words->empty()) return Status::Client("ERR Invalid library metadata");
  head->engine = (*words)[0].substr(std::min<size_t>(2, (*words)[0].size()));
  bool named = false;
  for (size_t i = 1; i < words->size(); ++i) {
    const std::string& word = (*words)[i];
    if (!EqualsIgnoreCase(std::string_view(word).substr(0, kNameOption.size()), kNameOption))
      return QuotingError({"ERR Invalid metadata value given: ", word});
    if (named) {
      return Status::Client("ERR Invalid metadata value, name argument was given multiple times");
    }
    named = true;
    head->name = word.substr(kNameOption.size());
  }
  if (!named) return Status::Client("ERR Library name was not given");
  return Status::Ok();
}

}  // namespace

// --- FunctionSet -----------------------------------------------------------------------------

bool FunctionSet::NoCase::operator()(std::string_view a, std::string_view b) const {
  return std::lexicographical_compare(
      a.begin(), a.end(), b.begin(), b.end(),
      [](unsigned char x, unsigned char y) { return std::tolower(x) < std::tolower(y); });
}

const FunctionLibrary* FunctionSet::Find(std::string_view library) const {
  const auto found = libraries_.find(library);
  return found == libraries_.end() ? nullptr : found->second.get();
}

const FunctionSet::Found* FunctionSet::FindFunction(std::string_view name) const {
  const auto found = functions_.find(name);
  return found == functions_.end() ? nullptr : &found->second;
}

size_t FunctionSet::function_count() const {
  size_t count = 0;
  for (const auto& [name, library] : libraries_) count += library->functions.size();
  return count;
}

std::string FunctionSet::Clash(const FunctionLibrary& library) const {
  for (const LuaFunction& function : library.functions) {
    if (functions_.contains(function.name)) return function.name;
  }
  return "";
}

void FunctionSet::Add(std::unique_ptr<FunctionLibrary> library) {
  // Of two names that differ in letter case only, the first is found; as in Redis.
  for (const LuaFunction& function : library->functions)
    functions_.try_emplace(function.name, Found{library.get(), &function});
  const std::string name = library->name;
  CAIRN_CHECK(libraries_.try_emplace(name, std::move(library)).second);
}

std::unique_ptr<FunctionLibrary> FunctionSet::Take(std::string_view library) {
  const auto found = libraries_.find(library);
  if (found == libraries_.end()) return nullptr;
  std::unique_ptr<FunctionLibrary> taken = std::move(found->second);
  libraries_.erase(found);
  for (const LuaFunction& function : taken->functions) functions_.erase(function.name);
  return taken;
}

// --- FunctionHost ----------------------------------------------------------------------------

FunctionHost::FunctionHost(Engine& engine, ScriptHost& scripts)
    : engine_(engine),
      scripts_(scripts),
      lua_(std::make_unique<LuaEngine>(engine, scripts.random(), LuaEngine::Use::kFunctions)) {
  engine_.functions = this;
  engine_.script_figures = [this, scripts_figures = std::move(engine_.script_figures)] {
    ScriptFigures figures = scripts_figures();
    figures.functions_vm_bytes = lua_->memory_bytes();
    for (const auto& [name, library] : set_.libraries())
      figures.functions_bytes += sizeof(FunctionLibrary) + library->source.capacity();
    figures.functions = set_.function_count();
    figures.libraries = set_.libraries().size();
    return figures;
  };
}

FunctionHost::~FunctionHost() { engine_.functions = nullptr; }

void FunctionHost::Release(const FunctionLibrary& library) {
  for (const LuaFunction& function : library.functions) lua_->Release(function.callback);
}

void FunctionHost::Release(FunctionSet& set) {
  for (const auto& [name, library] : set.libraries()) Release(*library);
}

Status FunctionHost::Place(FunctionSet& set, std::unique_ptr<FunctionLibrary> library) {
  std::unique_ptr<FunctionLibrary> old = set.Take(library->name);
  if (const std::string clash = set.Clash(*library); !clash.empty()) {
    if (old != nullptr) set.Add(std::move(old));
    Release(*library);
    return QuotingError({"ERR Function ", clash, " already exists"});
  }
  if (old != nullptr) Release(*old);
  set.Add(std::move(library));
  return Status::Ok();
}

Result<std::string> FunctionHost::Create(FunctionSet& set, std::string_view source, bool replace,
                                         int64_t limit_ms) {
  LibraryHead head;
  if (Status status = ReadHead(source, &head); !status.ok()) return status;
  if (!IsName(head.name)) {
    return Status::Client(
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at "
        "least one character long");
  }
  if (!EqualsIgnoreCase(head.engine, "lua"))
    return QuotingError({"ERR Engine '", head.engine, "' not found"});
  if (!replace && set.Find(head.name) != nullptr)
    return QuotingError({"ERR Library '", head.name, "' already exists"});
  auto library = std::make_unique<FunctionLibrary>();
  library->name = head.name;
  library->source = source;
  Status loaded = lua_->LoadLibrary(source.substr(head.code_at), limit_ms, &library->functions);
  if (loaded.ok() && library->functions.empty())
    loaded = Status::Client("ERR No functions registered");
  if (!loaded.ok()) {
    Release(*library);
    return loaded;
  }
  if (Status placed = Place(set, std::move(library)); !placed.ok()) return placed;
  return head.name;
}

Result<std::string> FunctionHost::Load(std::string_view source, bool replace) {
  return Create(set_, source, replace, kFunctionLoadLimitMs);
}

bool FunctionHost::Delete(std::string_view library) {
  const std::unique_ptr<FunctionLibrary> taken = set_.Take(library);
  if (taken == nullptr) return false;
  Release(*taken);
  return true;
}

void FunctionHost::Clear(bool lazy) {
  const uint64_t functions = set_.function_count();
  set_ = FunctionSet();
  // A function that flushes (DEBUG SET-DISABLE-DENY-SCRIPTS, DEBUG RELOAD) goes on.
  if (engine_.script != nullptr && !engine_.script->is_eval) {
    retired_.push_back(std::move(lua_));
  } else if (lazy && lua_->memory_bytes() > kLazyInterpreterBytes) {
    engine_.keyspace.Reap([old = std::shared_ptr(std::move(lua_))]() mutable { old.reset(); },
                          functions);
  }
  lua_ = std::make_unique<LuaEngine>(engine_, scripts_.random(), LuaEngine::Use::kFunctions);
}

std::vector<std::string> FunctionHost::Sources() const {
  std::vector<std::string> sources;
  for (const auto& [name, library] : set_.libraries()) sources.push_back(library->source);
  return sources;
}

// A file's library was loaded once within the limit; that this machine is slower now must not lose
// it.
Status FunctionHost::Restore(std::string_view source, bool replace) {
  return Create(set_, source, replace, /*limit_ms=*/0).status();
}

Result<std::string> FunctionHost::Dump() const {
  DumpWriter writer(engine_.settings().rdbcompression);
  for (const auto& [name, library] : set_.libraries())
    CAIRN_RETURN_IF_ERROR(writer.FunctionLibrary(library->source));
  return writer.Finish();
}

Status FunctionHost::RestorePayload(std::string_view payload, RestorePolicy policy) {
  FunctionSet incoming;
  const auto take = [&](std::string_view source) {
    return Create(incoming, source, /*replace=*/false, kFunctionLoadLimitMs).status();
  };
  const Status read = ReadFunctionsPayload(payload, engine_.debug.skip_checksum_validation, take);
  if (!read.ok()) {
    Release(incoming);
    return read;
  }
  if (policy == RestorePolicy::kFlush) {
    Release(set_);
    set_ = std::move(incoming);
    return Status::Ok();
  }
  return Join(std::move(incoming), policy == RestorePolicy::kReplace);
}

/// All of `incoming` or nothing.
Status FunctionHost::Join(FunctionSet incoming, bool replace) {
  std::vector<std::unique_ptr<FunctionLibrary>> replaced;
  Status clash;
  for (const auto& [name, library] : incoming.libraries()) {
    if (set_.Find(name) == nullptr) continue;
    if (!replace) {
      clash = QuotingError({"ERR Library ", name, " already exists"});
      break;
    }
    replaced.push_back(set_.Take(name));
  }
  for (const auto& [name, library] : incoming.libraries()) {
    if (!clash.ok()) break;
    if (const std::string function = set_.Clash(*library); !function.empty())
      clash = QuotingError({"ERR Function ", function, " already exists"});
  }
  if (!clash.ok()) {
    for (auto& library : replaced) set_.Add(std::move(library));
    Release(incoming);
    return clash;
  }
  for (const auto& library : replaced) Release(*library);
  while (!incoming.libraries().empty())
    set_.Add(incoming.Take(std::string(incoming.libraries().begin()->first)));
  return Status::Ok();
}

Status FunctionHost::Call(CommandContext& ctx, size_t key_count, bool read_only) {
  const FunctionSet::Found* found = set_.FindFunction(ctx.arg(1));
  CAIRN_CHECK(found != nullptr);
  const auto words = ctx.args().subspan(kScriptFirstKey);
  const auto outer = std::exchange(running_args_, ctx.args());
  // The library may go while it runs, see Clear.
  const std::string name = found->function->name;
  const Status status =
      scripts_.Run(ctx, *lua_, found->function->callback, name, found->function->flags,
                   /*is_eval=*/false, read_only, words.first(key_count), words.subspan(key_count));
  running_args_ = outer;
  if (engine_.script == nullptr) retired_.clear();
  return status;
}

}  // namespace cairn

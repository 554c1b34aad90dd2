#include "server/scripting/script_host.h"

#include <openssl/sha.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "server/base/checksum.h"
#include "server/base/hash.h"
#include "server/base/strings.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"

namespace cairn {

namespace {

constexpr std::string_view kFlagsOption = "flags=";

std::string Sha1Hex(std::string_view text) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return HexEncode({reinterpret_cast<const char*>(digest), sizeof digest});
}

Status ReadFlags(std::string_view list, uint32_t* flags) {
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(','));
    const uint32_t flag = ScriptFlagNamed(name);
    if (flag == 0) return QuotingError({"ERR Unexpected flag in script shebang: ", name});
    *flags |= flag;
    // A comma at the end has an empty name behind it.
    if (name.size() + 1 == list.size())
      return Status::Client("ERR Unexpected flag in script shebang: ");
    list.remove_prefix(std::min(list.size(), name.size() + 1));
  }
  return Status::Ok();
}

}  // namespace

Status ParseScriptShebang(std::string_view line, uint32_t* flags) {
  const Result<std::vector<std::string>> split = SplitArgs(line);
  if (!split.ok() || split->empty()) return Status::Client("ERR Invalid engine in script shebang");
  const std::vector<std::string>& words = *split;
  if (words[0] != "#!lua")
    return QuotingError({"ERR Unexpected engine in script shebang: ", words[0]});
  *flags = 0;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (!word.starts_with(kFlagsOption))
      return QuotingError({"ERR Unknown lua shebang option: ", word});
    CAIRN_RETURN_IF_ERROR(ReadFlags(word.substr(kFlagsOption.size()), flags));
  }
  return Status::Ok();
}

size_t ScriptHost::BodyHash::operator()(std::string_view body) const { return HashBytes(body, 0); }

ScriptHost::ScriptHost(Engine& engine)
    : engine_(engine),
      cached_(Empty()),
      session_(std::make_unique<Session>(0, nullptr, SessionKind::kNormal)),
      look_([this] { Look(); }) {
  engine_.scripts = this;
  engine_.script_figures = [this] {
    ScriptFigures figures;
    figures.eval_vm_bytes = cached_.eval->memory_bytes();
    figures.eval_cache_bytes = cached_.bytes;
    figures.cached_scripts = cached_.by_sha.size();
    return figures;
  };
}

ScriptHost::~ScriptHost() {
  engine_.scripts = nullptr;
  engine_.script_figures = nullptr;
}

namespace {

// The flags of a body that begins with `#!`; *line_end is set behind its first line.
Status ReadShebang(std::string_view body, uint32_t* flags, size_t* line_end) {
  *line_end = UpToNul(body).find('\n');
  if (*line_end == std::string_view::npos) return Status::Client("ERR Invalid script shebang");
  return ParseScriptShebang(body.substr(0, *line_end), flags);
}

}  // namespace

uint32_t ScriptHost::DeclaredBy(std::string_view body) const {
  if (!body.starts_with("#!")) return kScriptCompat;
  if (const auto known = cached_.by_body.find(body); known != cached_.by_body.end())
    return known->second->flags;
  uint32_t flags;
  size_t line_end;
  return ReadShebang(body, &flags, &line_end).ok() ? flags : uint32_t{kScriptCompat};
}

Result<const CachedScript*> ScriptHost::Define(std::string_view body) {
  if (const auto known = cached_.by_body.find(body); known != cached_.by_body.end())
    return known->second;
  auto script = std::make_unique<CachedScript>();
  script->sha = Sha1Hex(body);
  std::string_view code = body;
  if (body.starts_with("#!")) {
    size_t line_end;
    CAIRN_RETURN_IF_ERROR(ReadShebang(body, &script->flags, &line_end));
    code.remove_prefix(line_end);
  }
  Result<LuaRef> function = cached_.eval->Compile(code);
  if (!function.ok()) return function.status();
  script->function = *function;
  script->body = body;
  cached_.bytes += sizeof(CachedScript) + script->sha.capacity() + script->body.capacity();
  const CachedScript* const made = script.get();
  cached_.by_body.emplace(made->body, made);
  cached_.by_sha.emplace(made->sha, std::move(script));
  return made;
}

const CachedScript* ScriptHost::Find(std::string_view sha) const {
  if (sha.size() != kScriptShaDigits) return nullptr;
  auto found = cached_.by_sha.find(sha);
  if (found == cached_.by_sha.end()) found = cached_.by_sha.find(ToLower(sha));
  return found == cached_.by_sha.end() ? nullptr : found->second.get();
}

ScriptHost::Cached ScriptHost::Empty() {
  Cached empty;
  empty.eval = std::make_unique<LuaEngine>(engine_, random_, LuaEngine::Use::kScripts);
  return empty;
}

void ScriptHost::Flush(bool lazy) {
  auto old = std::make_shared<Cached>(std::exchange(cached_, Empty()));
  // Only with DEBUG SET-DISABLE-DENY-SCRIPTS does a script come here: what runs outlives itself.
  if (engine_.script != nullptr && engine_.script->is_eval) {
    retired_.push_back(std::move(*old));
  } else if (lazy && old->eval->memory_bytes() > kLazyInterpreterBytes) {
    const uint64_t scripts = old->by_sha.size();
    engine_.keyspace.Reap([old = std::move(old)]() mutable { old.reset(); }, scripts);
  }
}

Status ScriptHost::Run(CommandContext& ctx, LuaEngine& lua, LuaRef function, std::string_view name,
                       uint32_t flags, bool is_eval, bool read_only,
                       std::span<const std::string_view> keys,
                       std::span<const std::string_view> args) {
  // Only with DEBUG SET-DISABLE-DENY-SCRIPTS.
  if (engine_.script != nullptr) return Status::Client("ERR A script cannot run another one");
  Session& caller = ctx.session();
  ScriptScope scope;
  scope.caller = &caller;
  scope.session = session_.get();
  scope.name = name;
  scope.flags = flags;
  scope.is_eval = is_eval;
  scope.read_only = read_only || (!(flags & kScriptCompat) && (flags & kScriptNoWrites));
  const int64_t limit_ms = engine_.settings().busy_reply_threshold;
  const bool looks = limit_ms > 0 && !ctx.is_loading();
  if (looks) scope.began_us = engine_.env.MonotonicMicros();
  const bool may_all = engine_.debug.deny_scripts_disabled;
  session_->db = caller.db;
  session_->kind = ctx.is_loading() ? SessionKind::kInternal : SessionKind::kNormal;
  session_->reply.set_version(2);
  static const std::function<void()> kNobody;
  const auto run = [&] { lua.Run(scope, function, keys, args, looks ? look_ : kNobody); };
  // By reference: no allocation.
  CAIRN_RETURN_IF_ERROR(engine_.dispatcher->RunScript(scope, std::ref(run)));
  if (const uint64_t repeated = lua.TakeRepeatedErrors(); repeated != 0) [[unlikely]] {
    // Counted as errors by those that made them; to have replied them is EVAL's own failure.
    if (Command* command = engine_.commands.Find(ctx.arg(0))) command->counters.failed += repeated;
  }
  retired_.clear();
  // It may have been left in MULTI, subscribed, tracking ..
  if (may_all || engine_.debug.deny_scripts_disabled) {
    engine_.DetachSession(*session_);
    session_ = std::make_unique<Session>(0, nullptr, SessionKind::kNormal);
  }
  // Its commands were passed on one by one.
  ctx.PropagateNothing();
  return Status::Ok();
}

// Every kLuaHookInstructions of a run.
void ScriptHost::Look() {
  ScriptScope& scope = *engine_.script;
  if (!scope.busy) {
    const int64_t elapsed_ms = (engine_.env.MonotonicMicros() - scope.began_us) / 1000;
    if (elapsed_ms < engine_.settings().busy_reply_threshold) return;
    engine_.log.Log(LogLevel::kWarning,
                    "Slow script detected: still in execution after {} milliseconds. You can try "
                    "killing the script using the {} command.",
                    elapsed_ms, scope.is_eval ? "SCRIPT KILL" : "FUNCTION KILL");
    scope.busy = true;
  }
  if (engine_.serve_while_busy) engine_.serve_while_busy();
  if (engine_.stop_requested) scope.killed = true;
  if (scope.killed)
    engine_.log.Log(LogLevel::kWarning, "Lua script killed by user with SCRIPT KILL.");
}

Status ScriptHost::Kill(bool is_eval) {
  ScriptScope* const scope = engine_.script;
  if (scope == nullptr) return RespError(resp_errors::kNotBusy);
  if (scope->wrote) return RespError(resp_errors::kUnkillable);
  // Each kind has a command of its own.
  if (is_eval != scope->is_eval) return BusyRefusal(*scope);
  scope->killed = true;
  return Status::Ok();
}

}  // namespace cairn

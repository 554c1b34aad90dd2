#include "server/scripting/script_host.h"

#include <openssl/sha.h>

#include <algorithm>
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

constexpr std::string_view kAofError = "MISCONF Errors writing to the AOF file: ";

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

// The refusal of writes in the words for a script that may write.
Status ScriptRefusal(const Status& refusal) {
  const std::string_view why = refusal.message();
  constexpr std::string_view kBlocked =
      "but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' "
      "flag for read only scripts.";
  if (!why.starts_with(kAofError)) {
    return Status::Client("MISCONF Redis is configured to save RDB snapshots, " +
                          std::string(kBlocked));
  }
  return Status::Client("MISCONF Redis is configured to persist data to AOF, " +
                        std::string(kBlocked) +
                        " AOF error: " + std::string(why.substr(kAofError.size())));
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
      eval_(std::make_unique<LuaEngine>(engine, random_, LuaEngine::Use::kScripts)),
      session_(std::make_unique<Session>(0, nullptr, SessionKind::kNormal)),
      look_([this] { Look(); }) {
  engine_.scripts = this;
  engine_.script_figures = [this] {
    ScriptFigures figures;
    figures.eval_vm_bytes = eval_->memory_bytes();
    figures.eval_cache_bytes = cache_bytes_;
    figures.cached_scripts = by_sha_.size();
    return figures;
  };
}

ScriptHost::~ScriptHost() {
  engine_.scripts = nullptr;
  engine_.script_figures = nullptr;
}

Result<const CachedScript*> ScriptHost::Define(std::string_view body) {
  if (const auto known = by_body_.find(body); known != by_body_.end()) return known->second;
  auto script = std::make_unique<CachedScript>();
  script->sha = Sha1Hex(body);
  std::string_view code = body;
  if (body.starts_with("#!")) {
    const size_t end = body.find('\n');
    if (end == std::string_view::npos) return Status::Client("ERR Invalid script shebang");
    CAIRN_RETURN_IF_ERROR(ParseScriptShebang(body.substr(0, end), &script->flags));
    code.remove_prefix(end);
  }
  Result<LuaRef> function = eval_->Compile(code);
  if (!function.ok()) return function.status();
  script->function = *function;
  script->body = body;
  cache_bytes_ += sizeof(CachedScript) + script->sha.capacity() + script->body.capacity();
  const CachedScript* const made = script.get();
  by_body_.emplace(made->body, made);
  by_sha_.emplace(made->sha, std::move(script));
  return made;
}

const CachedScript* ScriptHost::Find(std::string_view sha) const {
  if (sha.size() != kScriptShaDigits) return nullptr;
  auto found = by_sha_.find(sha);
  if (found == by_sha_.end()) found = by_sha_.find(ToLower(sha));
  return found == by_sha_.end() ? nullptr : found->second.get();
}

void ScriptHost::Flush() {
  by_body_.clear();
  by_sha_.clear();
  cache_bytes_ = 0;
  eval_ = std::make_unique<LuaEngine>(engine_, random_, LuaEngine::Use::kScripts);
}

// A script without a `#!` line is judged command by command, one with flags by them. The order is
// that of Redis, which gives EVAL the flags that the script declares.
Status ScriptHost::MayRun(const Session& caller, uint32_t flags, bool read_only,
                          bool over_memory) const {
  const bool declares = !(flags & kScriptCompat);
  const bool may_write = declares && !(flags & kScriptNoWrites);
  const bool obeys = caller.obeys();
  if (may_write && !obeys && engine_.is_replica() && engine_.settings().replica_read_only)
    return RespError(resp_errors::kReadonly);
  if (engine_.is_stale() && !(declares && (flags & kScriptAllowStale)))
    return RespError(resp_errors::kMasterDown);
  if (!declares) return Status::Ok();
  if (may_write && over_memory && !(flags & kScriptAllowOom)) return RespError(resp_errors::kOom);
  if (!may_write) return Status::Ok();
  if (!obeys && engine_.durability != nullptr) {
    if (const Status refusal = engine_.durability->WriteRefusal(); !refusal.ok())
      return ScriptRefusal(refusal);
  }
  if (read_only)
    return Status::Client("ERR Can not execute a script with write flag using *_ro command.");
  if (!obeys && engine_.replicas != nullptr && !engine_.replicas->has_enough_replicas())
    return RespError(resp_errors::kNoReplicas);
  return Status::Ok();
}

Status ScriptHost::Run(CommandContext& ctx, LuaEngine& lua, LuaRef function, std::string_view name,
                       uint32_t flags, bool is_eval, bool read_only,
                       std::span<const std::string_view> keys,
                       std::span<const std::string_view> args) {
  Session& caller = ctx.session();
  ScriptScope scope;
  // What a log replays was admitted when it first ran.
  scope.over_memory = engine_.settings().maxmemory != 0 && !ctx.is_loading() &&
                      !engine_.dispatcher->memory_limit().Hold();
  CAIRN_RETURN_IF_ERROR(MayRun(caller, flags, read_only, scope.over_memory));
  scope.caller = &caller;
  scope.session = session_.get();
  scope.name = name;
  scope.flags = flags;
  scope.is_eval = is_eval;
  scope.read_only = read_only || (!(flags & kScriptCompat) && (flags & kScriptNoWrites));
  const int64_t limit_ms = engine_.settings().busy_reply_threshold;
  const bool looks = limit_ms > 0 && !ctx.is_loading();
  if (looks) scope.began_us = engine_.env.MonotonicMicros();
  session_->db = caller.db;
  session_->kind = ctx.is_loading() ? SessionKind::kInternal : SessionKind::kNormal;
  session_->reply.set_version(2);
  engine_.dispatcher->RunScript(scope, [&] {
    lua.Run(scope, function, keys, args, looks ? look_ : std::function<void()>());
  });
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

// DUMP and RESTORE: one value on its way out and in, in the RDB encoding.

#include <algorithm>
#include <array>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"
#include "server/base/strings.h"
#include "server/data/value_codec.h"
#include "server/engine/key_access.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

Status Dump(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  DumpWriter writer(ctx.settings().rdbcompression);
  CAIRN_RETURN_IF_ERROR(entry->Emit(writer.sink()));
  Result<std::string> payload = writer.Finish();
  if (!payload.ok()) return payload.status();
  ctx.reply().Bulk(*payload);
  return Status::Ok();
}
constexpr CommandSpec kDumpSpec{
    .name = "dump",
    .arity = 2,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "generic",
    .since = "2.6.0",
    .complexity = "O(1) to find the key and O(N*M) to write N elements of M bytes on average.",
    .summary = "Returns a value in a form that RESTORE takes.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .handler = Dump,
};

// --- RESTORE ---------------------------------------------------------------------------------

struct RestoreOptions {
  bool replace = false;
  bool absolute = false;
  int64_t idle_s = -1;
  int64_t frequency = -1;
};

Status ParseRestore(const CommandContext& ctx, RestoreOptions* out) {
  for (size_t i = 4; i < ctx.argc(); ++i) {
    const bool has_value = i + 1 < ctx.argc();
    if (ctx.ArgIs(i, "replace")) {
      out->replace = true;
    } else if (ctx.ArgIs(i, "absttl")) {
      out->absolute = true;
    } else if (ctx.ArgIs(i, "idletime") && has_value && out->frequency < 0) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &out->idle_s));
      if (out->idle_s < 0) return Status::Client("ERR Invalid IDLETIME value, must be >= 0");
    } else if (ctx.ArgIs(i, "freq") && has_value && out->idle_s < 0) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &out->frequency));
      if (out->frequency < 0 || out->frequency > 255) {
        return Status::Client("ERR Invalid FREQ value, must be >= 0 and <= 255");
      }
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

/// RESTORE with a TTL goes out with the moment in its place and ABSTTL behind.
void PropagateAbsolute(CommandContext& ctx, int64_t expire_at_ms) {
  if (!ctx.engine().propagation.enabled()) return;
  std::vector<std::string> args(ctx.args().begin(), ctx.args().end());
  args[2] = std::string(IntegerText(expire_at_ms));
  args.emplace_back("ABSTTL");
  ctx.PropagateAs(std::move(args));
}

/// RESTORE ended with a TTL that is over: all that is left of it is the removal of the key it
/// replaces.
void DropReplaced(CommandContext& ctx, KeyRef key) {
  if (!ctx.db().Remove(key, ctx.settings().lazyfree_lazy_server_del)) return;
  PropagateInstead(ctx, {"DEL", key.key});
  ctx.Changed(key, NotifyClass::kGeneric, "del");
}

Status Restore(CommandContext& ctx) {
  RestoreOptions options;
  CAIRN_RETURN_IF_ERROR(ParseRestore(ctx, &options));
  const KeyRef key = ctx.Key(1);
  if (!options.replace && ctx.db().LookupWrite(key) != nullptr)
    return RespError(resp_errors::kBusyKey);
  int64_t ttl_ms = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &ttl_ms));
  if (ttl_ms < 0) return Status::Client("ERR Invalid TTL value, must be >= 0");

  ValueBuilder builder(ctx.engine().module_values, ctx.keyspace().value_home(),
                       LimitsOf(ctx.settings()));
  CAIRN_RETURN_IF_ERROR(
      ReadDumpPayload(ctx.arg(3), builder, ctx.engine().debug.skip_checksum_validation));
  Result<ValueInput> value = builder.Take();
  if (!value.ok()) return RespError(resp_errors::kBadDataFormat);

  int64_t expire_at_ms = kNoExpiry;
  if (ttl_ms != 0) {
    // A sum beyond the end of time wraps to the past in Redis, and so the key is dropped.
    expire_at_ms = ttl_ms;
    if (!options.absolute && __builtin_add_overflow(ttl_ms, ctx.now_ms(), &expire_at_ms))
      expire_at_ms = 0;
    if (IsAlreadyExpired(ctx, expire_at_ms)) {
      DropReplaced(ctx, key);
      ctx.reply().Ok();
      return Status::Ok();
    }
  }
  // What it replaces goes whatever its TTL: of one that is over nobody is told.
  if (options.replace && IsPastTtl(ctx.db().Peek(key), ctx.now_ms()))
    ctx.db().Remove(key, ctx.settings().lazyfree_lazy_server_del);
  const Entry* entry = ctx.db().Set(key, std::move(*value), expire_at_ms);
  ModuleHost::OnStored(ctx.db().index(), *entry);
  ctx.SignalReady(ctx.db().index(), key.key);
  ctx.Notify(NotifyClass::kNew, "new", key.key, ctx.db().index());
  // A new key, whatever stood there before.
  ctx.keyspace().RestoreAccess(
      *entry, std::max<int64_t>(options.idle_s, 0),
      options.frequency >= 0 ? static_cast<int>(options.frequency) : kFirstFrequency);
  if (ttl_ms != 0 && !options.absolute) PropagateAbsolute(ctx, expire_at_ms);
  ctx.Changed(key, NotifyClass::kGeneric, "restore");
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kRestoreSpec{
    .name = "restore",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclKeyspace | kAclDangerous,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate)},
    .group = "generic",
    .since = "2.6.0",
    .complexity =
        "O(1) to make the key and O(N*M) to read N elements of M bytes on average; O(N*M*log(N)) "
        "for "
        "sorted sets.",
    .summary = "Makes a key from what DUMP returned.",
    .synopsis =
        "key#0 ttl:integer serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] "
        "[IDLETIME=seconds:integer@5.0.0] [FREQ=frequency:integer@5.0.0]",
    .history =
        "3.0.0|Option `REPLACE`.\n"
        "5.0.0|Option `ABSTTL`.\n"
        "5.0.0|Options `IDLETIME` and `FREQ`.",
    .handler = Restore,
};

/// What MIGRATE sends between nodes of a cluster; the same otherwise.
constexpr CommandSpec kRestoreAskingSpec{
    .name = "restore-asking",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdAsking | kCmdSystem,
    .acl = kAclKeyspace | kAclDangerous,
    .keys = {OneKey(1, kKeyOW | kKeyUpdate)},
    .group = "server",
    .since = "3.0.0",
    .complexity = kRestoreSpec.complexity,
    .summary = "Makes a key that a node of a cluster hands over.",
    .synopsis =
        "key#0 ttl:integer serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] "
        "[IDLETIME=seconds:integer@5.0.0] [FREQ=frequency:integer@5.0.0]",
    .history = kRestoreSpec.history,
    .handler = Restore,
};

constexpr std::array kKeyDumpSpecs = {
    kDumpSpec,
    kRestoreSpec,
    kRestoreAskingSpec,
};
static_assert(ValidSpecs(kKeyDumpSpecs));

}  // namespace

CommandFamily KeyDumpCommands() { return kKeyDumpSpecs; }

}  // namespace cairn

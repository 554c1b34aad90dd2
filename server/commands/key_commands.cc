// Keys whatever they hold: removing, finding out, renaming, copying. Time to live is in
// key_expire_commands.cc, walking over keys in key_scan_commands.cc, DUMP and RESTORE in
// key_dump_commands.cc, whole databases in database_commands.cc.

#include <array>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/module_host.h"

namespace cairn {

namespace {

// --- removing and counting -------------------------------------------------------------------

Status RemoveKeys(CommandContext& ctx, bool lazy) {
  int64_t removed = 0;
  for (size_t i = 1; i < ctx.argc(); ++i) {
    const KeyRef key = ctx.Key(i);
    // The look-up first: a key past its TTL is gone already, and is told as expired, not as
    // deleted.
    if (ctx.db().LookupWrite(key) == nullptr) continue;
    ctx.db().Remove(key, lazy);
    ctx.Changed(key, NotifyClass::kGeneric, "del");
    ++removed;
  }
  ctx.reply().Integer(removed);
  return Status::Ok();
}

Status Del(CommandContext& ctx) { return RemoveKeys(ctx, ctx.settings().lazyfree_lazy_user_del); }
constexpr CommandSpec kDelSpec{
    .name = "del",
    .arity = -2,
    .flags = kCmdWrite,
    .acl = kAclKeyspace,
    .keys = {KeyRange(1, -1, 1, kKeyRM | kKeyDelete)},
    .group = "generic",
    .since = "1.0.0",
    .complexity =
        "O(N) in the number of keys; a container adds O(M) in the number of its elements.",
    .summary = "Removes keys.",
    .synopsis = "key#0...",
    .tips = "request_policy:multi_shard response_policy:agg_sum",
    .handler = Del,
};

Status Unlink(CommandContext& ctx) { return RemoveKeys(ctx, true); }
constexpr CommandSpec kUnlinkSpec{
    .name = "unlink",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {KeyRange(1, -1, 1, kKeyRM | kKeyDelete)},
    .group = "generic",
    .since = "4.0.0",
    .complexity = "O(1) per key; another thread spends O(N) on the N allocations to free.",
    .summary = "Removes keys and leaves the freeing of big values to another thread.",
    .synopsis = "key#0...",
    .tips = "request_policy:multi_shard response_policy:agg_sum",
    .handler = Unlink,
};

Status CountKeys(CommandContext& ctx, unsigned lookup_flags) {
  int64_t found = 0;
  for (size_t i = 1; i < ctx.argc(); ++i)
    found += ReadKey(ctx, ctx.Key(i), lookup_flags) != nullptr;
  ctx.reply().Integer(found);
  return Status::Ok();
}

Status Exists(CommandContext& ctx) { return CountKeys(ctx, kLookupNoTouch); }
constexpr CommandSpec kExistsSpec{
    .name = "exists",
    .arity = -2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {KeyRange(1, -1, 1, kKeyRO)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(N) in the number of keys.",
    .summary = "Counts how many of the given keys exist.",
    .synopsis = "key#0...",
    .tips = "request_policy:multi_shard response_policy:agg_sum",
    .history = "3.0.3|Several keys.",
    .handler = Exists,
};

Status Touch(CommandContext& ctx) { return CountKeys(ctx, kLookupDefault); }
constexpr CommandSpec kTouchSpec{
    .name = "touch",
    .arity = -2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {KeyRange(1, -1, 1, kKeyRO)},
    .group = "generic",
    .since = "3.2.1",
    .complexity = "O(N) in the number of keys.",
    .summary = "Marks keys as used just now and counts those that exist.",
    .synopsis = "key#0...",
    .tips = "request_policy:multi_shard response_policy:agg_sum",
    .handler = Touch,
};

Status Type(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1), kLookupNoTouch);
  ctx.reply().SimpleString(entry != nullptr ? entry->TypeName() : "none");
  return Status::Ok();
}
constexpr CommandSpec kTypeSpec{
    .name = "type",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Names the type of a value.",
    .synopsis = "key#0",
    .handler = Type,
};

// --- moving and copying ----------------------------------------------------------------------

/// Puts `value` under `to`. Whatever stood there counts as gone before, so the key is new.
const Entry* Place(CommandContext& ctx, Database& db, KeyRef to, ValueInput value,
                   int64_t expire_at_ms) {
  const Entry* entry = db.Set(to, std::move(value), expire_at_ms);
  ModuleHost::OnStored(db.index(), *entry);
  ctx.SignalReady(db.index(), to.key);
  ctx.Notify(NotifyClass::kNew, "new", to.key, db.index());
  return entry;
}

/// Places `entry`'s value, and how often or lately it was used: what it is to eviction goes with
/// it.
void PlaceMoved(CommandContext& ctx, Database& db, KeyRef to, const Entry& entry) {
  const uint32_t access = entry.access();
  Place(ctx, db, to, entry.ShareValue(), entry.expire_at_ms())->set_access(access);
}

Status RenameKey(CommandContext& ctx, bool only_if_free) {
  Database& db = ctx.db();
  const KeyRef from = ctx.Key(1);
  const KeyRef to = ctx.Key(2);
  const Entry* entry = db.LookupWrite(from);
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  const bool same = from.key == to.key;
  const bool taken = same || db.LookupWrite(to) != nullptr;
  if (only_if_free && taken) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  if (!same) {
    PlaceMoved(ctx, db, to, *entry);
    db.Remove(from, false);
    ctx.TouchWatchers(db.index(), from.key);
    ctx.TouchWatchers(db.index(), to.key);
    ctx.Notify(NotifyClass::kGeneric, "rename_from", from.key, db.index());
    ctx.Notify(NotifyClass::kGeneric, "rename_to", to.key, db.index());
    ctx.AddDirty(1);
  }
  if (only_if_free) {
    ctx.reply().Integer(1);
  } else {
    ctx.reply().Ok();
  }
  return Status::Ok();
}

Status Rename(CommandContext& ctx) { return RenameKey(ctx, false); }
constexpr CommandSpec kRenameSpec{
    .name = "rename",
    .arity = 3,
    .flags = kCmdWrite,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyOW | kKeyUpdate)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Gives a key another name, replacing what has that name.",
    .synopsis = "key#0 newkey#1",
    .handler = Rename,
};

Status RenameNx(CommandContext& ctx) { return RenameKey(ctx, true); }
constexpr CommandSpec kRenameNxSpec{
    .name = "renamenx",
    .arity = 3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyOW | kKeyInsert)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Gives a key another name, if that name is free.",
    .synopsis = "key#0 newkey#1",
    .history = "3.2.0|Equal names are no error any more.",
    .handler = RenameNx,
};

/// The database that argument `i` names.
Status ArgDatabase(CommandContext& ctx, size_t i, Database** out) {
  int64_t index = 0;
  CAIRN_RETURN_IF_ERROR(
      ArgInRange(ctx, i, std::numeric_limits<int>::min(), std::numeric_limits<int>::max(), &index));
  if (index < 0 || index >= static_cast<int64_t>(ctx.keyspace().database_count())) {
    return RespError(resp_errors::kDbIndexOutOfRange);
  }
  *out = &ctx.keyspace().db(static_cast<uint32_t>(index));
  return Status::Ok();
}

Status Copy(CommandContext& ctx) {
  Database* target = &ctx.db();
  bool replace = false;
  for (size_t i = 3; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "replace")) {
      replace = true;
    } else if (ctx.ArgIs(i, "db") && i + 1 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(ArgDatabase(ctx, ++i, &target));
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  const KeyRef from = ctx.Key(1);
  const KeyRef to = target->MakeKey(ctx.arg(2));
  if (target == &ctx.db() && from.key == to.key) return RespError(resp_errors::kSameObject);
  const Entry* entry = ReadKey(ctx, from);
  if (entry == nullptr || (target->LookupWrite(to) != nullptr && !replace)) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const Entry* copy = Place(ctx, *target, to, entry->CloneValue(), entry->expire_at_ms());
  ctx.keyspace().RestoreAccess(*copy, 0, kFirstFrequency);
  ctx.Changed(target->index(), to, NotifyClass::kGeneric, "copy_to");
  ctx.reply().Integer(1);
  return Status::Ok();
}
constexpr CommandSpec kCopySpec{
    .name = "copy",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRO | kKeyAccess), OneKey(2, kKeyOW | kKeyUpdate)},
    .group = "generic",
    .since = "6.2.0",
    .complexity = "O(1) for a string, O(N) for a container of N elements.",
    .summary = "Copies a value to another key.",
    .synopsis = "source#0 destination#1 [DB=destination-db:integer] [REPLACE]",
    .handler = Copy,
};

Status Move(CommandContext& ctx) {
  Database& source = ctx.db();
  Database* target = nullptr;
  CAIRN_RETURN_IF_ERROR(ArgDatabase(ctx, 2, &target));
  if (target == &source) return RespError(resp_errors::kSameObject);
  const KeyRef from = ctx.Key(1);
  const KeyRef to = target->MakeKey(ctx.arg(1));
  const Entry* entry = source.LookupWrite(from);
  if (entry == nullptr || target->LookupWrite(to) != nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  PlaceMoved(ctx, *target, to, *entry);
  source.Remove(from, false);
  ctx.TouchWatchers(source.index(), from.key);
  ctx.TouchWatchers(target->index(), to.key);
  ctx.Notify(NotifyClass::kGeneric, "move_from", from.key, source.index());
  ctx.Notify(NotifyClass::kGeneric, "move_to", to.key, target->index());
  ctx.AddDirty(1);
  ctx.reply().Integer(1);
  return Status::Ok();
}
constexpr CommandSpec kMoveSpec{
    .name = "move",
    .arity = 3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclKeyspace,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "generic",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Takes a key to another database.",
    .synopsis = "key#0 db:integer",
    .handler = Move,
};

// --- OBJECT ----------------------------------------------------------------------------------

/// Finds the key of OBJECT <word> <key>; replies null when it is absent.
const Entry* ObjectEntry(CommandContext& ctx) {
  const Entry* entry = ctx.db().LookupRead(ctx.Key(2), kLookupNoTouch);
  if (entry == nullptr) ctx.reply().Null();
  return entry;
}

constexpr std::string_view kSwitchNote =
    "Please note that when switching between policies at runtime LRU and LFU data will take some "
    "time to adjust.";

bool TracksAccess(const Settings& settings) {
  return TracksFrequency(settings) || settings.maxmemory_policy == MaxmemoryPolicy::kAllkeysLru ||
         settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLru;
}

constexpr CommandSpec kObjectSpec{
    .name = "object",
    .arity = -2,
    .group = "generic",
    .since = "2.2.3",
    .complexity = "That of the subcommand.",
    .summary = "Groups the commands that look into a value's representation.",
};

Status ObjectEncoding(CommandContext& ctx) {
  if (const Entry* entry = ObjectEntry(ctx)) ctx.reply().Bulk(entry->EncodingName());
  return Status::Ok();
}
constexpr CommandSpec kObjectEncodingSpec{
    .name = "encoding",
    .parent = "object",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .keys = {OneKey(2, kKeyRO)},
    .group = "generic",
    .since = "2.2.3",
    .complexity = "O(1)",
    .summary = "Names how a value is represented in memory.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .handler = ObjectEncoding,
};

Status ObjectFreq(CommandContext& ctx) {
  const Entry* entry = ObjectEntry(ctx);
  if (entry == nullptr) return Status::Ok();
  if (!TracksFrequency(ctx.settings())) {
    return Status::Client(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. " +
        std::string(kSwitchNote));
  }
  ctx.reply().Integer(ctx.keyspace().FrequencyOf(*entry));
  return Status::Ok();
}
constexpr CommandSpec kObjectFreqSpec{
    .name = "freq",
    .parent = "object",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .keys = {OneKey(2, kKeyRO)},
    .group = "generic",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Tells how often a key was used, on a logarithmic scale.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .handler = ObjectFreq,
};

Status ObjectIdleTime(CommandContext& ctx) {
  const Entry* entry = ObjectEntry(ctx);
  if (entry == nullptr) return Status::Ok();
  if (TracksFrequency(ctx.settings())) {
    return Status::Client("ERR An LFU maxmemory policy is selected, idle time not tracked. " +
                          std::string(kSwitchNote));
  }
  ctx.reply().Integer(ctx.keyspace().IdleSeconds(*entry));
  return Status::Ok();
}
constexpr CommandSpec kObjectIdleTimeSpec{
    .name = "idletime",
    .parent = "object",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .keys = {OneKey(2, kKeyRO)},
    .group = "generic",
    .since = "2.2.3",
    .complexity = "O(1)",
    .summary = "Tells how long ago a key was last used.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .handler = ObjectIdleTime,
};

/// Values stand in their entries, so one key refers to them; Redis keeps small integers once for
/// all keys and says so with its largest count, unless keys need access times of their own. Clients
/// recognise the two.
Status ObjectRefCount(CommandContext& ctx) {
  constexpr int64_t kSharedIntegers = 10000;
  const Entry* entry = ObjectEntry(ctx);
  if (entry == nullptr) return Status::Ok();
  const bool shared = entry->form() == ValueForm::kInt && entry->integer() >= 0 &&
                      entry->integer() < kSharedIntegers &&
                      (ctx.settings().maxmemory == 0 || !TracksAccess(ctx.settings()));
  ctx.reply().Integer(shared ? std::numeric_limits<int32_t>::max() : 1);
  return Status::Ok();
}
constexpr CommandSpec kObjectRefCountSpec{
    .name = "refcount",
    .parent = "object",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclKeyspace,
    .keys = {OneKey(2, kKeyRO)},
    .group = "generic",
    .since = "2.2.3",
    .complexity = "O(1)",
    .summary = "Tells how many references a value has.",
    .synopsis = "key#0",
    .tips = "nondeterministic_output",
    .handler = ObjectRefCount,
};

Status ObjectHelp(CommandContext& ctx) {
  constexpr std::string_view kLines[] = {
      "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "ENCODING <key>",
      "    Name the representation that the value of <key> has in memory.",
      "FREQ <key>",
      "    Tell how often <key> was used of late, on a logarithmic scale.",
      "IDLETIME <key>",
      "    Tell how many seconds ago <key> was last used, roughly.",
      "REFCOUNT <key>",
      "    Tell how many references the value of <key> has.",
      "HELP",
      "    Print this text.",
  };
  ctx.reply().ArrayHeader(std::size(kLines));
  for (std::string_view line : kLines) ctx.reply().SimpleString(line);
  return Status::Ok();
}
constexpr CommandSpec kObjectHelpSpec{
    .name = "help",
    .parent = "object",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .acl = kAclKeyspace,
    .group = "generic",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Explains the subcommands.",
    .handler = ObjectHelp,
};

constexpr std::array kKeySpecs = {
    kDelSpec,
    kUnlinkSpec,
    kExistsSpec,
    kTouchSpec,
    kTypeSpec,
    kRenameSpec,
    kRenameNxSpec,
    kCopySpec,
    kMoveSpec,
    kObjectSpec,
    kObjectEncodingSpec,
    kObjectFreqSpec,
    kObjectIdleTimeSpec,
    kObjectRefCountSpec,
    kObjectHelpSpec,
};
static_assert(ValidSpecs(kKeySpecs));

}  // namespace

CommandFamily KeyCommands() { return kKeySpecs; }

}  // namespace cairn

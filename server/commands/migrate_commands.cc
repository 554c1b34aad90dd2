// MIGRATE: keys on their way to another server, which has to take them before they go here. The
// executor waits for the other server, as in Redis: nobody may see the key in both places or in
// none.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "persistence/rdb_writer.h"
#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/peer_connections.h"

namespace cairn {

namespace {

/// What is sent at once, each piece within the timeout.
constexpr size_t kPieceBytes = 64 * 1024;
constexpr int64_t kDefaultTimeoutMs = 1000;

struct MigrateOptions {
  bool copy = false;
  bool replace = false;
  std::vector<std::string_view> credentials;  ///< none, password, or user name and password
  size_t first_key = 3;
  size_t key_count = 1;
  int64_t database = 0;
  int64_t timeout_ms = 0;
};

Status ParseMigrate(const CommandContext& ctx, MigrateOptions* out) {
  for (size_t i = 6; i < ctx.argc(); ++i) {
    const size_t left = ctx.argc() - i - 1;
    if (ctx.ArgIs(i, "copy")) {
      out->copy = true;
    } else if (ctx.ArgIs(i, "replace")) {
      out->replace = true;
    } else if (ctx.ArgIs(i, "auth") && left >= 1) {
      out->credentials = {ctx.arg(i + 1)};
      i += 1;
    } else if (ctx.ArgIs(i, "auth2") && left >= 2) {
      out->credentials = {ctx.arg(i + 1), ctx.arg(i + 2)};
      i += 2;
    } else if (ctx.ArgIs(i, "keys")) {
      if (!ctx.arg(3).empty()) {
        return Status::Client(
            "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string");
      }
      out->first_key = i + 1;
      out->key_count = left;
      break;
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(5, &out->timeout_ms));
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(4, &out->database));
  if (out->timeout_ms <= 0) out->timeout_ms = kDefaultTimeoutMs;
  return Status::Ok();
}

void AppendRequest(std::string* to, std::initializer_list<std::string_view> args) {
  to->append("*").append(std::to_string(args.size())).append("\r\n");
  for (std::string_view arg : args) {
    to->append("$").append(std::to_string(arg.size())).append("\r\n");
    to->append(arg).append("\r\n");
  }
}

/// RESTORE requests for those of the keys that are there, and which these are.
struct Payload {
  std::vector<KeyRef> keys;
  std::string bytes;
};

Status BuildPayload(CommandContext& ctx, const MigrateOptions& options, Payload* out) {
  for (size_t i = 0; i < options.key_count; ++i) {
    const KeyRef key = ctx.Key(options.first_key + i);
    const Entry* entry = ReadKey(ctx, key);
    if (entry == nullptr) continue;
    const int64_t ttl_ms =
        entry->has_expiry() ? std::max<int64_t>(entry->expire_at_ms() - ctx.now_ms(), 1) : 0;
    DumpWriter writer(ctx.settings().rdbcompression);
    CAIRN_RETURN_IF_ERROR(entry->Emit(writer.sink()));
    Result<std::string> value = writer.Finish();
    if (!value.ok()) return value.status();
    out->keys.push_back(key);
    if (options.replace) {
      AppendRequest(&out->bytes, {"RESTORE", key.key, IntegerText(ttl_ms), *value, "REPLACE"});
    } else {
      AppendRequest(&out->bytes, {"RESTORE", key.key, IntegerText(ttl_ms), *value});
    }
  }
  return Status::Ok();
}

/// Sends what comes ahead of the keys; *lines becomes how many replies it gets.
std::string Opening(const MigrateOptions& options, const PeerConnection& peer, size_t* lines) {
  std::string opening;
  const auto& credentials = options.credentials;
  if (credentials.size() == 1) AppendRequest(&opening, {"AUTH", credentials[0]});
  if (credentials.size() == 2) AppendRequest(&opening, {"AUTH", credentials[0], credentials[1]});
  const bool select = peer.selected_db != options.database;
  if (select) AppendRequest(&opening, {"SELECT", IntegerText(options.database)});
  *lines = (credentials.empty() ? 0 : 1) + (select ? 1 : 0);
  return opening;
}

Status WritePieces(PeerSocket& socket, std::string_view bytes, int64_t timeout_ms) {
  while (!bytes.empty()) {
    CAIRN_RETURN_IF_ERROR(socket.Write(bytes.substr(0, kPieceBytes), timeout_ms));
    bytes.remove_prefix(std::min(bytes.size(), kPieceBytes));
  }
  return Status::Ok();
}

/// How far one attempt came.
struct Attempt {
  Status broken;         ///< of the connection
  bool writing = false;  ///< it broke while we wrote
  std::string refusal;   ///< the first error line of the target, without its '-'
  std::vector<KeyRef> taken;
  bool answered = false;  ///< the target replied to a key
};

void ReadReplies(PeerConnection& peer, const MigrateOptions& options, const Payload& payload,
                 size_t opening_lines, Attempt* attempt) {
  std::string refused_opening;
  for (size_t i = 0; i < opening_lines; ++i) {
    Result<std::string> line = peer.socket->ReadLine(options.timeout_ms);
    if (!line.ok()) {
      attempt->broken = line.status();
      return;
    }
    if (line->starts_with('-') && refused_opening.empty()) refused_opening = *line;
  }
  for (const KeyRef& key : payload.keys) {
    Result<std::string> line = peer.socket->ReadLine(options.timeout_ms);
    if (!line.ok()) {
      attempt->broken = line.status();
      return;
    }
    attempt->answered = true;
    const std::string& error = refused_opening.empty() ? *line : refused_opening;
    if (!error.starts_with('-')) {
      attempt->taken.push_back(key);
    } else if (attempt->refusal.empty()) {
      attempt->refusal = error.substr(1);
    }
  }
}

/// Keys that the target has are removed here, and removed is all that others hear of it.
void RemoveTaken(CommandContext& ctx, const std::vector<KeyRef>& keys) {
  std::vector<std::string> removal = {"DEL"};
  for (const KeyRef& key : keys) {
    if (!ctx.db().Remove(key, ctx.settings().lazyfree_lazy_server_del)) continue;
    ctx.Changed(key, NotifyClass::kGeneric, "del");
    removal.emplace_back(key.key);
  }
  if (removal.size() > 1 && ctx.engine().propagation.enabled()) ctx.PropagateAs(std::move(removal));
}

Status Transfer(CommandContext& ctx, const MigrateOptions& options, const Payload& payload,
                Attempt* attempt) {
  const std::string host(ctx.arg(1));
  const int port = static_cast<int>(std::strtol(std::string(ctx.arg(2)).c_str(), nullptr, 10));
  PeerConnections& peers = ctx.engine().peers();
  for (bool may_retry = true;; may_retry = false) {
    *attempt = {};
    Result<PeerConnection*> peer = peers.Get(host, port, options.timeout_ms);
    if (!peer.ok()) return Status::Client("IOERR error or timeout connecting to the client");
    size_t opening_lines = 0;
    const std::string opening = Opening(options, **peer, &opening_lines);
    attempt->broken = WritePieces(*(*peer)->socket, opening + payload.bytes, options.timeout_ms);
    attempt->writing = !attempt->broken.ok();
    if (attempt->broken.ok()) ReadReplies(**peer, options, payload, opening_lines, attempt);
    if (attempt->broken.ok()) {
      (*peer)->selected_db = attempt->refusal.empty() ? options.database : -1;
      return Status::Ok();
    }
    peers.Drop(host, port);
    // A kept connection may have been closed by the peer long ago. Only while it is certain that
    // nothing was done, and once.
    const bool timed_out = attempt->broken.code() == StatusCode::kCancelled;
    if (!may_retry || timed_out || attempt->answered) return Status::Ok();
  }
}

Status Migrate(CommandContext& ctx) {
  MigrateOptions options;
  CAIRN_RETURN_IF_ERROR(ParseMigrate(ctx, &options));
  Payload payload;
  CAIRN_RETURN_IF_ERROR(BuildPayload(ctx, options, &payload));
  if (payload.keys.empty()) {
    ctx.reply().SimpleString("NOKEY");
    return Status::Ok();
  }
  Attempt attempt;
  CAIRN_RETURN_IF_ERROR(Transfer(ctx, options, payload, &attempt));
  if (!options.copy) RemoveTaken(ctx, attempt.taken);
  if (!attempt.refusal.empty())
    return Status::Client("ERR Target instance replied with error: " + attempt.refusal);
  if (!attempt.broken.ok()) {
    return Status::Client(std::string("IOERR error or timeout ") +
                          (attempt.writing ? "writing" : "reading") + " to target instance");
  }
  ctx.reply().Ok();
  return Status::Ok();
}

/// The third argument, or what follows KEYS when that one is empty.
Status FindMigrateKeys(const CommandSpec&, std::span<const std::string_view> args,
                       std::vector<KeyPosition>* out) {
  constexpr uint32_t kFlags = kKeyRW | kKeyAccess | kKeyDelete;
  for (size_t i = 6; i < args.size(); ++i) {
    if (EqualsIgnoreCase(args[i], "auth")) {
      i += 1;
    } else if (EqualsIgnoreCase(args[i], "auth2")) {
      i += 2;
    } else if (EqualsIgnoreCase(args[i], "keys") && i + 1 < args.size()) {
      if (!args[3].empty()) return Status::Client("ERR Invalid arguments specified for command");
      for (size_t key = i + 1; key < args.size(); ++key) out->push_back({key, kFlags});
      return Status::Ok();
    }
  }
  out->push_back({3, kFlags});
  return Status::Ok();
}

constexpr CommandSpec kMigrateSpec{
    .name = "migrate",
    .arity = -6,
    .flags = kCmdWrite,
    .acl = kAclKeyspace | kAclDangerous,
    .keys = {OneKey(3, kKeyRW | kKeyAccess | kKeyDelete),
             {KeySpec::Begin::kKeyword,
              kKeyRW | kKeyAccess | kKeyDelete | kKeyIncomplete,
              -2,
              "KEYS",
              KeySpec::Find::kRange,
              -1,
              1,
              0,
              {}}},
    .find_keys = FindMigrateKeys,
    .group = "generic",
    .since = "2.6.0",
    .complexity = "That of DUMP and DEL here and of RESTORE there, and O(N) bytes sent.",
    .summary = "Moves keys to another server.",
    .synopsis =
        "host port:integer key_or_empty_string(key#0|''=empty_string:pure-token) "
        "destination-db:integer timeout:integer [COPY@3.0.0] [REPLACE@3.0.0] "
        "[authentication([AUTH=password@4.0.7]|[AUTH2=username_password{username "
        "password}@6.0.0])] [KEYS=key#1@3.0.6...]",
    .tips = "nondeterministic_output",
    .history =
        "3.0.0|Options `COPY` and `REPLACE`.\n"
        "3.0.6|Option `KEYS`.\n"
        "4.0.7|Option `AUTH`.\n"
        "6.0.0|Option `AUTH2`.",
    .handler = Migrate,
};

constexpr std::array kMigrateSpecs = {kMigrateSpec};
static_assert(ValidSpecs(kMigrateSpecs));

}  // namespace

CommandFamily MigrateCommands() { return kMigrateSpecs; }

}  // namespace cairn

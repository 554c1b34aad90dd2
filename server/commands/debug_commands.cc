// DEBUG: what test suites reach into a server with. One command without subcommands of its own in
// the table, so the dispatch over the words is here. What concerns keys is in the first half,
// switches and misbehaviour on demand in the second.

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "persistence/rdb_writer.h"
#include "server/base/strings.h"
#include "server/engine/dataset_digest.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/list_access.h"
#include "server/protocol/error_text.h"

namespace cairn {

namespace {

// --- keys and values -------------------------------------------------------------------------

Status DebugDigest(CommandContext& ctx) {
  Result<Digest> digest = DigestOfKeyspace(ctx.keyspace());
  if (!digest.ok()) return digest.status();
  ctx.reply().SimpleString(digest->Hex());
  return Status::Ok();
}

Status DebugDigestValue(CommandContext& ctx) {
  ctx.reply().ArrayHeader(ctx.argc() - 2);
  for (size_t i = 2; i < ctx.argc(); ++i) {
    Result<Digest> digest = DigestOfValue(ctx.db().Peek(ctx.Key(i)));
    if (!digest.ok()) return digest.status();
    ctx.reply().SimpleString(digest->Hex());
  }
  return Status::Ok();
}

/// Bytes of the value in an RDB file, without its type byte.
Result<size_t> SerializedBytes(CommandContext& ctx, const Entry& entry) {
  DumpWriter writer(ctx.settings().rdbcompression);
  CAIRN_RETURN_IF_ERROR(entry.Emit(writer.sink()));
  Result<std::string> dump = writer.Finish();
  if (!dump.ok()) return dump.status();
  // A DUMP payload ends in two bytes of version and eight of checksum.
  return dump->size() - 1 - 2 - 8;
}

/// What DEBUG OBJECT adds of a list: its nodes and the shape that fills them.
std::string ListDetails(CommandContext& ctx, const Entry& entry) {
  if (entry.type() != ValueType::kList) return {};
  const ListReader list(entry);
  ListShape shape = CurrentListShape(ctx);
  uint64_t nodes = 1, raw_bytes = entry.is_packed() ? entry.Bytes().size() : 0;
  if (const QuickList* quicklist = list.nodes()) {
    shape = quicklist->shape();
    nodes = quicklist->node_count();
    quicklist->VisitNodes([&raw_bytes](const ListNode& node) { raw_bytes += node.bytes; });
  }
  return fmt::format(
      " ql_nodes:{} ql_avg_node:{:.2f} ql_listpack_max:{} ql_compressed:{} "
      "ql_uncompressed_size:{}",
      nodes, static_cast<double>(list.size()) / static_cast<double>(nodes), shape.fill,
      shape.compress_depth != 0 ? 1 : 0, raw_bytes);
}

Status DebugObject(CommandContext& ctx) {
  const Entry* entry = ctx.db().Peek(ctx.Key(2));
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  Result<size_t> serialized = SerializedBytes(ctx, *entry);
  if (!serialized.ok()) return serialized.status();
  const uint32_t idle_s = ctx.keyspace().IdleSeconds(*entry);
  ctx.reply().SimpleString(fmt::format(
      "Value at:{} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}{}",
      fmt::ptr(entry), entry->EncodingName(), *serialized,
      (ctx.now_ms() / 1000 - idle_s) & 0xffffff, idle_s, ListDetails(ctx, *entry)));
  return Status::Ok();
}

Status DebugPopulate(CommandContext& ctx) {
  int64_t count;
  int64_t size_bytes = 0;
  if (!ParseInt64(ctx.arg(2), &count) || count < 0) return RespError(resp_errors::kMustBePositive);
  if (ctx.argc() == 5 && (!ParseInt64(ctx.arg(4), &size_bytes) || size_bytes < 0)) {
    return RespError(resp_errors::kMustBePositive);
  }
  if (size_bytes > ctx.settings().proto_max_bulk_len)
    return RespError(resp_errors::kMustBePositive);
  const std::string_view prefix = ctx.argc() >= 4 ? ctx.arg(3) : "key";
  Database& db = ctx.db();
  // A count that memory cannot hold fails where it runs out, not by presizing for it.
  constexpr int64_t kMostPresized = 100'000'000;
  db.Reserve(static_cast<uint64_t>(std::min(count, kMostPresized)));
  std::string value;
  for (int64_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("{}:{}", prefix, i);
    const KeyRef key = db.MakeKey(name);
    if (db.LookupWrite(key) != nullptr) continue;
    value = fmt::format("value:{}", i);
    if (size_bytes > 0) value.resize(static_cast<size_t>(size_bytes), '\0');
    db.Set(key, ValueInput::RawString(value), kNoExpiry);
    ctx.TouchWatchers(db.index(), name);
  }
  ctx.reply().Ok();
  return Status::Ok();
}

std::string TableStatistics(std::string_view title, uint64_t elements, uint64_t table_bytes) {
  std::string text = fmt::format("[{}]\nHash table 0 stats (main hash table):\n", title);
  if (elements == 0) return text + "No stats available for empty dictionaries\n";
  return text +
         fmt::format(" number of elements: {}\n table bytes: {}\n bytes per element: {:.2f}\n",
                     elements, table_bytes,
                     static_cast<double>(table_bytes) / static_cast<double>(elements));
}

Status DebugHtStats(CommandContext& ctx) {
  int64_t index;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &index));
  if (index < 0 || index >= ctx.keyspace().database_count())
    return Status::Client("ERR Out of range database");
  const Database& db = ctx.keyspace().db(static_cast<uint32_t>(index));
  // TTLs stand in the entries: the second table of Redis exists here as a count only.
  ctx.reply().Verbatim("txt", TableStatistics("Dictionary HT", db.size(), db.TableBytes()) +
                                  TableStatistics("Expires HT", db.expire_count(), 0));
  return Status::Ok();
}

Status DebugHtStatsKey(CommandContext& ctx) {
  const Entry* entry = ctx.db().Peek(ctx.Key(2));
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  const std::string_view encoding = entry->EncodingName();
  if (encoding != "hashtable" && encoding != "skiplist") {
    return Status::Client(
        "ERR The value stored at the specified key is not represented using an hash table");
  }
  const Object* object = entry->object();
  ctx.reply().Verbatim("txt",
                       TableStatistics("Value", object->FreeEffort(), object->MemoryUsage()));
  return Status::Ok();
}

// --- files -----------------------------------------------------------------------------------

Status DebugReload(CommandContext& ctx) {
  bool save = true;
  bool flush = true;
  bool merge = false;
  for (size_t i = 2; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "MERGE")) {
      merge = true;
    } else if (ctx.ArgIs(i, "NOFLUSH")) {
      flush = false;
    } else if (ctx.ArgIs(i, "NOSAVE")) {
      save = false;
    } else {
      return Status::Client(
          "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
    }
  }
  CAIRN_RETURN_IF_ERROR(ctx.engine().durability->DebugReload(save, flush, merge));
  ctx.engine().log.Log(LogLevel::kWarning, "DB reloaded by DEBUG RELOAD");
  ctx.reply().Ok();
  return Status::Ok();
}

Status DebugLoadAof(CommandContext& ctx) {
  CAIRN_RETURN_IF_ERROR(ctx.engine().durability->DebugLoadAof());
  ctx.engine().log.Log(LogLevel::kWarning, "Append Only File loaded by DEBUG LOADAOF");
  ctx.reply().Ok();
  return Status::Ok();
}

// --- replies on demand -------------------------------------------------------------------------

void ReplyNumbered(RespWriter& reply, std::string_view type) {
  const bool map = type == "map";
  if (map) {
    reply.MapHeader(3);
  } else if (type == "set") {
    reply.SetHeader(3);
  } else {
    reply.ArrayHeader(3);
  }
  for (int i = 0; i < 3; ++i) {
    reply.Integer(i);
    if (map) reply.Boolean(i == 1);
  }
}

Status ReplyPush(RespWriter& reply) {
  if (reply.version() < 3) return RespError(resp_errors::kResp3Only);
  reply.PushHeader(2);
  reply.Bulk("server-cpu-usage");
  reply.Integer(42);
  // A push is not the answer: that follows.
  reply.Bulk("Some real reply following the push reply");
  return Status::Ok();
}

void ReplyAttribute(RespWriter& reply) {
  if (reply.version() >= 3) {
    reply.AttributeHeader(1);
    reply.Bulk("key-popularity");
    reply.ArrayHeader(2);
    reply.Bulk("key:123");
    reply.Integer(90);
  }
  reply.Bulk("Some real reply following the attribute");
}

Status DebugProtocol(CommandContext& ctx) {
  RespWriter& reply = ctx.reply();
  const std::string type = ToLower(ctx.arg(2));
  if (type == "push") return ReplyPush(reply);
  if (type == "string") {
    reply.Bulk("Hello World");
  } else if (type == "integer") {
    reply.Integer(12345);
  } else if (type == "double") {
    reply.DoubleText("3.141");
  } else if (type == "bignum") {
    reply.BigNumber("1234567999999999999999999999999999999");
  } else if (type == "null") {
    reply.Null();
  } else if (type == "array" || type == "set" || type == "map") {
    ReplyNumbered(reply, type);
  } else if (type == "attrib") {
    ReplyAttribute(reply);
  } else if (type == "verbatim") {
    reply.Verbatim("txt", "This is a verbatim\nstring");
  } else if (type == "true" || type == "false") {
    reply.Boolean(type == "true");
  } else {
    return Status::Client(
        "ERR Wrong protocol type name. Please use one of the following: "
        "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false");
  }
  return Status::Ok();
}

Status DebugError(CommandContext& ctx) { return Status::Client(std::string(ctx.arg(2))); }

Status DebugLog(CommandContext& ctx) {
  ctx.engine().log.Log(LogLevel::kWarning, "DEBUG LOG: {}", ctx.arg(2));
  ctx.reply().Ok();
  return Status::Ok();
}

Status DebugStringMatchLen(CommandContext& ctx) {
  ctx.reply().Integer(GlobMatch(ctx.arg(2), ctx.arg(3), /*nocase=*/false) ? 1 : 0);
  return Status::Ok();
}

/// Holds the executor for a while, and with it every client: that is the purpose.
Status DebugSleep(CommandContext& ctx) {
  // Any text is accepted; one that is no number sleeps not at all.
  const double seconds = std::strtod(std::string(ctx.arg(2)).c_str(), nullptr);
  if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  ctx.reply().Ok();
  return Status::Ok();
}

// --- switches --------------------------------------------------------------------------------

/// Switches are "0" or not, with the leniency of atoi.
bool IsOn(std::string_view text) { return std::atoi(std::string(text).c_str()) != 0; }

template <bool DebugSwitches::*kSwitch>
Status DebugSwitch(CommandContext& ctx) {
  ctx.engine().debug.*kSwitch = IsOn(ctx.arg(2));
  ctx.reply().Ok();
  return Status::Ok();
}

Status DebugReplyBuffer(CommandContext& ctx) {
  DebugSwitches& debug = ctx.engine().debug;
  if (ctx.ArgIs(2, "RESIZING")) {
    debug.reply_buffer_resizing = IsOn(ctx.arg(3));
  } else if (!ctx.ArgIs(2, "PEAK-RESET-TIME")) {
    return UnknownSubcommandOrArity("debug", ctx.arg(1));
  } else if (ctx.ArgIs(3, "NEVER")) {
    debug.reply_buffer_peak_reset_ms = -1;
  } else if (ctx.ArgIs(3, "RESET")) {
    debug.reply_buffer_peak_reset_ms = DebugSwitches::kDefaultPeakResetMs;
  } else {
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &debug.reply_buffer_peak_reset_ms));
  }
  ctx.reply().Ok();
  return Status::Ok();
}

Status DebugPackedThreshold(CommandContext& ctx) {
  uint64_t bytes;
  if (!ParseMemory(ctx.arg(2), &bytes) || bytes > (4ull << 30)) {
    return Status::Client("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
  }
  ctx.engine().debug.quicklist_packed_threshold =
      bytes == 0 ? DebugSwitches::kDefaultPackedThreshold : bytes;
  ctx.reply().Ok();
  return Status::Ok();
}

/// For tests of CONFIG REWRITE: a file that it wrote whole is one that the server reads.
Status DebugRewriteAll(CommandContext& ctx) {
  if (Status written = ctx.engine().config.Rewrite(/*all=*/true); !written.ok()) {
    return Status::Client("ERR CONFIG-REWRITE-FORCE-ALL failed: " +
                          std::string(WithoutErr(written.message())));
  }
  ctx.reply().Ok();
  return Status::Ok();
}

/// A new identity of the dataset's history: replicas that knew the old one start over.
Status DebugChangeReplicationId(CommandContext& ctx) {
  Engine& engine = ctx.engine();
  engine.log.Log(LogLevel::kNotice, "Changing replication IDs after receiving change-repl-id");
  if (engine.replicas != nullptr) engine.replicas->ChangeId();
  ctx.reply().Ok();
  return Status::Ok();
}

// --- misbehaviour ----------------------------------------------------------------------------

Status DebugSegfault(CommandContext& ctx) {
  ctx.engine().log.Log(LogLevel::kWarning, "DEBUG SEGFAULT called");
  std::raise(SIGSEGV);
  return Status::Ok();
}

Status DebugPanic(CommandContext& ctx) {
  ctx.engine().log.Log(LogLevel::kWarning, "DEBUG PANIC called at Unix time {}",
                       ctx.engine().env.WallMicros() / 1000000);
  std::abort();
}

Status DebugAssert(CommandContext&) {
  const bool asserted_by_request = false;
  CAIRN_CHECK(asserted_by_request);
  return Status::Ok();
}

/// For leak detectors to find.
Status DebugLeak(CommandContext& ctx) {
  [[maybe_unused]] const Blob* lost = BlobRef::Copy(ctx.arg(2)).Release();
  ctx.reply().Ok();
  return Status::Ok();
}

// --- dispatch --------------------------------------------------------------------------------

Status DebugHelp(CommandContext& ctx);

struct DebugWord {
  std::string_view word;
  size_t least, most;  ///< arguments, DEBUG and the word included
  CommandHandler handler;
  std::string_view usage;
  std::string_view summary;
};

constexpr size_t kAny = SIZE_MAX;

constexpr std::array kDebugWords = {
    DebugWord{"assert", 2, 2, DebugAssert, "", "Fails a check."},
    DebugWord{"change-repl-id", 2, 2, DebugChangeReplicationId, "",
              "Gives the dataset's history a new identity."},
    DebugWord{"config-rewrite-force-all", 2, 2, DebugRewriteAll, "",
              "CONFIG REWRITE with every setting."},
    DebugWord{"digest", 2, 2, DebugDigest, "", "A digest of the whole dataset."},
    DebugWord{"digest-value", 2, kAny, DebugDigestValue, "<key> [<key> ...]",
              "A digest of each value."},
    DebugWord{"error", 3, 3, DebugError, "<string>", "Replies with this error line."},
    DebugWord{"htstats", 3, 3, DebugHtStats, "<dbid>", "Figures of a database's table."},
    DebugWord{"htstats-key", 3, 3, DebugHtStatsKey, "<key>", "Figures of the table under a key."},
    DebugWord{"leak", 3, 3, DebugLeak, "<string>", "Loses a copy of the string."},
    DebugWord{"loadaof", 2, 2, DebugLoadAof, "", "Writes out and reloads the append-only file."},
    DebugWord{"log", 3, 3, DebugLog, "<message>", "Writes a line to the log."},
    DebugWord{"object", 3, 3, DebugObject, "<key>", "Where and how a value is kept."},
    DebugWord{"panic", 2, 2, DebugPanic, "", "Aborts the process."},
    DebugWord{"pause-cron", 3, 3, DebugSwitch<&DebugSwitches::pause_cron>, "<0|1>",
              "Stops periodic work."},
    DebugWord{"populate", 3, 5, DebugPopulate, "<count> [<prefix>] [<size>]",
              "Makes keys <prefix>:<n> that are not propagated."},
    DebugWord{"protocol", 3, 3, DebugProtocol, "<type>", "Replies with a sample of this type."},
    DebugWord{"quicklist-packed-threshold", 3, 3, DebugPackedThreshold, "<size>",
              "Size from which a list element gets a node of its own; 0 is the default."},
    DebugWord{"reload", 2, kAny, DebugReload, "[MERGE] [NOFLUSH] [NOSAVE]",
              "Saves, empties and loads the dataset."},
    DebugWord{"replybuffer", 4, 4, DebugReplyBuffer,
              "<PEAK-RESET-TIME <NEVER|RESET|ms> | RESIZING <0|1>>",
              "When idle clients give reply memory back."},
    DebugWord{"segfault", 2, 2, DebugSegfault, "", "Crashes by a signal."},
    DebugWord{"set-active-expire", 3, 3, DebugSwitch<&DebugSwitches::active_expire>, "<0|1>",
              "Removal of expired keys nobody asks for."},
    DebugWord{"set-disable-deny-scripts", 3, 3, DebugSwitch<&DebugSwitches::deny_scripts_disabled>,
              "<0|1>", "Lets scripts run commands that are denied to them."},
    DebugWord{"set-skip-checksum-validation", 3, 3,
              DebugSwitch<&DebugSwitches::skip_checksum_validation>, "<0|1>",
              "Loads files and payloads without looking at checksums."},
    DebugWord{"sleep", 3, 3, DebugSleep, "<seconds>", "Holds the server still."},
    DebugWord{"stringmatch-len", 4, 4, DebugStringMatchLen, "<pattern> <string>",
              "Whether the glob matches: 1 or 0."},
    DebugWord{"help", 2, 2, DebugHelp, "", "Lists the subcommands."},
};

Status DebugHelp(CommandContext& ctx) {
  ctx.reply().ArrayHeader(1 + 2 * kDebugWords.size());
  ctx.reply().SimpleString("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
  for (const DebugWord& each : kDebugWords) {
    ctx.reply().SimpleString(ToUpper(each.word) + (each.usage.empty() ? "" : " ") +
                             std::string(each.usage));
    ctx.reply().SimpleString("    " + std::string(each.summary));
  }
  return Status::Ok();
}

Status Debug(CommandContext& ctx) {
  for (const DebugWord& each : kDebugWords) {
    if (!ctx.ArgIs(1, each.word)) continue;
    if (ctx.argc() < each.least || ctx.argc() > each.most) break;
    return each.handler(ctx);
  }
  return UnknownSubcommandOrArity("debug", ctx.arg(1));
}
constexpr CommandSpec kDebugSpec{
    .name = "debug",
    .arity = -2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale | kCmdProtected | kCmdSystem,
    .group = "server",
    .since = "1.0.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the tools of test suites.",
    .handler = Debug,
};

constexpr std::array kDebugSpecs = {
    kDebugSpec,
};
static_assert(ValidSpecs(kDebugSpecs));

}  // namespace

CommandFamily DebugCommands() { return kDebugSpecs; }

}  // namespace cairn

// Streams as logs: adding, trimming, deleting and ranges of entries. Readers that wait are in
// stream_read_commands.cc, consumer groups in stream_group_commands.cc, XINFO in
// stream_info_commands.cc.

#include <algorithm>
#include <array>
#include <vector>

#include "server/base/strings.h"
#include "server/engine/blocking.h"
#include "server/engine/key_access.h"
#include "server/engine/stream_access.h"

namespace cairn {

namespace {

// --- options of XADD and XTRIM ---------------------------------------------------------------

// XTRIM ~ without LIMIT looks at this many nodes, so that one command cannot take long.
constexpr int64_t kDefaultLimitNodes = 100;
constexpr int64_t kDefaultLimitWithoutNodeSize = 10000, kLargestDefaultLimit = 1000000;

struct TrimOptions {
  StreamTrim trim;
  size_t threshold_arg = 0;  ///< 0: no trimming asked for
  bool limit_given = false;
  bool no_make_stream = false;
  size_t id_arg = 0;  ///< XADD: where the ID stands
  bool automatic_id = false;
  StreamIdText id;
};

Status ParseThreshold(const CommandContext& ctx, size_t* i, bool max_length, TrimOptions* out) {
  if (out->trim.kind != StreamTrim::Kind::kNone) {
    return Status::Client(
        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
  }
  const bool has_operator = *i + 2 < ctx.argc();
  out->trim.approximate = has_operator && ctx.arg(*i + 1) == "~";
  if (out->trim.approximate || (has_operator && ctx.arg(*i + 1) == "=")) ++*i;
  ++*i;
  if (max_length) {
    int64_t length = 0;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(*i, &length));
    if (length < 0) return Status::Client("ERR The MAXLEN argument must be >= 0.");
    out->trim.kind = StreamTrim::Kind::kMaxLength;
    out->trim.max_length = static_cast<uint64_t>(length);
  } else {
    CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, *i, 0, &out->trim.min_id));
    out->trim.kind = StreamTrim::Kind::kMinId;
  }
  out->threshold_arg = *i;
  return Status::Ok();
}

/// One option at *i, which moves behind it; XADD's ID ends the options.
Status ParseTrimOption(const CommandContext& ctx, bool xadd, size_t* i, TrimOptions* out) {
  const bool more = *i + 1 < ctx.argc();
  if (xadd && ctx.arg(*i) == "*") {
    out->automatic_id = true;
    out->id_arg = *i;
  } else if (more && (ctx.ArgIs(*i, "maxlen") || ctx.ArgIs(*i, "minid"))) {
    CAIRN_RETURN_IF_ERROR(ParseThreshold(ctx, i, ctx.ArgIs(*i, "maxlen"), out));
  } else if (more && ctx.ArgIs(*i, "limit")) {
    int64_t limit = 0;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++*i, &limit));
    if (limit < 0) return Status::Client("ERR The LIMIT argument must be >= 0.");
    out->trim.limit = static_cast<uint64_t>(limit);
    out->limit_given = true;
  } else if (xadd && ctx.ArgIs(*i, "nomkstream")) {
    out->no_make_stream = true;
  } else if (xadd) {
    const auto id = ParseStreamId(ctx.arg(*i), StreamIdForms::kAutomatic, 0);
    if (!id.has_value() || ctx.arg(*i) == "-" || ctx.arg(*i) == "+")
      return Status::Client("ERR Invalid stream ID specified as stream command argument");
    out->id = *id;
    out->id_arg = *i;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  ++*i;
  return Status::Ok();
}

Status CheckTrimOptions(const CommandContext& ctx, bool xadd, TrimOptions* out) {
  StreamTrim& trim = out->trim;
  if (trim.limit != 0 && trim.kind == StreamTrim::Kind::kNone) {
    return Status::Client(
        "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
  }
  if (!xadd && trim.kind == StreamTrim::Kind::kNone) {
    return Status::Client("ERR syntax error, XTRIM must be called with a trimming strategy");
  }
  if (ctx.obeys()) {
    trim.limit = 0;  // the log says to what length the entries were cut
  } else if (out->limit_given && !trim.approximate) {
    return Status::Client("ERR syntax error, LIMIT cannot be used without the special ~ option");
  } else if (!out->limit_given && trim.approximate) {
    int64_t limit = kDefaultLimitNodes * ctx.settings().stream_node_max_entries;
    if (limit <= 0) limit = kDefaultLimitWithoutNodeSize;
    trim.limit = static_cast<uint64_t>(std::min(limit, kLargestDefaultLimit));
  }
  return Status::Ok();
}

Status ParseTrimOptions(const CommandContext& ctx, bool xadd, TrimOptions* out) {
  for (size_t i = 2; i < ctx.argc() && out->id_arg == 0;)
    CAIRN_RETURN_IF_ERROR(ParseTrimOption(ctx, xadd, &i, out));
  return CheckTrimOptions(ctx, xadd, out);
}

/// What an approximate trim did, said exactly: "= length" or "= first ID" in place of "~
/// threshold". Where nothing is left the first ID is the greatest there is, so that nothing is left
/// on a replica.
void RewriteTrim(const StreamValue& stream, const TrimOptions& options,
                 std::vector<std::string>* args) {
  if (!options.trim.approximate) return;
  (*args)[options.threshold_arg - 1] = "=";
  (*args)[options.threshold_arg] = options.trim.kind == StreamTrim::Kind::kMaxLength
                                       ? std::to_string(stream.length())
                                       : FormatStreamId(stream.FirstKeptId());
}

std::vector<std::string> OwnedArgs(const CommandContext& ctx) {
  return {ctx.args().begin(), ctx.args().end()};
}

// --- XADD ------------------------------------------------------------------------------------

Status TooLarge() { return Status::Client("ERR Elements are too large to be stored"); }

/// The ID of the new entry. Errors: it would not be above the last one.
Status ChooseId(const CommandContext& ctx, const TrimOptions& options, StreamId last,
                StreamId* out) {
  const Status too_low = Status::Client(
      "ERR The ID specified in XADD is equal or smaller than the target stream top item");
  if (options.automatic_id) {
    const uint64_t now_ms = static_cast<uint64_t>(ctx.now_ms());
    *out = now_ms > last.ms ? StreamId{now_ms, 0} : NextStreamId(last).value_or(kMinStreamId);
  } else {
    *out = options.id.id;
    if (!options.id.has_sequence && out->ms == last.ms) {
      // The words of redis-server for a sequence that cannot go on.
      if (last.sequence == UINT64_MAX) return TooLarge();
      out->sequence = last.sequence + 1;
    }
  }
  return *out > last ? Status::Ok() : too_low;
}

Status CheckEntrySize(std::span<const std::string_view> fields) {
  uint64_t size = 0;
  for (std::string_view each : fields) size += each.size();
  return size <= StreamValue::kMaxEntryBytes ? Status::Ok() : TooLarge();
}

void PropagateAdd(CommandContext& ctx, const StreamValue& stream, const TrimOptions& options,
                  StreamId id) {
  if (!ctx.engine().propagation.enabled()) return;
  std::vector<std::string> args = OwnedArgs(ctx);
  if (options.trim.kind != StreamTrim::Kind::kNone) RewriteTrim(stream, options, &args);
  // An ID that says all goes out as it was spelled.
  if (options.automatic_id || !options.id.has_sequence) args[options.id_arg] = FormatStreamId(id);
  ctx.PropagateAs(std::move(args));
}

Status XAdd(CommandContext& ctx) {
  TrimOptions options;
  CAIRN_RETURN_IF_ERROR(ParseTrimOptions(ctx, true, &options));
  const size_t first = options.id_arg + 1;
  if (options.id_arg == 0 || ctx.argc() < first + 2 || (ctx.argc() - first) % 2 != 0)
    return WrongArity(ctx.spec().name);
  if (!options.automatic_id && options.id.has_sequence && options.id.id == kMinStreamId)
    return Status::Client("ERR The ID specified in XADD must be greater than 0-0");
  const auto fields = ctx.args().subspan(first);

  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamForWrite(ctx, key, &stream));
  if (stream == nullptr && options.no_make_stream) {
    ctx.reply().Null();
    return Status::Ok();
  }
  const StreamId last = stream != nullptr ? stream->last_id : kMinStreamId;
  if (last == kMaxStreamId) {
    return Status::Client(
        "ERR The stream has exhausted the last possible ID, unable to add more items");
  }
  StreamId id;
  CAIRN_RETURN_IF_ERROR(ChooseId(ctx, options, last, &id));
  CAIRN_RETURN_IF_ERROR(CheckEntrySize(fields));

  if (stream == nullptr) stream = CreateStream(ctx, key);
  const Settings& settings = ctx.settings();
  stream->Append(id, fields,
                 {static_cast<uint64_t>(settings.stream_node_max_bytes),
                  static_cast<uint64_t>(settings.stream_node_max_entries)});
  ReplyStreamId(ctx, id);
  ctx.Changed(key, NotifyClass::kStream, "xadd");
  if (stream->Trim(options.trim) != 0)
    ctx.Notify(NotifyClass::kStream, "xtrim", key.key, ctx.db().index());
  PropagateAdd(ctx, *stream, options, id);
  ctx.SignalReady(ctx.db().index(), key.key);
  return Status::Ok();
}
constexpr CommandSpec kXAddSpec{
    .name = "xadd",
    .arity = -5,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclStream,
    .keys = {{KeySpec::Begin::kIndex,
              kKeyRW | kKeyUpdate,
              1,
              {},
              KeySpec::Find::kRange,
              0,
              1,
              0,
              "UPDATE instead of INSERT because of the optional trimming feature"}},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(1) when adding a new entry, O(N) when trimming where N being the number of "
        "entries evicted.",
    .summary = "Adds an entry at the end of a stream.",
    .synopsis =
        "key#0 [NOMKSTREAM@6.2.0] [trim{strategy(MAXLEN|MINID@6.2.0) "
        "[operator('='=equal:pure-token|'~'=approximately:pure-token)] threshold "
        "[LIMIT=count:integer@6.2.0]}] id_or_auto('*'=auto_id:pure-token|id) "
        "field_value{field value}...",
    .tips = "nondeterministic_output",
    .history =
        "6.2.0|Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` "
        "option.\n7.0.0|Added support for the `<ms>-*` explicit ID form.",
    .handler = XAdd,
};

// --- XTRIM, XDEL -----------------------------------------------------------------------------

Status XTrim(CommandContext& ctx) {
  TrimOptions options;
  CAIRN_RETURN_IF_ERROR(ParseTrimOptions(ctx, false, &options));
  const KeyRef key = ctx.Key(1);
  StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamForWrite(ctx, key, &stream));
  const uint64_t removed = stream != nullptr ? stream->Trim(options.trim) : 0;
  if (removed != 0) {
    PublishRemoval(ctx, key, NotifyClass::kStream, "xtrim", /*gone=*/false, removed);
    if (ctx.engine().propagation.enabled()) {
      std::vector<std::string> args = OwnedArgs(ctx);
      RewriteTrim(*stream, options, &args);
      ctx.PropagateAs(std::move(args));
    }
  }
  ctx.reply().Integer(static_cast<int64_t>(removed));
  return Status::Ok();
}
constexpr CommandSpec kXTrimSpec{
    .name = "xtrim",
    .arity = -4,
    .flags = kCmdWrite,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(N), with N being the number of evicted entries. Constant times are very small "
        "however, since entries are organized in macro nodes containing multiple entries "
        "that can be released with a single deallocation.",
    .summary = "Removes the oldest entries of a stream.",
    .synopsis =
        "key#0 trim{strategy(MAXLEN|MINID@6.2.0) "
        "[operator('='=equal:pure-token|'~'=approximately:pure-token)] threshold "
        "[LIMIT=count:integer@6.2.0]}",
    .tips = "nondeterministic_output",
    .history = "6.2.0|Added the `MINID` trimming strategy and the `LIMIT` option.",
    .handler = XTrim,
};

Status XDel(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  const StreamValue* seen = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(entry, &seen));
  if (seen == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  // All IDs are read before any is deleted: an error must not leave half of them done.
  std::vector<StreamId> ids(ctx.argc() - 2);
  for (size_t i = 0; i < ids.size(); ++i)
    CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, i + 2, 0, &ids[i]));

  auto* stream = static_cast<StreamValue*>(ctx.db().MutableContainer(key));
  uint64_t removed = 0;
  for (StreamId id : ids) {
    if (!stream->Erase(id)) continue;
    stream->NoteDeleted(id);
    ++removed;
  }
  if (removed != 0) {
    ctx.Changed(key, NotifyClass::kStream, "xdel");
    ctx.AddDirty(removed - 1);
  }
  ctx.reply().Integer(static_cast<int64_t>(removed));
  return Status::Ok();
}
constexpr CommandSpec kXDelSpec{
    .name = "xdel",
    .arity = -3,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(1) for each single item to delete in the stream, regardless of the stream "
        "size.",
    .summary = "Deletes entries of a stream by their IDs.",
    .synopsis = "key#0 id...",
    .handler = XDel,
};

// --- reading ranges --------------------------------------------------------------------------

Status XLen(CommandContext& ctx) {
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, ctx.Key(1)), &stream));
  ctx.reply().Integer(stream != nullptr ? static_cast<int64_t>(stream->length()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kXLenSpec{
    .name = "xlen",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRO)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Tells how many entries a stream has.",
    .synopsis = "key#0",
    .handler = XLen,
};

Status Range(CommandContext& ctx, bool reverse) {
  StreamId from, to;
  CAIRN_RETURN_IF_ERROR(ArgStreamRange(ctx, reverse ? 3 : 2, reverse ? 2 : 3, &from, &to));
  int64_t count = -1;
  for (size_t i = 4; i < ctx.argc(); i += 2) {
    if (!ctx.ArgIs(i, "count") || i + 1 == ctx.argc()) return RespError(resp_errors::kSyntax);
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &count));
    count = std::max<int64_t>(count, 0);
  }
  const StreamValue* stream = nullptr;
  CAIRN_RETURN_IF_ERROR(StreamOf(ReadKey(ctx, ctx.Key(1)), &stream));
  if (stream == nullptr) {
    ctx.reply().ArrayHeader(0);
  } else if (count == 0) {
    ctx.reply().NullArray();
  } else {
    ReplyStreamRange(ctx, *stream, from, to, static_cast<uint64_t>(std::max<int64_t>(count, 0)),
                     reverse);
  }
  return Status::Ok();
}

Status XRange(CommandContext& ctx) { return Range(ctx, false); }
constexpr CommandSpec kXRangeSpec{
    .name = "xrange",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(N) with N being the number of elements being returned. If N is constant (e.g. "
        "always asking for the first 10 elements with COUNT), you can consider it O(1).",
    .summary = "Returns the entries of a stream between two IDs.",
    .synopsis = "key#0 start end [COUNT=count:integer]",
    .history = "6.2.0|Added exclusive ranges.",
    .handler = XRange,
};

Status XRevRange(CommandContext& ctx) { return Range(ctx, true); }
constexpr CommandSpec kXRevRangeSpec{
    .name = "xrevrange",
    .arity = -4,
    .flags = kCmdReadonly,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "stream",
    .since = "5.0.0",
    .complexity =
        "O(N) with N being the number of elements returned. If N is constant (e.g. always "
        "asking for the first 10 elements with COUNT), you can consider it O(1).",
    .summary = "Returns the entries of a stream between two IDs, newest first.",
    .synopsis = "key#0 end start [COUNT=count:integer]",
    .history = "6.2.0|Added exclusive ranges.",
    .handler = XRevRange,
};

// --- XSETID ----------------------------------------------------------------------------------

struct SetIdOptions {
  StreamId last_id, max_deleted_id;
  int64_t entries_added = -1;
};

Status ParseSetId(const CommandContext& ctx, SetIdOptions* out) {
  CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, 2, 0, &out->last_id));
  for (size_t i = 3; i < ctx.argc(); i += 2) {
    if (i + 1 < ctx.argc() && ctx.ArgIs(i, "entriesadded")) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &out->entries_added));
      if (out->entries_added < 0) return Status::Client("ERR entries_added must be positive");
    } else if (i + 1 < ctx.argc() && ctx.ArgIs(i, "maxdeletedid")) {
      CAIRN_RETURN_IF_ERROR(ArgStreamId(ctx, i + 1, 0, &out->max_deleted_id));
      if (out->last_id < out->max_deleted_id) {
        return Status::Client(
            "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
      }
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  return Status::Ok();
}

Status CheckSetId(const StreamValue& stream, const SetIdOptions& options) {
  if (stream.length() != 0 && options.last_id < stream.EdgeId(false)) {
    return Status::Client(
        "ERR The ID specified in XSETID is smaller than the target stream top item");
  }
  if (options.entries_added != -1 &&
      stream.length() > static_cast<uint64_t>(options.entries_added)) {
    return Status::Client(
        "ERR The entries_added specified in XSETID is smaller than the target stream length");
  }
  return Status::Ok();
}

Status XSetId(CommandContext& ctx) {
  SetIdOptions options;
  CAIRN_RETURN_IF_ERROR(ParseSetId(ctx, &options));
  const KeyRef key = ctx.Key(1);
  const StreamValue* seen = nullptr;
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  CAIRN_RETURN_IF_ERROR(StreamOf(entry, &seen));
  CAIRN_RETURN_IF_ERROR(CheckSetId(*seen, options));

  auto* stream = static_cast<StreamValue*>(ctx.db().MutableContainer(key));
  stream->last_id = options.last_id;
  if (options.entries_added != -1)
    stream->entries_added = static_cast<uint64_t>(options.entries_added);
  if (options.max_deleted_id != kMinStreamId) stream->max_deleted_id = options.max_deleted_id;
  ctx.reply().Ok();
  ctx.Notify(NotifyClass::kStream, "xsetid", key.key, ctx.db().index());
  ctx.AddDirty(1);
  return Status::Ok();
}
constexpr CommandSpec kXSetIdSpec{
    .name = "xsetid",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclStream,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "stream",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Sets the last ID and the counters of a stream.",
    .synopsis =
        "key#0 last-id [ENTRIESADDED=entries_added:integer@7.0.0] "
        "[MAXDELETEDID=max_deleted_entry_id@7.0.0]",
    .history = "7.0.0|Added the `entries_added` and `max_deleted_entry_id` arguments.",
    .handler = XSetId,
};

constexpr std::array kStreamSpecs = {
    kXAddSpec, kXTrimSpec, kXDelSpec, kXLenSpec, kXRangeSpec, kXRevRangeSpec, kXSetIdSpec,
};
static_assert(ValidSpecs(kStreamSpecs));

}  // namespace

CommandFamily StreamCommands() { return kStreamSpecs; }

}  // namespace cairn

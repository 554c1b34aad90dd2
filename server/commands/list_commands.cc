// Lists: pushing, reading and editing one list. Moving elements between lists and waiting for them
// is in list_move_commands.cc.

#include <array>
#include <limits>

#include "server/base/strings.h"
#include "server/engine/key_access.h"
#include "server/engine/list_access.h"

namespace cairn {

namespace {

// --- pushing ---------------------------------------------------------------------------------

Status Push(CommandContext& ctx, bool at_head, bool only_if_exists) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr && only_if_exists) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }

  ListEdit list(ctx, key, entry);
  for (size_t i = 2; i < ctx.argc(); ++i) list->Push(at_head, ctx.arg(i));
  const auto size = static_cast<int64_t>(list->size());
  list.Commit();

  ctx.reply().Integer(size);
  ctx.Changed(key, NotifyClass::kList, at_head ? "lpush" : "rpush");
  ctx.AddDirty(ctx.argc() - 3);
  return Status::Ok();
}

Status LPush(CommandContext& ctx) { return Push(ctx, /*at_head=*/true, /*only_if_exists=*/false); }
constexpr CommandSpec kLPushSpec{
    .name = "lpush",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(1) for each element added, so O(N) to add N elements when the command is "
        "called with multiple arguments.",
    .summary = "Puts elements at the head of a list, which is made when it is not there.",
    .synopsis = "key#0 element...",
    .history = "2.4.0|Several elements.",
    .handler = LPush,
};

Status RPush(CommandContext& ctx) { return Push(ctx, /*at_head=*/false, /*only_if_exists=*/false); }
constexpr CommandSpec kRPushSpec{
    .name = "rpush",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(1) for each element added, so O(N) to add N elements when the command is "
        "called with multiple arguments.",
    .summary = "Puts elements at the tail of a list, which is made when it is not there.",
    .synopsis = "key#0 element...",
    .history = "2.4.0|Several elements.",
    .handler = RPush,
};

Status LPushX(CommandContext& ctx) { return Push(ctx, /*at_head=*/true, /*only_if_exists=*/true); }
constexpr CommandSpec kLPushXSpec{
    .name = "lpushx",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "2.2.0",
    .complexity =
        "O(1) for each element added, so O(N) to add N elements when the command is "
        "called with multiple arguments.",
    .summary = "Puts elements at the head of a list that exists.",
    .synopsis = "key#0 element...",
    .history = "4.0.0|Several elements.",
    .handler = LPushX,
};

Status RPushX(CommandContext& ctx) { return Push(ctx, /*at_head=*/false, /*only_if_exists=*/true); }
constexpr CommandSpec kRPushXSpec{
    .name = "rpushx",
    .arity = -3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "2.2.0",
    .complexity =
        "O(1) for each element added, so O(N) to add N elements when the command is "
        "called with multiple arguments.",
    .summary = "Puts elements at the tail of a list that exists.",
    .synopsis = "key#0 element...",
    .history = "4.0.0|Several elements.",
    .handler = RPushX,
};

// --- popping ---------------------------------------------------------------------------------

Status Pop(CommandContext& ctx, bool at_head) {
  if (ctx.argc() > 3) return WrongArity(ctx.spec().name);
  const bool has_count = ctx.argc() == 3;
  int64_t count = 1;
  if (has_count && (!ParseInt64(ctx.arg(2), &count) || count < 0))
    return RespError(resp_errors::kMustBePositive);

  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    if (has_count) {
      ctx.reply().NullArray();
    } else {
      ctx.reply().Null();
    }
    return Status::Ok();
  }
  if (count == 0) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  const uint64_t taken = std::min(static_cast<uint64_t>(count), ListReader(*entry).size());
  if (has_count) ctx.reply().ArrayHeader(taken);
  PopElements(ctx, key, entry, at_head, taken);
  return Status::Ok();
}

Status LPop(CommandContext& ctx) { return Pop(ctx, /*at_head=*/true); }
constexpr CommandSpec kLPopSpec{
    .name = "lpop",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "1.0.0",
    .complexity = "O(N) where N is the number of elements returned",
    .summary =
        "Takes elements from the head of a list and returns them; the last one takes the "
        "list along.",
    .synopsis = "key#0 [count:integer@6.2.0]",
    .history = "6.2.0|The argument `count`.",
    .handler = LPop,
};

Status RPop(CommandContext& ctx) { return Pop(ctx, /*at_head=*/false); }
constexpr CommandSpec kRPopSpec{
    .name = "rpop",
    .arity = -2,
    .flags = kCmdWrite | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "1.0.0",
    .complexity = "O(N) where N is the number of elements returned",
    .summary =
        "Takes elements from the tail of a list and returns them; the last one takes the "
        "list along.",
    .synopsis = "key#0 [count:integer@6.2.0]",
    .history = "6.2.0|The argument `count`.",
    .handler = RPop,
};

// --- reading ---------------------------------------------------------------------------------

Status LLen(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  ctx.reply().Integer(entry != nullptr ? static_cast<int64_t>(ListReader(*entry).size()) : 0);
  return Status::Ok();
}
constexpr CommandSpec kLLenSpec{
    .name = "llen",
    .arity = 2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRO)},
    .group = "list",
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Tells how many elements a list has.",
    .synopsis = "key#0",
    .handler = LLen,
};

/// A range of indices as Redis reads it: negative ones count from the end. False when it is empty.
bool ClampRange(int64_t start, int64_t stop, uint64_t size, uint64_t* from, uint64_t* count) {
  const auto length = static_cast<int64_t>(size);
  if (start < 0) start = std::max<int64_t>(start + length, 0);
  if (stop < 0) stop += length;
  if (start > stop || start >= length) return false;
  stop = std::min(stop, length - 1);
  *from = static_cast<uint64_t>(start);
  *count = static_cast<uint64_t>(stop - start + 1);
  return true;
}

Status LRange(CommandContext& ctx) {
  int64_t start = 0, stop = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &start));
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &stop));

  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  uint64_t from = 0, count = 0;
  if (entry == nullptr || !ClampRange(start, stop, ListReader(*entry).size(), &from, &count)) {
    ctx.reply().ArrayHeader(0);
    return Status::Ok();
  }
  RespWriter& reply = ctx.reply();
  reply.ArrayHeader(count);
  ListReader(*entry).Visit(from, count, /*reverse=*/false, [&reply](const ListpackValue& item) {
    ReplyItem(reply, item);
    return true;
  });
  return Status::Ok();
}
constexpr CommandSpec kLRangeSpec{
    .name = "lrange",
    .arity = 4,
    .flags = kCmdReadonly,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(S+N) where S is the distance of start offset from HEAD for small lists, from "
        "nearest end (HEAD or TAIL) for large lists; and N is the number of elements in "
        "the specified range.",
    .summary = "Returns the elements of a list between two indices.",
    .synopsis = "key#0 start:integer stop:integer",
    .handler = LRange,
};

/// An index that may be negative as a place in a list of `size`. False when it is outside.
bool ResolveIndex(int64_t index, uint64_t size, uint64_t* at) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || static_cast<uint64_t>(index) >= size) return false;
  *at = static_cast<uint64_t>(index);
  return true;
}

Status LIndex(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  int64_t index = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &index));
  const ListReader list(*entry);
  uint64_t at = 0;
  if (!ResolveIndex(index, list.size(), &at)) {
    ctx.reply().Null();
    return Status::Ok();
  }
  list.Visit(at, 1, /*reverse=*/false, [&ctx](const ListpackValue& item) {
    ReplyItem(ctx.reply(), item);
    return false;
  });
  return Status::Ok();
}
constexpr CommandSpec kLIndexSpec{
    .name = "lindex",
    .arity = 3,
    .flags = kCmdReadonly,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(N) where N is the number of elements to traverse to get to the element at "
        "index. This makes asking for the first or the last element of the list O(1).",
    .summary = "Returns the element at an index; negative ones count from the tail.",
    .synopsis = "key#0 index:integer",
    .handler = LIndex,
};

struct LPosOptions {
  bool has_count = false;
  bool from_tail = false;
  bool least_rank = false;
  uint64_t skip = 0;  ///< matches to pass over
  uint64_t count = 1;
  uint64_t max_seen = UINT64_MAX;
};

Status NotNegative(const CommandContext& ctx, size_t i, std::string_view error, int64_t* out) {
  if (!ParseInt64(ctx.arg(i), out) || *out < 0) return RespError(error);
  return Status::Ok();
}

Status ParseLPos(const CommandContext& ctx, LPosOptions* out) {
  for (size_t i = 3; i < ctx.argc(); i += 2) {
    const bool has_value = i + 1 < ctx.argc();
    int64_t value = 0;
    if (ctx.ArgIs(i, "RANK") && has_value) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &value));
      if (value == 0) {
        return Status::Client(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or "
            "use negative to start from the end of the list");
      }
      out->from_tail = value < 0;
      // The most negative number has no positive of its own; Redis then takes the first match, or
      // all of them when there is a COUNT, whatever it is.
      out->least_rank = value == std::numeric_limits<int64_t>::min();
      out->skip = out->least_rank ? 0 : static_cast<uint64_t>(value < 0 ? -value : value) - 1;
    } else if (ctx.ArgIs(i, "COUNT") && has_value) {
      CAIRN_RETURN_IF_ERROR(NotNegative(ctx, i + 1, "ERR COUNT can't be negative", &value));
      out->has_count = true;
      out->count = value == 0 ? UINT64_MAX : static_cast<uint64_t>(value);
    } else if (ctx.ArgIs(i, "MAXLEN") && has_value) {
      CAIRN_RETURN_IF_ERROR(NotNegative(ctx, i + 1, "ERR MAXLEN can't be negative", &value));
      out->max_seen = value == 0 ? UINT64_MAX : static_cast<uint64_t>(value);
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  if (out->least_rank && out->has_count) out->count = UINT64_MAX;
  return Status::Ok();
}

Status LPos(CommandContext& ctx) {
  LPosOptions options;
  CAIRN_RETURN_IF_ERROR(ParseLPos(ctx, &options));

  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  RespWriter& reply = ctx.reply();
  if (entry == nullptr && !options.has_count) {
    reply.Null();
    return Status::Ok();
  }
  if (entry == nullptr) {
    reply.ArrayHeader(0);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));

  const ListReader list(*entry);
  const uint64_t size = list.size();
  uint64_t at = options.from_tail ? size - 1 : 0, matches = 0, found = 0;
  const ReplyBuffer::Mark mark = reply.BeginDeferred();
  list.Visit(at, options.max_seen, options.from_tail, [&](const ListpackValue& item) {
    if (item.Equals(ctx.arg(2)) && ++matches > options.skip) {
      reply.Integer(static_cast<int64_t>(at));
      if (++found >= options.count) return false;
    }
    at += options.from_tail ? uint64_t{0} - 1 : 1;
    return true;
  });
  if (options.has_count) {
    reply.EndDeferredArray(mark, found);
  } else if (found == 0) {
    reply.Null();
  }
  return Status::Ok();
}
constexpr CommandSpec kLPosSpec{
    .name = "lpos",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "list",
    .since = "6.0.6",
    .complexity =
        "O(N) where N is the number of elements in the list, for the average case. When "
        "searching for elements near the head or the tail of the list, or when the MAXLEN "
        "option is provided, the command may run in constant time.",
    .summary = "Finds where in a list an element stands.",
    .synopsis =
        "key#0 element [RANK=rank:integer] [COUNT=num-matches:integer] "
        "[MAXLEN=len:integer]",
    .handler = LPos,
};

// --- editing ---------------------------------------------------------------------------------

Status LSet(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return RespError(resp_errors::kNoSuchKey);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  int64_t index = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &index));
  uint64_t at = 0;
  if (!ResolveIndex(index, ListReader(*entry).size(), &at))
    return RespError(resp_errors::kIndexOutOfRange);

  ListEdit list(ctx, key, entry);
  list->Replace(at, ctx.arg(3));
  list.Commit();
  ctx.reply().Ok();
  ctx.Changed(key, NotifyClass::kList, "lset");
  return Status::Ok();
}
constexpr CommandSpec kLSetSpec{
    .name = "lset",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyUpdate)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(N) where N is the length of the list. Setting either the first or the last "
        "element of the list is O(1).",
    .summary = "Replaces the element at an index.",
    .synopsis = "key#0 index:integer element",
    .handler = LSet,
};

/// How many elements stand before the first one that equals `element`, or the size; counted from
/// the tail if `reverse`. Requires: the list is not empty.
uint64_t FindElement(const ListReader& list, std::string_view element, bool reverse = false) {
  uint64_t at = 0;
  list.Visit(reverse ? list.size() - 1 : 0, UINT64_MAX, reverse, [&](const ListpackValue& item) {
    if (item.Equals(element)) return false;
    ++at;
    return true;
  });
  return at;
}

Status LInsert(CommandContext& ctx) {
  const bool after = ctx.ArgIs(2, "after");
  if (!after && !ctx.ArgIs(2, "before")) return RespError(resp_errors::kSyntax);
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const ListReader reader(*entry);
  const uint64_t at = FindElement(reader, ctx.arg(3));
  if (at == reader.size()) {
    ctx.reply().Integer(-1);
    return Status::Ok();
  }

  ListEdit list(ctx, key, entry);
  list->Insert(at, after, ctx.arg(4));
  const auto size = static_cast<int64_t>(list->size());
  list.Commit();
  ctx.Changed(key, NotifyClass::kList, "linsert");
  ctx.reply().Integer(size);
  return Status::Ok();
}
constexpr CommandSpec kLInsertSpec{
    .name = "linsert",
    .arity = 5,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "2.2.0",
    .complexity =
        "O(N) where N is the number of elements to traverse before seeing the value "
        "pivot. This means that inserting somewhere on the left end on the list (head) "
        "can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
    .summary = "Puts an element before or after the first one of a given value.",
    .synopsis = "key#0 where(BEFORE|AFTER) pivot element",
    .handler = LInsert,
};

Status LRem(CommandContext& ctx) {
  int64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &count));
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  const ListReader reader(*entry);
  // From the end that it takes them from: the other one may be far away.
  if (FindElement(reader, ctx.arg(3), /*reverse=*/count < 0) == reader.size()) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }

  ListEdit list(ctx, key, entry);
  const uint64_t limit = count == 0  ? UINT64_MAX
                         : count < 0 ? uint64_t{0} - static_cast<uint64_t>(count)
                                     : static_cast<uint64_t>(count);
  const uint64_t erased = list->EraseEqual(ctx.arg(3), limit, /*from_tail=*/count < 0);
  const bool gone = list.Commit();
  ctx.Changed(key, NotifyClass::kList, "lrem");
  ctx.AddDirty(erased - 1);
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, ctx.db().index());
  ctx.reply().Integer(static_cast<int64_t>(erased));
  return Status::Ok();
}
constexpr CommandSpec kLRemSpec{
    .name = "lrem",
    .arity = 4,
    .flags = kCmdWrite,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "list",
    .since = "1.0.0",
    .complexity =
        "O(N+M) where N is the length of the list and M is the number of elements "
        "removed.",
    .summary = "Takes elements of a given value out of a list.",
    .synopsis = "key#0 count:integer element",
    .handler = LRem,
};

Status LTrim(CommandContext& ctx) {
  int64_t start = 0, stop = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &start));
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &stop));
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    ctx.reply().Ok();
    return Status::Ok();
  }

  const uint64_t size = ListReader(*entry).size();
  uint64_t from = size, kept = 0;
  if (!ClampRange(start, stop, size, &from, &kept)) from = size;
  const uint64_t behind = size - from - kept;
  bool gone = false;
  if (from + behind != 0) {
    ListEdit list(ctx, key, entry);
    list->EraseRange(0, from);
    if (behind != 0) list->EraseRange(kept, behind);
    gone = list.Commit();
  }
  ctx.Notify(NotifyClass::kList, "ltrim", key.key, ctx.db().index());
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", key.key, ctx.db().index());
  ctx.TouchWatchers(ctx.db().index(), key.key);
  ctx.AddDirty(from + behind);
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kLTrimSpec{
    .name = "ltrim",
    .arity = 4,
    .flags = kCmdWrite,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyDelete)},
    .group = "list",
    .since = "1.0.0",
    .complexity = "O(N) where N is the number of elements to be removed by the operation.",
    .summary = "Keeps the elements between two indices and drops the others.",
    .synopsis = "key#0 start:integer stop:integer",
    .handler = LTrim,
};

constexpr std::array kSpecs = {kLPushSpec, kRPushSpec,   kLPushXSpec, kRPushXSpec, kLPopSpec,
                               kRPopSpec,  kLLenSpec,    kLRangeSpec, kLIndexSpec, kLPosSpec,
                               kLSetSpec,  kLInsertSpec, kLRemSpec,   kLTrimSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily ListCommands() { return kSpecs; }

}  // namespace cairn

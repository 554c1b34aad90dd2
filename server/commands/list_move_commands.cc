// Lists: moving an element from one to another, popping from the first of several that has any, and
// waiting for that. Pushing, reading and editing one list is in list_commands.cc.

#include <array>

#include "server/engine/blocking.h"
#include "server/engine/key_access.h"
#include "server/engine/list_access.h"
#include "server/engine/multi_pop.h"

namespace cairn {

namespace {

// --- moving ----------------------------------------------------------------------------------

struct MoveEnds {
  bool from_head = false;
  bool to_head = true;
};

Status ParseEnd(const CommandContext& ctx, size_t i, bool* head) {
  *head = ctx.ArgIs(i, "LEFT");
  return *head || ctx.ArgIs(i, "RIGHT") ? Status::Ok() : RespError(resp_errors::kSyntax);
}

std::string ElementAt(const ListReader& list, bool head) {
  std::string element;
  list.Visit(head ? 0 : list.size() - 1, 1, /*reverse=*/false,
             [&element](const ListpackValue& item) {
               char scratch[kMaxInt64Chars];
               element = item.Text(scratch);
               return false;
             });
  return element;
}

/// Moves one element of the list `source_entry` and replies it.
Status MoveElement(CommandContext& ctx, KeyRef source, const Entry* source_entry, KeyRef target,
                   MoveEnds ends) {
  Database& db = ctx.db();
  const Entry* target_entry = db.LookupWrite(target);
  CAIRN_RETURN_IF_ERROR(ExpectList(target_entry));
  const std::string element = ElementAt(ListReader(*source_entry), ends.from_head);
  const uint64_t size = ListReader(*source_entry).size();
  const uint64_t at = ends.from_head ? 0 : size - 1;

  bool gone = false;
  if (source.key == target.key) {
    ListEdit list(ctx, source, source_entry);
    list->EraseRange(at, 1);
    list->Push(ends.to_head, element);
    list.Commit();
  } else {
    ListEdit into(ctx, target, target_entry);
    into->Push(ends.to_head, element);
    into.Commit();
    // Storing the other key may have moved this one's entry.
    ListEdit from(ctx, source, db.Peek(source));
    from->EraseRange(at, 1);
    gone = from.Commit();
  }
  ctx.TouchWatchers(db.index(), target.key);
  ctx.Notify(NotifyClass::kList, ends.to_head ? "lpush" : "rpush", target.key, db.index());
  ctx.reply().Bulk(element);  // between the two events, for who hears of its own doing
  ctx.Notify(NotifyClass::kList, ends.from_head ? "lpop" : "rpop", source.key, db.index());
  if (gone) ctx.Notify(NotifyClass::kGeneric, "del", source.key, db.index());
  ctx.TouchWatchers(db.index(), source.key);  // behind the events, for who hears of both
  ctx.AddDirty(1);
  return Status::Ok();
}

Status Move(CommandContext& ctx, MoveEnds ends) {
  const KeyRef source = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(source);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry == nullptr) {
    ctx.reply().Null();
    return Status::Ok();
  }
  return MoveElement(ctx, source, entry, ctx.Key(2), ends);
}

Status LMove(CommandContext& ctx) {
  MoveEnds ends;
  CAIRN_RETURN_IF_ERROR(ParseEnd(ctx, 3, &ends.from_head));
  CAIRN_RETURN_IF_ERROR(ParseEnd(ctx, 4, &ends.to_head));
  return Move(ctx, ends);
}
constexpr CommandSpec kLMoveSpec{
    .name = "lmove",
    .arity = 5,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary =
        "Takes an element from an end of one list, puts it at an end of another and "
        "returns it.",
    .synopsis = "source#0 destination#1 wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT)",
    .handler = LMove,
};

Status RPopLPush(CommandContext& ctx) { return Move(ctx, MoveEnds{}); }
constexpr CommandSpec kRPopLPushSpec{
    .name = "rpoplpush",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "1.2.0",
    .complexity = "O(1)",
    .summary = "Takes the last element of a list, puts it at the head of another and returns it.",
    .synopsis = "source#0 destination#1",
    .deprecated_since = "6.2.0",
    .replaced_by = "`LMOVE` with the `RIGHT` and `LEFT` arguments",
    .handler = RPopLPush,
};

// --- popping from the first of several -------------------------------------------------------

/// Replies the key and `count` elements of its list and states the effect as LPOP or RPOP.
void PopCounted(CommandContext& ctx, KeyRef key, const Entry* entry, bool at_head, uint64_t count) {
  const uint64_t taken = std::min(count, ListReader(*entry).size());
  ctx.reply().ArrayHeader(2);
  ctx.reply().Bulk(key.key);
  ctx.reply().ArrayHeader(taken);
  PopElements(ctx, key, entry, at_head, taken);
  PropagateInstead(ctx,
                   {at_head ? "LPOP" : "RPOP", key.key, IntegerText(static_cast<int64_t>(taken))});
}

void PopOne(CommandContext& ctx, KeyRef key, const Entry* entry, bool at_head) {
  ctx.reply().ArrayHeader(2);
  ctx.reply().Bulk(key.key);
  PopElements(ctx, key, entry, at_head, 1);
  PropagateInstead(ctx, {at_head ? "LPOP" : "RPOP", key.key});
}

constexpr PopKind kListPop{.type = ValueType::kList,
                           .first_end = "LEFT",
                           .second_end = "RIGHT",
                           .pop_one = PopOne,
                           .pop_counted = PopCounted};

Status LMPop(CommandContext& ctx) { return PopFromFirst(ctx, kListPop); }
constexpr CommandSpec kLMPopSpec{
    .name = "lmpop",
    .arity = -4,
    .flags = kCmdWrite | kCmdMovableKeys,
    .acl = kAclList,
    .keys = {CountedKeys(1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "7.0.0",
    .complexity =
        "O(N+M) where N is the number of provided keys and M is the number of elements "
        "returned.",
    .summary = "Takes elements from the first of several lists that is not empty.",
    .synopsis = "numkeys:integer key#0... where(LEFT|RIGHT) [COUNT=count:integer]",
    .handler = LMPop,
};

// --- waiting ---------------------------------------------------------------------------------

Status BLPop(CommandContext& ctx) { return BlockingPop<kListPop, /*kFirstEnd=*/true>(ctx); }
constexpr CommandSpec kBLPopSpec{
    .name = "blpop",
    .arity = -3,
    .flags = kCmdWrite | kCmdNoScript | kCmdBlocking,
    .acl = kAclList,
    .keys = {KeyRange(1, -2, 1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "2.0.0",
    .complexity = "O(N) where N is the number of provided keys.",
    .summary =
        "Takes the first element of the first list that is not empty, and waits while "
        "there is none.",
    .synopsis = "key#0... timeout:double",
    .history = "6.0.0|Fractions of a second.",
    .handler = BLPop,
};

Status BRPop(CommandContext& ctx) { return BlockingPop<kListPop, /*kFirstEnd=*/false>(ctx); }
constexpr CommandSpec kBRPopSpec{
    .name = "brpop",
    .arity = -3,
    .flags = kCmdWrite | kCmdNoScript | kCmdBlocking,
    .acl = kAclList,
    .keys = {KeyRange(1, -2, 1, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "2.0.0",
    .complexity = "O(N) where N is the number of provided keys.",
    .summary =
        "Takes the last element of the first list that is not empty, and waits while "
        "there is none.",
    .synopsis = "key#0... timeout:double",
    .history = "6.0.0|Fractions of a second.",
    .handler = BRPop,
};

Status BLMPop(CommandContext& ctx) { return BlockingMultiPop<kListPop>(ctx); }
constexpr CommandSpec kBLMPopSpec{
    .name = "blmpop",
    .arity = -5,
    .flags = kCmdWrite | kCmdBlocking | kCmdMovableKeys,
    .acl = kAclList,
    .keys = {CountedKeys(2, kKeyRW | kKeyAccess | kKeyDelete)},
    .group = "list",
    .since = "7.0.0",
    .complexity =
        "O(N+M) where N is the number of provided keys and M is the number of elements "
        "returned.",
    .summary =
        "Takes elements from the first of several lists that is not empty, and waits "
        "while all are.",
    .synopsis = "timeout:double numkeys:integer key#0... where(LEFT|RIGHT) [COUNT=count:integer]",
    .handler = BLMPop,
};

/// What a move of a command that may wait goes out as: with the client's words for the ends, and,
/// as of Redis 7.0, words of its own once it has waited.
void PropagateMove(CommandContext& ctx, MoveEnds ends, bool waited) {
  if (ctx.argc() == 4) return PropagateInstead(ctx, {"RPOPLPUSH", ctx.arg(1), ctx.arg(2)});
  const auto word = [&](size_t i, bool head) {
    return !waited ? ctx.arg(i) : head ? std::string_view("left") : "right";
  };
  PropagateInstead(
      ctx, {"LMOVE", ctx.arg(1), ctx.arg(2), word(3, ends.from_head), word(4, ends.to_head)});
}

/// BRPOPLPUSH has four arguments and fixed ends, BLMOVE names them.
Status EndsOf(const CommandContext& ctx, MoveEnds* ends) {
  if (ctx.argc() == 4) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(ParseEnd(ctx, 3, &ends->from_head));
  return ParseEnd(ctx, 4, &ends->to_head);
}

Status RetryMove(CommandContext& ctx, KeyRef key, bool* served) {
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return Status::Ok();
  MoveEnds ends;
  CAIRN_RETURN_IF_ERROR(EndsOf(ctx, &ends));
  CAIRN_RETURN_IF_ERROR(MoveElement(ctx, key, entry, ctx.Key(2), ends));
  *served = true;
  PropagateMove(ctx, ends, /*waited=*/true);
  return Status::Ok();
}

Status BlockingMove(CommandContext& ctx) {
  MoveEnds ends;
  CAIRN_RETURN_IF_ERROR(EndsOf(ctx, &ends));
  int64_t timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, ctx.argc() - 1, TimeoutUnit::kSeconds, &timeout_ms));
  const KeyRef source = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(source);
  CAIRN_RETURN_IF_ERROR(ExpectList(entry));
  if (entry != nullptr) {
    CAIRN_RETURN_IF_ERROR(MoveElement(ctx, source, entry, ctx.Key(2), ends));
    PropagateMove(ctx, ends, /*waited=*/false);
    return Status::Ok();
  }
  if (!ctx.CanBlock()) {
    ctx.reply().Null();
    return Status::Ok();
  }
  return ctx.Block({.keys = ctx.args().subspan(1, 1),
                    .timeout_ms = timeout_ms,
                    .type = ValueType::kList,
                    .retry = RetryMove});
}

Status BLMove(CommandContext& ctx) { return BlockingMove(ctx); }
constexpr CommandSpec kBLMoveSpec{
    .name = "blmove",
    .arity = 6,
    .flags = kCmdWrite | kCmdDenyOom | kCmdNoScript | kCmdBlocking,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "6.2.0",
    .complexity = "O(1)",
    .summary = "Moves an element from one list to another, and waits while the first is empty.",
    .synopsis = "source#0 destination#1 wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout:double",
    .handler = BLMove,
};

Status BRPopLPush(CommandContext& ctx) { return BlockingMove(ctx); }
constexpr CommandSpec kBRPopLPushSpec{
    .name = "brpoplpush",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom | kCmdNoScript | kCmdBlocking,
    .acl = kAclList,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyDelete), OneKey(2, kKeyRW | kKeyInsert)},
    .group = "list",
    .since = "2.2.0",
    .complexity = "O(1)",
    .summary =
        "Moves the last element of a list to the head of another, and waits while the "
        "first is empty.",
    .synopsis = "source#0 destination#1 timeout:double",
    .history = "6.0.0|Fractions of a second.",
    .deprecated_since = "6.2.0",
    .replaced_by = "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
    .handler = BRPopLPush,
};

constexpr std::array kSpecs = {kLMoveSpec, kRPopLPushSpec, kLMPopSpec,  kBLPopSpec,
                               kBRPopSpec, kBLMPopSpec,    kBLMoveSpec, kBRPopLPushSpec};
static_assert(ValidSpecs(kSpecs));

}  // namespace

CommandFamily ListMoveCommands() { return kSpecs; }

}  // namespace cairn

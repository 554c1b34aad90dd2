#pragma once

// What the commands that pop from the first of several keys have in common: LMPOP, ZMPOP, BLMPOP,
// BZMPOP, BLPOP, BRPOP, BZPOPMIN and BZPOPMAX. A type says by a PopKind how elements leave it; the
// handlers are templates over that, because a waiter is served by a plain function. Thread:
// executor.

#include <cstdint>
#include <string_view>

#include "server/engine/blocking.h"
#include "server/engine/command_context.h"
#include "server/engine/engine.h"

namespace cairn {

/// How elements leave a list or a sorted set by its ends.
struct PopKind {
  ValueType type;
  std::string_view first_end, second_end;  ///< the words for the two ends
  /// Takes one, or up to `count`, from the value that `entry` holds under `key`; replies and states
  /// the effect.
  void (*pop_one)(CommandContext& ctx, KeyRef key, const Entry* entry, bool first_end);
  void (*pop_counted)(CommandContext& ctx, KeyRef key, const Entry* entry, bool first_end,
                      uint64_t count);
};

/// `numkeys key.. where [COUNT n]`.
struct MultiPop {
  size_t first_key = 0;  ///< index of the first key's argument
  size_t key_count = 0;
  bool first_end = false;
  uint64_t count = 1;
};

/// Reads `numkeys key.. where [COUNT n]` from argument `at` to the end. Errors: as redis-server's
/// LMPOP.
Status ParseMultiPop(const CommandContext& ctx, size_t at, const PopKind& kind, MultiPop* out);

/// Finds the first of the keys that is there; *entry = nullptr: none. Errors: WRONGTYPE when one of
/// another type comes first.
Status FirstOfType(CommandContext& ctx, ValueType type, size_t first_key, size_t key_count,
                   KeyRef* key, const Entry** entry);

/// The key spec of `numkeys key..` at argument `at`.
constexpr KeySpec CountedKeys(int at, uint32_t flags) {
  return {KeySpec::Begin::kIndex, flags, at, {}, KeySpec::Find::kKeyCount, 0, 1, 1, {}};
}

/// LMPOP and ZMPOP.
Status PopFromFirst(CommandContext& ctx, const PopKind& kind);

template <const PopKind& kKind>
Status RetryMultiPop(CommandContext& ctx, KeyRef key, bool* served) {
  MultiPop pop;
  CAIRN_RETURN_IF_ERROR(ParseMultiPop(ctx, 2, kKind, &pop));
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return Status::Ok();
  *served = true;
  kKind.pop_counted(ctx, key, entry, pop.first_end, pop.count);
  return Status::Ok();
}

/// BLMPOP and BZMPOP.
template <const PopKind& kKind>
Status BlockingMultiPop(CommandContext& ctx) {
  MultiPop pop;
  CAIRN_RETURN_IF_ERROR(ParseMultiPop(ctx, 2, kKind, &pop));
  int64_t timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, 1, TimeoutUnit::kSeconds, &timeout_ms));
  KeyRef key{};
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(FirstOfType(ctx, kKind.type, pop.first_key, pop.key_count, &key, &entry));
  if (entry != nullptr) {
    kKind.pop_counted(ctx, key, entry, pop.first_end, pop.count);
    return Status::Ok();
  }
  return ctx.Block({.keys = ctx.args().subspan(pop.first_key, pop.key_count),
                    .timeout_ms = timeout_ms,
                    .type = kKind.type,
                    .retry = RetryMultiPop<kKind>});
}

template <const PopKind& kKind, bool kFirstEnd>
Status RetryPop(CommandContext& ctx, KeyRef key, bool* served) {
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return Status::Ok();
  *served = true;
  kKind.pop_one(ctx, key, entry, kFirstEnd);
  return Status::Ok();
}

/// BLPOP, BRPOP, BZPOPMIN and BZPOPMAX: keys, then the timeout.
template <const PopKind& kKind, bool kFirstEnd>
Status BlockingPop(CommandContext& ctx) {
  const size_t last = ctx.argc() - 1;
  int64_t timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, last, TimeoutUnit::kSeconds, &timeout_ms));
  KeyRef key{};
  const Entry* entry = nullptr;
  CAIRN_RETURN_IF_ERROR(FirstOfType(ctx, kKind.type, 1, last - 1, &key, &entry));
  if (entry != nullptr) {
    kKind.pop_one(ctx, key, entry, kFirstEnd);
    return Status::Ok();
  }
  return ctx.Block({.keys = ctx.args().subspan(1, last - 1),
                    .timeout_ms = timeout_ms,
                    .type = kKind.type,
                    .retry = RetryPop<kKind, kFirstEnd>});
}

}  // namespace cairn

#pragma once

// HSCAN and SSCAN: one step of a walk over the members of a hash or set, whatever form holds it.
// ZSCAN has its own way, over records. Thread: executor.

#include <cstdint>
#include <vector>

#include "server/data/member_value.h"
#include "server/engine/command_context.h"

namespace cairn {

/// What one call found, and where the next one goes on.
struct MemberScan {
  uint64_t cursor = 0;
  std::vector<Member> found;  ///< borrowed from the key's entry
};

/// Reads `key cursor [MATCH pattern] [COUNT count]` and takes the step. Errors: a wrong cursor,
/// WRONGTYPE unless the key is absent or of `type`, then wrong options, in Redis's order.
Status ScanMembers(CommandContext& ctx, ValueType type, MemberScan* out);

/// The head of the reply: the cursor, and how many elements follow.
void ReplyScanHead(CommandContext& ctx, uint64_t cursor, size_t elements);

}  // namespace cairn

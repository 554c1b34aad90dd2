#pragma once

// The arguments that LMPOP, ZMPOP and their blocking forms share: how many keys, the keys, which
// end, how many elements. Pure but for reading the context. Thread: executor.

#include <cstdint>
#include <string_view>

#include "server/engine/command_context.h"

namespace cairn {

struct MultiPop {
  size_t first_key = 0;  ///< index of the first key's argument
  size_t key_count = 0;
  bool first_end = false;  ///< the first of the two words was given
  uint64_t count = 1;
};

/// Reads `numkeys key.. (first|second) [COUNT n]` from argument `at` to the end. Errors: as
/// redis-server's LMPOP.
Status ParseMultiPop(const CommandContext& ctx, size_t at, std::string_view first,
                     std::string_view second, MultiPop* out);

}  // namespace cairn

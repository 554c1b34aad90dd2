#pragma once

// What open transactions have been promised of the memory: the bytes that they declared and that
// have not come yet. Pure; executor.

#include <cstdint>
#include <string>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// a + b, at most UINT64_MAX.
inline uint64_t SaturatingSum(uint64_t a, uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/// No less than AwaitedBytes(), for a fraction of its cost: whoever has that much room need not
/// ask. Cost: O(ranks) of live transactions.
uint64_t AwaitedBytesAtMost(const CkptRun& run);

/// Bytes that live transactions of the run await, at most UINT64_MAX. A box that several ranks
/// declare is stored once, so it counts once, with what the furthest of them lacks; what LATEST has
/// under a tensor's name may be shared with it, and is taken off. Cost: O(n log n) in the shards of
/// live transactions, and their chunks.
uint64_t AwaitedBytes(const CkptRun& run);
/// What a transaction would await that has these shards and no byte of them.
uint64_t AwaitedBytes(const CkptRun& run, const std::vector<ShardSpec>& specs);

}  // namespace cairn::tensor

#pragma once

// What open transactions have been promised of the memory: the bytes that they declared and that
// have not come yet. Pure; executor.

#include <cstdint>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// Bytes that live transactions of the run await, at most UINT64_MAX. A box that several ranks
/// declare is stored once, so it counts once, with what the furthest of them lacks; what LATEST has
/// under a tensor's name may be shared with it, and is taken off. Cost: O(n log n) in the shards of
/// live transactions, and their chunks.
uint64_t AwaitedBytes(const CkptRun& run);

}  // namespace cairn::tensor

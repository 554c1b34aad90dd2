#pragma once

// Which bytes of a tensor another version of it has not (FETCHDELTA), and reading such ranges.
//
//   D1  Whoever has the tensor of `from` and writes the ranges of `to` over it has the tensor of
//       `to`. Ranges may hold bytes that did not change.
//   D2  Compared are chunks, when both versions have the same boxes in the same order: what is one
//       chunk (P1) has not changed. Neither bytes are looked at nor hashes.

#include <vector>

#include "tensor_module/ckpt_tensor.h"

namespace cairn::tensor {

/// Bytes of the logical tensor, ascending, neither overlapping nor adjacent; all when the layouts
/// differ, or `from` is null. One empty range: a tensor without bytes that `from` has not in this
/// form. Cost: O(n log n) in the shards and what changed, O(1) a chunk.
std::vector<ByteRange> ChangedRanges(const LogicalTensor* from, const LogicalTensor& to);

/// The bytes of each range, by reference where they lie in that order; the others are cut from the
/// whole tensor, which is gathered once. Requires: within it. Errors: memory refused, CKPTDAMAGED.
Result<std::vector<Chunks>> ReadRanges(BlobSource& source, const LogicalTensor& tensor,
                                       const std::vector<ByteRange>& ranges);

}  // namespace cairn::tensor

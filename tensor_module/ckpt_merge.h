#pragma once

// Merging: one version made of several, tensor by tensor (combine.h), laid out as the newest of
// them. States, counts and masks are the newest's; so are cells of bytes that are the same in all,
// as the very chunks. Pure but for the pool's memory; any thread.

#include <vector>

#include "tensor_module/ckpt_model.h"
#include "tensor_module/combine.h"

namespace cairn::tensor {

struct MergePlan {
  std::vector<Kept<Version>> versions;
  Recipe recipe;
  size_t newest = 0;         ///< of `versions`: the highest step
  uint64_t fresh_bytes = 0;  ///< of tensors that arithmetic makes anew
};

/// Errors, naming the tensor: it is not in all of the versions, has another dtype or shape in one,
/// is an alias in one only, or is of a type without arithmetic. Requires: one version at least, one
/// weight each.
Result<MergePlan> PlanMerge(std::vector<Kept<Version>> versions, Recipe recipe);

/// The tensors of the merged version, ascending by name. Errors: memory refused, CKPTDAMAGED. Cost:
/// about 1 GB/s of each version.
Result<std::vector<Kept<LogicalTensor>>> MergeTensors(ChunkPool& pool, BlobSource& source,
                                                      const MergePlan& plan);

/// The chunks of the tensors that arithmetic makes, in the order of the newest version's tensors,
/// shards and cells: which of them it makes depends on that version alone. `tensors`: of a version
/// that MergeTensors made, or the newest's.
std::vector<ChunkRef> BlendedChunks(const std::vector<Kept<LogicalTensor>>& tensors);
/// The inverse: what MergeTensors returned. Requires: as many as BlendedChunks has, of those sizes.
std::vector<Kept<LogicalTensor>> WithBlendedChunks(const MergePlan& plan,
                                                   const std::vector<ChunkRef>& chunks);

/// The version of `step` with these tensors and the rest of the newest; attempt, times and
/// durability are the caller's.
Version MergedVersion(const MergePlan& plan, uint64_t step,
                      std::vector<Kept<LogicalTensor>> tensors);

}  // namespace cairn::tensor

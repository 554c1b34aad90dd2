#pragma once

// Ballots: what PREPARE makes ready so that a COMMIT of many ranks is short. The work of a commit
// grows with the shards of all ranks, and all but a few bytes of each are cold when it comes; a
// vote looks at its own rank's while they are warm. A commit whose ballots show that the shards
// tile their tensors, each one where the last ended, needs nothing else; any other looks at
// everything (ckpt_commit.cc). Pure; any thread.

#include <optional>
#include <vector>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// Most names of a transaction with ballots: each vote with new names copies the table.
inline constexpr size_t kMaxBallotNames = 16384;

/// The ballot of a part that is complete, or none above kMaxBallotNames. Extends the transaction's
/// names. Cost: O(shards), and O(names) when there are new ones.
Kept<Ballot> MakeBallot(Transaction* transaction, const RankPart& part);

/// How ballots tile the tensors of a transaction, by the numbers of its names.
struct Tiling {
  std::vector<uint32_t> shards;  ///< how many of each
};
/// nullopt: a rank has no ballot, shards overlap, leave gaps, are cut along two axes or come in
/// another order, an alias names nothing, or there are no ranks. Cost: O(shards), a few
/// nanoseconds each.
std::optional<Tiling> FindTiling(const Transaction& transaction);

/// Tensors of a tiling, ascending by name.
std::vector<Kept<LogicalTensor>> BuildTensors(const Transaction& transaction, const Tiling& tiling);

}  // namespace cairn::tensor

#pragma once

// Ballots: what PREPARE makes ready so that a COMMIT of many ranks is short. The work of a commit
// grows with the shards of all ranks, and all but a few bytes of each are cold when it comes; a
// vote looks at its own rank's while they are warm. A commit whose ballots show that the shards
// tile their tensors, each one where the last ended or as the cells of a grid (ckpt_grid.h), needs
// nothing else; any other looks at everything (ckpt_commit.cc). Pure; any thread.

#include <compare>
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
  /// A shard by its rank's place in the transaction and its own in the rank.
  struct Place {
    uint32_t rank = 0, shard = 0;
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  std::vector<uint32_t> shards;  ///< how many of each
  std::vector<Place> copies;     ///< those whose box and bytes a lower rank has, ascending
};
/// nullopt: a rank has no ballot, shards are empty, leave gaps, overlap in part or have other bytes
/// than one of the same box, an alias names nothing, or there are no ranks. Cost: O(n log n) in the
/// shards; a few nanoseconds each that begins where the last ended, and the chunks of those whose
/// box another has.
std::optional<Tiling> FindTiling(const Transaction& transaction);

/// Tensors of a tiling, ascending by name.
std::vector<Kept<LogicalTensor>> BuildTensors(const Transaction& transaction, const Tiling& tiling);

}  // namespace cairn::tensor

#pragma once

// CommitWhole: a transaction of one process from its beginning to its version in one step, for SAVE
// and IMPORT. And what COMMIT and they have in common: which durability a version can promise.
// Executor.

#include <optional>
#include <string>
#include <vector>

#include "tensor_module/ckpt_commit.h"
#include "tensor_module/module.h"

namespace cairn::tensor {

/// Tensors of one process, whole or aliases, with their chunks from byte 0 on; no chunks for an
/// alias.
struct WholeTensors {
  std::vector<ShardSpec> specs;
  std::vector<std::vector<ChunkRef>> chunks;
};

/// What one command saves.
struct WholeSave {
  uint64_t step = 0;
  std::string tx;
  std::string tag;  ///< empty: none
  WholeTensors tensors;
};

/// The version of these tensors, of the run's highest attempt. Returns what Commit does. The run is
/// left as it was on an error: those of Declare, Commit, DurabilityFor; CKPTBUSY while a
/// transaction of that name is there.
Result<std::vector<uint64_t>> CommitWhole(const CommandRun& command, CkptRun* run,
                                          const WholeSave& save, Moment moment);

/// What was asked for, or the run's, whichever is more. Errors: more than the settings in force
/// give.
Result<Durable> DurabilityFor(const CommandRun& command, const CkptRun& run,
                              const std::optional<Durable>& asked);

}  // namespace cairn::tensor

#pragma once

// What the append-only file and replicas get of a save of whole tensors (ckpt_whole.h): a
// transaction of a world of one, whatever world the run is of: BEGIN, DECLARE.., PUT or REF..,
// PREPARE, COMMIT without a tag. Each function propagates its part as commands. Executor.

#include <string_view>

#include "tensor_module/ckpt_whole.h"

namespace cairn::tensor {

/// Tensors that one DECLARE tells of.
inline constexpr size_t kLoggedSpecs = 4096;

void LogBegin(CommandRun& run, const WholeSave& save, uint64_t attempt, int64_t at_ms);
/// Tensors from `first` on, kLoggedSpecs at most. Returns the first that is left.
size_t LogDeclare(CommandRun& run, const WholeSave& save, size_t first);
/// All chunks of a tensor, by name where they may be named.
void LogTensor(CommandRun& run, const WholeSave& save, size_t tensor);
/// PREPARE and COMMIT.
void LogVotes(CommandRun& run, const WholeSave& save, Durable durable, int64_t at_ms);

}  // namespace cairn::tensor

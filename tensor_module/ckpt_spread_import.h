#pragma once

// An IMPORT of which the append-only file or replicas get the bytes: so many cannot be copied into
// the stream in one turn of the executor. It is a transaction that is filled over many turns,
// others being served between them:
//
//   BEGIN, DECLARE.. -> [a worker gathers kTurnBytes] -> PUT.. -> ... -> PREPARE, COMMIT
//
// What is stored and what is logged go together, so that this server, its replicas and its files
// agree after each turn, and whoever copies the run between two of them has all that came before.
// Nobody else may touch the transaction (IsImport) but to end it: by ABORT, by a newer attempt, by
// taking the run away. An error ends it; when its client goes away, or is refused between two
// turns, its TIMEOUT does. The first turn and the last are O(tensors). Thread: executor.

#include <functional>

#include "tensor_module/ckpt_whole.h"

namespace cairn::tensor {

/// Bytes that are logged in one turn, about a millisecond's.
inline constexpr uint64_t kTurnBytes = 1 << 20;
/// Fewer bytes are stored and logged in one turn: a client's PUT is not shorter.
inline constexpr uint64_t kSpreadBytes = 4 << 20;

/// Whether the bytes go into the stream, and are too many for one turn.
bool MustSpread(const CommandRun& run, const WholeTensors& tensors);

/// Begins it; `reply(run)` answers when the version is there. The last thing a handler does.
/// Errors: those of CommitWhole, and CKPTBUSY, before anything is changed; what ends it.
Status ImportSpread(CommandRun& run, WholeSave save, std::function<void(CommandRun&)> reply);

}  // namespace cairn::tensor

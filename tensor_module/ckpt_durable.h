#pragma once

// DURABLE DISK: chunks reach the chunk log (chunk_log.h) and are synced before the command that
// promises them has an effect; then the append-only file gets its record. PREPARE does it for runs
// made with DURABLE DISK, so that a COMMIT that waits finds it done; COMMIT, SAVE and IMPORT for
// what is left, each on a worker where the command may wait. With chunk logs off (chunk-logs no)
// DISK is what AOF is. Thread: executor, but for LogNow.

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor_module/ckpt_model.h"
#include "tensor_module/module.h"

namespace cairn::tensor {

/// What must be logged first, and where.
struct ToLog {
  ChunkLog* log = nullptr;  ///< nullptr with chunks: there is none that can be written
  std::vector<ChunkRef> chunks;
  uint64_t size_bytes = 0;
};

/// The chunks of a transaction that the log has not: of one rank, or of all that have prepared.
/// Nothing when this run of the command needs none: a log that is replayed, another durability than
/// DISK, chunk logs off.
ToLog FindUnlogged(CommandRun& run, std::string_view tx, std::optional<uint32_t> rank,
                   const std::optional<Durable>& asked);
/// The same for chunks of a version that this command is about to make: what its first half has not
/// logged, as when CREATE has made the run one of DISK meanwhile.
ToLog FindUnlogged(CommandRun& run, const std::vector<std::vector<ChunkRef>>& chunks);

/// The log that a version which this command makes has to be in; nullptr: none. For a first half
/// that is about to make its chunks.
ChunkLog* LogOfNewVersion(CommandRun& run);
/// LogNow for what the first half has made. Thread: any.
Status LogMade(ChunkLog* log, const std::vector<std::vector<ChunkRef>>& chunks);

/// Errors: CKPTDISK; nothing but this promise has failed. Thread: any.
Status LogNow(const ToLog& what);

/// `finish(run)` behind LogNow, which runs on a worker when this run may wait.
template <typename Finish>
Status AfterLogging(CommandRun& run, ToLog what, Finish finish) {
  if (what.chunks.empty()) return finish(run);
  const uint64_t cost = std::max(what.size_bytes, kLateBytes);
  return run.RunLate(
      cost, [what = std::move(what)] { return LogNow(what); },
      [finish](CommandRun& late, Status& logged) { return logged.ok() ? finish(late) : logged; });
}

}  // namespace cairn::tensor

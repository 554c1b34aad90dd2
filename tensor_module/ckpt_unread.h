#pragma once

// Chunks that are mapped from a chunk log and have not been read yet (chunk_pool.h, P5) are read on
// a worker before a command looks at their bytes on the executor: after a restart each costs a read
// of the disk. Thread: executor.

#include <algorithm>
#include <utility>
#include <vector>

#include "tensor_module/module.h"

namespace cairn::tensor {

/// `finish(run)`, behind a read of those of the chunks that are unread when this run may wait. What
/// is damaged is for `finish` to find.
template <typename Finish>
Status AfterReading(CommandRun& run, std::vector<ChunkRef> chunks, Finish finish) {
  std::erase_if(chunks, [](const ChunkRef& chunk) { return !chunk || !chunk->IsUnread(); });
  if (chunks.empty()) return finish(run);
  uint64_t size_bytes = 0;
  for (const ChunkRef& chunk : chunks) size_bytes += chunk->size();
  return run.RunLate(
      std::max(size_bytes, kLateBytes),
      [chunks = std::move(chunks)] {
        return std::count_if(chunks.begin(), chunks.end(),
                             [](const ChunkRef& chunk) { return chunk->IsIntact(); });
      },
      [finish](CommandRun& late, auto&) { return finish(late); });
}

}  // namespace cairn::tensor

#pragma once

// SnapshotSource: what a save, rewrite or full sync walks. Implemented by keyspace/view (frozen
// structure as of a cut). Begin and Step run on the walker thread, or on the loop in step mode;
// never on both at once.

#include <cstddef>
#include <cstdint>

#include "persistence/value_sink.h"

namespace cairn {

class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  /// Keys in all databases at the cut (for progress and verification).
  virtual uint64_t key_count() const = 0;
  /// Emits the next keys into `sink` until about `budget_keys` were written. Returns true while
  /// more remains; an error of the sink is passed up and ends the walk. After an error only Abandon
  /// may be called: part of a value was emitted, and what the walk had read of it may be freed.
  virtual Result<bool> Step(DatasetSink& sink, size_t budget_keys) = 0;
  /// Gives the rest of the walk up after an error or an abort: nothing more is held for it, and
  /// what was held is freed here, on the walker, not by the executor. Step must not be called
  /// again.
  virtual void Abandon() = 0;
};

}  // namespace cairn

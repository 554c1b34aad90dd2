#pragma once

// View: the keyspace as of one cut, to be walked into a sink by a thread of its own or in steps on
// the loop. Made by Keyspace::BeginView, ended by Keyspace::EndView, which also owns it. Reads
// frozen memory and values fixed at the cut only: no settings, no clock, no live table. Rules and
// invariants: docs/snapshot.md.

#include <vector>

#include "persistence/snapshot_source.h"
#include "server/data/frozen_walk.h"
#include "server/data/record_slab.h"
#include "server/keyspace/entry_policy.h"

namespace cairn {

class View : public SnapshotSource {
 public:
  uint64_t key_count() const override { return key_count_; }
  /// Emits in hash order, except that a segment the executor wrote to comes when its copy is taken
  /// off the queue; SelectDatabase is therefore repeated when the database changes, with counts of
  /// 0 after the first time. Goes by segments (about 300 keys), the last of which may exceed the
  /// budget.
  Result<bool> Step(DatasetSink& sink, size_t budget_keys) override;
  void Abandon() override { walk_.Finish(); }

  /// Place of the walk, for tests and progress: table in the walk's order << 48 | top 48 bits of
  /// the hash.
  uint64_t watermark() const { return lane_->watermark(); }
  uint64_t keys_emitted() const { return emitted_; }

 private:
  friend class Keyspace;
  enum class Access { kNone, kIdle, kFrequency };
  View(SnapshotGate* gate, ViewLane* lane, FramePool* frames, RecordSlab* slab,
       std::vector<FrozenTable> tables, int64_t now_ms, Access access);
  Status Emit(DatasetSink& sink, const FrozenTable& table, const Entry& entry);

  ViewLane* const lane_;
  FrozenWalk<EntryPolicy> walk_;
  const uint32_t cut_clock_s_;
  const Access access_;
  uint64_t key_count_ = 0;
  uint64_t emitted_ = 0;
  int64_t selected_ = -1;
  std::vector<bool> announced_;
};

}  // namespace cairn

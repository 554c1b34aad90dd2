#include "server/keyspace/view.h"

#include <utility>

namespace cairn {
namespace {

// Retired objects are seen off between two segments, so many at most, or a flood of writes would
// hold the walk.
constexpr int kPopsPerSegment = 2048;
constexpr uint32_t kAccessClockMask = 0xffffff;

}  // namespace

View::View(SnapshotGate* gate, ViewLane* lane, FramePool* frames, RecordSlab* slab,
           std::vector<FrozenTable> tables, int64_t now_ms, Access access)
    : lane_(lane),
      walk_(gate, lane, frames, slab, std::move(tables)),
      cut_clock_s_(static_cast<uint32_t>(now_ms / 1000) & kAccessClockMask),
      access_(access) {
  for (const FrozenTable& table : walk_.tables()) {
    key_count_ += table.key_count;
    if (announced_.size() <= table.database) announced_.resize(table.database + 1);
  }
}

Status View::Emit(DatasetSink& sink, const FrozenTable& table, const Entry& entry) {
  if (selected_ != table.database) {
    const bool first = !announced_[table.database];
    CAIRN_RETURN_IF_ERROR(sink.SelectDatabase(table.database, first ? table.key_count : 0,
                                              first ? table.expire_count : 0));
    announced_[table.database] = true;
    selected_ = table.database;
  }
  KeyMeta meta;
  meta.expire_at_ms = entry.expire_at_ms();
  if (access_ == Access::kFrequency) {
    meta.lfu_frequency = static_cast<int>(entry.access() & 0xff);
  } else if (access_ == Access::kIdle) {
    // A read after the cut may have touched the entry: then it was idle for no time.
    const uint32_t idle_s = (cut_clock_s_ - entry.access()) & kAccessClockMask;
    meta.lru_idle_s = idle_s > kAccessClockMask / 2 ? 0 : idle_s;
  }
  Result<ValueSink*> value = sink.Key(entry.key(), meta);
  if (!value.ok()) return value.status();
  const Container* container =
      entry.form() == ValueForm::kObject ? entry.object()->AsContainer() : nullptr;
  CAIRN_RETURN_IF_ERROR(container != nullptr ? container->EmitFrozen(**value, walk_.pass())
                                             : entry.Emit(**value));
  ++emitted_;
  return Status::Ok();
}

Result<bool> View::Step(DatasetSink& sink, size_t budget_keys) {
  const auto visit = [this, &sink](const FrozenTable& table, const Entry& entry) {
    return Emit(sink, table, entry);
  };
  const uint64_t goal = emitted_ + budget_keys;
  while (!walk_.done()) {
    for (int i = 0; i < kPopsPerSegment && emitted_ < goal; ++i) {
      Result<bool> popped = walk_.PopOne(visit);
      if (!popped.ok()) return popped.status();
      if (!*popped) break;
    }
    if (emitted_ >= goal) return true;
    CAIRN_RETURN_IF_ERROR(walk_.WalkNext(visit));
    if (emitted_ >= goal && !walk_.done()) return true;
  }
  // W is at the end: the executor retires nothing more, and must not be left to free what it did.
  walk_.Finish();
  return false;
}

}  // namespace cairn

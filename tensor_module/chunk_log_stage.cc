// What increments of the append-only file name, and how it is on disk before they are (L9 to L11).

#include <algorithm>
#include <utility>

#include "tensor_module/chunk_log.h"

namespace cairn::tensor {

// --- staging ---

Status ChunkLog::MayStage(const std::string& file) {
  {
    const std::lock_guard lock(state_mutex_);
    if (writable_ && !list_is_old_ && named_.contains(file)) return Status::Ok();
    if (refused_) return Status::Io("another process writes to the chunk log");
  }
  // Once a process: it may wait for a save.
  const std::lock_guard write(write_mutex_);
  Status status;
  if (!EnsureWritable(&status)) return status;
  return ListFiles({file});
}

void ChunkLog::SealStage(bool torn) {
  if (stage_.segment == nullptr) return;
  stage_.torn = torn;
  if (stage_.pending.empty()) {
    const std::lock_guard lock(state_mutex_);
    stage_.segment->open = false;
  } else {
    sealed_.push_back(std::move(stage_));
  }
  stage_ = {};
}

Status ChunkLog::StageOne(const ChunkRef& chunk) {
  if (stage_.segment != nullptr) {
    bool full = false;
    {
      const std::lock_guard lock(state_mutex_);
      full = stage_.segment->bytes >= options_.segment_bytes;
    }
    if (full) SealStage(/*torn=*/false);
  }
  if (stage_.segment == nullptr) {
    Result<std::unique_ptr<LogFile>> file = OpenSegmentToWrite(&stage_.segment);
    if (!file.ok()) return file.status();
    stage_.file = std::move(*file);
  }
  const Key key{chunk->hash(), chunk->size()};
  const BlobSlice bytes = chunk->bytes();
  Result<uint64_t> offset = AppendRecord(*stage_.segment, *stage_.file, key, chunk->dtype(),
                                         chunk->figures(), bytes.view());
  if (!offset.ok()) {
    SealStage(/*torn=*/true);
    return offset.status();
  }
  stage_.pending.push_back({key, *offset, chunk});
  staged_.fetch_add(1, std::memory_order_release);
  logged_bytes_ += key.size;
  const std::lock_guard lock(state_mutex_);
  const uint64_t number = next_number_++;
  index_[key] = {stage_.segment, *offset, number, last_number_, false, true};
  chunk->set_record(number);
  return Status::Ok();
}

Status ChunkLog::HasRoomFor(uint64_t size_bytes) const {
  const uint64_t free = files_->FreeBytes();
  if (free >= size_bytes && free - size_bytes >= kRoomLeft) return Status::Ok();
  return {StatusCode::kNoSpace, "its disk has " + std::to_string(free) + " bytes left, and " +
                                    std::to_string(kRoomLeft) +
                                    " are kept for the append-only file"};
}

Status ChunkLog::Stage(const std::vector<ChunkRef>& chunks, const std::string& file) {
  Status status = MayStage(file);
  for (const ChunkRef& chunk : chunks) {
    if (!status.ok()) break;
    if (chunk->size() < kLeastBytes) continue;
    // What has a record that cannot be named is for the next save to mend (Keep).
    if (Compare(*chunk, /*staged=*/true) != Look::kAbsent || !chunk->IsIntact()) continue;
    const std::lock_guard lock(stage_mutex_);
    // Somebody else may have staged the same bytes meanwhile.
    if (Compare(*chunk, /*staged=*/true) != Look::kAbsent) continue;
    status = HasRoomFor(chunk->size());
    if (status.ok()) status = StageOne(chunk);
  }
  const std::lock_guard lock(stage_mutex_);
  if (!status.ok() && !stage_fails_) {
    options_.say("chunk log: " + std::string(status.message()) +
                 (status.code() == StatusCode::kNoSpace
                      ? ": what brings new bytes of checkpoints is refused"
                      : ": the append-only file gets the bytes themselves"));
  }
  stage_fails_ = !status.ok();
  return status;
}

std::vector<bool> ChunkLog::Name(const std::vector<ChunkRef>& chunks, const std::string& file,
                                 uint64_t number) {
  std::vector<bool> named(chunks.size(), false);
  const std::lock_guard lock(state_mutex_);
  increments_from_.try_emplace(file, number);
  // What is being synced gets the number when it is (Publish).
  last_number_ = std::max(last_number_, number);
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i]->size() < kLeastBytes) continue;
    const auto found = index_.find({chunks[i]->hash(), chunks[i]->size()});
    if (found == index_.end() || found->second.number != chunks[i]->record()) continue;
    if (!found->second.durable && !found->second.staged) continue;
    found->second.named = std::max(found->second.named, number);
    named[i] = true;
    if (found->second.durable) continue;
    named_staged_.store(staged_.load(std::memory_order_acquire), std::memory_order_release);
  }
  return named;
}

// --- syncing ---

std::vector<ChunkLog::StageWriter>::iterator ChunkLog::SealedOf(const Segment* segment) {
  return std::find_if(sealed_.begin(), sealed_.end(),
                      [segment](const StageWriter& each) { return each.segment == segment; });
}

/// L2, L10.
void ChunkLog::GiveUp(StageWriter* writer) {
  const std::lock_guard stage(stage_mutex_);
  const auto take = [writer](StageWriter* from) {
    std::move(from->pending.begin(), from->pending.end(), std::back_inserter(writer->pending));
    *from = {};
  };
  // What came while the sync was waited for is in the same file, which may be full since.
  if (stage_.segment == writer->segment) take(&stage_);
  const auto sealed = SealedOf(writer->segment);
  if (sealed != sealed_.end()) {
    take(&*sealed);
    sealed_.erase(sealed);
  }
  const std::lock_guard lock(state_mutex_);
  writer->segment->open = false;
  for (Staged& staged : writer->pending) {
    const auto found = index_.find(staged.key);
    if (found != index_.end() && found->second.segment == writer->segment &&
        found->second.offset == staged.offset) {
      index_.erase(found);
    }
    again_.push_back(std::move(staged.chunk));
  }
  writer->pending.clear();
}

void ChunkLog::Publish(const StageWriter& writer) {
  const std::lock_guard lock(state_mutex_);
  ++counts_.syncs;
  writer.segment->synced = std::max(writer.segment->synced, writer.covered);
  for (const Staged& staged : writer.pending) {
    const auto found = index_.find(staged.key);
    if (found == index_.end()) continue;
    Entry& entry = found->second;
    if (entry.segment != writer.segment || entry.offset != staged.offset) continue;
    entry.durable = true;
    entry.staged = false;
    entry.named = std::max(entry.named, last_number_);
  }
}

/// As SyncActive() does it. Not where more has come: the next sync will.
void ChunkLog::MarkStage(const StageWriter& writer) {
  const std::lock_guard stage(stage_mutex_);
  const bool current = stage_.segment == writer.segment;
  const bool more = current ? !stage_.pending.empty() : SealedOf(writer.segment) != sealed_.end();
  if (more) return;
  const bool marked =
      !writer.torn && writer.file->Append({MarkOf(*writer.segment, writer.segment->synced)}).ok();
  if (current && !marked) stage_ = {};
  const std::lock_guard lock(state_mutex_);
  if (marked) writer.segment->bytes += kRecordHeadBytes;
  writer.segment->open = stage_.segment == writer.segment;
}

Status ChunkLog::SyncOne(StageWriter* writer) {
  if (Status synced = writer->file->Sync(); !synced.ok()) {
    options_.say("chunk log: " + std::string(synced.message()));
    GiveUp(writer);
    const std::lock_guard lock(state_mutex_);
    ++counts_.errors;
    return synced;
  }
  Publish(*writer);
  MarkStage(*writer);
  return Status::Ok();
}

Status ChunkLog::SyncStaged() {
  const uint64_t wanted = staged_.load(std::memory_order_acquire);
  if (synced_staged_.load(std::memory_order_acquire) >= wanted) return Status::Ok();
  const std::lock_guard sync(sync_mutex_);
  // Another thread's sync may have covered it.
  if (synced_staged_.load(std::memory_order_acquire) >= wanted) return Status::Ok();
  uint64_t goal = 0;
  std::vector<StageWriter> batch;
  {
    const std::lock_guard stage(stage_mutex_);
    while (!again_.empty()) {
      // A save may have written it.
      if (Compare(*again_.back(), /*staged=*/true) != Look::kSame) {
        CAIRN_RETURN_IF_ERROR(StageOne(again_.back()));
      }
      again_.pop_back();
    }
    batch = std::exchange(sealed_, {});
    if (!stage_.pending.empty()) {
      StageWriter& current = batch.emplace_back();
      current.segment = stage_.segment;
      current.file = stage_.file;
      current.pending = std::exchange(stage_.pending, {});
    }
    const std::lock_guard lock(state_mutex_);
    for (StageWriter& writer : batch) writer.covered = writer.segment->bytes;
    goal = staged_.load(std::memory_order_acquire);
  }
  Status status;
  for (StageWriter& writer : batch) {
    const Status synced = SyncOne(&writer);
    if (status.ok()) status = synced;
  }
  if (status.ok()) synced_staged_.store(goal, std::memory_order_release);
  return status;
}

void ChunkLog::CloseStageIfIdle() {
  const std::lock_guard write(write_mutex_);
  {
    std::unique_lock state(state_mutex_);
    CountNeeded(state, Floor());
  }
  // What comes since is not counted: it gets a segment of its own too early, and nothing else.
  const std::lock_guard stage(stage_mutex_);
  if (stage_.segment == nullptr || !stage_.pending.empty()) return;
  bool close = false;
  {
    const std::lock_guard lock(state_mutex_);
    close = LittleIsNeeded(*stage_.segment);
  }
  if (close) SealStage(/*torn=*/false);
}

void ChunkLog::ForgetStage(Segment* segment) {
  const std::lock_guard sync(sync_mutex_);
  StageWriter gone;
  gone.segment = segment;
  {
    const std::lock_guard stage(stage_mutex_);
    if (stage_.segment != segment && SealedOf(segment) == sealed_.end()) return;
  }
  GiveUp(&gone);
  // So that the next SyncStaged() looks.
  staged_.fetch_add(1, std::memory_order_release);
}

}  // namespace cairn::tensor

// What of a chunk log no file may name any more, and how it goes (L4 to L6).

#include <algorithm>

#include "server/base/hash.h"
#include "server/base/mapped_bytes.h"
#include "tensor_module/chunk_log.h"

namespace cairn::tensor {

void ChunkLog::OnSaved(const std::string& file, uint64_t number) {
  const std::lock_guard lock(state_mutex_);
  last_number_ = std::max(last_number_, number);
  if (file.empty()) {
    running_.erase(number);
    collect_wanted_ = true;
    wake_.notify_all();
    return;
  }
  file_number_[file] = number;
  last_done_ = std::max(last_done_, number);
}

uint64_t ChunkLog::Floor(std::string* held_by) const {
  if (pinned_) return 0;
  uint64_t floor = last_done_;
  if (!running_.empty()) floor = std::min(floor, *running_.begin());
  for (const std::string& file : named_) {
    const auto found = file_number_.find(file);
    uint64_t number = found == file_number_.end() ? 0 : found->second;
    if (number >= floor) continue;
    if (!files_->MayExist(file)) {
      // An append-only file that was turned on: its increments count before it is there.
      const auto begun = increments_from_.find(file);
      if (begun == increments_from_.end()) continue;
      number = std::max(number, begun->second);
      if (number >= floor) continue;
    }
    floor = number;
    if (held_by != nullptr) *held_by = file;
  }
  return floor;
}

std::map<ChunkLog::Segment*, uint64_t> ChunkLog::NeededBytes(uint64_t floor) const {
  std::map<Segment*, uint64_t> needed;
  for (const auto& segment : segments_) needed[segment.get()] = 0;
  for (const auto& [key, entry] : index_) {
    if (entry.named >= floor) needed[entry.segment] += key.size + kRecordHeadBytes;
  }
  return needed;
}

Status ChunkLog::Move(Segment* segment, uint64_t floor, bool* damaged) {
  std::vector<std::pair<uint64_t, Key>> moving;
  {
    const std::lock_guard lock(state_mutex_);
    for (const auto& [key, entry] : index_) {
      if (entry.segment == segment && entry.named >= floor) moving.emplace_back(entry.offset, key);
    }
  }
  std::sort(moving.begin(), moving.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [offset, key] : moving) {
    const Found found = Find(key.hash, static_cast<size_t>(key.size));
    if (!found.mapping || !CanReadAs(found.bytes, key.hash)) {
      *damaged = true;
      continue;
    }
    CAIRN_RETURN_IF_ERROR(
        Append(key, found.record.dtype, found.record.figures, found.bytes, nullptr));
  }
  return SyncActive();
}

// True: there may be more to do.
bool ChunkLog::CollectOne() {
  const std::lock_guard write(write_mutex_);
  Segment* worst = nullptr;
  uint64_t worst_needed = 0, floor = 0;
  {
    const std::lock_guard lock(state_mutex_);
    // As long as write_mutex_ is held nobody names anything, and the floor does not fall.
    floor = Floor();
    if (!opened_ || !locked_ || stop_ || floor == 0) return false;
    for (const auto& [segment, needed] : NeededBytes(floor)) {
      if (segment->open || segment->damaged) continue;
      if (needed * 100 >= segment->bytes * static_cast<uint64_t>(options_.needed_percent)) continue;
      if (worst != nullptr && needed >= worst_needed) continue;
      worst = segment;
      worst_needed = needed;
    }
  }
  if (worst == nullptr) return false;
  bool damaged = false;
  if (worst_needed > 0) {
    const Status moved = Move(worst, floor, &damaged);
    if (!moved.ok()) {
      options_.say("chunk log: " + worst->name +
                   " is not rewritten: " + std::string(moved.message()));
      CloseActive();
      return false;
    }
  }
  const std::string name = worst->name;
  {
    const std::lock_guard lock(state_mutex_);
    if (damaged) {
      worst->damaged = true;
      options_.say("chunk log: " + name + " is damaged and stays");
      return true;
    }
    // An increment may have named one meanwhile (L9): then once more.
    const bool needed = std::any_of(index_.begin(), index_.end(), [&](const auto& item) {
      return item.second.segment == worst && item.second.named >= floor;
    });
    if (needed) return true;
    // Nothing in it is needed any more (L5).
    std::erase_if(index_, [&](const auto& item) { return item.second.segment == worst; });
    std::erase_if(segments_, [&](const auto& segment) { return segment.get() == worst; });
    ++counts_.removed_segments;
  }
  // Not under state_mutex_, which the executor takes: it may take the file system a while.
  if (Status removed = files_->Remove(name);
      !removed.ok() && removed.code() != StatusCode::kNotFound) {
    options_.say("chunk log: " + std::string(removed.message()));
  }
  return true;
}

void ChunkLog::Collect() {
  {
    // The next save begins a segment of its own when little of the active one is needed.
    const std::lock_guard write(write_mutex_);
    bool close = false;
    {
      const std::lock_guard lock(state_mutex_);
      if (active_ != nullptr) {
        const uint64_t needed = NeededBytes(Floor())[active_];
        close = needed * 100 < active_->bytes * static_cast<uint64_t>(options_.needed_percent);
      }
    }
    if (close) CloseActive();
  }
  CloseStageIfIdle();
  while (CollectOne()) {
  }
}

void ChunkLog::StartThread() {
  thread_ = std::thread([this] { Run(); });
}

void ChunkLog::Run() {
  std::unique_lock lock(state_mutex_);
  while (true) {
    wake_.wait(lock, [this] { return collect_wanted_ || stop_; });
    if (stop_) return;
    collect_wanted_ = false;
    lock.unlock();
    Collect();
    lock.lock();
  }
}

}  // namespace cairn::tensor

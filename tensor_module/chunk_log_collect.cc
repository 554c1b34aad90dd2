// What of a chunk log no file may name any more, and how it goes (L4 to L6).

#include <algorithm>
#include <chrono>

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

/// Asleep for a moment: who merely unlocks has the lock again before those who wait are awake.
void ChunkLog::LetOthersIn(std::unique_lock<std::mutex>& state) const {
  constexpr auto kMoment = std::chrono::microseconds(50);
  state.unlock();
  std::this_thread::sleep_for(kMoment);
  state.lock();
}

template <typename Begin, typename Visit>
void ChunkLog::LookThrough(std::unique_lock<std::mutex>& state, Begin begin, Visit visit) const {
  size_t buckets = 0;
  do {
    begin();
    buckets = index_.bucket_count();
    for (size_t i = 0; i < buckets && buckets == index_.bucket_count();) {
      for (auto item = index_.begin(i); item != index_.end(i); ++item) visit(*item);
      if (++i % options_.records_at_a_time == 0) LetOthersIn(state);
    }
  } while (buckets != index_.bucket_count());
}

void ChunkLog::CountNeeded(std::unique_lock<std::mutex>& state, uint64_t floor) {
  const auto begin = [this] {
    for (const auto& segment : segments_) segment->needed = 0;
  };
  LookThrough(state, begin, [floor](const auto& item) {
    const auto& [key, entry] = item;
    if (entry.named >= floor) entry.segment->needed += key.size + kRecordHeadBytes;
  });
}

ChunkLog::Records ChunkLog::RecordsOf(std::unique_lock<std::mutex>& state,
                                      const Segment* segment) const {
  Records records;
  LookThrough(
      state, [&] { records.clear(); },
      [&](const auto& item) {
        const auto& [key, entry] = item;
        if (entry.segment == segment) records.emplace_back(entry.offset, key);
      });
  std::sort(records.begin(), records.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return records;
}

bool ChunkLog::Forget(std::unique_lock<std::mutex>& state, const Segment* segment,
                      const Records& records, uint64_t floor) {
  size_t looked_at = 0;
  for (const auto& [offset, key] : records) {
    if (++looked_at % options_.records_at_a_time == 0) LetOthersIn(state);
    const auto found = index_.find(key);
    if (found == index_.end() || found->second.segment != segment) continue;
    if (found->second.named >= floor) return false;
    index_.erase(found);
  }
  return true;
}

Status ChunkLog::Move(const Segment* segment, const Records& records, uint64_t floor,
                      bool* damaged) {
  for (const auto& [offset, key] : records) {
    {
      const std::lock_guard lock(state_mutex_);
      const auto at = index_.find(key);
      if (at == index_.end() || at->second.segment != segment || at->second.named < floor) continue;
    }
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
bool ChunkLog::CollectOne(bool rewrites) {
  const std::lock_guard write(write_mutex_);
  std::unique_lock state(state_mutex_);
  // As long as write_mutex_ is held no save names anything, and the floor does not fall.
  const uint64_t floor = Floor();
  if (!opened_ || !locked_ || stop_ || floor == 0) return false;
  CountNeeded(state, floor);
  Segment* worst = nullptr;
  for (const auto& segment : segments_) {
    if (segment->open || segment->damaged || !LittleIsNeeded(*segment)) continue;
    if (worst == nullptr || segment->needed < worst->needed) worst = segment.get();
  }
  if (worst == nullptr || (worst->needed > 0 && !rewrites)) return false;
  const Records records = RecordsOf(state, worst);
  const std::string name = worst->name;
  if (worst->needed > 0) {
    const uint64_t needed = worst->needed;
    state.unlock();
    bool damaged = false;
    // All others need more.
    Status moved = HasRoomFor(needed);
    if (moved.ok()) moved = Move(worst, records, floor, &damaged);
    if (!moved.ok()) {
      options_.say("chunk log: " + name + " is not rewritten: " + std::string(moved.message()));
      CloseActive();
      return false;
    }
    state.lock();
    if (damaged) {
      worst->damaged = true;
      options_.say("chunk log: " + name + " is damaged and stays");
      return true;
    }
  }
  // An increment may have named one meanwhile (L9): then once more.
  if (!Forget(state, worst, records, floor)) return true;
  // Nothing in it is needed any more (L5).
  std::erase_if(segments_, [&](const auto& segment) { return segment.get() == worst; });
  ++counts_.removed_segments;
  state.unlock();
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
      std::unique_lock state(state_mutex_);
      if (active_ != nullptr) {
        CountNeeded(state, Floor());
        close = LittleIsNeeded(*active_);
      }
    }
    if (close) CloseActive();
  }
  CloseStageIfIdle();
  while (CollectOne(/*rewrites=*/true)) {
  }
  // What a rewrite that failed has copied is needed by nobody.
  while (CollectOne(/*rewrites=*/false)) {
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
    collecting_ = true;
    lock.unlock();
    Collect();
    lock.lock();
    collecting_ = false;
  }
}

}  // namespace cairn::tensor

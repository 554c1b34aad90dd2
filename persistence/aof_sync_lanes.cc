// The threads that sync for AofWriter. A sync holds no lock while it waits for the disk; whatever
// replaces or shortens the file waits for all of them first (NeedsQuietLanes).

#include <algorithm>

#include "persistence/aof_writer.h"
#include "server/platform/env.h"

namespace cairn {

/// True when the step ahead may rotate, repair or close the file.
bool AofWriter::NeedsQuietLanes(bool final) const {
  return syncs_in_flight_ > 0 && (final || waiting_cuts_ > 0 || state() != AofState::kOk ||
                                  file_suspect_ || (step_checksum_ && !covered_));
}

/// A descriptor per lane for the open file. Without them the log thread syncs by itself.
void AofWriter::OpenLaneFiles() {
  lane_files_.clear();
  if (lanes_.empty()) return;
  const std::string path = location_.PathOf(manifest_.increments().back().name);
  for (size_t i = 0; i < kSyncLanes; ++i) {
    Result<std::unique_ptr<WritableFile>> file = env_.OpenAppend(path);
    if (!file.ok()) {
      lane_files_.clear();
      return;
    }
    lane_files_.push_back(std::move(*file));
  }
}

void AofWriter::StartLanes() {
  std::lock_guard<std::mutex> io(io_mutex_);
  for (size_t i = 0; i < kSyncLanes; ++i) lanes_.emplace_back([this, i] { LaneMain(i); });
  OpenLaneFiles();
}

void AofWriter::StopLanes() {
  {
    std::lock_guard<std::mutex> io(io_mutex_);
    lanes_stop_ = true;
  }
  lane_wake_.notify_all();
  for (std::thread& lane : lanes_) lane.join();
  lanes_.clear();
  lane_files_.clear();
}

void AofWriter::LaneMain(size_t lane) {
  std::unique_lock<std::mutex> io(io_mutex_);
  while (true) {
    lane_wake_.wait(io, [this] { return lanes_stop_ || !lane_jobs_.empty(); });
    if (lane_jobs_.empty()) return;
    const SyncJob job = lane_jobs_.front();
    lane_jobs_.pop_front();
    WritableFile* file = lane_files_[lane].get();
    io.unlock();
    const Status status = file->Sync();
    io.lock();
    FinishSync(job, status);
  }
}

/// Requires: LanesUsable() and a lane that is free. A lane that starts its own next sync has no
/// need to be woken.
void AofWriter::StartSync(bool from_lane) {
  sync_started_size_ = group_end_;
  sync_started_offset_ = written_offset();
  lane_jobs_.push_back({sync_started_size_, sync_started_offset_});
  ++syncs_in_flight_;
  lanes_full_.store(syncs_in_flight_ >= kSyncLanes, std::memory_order_relaxed);
  if (!from_lane) lane_wake_.notify_one();
}

/// Under always, a lane that has done its sync writes what came meanwhile and syncs again: two
/// threads less to wake for each group. False: the log thread must look.
bool AofWriter::GoOnFromLane() {
  SampleSettings();
  TakeQueues();
  if (!endings_.empty()) return false;
  if (todo_.empty()) return group_end_ == sync_started_size_;
  if (step_policy_ != AofSyncPolicy::kAlways || state() != AofState::kOk || file_suspect_ ||
      waiting_cuts_ > 0 || (step_checksum_ && !covered_) || todo_.size() > kMaxGroupBuffers) {
    return false;
  }
  const int64_t now_us = env_.MonotonicMicros();
  if (Status status = WriteGroup(todo_.size()); !status.ok()) {
    Fail(status, "write", now_us);
    return false;
  }
  last_sync_us_ = now_us;
  UpdateSizes();
  StartSync(/*from_lane=*/true);
  return true;
}

void AofWriter::FinishSync(const SyncJob& job, const Status& status) {
  --syncs_in_flight_;
  if (!status.ok()) {
    const bool first = !file_suspect_;
    file_suspect_ = true;
    if (first && state() == AofState::kOk) Fail(status, "sync", env_.MonotonicMicros());
  } else if (!file_suspect_) {
    AfterSync(job.size, job.offset);
  }
  ReportProgress();
  // Before the look at the queue, so that Append wakes somebody for what comes after it.
  lanes_full_.store(false, std::memory_order_relaxed);
  const bool went_on = status.ok() && GoOnFromLane();
  if (syncs_in_flight_ == 0) lanes_idle_.notify_all();
  if (!went_on) Wake();
}

}  // namespace cairn

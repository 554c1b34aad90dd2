// The thread that syncs for AofWriter. It holds no lock while it waits for the disk; whatever
// replaces or shortens the file waits for it first (MustBeQuiet).

#include <algorithm>
#include <chrono>

#include "persistence/aof_writer.h"
#include "server/platform/env.h"
#include "server/platform/worker.h"

namespace cairn {
namespace {

/// The longest that a group waits to become larger.
constexpr int64_t kMaxGatherUs = 1000;
/// Under everysec and no: a sync that takes longer than this and what its bytes are worth at 100
/// MB/s together speaks of a disk that may keep a write waiting too.
constexpr int64_t kSlowSyncUs = 50'000;
constexpr uint64_t kSlowBytesPerUs = 100;

}  // namespace

/// True when the step ahead may rotate, repair or close the file.
bool AofWriter::MustBeQuiet(bool final) const {
  return sync_in_flight_ && (final || waiting_cuts_ > 0 || state() != AofState::kOk ||
                             file_suspect_ || (step_checksum_ && !covered_));
}

/// A descriptor of its own for the open file. Without it the log thread syncs by itself.
void AofWriter::OpenSyncFile() {
  sync_file_.reset();
  if (!sync_thread_.joinable()) return;
  const std::string path = location_.PathOf(manifest_.increments().back().name);
  if (auto file = env_.OpenAppend(path); file.ok()) sync_file_ = std::move(*file);
}

void AofWriter::StartSyncThread() {
  std::lock_guard<std::mutex> io(io_mutex_);
  sync_thread_ = std::thread([this] {
    AskForShortSlices();
    SyncThreadMain();
  });
  OpenSyncFile();
}

void AofWriter::StopSyncThread() {
  {
    std::lock_guard<std::mutex> io(io_mutex_);
    sync_stop_ = true;
  }
  sync_wake_.notify_all();
  sync_thread_.join();
  sync_thread_ = {};
  sync_file_.reset();
}

void AofWriter::SyncThreadMain() {
  std::unique_lock<std::mutex> io(io_mutex_);
  while (true) {
    sync_wake_.wait(io, [this] { return sync_stop_ || sync_job_.has_value(); });
    if (!sync_job_) return;
    const SyncJob job = *sync_job_;
    sync_job_.reset();
    WritableFile* file = sync_file_.get();
    io.unlock();
    const int64_t began_us = env_.MonotonicMicros();
    const Status status = file->Sync();
    const int64_t ended_us = env_.MonotonicMicros(), took_us = ended_us - began_us;
    io.lock();
    const uint64_t group_bytes = job.size - std::min(job.size, synced_size_);
    const int64_t slow_us = kSlowSyncUs + static_cast<int64_t>(group_bytes / kSlowBytesPerUs);
    if (took_us > slow_us && step_policy_ != AofSyncPolicy::kAlways) {
      NoteSlowDisk(ended_us, took_us);
    }
    FinishSync(job, status);
    if (status.ok()) Gather(io, group_bytes / 2, std::min(took_us, kMaxGatherUs));
    const bool went_on = sync_in_flight_ || (status.ok() && GoOn());
    if (!sync_in_flight_) sync_idle_.notify_all();
    if (!went_on) Wake();
  }
}

/// Requires: a sync thread, and no sync in flight.
void AofWriter::StartSync() {
  sync_started_size_ = group_end_;
  sync_started_offset_ = written_offset();
  sync_job_ = SyncJob{sync_started_size_, sync_started_offset_};
  sync_in_flight_ = true;
  sync_busy_.store(true, std::memory_order_relaxed);
  sync_wake_.notify_one();
}

/// Under always, after a sync: waits until half of what that one covered is there again, for those
/// who have just been answered ask again, and a sync for each of the first of them would keep the
/// rest waiting. No longer than a sync took; whoever is alone is half of the last group and more.
void AofWriter::Gather(std::unique_lock<std::mutex>& io, uint64_t goal_bytes, int64_t longest_us) {
  if (step_policy_ != AofSyncPolicy::kAlways || state() != AofState::kOk || sync_in_flight_) return;
  TakeQueues();
  if (waiting_cuts_ > 0 || !endings_.empty() || WaitingBytes() >= goal_bytes) return;
  gather_goal_bytes_ = goal_bytes;
  sync_wake_.wait_for(io, std::chrono::microseconds(longest_us),
                      [this] { return sync_stop_ || gather_goal_bytes_ == 0; });
  gather_goal_bytes_ = 0;
}

uint64_t AofWriter::WaitingBytes() const {
  uint64_t bytes = 0;
  for (const Item& item : todo_) {
    if (const Buffer* buffer = std::get_if<Buffer>(&item)) bytes += buffer->bytes.size();
  }
  return bytes;
}

/// Under always, the thread that has done its sync writes what came meanwhile and syncs again: two
/// threads less to wake for each group. False: the log thread must look.
bool AofWriter::GoOn() {
  SampleSettings();
  TakeQueues();
  if (!endings_.empty() || sync_stop_) return false;
  if (sync_file_ == nullptr) return false;  // there was a cut while it gathered
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
  StartSync();
  return true;
}

void AofWriter::FinishSync(const SyncJob& job, const Status& status) {
  sync_in_flight_ = false;
  if (!status.ok()) {
    file_suspect_ = true;
    if (state() == AofState::kOk) Fail(status, "sync", env_.MonotonicMicros());
  } else if (!file_suspect_) {
    AfterSync(job.size, job.offset);
  }
  ReportProgress();
  // Before the look at the queue, so that Append wakes somebody for what comes after it.
  sync_busy_.store(false, std::memory_order_relaxed);
}

}  // namespace cairn

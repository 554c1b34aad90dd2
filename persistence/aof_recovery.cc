// The error machine of AofWriter: OK -> DEGRADED -> OK or STOPPED (docs/aof.md, "Errors").

#include <algorithm>

#include "persistence/aof_writer.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

constexpr int64_t kFirstBackoffUs = 100'000;
constexpr int64_t kMaxBackoffUs = 5'000'000;
/// A disk that has refused to vouch for bytes for this long (and is not just full) is given up.
constexpr int64_t kGiveUpAfterUs = 60'000'000;

}  // namespace

void AofWriter::Fail(const Status& status, std::string_view what, int64_t now_us) {
  SetError(status);
  if (state() == AofState::kOk) {
    failing_since_us_ = now_us;
    backoff_us_ = kFirstBackoffUs;
    Log("Error on the append-only file (" + std::string(what) +
        "): " + std::string(status.message()) + ". Writes are refused until it is mended; " +
        std::to_string(appended_offset() - durable_offset()) + " bytes are kept in memory");
  } else {
    backoff_us_ = std::min(backoff_us_ * 2, kMaxBackoffUs);
  }
  retry_at_us_ = now_us + backoff_us_;
  if (status.code() == StatusCode::kNoSpace && reserve_present_) {
    ReleaseReserve();
    reserve_spent_ = true;
    retry_at_us_ = now_us;
  }
  const bool give_up = file_suspect_ && status.code() != StatusCode::kNoSpace &&
                       now_us - failing_since_us_ >= kGiveUpAfterUs;
  SetState(give_up ? AofState::kStopped : AofState::kDegraded);
}

/// One attempt to get back to kOk. False: still degraded, retry_at_us_ says when next.
bool AofWriter::Recover(int64_t now_us) {
  Status status;
  if (manifest_unknown_) status = Publish(manifest_);
  if (status.ok() && file_suspect_) {
    status = MoveRetainedToNewFile();
  } else if (status.ok()) {
    status = RepairFile();
    if (status.ok()) status = DrainRetained();
    // Room is not what this file lacks (it is as long as one may be, say): what it has is sound,
    // and the next may take the rest. Not behind one that took nothing yet, or a disk that fails
    // would get file after file.
    const bool refuses = repair_needed_ && status.code() != StatusCode::kNoSpace && group_end_ != 0;
    if (refuses) status = RepairFile();
    // Nor does one go on that a start could not leave for want of room.
    if (status.ok() && (refuses || (step_checksum_ && !covered_))) status = Rotate();
    if (status.ok() && refuses) status = DrainRetained();
  }
  if (status.ok() && reserve_spent_ && !CreateReserve()) {
    // The bytes are down, thanks to the reserve. Writes stay refused until there is room for it
    // again, which may be what a rewrite makes: its cut, which takes next to none, must not wait.
    if (!todo_.empty() && std::holds_alternative<Cut>(todo_.front())) (void)MakeCut(now_us);
    status = Status(StatusCode::kNoSpace,
                    "fallocate " + location_.ReservePath() + ": No space left on device");
  }
  if (!status.ok()) {
    Fail(status, "retry", now_us);
    return false;
  }
  reserve_spent_ = false;
  SetError(Status::Ok());
  Log("The append-only file is sound again");
  SetState(AofState::kOk);
  return true;
}

/// After a failed write: cuts off what reached the file of a group.
Status AofWriter::RepairFile() {
  if (!repair_needed_) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(file_->Truncate(group_end_));
  repair_needed_ = false;
  cut_unsynced_ = true;
  return Status::Ok();
}

/// Writes what waits, up to a cut, and syncs it: only then does the disk count as mended.
Status AofWriter::DrainRetained() {
  while (!todo_.empty() && std::holds_alternative<Buffer>(todo_.front())) {
    CAIRN_RETURN_IF_ERROR(WriteGroup(1));
    // Without checks a group that is lost in front of one that is not reads as damage.
    if (!step_checksum_) CAIRN_RETURN_IF_ERROR(SyncOrSuspect());
  }
  return SyncOrSuspect();
}

Status AofWriter::SyncOrSuspect() {
  Status synced = SyncFile();
  if (!synced.ok()) file_suspect_ = true;
  return synced;
}

/// Under policy never what was written is not kept: after a failed sync it is read back from the
/// file, for the pages that could not be written can still be read. What is read becomes the first
/// retained buffer; check lines in it are comments inside its new group.
Status AofWriter::ReadBack() {
  const uint64_t kept_from = unsynced_.empty() ? group_end_ : unsynced_.front().file_offset;
  if (kept_from <= synced_size_) return Status::Ok();
  const std::string path = location_.PathOf(manifest_.increments().back().name);
  Result<std::unique_ptr<RandomAccessFile>> file = env_.OpenRead(path);
  if (!file.ok()) return file.status();
  Buffer buffer;
  buffer.bytes.resize(kept_from - synced_size_);
  Result<size_t> read = (*file)->Read(synced_size_, buffer.bytes.size(), buffer.bytes.data());
  if (!read.ok()) return read.status();
  if (*read < buffer.bytes.size()) return Status::Io("read " + path + ": the file got shorter");
  buffer.held = HoldingOf(buffer.bytes);
  if (!database_marks_.empty() && database_marks_.front().first == synced_size_) {
    buffer.database_before = database_marks_.front().second;
  }
  buffer.file_offset = synced_size_;
  buffer.appended_us = env_.MonotonicMicros();
  buffer.end_offset = unsynced_.empty()
                          ? written_offset()
                          : unsynced_.front().end_offset - unsynced_.front().bytes.size();
  unsynced_.push_front(std::move(buffer));
  return Status::Ok();
}

/// After a failed sync: the kernel may have dropped the dirty pages and will say OK next time. What
/// it did not vouch for is written anew to the next INCR; the old file counts to where its last
/// good sync ended. The manifest that names both says so: no instant has the bytes twice or not at
/// all, and the old file loses nothing before a start that looks for them in the new one is
/// certain.
Status AofWriter::MoveRetainedToNewFile() {
  AofManifest next = manifest_;
  next.EndLastIncrementAt(synced_size_);
  const Result<AofFile> added = next.AddIncrement(location_.append_name);
  if (!added.ok()) return added.status();
  Result<std::unique_ptr<WritableFile>> opened = CreateIncrement(*added);
  if (!opened.ok()) return opened.status();

  // From here on every byte that no sync covered is in memory.
  CAIRN_RETURN_IF_ERROR(ReadBack());
  std::unique_ptr<WritableFile> old_file = std::move(file_);
  const uint64_t old_group_end = group_end_, old_synced = synced_size_;
  const bool old_covered = covered_;
  std::deque<Item> waiting = std::move(todo_);
  todo_.clear();
  const std::deque<Buffer> retained = unsynced_;
  for (Buffer& buffer : unsynced_) todo_.emplace_back(std::move(buffer));
  unsynced_.clear();
  file_ = std::move(*opened);
  group_end_ = synced_size_ = sync_started_size_ = 0;
  covered_ = padding_ = true;
  select_needed_ = true;
  last_timestamp_s_ = -1;

  Status status;
  while (status.ok() && !todo_.empty()) status = WriteGroup(1);
  if (status.ok()) status = file_->Sync();
  const uint64_t new_end = group_end_;
  if (status.ok()) status = env_.SyncDir(location_.directory);
  if (status.ok()) {
    status = Publish(next);
    // Either may be the one on disk (A8): the next attempt begins with a new file of that name.
    manifest_unknown_ = !status.ok();
  }
  todo_ = std::move(waiting);
  repair_needed_ = false;
  database_marks_.clear();
  if (!status.ok()) {
    file_ = std::move(old_file);
    group_end_ = old_group_end;
    synced_size_ = sync_started_size_ = old_synced;
    covered_ = old_covered;
    unsynced_ = retained;
    return status;
  }
  // For redis-server, which reads files to their ends. Here nothing depends on it.
  Status cut = old_file->Truncate(old_synced);
  if (cut.ok()) cut = old_file->Sync();
  if (!cut.ok()) {
    Log("Can't cut what was written anew off an append-only file: " + std::string(cut.message()));
  }
  file_suspect_ = cut_unsynced_ = false;
  group_end_ = new_end;
  OpenSyncFile();
  RecountOlderFiles();
  AfterSync(new_end, written_offset());
  return Status::Ok();
}

bool AofWriter::CreateReserve() {
  if (reserve_bytes_ == 0 || reserve_present_) return true;
  Result<std::unique_ptr<WritableFile>> file = env_.OpenTruncate(location_.ReservePath());
  if (!file.ok()) return false;
  Status reserved = (*file)->Preallocate(reserve_bytes_);
  if (reserved.ok()) {
    Result<uint64_t> left = env_.FreeSpace(location_.directory);
    if (left.ok() && *left == 0) reserved = Status(StatusCode::kNoSpace, "disk full");
  }
  reserve_present_ = reserved.ok();
  if (!reserve_present_) (void)env_.Remove(location_.ReservePath()).ok();
  return reserve_present_;
}

void AofWriter::ReleaseReserve() {
  if (!reserve_present_) return;
  reserve_present_ = false;
  if (Status status = env_.Remove(location_.ReservePath()); !status.ok()) Log(status.message());
}

}  // namespace cairn

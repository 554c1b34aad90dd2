// What the log thread of AofWriter does: groups, syncs, rotation, the end of a rewrite.
// aof_recovery.cc holds what it does after an error.

#include <algorithm>
#include <array>

#include "persistence/aof_reader.h"
#include "persistence/aof_writer.h"
#include "server/platform/env.h"
#include "server/platform/worker.h"

namespace cairn {
namespace {

/// Bytes of a group at most, unless one buffer alone is larger.
constexpr size_t kMaxGroupBytes = size_t{8} << 20;
/// A write that takes longer, and in which its thread waits, has waited for the disk. One that
/// others put off its core for as long has not: on a busy machine that is usual, and leaving the
/// writes to a second thread, which then waits for a core as well, is the wrong answer to it.
constexpr int64_t kSlowWriteUs = 1000;
/// Whatever kept a write for so long (memory that the kernel had to find, for instance), another
/// thread should wait for the next one.
constexpr int64_t kVerySlowWriteUs = 50'000;
/// After the disk was slow the executor leaves writing to the log thread for so many times what it
/// took, so that it waits for no more than a hundredth of its time. At most for this long.
constexpr int64_t kSlowPauseTimes = 100;
constexpr int64_t kSlowPauseUs = 5'000'000;
constexpr int64_t kSyncIntervalUs = 1'000'000;
constexpr int64_t kDelayedSyncUs = 2'000'000;

std::string SelectCommand(int64_t database) {
  const std::string number = std::to_string(database);
  return "*2\r\n$6\r\nSELECT\r\n$" + std::to_string(number.size()) + "\r\n" + number + "\r\n";
}

}  // namespace

/// Sampled once a step, so that a setting changed meanwhile never meets half of it.
void AofWriter::SampleSettings() {
  step_policy_ = policy_.load();
  step_checksum_ = checksum_.load();
}

int64_t AofWriter::Work(bool final) {
  std::unique_lock<std::mutex> io(io_mutex_);
  SampleSettings();
  TakeQueues();
  if (MustBeQuiet(final)) sync_idle_.wait(io, [this] { return !sync_in_flight_; });
  const int64_t wish_ms = WorkLocked(final);
  sync_scheduled_ = wish_ms >= 0;
  return wish_ms;
}

int64_t AofWriter::WorkLocked(bool final) {
  if (state() == AofState::kClosed) return -1;
  const int64_t now_us = env_.MonotonicMicros();
  if (state() == AofState::kStopped) {
    ProcessEndings();
    return -1;
  }
  // A rewrite that ends may be what frees a full disk: it does not wait for the bytes.
  ProcessEndings();
  if (state() == AofState::kDegraded) {
    if (now_us < retry_at_us_) return NextWish(now_us, final);
    const bool recovered = Recover(now_us);
    ReportProgress();
    if (!recovered) return NextWish(now_us, final);
  }
  // Under always, what comes during a sync, or while a group gathers, waits for the sync thread.
  const bool sync_free = !sync_in_flight_;
  if (step_policy_ == AofSyncPolicy::kAlways && waiting_cuts_ == 0 &&
      (!sync_free || gather_goal_bytes_ != 0)) {
    return -1;
  }
  const bool all_written = ProcessItems(now_us);
  // Replies that wait for the kernel only must not wait for the sync as well.
  if (step_policy_ != AofSyncPolicy::kAlways) ReportProgress();
  if (all_written && sync_free && SyncIsDue(now_us, final)) {
    last_sync_us_ = now_us;
    if (sync_file_ != nullptr) {
      StartSync();
    } else if (Status status = SyncFile(); !status.ok()) {
      file_suspect_ = true;
      Fail(status, "sync", now_us);
    }
  }
  ProcessEndings();
  if (!keep_history_.load() && !manifest_.history().empty() && !history_kept_by_error_) {
    DeleteHistory();
  }
  UpdateSizes();
  ReportProgress();
  return NextWish(now_us, final);
}

void AofWriter::ReportProgress() {
  const uint64_t written = written_offset(), durable = durable_offset();
  const bool news = written != reported_written_ || durable != reported_durable_;
  reported_written_ = written;
  reported_durable_ = durable;
  if (news && callbacks_.on_progress) callbacks_.on_progress();
}

int64_t AofWriter::NextWish(int64_t now_us, bool final) const {
  const auto until = [now_us](int64_t at_us) {
    return at_us <= now_us ? int64_t{0} : (at_us - now_us + 999) / 1000;
  };
  if (final || state() == AofState::kStopped) return -1;
  if (state() == AofState::kDegraded) return std::max<int64_t>(1, until(retry_at_us_));
  if (policy_.load() == AofSyncPolicy::kEverySecond && group_end_ > sync_started_size_) {
    return until(last_sync_us_ + kSyncIntervalUs);
  }
  return -1;
}

void AofWriter::TakeQueues() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Item& item : queue_) {
    if (std::holds_alternative<Cut>(item)) ++waiting_cuts_;
    todo_.push_back(std::move(item));
  }
  queue_.clear();
  for (Ending& ending : ending_queue_) endings_.push_back(std::move(ending));
  ending_queue_.clear();
}

bool AofWriter::ProcessItems(int64_t now_us) {
  while (!todo_.empty()) {
    if (std::holds_alternative<Cut>(todo_.front())) {
      if (!MakeCut(now_us)) return false;
      continue;
    }
    size_t count = 0;
    size_t bytes = 0;
    while (count < todo_.size() && count < kMaxGroupBuffers && bytes < kMaxGroupBytes) {
      const Buffer* buffer = std::get_if<Buffer>(&todo_[count]);
      if (buffer == nullptr) break;
      bytes += buffer->bytes.size();
      ++count;
    }
    if (Status status = WriteGroup(count); !status.ok()) {
      Fail(status, "write", now_us);
      // Freeing the reserve may be all it takes to get these bytes down.
      if (!reserve_spent_ || sync_in_flight_ || !Recover(now_us)) return false;
    }
  }
  return true;
}

/// For a cut that is the next item. One that cannot be made is left out, and its rewrite fails.
/// False: it waits for the recovery.
bool AofWriter::MakeCut(int64_t now_us) {
  Status cut = Rotate();
  if (manifest_unknown_ && state() == AofState::kOk) Fail(cut, "manifest", now_us);
  if (manifest_unknown_ || file_suspect_) return false;
  if (!cut.ok())
    Log("Can't open the next append-only file for a rewrite: " + std::string(cut.message()));
  cut_sequence_ = cut.ok() ? manifest_.increment_sequence() : 0;
  cut_error_ = std::move(cut);
  todo_.pop_front();
  --waiting_cuts_;
  {
    // Under the lock, as for every news that WaitDurable waits for.
    std::lock_guard<std::mutex> lock(mutex_);
    ++cuts_made_;
  }
  progress_.notify_all();
  return true;
}

Status AofWriter::WriteGroup(size_t count, bool named) {
  if (!named && callbacks_.sync_named) CAIRN_RETURN_IF_ERROR(callbacks_.sync_named());
  if (step_checksum_ && !covered_) {
    // Checks were off in this file: they can only tile a file from its start.
    if (Status status = Rotate(); !status.ok()) return status;
  }
  std::vector<std::string_view> pieces;
  std::string intro;
  const Buffer& first = std::get<Buffer>(todo_.front());
  if (timestamps_.load()) {
    const int64_t now_s = env_.WallMicros() / 1'000'000;
    if (now_s != last_timestamp_s_) intro = "#TS:" + std::to_string(now_s) + "\r\n";
    last_timestamp_s_ = now_s;
  }
  if (select_needed_ && first.database_before >= 0) intro += SelectCommand(first.database_before);
  pieces.push_back({});
  if (!intro.empty()) pieces.push_back(intro);
  for (size_t i = 0; i < count; ++i) pieces.push_back(std::get<Buffer>(todo_[i]).bytes);
  std::string line;
  if (step_checksum_) {
    line = FormatAofCheckLine(group_end_, synced_size_, {pieces.data() + 1, pieces.size() - 1});
  }
  pieces[0] = line;
  uint64_t group_bytes = 0;
  for (const std::string_view piece : pieces) group_bytes += piece.size();
  PadFor(group_bytes);
  const size_t skipped = step_checksum_ ? 0 : 1;
  const uint64_t waits_before = ThreadWaits();
  const int64_t began_us = env_.MonotonicMicros();
  Status written = file_->Appendv({pieces.data() + skipped, pieces.size() - skipped});
  const int64_t ended_us = env_.MonotonicMicros();
  const int64_t took_us = ended_us - began_us;
  last_write_slow_ =
      took_us > kVerySlowWriteUs || (took_us > kSlowWriteUs && ThreadWaits() != waits_before);
  // One beside a sync may wait for the journal: that says nothing of the next one, and the executor
  // leaves those to others anyway. Not for so long, though: the sync may have been over long since,
  // and its thread have waited for this one.
  if (took_us > kVerySlowWriteUs || (last_write_slow_ && !sync_in_flight_)) {
    NoteSlowDisk(ended_us, took_us);
  }
  if (!written.ok()) {
    repair_needed_ = true;
    last_timestamp_s_ = -1;
    return written;
  }
  covered_ = covered_ && step_checksum_;
  if (group_end_ == sync_started_size_) {
    database_marks_.emplace_back(group_end_, select_needed_ ? -1 : first.database_before);
  }
  select_needed_ = false;
  for (size_t i = 0; i < count; ++i) {
    Buffer& buffer = std::get<Buffer>(todo_.front());
    buffer.file_offset = group_end_;
    written_offset_.store(std::max(written_offset(), buffer.end_offset), std::memory_order_release);
    if (step_policy_ != AofSyncPolicy::kNever) unsynced_.push_back(std::move(buffer));
    todo_.pop_front();
  }
  group_end_ = file_->size();
  if (step_policy_ == AofSyncPolicy::kNever) {
    unsynced_.clear();
    UpdateOldest();
  }
  return Status::Ok();
}

/// Keeps the file longer than the group that comes. Not without checks: a group that is lost in
/// front of one that is not then leaves a hole, and only a check tells it from damage.
void AofWriter::PadFor(uint64_t group_bytes) {
  const uint64_t end = file_->size() + group_bytes;
  if (!padding_ || step_policy_ != AofSyncPolicy::kAlways || !step_checksum_) return;
  if (end <= file_->padded_size() || group_bytes > pad_bytes_) return;
  if (Status padded = file_->Pad(end + pad_bytes_, kAofPadding); padded.ok()) return;
  padding_ = false;  // the disk may be full: the bytes that count come first
  TrimPadding();
}

/// What cannot be taken away stays: a reader passes over it.
void AofWriter::TrimPadding() {
  if (file_->padded_size() > file_->size()) (void)file_->Truncate(file_->size()).ok();
}

bool AofWriter::SyncIsDue(int64_t now_us, bool final) const {
  const bool begun = group_end_ == sync_started_size_ && sync_started_offset_ == written_offset();
  if (begun && (sync_in_flight_ || durable_offset() == written_offset())) return false;
  if (final || force_sync_offset_.load() > durable_offset()) return true;
  switch (step_policy_) {
    case AofSyncPolicy::kAlways:
      return true;
    case AofSyncPolicy::kEverySecond:
      return now_us - last_sync_us_ >= kSyncIntervalUs || MuchIsUnsynced();
    case AofSyncPolicy::kNever:
      return false;
  }
  return false;
}

/// A sync now, before its second is over: what waits for one stays in memory (A2), and memory that
/// comes round again costs less than fresh pages. And half of what may wait at most, so that the
/// limit is not reached unless the disk is too slow.
bool AofWriter::MuchIsUnsynced() const {
  return written_offset() - durable_offset() >
         std::min(kMaxUnsyncedBytes, buffer_limit_bytes_.load() / 2);
}

/// A write that waits for the disk is often the next one after a sync that was slow.
void AofWriter::NoteSlowDisk(int64_t now_us, int64_t took_us) {
  const int64_t until_us = now_us + std::min(kSlowPauseTimes * took_us, kSlowPauseUs);
  slow_until_us_ = std::max(slow_until_us_, until_us);
}

Status AofWriter::SyncFile() {
  CAIRN_CHECK(!sync_in_flight_);
  CAIRN_RETURN_IF_ERROR(file_->Sync());
  cut_unsynced_ = false;
  AfterSync(group_end_, written_offset());
  return Status::Ok();
}

void AofWriter::AfterSync(uint64_t synced_size, uint64_t durable_offset) {
  synced_size_ = std::max(synced_size_, synced_size);
  sync_started_size_ = std::max(sync_started_size_, synced_size);
  sync_started_offset_ = std::max(sync_started_offset_, durable_offset);
  const int64_t oldest_us = oldest_unsynced_us_.load();
  if (policy_.load() == AofSyncPolicy::kEverySecond && oldest_us >= 0 &&
      env_.MonotonicMicros() - oldest_us > kDelayedSyncUs) {
    delayed_syncs_.fetch_add(1, std::memory_order_relaxed);
  }
  while (!unsynced_.empty() && unsynced_.front().end_offset <= durable_offset) {
    unsynced_.pop_front();
  }
  while (!database_marks_.empty() && database_marks_.front().first < synced_size_) {
    database_marks_.pop_front();
  }
  PublishDurable(durable_offset);
}

void AofWriter::PublishDurable(uint64_t offset) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    durable_offset_.store(std::max(offset, durable_offset()), std::memory_order_seq_cst);
  }
  UpdateOldest();
  progress_.notify_all();
}

void AofWriter::UpdateOldest() {
  int64_t oldest_us = -1;
  if (!unsynced_.empty()) oldest_us = unsynced_.front().appended_us;
  const auto look = [&oldest_us](const auto& items) {
    for (const Item& item : items) {
      if (oldest_us >= 0) return;
      if (const Buffer* buffer = std::get_if<Buffer>(&item)) oldest_us = buffer->appended_us;
    }
  };
  std::lock_guard<std::mutex> lock(mutex_);
  look(todo_);
  look(queue_);
  oldest_unsynced_us_.store(oldest_us, std::memory_order_relaxed);
}

Status AofWriter::Publish(const AofManifest& manifest) {
  if (protecting_.load()) {
    CAIRN_RETURN_IF_ERROR(PersistAofManifest(env_, location_, manifest));
    manifest_stale_ = manifest_unknown_ = false;
  }
  manifest_ = manifest;
  std::lock_guard<std::mutex> lock(mutex_);
  published_manifest_ = manifest_;
  return Status::Ok();
}

/// Creates the file of an INCR that no manifest names yet. One of that name may be left of a
/// process that ended: it goes, for when emptying it fails half way its old bytes may come back.
Result<std::unique_ptr<WritableFile>> AofWriter::CreateIncrement(const AofFile& file) {
  const std::string path = location_.PathOf(file.name);
  CAIRN_RETURN_IF_ERROR(env_.RemoveIfThere(path));
  return env_.OpenTruncate(path);
}

/// Opens the INCR behind the last one and publishes it. A file whose publication failed stays where
/// it is, empty: the manifest on disk may name it all the same. Ahead of the first rewrite none
/// does, and the end of that makes all names durable at once.
Status AofWriter::OpenNext() {
  AofManifest next = manifest_;
  const Result<AofFile> added = next.AddIncrement(location_.append_name);
  if (!added.ok()) return added.status();
  Result<std::unique_ptr<WritableFile>> file = CreateIncrement(*added);
  if (!file.ok()) return file.status();
  if (protecting_.load()) {
    CAIRN_RETURN_IF_ERROR((*file)->Sync());
    CAIRN_RETURN_IF_ERROR(env_.SyncDir(location_.directory));
  }
  if (Status status = Publish(next); !status.ok()) {
    // Either manifest may be the one on disk. A crash while the old file is written to could leave
    // a torn end in a file that is not the last: the old manifest is written anew first (A8).
    manifest_unknown_ = true;
    return status;
  }
  UseNewFile(std::move(*file));
  return Status::Ok();
}

void AofWriter::UseNewFile(std::unique_ptr<WritableFile> file) {
  file_ = std::move(file);
  group_end_ = synced_size_ = sync_started_size_ = file_->size();
  OpenSyncFile();
  database_marks_.clear();
  covered_ = padding_ = true;
  cut_unsynced_ = false;
  select_needed_ = true;
  last_timestamp_s_ = -1;
  RecountOlderFiles();
}

Status AofWriter::Rotate() {
  if (group_end_ > synced_size_ || durable_offset() < written_offset() || cut_unsynced_) {
    if (Status status = SyncFile(); !status.ok()) {
      file_suspect_ = true;
      Fail(status, "sync", env_.MonotonicMicros());
      return status;
    }
  }
  TrimPadding();
  return OpenNext();
}

void AofWriter::ProcessEndings() {
  while (!endings_.empty() && (waiting_cuts_ == 0 || state() == AofState::kStopped)) {
    Ending ending = std::move(endings_.front());
    endings_.pop_front();
    const bool publish = !ending.base_temp_path.empty();
    Status outcome;
    if (publish) outcome = FinishOnLogThread(ending);
    // One that was given up may be looked at only when the next one's cut is made.
    if (ending.cut == cuts_made_.load()) cut_sequence_ = 0;
    if (publish && ending.done) ending.done(outcome);
  }
}

Status AofWriter::FinishOnLogThread(const Ending& ending) {
  const auto give_up = [&](Status status) {
    if (Status removed = env_.Remove(ending.base_temp_path); !removed.ok()) Log(removed.message());
    return status;
  };
  if (state() == AofState::kStopped) return give_up(last_error());
  if (cut_sequence_ == 0) {
    return give_up(
        Status::Io("the rewrite's cut could not be made: " + std::string(cut_error_.message())));
  }
  AofManifest next = manifest_;
  const Result<AofFile> base = next.ReplaceBase(location_.append_name, ending.is_rdb);
  if (!base.ok()) return give_up(base.status());
  next.RetireIncrementsBelow(cut_sequence_);
  const std::string base_path = location_.PathOf(base->name);
  if (Status status = env_.Rename(ending.base_temp_path, base_path); !status.ok())
    return give_up(status);
  // The first manifest needs the directory itself as well.
  Status published =
      protecting_.load() ? env_.SyncDir(location_.directory) : CreateAofDirectory(env_, location_);
  // From here the manifest is the one that counts on disk, also for the first one after append-only
  // was turned on, whose INCRs must hold what durable_offset promised.
  if (published.ok()) published = PersistAofManifest(env_, location_, next);
  if (!published.ok()) {
    // Either manifest may be the one on disk. Both are whole as long as this name is never used
    // again and nothing is deleted before some manifest is known to be there.
    manifest_.SkipBaseSequence();
    manifest_.AddHistory(*base);
    manifest_stale_ = true;
    return published;
  }
  protecting_ = true;
  retry_at_us_ = 0;  // the room that it makes may be what a recovery waits for
  manifest_ = std::move(next);
  manifest_stale_ = manifest_unknown_ = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    published_manifest_ = manifest_;
  }
  history_kept_by_error_ = false;
  if (!keep_history_.load()) DeleteHistory();
  RecountOlderFiles();
  UpdateSizes();
  base_size_ = current_size();
  return Status::Ok();
}

/// Removes superseded files. After an error the rest waits for the next rewrite or start.
void AofWriter::DeleteHistory() {
  if (manifest_.history().empty() || !protecting_.load()) return;
  history_kept_by_error_ = true;
  // The manifest in force must be on disk before anything it does not need goes away.
  if (manifest_stale_) {
    if (Status status = Publish(manifest_); !status.ok()) {
      Log("Can't write the append-only manifest: " + std::string(status.message()));
      return;
    }
  }
  for (const AofFile& file : manifest_.history()) {
    if (Status removed = env_.RemoveIfThere(location_.PathOf(file.name)); !removed.ok()) {
      Log("Can't remove a history file: " + std::string(removed.message()));
      return;
    }
  }
  AofManifest next = manifest_;
  next.ClearHistory();
  if (Status status = Publish(next); !status.ok()) {
    Log("Can't write the append-only manifest: " + std::string(status.message()));
    return;
  }
  history_kept_by_error_ = false;
}

void AofWriter::RecountOlderFiles() {
  older_files_bytes_ = 0;
  base_file_bytes_ = 0;
  const auto add = [this](const AofFile& file) {
    Result<uint64_t> size = env_.FileSize(location_.PathOf(file.name));
    if (size.ok()) older_files_bytes_ += *size;
  };
  if (manifest_.base()) add(*manifest_.base());
  base_file_bytes_ = older_files_bytes_;
  const std::vector<AofFile>& increments = manifest_.increments();
  for (size_t i = 0; i + 1 < increments.size(); ++i) add(increments[i]);
}

void AofWriter::UpdateSizes() {
  current_size_.store(older_files_bytes_ + group_end_, std::memory_order_relaxed);
}

void AofWriter::SetState(AofState state) {
  {
    // Under the lock: a WaitDurable between its look and its sleep would miss the news otherwise.
    std::lock_guard<std::mutex> lock(mutex_);
    if (state_.exchange(state) == state) return;
  }
  progress_.notify_all();
  if (callbacks_.on_state) callbacks_.on_state(state);
}

void AofWriter::SetError(const Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  error_ = status;
}

void AofWriter::Log(std::string_view line) const {
  if (callbacks_.on_log) callbacks_.on_log(line);
}

}  // namespace cairn

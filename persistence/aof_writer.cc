// The executor's side of AofWriter and its life cycle; aof_log_thread.cc holds what the log thread
// does.

#include "persistence/aof_writer.h"

#include <algorithm>
#include <chrono>

#include "server/platform/env.h"
#include "server/platform/memory.h"
#include "server/platform/worker.h"

namespace cairn {
namespace {

/// The most bytes that the executor writes itself: copying more takes longer than waking a thread.
constexpr size_t kMaxHereBytes = size_t{256} << 10;
/// The most that it writes when the log thread does not come to it: the copying of some turns.
constexpr size_t kMaxLateBytes = size_t{1} << 20;

}  // namespace

AofWriter::AofWriter(Env& env, AofWriterOptions options, AofCallbacks callbacks)
    : env_(env),
      location_(std::move(options.location)),
      reserve_bytes_(options.reserve_bytes),
      pad_bytes_(options.pad_bytes),
      callbacks_(std::move(callbacks)),
      policy_(options.policy),
      checksum_(options.checksum),
      timestamps_(options.timestamps),
      buffer_limit_bytes_(options.buffer_limit_bytes),
      unsynced_limit_us_(options.unsynced_limit_ms * 1000),
      keep_history_(options.keep_history),
      executor_writes_(options.executor_writes) {}

AofWriter::~AofWriter() {
  if (state() != AofState::kClosed) (void)Close().ok();
}

Status AofWriter::Open(AofManifest manifest, uint64_t stream_offset, bool last_file_covered) {
  CAIRN_CHECK(state() == AofState::kClosed);
  CAIRN_RETURN_IF_ERROR(CreateAofDirectory(env_, location_));
  appended_offset_ = written_offset_ = durable_offset_ = stream_offset;
  reported_written_ = reported_durable_ = sync_started_offset_ = stream_offset;
  manifest_ = std::move(manifest);
  protecting_ = true;
  const std::vector<AofFile>& increments = manifest_.increments();
  const bool has_file = !increments.empty() && increments.back().counted_bytes == kWholeAofFile;
  Status next;
  if (!has_file || (checksum_.load() && !last_file_covered)) {
    next = OpenNext();
    // A full disk keeps nobody from reading: the log goes on with the file that it has, degraded.
    if (!next.ok() && (!has_file || next.code() != StatusCode::kNoSpace)) return next;
  }
  if (file_ == nullptr) CAIRN_RETURN_IF_ERROR(OpenLast(last_file_covered));
  if (!keep_history_.load()) DeleteHistory();
  (void)CreateReserve();
  UpdateSizes();
  base_size_ = current_size();
  last_sync_us_ = env_.MonotonicMicros();
  SetState(AofState::kOk);
  if (!next.ok()) Fail(next, "start", last_sync_us_);
  return Status::Ok();
}

Status AofWriter::OpenLast(bool covered) {
  const std::string path = location_.PathOf(manifest_.increments().back().name);
  Result<std::unique_ptr<WritableFile>> file = env_.OpenAppend(path);
  if (!file.ok()) return file.status();
  file_ = std::move(*file);
  // What an earlier process left unsynced becomes durable here: later marks of this file rely on
  // it.
  CAIRN_RETURN_IF_ERROR(file_->Sync());
  group_end_ = synced_size_ = sync_started_size_ = file_->size();
  covered_ = covered;
  RecountOlderFiles();
  std::lock_guard<std::mutex> lock(mutex_);
  published_manifest_ = manifest_;
  return Status::Ok();
}

Status AofWriter::OpenForFirstRewrite(AofManifest old_manifest, uint64_t stream_offset) {
  CAIRN_CHECK(state() == AofState::kClosed);
  CAIRN_RETURN_IF_ERROR(env_.CreateDir(location_.directory));
  appended_offset_ = written_offset_ = durable_offset_ = stream_offset;
  reported_written_ = reported_durable_ = sync_started_offset_ = stream_offset;
  manifest_ = std::move(old_manifest);
  manifest_.RetireAll();
  protecting_ = false;
  CAIRN_RETURN_IF_ERROR(OpenNext());
  (void)CreateReserve();
  UpdateSizes();
  base_size_ = 0;
  last_sync_us_ = env_.MonotonicMicros();
  SetState(AofState::kOk);
  return Status::Ok();
}

void AofWriter::StartThread() {
  CAIRN_CHECK(state() != AofState::kClosed && !thread_.joinable());
  StartSyncThread();
  thread_ = std::thread([this] {
    AskForShortSlices();
    ThreadMain();
  });
}

void AofWriter::ThreadMain() {
  while (true) {
    const int64_t wish_ms = Work(false);
    std::unique_lock<std::mutex> lock(mutex_);
    if (stop_) return;
    const auto news = [this] {
      return stop_ || !queue_.empty() || !ending_queue_.empty() || wake_wanted_;
    };
    if (wish_ms < 0) {
      wake_.wait(lock, news);
    } else if (wish_ms > 0 && state() == AofState::kOk) {
      wake_.wait_for(lock, std::chrono::milliseconds(wish_ms), news);
    } else if (wish_ms > 0) {
      // Backing off: new bytes change nothing before the next attempt. A rewrite that ends may.
      wake_.wait_for(lock, std::chrono::milliseconds(wish_ms),
                     [this] { return stop_ || !ending_queue_.empty(); });
    }
    wake_wanted_ = false;
  }
}

int64_t AofWriter::RunOnce() {
  CAIRN_CHECK(!thread_.joinable());
  return Work(false);
}

Status AofWriter::Close() {
  if (state() == AofState::kClosed) return Status::Ok();
  if (thread_.joinable()) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
    StopSyncThread();
  }
  retry_at_us_ = 0;
  Work(true);
  Status outcome;
  if (durable_offset() < appended_offset()) {
    outcome = last_error();
    if (outcome.ok()) outcome = Status::Io("the append-only file was closed with unsynced bytes");
  }
  if (file_ != nullptr) TrimPadding();
  file_.reset();
  RemoveUnnamed();
  ReleaseReserve();
  SetState(AofState::kClosed);
  return outcome;
}

/// Closed before the first rewrite was done: no manifest on disk names what was opened here, nobody
/// would ever read or remove it. Unless a manifest that does may have come to the disk after all.
void AofWriter::RemoveUnnamed() {
  if (protecting_.load() || manifest_stale_) return;
  for (const AofFile& file : manifest_.increments()) {
    Status removed = env_.RemoveIfThere(location_.PathOf(file.name));
    if (!removed.ok()) Log(removed.message());
  }
}

/// With what the string has room for: it grew by doubling. A short one has no memory of its own.
AofWriter::Held AofWriter::HoldingOf(const std::string& bytes) {
  const bool own = bytes.capacity() >= sizeof(std::string);
  return {&held_bytes_, sizeof(Item) + (own ? UsableSize(bytes.data()) : 0)};
}

void AofWriter::Append(std::string bytes, int64_t database_before) {
  if (bytes.empty()) return;
  const int64_t now_us = env_.MonotonicMicros();
  Buffer buffer;
  buffer.appended_us = now_us;
  buffer.end_offset = appended_offset_.load(std::memory_order_relaxed) + bytes.size();
  buffer.bytes = std::move(bytes);
  buffer.held = HoldingOf(buffer.bytes);
  buffer.database_before = database_before;
  bool sync_thread_takes_it = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    appended_offset_.store(buffer.end_offset, std::memory_order_release);
    if (oldest_unsynced_us_.load(std::memory_order_relaxed) < 0) {
      oldest_unsynced_us_.store(now_us, std::memory_order_relaxed);
    }
    queue_.emplace_back(std::move(buffer));
    // It says that it is no longer busy before it takes the queue under this lock.
    sync_thread_takes_it = policy_.load(std::memory_order_relaxed) == AofSyncPolicy::kAlways &&
                           sync_busy_.load(std::memory_order_relaxed);
  }
  if (!sync_thread_takes_it && !WriteHere(now_us)) Wake();
}

/// Writes what was appended when that takes no waiting; under always it hands the sync to
/// the sync thread.
/// False: the log thread must look.
bool AofWriter::WriteHere(int64_t now_us) {
  if (!executor_writes_ || disk_busy_.load(std::memory_order_relaxed)) return false;
  std::unique_lock<std::mutex> io(io_mutex_, std::try_to_lock);
  if (!MayWriteHere(io) || now_us < slow_until_us_) return false;
  SampleSettings();
  TakeQueues();
  if (waiting_cuts_ > 0 || !endings_.empty() || todo_.empty()) return false;
  const bool always = step_policy_ == AofSyncPolicy::kAlways;
  if ((always && sync_file_ == nullptr) || (step_checksum_ && !covered_)) return false;
  const uint64_t bytes = WaitingBytes();
  if (bytes < gather_goal_bytes_) return true;
  if (todo_.size() > kMaxGroupBuffers || bytes > kMaxHereBytes) return false;
  if (callbacks_.has_unsynced_names && callbacks_.has_unsynced_names()) return false;
  if (!WroteHere(todo_.size(), now_us)) return false;
  if (always) {
    last_sync_us_ = now_us;
    gather_goal_bytes_ = 0;
    StartSync();
    return true;
  }
  if (!ShouldWakeForSync()) return true;
  io.unlock();
  Wake();
  return true;
}

/// No lock: somebody writes, and may be waiting for the disk.
bool AofWriter::MayWriteHere(const std::unique_lock<std::mutex>& io) const {
  return io.owns_lock() && state() == AofState::kOk && !sync_in_flight_;
}

bool AofWriter::WroteHere(size_t count, int64_t now_us) {
  if (Status status = WriteGroup(count, /*named=*/true); !status.ok()) {
    Fail(status, "write", now_us);
    return false;
  }
  reported_written_ = written_offset();  // the caller sees it by itself
  UpdateSizes();
  return true;
}

/// What was written is to be synced, and the log thread does not know it yet.
bool AofWriter::ShouldWakeForSync() {
  if (step_policy_ == AofSyncPolicy::kNever || (sync_scheduled_ && !MuchIsUnsynced())) return false;
  sync_scheduled_ = true;
  return true;
}

bool AofWriter::WriteLate() {
  if (!executor_writes_) return false;
  std::unique_lock<std::mutex> io(io_mutex_, std::try_to_lock);
  if (!MayWriteHere(io) || last_write_slow_) return false;
  SampleSettings();
  if (step_policy_ == AofSyncPolicy::kAlways || (step_checksum_ && !covered_)) return false;
  if (callbacks_.has_unsynced_names && callbacks_.has_unsynced_names()) return false;
  TakeQueues();
  if (waiting_cuts_ > 0 || !endings_.empty()) return false;  // it was woken for them
  size_t count = 0, bytes = 0;
  while (count < std::min(todo_.size(), kMaxGroupBuffers)) {
    bytes += std::get<Buffer>(todo_[count]).bytes.size();
    if (bytes > kMaxLateBytes) break;
    ++count;
  }
  if (count == 0) return false;
  const bool wrote = WroteHere(count, env_.MonotonicMicros());
  if (wrote && !ShouldWakeForSync()) return true;
  io.unlock();
  Wake();
  return wrote;
}

bool AofWriter::ShouldThrottle() const {
  if (state() != AofState::kOk) return false;
  const AofSyncPolicy policy = policy_.load(std::memory_order_relaxed);
  // Before appended_offset, which may only be further on.
  const uint64_t safe = policy == AofSyncPolicy::kNever ? written_offset() : durable_offset();
  if (appended_offset() - safe > buffer_limit_bytes_.load(std::memory_order_relaxed)) return true;
  if (policy != AofSyncPolicy::kEverySecond) return false;
  const int64_t limit_us = unsynced_limit_us_.load(std::memory_order_relaxed);
  const int64_t oldest_us = oldest_unsynced_us_.load(std::memory_order_relaxed);
  return limit_us > 0 && oldest_us >= 0 && env_.MonotonicMicros() - oldest_us > limit_us;
}

int64_t AofWriter::oldest_unsynced_ms() const {
  const int64_t oldest_us = oldest_unsynced_us_.load(std::memory_order_relaxed);
  return oldest_us < 0 ? 0 : (env_.MonotonicMicros() - oldest_us) / 1000;
}

bool AofWriter::WaitDurable(uint64_t offset, int64_t timeout_ms) {
  CAIRN_CHECK(thread_.joinable());
  std::unique_lock<std::mutex> lock(mutex_);
  force_sync_offset_ = std::max(force_sync_offset_.load(), offset);
  wake_wanted_ = true;
  wake_.notify_one();
  const uint64_t cuts = cuts_asked_.load();
  const auto done = [&] { return durable_offset() >= offset && cuts_made_.load() >= cuts; };
  progress_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                     [&] { return done() || state() != AofState::kOk; });
  return done();
}

// Also for what stands in a queue: the executor, writing itself, may take it from there before the
// log thread has looked, and leave it to that.
void AofWriter::Wake() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_wanted_ = true;
  }
  wake_.notify_one();
}

void AofWriter::SetPolicy(AofSyncPolicy policy) {
  policy_ = policy;
  Wake();
}
void AofWriter::SetChecksum(bool on) { checksum_ = on; }
void AofWriter::SetTimestamps(bool on) { timestamps_ = on; }
void AofWriter::SetBufferLimit(uint64_t limit_bytes) { buffer_limit_bytes_ = limit_bytes; }
void AofWriter::SetUnsyncedLimit(int64_t limit_ms) { unsynced_limit_us_ = limit_ms * 1000; }
void AofWriter::SetKeepHistory(bool on) {
  keep_history_ = on;
  Wake();
}

uint64_t AofWriter::BeginRewrite() {
  CAIRN_CHECK(!rewriting_ && state() != AofState::kClosed);
  rewriting_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.emplace_back(Cut{});
    ++cuts_asked_;
  }
  Wake();
  return appended_offset();
}

std::string AofWriter::TempBasePath() const { return location_.PathOf("temp-rewriteaof-bg.aof"); }

void AofWriter::FinishRewrite(std::string base_temp_path, bool is_rdb, Done done) {
  CAIRN_CHECK(rewriting_ && !base_temp_path.empty());
  rewriting_ = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_queue_.push_back(
        {std::move(base_temp_path), is_rdb, std::move(done), cuts_asked_.load()});
  }
  Wake();
}

void AofWriter::AbortRewrite() {
  CAIRN_CHECK(rewriting_);
  rewriting_ = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_queue_.push_back({{}, true, nullptr, cuts_asked_.load()});
  }
  Wake();
}

Status AofWriter::last_error() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

AofManifest AofWriter::manifest() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return published_manifest_;
}

}  // namespace cairn

#include "persistence/snapshot_job.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "persistence/aof_dataset_writer.h"
#include "server/platform/env.h"
#include "server/platform/worker.h"

namespace cairn {

namespace {

// What is written at a time: some 0.05 to 0.1 ms of walking, compressing and copying. In a flood of
// writes loop and clients wait for as long as that whenever they wake and the walker has their
// core.
constexpr size_t kPieceBytes = size_t{16} << 10;

// In pieces, so that whoever wants the thread again does not wait for all of it.
void SleepUnless(int64_t us, const std::function<bool()>& woken) {
  constexpr int64_t kLookEveryUs = 10'000;
  for (; us > 0 && !(woken && woken()); us -= kLookEveryUs) {
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(us, kLookEveryUs)));
  }
}

// A file as the writer's byte sink, with write-back started early. All that a walk emits, of many
// keys or of one, passes here piece by piece: the place for `between`, whose error ends the walk.
class FileSink final : public ByteSink {
 public:
  FileSink(WritableFile& file, bool incremental_sync, std::function<Status()> between)
      : file_(file), incremental_sync_(incremental_sync), between_(std::move(between)) {}
  Status Append(std::string_view bytes) override {
    CAIRN_RETURN_IF_ERROR(between_());
    CAIRN_RETURN_IF_ERROR(file_.Append(bytes));
    written_ += bytes.size();
    if (incremental_sync_ && written_ - hinted_ >= SnapshotJob::kSyncEveryBytes) {
      CAIRN_RETURN_IF_ERROR(file_.SyncRange(hinted_, written_ - hinted_));
      hinted_ = written_;
    }
    return Status::Ok();
  }

 private:
  WritableFile& file_;
  bool incremental_sync_;
  const std::function<Status()> between_;
  uint64_t written_ = 0;
  uint64_t hinted_ = 0;
};

}  // namespace

CpuShare::CpuShare(int percent) : percent_(percent), worked_until_us_(ThreadCpuMicros()) {}

void CpuShare::Pace(const std::function<bool()>& woken) {
  if (percent_ >= 100) return;
  const int64_t now_us = ThreadCpuMicros();
  owed_us_ += (now_us - worked_until_us_) * (100 - percent_) / percent_;
  worked_until_us_ = now_us;
  if (owed_us_ < kLeastSleepUs) return;
  if (woken && woken()) {
    owed_us_ = 0;
    return;
  }
  const auto began = std::chrono::steady_clock::now();
  SleepUnless(owed_us_, woken);
  // What was overslept counts for the next time.
  owed_us_ -= std::chrono::duration_cast<std::chrono::microseconds>(
                  std::chrono::steady_clock::now() - began)
                  .count();
}

Status SnapshotJob::Run() {
  share_ = CpuShare(options_.cpu_limit_percent);  // from now on, on this thread
  ExpectedCounts expected;
  Status status = WriteTemp(&expected);
  if (!status.ok()) source_.Abandon();
  if (status.ok() && options_.verify && !options_.as_commands) status = Verify(expected);
  if (status.ok() && !options_.also_final_path.empty()) also_status_ = CopyAlso();
  // Whoever ends a job may do so during the copy. Once that has its name, the job is as good as
  // done: modules must hear of the file.
  if (!also_status_.ok() && aborted_.load(std::memory_order_relaxed)) status = also_status_;
  if (status.ok() && !options_.final_path.empty()) {
    status = env_.Rename(options_.temp_path, options_.final_path);
    if (status.ok()) status = env_.SyncDir(DirName(options_.final_path));
  }
  if (!status.ok()) {
    // The first error is the one to report; a temporary file that stays is swept at the next start.
    [[maybe_unused]] const Status removed = env_.Remove(options_.temp_path);
  }
  return status;
}

// A copy, not a second name of the base: an operator who writes another RDB file over dump.rdb (cp
// does so in place) must not change the log.
Status SnapshotJob::CopyAlso() {
  const std::string temp_path = options_.temp_path + ".copy";
  CAIRN_RETURN_IF_ERROR(env_.RemoveIfThere(temp_path));
  Status status = CopyTo(temp_path);
  if (status.ok()) {
    std::lock_guard lock(also_mutex_);
    status = also_dropped_ ? Status(StatusCode::kCancelled, "a newer file has come first")
                           : env_.Rename(temp_path, options_.also_final_path);
  }
  if (status.ok()) return env_.SyncDir(DirName(options_.also_final_path));
  [[maybe_unused]] const Status removed = env_.Remove(temp_path);
  return status;
}

Status SnapshotJob::CopyTo(const std::string& path) {
  auto from = env_.OpenRead(options_.temp_path);
  if (!from.ok()) return from.status();
  const uint64_t size = (*from)->size();
  Result<uint64_t> room = env_.FreeSpace(DirName(path));
  if (!room.ok()) return room.status();
  // What is left over is for the log, which grows meanwhile.
  if (*room < size + size / 5) {
    return Status(StatusCode::kNoSpace, "no room for a copy of " + std::to_string(size) + " bytes");
  }
  auto opened = env_.OpenTruncate(path);
  if (!opened.ok()) return opened.status();
  WritableFile& file = **opened;
  FileSink sink(file, options_.incremental_sync, [this] { return Between(); });
  std::string piece(kPieceBytes, '\0');
  for (uint64_t done = 0; done < size;) {
    Result<size_t> read = (*from)->Read(done, piece.size(), piece.data());
    if (!read.ok()) return read.status();
    if (*read == 0) return Status::Io("the new base became shorter while it was copied");
    CAIRN_RETURN_IF_ERROR(sink.Append(std::string_view(piece).substr(0, *read)));
    done += *read;
  }
  CAIRN_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

Status SnapshotJob::WriteTemp(ExpectedCounts* expected) {
  auto opened = env_.OpenTruncate(options_.temp_path);
  if (!opened.ok()) return opened.status();
  WritableFile& file = **opened;
  FileSink sink(file, options_.incremental_sync, [this] { return Between(); });
  if (options_.as_commands) {
    AofDatasetWriter writer(&sink);
    CAIRN_RETURN_IF_ERROR(Walk(
        writer, [&] { return writer.key_count(); }, [&] { return writer.bytes(); }));
    CAIRN_RETURN_IF_ERROR(writer.Finish());
  } else {
    RdbWriteOptions rdb = options_.rdb;
    if (options_.gives_way) rdb.buffer_bytes = std::min(rdb.buffer_bytes, kPieceBytes);
    RdbWriter writer(&sink, rdb);
    CAIRN_RETURN_IF_ERROR(writer.Start());
    CAIRN_RETURN_IF_ERROR(Walk(
        writer, [&] { return writer.key_count(); }, [&] { return writer.bytes(); }));
    CAIRN_RETURN_IF_ERROR(writer.Finish());
    *expected = {writer.key_count(), writer.expire_count(), writer.bytes(), writer.checksum()};
  }
  if (options_.durable) CAIRN_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

Status SnapshotJob::Walk(DatasetSink& sink, const std::function<uint64_t()>& keys,
                         const std::function<uint64_t()>& bytes) {
  for (const std::string& source : options_.function_libraries)
    CAIRN_RETURN_IF_ERROR(sink.FunctionLibrary(source));
  const size_t budget = options_.key_delay_us > 0 ? 1 : kKeysPerStep;
  bool more = true;
  while (more) {
    CAIRN_RETURN_IF_ERROR(Between());
    const uint64_t before = keys();
    Result<bool> step = source_.Step(sink, budget);
    if (!step.ok()) return step.status();
    more = *step;
    keys_done_.store(keys(), std::memory_order_relaxed);
    bytes_.store(bytes(), std::memory_order_relaxed);
    // A step is a segment of some 300 keys: whoever aborts does not wait for the delay of all of
    // them.
    SleepUnless(static_cast<int64_t>(keys() - before) * options_.key_delay_us,
                [this] { return aborted_.load(std::memory_order_relaxed); });
  }
  return Status::Ok();
}

Status SnapshotJob::Between() {
  share_.Pace([this] {
    return aborted_.load(std::memory_order_relaxed) ||
           (options_.in_a_hurry && options_.in_a_hurry());
  });
  if (aborted_.load(std::memory_order_relaxed)) {
    return Status(StatusCode::kCancelled, "snapshot aborted");
  }
  if (options_.gives_way && options_.gives_way()) GiveWay();
  return Status::Ok();
}

Status SnapshotJob::Verify(const ExpectedCounts& expected) {
  return VerifyRdbFile(env_, options_.temp_path, expected, [this](uint64_t) { return Between(); });
}

}  // namespace cairn

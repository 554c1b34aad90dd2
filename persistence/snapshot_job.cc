#include "persistence/snapshot_job.h"

#include <chrono>
#include <thread>

#include "persistence/aof_dataset_writer.h"
#include "server/platform/env.h"

namespace cairn {

namespace {

// A file as the writer's byte sink, with write-back started early.
class FileSink final : public ByteSink {
 public:
  FileSink(WritableFile& file, bool incremental_sync) : file_(file), incremental_sync_(incremental_sync) {}
  Status Append(std::string_view bytes) override {
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
  uint64_t written_ = 0;
  uint64_t hinted_ = 0;
};

}  // namespace

Status SnapshotJob::Run() {
  ExpectedCounts expected;
  Status status = WriteTemp(&expected);
  if (status.ok() && options_.verify && !options_.as_commands) status = VerifyRdbFile(env_, options_.temp_path, expected);
  if (status.ok() && !options_.final_path.empty()) {
    status = env_.Rename(options_.temp_path, options_.final_path);
    if (status.ok()) status = env_.SyncDir(DirName(options_.final_path));
  }
  if (!status.ok() && env_.FileExists(options_.temp_path)) {
    // The first error is the one to report; a temporary file that stays is swept at the next start.
    [[maybe_unused]] const Status removed = env_.Remove(options_.temp_path);
  }
  return status;
}

Status SnapshotJob::WriteTemp(ExpectedCounts* expected) {
  auto opened = env_.OpenTruncate(options_.temp_path);
  if (!opened.ok()) return opened.status();
  WritableFile& file = **opened;
  FileSink sink(file, options_.incremental_sync);
  if (options_.as_commands) {
    AofDatasetWriter writer(&sink);
    CAIRN_RETURN_IF_ERROR(
        Walk(writer, [&] { return writer.key_count(); }, [&] { return writer.bytes(); }));
    CAIRN_RETURN_IF_ERROR(writer.Finish());
  } else {
    RdbWriter writer(&sink, options_.rdb);
    CAIRN_RETURN_IF_ERROR(writer.Start());
    CAIRN_RETURN_IF_ERROR(
        Walk(writer, [&] { return writer.key_count(); }, [&] { return writer.bytes(); }));
    CAIRN_RETURN_IF_ERROR(writer.Finish());
    *expected = {writer.key_count(), writer.expire_count(), writer.bytes(), writer.checksum()};
  }
  CAIRN_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

Status SnapshotJob::Walk(DatasetSink& sink, const std::function<uint64_t()>& keys,
                         const std::function<uint64_t()>& bytes) {
  const size_t budget = options_.key_delay_us > 0 ? 1 : kKeysPerStep;
  bool more = true;
  while (more) {
    if (aborted_.load(std::memory_order_relaxed)) {
      return Status(StatusCode::kCancelled, "snapshot aborted");
    }
    const int64_t began_us = env_.MonotonicMicros();
    const uint64_t before = keys();
    Result<bool> step = source_.Step(sink, budget);
    if (!step.ok()) return step.status();
    more = *step;
    keys_done_.store(keys(), std::memory_order_relaxed);
    bytes_.store(bytes(), std::memory_order_relaxed);
    PaceStep(began_us, keys() - before);
  }
  return Status::Ok();
}

void SnapshotJob::PaceStep(int64_t step_began_us, uint64_t keys) {
  int64_t pause_us = options_.key_delay_us > 0 ? static_cast<int64_t>(keys) * options_.key_delay_us : 0;
  if (options_.cpu_limit_percent < 100) {
    const int64_t busy_us = env_.MonotonicMicros() - step_began_us;
    pause_us += busy_us * (100 - options_.cpu_limit_percent) / options_.cpu_limit_percent;
  }
  if (pause_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
}

}  // namespace cairn

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

void GiveWayIf(const std::function<bool()>& wished) {
  if (wished && wished()) GiveWay();
}

// A file as the writer's byte sink, with write-back started early. All that a walk emits, of many
// keys or of one, passes here piece by piece: the place to give way.
class FileSink final : public ByteSink {
 public:
  FileSink(WritableFile& file, bool incremental_sync, const std::function<bool()>& gives_way)
      : file_(file), incremental_sync_(incremental_sync), gives_way_(gives_way) {}
  Status Append(std::string_view bytes) override {
    GiveWayIf(gives_way_);
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
  const std::function<bool()>& gives_way_;
  uint64_t written_ = 0;
  uint64_t hinted_ = 0;
};

}  // namespace

CpuShare::CpuShare(int percent) : percent_(percent), worked_until_us_(ThreadCpuMicros()) {}

void CpuShare::Pace() {
  if (percent_ >= 100) return;
  const int64_t now_us = ThreadCpuMicros();
  owed_us_ += (now_us - worked_until_us_) * (100 - percent_) / percent_;
  worked_until_us_ = now_us;
  if (owed_us_ < kLeastSleepUs) return;
  const auto began = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::microseconds(owed_us_));
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
  if (status.ok() && !options_.also_final_path.empty()) also_status_ = LinkAlso();
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

// By a link, so that nothing is written twice; link(2) does not replace, rename(2) does.
Status SnapshotJob::LinkAlso() {
  std::lock_guard lock(also_mutex_);
  if (also_dropped_) return Status(StatusCode::kCancelled, "a newer file has come first");
  const std::string temp_path = options_.temp_path + ".link";
  CAIRN_RETURN_IF_ERROR(env_.RemoveIfThere(temp_path));
  CAIRN_RETURN_IF_ERROR(env_.Link(options_.temp_path, temp_path));
  Status status = env_.Rename(temp_path, options_.also_final_path);
  if (status.ok()) return env_.SyncDir(DirName(options_.also_final_path));
  [[maybe_unused]] const Status removed = env_.Remove(temp_path);
  return status;
}

Status SnapshotJob::WriteTemp(ExpectedCounts* expected) {
  // One that was left behind may be a second name of the file that is in force (LinkAlso): emptying
  // it would empty that.
  CAIRN_RETURN_IF_ERROR(env_.RemoveIfThere(options_.temp_path));
  auto opened = env_.OpenTruncate(options_.temp_path);
  if (!opened.ok()) return opened.status();
  WritableFile& file = **opened;
  FileSink sink(file, options_.incremental_sync, options_.gives_way);
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
    if (aborted_.load(std::memory_order_relaxed)) {
      return Status(StatusCode::kCancelled, "snapshot aborted");
    }
    const uint64_t before = keys();
    Result<bool> step = source_.Step(sink, budget);
    if (!step.ok()) return step.status();
    more = *step;
    keys_done_.store(keys(), std::memory_order_relaxed);
    bytes_.store(bytes(), std::memory_order_relaxed);
    if (options_.key_delay_us > 0)
      Delay(static_cast<int64_t>(keys() - before) * options_.key_delay_us);
    share_.Pace();
    GiveWayIf(options_.gives_way);
  }
  return Status::Ok();
}

// A step is a segment of some 300 keys: whoever aborts does not wait for the delay of all of them.
void SnapshotJob::Delay(int64_t total_us) {
  constexpr int64_t kLookEveryUs = 10'000;
  for (int64_t left_us = total_us; left_us > 0 && !aborted_.load(std::memory_order_relaxed);
       left_us -= kLookEveryUs) {
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(left_us, kLookEveryUs)));
  }
}

Status SnapshotJob::Verify(const ExpectedCounts& expected) {
  return VerifyRdbFile(env_, options_.temp_path, expected, [this](uint64_t) {
    share_.Pace();
    GiveWayIf(options_.gives_way);
    return aborted_.load(std::memory_order_relaxed)
               ? Status(StatusCode::kCancelled, "snapshot aborted")
               : Status::Ok();
  });
}

}  // namespace cairn

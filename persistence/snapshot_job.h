#pragma once

// SnapshotJob: writes one point-in-time RDB file from a SnapshotSource: temporary file, walk, sync,
// verify, rename, sync of the directory. It decides nothing (when, why, what next is
// engine/durability's). Run() does it all on the calling thread: a walker thread for BGSAVE and
// rewrites, the executor for SAVE. An error or an abort leaves the old file as it was and removes
// the temporary one.

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "persistence/check_rdb.h"
#include "persistence/rdb_writer.h"
#include "persistence/snapshot_source.h"
#include "server/base/status.h"

namespace cairn {

class Env;

struct SnapshotJobOptions {
  std::string temp_path;
  std::string final_path;  ///< empty: leave the verified file at temp_path (AOF rewrite publishes
                           ///< it itself)
  /// Not empty: a copy under a second name as well, replacing what is there (a rewrite while a save
  /// is due: one walk for both). Not with as_commands.
  std::string also_final_path;
  RdbWriteOptions rdb;
  std::vector<std::string> function_libraries;  ///< sources, as of the cut
  bool as_commands =
      false;            ///< aof-use-rdb-preamble no: write a command log instead of an RDB file
  bool verify = true;   ///< setting rdb-verify: read the file back before it replaces the old one
  bool durable = true;  ///< false: no sync (a copy for replicas, of no use after a crash)
  bool incremental_sync = true;  ///< setting rdb-save-incremental-fsync
  /// Asked every 0.05 to 0.1 ms or so, on the walker's thread: whether other threads go first now.
  /// Empty: never, where somebody waits for the end.
  std::function<bool()> gives_way;
  /// Asked likewise, while cpu_limit_percent would have it sleep: whether clients wait for its end,
  /// or soon will, so that it goes on all the same. Empty: never.
  std::function<bool()> in_a_hurry;
  int cpu_limit_percent = 100;  ///< setting snapshot-cpu-limit: share of one core, for the walk and
                                ///< the verification
  int key_delay_us = 0;  ///< setting rdb-key-save-delay: sleep per key, for tests of long saves
};

/// Keeps a thread to a share of one core by sleeping for what it has had too much. Waiting for the
/// disk is not work and is not paid for. One thread.
class CpuShare {
 public:
  explicit CpuShare(int percent);
  /// Call every millisecond of work or so. Sleeps at least kLeastSleepUs at a time. `woken`, which
  /// may be empty, is asked first and then every 10 ms of the sleep: true ends it. What is owed
  /// when it is true at first is forgotten.
  void Pace(const std::function<bool()>& woken);

  static constexpr int64_t kLeastSleepUs = 1000;

 private:
  int percent_;
  int64_t worked_until_us_;  // thread CPU time
  int64_t owed_us_ = 0;      // of sleep
};

class SnapshotJob {
 public:
  /// Keys walked between two reports of progress.
  static constexpr size_t kKeysPerStep = 256;
  /// Bytes between two write-back hints, so that the final sync is not stuck behind gigabytes.
  static constexpr uint64_t kSyncEveryBytes = 32ull << 20;

  SnapshotJob(Env& env, SnapshotSource& source, SnapshotJobOptions options)
      : env_(env),
        source_(source),
        options_(std::move(options)),
        share_(options_.cpu_limit_percent) {}

  /// Returns when the file is durable, or why it is not. kCancelled after Abort().
  Status Run();
  /// A newer file is about to take the name also_final_path: from now on this one will not.
  /// Thread: any.
  void DropAlso() {
    std::lock_guard lock(also_mutex_);
    also_dropped_ = true;
  }
  /// Whether also_final_path has the file, once Run() has returned well. Its failure is not
  /// Run()'s.
  const Status& also_status() const { return also_status_; }
  /// Ends Run() at the next piece that it would write or verify, also in the middle of a value.
  /// Thread: any.
  void Abort() { aborted_.store(true, std::memory_order_relaxed); }

  /// Progress. Thread: any.
  uint64_t keys_done() const { return keys_done_.load(std::memory_order_relaxed); }
  uint64_t keys_total() const { return source_.key_count(); }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  Status WriteTemp(ExpectedCounts* expected);
  Status Walk(DatasetSink& sink, const std::function<uint64_t()>& keys,
              const std::function<uint64_t()>& bytes);
  /// Between two pieces of work: sleeps for its CPU share, lets others go first. kCancelled after
  /// Abort().
  Status Between();
  Status Verify(const ExpectedCounts& expected);
  Status CopyAlso();
  Status CopyTo(const std::string& path);

  Env& env_;
  SnapshotSource& source_;
  const SnapshotJobOptions options_;
  CpuShare share_;
  std::mutex also_mutex_;
  bool also_dropped_ = false;
  Status also_status_;
  std::atomic<bool> aborted_{false};
  std::atomic<uint64_t> keys_done_{0};
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace cairn

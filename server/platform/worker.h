#pragma once

// WorkerThread: one named thread that runs posted jobs in order. For work that must leave the
// executor: fsync, freeing big values, writing logs. Not a pool, and it returns no futures: a job
// that has a result posts it back to the event loop. Post from any thread; Stop from the owner.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace cairn {

/// Asks the scheduler to let the calling thread run soon after it wakes, in exchange for short
/// turns: a thread in the middle of its own turn, a walker for instance, then gives way at once and
/// not after some milliseconds. Linux 6.12 and later do so for slices of 0.1 ms; elsewhere nothing
/// changes.
void AskForShortSlices();

/// CPU time of the calling thread so far, in microseconds.
int64_t ThreadCpuMicros();

struct WorkerOptions {
  std::string name;  ///< cut to 15 bytes, the kernel's limit
  int nice_level =
      0;  ///< added to the process's own; raising priority may be refused and is ignored
  bool idle_io = false;  ///< disk bandwidth only when nobody else wants it (ioprio class idle)
};

class WorkerThread {
 public:
  explicit WorkerThread(WorkerOptions options);
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;
  ~WorkerThread();  ///< Stop()

  /// Requires: Stop was not called. Thread: any, also a job of this worker.
  void Post(std::function<void()> job);
  /// Jobs posted and not finished.
  size_t pending() const;
  /// Blocks until every job posted before the call has finished. Requires: not called by a job.
  void Drain();
  /// Finishes all posted jobs, then joins. Idempotent. Requires: not called by a job.
  void Stop();

 private:
  void Run();

  const WorkerOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<std::function<void()>> jobs_;
  size_t posted_ = 0;
  size_t finished_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace cairn

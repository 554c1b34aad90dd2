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

/// Takes that back, for work that does not give way: whoever has short slices and wakes then goes
/// first, as nobody does ahead of a thread that has short ones itself.
void AskForUsualSlices();

/// Lets whoever else wants this core run first, if there is anybody. The kernel looks at how long a
/// thread has run only at its ticks, 4 ms apart: work in the background that nobody waits for calls
/// this every 0.1 ms or so of work, and the executor and its clients wait for no more than that.
/// Cost: a system call.
void GiveWay();

/// CPU time of the calling thread so far, in microseconds.
int64_t ThreadCpuMicros();

/// How often the calling thread has given its core up by itself so far: to sleep, or to wait for a
/// lock, the disk or the network. Being put off the core by others does not count, so what took
/// long while this stood still was work, or others' work. Cost: a system call.
uint64_t ThreadWaits();

struct WorkerOptions {
  std::string name;  ///< cut to 15 bytes, the kernel's limit
  int nice_level =
      0;  ///< added to the process's own; raising priority may be refused and is ignored
  /// Short turns, for jobs that call GiveWay: giving one away costs as much as was left of it.
  bool gives_way = false;
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

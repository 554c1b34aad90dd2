#pragma once

// JobRunner: runs the first halves of CommandJobs on worker threads and brings them back to the
// dispatcher. Threads start with the first job. Destroy it while the sessions' engine lives and
// before modules go: that waits for running work and drops what is not finished. Thread: executor.

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "server/engine/command_job.h"
#include "server/engine/session.h"
#include "server/platform/worker.h"

namespace cairn {

class Engine;

class JobRunner {
 public:
  explicit JobRunner(Engine& engine) : engine_(engine) {}
  JobRunner(const JobRunner&) = delete;
  JobRunner& operator=(const JobRunner&) = delete;
  ~JobRunner();

  /// Suspends `session` until `job` has worked; then `command` runs again with it, before anything
  /// that the session sent later. Requires: the session has a port and waits for no job.
  void Start(Session& session, OwnedCommand command, std::unique_ptr<CommandJob> job);
  /// While a job works for a session its next request is received and kept, so that the bytes of
  /// the one and the work on the other overlap. One alone: what follows waits in the kernel, not in
  /// a growing buffer.
  static bool ReadsAhead(const Session& session) {
    return session.job != 0 && session.deferred.empty();
  }
  /// Jobs that are working, those of clients that went away included.
  size_t working() const { return working_.size(); }

 private:
  /// Two: one long job does not hold up a short one.
  static constexpr size_t kWorkers = 2;
  /// The executor comes first where processors are few.
  static constexpr int kNiceLevel = 5;

  struct Working {
    uint64_t session_id;
    OwnedCommand command;  ///< with its job
  };
  WorkerThread& IdlestWorker();
  void OnWorked(uint64_t number);

  Engine& engine_;
  std::map<uint64_t, Working> working_;
  uint64_t started_ = 0;
  std::array<std::unique_ptr<WorkerThread>, kWorkers> workers_;
  /// Posted completions hold it weakly: those that arrive after this object are dropped.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace cairn

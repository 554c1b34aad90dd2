#include "server/engine/job_runner.h"

#include "server/engine/engine.h"

namespace cairn {

JobRunner::~JobRunner() {
  alive_.reset();
  for (auto& worker : workers_) worker.reset();
}

WorkerThread& JobRunner::IdlestWorker() {
  std::unique_ptr<WorkerThread>* best = nullptr;
  for (auto& worker : workers_) {
    if (worker == nullptr) {
      worker = std::make_unique<WorkerThread>(
          WorkerOptions{.name = "cairn-job", .nice_level = kNiceLevel});
      return *worker;
    }
    if (worker->pending() == 0) return *worker;
    if (best == nullptr || worker->pending() < (*best)->pending()) best = &worker;
  }
  return **best;
}

void JobRunner::Start(Session& session, OwnedCommand command, std::unique_ptr<CommandJob> job) {
  CAIRN_CHECK(session.port != nullptr && session.job == 0);
  const uint64_t number = ++started_;
  CommandJob* const work = job.get();
  command.job = std::move(job);
  working_.emplace(number, Working{session.id, std::move(command)});
  session.suspended = true;
  session.job = number;
  IdlestWorker().Post([this, work, number, alive = std::weak_ptr<int>(alive_)] {
    work->Work();
    engine_.loop.Post([this, number, alive] {
      if (!alive.expired()) OnWorked(number);
    });
  });
}

void JobRunner::OnWorked(uint64_t number) {
  const auto found = working_.find(number);
  Working done = std::move(found->second);
  working_.erase(found);
  Session* session = engine_.FindSession(done.session_id);
  // A client that is gone gets no reply and leaves no effect; the job ends with `done`.
  if (session == nullptr || session->closing) return;
  session->suspended = false;
  session->job = 0;
  session->deferred.push_front(std::move(done.command));
  session->port->InputReady();
}

}  // namespace cairn

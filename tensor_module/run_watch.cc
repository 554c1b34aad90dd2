#include "tensor_module/run_watch.h"

#include <algorithm>
#include <vector>

namespace cairn::tensor {

int64_t NextDueMs(const CkptRun& run) {
  int64_t due_ms = INT64_MAX;
  for (const auto& transaction : run.transactions) {
    due_ms =
        std::min(due_ms, transaction->live() ? transaction->deadline_ms : transaction->free_at_ms);
  }
  return due_ms;
}

void RunWatch::Enqueue(Runs::iterator run) {
  run->second.queued = queue_.emplace(run->second.due_ms, run);
}

void RunWatch::OnStored(uint32_t db, std::string_view key, const CkptRun& run) {
  const int64_t due_ms = NextDueMs(run);
  auto found = runs_.find(View(db, key));
  if (found == runs_.end()) {
    if (due_ms == INT64_MAX) return;
    found = runs_.emplace(RunPlace{db, std::string(key)}, Watched{due_ms, {}}).first;
    return Enqueue(found);
  }
  if (due_ms == INT64_MAX) {
    queue_.erase(found->second.queued);
    runs_.erase(found);
    return;
  }
  found->second.due_ms = due_ms;
  if (found->second.queued->first <= due_ms) return;
  queue_.erase(found->second.queued);
  Enqueue(found);
}

void RunWatch::OnSwapped(uint32_t a, uint32_t b) {
  Runs before;
  before.swap(runs_);
  queue_.clear();
  for (auto& [place, watched] : before) {
    const uint32_t db = place.db == a ? b : place.db == b ? a : place.db;
    Enqueue(runs_.emplace(RunPlace{db, place.key}, Watched{watched.due_ms, {}}).first);
  }
}

std::optional<RunPlace> RunWatch::TakeDue(int64_t now_ms) {
  while (!queue_.empty() && queue_.begin()->first <= now_ms) {
    const Runs::iterator run = queue_.begin()->second;
    queue_.erase(queue_.begin());
    const bool due = run->second.due_ms <= now_ms;
    if (due) run->second.due_ms = now_ms + kRetryMs;
    Enqueue(run);
    if (due) return run->first;
  }
  return std::nullopt;
}

void RunWatch::Drop(const RunPlace& place) {
  const auto found = runs_.find(place);
  if (found == runs_.end()) return;
  queue_.erase(found->second.queued);
  runs_.erase(found);
}

}  // namespace cairn::tensor

#pragma once

// RunWatch: under which keys runs with transactions lie, and when the clock ends the next of each.
// Told of what is stored and of databases that change places (module_api.h, watch_values), but not
// of keys that go: who reads it looks whether the run is still there, and drops it if not. So the
// clock needs no walk through the keys, and a run's promises are found without one. Executor.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// A key of a database.
struct RunPlace {
  uint32_t db = 0;
  std::string key;
};

/// When the clock has next to do with the run's transactions, in Unix ms: to end or forget one, or
/// (0) to begin the time of one that came from a file. INT64_MAX: never.
int64_t NextDueMs(const CkptRun& run);

class RunWatch {
 public:
  void OnStored(uint32_t db, std::string_view key, const CkptRun& run);
  void OnSwapped(uint32_t a, uint32_t b);
  /// The next run whose time has come, put off by kRetryMs unless it is stored anew: one that
  /// cannot be swept now does not keep others waiting. nullopt: none.
  std::optional<RunPlace> TakeDue(int64_t now_ms);
  void Drop(const RunPlace& place);
  /// Calls still_there(db, key) of each, and drops those that it answers false for.
  template <typename StillThere>
  void Visit(StillThere still_there);
  size_t size() const { return runs_.size(); }

  static constexpr int64_t kRetryMs = 1000;

 private:
  using View = std::pair<uint32_t, std::string_view>;
  struct Less {
    using is_transparent = void;
    static View Of(const View& view) { return view; }
    static View Of(const RunPlace& place) { return {place.db, place.key}; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) < Of(b);
    }
  };
  struct Watched;
  using Runs = std::map<RunPlace, Watched, Less>;
  // At the time that a run had when it was queued, or an earlier one: a PUT that moves the deadline
  // leaves its place in the queue alone, which is looked at when it comes up.
  using Queue = std::multimap<int64_t, Runs::iterator>;
  struct Watched {
    int64_t due_ms = 0;
    Queue::iterator queued;
  };
  void Enqueue(Runs::iterator run);

  Runs runs_;
  Queue queue_;
};

template <typename StillThere>
void RunWatch::Visit(StillThere still_there) {
  for (auto run = runs_.begin(); run != runs_.end();) {
    if (still_there(run->first.db, std::string_view(run->first.key))) {
      ++run;
      continue;
    }
    queue_.erase(run->second.queued);
    run = runs_.erase(run);
  }
}

}  // namespace cairn::tensor

#pragma once

// When a core stood still. A virtual processor is stopped by its host: one of them because others
// want the real core, all of them where the machine as a whole has a quota of CPU time, for 5 to 20
// ms in each 100 ms while its disk is busy. From inside that looks like a slow server. So a thread
// a core, ahead of everything else by real-time priority, does nothing but sleep for half a
// millisecond at a time. If one wakes more than a millisecond after it fell asleep, its core stood
// still, and if none has waked for as long, the machine did. No other thread can make them late.
// The kernel could by work that cannot be interrupted, on behalf of whoever is measured: so look at
// what the same threads see while nothing happens.

#include <atomic>
#include <cstdint>
#include <latch>
#include <mutex>
#include <thread>
#include <vector>

namespace cairn {

/// Of the steady clock, which is Linux's monotonic one.
int64_t NowNanos();

class CorePulse {
 public:
  static constexpr int64_t kPeriodNs = 500'000;
  static constexpr int64_t kStopNs = 1'000'000;  ///< a longer time without a pulse is a stop

  struct Stop {
    int64_t began_ns, ended_ns;  // as NowNanos
  };

  /// Starts the threads and waits until each has waked once; where real-time priority is not
  /// allowed none stays and nothing is seen.
  CorePulse();
  CorePulse(const CorePulse&) = delete;
  CorePulse& operator=(const CorePulse&) = delete;
  ~CorePulse() { End(); }

  struct Stops {
    std::vector<Stop> of_a_core;  // including those of all
    std::vector<Stop> of_all;
  };

  /// Ends the threads and returns what they saw.
  Stops End();

  /// Whether the threads were allowed to go ahead of everything else.
  bool works() const { return !refused_; }

 private:
  void Run(unsigned core);
  /// Returns the time.
  int64_t Pulse(int64_t last_of_core_ns);

  std::vector<std::thread> threads_;
  std::latch started_;
  std::atomic<bool> ending_{false}, refused_{false};
  std::mutex mutex_;
  int64_t last_pulse_ns_ = 0;  // of any core
  Stops stops_;
};

}  // namespace cairn

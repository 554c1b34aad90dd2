#pragma once

// Stats: the counters INFO reports and CONFIG RESETSTAT clears, the sampler behind the
// instantaneous rates, and the tick clock that times commands without a system call. Thread:
// executor.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace cairn {

/// A mean over the last 16 samples of a counter's growth per second.
class RateSampler {
 public:
  void Sample(int64_t now_ms, uint64_t counter);
  uint64_t PerSecond() const;
  void Reset();

 private:
  static constexpr size_t kSamples = 16;
  std::array<uint64_t, kSamples> samples_{};
  size_t next_ = 0;
  int64_t last_ms_ = 0;
  uint64_t last_counter_ = 0;
};

/// The highest of the samples of this second and of the six before it. Source: Redis's clientsCron
/// keeps as many.
class RecentPeak {
 public:
  void Sample(int64_t now_s, uint64_t value);
  uint64_t Peak(int64_t now_s) const;

 private:
  struct Second {
    int64_t when = INT64_MIN / 2;
    uint64_t peak = 0;
  };
  static constexpr int64_t kSeconds = 7;
  std::array<Second, kSeconds> seconds_;  // each in the place of the last one kSeconds before it
};

/// Cheap time stamps (the CPU's cycle counter), converted by a ratio measured while running.
class TickClock {
 public:
  static uint64_t Now();
  /// Called by cron with the monotonic clock to learn ticks per microsecond.
  void Calibrate(int64_t monotonic_us);
  uint64_t FromMicros(int64_t micros) const {
    return static_cast<uint64_t>(static_cast<double>(micros) / micros_per_tick_);
  }
  double ToMicros(uint64_t ticks) const { return static_cast<double>(ticks) * micros_per_tick_; }

 private:
  int64_t first_us_ = -1;
  uint64_t first_ticks_ = 0;
  double micros_per_tick_ = 1.0 / 2000.0;
};

struct Stats {
  uint64_t connections_received = 0;
  uint64_t commands_processed = 0;
  uint64_t net_input_bytes = 0;
  uint64_t net_output_bytes = 0;
  uint64_t net_repl_input_bytes = 0, net_repl_output_bytes = 0;  ///< parts of the two above
  uint64_t rejected_connections = 0;
  uint64_t evicted_clients = 0;
  uint64_t query_buffer_limit_disconnections = 0;
  uint64_t output_buffer_limit_disconnections = 0;
  uint64_t total_error_replies = 0;
  uint64_t unexpected_error_replies = 0;
  uint64_t reads_processed = 0;
  uint64_t writes_processed = 0;
  uint64_t dump_payload_sanitizations = 0;
  /// Time that memory stood over maxmemory because evicting was broken off by its time limit; the
  /// second is when the running spell began, 0 = none.
  uint64_t total_eviction_exceeded_us = 0;
  int64_t eviction_exceeded_since_us = 0;
  size_t peak_memory = 0;
  size_t startup_memory = 0;
  RateSampler ops_rate, input_rate, output_rate;
  RateSampler repl_input_rate, repl_output_rate;
  /// What clients hold for reading, and of unsent output, as ClientHost comes past them.
  RecentPeak input_buffer, output_buffer;
  TickClock ticks;
  /// errorstats: by error code word ("ERR", "WRONGTYPE").
  std::map<std::string, uint64_t, std::less<>> errors;

  /// Counts an error line about to be sent (without '-').
  void CountError(std::string_view line);
  void Reset();
};

}  // namespace cairn

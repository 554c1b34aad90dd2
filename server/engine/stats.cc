#include "server/engine/stats.h"

#include <algorithm>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace cairn {

namespace {

constexpr size_t kLongestErrorCode = 30;

}  // namespace

void RateSampler::Sample(int64_t now_ms, uint64_t counter) {
  const int64_t elapsed_ms = now_ms - last_ms_;
  if (elapsed_ms <= 0) return;
  if (last_ms_ != 0) {
    samples_[next_] = (counter - last_counter_) * 1000 / static_cast<uint64_t>(elapsed_ms);
    next_ = (next_ + 1) % kSamples;
  }
  last_ms_ = now_ms;
  last_counter_ = counter;
}

uint64_t RateSampler::PerSecond() const {
  uint64_t sum = 0;
  for (uint64_t sample : samples_) sum += sample;
  return sum / kSamples;
}

void RateSampler::Reset() {
  samples_.fill(0);
  last_counter_ = 0;
}

void RecentPeak::Sample(int64_t now_s, uint64_t value) {
  Second& second = seconds_[static_cast<size_t>(now_s % kSeconds)];
  if (second.when != now_s) second = {now_s, 0};
  second.peak = std::max(second.peak, value);
}

uint64_t RecentPeak::Peak(int64_t now_s) const {
  uint64_t peak = 0;
  for (const Second& second : seconds_)
    if (now_s - second.when < kSeconds) peak = std::max(peak, second.peak);
  return peak;
}

uint64_t TickClock::Now() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

void TickClock::Calibrate(int64_t monotonic_us) {
  const uint64_t ticks = Now();
  if (first_us_ < 0) {
    first_us_ = monotonic_us;
    first_ticks_ = ticks;
    return;
  }
  if (monotonic_us - first_us_ < 1000 || ticks <= first_ticks_) return;
  micros_per_tick_ =
      static_cast<double>(monotonic_us - first_us_) / static_cast<double>(ticks - first_ticks_);
}

void Stats::CountError(std::string_view line) {
  ++total_error_replies;
  // The code is what stands before the first space, also nothing; a line that has none soon is an
  // ERR. Source: afterErrorReply of Redis 7.0.
  const size_t space = line.substr(0, kLongestErrorCode + 1).find(' ');
  const std::string_view code = space == std::string_view::npos ? "ERR" : line.substr(0, space);
  const auto found = errors.find(code);
  if (found != errors.end()) {
    ++found->second;
  } else {
    errors.emplace(std::string(code), 1);
  }
}

void Stats::Reset() {
  connections_received = commands_processed = net_input_bytes = net_output_bytes = 0;
  net_repl_input_bytes = net_repl_output_bytes = 0;
  rejected_connections = evicted_clients = 0;
  query_buffer_limit_disconnections = output_buffer_limit_disconnections = 0;
  total_error_replies = unexpected_error_replies = reads_processed = writes_processed = 0;
  dump_payload_sanitizations = 0;
  total_eviction_exceeded_us = 0;
  eviction_exceeded_since_us = 0;
  ops_rate.Reset();
  input_rate.Reset();
  output_rate.Reset();
  repl_input_rate.Reset();
  repl_output_rate.Reset();
  errors.clear();
}

}  // namespace cairn

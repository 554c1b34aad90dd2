#pragma once

// LatencyMonitor: how long things that hold the loop took, when that was latency-monitor-threshold
// milliseconds or more: commands, expiry, eviction, the append-only file. For each event the worst
// sample of each second is kept, the last kLatencySamples of them. Thread: executor.
//
// Events, named as in Redis: command, fast-command, command-unblocking, expire-cycle,
// eviction-cycle, eviction-del, aof-write. Redis's others are of things that do not hold the loop
// here: syncs and renames of the append-only file, forks, and the removal of expired keys.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// Source: latency.h of Redis 7.0.
inline constexpr size_t kLatencySamples = 160;
/// Columns of the rule over LATENCY GRAPH, and of the graph itself.
inline constexpr size_t kLatencyGraphColumns = 80;

struct LatencySample {
  int64_t unix_s = 0;
  uint32_t latency_ms = 0;
};

/// The samples of one event: a ring.
class LatencySeries {
 public:
  void Add(int64_t unix_s, uint32_t latency_ms);
  /// Oldest first.
  std::vector<LatencySample> Samples() const;
  LatencySample last() const { return last_; }
  uint32_t max_ms() const { return max_ms_; }

 private:
  std::array<LatencySample, kLatencySamples> ring_{};
  size_t next_ = 0;
  size_t count_ = 0;
  uint32_t max_ms_ = 0;
  LatencySample last_;
};

class LatencyMonitor {
 public:
  /// Keeps the sample. Whether it is long enough is the caller's to say (Engine::NoteLatency).
  void Add(std::string_view event, int64_t unix_s, int64_t latency_ms);
  /// Forgets one event; false when there was none of that name.
  bool Reset(std::string_view event);
  /// Forgets all and tells how many there were.
  size_t ResetAll();
  const std::map<std::string, LatencySeries, std::less<>>& events() const { return events_; }
  const LatencySeries* Find(std::string_view event) const;

 private:
  std::map<std::string, LatencySeries, std::less<>> events_;
};

/// LATENCY GRAPH: four rows of bars over labels of age ("5s", "2m") written downwards, with a head
/// line of the extremes. Requires: the series has a sample.
std::string LatencyGraph(std::string_view event, const LatencySeries& series, int64_t now_s);

/// LATENCY DOCTOR: what was seen, event by event, and what to do about it, in words.
std::string LatencyDoctor(const LatencyMonitor& monitor, int64_t now_s, int64_t threshold_ms);

}  // namespace cairn

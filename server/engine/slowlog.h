#pragma once

// SlowLog: the last commands that took at least slowlog-log-slower-than microseconds, newest first,
// at most slowlog-max-len of them, each cut to kSlowLogArgs arguments of kSlowLogArgBytes bytes.
// The dispatcher decides what is slow; time spent waiting for the client or in a blocking command's
// wait does not count. Thread: executor.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// Source: slowlog.h of Redis 7.0.
inline constexpr size_t kSlowLogArgs = 32;
inline constexpr size_t kSlowLogArgBytes = 128;

struct SlowLogEntry {
  int64_t id = 0;
  int64_t unix_s = 0;
  int64_t duration_us = 0;
  std::vector<std::string> args;
  std::string peer_address;
  std::string client_name;
};

class SlowLog {
 public:
  /// Cuts `args` and keeps the entry; the oldest go beyond `max_length`. A limit that became
  /// smaller shows with the next entry, as in Redis.
  void Add(int64_t unix_s, int64_t duration_us, std::span<const std::string_view> args,
           std::string_view peer_address, std::string_view client_name, size_t max_length);
  /// Entries go, ids go on.
  void Reset() { entries_.clear(); }
  /// Newest first.
  const std::deque<SlowLogEntry>& entries() const { return entries_; }

 private:
  std::deque<SlowLogEntry> entries_;
  int64_t next_id_ = 0;
};

}  // namespace cairn

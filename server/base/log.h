#pragma once

// The server's log: formats one line as Redis writes it, `<pid>:<role> 23 Nov 2026 12:00:00.123 *
// text`, filters by level, and hands the bytes to a sink. It performs no system call: the owner
// (server/app) gives process id, clock and sink, and tests give their own. Thread-safe; lines of
// different threads do not mix. The owner outlives every user.

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace cairn {

/// In the order of the `loglevel` setting; a logger shows its level and everything above.
enum class LogLevel : unsigned char { kDebug, kVerbose, kNotice, kWarning };

/// Where lines go. Write is called with the logger's lock held, one whole line with its '\n' a
/// call.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void Write(LogLevel level, std::string_view line) = 0;
};

struct LoggerOptions {
  int64_t pid = 0;
  std::function<int64_t()> wall_micros;  ///< microseconds since the epoch; required
  LogSink* sink = nullptr;               ///< borrowed; required
  LogLevel level = LogLevel::kNotice;
  char role = 'M';  ///< 'M' primary, 'S' replica, 'C' child or configuration phase, 'X' sentinel
};

class Logger {
 public:
  explicit Logger(LoggerOptions options);
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  /// Formats only when `level` passes the filter. Thread: any.
  template <typename... Args>
  void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    if (Enabled(level)) Line(level, fmt::format(format, std::forward<Args>(args)...));
  }
  /// Writes `text` as a line of the log, whatever braces it contains. Thread: any.
  void Line(LogLevel level, std::string_view text);
  /// Writes `text` with neither prefix nor added newline (banner, crash report). Thread: any.
  void Raw(LogLevel level, std::string_view text);

  bool Enabled(LogLevel level) const { return level >= level_.load(std::memory_order_relaxed); }
  LogLevel level() const { return level_.load(std::memory_order_relaxed); }
  void set_level(LogLevel level) { level_.store(level, std::memory_order_relaxed); }
  void set_role(char role) { role_.store(role, std::memory_order_relaxed); }
  /// Takes effect with the next line; the old sink is not used after this returns.
  void set_sink(LogSink* sink);

 private:
  const int64_t pid_;
  const std::function<int64_t()> wall_micros_;
  std::atomic<LogLevel> level_;
  std::atomic<char> role_;
  std::mutex mutex_;
  LogSink* sink_;
};

/// The prefix of a line, up to and including the space before the text, in local time.
std::string LogPrefix(int64_t pid, char role, int64_t wall_micros, LogLevel level);

}  // namespace cairn

#include "server/base/log.h"

#include <array>
#include <ctime>

#include "server/base/check.h"

namespace cairn {

Logger::Logger(LoggerOptions options)
    : pid_(options.pid),
      wall_micros_(std::move(options.wall_micros)),
      level_(options.level),
      role_(options.role),
      sink_(options.sink) {
  CAIRN_CHECK(sink_ != nullptr);
  CAIRN_CHECK(wall_micros_ != nullptr);
}

void Logger::Line(LogLevel level, std::string_view text) {
  if (!Enabled(level)) return;
  std::lock_guard lock(mutex_);
  // The clock is read under the lock so that the lines of a file are in the order of their times.
  std::string line = LogPrefix(pid_, role_.load(std::memory_order_relaxed), wall_micros_(), level);
  line.append(text);
  line.push_back('\n');
  sink_->Write(level, line);
}

void Logger::Raw(LogLevel level, std::string_view text) {
  if (!Enabled(level)) return;
  std::lock_guard lock(mutex_);
  sink_->Write(level, text);
}

void Logger::set_sink(LogSink* sink) {
  CAIRN_CHECK(sink != nullptr);
  std::lock_guard lock(mutex_);
  sink_ = sink;
}

std::string LogPrefix(int64_t pid, char role, int64_t wall_micros, LogLevel level) {
  constexpr std::string_view kLevelMarks = ".-*#";
  const std::time_t seconds = wall_micros / 1000000;
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 32> date;
  const size_t length = std::strftime(date.data(), date.size(), "%d %b %Y %H:%M:%S", &local);
  return fmt::format("{}:{} {}.{:03} {} ", pid, role, std::string_view(date.data(), length),
                     wall_micros / 1000 % 1000, kLevelMarks[static_cast<size_t>(level)]);
}

}  // namespace cairn

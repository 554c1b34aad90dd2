#include "server/app/log_sinks.h"

#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

namespace cairn {

namespace {

// The log file is opened for each line, as Redis does, so that log rotation by rename needs no
// signal.
class FileLogSink final : public LogSink {
 public:
  explicit FileLogSink(std::string path) : path_(std::move(path)) {}
  void Write(LogLevel, std::string_view line) override {
    const int fd = path_.empty()
                       ? STDOUT_FILENO
                       : ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return;
    while (!line.empty()) {
      const ssize_t written = ::write(fd, line.data(), line.size());
      if (written <= 0) break;
      line.remove_prefix(static_cast<size_t>(written));
    }
    if (!path_.empty()) ::close(fd);
  }

 private:
  const std::string path_;
};

/// A line without LogPrefix's process, date, time and level: syslog has its own.
std::string_view WithoutPrefix(std::string_view line) {
  constexpr int kPrefixWords = 6;
  for (int i = 0; i < kPrefixWords; ++i) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return line;
    line.remove_prefix(space + 1);
  }
  return line;
}

class SyslogSink final : public LogSink {
 public:
  SyslogSink(std::unique_ptr<LogSink> file, std::string ident, SyslogFacility facility)
      : file_(std::move(file)), ident_(std::move(ident)) {
    constexpr int kFacilities[] = {LOG_USER,   LOG_LOCAL0, LOG_LOCAL1, LOG_LOCAL2, LOG_LOCAL3,
                                   LOG_LOCAL4, LOG_LOCAL5, LOG_LOCAL6, LOG_LOCAL7};
    ::openlog(ident_.c_str(), LOG_PID | LOG_NDELAY | LOG_NOWAIT,
              kFacilities[static_cast<size_t>(facility)]);
  }
  ~SyslogSink() override { ::closelog(); }
  void Write(LogLevel level, std::string_view line) override {
    file_->Write(level, line);
    constexpr int kPriorities[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING};
    const std::string_view text = WithoutPrefix(line);
    ::syslog(kPriorities[static_cast<size_t>(level)], "%.*s", static_cast<int>(text.size()),
             text.data());
  }

 private:
  const std::unique_ptr<LogSink> file_;
  const std::string ident_;  // syslog keeps the pointer
};

}  // namespace

std::unique_ptr<LogSink> NewLogSink(const Settings& settings) {
  auto file = std::make_unique<FileLogSink>(settings.logfile);
  if (!settings.syslog_enabled) return file;
  return std::make_unique<SyslogSink>(std::move(file), settings.syslog_ident,
                                      settings.syslog_facility);
}

}  // namespace cairn

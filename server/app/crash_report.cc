#include "server/app/crash_report.h"

#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>

#include "server/platform/mapped_file.h"

namespace cairn {

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

constexpr int kMaxFrames = 64;
constexpr size_t kMaxPath = 4096;

// Signal handlers have nothing but globals to read. Written before the handlers are installed.
char report_path[kMaxPath];
// Of local time, in seconds east of Greenwich: to look it up is not for handlers.
long zone_offset_s = 0;

int OpenLog(int without) {
  return report_path[0] == '\0'
             ? without
             : ::open(report_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

void Print(int fd, std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(fd, text.data(), text.size());
}

void PrintHex(int fd, uintptr_t value) {
  char text[2 + 2 * sizeof value + 1] = "0x";
  for (size_t i = 0; i < 2 * sizeof value; ++i) {
    text[2 + i] = "0123456789abcdef"[(value >> (8 * sizeof value - 4 * (i + 1))) & 15];
  }
  text[sizeof text - 1] = '\0';
  Print(fd, text);
}

/// A number in decimal digits, with zeros in front of it up to a width.
class Decimal {
 public:
  explicit Decimal(uint64_t value, size_t width = 1) {
    do {
      *--begin_ = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0 || view().size() < width);
  }
  std::string_view view() const { return {begin_, text_.data() + text_.size()}; }

 private:
  std::array<char, 20> text_;
  char* begin_ = text_.data() + text_.size();
};

/// What the signal was about: an address, or the process that sent it.
void PrintCause(int fd, int number, const siginfo_t& info) {
  if (info.si_code == SI_USER) {
    Print(fd, "\nKilled by PID: ");
    Print(fd, Decimal(static_cast<uint64_t>(info.si_pid)).view());
    Print(fd, ", UID: ");
    Print(fd, Decimal(info.si_uid).view());
  } else if (number == SIGSEGV || number == SIGBUS) {
    Print(fd, "\nAccessing address: ");
    PrintHex(fd, reinterpret_cast<uintptr_t>(info.si_addr));
  }
}

const char* SignalName(int number) {
  switch (number) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL";
    default:
      return "SIGABRT";
  }
}

/// One line of the log, put together where nothing may be allocated. What does not fit is left out.
class Line {
 public:
  Line& operator<<(std::string_view words) {
    const size_t fits = std::min(words.size(), text_.size() - size_);
    std::memcpy(text_.data() + size_, words.data(), fits);
    size_ += fits;
    return *this;
  }
  Line& operator<<(const Decimal& number) { return *this << number.view(); }
  std::string_view view() const { return {text_.data(), size_}; }

 private:
  std::array<char, kMaxPath + 256> text_;
  size_t size_ = 0;
};

/// LogPrefix (server/base/log.h) of now, at its highest level, as it can be had in a handler.
void AddPrefix(Line* line) {
  using namespace std::chrono;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const sys_seconds local{seconds(now.tv_sec + zone_offset_s)};
  const sys_days day = floor<days>(local);
  const year_month_day date(day);
  const hh_mm_ss time(local - day);
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  *line << Decimal(static_cast<uint64_t>(::getpid())) << ":M "
        << Decimal(static_cast<unsigned>(date.day()), 2) << " "
        << kMonths.substr(3 * (static_cast<unsigned>(date.month()) - 1), 3) << " "
        << Decimal(static_cast<uint64_t>(static_cast<int>(date.year()))) << " "
        << Decimal(static_cast<uint64_t>(time.hours().count()), 2) << ":"
        << Decimal(static_cast<uint64_t>(time.minutes().count()), 2) << ":"
        << Decimal(static_cast<uint64_t>(time.seconds().count()), 2) << "."
        << Decimal(static_cast<uint64_t>(now.tv_nsec / 1'000'000), 3) << " # ";
}

/// `line` to the log; ends the process.
[[noreturn]] void EndWith(const Line& line) {
  int fd = OpenLog(STDOUT_FILENO);
  if (fd < 0) fd = STDERR_FILENO;
  Print(fd, line.view());
  ::_exit(1);
}

[[noreturn]] void EndForFile(const char* path) {
  Line line;
  AddPrefix(&line);
  line << "Unrecoverable error reading " << path
       << ": a page of it, which is mapped, cannot be had: the disk failed, or the file got "
          "shorter. Exiting.\n";
  EndWith(line);
}

void OnCrash(int number, siginfo_t* info, void*) {
  if (const char* path = UnreadableFile(*info)) EndForFile(path);
  ::signal(number, SIG_DFL);  // of a fault in here, too
  const int fd = OpenLog(STDERR_FILENO);
  if (fd >= 0) {
    Print(fd,
          "\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\nCairnKV crashed by "
          "signal: ");
    Print(fd, SignalName(number));
    PrintCause(fd, number, *info);
    Print(fd, "\n------ STACK TRACE ------\n");
    void* frames[kMaxFrames];
    backtrace_symbols_fd(frames, backtrace(frames, kMaxFrames), fd);
    Print(fd, "=== REDIS BUG REPORT END. ===\n");
  }
  ::raise(number);
}

void SetLog(const std::string& log_path) {
  const size_t size = std::min(log_path.size(), kMaxPath - 1);
  std::memcpy(report_path, log_path.data(), size);
  report_path[size] = '\0';
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  if (::localtime_r(&now, &local) != nullptr) zone_offset_s = local.tm_gmtoff;
}

}  // namespace

void EndFromHandler(std::string_view words) {
  Line line;
  AddPrefix(&line);
  line << words << "\n";
  EndWith(line);
}

void InstallCrashReport(const std::string& log_path) {
  SetLog(log_path);
  // The first backtrace() loads a library: do that now, not inside a handler.
  void* frame;
  backtrace(&frame, 1);
  struct sigaction action = {};
  action.sa_sigaction = &OnCrash;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int number : kSignals) ::sigaction(number, &action, nullptr);
}

void RemoveCrashReport(const std::string& log_path) {
  SetLog(log_path);
  for (int number : kSignals) {
    if (number != SIGBUS) ::signal(number, SIG_DFL);
  }
  HandleUnreadableFiles(&EndForFile);
}

}  // namespace cairn

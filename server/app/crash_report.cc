#include "server/app/crash_report.h"

#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

namespace cairn {

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

constexpr int kMaxFrames = 64;
constexpr size_t kMaxPath = 4096;

// Signal handlers have nothing but globals to read. Written once, before the handlers are
// installed.
char report_path[kMaxPath];

void Print(int fd, const char* text) {
  [[maybe_unused]] const ssize_t written = ::write(fd, text, std::strlen(text));
}

void PrintHex(int fd, uintptr_t value) {
  char text[2 + 2 * sizeof value + 1] = "0x";
  for (size_t i = 0; i < 2 * sizeof value; ++i) {
    text[2 + i] = "0123456789abcdef"[(value >> (8 * sizeof value - 4 * (i + 1))) & 15];
  }
  text[sizeof text - 1] = '\0';
  Print(fd, text);
}

void PrintDecimal(int fd, uint64_t value) {
  char text[21];
  char* at = text + sizeof text - 1;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  Print(fd, at);
}

/// What the signal was about: an address, or the process that sent it.
void PrintCause(int fd, int number, const siginfo_t& info) {
  if (info.si_code == SI_USER) {
    Print(fd, "\nKilled by PID: ");
    PrintDecimal(fd, static_cast<uint64_t>(info.si_pid));
    Print(fd, ", UID: ");
    PrintDecimal(fd, info.si_uid);
  } else if (number == SIGSEGV || number == SIGBUS) {
    Print(fd, "\nAccessing address: ");
    PrintHex(fd, reinterpret_cast<uintptr_t>(info.si_addr));
    // Append-only files and chunk logs are read as mapped memory.
    if (number == SIGBUS && info.si_code == BUS_ADRERR) {
      Print(fd, "\nA mapped file could not be read: a disk error, or the file was shortened");
    }
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

void OnCrash(int number, siginfo_t* info, void*) {
  const int fd = report_path[0] == '\0'
                     ? STDERR_FILENO
                     : ::open(report_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
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
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void InstallCrashReport(const std::string& log_path) {
  const size_t size = log_path.size() < kMaxPath ? log_path.size() : kMaxPath - 1;
  std::memcpy(report_path, log_path.data(), size);
  report_path[size] = '\0';
  // The first backtrace() loads a library: do that now, not inside a handler.
  void* frame;
  backtrace(&frame, 1);
  struct sigaction action = {};
  action.sa_sigaction = &OnCrash;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESETHAND;
  for (int number : kSignals) ::sigaction(number, &action, nullptr);
}

void RemoveCrashReport() {
  for (int number : kSignals) ::signal(number, SIG_DFL);
}

}  // namespace cairn

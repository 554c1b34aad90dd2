#include "server/platform/mapped_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cairn {

namespace {

// A handler may run on a small stack (a fiber's), and may not allocate. A line of the list is a
// path, of PATH_MAX at most, and less than 80 characters in front of it.
std::array<char, 8192> text;
std::atomic<pid_t> text_is_of{0};  // the thread that has it; 0: nobody

void (*end_for_file)(const char* path) = nullptr;

void OnBusError(int number, siginfo_t* info, void*) {
  if (const char* path = UnreadableFile(*info)) end_for_file(path);
  ::signal(number, SIG_DFL);
  ::raise(number);
}

/// Reads a hexadecimal number and moves `at` behind it.
uintptr_t TakeHex(const char*& at) {
  uintptr_t value = 0;
  for (;; ++at) {
    if (*at >= '0' && *at <= '9') {
      value = value * 16 + static_cast<uintptr_t>(*at - '0');
    } else if (*at >= 'a' && *at <= 'f') {
      value = value * 16 + static_cast<uintptr_t>(*at - 'a' + 10);
    } else {
      return value;
    }
  }
}

/// The path in `line`, which ends in '\0', when its range has the address: "begin-end rights
/// offset device inode    path". Null for other ranges, and for memory without a file.
const char* PathOfRange(const char* line, uintptr_t address) {
  const uintptr_t begin = TakeHex(line);
  if (*line != '-') return nullptr;
  const uintptr_t end = TakeHex(++line);
  return address >= begin && address < end ? std::strchr(line, '/') : nullptr;
}

/// Looks for the range in the list, a buffer at a time.
const char* FindPath(int list, uintptr_t address) {
  size_t filled = 0;
  for (;;) {
    const ssize_t bytes = ::read(list, text.data() + filled, text.size() - filled);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return nullptr;
    filled += static_cast<size_t>(bytes);
    char* line = text.data();
    char* const end = line + filled;
    while (auto* line_end =
               static_cast<char*>(std::memchr(line, '\n', static_cast<size_t>(end - line)))) {
      *line_end = '\0';
      if (const char* path = PathOfRange(line, address)) return path;
      line = line_end + 1;
    }
    filled = static_cast<size_t>(end - line);
    std::memmove(text.data(), line, filled);
  }
}

}  // namespace

const char* UnreadableFile(const siginfo_t& info) {
  if (info.si_signo != SIGBUS) return nullptr;
  if (info.si_code != BUS_ADRERR && info.si_code != BUS_MCEERR_AR) return nullptr;
  const pid_t self = ::gettid();
  for (pid_t other = 0; !text_is_of.compare_exchange_strong(other, self); other = 0) {
    if (other == self) return nullptr;  // a fault in here
    ::pause();
  }
  const int list = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  const char* path = list < 0 ? nullptr : FindPath(list, reinterpret_cast<uintptr_t>(info.si_addr));
  if (list >= 0) ::close(list);
  if (path == nullptr) text_is_of = 0;
  return path;
}

void HandleUnreadableFiles(void (*end)(const char* path)) {
  end_for_file = end;
  struct sigaction action = {};
  action.sa_sigaction = &OnBusError;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace cairn

#include "server/base/mapped_bytes.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#if !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

namespace cairn {

namespace {

int Advise(std::string_view bytes, int advice) {
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  static const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t page = begin - begin % page_bytes;
  return ::madvise(reinterpret_cast<void*>(page), begin + bytes.size() - page, advice);
}

}  // namespace

bool CanRead(std::string_view bytes) {
  if (bytes.empty()) return true;
  int result = 0;
  do {
    result = Advise(bytes, MADV_POPULATE_READ);
  } while (result != 0 && (errno == EINTR || errno == EAGAIN));
  return result == 0 || (errno != EFAULT && errno != EHWPOISON);
}

bool CanReadAs(std::string_view bytes, Hash128 hash) {
  return CanRead(bytes) && HashBytes128(bytes) == hash;
}

void WillRead(std::string_view bytes) {
  if (!bytes.empty()) (void)Advise(bytes, MADV_WILLNEED);
}

}  // namespace cairn

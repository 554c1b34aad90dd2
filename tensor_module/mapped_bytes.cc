#include "tensor_module/mapped_bytes.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#if !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

namespace cairn::tensor {

bool CanRead(std::string_view bytes) {
  if (bytes.empty()) return true;
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t page = begin - begin % kPageBytes;
  const size_t size = begin + bytes.size() - page;
  int result = 0;
  do {
    result = ::madvise(reinterpret_cast<void*>(page), size, MADV_POPULATE_READ);
  } while (result != 0 && (errno == EINTR || errno == EAGAIN));
  return result == 0 || (errno != EFAULT && errno != EHWPOISON);
}

}  // namespace cairn::tensor

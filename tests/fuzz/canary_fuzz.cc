// The canary: a fuzz target with a planted bug. `./dev fuzz` demands that the fuzzer finds it:
// coverage feedback has to lead to four given bytes one by one, and AddressSanitizer has to see a
// read of one byte past a heap block. If it is not found, the other targets' silence proves
// nothing.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  if (size_bytes < 4) return 0;
  if (data[0] != 'C') return 0;
  if (data[1] != 'A') return 0;
  if (data[2] != 'I') return 0;
  if (data[3] != 'R') return 0;
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size_bytes]);
  std::memcpy(copy.get(), data, size_bytes);
  volatile uint8_t past_the_end = copy[size_bytes];  // the planted bug
  static_cast<void>(past_the_end);
  return 0;
}

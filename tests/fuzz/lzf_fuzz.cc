// The first byte says how much room there is. The rest is compressed as liblzf does it, comes back,
// and is itself unpacked as liblzf unpacks it.

#include <lzf.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/base/lzf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  if (size < 2) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t room = text.size() > 4 && data[0] % 2 == 0 ? text.size() - 4 : data[0] + size_t{1};
  std::string ours(room, '\0'), library(room, '\0');
  ours.resize(LzfCompress(text, ours.data(), room));
  library.resize(lzf_compress(text.data(), static_cast<unsigned>(text.size()), library.data(),
                              static_cast<unsigned>(room)));
  if (ours != library) std::abort();
  std::string back(text.size(), '\0');
  if (!ours.empty() &&
      (LzfDecompress(ours, back.data(), back.size()) != text.size() || back != text)) {
    std::abort();
  }
  ours.assign(16 * room, '\0');
  library = ours;
  ours.resize(LzfDecompress(text, ours.data(), ours.size()));
  library.resize(lzf_decompress(text.data(), static_cast<unsigned>(text.size()), library.data(),
                                static_cast<unsigned>(library.size())));
  if (ours != library) std::abort();
  return 0;
}

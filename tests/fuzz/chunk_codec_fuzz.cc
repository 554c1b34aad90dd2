// Any bytes as an encoded chunk over any base: decoding reads and writes within its bounds; and any
// bytes as a chunk: what is encoded comes back. The first byte chooses the width and which of the
// two, the second where the base ends.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "tensor_module/chunk_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  using namespace cairn::tensor;
  if (size < 2) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t width = size_t{1} << (data[0] & 3);
  const size_t split = std::min<size_t>(rest.size(), data[1] * rest.size() / 255);
  // In memory of their own, so that a read past the end of one is seen.
  const std::vector<char> first(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(split));
  const std::vector<char> second(rest.begin() + static_cast<ptrdiff_t>(split), rest.end());
  const std::string_view base(first.data(), first.size()), bytes(second.data(), second.size());
  if ((data[0] & 4) != 0) {
    std::vector<char> out(base.size());
    [[maybe_unused]] const bool taken = DecodeChunk(bytes, base, out);
    return 0;
  }
  // A chunk and a base of one size, which share most of their bytes.
  std::string chunk(bytes), changed(bytes);
  for (size_t i = 0; i < base.size() && !changed.empty(); ++i)
    changed[i * 7 % changed.size()] ^= base[i];
  const std::string encoded = EncodeChunk(chunk, width, changed);
  if (encoded.empty()) return 0;
  CAIRN_CHECK(encoded.size() < chunk.size());
  std::vector<char> out(chunk.size());
  CAIRN_CHECK(DecodeChunk(encoded, changed, out));
  CAIRN_CHECK(std::equal(out.begin(), out.end(), chunk.begin()));
  return 0;
}

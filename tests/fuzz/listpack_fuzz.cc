// Bytes that pass ListpackView::Validate can be walked both ways and edited; the rest is refused
// without a read beyond the end.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "server/base/listpack.h"
#include "server/base/strings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  std::string listpack(reinterpret_cast<const char*>(data), size);
  if (!ListpackView::Validate(listpack)) return 0;
  const ListpackView view(listpack);
  uint32_t forward = 0, backward = 0;
  size_t text_bytes = 0;
  char scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at)) {
    text_bytes += view.Get(at).Text(scratch).size();
    ++forward;
  }
  for (uint32_t at = view.end(); at != view.begin(); at = view.Previous(at)) ++backward;
  if (forward != backward || forward != view.count()) std::abort();
  if (forward == 0) return 0;
  const std::string first(view.Get(view.begin()).Text(scratch));
  if (view.Find(first, view.begin(), 0) != view.begin()) std::abort();
  ListpackReplace(&listpack, view.begin(), std::string(text_bytes % 5000, 'r'));
  ListpackErase(&listpack, ListpackView(listpack).Seek(forward / 2), 1 + forward % 3);
  ListpackInsert(&listpack, ListpackView(listpack).begin(), first);
  ListpackAppend(&listpack, std::to_string(text_bytes));
  if (!ListpackView::Validate(listpack)) std::abort();
  return 0;
}

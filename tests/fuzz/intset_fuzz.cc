// Bytes that pass IntsetView::Validate can be searched and edited; the rest is refused without a
// read beyond the end.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/base/intset.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  std::string intset(reinterpret_cast<const char*>(data), size);
  if (!IntsetView::Validate(intset)) return 0;
  const uint32_t count = IntsetView(intset).count();
  for (uint32_t i = 0; i < count; ++i) {
    if (IntsetView(intset).LowerBound(IntsetView(intset).Get(i)) != i) std::abort();
  }
  const int64_t fresh = static_cast<int64_t>(size) * (size % 2 ? 1 : INT64_C(1) << 40);
  if (IntsetInsert(&intset, fresh) != (IntsetView(intset).count() == count + 1)) std::abort();
  if (!IntsetView::Validate(intset) || !IntsetErase(&intset, fresh)) std::abort();
  if (!IntsetView::Validate(intset)) std::abort();
  return 0;
}

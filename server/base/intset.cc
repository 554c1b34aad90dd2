#include "server/base/intset.h"

#include <cstring>

namespace cairn {
namespace {

uint32_t Load32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void Store32(char* at, uint32_t value) { std::memcpy(at, &value, sizeof value); }

int64_t LoadInteger(const char* at, uint32_t width) {
  switch (width) {
    case 2: {
      int16_t value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case 4: {
      int32_t value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    default: {
      int64_t value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
  }
}

uint32_t WidthOf(int64_t value) {
  if (value == static_cast<int16_t>(value)) return 2;
  return value == static_cast<int32_t>(value) ? 4 : 8;
}

// Spreads the integers to a new width, from the last on, so that none is overwritten unread.
void Widen(std::string* intset, uint32_t width) {
  const uint32_t old_width = Load32(intset->data());
  const uint32_t count = Load32(intset->data() + 4);
  intset->resize(kIntsetHeaderBytes + size_t{count} * width);
  char* integers = intset->data() + kIntsetHeaderBytes;
  for (size_t i = count; i-- > 0;) {
    const int64_t value = LoadInteger(integers + i * old_width, old_width);
    std::memcpy(integers + i * width, &value, width);
  }
  Store32(intset->data(), width);
}

}  // namespace

IntsetView::IntsetView(std::string_view bytes)
    : integers_(bytes.data() + kIntsetHeaderBytes),
      width_(Load32(bytes.data())),
      count_(Load32(bytes.data() + 4)) {}

bool IntsetView::Validate(std::string_view bytes) {
  if (bytes.size() < kIntsetHeaderBytes) return false;
  const uint32_t width = Load32(bytes.data());
  if (width != 2 && width != 4 && width != 8) return false;
  const IntsetView view(bytes);
  if (bytes.size() - kIntsetHeaderBytes != uint64_t{view.count_} * width) return false;
  for (uint32_t i = 1; i < view.count_; ++i) {
    if (view.Get(i - 1) >= view.Get(i)) return false;
  }
  return true;
}

int64_t IntsetView::Get(uint32_t index) const {
  return LoadInteger(integers_ + size_t{index} * width_, width_);
}

uint32_t IntsetView::LowerBound(int64_t value) const {
  uint32_t low = 0, high = count_;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (Get(middle) < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

bool IntsetView::Contains(int64_t value) const {
  const uint32_t at = LowerBound(value);
  return at < count_ && Get(at) == value;
}

std::string NewIntset() {
  std::string intset(kIntsetHeaderBytes, '\0');
  Store32(intset.data(), 2);
  return intset;
}

bool IntsetInsert(std::string* intset, int64_t value) {
  const IntsetView view(*intset);
  const uint32_t at = view.LowerBound(value);
  if (at < view.count() && view.Get(at) == value) return false;
  const uint32_t count = view.count();
  if (WidthOf(value) > Load32(intset->data())) Widen(intset, WidthOf(value));
  const uint32_t width = Load32(intset->data());
  intset->resize(intset->size() + width);
  char* gap = intset->data() + kIntsetHeaderBytes + size_t{at} * width;
  std::memmove(gap + width, gap, size_t{count - at} * width);
  std::memcpy(gap, &value, width);
  Store32(intset->data() + 4, count + 1);
  return true;
}

bool IntsetErase(std::string* intset, int64_t value) {
  const IntsetView view(*intset);
  const uint32_t at = view.LowerBound(value);
  if (at == view.count() || view.Get(at) != value) return false;
  const uint32_t width = Load32(intset->data());
  intset->erase(kIntsetHeaderBytes + size_t{at} * width, width);
  Store32(intset->data() + 4, view.count() - 1);
  return true;
}

}  // namespace cairn

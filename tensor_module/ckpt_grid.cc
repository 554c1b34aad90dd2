#include "tensor_module/ckpt_grid.h"

#include <algorithm>
#include <tuple>

namespace cairn::tensor {

namespace {

bool IsBefore(const ByteRange& a, const ByteRange& b) {
  return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
}

}  // namespace

void Grid::Add(size_t axis, uint64_t begin, uint64_t end) {
  std::vector<ByteRange>& ranges = ranges_[axis];
  // Along all axes but the last to change it is mostly the same again.
  if (ranges.empty() || ranges.back() != ByteRange{begin, end}) ranges.push_back({begin, end});
}

bool Grid::Settle(const Shape& lengths) {
  for (size_t axis = 0; axis < ranges_.size(); ++axis) {
    std::vector<ByteRange>& ranges = ranges_[axis];
    if (!std::is_sorted(ranges.begin(), ranges.end(), IsBefore)) {
      std::sort(ranges.begin(), ranges.end(), IsBefore);
    }
    ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
    uint64_t reached = 0;
    for (const ByteRange& range : ranges) {
      if (range.begin != reached) return false;
      reached = range.end;
    }
    if (ranges.empty() || reached != lengths[axis]) return false;
  }
  return true;
}

uint64_t Grid::cells() const {
  uint64_t cells = 1;
  for (const auto& ranges : ranges_) {
    if (__builtin_mul_overflow(cells, ranges.size(), &cells)) return UINT64_MAX;
  }
  return cells;
}

size_t Grid::PlaceOf(size_t place, size_t axis, uint64_t begin) const {
  const std::vector<ByteRange>& ranges = ranges_[axis];
  const auto at =
      std::lower_bound(ranges.begin(), ranges.end(), begin,
                       [](const ByteRange& range, uint64_t key) { return range.begin < key; });
  return place * ranges.size() + static_cast<size_t>(at - ranges.begin());
}

}  // namespace cairn::tensor

#include "tensor_module/ckpt_grid.h"

#include <algorithm>
#include <tuple>

namespace cairn::tensor {

namespace {

bool IsBefore(const ByteRange& a, const ByteRange& b) {
  return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
}

}  // namespace

void Grid::Restart(size_t axes) {
  axes_.resize(axes);
  for (Axis& axis : axes_) {
    axis.ranges.clear();
    axis.last = 0;
  }
}

void Grid::Add(size_t axis, uint64_t begin, uint64_t end) {
  auto& [ranges, last] = axes_[axis];
  const ByteRange range{begin, end};
  // From box to box it is mostly the same, the next one or the first again.
  if (!ranges.empty()) {
    if (ranges[last] == range) return;
    const size_t next = last + 1 == ranges.size() ? 0 : last + 1;
    if (ranges[next] == range) {
      last = next;
      return;
    }
  }
  last = ranges.size();
  ranges.push_back(range);
}

bool Grid::Settle(const Shape& lengths) {
  for (size_t i = 0; i < axes_.size(); ++i) {
    std::vector<ByteRange>& ranges = axes_[i].ranges;
    if (!std::is_sorted(ranges.begin(), ranges.end(), IsBefore)) {
      std::sort(ranges.begin(), ranges.end(), IsBefore);
    }
    ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
    uint64_t reached = 0;
    for (const ByteRange& range : ranges) {
      if (range.begin != reached) return false;
      reached = range.end;
    }
    if (ranges.empty() || reached != lengths[i]) return false;
  }
  return true;
}

uint64_t Grid::cells() const {
  uint64_t cells = 1;
  for (const Axis& axis : axes_) {
    if (__builtin_mul_overflow(cells, axis.ranges.size(), &cells)) return UINT64_MAX;
  }
  return cells;
}

size_t Grid::PlaceOf(size_t place, size_t axis, uint64_t begin) const {
  const std::vector<ByteRange>& ranges = axes_[axis].ranges;
  const auto at =
      std::lower_bound(ranges.begin(), ranges.end(), begin,
                       [](const ByteRange& range, uint64_t key) { return range.begin < key; });
  return place * ranges.size() + static_cast<size_t>(at - ranges.begin());
}

}  // namespace cairn::tensor

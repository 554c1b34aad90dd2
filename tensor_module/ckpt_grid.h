#pragma once

// Grid: boxes that cut a tensor at the same places along each axis, as ranks of a mesh do (tensor
// parallel along one, data parallel along another). That they tile it takes a look at each box and
// no box cut out of another. Pure; any thread.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor_module/ckpt_shard.h"

namespace cairn::tensor {

class Grid {
 public:
  explicit Grid(size_t axes) : axes_(axes) {}
  /// As another one, which takes its memory again.
  void Restart(size_t axes);

  /// A box spans [begin, end) of the axis. Requires: begin < end.
  void Add(size_t axis, uint64_t begin, uint64_t end);
  /// Along each axis the ranges that came lie one behind the other, from 0 to its length: boxes of
  /// them are cells, of which no two overlap. Cost: O(n log n) in what came.
  bool Settle(const Shape& lengths);
  /// How many cells there are; UINT64_MAX when more.
  uint64_t cells() const;
  /// The number of a cell, an axis a call: `place` is 0 for the first, then what the last call
  /// gave. Requires: settled, with a range that begins there. Cost: O(log n).
  size_t PlaceOf(size_t place, size_t axis, uint64_t begin) const;

 private:
  struct Axis {
    std::vector<ByteRange> ranges;  // of elements; ascending once settled
    size_t last = 0;                // where the one stands that came last
  };
  std::vector<Axis> axes_;
};

}  // namespace cairn::tensor

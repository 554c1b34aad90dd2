#pragma once

// LogicalTensor: a tensor of a committed checkpoint, whatever shards it was saved in, and how any
// box of it is read (C10). Frozen. Pure but for the memory it asks for; any thread.

#include <cstddef>
#include <iterator>
#include <string>
#include <vector>

#include "tensor_module/ckpt_shard.h"

namespace cairn::tensor {

struct StoredShard {
  Extent extent;
  uint64_t phase = 0;
  std::vector<ChunkRef> chunks;  ///< the cells (K1), in order
};

/// The shards of a tensor: a vector whose elements are frozen, so that a commit shares what the
/// votes have made. Where they overlap the last one counts.
class ShardList {
 public:
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = StoredShard;
    using difference_type = std::ptrdiff_t;
    using pointer = const StoredShard*;
    using reference = const StoredShard&;
    explicit Iterator(const Kept<StoredShard>* at) : at_(at) {}
    const StoredShard& operator*() const { return **at_; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Kept<StoredShard>* at_;
  };
  Iterator begin() const { return Iterator(shards_.data()); }
  Iterator end() const { return Iterator(shards_.data() + shards_.size()); }
  const StoredShard& operator[](size_t i) const { return *shards_[i]; }
  size_t size() const { return shards_.size(); }
  bool empty() const { return shards_.empty(); }
  void reserve(size_t count) { shards_.reserve(count); }
  void push_back(StoredShard shard) {
    shards_.push_back(Kept<StoredShard>::Make(std::move(shard)));
  }
  void push_back(Kept<StoredShard> shard) { shards_.push_back(std::move(shard)); }

 private:
  std::vector<Kept<StoredShard>> shards_;
};

struct LogicalTensor {
  std::string name;
  std::string group;
  DType dtype = DType::kF32;
  Shape shape;
  std::string alias_of;  ///< not empty: no shards of its own
  ShardList shards;      ///< no two of one extent
  /// Requires: the shape fits kMaxTensorBytes.
  uint64_t size_bytes() const { return PayloadBytes(dtype, shape).value(); }
};

/// An element lies in two of its shards: then nothing is read by reference. Requires: the shards
/// cover the tensor. Cost: O(shards).
bool Overlaps(const LogicalTensor& tensor);

/// Most boxes that the search for gaps keeps: shardings of real jobs need a few.
inline constexpr size_t kMaxGapBoxes = 4096;

/// What of a tensor of `shape` none of the extents covers. Errors: the sharding is too ragged
/// (kMaxGapBoxes). Cost: O(extents * gaps).
Result<std::vector<Extent>> FindGaps(const Shape& shape, const std::vector<Extent>& extents);
/// Whether the extents, which lie within it, cover a tensor of `shape`. Errors: those of FindGaps.
/// Cost: O(n log n) when they cut it along one axis or are a grid, else that of FindGaps.
Result<bool> IsCovered(const Shape& shape, const std::vector<const Extent*>& extents);

/// CKPTDAMAGED: `what` ("'w'", "state 'tree'") does not have the bytes that it was saved with.
Status Damaged(std::string_view what);
/// The chunks with bytes of the range have the bytes they were saved with (P5). Errors:
/// CKPTDAMAGED.
Status CheckIntact(const LogicalTensor& tensor, ByteRange range);
/// The same of all chunks of one of its shards.
Status CheckIntact(const LogicalTensor& tensor, const StoredShard& shard);

/// Where a shard that is one run of its tensor begins in it, in bytes; nullopt: it is no run.
std::optional<uint64_t> FirstByteOf(const LogicalTensor& tensor, const StoredShard& shard);

/// Bytes [offset, offset + size) of a stored shard, by reference. Requires: within it, intact.
Chunks ReadShard(const StoredShard& shard, uint64_t offset, uint64_t size);

/// Bytes [offset, offset + size) of the logical tensor as slices of its chunks; empty when the
/// shards there do not lie in its order or overlap: then GatherBox must copy. Requires: within it,
/// intact; size > 0.
Chunks ReadByReference(const LogicalTensor& tensor, uint64_t offset, uint64_t size);

/// The bytes of a box, by reference where they lie in one run, else gathered into memory of
/// `source`: the one place that says what elements are that lie in two shards. Requires: the shards
/// cover the tensor. Errors: memory refused, CKPTDAMAGED.
Result<Chunks> GatherBox(BlobSource& source, const LogicalTensor& tensor, const Box& box);
/// GatherBox will neither copy nor read nor decode.
bool IsReadByReference(const LogicalTensor& tensor, const Box& box);

/// The sum over all shards. Cost: FiguresCost() bytes of chunks that were met as another type
/// first.
ChunkFigures FiguresOf(const LogicalTensor& tensor);
uint64_t FiguresCost(const LogicalTensor& tensor);

}  // namespace cairn::tensor

#pragma once

// Shards: the part of a logical tensor that one rank declares and uploads. ShardSpec says which box
// of which tensor; ShardData is what has arrived of its bytes, cut into cells. Both are frozen in a
// transaction (kept.h): a PUT makes another ShardData that shares the untouched cells. Pure but for
// the pool's memory; any thread.
//
//   K1  Cells lie on a grid of 256 KiB. For a box that is one run of the logical tensor the grid is
//       anchored at the logical tensor's byte 0, so that other shardings of the same tensor make
//       the same chunks; else at the shard's own byte 0. `phase` is where in its cell the first
//       byte lies.
//   K2  A cell is empty, partial (a buffer and the ranges received), or sealed (a chunk of the
//   pool). K3  Elements never straddle cells.

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tensor_module/chunk_pool.h"
#include "tensor_module/chunk_store.h"
#include "tensor_module/kept.h"
#include "tensor_module/shared_list.h"
#include "tensor_module/slicing.h"

namespace cairn::tensor {

/// A box without steps, in elements: where it begins and how long its sides are. As many of each as
/// the tensor has dimensions.
struct Extent {
  Shape off;
  Shape len;
  friend bool operator==(const Extent&, const Extent&) = default;
  static Extent Whole(const Shape& shape) { return {Shape(shape.size(), 0), shape}; }
  Box AsBox() const;
  uint64_t numel() const;
};
/// An order; of what it points at, so that the boxes of 64 ranks are not copied to be compared.
struct LessExtent {
  bool operator()(const Extent* a, const Extent* b) const {
    return std::tie(a->off, a->len) < std::tie(b->off, b->len);
  }
};

struct ShardSpec {
  std::string name;
  std::string group;
  DType dtype = DType::kF32;
  Shape shape;  ///< of the logical tensor
  Extent extent;
  std::string alias_of;  ///< not empty: another name of that tensor, without bytes (C12)
  uint32_t index = 0;    ///< of this rank's shards of this name

  uint64_t size_bytes = 0;
  uint64_t phase = 0;
  /// Sets the last two. Requires: shape and extent fit kMaxTensorBytes.
  void Settle();
  size_t cell_count() const;
  /// Shard bytes of cell i.
  ByteRange CellRange(size_t cell) const;
  friend bool operator==(const ShardSpec&, const ShardSpec&) = default;
};

/// Whether two shards of one name may be of one tensor.
bool IsSameTensor(const ShardSpec& a, const ShardSpec& b);
/// The number of cells that `size_bytes` from `phase` touch.
size_t CellCount(uint64_t size_bytes, uint64_t phase);

struct PartialCell {
  BlobSlice bytes;                  ///< of the whole cell
  std::vector<ByteRange> received;  ///< in bytes of the cell, ascending, apart
};

struct Cell {
  ChunkRef chunk;
  Kept<PartialCell> partial;
};

/// What of a PUT covers whole cells, found before the bytes are looked at.
struct PutPlan {
  uint64_t offset = 0;        ///< in the shard
  size_t head = 0, tail = 0;  ///< bytes before and behind the whole cells
  size_t first_whole = 0;     ///< cell
  std::vector<size_t> whole;  ///< their sizes
};
/// Requires: [offset, offset + size) within the shard.
PutPlan PlanPut(const ShardSpec& spec, uint64_t offset, size_t size);

class ShardData {
 public:
  ShardData() = default;
  explicit ShardData(const ShardSpec& spec) : cells_(spec.cell_count()) {}
  /// Requires: as many cells as the spec has, each of its size.
  ShardData(const ShardSpec& spec, std::vector<Cell> cells);

  const SharedList<Cell>& cells() const { return cells_; }
  /// Places a piece: `chunks` are its whole cells, interned. The same bytes again change nothing.
  /// Errors, with nothing changed: CKPTDIVERGED when other bytes are there, memory refused, a BOOL
  /// byte that is neither 0 nor 1 (checked when its cell is complete).
  Status Put(ChunkPool& pool, BlobSource& source, const ShardSpec& spec, const PutPlan& plan,
             const BlobSlice& piece, const std::vector<ChunkRef>& chunks);
  /// Seals cells with chunks that are held already. Errors: CKPTDIVERGED.
  Status Refer(const ShardSpec& spec, size_t first_cell, const std::vector<ChunkRef>& chunks);

  bool IsComplete() const;
  uint64_t received_bytes() const { return received_bytes_; }
  /// Missing ranges in bytes of the shard, ascending.
  std::vector<ByteRange> Holes(const ShardSpec& spec) const;
  /// Requires: IsComplete().
  std::vector<ChunkRef> Chunks() const;

 private:
  Status Merge(ChunkPool& pool, BlobSource& source, const ShardSpec& spec, size_t cell,
               uint64_t begin, const BlobSlice& bytes);
  void Seal(const ShardSpec& spec, size_t cell, ChunkRef chunk);

  SharedList<Cell> cells_;
  uint64_t received_bytes_ = 0;  // what the cells have
};

/// The ranges with one more, merged.
std::vector<ByteRange> WithRange(const std::vector<ByteRange>& ranges, ByteRange range);
/// Errors: bytes that are not 0 or 1 where the dtype is BOOL; CKPTDAMAGED, as nobody knows them.
Status CheckBoolChunk(DType dtype, const Chunk& chunk);

}  // namespace cairn::tensor

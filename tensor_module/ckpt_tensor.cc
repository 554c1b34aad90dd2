#include "tensor_module/ckpt_tensor.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "tensor_module/ckpt_grid.h"

namespace cairn::tensor {

namespace {

bool Intersect(const Extent& a, const Extent& b, Extent* out) {
  out->off.clear();
  out->len.clear();
  for (size_t i = 0; i < a.off.size(); ++i) {
    const uint64_t from = std::max(a.off[i], b.off[i]);
    const uint64_t to = std::min(a.off[i] + a.len[i], b.off[i] + b.len[i]);
    if (from >= to) return false;
    out->off.push_back(from);
    out->len.push_back(to - from);
  }
  return true;
}

/// What is left of `box` without `hole`, which lies within it, as boxes that do not overlap.
void CutOut(Extent box, const Extent& hole, std::vector<Extent>* out) {
  for (size_t i = 0; i < box.off.size(); ++i) {
    if (hole.off[i] > box.off[i]) {
      Extent before = box;
      before.len[i] = hole.off[i] - box.off[i];
      out->push_back(std::move(before));
    }
    const uint64_t box_end = box.off[i] + box.len[i], hole_end = hole.off[i] + hole.len[i];
    if (hole_end < box_end) {
      Extent behind = box;
      behind.off[i] = hole_end;
      behind.len[i] = box_end - hole_end;
      out->push_back(std::move(behind));
    }
    box.off[i] = hole.off[i];
    box.len[i] = hole.len[i];
  }
}

uint64_t FirstByte(const Shape& shape, size_t element, const Shape& at) {
  uint64_t stride = element, first = 0;
  for (size_t i = shape.size(); i-- > 0;) {
    first += at[i] * stride;
    stride *= shape[i];
  }
  return first;
}

/// Copies out of a shard. Holds the cell that it read last: the next run is likely to lie there.
class ShardReader {
 public:
  explicit ShardReader(const StoredShard& shard) : shard_(shard) {}
  void Copy(uint64_t offset, uint64_t size, char* to) {
    while (size > 0) {
      const uint64_t place = offset + shard_.phase;
      const auto cell = static_cast<size_t>(place / kChunkBytes);
      const uint64_t cell_begin = cell == 0 ? 0 : cell * uint64_t{kChunkBytes} - shard_.phase;
      if (cell != cell_) bytes_ = shard_.chunks[cell]->bytes();
      cell_ = cell;
      const auto skip = static_cast<size_t>(offset - cell_begin);
      const auto take = static_cast<size_t>(std::min<uint64_t>(size, bytes_.size - skip));
      std::memcpy(to, bytes_.view().data() + skip, take);
      to += take;
      offset += take;
      size -= take;
    }
  }

 private:
  const StoredShard& shard_;
  size_t cell_ = SIZE_MAX;
  BlobSlice bytes_;
};

/// One side of the part of a box that a shard holds.
struct Overlap {
  uint64_t first = 0;  ///< index within the box
  uint64_t count = 0;
  uint64_t from_stride = 0, to_stride = 0;  ///< bytes from one index to the next
};

/// Copies what the shard has of the box to its places in `out`.
void CopyOverlap(const StoredShard& shard, size_t element, const Box& box, char* out) {
  const size_t dimensions = box.sides.size();
  std::vector<Overlap> sides(dimensions);
  uint64_t from = 0, to = 0, shard_stride = element, box_stride = element;
  for (size_t i = dimensions; i-- > 0;) {
    const Box::Side& side = box.sides[i];
    const uint64_t off = shard.extent.off[i], end = off + shard.extent.len[i];
    const uint64_t first = side.start >= off ? 0 : (off - side.start + side.step - 1) / side.step;
    const uint64_t last = side.start >= end ? 0 : (end - side.start + side.step - 1) / side.step;
    const uint64_t stop = std::min(last, side.count);
    if (first >= stop) return;
    sides[i] = {first, stop - first, side.step * shard_stride, box_stride};
    from += (side.start + first * side.step - off) * shard_stride;
    to += first * box_stride;
    shard_stride *= shard.extent.len[i];
    box_stride *= side.count;
  }
  // Inner sides that are adjacent in both make one run.
  uint64_t run = element;
  size_t loops = dimensions;
  while (loops > 0 && sides[loops - 1].from_stride == run && sides[loops - 1].to_stride == run) {
    run *= sides[--loops].count;
  }
  std::vector<uint64_t> at(loops, 0);
  ShardReader reader(shard);
  for (;;) {
    reader.Copy(from, run, out + to);
    size_t loop = loops;
    for (;;) {
      if (loop == 0) return;
      --loop;
      from += sides[loop].from_stride;
      to += sides[loop].to_stride;
      if (++at[loop] < sides[loop].count) break;
      from -= sides[loop].count * sides[loop].from_stride;
      to -= sides[loop].count * sides[loop].to_stride;
      at[loop] = 0;
    }
  }
}

/// Where a box that is one run begins, and how long it is, in bytes.
ByteRange RunOf(const LogicalTensor& tensor, const Box& box) {
  Shape start;
  uint64_t bytes = DTypeSize(tensor.dtype);
  for (const Box::Side& side : box.sides) {
    start.push_back(side.start);
    bytes *= side.count;
  }
  const uint64_t begin = FirstByte(tensor.shape, DTypeSize(tensor.dtype), start);
  return {begin, begin + bytes};
}

}  // namespace

bool Overlaps(const LogicalTensor& tensor) {
  __extension__ using Wide = unsigned __int128;
  Wide elements = 0, held = 0;
  elements = tensor.size_bytes() / DTypeSize(tensor.dtype);
  for (const StoredShard& shard : tensor.shards) held += shard.extent.numel();
  return held > elements;
}

Result<std::vector<Extent>> FindGaps(const Shape& shape, const std::vector<Extent>& extents) {
  std::vector<Extent> gaps;
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end()) return gaps;
  gaps.push_back(Extent::Whole(shape));
  for (const Extent& extent : extents) {
    std::vector<Extent> left;
    for (Extent& gap : gaps) {
      Extent common;
      if (Intersect(gap, extent, &common)) {
        CutOut(gap, common, &left);
      } else {
        left.push_back(std::move(gap));
      }
    }
    gaps = std::move(left);
    if (gaps.size() > kMaxGapBoxes) {
      return Status::Client("ERR the shards of a tensor leave too many gaps to look through");
    }
  }
  return gaps;
}

namespace {

/// The one axis that any of the extents does not span, as the shape's length when all span all;
/// nullopt: there are two.
std::optional<size_t> OnlyAxis(const Shape& shape, const std::vector<const Extent*>& extents) {
  size_t axis = shape.size();
  for (const Extent* extent : extents) {
    for (size_t i = 0; i < shape.size(); ++i) {
      if (i == axis || extent->len[i] == shape[i]) continue;
      if (axis != shape.size()) return std::nullopt;
      axis = i;
    }
  }
  return axis;
}

bool IsEmpty(const Extent& extent) {
  return std::find(extent.len.begin(), extent.len.end(), 0u) != extent.len.end();
}

/// Whether extents that cut the tensor at the same places along each axis cover it; nullopt: they
/// cut it in other ways.
std::optional<bool> IsGridCovered(const Shape& shape, const std::vector<const Extent*>& extents) {
  Grid grid(shape.size());
  for (const Extent* extent : extents) {
    if (IsEmpty(*extent)) continue;
    for (size_t i = 0; i < shape.size(); ++i) {
      grid.Add(i, extent->off[i], extent->off[i] + extent->len[i]);
    }
  }
  if (!grid.Settle(shape)) return std::nullopt;
  if (grid.cells() > extents.size()) return false;
  std::vector<bool> there(static_cast<size_t>(grid.cells()));
  size_t found = 0;
  for (const Extent* extent : extents) {
    if (IsEmpty(*extent)) continue;
    size_t place = 0;
    for (size_t i = 0; i < shape.size(); ++i) place = grid.PlaceOf(place, i, extent->off[i]);
    if (there[place]) continue;
    there[place] = true;
    ++found;
  }
  return found == there.size();
}

}  // namespace

Result<bool> IsCovered(const Shape& shape, const std::vector<const Extent*>& extents) {
  const std::optional<size_t> axis = OnlyAxis(shape, extents);
  if (extents.empty() || !axis || std::find(shape.begin(), shape.end(), 0u) != shape.end()) {
    if (const std::optional<bool> grid = IsGridCovered(shape, extents)) return bool(*grid);
    std::vector<Extent> copies;
    for (const Extent* extent : extents) copies.push_back(*extent);
    Result<std::vector<Extent>> gaps = FindGaps(shape, copies);
    if (!gaps.ok()) return gaps.status();
    return gaps->empty();
  }
  if (*axis == shape.size()) return true;
  std::vector<ByteRange> cuts;  // along the axis
  for (const Extent* extent : extents) {
    cuts.push_back({extent->off[*axis], extent->off[*axis] + extent->len[*axis]});
  }
  std::sort(cuts.begin(), cuts.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  uint64_t reached = 0;
  for (const ByteRange& cut : cuts) {
    if (cut.begin > reached) return false;
    reached = std::max(reached, cut.end);
  }
  return reached == shape[*axis];
}

namespace {

/// False when `test` is false of a chunk with bytes of the range; shards that do not lie in the
/// tensor's order count whole.
template <typename Test>
bool AllChunks(const LogicalTensor& tensor, ByteRange range, Test test) {
  const size_t element = DTypeSize(tensor.dtype);
  for (const StoredShard& shard : tensor.shards) {
    const uint64_t bytes = shard.extent.numel() * element;
    if (bytes == 0) continue;
    size_t cell = 0, end = shard.chunks.size();
    if (IsOneRun(tensor.shape, element, shard.extent.AsBox())) {
      const uint64_t first = FirstByte(tensor.shape, element, shard.extent.off);
      if (range.begin >= first + bytes || range.end <= first) continue;
      const uint64_t from = std::max(range.begin, first) - first;
      const uint64_t to = std::min(range.end - first, bytes);
      cell = static_cast<size_t>((from + shard.phase) / kChunkBytes);
      end = static_cast<size_t>((to - 1 + shard.phase) / kChunkBytes) + 1;
    }
    for (; cell < end; ++cell) {
      if (!test(*shard.chunks[cell])) return false;
    }
  }
  return true;
}

/// Where the box lies; the whole tensor unless that is one run.
ByteRange SpanOf(const LogicalTensor& tensor, const Box& box) {
  const size_t element = DTypeSize(tensor.dtype);
  return IsOneRun(tensor.shape, element, box) ? RunOf(tensor, box)
                                              : ByteRange{0, tensor.size_bytes()};
}

}  // namespace

Status Damaged(std::string_view what) {
  return Status::Client("CKPTDAMAGED bytes of " + std::string(what) +
                        " in the chunk log do not have the hash they were saved with");
}

Status CheckIntact(const LogicalTensor& tensor, ByteRange range) {
  const bool intact = AllChunks(tensor, range, [](const Chunk& chunk) { return chunk.IsIntact(); });
  return intact ? Status::Ok() : Damaged("'" + tensor.name + "'");
}

Status CheckIntact(const LogicalTensor& tensor, const StoredShard& shard) {
  const bool intact = std::all_of(shard.chunks.begin(), shard.chunks.end(),
                                  [](const ChunkRef& chunk) { return chunk->IsIntact(); });
  return intact ? Status::Ok() : Damaged("'" + tensor.name + "'");
}

Chunks ReadShard(const StoredShard& shard, uint64_t offset, uint64_t size) {
  Chunks out;
  while (size > 0) {
    const uint64_t place = offset + shard.phase;
    const auto cell = static_cast<size_t>(place / kChunkBytes);
    const uint64_t cell_begin = cell == 0 ? 0 : cell * uint64_t{kChunkBytes} - shard.phase;
    const BlobSlice bytes = shard.chunks[cell]->bytes();
    const auto skip = static_cast<size_t>(offset - cell_begin);
    const auto take = static_cast<size_t>(std::min<uint64_t>(size, bytes.size - skip));
    if (!out.empty() && out.back().blob.get() == bytes.blob.get() &&
        out.back().offset + out.back().size == bytes.offset + skip) {
      out.back().size += take;
    } else {
      out.push_back({bytes.blob, bytes.offset + skip, take});
    }
    offset += take;
    size -= take;
  }
  return out;
}

std::optional<uint64_t> FirstByteOf(const LogicalTensor& tensor, const StoredShard& shard) {
  const size_t element = DTypeSize(tensor.dtype);
  if (!IsOneRun(tensor.shape, element, shard.extent.AsBox())) return std::nullopt;
  return FirstByte(tensor.shape, element, shard.extent.off);
}

Chunks ReadByReference(const LogicalTensor& tensor, uint64_t offset, uint64_t size) {
  const size_t element = DTypeSize(tensor.dtype);
  Chunks out;
  if (Overlaps(tensor)) return out;
  const uint64_t end = offset + size;
  while (offset < end) {
    uint64_t took = 0;
    for (const StoredShard& shard : tensor.shards) {
      const uint64_t bytes = shard.extent.numel() * element;
      const uint64_t first = FirstByte(tensor.shape, element, shard.extent.off);
      if (bytes == 0 || offset < first || offset >= first + bytes) continue;
      if (!IsOneRun(tensor.shape, element, shard.extent.AsBox())) continue;
      took = std::min(end, first + bytes) - offset;
      for (BlobSlice& slice : ReadShard(shard, offset - first, took))
        out.push_back(std::move(slice));
      break;
    }
    if (took == 0) return {};
    offset += took;
  }
  return out;
}

bool IsReadByReference(const LogicalTensor& tensor, const Box& box) {
  const size_t element = DTypeSize(tensor.dtype);
  if (!IsOneRun(tensor.shape, element, box)) return false;
  const bool read =
      AllChunks(tensor, RunOf(tensor, box), [](const Chunk& chunk) { return !chunk.IsCold(); });
  return read && !Overlaps(tensor) &&
         std::all_of(tensor.shards.begin(), tensor.shards.end(), [&](const StoredShard& shard) {
           return IsOneRun(tensor.shape, element, shard.extent.AsBox());
         });
}

Result<Chunks> GatherBox(BlobSource& source, const LogicalTensor& tensor, const Box& box) {
  const size_t element = DTypeSize(tensor.dtype);
  const Result<uint64_t> size = PayloadBytes(tensor.dtype, box.shape());
  if (!size.ok()) return size.status();
  if (size.value() == 0) return Chunks();
  CAIRN_RETURN_IF_ERROR(CheckIntact(tensor, SpanOf(tensor, box)));
  if (IsOneRun(tensor.shape, element, box)) {
    const ByteRange run = RunOf(tensor, box);
    if (Chunks found = ReadByReference(tensor, run.begin, run.end - run.begin); !found.empty()) {
      return found;
    }
  }
  Blob* blob = source.Allocate(size.value());
  if (blob == nullptr) {
    return Status::Client("OOM no memory for a slice of " + std::to_string(size.value()) +
                          " bytes");
  }
  BlobSlice out{BlobRef::Adopt(blob), 0, static_cast<size_t>(size.value())};
  for (const StoredShard& shard : tensor.shards) {
    if (shard.extent.numel() > 0) CopyOverlap(shard, element, box, blob->mutable_data());
  }
  return Chunks{std::move(out)};
}

uint64_t FiguresCost(const LogicalTensor& tensor) {
  uint64_t bytes = 0;
  const Chunk* last = nullptr;
  for (const StoredShard& shard : tensor.shards) {
    for (const ChunkRef& chunk : shard.chunks) {
      const bool known = chunk.get() == last || chunk->dtype() == tensor.dtype;
      bytes += known ? 0 : chunk->size();
      last = chunk.get();
    }
  }
  return bytes;
}

ChunkFigures FiguresOf(const LogicalTensor& tensor) {
  ChunkFigures figures, of_last;
  const Chunk* last = nullptr;
  for (const StoredShard& shard : tensor.shards) {
    for (const ChunkRef& chunk : shard.chunks) {
      // Many cells of one chunk (zeros that were met as another type first): computed once.
      if (chunk.get() != last) {
        of_last = chunk->dtype() == tensor.dtype ? chunk->figures()
                  : !chunk->IsIntact()           ? ChunkFigures()
                                       : ComputeFigures(tensor.dtype, chunk->bytes().view());
        last = chunk.get();
      }
      figures.Add(of_last);
    }
  }
  return figures;
}

}  // namespace cairn::tensor

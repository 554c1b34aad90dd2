#include "tensor_module/ckpt_shard.h"

#include <algorithm>
#include <cstring>

namespace cairn::tensor {

namespace {

Status Diverged(const ShardSpec& spec, uint64_t offset) {
  return Status::Client("CKPTDIVERGED other bytes of '" + spec.name +
                        "' are there already, at byte " + std::to_string(offset));
}

Status MemoryRefused(uint64_t size_bytes) {
  return Status::Client("OOM no memory for " + std::to_string(size_bytes) +
                        " bytes of checkpoint data");
}

}  // namespace

Box Extent::AsBox() const {
  Box box;
  for (size_t i = 0; i < off.size(); ++i) box.sides.push_back({off[i], len[i], 1});
  return box;
}

uint64_t Extent::numel() const {
  uint64_t count = 1;
  for (uint64_t side : len) count *= side;
  return count;
}

bool IsSameTensor(const ShardSpec& a, const ShardSpec& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.group == b.group && a.alias_of == b.alias_of;
}

size_t CellCount(uint64_t size_bytes, uint64_t phase) {
  return size_bytes == 0
             ? 0
             : static_cast<size_t>((phase + size_bytes + kChunkBytes - 1) / kChunkBytes);
}

void ShardSpec::Settle() {
  const size_t element = DTypeSize(dtype);
  size_bytes = alias_of.empty() ? extent.numel() * element : 0;
  phase = 0;
  if (size_bytes == 0 || !IsOneRun(shape, element, extent.AsBox())) return;
  uint64_t stride = element, first = 0;
  for (size_t i = shape.size(); i-- > 0;) {
    first += extent.off[i] * stride;
    stride *= shape[i];
  }
  phase = first % kChunkBytes;
}

size_t ShardSpec::cell_count() const { return CellCount(size_bytes, phase); }

ByteRange ShardSpec::CellRange(size_t cell) const {
  const uint64_t begin = cell == 0 ? 0 : cell * uint64_t{kChunkBytes} - phase;
  return {begin, std::min<uint64_t>(size_bytes, (cell + 1) * uint64_t{kChunkBytes} - phase)};
}

PutPlan PlanPut(const ShardSpec& spec, uint64_t offset, size_t size) {
  PutPlan plan;
  plan.offset = offset;
  const uint64_t end = offset + size;
  size_t cell = static_cast<size_t>((offset + spec.phase) / kChunkBytes);
  if (size > 0 && spec.CellRange(cell).begin != offset) {
    plan.head = static_cast<size_t>(std::min(end, spec.CellRange(cell).end) - offset);
    ++cell;
  }
  plan.first_whole = cell;
  uint64_t at = offset + plan.head;
  while (at < end && spec.CellRange(cell).end <= end) {
    const ByteRange range = spec.CellRange(cell++);
    plan.whole.push_back(static_cast<size_t>(range.end - range.begin));
    at = range.end;
  }
  plan.tail = static_cast<size_t>(end - at);
  return plan;
}

std::vector<ByteRange> WithRange(const std::vector<ByteRange>& ranges, ByteRange range) {
  std::vector<ByteRange> out;
  bool placed = false;
  for (const ByteRange& old : ranges) {
    if (old.end < range.begin) {
      out.push_back(old);
    } else if (old.begin > range.end) {
      if (!placed) out.push_back(range);
      placed = true;
      out.push_back(old);
    } else {
      range = {std::min(range.begin, old.begin), std::max(range.end, old.end)};
    }
  }
  if (!placed) out.push_back(range);
  return out;
}

Status CheckBoolChunk(DType dtype, const Chunk& chunk) {
  if (dtype != DType::kBool) return Status::Ok();
  if (!chunk.IsIntact()) return Status::Client("CKPTDAMAGED bytes of a chunk in the chunk log");
  ChunkFigures figures = chunk.figures();
  if (chunk.dtype() != DType::kBool && chunk.dtype() != DType::kU8) {
    figures = ComputeFigures(DType::kU8, chunk.bytes().view());
  }
  if (figures.max <= 1) return Status::Ok();
  return Status::Client("ERR a byte of a BOOL tensor is neither 0 nor 1");
}

namespace {

uint64_t ReceivedBytes(const PartialCell& cell) {
  uint64_t bytes = 0;
  for (const ByteRange& range : cell.received) bytes += range.end - range.begin;
  return bytes;
}

}  // namespace

ShardData::ShardData(const ShardSpec& spec, std::vector<Cell> cells) {
  for (size_t i = 0; i < cells.size(); ++i) {
    const ByteRange range = spec.CellRange(i);
    if (cells[i].chunk) {
      received_bytes_ += range.end - range.begin;
    } else if (cells[i].partial) {
      received_bytes_ += ReceivedBytes(*cells[i].partial);
    }
  }
  cells_ = SharedList<Cell>(std::move(cells));
}

// One end of a piece, which covers part of a cell.
Status ShardData::Merge(ChunkPool& pool, BlobSource& source, const ShardSpec& spec, size_t index,
                        uint64_t begin, const BlobSlice& bytes) {
  const ByteRange range = spec.CellRange(index);
  const auto size = static_cast<size_t>(range.end - range.begin);
  const auto at = static_cast<size_t>(begin - range.begin);
  const Cell& cell = cells_[index];
  if (cell.chunk) {
    const bool same =
        cell.chunk->IsIntact() && cell.chunk->bytes().view().substr(at, bytes.size) == bytes.view();
    return same ? Status::Ok() : Diverged(spec, begin);
  }
  PartialCell next;
  if (cell.partial) {
    for (const ByteRange& old : cell.partial->received) {
      const uint64_t from = std::max<uint64_t>(old.begin, at);
      const uint64_t to = std::min<uint64_t>(old.end, at + bytes.size);
      if (from >= to) continue;
      const auto length = static_cast<size_t>(to - from);
      if (cell.partial->bytes.view().substr(static_cast<size_t>(from), length) !=
          bytes.view().substr(static_cast<size_t>(from) - at, length)) {
        return Diverged(spec, range.begin + from);
      }
    }
    next.received = cell.partial->received;
  }
  // A buffer of its own each time: the old one may be read by a snapshot.
  Blob* blob = source.Allocate(size);
  if (blob == nullptr) return MemoryRefused(size);
  next.bytes = {BlobRef::Adopt(blob), 0, size};
  if (cell.partial) {
    std::memcpy(blob->mutable_data(), cell.partial->bytes.view().data(), size);
  } else {
    std::memset(blob->mutable_data(), 0, size);
  }
  std::memcpy(blob->mutable_data() + at, bytes.view().data(), bytes.size);
  next.received = WithRange(next.received, {at, at + bytes.size});
  if (next.received.size() == 1 && next.received[0] == ByteRange{0, size}) {
    Result<ChunkRef> sealed = pool.InternOne(next.bytes, spec.dtype);
    if (!sealed.ok()) return sealed.status();
    CAIRN_RETURN_IF_ERROR(CheckBoolChunk(spec.dtype, **sealed));
    Seal(spec, index, std::move(*sealed));
  } else {
    received_bytes_ += ReceivedBytes(next) - (cell.partial ? ReceivedBytes(*cell.partial) : 0);
    cells_.Own(index).partial = Kept<PartialCell>::Make(std::move(next));
  }
  return Status::Ok();
}

Status ShardData::Put(ChunkPool& pool, BlobSource& source, const ShardSpec& spec,
                      const PutPlan& plan, const BlobSlice& piece,
                      const std::vector<ChunkRef>& chunks) {
  ShardData next = *this;
  for (const ChunkRef& chunk : chunks) CAIRN_RETURN_IF_ERROR(CheckBoolChunk(spec.dtype, *chunk));
  CAIRN_RETURN_IF_ERROR(next.Refer(spec, plan.first_whole, chunks));
  if (plan.head > 0) {
    CAIRN_RETURN_IF_ERROR(next.Merge(pool, source, spec, plan.first_whole - 1, plan.offset,
                                     {piece.blob, piece.offset, plan.head}));
  }
  if (plan.tail > 0) {
    const size_t skip = piece.size - plan.tail;
    CAIRN_RETURN_IF_ERROR(next.Merge(pool, source, spec, plan.first_whole + plan.whole.size(),
                                     plan.offset + skip,
                                     {piece.blob, piece.offset + skip, plan.tail}));
  }
  *this = std::move(next);
  return Status::Ok();
}

Status ShardData::Refer(const ShardSpec& spec, size_t first_cell,
                        const std::vector<ChunkRef>& chunks) {
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Cell& cell = cells_[first_cell + i];
    const uint64_t begin = spec.CellRange(first_cell + i).begin;
    if (cell.chunk && !SameBytes(*cell.chunk, *chunks[i])) return Diverged(spec, begin);
    if (!cell.partial) continue;
    if (!chunks[i]->IsIntact()) return Diverged(spec, begin);
    const BlobSlice held = chunks[i]->bytes();
    const std::string_view bytes = held.view();
    for (const ByteRange& old : cell.partial->received) {
      const auto from = static_cast<size_t>(old.begin),
                 length = static_cast<size_t>(old.end) - from;
      if (cell.partial->bytes.view().substr(from, length) != bytes.substr(from, length)) {
        return Diverged(spec, begin + from);
      }
    }
  }
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (!cells_[first_cell + i].chunk) Seal(spec, first_cell + i, chunks[i]);
  }
  return Status::Ok();
}

bool ShardData::IsComplete() const {
  return std::all_of(cells_.begin(), cells_.end(), [](const Cell& cell) { return !!cell.chunk; });
}

void ShardData::Seal(const ShardSpec& spec, size_t index, ChunkRef chunk) {
  const ByteRange range = spec.CellRange(index);
  const Kept<PartialCell>& partial = cells_[index].partial;
  received_bytes_ += range.end - range.begin - (partial ? ReceivedBytes(*partial) : 0);
  cells_.Own(index) = {std::move(chunk), {}};
}

std::vector<ByteRange> ShardData::Holes(const ShardSpec& spec) const {
  std::vector<ByteRange> holes;
  const auto add = [&](uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    if (!holes.empty() && holes.back().end == begin) {
      holes.back().end = end;
    } else {
      holes.push_back({begin, end});
    }
  };
  for (size_t i = 0; i < cells_.size(); ++i) {
    if (cells_[i].chunk) continue;
    const ByteRange range = spec.CellRange(i);
    uint64_t at = range.begin;
    if (cells_[i].partial) {
      for (const ByteRange& received : cells_[i].partial->received) {
        add(at, range.begin + received.begin);
        at = range.begin + received.end;
      }
    }
    add(at, range.end);
  }
  return holes;
}

std::vector<ChunkRef> ShardData::Chunks() const {
  std::vector<ChunkRef> chunks;
  chunks.reserve(cells_.size());
  for (const Cell& cell : cells_) chunks.push_back(cell.chunk);
  return chunks;
}

}  // namespace cairn::tensor

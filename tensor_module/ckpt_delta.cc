#include "tensor_module/ckpt_delta.h"

#include <algorithm>

namespace cairn::tensor {

namespace {

bool SameLayout(const LogicalTensor& a, const LogicalTensor& b) {
  if (a.dtype != b.dtype || a.shape != b.shape || a.shards.size() != b.shards.size()) return false;
  for (size_t i = 0; i < a.shards.size(); ++i) {
    const StoredShard &x = a.shards[i], &y = b.shards[i];
    if (x.extent != y.extent || x.phase != y.phase || x.chunks.size() != y.chunks.size()) {
      return false;
    }
  }
  return true;
}

/// Where byte `at` of the shard lies in the tensor: further on for a higher `at`, as both are in C
/// order.
uint64_t PlaceOf(const LogicalTensor& tensor, const StoredShard& shard, uint64_t at) {
  const uint64_t element = DTypeSize(tensor.dtype);
  uint64_t index = at / element, stride = element, place = at % element;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    place += (shard.extent.off[i] + index % shard.extent.len[i]) * stride;
    index /= shard.extent.len[i];
    stride *= tensor.shape[i];
  }
  return place;
}

/// The chunks of `to` that `from` has not. A chunk of a box that is no run gives all from its first
/// byte's place to its last one's.
void AddChanged(const LogicalTensor& tensor, const StoredShard& from, const StoredShard& to,
                std::vector<ByteRange>* ranges) {
  uint64_t at = 0;
  for (size_t i = 0; i < to.chunks.size(); ++i) {
    const uint64_t end = at + to.chunks[i]->size();
    if (from.chunks[i].get() != to.chunks[i].get()) {
      ranges->push_back({PlaceOf(tensor, to, at), PlaceOf(tensor, to, end - 1) + 1});
    }
    at = end;
  }
}

std::vector<ByteRange> Merged(std::vector<ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  std::vector<ByteRange> out;
  for (const ByteRange& range : ranges) {
    if (!out.empty() && range.begin <= out.back().end) {
      out.back().end = std::max(out.back().end, range.end);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

}  // namespace

std::vector<ByteRange> ChangedRanges(const LogicalTensor* from, const LogicalTensor& to) {
  const uint64_t size = to.size_bytes();
  if (from == nullptr || from->dtype != to.dtype || from->shape != to.shape) return {{0, size}};
  if (size == 0) return {};
  if (!SameLayout(*from, to)) return {{0, size}};
  std::vector<ByteRange> ranges;
  for (size_t i = 0; i < to.shards.size(); ++i) {
    AddChanged(to, from->shards[i], to.shards[i], &ranges);
  }
  return Merged(std::move(ranges));
}

Result<std::vector<Chunks>> ReadRanges(BlobSource& source, const LogicalTensor& tensor,
                                       const std::vector<ByteRange>& ranges) {
  std::vector<Chunks> out;
  BlobSlice whole;
  for (const ByteRange& range : ranges) {
    Chunks& bytes = out.emplace_back();
    const uint64_t size = range.end - range.begin;
    if (size == 0) continue;
    CAIRN_RETURN_IF_ERROR(CheckIntact(tensor, range));
    bytes = ReadByReference(tensor, range.begin, size);
    if (!bytes.empty()) continue;
    if (whole.size == 0) {
      Result<Chunks> gathered = GatherBox(source, tensor, Extent::Whole(tensor.shape).AsBox());
      if (!gathered.ok()) return gathered.status();
      whole = std::move((*gathered)[0]);
    }
    bytes = {
        {whole.blob, whole.offset + static_cast<size_t>(range.begin), static_cast<size_t>(size)}};
  }
  return out;
}

}  // namespace cairn::tensor

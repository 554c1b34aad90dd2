#include "tensor_module/slicing.h"

#include <algorithm>
#include <cstring>

namespace cairn::tensor {

namespace {

/// `bound` of a dimension of `size`, as Python clamps it.
uint64_t ClampBound(int64_t bound, uint64_t size) {
  if (bound >= 0) return std::min(static_cast<uint64_t>(bound), size);
  // INT64_MIN has no negative of its own type.
  const uint64_t back = uint64_t{0} - static_cast<uint64_t>(bound);
  return back >= size ? 0 : size - back;
}

/// The box as nested loops over one size of run.
struct RunPlan {
  uint64_t run_bytes = 0;
  uint64_t first_byte = 0;
  struct Loop {
    uint64_t count;
    uint64_t stride_bytes;
  };
  std::vector<Loop> loops;  // outermost first
};

RunPlan PlanRuns(const Shape& shape, size_t element_bytes, const Box& box) {
  RunPlan plan;
  plan.run_bytes = element_bytes;
  uint64_t stride = element_bytes;
  bool joined = true;  // all dimensions behind are one run
  for (size_t i = shape.size(); i-- > 0;) {
    const Box::Side& side = box.sides[i];
    plan.first_byte += side.start * stride;
    if (joined && side.step == 1) {
      plan.run_bytes = side.count * stride;
      joined = side.count == shape[i];
    } else {
      plan.loops.insert(plan.loops.begin(), {side.count, side.step * stride});
      joined = false;
    }
    stride *= shape[i];
  }
  return plan;
}

}  // namespace

Shape Box::shape() const {
  Shape out;
  for (const Side& side : sides) out.push_back(side.count);
  return out;
}

Result<Box> ResolveSlice(const Shape& shape, const std::vector<SliceWords>& words) {
  if (words.size() > shape.size()) {
    return Status::Client("ERR a slice of " + std::to_string(words.size()) +
                          " dimensions of a tensor of " + std::to_string(shape.size()));
  }
  Box box;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i >= words.size()) {
      box.sides.push_back({0, shape[i], 1});
      continue;
    }
    if (words[i].step < 1) return Status::Client("ERR the step of a slice must be 1 or more");
    const uint64_t start = ClampBound(words[i].start, shape[i]),
                   stop = ClampBound(words[i].stop, shape[i]);
    const auto step = static_cast<uint64_t>(words[i].step);
    const uint64_t count = stop > start ? (stop - start - 1) / step + 1 : 0;
    // A side of one element has no stride to overflow.
    box.sides.push_back({count > 0 ? start : 0, count, count > 1 ? step : 1});
  }
  return box;
}

bool IsOneRun(const Shape& shape, size_t element_bytes, const Box& box) {
  for (const Box::Side& side : box.sides) {
    if (side.count == 0) return true;
  }
  return PlanRuns(shape, element_bytes, box).loops.empty();
}

Status ForEachRun(const Shape& shape, size_t element_bytes, const Box& box,
                  const std::function<Status(uint64_t, uint64_t)>& visit) {
  for (const Box::Side& side : box.sides) {
    if (side.count == 0) return Status::Ok();
  }
  const RunPlan plan = PlanRuns(shape, element_bytes, box);
  std::vector<uint64_t> at(plan.loops.size(), 0);
  uint64_t offset = plan.first_byte;
  for (;;) {
    CAIRN_RETURN_IF_ERROR(visit(offset, plan.run_bytes));
    size_t loop = plan.loops.size();
    while (loop > 0) {
      --loop;
      offset += plan.loops[loop].stride_bytes;
      if (++at[loop] < plan.loops[loop].count) break;
      offset -= plan.loops[loop].count * plan.loops[loop].stride_bytes;
      at[loop] = 0;
      if (loop == 0) return Status::Ok();
    }
    if (plan.loops.empty()) return Status::Ok();
  }
}

Result<Chunks> ReadSlice(BlobSource& source, const Tensor& tensor, const Box& box) {
  const size_t element = DTypeSize(tensor.dtype());
  const Result<uint64_t> size = PayloadBytes(tensor.dtype(), box.shape());
  if (!size.ok()) return size.status();
  if (size.value() == 0) return Chunks();
  if (const RunPlan plan = PlanRuns(tensor.shape(), element, box); plan.loops.empty()) {
    return ReadChunks(tensor.chunks(), plan.first_byte, plan.run_bytes);
  }
  Blob* blob = source.Allocate(size.value());
  if (blob == nullptr)
    return Status::Client("OOM no memory for a slice of " + std::to_string(size.value()) +
                          " bytes");
  BlobSlice out{BlobRef::Adopt(blob), 0, static_cast<size_t>(size.value())};
  char* to = blob->mutable_data();
  CAIRN_RETURN_IF_ERROR(
      ForEachRun(tensor.shape(), element, box, [&](uint64_t offset, uint64_t run) {
        while (run > 0) {
          const BlobSlice& chunk = tensor.chunks()[offset / kChunkBytes];
          const size_t skip = offset % kChunkBytes;
          const size_t take = static_cast<size_t>(std::min<uint64_t>(run, chunk.size - skip));
          std::memcpy(to, chunk.view().data() + skip, take);
          to += take;
          offset += take;
          run -= take;
        }
        return Status::Ok();
      }));
  return Chunks{std::move(out)};
}

Result<Chunks> WriteSlice(BlobSource& source, const Tensor& tensor, const Box& box,
                          const BlobSlice& bytes) {
  ChunkEditor editor(source, tensor.chunks());
  size_t done = 0;
  CAIRN_RETURN_IF_ERROR(ForEachRun(
      tensor.shape(), DTypeSize(tensor.dtype()), box, [&](uint64_t offset, uint64_t run) {
        const BlobSlice piece{bytes.blob, bytes.offset + done, static_cast<size_t>(run)};
        done += static_cast<size_t>(run);
        return editor.Write(offset, piece);
      }));
  return editor.Take();
}

uint64_t CopiedBytes(const Tensor& tensor, const Box& box) {
  uint64_t size = DTypeSize(tensor.dtype());
  for (const Box::Side& side : box.sides) size *= side.count;
  if (size == 0) return 0;
  const RunPlan plan = PlanRuns(tensor.shape(), DTypeSize(tensor.dtype()), box);
  if (plan.loops.empty()) return CopiedBytes(tensor.size_bytes(), plan.first_byte, size);
  uint64_t last = plan.first_byte + plan.run_bytes - 1;
  for (const RunPlan::Loop& loop : plan.loops) last += (loop.count - 1) * loop.stride_bytes;
  const uint64_t begin = plan.first_byte / kChunkBytes * kChunkBytes;
  return std::min(tensor.size_bytes(), (last / kChunkBytes + 1) * kChunkBytes) - begin;
}

}  // namespace cairn::tensor

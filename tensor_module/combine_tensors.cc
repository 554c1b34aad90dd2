#include "tensor_module/combine_tensors.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace cairn::tensor {

namespace {

std::string Described(const Tensor& tensor) {
  return std::string(DTypeName(tensor.dtype())) + " " + ShapeText(tensor.shape());
}

Status Unlike(const Tensor& a, const Tensor& b) {
  return Status::Client("ERR the tensors differ: " + Described(a) + " and " + Described(b));
}

Status Refused(uint64_t size_bytes) {
  return Status::Client("OOM no memory for " + std::to_string(size_bytes) +
                        " bytes of tensor data");
}

/// Reads a payload from its first byte on.
class ChunkReader {
 public:
  explicit ChunkReader(const Chunks& chunks) : chunks_(chunks) {}
  void Read(char* to, uint64_t size) {
    while (size > 0) {
      const BlobSlice& chunk = chunks_[index_];
      const auto take = static_cast<size_t>(std::min<uint64_t>(size, chunk.size - offset_));
      std::memcpy(to, chunk.view().data() + offset_, take);
      to += take;
      size -= take;
      offset_ += take;
      if (offset_ == chunk.size) ++index_, offset_ = 0;
    }
  }

 private:
  const Chunks& chunks_;
  size_t index_ = 0;
  size_t offset_ = 0;
};

}  // namespace

Status CheckSameForm(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() ? Status::Ok() : Unlike(a, b);
}

Status CheckAlike(const TensorList& tensors) {
  const Tensor& first = *tensors[0];
  for (const auto& tensor : tensors) CAIRN_RETURN_IF_ERROR(CheckSameForm(first, *tensor));
  if (HowCombined(first.dtype()) != Combining::kNone) return Status::Ok();
  return Status::Client("ERR there is no arithmetic of " + std::string(DTypeName(first.dtype())) +
                        ": cast the tensors first");
}

Result<Chunks> BlendTensors(BlobSource& source, const TensorList& tensors, const Recipe& recipe) {
  const Tensor& last = *tensors.back();
  if (HowCombined(last.dtype()) == Combining::kNewest) return Chunks(last.chunks());
  Chunks out;
  out.reserve(last.chunks().size());
  std::vector<std::string_view> inputs(tensors.size());
  for (size_t i = 0; i < last.chunks().size(); ++i) {
    for (size_t each = 0; each < tensors.size(); ++each) {
      inputs[each] = tensors[each]->chunks()[i].view();
    }
    const std::string_view bytes = inputs.back();
    if (std::all_of(inputs.begin(), inputs.end(), [&](std::string_view input) {
          return input.data() == bytes.data() || input == bytes;
        })) {
      out.push_back(last.chunks()[i]);
      continue;
    }
    Blob* blob = source.Allocate(bytes.size());
    if (blob == nullptr) return Refused(bytes.size());
    out.push_back({BlobRef::Adopt(blob), 0, bytes.size()});
    Combine(last.dtype(), recipe, inputs, blob->mutable_data());
  }
  return out;
}

Result<Shape> CatShape(const TensorList& tensors, int64_t* dim) {
  const Tensor& first = *tensors[0];
  const auto rank = static_cast<int64_t>(first.shape().size());
  if (*dim < -rank || *dim >= rank) {
    return Status::Client("ERR DIM " + std::to_string(*dim) + " is none of a tensor of " +
                          std::to_string(rank) + " dimensions");
  }
  if (*dim < 0) *dim += rank;
  const auto at = static_cast<size_t>(*dim);
  Shape shape = first.shape();
  shape[at] = 0;
  for (const auto& tensor : tensors) {
    Shape other = tensor->shape();
    if (tensor->dtype() != first.dtype() || other.size() != shape.size()) {
      return Unlike(first, *tensor);
    }
    // A dimension may be of any size where another one is 0.
    if (__builtin_add_overflow(shape[at], other[at], &shape[at])) {
      return Status::Client("ERR the tensors are too long to stand one behind the other");
    }
    other[at] = shape[at];
    if (other != shape) return Unlike(first, *tensor);
  }
  const Result<uint64_t> size = PayloadBytes(first.dtype(), shape);
  if (!size.ok()) return size.status();
  return shape;
}

Result<Chunks> CatTensors(BlobSource& source, const TensorList& tensors, const Shape& shape,
                          size_t dim) {
  const DType dtype = tensors[0]->dtype();
  const uint64_t size_bytes = PayloadBytes(dtype, shape).value();
  if (size_bytes == 0) return Chunks();
  Blob* blob = source.Allocate(size_bytes);
  if (blob == nullptr) return Refused(size_bytes);
  BlobSlice whole{BlobRef::Adopt(blob), 0, static_cast<size_t>(size_bytes)};
  uint64_t rows = 1;
  for (size_t i = 0; i < dim; ++i) rows *= shape[i];
  std::vector<ChunkReader> readers;
  for (const auto& tensor : tensors) readers.emplace_back(tensor->chunks());
  char* to = blob->mutable_data();
  for (uint64_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      const uint64_t part = tensors[i]->size_bytes() / rows;
      readers[i].Read(to, part);
      to += part;
    }
  }
  return CutOnGrid(source, std::move(whole));
}

}  // namespace cairn::tensor

#include "tensor_module/compute.h"

#include "tensor_module/numeric.h"

namespace cairn::tensor {

Result<BlobSlice> PlainCompute::Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                                     DType to) const {
  const size_t from_size = DTypeSize(from), to_size = DTypeSize(to), count = bytes.size / from_size;
  Blob* blob = source.Allocate(count * to_size);
  if (blob == nullptr) return Status::Client("OOM no memory for the converted tensor");
  BlobSlice out{BlobRef::Adopt(blob), 0, count * to_size};
  const char* in = bytes.blob->data() + bytes.offset;
  char* at = blob->mutable_data();
  for (size_t i = 0; i < count; ++i) {
    for (size_t part = 0; part < ScalarsPerElement(to); ++part) {
      const bool present = part < ScalarsPerElement(from);
      StoreScalar(to, present ? LoadScalar(from, in + i * from_size, part) : Scalar{},
                  at + i * to_size, part);
    }
  }
  return out;
}

Result<BlobSlice> PlainCompute::Slice(BlobSource& source, DType dtype, const Shape& shape,
                                      const BlobSlice& bytes, const Box& box) const {
  Result<Chunks> chunks = CutOnGrid(source, bytes);
  if (!chunks.ok()) return chunks.status();
  const Tensor tensor(dtype, shape, std::move(*chunks));
  Result<Chunks> sliced = ReadSlice(source, tensor, box);
  if (!sliced.ok()) return sliced.status();
  return Join(source, *sliced);
}

}  // namespace cairn::tensor

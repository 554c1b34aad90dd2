// First of all, or clang cannot compile ATen's headers as C++20.
#include <ATen/core/ivalue.h>

// Then the rest.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <optional>
#include <string>

#include "tensor_module/torch_bridge.h"

namespace cairn::tensor {

namespace {

std::optional<at::ScalarType> TorchType(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
    case DType::kC64:
      return at::kComplexFloat;
    case DType::kC128:
      return at::kComplexDouble;
    default:
      return std::nullopt;
  }
}

/// A type of the same width, for moving elements without a look at them.
at::ScalarType TypeOfWidth(size_t size) {
  switch (size) {
    case 1:
      return at::kByte;
    case 2:
      return at::kShort;
    case 4:
      return at::kInt;
    case 8:
      return at::kLong;
    default:
      return at::kComplexDouble;
  }
}

/// A tensor over bytes that somebody else owns. ATen has no read-only views; nothing here writes to
/// inputs.
at::Tensor View(const char* bytes, at::IntArrayRef sizes, at::ScalarType type) {
  return at::from_blob(const_cast<char*>(bytes), sizes, at::TensorOptions().dtype(type));
}

Status TorchFailed(const char* what) {
  std::string line = "ERR the tensor library failed: ";
  for (const char* c = what; *c != '\0' && *c != '\n'; ++c) line += *c;
  return Status::Client(std::move(line));
}

/// Runs `compute`, which fills `size` bytes at the pointer it is given.
template <typename Fill>
Result<BlobSlice> FillBlob(BlobSource& source, size_t size, Fill fill) {
  Blob* blob = source.Allocate(size);
  if (blob == nullptr)
    return Status::Client("OOM no memory for " + std::to_string(size) + " bytes of tensor data");
  BlobSlice out{BlobRef::Adopt(blob), 0, size};
  try {
    at::NoGradGuard no_grad;
    fill(blob->mutable_data());
  } catch (const c10::Error& error) {
    return TorchFailed(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return TorchFailed(error.what());
  }
  return out;
}

class TorchComputeOverAten final : public PlainCompute {
 public:
  Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                         DType to) const override {
    const auto from_type = TorchType(from), to_type = TorchType(to);
    if (!from_type || !to_type || bytes.size == 0)
      return PlainCompute::Cast(source, from, bytes, to);
    const auto count = static_cast<int64_t>(bytes.size / DTypeSize(from));
    return FillBlob(source, static_cast<size_t>(count) * DTypeSize(to), [&](char* out) {
      at::Tensor input = View(bytes.blob->data() + bytes.offset, count, *from_type);
      // ATen warns on every cast that drops an imaginary part; here it is the documented rule.
      if (input.is_complex() && !at::isComplexType(*to_type)) input = at::real(input);
      View(out, count, *to_type).copy_(input);
    });
  }

  Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                          const BlobSlice& bytes, const Box& box) const override {
    const Result<uint64_t> size = PayloadBytes(dtype, box.shape());
    if (!size.ok()) return size.status();
    if (size.value() == 0) return PlainCompute::Slice(source, dtype, shape, bytes, box);
    return FillBlob(source, size.value(), [&](char* out) {
      const at::ScalarType type = TypeOfWidth(DTypeSize(dtype));
      const std::vector<int64_t> sizes(shape.begin(), shape.end());
      at::Tensor view = View(bytes.blob->data() + bytes.offset, sizes, type);
      std::vector<int64_t> out_sizes;
      for (size_t i = 0; i < box.sides.size(); ++i) {
        const Box::Side& side = box.sides[i];
        const auto start = static_cast<int64_t>(side.start), step = static_cast<int64_t>(side.step);
        const int64_t stop = start + (static_cast<int64_t>(side.count) - 1) * step + 1;
        view = view.slice(static_cast<int64_t>(i), start, stop, step);
        out_sizes.push_back(static_cast<int64_t>(side.count));
      }
      View(out, out_sizes, type).copy_(view);
    });
  }
};

}  // namespace

const Compute& TorchCompute() {
  static const TorchComputeOverAten compute;
  return compute;
}

void StartTorch() { at::set_num_threads(1); }

}  // namespace cairn::tensor

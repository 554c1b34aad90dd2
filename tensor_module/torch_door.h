#pragma once

// TorchDoor: LibTorch behind a library of its own, tensor_torch.so, which lies beside tensor.so.
// Its nearly 300 shared objects take half a second to load, and the first LOAD after a restart
// needs none of them: a thread opens it while the server begins to serve, and who needs it sooner
// waits.

#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>

#include "tensor_module/compute.h"

namespace cairn::tensor {

class TorchDoor final : public Compute {
 public:
  /// `say` gets a line when the library cannot be opened; PlainCompute takes its place then. Called
  /// on the thread that opens.
  TorchDoor(std::string path, std::function<void(std::string_view line)> say);
  TorchDoor(const TorchDoor&) = delete;
  TorchDoor& operator=(const TorchDoor&) = delete;
  ~TorchDoor() override;

  /// Beside the library that this is part of.
  static std::string DefaultPath();

  Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                         DType to) const override {
    return opened_.get()->Cast(source, from, bytes, to);
  }
  Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                          const BlobSlice& bytes, const Box& box) const override {
    return opened_.get()->Slice(source, dtype, shape, bytes, box);
  }

 private:
  const PlainCompute plain_;
  std::shared_future<const Compute*> opened_;
  std::thread thread_;
};

/// The one function of tensor_torch.so.
using OpenTorchFn = const Compute* (*)();
inline constexpr const char* kOpenTorch = "CairnTensor_OpenTorch";

}  // namespace cairn::tensor

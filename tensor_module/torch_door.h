#pragma once

// TorchDoor: LibTorch behind a library of its own, tensor_torch.so, which lies beside tensor.so.
// Its nearly 300 shared objects take half a second to load, and the first LOAD after a restart
// needs none of them: a thread opens it when the server has begun to serve, or when somebody needs
// it.

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "tensor_module/compute.h"

namespace cairn::tensor {

class TorchDoor final : public Compute {
 public:
  /// `say` gets a line when the library cannot be opened, on the thread that opens. Casts are
  /// errors then, for other arithmetic might round another way, and a log is replayed by what it
  /// says.
  TorchDoor(std::string path, std::function<void(std::string_view line)> say);
  TorchDoor(const TorchDoor&) = delete;
  TorchDoor& operator=(const TorchDoor&) = delete;
  ~TorchDoor() override;

  /// Beside the library that this is part of.
  static std::string DefaultPath();

  Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                         DType to) const override {
    return Opened().Cast(source, from, bytes, to);
  }
  Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                          const BlobSlice& bytes, const Box& box) const override {
    return Opened().Slice(source, dtype, shape, bytes, box);
  }

 private:
  class Absent final : public PlainCompute {
   public:
    Result<BlobSlice> Cast(BlobSource&, DType, const BlobSlice&, DType) const override {
      return Status::Client("ERR LibTorch cannot be used, see the server's log");
    }
  };

  /// What a start has both cores for.
  static constexpr int64_t kRestMs = 1000;

  const Compute& Opened() const;

  const Absent absent_;
  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  mutable bool wanted_ = false;
  bool ending_ = false;
  std::shared_future<const Compute*> opened_;
  std::thread thread_;
};

/// The one function of tensor_torch.so.
using OpenTorchFn = const Compute* (*)();
inline constexpr const char* kOpenTorch = "CairnTensor_OpenTorch";

}  // namespace cairn::tensor

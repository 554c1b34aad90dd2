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
#include <thread>

#include "tensor_module/compute.h"

namespace cairn::tensor {

class TorchDoor final : public Compute {
 public:
  /// `build`: the number that the library has to have (build_number.h). `open` runs what opens it,
  /// on the thread that does. When it cannot be opened casts are errors that say why, for other
  /// arithmetic might round another way, and a log is replayed by what it says.
  TorchDoor(std::string path, std::string build,
            std::function<void(const std::function<void()>& work)> open);
  TorchDoor(const TorchDoor&) = delete;
  TorchDoor& operator=(const TorchDoor&) = delete;
  ~TorchDoor() override;

  /// Why the library will not be opened, as its file has it: it is not there, or of another build.
  /// Empty: it will be.
  const std::string& refusal() const { return refusal_; }

  /// Beside the library that this is part of, wherever a link to that lies.
  static std::string DefaultPath();

  bool IsReady() const override;
  Result<BlobSlice> Cast(BlobSource& source, DType from, const BlobSlice& bytes,
                         DType to) const override {
    return Opened().Cast(source, from, bytes, to);
  }
  Result<BlobSlice> Slice(BlobSource& source, DType dtype, const Shape& shape,
                          const BlobSlice& bytes, const Box& box) const override {
    return Opened().Slice(source, dtype, shape, bytes, box);
  }

 private:
  struct Absent final : PlainCompute {
    Result<BlobSlice> Cast(BlobSource&, DType, const BlobSlice&, DType) const override {
      return Status::Client("ERR LibTorch cannot be used: " + why);
    }
    std::string why;
  };

  /// What a start has both cores for.
  static constexpr int64_t kRestMs = 1000;

  const Compute& Opened() const;

  std::string refusal_;
  Absent absent_;
  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  mutable bool wanted_ = false;
  bool ending_ = false;
  std::shared_future<const Compute*> opened_;
  std::thread thread_;
};

/// The two functions of tensor_torch.so. The first may be called when the second returns the number
/// of this library.
using OpenTorchFn = const Compute* (*)();
inline constexpr const char* kOpenTorch = "CairnTensor_OpenTorch";
using TorchBuildFn = const char* (*)();
inline constexpr const char* kTorchBuild = "CairnTensor_TorchBuild";

}  // namespace cairn::tensor

// The door of tensor_torch.so (torch_door.h). The two symbols that the library exports.

#include <type_traits>

#include "tensor_module/build_number.h"
#include "tensor_module/torch_bridge.h"
#include "tensor_module/torch_door.h"

extern "C" __attribute__((visibility("default"))) const cairn::tensor::Compute*
CairnTensor_OpenTorch() {
  static_assert(std::is_same_v<cairn::tensor::OpenTorchFn, decltype(&CairnTensor_OpenTorch)>);
  cairn::tensor::StartTorch();
  return &cairn::tensor::TorchCompute();
}

extern "C" __attribute__((visibility("default"))) const char* CairnTensor_TorchBuild() {
  static_assert(std::is_same_v<cairn::tensor::TorchBuildFn, decltype(&CairnTensor_TorchBuild)>);
  return cairn::tensor::BuildNumber();
}

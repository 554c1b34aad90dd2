// The door of tensor.so: makes the Module and registers what it has. The one symbol that the
// library exports. Thread: executor.

#include "tensor_module/module.h"
#include "tensor_module/torch_bridge.h"

namespace {

constexpr int kModuleVersion = 100;  // 1.0.0, as MODULE LIST shows versions

void FreeModule(void* module) { delete static_cast<cairn::tensor::Module*>(module); }

void Say(const CairnApi& api, CairnModule* self, std::string_view line) {
  api.log(self, CAIRN_LOG_WARNING, {line.data(), line.size()});
}

}  // namespace

/// Takes no arguments. Errors: an older table than this module was built for, arguments, or a name
/// that is taken.
extern "C" __attribute__((visibility("default"))) int CairnModule_OnLoad(const CairnApi* api,
                                                                         CairnModule* self,
                                                                         int argc,
                                                                         const char* const*) {
  if (api->abi_version != CAIRN_MODULE_ABI_VERSION || api->struct_size < sizeof(CairnApi)) {
    return CAIRN_FAILED;
  }
  cairn::tensor::StartTorch();
  auto* module = new cairn::tensor::Module(*api, self, cairn::tensor::TorchCompute());
  if (api->module_describe(self, "tensor", kModuleVersion, module, FreeModule) != CAIRN_OK) {
    delete module;
    return CAIRN_FAILED;
  }
  if (argc > 0) {
    Say(*api, self, "the module takes no arguments");
    return CAIRN_FAILED;
  }
  return module->Register();
}

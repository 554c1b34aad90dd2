// The door of tensor.so: makes the Module and registers what it has. The one symbol that the
// library exports. Thread: executor.

#include "server/base/strings.h"
#include "tensor_module/module.h"
#include "tensor_module/torch_bridge.h"

namespace {

constexpr int kModuleVersion = 100;  // 1.0.0, as MODULE LIST shows versions

constexpr bool kChunkLogsByDefault = false;

bool ParseArguments(int argc, const char* const* argv, bool* chunk_logs) {
  if (argc != 2 || !cairn::EqualsIgnoreCase(argv[0], "chunk-logs")) return false;
  *chunk_logs = cairn::EqualsIgnoreCase(argv[1], "yes");
  return *chunk_logs || cairn::EqualsIgnoreCase(argv[1], "no");
}

void FreeModule(void* module) { delete static_cast<cairn::tensor::Module*>(module); }

void Say(const CairnApi& api, CairnModule* self, std::string_view line) {
  api.log(self, CAIRN_LOG_WARNING, {line.data(), line.size()});
}

}  // namespace

/// Takes `chunk-logs yes|no`: whether saves keep the chunks of checkpoints in chunk logs. Errors:
/// an older table than this module was built for, other arguments, or a name that is taken.
extern "C" __attribute__((visibility("default"))) int CairnModule_OnLoad(const CairnApi* api,
                                                                         CairnModule* self,
                                                                         int argc,
                                                                         const char* const* argv) {
  if (api->abi_version != CAIRN_MODULE_ABI_VERSION || api->struct_size < sizeof(CairnApi)) {
    return CAIRN_FAILED;
  }
  cairn::tensor::StartTorch();
  auto* module = new cairn::tensor::Module(*api, self, cairn::tensor::TorchCompute());
  if (api->module_describe(self, "tensor", kModuleVersion, module, FreeModule) != CAIRN_OK) {
    delete module;
    return CAIRN_FAILED;
  }
  bool chunk_logs = kChunkLogsByDefault;
  if (argc != 0 && !ParseArguments(argc, argv, &chunk_logs)) {
    Say(*api, self, "the module takes no other arguments than: chunk-logs yes|no");
    return CAIRN_FAILED;
  }
  if (chunk_logs) module->logs.EnableSaving();
  return module->Register();
}

// The door of tensor.so: makes the Module and registers what it has. The one symbol that the
// library exports. Thread: executor.

#include <functional>
#include <string>
#include <utility>

#include "server/base/strings.h"
#include "tensor_module/build_number.h"
#include "tensor_module/chunk_codec.h"
#include "tensor_module/module.h"
#include "tensor_module/torch_door.h"

namespace {

constexpr int kModuleVersion = 100;  // 1.0.0, as MODULE LIST shows versions

struct Arguments {
  bool chunk_logs = true;
  bool codecs = true;
  uint64_t codec_level = cairn::tensor::kFastestLevel;
};

bool ParseYesNo(std::string_view word, bool* out) {
  *out = cairn::EqualsIgnoreCase(word, "yes");
  return *out || cairn::EqualsIgnoreCase(word, "no");
}

/// Pairs of a word and its value, each word once at most.
bool ParseArguments(int argc, const char* const* argv, Arguments* out) {
  bool seen[3] = {};
  const auto first = [&](int which) { return !std::exchange(seen[which], true); };
  for (int i = 0; i < argc; i += 2) {
    if (i + 1 == argc) return false;
    const std::string_view word = argv[i], value = argv[i + 1];
    bool good = false;
    if (cairn::EqualsIgnoreCase(word, "chunk-logs")) {
      good = first(0) && ParseYesNo(value, &out->chunk_logs);
    } else if (cairn::EqualsIgnoreCase(word, "codecs")) {
      good = first(1) && ParseYesNo(value, &out->codecs);
    } else if (cairn::EqualsIgnoreCase(word, "codec-level")) {
      good = first(2) && cairn::ParseUint64(value, &out->codec_level) &&
             out->codec_level >= cairn::tensor::kFastestLevel &&
             out->codec_level <= cairn::tensor::kSmallestLevel;
    }
    if (!good) return false;
  }
  return true;
}

void Say(const CairnApi& api, CairnModule* self, std::string_view line) {
  api.log(self, CAIRN_LOG_WARNING, {line.data(), line.size()});
}

/// As part of what the server uses before the first key (module_api.h, run_as_startup).
void RunAsStartup(const CairnApi& api, CairnModule* self, const std::function<void()>& work) {
  const auto run = [](void* state) { (*static_cast<const std::function<void()>*>(state))(); };
  api.run_as_startup(self, run, const_cast<std::function<void()>*>(&work));
}

struct Torch {
  cairn::tensor::TorchDoor door;
};

/// The module, and what it computes with, which comes first and goes last.
class ModuleWithTorch final : Torch, public cairn::tensor::Module {
 public:
  ModuleWithTorch(const CairnApi& table, CairnModule* handle)
      : Torch{cairn::tensor::TorchDoor(cairn::tensor::TorchDoor::DefaultPath(),
                                       cairn::tensor::BuildNumber(),
                                       [&table, handle](const std::function<void()>& work) {
                                         RunAsStartup(table, handle, work);
                                       })},
        Module(table, handle, door) {}
  const std::string& why_no_torch() const { return door.refusal(); }
};

void FreeModule(void* module) {
  delete static_cast<ModuleWithTorch*>(static_cast<cairn::tensor::Module*>(module));
}

}  // namespace

/// Takes `chunk-logs yes|no` (yes): whether files name the chunks of checkpoints, in chunk logs;
/// `codecs yes|no` (yes): whether superseded versions are held encoded; `codec-level 1..19` (1):
/// of zstd. Errors: an older table than this module was built for, other arguments, or a name that
/// is taken.
extern "C" __attribute__((visibility("default"))) int CairnModule_OnLoad(const CairnApi* api,
                                                                         CairnModule* self,
                                                                         int argc,
                                                                         const char* const* argv) {
  if (api->abi_version != CAIRN_MODULE_ABI_VERSION || api->struct_size < sizeof(CairnApi)) {
    return CAIRN_FAILED;
  }
  auto* const whole = new ModuleWithTorch(*api, self);
  cairn::tensor::Module* const module = whole;
  if (api->module_describe(self, "tensor", kModuleVersion, module, FreeModule) != CAIRN_OK) {
    FreeModule(module);
    return CAIRN_FAILED;
  }
  if (!whole->why_no_torch().empty()) {
    Say(*api, self, "casts of tensors are errors: " + whole->why_no_torch());
  }
  Arguments arguments;
  if (!ParseArguments(argc, argv, &arguments)) {
    Say(*api, self,
        "the module takes no other arguments than: chunk-logs yes|no, codecs yes|no, "
        "codec-level 1 to 19");
    return CAIRN_FAILED;
  }
  if (arguments.chunk_logs) module->logs.EnableSaving();
  if (arguments.codecs) module->encoder.Enable(static_cast<int>(arguments.codec_level));
  return module->Register();
}

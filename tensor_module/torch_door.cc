#include "tensor_module/torch_door.h"

#include <dlfcn.h>

#include <utility>

namespace cairn::tensor {

namespace {

/// nullptr, and *why: it cannot be opened. Stays open until the process ends: LibTorch does not
/// survive being closed.
const Compute* Open(const std::string& path, std::string* why) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const open = library == nullptr ? nullptr : ::dlsym(library, kOpenTorch);
  if (open == nullptr) {
    const char* const error = ::dlerror();
    *why = error == nullptr ? "no reason given" : error;
    return nullptr;
  }
  return reinterpret_cast<OpenTorchFn>(open)();
}

}  // namespace

TorchDoor::TorchDoor(std::string path, std::function<void(std::string_view line)> say) {
  std::promise<const Compute*> promise;
  opened_ = promise.get_future().share();
  thread_ = std::thread(
      [this, promise = std::move(promise), path = std::move(path), say = std::move(say)]() mutable {
        std::string why;
        const Compute* const opened = Open(path, &why);
        if (opened == nullptr) {
          say("LibTorch cannot be used, casts and slices will be slow: " + why);
        }
        promise.set_value(opened == nullptr ? &plain_ : opened);
      });
}

TorchDoor::~TorchDoor() { thread_.join(); }

std::string TorchDoor::DefaultPath() {
  Dl_info here = {};
  if (::dladdr(reinterpret_cast<const void*>(&TorchDoor::DefaultPath), &here) == 0) return {};
  const std::string path = here.dli_fname;
  const size_t slash = path.rfind('/');
  return (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "tensor_torch.so";
}

}  // namespace cairn::tensor

#include "tensor_module/torch_door.h"

#include <dlfcn.h>

#include <chrono>
#include <climits>
#include <cstdlib>
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

TorchDoor::TorchDoor(std::string path) {
  std::promise<const Compute*> promise;
  opened_ = promise.get_future().share();
  thread_ = std::thread([this, promise = std::move(promise), path = std::move(path)]() mutable {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::milliseconds(kRestMs),
                     [this] { return wanted_ || ending_; });
      if (ending_) return;
    }
    const Compute* const opened = Open(path, &absent_.why);
    promise.set_value(opened == nullptr ? &absent_ : opened);
  });
}

TorchDoor::~TorchDoor() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

const Compute& TorchDoor::Opened() const {
  if (opened_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    {
      const std::lock_guard lock(mutex_);
      wanted_ = true;
    }
    wake_.notify_all();
  }
  return *opened_.get();
}

std::string TorchDoor::DefaultPath() {
  Dl_info here = {};
  if (::dladdr(reinterpret_cast<const void*>(&TorchDoor::DefaultPath), &here) == 0) return {};
  char real[PATH_MAX];
  const std::string path = ::realpath(here.dli_fname, real) == nullptr ? here.dli_fname : real;
  const size_t slash = path.rfind('/');
  return (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "tensor_torch.so";
}

}  // namespace cairn::tensor

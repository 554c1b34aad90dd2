#include "tensor_module/torch_door.h"

#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstdlib>
#include <utility>

#include "tensor_module/build_number.h"

namespace cairn::tensor {

namespace {

std::string OtherBuild(const std::string& path, const std::string& has, const std::string& build) {
  return path + " is of " + (has.empty() ? "an unknown build" : "build " + has) +
         ", tensor.so of build " + build + ": install both from one build";
}

std::string WhyNot(const std::string& path, const std::string& build) {
  if (::access(path.c_str(), R_OK) != 0) return path + " is not there";
  const std::string has = ReadBuildNumber(path);
  return has == build ? "" : OtherBuild(path, has, build);
}

/// nullptr, and *why: it cannot be opened. Stays open until the process ends: LibTorch does not
/// survive being closed.
const Compute* Open(const std::string& path, const std::string& build, std::string* why) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const number = library == nullptr ? nullptr : ::dlsym(library, kTorchBuild);
  void* const open = number == nullptr ? nullptr : ::dlsym(library, kOpenTorch);
  if (open == nullptr) {
    const char* const error = ::dlerror();
    *why = error == nullptr ? "no reason given" : error;
    return nullptr;
  }
  // The file may be another one since it was looked at.
  if (const std::string has = reinterpret_cast<TorchBuildFn>(number)(); has != build) {
    *why = OtherBuild(path, has, build);
    return nullptr;
  }
  return reinterpret_cast<OpenTorchFn>(open)();
}

}  // namespace

TorchDoor::TorchDoor(std::string path, std::string build,
                     std::function<void(const std::function<void()>& work)> open)
    : refusal_(WhyNot(path, build)) {
  std::promise<const Compute*> promise;
  opened_ = promise.get_future().share();
  if (!refusal_.empty()) {
    absent_.why = refusal_;
    promise.set_value(&absent_);
    return;
  }
  thread_ = std::thread([this, promise = std::move(promise), path = std::move(path),
                         build = std::move(build), open = std::move(open)]() mutable {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::milliseconds(kRestMs),
                     [this] { return wanted_ || ending_; });
      if (ending_) return;
    }
    const Compute* opened = nullptr;
    open([&] { opened = Open(path, build, &absent_.why); });
    promise.set_value(opened == nullptr ? &absent_ : opened);
  });
}

TorchDoor::~TorchDoor() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool TorchDoor::IsReady() const {
  return opened_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

const Compute& TorchDoor::Opened() const {
  if (!IsReady()) {
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

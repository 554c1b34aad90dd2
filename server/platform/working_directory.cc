#include "server/platform/working_directory.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace cairn {
namespace {

class PosixWorkingDirectory final : public WorkingDirectory {
 public:
  Status Change(const std::string& path) override {
    if (::chdir(path.c_str()) != 0) return Status::Io(std::strerror(errno));
    return Status::Ok();
  }
  std::string Current() const override {
    char* path = ::getcwd(nullptr, 0);
    if (path == nullptr) return ".";
    std::string result(path);
    std::free(path);
    return result;
  }
};

}  // namespace

std::unique_ptr<WorkingDirectory> NewPosixWorkingDirectory() {
  return std::make_unique<PosixWorkingDirectory>();
}

}  // namespace cairn

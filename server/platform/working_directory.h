#pragma once

// WorkingDirectory: the directory that relative paths start from, which the setting "dir" changes.
// It is a property of the whole process, so app/server owns the one real object; tests use one that
// only remembers. Executor thread only.

#include <memory>
#include <string>

#include "server/base/status.h"

namespace cairn {

class WorkingDirectory {
 public:
  virtual ~WorkingDirectory() = default;
  /// Errors: kIo; the message is the errno text alone, such as "No such file or directory".
  virtual Status Change(const std::string& path) = 0;
  /// Absolute path; "." when the directory was removed under us.
  virtual std::string Current() const = 0;
};

/// chdir(2) and getcwd(3).
std::unique_ptr<WorkingDirectory> NewPosixWorkingDirectory();

}  // namespace cairn

#pragma once

// LogFiles: the directory of a chunk log (chunk_log.h) as the operating system has it, behind an
// interface so that tests can tear, fill and break it. Errors are kIo, kNoSpace or kNotFound; the
// message names call, file and errno text. Calls may come from any thread, one at a time for a
// LogFile, but that a Sync() may run beside an Append().

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "tensor_module/counted.h"

namespace cairn::tensor {

/// A segment that is being written.
class LogFile {
 public:
  virtual ~LogFile() = default;
  /// All of the parts, one behind the other, or an error and any part of them.
  virtual Status Append(const std::vector<std::string_view>& parts) = 0;
  /// fdatasync: of what had been appended when it began.
  virtual Status Sync() = 0;
};

/// The bytes a file had when it was mapped. Outlives the file's removal.
class LogMapping : public Counted<LogMapping> {
 public:
  virtual ~LogMapping() = default;
  std::string_view view() const { return view_; }
  /// From now on whole chunks are read, not heads here and there.
  virtual void ExpectLongReads() const {}

 protected:
  std::string_view view_;
};

/// Set in every good Result.
using MappingRef = std::optional<Ref<LogMapping>>;

class LogFiles {
 public:
  virtual ~LogFiles() = default;
  /// Creates the directory unless it is there, and makes its name durable.
  virtual Status CreateDirectory() = 0;
  /// Keeps others from writing here until this object ends. False: another process does.
  virtual bool Lock() = 0;
  /// Names of its files; none when there is no directory.
  virtual Result<std::vector<std::string>> List() = 0;
  /// A new file whose name is durable. Errors: also when there is one of the name.
  virtual Result<std::unique_ptr<LogFile>> Create(const std::string& name) = 0;
  virtual Result<MappingRef> Map(const std::string& name) = 0;
  /// Whether the file is there with `size` bytes at least. True when nobody can tell.
  virtual bool HasFile(const std::string& name, uint64_t size) = 0;
  virtual Status Remove(const std::string& name) = 0;
  /// Replaces a small file, durably and at once.
  virtual Status Replace(const std::string& name, std::string_view text) = 0;
  /// Of a small file; empty when there is none.
  virtual Result<std::string> Read(const std::string& name) = 0;
  /// Bytes that may still be written on its disk; UINT64_MAX when nobody can tell.
  virtual uint64_t FreeBytes() = 0;
  /// Whether a file of the server's directory exists. True when nobody can tell.
  virtual bool MayExist(const std::string& server_file) = 0;
};

/// Directory `name` in `server_directory`.
std::unique_ptr<LogFiles> NewPosixLogFiles(const std::string& server_directory,
                                           const std::string& name);

}  // namespace cairn::tensor

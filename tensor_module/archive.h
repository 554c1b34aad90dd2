#pragma once

// What the file formats have in common: ArchiveTensor, one tensor of a file by name, and where its
// bytes lie in it; files read and written as a whole. safetensors.h and pt_archive.h read and write
// the formats. Any thread.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"
#include "tensor_module/slicing.h"

namespace cairn::tensor {

/// Most tensors of one file.
inline constexpr size_t kMaxArchiveTensors = 1 << 20;

struct ArchiveTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t offset = 0;  ///< of its bytes in the file; they may lie unaligned
  uint64_t size_bytes = 0;
  /// Of elements, where the file has the tensor as a view that is not in C order; else empty.
  std::vector<uint64_t> strides;
};

/// A regular file of the working directory, read into memory of `source`: a mapping would end the
/// process when somebody cuts the file short. `name` is no path. `may_take(size)` is asked before
/// memory is. Errors, as a client's line: not a plain name, no regular file, what `may_take` says,
/// open(2) or read(2) failed, memory refused.
Result<BlobSlice> ReadWholeFile(BlobSource& source, const std::string& name,
                                const std::function<Status(uint64_t size_bytes)>& may_take);

/// Writes a new file of the working directory: under a name that no other has until Publish has
/// synced it and put it in place; of several of one name the last to be published stays. Errors
/// latch: the first one is what Publish returns.
class FileWriter {
 public:
  /// Errors (at Publish): not a plain name; open(2), write(2), fdatasync(2), rename(2) failed.
  explicit FileWriter(std::string name);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  /// Removes what was not published.
  ~FileWriter();
  void Append(std::string_view bytes);
  uint64_t position() const { return position_; }
  const Status& status() const { return status_; }
  Status Publish();

 private:
  void Fail(const char* call);
  void Flush();
  const std::string name_;
  std::string temporary_;
  std::string buffer_;
  int fd_ = -1;
  uint64_t position_ = 0;
  Status status_;
};

/// Well-formed UTF-8 (Unicode 15, table 3-7): what names are in JSON and in pickles.
bool IsUtf8(std::string_view text);

/// 1 to 255 bytes without '/' and NUL, not beginning with a dot.
bool IsPlainFileName(std::string_view name);

}  // namespace cairn::tensor

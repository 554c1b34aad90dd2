#pragma once

// ByteSink and ByteSource: the two ends the RDB code is written against, so that a file, a string
// and a socket feed look alike. Not buffered (the writer and the reader buffer) and not seekable.
// One thread at a time; whoever makes one owns it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/status.h"

namespace cairn {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  /// Takes all of `bytes` or fails; after a failure the sink is not used again.
  virtual Status Append(std::string_view bytes) = 0;
};

/// Appends to a string that the caller owns.
class StringByteSink final : public ByteSink {
 public:
  explicit StringByteSink(std::string* out) : out_(out) {}
  Status Append(std::string_view bytes) override {
    out_->append(bytes);
    return Status::Ok();
  }

 private:
  std::string* out_;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Reads up to `size` bytes into `out`; 0 only at the end of the input.
  virtual Result<size_t> Read(char* out, size_t size) = 0;
  /// Bytes the whole input has. Every length in the input is checked against it before memory is
  /// taken.
  virtual uint64_t size_bytes() const = 0;
  /// What error messages call this input.
  virtual std::string_view name() const = 0;
};

}  // namespace cairn

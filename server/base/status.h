#pragma once

// Status and Result<T>: how functions of ours fail. OK costs one null pointer. Three kinds of
// failure exist and are not mixed: a client's error (the RESP error line to send), an operating
// error (disk, network, memory: somebody decides), and corruption (file and offset are in the
// message). Thread-compatible value types.

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "server/base/check.h"

namespace cairn {

enum class StatusCode : unsigned char {
  kOk,
  kClient,       ///< message is a RESP error line without '-' and CRLF, e.g. "ERR syntax error"
  kNotFound,     ///< a named thing (file, section) is absent
  kIo,           ///< the operating system failed; message names call, file and errno text
  kNoSpace,      ///< disk or a named limit is full
  kCorruption,   ///< bytes do not parse; message carries file and offset
  kUnsupported,  ///< well-formed, but newer than or foreign to this server
  kCancelled,    ///< the operation was aborted on request
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message)
      : rep_(code == StatusCode::kOk ? nullptr : new Rep{code, std::move(message)}) {}
  Status(const Status& other) : rep_(other.rep_ ? new Rep(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_.reset(other.rep_ ? new Rep(*other.rep_) : nullptr);
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  static Status Ok() { return Status(); }
  /// A client's error: `line` is what goes on the wire after '-'.
  static Status Client(std::string line) { return {StatusCode::kClient, std::move(line)}; }
  static Status Io(std::string message) { return {StatusCode::kIo, std::move(message)}; }
  static Status Corruption(std::string message) {
    return {StatusCode::kCorruption, std::move(message)};
  }

  bool ok() const { return rep_ == nullptr; }
  StatusCode code() const { return rep_ ? rep_->code : StatusCode::kOk; }
  /// Empty when ok.
  std::string_view message() const {
    return rep_ ? std::string_view(rep_->message) : std::string_view();
  }

 private:
  struct Rep {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

/// A T or the Status that explains its absence. Requires: check ok() before value().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)), has_value_(true) {}
  Result(Status status) : status_(std::move(status)) { CAIRN_CHECK(!status_.ok()); }
  bool ok() const { return has_value_; }
  const Status& status() const { return status_; }
  T& value() & {
    CAIRN_CHECK(has_value_);
    return value_;
  }
  const T& value() const& {
    CAIRN_CHECK(has_value_);
    return value_;
  }
  T&& value() && {
    CAIRN_CHECK(has_value_);
    return std::move(value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

 private:
  Status status_;
  T value_{};
  bool has_value_ = false;
};

}  // namespace cairn

#define CAIRN_RETURN_IF_ERROR(expression)                                                        \
  do {                                                                                           \
    if (::cairn::Status cairn_status_ = (expression); !cairn_status_.ok()) return cairn_status_; \
  } while (0)

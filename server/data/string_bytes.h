#pragma once

// StringBytes and StringEdit: the bytes of a string value for reading and for writing, whether they
// stand in one piece, as nearly always, or in chunks (chunked_string.h). What commands use, so that
// none of them needs to know. Both live within one command: they borrow the entry. Thread:
// executor.

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "server/data/chunked_string.h"
#include "server/data/entry.h"

namespace cairn {

class StringBytes {
 public:
  /// `entry`: a string, or nullptr, which reads as the empty one.
  explicit StringBytes(const Entry* entry) {
    if (entry == nullptr) return;
    if (entry->form() == ValueForm::kObject) [[unlikely]] {
      chunks_ = entry->chunks();
    } else {
      flat_ = entry->StringView(digits_);
    }
  }
  StringBytes(const StringBytes&) = delete;
  StringBytes& operator=(const StringBytes&) = delete;

  size_t size() const { return chunks_ != nullptr ? chunks_->size() : flat_.size(); }
  /// The bytes from `at` on that stand in one piece; empty at the end and behind it. To read a
  /// range: for (at ..; at += run.size()) run = RunAt(at).
  std::string_view RunAt(size_t at) const {
    if (chunks_ != nullptr) [[unlikely]]
      return chunks_->RunAt(at);
    return flat_.substr(std::min(at, flat_.size()));
  }
  /// At most `size` bytes from `at` on, fewer at the end; copied to `out` only when they do not
  /// stand in one piece.
  std::string_view Window(size_t at, size_t size, char* out) const {
    const std::string_view run = RunAt(at).substr(0, size);
    if (run.size() == size || at + run.size() >= this->size()) return run;
    size_t copied = 0;
    for (std::string_view part = run; !part.empty(); part = RunAt(at + copied)) {
      part = part.substr(0, size - copied);
      std::memcpy(out + copied, part.data(), part.size());
      copied += part.size();
      if (copied == size) break;
    }
    return {out, copied};
  }
  /// All bytes in one piece: copied to `copy` when they are not. Cost: O(n) then.
  std::string_view Whole(std::string* copy) const {
    if (chunks_ == nullptr) return flat_;
    copy->clear();
    copy->reserve(size());
    for (size_t at = 0; at < size(); at = copy->size()) copy->append(RunAt(at));
    return *copy;
  }

 private:
  std::string_view flat_;
  const ChunkedString* chunks_ = nullptr;
  char digits_[24];  // of an integer
};

/// A string that may be changed in place; made by Database::EditString.
class StringEdit {
 public:
  StringEdit() = default;
  StringEdit(char* flat, size_t size) : flat_(flat), size_(size) {}
  explicit StringEdit(ChunkedString* chunks) : chunks_(chunks), size_(chunks->size()) {}

  size_t size() const { return size_; }
  /// The bytes in one piece, to be changed freely; nullptr when they are in chunks.
  char* flat() const { return flat_; }
  /// Requires: at + bytes.size() <= size(). `bytes` must not lie in this string.
  void Write(size_t at, std::string_view bytes) {
    if (chunks_ != nullptr) [[unlikely]] {
      chunks_->Write(at, bytes);
    } else if (!bytes.empty()) {
      std::memcpy(flat_ + at, bytes.data(), bytes.size());
    }
  }
  /// Copies `size` bytes from `at` on. Requires: at + size <= size().
  void Read(size_t at, size_t size, char* out) const {
    while (size > 0) {
      std::string_view run =
          chunks_ != nullptr ? chunks_->RunAt(at) : std::string_view(flat_ + at, size_ - at);
      run = run.substr(0, size);
      std::memcpy(out, run.data(), run.size());
      at += run.size();
      out += run.size();
      size -= run.size();
    }
  }

 private:
  char* flat_ = nullptr;
  ChunkedString* chunks_ = nullptr;
  size_t size_ = 0;
};

}  // namespace cairn

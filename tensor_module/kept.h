#pragma once

// Kept<T>: a counted handle to a frozen T, or to nothing. The parts of a checkpoint run are plain
// structs that become frozen by Kept<T>::Make; a change copies the struct, changes the copy and
// freezes it again, and what was not touched is shared. Own() is that copy where others have the T,
// and the T itself where nobody does. Any thread may hold and drop handles.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "server/base/prefetch.h"

namespace cairn::tensor {

template <typename T>
class Kept {
 public:
  Kept() = default;
  static Kept Make(T value) {
    Kept kept;
    kept.node_ = new Node{{1}, std::move(value)};
    return kept;
  }
  Kept(const Kept& other) : node_(other.node_) {
    if (node_ != nullptr) node_->count.fetch_add(1, std::memory_order_relaxed);
  }
  Kept(Kept&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Kept& operator=(Kept other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~Kept() {
    if (node_ != nullptr && node_->count.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete node_;
    }
  }

  /// Memory of what a handle leads to, without what a T points to itself.
  static constexpr size_t node_bytes() { return sizeof(Node); }

  explicit operator bool() const { return node_ != nullptr; }
  /// Nobody else has a handle to it, nor can get one but from this.
  bool IsUnique() const {
    return node_ != nullptr && node_->count.load(std::memory_order_acquire) == 1;
  }
  /// The value, to be changed through this handle alone. Requires: a handle to something.
  T& Own() {
    if (!IsUnique()) *this = Make(node_->value);
    return node_->value;
  }
  /// Asks for the cache line that copying the handle writes to.
  void Prefetch() const { PrefetchLine(node_); }
  const T& operator*() const { return node_->value; }
  const T* operator->() const { return &node_->value; }
  const T* get() const { return node_ == nullptr ? nullptr : &node_->value; }

 private:
  struct Node {
    std::atomic<uint32_t> count;
    T value;
  };
  Node* node_ = nullptr;
};

}  // namespace cairn::tensor

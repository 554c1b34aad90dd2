#pragma once

// Counted and Ref: one intrusive count for the frozen values of this folder, so that a job on a
// worker can keep a tensor whose key is replaced meanwhile. Any thread may hold and drop
// references.

#include <atomic>
#include <cstdint>
#include <utility>

namespace cairn::tensor {

/// Base of T, which is born with one reference, the keyspace's.
template <typename T>
class Counted {
 public:
  Counted() = default;
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  void AddReference() const { references_.fetch_add(1, std::memory_order_relaxed); }
  void DropReference() const {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      delete static_cast<const T*>(this);
  }

 protected:
  ~Counted() = default;

 private:
  mutable std::atomic<uint32_t> references_{1};
};

/// Owning handle to a Counted value; never empty but when moved from.
template <typename T>
class Ref {
 public:
  explicit Ref(const T& value) : value_(&value) { value.AddReference(); }
  Ref(const Ref& other) : Ref(*other.value_) {}
  Ref(Ref&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Ref() {
    if (value_ != nullptr) value_->DropReference();
  }
  const T* get() const { return value_; }
  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_; }

 private:
  const T* value_;
};

}  // namespace cairn::tensor

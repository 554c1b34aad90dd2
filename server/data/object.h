#pragma once

// Object: the counted base of every value that does not live inside its entry (containers, module
// values). RENAME of a frozen entry shares it, and a snapshot walker may read it, so an Object that
// a view can see is frozen: it is never changed, except a Container, by the rules of container.h.
// Count is atomic; contents belong to the executor, or to the walker while frozen. Only entries
// hold references for longer than a command.

#include <atomic>
#include <cstdint>

#include "persistence/value_sink.h"

namespace cairn {

class Container;

class Object {
 public:
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  void Ref() const { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() const {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  bool IsUnique() const { return references_.load(std::memory_order_acquire) == 1; }

  /// Emits the value as events. Thread: executor or walker; reads frozen memory only, no globals.
  virtual Status Emit(ValueSink& sink) const = 0;
  /// Bytes of heap this object holds, itself included.
  virtual size_t MemoryUsage() const = 0;
  /// Elements a free has to visit: above a threshold it is handed to the reaper (lazyfree effort).
  virtual size_t FreeEffort() const = 0;
  /// False: no memory limit may take it (what expires goes all the same). Thread: executor.
  virtual bool MayEvict() const { return true; }
  /// OBJECT ENCODING's word, and TYPE's.
  virtual const char* EncodingName() const = 0;
  virtual const char* TypeName() const = 0;
  /// This as a value that changes in place, or nullptr.
  virtual const Container* AsContainer() const { return nullptr; }

 protected:
  Object() = default;
  virtual ~Object() = default;

 private:
  mutable std::atomic<uint32_t> references_{1};
};

/// Owning handle to an Object.
class ObjectRef {
 public:
  ObjectRef() = default;
  static ObjectRef Adopt(const Object* object) {
    ObjectRef ref;
    ref.object_ = object;
    return ref;
  }
  static ObjectRef Share(const Object* object) {
    object->Ref();
    return Adopt(object);
  }
  ObjectRef(const ObjectRef& other) : object_(other.object_) {
    if (object_) object_->Ref();
  }
  ObjectRef(ObjectRef&& other) noexcept : object_(other.object_) { other.object_ = nullptr; }
  ObjectRef& operator=(ObjectRef other) noexcept {
    const Object* mine = object_;
    object_ = other.object_;
    other.object_ = mine;
    return *this;
  }
  ~ObjectRef() {
    if (object_) object_->Unref();
  }
  const Object* get() const { return object_; }
  const Object* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  const Object* Release() {
    const Object* object = object_;
    object_ = nullptr;
    return object;
  }

 private:
  const Object* object_ = nullptr;
};

}  // namespace cairn

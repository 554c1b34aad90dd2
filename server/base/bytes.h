#pragma once

// Blob and BlobRef: immutable bytes with one intrusive atomic count, the only shared ownership in
// the engine. Big strings, tensor payloads and replies by reference are Blobs, so a snapshot, a
// reply and a value can hold the same bytes without a copy. Bytes may be written only while the
// creator holds the sole reference (IsUnique); afterwards they are frozen. Any thread may hold and
// drop references.

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "server/base/check.h"

namespace cairn {

class Blob;

/// Where Blobs come from. The default is the heap; platform/blob_arena hands out pre-faulted,
/// recycled, huge-page memory for payloads above 64 KiB.
class BlobSource {
 public:
  virtual ~BlobSource() = default;
  /// Returns a blob of `size` bytes with one reference, contents undefined; nullptr when memory is
  /// refused. Thread: any.
  virtual Blob* Allocate(size_t size) = 0;
  /// The same for who must not wait for the kernel: of a big blob the pages may still be on their
  /// way, and whoever touches it before IsWarm() waits for each.
  virtual Blob* AllocateSoon(size_t size) { return Allocate(size); }
  /// Whether a blob of this source has all its pages. Once true it stays so.
  virtual bool IsWarm(const Blob&) const { return true; }
};

/// The alignment spreads to the bytes of a heap blob, which follow it: kernels load elements of up
/// to 16 bytes.
class alignas(16) Blob {
 public:
  using ReleaseFn = void (*)(Blob* self);

  /// In-place construction by a BlobSource; `release` frees header and bytes when the count reaches
  /// 0.
  Blob(char* data, size_t size, size_t footprint, ReleaseFn release)
      : data_(data), size_(size), footprint_(footprint), release_(release) {}
  Blob(const Blob&) = delete;
  Blob& operator=(const Blob&) = delete;

  /// Heap blob: header and bytes in one allocation. Never null (aborts on out of memory).
  static Blob* Create(size_t size) {
    Blob* blob = TryCreate(size);
    CAIRN_CHECK(blob != nullptr);
    return blob;
  }
  /// The same for a size that comes from outside: null when memory is refused.
  static Blob* TryCreate(size_t size) {
    if (size > PTRDIFF_MAX - sizeof(Blob)) return nullptr;
    void* memory = std::malloc(sizeof(Blob) + size);
    if (memory == nullptr) return nullptr;
    return new (memory) Blob(static_cast<char*>(memory) + sizeof(Blob), size,
                             ::malloc_usable_size(memory), &FreeHeap);
  }

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  /// Bytes of memory this blob holds, header and rounding included.
  size_t footprint() const { return footprint_; }
  std::string_view view() const { return {data_, size_}; }
  /// Requires: IsUnique().
  char* mutable_data() { return data_; }
  /// Shortens the blob in place. Requires: IsUnique() and size <= this->size().
  void Truncate(size_t size) {
    CAIRN_CHECK(size <= size_);
    size_ = size;
  }
  /// Lengthens a heap blob in place when its allocation has the room (it was truncated before, or
  /// the allocator rounded up); the new bytes are undefined. Returns false, changing nothing,
  /// otherwise. Requires: IsUnique().
  bool TryGrow(size_t size) {
    if (release_ != &FreeHeap || size > footprint_ - sizeof(Blob)) return false;
    size_ = size;
    return true;
  }
  bool IsUnique() const { return references_.load(std::memory_order_acquire) == 1; }

  /// For display: it may change while it is read.
  uint32_t references() const { return references_.load(std::memory_order_relaxed); }

  void Ref() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) release_(this);
  }

 private:
  ~Blob() = default;
  static void FreeHeap(Blob* self) { std::free(self); }

  char* data_;
  size_t size_;
  size_t footprint_;
  ReleaseFn release_;
  std::atomic<uint32_t> references_{1};
};

/// Owning handle to a Blob.
class BlobRef {
 public:
  BlobRef() = default;
  /// Takes over the reference the caller holds.
  static BlobRef Adopt(Blob* blob) {
    BlobRef ref;
    ref.blob_ = blob;
    return ref;
  }
  /// Adds a reference of its own.
  static BlobRef Share(Blob* blob) {
    blob->Ref();
    return Adopt(blob);
  }
  static BlobRef Copy(std::string_view bytes) {
    Blob* blob = Blob::Create(bytes.size());
    if (!bytes.empty()) std::memcpy(blob->mutable_data(), bytes.data(), bytes.size());
    return Adopt(blob);
  }
  BlobRef(const BlobRef& other) : blob_(other.blob_) {
    if (blob_) blob_->Ref();
  }
  BlobRef(BlobRef&& other) noexcept : blob_(std::exchange(other.blob_, nullptr)) {}
  BlobRef& operator=(BlobRef other) noexcept {
    std::swap(blob_, other.blob_);
    return *this;
  }
  ~BlobRef() {
    if (blob_) blob_->Unref();
  }

  explicit operator bool() const { return blob_ != nullptr; }
  Blob* get() const { return blob_; }
  Blob* operator->() const { return blob_; }
  std::string_view view() const { return blob_ ? blob_->view() : std::string_view(); }
  /// Gives the reference away; the handle is empty afterwards.
  Blob* Release() { return std::exchange(blob_, nullptr); }

 private:
  Blob* blob_ = nullptr;
};

/// A window onto a counted blob: what a reply by reference or a tensor chunk is.
struct BlobSlice {
  BlobRef blob;
  size_t offset = 0;
  size_t size = 0;
  std::string_view view() const { return {blob->data() + offset, size}; }
};

}  // namespace cairn

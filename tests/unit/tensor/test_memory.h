#pragma once

// Blobs of the heap for tests of this folder, with a switch that refuses them.

#include <atomic>
#include <cstring>
#include <string>
#include <string_view>

#include "tensor_module/tensor.h"

namespace cairn::tensor {

class TestMemory final : public BlobSource {
 public:
  Blob* Allocate(size_t size) override {
    if (refuse) return nullptr;
    ++allocations;
    return Blob::Create(size);
  }
  BlobSlice Slice(std::string_view bytes) {
    Blob* blob = Blob::Create(bytes.size());
    if (!bytes.empty()) std::memcpy(blob->mutable_data(), bytes.data(), bytes.size());
    return {BlobRef::Adopt(blob), 0, bytes.size()};
  }
  Chunks Cut(std::string_view bytes) { return CutOnGrid(*this, Slice(bytes)).value(); }

  bool refuse = false;
  std::atomic<int> allocations = 0;
};

inline std::string BytesOf(const Chunks& pieces) {
  std::string out;
  for (const BlobSlice& piece : pieces) out += piece.view();
  return out;
}

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string out;
  for (const T& value : values) out.append(reinterpret_cast<const char*>(&value), sizeof value);
  return out;
}

/// Bytes that differ from their neighbours and repeat only after 251.
inline std::string Pattern(size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i % 251);
  return out;
}

}  // namespace cairn::tensor

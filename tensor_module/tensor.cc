#include "tensor_module/tensor.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace cairn::tensor {

namespace {

Status MemoryRefused(uint64_t size_bytes) {
  return Status::Client("OOM no memory for " + std::to_string(size_bytes) +
                        " bytes of tensor data");
}

bool IsAligned(const BlobSlice& slice) {
  return reinterpret_cast<uintptr_t>(slice.view().data()) % kChunkAlignment == 0;
}

/// The slice continues the other in memory.
bool Continues(const BlobSlice& before, const BlobSlice& next) {
  return before.blob.get() == next.blob.get() && before.offset + before.size == next.offset;
}

}  // namespace

Result<uint64_t> PayloadBytes(DType dtype, const Shape& shape) {
  if (shape.size() > kMaxDimensions) {
    return Status::Client("ERR a tensor has at most " + std::to_string(kMaxDimensions) +
                          " dimensions");
  }
  // A dimension of 0 makes the tensor empty, whatever the others are.
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end()) return uint64_t{0};
  __extension__ unsigned __int128 bytes = DTypeSize(dtype);
  for (uint64_t dim : shape) {
    bytes *= dim;
    if (bytes > kMaxTensorBytes) {
      return Status::Client("ERR a tensor of shape " + ShapeText(shape) + " is larger than " +
                            std::to_string(kMaxTensorBytes) + " bytes");
    }
  }
  return static_cast<uint64_t>(bytes);
}

std::string ShapeText(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

Result<Chunks> CutOnGrid(BlobSource& source, BlobSlice payload) {
  Chunks chunks;
  if (payload.size == 0) return chunks;
  if (!IsAligned(payload)) {
    Blob* copy = source.Allocate(payload.size);
    if (copy == nullptr) return MemoryRefused(payload.size);
    std::memcpy(copy->mutable_data(), payload.view().data(), payload.size);
    payload = {BlobRef::Adopt(copy), 0, payload.size};
  }
  chunks.reserve((payload.size + kChunkBytes - 1) / kChunkBytes);
  for (size_t at = 0; at < payload.size; at += kChunkBytes) {
    chunks.push_back({payload.blob, payload.offset + at, std::min(kChunkBytes, payload.size - at)});
  }
  return chunks;
}

Result<Chunks> ZeroChunks(BlobSource& source, uint64_t size_bytes) {
  Chunks chunks;
  if (size_bytes == 0) return chunks;
  const size_t first = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, size_bytes));
  Blob* zeros = source.Allocate(first);
  if (zeros == nullptr) return MemoryRefused(first);
  std::memset(zeros->mutable_data(), 0, first);
  const BlobRef blob = BlobRef::Adopt(zeros);
  chunks.reserve((size_bytes + kChunkBytes - 1) / kChunkBytes);
  for (uint64_t at = 0; at < size_bytes; at += kChunkBytes) {
    chunks.push_back(
        {blob, 0, static_cast<size_t>(std::min<uint64_t>(kChunkBytes, size_bytes - at))});
  }
  return chunks;
}

Chunks ReadChunks(const Chunks& chunks, uint64_t offset, uint64_t size) {
  Chunks out;
  while (size > 0) {
    const BlobSlice& chunk = chunks[offset / kChunkBytes];
    const size_t skip = offset % kChunkBytes;
    const size_t take = static_cast<size_t>(std::min<uint64_t>(size, chunk.size - skip));
    BlobSlice piece{chunk.blob, chunk.offset + skip, take};
    if (!out.empty() && Continues(out.back(), piece)) {
      out.back().size += take;
    } else {
      out.push_back(std::move(piece));
    }
    offset += take;
    size -= take;
  }
  return out;
}

Result<BlobSlice> Join(BlobSource& source, const Chunks& pieces) {
  if (pieces.size() == 1) return BlobSlice(pieces[0]);
  uint64_t size = 0;
  for (const BlobSlice& piece : pieces) size += piece.size;
  Blob* blob = source.Allocate(size);
  if (blob == nullptr) return MemoryRefused(size);
  char* to = blob->mutable_data();
  for (const BlobSlice& piece : pieces) {
    std::memcpy(to, piece.view().data(), piece.size);
    to += piece.size;
  }
  return BlobSlice{BlobRef::Adopt(blob), 0, static_cast<size_t>(size)};
}

uint64_t TotalBytes(const Chunks& chunks) {
  return chunks.empty() ? 0 : (chunks.size() - 1) * uint64_t{kChunkBytes} + chunks.back().size;
}

Hash128 HashChunks(const Chunks& chunks) {
  const Chunks runs = ReadChunks(chunks, 0, TotalBytes(chunks));
  if (runs.empty()) return HashBytes128({});
  if (runs.size() == 1) return HashBytes128(runs[0].view());
  Hash128Stream stream;
  for (const BlobSlice& run : runs) stream.Add(run.view());
  return stream.Hash();
}

Status ChunkEditor::MakeOwn(size_t index) {
  if (own_[index]) return Status::Ok();
  BlobSlice& chunk = chunks_[index];
  Blob* copy = source_.Allocate(chunk.size);
  if (copy == nullptr) return MemoryRefused(chunk.size);
  std::memcpy(copy->mutable_data(), chunk.view().data(), chunk.size);
  chunk = {BlobRef::Adopt(copy), 0, chunk.size};
  own_[index] = true;
  return Status::Ok();
}

Status ChunkEditor::Write(uint64_t offset, const BlobSlice& bytes) {
  size_t done = 0;
  while (done < bytes.size) {
    const size_t index = static_cast<size_t>((offset + done) / kChunkBytes);
    const size_t skip = (offset + done) % kChunkBytes;
    BlobSlice& chunk = chunks_[index];
    const size_t take = std::min(bytes.size - done, chunk.size - skip);
    BlobSlice piece{bytes.blob, bytes.offset + done, take};
    if (take == chunk.size && take == kChunkBytes && IsAligned(piece)) {
      chunk = std::move(piece);
      own_[index] = false;
    } else {
      CAIRN_RETURN_IF_ERROR(MakeOwn(index));
      std::memcpy(chunk.blob->mutable_data() + skip, piece.view().data(), take);
    }
    done += take;
  }
  return Status::Ok();
}

uint64_t CopiedBytes(uint64_t payload_bytes, uint64_t offset, uint64_t size) {
  uint64_t copied = 0;
  const uint64_t end = offset + size;
  for (uint64_t at = offset / kChunkBytes * kChunkBytes; at < end; at += kChunkBytes) {
    const uint64_t chunk = std::min<uint64_t>(kChunkBytes, payload_bytes - at);
    const bool whole = at >= offset && at + kChunkBytes <= end;
    if (!whole || (at - offset) % kChunkAlignment != 0) copied += chunk;
  }
  return copied;
}

Tensor::Tensor(DType dtype, Shape shape, Chunks chunks)
    : dtype_(dtype),
      shape_(std::move(shape)),
      chunks_(std::move(chunks)),
      size_bytes_(TotalBytes(chunks_)) {
  const Result<uint64_t> wanted = PayloadBytes(dtype_, shape_);
  CAIRN_CHECK(wanted.ok() && wanted.value() == size_bytes_);
}

Hash128 Tensor::hash() const {
  if (auto known = known_hash()) return *known;
  const Hash128 hash = HashChunks(chunks_);
  set_known_hash(hash);
  return hash;
}

std::optional<Hash128> Tensor::known_hash() const {
  if (!hash_known_.load(std::memory_order_acquire)) return std::nullopt;
  return Hash128{hash_low_.load(std::memory_order_relaxed),
                 hash_high_.load(std::memory_order_relaxed)};
}

void Tensor::set_known_hash(Hash128 hash) const {
  hash_low_.store(hash.low, std::memory_order_relaxed);
  hash_high_.store(hash.high, std::memory_order_relaxed);
  hash_known_.store(true, std::memory_order_release);
}

uint64_t Tensor::StoredBytes() const {
  std::vector<const Blob*> blobs;
  blobs.reserve(chunks_.size());
  for (const BlobSlice& chunk : chunks_) {
    if (blobs.empty() || blobs.back() != chunk.blob.get()) blobs.push_back(chunk.blob.get());
  }
  std::sort(blobs.begin(), blobs.end());
  blobs.erase(std::unique(blobs.begin(), blobs.end()), blobs.end());
  uint64_t bytes = 0;
  for (const Blob* blob : blobs) bytes += blob->footprint();
  return bytes;
}

size_t Tensor::MemoryUsage() const {
  return sizeof *this + shape_.capacity() * sizeof(uint64_t) +
         chunks_.capacity() * sizeof(BlobSlice) + StoredBytes();
}

bool IsCleanBool(const Chunks& chunks, uint64_t* index) {
  uint64_t base = 0;
  for (const BlobSlice& chunk : chunks) {
    const std::string_view bytes = chunk.view();
    unsigned char seen = 0;
    for (char c : bytes) seen |= static_cast<unsigned char>(c);
    if (seen > 1) {
      const auto bad =
          std::find_if(bytes.begin(), bytes.end(), [](char c) { return (c & ~1) != 0; });
      *index = base + static_cast<uint64_t>(bad - bytes.begin());
      return false;
    }
    base += chunk.size;
  }
  return true;
}

}  // namespace cairn::tensor

#include "tensor_module/chunk_codec.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace cairn::tensor {

namespace {

constexpr size_t kMaxWidth = 16;
constexpr size_t kPackedHeader = 5;
/// Three windows of so many elements are the sample.
constexpr size_t kSampleElements = 2048;
/// More elements than one in so many differ: not sparse.
constexpr size_t kSparseShare = 8;
/// What is the same is passed over in stretches of this.
constexpr size_t kStretchBytes = 64;
constexpr uint8_t kStored = 0, kZstd = 1;

/// A twentieth, and at least a byte.
bool Gains(size_t encoded, size_t raw) { return encoded < raw && encoded <= raw - raw / 20; }

// --- writing ---

void AppendU32(std::string* out, size_t value) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(value >> shift));
}

void AppendGap(std::string* out, size_t gap) {
  for (; gap >= 0x80; gap >>= 7) out->push_back(static_cast<char>(gap | 0x80));
  out->push_back(static_cast<char>(gap));
}

void AppendPacked(std::string* out, std::string_view bytes, int level) {
  const size_t header = out->size(), bound = ZSTD_compressBound(bytes.size());
  out->resize(header + kPackedHeader + bound);
  size_t size =
      ZSTD_compress(out->data() + header + kPackedHeader, bound, bytes.data(), bytes.size(), level);
  const bool packed = ZSTD_isError(size) == 0 && size < bytes.size();
  if (!packed) {
    size = bytes.size();
    std::copy(bytes.begin(), bytes.end(),
              out->begin() + static_cast<ptrdiff_t>(header + kPackedHeader));
  }
  out->resize(header + kPackedHeader + size);
  std::string words(1, static_cast<char>(packed ? kZstd : kStored));
  AppendU32(&words, size);
  std::copy(words.begin(), words.end(), out->begin() + static_cast<ptrdiff_t>(header));
}

/// Byte `plane` of every element.
std::string PlaneOf(std::string_view bytes, size_t width, size_t plane) {
  std::string out(bytes.size() / width, '\0');
  for (size_t i = 0; i < out.size(); ++i) out[i] = bytes[i * width + plane];
  return out;
}

std::string Head(ChunkForm form, size_t width) {
  return {static_cast<char>(form), static_cast<char>(width)};
}

std::string Planes(ChunkForm form, std::string_view bytes, size_t width, int level) {
  std::string out = Head(form, width);
  for (size_t plane = 0; plane < width; ++plane)
    AppendPacked(&out, PlaneOf(bytes, width, plane), level);
  return out;
}

/// What Planes would gain, from a part of the bytes.
bool SampleGains(std::string_view bytes, size_t width, int level) {
  const size_t window = kSampleElements * width;
  if (bytes.size() <= 4 * window) return true;
  std::string sample;
  const size_t elements = bytes.size() / width;
  for (const size_t first : {size_t{0}, elements / 2, elements - kSampleElements}) {
    sample += bytes.substr(first * width, window);
  }
  return Gains(Planes(ChunkForm::kPlanes, sample, width, level).size(), sample.size());
}

/// Empty: too many differ.
std::string Sparse(std::string_view bytes, std::string_view base, size_t width, int level) {
  const size_t elements = bytes.size() / width;
  std::string gaps, differing;
  size_t count = 0, last = 0;
  const size_t stretch = std::max<size_t>(1, kStretchBytes / width);
  for (size_t i = 0; i < elements;) {
    const size_t end = std::min(elements, i + stretch);
    if (std::memcmp(bytes.data() + i * width, base.data() + i * width, (end - i) * width) == 0) {
      i = end;
      continue;
    }
    for (; i < end; ++i) {
      if (std::memcmp(bytes.data() + i * width, base.data() + i * width, width) == 0) continue;
      if (++count > elements / kSparseShare) return {};
      AppendGap(&gaps, i - last);
      last = i + 1;
      for (size_t byte = i * width; byte < (i + 1) * width; ++byte) {
        differing.push_back(static_cast<char>(bytes[byte] ^ base[byte]));
      }
    }
  }
  std::string out = Head(ChunkForm::kSparse, width);
  AppendU32(&out, count);
  AppendU32(&out, gaps.size());
  for (size_t plane = 0; plane < width; ++plane) gaps += PlaneOf(differing, width, plane);
  AppendPacked(&out, gaps, level);
  return out;
}

std::string Xor(std::string_view a, std::string_view b) {
  std::string out(a);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(out[i] ^ b[i]);
  return out;
}

// --- reading ---

/// Walks encoded bytes and reads no byte behind them.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  bool U8(uint8_t* out) {
    if (bytes_.empty()) return false;
    *out = static_cast<uint8_t>(bytes_[0]);
    bytes_.remove_prefix(1);
    return true;
  }
  bool U32(size_t* out) {
    if (bytes_.size() < 4) return false;
    *out = 0;
    for (size_t i = 0; i < 4; ++i) *out |= size_t{static_cast<uint8_t>(bytes_[i])} << (8 * i);
    bytes_.remove_prefix(4);
    return true;
  }
  bool Gap(size_t* out) {
    *out = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
      uint8_t byte = 0;
      if (!U8(&byte)) return false;
      *out |= size_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  /// What AppendPacked wrote of `size` bytes.
  bool Packed(size_t size, std::string* out) {
    uint8_t kind = 0;
    size_t packed = 0;
    if (!U8(&kind) || !U32(&packed) || packed > bytes_.size()) return false;
    const std::string_view bytes = bytes_.substr(0, packed);
    bytes_.remove_prefix(packed);
    if (kind == kStored) {
      out->assign(bytes);
      return bytes.size() == size;
    }
    if (kind != kZstd) return false;
    out->resize(size);
    return ZSTD_decompress(out->data(), size, bytes.data(), bytes.size()) == size;
  }
  bool AtEnd() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

bool ReadPlanes(Reader* reader, size_t width, std::span<char> out) {
  std::string plane;
  for (size_t at = 0; at < width; ++at) {
    if (!reader->Packed(out.size() / width, &plane)) return false;
    for (size_t i = 0; i < plane.size(); ++i) out[i * width + at] = plane[i];
  }
  return reader->AtEnd();
}

bool ReadSparse(Reader* reader, size_t width, std::string_view base, std::span<char> out) {
  constexpr size_t kMostGapBytes = 5;
  const size_t elements = out.size() / width;
  size_t count = 0, gaps_size = 0;
  if (!reader->U32(&count) || !reader->U32(&gaps_size)) return false;
  if (count > elements || gaps_size < count || gaps_size > count * kMostGapBytes) return false;
  std::string body;
  if (!reader->Packed(gaps_size + count * width, &body) || !reader->AtEnd()) return false;
  std::copy(base.begin(), base.end(), out.begin());
  Reader gaps(std::string_view(body).substr(0, gaps_size));
  const char* values = body.data() + gaps_size;
  size_t next = 0;
  for (size_t i = 0; i < count; ++i) {
    size_t gap = 0;
    if (!gaps.Gap(&gap) || gap >= elements - next) return false;
    next += gap;
    for (size_t plane = 0; plane < width; ++plane) {
      char& byte = out[next * width + plane];
      byte = static_cast<char>(byte ^ values[plane * count + i]);
    }
    ++next;
  }
  return gaps.AtEnd();
}

}  // namespace

std::string EncodeChunk(std::string_view bytes, size_t width, std::string_view base, int level) {
  if (width == 0 || width > kMaxWidth || bytes.size() % width != 0) width = 1;
  std::string best;
  const auto offer = [&](std::string encoded) {
    if (encoded.empty() || !Gains(encoded.size(), bytes.size())) return;
    if (best.empty() || encoded.size() < best.size()) best = std::move(encoded);
  };
  const bool with_base = !bytes.empty() && base.size() == bytes.size();
  if (with_base) offer(Sparse(bytes, base, width, level));
  // A quarter and less is not bettered by packing all the bytes.
  if (!best.empty() && best.size() <= bytes.size() / 4) return best;
  if (with_base) {
    const std::string difference = Xor(bytes, base);
    if (SampleGains(difference, width, level))
      offer(Planes(ChunkForm::kDense, difference, width, level));
  }
  if (SampleGains(bytes, width, level)) offer(Planes(ChunkForm::kPlanes, bytes, width, level));
  return best;
}

bool DecodeChunk(std::string_view encoded, std::string_view base, std::span<char> out) {
  Reader reader(encoded);
  uint8_t form = 0, width = 0;
  if (!reader.U8(&form) || !reader.U8(&width)) return false;
  if (width == 0 || width > kMaxWidth || out.size() % width != 0) return false;
  switch (static_cast<ChunkForm>(form)) {
    case ChunkForm::kPlanes:
      return ReadPlanes(&reader, width, out);
    case ChunkForm::kSparse:
      return base.size() == out.size() && ReadSparse(&reader, width, base, out);
    case ChunkForm::kDense:
      if (base.size() != out.size() || !ReadPlanes(&reader, width, out)) return false;
      for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(out[i] ^ base[i]);
      return true;
  }
  return false;
}

}  // namespace cairn::tensor

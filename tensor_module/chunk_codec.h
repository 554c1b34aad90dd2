#pragma once

// How the bytes of a chunk are held in less room: split into byte planes and packed by zstd, or as
// what differs from another chunk of the same size, its base. Exact for all bytes. Pure; any
// thread.
//
//   encoded := form u8 | width u8 | body              numbers are little-endian
//     form 1  planes   body := packed ^ width         plane p: byte p of every element
//     form 2  sparse   body := count u32 | gaps u32 | packed     (gaps bytes, then value planes)
//     form 3  dense    body := packed ^ width         planes of bytes XOR base
//   packed  := kind u8 | size u32 | bytes             kind 0: as they are; 1: a zstd frame
//
// Sparse: `count` elements differ. Their places stand as gaps, each LEB128: elements that are the
// same since the last that differed. Their values are element XOR base's element, in planes.
// Example, width 2: base 0000 1111 2222, bytes 0000 1112 2222 (one element of 2 bytes, low first):
// 02 02 | 01000000 01000000 | 00 03000000 01 03 00: gap 1; XOR is 0003.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cairn::tensor {

enum class ChunkForm : uint8_t { kPlanes = 1, kSparse = 2, kDense = 3 };

inline constexpr int kFastestLevel = 1, kSmallestLevel = 19;

/// The smallest form found. `width`: bytes of an element. `base`: bytes of as many, or empty for
/// none. Empty when no form saves a twentieth; a sample is tried first, so that noise costs little.
/// `level` is zstd's. Requires: at most 1 GiB. Cost: 0.1 to 2 GB/s at level 1.
std::string EncodeChunk(std::string_view bytes, size_t width, std::string_view base,
                        int level = kFastestLevel);

/// The form of what EncodeChunk made. Requires: not empty.
inline ChunkForm FormOf(std::string_view encoded) { return static_cast<ChunkForm>(encoded[0]); }
inline bool NeedsBase(std::string_view encoded) { return FormOf(encoded) != ChunkForm::kPlanes; }

/// Fills `out` with the bytes. False when `encoded` makes no `out.size()` bytes over this base:
/// nothing is read or written outside, whatever it holds.
bool DecodeChunk(std::string_view encoded, std::string_view base, std::span<char> out);

}  // namespace cairn::tensor

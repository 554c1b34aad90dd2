#pragma once

// Checksums that leave the process: CRC-64 (Jones) that ends an RDB file or a DUMP payload, and the
// 128-bit XXH3 that seals checkpoint bytes; with their hexadecimal form. Values are fixed by the
// formats and never change. Not for hash tables: that is hash.h. Pure functions; any thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cairn {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

/// XXH3-128 with seed 0. Picks the widest vector unit of the machine at run time.
/// Cost: about 20 GB/s on AVX2 or AVX-512 (toolchain notes, 2026-11).
Hash128 HashBytes128(std::string_view bytes);

/// The same of bytes that come one after the other.
class Hash128Stream {
 public:
  Hash128Stream();
  ~Hash128Stream();
  Hash128Stream(const Hash128Stream&) = delete;
  Hash128Stream& operator=(const Hash128Stream&) = delete;

  void Add(std::string_view bytes);
  /// Of all that was added so far.
  Hash128 Hash() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 32 lower-case hex digits, high half first (the canonical form `xxhsum -H2` prints).
std::string Hash128Hex(Hash128 hash);
/// Reads what Hash128Hex writes, in either case. Returns false unless `hex` is exactly 32 hex
/// digits.
bool ParseHash128Hex(std::string_view hex, Hash128* out);

/// Two lower-case hex digits a byte.
std::string HexEncode(std::string_view bytes);
/// Reverse of HexEncode, either case. Returns false on odd length or a foreign byte; *out
/// untouched.
bool HexDecode(std::string_view hex, std::string* out);

/// CRC-64 of `bytes` continued from `crc` (0 to begin): polynomial 0xad93d23594c935a9, reflected in
/// and out, no final xor. Crc64(0, "123456789") = 0xe9c6d914c4b8d9ca. Uses carry-less
/// multiplication where the machine has it. Cost: about 8 GB/s then, 2 GB/s otherwise. Source: RDB
/// files since version 5.
uint64_t Crc64(uint64_t crc, std::string_view bytes);

/// Crc64 continued from `crc` over `zeros` bytes of zero. With A, B and AB for the checksums from 0
/// of two texts and of one behind the other: AB = B ^ Crc64OverZeros(A, size of B). Cost: below a
/// microsecond or two, whatever the number.
uint64_t Crc64OverZeros(uint64_t crc, uint64_t zeros);

/// The two ways Crc64 computes, exposed so that tests can hold them against each other.
uint64_t Crc64Sliced(uint64_t crc, std::string_view bytes);
/// Requires: Crc64FoldingSupported().
uint64_t Crc64Folded(uint64_t crc, std::string_view bytes);
bool Crc64FoldingSupported();

}  // namespace cairn

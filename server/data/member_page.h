#pragma once

// MemberPage: the leaf of a MemberTable: the records of one range of hashes, packed in one block of
// malloc of at most 4 KiB, found by a one-byte fingerprint each. So a member costs its bytes and 3
// more, and a page is what a write after a cut copies. MemberKey and the Element functions: how
// members and values are written in it. No ownership, no policy. Any thread, under the rules of
// container.h.
//
//   page        := header(16) fingerprint(1)* padding to 16 offset(2)* free record*
//                  fingerprints and offsets grow upwards, records downwards from the end of the
//                  block
//   record      := key | key value | external
//   key, value  := length(1: 0..127, or 2: 0x80 | length >> 8, length) bytes
//                | 0xC0 + n  integer of n little-endian bytes, n in 1..8, the fewest that hold it
//   external    := 0xFF  address(8) of a Blob: generation(8) key length(4) key value
//                  for records that are long; generation: of the container when it made the blob
//
// Worked example: the record of field "ab" with value 300:  02 61 62  c2 2c 01

#include <cstdint>
#include <cstring>
#include <string_view>

#include "server/base/bytes.h"
#include "server/base/listpack.h"
#include "server/base/prefetch.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cairn {

/// Longest record that stands in its page.
inline constexpr size_t kMaxPageRecordBytes = 512;
inline constexpr size_t kMaxPageBytes = 4096;
inline constexpr size_t kExternalRecordBytes = 9;

/// One record as seen from outside. Borrows the page or the blob.
struct Member {
  ListpackValue key;
  ListpackValue value;         ///< of tables with values
  const Blob* blob = nullptr;  ///< what holds them when the record is external
};

/// A key or value in the form of a record. Borrows the text.
struct MemberElement {
  explicit MemberElement(std::string_view text);
  size_t bytes() const { return header_bytes + payload.size(); }
  void Write(char* out) const {
    std::memcpy(out, header, header_bytes);
    if (!payload.empty()) std::memcpy(out + header_bytes, payload.data(), payload.size());
  }

  char header[9];
  uint8_t header_bytes;      ///< of integers, all
  std::string_view payload;  ///< of strings
};

/// What a member is looked up by.
struct MemberKey {
  MemberKey(std::string_view key_text, uint64_t seed);
  /// 1..255: never 0, which pages use as padding.
  uint8_t fingerprint() const {
    return static_cast<uint8_t>(hash) ? static_cast<uint8_t>(hash) : 255;
  }

  std::string_view text;
  MemberElement element;
  uint64_t hash;
};

/// Reads of one record.
namespace member_record {

inline constexpr uint8_t kExternal = 0xFF, kInteger = 0xC0, kLong = 0x80;

inline size_t ElementBytes(const char* at) {
  const uint8_t tag = static_cast<uint8_t>(*at);
  if (tag < kLong) return 1 + size_t{tag};
  if (tag < kInteger) return 2 + (size_t{tag & 0x3fu} << 8 | static_cast<uint8_t>(at[1]));
  return 1 + size_t{tag & 0x0fu};
}
inline bool IsExternal(const char* record) { return static_cast<uint8_t>(*record) == kExternal; }
inline Blob* ExternalBlob(const char* record) {
  Blob* blob;
  std::memcpy(&blob, record + 1, sizeof blob);
  return blob;
}
inline size_t Bytes(const char* record, bool has_value) {
  if (IsExternal(record)) return kExternalRecordBytes;
  const size_t key = ElementBytes(record);
  return has_value ? key + ElementBytes(record + key) : key;
}
ListpackValue Element(const char* at);
Member Read(const char* record, bool has_value);
bool HasKey(const char* record, const MemberKey& key);
uint64_t Hash(const char* record, uint64_t seed);
/// A blob with one reference that holds a long record, and how it is written in a page.
Blob* NewExternal(std::string_view key, std::string_view value, uint64_t generation);
uint64_t ExternalGeneration(const Blob& blob);
uint64_t ExternalHash(const Blob& blob, uint64_t seed);
void WriteExternal(char* out, Blob* blob);

}  // namespace member_record

struct MemberPage {
  uint64_t generation;
  uint16_t count;
  uint16_t allocated;  ///< size of the block
  uint16_t heap_at;    ///< where the records begin
  uint8_t depth;       ///< bits of hash that all records share
  uint8_t unused;

  static constexpr size_t kHeaderBytes = 16;
  static size_t FingerprintBytes(size_t count) { return (count + 15) & ~size_t{15}; }
  static size_t FrontBytes(size_t count) {
    return kHeaderBytes + FingerprintBytes(count) + 2 * count;
  }
  /// Smallest block that holds `bytes`: the allocator's own classes, so that none is wasted.
  static size_t BlockFor(size_t bytes);

  uint8_t* fingerprints() { return reinterpret_cast<uint8_t*>(this) + kHeaderBytes; }
  const uint8_t* fingerprints() const {
    return reinterpret_cast<const uint8_t*>(this) + kHeaderBytes;
  }
  uint16_t* offsets() {
    return reinterpret_cast<uint16_t*>(fingerprints() + FingerprintBytes(count));
  }
  const uint16_t* offsets() const {
    return reinterpret_cast<const uint16_t*>(fingerprints() + FingerprintBytes(count));
  }
  char* record(size_t i) { return reinterpret_cast<char*>(this) + offsets()[i]; }
  const char* record(size_t i) const { return reinterpret_cast<const char*>(this) + offsets()[i]; }

  size_t record_bytes() const { return size_t{allocated} - heap_at; }
  /// What a page must hold for these records and one more of `more` bytes.
  size_t BytesWith(size_t more) const { return FrontBytes(count + 1u) + record_bytes() + more; }
  size_t BytesUsed() const { return FrontBytes(count) + record_bytes(); }
  bool HasRoom(size_t more) const { return BytesWith(more) <= allocated; }

  /// Index of the record of `key`, or -1. Cost: a compare of 16 fingerprints at a time.
  int Find(const MemberKey& key) const {
    const uint8_t fingerprint = key.fingerprint();
    for (size_t base = 0; base < count; base += 16) {
      for (uint32_t match = Match(base, fingerprint); match; match &= match - 1) {
        const size_t i = base + static_cast<size_t>(__builtin_ctz(match));
        if (i < count && member_record::HasKey(record(i), key)) return static_cast<int>(i);
      }
    }
    return -1;
  }
  /// Asks for what Find reads first, then for the records that it will compare.
  void PrefetchFront() const {
    constexpr size_t kUsualFrontBytes = 192;  // header and fingerprints of most pages
    for (size_t at = 0; at < kUsualFrontBytes; at += 64)
      PrefetchLine(reinterpret_cast<const char*>(this) + at);
  }
  void PrefetchMatches(const MemberKey& key) const {
    for (size_t base = 0; base < count; base += 16) {
      for (uint32_t match = Match(base, key.fingerprint()); match; match &= match - 1) {
        const size_t i = base + static_cast<size_t>(__builtin_ctz(match));
        if (i < count) PrefetchLine(record(i));
      }
    }
  }
  /// Where to write a record of `bytes`. Requires: HasRoom(bytes).
  char* Append(uint8_t fingerprint, size_t bytes);
  /// Takes the record of an index out; others may change theirs.
  void Erase(size_t i, size_t bytes);

 private:
  uint32_t Match(size_t base, uint8_t fingerprint) const {
#if defined(__SSE2__)
    const __m128i line = _mm_loadu_si128(reinterpret_cast<const __m128i*>(fingerprints() + base));
    return static_cast<uint32_t>(
        _mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(static_cast<char>(fingerprint)))));
#else
    uint32_t bits = 0;
    for (size_t i = 0; i < 16; ++i)
      bits |= static_cast<uint32_t>(fingerprints()[base + i] == fingerprint) << i;
    return bits;
#endif
  }
};
static_assert(sizeof(MemberPage) == MemberPage::kHeaderBytes);

}  // namespace cairn

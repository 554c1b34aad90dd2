#include "server/base/checksum.h"

// The state of a stream as a member.
#define XXH_STATIC_LINKING_ONLY

#if defined(__x86_64__)
#include <immintrin.h>
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <array>
#include <cstring>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

/// 0xad93d23594c935a9 with its bits in reverse: bit 63 stands for x^0.
constexpr uint64_t kReflectedPolynomial = 0x95ac9329ac4bc9b5;

/// `value` times x modulo the polynomial, reflected.
constexpr uint64_t TimesX(uint64_t value) {
  return (value >> 1) ^ ((value & 1) ? kReflectedPolynomial : 0);
}

/// The product of two reflected polynomials.
constexpr uint64_t Times(uint64_t left, uint64_t right) {
  uint64_t product = 0;
  for (; left != 0; left <<= 1) {
    product ^= right & (0 - (left >> 63));
    right = TimesX(right);
  }
  return product;
}

/// [k][d]: reflected x^(8 * d * 256^k), the way of d * 256^k bytes.
using ByteWays = std::array<std::array<uint64_t, 256>, 8>;

ByteWays MakeByteWays() {
  ByteWays ways{};
  uint64_t one = uint64_t{1} << (63 - 8);
  for (auto& digit : ways) {
    digit[0] = uint64_t{1} << 63;
    for (size_t d = 1; d < digit.size(); ++d) digit[d] = Times(digit[d - 1], one);
    one = Times(digit.back(), one);
  }
  return ways;
}

/// tables[k][b]: what byte b contributes when k more bytes follow it.
using SliceTables = std::array<std::array<uint64_t, 256>, 8>;

constexpr SliceTables MakeSliceTables() {
  SliceTables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = TimesX(crc);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint64_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr SliceTables kSlices = MakeSliceTables();

uint64_t LoadLittleEndian64(const char* from) {
  uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  if constexpr (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) word = __builtin_bswap64(word);
  return word;
}

#if defined(__x86_64__)

/// Reflected x^n modulo the polynomial.
constexpr uint64_t PowerOfX(unsigned n) {
  uint64_t value = 1ull << 63;
  for (unsigned i = 0; i < n; ++i) value = TimesX(value);
  return value;
}

/// Moves a 128-bit remainder `accumulator` ahead over the distance that `factors` stands for and
/// adds `data`. A product of two reflected 64-bit numbers comes out one bit low, hence the
/// exponents distance+63 for the early half and distance-1 for the late one.
__attribute__((target("pclmul,sse4.1"))) inline __m128i Fold(__m128i accumulator, __m128i factors,
                                                             __m128i data) {
  const __m128i early = _mm_clmulepi64_si128(accumulator, factors, 0x00);
  const __m128i late = _mm_clmulepi64_si128(accumulator, factors, 0x11);
  return _mm_xor_si128(_mm_xor_si128(early, late), data);
}

inline __m128i Load(const char* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

/// Four lanes keep the multiplier busy: its latency is longer than its throughput.
constexpr size_t kLanes = 4;
constexpr size_t kFoldBytes = kLanes * 16;

__attribute__((target("pclmul,sse4.1"))) uint64_t FoldBlocks(uint64_t crc, const char* data,
                                                             size_t size) {
  const __m128i by_512 = _mm_set_epi64x(static_cast<int64_t>(PowerOfX(512 - 1)),
                                        static_cast<int64_t>(PowerOfX(512 + 63)));
  const __m128i by_128 = _mm_set_epi64x(static_cast<int64_t>(PowerOfX(128 - 1)),
                                        static_cast<int64_t>(PowerOfX(128 + 63)));
  __m128i lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = Load(data + i * 16);
  lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, static_cast<int64_t>(crc)));
  for (size_t at = kFoldBytes; at < size; at += kFoldBytes) {
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = Fold(lanes[i], by_512, Load(data + at + i * 16));
  }
  for (size_t i = 1; i < kLanes; ++i) lanes[i] = Fold(lanes[i - 1], by_128, lanes[i]);
  char last[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last), lanes[kLanes - 1]);
  return Crc64Sliced(0, {last, sizeof(last)});
}

#endif

constexpr char kHexDigits[] = "0123456789abcdef";

uint64_t BigEndian64(const char* from) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(from[i]);
  return value;
}

}  // namespace

Hash128 HashBytes128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

struct Hash128Stream::State {
  XXH3_state_t xxh;
};

Hash128Stream::Hash128Stream() : state_(std::make_unique<State>()) {
  CAIRN_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}

Hash128Stream::~Hash128Stream() = default;

void Hash128Stream::Add(std::string_view bytes) {
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
}

Hash128 Hash128Stream::Hash() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.low64, hash.high64};
}

std::string Hash128Hex(Hash128 hash) {
  std::string out(32, '0');
  for (size_t i = 0; i < 16; ++i) {
    out[i] = kHexDigits[hash.high >> (60 - 4 * i) & 15];
    out[16 + i] = kHexDigits[hash.low >> (60 - 4 * i) & 15];
  }
  return out;
}

bool ParseHash128Hex(std::string_view hex, Hash128* out) {
  std::string bytes;
  if (hex.size() != 32 || !HexDecode(hex, &bytes)) return false;
  *out = {.low = BigEndian64(bytes.data() + 8), .high = BigEndian64(bytes.data())};
  return true;
}

std::string HexEncode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back(kHexDigits[byte >> 4]);
    out.push_back(kHexDigits[byte & 15]);
  }
  return out;
}

bool HexDecode(std::string_view hex, std::string* out) {
  if (hex.size() % 2 != 0) return false;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexValue(hex[i]);
    const int low = HexValue(hex[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes.push_back(static_cast<char>(high * 16 + low));
  }
  *out = std::move(bytes);
  return true;
}

uint64_t Crc64OverZeros(uint64_t crc, uint64_t zeros) {
  static const ByteWays ways = MakeByteWays();
  for (size_t k = 0; zeros != 0; ++k, zeros >>= 8) crc = Times(crc, ways[k][zeros & 255]);
  return crc;
}

uint64_t Crc64Sliced(uint64_t crc, std::string_view bytes) {
  const char* data = bytes.data();
  size_t size = bytes.size();
  for (; size >= 8; data += 8, size -= 8) {
    const uint64_t word = crc ^ LoadLittleEndian64(data);
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= kSlices[7 - i][word >> (8 * i) & 0xff];
  }
  for (; size > 0; ++data, --size) {
    crc = (crc >> 8) ^ kSlices[0][(crc ^ static_cast<unsigned char>(*data)) & 0xff];
  }
  return crc;
}

#if defined(__x86_64__)

bool Crc64FoldingSupported() {
  return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

uint64_t Crc64Folded(uint64_t crc, std::string_view bytes) {
  const size_t folded = bytes.size() / kFoldBytes * kFoldBytes;
  if (folded > 0) crc = FoldBlocks(crc, bytes.data(), folded);
  return Crc64Sliced(crc, bytes.substr(folded));
}

#else

bool Crc64FoldingSupported() { return false; }

uint64_t Crc64Folded(uint64_t crc, std::string_view bytes) { return Crc64Sliced(crc, bytes); }

#endif

uint64_t Crc64(uint64_t crc, std::string_view bytes) {
  // Setting up the lanes costs more than it gains on a few of them.
  constexpr size_t kWorthFolding = 256;
  if (bytes.size() >= kWorthFolding && Crc64FoldingSupported()) return Crc64Folded(crc, bytes);
  return Crc64Sliced(crc, bytes);
}

}  // namespace cairn

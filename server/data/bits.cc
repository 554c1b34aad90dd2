#include "server/data/bits.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

__extension__ typedef unsigned __int128 Wide;
__extension__ typedef __int128 SignedWide;
// A field of 64 bits that does not begin at a byte touches this many.
constexpr size_t kFieldBytes = 9;

uint64_t LoadWord(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

inline uint64_t CountWords(const char* bytes, size_t words) {
  uint64_t count = 0;
  for (size_t i = 0; i < words; ++i)
    count += static_cast<uint64_t>(std::popcount(LoadWord(bytes + 8 * i)));
  return count;
}

#if defined(__x86_64__)
// The baseline of x86-64 has no instruction that counts bits; nearly every machine has.
__attribute__((target("popcnt"))) uint64_t CountWordsByInstruction(const char* bytes,
                                                                   size_t words) {
  uint64_t count = 0;
  for (size_t i = 0; i < words; ++i)
    count += static_cast<uint64_t>(__builtin_popcountll(LoadWord(bytes + 8 * i)));
  return count;
}
#endif

// The bits of byte `at / 8` from bit `at % 8` on, at the low end.
uint8_t MaskFrom(uint64_t at) { return static_cast<uint8_t>(0xff >> (at % 8)); }
// The bits up to and with bit `at % 8`.
uint8_t MaskTo(uint64_t at) { return static_cast<uint8_t>(0xff << (7 - at % 8)); }

uint8_t ByteAt(std::string_view bytes, uint64_t index) {
  return static_cast<uint8_t>(bytes[index]);
}

// The kFieldBytes bytes from `first` on as one big-endian number.
Wide LoadField(const char* bytes, size_t size, size_t first) {
  Wide word = 0;
  for (size_t i = 0; i < kFieldBytes; ++i) {
    const uint8_t byte = first + i < size ? static_cast<uint8_t>(bytes[first + i]) : 0;
    word = word << 8 | byte;
  }
  return word;
}

int FieldShift(uint64_t at, BitFieldType type) {
  return static_cast<int>(8 * kFieldBytes - at % 8 - type.bits);
}

Wide FieldMask(BitFieldType type) { return (Wide{1} << type.bits) - 1; }

int64_t SignExtend(uint64_t value, unsigned bits) {
  const unsigned unused = 64 - bits;
  return static_cast<int64_t>(value << unused) >> unused;
}

// Several words at a time: a loop over bytes, or with a branch for each word, costs a multiple. GCC
// makes vector instructions of it, which at -O2 it does not of a loop.
typedef uint64_t Stride __attribute__((vector_size(64)));
constexpr size_t kStride = sizeof(Stride);

void CombineWords(char* target, const char* source, size_t size, const auto& combine) {
  const auto combine_some = [&](size_t at, size_t here) {
    Stride into{}, from{};
    std::memcpy(&into, target + at, here);
    std::memcpy(&from, source + at, here);
    combine(into, from);
    std::memcpy(target + at, &into, here);
  };
  size_t at = 0;
  for (; at + kStride <= size; at += kStride) combine_some(at, kStride);
  if (at < size) combine_some(at, size - at);
}

/// The kStride bytes at `bytes` are nothing but `word`.
bool IsDull(const char* bytes, uint64_t word) {
  uint64_t differs = 0;
  for (size_t i = 0; i < kStride; i += 8) differs |= LoadWord(bytes + i) ^ word;
  return differs == 0;
}

}  // namespace

uint64_t CountBits(std::string_view bytes) {
  const size_t words = bytes.size() / 8;
  uint64_t count = 0;
#if defined(__x86_64__)
  count = __builtin_cpu_supports("popcnt") ? CountWordsByInstruction(bytes.data(), words)
                                           : CountWords(bytes.data(), words);
#else
  count = CountWords(bytes.data(), words);
#endif
  for (size_t i = words * 8; i < bytes.size(); ++i)
    count += static_cast<uint64_t>(std::popcount(ByteAt(bytes, i)));
  return count;
}

uint64_t CountBits(std::string_view bytes, uint64_t first, uint64_t last) {
  CAIRN_CHECK(first <= last && last / 8 < bytes.size());
  const uint64_t first_byte = first / 8, last_byte = last / 8;
  if (first_byte == last_byte) {
    return static_cast<uint64_t>(std::popcount(
        static_cast<uint8_t>(ByteAt(bytes, first_byte) & MaskFrom(first) & MaskTo(last))));
  }
  uint64_t count = CountBits(bytes.substr(first_byte + 1, last_byte - first_byte - 1));
  count += static_cast<uint64_t>(
      std::popcount(static_cast<uint8_t>(ByteAt(bytes, first_byte) & MaskFrom(first))));
  count += static_cast<uint64_t>(
      std::popcount(static_cast<uint8_t>(ByteAt(bytes, last_byte) & MaskTo(last))));
  return count;
}

std::optional<uint64_t> FindBit(std::string_view bytes, bool bit, uint64_t first, uint64_t last) {
  CAIRN_CHECK(first <= last && last / 8 < bytes.size());
  const uint8_t flip = bit ? 0 : 0xff;
  const uint64_t dull_word = bit ? 0 : UINT64_MAX;
  const uint64_t last_byte = last / 8;
  uint64_t index = first / 8;
  uint8_t mask = MaskFrom(first);
  while (index <= last_byte) {
    if (mask == 0xff && index + kStride <= last_byte && IsDull(bytes.data() + index, dull_word)) {
      index += kStride;
      continue;
    }
    if (mask == 0xff && index + 8 <= last_byte && LoadWord(bytes.data() + index) == dull_word) {
      index += 8;
      continue;
    }
    uint8_t seen = static_cast<uint8_t>((ByteAt(bytes, index) ^ flip) & mask);
    if (index == last_byte) seen &= MaskTo(last);
    if (seen != 0) return index * 8 + static_cast<uint64_t>(std::countl_zero(seen));
    mask = 0xff;
    ++index;
  }
  return std::nullopt;
}

std::optional<BitFieldType> ParseBitFieldType(std::string_view text) {
  if (text.empty() || (text[0] != 'i' && text[0] != 'u')) return std::nullopt;
  const bool is_signed = text[0] == 'i';
  int64_t bits = 0;
  if (!ParseInt64(text.substr(1), &bits) || bits < 1 ||
      bits > static_cast<int64_t>(is_signed ? kMaxSignedBits : kMaxUnsignedBits)) {
    return std::nullopt;
  }
  return BitFieldType{is_signed, static_cast<unsigned>(bits)};
}

int64_t ReadBitField(std::string_view bytes, uint64_t at, BitFieldType type) {
  const Wide word = LoadField(bytes.data(), bytes.size(), at / 8);
  const uint64_t value = static_cast<uint64_t>(word >> FieldShift(at, type) & FieldMask(type));
  return type.is_signed ? SignExtend(value, type.bits) : static_cast<int64_t>(value);
}

void WriteBitField(char* bytes, size_t size, uint64_t at, BitFieldType type, int64_t value) {
  CAIRN_CHECK(at + type.bits <= 8 * static_cast<uint64_t>(size));
  const size_t first = at / 8;
  const int shift = FieldShift(at, type);
  Wide word = LoadField(bytes, size, first);
  word &= ~(FieldMask(type) << shift);
  word |= (static_cast<Wide>(static_cast<uint64_t>(value)) & FieldMask(type)) << shift;
  const size_t touched = std::min(kFieldBytes, size - first);
  for (size_t i = 0; i < touched; ++i)
    bytes[first + i] = static_cast<char>(word >> (8 * (kFieldBytes - 1 - i)));
}

namespace {

enum class Range : uint8_t { kBelow, kWithin, kAbove };

// Redis computes the room above and below in 64 bits, and so takes a SET of a number far below a
// signed type for one above it. Replies must agree, so this does as much.
Range RangeOfSigned(BitFieldType type, int64_t value, int64_t increment, int64_t highest,
                    int64_t lowest) {
  const auto minus = [](int64_t a, int64_t b) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
  };
  const bool narrow = type.bits != kMaxSignedBits;
  const int64_t room_above = minus(highest, value), room_below = minus(lowest, value);
  if (value > highest || (increment > room_above && (narrow || (value >= 0 && increment > 0))))
    return Range::kAbove;
  if (value < lowest || (increment < room_below && (narrow || (value < 0 && increment < 0))))
    return Range::kBelow;
  return Range::kWithin;
}

Range RangeOfUnsigned(SignedWide sum, SignedWide highest) {
  return sum > highest ? Range::kAbove : sum < 0 ? Range::kBelow : Range::kWithin;
}

}  // namespace

std::optional<int64_t> AddBitField(BitFieldType type, int64_t value, int64_t increment,
                                   BitOverflow overflow) {
  const SignedWide start = type.is_signed ? static_cast<SignedWide>(value)
                                          : static_cast<SignedWide>(static_cast<uint64_t>(value));
  const SignedWide sum = start + increment;
  const unsigned magnitude_bits = type.is_signed ? type.bits - 1 : type.bits;
  const SignedWide highest = (static_cast<SignedWide>(1) << magnitude_bits) - 1;
  const SignedWide lowest = type.is_signed ? -highest - 1 : 0;
  const Range range = type.is_signed
                          ? RangeOfSigned(type, value, increment, static_cast<int64_t>(highest),
                                          static_cast<int64_t>(lowest))
                          : RangeOfUnsigned(sum, highest);
  if (range == Range::kWithin) return static_cast<int64_t>(sum);
  switch (overflow) {
    case BitOverflow::kFail:
      return std::nullopt;
    case BitOverflow::kSaturate:
      return static_cast<int64_t>(range == Range::kAbove ? highest : lowest);
    case BitOverflow::kWrap:
      break;
  }
  const uint64_t low = static_cast<uint64_t>(static_cast<Wide>(sum) & FieldMask(type));
  return type.is_signed ? SignExtend(low, type.bits) : static_cast<int64_t>(low);
}

void CombineBits(BitOperation operation, char* target, const char* source, size_t size) {
  switch (operation) {
    case BitOperation::kAnd:
      return CombineWords(target, source, size,
                          [](Stride& into, const Stride& from) { into &= from; });
    case BitOperation::kOr:
      return CombineWords(target, source, size,
                          [](Stride& into, const Stride& from) { into |= from; });
    case BitOperation::kXor:
      return CombineWords(target, source, size,
                          [](Stride& into, const Stride& from) { into ^= from; });
  }
}

void InvertBits(char* target, const char* source, size_t size) {
  CombineWords(target, source, size, [](Stride& into, const Stride& from) { into = ~from; });
}

}  // namespace cairn

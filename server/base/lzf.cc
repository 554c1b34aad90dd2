#include "server/base/lzf.h"

#include <lzf.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace cairn {

namespace {

constexpr size_t kMostLiterals = 32;
constexpr size_t kLongestRepeat = 264;
constexpr size_t kCopyBytes = 16;

/// The place in liblzf's table for three bytes, the last of them lowest. Decides which of several
/// earlier places with the same three bytes is found.
uint32_t LzfSlot(uint32_t three) { return ((three >> 8) - three * 5) & 0xFFFF; }

/// Where each of liblzf's slots was last stored, of those that were: as it, but in few cache lines.
class Positions {
 public:
  explicit Positions(size_t input_bytes)
      : bits_(std::bit_width(std::max<size_t>(kEntriesAByte * input_bytes, 64) - 1)) {
    std::memset(entries_, 0, sizeof(uint32_t) << bits_);
  }
  /// What was there; 0 for nothing, as nothing refers to the first byte.
  uint32_t Replace(uint32_t slot, size_t position) {
    uint32_t at = (slot * 0x9E3779B1U) >> (32 - bits_);
    while (entries_[at] != 0 && entries_[at] >> 16 != slot) at = (at + 1) & ((1U << bits_) - 1);
    const uint32_t old = entries_[at] & 0xFFFF;
    entries_[at] = slot << 16 | static_cast<uint32_t>(position);
    return old;
  }

 private:
  // So many that few share a place: a search that goes on is a branch mispredicted.
  static constexpr size_t kEntriesAByte = 8;
  static constexpr size_t kMostEntries = kEntriesAByte * kLzfSmallBytes;
  static_assert(kMostEntries <= 65536);
  int bits_;
  uint32_t entries_[kMostEntries];
};

/// The output: literals that are not written yet end where the next repeat begins. liblzf writes
/// each as it comes, with a byte for the head of the next run before it, and gives up when one has
/// no room: the same is counted here.
class Output {
 public:
  Output(const uint8_t* in, uint8_t* out, size_t room) : in_(in), out_(out), room_(room) {
    Limit();
  }

  /// The first byte that would have no room as a literal.
  size_t literal_limit() const { return literal_limit_; }

  /// A repeat of `length` bytes at `at`, from `distance` before it. False when there is no room.
  bool Repeat(size_t at, size_t length, size_t distance) {
    const size_t literals = at - begin_;
    if (next_ + Written(literals) - (literals % kMostLiterals == 0 ? 1 : 0) + 4 >= room_) {
      return false;
    }
    uint8_t* to = out_ + WriteLiterals(at);
    const size_t extra = length - 2, back = distance - 1;
    *to++ = static_cast<uint8_t>((back >> 8) + (std::min<size_t>(extra, 7) << 5));
    if (extra >= 7) *to++ = static_cast<uint8_t>(extra - 7);
    *to++ = static_cast<uint8_t>(back);
    next_ = static_cast<size_t>(to - out_) + 1;
    begin_ = at + length;
    Limit();
    return true;
  }

  /// The rest are literals, of which up to two were not asked about. Returns the size, or 0.
  size_t End(size_t at, size_t size) {
    if (next_ + Written(at - begin_) + 3 > room_) return 0;
    return WriteLiterals(size);
  }

 private:
  /// Bytes of so many literals: behind 32 of them stands the head of the next run.
  static size_t Written(size_t literals) { return literals + literals / kMostLiterals; }

  void Limit() {
    const size_t left = room_ - std::min(room_, next_);
    const size_t runs = left / (kMostLiterals + 1), rest = left % (kMostLiterals + 1);
    literal_limit_ = begin_ + runs * kMostLiterals + std::min(rest, kMostLiterals);
  }

  /// Those up to `end`. Returns where the output ends.
  size_t WriteLiterals(size_t end) {
    size_t to = next_ - 1;
    while (begin_ < end) {
      const size_t count = std::min(end - begin_, kMostLiterals);
      out_[to++] = static_cast<uint8_t>(count - 1);
      std::memcpy(out_ + to, in_ + begin_, count);
      to += count;
      begin_ += count;
    }
    return to;
  }

  const uint8_t* in_;
  uint8_t* out_;
  size_t room_;
  size_t next_ = 1;   // where the first literal that is not written goes
  size_t begin_ = 0;  // in the input: that literal
  size_t literal_limit_ = 0;
};

/// The first position from `from` on in which two texts of `size` bytes differ, or `size`.
size_t Difference(const uint8_t* a, const uint8_t* b, size_t from, size_t size) {
  size_t at = from;
  while (at + sizeof(uint64_t) <= size) {
    uint64_t x, y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    if (x != y) return at + static_cast<size_t>(std::countr_zero(x ^ y)) / 8;
    at += sizeof x;
  }
  while (at < size && a[at] == b[at]) ++at;
  return at;
}

/// How far liblzf extends a repeat of three bytes, of `left` that there are at most. It looks at 16
/// more without counting when there are 19, and leaves two bytes at the end else.
size_t RepeatLength(const uint8_t* earlier, const uint8_t* here, size_t left) {
  const size_t most = std::min(left - 2, kLongestRepeat);
  const size_t same = Difference(earlier, here, 3, std::min(left, kLongestRepeat));
  if (most <= 16) return std::max<size_t>(3, std::min(same, most));
  return same < 19 ? same : std::max<size_t>(19, std::min(same, most));
}

size_t CompressSmall(const uint8_t* in, size_t size, uint8_t* out, size_t room) {
  if (size == 0 || room == 0) return 0;
  Positions positions(size);
  Output output(in, out, room);
  const auto three_at = [in](size_t at) {
    return static_cast<uint32_t>(in[at] << 16 | in[at + 1] << 8 | in[at + 2]);
  };
  size_t at = 0;
  uint32_t two = size < 2 ? 0 : static_cast<uint32_t>(in[0] << 8 | in[1]);  // the next two bytes
  while (at + 2 < size) {
    const uint32_t three = two << 8 | in[at + 2];
    two = three & 0xFFFF;
    const uint32_t earlier = positions.Replace(LzfSlot(three), at);
    if (earlier == 0 || three_at(earlier) != three) {
      if (at >= output.literal_limit()) return 0;
      ++at;
      continue;
    }
    const size_t length = RepeatLength(in + earlier, in + at, size - at);
    if (!output.Repeat(at, length, at - earlier)) return 0;
    at += length;
    if (at + 2 >= size) break;
    for (const size_t before : {at - 2, at - 1}) {
      positions.Replace(LzfSlot(three_at(before)), before);
    }
    two = three_at(at) >> 8;
  }
  return output.End(at, size);
}

/// Repeats `length` bytes from `distance` before `to`, of which there are `room`.
void CopyRepeat(uint8_t* to, size_t distance, size_t length, size_t room) {
  const uint8_t* from = to - distance;
  if (distance == 1) {
    std::memset(to, *from, length);
  } else if (distance >= kCopyBytes && length + kCopyBytes <= room) {
    for (size_t at = 0; at < length; at += kCopyBytes) std::memcpy(to + at, from + at, kCopyBytes);
  } else {
    for (size_t at = 0; at < length; ++at) to[at] = from[at];
  }
}

}  // namespace

size_t LzfCompress(std::string_view bytes, char* out, size_t room_bytes) {
  if (bytes.size() > kLzfSmallBytes) {
    return lzf_compress(bytes.data(), static_cast<unsigned>(bytes.size()), out,
                        static_cast<unsigned>(room_bytes));
  }
  return CompressSmall(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                       reinterpret_cast<uint8_t*>(out), room_bytes);
}

size_t LzfDecompress(std::string_view packed, char* out, size_t room_bytes) {
  const auto* in = reinterpret_cast<const uint8_t*>(packed.data());
  auto* const to = reinterpret_cast<uint8_t*>(out);
  const size_t size = packed.size();
  size_t at = 0, made = 0;
  while (at < size) {
    const size_t head = in[at++];
    if (head < kMostLiterals) {
      const size_t count = head + 1;
      if (count > room_bytes - made || count > size - at) return 0;
      if (kMostLiterals <= room_bytes - made && kMostLiterals <= size - at) {
        std::memcpy(to + made, in + at, kMostLiterals);  // a size that is known is two instructions
      } else {
        std::memcpy(to + made, in + at, count);
      }
      at += count;
      made += count;
      continue;
    }
    size_t length = (head >> 5) + 2;
    if (at == size) return 0;
    if (length == 9) {
      length += in[at++];
      if (at == size) return 0;
    }
    const size_t distance = ((head & 31) << 8) + in[at++] + 1;
    if (length > room_bytes - made || distance > made) return 0;
    CopyRepeat(to + made, distance, length, room_bytes - made);
    made += length;
  }
  return made;
}

}  // namespace cairn

#pragma once

// Listpack: the packed sequence of short strings and integers that Redis keeps small containers in,
// byte for byte, because it is also what DUMP, RDB files and full syncs carry. ListpackView reads,
// the free functions change bytes held in a std::string. Values that look like integers are kept as
// such. Elements are named by their offset in the bytes; any change makes offsets after it stale.
// Pure; any thread.
//
//   listpack := total(4, little-endian) count(2, little-endian; 65535 = count them) element* 0xFF
//   element  := encoding payload backlen
//   encoding := 0xxxxxxx                   integer 0..127
//             | 10llllll                   string of l bytes
//             | 110xxxxx xxxxxxxx          13-bit signed integer, big-endian
//             | 1110llll llllllll          string of l < 4096 bytes, big-endian
//             | 11110000 l(4)              string of l bytes, little-endian, as the integers below
//             | 11110001 i16 | 11110010 i24 | 11110011 i32 | 11110100 i64
//   backlen  := size of encoding and payload, 7 bits a byte, most significant first; all but the
//               first byte have the top bit set, so that it reads from its end
//
// Worked example, ["hi", 1024]:
//   0e 00 00 00  02 00  82 68 69 03  c4 00 02  ff

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

/// One element: an integer, or bytes borrowed from the listpack.
struct ListpackValue {
  bool is_integer = false;
  int64_t integer = 0;
  std::string_view bytes;

  /// The element's text; integers are formatted into `scratch` (kMaxInt64Chars of strings.h).
  std::string_view Text(char* scratch) const;
  /// Whether the element stands for `text`.
  bool Equals(std::string_view text) const;
};

inline constexpr uint32_t kListpackHeaderBytes = 6;
inline constexpr uint32_t kListpackEmptyBytes = 7;
/// Largest listpack that Redis makes; above, it refuses to grow one.
inline constexpr uint64_t kListpackMaxBytes = uint64_t{1} << 30;

class ListpackView {
 public:
  /// Requires: bytes that Validate accepted or the functions below made.
  explicit ListpackView(std::string_view bytes) : bytes_(bytes) {}

  /// Whether `bytes` are a listpack, every length in it checked. Cost: O(n).
  static bool Validate(std::string_view bytes);

  /// Number of elements. Cost: O(1), O(n) from 65,535 elements on.
  uint32_t count() const;
  std::string_view bytes() const { return bytes_; }

  /// Offset of the first element; end() when empty.
  uint32_t begin() const { return kListpackHeaderBytes; }
  /// Offset of the terminator.
  uint32_t end() const { return static_cast<uint32_t>(bytes_.size()) - 1; }
  /// Requires: at < end().
  uint32_t Next(uint32_t at) const {
    const unsigned char first = data()[at];
    if (first < kSmallIntegers) return at + 2;
    return first < kShortStrings ? at + 2 + (first & 0x3fu) : NextOfLong(at);
  }
  /// Requires: at > begin().
  uint32_t Previous(uint32_t at) const;
  ListpackValue Get(uint32_t at) const {
    const unsigned char first = data()[at];
    if (first < kSmallIntegers) return {true, first, {}};
    if (first < kShortStrings) return {false, 0, {bytes_.data() + at + 1, first & 0x3fu}};
    return GetLong(at);
  }
  /// The element of an index, negative ones from the end; end() when there is none. Cost: O(n),
  /// from the nearer side.
  uint32_t Seek(int64_t index) const;
  /// The first element at or after `from` that stands for `text`, looking at one in `1 + skip`;
  /// end() when there is none. Cost: O(n).
  uint32_t Find(std::string_view text, uint32_t from, uint32_t skip) const;

 private:
  // The two encodings that nearly all elements have: first bytes below these. Both take one byte in
  // front of the payload and one behind.
  static constexpr unsigned char kSmallIntegers = 0x80, kShortStrings = 0xC0;

  uint32_t NextOfLong(uint32_t at) const;
  ListpackValue GetLong(uint32_t at) const;
  const unsigned char* data() const {
    return reinterpret_cast<const unsigned char*>(bytes_.data());
  }
  std::string_view bytes_;
};

/// An empty listpack.
std::string NewListpack();
/// Bytes that `text` takes as an element.
size_t ListpackElementBytes(std::string_view text);
/// Writes `text` as an element at `out`, which has room for ListpackElementBytes.
void WriteListpackElement(std::string_view text, char* out);
/// Puts `text` before the element at `at` (end() appends). Cost: O(bytes after it).
void ListpackInsert(std::string* listpack, uint32_t at, std::string_view text);
void ListpackAppend(std::string* listpack, std::string_view text);
/// Puts `text` in the place of the element at `at`, whose offset stays.
void ListpackReplace(std::string* listpack, uint32_t at, std::string_view text);
/// Removes `count` elements from `at` on, or as many as there are.
void ListpackErase(std::string* listpack, uint32_t at, uint32_t count = 1);

}  // namespace cairn

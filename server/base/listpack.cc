#include "server/base/listpack.h"

#include <algorithm>
#include <cstring>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

constexpr unsigned char kTerminator = 0xFF;
constexpr uint32_t kCountUnknown = 65535;
constexpr size_t kMaxIntegerText = 20;
// What stands before an element's payload, and after it.
constexpr size_t kMaxEncodingBytes = 5, kMaxBacklenBytes = 5, kMaxIntegerBytes = 9;

enum Encoding : unsigned char {
  kString32 = 0xF0,
  kInt16 = 0xF1,
  kInt24 = 0xF2,
  kInt32 = 0xF3,
  kInt64 = 0xF4,
};

/// Where an element's payload stands. header = 0: no such encoding.
struct Shape {
  uint32_t header = 0;
  uint64_t payload = 0;
  bool is_string = false;
};

uint32_t Load32(const unsigned char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint64_t Load64(const unsigned char* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Reads at most kMaxEncodingBytes of `at`, of which `room` exist.
Shape ShapeOf(const unsigned char* at, uint64_t room) {
  const unsigned char first = *at;
  if (first < 0x80) return {1, 0, false};
  if (first < 0xC0) return {1, first & 0x3fu, true};
  if (first < 0xE0) return {2, 0, false};
  if (first < 0xF0) return room < 2 ? Shape{} : Shape{2, (first & 0x0fu) << 8 | at[1], true};
  switch (first) {
    case kString32:
      return room < 5 ? Shape{} : Shape{5, Load32(at + 1), true};
    case kInt16:
      return {1, 2, false};
    case kInt24:
      return {1, 3, false};
    case kInt32:
      return {1, 4, false};
    case kInt64:
      return {1, 8, false};
    default:
      return {};
  }
}

/// The limits are Redis's: a size of exactly 16,383 takes three bytes, and so on.
uint32_t BacklenBytes(uint64_t size) {
  if (size <= 127) return 1;
  if (size < 16383) return 2;
  if (size < 2097151) return 3;
  return size < 268435455 ? 4 : 5;
}

uint32_t PutBacklen(uint64_t size, char* out) {
  const uint32_t bytes = BacklenBytes(size);
  for (uint32_t i = 0; i < bytes; ++i) {
    const unsigned shift = 7 * (bytes - 1 - i);
    out[i] = static_cast<char>((size >> shift & 0x7f) | (i == 0 ? 0 : 0x80));
  }
  return bytes;
}

/// The backlen that ends before `end`; *bytes = what it takes. 0 = broken. Reads down to `floor`.
uint64_t BacklenBefore(const unsigned char* end, const unsigned char* floor, uint32_t* bytes) {
  uint64_t size = 0;
  unsigned shift = 0;
  for (const unsigned char* at = end - 1; at >= floor && shift <= 28; --at, shift += 7) {
    size |= static_cast<uint64_t>(*at & 0x7f) << shift;
    if (!(*at & 0x80)) {
      *bytes = static_cast<uint32_t>(end - at);
      return size;
    }
  }
  return 0;
}

uint64_t ElementBytes(const unsigned char* at, uint64_t room) {
  const Shape shape = ShapeOf(at, room);
  const uint64_t size = shape.header + shape.payload;
  return size + BacklenBytes(size);
}

size_t PutInteger(int64_t value, char* out) {
  const auto put = [out](unsigned char encoding, int64_t number, size_t bytes) {
    out[0] = static_cast<char>(encoding);
    std::memcpy(out + 1, &number, bytes);
    return bytes + 1;
  };
  if (value >= 0 && value <= 127) {
    out[0] = static_cast<char>(value);
    return 1;
  }
  if (value >= -4096 && value <= 4095) {
    const uint32_t bits = static_cast<uint32_t>(value) & 0x1fff;
    out[0] = static_cast<char>(0xC0 | bits >> 8);
    out[1] = static_cast<char>(bits);
    return 2;
  }
  if (value == static_cast<int16_t>(value)) return put(kInt16, value, 2);
  if (value >= -(1 << 23) && value < 1 << 23) return put(kInt24, value, 3);
  if (value == static_cast<int32_t>(value)) return put(kInt32, value, 4);
  return put(kInt64, value, 8);
}

size_t PutStringHeader(size_t size, char* out) {
  if (size < 64) {
    out[0] = static_cast<char>(0x80 | size);
    return 1;
  }
  if (size < 4096) {
    out[0] = static_cast<char>(0xE0 | size >> 8);
    out[1] = static_cast<char>(size);
    return 2;
  }
  const uint32_t wide = static_cast<uint32_t>(size);
  out[0] = static_cast<char>(kString32);
  std::memcpy(out + 1, &wide, sizeof wide);
  return 5;
}

bool ParseElementInteger(std::string_view text, int64_t* value) {
  return text.size() <= kMaxIntegerText && ParseInt64(text, value);
}

/// An element on its way in: header (with the payload of integers), payload of strings, backlen.
struct Element {
  char header[kMaxIntegerBytes];
  size_t header_bytes;
  std::string_view payload;
  char backlen[kMaxBacklenBytes];
  size_t backlen_bytes;
  size_t bytes() const { return header_bytes + payload.size() + backlen_bytes; }
};

Element Encode(std::string_view text) {
  Element element;
  int64_t integer = 0;
  if (ParseElementInteger(text, &integer)) {
    element.header_bytes = PutInteger(integer, element.header);
  } else {
    element.header_bytes = PutStringHeader(text.size(), element.header);
    element.payload = text;
  }
  element.backlen_bytes =
      PutBacklen(element.header_bytes + element.payload.size(), element.backlen);
  return element;
}

/// What ListpackView::Find compares elements with.
class SoughtElement {
 public:
  explicit SoughtElement(std::string_view text)
      : text_(text), numeric_(ParseElementInteger(text, &integer_)) {
    char element[64] = {};
    if (text.size() >= sizeof element) return;
    PutStringHeader(text.size(), element);
    header_ = static_cast<unsigned char>(element[0]);
    text.copy(element + 1, text.size());
    if (text.size() >= sizeof word_) word_at_ = text.size() + 1 - sizeof word_;
    std::memcpy(&word_, element + word_at_, sizeof word_);
    if (text.size() < sizeof word_ - 1) word_bits_ = (uint64_t{256} << 8 * text.size()) - 1;
  }

  /// `at`: a string of less than 64 bytes, the terminator of the listpack `room` bytes behind.
  bool IsShortString(const unsigned char* at, uint32_t room) const {
    if (*at != header_) return false;
    // One word tells nearly all apart: the end of the text, as beginnings are often common.
    if (word_at_ + sizeof word_ <= room + size_t{1}) {
      if (((Load64(at + word_at_) ^ word_) & word_bits_) != 0) return false;
      if (text_.size() <= sizeof word_) return true;
    }
    return std::memcmp(at + 1, text_.data(), text_.size()) == 0;
  }

  bool IsValue(const ListpackValue& value) const {
    return value.is_integer ? numeric_ && value.integer == integer_ : value.bytes == text_;
  }

 private:
  std::string_view text_;
  int64_t integer_ = 0;
  bool numeric_;
  unsigned char header_ = 0;  // no string's when the text is long
  size_t word_at_ = 0;        // where in an element
  uint64_t word_ = 0, word_bits_ = UINT64_MAX;
};

/// Makes a gap of `grown` bytes in the place of `shrunk` ones and returns where it begins. `text`
/// must not lie in the listpack.
char* Splice(std::string* listpack, uint32_t at, size_t shrunk, size_t grown) {
  const size_t old_size = listpack->size();
  const size_t tail = old_size - at - shrunk;
  if (grown > shrunk) listpack->resize(old_size + grown - shrunk);
  char* gap = listpack->data() + at;
  if (grown != shrunk) std::memmove(gap + grown, gap + shrunk, tail);
  if (grown < shrunk) listpack->resize(old_size + grown - shrunk);
  const uint32_t total = static_cast<uint32_t>(listpack->size());
  CAIRN_CHECK(listpack->size() <= UINT32_MAX);
  std::memcpy(listpack->data(), &total, sizeof total);
  return listpack->data() + at;
}

void Write(char* out, const Element& element) {
  std::memcpy(out, element.header, element.header_bytes);
  out += element.header_bytes;
  if (!element.payload.empty()) std::memcpy(out, element.payload.data(), element.payload.size());
  std::memcpy(out + element.payload.size(), element.backlen, element.backlen_bytes);
}

uint32_t StoredCount(std::string_view listpack) {
  uint16_t count;
  std::memcpy(&count, listpack.data() + 4, sizeof count);
  return count;
}

// As Redis: once the count has reached 65,535 it stays unknown.
void AddToCount(std::string* listpack, int64_t change) {
  const uint32_t count = StoredCount(*listpack);
  if (count == kCountUnknown) return;
  const uint16_t stored =
      static_cast<uint16_t>(std::min<int64_t>(static_cast<int64_t>(count) + change, kCountUnknown));
  std::memcpy(listpack->data() + 4, &stored, sizeof stored);
}

}  // namespace

std::string_view ListpackValue::Text(char* scratch) const {
  if (!is_integer) return bytes;
  return {scratch, FormatInt64(integer, scratch)};
}

bool ListpackValue::Equals(std::string_view text) const {
  if (!is_integer) return bytes == text;
  int64_t value = 0;
  return ParseElementInteger(text, &value) && value == integer;
}

bool ListpackView::Validate(std::string_view bytes) {
  if (bytes.size() < kListpackEmptyBytes || bytes.size() > UINT32_MAX) return false;
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const uint64_t end = bytes.size() - 1;
  if (Load32(data) != bytes.size() || data[end] != kTerminator) return false;
  uint64_t count = 0;
  uint64_t at = kListpackHeaderBytes;
  for (; at < end; ++count) {
    const unsigned char first = data[at];
    if (first < kShortStrings) {  // one byte ahead of the payload, one behind
      const uint64_t backlen_at = at + 1 + (first < kSmallIntegers ? 0 : first & 0x3fu);
      if (backlen_at >= end || data[backlen_at] != backlen_at - at) return false;
      at = backlen_at + 1;
      continue;
    }
    const Shape shape = ShapeOf(data + at, end - at);
    const uint64_t size = shape.header + shape.payload;
    if (shape.header == 0 || size > end - at) return false;
    const uint32_t backlen = BacklenBytes(size);
    if (backlen > end - at - size) return false;
    uint32_t backlen_read = 0;
    const unsigned char* after = data + at + size + backlen;
    if (BacklenBefore(after, data + at + size, &backlen_read) != size || backlen_read != backlen)
      return false;
    at += size + backlen;
  }
  const uint32_t stored = StoredCount(bytes);
  return at == end && (stored == kCountUnknown || stored == count);
}

uint32_t ListpackView::count() const {
  const uint32_t stored = StoredCount(bytes_);
  if (stored != kCountUnknown) return stored;
  uint32_t count = 0;
  for (uint32_t at = begin(); at != end(); at = Next(at)) ++count;
  return count;
}

uint32_t ListpackView::NextOfLong(uint32_t at) const {
  return at + static_cast<uint32_t>(ElementBytes(data() + at, end() - at));
}

uint32_t ListpackView::Previous(uint32_t at) const {
  uint32_t backlen_bytes = 0;
  const uint64_t size = BacklenBefore(data() + at, data() + kListpackHeaderBytes, &backlen_bytes);
  return at - static_cast<uint32_t>(size) - backlen_bytes;
}

ListpackValue ListpackView::GetLong(uint32_t at) const {
  const unsigned char* element = data() + at;
  const Shape shape = ShapeOf(element, end() - at);
  ListpackValue value;
  if (shape.is_string) {
    value.bytes = bytes_.substr(at + shape.header, shape.payload);
    return value;
  }
  value.is_integer = true;
  const unsigned char first = *element;
  if (first < 0xE0) {
    const int64_t bits = (first & 0x1f) << 8 | element[1];
    value.integer = bits >= 1 << 12 ? bits - (1 << 13) : bits;
  } else {
    // The payload's sign is spread by moving it to the top and back.
    uint64_t bits = 0;
    std::memcpy(&bits, element + 1, shape.payload);
    const unsigned shift = static_cast<unsigned>(64 - 8 * shape.payload);
    value.integer = static_cast<int64_t>(bits << shift) >> shift;
  }
  return value;
}

uint32_t ListpackView::Seek(int64_t index) const {
  const int64_t count = this->count();
  if (index < 0) index += count;
  if (index < 0 || index >= count) return end();
  uint32_t at;
  if (index <= count / 2) {
    at = begin();
    for (; index > 0; --index) at = Next(at);
  } else {
    at = end();
    for (; index < count; ++index) at = Previous(at);
  }
  return at;
}

uint32_t ListpackView::Find(std::string_view text, uint32_t from, uint32_t skip) const {
  const SoughtElement sought(text);
  const uint32_t stop = end();
  for (uint32_t at = from; at < stop;) {
    const unsigned char first = data()[at];
    if (first >= kSmallIntegers && first < kShortStrings) {
      if (sought.IsShortString(data() + at, stop - at)) return at;
    } else if (sought.IsValue(Get(at))) {
      return at;
    }
    at = Next(at);
    for (uint32_t i = 0; i < skip && at < stop; ++i) at = Next(at);
  }
  return stop;
}

std::string NewListpack() {
  std::string listpack(kListpackEmptyBytes, '\0');
  listpack[0] = static_cast<char>(kListpackEmptyBytes);
  listpack[kListpackEmptyBytes - 1] = static_cast<char>(kTerminator);
  return listpack;
}

size_t ListpackElementBytes(std::string_view text) { return Encode(text).bytes(); }

void WriteListpackElement(std::string_view text, char* out) { Write(out, Encode(text)); }

void ListpackInsert(std::string* listpack, uint32_t at, std::string_view text) {
  const Element element = Encode(text);
  Write(Splice(listpack, at, 0, element.bytes()), element);
  AddToCount(listpack, 1);
}

void ListpackAppend(std::string* listpack, std::string_view text) {
  ListpackInsert(listpack, static_cast<uint32_t>(listpack->size()) - 1, text);
}

void ListpackReplace(std::string* listpack, uint32_t at, std::string_view text) {
  const Element element = Encode(text);
  const uint32_t old_bytes = ListpackView(*listpack).Next(at) - at;
  Write(Splice(listpack, at, old_bytes, element.bytes()), element);
}

void ListpackErase(std::string* listpack, uint32_t at, uint32_t count) {
  const ListpackView view(*listpack);
  uint32_t after = at, erased = 0;
  for (; erased < count && after != view.end(); ++erased) after = view.Next(after);
  Splice(listpack, at, after - at, 0);
  AddToCount(listpack, -static_cast<int64_t>(erased));
}

}  // namespace cairn

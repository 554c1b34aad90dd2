#include "persistence/packed_value.h"

#include <cmath>
#include <cstring>

#include "persistence/rdb_format.h"
#include "server/base/intset.h"
#include "server/base/listpack.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

constexpr uint8_t kEnd = 0xFF, kWide = 0xFE;
constexpr size_t kZiplistHeaderBytes = 10;

Status Broken(const char* what) { return Status::Corruption(std::string(what) + " is broken"); }

/// Takes bytes from the front of what is left; every call says whether they were there.
class Cursor {
 public:
  explicit Cursor(std::string_view left) : left_(left) {}
  size_t left() const { return left_.size(); }
  bool Take(size_t bytes, std::string_view* out) {
    if (bytes > left_.size()) return false;
    *out = left_.substr(0, bytes);
    left_.remove_prefix(bytes);
    return true;
  }
  bool Byte(uint8_t* out) {
    std::string_view byte;
    if (!Take(1, &byte)) return false;
    *out = static_cast<uint8_t>(byte[0]);
    return true;
  }
  /// A little-endian integer, its sign spread.
  bool Integer(size_t bytes, int64_t* out) {
    std::string_view raw;
    if (!Take(bytes, &raw)) return false;
    uint64_t bits = 0;
    std::memcpy(&bits, raw.data(), bytes);
    const unsigned shift = static_cast<unsigned>(64 - 8 * bytes);
    *out = static_cast<int64_t>(bits << shift) >> shift;
    return true;
  }
  bool Unsigned32(uint32_t* out) {
    int64_t wide = 0;
    if (!Integer(4, &wide)) return false;
    *out = static_cast<uint32_t>(wide);
    return true;
  }

 private:
  std::string_view left_;
};

void AppendInteger(std::string* listpack, int64_t value) {
  char digits[kMaxInt64Chars];
  ListpackAppend(listpack, {digits, FormatInt64(value, digits)});
}

/// The string of an entry whose encoding byte is below 0xC0.
bool TakeZiplistString(Cursor& in, uint8_t encoding, std::string_view* out) {
  uint32_t size = encoding & 0x3f;
  if (encoding >= 0x80) {
    if (!in.Unsigned32(&size)) return false;
    size = __builtin_bswap32(size);
  } else if (encoding >= 0x40) {
    uint8_t low = 0;
    if (!in.Byte(&low)) return false;
    size = size << 8 | low;
  }
  return in.Take(size, out);
}

bool TakeZiplistInteger(Cursor& in, uint8_t encoding, int64_t* out) {
  switch (encoding) {
    case 0xC0:
      return in.Integer(2, out);
    case 0xD0:
      return in.Integer(4, out);
    case 0xE0:
      return in.Integer(8, out);
    case 0xF0:
      return in.Integer(3, out);
    case 0xFE:
      return in.Integer(1, out);
    default:
      *out = (encoding & 0x0f) - 1;
      return encoding > 0xF0 && encoding < 0xFE;
  }
}

/// Moves one entry over. `previous_bytes` in: size of the entry before; out: of this one.
bool TakeZiplistEntry(Cursor& in, size_t* previous_bytes, std::string* listpack) {
  const size_t before = in.left();
  uint8_t short_previous = 0;
  uint8_t encoding = 0;
  if (!in.Byte(&short_previous)) return false;
  uint32_t previous = short_previous;
  if (short_previous == kWide && !in.Unsigned32(&previous)) return false;
  if (previous != *previous_bytes || !in.Byte(&encoding)) return false;
  if (encoding < 0xC0) {
    std::string_view text;
    if (!TakeZiplistString(in, encoding, &text)) return false;
    ListpackAppend(listpack, text);
  } else {
    int64_t value = 0;
    if (!TakeZiplistInteger(in, encoding, &value)) return false;
    AppendInteger(listpack, value);
  }
  *previous_bytes = before - in.left();
  return true;
}

bool TakeZipmapLength(Cursor& in, uint8_t first, uint32_t* out) {
  *out = first;
  return first < kWide || (first == kWide && in.Unsigned32(out));
}

Result<ValueKind> KindOf(uint8_t rdb_type) {
  switch (rdb_type) {
    case rdb::kHashZipmap:
    case rdb::kHashZiplist:
    case rdb::kHashListpack:
      return ValueKind::kHash;
    case rdb::kSetIntset:
    case rdb::kSetListpack:
      return ValueKind::kSet;
    case rdb::kSortedSetZiplist:
    case rdb::kSortedSetListpack:
      return ValueKind::kSortedSet;
    case rdb::kListZiplist:
    case rdb::kListQuicklist2:
      return ValueKind::kList;
    default:
      return Status(StatusCode::kUnsupported,
                    "packed type " + std::to_string(rdb_type) + " is not supported");
  }
}

Status ScoreOf(const ListpackValue& value, double* score) {
  if (value.is_integer) {
    *score = static_cast<double>(value.integer);
    return Status::Ok();
  }
  if (!ParseDouble(value.bytes, score) || std::isnan(*score)) return Broken("a packed score");
  return Status::Ok();
}

Status PlayItems(ValueKind kind, const ListpackView& view, ValueSink& sink) {
  char scratch[kMaxInt64Chars], second_scratch[kMaxInt64Chars];
  for (uint32_t at = view.begin(); at != view.end(); at = view.Next(at)) {
    const std::string_view text = view.Get(at).Text(scratch);
    if (kind == ValueKind::kSet || kind == ValueKind::kList) {
      CAIRN_RETURN_IF_ERROR(sink.Item(text));
      continue;
    }
    at = view.Next(at);
    const ListpackValue second = view.Get(at);
    if (kind == ValueKind::kHash) {
      CAIRN_RETURN_IF_ERROR(sink.Field(text, second.Text(second_scratch)));
      continue;
    }
    double score = 0;
    CAIRN_RETURN_IF_ERROR(ScoreOf(second, &score));
    CAIRN_RETURN_IF_ERROR(sink.Scored(text, score));
  }
  return Status::Ok();
}

}  // namespace

Result<std::string> ListpackOfZiplist(std::string_view ziplist) {
  if (ziplist.size() <= kZiplistHeaderBytes || static_cast<uint8_t>(ziplist.back()) != kEnd)
    return Broken("a ziplist");
  Cursor header(ziplist.substr(0, kZiplistHeaderBytes));
  uint32_t bytes = 0, tail = 0;
  int64_t count = 0;
  if (!header.Unsigned32(&bytes) || !header.Unsigned32(&tail) || !header.Integer(2, &count) ||
      bytes != ziplist.size())
    return Broken("a ziplist");
  Cursor in(ziplist.substr(kZiplistHeaderBytes, ziplist.size() - kZiplistHeaderBytes - 1));
  std::string listpack = NewListpack();
  size_t previous_bytes = 0;
  uint32_t entries = 0;
  uint64_t last_at = kZiplistHeaderBytes;
  for (; in.left() > 0; ++entries) {
    last_at = ziplist.size() - 1 - in.left();
    if (!TakeZiplistEntry(in, &previous_bytes, &listpack)) return Broken("a ziplist");
  }
  const uint32_t stored = static_cast<uint16_t>(count);
  if (tail != last_at || (stored != UINT16_MAX && stored != entries)) return Broken("a ziplist");
  return listpack;
}

Result<std::string> ListpackOfZipmap(std::string_view zipmap) {
  Cursor in(zipmap);
  uint8_t count = 0, first = 0;
  if (!in.Byte(&count)) return Broken("a zipmap");
  std::string listpack = NewListpack();
  uint32_t pairs = 0;
  for (; in.Byte(&first); ++pairs) {
    if (first == kEnd) {
      if (in.left() != 0 || (count != kWide && count != pairs)) break;
      return listpack;
    }
    uint32_t size = 0;
    uint8_t free = 0;
    std::string_view key, value, unused;
    if (!TakeZipmapLength(in, first, &size) || !in.Take(size, &key) || !in.Byte(&first) ||
        !TakeZipmapLength(in, first, &size) || !in.Byte(&free) || !in.Take(size, &value) ||
        !in.Take(free, &unused))
      break;
    ListpackAppend(&listpack, key);
    ListpackAppend(&listpack, value);
  }
  return Broken("a zipmap");
}

Result<std::string> ListpackOf(uint8_t rdb_type, std::string_view blob) {
  Result<ValueKind> kind = KindOf(rdb_type);
  if (!kind.ok()) return kind.status();
  switch (rdb_type) {
    case rdb::kHashZipmap:
      return ListpackOfZipmap(blob);
    case rdb::kListZiplist:
    case rdb::kSortedSetZiplist:
    case rdb::kHashZiplist:
      return ListpackOfZiplist(blob);
    case rdb::kSetIntset: {
      if (!IntsetView::Validate(blob)) return Broken("an intset");
      const IntsetView intset(blob);
      std::string listpack = NewListpack();
      for (uint32_t i = 0; i < intset.count(); ++i) AppendInteger(&listpack, intset.Get(i));
      return listpack;
    }
    default:
      if (!ListpackView::Validate(blob)) return Broken("a listpack");
      return std::string(blob);
  }
}

Status UnpackValue(uint8_t rdb_type, std::string_view blob, ValueSink& sink) {
  Result<ValueKind> kind = KindOf(rdb_type);
  if (!kind.ok()) return kind.status();
  Result<std::string> listpack = ListpackOf(rdb_type, blob);
  if (!listpack.ok()) return listpack.status();
  const ListpackView view(*listpack);
  const bool pairs = *kind == ValueKind::kHash || *kind == ValueKind::kSortedSet;
  const uint32_t count = view.count();
  if (pairs && count % 2 != 0) return Broken("a list of pairs");
  CAIRN_RETURN_IF_ERROR(sink.Begin(*kind, pairs ? count / 2 : count));
  CAIRN_RETURN_IF_ERROR(PlayItems(*kind, view, sink));
  return sink.End();
}

Status UnpackListNode(uint8_t rdb_type, std::string_view blob, ValueSink& sink) {
  if (rdb_type == rdb::kString) return sink.Item(blob);
  Result<std::string> listpack = ListpackOf(rdb_type, blob);
  if (!listpack.ok()) return listpack.status();
  return PlayItems(ValueKind::kList, ListpackView(*listpack), sink);
}

}  // namespace cairn

#include "tensor_module/safetensors.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "server/base/strings.h"

namespace cairn::tensor {

namespace {

constexpr size_t kMaxNesting = 16;

/// The one name that is no tensor's.
constexpr std::string_view kMetadata = "__metadata__";

Status Bad(const std::string& why) { return Status::Client("ERR safetensors: " + why); }

/// As much JSON as a header is made of. The first thing that is wrong ends the reading.
class Json {
 public:
  explicit Json(std::string_view text) : text_(text) {}
  const Status& status() const { return status_; }

  bool Take(char c) {
    SkipSpace();
    if (!status_.ok() || at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void Expect(char c) {
    if (!Take(c)) Fail(std::string("'") + c + "' expected");
  }
  void ExpectEnd() {
    SkipSpace();
    if (status_.ok() && at_ != text_.size()) Fail("bytes behind the end");
  }
  void Fail(const std::string& why) {
    if (status_.ok()) status_ = Bad(why + " at byte " + std::to_string(at_) + " of the header");
  }

  std::string String() {
    std::string out;
    Expect('"');
    while (status_.ok()) {
      if (at_ >= text_.size()) {
        Fail("an open string");
        break;
      }
      const char c = text_[at_++];
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < 0x20) Fail("a control character in a string");
      if (c == '\\') {
        Escape(&out);
      } else {
        out += c;
      }
    }
    return out;
  }
  uint64_t Number() {
    SkipSpace();
    size_t end = at_;
    while (end < text_.size() && text_[end] >= '0' && text_[end] <= '9') ++end;
    uint64_t value = 0;
    const std::string_view digits = text_.substr(std::min(at_, text_.size()), end - at_);
    if (!status_.ok() || !ParseUint64(digits, &value)) Fail("a natural number expected");
    at_ = end;
    return status_.ok() ? value : 0;
  }
  /// Calls read() for each item up to `close`.
  template <typename Read>
  void Items(char open, char close, Read read) {
    Expect(open);
    if (++depth_ > kMaxNesting) Fail("nested too deep");
    if (!Take(close)) {
      do {
        read();
      } while (status_.ok() && Take(','));
      Expect(close);
    }
    --depth_;
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != 0) {
      ++at_;
    }
  }
  uint32_t Hex4() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const int digit = at_ < text_.size() ? HexValue(text_[at_++]) : -1;
      if (digit < 0) {
        Fail("four hexadecimal digits expected");
        return 0;
      }
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }
  void Escape(std::string* out) {
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const char c = at_ < text_.size() ? text_[at_++] : '\0';
    if (const size_t place = kFrom.find(c); c != '\0' && place != std::string_view::npos) {
      *out += kTo[place];
      return;
    }
    if (c != 'u') return Fail("an unknown escape");
    uint32_t point = Hex4();
    if (point >= 0xd800 && point < 0xdc00) {
      if (text_.substr(std::min(at_, text_.size()), 2) != "\\u")
        return Fail("half a surrogate pair");
      at_ += 2;
      const uint32_t low = Hex4();
      if (low < 0xdc00 || low > 0xdfff) return Fail("half a surrogate pair");
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point <= 0xdfff) {
      return Fail("half a surrogate pair");
    }
    AppendUtf8(point, out);
  }
  static void AppendUtf8(uint32_t point, std::string* out) {
    const auto add = [out](uint32_t byte) { *out += static_cast<char>(byte); };
    if (point < 0x80) return add(point);
    if (point < 0x800) {
      add(0xc0 | point >> 6);
    } else {
      if (point < 0x10000) {
        add(0xe0 | point >> 12);
      } else {
        add(0xf0 | point >> 18);
        add(0x80 | (point >> 12 & 0x3f));
      }
      add(0x80 | (point >> 6 & 0x3f));
    }
    add(0x80 | (point & 0x3f));
  }

  const std::string_view text_;
  size_t at_ = 0;
  size_t depth_ = 0;
  Status status_;
};

void ReadTensor(Json& json, ArchiveTensor* tensor) {
  unsigned seen = 0;
  uint64_t begin = 0, end = 0;
  json.Items('{', '}', [&] {
    const std::string field = json.String();
    json.Expect(':');
    unsigned bit = 0;
    if (field == "dtype") {
      bit = 1;
      const std::string dtype = json.String();
      // Names of the format only, in its letter case.
      if (!ParseDType(dtype, &tensor->dtype) || DTypeName(tensor->dtype) != dtype) {
        json.Fail("unknown dtype '" + dtype.substr(0, 32) + "'");
      }
    } else if (field == "shape") {
      bit = 2;
      json.Items('[', ']', [&] {
        if (tensor->shape.size() == kMaxDimensions) json.Fail("too many dimensions");
        tensor->shape.push_back(json.Number());
      });
    } else if (field == "data_offsets") {
      bit = 4;
      json.Expect('[');
      begin = json.Number();
      json.Expect(',');
      end = json.Number();
      json.Expect(']');
    } else {
      json.Fail("an unknown field '" + field.substr(0, 32) + "'");
    }
    if ((seen & bit) != 0) json.Fail("a field that stands twice");
    seen |= bit;
  });
  if (seen != 7) json.Fail("dtype, shape or data_offsets missing");
  if (begin > end) json.Fail("offsets that run backwards");
  tensor->offset = begin;
  tensor->size_bytes = end - begin;
}

Status CheckRanges(std::vector<ArchiveTensor>* tensors, uint64_t header_end, uint64_t file_size) {
  std::stable_sort(
      tensors->begin(), tensors->end(), [](const ArchiveTensor& a, const ArchiveTensor& b) {
        return a.offset != b.offset ? a.offset < b.offset : a.size_bytes < b.size_bytes;
      });
  uint64_t at = 0;
  for (ArchiveTensor& tensor : *tensors) {
    const std::string name = "'" + tensor.name.substr(0, 64) + "'";
    const Result<uint64_t> bytes = PayloadBytes(tensor.dtype, tensor.shape);
    if (!bytes.ok()) return bytes.status();
    if (bytes.value() != tensor.size_bytes) {
      return Bad(name + " takes " + std::to_string(bytes.value()) + " bytes, its offsets span " +
                 std::to_string(tensor.size_bytes));
    }
    if (tensor.offset != at) {
      return Bad(name + " begins at " + std::to_string(tensor.offset) + " where " +
                 std::to_string(at) + " is free: a hole or an overlap");
    }
    at += tensor.size_bytes;  // no overflow: both are within the file, or the next check fails
    if (at > file_size - header_end) return Bad(name + " ends behind the file");
    tensor.offset += header_end;
  }
  if (at != file_size - header_end) return Bad("bytes behind the last tensor");
  return Status::Ok();
}

std::string Quoted(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

Result<SafetensorsFile> ReadSafetensors(std::string_view file) {
  uint64_t size = 0;
  if (file.size() < sizeof size) return Bad("shorter than the size of a header");
  std::memcpy(&size, file.data(), sizeof size);
  if (size > kMaxSafetensorsHeader) return Bad("a header of " + std::to_string(size) + " bytes");
  if (size > file.size() - sizeof size) return Bad("the header ends behind the file");
  const std::string_view text = file.substr(sizeof size, size);
  if (!text.starts_with('{')) return Bad("the header does not begin with '{'");

  SafetensorsFile out;
  std::unordered_set<std::string> names;
  Json json(text);
  json.Items('{', '}', [&] {
    std::string name = json.String();
    json.Expect(':');
    if (!names.insert(name).second) json.Fail("a name that stands twice");
    if (name == kMetadata) {
      json.Items('{', '}', [&] {
        std::string key = json.String();
        json.Expect(':');
        out.metadata.emplace_back(std::move(key), json.String());
      });
      return;
    }
    if (out.tensors.size() == kMaxArchiveTensors) json.Fail("too many tensors");
    ArchiveTensor& tensor = out.tensors.emplace_back();
    tensor.name = std::move(name);
    ReadTensor(json, &tensor);
  });
  json.ExpectEnd();
  if (!json.status().ok()) return json.status();
  CAIRN_RETURN_IF_ERROR(CheckRanges(&out.tensors, sizeof size + size, file.size()));
  return out;
}

Result<std::string> SafetensorsHeader(const std::vector<ArchiveTensor>& tensors) {
  std::string json = "{" + Quoted(kMetadata) + ":{\"format\":\"pt\"}";
  uint64_t at = 0;
  for (const ArchiveTensor& tensor : tensors) {
    if (tensor.name == kMetadata) return Bad("no tensor can have the name '__metadata__'");
    if (!IsUtf8(tensor.name)) return Bad("the name " + QuoteRepr(tensor.name) + " is not UTF-8");
    json += "," + Quoted(tensor.name) + ":{\"dtype\":\"" + std::string(DTypeName(tensor.dtype)) +
            "\",\"shape\":" + ShapeText(tensor.shape) + ",\"data_offsets\":[" + std::to_string(at) +
            "," + std::to_string(at + tensor.size_bytes) + "]}";
    at += tensor.size_bytes;
  }
  json += "}";
  constexpr size_t kAlignment = 64;
  json.resize((json.size() + sizeof at + kAlignment - 1) / kAlignment * kAlignment - sizeof at,
              ' ');
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + json;
}

}  // namespace cairn::tensor

#include "server/protocol/resp_reader.h"

#include <charconv>

namespace cairn {
namespace {

using Kind = RespValue::Kind;

// Recursive descent over one reply; depth is bounded by the limits.
class Reader {
 public:
  Reader(std::string_view bytes, const ReplyLimits& limits) : bytes_(bytes), limits_(limits) {}

  size_t position() const { return position_; }

  ReplyParse Value(RespValue* value, size_t depth) {
    if (depth > limits_.max_depth) return ReplyParse::kMalformed;
    std::string_view line;
    if (const ReplyParse parse = Line(&line); parse != ReplyParse::kValue) return parse;
    if (line.empty()) return ReplyParse::kMalformed;
    const char type = line[0];
    line.remove_prefix(1);
    switch (type) {
      case '+':
        return Text(Kind::kSimple, line, value);
      case '-':
        return Text(Kind::kError, line, value);
      case ',':
        return Text(Kind::kDouble, line, value);
      case '(':
        return Text(Kind::kBigNumber, line, value);
      case ':':
        return Integer(line, value);
      case '_':
        return Null(line.empty());
      case '#':
        return Boolean(line, value);
      case '$':
        return Bulk(Kind::kBulk, line, value);
      case '!':
        return Bulk(Kind::kBlobError, line, value);
      case '=':
        return Verbatim(line, value);
      case '*':
        return Aggregate(Kind::kArray, 1, line, value, depth);
      case '~':
        return Aggregate(Kind::kSet, 1, line, value, depth);
      case '>':
        return Aggregate(Kind::kPush, 1, line, value, depth);
      case '%':
        return Aggregate(Kind::kMap, 2, line, value, depth);
      case '|':
        return Attributes(line, value, depth);
      default:
        return ReplyParse::kMalformed;
    }
  }

 private:
  ReplyParse Line(std::string_view* line) {
    const size_t end = bytes_.find('\r', position_);
    if (end == std::string_view::npos || end + 1 == bytes_.size()) return ReplyParse::kNeedMore;
    if (bytes_[end + 1] != '\n') return ReplyParse::kMalformed;
    *line = bytes_.substr(position_, end - position_);
    position_ = end + 2;
    return ReplyParse::kValue;
  }

  static bool Number(std::string_view text, int64_t* number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
    return error == std::errc() && end == text.data() + text.size();
  }

  static ReplyParse Text(Kind kind, std::string_view text, RespValue* value) {
    value->kind = kind;
    value->text = text;
    return ReplyParse::kValue;
  }

  static ReplyParse Integer(std::string_view text, RespValue* value) {
    value->kind = Kind::kInteger;
    return Number(text, &value->integer) ? ReplyParse::kValue : ReplyParse::kMalformed;
  }

  static ReplyParse Null(bool well_formed) {
    return well_formed ? ReplyParse::kValue : ReplyParse::kMalformed;
  }

  static ReplyParse Boolean(std::string_view text, RespValue* value) {
    value->kind = Kind::kBoolean;
    value->integer = text == "t" ? 1 : 0;
    return text == "t" || text == "f" ? ReplyParse::kValue : ReplyParse::kMalformed;
  }

  ReplyParse Bulk(Kind kind, std::string_view line, RespValue* value) {
    int64_t size = 0;
    if (!Number(line, &size) || size < -1) return ReplyParse::kMalformed;
    if (size == -1) return Null(kind == Kind::kBulk);
    const size_t length = static_cast<size_t>(size);
    if (length > limits_.max_bulk_bytes) return ReplyParse::kMalformed;
    if (bytes_.size() - position_ < length + 2) return ReplyParse::kNeedMore;
    if (bytes_.substr(position_ + length, 2) != "\r\n") return ReplyParse::kMalformed;
    value->kind = kind;
    value->text = bytes_.substr(position_, length);
    position_ += length + 2;
    return ReplyParse::kValue;
  }

  ReplyParse Verbatim(std::string_view line, RespValue* value) {
    const ReplyParse parse = Bulk(Kind::kVerbatim, line, value);
    if (parse != ReplyParse::kValue) return parse;
    if (value->text.size() < 4 || value->text[3] != ':') return ReplyParse::kMalformed;
    value->extension = value->text.substr(0, 3);
    value->text.erase(0, 4);
    return ReplyParse::kValue;
  }

  ReplyParse Elements(size_t count, std::vector<RespValue>* elements, size_t depth) {
    for (size_t i = 0; i < count; ++i) {
      // Grown one by one: an announced count is no reason to allocate.
      const ReplyParse parse = Value(&elements->emplace_back(), depth + 1);
      if (parse != ReplyParse::kValue) return parse;
    }
    return ReplyParse::kValue;
  }

  bool Count(std::string_view line, int64_t* count) const {
    return Number(line, count) && *count >= -1 &&
           (*count < 0 || static_cast<size_t>(*count) <= limits_.max_elements);
  }

  ReplyParse Aggregate(Kind kind, size_t factor, std::string_view line, RespValue* value,
                       size_t depth) {
    int64_t count = 0;
    if (!Count(line, &count)) return ReplyParse::kMalformed;
    if (count < 0) return Null(kind == Kind::kArray);
    value->kind = kind;
    return Elements(static_cast<size_t>(count) * factor, &value->elements, depth);
  }

  ReplyParse Attributes(std::string_view line, RespValue* value, size_t depth) {
    int64_t count = 0;
    if (!Count(line, &count) || count < 0) return ReplyParse::kMalformed;
    std::vector<RespValue> attributes;
    const ReplyParse parse = Elements(static_cast<size_t>(count) * 2, &attributes, depth);
    if (parse != ReplyParse::kValue) return parse;
    const ReplyParse rest = Value(value, depth + 1);
    value->attributes.insert(value->attributes.begin(), attributes.begin(), attributes.end());
    return rest;
  }

  std::string_view bytes_;
  size_t position_ = 0;
  const ReplyLimits& limits_;
};

void AppendQuoted(std::string_view bytes, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  *out += '"';
  for (char c : bytes) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (byte >= 0x20 && byte < 0x7f) {
      *out += c;
    } else {
      *out += "\\x";
      *out += kHex[byte >> 4];
      *out += kHex[byte & 15];
    }
  }
  *out += '"';
}

void AppendValue(const RespValue& value, std::string* out);

void AppendList(const std::vector<RespValue>& elements, std::string_view open, char close,
                bool pairs, std::string* out) {
  *out += open;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (i > 0) *out += pairs && i % 2 == 1 ? ": " : ", ";
    AppendValue(elements[i], out);
  }
  *out += close;
}

void AppendValue(const RespValue& value, std::string* out) {
  if (!value.attributes.empty()) AppendList(value.attributes, "|{", '}', true, out);
  switch (value.kind) {
    case Kind::kNull:
      *out += "nil";
      break;
    case Kind::kSimple:
      *out += '+' + value.text;
      break;
    case Kind::kError:
      *out += '-' + value.text;
      break;
    case Kind::kInteger:
      *out += ':' + std::to_string(value.integer);
      break;
    case Kind::kDouble:
      *out += ',' + value.text;
      break;
    case Kind::kBigNumber:
      *out += '(' + value.text;
      break;
    case Kind::kBoolean:
      *out += value.integer != 0 ? "#t" : "#f";
      break;
    case Kind::kBulk:
      AppendQuoted(value.text, out);
      break;
    case Kind::kBlobError:
      *out += '!';
      AppendQuoted(value.text, out);
      break;
    case Kind::kVerbatim:
      *out += '=' + value.extension + ':';
      AppendQuoted(value.text, out);
      break;
    case Kind::kArray:
      AppendList(value.elements, "[", ']', false, out);
      break;
    case Kind::kSet:
      AppendList(value.elements, "~[", ']', false, out);
      break;
    case Kind::kPush:
      AppendList(value.elements, ">[", ']', false, out);
      break;
    case Kind::kMap:
      AppendList(value.elements, "{", '}', true, out);
      break;
  }
}

}  // namespace

std::string RespValue::ToString() const {
  std::string line;
  AppendValue(*this, &line);
  return line;
}

ReplyParse ParseReply(std::string_view bytes, size_t* consumed, RespValue* value,
                      const ReplyLimits& limits) {
  Reader reader(bytes, limits);
  RespValue parsed;
  const ReplyParse parse = reader.Value(&parsed, 0);
  if (parse == ReplyParse::kValue) {
    *consumed = reader.position();
    *value = std::move(parsed);
  }
  return parse;
}

}  // namespace cairn

#include "server/base/strings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cairn {
namespace {

/// Texts of this length and more are refused as long doubles; the longest finite one in fixed
/// notation has 4933 + 17 digits.
constexpr size_t kMaxLongDoubleChars = 5 * 1024;

constexpr bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
constexpr char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
constexpr char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

/// Digits without a sign and without a leading zero, except "0" itself.
bool IsCanonicalMagnitude(std::string_view digits) {
  if (digits.empty() || !IsDigit(digits[0])) return false;
  return digits[0] != '0' || digits.size() == 1;
}

template <typename T>
bool FromWholeText(std::string_view text, T* out) {
  T value;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return false;
  *out = value;
  return true;
}

/// strtod and strtold decide what a number is; they want a terminator, and `text` need not have
/// one.
template <typename Float, Float (*kConvert)(const char*, char**)>
bool ParseFloating(std::string_view text, Float* out) {
  if (text.empty() || IsSpace(text[0])) return false;
  std::array<char, 128> small;
  std::string large;
  char* begin = small.data();
  if (text.size() < small.size()) {
    std::memcpy(begin, text.data(), text.size());
    begin[text.size()] = '\0';
  } else {
    large.assign(text);
    begin = large.data();
  }
  char* stop = nullptr;
  errno = 0;
  const Float value = kConvert(begin, &stop);
  if (static_cast<size_t>(stop - begin) != text.size() || std::isnan(value)) return false;
  // Denormal results set ERANGE too and are welcome; only lost values are not.
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return false;
  *out = value;
  return true;
}

/// Byte length of the element of a glob that starts at `at`: one literal, '?', escape, or whole
/// class. Sets *matches to whether `c` is accepted. Requires: at < pattern.size(), pattern[at] !=
/// '*'.
size_t MatchElement(std::string_view pattern, size_t at, char c, bool nocase, bool* matches) {
  // Ranges compare bytes as signed numbers, as the original does: "[a-\xff]" is 0xff..'a'.
  const auto fold = [nocase](signed char x) -> signed char {
    return nocase ? static_cast<signed char>(Lower(static_cast<char>(x))) : x;
  };
  const signed char folded = fold(static_cast<signed char>(c));
  if (pattern[at] == '?') {
    *matches = true;
    return 1;
  }
  if (pattern[at] != '[') {
    const bool escape = pattern[at] == '\\' && at + 1 < pattern.size();
    *matches = fold(pattern[at + escape]) == folded;
    return 1 + escape;
  }
  size_t i = at + 1;
  const bool negated = i < pattern.size() && pattern[i] == '^';
  i += negated;
  bool found = false;
  while (i < pattern.size() && pattern[i] != ']') {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      found |= fold(pattern[i + 1]) == folded;
      i += 2;
    } else if (i + 2 < pattern.size() && pattern[i + 1] == '-') {
      // Even "a-]" is a range; its ends may come in either order.
      const auto first = static_cast<signed char>(pattern[i]);
      const auto second = static_cast<signed char>(pattern[i + 2]);
      const signed char low = fold(std::min(first, second));
      const signed char high = fold(std::max(first, second));
      found |= folded >= low && folded <= high;
      i += 3;
    } else {
      found |= fold(pattern[i]) == folded;
      ++i;
    }
  }
  *matches = found != negated;
  return std::min(i + 1, pattern.size()) - at;
}

/// Reads a quoted part whose opening quote is at line[*at]; leaves *at behind the closing one.
Status ReadQuoted(std::string_view line, size_t* at, std::string* word) {
  const char quote = line[*at];
  size_t i = *at + 1;
  for (; i < line.size() && line[i] != quote; ++i) {
    const bool more = i + 1 < line.size();
    if (line[i] != '\\' || !more || (quote == '\'' && line[i + 1] != '\'')) {
      word->push_back(line[i]);
    } else if (quote == '"' && line[i + 1] == 'x' && i + 3 < line.size() &&
               HexValue(line[i + 2]) >= 0 && HexValue(line[i + 3]) >= 0) {
      word->push_back(static_cast<char>(HexValue(line[i + 2]) * 16 + HexValue(line[i + 3])));
      i += 3;
    } else {
      ++i;
      word->push_back(quote == '"' ? Unescape(line[i]) : line[i]);
    }
  }
  if (i == line.size()) {
    return Status::Corruption(fmt::format("quote at column {} stays open", *at + 1));
  }
  *at = i + 1;
  if (*at < line.size() && !IsSpace(line[*at])) {
    return Status::Corruption(fmt::format("no space after the quote at column {}", *at));
  }
  return Status::Ok();
}

/// Writes numbers whose digits, all of them, are at most 15, as nearly all scores are: whole ones,
/// and those of a few binary places, 8 decimal ones. Returns the number of bytes, 0 for others.
size_t FormatFewDigits(double value, char* out) {
  constexpr double kMaxWhole = 1e15, kMaxMixed = 1e7;
  constexpr int64_t kParts = 256, kUnits = 100'000'000;
  if (!(std::fabs(value) < kMaxWhole) || (value == 0 && std::signbit(value))) return 0;
  const auto whole = static_cast<int64_t>(value);
  if (static_cast<double>(whole) == value) return FormatInt64(whole, out);
  const double parts = std::fabs(value) * kParts;
  if (parts >= kMaxMixed * kParts || parts != std::trunc(parts)) return 0;
  const int64_t units = static_cast<int64_t>(parts) * (kUnits / kParts);
  char* end = out;
  if (value < 0) *end++ = '-';
  end += FormatInt64(units / kUnits, end);
  // With a leading 1 that the point takes the place of, so that zeros behind the point stay.
  char* const point = end;
  end += FormatInt64(kUnits + units % kUnits, end);
  *point = '.';
  while (end[-1] == '0') --end;
  return static_cast<size_t>(end - out);
}

}  // namespace

bool ParseInt64(std::string_view text, int64_t* out) {
  const bool negative = !text.empty() && text[0] == '-';
  const std::string_view digits = text.substr(negative);
  if (!IsCanonicalMagnitude(digits) || (negative && digits[0] == '0')) return false;
  return FromWholeText(text, out);
}

bool ParseUint64(std::string_view text, uint64_t* out) {
  return IsCanonicalMagnitude(text) && FromWholeText(text, out);
}

bool ParseDouble(std::string_view text, double* out) {
  // Several times as fast as strtod; what it takes as a whole is the same number there.
  double value = 0;
  if (FromWholeText(text, &value) && !std::isnan(value)) {
    *out = value;
    return true;
  }
  return ParseFloating<double, &std::strtod>(text, out);
}

bool ParseLongDouble(std::string_view text, long double* out) {
  if (text.size() >= kMaxLongDoubleChars) return false;
  return ParseFloating<long double, &std::strtold>(text, out);
}

std::string FormatDouble(double value) {
  char few[2 * kMaxInt64Chars];
  if (const size_t size = FormatFewDigits(value, few); size != 0) return {few, size};
  if (std::isnan(value)) return "nan";
  return fmt::format("{:.17g}", value);
}

std::string FormatLongDouble(long double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, kMaxLongDoubleChars> buffer;
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.17Lf", value);
  std::string text(buffer.data(), static_cast<size_t>(length));
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

size_t FormatInt64(int64_t value, char* out) {
  return static_cast<size_t>(std::to_chars(out, out + kMaxInt64Chars, value).ptr - out);
}

bool GlobMatch(std::string_view pattern, std::string_view text, bool nocase) {
  // Only the last star needs to be remembered: what an earlier one could take, the last one can
  // too.
  if (text.empty()) return pattern.empty();  // No, not even "*": see the header.
  size_t p = 0;
  size_t t = 0;
  size_t after_star = std::string_view::npos;
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      after_star = ++p;
      star_text = t;
      if (p == pattern.size()) return true;
      continue;
    }
    if (p < pattern.size()) {
      bool matches = false;
      const size_t length = MatchElement(pattern, p, text[t], nocase, &matches);
      if (matches) {
        p += length;
        ++t;
        continue;
      }
    }
    if (after_star == std::string_view::npos) return false;
    p = after_star;
    t = ++star_text;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string ToLower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), Lower);
  return out;
}

std::string ToUpper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), Upper);
  return out;
}

std::string QuoteRepr(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  out.push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
      case '\\':
        out.append({'\\', c});
        break;
      case '\n':
        out.append("\\n");
        break;
      case '\r':
        out.append("\\r");
        break;
      case '\t':
        out.append("\\t");
        break;
      case '\a':
        out.append("\\a");
        break;
      case '\b':
        out.append("\\b");
        break;
      default:
        if (c >= 0x20 && c <= 0x7e) {
          out.push_back(c);
        } else {
          fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
        }
    }
  }
  out.push_back('"');
  return out;
}

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = Lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

char Unescape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'b':
      return '\b';
    case 'a':
      return '\a';
    default:
      return c;
  }
}

Result<std::vector<std::string>> SplitArgs(std::string_view line) {
  line = line.substr(0, line.find('\0'));
  std::vector<std::string> words;
  size_t i = 0;
  while (true) {
    while (i < line.size() && IsSpace(line[i])) ++i;
    if (i == line.size()) return words;
    std::string word;
    // Inside a word, vertical tab and form feed are ordinary bytes, unlike between words.
    while (i < line.size() && std::string_view(" \n\r\t").find(line[i]) == std::string_view::npos) {
      if (line[i] != '"' && line[i] != '\'') {
        word.push_back(line[i++]);
        continue;
      }
      CAIRN_RETURN_IF_ERROR(ReadQuoted(line, &i, &word));
      break;
    }
    words.push_back(std::move(word));
  }
}

bool ParseMemory(std::string_view text, uint64_t* bytes) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit = ToLower(text.substr(digits));
  constexpr size_t kMaxDigits = 127;  // Past that, redis-server refuses instead of saturating.
  struct Unit {
    std::string_view name;
    uint64_t factor;
  };
  static constexpr Unit kUnits[] = {
      {"", 1},        {"b", 1},           {"k", 1000},       {"kb", 1ull << 10},
      {"m", 1000000}, {"mb", 1ull << 20}, {"g", 1000000000}, {"gb", 1ull << 30},
  };
  const auto* found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                   [&](const Unit& candidate) { return candidate.name == unit; });
  if (found == std::end(kUnits) || digits > kMaxDigits) return false;
  uint64_t amount = 0;
  if (digits > 0) {
    const auto result = std::from_chars(text.data(), text.data() + digits, amount);
    if (result.ec == std::errc::result_out_of_range) amount = UINT64_MAX;
  }
  uint64_t product = 0;
  if (__builtin_mul_overflow(amount, found->factor, &product)) return false;
  *bytes = product;
  return true;
}

std::string FormatBytesHuman(uint64_t bytes) {
  constexpr std::string_view kLetters = "KMGTP";
  // Past the petabytes the original gives up on letters.
  if (bytes < 1024 || bytes >= 1ull << 60) return fmt::format("{}B", bytes);
  size_t letter = 0;
  while (letter + 1 < kLetters.size() && bytes >= 1ull << (10 * (letter + 2))) ++letter;
  const double unit = static_cast<double>(1ull << (10 * (letter + 1)));
  return fmt::format("{:.2f}{}", static_cast<double>(bytes) / unit, kLetters[letter]);
}

}  // namespace cairn

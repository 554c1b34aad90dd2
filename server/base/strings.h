#pragma once

// Numbers, patterns and quoting as the wire and the configuration file want them: every parser here
// is exactly as strict, and every formatter writes exactly the bytes, as redis-server 7.0.15 does.
// Not a general string library. Pure functions of their arguments; any thread. They assume the "C"
// numeric locale, which the process never leaves.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"

namespace cairn {

/// Bytes that the longest int64_t ("-9223372036854775808") takes, with one to spare.
inline constexpr size_t kMaxInt64Chars = 21;

/// Reads a whole decimal integer: an optional '-', no '+', no spaces, no leading zeros, no "-0".
/// Returns false, with *out untouched, when `text` is anything else or does not fit.
bool ParseInt64(std::string_view text, int64_t* out);

/// As ParseInt64, for 0 .. 2^64-1; a '-' is refused.
bool ParseUint64(std::string_view text, uint64_t* out);

/// Reads a whole floating-point number as command arguments carry it: decimal, exponent or
/// hexadecimal form, inf and infinity in any case with an optional sign. Refuses the empty string,
/// a leading space, trailing bytes, NaN, and decimal forms that overflow or vanish to zero. *out is
/// untouched on false.
bool ParseDouble(std::string_view text, double* out);

/// As ParseDouble with the 80-bit range, for INCRBYFLOAT and its kin. Refuses texts of 5120 bytes
/// and more.
bool ParseLongDouble(std::string_view text, long double* out);

/// The text of a double in a reply or of a sorted set score: C's "%.17g", in which integers below
/// 1e17 carry no point; "inf", "-inf", "nan". "-0" keeps its sign.
std::string FormatDouble(double value);

/// The human form INCRBYFLOAT stores: fixed notation with 17 decimals, trailing zeros (and then the
/// point) removed, "-0" written as "0"; "inf" and "-inf" as such.
std::string FormatLongDouble(long double value);

/// Writes the decimal digits of `value` to `out` (at least kMaxInt64Chars bytes) without a
/// terminator. Returns the number of bytes written.
size_t FormatInt64(int64_t value, char* out);

/// Whether `text` as a whole matches the glob `pattern`: '*', '?', classes with ranges and '^', and
/// backslash escapes; an unclosed class ends with the pattern. `nocase` folds ASCII letters.
/// An empty text matches only the empty pattern: redis-server lets "*" match an empty key by a test
/// for that very pattern in KEYS and SCAN, and callers here must do the same. Cost: O(pattern *
/// text) whatever the number of stars; no recursion.
bool GlobMatch(std::string_view pattern, std::string_view text, bool nocase);
/// Whether `text` has a character that makes it a pattern and not a name.
inline bool HasGlob(std::string_view text) {
  return text.find_first_of("*?[") != std::string_view::npos;
}

/// ASCII case folding only, as every comparison of command and option names.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);
std::string ToLower(std::string_view text);
std::string ToUpper(std::string_view text);

/// `text` in double quotes; quote, backslash and \n \r \t \a \b escaped by letter, other bytes
/// outside 0x20..0x7e as \xHH (lower-case hex).
std::string QuoteRepr(std::string_view text);

/// Value of a hexadecimal digit of either case, -1 for any other byte.
int HexValue(char c);
/// What the letter after a backslash means inside double quotes; letters without a meaning stand
/// for themselves.
char Unescape(char c);

/// Splits a line of words as the configuration file and inline commands write them: words are
/// parted by white space; "double quotes" know \n \r \t \b \a \\ \" and \xHH; 'single quotes' know
/// \'. A blank line gives no words. Errors: kCorruption when a quote stays open or is directly
/// followed by a byte that is not white space. A NUL byte ends the line.
Result<std::vector<std::string>> SplitArgs(std::string_view line);

/// Reads an amount of memory: decimal digits and an optional unit in any case (b; k m g in powers
/// of 1000; kb mb gb in powers of 1024). No digits count as 0 and digits past 64 bits as 2^64-1, as
/// in redis-server. Returns false on a sign, a fraction, another unit, or a product past 64 bits
/// (which redis-server wraps around); *bytes is untouched then.
bool ParseMemory(std::string_view text, uint64_t* bytes);

/// "512B", "1.50K", "2.00M", "3.25G", "1.00T", "1.00P": the form of INFO's *_human fields.
std::string FormatBytesHuman(uint64_t bytes);

}  // namespace cairn

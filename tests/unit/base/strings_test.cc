#include "server/base/strings.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>

// Expected values were read off redis-server 7.0.15: numbers by ZADD + ZSCORE, INCRBYFLOAT and
// INCRBY, patterns by KEYS, lines by inline RPUSH, amounts by CONFIG SET maxmemory.

namespace cairn {
namespace {

std::string DoubleRoundTrip(std::string_view text) {
  double value = 0;
  return ParseDouble(text, &value) ? FormatDouble(value) : "refused";
}

std::string LongDoubleRoundTrip(std::string_view text) {
  long double value = 0;
  return ParseLongDouble(text, &value) ? FormatLongDouble(value) : "refused";
}

TEST(StringsTest, ParseInt64TakesTheWholeRange) {
  int64_t value = 0;
  EXPECT_TRUE(ParseInt64("9223372036854775807", &value));
  EXPECT_EQ(value, std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(ParseInt64("-9223372036854775808", &value));
  EXPECT_EQ(value, std::numeric_limits<int64_t>::min());
  EXPECT_TRUE(ParseInt64("0", &value));
  EXPECT_EQ(value, 0);
}

TEST(StringsTest, ParseInt64RefusesWhatIsNotCanonical) {
  for (const std::string_view text :
       {std::string_view(""), std::string_view("-"), std::string_view("+1"), std::string_view(" 1"),
        std::string_view("1 "), std::string_view("01"), std::string_view("-0"),
        std::string_view("-01"), std::string_view("1.0"), std::string_view("1\0", 2),
        std::string_view("9223372036854775808"), std::string_view("-9223372036854775809"),
        std::string_view("99999999999999999999999")}) {
    int64_t value = 77;
    EXPECT_FALSE(ParseInt64(text, &value)) << text;
    EXPECT_EQ(value, 77) << text;
  }
}

TEST(StringsTest, ParseUint64TakesTheWholeRange) {
  uint64_t value = 0;
  EXPECT_TRUE(ParseUint64("18446744073709551615", &value));
  EXPECT_EQ(value, std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(ParseUint64("18446744073709551616", &value));
  EXPECT_FALSE(ParseUint64("-1", &value));
  EXPECT_FALSE(ParseUint64("00", &value));
}

TEST(StringsTest, DoublesReadAndWriteAsRedisDoes) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"3.0", "3"},
      {"0.1", "0.10000000000000001"},
      {"1e20", "1e+20"},
      {"1e17", "1e+17"},
      {"1e16", "10000000000000000"},
      {"9007199254740993", "9007199254740992"},
      {"123456789012345678", "1.2345678901234568e+17"},
      {"inf", "inf"},
      {"+inf", "inf"},
      {"-iNf", "-inf"},
      {"INFINITY", "inf"},
      {"infinit", "refused"},
      {"0x10", "16"},
      {"0x1p-3", "0.125"},
      {"1e400", "refused"},
      {"1e-400", "refused"},
      {"4.9e-324", "4.9406564584124654e-324"},
      {"1e-320", "9.9998886718268301e-321"},
      {"0x1p-1080", "refused"},
      {"nan", "refused"},
      {"-nan", "refused"},
      {" 1", "refused"},
      {"1 ", "refused"},
      {"", "refused"},
      {"+1", "1"},
      {".5", "0.5"},
      {"5.", "5"},
      {"1e", "refused"},
      {"350000", "350000"},
      {"123456.789", "123456.789"}};
  for (const auto& [text, expected] : cases) EXPECT_EQ(DoubleRoundTrip(text), expected) << text;
  EXPECT_EQ(DoubleRoundTrip(std::string_view("1\0", 2)), "refused");
  // Longer than any buffer on the stack.
  EXPECT_EQ(DoubleRoundTrip("1" + std::string(200, '0')), "9.9999999999999997e+199");
  EXPECT_EQ(FormatDouble(std::nan("")), "nan");
  EXPECT_EQ(FormatDouble(-std::nan("")), "nan");
}

TEST(StringsTest, DoublesReadAndWriteAsTheCLibraryDoes) {
  std::mt19937_64 random(5);
  const auto expect = [](double value) {
    char text[64];
    const int size = std::snprintf(text, sizeof text, "%.17g", value);
    ASSERT_EQ(FormatDouble(value), std::string_view(text, static_cast<size_t>(size)));
    double read = 0;
    ASSERT_TRUE(ParseDouble(FormatDouble(value), &read));
    ASSERT_EQ(read, value);
  };
  for (double value : {0.0, -0.0, 1e7, 1e7 - 0.00390625, 1e7 + 0.5, 1e15, 1e15 - 1, -1e15 + 0.125,
                       0.00390625, 0.001953125, 1.00390625, -0.5, 4503599627370495.5, 1e16 + 2}) {
    expect(value);
    expect(-value);
  }
  for (int i = 0; i < 200000; ++i) {
    const auto number = static_cast<double>(static_cast<int64_t>(random()) >> random() % 64);
    expect(std::ldexp(number, -static_cast<int>(random() % 12)));
    expect(number / 1000);
    const uint64_t bits = random();
    double any = 0;
    std::memcpy(&any, &bits, sizeof any);
    if (std::isfinite(any)) expect(any);
  }
}

TEST(StringsTest, LongDoublesReadAndWriteAsIncrByFloatDoes) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"0.1", "0.1"},
      {"3.0e3", "3000"},
      {"1e20", "100000000000000000000"},
      {"1e-17", "0.00000000000000001"},
      {"1e-18", "0"},
      {"-1e-18", "0"},
      {"-0.0", "0"},
      {"-1e-17", "-0.00000000000000001"},
      {"5.5", "5.5"},
      {"0x10", "16"},
      {" 1", "refused"},
      {"1.23456789012345678", "1.23456789012345678"},
      {"123456789.123456789", "123456789.12345678899873747"},
      {"1e-5000", "refused"},
      {"2e4932", "refused"},
      {"nan", "refused"},
      {"inf", "inf"},
      {"-inf", "-inf"},
      {"", "refused"}};
  for (const auto& [text, expected] : cases) EXPECT_EQ(LongDoubleRoundTrip(text), expected) << text;
  EXPECT_EQ(LongDoubleRoundTrip("1e4932").size(), 4933u);
  EXPECT_EQ(LongDoubleRoundTrip(std::string(5118, '0') + "1"), "1");
  EXPECT_EQ(LongDoubleRoundTrip(std::string(5119, '0') + "1"), "refused");
}

TEST(StringsTest, FormatInt64WritesTheExtremes) {
  char out[kMaxInt64Chars];
  EXPECT_EQ(std::string_view(out, FormatInt64(std::numeric_limits<int64_t>::min(), out)),
            "-9223372036854775808");
  EXPECT_EQ(std::string_view(out, FormatInt64(0, out)), "0");
}

TEST(StringsTest, GlobMatchFollowsRedisInTheCorners) {
  struct Case {
    std::string_view pattern, text;
    bool matches;
  };
  const Case cases[] = {{"[a-c]x", "bx", true},   {"[c-a]x", "bx", true},   {"[^a]x", "bx", true},
                        {"[^a]x", "ax", false},   {"[a", "x", false},       {"[a", "a", true},
                        {"[ab", "b", true},       {"\\*", "*", true},       {"\\*", "x", false},
                        {"a\\", "a\\", true},     {"a\\", "a", false},      {"[\\]]x", "]x", true},
                        {"h?llo", "hello", true}, {"h?llo", "hllo", false}, {"[a-]x", "-x", false},
                        {"a*", "a", true},        {"*a*b", "xxaxxb", true}, {"[]x", "x", false},
                        {"[^]x", "x", false},     {"**a", "ba", true},      {"A", "a", false},
                        {"?", "\xc3\xa9", false}, {"[^", "a", true},        {"*\\", "\\", true},
                        {"[\\", "\\", true},      {"[a-", "b", false},      {"[a-", "-", true},
                        {"[A-C]b", "bb", false},  {"[-a]x", "-x", true},    {"abc**", "abc", true},
                        {"abc", "abcd", false},   {"ab?", "ab", false},     {"", "", true},
                        {"*", "", false},         {"**", "", false},        {"", "a", false},
                        {"*", "anything", true}};
  for (const Case& c : cases) {
    EXPECT_EQ(GlobMatch(c.pattern, c.text, false), c.matches) << c.pattern << " on " << c.text;
  }
}

TEST(StringsTest, GlobMatchFoldsCaseOnRequest) {
  EXPECT_TRUE(GlobMatch("MAX*[A-M]y", "maxmemory-policY", true) ==
              GlobMatch("max*[a-m]y", "maxmemory-policy", true));
  EXPECT_TRUE(GlobMatch("APPEND*", "appendonly", true));
  EXPECT_TRUE(GlobMatch("[P-R]x", "qX", true));
  EXPECT_FALSE(GlobMatch("[P-R]x", "qX", false));
}

TEST(StringsTest, GlobMatchOfManyStarsEnds) {
  // Naive backtracking needs more than 2^60 steps for this one.
  std::string pattern;
  for (int i = 0; i < 60; ++i) pattern += "a*";
  const std::string text(2000, 'a');
  EXPECT_FALSE(GlobMatch(pattern + "b", text, false));
  EXPECT_TRUE(GlobMatch(pattern, text, false));
}

TEST(StringsTest, CaseFoldingIsAsciiOnly) {
  EXPECT_TRUE(EqualsIgnoreCase("GeT", "gEt"));
  EXPECT_FALSE(EqualsIgnoreCase("get", "gets"));
  EXPECT_FALSE(EqualsIgnoreCase("@", "`"));
  EXPECT_EQ(ToLower("AZ[\xc3\x89"), "az[\xc3\x89");
  EXPECT_EQ(ToUpper("az{\xc3\xa9"), "AZ{\xc3\xa9");
}

TEST(StringsTest, QuoteReprEscapes) {
  EXPECT_EQ(QuoteRepr(std::string_view("a\"\\\n\r\t\a\b\0\x7f\xff ~", 13)),
            "\"a\\\"\\\\\\n\\r\\t\\a\\b\\x00\\x7f\\xff ~\"");
  EXPECT_EQ(QuoteRepr(""), "\"\"");
}

TEST(StringsTest, SplitArgsKnowsQuotesAndEscapes) {
  const auto words = SplitArgs("  set \"k\\x41\\n\\q\" 'it\\'s \\n' plain\\n \"\" \v");
  ASSERT_TRUE(words.ok());
  EXPECT_EQ(*words, (std::vector<std::string>{"set", "kA\nq", "it's \\n", "plain\\n", ""}));
  EXPECT_TRUE(SplitArgs("").value().empty());
  EXPECT_TRUE(SplitArgs(" \t\v\f\r\n").value().empty());
  EXPECT_EQ(*SplitArgs("ab\"c d\""), std::vector<std::string>{"abc d"});
  EXPECT_EQ(*SplitArgs("\"\\xg1\""), std::vector<std::string>{"xg1"});
  EXPECT_EQ(*SplitArgs("a\vb"), std::vector<std::string>{"a\vb"});
}

TEST(StringsTest, SplitArgsUndoesQuoteRepr) {
  std::string every_byte;
  for (int i = 0; i < 256; ++i) every_byte.push_back(static_cast<char>(i));
  EXPECT_EQ(*SplitArgs(QuoteRepr(every_byte)), std::vector<std::string>{every_byte});
}

TEST(StringsTest, SplitArgsRefusesUnbalancedQuotes) {
  for (const std::string_view line :
       {"\"abc", "'abc", "\"a\"b", "'a'b", "\"abc\\\"", "a\"", "\"a\"'b'"}) {
    const auto words = SplitArgs(line);
    ASSERT_FALSE(words.ok()) << line;
    EXPECT_EQ(words.status().code(), StatusCode::kCorruption);
  }
}

TEST(StringsTest, ParseMemoryKnowsUnits) {
  const std::pair<std::string_view, uint64_t> cases[] = {{"100", 100},
                                                         {"1k", 1000},
                                                         {"1kb", 1024},
                                                         {"1Mb", 1048576},
                                                         {"2g", 2000000000},
                                                         {"3GB", 3221225472},
                                                         {"10B", 10},
                                                         {"", 0},
                                                         {"kb", 0},
                                                         {"007", 7},
                                                         {"1m", 1000000},
                                                         {"18446744073709551615", UINT64_MAX},
                                                         {"99999999999999999999", UINT64_MAX},
                                                         {"17179869183gb", 17179869183ull << 30}};
  for (const auto& [text, expected] : cases) {
    uint64_t bytes = 1;
    EXPECT_TRUE(ParseMemory(text, &bytes)) << text;
    EXPECT_EQ(bytes, expected) << text;
  }
  for (const std::string_view text :
       {"1.5mb", "-1", "1 mb", "1kk", "1t", "0x10", "+5", " 1", "1 ", "17179869184gb"}) {
    uint64_t bytes = 77;
    EXPECT_FALSE(ParseMemory(text, &bytes)) << text;
    EXPECT_EQ(bytes, 77u);
  }
  uint64_t bytes = 0;
  EXPECT_TRUE(ParseMemory(std::string(127, '9'), &bytes));
  EXPECT_FALSE(ParseMemory(std::string(128, '9'), &bytes));
}

TEST(StringsTest, FormatBytesHumanPicksTheUnit) {
  EXPECT_EQ(FormatBytesHuman(0), "0B");
  EXPECT_EQ(FormatBytesHuman(1023), "1023B");
  EXPECT_EQ(FormatBytesHuman(1024), "1.00K");
  EXPECT_EQ(FormatBytesHuman(32768), "32.00K");
  EXPECT_EQ(FormatBytesHuman((1ull << 20) - 1), "1024.00K");
  EXPECT_EQ(FormatBytesHuman(1ull << 20), "1.00M");
  EXPECT_EQ(FormatBytesHuman(25275588608), "23.54G");
  EXPECT_EQ(FormatBytesHuman(1ull << 40), "1.00T");
  EXPECT_EQ(FormatBytesHuman(3ull << 49), "1.50P");
}

}  // namespace
}  // namespace cairn

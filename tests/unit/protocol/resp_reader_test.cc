#include "server/protocol/resp_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace cairn {
namespace {

std::string Read(std::string_view wire) {
  RespValue value;
  size_t consumed = 0;
  switch (ParseReply(wire, &consumed, &value)) {
    case ReplyParse::kNeedMore:
      return "<need more>";
    case ReplyParse::kMalformed:
      return "<malformed>";
    case ReplyParse::kValue:
      break;
  }
  EXPECT_EQ(consumed, wire.size());
  return value.ToString();
}

TEST(RespReaderTest, EachKind) {
  EXPECT_EQ(Read("+OK\r\n"), "+OK");
  EXPECT_EQ(Read("-ERR no\r\n"), "-ERR no");
  EXPECT_EQ(Read(":-12\r\n"), ":-12");
  EXPECT_EQ(Read("$4\r\na\r\n\"\r\n"), "\"a\\x0d\\x0a\\\"\"");
  EXPECT_EQ(Read("$-1\r\n"), "nil");
  EXPECT_EQ(Read("*-1\r\n"), "nil");
  EXPECT_EQ(Read("_\r\n"), "nil");
  EXPECT_EQ(Read(",3.5\r\n"), ",3.5");
  EXPECT_EQ(Read("(123\r\n"), "(123");
  EXPECT_EQ(Read("#t\r\n"), "#t");
  EXPECT_EQ(Read("#f\r\n"), "#f");
  EXPECT_EQ(Read("=8\r\ntxt:abcd\r\n"), "=txt:\"abcd\"");
  EXPECT_EQ(Read("!5\r\nERR x\r\n"), "!\"ERR x\"");
  EXPECT_EQ(Read("*2\r\n:1\r\n*0\r\n"), "[:1, []]");
  EXPECT_EQ(Read("~1\r\n:1\r\n"), "~[:1]");
  EXPECT_EQ(Read(">2\r\n+a\r\n:1\r\n"), ">[+a, :1]");
  EXPECT_EQ(Read("%2\r\n+a\r\n:1\r\n+b\r\n_\r\n"), "{+a: :1, +b: nil}");
  EXPECT_EQ(Read("|1\r\n+a\r\n:1\r\n$1\r\nx\r\n"), "|{+a: :1}\"x\"");
}

TEST(RespReaderTest, EveryProperPrefixNeedsMore) {
  const std::string wire =
      "*4\r\n$3\r\nabc\r\n%1\r\n+k\r\n=5\r\ntxt:v\r\n:1\r\n|1\r\n+a\r\n_\r\n#t\r\n";
  for (size_t size = 0; size < wire.size(); ++size) {
    EXPECT_EQ(Read(std::string_view(wire).substr(0, size)), "<need more>") << size;
  }
  EXPECT_EQ(Read(wire), "[\"abc\", {+k: =txt:\"v\"}, :1, |{+a: nil}#t]");
}

TEST(RespReaderTest, MalformedReplies) {
  for (const char* wire : {"x\r\n", "\r\n", ":a\r\n", ":\r\n", "$-2\r\n", "$1\r\nabc", "#x\r\n",
                           "_x\r\n", "%-1\r\n", "=3\r\nabc\r\n", "+a\rb", "*-2\r\n", "!-1\r\n"}) {
    EXPECT_EQ(Read(wire), "<malformed>") << wire;
  }
}

TEST(RespReaderTest, LimitsHold) {
  const ReplyLimits limits{.max_depth = 2, .max_bulk_bytes = 3, .max_elements = 2};
  RespValue value;
  size_t consumed = 0;
  const auto parse = [&](std::string_view wire) {
    return ParseReply(wire, &consumed, &value, limits);
  };
  EXPECT_EQ(parse("*1\r\n*1\r\n:1\r\n"), ReplyParse::kValue);
  EXPECT_EQ(parse("*1\r\n*1\r\n*1\r\n:1\r\n"), ReplyParse::kMalformed);
  EXPECT_EQ(parse("$3\r\nabc\r\n"), ReplyParse::kValue);
  EXPECT_EQ(parse("$4\r\nabcd\r\n"), ReplyParse::kMalformed);
  EXPECT_EQ(parse("*2\r\n:1\r\n:2\r\n"), ReplyParse::kValue);
  EXPECT_EQ(parse("*3\r\n"), ReplyParse::kMalformed);
}

TEST(RespReaderTest, ConsumesOneReplyOfSeveral) {
  RespValue value;
  size_t consumed = 0;
  ASSERT_EQ(ParseReply("+A\r\n+B\r\n", &consumed, &value), ReplyParse::kValue);
  EXPECT_EQ(consumed, 4u);
  EXPECT_EQ(value.text, "A");
}

}  // namespace
}  // namespace cairn

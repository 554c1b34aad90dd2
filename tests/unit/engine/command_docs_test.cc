#include "server/engine/command_docs.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(CommandDocsTest, EmptySynopsisHasNoArguments) { EXPECT_TRUE(ParseSynopsis("").empty()); }

TEST(CommandDocsTest, PlainArguments) {
  const auto arguments = ParseSynopsis("key#1 value count:integer \"ip:port\"");
  ASSERT_EQ(arguments.size(), 4u);
  EXPECT_EQ(arguments[0].name, "key");
  EXPECT_EQ(arguments[0].type, "key");
  EXPECT_EQ(arguments[0].key_spec_index, 1);
  EXPECT_EQ(arguments[1].type, "string");
  EXPECT_EQ(arguments[1].key_spec_index, -1);
  EXPECT_FALSE(arguments[1].token.has_value());
  EXPECT_EQ(arguments[2].name, "count");
  EXPECT_EQ(arguments[2].type, "integer");
  EXPECT_EQ(arguments[3].name, "ip:port");
}

TEST(CommandDocsTest, AStatedTypeStaysBesideAKeySpec) {
  const auto arguments = ParseSynopsis("[BY=pattern:pattern#1]");
  ASSERT_EQ(arguments.size(), 1u);
  EXPECT_EQ(arguments[0].type, "pattern");
  EXPECT_EQ(arguments[0].key_spec_index, 1);
}

TEST(CommandDocsTest, Tokens) {
  const auto arguments =
      ParseSynopsis("KEEPTTL EX=seconds:integer '~'=approximately:pure-token ''=nothing");
  ASSERT_EQ(arguments.size(), 4u);
  EXPECT_EQ(arguments[0].name, "keepttl");
  EXPECT_EQ(arguments[0].type, "pure-token");
  EXPECT_EQ(arguments[0].token, "KEEPTTL");
  EXPECT_EQ(arguments[1].name, "seconds");
  EXPECT_EQ(arguments[1].token, "EX");
  EXPECT_EQ(arguments[2].name, "approximately");
  EXPECT_EQ(arguments[2].type, "pure-token");
  EXPECT_EQ(arguments[2].token, "~");
  EXPECT_EQ(arguments[3].token, "");
}

TEST(CommandDocsTest, SuffixesAndFlags) {
  const auto arguments = ParseSynopsis("[key#0@6.2.0~7.0.0...] GET=pattern+... REPLACE@3.0.0");
  ASSERT_EQ(arguments.size(), 3u);
  EXPECT_TRUE(arguments[0].optional);
  EXPECT_TRUE(arguments[0].multiple);
  EXPECT_FALSE(arguments[0].multiple_token);
  EXPECT_EQ(arguments[0].since, "6.2.0");
  EXPECT_EQ(arguments[0].deprecated_since, "7.0.0");
  EXPECT_FALSE(arguments[1].optional);
  EXPECT_TRUE(arguments[1].multiple);
  EXPECT_TRUE(arguments[1].multiple_token);
  EXPECT_EQ(arguments[2].since, "3.0.0");
}

TEST(CommandDocsTest, NestedArguments) {
  const auto arguments =
      ParseSynopsis("pair{key#0 value}... [how(EX=seconds:integer|range{[FROM=low] high})@2.0]");
  ASSERT_EQ(arguments.size(), 2u);
  EXPECT_EQ(arguments[0].type, "block");
  EXPECT_TRUE(arguments[0].multiple);
  ASSERT_EQ(arguments[0].arguments.size(), 2u);
  EXPECT_EQ(arguments[0].arguments[1].name, "value");
  EXPECT_EQ(arguments[1].type, "oneof");
  EXPECT_TRUE(arguments[1].optional);
  EXPECT_EQ(arguments[1].since, "2.0");
  ASSERT_EQ(arguments[1].arguments.size(), 2u);
  const DocArgument& range = arguments[1].arguments[1];
  ASSERT_EQ(range.arguments.size(), 2u);
  EXPECT_TRUE(range.arguments[0].optional);
  EXPECT_EQ(range.arguments[0].token, "FROM");
  EXPECT_FALSE(range.arguments[1].optional);
}

TEST(CommandDocsDeathTest, IllFormedSynopsisStopsTheProcess) {
  EXPECT_DEATH(ParseSynopsis("a(b"), "CAIRN_CHECK");
  EXPECT_DEATH(ParseSynopsis("[a"), "CAIRN_CHECK");
  EXPECT_DEATH(ParseSynopsis("a:"), "CAIRN_CHECK");
  EXPECT_DEATH(ParseSynopsis("a)"), "CAIRN_CHECK");
}

}  // namespace
}  // namespace cairn

#include "server/protocol/resp_errors.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>
#include <vector>

namespace cairn {
namespace {

std::string Unknown(std::string_view name, const std::vector<std::string>& args) {
  const std::vector<std::string_view> views(args.begin(), args.end());
  return std::string(UnknownCommand(name, views).message());
}

// Expectations were read from redis-server 7.0.15 over a socket.
TEST(RespErrorsTest, UnknownCommandShowsItsArguments) {
  EXPECT_EQ(Unknown("foo", {}), "ERR unknown command 'foo', with args beginning with: ");
  EXPECT_EQ(Unknown("foo", {"a", "b"}),
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' ");
  EXPECT_EQ(Unknown("fo\no", {"a\r\nb", std::string("c\0d", 3)}),
            "ERR unknown command 'fo o', with args beginning with: 'a  b' 'c' ");
  EXPECT_EQ(Unknown(std::string_view("foo\0bar", 7), {}),
            "ERR unknown command 'foo', with args beginning with: ");
}

TEST(RespErrorsTest, UnknownCommandIsCutAt128Bytes) {
  EXPECT_EQ(Unknown(std::string(200, 'x'), {std::string(200, 'y')}),
            "ERR unknown command '" + std::string(128, 'x') + "', with args beginning with: '" +
                std::string(128, 'y') + "' ");
  const std::string z124(124, 'z');
  const std::string z125(125, 'z');
  EXPECT_EQ(Unknown("foo", {z124, "q", "w"}),
            "ERR unknown command 'foo', with args beginning with: '" + z124 + "' 'q' ");
  EXPECT_EQ(Unknown("foo", {z125, "q", "w"}),
            "ERR unknown command 'foo', with args beginning with: '" + z125 + "' ");
}

TEST(RespErrorsTest, LinesWithANameInThem) {
  EXPECT_EQ(UnknownSubcommand("config", "nosuch\r").message(),
            "ERR unknown subcommand 'nosuch '. Try CONFIG HELP.");
  EXPECT_EQ(UnknownSubcommand("CONFIG", std::string(200, 'x')).message(),
            "ERR unknown subcommand '" + std::string(128, 'x') + "'. Try CONFIG HELP.");
  EXPECT_EQ(UnknownSubcommandOrArity("debug", "x").message(),
            "ERR unknown subcommand or wrong number of arguments for 'x'. Try DEBUG HELP.");
  EXPECT_EQ(WrongArity("config|get").message(),
            "ERR wrong number of arguments for 'config|get' command");
  EXPECT_EQ(InvalidExpire("setex").message(), "ERR invalid expire time in 'setex' command");
  EXPECT_EQ(NoPermCommand("set").message(),
            "NOPERM this user has no permissions to run the 'set' command");
}

TEST(RespErrorsTest, LineEndsAtTheEndGoAndOthersBecomeSpaces) {
  EXPECT_EQ(QuotingError({"ERR Unsupported option ", "a\r\nb"}).message(),
            "ERR Unsupported option a  b");
  EXPECT_EQ(QuotingError({"ERR Unsupported option ", "a\r\n\r"}).message(),
            "ERR Unsupported option a");
  EXPECT_EQ(QuotingError({"ERR Unsupported option ", std::string_view("a\n\0b", 4)}).message(),
            "ERR Unsupported option a");
}

TEST(RespErrorsTest, EveryLineBeginsWithAnUpperCaseCodeAndHasNoLineEnd) {
#define CAIRN_COLLECT(name, line) resp_errors::name,
  const std::string_view lines[] = {CAIRN_RESP_ERRORS(CAIRN_COLLECT)};
#undef CAIRN_COLLECT
  for (const std::string_view line : lines) {
    const size_t space = line.find(' ');
    ASSERT_NE(space, std::string_view::npos) << line;
    ASSERT_GE(space, 2u) << line;
    for (const char c : line.substr(0, space)) EXPECT_TRUE(std::isupper(c) != 0) << line;
    EXPECT_EQ(line.find_first_of("\r\n"), std::string_view::npos) << line;
    EXPECT_EQ(RespError(line).code(), StatusCode::kClient);
  }
}

}  // namespace
}  // namespace cairn

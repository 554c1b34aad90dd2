#include "server/replication/link_parser.h"

#include <gtest/gtest.h>

#include <string>

namespace cairn {
namespace {

const std::string kId(40, 'a');

TEST(PsyncAnswerTest, NamesIdAndOffset) {
  const std::string line = "+FULLRESYNC " + kId + " 9223372036854775807";
  const PsyncAnswer answer = ParsePsyncAnswer(line);
  EXPECT_EQ(answer.kind, PsyncAnswer::Kind::kFullResync);
  EXPECT_EQ(answer.id, kId);
  EXPECT_EQ(answer.offset, 9223372036854775807u);
}

TEST(PsyncAnswerTest, ContinuesWithAndWithoutId) {
  EXPECT_EQ(ParsePsyncAnswer("+CONTINUE").kind, PsyncAnswer::Kind::kContinue);
  const std::string line = "+CONTINUE " + kId;
  EXPECT_EQ(ParsePsyncAnswer(line).kind, PsyncAnswer::Kind::kContinue);
  EXPECT_EQ(ParsePsyncAnswer(line).id, kId);
}

TEST(PsyncAnswerTest, TellsErrorsApart) {
  EXPECT_EQ(ParsePsyncAnswer("").kind, PsyncAnswer::Kind::kWait);
  EXPECT_EQ(ParsePsyncAnswer("-LOADING x").kind, PsyncAnswer::Kind::kTryLater);
  EXPECT_EQ(ParsePsyncAnswer("-NOMASTERLINK x").kind, PsyncAnswer::Kind::kTryLater);
  EXPECT_EQ(ParsePsyncAnswer("-ERR unknown command").kind, PsyncAnswer::Kind::kRefused);
}

TEST(PsyncAnswerTest, RefusesWhatNoPrimarySays) {
  for (const std::string& line :
       {std::string("+FULLRESYNC"), "+FULLRESYNC " + kId, "+FULLRESYNC " + kId + " -1",
        "+FULLRESYNC " + kId + " 9223372036854775808", "+FULLRESYNC " + kId + "a 1",
        "+FULLRESYNC " + kId + " 1 2", "+CONTINUE " + kId + "a", "+CONTINUE " + kId.substr(1),
        std::string("+CONTINUED"), std::string("+OK"), std::string("$5")}) {
    EXPECT_EQ(ParsePsyncAnswer(line).kind, PsyncAnswer::Kind::kBroken) << line;
  }
}

TEST(CopyHeaderTest, LengthOrMark) {
  EXPECT_EQ(ParseCopyHeader("").kind, CopyHeader::Kind::kWait);
  EXPECT_EQ(ParseCopyHeader("$0").length, 0u);
  EXPECT_EQ(ParseCopyHeader("$123").kind, CopyHeader::Kind::kLength);
  EXPECT_EQ(ParseCopyHeader("$123").length, 123u);
  const std::string marked = "$EOF:" + kId;
  EXPECT_EQ(ParseCopyHeader(marked).mark, kId);
  EXPECT_EQ(ParseCopyHeader("-ERR x").kind, CopyHeader::Kind::kError);
  for (const std::string& line : {std::string("$"), std::string("$-1"), std::string("$1 "),
                                  std::string("123"), marked + "a", std::string("$EOF:")}) {
    EXPECT_EQ(ParseCopyHeader(line).kind, CopyHeader::Kind::kBroken) << line;
  }
}

TEST(CopyReaderTest, StopsAtItsLength) {
  CopyReader reader(uint64_t{5});
  std::string file;
  EXPECT_EQ(reader.Take("abc", &file), 3u);
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.Take("defgh", &file), 2u);
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(file, "abcde");
  EXPECT_TRUE(CopyReader(uint64_t{0}).done());
}

TEST(CopyReaderTest, FindsItsMarkInAnyPieces) {
  std::string mark;
  for (int i = 0; i < 40; ++i) mark += static_cast<char>('A' + i);  // none of it repeats
  const std::string body = "REDIS0010" + mark.substr(0, 39) + "x" + mark.substr(0, 20);
  const std::string wire = body + mark;
  for (size_t piece = 1; piece <= wire.size(); ++piece) {
    CopyReader reader{std::string_view(mark)};
    std::string file;
    for (size_t at = 0; at < wire.size(); at += piece) {
      ASSERT_FALSE(reader.done()) << piece;
      reader.Take(std::string_view(wire).substr(at, piece), &file);
    }
    EXPECT_TRUE(reader.done()) << piece;
    EXPECT_EQ(file, body) << piece;
  }
}

}  // namespace
}  // namespace cairn

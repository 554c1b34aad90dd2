#include "server/protocol/reply_buffer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace cairn {
namespace {

BlobSlice Slice(size_t size, char fill) {
  return {BlobRef::Copy("ab" + std::string(size, fill)), 2, size};
}

TEST(ReplyBufferTest, LargeSlicesAreReferencedAndSmallOnesCopied) {
  ReplyBuffer buffer;
  BlobSlice large = Slice(kReplyByReferenceBytes, 'L');
  BlobSlice small = Slice(kReplyByReferenceBytes - 1, 's');
  buffer.Append("head");
  buffer.AppendBlob(large);
  buffer.AppendBlob(small);
  EXPECT_FALSE(large.blob->IsUnique());
  EXPECT_TRUE(small.blob->IsUnique());
  std::string_view pieces[4];
  ASSERT_EQ(buffer.GatherPieces(pieces), 3u);
  EXPECT_EQ(pieces[0], "head");
  EXPECT_EQ(pieces[1].data(), large.view().data());
  EXPECT_EQ(pieces[2], small.view());
  EXPECT_EQ(buffer.size(), 4 + 2 * kReplyByReferenceBytes - 1);
  buffer.Consume(4 + kReplyByReferenceBytes);
  EXPECT_TRUE(large.blob->IsUnique()) << "a sent slice is let go";
}

TEST(ReplyBufferTest, GatherStopsWhereTheSpanEnds) {
  ReplyBuffer buffer;
  buffer.Append("a");
  buffer.AppendBlob(Slice(kReplyByReferenceBytes, 'x'));
  buffer.Append("b");
  std::string_view one[1];
  EXPECT_EQ(buffer.GatherPieces(one), 1u);
  EXPECT_EQ(one[0], "a");
  std::string_view two[2];
  EXPECT_EQ(buffer.GatherPieces(two), 2u);
  EXPECT_EQ(buffer.GatherPieces({}), 0u);
}

TEST(ReplyBufferTest, ConsumeInRandomStepsSendsAllBytesInOrder) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    ReplyBuffer buffer;
    std::string expected;
    std::string sent;
    for (int step = 0; step < 200; ++step) {
      const char fill = static_cast<char>('a' + random() % 26);
      if (random() % 4 == 0) {
        BlobSlice slice = Slice(random() % (2 * kReplyByReferenceBytes), fill);
        expected += slice.view();
        buffer.AppendBlob(std::move(slice));
      } else {
        const std::string text(random() % 3000, fill);
        expected += text;
        buffer.Append(text);
      }
      size_t wanted = random() % (buffer.size() + 1);
      ASSERT_EQ(buffer.size(), expected.size() - sent.size());
      std::string_view pieces[3];
      const size_t count = buffer.GatherPieces(pieces);
      size_t written = 0;
      for (size_t i = 0; i < count && written < wanted; ++i) {
        const std::string_view part = pieces[i].substr(0, wanted - written);
        sent += part;
        written += part.size();
      }
      buffer.Consume(written);
    }
    sent += buffer.Flatten();
    ASSERT_EQ(sent, expected) << "seed " << seed;
  }
}

TEST(ReplyBufferTest, InsertMovesTextAndLaterSlices) {
  ReplyBuffer buffer;
  buffer.Append("12");
  buffer.AppendBlob(Slice(kReplyByReferenceBytes, 'A'));
  const ReplyBuffer::Mark mark = buffer.Here();
  buffer.Append("34");
  buffer.AppendBlob(Slice(kReplyByReferenceBytes, 'B'));
  buffer.Append("56");
  buffer.InsertAt(mark, "<>");
  const std::string a(kReplyByReferenceBytes, 'A');
  const std::string b(kReplyByReferenceBytes, 'B');
  EXPECT_EQ(buffer.Flatten(), "12" + a + "<>34" + b + "56");
}

TEST(ReplyBufferTest, RollbackDropsTextAndSlices) {
  ReplyBuffer buffer;
  buffer.Append("keep");
  const ReplyBuffer::Mark mark = buffer.Here();
  BlobSlice slice = Slice(kReplyByReferenceBytes, 'A');
  buffer.AppendBlob(slice);
  buffer.Append("drop");
  buffer.RollbackTo(mark);
  EXPECT_EQ(buffer.Flatten(), "keep");
  EXPECT_EQ(buffer.size(), 4u);
  EXPECT_TRUE(slice.blob->IsUnique());
}

TEST(ReplyBufferTest, ShrinksOnlyWhenAllIsSent) {
  ReplyBuffer buffer;
  buffer.Append(std::string(100000, 'x'));
  buffer.ShrinkIfIdle();
  EXPECT_EQ(buffer.size(), 100000u);
  buffer.Consume(100000);
  EXPECT_GE(buffer.footprint(), 100000u);
  buffer.ShrinkIfIdle();
  EXPECT_EQ(buffer.footprint(), 0u);
  buffer.Append("again");
  EXPECT_EQ(buffer.Flatten(), "again");
}

}  // namespace
}  // namespace cairn

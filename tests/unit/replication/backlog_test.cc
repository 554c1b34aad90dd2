#include "server/replication/backlog.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "server/protocol/reply_buffer.h"

namespace cairn {
namespace {

std::string ReadAll(const Backlog& backlog, uint64_t offset, size_t most = 1 << 20) {
  ReplyBuffer out;
  while (const size_t size = backlog.Read(offset, most, &out)) offset += size;
  EXPECT_EQ(offset, backlog.end());
  return out.Flatten();
}

TEST(BacklogTest, BeginsEmptyAtItsOffset) {
  const Backlog backlog(41, 1 << 20);
  EXPECT_EQ(backlog.begin(), 41u);
  EXPECT_EQ(backlog.end(), 41u);
  EXPECT_TRUE(backlog.Holds(41));
  EXPECT_FALSE(backlog.Holds(40));
  EXPECT_FALSE(backlog.Holds(42));
  EXPECT_EQ(ReadAll(backlog, 41), "");
}

TEST(BacklogTest, GivesBackAnyPart) {
  Backlog backlog(100, 16 * 1024);
  std::string model;
  std::mt19937 chance(3);
  for (int i = 0; i < 300; ++i) {
    const std::string bytes(chance() % 3000, static_cast<char>('a' + i % 26));
    backlog.Append(bytes);
    model += bytes;
    backlog.CheckInvariants();
  }
  ASSERT_EQ(backlog.end(), 100 + model.size());
  for (uint64_t from : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{4096}, uint64_t{4097},
                        model.size() - 1, model.size()}) {
    EXPECT_EQ(ReadAll(backlog, 100 + from, 1000), model.substr(from));
  }
}

TEST(BacklogTest, TrimKeepsWhatIsWantedAndWhatIsRead) {
  Backlog backlog(0, 16 * 1024);
  const std::string bytes(4096, 'x');
  for (int i = 0; i < 100; ++i) backlog.Append(bytes);
  const uint64_t end = backlog.end();
  EXPECT_EQ(backlog.BlocksFrom(50 * 4096 + 1), 50u);
  EXPECT_EQ(backlog.BlocksFrom(end), 0u);
  EXPECT_EQ(backlog.Trim(/*pinned=*/50 * 4096 + 1).size(), 50u);
  backlog.CheckInvariants();
  EXPECT_EQ(backlog.begin(), 50u * 4096);  // the block that is being read stays
  backlog.Trim(end);
  EXPECT_GE(backlog.size(), 16u * 1024);
  EXPECT_LT(backlog.size(), 16u * 1024 + 2 * Backlog::kMaxBlockBytes);
  EXPECT_EQ(backlog.end(), end);
  EXPECT_LE(backlog.memory_bytes(), backlog.size() + 2 * Backlog::kMaxBlockBytes);
}

TEST(BacklogTest, ALongerBacklogIsKeptFromThenOn) {
  Backlog backlog(0, 16 * 1024);
  backlog.set_keep_bytes(1 << 20);
  for (int i = 0; i < 1000; ++i) {
    backlog.Append(std::string(4096, 'x'));
    backlog.Trim(backlog.end());
  }
  EXPECT_GE(backlog.size(), 1u << 20);
  EXPECT_LE(backlog.size(), (1u << 20) + Backlog::kMaxBlockBytes);
  backlog.CheckInvariants();
}

}  // namespace
}  // namespace cairn

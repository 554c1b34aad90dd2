#include "server/net/socket_batch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace cairn {
namespace {

struct Pair {
  Pair() { EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)); }
  ~Pair() {
    CloseTheirs();
    ::close(ends[0]);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  int ours() const { return ends[0]; }
  int theirs() const { return ends[1]; }
  void CloseTheirs() {
    if (ends[1] >= 0) ::close(std::exchange(ends[1], -1));
  }
  int ends[2];
};

/// With the ring and without: the same results.
class SocketBatchTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam()) return;
    if (const int error = batch_.Open(); error != 0)
      GTEST_SKIP() << "no io_uring here: " << std::strerror(error);
    EXPECT_TRUE(batch_.open());
  }
  SocketBatch batch_;
};

INSTANTIATE_TEST_SUITE_P(Ways, SocketBatchTest, ::testing::Values(true, false),
                         [](const auto& way) { return way.param ? "Ring" : "Calls"; });

TEST_P(SocketBatchTest, EachOperationHasItsOwnOutcome) {
  Pair full, empty, ended, broken, writable;
  ASSERT_EQ(5, ::send(full.theirs(), "hello", 5, 0));
  ended.CloseTheirs();
  broken.CloseTheirs();
  char space[5][16] = {};
  ssize_t results[6] = {1, 1, 1, 1, 1, 1};
  batch_.AddReceive(full.ours(), space[0], &results[0]);
  batch_.AddReceive(empty.ours(), space[1], &results[1]);
  batch_.AddReceive(ended.ours(), space[2], &results[2]);
  batch_.AddSend(broken.ours(), "x", &results[3]);
  batch_.AddSend(writable.ours(), "world", &results[4]);
  batch_.AddReceive(-1, space[4], &results[5]);
  batch_.Run();
  EXPECT_EQ(5, results[0]);
  EXPECT_EQ("hello", std::string(space[0], 5));
  EXPECT_EQ(-EAGAIN, results[1]);
  EXPECT_EQ(0, results[2]);
  EXPECT_EQ(-EPIPE, results[3]);  // and no SIGPIPE
  EXPECT_EQ(5, results[4]);
  EXPECT_EQ(-EBADF, results[5]);
  EXPECT_EQ(5, ::recv(writable.theirs(), space[3], sizeof space[3], 0));
  EXPECT_EQ("world", std::string(space[3], 5));
}

TEST_P(SocketBatchTest, ASendThatDoesNotFitTakesAPart) {
  Pair a, b;
  const std::string big(8 << 20, 'x');
  ssize_t first = 0, second = 0, third = 0;
  batch_.AddSend(a.ours(), big, &first);
  batch_.AddSend(b.ours(), "y", &third);
  batch_.Run();
  EXPECT_GT(first, 0);
  EXPECT_LT(first, static_cast<ssize_t>(big.size()));
  EXPECT_EQ(1, third);
  batch_.AddSend(a.ours(), big, &second);
  batch_.AddSend(b.ours(), "y", &third);
  batch_.Run();
  EXPECT_EQ(-EAGAIN, second);
  EXPECT_EQ(1, third);
}

TEST_P(SocketBatchTest, MoreThanTheRingHoldsInTheirOrder) {
  // One more than a ring of 256, which leaves one operation alone.
  constexpr size_t kPairs = 257;
  std::vector<Pair> pairs(kPairs);
  std::vector<std::string> sent;
  std::vector<ssize_t> results(kPairs);
  for (size_t i = 0; i < kPairs; ++i) sent.push_back("number " + std::to_string(i));
  for (size_t i = 0; i < kPairs; ++i) batch_.AddSend(pairs[i].ours(), sent[i], &results[i]);
  batch_.Run();
  std::vector<std::string> spaces(kPairs, std::string(32, '\0'));
  for (size_t i = 0; i < kPairs; ++i) {
    EXPECT_EQ(static_cast<ssize_t>(sent[i].size()), results[i]);
    batch_.AddReceive(pairs[i].theirs(), spaces[i], &results[i]);
  }
  batch_.Run();
  for (size_t i = 0; i < kPairs; ++i)
    EXPECT_EQ(sent[i], spaces[i].substr(0, static_cast<size_t>(results[i])));
}

TEST_P(SocketBatchTest, NothingToDo) {
  batch_.Run();
  batch_.Close();
  EXPECT_FALSE(batch_.open());
  Pair pair;
  char space[4];
  ssize_t results[2] = {1, 1};
  batch_.AddReceive(pair.ours(), space, &results[0]);
  batch_.AddSend(pair.theirs(), "a", &results[1]);
  batch_.Run();
  EXPECT_EQ(-EAGAIN, results[0]);
  EXPECT_EQ(1, results[1]);
}

}  // namespace
}  // namespace cairn

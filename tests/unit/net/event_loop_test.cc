#include "server/net/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <span>

#include "server/net/socket_stream.h"

namespace cairn {
namespace {

class Receiver final : public StreamReceiver {
 public:
  std::span<char> ReadBuffer() override { return space_; }
  void OnRead(size_t) override { ++reads; }
  void OnEnd(const Status& status) override {
    ++ends;
    reason = status;
  }
  void OnWritable() override {}
  void OnClosed() override {}
  int reads = 0, ends = 0;
  Status reason;

 private:
  std::array<char, 64> space_;
};

/// From here on epoll takes the descriptor no more: what it takes was tried when the handle was
/// made, and what a user may watch (fs.epoll.max_user_watches) may be used up later.
void MakeUnwatchable(int fd) {
  const int plain_file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(plain_file, 0);
  ASSERT_EQ(::dup2(plain_file, fd), fd);
  ::close(plain_file);
}

class EventLoopTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_));
  }
  void TearDown() override { ::close(ends_[1]); }
  void Turn(int times = 3) {
    for (int i = 0; i < times; ++i) loop_.RunOnceNoWait();
  }

  EventLoop loop_;
  Receiver receiver_;
  int ends_[2];
};

// libuv would end the process when it polls.
TEST_F(EventLoopTest, ADescriptorThatCannotBeRegisteredIsAnError) {
  auto poll = loop_.Watch(ends_[0], nullptr);
  ASSERT_TRUE(poll.ok());
  MakeUnwatchable(ends_[0]);
  const Status waits = loop_.WaitFor(*poll, UV_READABLE, [](uv_poll_t*, int, int) {});
  EXPECT_EQ(waits.code(), StatusCode::kIo);
  EXPECT_TRUE(waits.message().starts_with("epoll_ctl: ")) << waits.message();
  Turn();
  poll->reset();
  ::close(ends_[0]);
}

TEST_F(EventLoopTest, AStreamThatCannotBeRegisteredAgainEnds) {
  SocketStream stream(loop_, ends_[0], "peer", "local");
  ASSERT_TRUE(stream.Start(&receiver_).ok());
  ASSERT_EQ(2, ::send(ends_[1], "hi", 2, 0));
  Turn();
  EXPECT_EQ(receiver_.reads, 1);
  stream.PauseReads();
  Turn();
  MakeUnwatchable(ends_[0]);
  stream.ResumeReads();
  EXPECT_EQ(receiver_.ends, 0) << "from inside the call";
  Turn();
  EXPECT_EQ(receiver_.ends, 1);
  EXPECT_EQ(receiver_.reason.code(), StatusCode::kIo);
}

TEST_F(EventLoopTest, AStreamWaitsForWhatItAsksForEachTime) {
  SocketStream stream(loop_, ends_[0], "peer", "local");
  ASSERT_TRUE(stream.Start(&receiver_).ok());
  for (int i = 1; i <= 5; ++i) {
    stream.PauseReads();
    ASSERT_EQ(1, ::send(ends_[1], "x", 1, 0));
    Turn();
    EXPECT_EQ(receiver_.reads, i - 1);
    stream.ResumeReads();
    stream.PauseReads();
    stream.ResumeReads();
    Turn();
    EXPECT_EQ(receiver_.reads, i);
  }
  EXPECT_EQ(receiver_.ends, 0);
}

}  // namespace
}  // namespace cairn

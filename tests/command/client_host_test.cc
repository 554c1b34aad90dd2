// ClientHost over the engine of a harness, without a listener.

#include "server/net/client_host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "server/net/event_loop.h"
#include "tests/support/command_harness.h"

namespace cairn {
namespace {

TEST(ClientHostTest, ASocketThatCannotBeWaitedForIsClosed) {
  CommandHarness harness({});
  EventLoop loop;
  ClientHost host(harness.engine(), loop);
  Accepted accepted;
  accepted.fd = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);  // epoll takes no files
  accepted.loopback = accepted.unix_socket = true;
  ASSERT_GE(accepted.fd, 0);
  const size_t sessions = harness.engine().sessions().size();
  host.OnAccept(accepted);
  EXPECT_EQ(-1, ::fcntl(accepted.fd, F_GETFD));
  EXPECT_EQ(sessions, harness.engine().sessions().size());
  loop.RunOnceNoWait();
}

}  // namespace
}  // namespace cairn

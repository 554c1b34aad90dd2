// ClientHost over the engine of a harness, without a listener.

#include "server/net/client_host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/engine/script_scope.h"
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

TEST(ClientHostTest, WhoIsResetBehindHalfARequestIsForgotten) {
  CommandHarness harness({});
  EventLoop loop;
  ClientHost host(harness.engine(), loop);
  loop.SetAfterPoll([&] { host.RunTurn(); });
  const size_t sessions = harness.engine().sessions().size();
  int ends[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
  Accepted accepted;
  accepted.fd = ends[0];
  accepted.loopback = accepted.unix_socket = true;
  host.OnAccept(accepted);
  // Closed with something unread, a socket resets its peer.
  ASSERT_EQ(1, ::send(ends[0], "x", 1, 0));
  ASSERT_EQ(4, ::send(ends[1], "*1\r\n", 4, 0));
  ::close(ends[1]);
  for (int turn = 0; turn < 4; ++turn) loop.RunOnceNoWait();
  EXPECT_EQ(sessions, harness.engine().sessions().size());
}

TEST(ClientHostTest, WhoLeavesWhileAScriptIsBusyIsForgottenAtOnce) {
  CommandHarness harness({});
  EventLoop loop;
  ClientHost host(harness.engine(), loop);
  loop.SetAfterPoll([&] { host.RunTurn(); });
  const size_t sessions = harness.engine().sessions().size();
  int stays[2];
  int leaves[2];
  for (int* ends : {stays, leaves}) {
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    Accepted accepted;
    accepted.fd = ends[0];
    accepted.loopback = accepted.unix_socket = true;
    host.OnAccept(accepted);
  }
  ScriptScope scope;
  scope.caller = scope.session = &harness.session();
  scope.busy = true;
  harness.engine().script = &scope;
  ::close(leaves[1]);
  loop.RunSocketsNoWait();
  EXPECT_EQ(sessions + 1, harness.engine().sessions().size());
  harness.engine().script = nullptr;
  ::close(stays[1]);
  loop.RunOnceNoWait();
  loop.RunOnceNoWait();
  EXPECT_EQ(sessions, harness.engine().sessions().size());
}

}  // namespace
}  // namespace cairn

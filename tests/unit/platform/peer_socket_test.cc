// PeerSocket against a listener of the test's own on the loopback: whole and split lines, timeouts,
// peers that refuse, end or never answer.

#include "server/platform/peer_socket.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace cairn {
namespace {

/// A listening socket on a port of the kernel's choice.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd_, 4), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { Close(); }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int port() const { return port_; }
  int Accept() const { return ::accept(fd_, nullptr, nullptr); }

 private:
  int fd_;
  int port_ = 0;
};

std::unique_ptr<PeerSocket> Connected(const Listener& listener) {
  auto socket = PeerSocket::Connect("127.0.0.1", listener.port(), 5000);
  EXPECT_TRUE(socket.ok());
  return std::move(*socket);
}

void SendAll(int fd, std::string_view bytes) {
  EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

TEST(PeerSocketTest, LinesComeWholeHoweverTheyArrive) {
  Listener listener;
  auto socket = Connected(listener);
  const int peer = listener.Accept();
  SendAll(peer, "+OK\r\n-ERR a\r\n+sp");
  EXPECT_EQ(*socket->ReadLine(5000), "+OK");
  EXPECT_EQ(*socket->ReadLine(5000), "-ERR a");
  SendAll(peer, "lit\n\r\n");
  EXPECT_EQ(*socket->ReadLine(5000), "+split");
  EXPECT_EQ(*socket->ReadLine(5000), "");
  ::close(peer);
}

TEST(PeerSocketTest, WritesArriveInOrderAndWhole) {
  Listener listener;
  auto socket = Connected(listener);
  const int peer = listener.Accept();
  const std::string sent(3'000'000, 'x');  // more than the kernel's buffers hold
  std::string received;
  std::thread reader([&] {
    char buffer[65536];
    while (received.size() < sent.size()) {
      const ssize_t got = ::recv(peer, buffer, sizeof buffer, 0);
      if (got <= 0) break;
      received.append(buffer, static_cast<size_t>(got));
    }
  });
  EXPECT_TRUE(socket->Write(sent, 20000).ok());
  reader.join();
  EXPECT_EQ(received, sent);
  ::close(peer);
}

TEST(PeerSocketTest, ASilentPeerCostsTheTimeout) {
  Listener listener;
  auto socket = Connected(listener);
  EXPECT_EQ(socket->ReadLine(20).status().code(), StatusCode::kCancelled);
  // Nobody reads: the buffers fill up, then the time runs out.
  EXPECT_EQ(socket->Write(std::string(64'000'000, 'x'), 20).code(), StatusCode::kCancelled);
}

TEST(PeerSocketTest, TheEndOfTheStreamIsAnError) {
  Listener listener;
  auto socket = Connected(listener);
  const int peer = listener.Accept();
  SendAll(peer, "+last\r\n+half");
  ::close(peer);
  EXPECT_EQ(*socket->ReadLine(5000), "+last");
  EXPECT_EQ(socket->ReadLine(5000).status().code(), StatusCode::kIo);
}

TEST(PeerSocketTest, ALineHasALimit) {
  Listener listener;
  auto socket = Connected(listener);
  const int peer = listener.Accept();
  SendAll(peer, std::string(kMaxPeerLineBytes - 2, 'x') + "\r\n");
  EXPECT_EQ(socket->ReadLine(5000)->size(), kMaxPeerLineBytes - 2);
  SendAll(peer, std::string(kMaxPeerLineBytes + 1, 'x'));
  EXPECT_EQ(socket->ReadLine(5000).status().code(), StatusCode::kIo);
  ::close(peer);
}

TEST(PeerSocketTest, ARefusalShowsWhenSomethingIsSent) {
  Listener listener;
  const int port = listener.port();
  listener.Close();
  auto socket = PeerSocket::Connect("127.0.0.1", port, 5000);
  if (socket.ok()) {  // or at once, as the kernel likes
    EXPECT_EQ((*socket)->Write("x", 5000).code(), StatusCode::kIo);
  } else {
    EXPECT_EQ(socket.status().code(), StatusCode::kIo);
  }
}

TEST(PeerSocketTest, ANameThatLeadsNowhere) {
  EXPECT_EQ(PeerSocket::Connect("no.such.host.invalid", 1, 100).status().code(), StatusCode::kIo);
  EXPECT_EQ(PeerSocket::Connect("127.0.0.1", -1, 100).status().code(), StatusCode::kIo);
}

}  // namespace
}  // namespace cairn

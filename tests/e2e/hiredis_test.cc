// hiredis, the C client, against the real server: what programs in C and C++ do with it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

namespace {

constexpr auto kReadyLimit = std::chrono::seconds(60);

int FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(fd);
  return bound ? ntohs(address.sin_port) : 0;
}

struct FreeReply {
  void operator()(redisReply* reply) const { ::freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

/// A server of its own in a directory of its own, and one connection.
class HiredisTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/cairn-hiredis-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    port_ = FreePort();
    const std::string binary = std::string(CAIRN_BIN_DIR) + "/cairn-server";
    const std::string port = std::to_string(port_);
    pid_ = ::fork();
    if (pid_ == 0) {
      const int null = ::open("/dev/null", O_RDWR);
      for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
      ::execl(binary.c_str(), binary.c_str(), "--port", port.c_str(), "--bind", "127.0.0.1",
              "--save", "", "--dir", directory_.c_str(), "--unixsocket",
              (directory_ + "/s").c_str(), static_cast<char*>(nullptr));
      ::_exit(127);
    }
    context_ = Connect();
    ASSERT_NE(context_, nullptr) << "no server from " << binary;
    // Whoever answers has opened its other sockets too; the kernel connects as soon as the first
    // listens.
    ASSERT_NE(Command("PING"), nullptr) << context_->errstr;
  }
  void TearDown() override {
    if (context_ != nullptr) ::redisFree(context_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(directory_);
  }

  redisContext* Connect() const {
    const auto deadline = std::chrono::steady_clock::now() + kReadyLimit;
    while (std::chrono::steady_clock::now() < deadline) {
      redisContext* context = ::redisConnect("127.0.0.1", port_);
      if (context != nullptr && context->err == 0) {
        ::redisSetTimeout(context, {.tv_sec = 20, .tv_usec = 0});
        return context;
      }
      if (context != nullptr) ::redisFree(context);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return nullptr;
  }
  template <typename... Args>
  Reply Command(const char* format, Args... args) {
    return Reply(static_cast<redisReply*>(::redisCommand(context_, format, args...)));
  }
  static std::string Text(const Reply& reply) { return {reply->str, reply->len}; }

  std::string directory_;
  int port_ = 0;
  pid_t pid_ = -1;
  redisContext* context_ = nullptr;
};

TEST_F(HiredisTest, RepliesOfEachType) {
  Reply reply = Command("SET %s %s", "key", "value");
  ASSERT_NE(reply, nullptr);
  EXPECT_EQ(reply->type, REDIS_REPLY_STATUS);
  EXPECT_EQ(Text(reply), "OK");
  reply = Command("GET key");
  EXPECT_EQ(reply->type, REDIS_REPLY_STRING);
  EXPECT_EQ(Text(reply), "value");
  reply = Command("GET nosuch");
  EXPECT_EQ(reply->type, REDIS_REPLY_NIL);
  reply = Command("INCR counter");
  EXPECT_EQ(reply->type, REDIS_REPLY_INTEGER);
  EXPECT_EQ(reply->integer, 1);
  reply = Command("INCR key");
  EXPECT_EQ(reply->type, REDIS_REPLY_ERROR);
  EXPECT_EQ(Text(reply), "ERR value is not an integer or out of range");
  reply = Command("MGET key nosuch counter");
  ASSERT_EQ(reply->type, REDIS_REPLY_ARRAY);
  ASSERT_EQ(reply->elements, 3U);
  EXPECT_EQ(reply->element[1]->type, REDIS_REPLY_NIL);
}

TEST_F(HiredisTest, BinaryAndBigArguments) {
  const std::string binary("\0\r\n\xff", 4);
  Reply reply = Command("SET %b %b", binary.data(), binary.size(), binary.data(), binary.size());
  EXPECT_EQ(Text(reply), "OK");
  EXPECT_EQ(Text(Command("GET %b", binary.data(), binary.size())), binary);
  const std::string big(5 << 20, 'x');
  EXPECT_EQ(Text(Command("SET big %b", big.data(), big.size())), "OK");
  EXPECT_EQ(Text(Command("GET big")), big);
}

TEST_F(HiredisTest, APipelineIsAnsweredInOrder) {
  constexpr int kCommands = 10000;
  for (int i = 0; i < kCommands; ++i)
    ASSERT_EQ(::redisAppendCommand(context_, "INCRBY counter %d", 1), REDIS_OK);
  for (int i = 1; i <= kCommands; ++i) {
    void* raw = nullptr;
    ASSERT_EQ(::redisGetReply(context_, &raw), REDIS_OK) << context_->errstr;
    const Reply reply(static_cast<redisReply*>(raw));
    ASSERT_EQ(reply->integer, i);
  }
}

TEST_F(HiredisTest, ATransaction) {
  EXPECT_EQ(Text(Command("MULTI")), "OK");
  EXPECT_EQ(Text(Command("SET a 1")), "QUEUED");
  EXPECT_EQ(Text(Command("INCR a")), "QUEUED");
  const Reply reply = Command("EXEC");
  ASSERT_EQ(reply->type, REDIS_REPLY_ARRAY);
  ASSERT_EQ(reply->elements, 2U);
  EXPECT_EQ(reply->element[1]->integer, 2);
}

TEST_F(HiredisTest, TheUnixSocketAndAProtocolError) {
  redisContext* local = ::redisConnectUnix((directory_ + "/s").c_str());
  ASSERT_NE(local, nullptr);
  ASSERT_EQ(local->err, 0) << local->errstr;
  EXPECT_EQ(Text(Reply(static_cast<redisReply*>(::redisCommand(local, "PING")))), "PONG");
  ::redisFree(local);

  ASSERT_EQ(::redisAppendFormattedCommand(context_, "*1\r\n$x\r\n", 8), REDIS_OK);
  void* raw = nullptr;
  ASSERT_EQ(::redisGetReply(context_, &raw), REDIS_OK);
  EXPECT_EQ(Text(Reply(static_cast<redisReply*>(raw))), "ERR Protocol error: invalid bulk length");
  EXPECT_EQ(Command("PING"), nullptr);  // the connection is closed
  ASSERT_EQ(::redisReconnect(context_), REDIS_OK);
  EXPECT_EQ(Text(Command("PING")), "PONG");
}

}  // namespace

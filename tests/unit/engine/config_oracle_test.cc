// Config against redis-server 7.0.15: the same names, the same defaults and the same errors of
// whole commands. Skipped where redis-server is not installed.

#include <gtest/gtest.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "server/engine/config.h"
#include "server/engine/settings_table.h"
#include "server/platform/env.h"
#include "server/platform/working_directory.h"

namespace cairn {
namespace {

constexpr const char* kOraclePath = "/usr/bin/redis-server";

int FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(fd);
  return bound ? ntohs(address.sin_port) : 0;
}

/// A redis-server of its own in a directory of its own.
class Oracle {
 public:
  explicit Oracle(const std::string& config_text) {
    char pattern[] = "/tmp/cairn-config-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    port_ = FreePort();
    std::ofstream(conf()) << config_text;
    pid_ = ::fork();
    if (pid_ == 0) {
      const std::string port = std::to_string(port_);
      if (::chdir(directory_.c_str()) != 0) ::_exit(126);
      ::execl(kOraclePath, kOraclePath, conf().c_str(), "--port", port.c_str(), "--logfile",
              "oracle.log", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (context_ == nullptr && std::chrono::steady_clock::now() < deadline) {
      context_ = ::redisConnect("127.0.0.1", port_);
      if (context_ != nullptr && context_->err != 0) {
        ::redisFree(context_);
        context_ = nullptr;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
    // An oracle that hangs must not hang the test.
    if (context_ != nullptr) ::redisSetTimeout(context_, {.tv_sec = 20, .tv_usec = 0});
  }
  ~Oracle() {
    if (context_ != nullptr) ::redisFree(context_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(directory_);
  }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  bool ready() const { return context_ != nullptr; }
  int port() const { return port_; }
  const std::string& directory() const { return directory_; }
  std::string conf() const { return directory_ + "/redis.conf"; }

  /// The reply's strings; an error or a status is one string.
  std::vector<std::string> Run(const std::vector<std::string>& words) {
    std::vector<const char*> data;
    std::vector<size_t> sizes;
    for (const std::string& word : words) {
      data.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto* reply = static_cast<redisReply*>(
        ::redisCommandArgv(context_, static_cast<int>(words.size()), data.data(), sizes.data()));
    std::vector<std::string> result;
    EXPECT_NE(reply, nullptr) << "connection lost at " << words.back();
    if (reply == nullptr) return {"connection lost"};
    if (reply->type == REDIS_REPLY_ARRAY) {
      for (size_t i = 0; i < reply->elements; ++i) {
        result.emplace_back(reply->element[i]->str, reply->element[i]->len);
      }
    } else {
      result.emplace_back(reply->str, reply->len);
    }
    ::freeReplyObject(reply);
    return result;
  }
  std::map<std::string, std::string> GetAll() {
    std::map<std::string, std::string> all;
    const std::vector<std::string> flat = Run({"CONFIG", "GET", "*"});
    for (size_t i = 0; i + 1 < flat.size(); i += 2) all[flat[i]] = flat[i + 1];
    return all;
  }

 private:
  std::string directory_;
  int port_ = 0;
  pid_t pid_ = -1;
  redisContext* context_ = nullptr;
};

/// Stays where it is, under any name it is given.
class FixedDirectory final : public WorkingDirectory {
 public:
  explicit FixedDirectory(std::string path) : path_(std::move(path)) {}
  Status Change(const std::string& path) override {
    if (path == path_ || path == "." || path == "./") return Status::Ok();
    return Status::Io("No such file or directory");
  }
  std::string Current() const override { return path_; }

 private:
  std::string path_;
};

class ConfigOracleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kOraclePath)) GTEST_SKIP() << "no redis-server here";
  }
  std::unique_ptr<Env> env_ = NewPosixEnv();
};

/// Settings that Redis does not have.
const std::set<std::string> kOurs = {
    "rdb-verify",         "snapshot-retained-limit",    "snapshot-max-write-delay",
    "snapshot-cpu-limit", "snapshot-over-limit-policy", "aof-load-corrupt-tail",
    "aof-checksum",       "aof-buffer-limit",           "aof-unsynced-limit",
    "aof-error-policy",   "tensor-memory-limit",        "io-uring",
    "blob-arena-reserve"};

TEST_F(ConfigOracleTest, SameNamesAndDefaults) {
  Oracle oracle("");
  ASSERT_TRUE(oracle.ready());
  FixedDirectory directory(oracle.directory());
  Config config(*env_, directory);
  std::map<std::string, std::string> theirs = oracle.GetAll();
  ASSERT_GT(theirs.size(), 180U);
  const std::string_view all[] = {"*"};
  std::map<std::string, std::string> ours;
  for (const auto& [name, value] : config.Get(all)) {
    if (kOurs.contains(name)) continue;
    EXPECT_TRUE(ours.emplace(name, value).second) << name;
  }
  for (const char* given : {"port", "logfile"}) ours[given] = theirs[given];
  EXPECT_EQ(ours, theirs);
}

/// The judgement of single values and the rewritten file are compared by
/// tests/compat/test_settings.py.
TEST_F(ConfigOracleTest, SameErrorsOfWholeCommands) {
  Oracle oracle("save \"\"\n");
  ASSERT_TRUE(oracle.ready());
  FixedDirectory directory(oracle.directory());
  Config config(*env_, directory);
  const std::vector<std::vector<std::string>> cases = {
      {"hz", "5", "hz", "6"},
      {"HZ", "5", "hz", "6"},
      {"slave-priority", "5", "replica-priority", "6"},
      {"hz", "7", "timeout", "abc"},
      {"daemonize", "7", "nosuch", "abc"},
      {"nosuch", "7", "daemonize", "abc"},
      {"NoSuch", "1"},
      {"SLAVE-Priority", "x"},
      {"DaemonizE", "x"},
      {"dbfilename", "x", "hz", "y"},
      {"timeout", "7", "hz", "20", "maxmemory", "1gb"}};
  for (const std::vector<std::string>& words : cases) {
    std::vector<std::string> command = {"CONFIG", "SET"};
    command.insert(command.end(), words.begin(), words.end());
    std::vector<Config::NameAndValue> pairs;
    for (size_t i = 0; i < words.size(); i += 2) pairs.emplace_back(words[i], words[i + 1]);
    const Status status = config.Set(pairs, {});
    EXPECT_EQ(status.ok() ? "OK" : std::string(status.message()), oracle.Run(command)[0])
        << words[0];
    for (const char* name : {"hz", "timeout", "replica-priority", "maxmemory"}) {
      EXPECT_EQ(config.GetOne(name), oracle.Run({"CONFIG", "GET", name})[1]) << words[0];
    }
  }
}

}  // namespace
}  // namespace cairn

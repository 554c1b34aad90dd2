// Config against redis-server 7.0.15: the same names, the same defaults, the same judgement of
// values and the same rewritten file. Skipped where redis-server is not installed.

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
#include <sstream>
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
    "aof-checksum",       "aof-buffer-limit",           "aof-error-policy",
    "tensor-memory-limit"};

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

/// Every setting that can change, with values good and bad: the same reply, and the same value
/// afterwards.
TEST_F(ConfigOracleTest, SameJudgementOfValues) {
  Oracle oracle("save \"\"\n");
  ASSERT_TRUE(oracle.ready());
  FixedDirectory directory(oracle.directory());
  // Changing these makes the oracle act on its sockets, files or processes, or ask for a password.
  const std::set<std::string> kActs = {
      "bind", "port",        "tls-port",        "requirepass",      "appendonly", "watchdog-period",
      "dir",  "tls-cluster", "tls-replication", "repl-backlog-size"};
  const std::vector<std::string> values = {"",
                                           "0",
                                           "1",
                                           "-1",
                                           "+1",
                                           " 1",
                                           "01",
                                           "1 ",
                                           "100",
                                           "101",
                                           "65536",
                                           "1kb",
                                           "1K",
                                           "1mB",
                                           "2gb",
                                           "1tb",
                                           "b",
                                           "5%",
                                           "101%",
                                           "%",
                                           "-5%",
                                           "abc",
                                           "yes",
                                           "NO",
                                           "Yes ",
                                           "no",
                                           "always",
                                           "local",
                                           "default",
                                           "save",
                                           "save nosave",
                                           "default now",
                                           "now  save",
                                           "60 1",
                                           "60 1 30",
                                           "0 1",
                                           "60 0 7 7",
                                           "1 2 3",
                                           "-2000 0 2000",
                                           "-2001 0 0",
                                           "99.999",
                                           "50 nan",
                                           "1e1 0.5",
                                           "101.5",
                                           "normal 1mb 2mb 3",
                                           "replica 1mb 2kb 3 pubsub 0 0 0",
                                           "slave 1 2 -1",
                                           "master 0 0 0",
                                           "normal 1 2",
                                           "KEA",
                                           "gK$lshzxetdmn",
                                           "Km",
                                           "q",
                                           "a/b",
                                           "{title}",
                                           "{x",
                                           "{nosuch}",
                                           "host.name-1",
                                           "a b",
                                           "2147483647",
                                           "2147483648",
                                           "4294967295",
                                           "4294967296",
                                           "9223372036854775807",
                                           "9223372036854775808",
                                           "-2147483648",
                                           "-2147483649",
                                           "volatile-ttl",
                                           "relative",
                                           "absolute",
                                           "swapdb",
                                           "warning",
                                           "1048575",
                                           "1048576"};
  // Some values would make the oracle close the connection that sets them.
  ASSERT_EQ(oracle.Run({"CLIENT", "NO-EVICT", "on"})[0], "OK");
  Config config(*env_, directory);
  ASSERT_TRUE(config.LoadText("save \"\"\n").ok());
  config.MutableSettings().logfile = "oracle.log";
  int compared = 0;
  for (const SettingSpec* spec : AllSettings()) {
    for (const char* name : {spec->name, spec->alias}) {
      if (name == nullptr || kOurs.contains(name) || kActs.contains(name)) continue;
      for (const std::string& value : values) {
        // Redis gives these to its own machinery, which may refuse them for reasons of the moment.
        if (std::string_view(name).starts_with("tls-") && value == "yes") continue;
        const std::string theirs = oracle.Run({"CONFIG", "SET", name, value})[0];
        if (theirs.find("Unable to") != std::string::npos ||
            theirs.find("not able to handle") != std::string::npos ||
            theirs.find("Failed to apply") != std::string::npos) {
          continue;
        }
        const std::pair<std::string, std::string> pair[] = {{name, value}};
        const Status status = config.Set(pair, {});
        const std::string mine = status.ok() ? "OK" : std::string(status.message());
        ASSERT_NE(theirs, "connection lost");
        EXPECT_EQ(mine, theirs) << name << " '" << value << "'";
        if (mine != theirs) continue;
        const std::vector<std::string> got = oracle.Run({"CONFIG", "GET", name});
        ASSERT_EQ(got.size(), 2U) << name;
        EXPECT_EQ(config.GetOne(name), got[1]) << name << " '" << value << "'";
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 10000);
}

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

std::string Slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A rewritten file in two parts: lines up to the marker in order, those after it sorted, because
/// Redis appends in the order of a hash table with a random seed.
std::pair<std::string, std::multiset<std::string>> Parts(const std::string& text) {
  const size_t marker = text.find("# Generated by CONFIG REWRITE\n");
  std::multiset<std::string> tail;
  std::istringstream lines(marker == std::string::npos ? "" : text.substr(marker));
  for (std::string line; std::getline(lines, line);) tail.insert(line);
  return {text.substr(0, marker), tail};
}

TEST_F(ConfigOracleTest, SameRewrittenFile) {
  const std::string text =
      "# top comment\n\n\n  hz   20  \nport 1\nlogfile x\nSAVE 10 1\n# between\nsave 20 2\nsave 30 "
      "3\nslave-priority 7\nmaxmemory 1048576\nmaxmemory 2097152\nnotify-keyspace-events "
      "\"Ex\"\n\n\nclient-output-buffer-limit pubsub 1mb 1 1\nclient-output-buffer-limit normal 5 "
      "5 5\nmasterauth \"a \\x01 b\"\nrename-command FLUSHALL \"\"\nlatency-tracking-info-"
      "percentiles 50\nbind 127.0.0.1\nhash-max-ziplist-entries 9\npidfile "
      "\"\"\nreplica-announce-ip "
      "1.2.3.4\nmaxmemory-clients 5%\nunixsocketperm 700\nshutdown-on-sigint save now\n"
      "list-max-ziplist-entries 5\n# end\n";
  Oracle oracle(text);
  ASSERT_TRUE(oracle.ready());
  const std::string mine = oracle.directory() + "/mine.conf";
  std::ofstream(mine) << text;
  FixedDirectory directory(oracle.directory());
  Config config(*env_, directory);
  const std::vector<std::string> arguments = {mine, "--port", std::to_string(oracle.port()),
                                              "--logfile", "oracle.log"};
  // The oracle opened its log in its own directory; ours is left where no test runs.
  const Status loaded = config.Load(ParseLaunchArguments(std::span(arguments).first(3)), "");
  ASSERT_EQ(loaded.message(), "");
  config.MutableSettings().logfile = "oracle.log";
  std::filesystem::remove("x");
  config.SetLineSource("user", [] {
    return std::vector<std::string>{"default on nopass sanitize-payload ~* &* +@all"};
  });
  const std::vector<std::vector<std::string>> steps = {
      {},
      {"hz", "10"},
      {"save", "10 1", "maxmemory", "3000", "notify-keyspace-events", ""},
      {"save", "", "replica-announce-ip", "", "masterauth", "", "timeout", "3"},
      {"hash-max-listpack-entries", "512", "bind", "127.0.0.1 -::1", "shutdown-on-sigint",
       "default"},
      {"oom-score-adj", "yes", "appendfsync", "no", "maxmemory-clients", "0", "save", "1 1 2 2"}};
  for (const std::vector<std::string>& step : steps) {
    if (!step.empty()) {
      std::vector<std::string> command = {"CONFIG", "SET"};
      command.insert(command.end(), step.begin(), step.end());
      ASSERT_EQ(oracle.Run(command)[0], "OK") << step[0];
      std::vector<Config::NameAndValue> pairs;
      for (size_t i = 0; i < step.size(); i += 2) pairs.emplace_back(step[i], step[i + 1]);
      ASSERT_EQ(config.Set(pairs, {}).message(), "");
    }
    ASSERT_EQ(oracle.Run({"CONFIG", "REWRITE"})[0], "OK");
    ASSERT_TRUE(config.Rewrite().ok());
    const std::string theirs = Slurp(oracle.conf());
    const std::string ours = Slurp(mine);
    EXPECT_EQ(Parts(ours).first, Parts(theirs).first) << "step " << (step.empty() ? "" : step[0]);
    EXPECT_EQ(Parts(ours).second, Parts(theirs).second) << "step " << (step.empty() ? "" : step[0]);
  }
}

}  // namespace
}  // namespace cairn

// What surrounds the data: CONFIG, COMMAND, CLIENT, DEBUG, INFO. Their replies are compared with
// redis-server's in tests/compat; here is what they do inside the engine.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ClientCommands();
CommandFamily CommandCommands();
CommandFamily ConfigCommands();
CommandFamily DebugCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();

namespace {

class AdminTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.engine().config.MutableSettings().enable_debug_command = GuardedAccess::kYes;
  }
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  /// The value of a field in INFO's text; empty when it is not there.
  std::string Info(const std::string& section, const std::string& field) {
    const std::string text = harness_.Call({"INFO", section}).text;
    const size_t at = text.find("\r\n" + field + ":");
    if (at == std::string::npos) return "";
    const size_t begin = at + 2 + field.size() + 1;
    return text.substr(begin, text.find("\r\n", begin) - begin);
  }

  CommandHarness harness_{ClientCommands(),    CommandCommands(), ConfigCommands(),
                          DebugCommands(),     KeyCommands(),     KeyExpireCommands(),
                          ServerCommands(),    SessionCommands(), StringCommands(),
                          StringEditCommands()};
};

TEST_F(AdminTest, ChangeReplIdGivesAnotherIdentity) {
  const std::string before = Info("replication", "master_replid");
  EXPECT_EQ(Run({"DEBUG", "CHANGE-REPL-ID"}), "+OK");
  const std::string after = Info("replication", "master_replid");
  EXPECT_EQ(after.size(), 40U);
  EXPECT_NE(after, before);
}

TEST_F(AdminTest, RunTimesAreKeptWhileTheyAreTracked) {
  EXPECT_EQ(Info("latencystats", "latency_percentiles_usec_get"), "");
  Run({"GET", "a"});
  const std::string percentiles = Info("latencystats", "latency_percentiles_usec_get");
  EXPECT_TRUE(percentiles.starts_with("p50=")) << percentiles;
  EXPECT_NE(percentiles.find(",p99="), std::string::npos);
  EXPECT_NE(percentiles.find(",p99.9="), std::string::npos);
  Run({"CONFIG", "SET", "latency-tracking-info-percentiles", "25"});
  EXPECT_TRUE(Info("latencystats", "latency_percentiles_usec_get").starts_with("p25="));
  Run({"CONFIG", "SET", "latency-tracking", "no"});
  Run({"SET", "a", "1"});
  EXPECT_EQ(Info("latencystats", "latency_percentiles_usec_set"), "");
  Run({"CONFIG", "RESETSTAT"});
  EXPECT_EQ(Info("latencystats", "latency_percentiles_usec_get"), "");
}

TEST_F(AdminTest, TimeSpentOnActiveExpiryIsCounted) {
  Keyspace& keyspace = harness_.engine().keyspace;
  while (keyspace.figures().expire_cycle_us < 2000) keyspace.ActiveExpire(1000, 1);
  EXPECT_EQ(Info("stats", "expire_cycle_cpu_milliseconds"),
            std::to_string(keyspace.figures().expire_cycle_us / 1000));
  Run({"CONFIG", "RESETSTAT"});
  EXPECT_EQ(Info("stats", "expire_cycle_cpu_milliseconds"), "0");
}

TEST_F(AdminTest, FlagsOfAKeyDependOnTheOptions) {
  EXPECT_EQ(Run({"COMMAND", "GETKEYSANDFLAGS", "SET", "a", "b"}), "[[\"a\", [+OW, +update]]]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYSANDFLAGS", "SET", "a", "b", "get"}),
            "[[\"a\", [+RW, +access, +update]]]");
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "SET", "a", "b"}), "[\"a\"]");
}

TEST_F(AdminTest, QueueingIsRefusedWithoutMemory) {
  Run({"CONFIG", "SET", "maxmemory", "1"});
  const std::string oom = "-OOM command not allowed when used memory > 'maxmemory'.";
  EXPECT_EQ(Run({"GET", "a"}), "nil");
  EXPECT_EQ(Run({"MULTI"}), "+OK");
  EXPECT_EQ(Run({"GET", "a"}), oom);
  EXPECT_EQ(Run({"EXEC"}), "-EXECABORT Transaction discarded because of previous errors.");
  EXPECT_EQ(Run({"MULTI"}), "+OK");
  EXPECT_EQ(Run({"DISCARD"}), "+OK");
}

TEST_F(AdminTest, TheLastMomentIsRoundedUp) {
  Run({"SET", "a", "1", "PXAT", "9223372036854775807"});
  EXPECT_EQ(Run({"PEXPIRETIME", "a"}), ":9223372036854775807");
  EXPECT_EQ(Run({"EXPIRETIME", "a"}), ":9223372036854776");
}

}  // namespace
}  // namespace cairn

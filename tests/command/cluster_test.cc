// CLUSTER and its kin on a server without cluster mode; RESTORE-ASKING; what the table says of
// their keys. Expected texts were taken from redis-server 7.0.15.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ClusterCommands();
CommandFamily CommandCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily MigrateCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

constexpr char kDisabled[] = "-ERR This instance has cluster support disabled";

class ClusterTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }

  CommandHarness harness_{ClusterCommands(), CommandCommands(), KeyCommands(),   KeyDumpCommands(),
                          MigrateCommands(), SessionCommands(), StringCommands()};
};

TEST_F(ClusterTest, EverySubcommandAnswersAlike) {
  size_t asked = 0;
  for (const auto& command : harness_.engine().commands.all()) {
    if (command->parent == nullptr || command->parent->spec->name != "cluster") continue;
    std::vector<std::string> args = {"CLUSTER", std::string(command->spec->name)};
    const int arity = command->spec->arity;
    args.resize(static_cast<size_t>(arity < 0 ? -arity : arity), "1");
    EXPECT_EQ(Run(args), kDisabled) << command->full_name;
    ++asked;
  }
  EXPECT_EQ(asked, 27u);
  for (const char* name : {"ASKING", "READONLY", "READWRITE"}) EXPECT_EQ(Run({name}), kDisabled);
}

TEST_F(ClusterTest, FormIsJudgedFirst) {
  EXPECT_EQ(Run({"CLUSTER", "INFO", "x"}),
            "-ERR wrong number of arguments for 'cluster|info' command");
  EXPECT_EQ(Run({"CLUSTER", "BOGUS"}), "-ERR unknown subcommand 'BOGUS'. Try CLUSTER HELP.");
  EXPECT_EQ(Run({"CLUSTER"}), "-ERR wrong number of arguments for 'cluster' command");
}

TEST_F(ClusterTest, RestoreAskingIsRestore) {
  Run({"SET", "s", "value"});
  const std::string payload = harness_.Call({"DUMP", "s"}).text;
  EXPECT_EQ(Run({"RESTORE-ASKING", "t", "0", payload}), "+OK");
  EXPECT_EQ(Run({"GET", "t"}), "\"value\"");
  EXPECT_EQ(Run({"RESTORE-ASKING", "t", "0", payload}), "-BUSYKEY Target key name already exists.");
}

TEST_F(ClusterTest, KeysOfMigrate) {
  const auto keys = [this](std::vector<std::string> args) {
    args.insert(args.begin(), {"COMMAND", "GETKEYS", "MIGRATE", "host", "1"});
    return Run(args);
  };
  EXPECT_EQ(keys({"a", "0", "1"}), "[\"a\"]");
  EXPECT_EQ(keys({"", "0", "1", "COPY", "KEYS", "a", "b"}), "[\"a\", \"b\"]");
  EXPECT_EQ(keys({"", "0", "1", "AUTH", "keys", "KEYS", "a"}), "[\"a\"]");
  EXPECT_EQ(keys({"a", "0", "1", "KEYS", "b"})[0], '-');
}

// What needs no target; the rest is tests/e2e/test_migrate.py.
TEST_F(ClusterTest, MigrateOfNothingAsksNobody) {
  EXPECT_EQ(Run({"MIGRATE", "127.0.0.1", "1", "none", "0", "10"}), "+NOKEY");
  EXPECT_EQ(Run({"MIGRATE", "127.0.0.1", "1", "", "0", "10", "KEYS"}), "+NOKEY");
  EXPECT_EQ(Run({"MIGRATE", "127.0.0.1", "1", "a", "0", "10", "KEYS", "b"}),
            "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty "
            "string");
  EXPECT_EQ(Run({"MIGRATE", "127.0.0.1", "1", "a", "0", "10", "AUTH"}), "-ERR syntax error");
  EXPECT_EQ(Run({"MIGRATE", "127.0.0.1", "1", "a", "x", "10"}),
            "-ERR value is not an integer or out of range");
}

}  // namespace
}  // namespace cairn

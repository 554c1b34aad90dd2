// The module host and its ABI, by way of tests/modules/probe.cc.

#include <gtest/gtest.h>

#include "server/engine/blocking.h"
#include "server/engine/dispatcher.h"
#include "server/engine/job_runner.h"
#include "server/engine/module_host.h"
#include "tests/support/command_harness.h"
#include "tests/support/fake_client.h"

namespace cairn {

CommandFamily CommandCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily MemoryCommands();
CommandFamily ModuleCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

constexpr char kProbe[] = CAIRN_LIB_DIR "/probe.so";

class ModuleTest : public testing::Test {
 protected:
  ModuleTest() {
    host_.Attach(harness_.engine());
    harness_.engine().jobs = jobs_.get();
    harness_.engine().config.MutableSettings().enable_module_command = GuardedAccess::kYes;
  }
  ~ModuleTest() override {
    jobs_.reset();
    harness_.engine().jobs = nullptr;
  }
  Status Load(std::vector<std::string> arguments = {}) {
    return host_.LoadModule(kProbe, arguments);
  }
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }

  ModuleHost host_;  // before the keyspace, whose values it frees
  CommandHarness harness_{CommandCommands(),   KeyCommands(),     KeyDumpCommands(),
                          KeyExpireCommands(), KeyScanCommands(), MemoryCommands(),
                          ModuleCommands(),    SessionCommands(), StringCommands()};
  std::unique_ptr<JobRunner> jobs_ = std::make_unique<JobRunner>(harness_.engine());
};

// --- loading ---

TEST_F(ModuleTest, LoadListAndUnload) {
  EXPECT_EQ(Run({"PROBE.ECHO", "x"}),
            "-ERR unknown command 'PROBE.ECHO', with args beginning with: 'x' ");
  EXPECT_EQ(Run({"MODULE", "LOAD", kProbe, "plain", "words"}), "+OK");
  EXPECT_EQ(Run({"PROBE.ECHO", "x"}), "\"x\"");
  EXPECT_EQ(Run({"MODULE", "LIST"}), "[[\"name\", \"probe\", \"ver\", :7, \"path\", \"" +
                                         std::string(kProbe) +
                                         "\", \"args\", [\"plain\", \"words\"]]]");
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}), "+OK");
  EXPECT_TRUE(harness_.Call({"PROBE.ECHO", "x"}).IsError());
  EXPECT_EQ(Run({"MODULE", "LIST"}), "[]");
  EXPECT_EQ(Run({"MODULE", "LOAD", kProbe}), "+OK") << "it can come back";
  EXPECT_EQ(Run({"PROBE.ECHO", "y"}), "\"y\"");
}

TEST_F(ModuleTest, LoadExTakesArgumentsAndRefusesSettings) {
  EXPECT_EQ(Run({"MODULE", "LOADEX", kProbe, "CONFIG", "probe.x", "1", "ARGS", "a"}),
            "-ERR Error loading the extension. Please check the server logs.");
  EXPECT_EQ(Run({"MODULE", "LOADEX", kProbe, "BOGUS"}), "-ERR syntax error");
  EXPECT_EQ(Run({"MODULE", "LOADEX", kProbe, "ARGS", "a", "b"}), "+OK");
  EXPECT_EQ(host_.modules()[0].arguments, (std::vector<std::string>{"a", "b"}));
}

TEST_F(ModuleTest, BrokenModulesLeaveNoTrace) {
  for (const char* how : {"fail", "undescribed", "taken", "unfound"}) {
    EXPECT_EQ(Run({"MODULE", "LOAD", kProbe, how}),
              "-ERR Error loading the extension. Please check the server logs.")
        << how;
    EXPECT_TRUE(host_.modules().empty()) << how;
  }
  EXPECT_TRUE(Run({"GET", "k"}) == "nil");
  EXPECT_FALSE(host_.LoadModule("/nonexistent.so", {}).ok());
  EXPECT_TRUE(Load().ok());
  EXPECT_FALSE(Load().ok()) << "twice";
}

TEST_F(ModuleTest, UnloadSaysWhyNot) {
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}),
            "-ERR Error unloading module: no such module with that name");
  ASSERT_TRUE(Load({"type"}).ok());
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}),
            "-ERR Error unloading module: the module exports one or more module-side data types, "
            "can't unload");
}

TEST_F(ModuleTest, UnloadDiscardsTransactionsThatQueuedItsCommands) {
  ASSERT_TRUE(Load().ok());
  FakeClient other(harness_);
  other.Send({{"MULTI"}, {"PROBE.ECHO", "x"}});
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}), "+OK");
  other.TakeReplies();
  other.Send({{"EXEC"}});
  EXPECT_EQ(other.TakeReplies(),
            "-EXECABORT Transaction discarded because of previous errors.\r\n");
  // And within the very transaction.
  ASSERT_TRUE(Load().ok());
  other.Send(
      {{"MULTI"}, {"MODULE", "UNLOAD", "probe"}, {"PROBE.ECHO", "x"}, {"GET", "k"}, {"EXEC"}});
  EXPECT_EQ(other.TakeReplies(),
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n-ERR unknown command "
            "'PROBE.ECHO', with args beginning with: 'x' \r\n$-1\r\n");
}

TEST_F(ModuleTest, CommandsOfOneBatchSeeLoadAndUnload) {
  FakeClient client(harness_);
  client.Send({{"MODULE", "LOAD", kProbe},
               {"PROBE.ECHO", "a"},
               {"MODULE", "UNLOAD", "probe"},
               {"PROBE.JOBS"}});
  EXPECT_EQ(
      client.TakeReplies(),
      "+OK\r\n$1\r\na\r\n+OK\r\n-ERR unknown command 'PROBE.JOBS', with args beginning with: \r\n");
}

TEST_F(ModuleTest, CommandInfoShowsTheModuleFlagAndTheKey) {
  ASSERT_TRUE(Load({"type"}).ok());
  const RespValue info = harness_.Call({"COMMAND", "INFO", "probe.set"}).elements[0];
  EXPECT_EQ(info.elements[0].text, "probe.set");
  EXPECT_EQ(info.elements[1].integer, -3);
  EXPECT_EQ(info.elements[2].ToString(), "[+write, +denyoom, +module]");
  EXPECT_EQ(info.elements[3].integer, 1);
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "probe.get", "k"}), "[\"k\"]");
  const std::string docs = Run({"COMMAND", "DOCS", "probe.echo"});
  EXPECT_NE(docs.find("\"group\", \"module\""), std::string::npos) << docs;
  EXPECT_NE(docs.find("\"module\", \"probe\""), std::string::npos) << docs;
}

// --- replies ---

TEST_F(ModuleTest, EveryKindOfReplyInBothProtocols) {
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Run({"PROBE.KINDS"}),
            "[+OK, :-1, \"18446744073709551615\", \"1.5\", \"b\", \"xxx\", nil, [\"k\", :1]]");
  harness_.Call({"HELLO", "3"});
  EXPECT_EQ(Run({"PROBE.KINDS"}),
            "[+OK, :-1, (18446744073709551615, ,1.5, \"b\", \"xxx\", nil, {\"k\": :1}]");
  EXPECT_EQ(Run({"PROBE.FAIL"}), "-PROBE it failed");
}

// --- values ---

TEST_F(ModuleTest, ValuesAreKeysLikeOthers) {
  ASSERT_TRUE(Load({"type"}).ok());
  EXPECT_EQ(Run({"PROBE.SET", "k", "hello"}), "+OK");
  EXPECT_EQ(harness_.TakePropagated(), (std::vector<std::string>{"SELECT 0", "PROBE.SET k hello"}));
  EXPECT_EQ(harness_.TakeEvents(), (std::vector<std::string>{"0 new k", "0 probe.set k"}));
  EXPECT_EQ(Run({"TYPE", "k"}), "+probe");
  EXPECT_EQ(Run({"OBJECT", "ENCODING", "k"}), "\"raw\"");
  EXPECT_EQ(Run({"GET", "k"}),
            "-WRONGTYPE Operation against a key holding the wrong kind of value");
  EXPECT_EQ(Run({"COPY", "k", "c"}), ":1");
  EXPECT_EQ(Run({"RENAME", "c", "d"}), "+OK");
  EXPECT_EQ(Run({"PROBE.GET", "d"}), "\"hello\"");
  EXPECT_EQ(Run({"SCAN", "0", "TYPE", "probe", "MATCH", "d"}), "[\"0\", [\"d\"]]");
  EXPECT_GT(harness_.Call({"MEMORY", "USAGE", "k"}).integer, 5);
  EXPECT_EQ(Run({"SET", "s", "x"}), "+OK");
  EXPECT_EQ(Run({"PROBE.GET", "s"}), "-WRONGTYPE not a probe");
  EXPECT_EQ(Run({"PROBE.GET", "none"}), "nil");
}

TEST_F(ModuleTest, TtlIsSetKeptAndEnds) {
  ASSERT_TRUE(Load({"type"}).ok());
  Run({"PROBE.SET", "k", "a", "5000"});
  EXPECT_EQ(Run({"PTTL", "k"}), ":5000");
  Run({"PROBE.SET", "k", "b"});
  EXPECT_EQ(Run({"PTTL", "k"}), ":5000");
  harness_.AdvanceMs(5001);
  EXPECT_EQ(Run({"PROBE.GET", "k"}), "nil");
}

TEST_F(ModuleTest, DumpAndRestoreWithAndWithoutTheModule) {
  ASSERT_TRUE(Load({"type"}).ok());
  Run({"PROBE.SET", "k", "hello"});
  const std::string payload = harness_.Call({"DUMP", "k"}).text;
  EXPECT_EQ(Run({"RESTORE", "r", "0", payload}), "+OK");
  EXPECT_EQ(Run({"PROBE.GET", "r"}), "\"hello\"");

  ModuleHost bare_host;
  CommandHarness bare{KeyCommands(), KeyDumpCommands(), KeyScanCommands(), ModuleCommands()};
  bare_host.Attach(bare.engine());
  EXPECT_EQ(bare.Run({"RESTORE", "k", "0", payload}), "+OK");
  EXPECT_EQ(bare.Run({"TYPE", "k"}), "+probe--03") << "the name in the file";
  EXPECT_EQ(bare.Call({"DUMP", "k"}).text, payload) << "kept byte for byte";
  EXPECT_EQ(bare.Run({"COPY", "k", "c"}), ":1");
  EXPECT_EQ(bare.Call({"DUMP", "c"}).text, payload);
  // The module comes after its value.
  const std::vector<std::string> type = {"type"};
  ASSERT_TRUE(bare_host.LoadModule(kProbe, type).ok());
  EXPECT_EQ(bare.Run({"PROBE.GET", "k"}), "\"hello\"");
  EXPECT_EQ(bare.Call({"DUMP", "k"}).text, payload);
}

// --- jobs ---

TEST_F(ModuleTest, AJobSuspendsItsClientOnlyAndKeepsItsOrder) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_), other(harness_);
  client.Send(
      {{"PROBE.DOUBLE", "ab"}, {"SET", "k", "later"}, {"PROBE.DOUBLE", "cd"}, {"GET", "k"}});
  EXPECT_TRUE(client.session().suspended);
  EXPECT_EQ(client.TakeReplies(), "");
  other.Send({{"GET", "k"}, {"SET", "k", "first"}});
  EXPECT_EQ(other.TakeReplies(), "$-1\r\n+OK\r\n");

  ASSERT_TRUE(harness_.RunPosted());
  ASSERT_TRUE(client.input_ready);
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "*3\r\n$4\r\nabab\r\n:1\r\n:0\r\n+OK\r\n");
  ASSERT_TRUE(harness_.RunPosted());
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "*3\r\n$4\r\ncdcd\r\n:1\r\n:1\r\n$5\r\nlater\r\n");
  EXPECT_FALSE(client.session().suspended);
  EXPECT_EQ(Run({"PROBE.JOBS"}), "[:2, :2]");
}

TEST_F(ModuleTest, AJobIsCountedOnceAndItsErrorIsItsReply) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  const uint64_t before = harness_.engine().stats.commands_processed;
  client.Send({{"PROBE.DOUBLE", "bad"}});
  EXPECT_EQ(harness_.engine().stats.commands_processed, before + 1) << "when it begins";
  ASSERT_TRUE(harness_.RunPosted());
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "-PROBE bad word\r\n");
  EXPECT_EQ(harness_.engine().stats.commands_processed, before + 1);
  const Command* command = harness_.engine().commands.Find("probe.double");
  EXPECT_EQ(command->counters.calls, 1u);
  EXPECT_EQ(command->counters.failed, 1u);
}

TEST_F(ModuleTest, AClientThatWaitedForAKeyMayHandWorkOver) {
  ASSERT_TRUE(Load().ok());
  const BlockingTable& blocking = harness_.engine().blocking;
  FakeClient client(harness_), second(harness_);
  client.Send({{"PROBE.AWAIT", "k"}, {"SET", "behind", "1"}});
  second.Send({{"PROBE.AWAIT", "k"}});
  EXPECT_EQ(blocking.blocked_count(), 2u);
  const uint64_t before = harness_.engine().stats.commands_processed;
  Run({"SET", "k", "v"});
  blocking.CheckInvariants();
  EXPECT_EQ(blocking.blocked_count(), 0u) << "it waits for a worker now";
  EXPECT_EQ(blocking.deadline_count(), 0u);
  EXPECT_EQ(client.TakeReplies(), "");
  EXPECT_TRUE(client.session().suspended && client.session().job != 0);
  EXPECT_EQ(Run({"EXISTS", "behind"}), ":0");
  EXPECT_EQ(harness_.engine().stats.commands_processed, before + 2) << "SET and EXISTS";
  second.Disconnect();
  while (jobs_->working() > 0) ASSERT_TRUE(harness_.RunPosted());
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies().substr(0, 16), "*3\r\n$2\r\nkk\r\n:1\r\n");
  EXPECT_EQ(Run({"EXISTS", "behind"}), ":1");
  EXPECT_EQ(harness_.engine().commands.Find("probe.await")->counters.calls, 2u) << "both began";
  EXPECT_EQ(Run({"PROBE.JOBS"}), "[:2, :2]");
  client.Send({{"PROBE.AWAIT", "none"}});
  harness_.engine().dispatcher->UnblockByTimeout(client.session());
  EXPECT_EQ(client.TakeReplies(), "$-1\r\n") << "it is parked as before";
}

TEST_F(ModuleTest, AClientThatGoesAwayGetsItsJobDropped) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_), closing(harness_);
  client.Send({{"PROBE.DOUBLE", "x"}});
  closing.Send({{"PROBE.DOUBLE", "y"}});
  client.Disconnect();
  closing.Close(false);
  while (jobs_->working() > 0) ASSERT_TRUE(harness_.RunPosted());
  EXPECT_EQ(Run({"PROBE.JOBS"}), "[:2, :2]");
  EXPECT_FALSE(client.input_ready || closing.input_ready);
}

TEST_F(ModuleTest, ShutdownDropsJobsThatAreUnderWay) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  client.Send({{"PROBE.DOUBLE", "x"}});
  jobs_ = std::make_unique<JobRunner>(harness_.engine());
  harness_.engine().jobs = jobs_.get();
  EXPECT_EQ(Run({"PROBE.JOBS"}), "[:1, :1]");
  EXPECT_TRUE(harness_.RunPosted()) << "what was posted finds nobody";
}

TEST_F(ModuleTest, WithoutAClientOrInATransactionAJobRunsAtOnce) {
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Run({"PROBE.DOUBLE", "ab"}), "[\"abab\", :0, :0]") << "a session without a port";
  FakeClient client(harness_);
  client.Send({{"MULTI"}, {"PROBE.DOUBLE", "x"}, {"EXEC"}});
  EXPECT_EQ(client.TakeReplies(), "+OK\r\n+QUEUED\r\n*1\r\n*3\r\n$2\r\nxx\r\n:0\r\n:1\r\n");
}

TEST_F(ModuleTest, AReplyThatIsSwitchedOffStaysOffThroughAJob) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  client.session().reply_mode = ReplyMode::kSkipNext;
  client.Send({{"PROBE.DOUBLE", "x"}, {"PROBE.ECHO", "seen"}});
  ASSERT_TRUE(harness_.RunPosted());
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "$4\r\nseen\r\n");
}

TEST_F(ModuleTest, ClientPauseHoldsAFinishedJobBack) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  client.Send({{"PROBE.DOUBLE", "x"}});
  harness_.engine().Pause(PauseReason::kCommand, PauseMode::kAll, harness_.now_ms() + 1000);
  ASSERT_TRUE(harness_.RunPosted());
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "");
  harness_.engine().EndPause(PauseReason::kCommand);
  EXPECT_FALSE(client.session().suspended);
  client.RunTurn();
  EXPECT_EQ(client.TakeReplies(), "*3\r\n$2\r\nxx\r\n:1\r\n:0\r\n");
}

TEST_F(ModuleTest, TheEndOfAPauseDoesNotWakeAClientWhoseJobRuns) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  client.Send({{"PROBE.DOUBLE", "x"}});
  EXPECT_FALSE(client.session().EndPause());
  EXPECT_TRUE(client.session().suspended);
  ASSERT_TRUE(harness_.RunPosted());
}

TEST_F(ModuleTest, UnloadWaitsForJobs) {
  ASSERT_TRUE(Load().ok());
  FakeClient client(harness_);
  client.Send({{"PROBE.DOUBLE", "x"}});
  const std::string busy =
      "-ERR Error unloading module: the module has blocked clients. Please wait for them to be "
      "unblocked and try again";
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}), busy);
  ASSERT_TRUE(harness_.RunPosted());
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}), busy) << "the second half has not run";
  client.RunTurn();
  EXPECT_EQ(Run({"MODULE", "UNLOAD", "probe"}), "+OK");
}

}  // namespace
}  // namespace cairn

// Replication as commands see it, without a network: the gates of a replica and of a primary with
// too few, who is granted a partial resync, what goes into the stream and comes out of it.

#include <gtest/gtest.h>

#include <string>

#include "tests/support/command_harness.h"
#include "tests/support/fake_client.h"

namespace cairn {

CommandFamily ClientCommands();
CommandFamily ConfigCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily DatabaseCommands();
CommandFamily ReplicationCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

class ReplicationTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  Primary& primary() { return harness_.replication().primary(); }
  const std::string& id() { return harness_.engine().replication_id; }
  /// Hands the stream over, as the end of a turn does.
  void HandOver() {
    if (!harness_.engine().propagation.empty())
      harness_.engine().replicas->OnStream(harness_.engine().propagation.Take().for_replicas());
  }
  /// REPLCONF, whose reply has left before PSYNC comes.
  static void Introduce(FakeClient& client, std::vector<std::string> words) {
    words.insert(words.begin(), "REPLCONF");
    client.Send({words});
    EXPECT_EQ(client.TakeReplies(), "+OK\r\n");
  }
  /// A session that has written something, which `replica` gets and has not acknowledged.
  Session& WriteBeside(FakeClient& replica) {
    primary().BeginBacklog(0);
    harness_.engine().propagation.set_fed(true);
    replica.Send({{"PSYNC", id(), "1"}});
    Session& writer = harness_.AddSession();
    harness_.CallOn(writer, {"SET", "k", "v"});
    HandOver();
    return writer;
  }
  /// What the replica's connection would send now.
  static std::string Sent(FakeClient& client) {
    std::string sent = client.TakeReplies();
    while (client.session().source != nullptr) {
      client.session().source->Fill(client.session());
      const std::string more = client.TakeReplies();
      if (more.empty()) break;
      sent += more;
    }
    return sent;
  }

  CommandHarness harness_{{ClientCommands(), ConfigCommands(), KeyCommands(), KeyExpireCommands(),
                           KeyScanCommands(), DatabaseCommands(), ReplicationCommands(),
                           ServerCommands(), SessionCommands(), StringCommands()}};
};

TEST_F(ReplicationTest, AReplicaRefusesWritesOfClients) {
  EXPECT_EQ(Run({"SET", "k", "v"}), "+OK");
  EXPECT_EQ(Run({"REPLICAOF", "127.0.0.1", "1"}), "+OK");
  EXPECT_EQ(Run({"REPLICAOF", "127.0.0.1", "1"}), "+OK Already connected to specified master");
  EXPECT_EQ(Run({"SET", "k", "w"}), "-READONLY You can't write against a read only replica.");
  EXPECT_EQ(Run({"GET", "k"}), "\"v\"");
  EXPECT_EQ(Run({"CONFIG", "GET", "replicaof"}), "[\"replicaof\", \"127.0.0.1 1\"]");
  harness_.SetSetting("replica-read-only", "no");
  EXPECT_EQ(Run({"SET", "k", "w"}), "+OK");
  EXPECT_EQ(Run({"REPLICAOF", "NO", "ONE"}), "+OK");
  harness_.SetSetting("replica-read-only", "yes");
  EXPECT_EQ(Run({"SET", "k", "x"}), "+OK");
}

TEST_F(ReplicationTest, AStaleReplicaAnswersOrNotAsItIsSet) {
  Run({"SET", "k", "v"});
  Run({"REPLICAOF", "127.0.0.1", "1"});
  EXPECT_EQ(Run({"GET", "k"}), "\"v\"");
  harness_.SetSetting("replica-serve-stale-data", "no");
  const std::string down =
      "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
  EXPECT_EQ(Run({"GET", "k"}), down);
  EXPECT_EQ(Run({"ROLE"}), "[\"slave\", \"127.0.0.1\", :1, \"connecting\", :-1]");
  Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_EQ(Run({"GET", "k"}), "\"v\"");
}

TEST_F(ReplicationTest, TooFewReplicasTakeNoWrites) {
  harness_.SetSetting("min-replicas-to-write", "1");
  EXPECT_EQ(Run({"SET", "k", "v"}), "-NOREPLICAS Not enough good replicas to write.");
  EXPECT_EQ(Run({"GET", "k"}), "nil");
  harness_.SetSetting("min-replicas-max-lag", "0");
  EXPECT_EQ(Run({"SET", "k", "v"}), "+OK");
}

TEST_F(ReplicationTest, AKeyPastItsTimeIsHiddenAndStaysOnAReplica) {
  Run({"SET", "k", "v", "PX", "100"});
  Run({"REPLICAOF", "127.0.0.1", "1"});
  harness_.TakePropagated();
  harness_.AdvanceMs(200);
  EXPECT_EQ(Run({"GET", "k"}), "nil");
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
  EXPECT_EQ(Run({"KEYS", "*"}), "[]");
  EXPECT_EQ(Run({"RANDOMKEY"}), "\"k\"");  // as Redis: all it has are past their time
  EXPECT_EQ(Run({"DBSIZE"}), ":1");
  EXPECT_TRUE(harness_.TakePropagated().empty());
  Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_EQ(Run({"GET", "k"}), "nil");
  EXPECT_EQ(Run({"DBSIZE"}), ":0");
}

TEST_F(ReplicationTest, TheStreamGoesOnWhereTheReplicaStopped) {
  primary().BeginBacklog(100);
  harness_.engine().propagation.set_fed(true);
  Run({"SET", "a", "1"});
  HandOver();
  const std::string select = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
  const std::string set_a = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
  ASSERT_EQ(primary().offset(), 100 + select.size() + set_a.size());

  FakeClient replica(harness_);
  Introduce(replica, {"listening-port", "7000", "capa", "psync2"});
  replica.Send({{"PSYNC", id(), std::to_string(101 + select.size())}});
  EXPECT_EQ(Sent(replica), "+CONTINUE " + id() + "\r\n" + set_a);
  Run({"SET", "b", "2"});
  HandOver();
  EXPECT_EQ(Sent(replica), "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n");
  EXPECT_EQ(primary().replica_count(), 1u);
  EXPECT_EQ(replica.session().kind, SessionKind::kReplica);

  // Nothing is said in the middle of the stream: an acknowledgement has no reply.
  const std::string offset = std::to_string(primary().offset());
  replica.Send({{"REPLCONF", "ACK", offset}});
  EXPECT_EQ(Sent(replica), "");
  EXPECT_EQ(primary().CountAcked(primary().offset()), 1u);
  EXPECT_EQ(Run({"ROLE"}), "[\"master\", :" + offset + ", [[\"\", \"7000\", \"" + offset + "\"]]]");
  replica.Disconnect();
  EXPECT_EQ(primary().replica_count(), 0u);
}

TEST_F(ReplicationTest, ALoadLongerThanTheBacklogMayLast) {
  harness_.SetSetting("repl-backlog-ttl", "10");
  Replication& replication = harness_.replication();
  replication.OnLoadedField("repl-id", std::string(40, 'a'));
  replication.OnLoadedField("repl-offset", "100");
  replication.OnExpiredAtStart(0, "k");
  ASSERT_TRUE(primary().has_backlog());
  harness_.AdvanceMs(20'000);
  replication.FinishStart();
  const auto seconds = [&](int count) {
    for (int i = 0; i < count; ++i) {
      harness_.AdvanceMs(1000);
      replication.Tick();
    }
  };
  seconds(9);
  EXPECT_TRUE(primary().has_backlog());
  seconds(4);
  EXPECT_FALSE(primary().has_backlog());
}

TEST_F(ReplicationTest, AReplicaThatSendsAnythingIsNotTakenForDead) {
  harness_.SetSetting("repl-timeout", "3");
  primary().BeginBacklog(100);
  FakeClient replica(harness_);
  replica.Send({{"PSYNC", id(), "101"}});
  const auto seconds = [&](int count, std::string_view sent) {
    for (int i = 0; i < count; ++i) {
      replica.SendRaw(sent);
      harness_.AdvanceMs(1000);
      harness_.replication().Tick();
    }
  };
  seconds(10, "\n");  // it loads
  EXPECT_FALSE(replica.session().closing);
  seconds(10, "");
  EXPECT_TRUE(replica.session().closing);
}

TEST_F(ReplicationTest, WritesStopWithTheConnectionOfAReplicaTheyNeed) {
  harness_.SetSetting("min-replicas-to-write", "1");
  primary().BeginBacklog(100);
  {
    FakeClient replica(harness_);
    replica.Send({{"PSYNC", id(), "101"}});
    harness_.replication().Tick();
    EXPECT_EQ(Run({"SET", "k", "v"}), "+OK");
  }
  EXPECT_EQ(Run({"SET", "k", "w"}), "-NOREPLICAS Not enough good replicas to write.");
}

TEST_F(ReplicationTest, RdbOnlyDoesNotMatterWhereNoFileIsNeeded) {
  harness_.SetSetting("repl-backlog-size", "16kb");
  primary().BeginBacklog(100);
  FakeClient replica(harness_);
  Introduce(replica, {"rdb-only", "1"});
  replica.Send({{"PSYNC", id(), "101"}});
  EXPECT_EQ(Sent(replica), "+CONTINUE\r\n");
  // What it has not read yet stays.
  const std::string bytes(4096, 'x');
  for (int i = 0; i < 100; ++i) primary().Feed(bytes);
  EXPECT_EQ(Sent(replica).size(), 100 * bytes.size());
}

TEST_F(ReplicationTest, AReplicaDoesNotTouchKeys) {
  primary().BeginBacklog(0);
  FakeClient replica(harness_);
  replica.Send({{"PSYNC", id(), "1"}});
  EXPECT_EQ(Sent(replica), "+CONTINUE\r\n");
  replica.Send({{"SET", "k", "v"}});
  EXPECT_EQ(Sent(replica), "");
  EXPECT_TRUE(replica.session().closing);
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
}

TEST_F(ReplicationTest, PartialResyncIsGrantedToThoseOfTheSameHistoryOnly) {
  primary().BeginBacklog(100);
  const uint64_t refused_before = primary().counts.partial_refused;
  struct Case {
    std::string id, offset;
    bool granted;
  };
  for (const Case& each : {Case{id(), "101", true}, Case{id(), "100", false},
                           Case{id(), "102", false}, Case{id(), "-1", false},
                           Case{id(), "0", false}, Case{std::string(40, 'b'), "101", false}}) {
    FakeClient replica(harness_);
    replica.Send({{"PSYNC", each.id, each.offset}});
    EXPECT_EQ(Sent(replica) == "+CONTINUE\r\n", each.granted) << each.id << each.offset;
  }
  EXPECT_EQ(primary().counts.partial_ok, 1u);
  EXPECT_EQ(primary().counts.partial_refused - refused_before, 5u);
  EXPECT_EQ(primary().counts.full, 5u);
}

TEST_F(ReplicationTest, APromotedReplicaHonoursTheFormerHistoryUpToItsEnd) {
  primary().BeginBacklog(100);
  harness_.engine().propagation.set_fed(true);
  Run({"SET", "a", "1"});
  HandOver();
  const std::string old_id = id();
  const uint64_t end = primary().offset();
  Run({"REPLICAOF", "127.0.0.1", "1"});
  Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_NE(id(), old_id);
  EXPECT_EQ(primary().offset(), end);
  Run({"SET", "b", "2"});
  HandOver();
  const auto granted = [this](const std::string& name, uint64_t offset) {
    FakeClient replica(harness_);
    Introduce(replica, {"capa", "psync2"});
    replica.Send({{"PSYNC", name, std::to_string(offset)}});
    return Sent(replica).starts_with("+CONTINUE " + id());
  };
  EXPECT_TRUE(granted(old_id, end + 1));
  EXPECT_FALSE(granted(old_id, end + 2));
  EXPECT_TRUE(granted(id(), end + 2));
}

TEST_F(ReplicationTest, PsyncBehindAnUnsentReplyIsRefused) {
  FakeClient replica(harness_);
  replica.Send({{"PING"}, {"PSYNC", "?", "-1"}});
  EXPECT_EQ(Sent(replica), "+PONG\r\n-ERR SYNC and PSYNC are invalid with pending output\r\n");
  EXPECT_EQ(primary().replica_count(), 0u);
}

TEST_F(ReplicationTest, WaitIsServedByAcknowledgements) {
  FakeClient replica(harness_);
  Session& writer = WriteBeside(replica);
  const uint64_t written = primary().offset();
  harness_.Send(writer, {"WAIT", "1", "0"});
  EXPECT_EQ(harness_.Received(writer), "");
  harness_.AdvanceMs(1);
  EXPECT_GT(primary().offset(), written);  // the replica is asked
  replica.Send({{"REPLCONF", "ACK", std::to_string(written - 1)}});
  EXPECT_EQ(harness_.Received(writer), "");
  replica.Send({{"REPLCONF", "ACK", std::to_string(written)}});
  EXPECT_EQ(harness_.Received(writer), ":1");
  EXPECT_EQ(harness_.CallOn(writer, {"WAIT", "1", "0"}).ToString(), ":1");
  // Being asked is part of the stream that its next command has behind it.
  EXPECT_EQ(harness_.CallOn(writer, {"WAIT", "0", "0"}).ToString(), ":0");
  replica.Send({{"REPLCONF", "ACK", std::to_string(primary().offset())}});
  harness_.Send(writer, {"WAIT", "2", "10"});
  harness_.AdvanceMs(20);
  EXPECT_EQ(harness_.Received(writer), ":1");
}

TEST_F(ReplicationTest, WaitDoesNotMoveTheOffsetWhileWritesArePaused) {
  FakeClient replica(harness_);
  Session& writer = WriteBeside(replica);
  const uint64_t written = primary().offset();
  EXPECT_EQ(Run({"CLIENT", "PAUSE", "100000", "WRITE"}), "+OK");
  harness_.Send(writer, {"WAIT", "1", "0"});
  const auto tick = [this] {
    harness_.AdvanceMs(100);
    harness_.replication().Tick();
    harness_.AdvanceMs(1);
  };
  tick();
  EXPECT_EQ(primary().offset(), written);
  EXPECT_EQ(Run({"CLIENT", "UNPAUSE"}), "+OK");
  tick();
  EXPECT_GT(primary().offset(), written);
}

TEST_F(ReplicationTest, FailoverPausesWritesUntilItIsOver) {
  primary().BeginBacklog(0);
  harness_.engine().propagation.set_fed(true);
  EXPECT_EQ(Run({"FAILOVER"}), "-ERR FAILOVER requires connected replicas.");
  FakeClient replica(harness_);
  Introduce(replica, {"listening-port", "7000", "ip-address", "10.0.0.1"});
  replica.Send({{"PSYNC", id(), "1"}});
  EXPECT_EQ(Run({"FAILOVER", "TO", "10.0.0.1", "7001"}),
            "-ERR FAILOVER target HOST and PORT is not a replica.");
  Run({"SET", "k", "v"});
  HandOver();
  EXPECT_EQ(Run({"FAILOVER", "TO", "10.0.0.1", "7000"}), "+OK");
  EXPECT_EQ(Run({"FAILOVER"}), "-ERR FAILOVER already in progress.");
  EXPECT_EQ(Run({"REPLICAOF", "a", "1"}), "-ERR REPLICAOF not allowed while failing over.");
  const ClientPauses& pauses = harness_.engine().pauses();
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
  EXPECT_EQ(Run({"CLIENT", "UNPAUSE"}), "+OK");  // which ends what CLIENT PAUSE began
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);
  EXPECT_EQ(Run({"CLIENT", "PAUSE", "1000", "WRITE"}), "+OK");
  EXPECT_EQ(Run({"FAILOVER", "ABORT"}), "+OK");
  EXPECT_EQ(pauses.mode(), PauseMode::kWrites);  // and which goes on
  EXPECT_EQ(Run({"CLIENT", "UNPAUSE"}), "+OK");
  EXPECT_EQ(pauses.mode(), PauseMode::kNone);
  // With all acknowledged the roles change.
  EXPECT_EQ(Run({"FAILOVER"}), "+OK");
  replica.Send({{"REPLCONF", "ACK", std::to_string(primary().offset())}});
  EXPECT_TRUE(harness_.replication().is_replica());
  EXPECT_EQ(harness_.replication().link().host(), "10.0.0.1");
  EXPECT_EQ(harness_.replication().link().master_port(), 7000);
  // The target refuses: a primary again.
  harness_.replication().OnPsyncAnswered(/*granted=*/false);
  EXPECT_FALSE(harness_.replication().is_replica());
  EXPECT_EQ(pauses.mode(), PauseMode::kNone);
}

}  // namespace
}  // namespace cairn

// MONITOR, SLOWLOG and LATENCY. Expected texts were taken from redis-server 7.0.15.

#include <gtest/gtest.h>

#include "server/engine/key_access.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily AclCommands();
CommandFamily ClientCommands();
CommandFamily ConfigCommands();
CommandFamily LatencyCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily SlowlogCommands();
CommandFamily StringCommands();

namespace {

using Lines = std::vector<std::string>;

class ObservationTest : public ::testing::Test {
 protected:
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string On(Session& session, const Lines& args) {
    harness_.Send(session, args);
    return harness_.Received(session);
  }
  /// Seconds of the harness's clock.
  int64_t NowS() { return harness_.env().WallMicros() / 1000000; }

  CommandHarness harness_{{AclCommands(), ClientCommands(), ConfigCommands(), LatencyCommands(),
                           ServerCommands(), SessionCommands(), SlowlogCommands(),
                           StringCommands()}};
};

class MonitorTest : public ObservationTest {
 protected:
  MonitorTest() : monitor_(harness_.AddSession()) {
    harness_.session().peer_address = "127.0.0.1:5000";
    EXPECT_EQ(On(monitor_, {"MONITOR"}), "+OK");
  }
  /// What the monitor sees of a command, without the time.
  std::string Seen(const Lines& args) {
    Run(args);
    std::string seen;
    for (const RespValue& line : harness_.TakeReplies(monitor_)) {
      EXPECT_EQ(line.kind, RespValue::Kind::kSimple);
      if (!seen.empty()) seen += "\n";
      seen += line.text.substr(line.text.find(' ') + 1);
    }
    return seen;
  }
  Session& monitor_;
};

TEST_F(MonitorTest, ShowsTimeDatabaseAddressAndArguments) {
  Run({"SELECT", "3"});
  harness_.TakeReplies(monitor_);
  Run({"SET", "k", std::string("a\0\n\"b", 5)});
  const std::string line = harness_.TakeReplies(monitor_)[0].text;
  EXPECT_EQ(line.substr(0, line.find('.')), std::to_string(NowS()));
  EXPECT_EQ(line.substr(line.find(' ')), " [3 127.0.0.1:5000] \"SET\" \"k\" \"a\\x00\\n\\\"b\"");
}

TEST_F(MonitorTest, ShowsWhatRanInTheOrderItRan) {
  EXPECT_EQ(Seen({"MULTI"}), "[0 127.0.0.1:5000] \"MULTI\"");
  EXPECT_EQ(Seen({"SET", "k", "1"}), "");
  EXPECT_EQ(Seen({"NOSUCH"}), "");
  Run({"DISCARD"});
  Run({"MULTI"});
  Run({"SET", "k", "1"});
  harness_.TakeReplies(monitor_);
  EXPECT_EQ(Seen({"EXEC"}), "[0 127.0.0.1:5000] \"SET\" \"k\" \"1\"\n[0 127.0.0.1:5000] \"EXEC\"");
}

TEST_F(MonitorTest, HidesSecretsAndAdministration) {
  EXPECT_EQ(Seen({"AUTH", "wrong"}), "[0 127.0.0.1:5000] \"AUTH\" \"(redacted)\"");
  EXPECT_EQ(Seen({"AUTH", "user", "wrong"}),
            "[0 127.0.0.1:5000] \"AUTH\" \"(redacted)\" \"(redacted)\"");
  EXPECT_EQ(Seen({"HELLO", "2", "SETNAME", "n", "AUTH", "u", "p"}),
            "[0 127.0.0.1:5000] \"HELLO\" \"2\" \"SETNAME\" \"n\" \"AUTH\" \"(redacted)\" "
            "\"(redacted)\"");
  EXPECT_EQ(Seen({"CONFIG", "SET", "masterauth", "secret"}), "");
  EXPECT_EQ(Seen({"ACL", "SETUSER", "x", ">secret"}), "");
  EXPECT_EQ(Seen({"CLIENT", "ID"}), "[0 127.0.0.1:5000] \"CLIENT\" \"ID\"");
}

TEST_F(MonitorTest, AMonitorMayNotTouchKeysAndEndsByReset) {
  EXPECT_EQ(On(monitor_, {"GET", "k"}), "-ERR Replica can't interact with the keyspace");
  harness_.Send(monitor_, {"PING"});
  EXPECT_EQ(harness_.TakeReplies(monitor_).size(), 2u);  // the reply and the line
  EXPECT_EQ(On(monitor_, {"RESET"}), "+RESET");
  EXPECT_EQ(Seen({"PING"}), "");
}

TEST_F(ObservationTest, MonitorIsNoCommandForTransactions) {
  Run({"MULTI"});
  Run({"MONITOR"});
  EXPECT_EQ(Run({"EXEC"}), "[-ERR MONITOR isn't allowed for DENY BLOCKING client]");
}

class SlowlogTest : public ObservationTest {
 protected:
  /// The arguments of the newest entry.
  std::string Newest() {
    return harness_.Call({"SLOWLOG", "GET", "1"}).elements[0].elements[3].ToString();
  }
  void LogAll(bool on) { harness_.SetSetting("slowlog-log-slower-than", on ? "0" : "-1"); }
};

TEST_F(SlowlogTest, KeepsWhatTakesLongEnough) {
  harness_.SetSetting("slowlog-log-slower-than", "1000000000");
  Run({"SET", "k", "v"});
  EXPECT_EQ(Run({"SLOWLOG", "LEN"}), ":0");
  harness_.session().name = "me";
  harness_.session().peer_address = "127.0.0.1:5000";
  LogAll(true);
  Run({"SET", "k", "v"});
  LogAll(false);
  Run({"GET", "k"});
  const RespValue entry = harness_.Call({"SLOWLOG", "GET"}).elements[0];
  ASSERT_EQ(entry.elements.size(), 6u);
  EXPECT_EQ(entry.elements[1].integer, NowS());
  EXPECT_EQ(entry.elements[3].ToString(), "[\"SET\", \"k\", \"v\"]");
  EXPECT_EQ(entry.elements[4].text, "127.0.0.1:5000");
  EXPECT_EQ(entry.elements[5].text, "me");
}

TEST_F(SlowlogTest, CutsArgumentsAndTheirBytes) {
  LogAll(true);
  Lines args = {"MSET"};
  for (int i = 0; i < 40; ++i) args.push_back(std::to_string(i));
  Run(args);
  LogAll(false);
  const RespValue cut = harness_.Call({"SLOWLOG", "GET", "1"}).elements[0].elements[3];
  ASSERT_EQ(cut.elements.size(), kSlowLogArgs);
  EXPECT_EQ(cut.elements.back().text, "... (10 more arguments)");
  LogAll(true);
  Run({"SET", "k", std::string(kSlowLogArgBytes + 5, 'x')});
  Run({"SET", "k", std::string(kSlowLogArgBytes, 'x')});
  LogAll(false);
  const RespValue log = harness_.Call({"SLOWLOG", "GET", "2"});
  EXPECT_EQ(log.elements[0].elements[3].elements[2].text, std::string(kSlowLogArgBytes, 'x'));
  EXPECT_EQ(log.elements[1].elements[3].elements[2].text,
            std::string(kSlowLogArgBytes, 'x') + "... (5 more bytes)");
}

TEST_F(SlowlogTest, HidesSecretsAndExec) {
  LogAll(true);
  Run({"ACL", "SETUSER", "x", ">secret"});
  EXPECT_EQ(Newest(), "[\"ACL\", \"SETUSER\", \"(redacted)\", \"(redacted)\"]");
  Run({"CONFIG", "SET", "masterauth", "secret", "maxmemory", "0"});
  EXPECT_EQ(Newest(),
            "[\"CONFIG\", \"SET\", \"masterauth\", \"(redacted)\", \"maxmemory\", \"0\"]");
  Run({"MULTI"});
  Run({"SET", "k", "v"});
  Run({"EXEC"});
  EXPECT_EQ(Newest(), "[\"SET\", \"k\", \"v\"]");
}

TEST_F(SlowlogTest, LengthIsLimitedAndIdsGoOn) {
  harness_.SetSetting("slowlog-max-len", "3");
  LogAll(true);
  for (int i = 0; i < 5; ++i) Run({"GET", std::to_string(i)});
  LogAll(false);
  RespValue log = harness_.Call({"SLOWLOG", "GET", "-1"});
  ASSERT_EQ(log.elements.size(), 3u);
  EXPECT_EQ(log.elements[0].elements[0].integer, 4);
  EXPECT_EQ(log.elements[2].elements[3].ToString(), "[\"GET\", \"2\"]");
  harness_.SetSetting("slowlog-max-len", "1");
  EXPECT_EQ(Run({"SLOWLOG", "LEN"}), ":3");  // until there is a new entry
  LogAll(true);
  Run({"GET", "k"});
  LogAll(false);
  EXPECT_EQ(Run({"SLOWLOG", "LEN"}), ":1");
  EXPECT_EQ(Run({"SLOWLOG", "RESET"}), "+OK");
  EXPECT_EQ(Run({"SLOWLOG", "GET", "-2"}), "-ERR count should be greater than or equal to -1");
}

class LatencyTest : public ObservationTest {};

TEST_F(LatencyTest, KeepsTheWorstOfEachSecond) {
  Engine& engine = harness_.engine();
  engine.NoteLatency("command", 100);
  EXPECT_EQ(Run({"LATENCY", "LATEST"}), "[]");
  harness_.SetSetting("latency-monitor-threshold", "10");
  const std::string first = ":" + std::to_string(NowS());
  for (int64_t ms : {9, 20, 50, 30}) engine.NoteLatency("command", ms);
  harness_.AdvanceMs(1000);
  engine.NoteLatency("command", 12);
  engine.NoteLatency("expire-cycle", 40);
  const std::string second = ":" + std::to_string(NowS());
  EXPECT_EQ(Run({"LATENCY", "HISTORY", "command"}),
            "[[" + first + ", :50], [" + second + ", :12]]");
  EXPECT_EQ(
      Run({"LATENCY", "LATEST"}),
      "[[\"command\", " + second + ", :12, :50], [\"expire-cycle\", " + second + ", :40, :40]]");
  EXPECT_EQ(Run({"LATENCY", "RESET", "command", "nothing"}), ":1");
  EXPECT_EQ(Run({"LATENCY", "HISTORY", "command"}), "[]");
  EXPECT_EQ(Run({"LATENCY", "RESET"}), ":1");
}

TEST_F(LatencyTest, KeepsTheNewestSamples) {
  LatencySeries series;
  for (uint32_t i = 0; i < kLatencySamples + 5; ++i) series.Add(i, i + 1);
  const std::vector<LatencySample> samples = series.Samples();
  ASSERT_EQ(samples.size(), kLatencySamples);
  EXPECT_EQ(samples.front().unix_s, 5);
  EXPECT_EQ(series.max_ms(), kLatencySamples + 5);
}

TEST_F(LatencyTest, DrawsAGraph) {
  harness_.SetSetting("latency-monitor-threshold", "5");
  for (int64_t ms : {6, 20, 10, 44}) {
    harness_.AdvanceMs(1000);
    harness_.engine().NoteLatency("command", ms);
  }
  harness_.AdvanceMs(2000);
  // As redis-server 7.0.15 draws these four samples.
  EXPECT_EQ(harness_.Call({"LATENCY", "GRAPH", "command"}).text,
            "command - high 44 ms, low 6 ms (all time high 44 ms)\n" + std::string(80, '-') +
                "\n   #\n   |\n o |\n_|o|\n    \n5432\nssss\n");
  EXPECT_EQ(Run({"LATENCY", "GRAPH", "none"}), "-ERR No samples available for event 'none'");
}

TEST_F(LatencyTest, TheDoctorNamesWhatWasSeen) {
  EXPECT_NE(harness_.Call({"LATENCY", "DOCTOR"}).text.find("not being watched"), std::string::npos);
  harness_.SetSetting("latency-monitor-threshold", "5");
  harness_.engine().NoteLatency("aof-write", 44);
  const std::string text = harness_.Call({"LATENCY", "DOCTOR"}).text;
  EXPECT_NE(text.find("1. aof-write: 1 latency spikes (average 44ms"), std::string::npos);
  EXPECT_NE(text.find("The disk does not keep up"), std::string::npos);
}

TEST_F(LatencyTest, HistogramsCountEveryCall) {
  for (int i = 0; i < 3; ++i) Run({"GET", "k"});
  Run({"CONFIG", "GET", "port"});
  const RespValue reply = harness_.Call({"LATENCY", "HISTOGRAM", "get", "config", "nosuch"});
  ASSERT_EQ(reply.elements.size(), 4u);
  EXPECT_EQ(reply.elements[0].text, "get");
  EXPECT_EQ(reply.elements[1].elements[1].integer, 3);
  const RespValue& buckets = reply.elements[1].elements[3];
  ASSERT_FALSE(buckets.elements.empty());
  EXPECT_EQ(buckets.elements.back().integer, 3);
  EXPECT_EQ(reply.elements[2].text, "config|get");
  const std::string info = harness_.Call({"INFO", "latencystats"}).text;
  EXPECT_NE(info.find("latency_percentiles_usec_get:p50="), std::string::npos);
  harness_.SetSetting("latency-tracking", "no");
  Run({"STRLEN", "k"});
  EXPECT_EQ(Run({"LATENCY", "HISTOGRAM", "strlen"}), "[]");
}

}  // namespace
}  // namespace cairn

// Publish and subscribe, keyspace notifications, and what CLIENT REPLY does to pushes. Expected
// texts were taken from redis-server 7.0.15.

#include "server/engine/pubsub.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "server/base/strings.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ClientCommands();
CommandFamily DatabaseCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily PubsubCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

using Lines = std::vector<std::string>;

class PubsubTest : public ::testing::Test {
 protected:
  void TearDown() override { harness_.engine().pubsub.CheckInvariants(); }
  std::string Run(const Lines& args) { return harness_.Run(args); }
  /// Sends on `session` and returns all it receives.
  std::string On(Session& session, const Lines& args) {
    harness_.Send(session, args);
    return harness_.Received(session);
  }
  std::string Received(Session& session) { return harness_.Received(session); }
  Session& Listener(const Lines& args, int version = 2) {
    Session& session = harness_.AddSession();
    session.reply.set_version(version);
    On(session, args);
    return session;
  }

  CommandHarness harness_{{ClientCommands(), DatabaseCommands(), KeyCommands(), KeyExpireCommands(),
                           PubsubCommands(), ServerCommands(), SessionCommands(),
                           StringCommands()}};
};

TEST_F(PubsubTest, ConfirmsEachNameWithTheCountSoFar) {
  Session& session = harness_.AddSession();
  EXPECT_EQ(On(session, {"SUBSCRIBE", "a", "b", "a"}),
            "[\"subscribe\", \"a\", :1] [\"subscribe\", \"b\", :2] [\"subscribe\", \"a\", :2]");
  EXPECT_EQ(On(session, {"PSUBSCRIBE", "p*"}), "[\"psubscribe\", \"p*\", :3]");
  EXPECT_EQ(On(session, {"SSUBSCRIBE", "s"}), "[\"ssubscribe\", \"s\", :1]");
  EXPECT_EQ(On(session, {"UNSUBSCRIBE", "a", "x"}),
            "[\"unsubscribe\", \"a\", :2] [\"unsubscribe\", \"x\", :2]");
  EXPECT_EQ(On(session, {"PUNSUBSCRIBE"}), "[\"punsubscribe\", \"p*\", :1]");
  EXPECT_EQ(On(session, {"UNSUBSCRIBE"}), "[\"unsubscribe\", \"b\", :0]");
  EXPECT_EQ(On(session, {"UNSUBSCRIBE"}), "[\"unsubscribe\", nil, :0]");
  EXPECT_EQ(session.kind, SessionKind::kPubsub);
  EXPECT_EQ(On(session, {"SUNSUBSCRIBE"}), "[\"sunsubscribe\", \"s\", :0]");
  EXPECT_EQ(session.kind, SessionKind::kNormal);
}

TEST_F(PubsubTest, ConfirmsWithPushesInResp3) {
  Session& session = harness_.AddSession();
  session.reply.set_version(3);
  EXPECT_EQ(On(session, {"SUBSCRIBE", "a"}), ">[\"subscribe\", \"a\", :1]");
  EXPECT_EQ(On(session, {"GET", "k"}), "nil");
  Run({"PUBLISH", "a", "m"});
  EXPECT_EQ(Received(session), ">[\"message\", \"a\", \"m\"]");
}

TEST_F(PubsubTest, DeliversByNameThenByPattern) {
  Session& both = Listener({"SUBSCRIBE", "news.1"});
  On(both, {"PSUBSCRIBE", "news.?"});
  Session& other = Listener({"SUBSCRIBE", "news.2"});
  EXPECT_EQ(Run({"PUBLISH", "news.1", "m"}), ":2");
  EXPECT_EQ(Received(both),
            "[\"message\", \"news.1\", \"m\"] [\"pmessage\", \"news.?\", \"news.1\", \"m\"]");
  EXPECT_EQ(Received(other), "");
  EXPECT_EQ(Run({"PUBLISH", "nobody", "m"}), ":0");
}

TEST_F(PubsubTest, ShardChannelsAreApart) {
  Session& shard = Listener({"SSUBSCRIBE", "c"});
  Session& plain = Listener({"SUBSCRIBE", "c"});
  EXPECT_EQ(Run({"SPUBLISH", "c", "m"}), ":1");
  EXPECT_EQ(Received(shard), "[\"smessage\", \"c\", \"m\"]");
  EXPECT_EQ(Received(plain), "");
  EXPECT_EQ(Run({"PUBLISH", "c", "m"}), ":1");
  EXPECT_EQ(Received(shard), "");
}

TEST_F(PubsubTest, LongMessagesArriveWhole) {
  Session& one = Listener({"SUBSCRIBE", "c"});
  Session& two = Listener({"PSUBSCRIBE", "*"});
  const std::string message(3 * kReplyByReferenceBytes, 'm');
  Run({"PUBLISH", "c", message});
  EXPECT_EQ(harness_.TakeReplies(one)[0].elements[2].text, message);
  EXPECT_EQ(harness_.TakeReplies(two)[0].elements[3].text, message);
}

TEST_F(PubsubTest, InResp2AListenerMayDoLittleElse) {
  Session& session = Listener({"SUBSCRIBE", "a"});
  EXPECT_EQ(On(session, {"PING"}), "[\"pong\", \"\"]");
  EXPECT_EQ(On(session, {"PING", "hi"}), "[\"pong\", \"hi\"]");
  EXPECT_EQ(On(session, {"GET", "k"}),
            "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
            "RESET are allowed in this context");
  EXPECT_EQ(On(session, {"CLIENT", "ID"}).substr(0, 32), "-ERR Can't execute 'client|id': ");
  EXPECT_EQ(On(session, {"RESET"}), "+RESET");
  EXPECT_EQ(On(session, {"PING"}), "+PONG");
  EXPECT_EQ(Run({"PUBSUB", "NUMSUB", "a"}), "[\"a\", :0]");
}

TEST_F(PubsubTest, PubsubLooksAtListeners) {
  Listener({"SUBSCRIBE", "a", "ab"});
  Listener({"PSUBSCRIBE", "p1", "p2"});
  Listener({"PSUBSCRIBE", "p1"});
  Listener({"SSUBSCRIBE", "s"});
  EXPECT_EQ(Run({"PUBSUB", "CHANNELS", "ab*"}), "[\"ab\"]");
  EXPECT_EQ(harness_.Call({"PUBSUB", "CHANNELS"}).elements.size(), 2u);
  EXPECT_EQ(Run({"PUBSUB", "NUMSUB", "a", "none"}), "[\"a\", :1, \"none\", :0]");
  EXPECT_EQ(Run({"PUBSUB", "NUMPAT"}), ":2");
  EXPECT_EQ(Run({"PUBSUB", "SHARDCHANNELS"}), "[\"s\"]");
  EXPECT_EQ(Run({"PUBSUB", "SHARDNUMSUB", "s", "a"}), "[\"s\", :1, \"a\", :0]");
  const std::string info = harness_.Call({"INFO", "stats"}).text;
  EXPECT_NE(info.find("pubsub_channels:2\r\npubsub_patterns:2\r\npubsubshard_channels:1\r\n"),
            std::string::npos);
}

TEST_F(PubsubTest, InsideATransactionOnlyTheOldTwoAreLetThrough) {
  Session& session = harness_.AddSession();
  On(session, {"MULTI"});
  On(session, {"SUBSCRIBE", "a"});
  On(session, {"SSUBSCRIBE", "a"});
  EXPECT_EQ(On(session, {"EXEC"}),
            "[[\"subscribe\", \"a\", :1], -ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING "
            "client]");
}

TEST_F(PubsubTest, ClientReplyOffSilencesRepliesAndNoMessages) {
  Session& session = harness_.AddSession();
  session.reply.set_version(3);
  On(session, {"CLIENT", "REPLY", "OFF"});
  EXPECT_EQ(On(session, {"SUBSCRIBE", "c"}), ">[\"subscribe\", \"c\", :1]");
  EXPECT_EQ(On(session, {"PUBLISH", "c", "own"}), ">[\"message\", \"c\", \"own\"]");
  Run({"PUBLISH", "c", "others"});
  EXPECT_EQ(Received(session), ">[\"message\", \"c\", \"others\"]");
}

TEST_F(PubsubTest, ADisconnectEndsAllSubscriptions) {
  Session& session = Listener({"SUBSCRIBE", "a", "b"});
  On(session, {"PSUBSCRIBE", "p"});
  harness_.engine().DestroySession(&session);
  EXPECT_EQ(Run({"PUBLISH", "a", "m"}), ":0");
  EXPECT_EQ(Run({"PUBSUB", "NUMPAT"}), ":0");
}

TEST_F(PubsubTest, RandomSubscriptionsAgreeWithSets) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const Lines names = {"a", "b", "ab", "a*", "*"};
  std::vector<Session*> sessions;
  for (int i = 0; i < 5; ++i) sessions.push_back(&Listener({"PING"}, 3));
  std::map<std::string, std::set<size_t>> by_name, by_pattern;
  for (int step = 0; step < 2000; ++step) {
    const size_t who = random() % sessions.size();
    const std::string& name = names[random() % names.size()];
    switch (random() % 5) {
      case 0:
        On(*sessions[who], {"SUBSCRIBE", name});
        by_name[name].insert(who);
        break;
      case 1:
        On(*sessions[who], {"PSUBSCRIBE", name});
        by_pattern[name].insert(who);
        break;
      case 2:
        On(*sessions[who], {"UNSUBSCRIBE", name});
        by_name[name].erase(who);
        break;
      case 3:
        On(*sessions[who], {"PUNSUBSCRIBE", name});
        by_pattern[name].erase(who);
        break;
      default: {
        size_t expected = by_name[name].size();
        for (const auto& [pattern, listeners] : by_pattern) {
          if (GlobMatch(pattern, name, false)) expected += listeners.size();
        }
        ASSERT_EQ(Run({"PUBLISH", name, "m"}), ":" + std::to_string(expected));
        size_t received = 0;
        for (Session* session : sessions) received += harness_.TakeReplies(*session).size();
        ASSERT_EQ(received, expected);
      }
    }
    harness_.engine().pubsub.CheckInvariants();
  }
}

// --- keyspace notifications ---

class NotificationTest : public PubsubTest {
 protected:
  NotificationTest() { listener_ = &Listener({"PSUBSCRIBE", "__key*"}); }
  /// What a listener to everything hears of a command: "channel>message", in order.
  Lines Heard(const Lines& args) {
    Run(args);
    Lines heard;
    for (const RespValue& message : harness_.TakeReplies(*listener_))
      heard.push_back(message.elements[2].text + ">" + message.elements[3].text);
    return heard;
  }
  Session* listener_;
};

TEST_F(NotificationTest, SilentUnlessAsked) { EXPECT_EQ(Heard({"SET", "k", "v"}), Lines{}); }

TEST_F(NotificationTest, BothFormsKeyspaceFirst) {
  harness_.SetSetting("notify-keyspace-events", "KEA");
  EXPECT_EQ(Heard({"SET", "k", "v"}), (Lines{"__keyspace@0__:k>set", "__keyevent@0__:set>k"}));
  Run({"SELECT", "3"});
  EXPECT_EQ(Heard({"SET", "k", "v", "EX", "10"}),
            (Lines{"__keyspace@3__:k>set", "__keyevent@3__:set>k", "__keyspace@3__:k>expire",
                   "__keyevent@3__:expire>k"}));
}

TEST_F(NotificationTest, ClassesAndFormsAreChosen) {
  harness_.SetSetting("notify-keyspace-events", "E$");
  EXPECT_EQ(Heard({"SET", "k", "v"}), (Lines{"__keyevent@0__:set>k"}));
  EXPECT_EQ(Heard({"DEL", "k"}), Lines{});
  harness_.SetSetting("notify-keyspace-events", "Kg");
  EXPECT_EQ(Heard({"SET", "k", "v"}), Lines{});
  EXPECT_EQ(Heard({"DEL", "k"}), (Lines{"__keyspace@0__:k>del"}));
}

TEST_F(NotificationTest, MissAndNewAreAskedForByName) {
  harness_.SetSetting("notify-keyspace-events", "EA");
  EXPECT_EQ(Heard({"GET", "none"}), Lines{});
  harness_.SetSetting("notify-keyspace-events", "Emn");
  EXPECT_EQ(Heard({"GET", "none"}), (Lines{"__keyevent@0__:keymiss>none"}));
  EXPECT_EQ(Heard({"SET", "k", "v"}), (Lines{"__keyevent@0__:new>k"}));
  EXPECT_EQ(Heard({"SET", "k", "w"}), Lines{});
}

TEST_F(NotificationTest, ExpiryIsHeardOfWhenItIsFound) {
  harness_.SetSetting("notify-keyspace-events", "Ex");
  Run({"SET", "k", "v", "PX", "10"});
  harness_.TakeReplies(*listener_);
  harness_.AdvanceMs(20);
  EXPECT_EQ(Heard({"GET", "k"}), (Lines{"__keyevent@0__:expired>k"}));
}

}  // namespace
}  // namespace cairn

// CLIENT TRACKING: which keys are remembered for whom, and the messages that end it. Expected texts
// were taken from redis-server 7.0.15.

#include "server/engine/tracking.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ClientCommands();
CommandFamily ClientTrackingCommands();
CommandFamily DatabaseCommands();
CommandFamily KeyCommands();
CommandFamily PubsubCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

namespace {

using Lines = std::vector<std::string>;

class TrackingTest : public ::testing::Test {
 protected:
  TrackingTest() : cache_(Client(3)) {}
  void TearDown() override { tracking().CheckInvariants(); }
  Tracking& tracking() { return harness_.engine().tracking; }
  Session& Client(int version) {
    Session& session = harness_.AddSession();
    session.reply.set_version(version);
    return session;
  }
  std::string Run(const Lines& args) { return harness_.Run(args); }
  std::string On(Session& session, const Lines& args) {
    harness_.Send(session, args);
    return harness_.Received(session);
  }
  std::string Cache(const Lines& args) { return On(cache_, args); }
  std::string Received() { return harness_.Received(cache_); }
  std::string AfterTurn(Session& session) {
    harness_.engine().EndOfTurn();
    return harness_.Received(session);
  }

  CommandHarness harness_{{ClientCommands(), ClientTrackingCommands(), DatabaseCommands(),
                           KeyCommands(), PubsubCommands(), SessionCommands(), StringCommands()}};
  Session& cache_;
};

TEST_F(TrackingTest, AReadKeyIsInvalidatedOnce) {
  EXPECT_EQ(Cache({"CLIENT", "TRACKING", "ON"}), "+OK");
  Cache({"MGET", "a", "b"});
  EXPECT_EQ(tracking().key_count(), 2u);
  Run({"SET", "a", "1"});
  EXPECT_EQ(Received(), ">[\"invalidate\", [\"a\"]]");
  Run({"SET", "a", "2"});
  Run({"SET", "other", "2"});
  EXPECT_EQ(Received(), "");
  EXPECT_EQ(tracking().key_count(), 1u);
}

TEST_F(TrackingTest, ItsOwnChangeIsHeardOfAfterTheReply) {
  Cache({"CLIENT", "TRACKING", "ON"});
  Cache({"GET", "k"});
  EXPECT_EQ(Cache({"SET", "k", "v"}), "+OK >[\"invalidate\", [\"k\"]]");
  Cache({"GET", "k"});
  Cache({"MULTI"});
  Cache({"SET", "k", "w"});
  Cache({"GET", "k"});
  EXPECT_EQ(Cache({"EXEC"}), "[+OK, \"w\"] >[\"invalidate\", [\"k\"]]");
}

TEST_F(TrackingTest, NoLoopLeavesOutItsOwnChanges) {
  Cache({"CLIENT", "TRACKING", "ON", "NOLOOP"});
  Cache({"GET", "k"});
  EXPECT_EQ(Cache({"SET", "k", "v"}), "+OK");
  Cache({"GET", "k"});
  Run({"SET", "k", "w"});
  EXPECT_EQ(Received(), ">[\"invalidate\", [\"k\"]]");
}

TEST_F(TrackingTest, OptInTracksWhatCachingAnnounces) {
  Cache({"CLIENT", "TRACKING", "ON", "OPTIN"});
  Cache({"GET", "a"});
  EXPECT_EQ(tracking().key_count(), 0u);
  Cache({"CLIENT", "CACHING", "YES"});
  Cache({"GET", "a"});
  Cache({"GET", "b"});
  EXPECT_EQ(tracking().key_count(), 1u);
  Cache({"CLIENT", "CACHING", "YES"});
  Cache({"MULTI"});
  Cache({"GET", "c"});
  Cache({"GET", "d"});
  Cache({"EXEC"});
  EXPECT_EQ(tracking().key_count(), 3u);
  Cache({"GET", "e"});
  EXPECT_EQ(tracking().key_count(), 3u);
}

TEST_F(TrackingTest, OptOutLeavesOutWhatCachingAnnounces) {
  Cache({"CLIENT", "TRACKING", "ON", "OPTOUT"});
  Cache({"CLIENT", "CACHING", "NO"});
  Cache({"GET", "a"});
  EXPECT_EQ(tracking().key_count(), 0u);
  Cache({"GET", "b"});
  EXPECT_EQ(tracking().key_count(), 1u);
}

TEST_F(TrackingTest, BroadcastGathersATurnByPrefix) {
  Cache({"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "item:"});
  Run({"SET", "user:2", "v"});
  Run({"SET", "user:1", "v"});
  Run({"SET", "other", "v"});
  Run({"SET", "item:1", "v"});
  EXPECT_EQ(Received(), "");
  EXPECT_EQ(AfterTurn(cache_),
            ">[\"invalidate\", [\"item:1\"]] >[\"invalidate\", [\"user:1\", \"user:2\"]]");
  EXPECT_EQ(tracking().key_count(), 0u);
  EXPECT_EQ(tracking().prefix_count(), 2u);
}

TEST_F(TrackingTest, BroadcastWithNoLoopLeavesOutItsOwn) {
  Cache({"CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP"});
  Cache({"SET", "own", "v"});
  EXPECT_EQ(AfterTurn(cache_), "");
  Cache({"SET", "own", "v"});
  Run({"SET", "others", "v"});
  EXPECT_EQ(AfterTurn(cache_), ">[\"invalidate\", [\"others\"]]");
}

TEST_F(TrackingTest, AFlushIsANullMessageToAll) {
  Cache({"CLIENT", "TRACKING", "ON"});
  Session& broadcast = Client(3);
  On(broadcast, {"CLIENT", "TRACKING", "ON", "BCAST"});
  Run({"FLUSHALL"});
  EXPECT_EQ(Received(), ">[\"invalidate\", nil]");
  EXPECT_EQ(harness_.Received(broadcast), ">[\"invalidate\", nil]");
  EXPECT_EQ(Cache({"FLUSHDB"}), "+OK >[\"invalidate\", nil]");
}

TEST_F(TrackingTest, ExpiryInvalidates) {
  Cache({"CLIENT", "TRACKING", "ON"});
  Run({"SET", "k", "v", "PX", "10"});
  Cache({"GET", "k"});
  harness_.AdvanceMs(20);
  Run({"GET", "k"});
  EXPECT_EQ(Received(), ">[\"invalidate\", [\"k\"]]");
}

TEST_F(TrackingTest, Resp2RedirectsToAListener) {
  Session& target = Client(2);
  Session& client = Client(2);
  On(target, {"SUBSCRIBE", "__redis__:invalidate"});
  EXPECT_EQ(On(client, {"CLIENT", "TRACKING", "ON", "REDIRECT", std::to_string(target.id)}), "+OK");
  EXPECT_EQ(On(client, {"CLIENT", "GETREDIR"}), ":" + std::to_string(target.id));
  On(client, {"GET", "k"});
  Run({"SET", "k", "v"});
  EXPECT_EQ(harness_.Received(target), "[\"message\", \"__redis__:invalidate\", [\"k\"]]");
  Run({"FLUSHALL"});
  EXPECT_EQ(harness_.Received(target), "[\"message\", \"__redis__:invalidate\", nil]");
  EXPECT_EQ(harness_.Received(client), "");
}

TEST_F(TrackingTest, ABrokenRedirectionIsToldInResp3) {
  Session& target = Client(3);
  const std::string id = std::to_string(target.id);
  Cache({"CLIENT", "TRACKING", "ON", "REDIRECT", id});
  harness_.engine().DestroySession(&target);
  Cache({"GET", "k"});
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(), ">[\"tracking-redir-broken\", :" + id + "]");
  EXPECT_EQ(
      Cache({"CLIENT", "TRACKINGINFO"}),
      "{\"flags\": ~[\"on\", \"broken_redirect\"], \"redirect\": :" + id + ", \"prefixes\": []}");
}

TEST_F(TrackingTest, TheTableIsKeptWithinItsLimit) {
  harness_.SetSetting("tracking-table-max-keys", "10");
  Cache({"CLIENT", "TRACKING", "ON"});
  for (int i = 0; i < 10; ++i) Cache({"GET", std::to_string(i)});
  EXPECT_EQ(tracking().key_count(), 10u);
  const std::string reply = Cache({"GET", "eleven"});
  EXPECT_EQ(reply.substr(0, 18), "nil >[\"invalidate\"");
  EXPECT_EQ(tracking().key_count(), 10u);
}

TEST_F(TrackingTest, OptionsThatContradict) {
  const auto refused = [&](const Lines& options, const std::string& line) {
    Lines args = {"CLIENT", "TRACKING", "ON"};
    args.insert(args.end(), options.begin(), options.end());
    EXPECT_EQ(Cache(args), "-ERR " + line);
  };
  refused({"PREFIX", "a"}, "PREFIX option requires BCAST mode to be enabled");
  refused({"OPTIN", "OPTOUT"}, "You can't specify both OPTIN mode and OPTOUT mode");
  refused({"BCAST", "OPTIN"}, "OPTIN and OPTOUT are not compatible with BCAST");
  refused({"REDIRECT", "99"}, "The client ID you want redirect to does not exist");
  refused({"REDIRECT"}, "syntax error");
  refused({"BCAST", "PREFIX", "a", "PREFIX", "ab"},
          "Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client "
          "must not overlap.");
  Cache({"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a"});
  refused({"BCAST", "PREFIX", "ab"},
          "Prefix 'ab' overlaps with an existing prefix 'a'. Prefixes for a single client must "
          "not overlap.");
  refused({},
          "You can't switch BCAST mode on/off before disabling tracking for this client, and "
          "then re-enabling it with a different mode.");
  Cache({"CLIENT", "TRACKING", "OFF"});
  EXPECT_EQ(Cache({"CLIENT", "CACHING", "YES"}).substr(0, 51),
            "-ERR CLIENT CACHING can be called only when the cli");
}

TEST_F(TrackingTest, RandomReadersAgreeWithSets) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::vector<Session*> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(&Client(3));
  std::vector<bool> on(clients.size());
  std::map<std::string, std::set<size_t>> readers;
  for (int step = 0; step < 2000; ++step) {
    const size_t who = random() % clients.size();
    const std::string key(1, static_cast<char>('a' + random() % 6));
    const uint32_t choice = random() % 10;
    if (choice == 0) {
      on[who] = !on[who];
      On(*clients[who], {"CLIENT", "TRACKING", on[who] ? "ON" : "OFF"});
    } else if (choice < 6) {
      On(*clients[who], {"GET", key});
      if (on[who]) readers[key].insert(who);
    } else {
      Run({"SET", key, "v"});
      for (size_t i = 0; i < clients.size(); ++i) {
        const bool hears = on[i] && readers[key].contains(i);
        ASSERT_EQ(harness_.Received(*clients[i]),
                  hears ? ">[\"invalidate\", [\"" + key + "\"]]" : "");
      }
      readers[key].clear();
    }
    tracking().CheckInvariants();
  }
}

}  // namespace
}  // namespace cairn

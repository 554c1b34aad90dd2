// A turn of the dispatcher: pipelines whose requests are parsed, hashed and prefetched together and
// yet behave as if each had come alone. What plain commands take for granted within a batch must be
// seen the moment a command of that very batch changes it.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily ClientCommands();
CommandFamily ConfigCommands();
CommandFamily DatabaseCommands();
CommandFamily KeyCommands();
CommandFamily SessionCommands();
CommandFamily SlowlogCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();

namespace {

using Words = std::vector<std::string>;

std::string Encode(const Words& words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words)
    out += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  return out;
}

class DispatcherTest : public ::testing::Test {
 protected:
  /// Gives `requests` to `session` as one read and runs the turn. Returns the replies in one-line
  /// form.
  Words TurnOn(Session& session, RequestParser& parser, const std::vector<Words>& requests) {
    std::string bytes;
    for (const Words& words : requests) bytes += Encode(words);
    const std::span<char> space = parser.Reserve(bytes.size());
    bytes.copy(space.data(), bytes.size());
    parser.Commit(bytes.size());
    ReadySession ready{&session, &parser};
    harness_.engine().dispatcher->RunTurn({&ready, 1});
    return TakeReplies(session);
  }
  Words Turn(const std::vector<Words>& requests) {
    return TurnOn(harness_.session(), parser_, requests);
  }
  static Words TakeReplies(Session& session) {
    const std::string bytes = session.output.Flatten();
    session.output.Clear();
    Words replies;
    for (size_t at = 0; at < bytes.size();) {
      RespValue value;
      size_t consumed = 0;
      CAIRN_CHECK(ParseReply(std::string_view(bytes).substr(at), &consumed, &value) ==
                  ReplyParse::kValue);
      at += consumed;
      replies.push_back(value.ToString());
    }
    return replies;
  }

  CommandHarness harness_{ClientCommands(), ConfigCommands(),    DatabaseCommands(),
                          KeyCommands(),    SessionCommands(),   SlowlogCommands(),
                          StringCommands(), StringEditCommands()};
  RequestParser parser_;
};

TEST_F(DispatcherTest, PipelineRunsInOrder) {
  const Words replies =
      Turn({{"SET", "a", "1"}, {"INCR", "a"}, {"get", "a"}, {"DEL", "a"}, {"GET", "a"}});
  EXPECT_EQ(replies, Words({"+OK", ":2", "\"2\"", ":1", "nil"}));
}

TEST_F(DispatcherTest, PipelineLongerThanABatchKeepsItsOrder) {
  std::vector<Words> requests;
  for (size_t i = 0; i < 3 * kBatchRequests + 1; ++i) requests.push_back({"INCR", "n"});
  const Words replies = Turn(requests);
  ASSERT_EQ(replies.size(), requests.size());
  for (size_t i = 0; i < replies.size(); ++i) EXPECT_EQ(replies[i], ":" + std::to_string(i + 1));
}

TEST_F(DispatcherTest, KeysBeyondTheBatchesLimitAreFoundAllTheSame) {
  Words set{"MSET"}, get{"MGET"};
  for (size_t i = 0; i < 2 * kBatchKeys + 3; ++i) {
    set.insert(set.end(), {"key:" + std::to_string(i), "value-" + std::to_string(i)});
    get.push_back("key:" + std::to_string(i));
  }
  Turn({{"SET", "before", "1"}, set, {"SET", "after", "2"}});
  Database& db = harness_.engine().keyspace.db(0);
  EXPECT_EQ(db.size(), 2 * kBatchKeys + 5);
  for (size_t i = 1; i < get.size(); ++i) {
    const Entry* entry = db.Peek(db.MakeKey(get[i]));
    ASSERT_NE(entry, nullptr) << get[i];
    char scratch[32];
    EXPECT_EQ(entry->StringView(scratch), "value-" + std::to_string(i - 1));
  }
  EXPECT_EQ(Turn({get, {"GET", "after"}}).size(), 2u);
  const RespValue all = harness_.Call(get);
  ASSERT_EQ(all.elements.size(), get.size() - 1);
  EXPECT_EQ(all.elements.back().text, "value-" + std::to_string(get.size() - 2));
}

TEST_F(DispatcherTest, ALimitSetInTheBatchBindsTheNextCommand) {
  const Words replies = Turn({{"SET", "a", "1"},
                              {"CONFIG", "SET", "maxmemory", "1"},
                              {"SET", "a", "2"},
                              {"CONFIG", "SET", "maxmemory", "0"},
                              {"SET", "a", "3"}});
  ASSERT_EQ(replies.size(), 5u);
  EXPECT_EQ(replies[2].substr(0, 4), "-OOM");
  EXPECT_EQ(replies[4], replies[0]);
}

TEST_F(DispatcherTest, MultiInTheBatchQueuesWhatFollows) {
  const Words replies =
      Turn({{"SET", "a", "1"}, {"MULTI"}, {"INCR", "a"}, {"GET", "a"}, {"EXEC"}, {"INCR", "a"}});
  ASSERT_EQ(replies.size(), 6u);
  EXPECT_EQ(replies[2], "+QUEUED");
  EXPECT_EQ(replies[3], "+QUEUED");
  EXPECT_EQ(replies[5], ":3");
}

TEST_F(DispatcherTest, ASubcommandNamedAsOneThatEndsATransactionIsQueued) {
  const Words replies =
      Turn({{"MULTI"}, {"SLOWLOG", "RESET"}, {"SET", "a", "1"}, {"EXEC"}, {"RESET"}});
  EXPECT_EQ(replies, (Words{"+OK", "+QUEUED", "+QUEUED", "[+OK, +OK]", "+RESET"}));
}

TEST_F(DispatcherTest, ClientInfoWithinExecShowsTheTransaction) {
  const Words replies = Turn({{"MULTI"}, {"CLIENT", "INFO"}, {"PING"}, {"EXEC"}});
  ASSERT_EQ(replies.size(), 4u);
  for (const char* word : {" flags=x ", " multi=2 ", " cmd=exec "})
    EXPECT_NE(replies[3].find(word), std::string::npos) << replies[3];
  EXPECT_NE(Turn({{"CLIENT", "INFO"}})[0].find(" multi=-1 "), std::string::npos);
}

TEST_F(DispatcherTest, PauseInTheBatchKeepsWhatFollowsForLater) {
  const Words replies =
      Turn({{"SET", "a", "1"}, {"CLIENT", "PAUSE", "1000", "ALL"}, {"INCR", "a"}});
  EXPECT_EQ(replies.size(), 2u);
  EXPECT_EQ(harness_.session().deferred.size(), 1u);
  harness_.engine().EndPause(PauseReason::kCommand);
  EXPECT_TRUE(harness_.session().EndPause());  // it has no port
  EXPECT_EQ(Turn({{"INCR", "a"}}), Words({":2", ":3"}));
}

TEST_F(DispatcherTest, SelectInTheBatchMovesTheNextKey) {
  Turn({{"SET", "a", "1"}, {"SELECT", "1"}, {"SET", "a", "2"}, {"SELECT", "0"}, {"INCR", "a"}});
  EXPECT_EQ(harness_.engine().keyspace.db(0).size(), 1u);
  EXPECT_EQ(harness_.engine().keyspace.db(1).size(), 1u);
  EXPECT_EQ(Turn({{"INCR", "a"}}), Words({":3"}));
}

TEST_F(DispatcherTest, WrongArityOfAPlainCommandIsRefused) {
  const Words replies = Turn({{"GET"}, {"GET", "a", "b"}, {"SET", "a"}, {"INCR", "n"}});
  ASSERT_EQ(replies.size(), 4u);
  EXPECT_EQ(replies[0], "-ERR wrong number of arguments for 'get' command");
  EXPECT_EQ(replies[1], replies[0]);
  EXPECT_EQ(replies[2], "-ERR wrong number of arguments for 'set' command");
  EXPECT_EQ(replies[3], ":1");
}

TEST_F(DispatcherTest, BeforeAuthenticationNothingPlainRuns) {
  harness_.SetSetting("requirepass", "secret");
  harness_.session().authenticated = false;
  const Words replies = Turn({{"GET", "a"}, {"SET", "a", "1"}});
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_EQ(replies[0].substr(0, 7), "-NOAUTH");
  EXPECT_EQ(replies[1].substr(0, 7), "-NOAUTH");
  EXPECT_EQ(harness_.engine().keyspace.db(0).size(), 0u);
}

TEST_F(DispatcherTest, SeveralSessionsAreServedInOneTurn) {
  Session* other = harness_.engine().CreateSession(nullptr, SessionKind::kNormal);
  RequestParser other_parser;
  const std::string first = Encode({"SET", "a", "1"}), second = Encode({"INCR", "a"});
  first.copy(parser_.Reserve(first.size()).data(), first.size());
  parser_.Commit(first.size());
  second.copy(other_parser.Reserve(second.size()).data(), second.size());
  other_parser.Commit(second.size());
  ReadySession ready[] = {{&harness_.session(), &parser_}, {other, &other_parser}};
  harness_.engine().dispatcher->RunTurn(ready);
  EXPECT_EQ(TakeReplies(harness_.session()).size(), 1u);
  EXPECT_EQ(TakeReplies(*other), Words({":2"}));
}

// --- names remembered by the command table ----------------------------------------------------

TEST_F(DispatcherTest, NamesAreRememberedInAnyCaseButNotForged) {
  CommandTable& table = harness_.engine().commands;
  Command* get = table.Find("get");
  for (const std::string_view name : {"GET", "get", "gEt"}) {
    const std::string_view args[] = {name, "a"};
    Command* container = nullptr;
    EXPECT_EQ(table.Resolve(args, &container), get);
    EXPECT_EQ(table.Recall(name), get);
  }
  // Bytes that differ from a letter in the bit that folds case, or by a NUL, are other names.
  const std::string nul("get\0", 4);
  for (const std::string_view name :
       {std::string_view("G\x05T"), std::string_view(nul), std::string_view("ge"),
        std::string_view("getx"), std::string_view(""), std::string_view("getgetget")}) {
    EXPECT_EQ(table.Recall(name), nullptr);
  }
}

TEST_F(DispatcherTest, ARenamedCommandIsForgotten) {
  CommandTable& table = harness_.engine().commands;
  EXPECT_EQ(Turn({{"INCR", "a"}}), Words({":1"}));
  ASSERT_NE(table.Recall("incr"), nullptr);
  ASSERT_TRUE(table.Rename("incr", "").ok());
  EXPECT_EQ(table.Recall("incr"), nullptr);
  EXPECT_EQ(Turn({{"INCR", "a"}})[0].substr(0, 21), "-ERR unknown command ");
}

}  // namespace
}  // namespace cairn

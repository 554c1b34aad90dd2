// The framework of blocking commands, by a family made for the purpose: TAKE waits for strings and
// removes the one it gets, HAND moves one on, GONE waits for a stream to go, so that order, time
// and propagation can be seen without any command that the server has.

#include "server/engine/blocking.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <random>

#include "server/engine/key_access.h"
#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily DatabaseCommands();
CommandFamily SessionCommands();
CommandFamily ClientCommands();
CommandFamily ServerCommands();
CommandFamily ReplicationCommands();

namespace {

using Lines = std::vector<std::string>;

Status RetryTake(CommandContext& ctx, KeyRef key, bool* served) {
  const Entry* entry = ctx.db().LookupWrite(key);
  char scratch[kMaxInt64Chars + 3];
  const std::string_view value = entry->StringView(scratch);
  if (value == "poison") return Status::Client("ERR poisoned");
  if (value == "later") return Status::Ok();
  ctx.reply().ArrayHeader(2);
  ctx.reply().Bulk(key.key);
  ctx.reply().Bulk(value);
  PropagateInstead(ctx, {"DEL", key.key});
  ctx.db().Remove(key, false);
  ctx.Changed(key, NotifyClass::kGeneric, "taken");
  *served = true;
  return Status::Ok();
}

Status Take(CommandContext& ctx) {
  const size_t last = ctx.argc() - 1;
  int64_t timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, last, TimeoutUnit::kSeconds, &timeout_ms));
  for (size_t i = 1; i < last; ++i) {
    const Entry* entry = ctx.db().LookupWrite(ctx.Key(i));
    CAIRN_RETURN_IF_ERROR(ExpectString(entry));
    bool served = false;
    if (entry != nullptr) CAIRN_RETURN_IF_ERROR(RetryTake(ctx, ctx.Key(i), &served));
    if (served) return Status::Ok();
  }
  return ctx.Block({.keys = ctx.args().subspan(1, last - 1),
                    .timeout_ms = timeout_ms,
                    .type = ValueType::kString,
                    .retry = RetryTake});
}
constexpr CommandSpec kTakeSpec{.name = "take",
                                .arity = -3,
                                .flags = kCmdWrite | kCmdBlocking,
                                .group = "generic",
                                .since = "7.0.0",
                                .summary = "Takes a string, or waits for one.",
                                .handler = Take};

// HAND from to timeout: takes `from` and stores it as `to`.
Status RetryHand(CommandContext& ctx, KeyRef key, bool* served) {
  const ValueInput value = ctx.db().LookupWrite(key)->ShareValue();
  const std::string copy(value.bytes);
  ctx.db().Remove(key, false);
  StoreKey(ctx, ctx.db(), ctx.Key(2), ValueInput::String(copy));
  PropagateInstead(ctx, {"RENAME", key.key, ctx.arg(2)});
  ctx.Changed(key, NotifyClass::kGeneric, "handed");
  ctx.reply().Bulk(copy);
  *served = true;
  return Status::Ok();
}
Status Hand(CommandContext& ctx) {
  int64_t timeout_ms = 0;
  CAIRN_RETURN_IF_ERROR(ParseBlockTimeout(ctx, 3, TimeoutUnit::kSeconds, &timeout_ms));
  bool served = false;
  if (ctx.db().LookupWrite(ctx.Key(1)) != nullptr) return RetryHand(ctx, ctx.Key(1), &served);
  return ctx.Block({.keys = ctx.args().subspan(1, 1),
                    .timeout_ms = timeout_ms,
                    .type = ValueType::kString,
                    .retry = RetryHand});
}
constexpr CommandSpec kHandSpec{.name = "hand",
                                .arity = 4,
                                .flags = kCmdWrite | kCmdBlocking,
                                .group = "generic",
                                .since = "7.0.0",
                                .summary = "Moves a string on, or waits for one.",
                                .handler = Hand};

constexpr std::array kTestSpecs = {kTakeSpec, kHandSpec};
static_assert(ValidSpecs(kTestSpecs));

class BlockingTest : public ::testing::Test {
 protected:
  void TearDown() override { blocking().CheckInvariants(); }
  BlockingTable& blocking() { return harness_.engine().blocking; }
  std::string Run(const Lines& args) {
    std::string reply = harness_.Run(args);
    blocking().CheckInvariants();
    return reply;
  }
  /// A client that has sent `args` and waits.
  Session& Waiting(const Lines& args) {
    Session& session = harness_.AddSession();
    harness_.Send(session, args);
    EXPECT_EQ(harness_.Received(session), "");
    EXPECT_NE(session.blocked, nullptr);
    blocking().CheckInvariants();
    return session;
  }
  std::string Received(Session& session) { return harness_.Received(session); }
  Lines Propagated() {
    Lines lines = harness_.TakePropagated();
    std::erase(lines, "SELECT 0");
    return lines;
  }
  std::string InfoField(const std::string& name, const std::string& section) {
    const std::string text = harness_.Call({"INFO", section}).text;
    const size_t at = text.find(name + ":");
    if (at == std::string::npos) return "";
    const size_t begin = at + name.size() + 1;
    return text.substr(begin, text.find("\r\n", begin) - begin);
  }

  CommandHarness harness_{{kTestSpecs, StringCommands(), KeyCommands(), DatabaseCommands(),
                           SessionCommands(), ClientCommands(), ServerCommands(),
                           ReplicationCommands()}};
};

TEST_F(BlockingTest, AnswersAtOnceWhenThereIsSomething) {
  Run({"SET", "k", "v"});
  EXPECT_EQ(Run({"TAKE", "none", "k", "0"}), "[\"k\", \"v\"]");
  EXPECT_EQ(blocking().blocked_count(), 0u);
}

TEST_F(BlockingTest, ServesTheFirstInLineAndLeavesTheOthers) {
  Session& first = Waiting({"TAKE", "k", "0"});
  Session& second = Waiting({"TAKE", "k", "0"});
  EXPECT_EQ(Run({"SET", "k", "1"}), "+OK");
  EXPECT_EQ(Received(first), "[\"k\", \"1\"]");
  EXPECT_EQ(Received(second), "");
  Run({"SET", "k", "2"});
  EXPECT_EQ(Received(second), "[\"k\", \"2\"]");
  EXPECT_EQ(blocking().blocked_count(), 0u);
}

TEST_F(BlockingTest, ReadyKeysAreServedInTheOrderOfTheirSignals) {
  Session& waiter = Waiting({"TAKE", "a", "b", "0"});
  Run({"MULTI"});
  Run({"SET", "b", "vb"});
  Run({"SET", "a", "va"});
  Run({"EXEC"});
  EXPECT_EQ(Received(waiter), "[\"b\", \"vb\"]");
}

TEST_F(BlockingTest, NobodyIsServedWhileATransactionRuns) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  Run({"MULTI"});
  Run({"SET", "k", "v"});
  Run({"DEL", "k"});
  EXPECT_EQ(Run({"EXEC"}), "[+OK, :1]");
  EXPECT_EQ(Received(waiter), "");
}

TEST_F(BlockingTest, WhatAWaiterTakesIsPropagatedAfterWhatFedIt) {
  Waiting({"TAKE", "k", "0"});
  Propagated();
  Run({"SET", "k", "v"});
  EXPECT_EQ(Propagated(), (Lines{"SET k v", "DEL k"}));
}

TEST_F(BlockingTest, AWaiterOfATransactionComesAfterItsExec) {
  Waiting({"TAKE", "k", "0"});
  Propagated();
  Run({"MULTI"});
  Run({"SET", "k", "v"});
  Run({"SET", "other", "v"});
  Run({"EXEC"});
  EXPECT_EQ(Propagated(), (Lines{"MULTI", "SET k v", "SET other v", "EXEC", "DEL k"}));
}

TEST_F(BlockingTest, ServingOneMayFeedTheNext) {
  Session& hand = Waiting({"HAND", "a", "b", "0"});
  Session& hand_on = Waiting({"HAND", "b", "c", "0"});
  Session& take = Waiting({"TAKE", "c", "0"});
  Run({"SET", "a", "v"});
  EXPECT_EQ(Received(hand), "\"v\"");
  EXPECT_EQ(Received(hand_on), "\"v\"");
  EXPECT_EQ(Received(take), "[\"c\", \"v\"]");
}

TEST_F(BlockingTest, AKeyNamedTwiceIsOnePlaceInLine) {
  Session& waiter = Waiting({"TAKE", "k", "k", "0"});
  Session& next = Waiting({"TAKE", "k", "0"});
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(waiter), "[\"k\", \"v\"]");
  EXPECT_EQ(Received(next), "");
}

TEST_F(BlockingTest, ARetryThatFindsNothingKeepsItsPlace) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  Run({"SET", "k", "later"});
  EXPECT_EQ(Received(waiter), "");
  Run({"DEL", "k"});
  Run({"SET", "k", "now"});
  EXPECT_EQ(Received(waiter), "[\"k\", \"now\"]");
}

TEST_F(BlockingTest, ARetryThatFailsEndsTheWaiting) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  Run({"SET", "k", "poison"});
  EXPECT_EQ(Received(waiter), "-ERR poisoned");
  EXPECT_EQ(waiter.blocked, nullptr);
}

TEST_F(BlockingTest, TimesOutAtItsMillisecondWithTheNullArray) {
  Session& late = Waiting({"TAKE", "k", "0.2"});
  Session& early = Waiting({"TAKE", "k", "0.0501"});
  harness_.AdvanceMs(50);
  EXPECT_EQ(Received(early), "");
  harness_.AdvanceMs(2);
  EXPECT_EQ(Received(early), "nil");
  EXPECT_EQ(Received(late), "");
  harness_.AdvanceMs(200);
  EXPECT_EQ(Received(late), "nil");
  EXPECT_EQ(blocking().deadline_count(), 0u);
}

TEST_F(BlockingTest, ATimeoutOfZeroNeverComes) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  harness_.AdvanceMs(int64_t{1000} * 86400 * 365);
  EXPECT_EQ(Received(waiter), "");
  EXPECT_EQ(blocking().deadline_count(), 0u);
}

TEST_F(BlockingTest, ServedBeforeItsDeadlineItHearsNothingMore) {
  Session& waiter = Waiting({"TAKE", "k", "1"});
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(waiter), "[\"k\", \"v\"]");
  harness_.AdvanceMs(5000);
  EXPECT_EQ(Received(waiter), "");
}

TEST_F(BlockingTest, TimeoutsAreReadAsRedisReadsThem) {
  EXPECT_EQ(Run({"TAKE", "k", "x"}), "-ERR timeout is not a float or out of range");
  EXPECT_EQ(Run({"TAKE", "k", "nan"}), "-ERR timeout is not a float or out of range");
  EXPECT_EQ(Run({"TAKE", "k", " 1"}), "-ERR timeout is not a float or out of range");
  for (const char* text : {"-1", "-0.5", "inf", "1e30", "9.3e15"})
    EXPECT_EQ(Run({"TAKE", "k", text}), "-ERR timeout is negative") << text;
  for (const char* text : {"9e15", "9223372036854775", "-0", "1e3", "0x10", "0.0001"})
    Waiting({"TAKE", "k", text});
}

TEST_F(BlockingTest, InsideATransactionItAnswersAsTheTimeoutWould) {
  Run({"MULTI"});
  Run({"TAKE", "k", "0"});
  Run({"WAIT", "3", "0"});
  EXPECT_EQ(Run({"EXEC"}), "[nil, :0]");
  EXPECT_EQ(blocking().blocked_count(), 0u);
}

TEST_F(BlockingTest, RequestsBehindAWaitAreKeptInOrder) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  harness_.Send(waiter, {"SET", "x", "1"});
  harness_.Send(waiter, {"TAKE", "x", "0"});
  harness_.Send(waiter, {"TAKE", "y", "0"});
  harness_.Send(waiter, {"PING"});
  EXPECT_EQ(Received(waiter), "");
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(waiter), "[\"k\", \"v\"] +OK [\"x\", \"1\"]");
  Run({"SET", "y", "2"});
  EXPECT_EQ(Received(waiter), "[\"y\", \"2\"] +PONG");
}

TEST_F(BlockingTest, ClientUnblockEndsItEitherWay) {
  Session& by_timeout = Waiting({"TAKE", "k", "0"});
  Session& by_error = Waiting({"TAKE", "k", "10"});
  Session& waits = Waiting({"WAIT", "1", "0"});
  EXPECT_EQ(Run({"CLIENT", "UNBLOCK", std::to_string(by_timeout.id)}), ":1");
  EXPECT_EQ(Received(by_timeout), "nil");
  EXPECT_EQ(Run({"CLIENT", "UNBLOCK", std::to_string(by_error.id), "ERROR"}), ":1");
  EXPECT_EQ(Received(by_error), "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
  EXPECT_EQ(Run({"CLIENT", "UNBLOCK", std::to_string(waits.id), "TIMEOUT"}), ":1");
  EXPECT_EQ(Received(waits), ":0");
  EXPECT_EQ(Run({"CLIENT", "UNBLOCK", std::to_string(waits.id)}), ":0");
  EXPECT_EQ(Run({"CLIENT", "UNBLOCK", "123456"}), ":0");
}

TEST_F(BlockingTest, ADisconnectedWaiterIsPassedOver) {
  Session& gone = Waiting({"TAKE", "k", "5"});
  Session& stays = Waiting({"TAKE", "k", "0"});
  harness_.engine().DestroySession(&gone);
  blocking().CheckInvariants();
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(stays), "[\"k\", \"v\"]");
  harness_.AdvanceMs(6000);
}

TEST_F(BlockingTest, ARoleChangeEndsAllWaiting) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  harness_.engine().dispatcher->UnblockAll();
  EXPECT_TRUE(Received(waiter).starts_with("-UNBLOCKED force unblock from blocking operation"));
  EXPECT_TRUE(waiter.close_after_reply);
}

TEST_F(BlockingTest, RenameMoveCopyAndSwapWakeToo) {
  for (const Lines& feed : {Lines{"RENAME", "src", "k"}, Lines{"COPY", "src", "k"}}) {
    Session& waiter = Waiting({"TAKE", "k", "0"});
    Run({"SET", "src", "v"});
    EXPECT_EQ(Received(waiter), "");
    Run(feed);
    EXPECT_EQ(Received(waiter), "[\"k\", \"v\"]") << feed[0];
  }
  Run({"SELECT", "1"});
  Session& elsewhere = harness_.AddSession();
  elsewhere.db = 5;
  harness_.Send(elsewhere, {"TAKE", "k", "m", "0"});
  Run({"SET", "m", "v"});
  Run({"MOVE", "m", "5"});
  EXPECT_EQ(Received(elsewhere), "[\"m\", \"v\"]");
  harness_.Send(elsewhere, {"TAKE", "k", "0"});
  Run({"SET", "k", "swapped"});
  EXPECT_EQ(Received(elsewhere), "");
  Run({"SWAPDB", "1", "5"});
  EXPECT_EQ(Received(elsewhere), "[\"k\", \"swapped\"]");
}

TEST_F(BlockingTest, ReplyOffWhileWaitingSilencesTheAnswer) {
  Session& waiter = harness_.AddSession();
  harness_.Send(waiter, {"CLIENT", "REPLY", "SKIP"});
  harness_.Send(waiter, {"TAKE", "k", "0"});
  harness_.Send(waiter, {"PING"});
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(waiter), "+PONG");
  EXPECT_EQ(Run({"EXISTS", "k"}), ":0");
}

TEST_F(BlockingTest, CountsAndShowsThoseWhoWait) {
  Session& waiter = Waiting({"TAKE", "k", "7"});
  EXPECT_EQ(InfoField("clients_in_timeout_table", "clients"), "1");
  EXPECT_TRUE(InfoField("cmdstat_take", "commandstats").starts_with("calls=1,"));
  Run({"SET", "k", "v"});
  EXPECT_TRUE(InfoField("cmdstat_take", "commandstats").starts_with("calls=1,"));
  EXPECT_EQ(Received(waiter), "[\"k\", \"v\"]");
  EXPECT_EQ(InfoField("clients_in_timeout_table", "clients"), "0");
}

TEST_F(BlockingTest, AnEndOfAPauseDoesNotWakeAWaiter) {
  Session& waiter = Waiting({"TAKE", "k", "0"});
  Run({"CLIENT", "PAUSE", "100"});
  harness_.AdvanceMs(200);
  Run({"CLIENT", "UNPAUSE"});
  EXPECT_TRUE(waiter.suspended);
  Run({"SET", "k", "v"});
  EXPECT_EQ(Received(waiter), "[\"k\", \"v\"]");
}

TEST_F(BlockingTest, WaitAnswersByTimeAlone) {
  EXPECT_EQ(Run({"WAIT", "0", "0"}), ":0");
  EXPECT_EQ(Run({"WAIT", "-1", "0"}), ":0");
  EXPECT_EQ(Run({"WAIT", "x", "0"}), "-ERR value is not an integer or out of range");
  EXPECT_EQ(Run({"WAIT", "0", "x"}), "-ERR timeout is not an integer or out of range");
  EXPECT_EQ(Run({"WAIT", "1", "-1"}), "-ERR timeout is negative");
  Session& waiter = Waiting({"WAIT", "1", "30"});
  harness_.AdvanceMs(31);
  EXPECT_EQ(Received(waiter), ":0");
  Waiting({"WAIT", "1", "9223372036854775807"});
}

// Many clients take from few keys while others feed them, against queues of numbers.
TEST_F(BlockingTest, RandomWaitersAgreeWithQueues) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr int kClients = 12, kKeys = 4;
  std::vector<Session*> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(&harness_.AddSession());
  std::vector<std::deque<int>> lines(kKeys);
  std::vector<std::string> values(kKeys);
  std::vector<bool> waits(kClients);
  const auto leave = [&](int client) {
    waits[client] = false;
    for (auto& line : lines) std::erase(line, client);
  };
  for (int step = 0; step < 3000; ++step) {
    const int client = static_cast<int>(random() % kClients);
    if (random() % 2 == 0) {
      if (waits[client]) continue;
      const int a = static_cast<int>(random() % kKeys), b = static_cast<int>(random() % kKeys);
      harness_.Send(*clients[client], {"TAKE", std::to_string(a), std::to_string(b), "0"});
      const int hit = !values[a].empty() ? a : !values[b].empty() ? b : -1;
      if (hit >= 0) {
        ASSERT_EQ(Received(*clients[client]),
                  "[\"" + std::to_string(hit) + "\", \"" + values[hit] + "\"]");
        values[hit].clear();
      } else {
        waits[client] = true;
        lines[a].push_back(client);
        if (b != a) lines[b].push_back(client);
      }
    } else if (random() % 5 == 0 && waits[client]) {
      Run({"CLIENT", "UNBLOCK", std::to_string(clients[client]->id)});
      ASSERT_EQ(Received(*clients[client]), "nil");
      leave(client);
    } else {
      const int key = static_cast<int>(random() % kKeys);
      const std::string value = std::to_string(step);
      Run({"SET", std::to_string(key), value});
      if (lines[key].empty()) {
        values[key] = value;
      } else {
        const int served = lines[key].front();
        ASSERT_EQ(Received(*clients[served]),
                  "[\"" + std::to_string(key) + "\", \"" + value + "\"]");
        leave(served);
      }
    }
    blocking().CheckInvariants();
  }
}

}  // namespace
}  // namespace cairn

// Readers of a consumer group that wait while their stream goes away or becomes another. Expected
// texts were taken from redis-server 7.0.15.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StreamCommands();
CommandFamily StreamGroupCommands();
CommandFamily StreamReadCommands();
CommandFamily StringCommands();
CommandFamily ListCommands();
CommandFamily SortCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();
CommandFamily DatabaseCommands();
CommandFamily SessionCommands();

namespace {

using Words = std::vector<std::string>;

constexpr char kGone[] = "-UNBLOCKED the stream key no longer exists";
constexpr char kNoGroup[] =
    "-NOGROUP the consumer group this client was blocked on no longer exists";

class GroupReaderTest : public ::testing::Test {
 protected:
  std::string Run(const Words& args) { return harness_.Run(args); }
  void MakeStream() {
    Run({"FLUSHALL"});
    Run({"XADD", "s", "1-1", "f", "v"});
    Run({"XGROUP", "CREATE", "s", "g", "$"});
  }
  /// A client that waits for new entries of "s".
  Session& Reader(const std::string& timeout_ms = "0") {
    Session& reader = harness_.AddSession();
    harness_.Send(reader,
                  {"XREADGROUP", "GROUP", "g", "c", "BLOCK", timeout_ms, "STREAMS", "s", ">"});
    EXPECT_EQ(harness_.Received(reader), "");
    EXPECT_NE(reader.blocked, nullptr);
    return reader;
  }

  CommandHarness harness_{StreamCommands(), StreamGroupCommands(), StreamReadCommands(),
                          StringCommands(), ListCommands(),        SortCommands(),
                          KeyCommands(),    KeyExpireCommands(),   DatabaseCommands(),
                          SessionCommands()};
};

TEST_F(GroupReaderTest, IsToldThatTheKeyIsGone) {
  const std::vector<Words> ways = {{"DEL", "s"},
                                   {"UNLINK", "s"},
                                   {"FLUSHALL"},
                                   {"FLUSHDB", "ASYNC"},
                                   {"RENAME", "s", "t"},
                                   {"SWAPDB", "0", "1"},
                                   {"MOVE", "s", "1"},
                                   {"SET", "s", "x"},
                                   {"GETDEL", "none"},
                                   {"PEXPIRE", "s", "-1"},
                                   {"SORT", "l", "STORE", "s"}};
  for (const Words& way : ways) {
    MakeStream();
    Run({"RPUSH", "l", "1"});
    Session& reader = Reader();
    Run(way);
    const bool spares_it = way[0] == "GETDEL";
    EXPECT_EQ(harness_.Received(reader), spares_it ? "" : kGone) << way[0];
    harness_.engine().blocking.CheckInvariants();
    harness_.engine().DestroySession(&reader);
  }
}

TEST_F(GroupReaderTest, IsToldWhenTheKeyExpires) {
  MakeStream();
  Session& reader = Reader();
  Run({"PEXPIRE", "s", "50"});
  harness_.AdvanceMs(51);
  Run({"EXISTS", "s"});
  EXPECT_EQ(harness_.Received(reader), kGone);
}

TEST_F(GroupReaderTest, IsToldThatTheGroupIsGone) {
  MakeStream();
  Session& reader = Reader();
  Run({"XGROUP", "DESTROY", "s", "g"});
  EXPECT_EQ(harness_.Received(reader), kNoGroup);

  MakeStream();
  Run({"XADD", "other", "5-5", "a", "b"});
  Session& second = Reader();
  Run({"RENAME", "other", "s"});
  EXPECT_EQ(harness_.Received(second), kNoGroup);
}

TEST_F(GroupReaderTest, AReplacementInOneTransactionIsSeenAsAWhole) {
  MakeStream();
  Session& reader = Reader();
  Run({"MULTI"});
  Run({"DEL", "s"});
  Run({"XADD", "s", "9-9", "a", "b"});
  Run({"XGROUP", "CREATE", "s", "g", "0"});
  Run({"EXEC"});
  EXPECT_EQ(harness_.Received(reader), "[[\"s\", [[\"9-9\", [\"a\", \"b\"]]]]]");
}

TEST_F(GroupReaderTest, APlainReaderWaitsOn) {
  MakeStream();
  Session& reader = harness_.AddSession();
  harness_.Send(reader, {"XREAD", "BLOCK", "0", "STREAMS", "s", "$"});
  Run({"DEL", "s"});
  EXPECT_EQ(harness_.Received(reader), "");
  Run({"XADD", "s", "7-7", "a", "b"});
  EXPECT_EQ(harness_.Received(reader), "[[\"s\", [[\"7-7\", [\"a\", \"b\"]]]]]");
}

TEST_F(GroupReaderTest, TheLastIdServesAPlainReaderThoughItsEntryIsGone) {
  Run({"XADD", "other", "30-1", "a", "b"});
  Run({"XDEL", "other", "30-1"});
  Session& reader = harness_.AddSession();
  harness_.Send(reader, {"XREAD", "BLOCK", "0", "STREAMS", "s", "30-1"});
  Session& earlier = harness_.AddSession();
  harness_.Send(earlier, {"XREAD", "BLOCK", "0", "STREAMS", "none", "s", "$", "18-2"});
  Run({"RENAME", "other", "s"});
  EXPECT_EQ(harness_.Received(reader), "");
  EXPECT_EQ(harness_.Received(earlier), "[[\"s\", []]]");
}

TEST_F(GroupReaderTest, EveryWaiterIsToldOnce) {
  MakeStream();
  Session& first = Reader();
  Session& second = Reader("1000");
  Run({"DEL", "s"});
  EXPECT_EQ(harness_.Received(first), kGone);
  EXPECT_EQ(harness_.Received(second), kGone);
  MakeStream();
  harness_.AdvanceMs(2000);
  EXPECT_EQ(harness_.Received(second), "");
}

}  // namespace
}  // namespace cairn

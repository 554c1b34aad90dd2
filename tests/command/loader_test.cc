// What the loader of an append-only file runs: history, not a client's wishes.

#include "server/engine/loader.h"

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily StringCommands();

namespace {

Status Replay(CommandLoader& loader, std::initializer_list<std::string_view> args) {
  return loader.Command(std::span(args.begin(), args.size()));
}

TEST(CommandLoaderTest, ReplaysWritesThatMaxmemoryWouldRefuseAClient) {
  CommandHarness harness({StringCommands()});
  harness.SetSetting("maxmemory", "1");
  EXPECT_TRUE(harness.Run({"SET", "client", "v"}).starts_with("-OOM"));
  CommandLoader loader(harness.engine());
  ASSERT_TRUE(Replay(loader, {"SET", "logged", "v"}).ok());
  Database& db = harness.engine().keyspace.db(0);
  EXPECT_NE(db.Peek(db.MakeKey("logged")), nullptr);
  EXPECT_EQ(db.Peek(db.MakeKey("client")), nullptr);
}

TEST(CommandLoaderTest, RefusesACommandItDoesNotKnow) {
  CommandHarness harness({StringCommands()});
  CommandLoader loader(harness.engine());
  const Status status = Replay(loader, {"NOSUCH", "k"});
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find("NOSUCH"), std::string_view::npos);
}

}  // namespace
}  // namespace cairn

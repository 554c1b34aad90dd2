// What the loaders do: the one of an append-only file runs history, not a client's wishes; the one
// of RDB files has keys waiting while their buckets are fetched, which nothing may show.

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

class DatasetLoaderTest : public testing::Test {
 protected:
  Database& db(uint32_t index = 0) { return harness_.engine().keyspace.db(index); }
  std::string Get(std::string_view key, uint32_t index = 0) {
    const Entry* entry = db(index).Peek(db(index).MakeKey(key));
    if (entry == nullptr) return "(none)";
    char scratch[32];
    return std::string(entry->StringView(scratch));
  }
  static Status Add(DatasetLoader& loader, std::string_view key, std::string_view value,
                    int64_t expire_at_ms = kNoExpiry) {
    KeyMeta meta;
    meta.expire_at_ms = expire_at_ms;
    Result<ValueSink*> sink = loader.Key(key, meta);
    return sink.ok() ? (*sink)->String(value) : sink.status();
  }

  CommandHarness harness_{{StringCommands()}};
};

TEST_F(DatasetLoaderTest, StoresEveryKeyInItsDatabaseWithItsValue) {
  constexpr size_t kKeys = 10 * DatasetLoader::kAhead + 1;
  const auto value = [](size_t number) {
    const size_t size = number % 23 == 22 ? kMaxInlineValueBytes + 1
                        : number % 7 == 6 ? kMaxInlineValueBytes
                                          : 3;
    return std::to_string(number) + std::string(size, 'v');
  };
  DatasetLoader loader(harness_.engine(), {});
  for (size_t i = 0; i < kKeys; ++i) {
    if (i % 5 == 0) {
      ASSERT_TRUE(loader.SelectDatabase(i % 2 == 0 ? 0 : 3, 0, 0).ok());
    }
    ASSERT_TRUE(Add(loader, std::to_string(i), value(i)).ok());
  }
  ASSERT_TRUE(loader.Finish().ok());
  for (size_t i = 0; i < kKeys; ++i) {
    const size_t selected_at = i - i % 5;
    EXPECT_EQ(Get(std::to_string(i), selected_at % 2 == 0 ? 0 : 3), value(i)) << i;
  }
  EXPECT_EQ(db(0).size() + db(3).size(), kKeys);
}

TEST_F(DatasetLoaderTest, KeysWaitOnlyForAFewOthersAndNotBehindALongValue) {
  DatasetLoader loader(harness_.engine(), {});
  for (size_t i = 0; i < 3 * DatasetLoader::kAhead; ++i) {
    ASSERT_TRUE(Add(loader, std::to_string(i), "v").ok());
    ASSERT_GE(db().size() + DatasetLoader::kAhead + 1, i + 1);
  }
  ASSERT_LT(db().size(), 3 * DatasetLoader::kAhead) << "nothing waits: the queue does nothing";
  ASSERT_TRUE(Add(loader, "long", std::string(kMaxInlineValueBytes + 1, 'v')).ok());
  ASSERT_TRUE(Add(loader, "next", "v").ok());
  EXPECT_EQ(db().size(), 3 * DatasetLoader::kAhead + 1) << "a long value is held back";
  ASSERT_TRUE(loader.Finish().ok());
  EXPECT_EQ(db().size(), 3 * DatasetLoader::kAhead + 2);
  EXPECT_EQ(loader.loaded(), 3 * DatasetLoader::kAhead + 2);
}

TEST_F(DatasetLoaderTest, RefusesAKeyThatWaitsAlready) {
  DatasetLoader loader(harness_.engine(), {});
  ASSERT_TRUE(Add(loader, "twice", "1").ok());
  ASSERT_TRUE(Add(loader, "twice", "2").ok());
  const Status status = loader.Finish();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find("duplicated key 'twice'"), std::string_view::npos);
}

TEST_F(DatasetLoaderTest, TheLastOfEqualKeysStaysWhenFilesAreMerged) {
  DatasetLoader loader(harness_.engine(), {.drop_expired = true, .merge = true});
  ASSERT_TRUE(Add(loader, "k", "first").ok());
  ASSERT_TRUE(Add(loader, "k", std::string(kMaxInlineValueBytes + 1, 'v')).ok());
  ASSERT_TRUE(Add(loader, "k", "last").ok());
  ASSERT_TRUE(Add(loader, "gone", "v", /*expire_at_ms=*/1).ok());
  ASSERT_TRUE(loader.Finish().ok());
  EXPECT_EQ(Get("k"), "last");
  EXPECT_EQ(Get("gone"), "(none)");
  EXPECT_EQ(loader.expired(), 1u);
}

}  // namespace
}  // namespace cairn

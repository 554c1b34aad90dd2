#include "server/platform/fake_env.h"

#include <gtest/gtest.h>

#include <set>

namespace cairn {
namespace {

std::unique_ptr<WritableFile> Create(FakeEnv* env, const std::string& path) {
  auto file = env->OpenTruncate(path);
  CAIRN_CHECK(file.ok());
  return std::move(file).value();
}

TEST(FakeEnvTest, TimeMovesOnlyByHand) {
  FakeEnv env(1);
  const int64_t wall = env.WallMicros();
  EXPECT_EQ(env.WallMicros(), wall);
  env.AdvanceMicros(1500);
  EXPECT_EQ(env.WallMicros(), wall + 1500);
  EXPECT_EQ(env.MonotonicMicros(), 1500);
  env.SetWallMicros(5);
  EXPECT_EQ(env.WallMicros(), 5);
  EXPECT_EQ(env.MonotonicMicros(), 1500);
}

TEST(FakeEnvTest, ChanceFollowsTheSeed) {
  FakeEnv a(9), b(9), c(10);
  const uint64_t first = a.RandomU64();
  EXPECT_EQ(first, b.RandomU64());
  EXPECT_NE(first, c.RandomU64());
}

TEST(FakeEnvTest, SpellingsOfAPathAreOneFile) {
  FakeEnv env(1);
  ASSERT_TRUE(Create(&env, "./x")->Append("1").ok());
  EXPECT_EQ(*env.ReadFileToString("x"), "1");
  EXPECT_EQ(*env.ListDir("."), std::vector<std::string>{"x"});
  ASSERT_TRUE(Create(&env, "//y/")->Append("1").ok());
  EXPECT_EQ(*env.ListDir("/"), std::vector<std::string>{"y"});
}

TEST(FakeEnvTest, ALookThatFailsIsNoAnswer) {
  FakeEnv env(1);
  Create(&env, "/f");
  for (const char* path : {"/f", "/no"}) {
    const uint64_t calls = env.io_calls();
    env.FailNthCall(1, Status::Io("Input/output error"));
    EXPECT_EQ(env.FileExists(path).status().message(),
              std::string("stat ") + path + ": Input/output error");
    EXPECT_EQ(env.io_calls(), calls + 1);
  }
  EXPECT_TRUE(*env.FileExists("/f"));
  EXPECT_FALSE(*env.FileExists("/no"));
}

TEST(FakeEnvTest, SyncedFilesSurviveEveryCrash) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FakeEnv env(1);
    auto file = Create(&env, "/f");
    ASSERT_TRUE(file->Append("abc").ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(env.SyncDir("/").ok());
    ASSERT_TRUE(file->Append("def").ok());
    env.Crash(seed);
    const std::string left = *env.ReadFileToString("/f");
    ASSERT_EQ(left.substr(0, 3), "abc") << seed;
    ASSERT_TRUE(std::string_view("abcdef").starts_with(left)) << seed;
  }
}

TEST(FakeEnvTest, UnsyncedWritesFallInEveryWay) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    FakeEnv env(1);
    auto file = Create(&env, "/f");
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(env.SyncDir("/").ok());
    ASSERT_TRUE(file->Append("ab").ok());
    ASSERT_TRUE(file->Append("cd").ok());
    env.Crash(seed);
    outcomes.insert(*env.ReadFileToString("/f"));
  }
  EXPECT_TRUE(outcomes.contains(""));
  EXPECT_TRUE(outcomes.contains("ab"));
  EXPECT_TRUE(outcomes.contains("abcd"));
  EXPECT_TRUE(outcomes.contains("abc"));                     // torn
  EXPECT_TRUE(outcomes.contains(std::string("\0\0cd", 4)));  // reordered
}

TEST(FakeEnvTest, UnsyncedNamesMayBeLostEvenWithSyncedBytes) {
  std::set<bool> outcomes;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FakeEnv env(1);
    auto file = Create(&env, "/f");
    ASSERT_TRUE(file->Append("abc").ok());
    ASSERT_TRUE(file->Sync().ok());
    env.Crash(seed);
    outcomes.insert(*env.FileExists("/f"));
  }
  EXPECT_EQ(outcomes, (std::set<bool>{false, true}));
}

TEST(FakeEnvTest, AtomicReplacementHoldsOldOrNewAndNewAfterOk) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t fail_at = 0; fail_at < 8; ++fail_at) {
      FakeEnv env(seed);
      ASSERT_TRUE(env.WriteFileAtomically("/m", "old").ok());
      env.FailNthCall(fail_at, Status::Io("planted"), true);
      const bool ok = env.WriteFileAtomically("/m", "brand new").ok();
      env.Crash(seed);
      const std::string left = *env.ReadFileToString("/m");
      ASSERT_TRUE(left == "brand new" || (!ok && left == "old")) << seed << ' ' << fail_at << left;
    }
  }
}

TEST(FakeEnvTest, ReplacementWithoutSyncIsCaught) {
  // The canary: a writer that forgets fsync must lose data under some seed.
  bool lost = false;
  for (uint64_t seed = 0; seed < 100 && !lost; ++seed) {
    FakeEnv env(1);
    ASSERT_TRUE(env.WriteFileAtomically("/m", "old").ok());
    ASSERT_TRUE(Create(&env, "/t")->Append("new").ok());
    ASSERT_TRUE(env.Rename("/t", "/m").ok());
    ASSERT_TRUE(env.SyncDir("/").ok());
    env.Crash(seed);
    const std::string left = *env.ReadFileToString("/m");
    lost = left != "old" && left != "new";
  }
  EXPECT_TRUE(lost);
}

TEST(FakeEnvTest, SyncDirOfEitherSideSettlesARename) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FakeEnv env(1);
    ASSERT_TRUE(env.CreateDir("/d").ok());
    ASSERT_TRUE(env.SyncDir("/").ok());
    auto file = Create(&env, "/f");
    ASSERT_TRUE(file->Append("x").ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(env.Rename("/f", "/d/f").ok());
    ASSERT_TRUE(env.SyncDir("/d").ok());
    env.Crash(seed);
    ASSERT_FALSE(*env.FileExists("/f")) << seed;
    ASSERT_EQ(*env.ReadFileToString("/d/f"), "x") << seed;
  }
}

TEST(FakeEnvTest, CrashIsReproducible) {
  const auto run = [](uint64_t seed) {
    FakeEnv env(3);
    for (int i = 0; i < 10; ++i) {
      auto file = Create(&env, "/f" + std::to_string(i));
      for (int j = 0; j < 10; ++j) CAIRN_CHECK(file->Append(std::to_string(j)).ok());
    }
    env.Crash(seed);
    std::string all;
    const auto names = env.ListDir("/");
    for (const std::string& name : *names) {
      all += name + "=" + *env.ReadFileToString("/" + name) + ";";
    }
    return all;
  };
  EXPECT_EQ(run(42), run(42));
  std::set<std::string> different;
  for (uint64_t seed = 0; seed < 20; ++seed) different.insert(run(seed));
  EXPECT_GT(different.size(), 5u);
}

TEST(FakeEnvTest, OldHandlesAreDeadAfterACrash) {
  FakeEnv env(1);
  auto file = Create(&env, "/f");
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(env.SyncDir("/").ok());
  auto reader = std::move(env.OpenRead("/f")).value();
  env.Crash(1);
  EXPECT_EQ(file->Append("x").code(), StatusCode::kIo);
  char byte = 0;
  EXPECT_EQ(reader->Read(0, 1, &byte).status().code(), StatusCode::kIo);
  EXPECT_TRUE(env.OpenAppend("/f").ok());
}

TEST(FakeEnvTest, PlantedFaultHitsTheNthCall) {
  FakeEnv env(1);
  auto file = Create(&env, "/f");
  const uint64_t before = env.io_calls();
  env.FailNthCall(2, {StatusCode::kNoSpace, "planted"});
  EXPECT_TRUE(file->Append("a").ok());
  const Status status = file->Append("b");
  EXPECT_EQ(status.code(), StatusCode::kNoSpace);
  EXPECT_EQ(status.message(), "write /f: planted");
  EXPECT_TRUE(file->Append("c").ok());
  EXPECT_EQ(env.io_calls(), before + 3);
  EXPECT_EQ(*env.ReadFileToString("/f"), "ac");
  env.FailNthCall(1, Status::Io("gone"), true);
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_FALSE(file->Sync().ok());
  env.FailNthCall(0, Status::Ok());
  EXPECT_TRUE(file->Sync().ok());
}

TEST(FakeEnvTest, ShortWriteLeavesAPrefixThatSizeReports) {
  FakeEnv env(5);
  env.SetShortWrites(true);
  std::set<uint64_t> sizes;
  for (int i = 0; i < 60; ++i) {
    auto file = Create(&env, "/f");
    env.FailNthCall(1, Status::Io("planted"));
    EXPECT_FALSE(file->Append("abcd").ok());
    EXPECT_EQ(*env.ReadFileToString("/f"), std::string("abcd").substr(0, file->size()));
    sizes.insert(file->size());
  }
  EXPECT_EQ(sizes, (std::set<uint64_t>{0, 1, 2, 3}));
}

TEST(FakeEnvTest, FullDiskTakesWhatFits) {
  FakeEnv env(1);
  auto file = Create(&env, "/f");
  env.SetCapacity(5);
  EXPECT_TRUE(file->Append("abc").ok());
  EXPECT_EQ(*env.FreeSpace("/"), 2u);
  EXPECT_EQ(file->Preallocate(6).code(), StatusCode::kNoSpace);
  EXPECT_TRUE(file->Preallocate(5).ok());
  EXPECT_EQ(file->Append("defg").code(), StatusCode::kNoSpace);
  EXPECT_EQ(file->size(), 5u);
  EXPECT_EQ(env.used_bytes(), 5u);
  EXPECT_TRUE(file->Truncate(1).ok());
  EXPECT_TRUE(file->Append("wxyz").ok());
  EXPECT_EQ(*env.ReadFileToString("/f"), "awxyz");
}

TEST(FakeEnvTest, WhatIsPreallocatedIsRoomTakenUntilTheFileGoes) {
  FakeEnv env(1);
  auto file = Create(&env, "/f");
  auto other = Create(&env, "/g");
  env.SetCapacity(10);
  EXPECT_TRUE(file->Preallocate(8).ok());
  EXPECT_EQ(file->size(), 0u);
  EXPECT_EQ(env.used_bytes(), 8u);
  EXPECT_EQ(other->Append("abc").code(), StatusCode::kNoSpace);
  EXPECT_TRUE(file->Append("12345678").ok()) << "the room is its own";
  EXPECT_EQ(env.used_bytes(), 10u);
  ASSERT_TRUE(env.Remove("/f").ok());
  EXPECT_EQ(env.used_bytes(), 2u);
  EXPECT_TRUE(other->Append("cdefghij").ok());
}

TEST(FakeEnvTest, PaddingIsRoomTaken) {
  FakeEnv env(1);
  auto file = Create(&env, "/f");
  env.SetCapacity(6);
  EXPECT_TRUE(file->Append("ab").ok());
  EXPECT_TRUE(file->Pad(5, '#').ok());
  EXPECT_EQ(*env.FreeSpace("/"), 1u);
  EXPECT_TRUE(file->Append("cdef").ok());
  EXPECT_EQ(file->Pad(8, '#').code(), StatusCode::kNoSpace);
  EXPECT_EQ(*env.ReadFileToString("/f"), "abcdef");
}

TEST(FakeEnvTest, AnOverwriteMayLoseAnyOfItsSectors) {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    FakeEnv env(seed);
    auto file = Create(&env, "/f");
    ASSERT_TRUE(env.SyncDir("/").ok());
    ASSERT_TRUE(file->Pad(96, '#').ok() && file->Sync().ok());
    ASSERT_TRUE(file->Append(std::string(32, 'a') + std::string(32, 'b')).ok());
    env.Crash(seed);
    std::string text = *env.ReadFileToString("/f");
    ASSERT_EQ(text.size(), 96u);
    seen.insert({text[0], text[32], text[64]});
  }
  for (const char* found : {"###", "a##", "#b#", "ab#"}) EXPECT_TRUE(seen.contains(found)) << found;
}

TEST(FakeEnvTest, FlipBitsRotsOneByte) {
  FakeEnv env(1);
  ASSERT_TRUE(Create(&env, "/f")->Append("aaa").ok());
  EXPECT_TRUE(env.FlipBits("/f", 1, 3).ok());
  EXPECT_EQ(*env.ReadFileToString("/f"), "aba");
  EXPECT_FALSE(env.FlipBits("/f", 3, 1).ok());
}

}  // namespace
}  // namespace cairn

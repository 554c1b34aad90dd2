#include "persistence/aof_manifest.h"

#include <gtest/gtest.h>

#include "server/platform/fake_env.h"

namespace cairn {
namespace {

AofManifest ParseOrDie(std::string_view text) {
  Result<AofManifest> manifest = AofManifest::Parse(text, "m");
  EXPECT_TRUE(manifest.ok()) << manifest.status().message();
  return manifest.ok() ? *manifest : AofManifest();
}

/// The lines of files.
std::string WithoutCheck(std::string text) {
  return text.substr(0, text.rfind("#CAIRN-MANIFEST:"));
}

TEST(AofManifestTest, ReadsAndWritesRedis7sForm) {
  constexpr std::string_view kText =
      "file appendonly.aof.2.base.rdb seq 2 type b\n"
      "file appendonly.aof.1.base.rdb seq 1 type h\n"
      "file appendonly.aof.3.incr.aof seq 3 type i bytes 17\n"
      "file appendonly.aof.4.incr.aof seq 4 type i\n";
  const AofManifest manifest = ParseOrDie(kText);
  EXPECT_EQ(WithoutCheck(manifest.Format()), kText);
  EXPECT_EQ(manifest.base()->name, "appendonly.aof.2.base.rdb");
  EXPECT_EQ(manifest.increment_sequence(), 4u);
  EXPECT_EQ(manifest.history().size(), 1u);
  EXPECT_EQ(manifest.increments().at(0).counted_bytes, 17u);
  EXPECT_EQ(manifest.increments().at(1).counted_bytes, kWholeAofFile);
}

// Else an increment becomes history, or one file stands in for another, without a word.
TEST(AofManifestTest, NoFlippedBitChangesWhatIsInForce) {
  AofManifest manifest;
  ASSERT_TRUE(manifest.ReplaceBase("appendonly.aof", true).ok());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(manifest.AddIncrement("appendonly.aof").ok());
  manifest.RetireIncrementsBelow(3);
  const std::string text = manifest.Format();
  ASSERT_NE(text, WithoutCheck(text));
  EXPECT_EQ(ParseOrDie(text).Format(), text);
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << (bit % 8));
    const Result<AofManifest> read = AofManifest::Parse(flipped, "m");
    if (read.ok()) EXPECT_EQ(read->Format(), text) << "bit " << bit;
  }
  EXPECT_FALSE(AofManifest::Parse(text + "file a seq 9 type i\n", "m").ok());
  // Of a server that writes no check, or by hand.
  EXPECT_EQ(ParseOrDie(WithoutCheck(text)).Format(), text);
}

TEST(AofManifestTest, ANewFileNeverGetsTheNameOfOneThatIsToBeDeleted) {
  // A base whose publication failed is history with a higher number than the base in force.
  auto manifest = AofManifest::Parse(
      "file a.1.base.rdb seq 1 type b\nfile a.2.base.rdb seq 2 type h\n"
      "file a.4.incr.aof seq 4 type h\nfile a.3.incr.aof seq 3 type i\n",
      "here");
  ASSERT_TRUE(manifest.ok()) << manifest.status().message();
  EXPECT_EQ(manifest->ReplaceBase("a", true)->name, "a.3.base.rdb");
  EXPECT_EQ(manifest->AddIncrement("a")->name, "a.5.incr.aof");
}

TEST(AofManifestTest, WhatIsInForceIsNoHistory) {
  auto manifest = AofManifest::Parse(
      "file a.2.base.rdb seq 2 type b\nfile a.2.base.rdb seq 2 type h\n"
      "file a.1.base.rdb seq 1 type h\nfile a.3.incr.aof seq 3 type i\n",
      "here");
  ASSERT_TRUE(manifest.ok()) << manifest.status().message();
  ASSERT_EQ(manifest->history().size(), 1u);
  EXPECT_EQ(manifest->history()[0].name, "a.1.base.rdb");
}

TEST(AofManifestTest, RefusesWhatRedisRefusesWithLineAndReason) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "m: Found an empty AOF manifest"},
      {"file a seq 1 type b", "m: at line 1: The AOF manifest file contains too long line"},
      {"file a seq 1 type b\nfile b seq 2 type b\n",
       "m: at line 2 'file b seq 2 type b': Found duplicate base file information"},
      {"file a seq 2 type i\nfile b seq 2 type i\n",
       "m: at line 2 'file b seq 2 type i': Found a non-monotonic sequence number"},
      {"file a seq 1 type b\nfile a seq 1 type i\n",
       "m: at line 2 'file a seq 1 type i': Found a file that is named twice"},
      {"file a seq 1 type i\nfile a seq 2 type i\n",
       "m: at line 2 'file a seq 2 type i': Found a file that is named twice"},
      {"file a/b seq 1 type b\n",
       "m: at line 1 'file a/b seq 1 type b': File can't be a path, just a filename"},
      {"file a seq 1 type x\n", "m: at line 1 'file a seq 1 type x': Unknown AOF file type"},
      {"file a seq 1\n", "m: at line 1 'file a seq 1': Invalid AOF manifest file format"},
      {"file a seq 1 type i bytes x\n",
       "m: at line 1 'file a seq 1 type i bytes x': Invalid AOF manifest file format"},
      {"file a seq -1 type b\n",
       "m: at line 1 'file a seq -1 type b': Invalid AOF manifest file format"},
  };
  for (const auto& [text, message] : cases) {
    Result<AofManifest> manifest = AofManifest::Parse(text, "m");
    ASSERT_FALSE(manifest.ok()) << text;
    EXPECT_EQ(manifest.status().code(), StatusCode::kCorruption);
    EXPECT_EQ(manifest.status().message(), message);
  }
}

TEST(AofManifestTest, NumbersEndWhereRedisCouldNotReadThem) {
  const std::string beyond = "file a seq 9223372036854775808 type ";
  for (const char type : {'b', 'i', 'h'}) {
    Result<AofManifest> manifest = AofManifest::Parse(beyond + type + "\n", "m");
    ASSERT_FALSE(manifest.ok());
    EXPECT_EQ(manifest.status().message(),
              "m: at line 1 '" + beyond + type + "': The sequence number is too large");
  }
  // What is counted on from what was read can be read back, or is not counted.
  AofManifest manifest =
      ParseOrDie("file a seq 9223372036854775806 type b\nfile b seq 9223372036854775806 type i\n");
  ASSERT_TRUE(manifest.AddIncrement("a").ok() && manifest.ReplaceBase("a", true).ok());
  AofManifest again = ParseOrDie(manifest.Format());
  EXPECT_EQ(again.increment_sequence(), uint64_t{INT64_MAX});
  EXPECT_EQ(again.base_sequence(), uint64_t{INT64_MAX});
  EXPECT_FALSE(AofManifest(again).AddIncrement("a").ok());
  EXPECT_FALSE(AofManifest(again).ReplaceBase("a", true).ok());
}

TEST(AofManifestTest, EveryAcceptedNameIsReadBack) {
  const std::string names[] = {"appendonly.aof",
                               "with space",
                               "q\"uote",
                               "back\\slash",
                               "tab\t",
                               "\xc3\xa4\xc3\xb6.aof",
                               "#hash",
                               std::string(200, 'x'),
                               std::string(200, '\xff'),
                               std::string(225, 'x')};
  for (const std::string& name : names) {
    const AofLocation location{"/aof", name};
    ASSERT_TRUE(CheckAofName(location).ok()) << name;
    AofManifest manifest;
    ASSERT_TRUE(manifest.ReplaceBase(name, true).ok());
    ASSERT_TRUE(manifest.AddIncrement(name).ok());
    const AofManifest again = ParseOrDie(manifest.Format());
    EXPECT_EQ(again.base()->name, name + ".1.base.rdb");
    EXPECT_EQ(again.increments().at(0).name, name + ".1.incr.aof");
  }
}

TEST(AofManifestTest, NamesThatCouldNotBeReadBackAreRefusedAtStart) {
  FakeEnv env(1);
  // 225 bytes are the most that leave room for ".<20 digits>.base.rdb" in a name of 255.
  for (const std::string& name : {std::string(226, 'x'), std::string(226, '\xff')}) {
    Result<AofManifest> manifest = PrepareAofDirectory(env, "/", {"/aof", name});
    ASSERT_FALSE(manifest.ok());
    EXPECT_EQ(manifest.status().code(), StatusCode::kClient);
    EXPECT_TRUE(manifest.status().message().starts_with("appendfilename is too long"));
    EXPECT_FALSE(*env.FileExists("/aof"));
  }
}

TEST(AofManifestTest, TheDirectoryItselfSurvivesAPowerCut) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    FakeEnv env(seed);
    ASSERT_TRUE(env.CreateDir("/data").ok());
    ASSERT_TRUE(env.SyncDir("/").ok());
    ASSERT_TRUE(PrepareAofDirectory(env, "/data", {"/data/aof"}).ok());
    env.Crash(seed);
    EXPECT_TRUE(*env.FileExists("/data/aof"));
  }
}

void Touch(FakeEnv& env, const std::string& path) { ASSERT_TRUE(env.OpenTruncate(path).ok()); }

TEST(AofManifestTest, SweepsLeftoversButNothingTheManifestNames) {
  FakeEnv env(1);
  const AofLocation location{"/aof", "temp-own"};
  ASSERT_TRUE(env.CreateDir("/aof").ok());
  AofManifest manifest;
  ASSERT_TRUE(manifest.ReplaceBase(location.append_name, true).ok());
  ASSERT_TRUE(manifest.AddIncrement(location.append_name).ok());
  ASSERT_TRUE(PersistAofManifest(env, location, manifest).ok());
  for (const char* name : {"temp-own.1.base.rdb", "temp-own.1.incr.aof", "temp-rewriteaof-bg.aof",
                           "temp-temp-own.manifest", "unknown"}) {
    Touch(env, location.PathOf(name));
  }
  ASSERT_TRUE(PrepareAofDirectory(env, "/", location).ok());
  const std::vector<std::string> left{"temp-own.1.base.rdb", "temp-own.1.incr.aof",
                                      "temp-own.manifest", "unknown"};
  EXPECT_EQ(*env.ListDir("/aof"), left);
}

TEST(AofManifestTest, SweepsTheServersDirectoryOfDeadProcessesOnly) {
  FakeEnv env(1);
  ASSERT_TRUE(env.CreateDir("/proc").ok());
  ASSERT_TRUE(env.CreateDir("/proc/77").ok());
  ASSERT_TRUE(env.CreateDir("/data").ok());
  for (const char* name : {"temp-12.rdb", "temp-77.rdb", "temp-5.rdb", "temp-rewriteaof-12.aof",
                           "temp-rewriteaof-bg-12.aof", "temp-x.rdb", "temp-.rdb", "dump.rdb"}) {
    Touch(env, std::string("/data/") + name);
  }
  EXPECT_EQ(SweepServerDirectory(env, "/data", 5), 4u);
  const std::vector<std::string> left{"dump.rdb", "temp-.rdb", "temp-77.rdb", "temp-x.rdb"};
  EXPECT_EQ(*env.ListDir("/data"), left);
}

TEST(AofManifestTest, WhatAProcessMayStillBeWritingIsNotSwept) {
  bool hit = true;
  for (uint64_t call = 1; hit; ++call) {
    FakeEnv env(1);
    ASSERT_TRUE(env.CreateDir("/proc").ok());
    ASSERT_TRUE(env.CreateDir("/proc/77").ok());
    Touch(env, "/temp-77.rdb");
    const uint64_t before = env.io_calls();
    env.FailNthCall(call, Status::Io("Input/output error"));
    EXPECT_EQ(SweepServerDirectory(env, "/", 5), 0u);
    hit = env.io_calls() - before >= call;
    env.FailNthCall(0, Status::Ok());
    EXPECT_TRUE(*env.FileExists("/temp-77.rdb")) << "call " << call;
  }
}

TEST(AofManifestTest, ADirectoryOfTheOldNameStaysWhereItIsWhateverFails) {
  bool hit = true;
  for (uint64_t call = 1; hit; ++call) {
    FakeEnv env(1);
    ASSERT_TRUE(env.CreateDir("/appendonly.aof").ok());
    Touch(env, "/appendonly.aof/kept");
    const uint64_t before = env.io_calls();
    env.FailNthCall(call, Status::Io("Input/output error"));
    const Result<AofManifest> manifest = PrepareAofDirectory(env, "/", {"/aof"});
    hit = env.io_calls() - before >= call;
    EXPECT_EQ(manifest.ok(), !hit) << "call " << call;
    if (!hit) {
      EXPECT_TRUE(manifest->empty());
    }
    env.FailNthCall(0, Status::Ok());
    EXPECT_TRUE(*env.FileExists("/appendonly.aof/kept")) << "call " << call;
    EXPECT_FALSE(*env.FileExists("/aof/appendonly.aof.manifest")) << "call " << call;
  }
}

TEST(AofManifestTest, FilesOfALostManifestAreNeverTouched) {
  FakeEnv env(1);
  const AofLocation location{"/aof"};
  ASSERT_TRUE(env.CreateDir("/aof").ok());
  const std::vector<std::string> lost{"appendonly.aof.3.base.rdb", "appendonly.aof.7.incr.aof"};
  for (const std::string& name : lost) Touch(env, location.PathOf(name));
  for (const char* name :
       {"appendonly.aof", "appendonly.aof.0.incr.aof", "appendonly.aof.x.incr.aof",
        "appendonly.aof.9.incr.aof.old", "other.aof.9.incr.aof",
        "appendonly.aof.18446744073709551615.incr.aof"}) {
    Touch(env, location.PathOf(name));
  }
  std::vector<std::string> stray;
  Result<AofManifest> manifest = PrepareAofDirectory(env, "/", location, &stray);
  ASSERT_TRUE(manifest.ok()) << manifest.status().message();
  EXPECT_EQ(stray, lost);
  EXPECT_TRUE(manifest->empty());
  EXPECT_EQ(manifest->AddIncrement(location.append_name)->name, "appendonly.aof.8.incr.aof");
  EXPECT_EQ(manifest->ReplaceBase(location.append_name, true)->name, "appendonly.aof.4.base.rdb");
  ASSERT_TRUE(PersistAofManifest(env, location, *manifest).ok());
  // With a manifest in force they are what an interrupted rotation left, which is made anew.
  stray.clear();
  ASSERT_TRUE(PrepareAofDirectory(env, "/", location, &stray).ok());
  EXPECT_TRUE(stray.empty());
}

TEST(AofManifestTest, AManifestThatCannotBeLookedAtIsNoEmptyOne) {
  const AofLocation location{"/aof"};
  for (uint64_t call = 1; call <= 3; ++call) {
    FakeEnv env(1);
    ASSERT_TRUE(env.CreateDir("/aof").ok());
    AofManifest manifest;
    ASSERT_TRUE(manifest.AddIncrement(location.append_name).ok());
    ASSERT_TRUE(PersistAofManifest(env, location, manifest).ok());
    const uint64_t before = env.io_calls();
    env.FailNthCall(call, Status::Io("Input/output error"));
    const Result<AofManifest> found = LoadAofManifest(env, location);
    if (env.io_calls() - before < call) {
      EXPECT_EQ(found->increments().size(), 1u);
    } else {
      EXPECT_FALSE(found.ok()) << "call " << call;
    }
  }
}

TEST(AofManifestTest, TakesASingleFileAofOver) {
  FakeEnv env(1);
  Touch(env, "/appendonly.aof");
  Result<AofManifest> manifest = PrepareAofDirectory(env, "/", {"/aof"});
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->base()->name, "appendonly.aof");
  EXPECT_TRUE(*env.FileExists("/aof/appendonly.aof"));
  EXPECT_FALSE(*env.FileExists("/appendonly.aof"));
  EXPECT_EQ(WithoutCheck(LoadAofManifest(env, {"/aof"})->Format()),
            "file appendonly.aof seq 1 type b\n");
}

}  // namespace
}  // namespace cairn

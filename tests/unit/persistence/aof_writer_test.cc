#include "persistence/aof_writer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>

#include "tests/unit/persistence/aof_writer_fixture.h"

namespace cairn {
namespace {

// A11
TEST_F(AofWriterTest, WhatBytesNameIsSyncedBeforeTheyAreWrittenUnderEachPolicy) {
  for (const AofSyncPolicy policy :
       {AofSyncPolicy::kAlways, AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    options_.policy = policy;
    auto writer = Open();
    const int syncs = name_syncs_;
    unsynced_names_ = true;
    const std::string key = "named" + std::to_string(static_cast<int>(policy));
    writer->Append(SetCommand(key, "chunk"), 0);
    EXPECT_LT(writer->written_offset(), writer->appended_offset()) << "not for the executor";
    EXPECT_EQ(name_syncs_, syncs);
    failing_names_ = 2;
    (void)writer->RunOnce();
    EXPECT_LT(writer->written_offset(), writer->appended_offset());
    EXPECT_EQ(writer->state(), AofState::kDegraded) << "writes are refused";
    env_.AdvanceMicros(10'000'000);
    (void)writer->RunOnce();
    EXPECT_LT(writer->written_offset(), writer->appended_offset()) << "it failed again";
    env_.AdvanceMicros(10'000'000);
    (void)writer->RunOnce();
    EXPECT_EQ(writer->written_offset(), writer->appended_offset());
    EXPECT_EQ(writer->state(), AofState::kOk);
    EXPECT_EQ(name_syncs_, syncs + 3);
    ASSERT_TRUE(writer->Close().ok());
    const std::vector<std::string> lines = Load();
    ASSERT_FALSE(lines.empty());
    EXPECT_EQ(lines.back(), "SET " + key + " chunk");
  }
}

TEST_F(AofWriterTest, EverysecWritesAtOnceAndSyncsWithinASecondAlsoAfterTheLastWrite) {
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  EXPECT_EQ(writer->written_offset(), writer->appended_offset());  // before the reply leaves (A9)
  (void)writer->RunOnce();
  env_.AdvanceMicros(1'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  writer->Append(SetCommand("a", "2"), 0);
  const int64_t wish_ms = writer->RunOnce();
  EXPECT_GT(wish_ms, 0);
  EXPECT_LE(wish_ms, 1000);
  env_.AdvanceMicros(wish_ms * 1000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  EXPECT_EQ(writer->RunOnce(), -1);
}

TEST_F(AofWriterTest, EverysecDoesNotWaitForItsSecondWithMuchUnsynced) {
  auto writer = Open();
  writer->Append(SetCommand("a", std::string(AofWriter::kMaxUnsyncedBytes - 4096, 'x')), 0);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->durable_offset(), 0u);
  writer->Append(SetCommand("b", std::string(8192, 'x')), 0);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
}

TEST_F(AofWriterTest, AlwaysMakesOneGroupAndOneSyncOfAllThatWaits) {
  options_.policy = AofSyncPolicy::kAlways;
  auto writer = Open();
  progress_ = 0;
  const uint64_t calls = env_.io_calls();
  for (int i = 0; i < 40; ++i) writer->Append(SetCommand("k", std::to_string(i)), 0);
  EXPECT_EQ(writer->written_offset(), 0u);  // never on the executor
  (void)writer->RunOnce();
  EXPECT_EQ(env_.io_calls() - calls, 3u);  // the padding, a write and a sync
  EXPECT_EQ(progress_, 1);                 // one wake-up
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
}

TEST_F(AofWriterTest, AlwaysKeepsTheFileLongerThanItsGroups) {
  options_.policy = AofSyncPolicy::kAlways;
  options_.pad_bytes = 200;
  auto writer = Open();
  const std::string name = writer->manifest().increments().back().name;
  std::set<size_t> sizes;
  for (int i = 0; i < 40; ++i) {
    writer->Append(SetCommand("k", std::to_string(i)), 0);
    (void)writer->RunOnce();
    const std::string text = Read(name);
    EXPECT_EQ(text.back(), '#');
    sizes.insert(text.size());
    AofScan scan;
    CommandRecorder recorder;
    ASSERT_TRUE(ScanAofText(text, 0, recorder, &scan).ok());
    EXPECT_EQ(scan.tail, AofTail::kWhole);
    EXPECT_EQ(scan.good_bytes, writer->current_size());
  }
  EXPECT_LE(sizes.size(), 20u);  // most groups found the length as it was
  ASSERT_TRUE(Rewrite(*writer, "").ok());
  writer->Append(SetCommand("k", "end"), 0);
  ASSERT_TRUE(writer->Close().ok());
  for (const std::string& file : Names()) {
    if (file.ends_with(".incr.aof")) {
      EXPECT_FALSE(Read(file).ends_with('#')) << file;
    }
  }
}

TEST_F(AofWriterTest, NoPaddingWithoutChecksOrUnderOtherPolicies) {
  for (const AofSyncPolicy policy : {AofSyncPolicy::kAlways, AofSyncPolicy::kEverySecond}) {
    options_.policy = policy;
    options_.checksum = policy != AofSyncPolicy::kAlways;
    auto writer = Open();
    writer->Append(SetCommand("k", "v"), 0);
    (void)writer->RunOnce();
    EXPECT_FALSE(Read(writer->manifest().increments().back().name).ends_with('#'));
    ASSERT_TRUE(writer->Close().ok());
  }
}

TEST_F(AofWriterTest, AFullDiskIsNotFilledWithPadding) {
  options_.policy = AofSyncPolicy::kAlways;
  auto writer = Open();
  const std::string command = SetCommand("k", "v");
  env_.SetCapacity(env_.used_bytes() + 400);
  writer->Append(command, 0);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  EXPECT_FALSE(Read(writer->manifest().increments().back().name).ends_with('#'));
}

TEST_F(AofWriterTest, TheExecutorLeavesABusyDiskToTheLogThread) {
  auto writer = Open();
  writer->SetDiskBusy(true);
  progress_ = 0;
  writer->Append(SetCommand("a", "1"), 0);
  EXPECT_EQ(writer->written_offset(), 0u);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->written_offset(), writer->appended_offset());
  EXPECT_GE(progress_, 1);
}

TEST_F(AofWriterTest, KnowsManifestAndSizesAfterARestart) {
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  ASSERT_TRUE(Rewrite(*writer, SetCommand("a", "1")).ok());
  (void)writer->BeginRewrite();  // a cut without an end: two increments
  (void)writer->RunOnce();
  writer->AbortRewrite();
  writer->Append(SetCommand("b", "2"), 0);
  (void)writer->RunOnce();
  const uint64_t size = writer->current_size();
  const std::string manifest = writer->manifest().Format();
  ASSERT_TRUE(writer->Close().ok());
  writer = Open();
  EXPECT_EQ(writer->current_size(), size);
  EXPECT_EQ(writer->base_size(), size);
  EXPECT_EQ(writer->base_file_bytes(), SetCommand("a", "1").size());
  EXPECT_EQ(writer->manifest().Format(), manifest);
  EXPECT_EQ(writer->manifest().increments().size(), 2u);
}

TEST_F(AofWriterTest, ARotationWhoseManifestIsUncertainStopsWritesUntilItIsKnown) {  // A8
  // Every call of the rotation fails in turn; then a torn write and a power cut must not end in a
  // refused start.
  for (uint64_t n = 1; n < 14; ++n) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      FakeEnv env(seed);
      ASSERT_TRUE(env.CreateDir("/data").ok() && env.SyncDir("/").ok());
      auto manifest = PrepareAofDirectory(env, "/data", kLocation);
      AofManifest first;
      ASSERT_TRUE(first.AddIncrement("appendonly.aof").ok());
      ASSERT_TRUE(env.OpenTruncate(kLocation.PathOf("appendonly.aof.1.incr.aof")).ok());
      ASSERT_TRUE(PersistAofManifest(env, kLocation, first).ok());
      options_.policy = AofSyncPolicy::kNever;
      options_.checksum = false;
      AofWriter writer(env, options_, {});
      ASSERT_TRUE(writer.Open(first, 0, true).ok());
      writer.Append(SetCommand("a", "1"), 0);
      env.FailNthCall(n, Status::Io("I/O error"));
      (void)writer.BeginRewrite();
      (void)writer.RunOnce();
      writer.Append(SetCommand("b", "22222"), 0);
      (void)writer.RunOnce();
      env.FailNthCall(1, Status::Io("power cut"), true);
      EXPECT_FALSE(writer.Close().ok() && writer.durable_offset() < writer.appended_offset());
      env.Crash(seed);
      CommandRecorder recorder;
      auto found = LoadAofManifest(env, kLocation);
      ASSERT_TRUE(found.ok());
      auto report = LoadAof(env, kLocation, *found, nullptr, recorder, {});
      ASSERT_TRUE(report.ok()) << "call " << n << " seed " << seed << ": "
                               << report.status().message();
    }
  }
}

TEST_F(AofWriterTest, WithoutANumberForANewFileTheOldOnesGoOn) {
  const std::string text = "file a.base seq 1 type b\nfile a.incr seq 9223372036854775806 type i\n";
  ASSERT_TRUE(env_.CreateDir(kLocation.directory).ok());
  for (const char* name : {"a.base", "a.incr"})
    ASSERT_TRUE(env_.OpenTruncate(kLocation.PathOf(name)).ok());
  ASSERT_TRUE(env_.WriteFileAtomically(kLocation.ManifestPath(), text).ok());
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  EXPECT_TRUE(Rewrite(*writer, "").ok());
  writer->Append(SetCommand("b", "2"), 0);
  const std::string before = Read("appendonly.aof.manifest");
  EXPECT_FALSE(Rewrite(*writer, "").ok());
  EXPECT_EQ(Read("appendonly.aof.manifest"), before);
  EXPECT_EQ(writer->state(), AofState::kOk);
  writer->Append(SetCommand("c", "3"), 0);
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 0", "SET b 2", "SET c 3"}));
}

TEST_F(AofWriterTest, ANewIncrementBeginsWithItsDatabase) {
  auto writer = Open();
  writer->Append("*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n" + SetCommand("a", "1"), -1);
  (void)writer->BeginRewrite();
  writer->Append(SetCommand("b", "2"), 3);
  (void)writer->RunOnce();
  writer->AbortRewrite();
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 3", "SET a 1", "SELECT 3", "SET b 2"}));
}

// The log thread may come to the end of the one only when it has made the cut of the other.
TEST_F(AofWriterTest, ARewriteRightBehindOneThatWasGivenUpKeepsItsCut) {
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->BeginRewrite();
  writer->AbortRewrite();
  const Status rewritten = Rewrite(*writer, SetCommand("a", "1"));
  EXPECT_TRUE(rewritten.ok()) << rewritten.message();
}

TEST_F(AofWriterTest, TimestampsStandOnceASecond) {
  options_.timestamps = true;
  options_.checksum = false;
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  writer->Append(SetCommand("a", "2"), 0);
  env_.AdvanceMicros(1'000'000);
  writer->Append(SetCommand("a", "3"), 0);
  (void)writer->RunOnce();
  const std::string name = writer->manifest().increments().back().name;
  EXPECT_EQ(Read(name), "#TS:1767225600\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" +
                            SetCommand("a", "1") + SetCommand("a", "2") + "#TS:1767225601\r\n" +
                            SetCommand("a", "3"));
}

// Clients wait while a log is begun. Its first manifest makes everything durable at once.
TEST_F(AofWriterTest, BeginningALogSyncsNothingBeforeItsFirstRewriteEnds) {
  options_.policy = AofSyncPolicy::kAlways;
  bool lost = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const bool rewritten : {false, true}) {
      FakeEnv env(seed);
      ASSERT_TRUE(env.CreateDir("/data").ok() && env.SyncDir("/").ok());
      Result<AofManifest> manifest = EnterAofDirectory(env, kLocation);
      ASSERT_TRUE(manifest.ok());
      AofWriter writer(env, options_, AofCallbacks{});
      ASSERT_TRUE(writer.OpenForFirstRewrite(*manifest, 0).ok());
      if (rewritten) {
        (void)writer.BeginRewrite();
        writer.Append(SetCommand("a", "1"), 0);
        (void)writer.RunOnce();
        auto base = env.OpenTruncate(writer.TempBasePath());
        ASSERT_TRUE(base.ok() && (*base)->Sync().ok());
        writer.FinishRewrite(writer.TempBasePath(), false, [](const Status&) {});
        (void)writer.RunOnce();
        ASSERT_TRUE(writer.protecting());
      }
      env.Crash(seed);
      if (!rewritten) {
        lost = lost || !*env.FileExists(kLocation.directory);
        continue;
      }
      CommandRecorder recorder;
      ASSERT_TRUE(
          LoadAof(env, kLocation, *LoadAofManifest(env, kLocation), nullptr, recorder, {}).ok());
      EXPECT_EQ(recorder.lines, (std::vector<std::string>{"SELECT 0", "SET a 1"})) << seed;
    }
  }
  EXPECT_TRUE(lost);
}

// Turned on and off again before the first rewrite was done, over old files and over none.
TEST_F(AofWriterTest, WhatNoManifestNamesIsRemovedAtTheEnd) {
  for (const bool old_files : {false, true}) {
    if (old_files) {
      ASSERT_TRUE(Open()->Close().ok());
    }
    const std::vector<std::string> before = old_files ? Names() : std::vector<std::string>{};
    for (int i = 0; i < 3; ++i) {
      AofWriter writer(env_, options_, AofCallbacks{});
      Result<AofManifest> manifest = PrepareAofDirectory(env_, "/data", kLocation);
      ASSERT_TRUE(manifest.ok());
      ASSERT_TRUE(writer.OpenForFirstRewrite(*manifest, 0).ok());
      (void)writer.BeginRewrite();
      writer.Append(SetCommand("a", "1"), 0);
      (void)writer.RunOnce();
      EXPECT_GE(Names().size(), before.size() + 2);
      if (i > 0) writer.AbortRewrite();
      EXPECT_TRUE(writer.Close().ok());
      EXPECT_EQ(Names(), before);
    }
  }
}

TEST_F(AofWriterTest, SupersededFilesGoOrAreKept) {
  options_.keep_history = true;
  auto writer = Open();
  ASSERT_TRUE(Rewrite(*writer, "").ok());
  ASSERT_TRUE(Rewrite(*writer, "").ok());
  const auto has = [this](std::string_view name) {
    for (const std::string& each : Names()) {
      if (each == name) return true;
    }
    return false;
  };
  EXPECT_TRUE(has("appendonly.aof.1.base.aof"));
  EXPECT_TRUE(has("appendonly.aof.2.incr.aof"));
  EXPECT_FALSE(writer->manifest().history().empty());
  writer->SetKeepHistory(false);
  (void)writer->RunOnce();
  EXPECT_FALSE(has("appendonly.aof.1.base.aof"));
  EXPECT_FALSE(has("appendonly.aof.2.incr.aof"));
  EXPECT_TRUE(has("appendonly.aof.3.base.aof"));
  EXPECT_TRUE(writer->manifest().history().empty());
  EXPECT_TRUE(LoadAofManifest(env_, kLocation)->history().empty());
}

TEST_F(AofWriterTest, AFailedRewriteChangesNothing) {
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->RunOnce();
  for (uint64_t n = 1; n <= 3; ++n) {  // rename, sync of the directory, the manifest's file
    (void)writer->BeginRewrite();
    (void)writer->RunOnce();
    auto file = env_.OpenTruncate(writer->TempBasePath());
    ASSERT_TRUE((*file)->Append(SetCommand("wrong", "1")).ok());
    Status outcome;
    writer->FinishRewrite(writer->TempBasePath(), false,
                          [&outcome](const Status& status) { outcome = status; });
    env_.FailNthCall(n, Status::Io("I/O error"));
    (void)writer->RunOnce();
    EXPECT_FALSE(outcome.ok()) << n;
    EXPECT_FALSE(*env_.FileExists(writer->TempBasePath())) << n;
    const std::vector<std::string> lines = Load();
    ASSERT_FALSE(lines.empty());
    EXPECT_EQ(lines.back(), "SET a 1") << n;
  }
  EXPECT_TRUE(Rewrite(*writer, SetCommand("a", "1")).ok());
}

TEST_F(AofWriterTest, ThrottlesAboveTheLimitAndNotBelow) {
  options_.buffer_limit_bytes = 1000;
  auto writer = Open();
  writer->SetDiskBusy(true);
  writer->Append(std::string(1000, '#'), 0);
  EXPECT_FALSE(writer->ShouldThrottle());
  writer->Append("#", 0);
  EXPECT_TRUE(writer->ShouldThrottle());
  (void)writer->RunOnce();
  EXPECT_FALSE(writer->ShouldThrottle());
}

TEST_F(AofWriterTest, EverysecThrottlesWhenTheOldestUnsyncedByteIsTooOld) {
  options_.unsynced_limit_ms = 2000;
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  env_.AdvanceMicros(2'000'000);
  EXPECT_FALSE(writer->ShouldThrottle());
  EXPECT_EQ(writer->oldest_unsynced_ms(), 2000);
  env_.AdvanceMicros(1);
  EXPECT_TRUE(writer->ShouldThrottle());
  writer->SetUnsyncedLimit(0);  // none
  EXPECT_FALSE(writer->ShouldThrottle());
  writer->SetUnsyncedLimit(2000);
  EXPECT_TRUE(writer->ShouldThrottle());
  (void)writer->RunOnce();
  EXPECT_FALSE(writer->ShouldThrottle());
  EXPECT_EQ(writer->oldest_unsynced_ms(), 0);
}

TEST_F(AofWriterTest, EverysecThrottlesByWhatIsNotSyncedAndNoByWhatIsNotWritten) {
  options_.buffer_limit_bytes = 1000;
  options_.pad_bytes = 0;
  auto writer = Open();
  writer->Append(std::string(400, '#'), 0);  // written here, less than half of the limit: no sync
  EXPECT_EQ(writer->written_offset(), writer->appended_offset());
  (void)writer->RunOnce();
  EXPECT_LT(writer->durable_offset(), writer->appended_offset());
  writer->SetDiskBusy(true);
  writer->Append(std::string(601, '#'), 0);
  EXPECT_TRUE(writer->ShouldThrottle());
  writer->SetPolicy(AofSyncPolicy::kNever);
  EXPECT_FALSE(writer->ShouldThrottle());
  writer->SetPolicy(AofSyncPolicy::kEverySecond);
  // More than half of the limit: the second is not waited for.
  (void)writer->RunOnce();
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  EXPECT_FALSE(writer->ShouldThrottle());
}

TEST_F(AofWriterTest, ADiskThatFailsThrottlesNobody) {  // writes are refused instead
  options_.buffer_limit_bytes = 1000;
  auto writer = Open();
  writer->SetDiskBusy(true);
  writer->Append(std::string(2000, '#'), 0);
  EXPECT_TRUE(writer->ShouldThrottle());
  env_.FailNthCall(1, Status::Io("no luck"), true);
  (void)writer->RunOnce();
  env_.FailNthCall(0, Status::Ok());
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  EXPECT_FALSE(writer->ShouldThrottle());
}

// With the thread: what ThreadSanitizer looks at.

TEST_F(AofWriterTest, WaitDurableNeverMissesTheNews) {
  for (const AofSyncPolicy policy :
       {AofSyncPolicy::kAlways, AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    options_.policy = policy;
    auto writer = Open();
    writer->StartThread();
    for (int i = 0; i < 300; ++i) {
      writer->Append(SetCommand("k", std::to_string(i)), 0);
      ASSERT_TRUE(writer->WaitDurable(writer->appended_offset(), 60'000));
    }
    ASSERT_TRUE(writer->Close().ok());
  }
}

TEST_F(AofWriterTest, WaitDurableEndsWhenTheStateChanges) {
  options_.policy = AofSyncPolicy::kAlways;
  for (int i = 0; i < 50; ++i) {
    auto writer = Open();
    writer->StartThread();
    env_.FailNthCall(2, Status::Io("I/O error"), true);
    writer->Append(SetCommand("a", "1"), 0);
    const auto began = std::chrono::steady_clock::now();
    EXPECT_FALSE(writer->WaitDurable(writer->appended_offset(), 60'000));
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
    env_.FailNthCall(0, Status::Ok());
    ASSERT_TRUE(writer->Close().ok());
  }
}

TEST_F(AofWriterTest, ExecutorAndLogThreadShareTheFile) {
  std::vector<std::string> wanted{"SELECT 0"};
  auto writer = Open();
  writer->StartThread();
  for (int i = 0; i < 2000; ++i) {
    if (i % 97 == 0) writer->SetDiskBusy(i % 2 == 0);
    if (i % 251 == 0) env_.AdvanceMicros(1'000'000);
    if (i % 401 == 0)
      writer->SetPolicy(i % 2 == 0 ? AofSyncPolicy::kAlways : AofSyncPolicy::kNever);
    writer->Append(SetCommand("k", std::to_string(i)), 0);
    wanted.push_back("SET k " + std::to_string(i));
  }
  ASSERT_TRUE(writer->WaitDurable(writer->appended_offset(), 60'000));
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load(), wanted);
}

// Under always the sync thread writes what comes while it syncs; cuts must still find it quiet.
TEST_F(AofWriterTest, TheSyncThreadGoesOnUnderAlwaysAcrossCuts) {
  options_.policy = AofSyncPolicy::kAlways;
  std::vector<std::string> wanted;
  auto writer = Open();
  writer->StartThread();
  for (int i = 0; i < 4000; ++i) {
    writer->Append(SetCommand("k", std::to_string(i)), 0);
    wanted.push_back("SET k " + std::to_string(i));
    if (i % 400 == 199) (void)writer->BeginRewrite();
    if (i % 400 == 299) writer->AbortRewrite();
    if (i % 100 == 50) {
      ASSERT_TRUE(writer->WaitDurable(writer->appended_offset(), 60'000)) << i;
    }
  }
  // Nobody asks for this sync: the last bytes become durable by themselves.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (writer->durable_offset() < writer->appended_offset()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
  ASSERT_TRUE(writer->Close().ok());
  std::vector<std::string> loaded = Load();
  std::erase(loaded, "SELECT 0");  // each file begins with one
  EXPECT_EQ(loaded, wanted);
}

}  // namespace
}  // namespace cairn

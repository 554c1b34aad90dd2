// A save on a disk that forgets: the power goes, or a call fails, at every I/O call of a save that
// replaces an older one. Under its final name there is always one whole file, the old or the new
// one (V9), and the new one for certain once the save has said so.

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "persistence/snapshot_job.h"
#include "server/platform/fake_env.h"

namespace cairn {
namespace {

constexpr const char* kTemp = "/data/temp-1.rdb";
constexpr const char* kFinal = "/data/dump.rdb";
constexpr const char* kAlso = "/data/also.rdb";
constexpr int kKeys = 300;
constexpr uint64_t kSeeds = 6;

/// kKeys strings whose values name their version.
class Source final : public SnapshotSource {
 public:
  explicit Source(int version) : version_(version) {}
  uint64_t key_count() const override { return kKeys; }
  Result<bool> Step(DatasetSink& sink, size_t) override {
    if (next_ == 0) CAIRN_RETURN_IF_ERROR(sink.SelectDatabase(0, kKeys, 0));
    for (int end = next_ + 50; next_ < end; ++next_) {
      Result<ValueSink*> value = sink.Key("key:" + std::to_string(next_), {});
      if (!value.ok()) return value.status();
      CAIRN_RETURN_IF_ERROR((*value)->String("version " + std::to_string(version_) +
                                             std::string(static_cast<size_t>(next_), 'x')));
    }
    return next_ < kKeys;
  }
  void Abandon() override { abandoned = true; }

  bool abandoned = false;

 private:
  const int version_;
  int next_ = 0;
};

void MakeDirectory(FakeEnv& env) {
  ASSERT_TRUE(env.CreateDir("/data").ok());
  ASSERT_TRUE(env.SyncDir("/").ok());
}

/// A rewrite that saves too.
SnapshotJobOptions OptionsOfARewrite() {
  SnapshotJobOptions options;
  options.temp_path = kTemp;
  options.also_final_path = kAlso;
  return options;
}

enum class Names { kSave, kRewrite };

class SnapshotSimTest : public testing::TestWithParam<Names> {
 protected:
  static SnapshotJobOptions Options() {
    if (GetParam() == Names::kRewrite) return OptionsOfARewrite();
    SnapshotJobOptions options;
    options.temp_path = kTemp;
    options.final_path = kFinal;
    return options;
  }
  static const char* Name() { return GetParam() == Names::kSave ? kFinal : kAlso; }
  /// OK when the file under the name is the one of `version`, for certain.
  static Status Save(FakeEnv& env, int version) {
    Source source(version);
    SnapshotJob job(env, source, Options());
    const Status status = job.Run();
    return status.ok() && GetParam() == Names::kRewrite ? job.also_status() : status;
  }
  static void Prepare(FakeEnv& env) {
    ASSERT_NO_FATAL_FAILURE(MakeDirectory(env));
    ASSERT_TRUE(Save(env, 1).ok());
  }
  static std::string FileOf(int version) {
    FakeEnv env(1);
    EXPECT_TRUE(env.CreateDir("/data").ok());
    EXPECT_TRUE(Save(env, version).ok());
    return *env.ReadFileToString(Name());
  }
  static uint64_t CallsOfASave() {
    FakeEnv env(1);
    Prepare(env);
    const uint64_t before = env.io_calls();
    EXPECT_TRUE(Save(env, 2).ok());
    return env.io_calls() - before;
  }
  /// The next save finds nothing in its way, and leaves nothing behind but what it was to write.
  static void GoOn(FakeEnv& env, const std::string& third) {
    ASSERT_TRUE(Save(env, 3).ok());
    EXPECT_EQ(*env.ReadFileToString(Name()), third);
    std::string copy(kTemp);
    copy += ".copy";
    EXPECT_FALSE(*env.FileExists(copy));
    EXPECT_EQ(*env.FileExists(kTemp), GetParam() == Names::kRewrite);
  }
};

TEST_P(SnapshotSimTest, PowerCutAtEveryCall) {
  const std::string first = FileOf(1), second = FileOf(2), third = FileOf(3);
  const uint64_t calls = CallsOfASave();
  ASSERT_GT(calls, 5u);
  for (uint64_t n = 1; n <= calls + 1; ++n) {
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      SCOPED_TRACE("call " + std::to_string(n) + " seed " + std::to_string(seed));
      FakeEnv env(seed);
      ASSERT_NO_FATAL_FAILURE(Prepare(env));
      env.SetShortWrites(seed % 2 == 0);
      env.FailNthCall(n, Status::Io("power cut"), true);
      const bool saved = Save(env, 2).ok();
      EXPECT_EQ(saved, n > calls);
      env.Crash(seed * 1000 + n);
      const Result<std::string> found = env.ReadFileToString(Name());
      ASSERT_TRUE(found.ok()) << found.status().message();
      EXPECT_TRUE(*found == second || (*found == first && !saved));
      ASSERT_NO_FATAL_FAILURE(GoOn(env, third));
    }
  }
}

TEST_P(SnapshotSimTest, ErrorAtEveryCall) {
  const std::string first = FileOf(1), second = FileOf(2), third = FileOf(3);
  const uint64_t calls = CallsOfASave();
  for (uint64_t n = 1; n <= calls; ++n) {
    for (const bool full : {false, true}) {
      SCOPED_TRACE("call " + std::to_string(n) + (full ? " no space" : " I/O error"));
      FakeEnv env(n);
      ASSERT_NO_FATAL_FAILURE(Prepare(env));
      env.SetShortWrites(n % 2 == 0);
      env.SetFailedSyncsForget(true);
      env.FailNthCall(n, full ? Status(StatusCode::kNoSpace, "No space left on device")
                              : Status::Io("Input/output error"));
      const bool saved = Save(env, 2).ok();
      const std::string found = *env.ReadFileToString(Name());
      EXPECT_TRUE(found == second || (found == first && !saved));
      env.Crash(n);
      const std::string later = *env.ReadFileToString(Name());
      EXPECT_TRUE(later == second || (later == first && !saved));
      ASSERT_NO_FATAL_FAILURE(GoOn(env, third));
    }
  }
}

TEST_P(SnapshotSimTest, AFailedSinkGivesTheWalkUp) {
  FakeEnv env(1);
  ASSERT_NO_FATAL_FAILURE(Prepare(env));
  env.SetCapacity(*env.FileSize(Name()) + 1000);  // what a rewrite left at kTemp goes first
  Source source(2);
  SnapshotJob job(env, source, Options());
  EXPECT_EQ(job.Run().code(), StatusCode::kNoSpace);
  EXPECT_TRUE(source.abandoned);
  EXPECT_EQ(*env.ReadFileToString(Name()), FileOf(1));
}

/// Whoever writes another file over dump.rdb in place must not change the log's base.
TEST(SnapshotSim, TheRdbFileOfARewriteIsNoSecondNameOfItsBase) {
  FakeEnv env(1);
  ASSERT_NO_FATAL_FAILURE(MakeDirectory(env));
  Source source(1);
  SnapshotJob job(env, source, OptionsOfARewrite());
  ASSERT_TRUE(job.Run().ok());
  ASSERT_TRUE(job.also_status().ok());
  const std::string base = *env.ReadFileToString(kTemp);
  EXPECT_EQ(*env.ReadFileToString(kAlso), base);
  ASSERT_TRUE((*env.OpenTruncate(kAlso))->Append("another file").ok());
  EXPECT_EQ(*env.ReadFileToString(kTemp), base);
}

/// The base is sound, so the rewrite goes on; the save is what failed.
TEST(SnapshotSim, NoRoomForTheCopyFailsTheSaveAlone) {
  FakeEnv env(1);
  ASSERT_NO_FATAL_FAILURE(MakeDirectory(env));
  Source measured(1);
  ASSERT_TRUE(SnapshotJob(env, measured, OptionsOfARewrite()).Run().ok());
  const uint64_t size = *env.FileSize(kAlso);
  for (const char* name : {kTemp, kAlso}) ASSERT_TRUE(env.Remove(name).ok());
  env.SetCapacity(size * 2);  // not the fifth more that is left to the log
  Source source(1);
  SnapshotJob job(env, source, OptionsOfARewrite());
  EXPECT_TRUE(job.Run().ok());
  EXPECT_EQ(job.also_status().code(), StatusCode::kNoSpace);
  EXPECT_TRUE(*env.FileExists(kTemp));
  EXPECT_FALSE(*env.FileExists(kAlso));
}

std::string NameOf(const testing::TestParamInfo<Names>& info) {
  return info.param == Names::kSave ? "Save" : "RewriteThatSavesToo";
}

INSTANTIATE_TEST_SUITE_P(Names, SnapshotSimTest, testing::Values(Names::kSave, Names::kRewrite),
                         NameOf);

}  // namespace
}  // namespace cairn

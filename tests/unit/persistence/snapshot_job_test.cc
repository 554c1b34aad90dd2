// How a walk is ended early, and kept to its share of a core: within a value as well, for one
// value may take minutes. What it writes on a disk that fails is sim/snapshot_sim_test.cc's.

#include "persistence/snapshot_job.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "server/platform/fake_env.h"
#include "server/platform/worker.h"

namespace cairn {
namespace {

constexpr const char* kTemp = "/temp-1.rdb";
constexpr uint64_t kItems = 200'000;

/// One list of kItems strings of 100 bytes; `ahead` is called with each item's number before it.
class OneListSource final : public SnapshotSource {
 public:
  explicit OneListSource(std::function<void(uint64_t)> ahead) : ahead_(std::move(ahead)) {}
  uint64_t key_count() const override { return 1; }
  Result<bool> Step(DatasetSink& sink, size_t) override {
    CAIRN_RETURN_IF_ERROR(sink.SelectDatabase(0, 1, 0));
    Result<ValueSink*> value = sink.Key("list", {});
    if (!value.ok()) return value.status();
    CAIRN_RETURN_IF_ERROR((*value)->Begin(ValueKind::kList, kItems));
    for (; emitted < kItems; ++emitted) {
      ahead_(emitted);
      CAIRN_RETURN_IF_ERROR((*value)->Item(std::string(100, 'x')));
    }
    CAIRN_RETURN_IF_ERROR((*value)->End());
    return false;
  }
  void Abandon() override { abandoned = true; }

  uint64_t emitted = 0;
  bool abandoned = false;

 private:
  const std::function<void(uint64_t)> ahead_;
};

/// As a save in the background has them.
SnapshotJobOptions Options() {
  SnapshotJobOptions options;
  options.temp_path = kTemp;
  options.gives_way = [] { return false; };
  options.rdb.compress = false;
  return options;
}

void Burn(int64_t cpu_us) {
  for (const int64_t until_us = ThreadCpuMicros() + cpu_us; ThreadCpuMicros() < until_us;) {
  }
}

int64_t MillisSince(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               began)
      .count();
}

TEST(SnapshotJobTest, AnAbortEndsItWithinAValue) {
  for (const bool as_commands : {false, true}) {
    FakeEnv env(1);
    SnapshotJob* running = nullptr;
    OneListSource source([&](uint64_t item) {
      if (item == 1000) running->Abort();
    });
    SnapshotJobOptions options = Options();
    options.as_commands = as_commands;
    SnapshotJob job(env, source, options);
    running = &job;
    EXPECT_EQ(job.Run().code(), StatusCode::kCancelled);
    EXPECT_LT(source.emitted, 20'000u) << "as commands: " << as_commands;  // 2 MB of 20
    EXPECT_TRUE(source.abandoned);
    EXPECT_FALSE(*env.FileExists(kTemp));
  }
}

TEST(SnapshotJobTest, AnAbortDoesNotWaitForWhatIsOwed) {
  FakeEnv env(1);
  bool owes = false;
  OneListSource source([&](uint64_t item) {
    if (item != 0) return;
    Burn(30'000);  // at 1 % three seconds
    owes = true;
  });
  SnapshotJob* running = nullptr;
  int asked = 0;
  SnapshotJobOptions options = Options();
  options.cpu_limit_percent = 1;
  options.in_a_hurry = [&] {
    if (owes && ++asked == 3) running->Abort();
    return false;
  };
  SnapshotJob job(env, source, options);
  running = &job;
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(job.Run().code(), StatusCode::kCancelled);
  EXPECT_LT(MillisSince(began), 2000);
  EXPECT_EQ(asked, 3);
  EXPECT_LT(source.emitted, kItems);
}

TEST(SnapshotJobTest, SleepsForItsShareWithinAValue) {
  FakeEnv env(1);
  const auto began = std::chrono::steady_clock::now();
  int64_t last_item_ms = 0;
  OneListSource source([&](uint64_t item) {
    if (item % (kItems / 5) == 0) Burn(10'000);  // 50 ms in all: 200 ms and more are owed
    if (item == kItems - 1) last_item_ms = MillisSince(began);
  });
  SnapshotJobOptions options = Options();
  options.cpu_limit_percent = 20;
  ASSERT_TRUE(SnapshotJob(env, source, options).Run().ok());
  EXPECT_GE(last_item_ms, 240);
}

TEST(SnapshotJobTest, DoesNotSleepWhileItIsWaitedFor) {
  FakeEnv env(1);
  OneListSource source([](uint64_t item) {
    if (item == 0) Burn(50'000);  // five seconds are owed
  });
  SnapshotJobOptions options = Options();
  options.cpu_limit_percent = 1;
  options.in_a_hurry = [] { return true; };
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(SnapshotJob(env, source, options).Run().ok());
  EXPECT_LT(MillisSince(began), 4500);
}

}  // namespace
}  // namespace cairn

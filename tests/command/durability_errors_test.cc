// An error of the disk at each I/O call of a background save, of a rewrite and of a start, while
// the executor goes on writing. What the files are worth then is durable_start_test's to tell; this
// is for what walker, log thread and executor share on their ways out, so it asks for few commands
// and runs under ThreadSanitizer as well.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/durable_process.h"

namespace cairn {
namespace {

using Settings = std::vector<Config::NameAndValue>;

const Settings kRdbAlone{{"appendonly", "no"}, {"rdbcompression", "no"}};
const Settings kAlways{{"appendfsync", "always"}, {"appendonly", "yes"}};

constexpr int kKeys = 200;

void Fill(DurableProcess& process) {
  for (int i = 0; i < kKeys; ++i) {
    ASSERT_EQ(process.Run({"SET", "key:" + std::to_string(i), std::string(300, 'x')}), "+OK");
    ASSERT_TRUE(process.Run({"RPUSH", "list", std::string(100, 'l')}).starts_with(":"));
  }
}

/// One turn of an executor that changes what a walker has yet to read.
void Change(DurableProcess& process, int turn) {
  process.Run({"SET", "key:" + std::to_string(kKeys - 1 - turn % kKeys), std::to_string(turn)});
  process.Run({"LPOP", "list"});
}

/// A second goes by: what failed is tried again on the clock.
void Tick(FakeEnv& env, DurableProcess& process) {
  env.AdvanceMicros(1'000'000);
  process.engine_.RefreshClock();
  process.durability_->Tick();
}

/// After the last error writes come back, and what is acknowledged then outlives a power cut.
void ExpectMended(FakeEnv& env, DurableProcess& process) {
  env.FailNthCall(0, Status::Ok());
  ASSERT_TRUE(process.Until([&] {
    Tick(env, process);
    return process.Run({"SET", "last", "one"}) == "+OK";
  }));
}

TEST(DurabilityErrorsTest, ABackgroundSaveMeetsOneAtEachOfItsCalls) {
  bool hit = true;
  uint64_t n = 1;
  for (; hit; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    FakeEnv env(n);
    DurableProcess process(env, kRdbAlone);
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    const uint64_t calls = env.io_calls();
    env.FailNthCall(n, Status::Io("I/O error"));
    ASSERT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
    for (int turn = 0; turn < kKeys; ++turn) Change(process, turn);
    ASSERT_TRUE(process.Until([&] { return !process.durability_->figures().save_running; }));
    hit = env.io_calls() >= calls + n;
    EXPECT_EQ(process.durability_->figures().last_save_ok, !hit);
    EXPECT_EQ(process.durability_->figures().retained_bytes, 0u);
    ASSERT_NO_FATAL_FAILURE(ExpectMended(env, process));
    EXPECT_TRUE(process.durability_->Save().ok());
    env.Crash(n);
    DurableProcess again(env, kRdbAlone);
    ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
    EXPECT_EQ(again.Run({"GET", "last"}), "\"one\"");
  }
  EXPECT_GT(n, 5u);
}

TEST(DurabilityErrorsTest, ARewriteAndTheLogBesideItMeetOneAtEachOfTheirCalls) {
  int failed = 0;
  for (uint64_t n = 1; n <= 40; ++n) {  // how many there are hangs on how the threads take turns
    SCOPED_TRACE("call " + std::to_string(n));
    FakeEnv env(n);
    DurableProcess process(env, kAlways);
    ASSERT_TRUE(process.NoRewrite());
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_TRUE(process.AllDurable());
    const uint64_t rewrites = process.durability_->figures().rewrites;
    env.FailNthCall(n, Status::Io("I/O error"));
    ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
    for (int turn = 0; turn < 40; ++turn) Change(process, turn);
    ASSERT_TRUE(process.Until([&] {
      Tick(env, process);
      return !process.durability_->figures().rewrite_running;
    }));
    if (process.durability_->figures().rewrites == rewrites) ++failed;
    ASSERT_NO_FATAL_FAILURE(ExpectMended(env, process));
    ASSERT_TRUE(process.Until([&] {
      Tick(env, process);
      return process.durability_->DurableOffset() >= process.engine_.propagation.offset();
    }));
    env.Crash(n);
    DurableProcess again(env, kAlways);
    ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
    EXPECT_EQ(again.Run({"GET", "last"}), "\"one\"");
  }
  EXPECT_GT(failed, 3);
}

TEST(DurabilityErrorsTest, AStartMeetsOneAtEachOfItsCalls) {
  FakeEnv env(1);
  {
    DurableProcess process(env, kAlways);
    ASSERT_NO_FATAL_FAILURE(Fill(process));
    ASSERT_TRUE(process.AllDurable());
  }
  bool hit = true;
  uint64_t n = 1;
  for (; hit; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    const uint64_t calls = env.io_calls();
    env.FailNthCall(n, Status::Io("I/O error"));
    {
      DurableProcess process(env, kAlways);  // whose threads end in the middle of a start
      hit = env.io_calls() >= calls + n;
      EXPECT_TRUE(process.loaded_.ok() || hit) << process.loaded_.message();
    }
    DurableProcess again(env, kAlways);
    ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
    ASSERT_EQ(again.Run({"LLEN", "list"}), ":" + std::to_string(kKeys));
  }
  EXPECT_GT(n, 5u);
}

}  // namespace
}  // namespace cairn

// The append-only file on a disk that forgets: the power goes, the process dies, or a call fails,
// at every I/O call of a history that starts from nothing, writes, rotates and rewrites. Each case
// says in its trace which call and which seed it was. CAIRN_SIM_WORLDS=20000 makes the random part
// long.

#include <algorithm>

#include "tests/sim/aof_world.h"
#include "tests/support/asked_number.h"

namespace cairn {
namespace {

constexpr int64_t kWindowUs = kUnsyncedLimitMs * 1000;  // what everysec promises

/// The fixed history. Every write path is in it: single turns, several turns in one group,
/// transactions, the sync after the last write, a rewrite with turns in its middle, one that is
/// given up, and a second one.
void RunHistory(AofWorld& world) {
  if (!world.Start()) return;
  world.Append(1);
  world.Step();
  world.Append(2);
  world.Append(1);
  world.Advance(400);
  world.Append(3);
  world.AppendLate(2);
  world.Advance(700);
  world.Rewrite(3);
  world.Append(1);
  world.Advance(1100);
  (void)world.writer->BeginRewrite();
  world.Append(2);
  world.Step();
  world.writer->AbortRewrite();
  world.Append(1);
  world.Step();
  world.Rewrite(1);
  world.Append(2);
  world.Advance(300);
  world.Append(1);
  world.Step();
}

uint64_t CallsOfHistory(SimOptions options) {
  AofWorld world(1, options);
  const uint64_t before = world.env.io_calls();
  RunHistory(world);
  EXPECT_EQ(world.writer->state(), AofState::kOk);
  return world.env.io_calls() - before;
}

/// Starts again after whatever happened, goes on writing, and must find all of that as well.
void GoOn(AofWorld& world) {
  ASSERT_TRUE(world.Start());
  world.Append(2);
  world.Step();
  world.Append(1);
  ASSERT_TRUE(world.writer->Close().ok());
  world.writer.reset();
  EXPECT_EQ(world.CheckLoad(world.appended()), static_cast<int64_t>(world.turns()));
}

class AofSimTest : public testing::TestWithParam<SimOptions> {};

TEST_P(AofSimTest, PowerCutAtEveryCall) {  // V9, V10, V11, A1, A4-A8
  const uint64_t calls = CallsOfHistory(GetParam());
  ASSERT_GT(calls, 60u);
  for (uint64_t n = 1; n <= calls + 1; ++n) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      SCOPED_TRACE("call " + std::to_string(n) + " seed " + std::to_string(seed));
      AofWorld world(seed, GetParam());
      world.env.SetShortWrites(seed % 2 == 0);
      world.env.FailNthCall(n, Status::Io("power cut"), true);
      RunHistory(world);
      world.CutPower(seed * 1000 + n);
      const int64_t kept = world.CheckLoad(world.durable());
      ASSERT_GE(kept, 0);
      if (GetParam().policy == AofSyncPolicy::kEverySecond) {
        ASSERT_LE(world.OldestLostUs(kept), kWindowUs);
      }
      ASSERT_NO_FATAL_FAILURE(GoOn(world));
    }
  }
}

// However long the disk is stuck, not more than the window of writes is at stake.
TEST_P(AofSimTest, PowerCutWhileTheDiskIsStuck) {
  if (GetParam().policy != AofSyncPolicy::kEverySecond)
    GTEST_SKIP() << "everysec alone has a window";
  for (const int64_t stuck_ms : {300, 900, 1500, 1990, 2010, 3000, 30'000}) {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      SCOPED_TRACE(std::to_string(stuck_ms) + " ms, seed " + std::to_string(seed));
      AofWorld world(seed, GetParam());
      RunHistory(world);
      world.Advance(static_cast<int64_t>(seed) * 97);
      world.Stall(stuck_ms, 10);
      const size_t turns = world.turns();
      world.CutPower(seed * 7919);
      const int64_t kept = world.CheckLoad(world.durable());
      ASSERT_GE(kept, 0);
      ASSERT_LE(world.LostSpanUs(kept), kWindowUs);
      // Writers were held back by then, and not before.
      ASSERT_GE(turns, static_cast<size_t>(std::min<int64_t>(stuck_ms, 1000) / 10));
      ASSERT_NO_FATAL_FAILURE(GoOn(world));
    }
  }
}

TEST_P(AofSimTest, EndOfTheProcessAtEveryCall) {  // A9
  const uint64_t calls = CallsOfHistory(GetParam());
  for (uint64_t n = 1; n <= calls + 1; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    AofWorld world(n, GetParam());
    world.env.SetShortWrites(n % 2 == 0);
    world.env.FailNthCall(n, Status::Io("killed"), true);
    RunHistory(world);
    const uint64_t written = world.written();
    world.End();
    world.env.FailNthCall(0, Status::Ok());
    ASSERT_GE(world.CheckLoad(written), 0);
    ASSERT_NO_FATAL_FAILURE(GoOn(world));
  }
}

/// One error at call n; afterwards the disk works. Nothing may be lost, and the machine must find
/// back to kOk by itself.
void OneError(const SimOptions& options, uint64_t n, const Status& error, bool crash_at_end) {
  SCOPED_TRACE("call " + std::to_string(n) + " " + std::string(error.message()) +
               (crash_at_end ? " then power cut" : ""));
  AofWorld world(n, options);
  world.env.SetShortWrites(n % 2 == 0);
  world.env.SetFailedSyncsForget(true);
  world.env.FailNthCall(n, error);
  RunHistory(world);
  if (world.writer == nullptr || !world.writer->protecting()) {
    world.End();  // the error ended the start: the next one works
    ASSERT_NO_FATAL_FAILURE(GoOn(world));
    return;
  }
  for (int i = 0; i < 20 && world.writer->state() != AofState::kOk; ++i) world.Advance(6000);
  ASSERT_EQ(world.writer->state(), AofState::kOk) << world.writer->last_error().message();
  if (crash_at_end) {
    world.End();
    world.env.Crash(n);
    ASSERT_GE(world.CheckLoad(world.durable()), 0);
  } else {
    ASSERT_TRUE(world.writer->Close().ok());
    world.writer.reset();
    ASSERT_EQ(world.CheckLoad(world.appended()), static_cast<int64_t>(world.turns()));
  }
  ASSERT_NO_FATAL_FAILURE(GoOn(world));
}

TEST_P(AofSimTest, ErrorAtEveryCall) {  // A2, A3, A8
  const uint64_t calls = CallsOfHistory(GetParam());
  for (uint64_t n = 1; n <= calls; ++n) {
    for (const bool crash : {false, true}) {
      ASSERT_NO_FATAL_FAILURE(OneError(GetParam(), n, Status::Io("Input/output error"), crash));
      ASSERT_NO_FATAL_FAILURE(
          OneError(GetParam(), n, Status(StatusCode::kNoSpace, "No space left on device"), crash));
    }
  }
}

TEST_P(AofSimTest, PowerCutAfterAnError) {  // the error machine's own calls are cut as well
  const uint64_t calls = CallsOfHistory(GetParam());
  for (uint64_t n = 1; n <= calls; ++n) {
    for (uint64_t later : {1, 2, 3, 5, 8, 12}) {
      SCOPED_TRACE("error at call " + std::to_string(n) + ", power cut " + std::to_string(later) +
                   " calls later");
      AofWorld world(n, GetParam());
      world.env.SetShortWrites(later % 2 == 0);
      world.env.SetFailedSyncsForget(true);
      world.env.FailTwice(n, later, Status::Io("Input/output error"));
      RunHistory(world);
      if (world.writer != nullptr && world.writer->state() != AofState::kOk) world.Advance(6000);
      world.CutPower(n * 31 + later);
      ASSERT_GE(world.CheckLoad(world.durable()), 0);
      ASSERT_NO_FATAL_FAILURE(GoOn(world));
    }
  }
}

// A second error in what the first one brings about, and then the end: of the process, which costs
// nothing that was written, or of the power.
TEST_P(AofSimTest, EndAfterTwoErrors) {  // A5, A8, A9
  const uint64_t calls = CallsOfHistory(GetParam());
  for (uint64_t n = 1; n <= calls; ++n) {
    for (uint64_t again = 1; again <= 16; ++again) {
      const bool power_cut = (n + again) % 2 == 0;
      const uint64_t later = 1 + (n * 7 + again * 5) % 13;
      SCOPED_TRACE("errors at call " + std::to_string(n) + " and " + std::to_string(again) +
                   " behind, " + (power_cut ? "power cut " : "ended ") + std::to_string(later) +
                   " later");
      AofWorld world(n, GetParam());
      world.env.SetShortWrites(again % 2 == 0);
      world.env.SetFailedSyncsForget(true);
      world.env.FailThrice(n, again, later, Status::Io("Input/output error"));
      RunHistory(world);
      for (int i = 0; i < 2 && world.writer != nullptr; ++i) world.Advance(6000);
      const uint64_t promised = power_cut ? world.durable() : world.written();
      world.End();
      if (power_cut) world.CutPower(n * 31 + again);
      world.env.FailNthCall(0, Status::Ok());
      ASSERT_GE(world.CheckLoad(promised), 0);
      ASSERT_NO_FATAL_FAILURE(GoOn(world));
    }
  }
}

/// A start with an error at call n, of what a history left; then one without. Returns false when
/// the start has fewer calls.
bool StartWithAnError(const SimOptions& options, uint64_t n, bool power_cut, bool disk_is_gone,
                      uint64_t seed) {
  const auto prepare = [&](AofWorld& world) {
    world.env.SetShortWrites(seed % 2 == 0);
    RunHistory(world);
    power_cut ? world.CutPower(seed) : world.End();
  };
  AofWorld undisturbed(seed, options);
  prepare(undisturbed);
  EXPECT_TRUE(undisturbed.Start());

  AofWorld world(seed, options);
  prepare(world);
  const uint64_t before = world.env.io_calls();
  world.env.FailNthCall(n, Status::Io("Input/output error"), disk_is_gone);
  const bool started = world.Start();
  const bool hit = world.env.io_calls() >= before + n;
  EXPECT_FALSE(world.refused_sound_files());
  if (started) {
    EXPECT_EQ(world.found(), undisturbed.found());
  } else {
    EXPECT_TRUE(hit) << "refused, and nothing failed";
  }
  world.End();
  world.env.FailNthCall(0, Status::Ok());
  // What was durable once is still: no start gives the disk something to forget.
  if (power_cut) world.env.Crash(seed + n);
  EXPECT_TRUE(world.Start());
  EXPECT_EQ(world.found(), undisturbed.found());
  return hit;
}

// An error is neither the end of a file nor a file that is not there: a start that took it so would
// go on with less, and say so nowhere.
TEST_P(AofSimTest, ErrorAtEveryCallOfAStart) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    for (const bool power_cut : {false, true}) {
      for (const bool disk_is_gone : {false, true}) {
        bool hit = true;
        for (uint64_t n = 1; hit; ++n) {
          SCOPED_TRACE("seed " + std::to_string(seed) + (power_cut ? " power cut" : " ended") +
                       (disk_is_gone ? ", disk gone from call " : ", error at call ") +
                       std::to_string(n));
          hit = StartWithAnError(GetParam(), n, power_cut, disk_is_gone, seed);
          ASSERT_FALSE(HasFailure());
          if (!hit) {
            ASSERT_GT(n, 10u);
          }
        }
      }
    }
  }
}

TEST_P(AofSimTest, RandomWorlds) {
  const uint64_t worlds = AskedNumber("CAIRN_SIM_WORLDS", 600);
  for (uint64_t seed = 1; seed <= worlds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    AofWorld world(seed, GetParam());
    world.env.SetFailedSyncsForget(true);
    for (int life = 0; life < 4; ++life) {
      world.env.SetShortWrites(random() % 2 == 0);
      if (random() % 2 == 0) {
        world.env.FailTwice(1 + random() % 60, 1 + random() % 60, Status::Io("I/O error"));
      } else {
        world.env.FailNthCall(1 + random() % 150, Status::Io("power cut"), true);
      }
      if (world.Start()) {
        for (int i = 0; i < 30; ++i) {
          const uint64_t dice = random() % 20;
          if (dice == 0) {
            world.Rewrite(static_cast<int>(random() % 4));
          } else if (dice == 1 && GetParam().policy == AofSyncPolicy::kAlways) {
            // Without checks only always leaves a file that can be told from a damaged one.
            world.writer->SetChecksum(random() % 2 == 0);
          } else if (dice == 2) {
            world.writer->SetTimestamps(random() % 2 == 0);
          } else if (dice == 3) {
            world.AppendLate(1 + static_cast<int>(random() % 3));
          } else {
            world.Append(1 + static_cast<int>(random() % 3));
          }
          if (random() % 3 != 0) world.Advance(static_cast<int64_t>(random() % 900));
        }
      }
      world.End();
      world.env.Crash(random());
      ASSERT_FALSE(world.refused_sound_files());
      ASSERT_GE(world.CheckLoad(world.durable()), 0);
    }
    ASSERT_NO_FATAL_FAILURE(GoOn(world));
  }
}

std::string NameOf(const testing::TestParamInfo<SimOptions>& info) {
  std::string name = info.param.policy == AofSyncPolicy::kAlways        ? "Always"
                     : info.param.policy == AofSyncPolicy::kEverySecond ? "Everysec"
                                                                        : "No";
  if (info.param.pad_bytes == 0) name += "WithoutPadding";
  if (info.param.rdb_base) name += "OnAnRdbBase";
  return name;
}

INSTANTIATE_TEST_SUITE_P(Policies, AofSimTest,
                         testing::Values(SimOptions{AofSyncPolicy::kAlways, true, false},
                                         SimOptions{AofSyncPolicy::kAlways, true, false, 0},
                                         SimOptions{AofSyncPolicy::kEverySecond, true, true},
                                         SimOptions{AofSyncPolicy::kNever, true, false},
                                         SimOptions{AofSyncPolicy::kAlways, true, false, 300, true},
                                         SimOptions{AofSyncPolicy::kEverySecond, true, true, 300,
                                                    true}),
                         NameOf);

}  // namespace
}  // namespace cairn

// Writers that wait for the walker of a save: from which amount of old values on they are held.

#include "server/engine/snapshot_throttle.h"

#include <gtest/gtest.h>

#include "tests/support/holdable_client.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = 1 << 20;

TEST(SnapshotRetainedLimitTest, AutoIsAPartOfMaxmemoryFrom64MibOn) {
  Settings settings;
  EXPECT_EQ(SnapshotRetainedLimit(settings), 64 * kMiB) << "no maxmemory";
  for (const auto& [maxmemory, limit] : {std::pair{kMiB, 64 * kMiB},
                                         {3200 * kMiB, 64 * kMiB},
                                         {3200 * kMiB + 49, 64 * kMiB},
                                         {3200 * kMiB + 50, 64 * kMiB + 1},
                                         {UINT64_MAX, UINT64_MAX / 50}}) {
    settings.maxmemory = maxmemory;
    EXPECT_EQ(SnapshotRetainedLimit(settings), limit) << maxmemory;
  }
  settings.snapshot_retained_limit = kMiB;
  EXPECT_EQ(SnapshotRetainedLimit(settings), kMiB) << "said, not auto";
}

class SnapshotThrottleTest : public testing::Test {
 protected:
  static constexpr size_t kValueBytes = 256 << 10;
  static std::string Key(int i) { return "key:" + std::to_string(i); }

  /// Overwrites values until a writer is held, or `end`. At each it is held exactly if the old
  /// values are more than `limit`.
  void WriteUntilHeld(uint64_t limit, int end) {
    for (; next_ < end; ++next_) {
      const uint64_t retained = process_.keyspace_.retained_value_bytes();
      ASSERT_EQ(writer_.Run({"SET", Key(next_), "new"}), retained <= limit) << retained;
      if (writer_.held()) return;
    }
  }
  bool GoesOn() {
    return process_.Until([this] {
      // Slowly: on a busy machine the walker may need a minute, and in a minute of this clock the
      // save is given up.
      env_.AdvanceMicros(100);
      return writer_.told_to_go_on();
    });
  }

  FakeEnv env_{1};
  DurableProcess process_{
      env_,
      {{"appendonly", "no"}, {"rdbcompression", "no"}, {"snapshot-max-write-delay", "60000"}}};
  HoldableClient writer_{process_};
  int next_ = 0;
};

TEST_F(SnapshotThrottleTest, HoldsWritersFromTheLimitOnAsItIsThen) {
  constexpr int kKeys = 340;
  for (int i = 0; i < kKeys; ++i)
    ASSERT_EQ(process_.Run({"SET", Key(i), std::string(kValueBytes, 'x')}), "+OK");
  env_.AllowAppends(0);  // the walker goes no further than the file lets it
  ASSERT_EQ(process_.Run({"BGSAVE"}), "+Background saving started");
  ASSERT_TRUE(process_.Until([this] { return env_.held_appends() > 0; }));

  ASSERT_NO_FATAL_FAILURE(WriteUntilHeld(64 * kMiB, kKeys));
  EXPECT_TRUE(writer_.held());
  EXPECT_EQ(process_.Run({"CONFIG", "SET", "maxmemory", "3600mb"}), "+OK");
  ASSERT_TRUE(GoesOn());
  ASSERT_NO_FATAL_FAILURE(WriteUntilHeld(72 * kMiB, kKeys));
  EXPECT_TRUE(writer_.held());
  EXPECT_EQ(process_.Run({"CONFIG", "SET", "snapshot-retained-limit", "80mb"}), "+OK");
  ASSERT_TRUE(GoesOn());
  ASSERT_NO_FATAL_FAILURE(WriteUntilHeld(80 * kMiB, kKeys));
  EXPECT_TRUE(writer_.held());

  env_.AllowAppends(UINT64_MAX);
  ASSERT_TRUE(GoesOn());
  ASSERT_TRUE(process_.Until([this] { return !process_.durability_->figures().save_running; }));
  EXPECT_TRUE(process_.durability_->figures().last_save_ok);
}

}  // namespace
}  // namespace cairn

// Effects and propagation of the bit and HyperLogLog families; their replies are compared with
// redis-server's in tests/compat/bits.script and hyperloglog.script.

#include <gtest/gtest.h>

#include "tests/support/command_harness.h"

namespace cairn {

CommandFamily BitCommands();
CommandFamily HyperLogLogCommands();
CommandFamily StringCommands();
CommandFamily KeyCommands();
CommandFamily KeyExpireCommands();

namespace {

using Lines = std::vector<std::string>;

class BitTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::string>& args) { return harness_.Run(args); }
  Lines Propagated(const std::vector<std::string>& args) {
    harness_.TakePropagated();
    Run(args);
    Lines lines = harness_.TakePropagated();
    if (!lines.empty() && lines.front() == "SELECT 0") lines.erase(lines.begin());
    return lines;
  }
  Lines Events(const std::vector<std::string>& args) {
    harness_.TakeEvents();
    Run(args);
    return harness_.TakeEvents();
  }
  CommandHarness harness_{BitCommands(), HyperLogLogCommands(), StringCommands(), KeyCommands(),
                          KeyExpireCommands()};
};

TEST_F(BitTest, SetBitThatChangesNothingIsNotPropagated) {
  EXPECT_EQ(Propagated({"SETBIT", "k", "7", "1"}), Lines({"SETBIT k 7 1"}));
  EXPECT_EQ(Propagated({"SETBIT", "k", "7", "1"}), Lines());
  EXPECT_EQ(Propagated({"SETBIT", "k", "8", "0"}), Lines({"SETBIT k 8 0"}));  // it grew
}

TEST_F(BitTest, SetBitKeepsTheTtlAndTellsWhatHappened) {
  Run({"SET", "k", "v", "EX", "100"});
  EXPECT_EQ(Events({"SETBIT", "k", "0", "1"}), Lines({"0 setbit k"}));
  EXPECT_EQ(Run({"TTL", "k"}), ":100");
  EXPECT_EQ(Events({"SETBIT", "new", "0", "1"}), Lines({"0 new new", "0 setbit new"}));
}

TEST_F(BitTest, BitOpDropsTheTargetsTtlOrTheTarget) {
  Run({"SET", "t", "v", "EX", "100"});
  Run({"SET", "a", "x"});
  EXPECT_EQ(Events({"BITOP", "OR", "t", "a"}), Lines({"0 set t"}));
  EXPECT_EQ(Run({"TTL", "t"}), ":-1");
  EXPECT_EQ(Events({"BITOP", "OR", "t", "absent"}), Lines({"0 keymiss absent", "0 del t"}));
  EXPECT_EQ(Run({"EXISTS", "t"}), ":0");
  EXPECT_EQ(Propagated({"BITOP", "OR", "t", "absent"}), Lines());
}

TEST_F(BitTest, BitOpMayReadAndWriteTheSameKey) {
  Run({"SET", "a", "ab"});
  EXPECT_EQ(Run({"BITOP", "XOR", "a", "a", "a"}), ":2");
  EXPECT_EQ(Run({"BITCOUNT", "a"}), ":0");
}

TEST_F(BitTest, ABitFieldThatOnlyGrewIsPropagatedToo) {
  EXPECT_EQ(Propagated({"BITFIELD", "f", "OVERFLOW", "FAIL", "SET", "u2", "0", "9"}).size(), 1u);
  EXPECT_EQ(Propagated({"BITFIELD", "f", "GET", "u8", "0"}), Lines());
  EXPECT_EQ(Propagated({"BITFIELD", "f", "OVERFLOW", "FAIL", "SET", "u2", "0", "9"}), Lines());
}

TEST_F(BitTest, PfAddIsPropagatedWhenARegisterRose) {
  EXPECT_EQ(Propagated({"PFADD", "h", "a"}), Lines({"PFADD h a"}));
  EXPECT_EQ(Propagated({"PFADD", "h", "a"}), Lines());
  EXPECT_EQ(Events({"PFADD", "h", "b"}), Lines({"0 pfadd h"}));
}

TEST_F(BitTest, PfCountPropagatesOnceBecauseItStoresTheEstimate) {
  Run({"PFADD", "h", "a", "b"});
  EXPECT_EQ(Propagated({"PFCOUNT", "h"}), Lines({"PFCOUNT h"}));
  EXPECT_EQ(Propagated({"PFCOUNT", "h"}), Lines());
  EXPECT_EQ(Run({"PFCOUNT", "h"}), ":2");
}

TEST_F(BitTest, PfMergeKeepsTheTargetsElementsAndTtl) {
  Run({"PFADD", "t", "a"});
  Run({"EXPIRE", "t", "100"});
  Run({"PFADD", "s", "b", "c"});
  EXPECT_EQ(Propagated({"PFMERGE", "t", "s"}), Lines({"PFMERGE t s"}));
  EXPECT_EQ(Run({"PFCOUNT", "t"}), ":3");
  EXPECT_EQ(Run({"TTL", "t"}), ":100");
}

}  // namespace
}  // namespace cairn

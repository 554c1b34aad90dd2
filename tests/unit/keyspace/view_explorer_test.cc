// The explorer: every interleaving of writer commands with walker steps to a depth, then long
// seeded runs. Two sequences that lead to the same state (view_state.h) are continued once, which
// makes depth 8 a matter of minutes; that nothing is lost by it is tested against the search that
// continues all. CAIRN_EXPLORER_DEPTH asks for more than the short form that CI runs: ./dev
// explore.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "server/base/sanitizers.h"
#include "tests/support/asked_number.h"
#include "tests/unit/keyspace/view_state.h"
#include "tests/unit/keyspace/view_world.h"

namespace cairn::explorer {
namespace {

using Command = void (*)(World&);

void ForceSplits(World& world) {
  for (const char* key : {"@11", "@91", "@92", "@12"}) world.Set(0, key);
}

const std::array<Command, 14> kCommandsOfOneView = {
    [](World& world) { world.WalkOne(); },
    [](World& world) { world.PopOne(); },
    [](World& world) { world.Set(0, "@00"); },
    [](World& world) { world.Set(0, "@f0"); },
    [](World& world) { world.Increment(0, "@10"); },
    [](World& world) { world.Increment(0, "@b0"); },
    [](World& world) { world.Remove(0, "@10"); },
    [](World& world) { world.Remove(0, "@90"); },
    ForceSplits,
    [](World& world) { world.Expire(0, "@45"); },
    [](World& world) { world.Set(1, "@10"); },
    [](World& world) { world.Flush(0); },
    [](World& world) { world.Swap(); },
    // While the walker stands in a segment (R5): everything around it is written and removed.
    [](World& world) {
      world.WalkOne(0, [&world] {
        for (const char* key : {"@00", "@90"}) world.Set(0, key);
        for (const char* key : {"@10", "@b0"}) world.Remove(0, key);
      });
    },
};

/// With a second view that is cut, walked and ended in between.
const std::array<Command, 12> kCommandsOfTwoViews = {
    [](World& world) { world.WalkOne(0); },
    [](World& world) { world.PopOne(0); },
    [](World& world) { world.views() < 2 ? world.Begin() : world.WalkOne(1); },
    [](World& world) { world.PopOne(1); },
    [](World& world) { world.Set(0, "@00"); },
    [](World& world) { world.Increment(0, "@10"); },
    [](World& world) { world.Increment(0, "@b0"); },
    [](World& world) { world.Remove(0, "@90"); },
    ForceSplits,
    [](World& world) { world.Flush(0); },
    [](World& world) { world.Swap(); },
    [](World& world) {
      if (world.views() == 2) world.End(0);  // the older one is aborted
    },
};

/// What else a key can go through: other sizes, other names, and its end in time.
const std::array<Command, 11> kCommandsOfLives = {
    [](World& world) { world.WalkOne(); },
    [](World& world) { world.PopOne(); },
    [](World& world) { world.Append(0, "@90"); },
    [](World& world) { world.Increment(0, "@10"); },
    [](World& world) { world.Rename(0, "@10", "@f0"); },  // ahead of the walk
    [](World& world) { world.Rename(0, "@90", "@00"); },  // behind it
    [](World& world) { world.Expire(0, "@10"); },
    [](World& world) { world.Expire(0, "@f0"); },
    [](World& world) { world.PassTimeAndExpire(0); },
    ForceSplits,
    [](World& world) {
      world.WalkOne(0, [&world] {
        world.Append(0, "@00");
        world.Rename(0, "@b0", "@10");
        world.PassTimeAndExpire(0);
      });
    },
};

void Prepare(World& world) {
  // An earlier view leaves SHARED bits behind that must mean nothing to the next.
  for (const char* key : {"@00", "@10", "@45", "@90", "@b0", "@f0"}) world.Set(0, key);
  world.Set(1, "@20");
  world.Begin();
  world.Increment(0, "@10");
  world.Increment(1, "@20");
  world.Complete();
  world.Begin();
}

/// Numbers of commands, as characters from 'a' on.
using Sequence = std::string;

template <size_t kCount>
class Search {
 public:
  using States = std::unordered_set<StateSum, StateSum::Hash>;
  explicit Search(const std::array<Command, kCount>& commands) : commands_(commands) {}

  const States& states() const { return states_; }
  size_t steps() const { return steps_; }

  /// Every sequence of `depth` commands; one that leads to a state met before ends there. By
  /// levels, so that each state is first met with the most commands left. Each step is checked, and
  /// each state is also walked to its end.
  void Pruned(int depth) {
    std::vector<Sequence> level = {""};
    for (int i = 0; i < depth; ++i) {
      std::vector<Sequence> next;
      for (const Sequence& known : level) {
        for (size_t command = 0; command < kCount; ++command) {
          Sequence sequence = known + static_cast<char>('a' + command);
          if (Step(known, command)) next.push_back(std::move(sequence));
          ASSERT_FALSE(::testing::Test::HasFailure())
              << "commands: " << known << " then " << command;
        }
      }
      level = std::move(next);
      std::printf("  depth %d: %zu states, %zu steps\n", i + 1, states_.size(), steps_);
    }
  }

  /// Every sequence, whatever it leads to. The states are those of Pruned if pruning loses nothing.
  void Unpruned(int depth) {
    Sequence sequence(static_cast<size_t>(depth), 'a');
    for (size_t changed = 0;;) {
      World world;
      Prepare(world);
      for (size_t i = 0; i < sequence.size(); ++i) {
        Apply(world, sequence[i]);
        // What comes before is as in the sequence before.
        if (i >= changed) states_.insert(StateOf(world));
      }
      Check(world);
      world.CompleteAll();
      world.CheckLive();
      ++steps_;
      ASSERT_FALSE(::testing::Test::HasFailure()) << "commands: " << sequence;
      size_t at = sequence.size();
      while (at > 0 && sequence[at - 1] == static_cast<char>('a' + kCount - 1))
        sequence[--at] = 'a';
      if (at == 0) break;
      ++sequence[--at];
      changed = at;
    }
  }

 private:
  void Apply(World& world, char command) { commands_[static_cast<size_t>(command - 'a')](world); }
  static void Check(World& world) {
    world.CheckFrozen();
    world.CheckLive();
  }
  /// Returns whether it leads to a new state.
  bool Step(const Sequence& known, size_t command) {
    ++steps_;
    World world;
    Prepare(world);
    for (const char each : known) Apply(world, each);
    commands_[command](world);
    Check(world);
    const bool fresh = states_.insert(StateOf(world)).second;
    fresh ? world.CompleteAll() : world.AbortAll();
    world.CheckLive();
    return fresh;
  }

  const std::array<Command, kCount>& commands_;
  States states_;
  size_t steps_ = 0;
};

int AskedDepth(const char* variable, int otherwise) {
  return static_cast<int>(AskedNumber(variable, static_cast<uint64_t>(otherwise)));
}
#if CAIRN_SANITIZED
constexpr int kShortDepth = 4,
              kShortUnprunedDepth = 2;  // a sanitizer makes each step ten times dearer
#else
constexpr int kShortDepth = 5, kShortUnprunedDepth = 4;
#endif

template <size_t kCount>
void Explore(const std::array<Command, kCount>& commands) {
  Search search(commands);
  search.Pruned(AskedDepth("CAIRN_EXPLORER_DEPTH", kShortDepth));
}

TEST(ViewExplorerTest, EveryInterleavingToADepth) { Explore(kCommandsOfOneView); }

TEST(ViewExplorerTest, EveryInterleavingOfTwoViewsToADepth) { Explore(kCommandsOfTwoViews); }

TEST(ViewExplorerTest, EveryInterleavingOfLivesToADepth) { Explore(kCommandsOfLives); }

template <size_t kCount>
void CompareWithUnpruned(const std::array<Command, kCount>& commands) {
  const int depth = AskedDepth("CAIRN_EXPLORER_UNPRUNED_DEPTH", kShortUnprunedDepth);
  Search all(commands), pruned(commands);
  all.Unpruned(depth);
  pruned.Pruned(depth);
  std::printf("  unpruned: %zu sequences\n", all.steps());
  EXPECT_EQ(all.states().size(), pruned.states().size());
  EXPECT_TRUE(all.states() == pruned.states());
}

TEST(ViewExplorerTest, PruningLosesNothing) { CompareWithUnpruned(kCommandsOfOneView); }

TEST(ViewExplorerTest, PruningLosesNothingOfTwoViews) { CompareWithUnpruned(kCommandsOfTwoViews); }

TEST(ViewExplorerTest, PruningLosesNothingOfLives) { CompareWithUnpruned(kCommandsOfLives); }

TEST(ViewExplorerTest, LongRandomRunsWithViewsThatEndOrAreAborted) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    World world;
    const uint64_t names = 8 + random() % 60;
    const uint64_t write_share = 1 + random() % 12;
    for (int step = 0; step < 4000 && !::testing::Test::HasFailure(); ++step) {
      const int db = static_cast<int>(random() % kDatabases);
      // Half of the keys stand just before or behind the watermark: the adversary reads it.
      char key[8];
      uint64_t near = random() % names * 256 / names;
      const size_t view = world.viewing() ? random() % world.views() : 0;
      if (world.viewing() && random() % 2) near = (world.watermark(view) >> 40) + random() % 3 - 1;
      std::snprintf(key, sizeof key, "@%02x%c", static_cast<unsigned>(near & 0xff),
                    static_cast<char>('a' + random() % 2));
      if (random() % 12 >= write_share) {
        random() % 3 ? world.WalkOne(view) : static_cast<void>(world.PopOne(view));
        continue;
      }
      switch (random() % 21) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
          world.Set(db, key);
          break;
        case 5:
        case 6:
        case 7:
          world.Increment(db, key);
          break;
        case 8:
        case 9:
        case 10:
        case 11:
          world.Remove(db, key);
          break;
        case 12:
        case 13:
          world.Expire(db, key);
          break;
        case 14:
          if (random() % 8 == 0) world.Swap();
          break;
        case 15:
        case 16:
          world.Append(db, key);
          break;
        case 17:
        case 18: {
          std::string other = key;
          other[1] = "0123456789abcdef"[random() % 16];
          if (other != key) world.Rename(db, key, other);
          break;
        }
        case 19:
          if (random() % 8 == 0) world.PassTimeAndExpire(db);
          break;
        default:
          if (random() % 16 == 0) world.Flush(db);
          break;
      }
      if (random() % 50 == 0) {
        if (world.views() <= random() % (SnapshotGate::kMaxViews + 1)) {
          world.Begin();
        } else if (random() % 4 == 0) {
          world.End(view);  // abort: disk full, for instance
        } else {
          world.Complete(view);
        }
      }
      world.CheckFrozen();
      if (step % 64 == 0) world.CheckLive();
    }
    world.CompleteAll();
    world.CheckLive();
  }
}

}  // namespace
}  // namespace cairn::explorer

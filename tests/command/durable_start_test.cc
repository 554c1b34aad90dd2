// Starts, with the whole engine on a disk that forgets and fails: after a save that the power cut
// short, at each of its I/O calls, the start finds the old or the new point in time and is never
// refused; and an error at any call of a start, of an RDB file and of each kind of append-only
// file, refuses it in so many words, loses nothing, and is forgotten by the next.

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/engine/dataset_digest.h"
#include "tests/support/durable_process.h"

namespace cairn {
namespace {

using Settings = std::vector<Config::NameAndValue>;

/// Of everything that is loaded, in all databases.
std::string DigestOf(DurableProcess& process) {
  const Result<Digest> digest = DigestOfKeyspace(process.keyspace_);
  CAIRN_CHECK(digest.ok());
  return digest->Hex();
}

void Write(DurableProcess& process, std::vector<std::string> words) {
  const std::string reply = process.Run(std::move(words));
  ASSERT_FALSE(reply.starts_with("-")) << reply;
}

/// Values of each type, small and big, in two databases, all of which name `version`; one key that
/// the others do not have, and one that goes.
void Fill(DurableProcess& process, int version) {
  const std::string v = "version " + std::to_string(version) + " ";
  for (const char* db : {"1", "0"}) {
    Write(process, {"SELECT", db});
    for (int i = 0; i < 4; ++i)
      Write(process, {"SET", "string:" + std::to_string(i), v + std::string(i * 9, 'x')});
    Write(process, {"SET", "number", std::to_string(version)});
    Write(process, {"SET", "random", v + std::string(9000, static_cast<char>('a' + version))});
    Write(process, {"SET", "ends", v, "PXAT", std::to_string(4'000'000'000'000 + version)});
    Write(process, {"HSET", "hash", "f", v, "g", v + db});
    Write(process, {"ZADD", "zset", std::to_string(version), "a", "2.5", v});
    Write(process, {"RPUSH", "list", v, std::string(300, 'l')});
    Write(process, {"SADD", "set", v, std::to_string(version)});
    Write(process, {"XADD", "stream", std::to_string(version) + "-1", "f", v});
    Write(process, {"SET", "only:" + std::to_string(version), v});
    Write(process, {"DEL", "only:" + std::to_string(version - 1)});
  }
  std::vector<std::string> fields{"HSET", "big"};
  for (int i = 0; i < 300; ++i) {
    fields.push_back("field:" + std::to_string(i));
    fields.push_back(v + std::to_string(i));
  }
  Write(process, std::move(fields));
}

// -- Saves that the power cuts short.

constexpr uint64_t kCutSeeds = 12;

enum class Way { kSave, kBackgroundSave, kShutdown };

class CutSaveTest : public testing::TestWithParam<Way> {
 protected:
  static Settings RdbAlone() { return {{"appendonly", "no"}, {"rdbcompression", "no"}}; }

  /// Whether the process took it for done.
  static bool Save(DurableProcess& process) {
    if (GetParam() == Way::kSave) return process.Run({"SAVE"}) == "+OK";
    if (GetParam() == Way::kShutdown) return process.durability_->Shutdown(1, false).ok();
    EXPECT_EQ(process.Run({"BGSAVE"}), "+Background saving started");
    EXPECT_TRUE(process.Until([&] { return !process.durability_->figures().save_running; }));
    return process.durability_->figures().last_save_ok;
  }

  struct Outcome {
    std::string before, after;  // what was on disk, and what was to be
    bool saved = false;
    bool hit = false;  // the save has so many calls
  };
  /// One process, whose second save (or first, with `first`) meets a power cut at call `n`.
  static Outcome CutAt(FakeEnv& env, uint64_t n, bool first) {
    Outcome outcome;
    DurableProcess process(env, RdbAlone());
    CAIRN_CHECK(process.loaded_.ok());
    outcome.before = DigestOf(process);
    if (!first) {
      Fill(process, 1);
      CAIRN_CHECK(process.durability_->Save().ok());
      outcome.before = DigestOf(process);
    }
    Fill(process, 2);
    outcome.after = DigestOf(process);
    const uint64_t calls = env.io_calls();
    env.FailNthCall(n, Status::Io("power cut"), true);
    outcome.saved = Save(process);
    outcome.hit = env.io_calls() >= calls + n;
    return outcome;
  }
};

TEST_P(CutSaveTest, AStartFindsTheOldOrTheNewPointInTime) {  // V9
  for (const bool first : {false, true}) {
    bool hit = true;
    uint64_t old_ones = 0, new_ones = 0;
    for (uint64_t n = 1; hit; ++n) {
      for (uint64_t seed = 1; seed <= kCutSeeds; ++seed) {
        SCOPED_TRACE((first ? "first save, call " : "second save, call ") + std::to_string(n) +
                     " seed " + std::to_string(seed));
        FakeEnv env(seed);
        env.SetShortWrites(seed % 2 == 0);
        const Outcome outcome = CutAt(env, n, first);
        hit = outcome.hit;
        EXPECT_EQ(outcome.saved, !hit);
        env.Crash(seed * 1000 + n);
        std::string third;
        {
          DurableProcess again(env, RdbAlone());
          ASSERT_TRUE(again.loaded_.ok()) << again.loaded_.message();
          const std::string found = DigestOf(again);
          ASSERT_TRUE(found == outcome.after || (found == outcome.before && !outcome.saved));
          ++(found == outcome.after ? new_ones : old_ones);
          // Nothing that the cut left behind is in the way of the next save.
          ASSERT_NO_FATAL_FAILURE(Fill(again, 3));
          third = DigestOf(again);
          ASSERT_TRUE(Save(again));
        }
        env.Crash(seed);
        EXPECT_EQ(*env.ListDir("/"), std::vector<std::string>{"dump.rdb"});
        DurableProcess later(env, RdbAlone());
        ASSERT_TRUE(later.loaded_.ok()) << later.loaded_.message();
        ASSERT_EQ(DigestOf(later), third);
      }
    }
    EXPECT_GT(old_ones, 8u);
    EXPECT_GT(new_ones, kCutSeeds);  // some whose directory entry got there by itself
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, CutSaveTest,
                         testing::Values(Way::kSave, Way::kBackgroundSave, Way::kShutdown),
                         [](const testing::TestParamInfo<Way>& way) {
                           return way.param == Way::kSave             ? "Save"
                                  : way.param == Way::kBackgroundSave ? "BackgroundSave"
                                                                      : "Shutdown";
                         });

// -- Errors at a start.

/// What a process left on disk, durable to the last byte.
struct Disk {
  const char* name;
  Settings settings;
  std::function<void(FakeEnv&)> make;
};

/// A process that has written version 1, rewritten (or saved) it, and written version 2 behind it.
void RunAProcess(FakeEnv& env, const Settings& settings) {
  DurableProcess process(env, settings);
  ASSERT_TRUE(process.loaded_.ok()) << process.loaded_.message();
  ASSERT_NO_FATAL_FAILURE(Fill(process, 1));
  if (process.durability_->figures().aof_enabled) {
    ASSERT_EQ(process.Run({"BGREWRITEAOF"}), "+Background append only file rewriting started");
    ASSERT_TRUE(process.NoRewrite());
    ASSERT_NO_FATAL_FAILURE(Fill(process, 2));
    ASSERT_TRUE(process.AllDurable());
  } else {
    ASSERT_TRUE(process.durability_->Save().ok());
  }
}

void AppendTo(FakeEnv& env, const std::string& path, std::string_view bytes) {
  auto file = env.OpenAppend(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE((*file)->Append(bytes).ok() && (*file)->Sync().ok());
  ASSERT_TRUE(env.SyncDir("/").ok());
}

std::vector<Disk> Disks() {
  const Settings aof{{"appendfsync", "always"}, {"appendonly", "yes"}};
  Settings commands = aof;
  commands.push_back({"aof-use-rdb-preamble", "no"});
  const Settings rdb{{"appendonly", "no"}};
  return {
      {"RdbFile", rdb, [rdb](FakeEnv& env) { RunAProcess(env, rdb); }},
      {"AofOnAnRdbBase", aof, [aof](FakeEnv& env) { RunAProcess(env, aof); }},
      {"AofOnABaseOfCommands", commands, [commands](FakeEnv& env) { RunAProcess(env, commands); }},
      {"AofWithATornEnd", aof,
       [aof](FakeEnv& env) {
         RunAProcess(env, aof);
         AppendTo(env, "/appendonlydir/appendonly.aof.2.incr.aof", "*3\r\n$3\r\nSET\r\n$1\r\n");
       }},
      // What a start without an append-only file takes instead.
      {"RdbFileThatBecomesAnAof", aof, [rdb](FakeEnv& env) { RunAProcess(env, rdb); }},
      {"RdbFileBesideADirectoryOfTheOldName", aof,
       [rdb](FakeEnv& env) {
         RunAProcess(env, rdb);
         ASSERT_TRUE(env.CreateDir("/appendonly.aof").ok());
         AppendTo(env, "/appendonly.aof/file", "none of ours");
       }},
      // Of Redis before 7.
      {"OneOldAof", aof,
       [](FakeEnv& env) {
         AppendTo(env, "/appendonly.aof", "*3\r\n$3\r\nSET\r\n$3\r\nold\r\n$4\r\nfile\r\n");
       }},
      {"OneOldAofOnAnRdbPreamble", aof,
       [rdb](FakeEnv& env) {
         RunAProcess(env, rdb);
         ASSERT_TRUE(env.Rename("/dump.rdb", "/appendonly.aof").ok());
         AppendTo(env, "/appendonly.aof", "*3\r\n$3\r\nSET\r\n$3\r\nold\r\n$4\r\nfile\r\n");
       }},
  };
}

class ErrorAtStartTest : public testing::TestWithParam<Disk> {
 protected:
  /// Returns whether the start has so many calls.
  static bool StartWithAnError(uint64_t n, bool disk_is_gone, const std::string& whole) {
    FakeEnv env(n);
    GetParam().make(env);
    const uint64_t before = env.io_calls();
    env.FailNthCall(n, Status::Io("Input/output error"), disk_is_gone);
    bool hit = false;
    {
      DurableProcess process(env, GetParam().settings);
      hit = env.io_calls() >= before + n;
      if (process.loaded_.ok()) {
        EXPECT_EQ(DigestOf(process), whole) << "it began with less";
      } else {
        EXPECT_TRUE(hit) << process.loaded_.message();
        EXPECT_NE(process.loaded_.message().find("Input/output error"), std::string_view::npos)
            << process.loaded_.message();
      }
    }
    if ((n % 2 == 0) == disk_is_gone) env.Crash(n);  // it has forgotten nothing, either
    DurableProcess again(env, GetParam().settings);
    EXPECT_TRUE(again.loaded_.ok()) << again.loaded_.message();
    EXPECT_EQ(DigestOf(again), whole);
    return hit;
  }
};

TEST_P(ErrorAtStartTest, RefusesOrLoadsAllAndTheNextLoadsAll) {
  std::string whole;
  {
    FakeEnv env(1);
    GetParam().make(env);
    DurableProcess process(env, GetParam().settings);
    ASSERT_TRUE(process.loaded_.ok()) << process.loaded_.message();
    ASSERT_NE(process.Run({"DBSIZE"}), ":0");
    whole = DigestOf(process);
  }
  for (const bool disk_is_gone : {false, true}) {
    uint64_t n = 1;
    for (bool hit = true; hit; ++n) {
      SCOPED_TRACE((disk_is_gone ? "disk gone from call " : "error at call ") + std::to_string(n));
      hit = StartWithAnError(n, disk_is_gone, whole);
      ASSERT_FALSE(HasFailure());
    }
    EXPECT_GT(n, 4u);
  }
}

INSTANTIATE_TEST_SUITE_P(Disks, ErrorAtStartTest, testing::ValuesIn(Disks()),
                         [](const testing::TestParamInfo<Disk>& disk) { return disk.param.name; });

// The last file has no checks, so the log would go on in a new one.
TEST(FullDiskTest, AStartComesUpAndWritesComeBackWithTheRoom) {
  FakeEnv env{1};
  {
    DurableProcess process(env, {{"appendonly", "yes"}, {"aof-checksum", "no"}});
    ASSERT_EQ(process.Run({"SET", "a", "1"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }
  env.SetCapacity(env.used_bytes());
  {
    DurableProcess process(env, {{"appendonly", "yes"}});
    ASSERT_TRUE(process.loaded_.ok()) << process.loaded_.message();
    EXPECT_EQ(process.Run({"GET", "a"}), "\"1\"");
    EXPECT_TRUE(process.Run({"SET", "a", "2"}).starts_with("-MISCONF"));
    env.SetCapacity(UINT64_MAX);
    ASSERT_TRUE(process.LogRecovers());
    EXPECT_EQ(process.Run({"SET", "a", "3"}), "+OK");
    ASSERT_TRUE(process.AllDurable());
  }
  DurableProcess again(env, {{"appendonly", "yes"}});
  EXPECT_EQ(again.Run({"GET", "a"}), "\"3\"");
}

}  // namespace
}  // namespace cairn

// What increments of the append-only file name (L9 to L11).

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "tests/support/asked_number.h"
#include "tests/unit/tensor/chunk_log_fixture.h"

namespace cairn::tensor {
namespace {

constexpr const char* kManifest = "aof/manifest";

class ChunkLogStageTest : public ChunkLogTest {
 protected:
  std::vector<ChunkRef> Refs(uint64_t first, size_t count) {
    Several(first, count);
    return {held_.end() - static_cast<ptrdiff_t>(count), held_.end()};
  }
  /// A rewrite that names `chunks` as save `number`.
  void Rewrite(ChunkLog& log, const std::vector<const Chunk*>& chunks, uint64_t number) {
    std::vector<bool> kept;
    ASSERT_TRUE(log.Keep(chunks, number, {kManifest}, &kept).ok());
    disk_.server_files.insert(kManifest);
    log.OnSaved(kManifest, number);
    log.OnSaved("", number);
    log.Collect();
  }
};

TEST_F(ChunkLogStageTest, WhatIsNamedIsSyncedBeforeTheIncrementIsWritten) {
  auto log = Open();
  const auto chunks = Refs(1, 3);
  EXPECT_EQ(log->Name(chunks, kManifest, 0), std::vector<bool>(3, false)) << "nothing is staged";
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  EXPECT_FALSE(log->HasUnsyncedNames()) << "nothing is named";
  EXPECT_EQ(log->Name(chunks, kManifest, 0), All(3));
  EXPECT_TRUE(log->HasUnsyncedNames());
  EXPECT_EQ(disk_.sync_calls, 0u);
  EXPECT_FALSE(log->Has(*chunks[0])) << "DURABLE DISK is not there yet";
  ASSERT_TRUE(log->SyncStaged().ok());
  EXPECT_EQ(disk_.sync_calls, 1u);
  EXPECT_FALSE(log->HasUnsyncedNames());
  EXPECT_TRUE(log->Has(*chunks[0]));
  EXPECT_NE(disk_.files["named"].content.find(kManifest), std::string::npos) << "L4";
  log.reset();
  disk_.Crash(random_);
  log = Open();
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
}

TEST_F(ChunkLogStageTest, TheSameBytesAreWrittenOnce) {
  auto log = Open();
  const auto chunks = Refs(1, 3);
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  std::vector<bool> kept;
  // A save finds them staged.
  ASSERT_TRUE(log->Keep({chunks[0].get(), Make(9)}, 1, {"dump.rdb"}, &kept).ok());
  EXPECT_EQ(kept, All(2));
  EXPECT_EQ(log->figures().appended_bytes, 4 * kSize);
  ASSERT_TRUE(log->Stage({held_.back()}, kManifest).ok());
  EXPECT_EQ(log->Name({held_.back()}, kManifest, 1), All(1));
  EXPECT_FALSE(log->HasUnsyncedNames()) << "the save has synced it all";
}

TEST_F(ChunkLogStageTest, SmallChunksAndUnstagedOnesAreNotNamed) {
  auto log = Open();
  Make(std::string(kSize - 1, 'a'));
  const std::vector<ChunkRef> chunks = {held_.back(), Refs(1, 1)[0]};
  ASSERT_TRUE(log->Stage({chunks[0]}, kManifest).ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), std::vector<bool>(2, false));
}

TEST_F(ChunkLogStageTest, WhatIsSyncedFirstKeepsNobodyWaiting) {
  auto log = Open();
  const auto first = Refs(1, 2), second = Refs(11, 2);
  ASSERT_TRUE(log->Stage(first, kManifest).ok());
  ASSERT_TRUE(log->SyncStaged().ok());
  ASSERT_TRUE(log->Stage(second, kManifest).ok());
  EXPECT_EQ(log->Name(first, kManifest, 0), All(2));
  EXPECT_FALSE(log->HasUnsyncedNames()) << "others are staged, but not named";
  EXPECT_EQ(log->Name(second, kManifest, 0), All(2));
  EXPECT_TRUE(log->HasUnsyncedNames());
}

// L2, L10
TEST_F(ChunkLogStageTest, WhatCouldNotBeSyncedIsWrittenElsewhereBeforeAnythingNamesIt) {
  auto log = Open();
  auto chunks = Refs(1, 3);
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  ASSERT_EQ(log->Name(chunks, kManifest, 0), All(3));
  std::vector<std::string> bytes;
  for (const ChunkRef& chunk : chunks) bytes.emplace_back(chunk->bytes().view());
  disk_.fail_syncs = 1;
  EXPECT_FALSE(log->SyncStaged().ok());
  EXPECT_TRUE(log->HasUnsyncedNames());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), std::vector<bool>(3, false))
      << "others do not rely on it";
  // The transaction is aborted meanwhile: its increment has been made all the same.
  chunks.clear();
  held_.clear();
  disk_.room = kSize;
  EXPECT_EQ(log->SyncStaged().code(), StatusCode::kNoSpace);
  disk_.room = UINT64_MAX;
  ASSERT_TRUE(log->SyncStaged().ok());
  log.reset();
  disk_.Crash(random_);
  log = Open();
  for (const std::string& text : bytes) {
    const ChunkLog::Found found = log->Find(HashBytes128(text), text.size());
    ASSERT_TRUE(found.mapping);
    EXPECT_EQ(found.bytes, text);
  }
}

// L2: a failed sync has lost these too, and the next one of that file would say yes.
TEST_F(ChunkLogStageTest, WhatFillsASegmentWhileItsSyncFailsIsWrittenElsewhere) {
  auto log = Open(/*segment_bytes=*/3 * kSize);
  const auto chunks = Refs(1, 4);
  ASSERT_TRUE(log->Stage({chunks[0]}, kManifest).ok());
  disk_.fail_syncs = 1;
  disk_.during_sync = [&] {
    ASSERT_TRUE(log->Stage({chunks[1], chunks[2], chunks[3]}, kManifest).ok());
  };
  EXPECT_FALSE(log->SyncStaged().ok());
  EXPECT_EQ(Segments(), 2u) << "the last did not fit into the first's";
  ASSERT_TRUE(log->SyncStaged().ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), All(4));
  EXPECT_FALSE(log->HasUnsyncedNames());
  log.reset();
  disk_.Crash(random_);
  log = Open();
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
}

TEST_F(ChunkLogStageTest, WhatAFullDiskDoesNotTakeIsNotNamed) {
  auto log = Open();
  const auto chunks = Refs(1, 3);
  disk_.room = kSize + 1000;
  EXPECT_EQ(log->Stage(chunks, kManifest).code(), StatusCode::kNoSpace);
  EXPECT_EQ(log->Name(chunks, kManifest, 0), (std::vector<bool>{true, false, false}));
  disk_.room = UINT64_MAX;
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), All(3));
  ASSERT_TRUE(log->SyncStaged().ok());
  log.reset();
  disk_.Crash(random_);
  log = Open();
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
}

TEST_F(ChunkLogStageTest, TheLastRoomIsLeftToTheAppendOnlyFile) {
  auto log = Open();
  const auto chunks = Refs(1, 2);
  disk_.free = ChunkLog::kRoomLeft + kSize - 1;
  EXPECT_EQ(log->Stage(chunks, kManifest).code(), StatusCode::kNoSpace);
  EXPECT_EQ(log->Name(chunks, kManifest, 0), std::vector<bool>(2, false));
  disk_.free = kSize - 1;  // less than the chunk has
  EXPECT_EQ(log->Stage(chunks, kManifest).code(), StatusCode::kNoSpace);
  disk_.free = ChunkLog::kRoomLeft + kSize;
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), All(2));
  // What is named has to be written, whatever it costs: the file waits for it.
  disk_.free = 0;
  disk_.fail_syncs = 1;
  EXPECT_FALSE(log->SyncStaged().ok());
  EXPECT_TRUE(log->SyncStaged().ok());
  EXPECT_TRUE(log->Has(*chunks[0]));
}

// L11
TEST_F(ChunkLogStageTest, ARewriteEndsWhatIncrementsOfBeforeItsCutName) {
  auto log = Open();
  disk_.server_files.insert(kManifest);
  const auto before = Refs(1, 20), after = Refs(101, 20);
  ASSERT_TRUE(log->Stage(before, kManifest).ok());
  ASSERT_EQ(log->Name(before, kManifest, 0), All(20));
  ASSERT_TRUE(log->SyncStaged().ok());
  // Save 1, a rewrite, has begun: what comes now stands behind its cut.
  ASSERT_TRUE(log->Stage(after, kManifest).ok());
  ASSERT_EQ(log->Name(after, kManifest, 1), All(20));
  ASSERT_TRUE(log->SyncStaged().ok());
  Rewrite(*log, {before[2].get()}, 1);
  EXPECT_EQ(Read(*log, *before[2]), before[2]->bytes().view());
  EXPECT_FALSE(log->Find(before[3]->hash(), kSize).mapping);
  for (const ChunkRef& chunk : after) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
  EXPECT_EQ(log->Name({before[3]}, kManifest, 1), std::vector<bool>{false}) << "its record is gone";
  Rewrite(*log, {}, 2);
  EXPECT_FALSE(log->Find(after[3]->hash(), kSize).mapping);
}

TEST_F(ChunkLogStageTest, IncrementsHoldBeforeTheirManifestIsThere) {
  auto log = Open();
  // The append-only file has been turned on: its first rewrite, save 1, runs.
  const auto chunks = Refs(1, 20);
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  ASSERT_EQ(log->Name(chunks, kManifest, 1), All(20));
  ASSERT_TRUE(log->SyncStaged().ok());
  for (uint64_t save = 2; save < 5; ++save) Save(*log, Several(100 * save, 20), save);
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
  Rewrite(*log, {}, 1);
  Save(*log, Several(1000, 20), 5);
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
  Rewrite(*log, {}, 6);
  Save(*log, Several(2000, 20), 7);
  EXPECT_FALSE(log->Find(chunks[0]->hash(), kSize).mapping);
}

TEST_F(ChunkLogStageTest, IncrementsOfAnEarlierProcessHoldUntilARewrite) {
  const auto chunks = Refs(1, 20);
  disk_.server_files.insert(kManifest);
  {
    auto log = Open();
    ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
    ASSERT_EQ(log->Name(chunks, kManifest, 7), All(20));
    ASSERT_TRUE(log->SyncStaged().ok());
  }
  auto log = Open();
  for (uint64_t save = 1; save < 4; ++save) Save(*log, Several(100 * save, 20), save);
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
  EXPECT_EQ(log->figures().held_by, kManifest);
  Rewrite(*log, {}, 4);
  Save(*log, Several(1000, 20), 5);
  EXPECT_FALSE(log->Find(chunks[0]->hash(), kSize).mapping);
}

TEST_F(ChunkLogStageTest, WhatAnotherProcessHoldsIsNotStaged) {
  auto first = Open();
  ASSERT_TRUE(first->Stage(Refs(1, 1), kManifest).ok());
  auto second = Open();
  const auto chunks = Refs(2, 1);
  EXPECT_FALSE(second->Stage(chunks, "other/manifest").ok());
  EXPECT_EQ(second->Name(chunks, "other/manifest", 0), std::vector<bool>{false});
  EXPECT_TRUE(second->SyncStaged().ok()) << "nothing is";
}

TEST_F(ChunkLogStageTest, WithoutTheListNothingIsStaged) {
  auto log = Open();
  const auto chunks = Refs(1, 1);
  disk_.fail_replaces = 1;
  EXPECT_FALSE(log->Stage(chunks, kManifest).ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), std::vector<bool>{false});
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  EXPECT_EQ(log->Name(chunks, kManifest, 0), All(1));
}

// L8
TEST_F(ChunkLogStageTest, AStagedSegmentThatSomebodyDeletedIsWrittenAgain) {
  auto log = Open();
  const auto chunks = Refs(1, 5);
  ASSERT_TRUE(log->Stage(chunks, kManifest).ok());
  ASSERT_EQ(log->Name(chunks, kManifest, 0), All(5));
  disk_.files.erase("0000000000000001.chunks");
  Save(*log, {}, 1);
  ASSERT_TRUE(log->SyncStaged().ok());
  log.reset();
  disk_.Crash(random_);
  log = Open();
  for (const ChunkRef& chunk : chunks) EXPECT_EQ(Read(*log, *chunk), chunk->bytes().view());
}

/// The increments of an append-only file beside saves, crashes and faults of the disk.
TEST_F(ChunkLogStageTest, WhatAnIncrementNamesIsFoundAfterAnySequence) {
  const uint64_t rounds = AskedNumber("CAIRN_CHUNK_LOG_ROUNDS", 150);
  const uint64_t first_seed = AskedNumber("CAIRN_CHUNK_LOG_SEED", 1);
  struct NamedBytes {
    uint64_t number;  ///< saves begun when it was named
    std::string bytes;
  };
  uint64_t crashes = 0, written = 0, removed = 0, refused = 0;
  for (uint64_t seed = first_seed; seed < first_seed + rounds; ++seed) {
    SCOPED_TRACE("CAIRN_CHUNK_LOG_SEED=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    disk_ = FakeDisk();
    disk_.server_files.insert(kManifest);
    std::vector<NamedBytes> in_file, buffered;
    std::vector<uint64_t> rewrites, saves;  // that run
    std::vector<std::string> base;
    auto log = Open(16 * kSize);
    uint64_t begun = 0;
    for (int step = 0; step < 120; ++step) {
      const uint64_t dice = random() % 100;
      if (dice < 40) {
        // A command: what was staged may be named much later, or by another number.
        const auto chunks = Refs(random() % 60, 1 + random() % 4);
        [[maybe_unused]] const Status staged = log->Stage(chunks, kManifest);
        if (random() % 4 == 0) log->Collect();
        if (random() % 4 == 0) [[maybe_unused]]
          const Status early = log->SyncStaged();
        const std::vector<bool> may = log->Name(chunks, kManifest, begun);
        for (size_t i = 0; i < chunks.size(); ++i) {
          if (may[i]) buffered.push_back({begun, std::string(chunks[i]->bytes().view())});
        }
        if (random() % 3 == 0) held_.clear();
      } else if (dice < 60) {
        // The log thread writes.
        if (log->SyncStaged().ok()) {
          written += buffered.size();
          in_file.insert(in_file.end(), buffered.begin(), buffered.end());
          buffered.clear();
        } else {
          ++refused;
        }
      } else if (dice < 66) {
        if (rewrites.empty()) rewrites.push_back(++begun);
      } else if (dice < 72) {
        saves.push_back(++begun);
      } else if (dice < 82 && !rewrites.empty()) {
        const uint64_t number = rewrites.back();
        rewrites.clear();
        const auto chunks = Several(random() % 60, 3);
        std::vector<bool> kept;
        [[maybe_unused]] const Status status = log->Keep(chunks, number, {kManifest}, &kept);
        if (random() % 4 != 0) {
          base.clear();
          for (size_t i = 0; i < kept.size(); ++i) {
            if (kept[i]) base.emplace_back(chunks[i]->bytes().view());
          }
          std::erase_if(in_file, [&](const NamedBytes& each) { return each.number < number; });
          // A cut is written in order: what was buffered in front of it was written before.
          std::erase_if(buffered, [&](const NamedBytes& each) { return each.number < number; });
          log->OnSaved(kManifest, number);
        }
        log->OnSaved("", number);
        if (random() % 2 == 0) log->Collect();
      } else if (dice < 86 && !saves.empty()) {
        std::vector<bool> kept;
        [[maybe_unused]] const Status status =
            log->Keep(Several(random() % 60, 3), saves.back(), {"dump.rdb"}, &kept);
        disk_.server_files.insert("dump.rdb");
        log->OnSaved("dump.rdb", saves.back());
        log->OnSaved("", saves.back());
        saves.pop_back();
        log->Collect();
      } else if (dice < 89) {
        disk_.fail_syncs = 1 + static_cast<int>(random() % 2);
      } else if (dice < 92) {
        disk_.room = random() % (6 * kSize);
      } else if (dice < 95) {
        disk_.room = UINT64_MAX;
      } else {
        removed += log->figures().removed_segments;
        log.reset();
        if (random() % 2 == 0) disk_.Crash(random);
        disk_.locked = false;
        held_.clear();
        buffered.clear();
        rewrites.clear();
        saves.clear();
        begun = 0;
        for (NamedBytes& each : in_file) each.number = 0;
        log = Open(16 * kSize);
        ++crashes;
        std::vector<std::string> all = base;
        for (const NamedBytes& each : in_file) all.push_back(each.bytes);
        for (const std::string& bytes : all) {
          const ChunkLog::Found found = log->Find(HashBytes128(bytes), bytes.size());
          ASSERT_TRUE(found.mapping) << "a chunk that is named is gone, step " << step;
          ASSERT_EQ(found.bytes, bytes);
        }
      }
    }
    removed += log->figures().removed_segments;
    log.reset();
    held_.clear();
  }
  EXPECT_GT(crashes, rounds);
  EXPECT_GT(written, rounds * 10);
  EXPECT_GT(refused, 0u);
  EXPECT_GT(removed, 0u) << "nothing was ever removed: the test would prove nothing";
}

/// On a real file system, for ThreadSanitizer: commands, the log thread, saves and the collector.
TEST(ChunkLogThreadsTest, NamesHoldBesideSavesAndCollection) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("chunk_log_" + std::to_string(::getpid()));
  std::filesystem::create_directories(directory / "aof");
  std::ofstream(directory / kManifest) << "x";
  TestMemory memory;
  ChunkPool pool(memory);
  const auto open = [&] {
    ChunkLogOptions options;
    options.segment_bytes = 64 * 1024;
    options.records_at_a_time = 16;
    options.random = [seed = std::make_shared<std::atomic<uint64_t>>(1)] { return ++*seed; };
    options.say = [](std::string_view) {};
    auto log = std::make_unique<ChunkLog>(NewPosixLogFiles(directory, "logs"), options);
    EXPECT_TRUE(log->Open().ok());
    return log;
  };
  std::mutex mutex;
  std::vector<std::string> named;
  {
    auto log = open();
    log->StartThread();
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> begun{0};
    std::vector<std::thread> threads;
    for (uint64_t worker = 0; worker < 2; ++worker) {
      threads.emplace_back([&, worker] {
        for (uint64_t i = 0; i < 150; ++i) {
          ChunkRef chunk =
              pool.InternOne(memory.Slice(RandomBytes(i * 2 + worker % (1 + i % 2))), DType::kU8)
                  .value();
          EXPECT_TRUE(log->Stage({chunk}, kManifest).ok());
          // Nothing here is ever rewritten: each name holds.
          if (!log->Name({chunk}, kManifest, begun.load())[0]) continue;
          const std::lock_guard lock(mutex);
          named.emplace_back(chunk->bytes().view());
        }
      });
    }
    threads.emplace_back([&] {
      while (!stop) {
        EXPECT_TRUE(log->SyncStaged().ok());
        std::this_thread::yield();
      }
    });
    threads.emplace_back([&] {
      for (uint64_t save = 1; save < 15; ++save) {
        begun = save;
        ChunkRef chunk = pool.InternOne(memory.Slice(RandomBytes(save)), DType::kU8).value();
        std::vector<bool> kept;
        EXPECT_TRUE(log->Keep({chunk.get()}, save, {"dump.rdb"}, &kept).ok());
        std::ofstream(directory / "dump.rdb") << save;
        log->OnSaved("dump.rdb", save);
        log->OnSaved("", save);
        [[maybe_unused]] const ChunkLogFigures figures = log->figures();
      }
    });
    threads[0].join();
    threads[1].join();
    threads[3].join();
    stop = true;
    threads[2].join();
    EXPECT_TRUE(log->SyncStaged().ok());
  }
  auto log = open();
  EXPECT_GT(named.size(), 100u);
  for (const std::string& bytes : named) {
    const ChunkLog::Found found = log->Find(HashBytes128(bytes), bytes.size());
    ASSERT_TRUE(found.mapping);
    EXPECT_EQ(found.bytes, bytes);
  }
  log.reset();
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace cairn::tensor

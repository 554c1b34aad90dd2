#pragma once

// What the tests of AofWriter share: a writer on a disk in memory. Its log thread does something
// only by RunOnce() unless a test starts it.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/aof_reader.h"
#include "persistence/aof_writer.h"
#include "server/platform/fake_env.h"
#include "tests/support/command_recorder.h"

namespace cairn {

inline const AofLocation kLocation{"/data/aof"};

inline std::string SetCommand(std::string_view key, std::string_view value) {
  return "*3\r\n$3\r\nSET\r\n$" + std::to_string(key.size()) + "\r\n" + std::string(key) + "\r\n$" +
         std::to_string(value.size()) + "\r\n" + std::string(value) + "\r\n";
}

class AofWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(env_.CreateDir("/data").ok());
    ASSERT_TRUE(env_.SyncDir("/").ok());
    options_.location = kLocation;
    options_.policy = AofSyncPolicy::kEverySecond;
    options_.reserve_bytes = 4096;
  }

  /// Fills the disk behind a big value, and has a small one wait for the next attempt to write.
  void MeetAFullDisk(AofWriter& writer) {
    writer.Append(SetCommand("a", std::string(5000, 'x')), 0);
    env_.AdvanceMicros(1'000'000);
    (void)writer.RunOnce();
    env_.SetCapacity(env_.used_bytes() + 10);
    writer.Append(SetCommand("a", "1"), 0);
  }

  /// A writer on what the disk holds; the first one makes an empty base.
  std::unique_ptr<AofWriter> Open() {
    Result<AofManifest> manifest = PrepareAofDirectory(env_, "/data", kLocation);
    EXPECT_TRUE(manifest.ok());
    AofCallbacks callbacks;
    callbacks.on_progress = [this] {
      ++progress_;
      if (at_progress_) at_progress_();
    };
    callbacks.sync_named = [this] {
      ++writes_by_others_;
      name_syncs_ += unsynced_names_;
      if (failing_names_ > 0) {
        --failing_names_;
        return Status::Io("fdatasync of what is named");
      }
      unsynced_names_ = false;
      return Status::Ok();
    };
    callbacks.has_unsynced_names = [this] { return unsynced_names_; };
    auto writer = std::make_unique<AofWriter>(env_, options_, callbacks);
    if (!manifest->empty()) {
      EXPECT_TRUE(writer->Open(*manifest, 0, true).ok());
      return writer;
    }
    EXPECT_TRUE(writer->OpenForFirstRewrite(*manifest, 0).ok());
    EXPECT_TRUE(Rewrite(*writer, "").ok());
    return writer;
  }

  Status Rewrite(AofWriter& writer, std::string_view base) {
    (void)writer.BeginRewrite();
    return Finish(writer, base);
  }

  Status Finish(AofWriter& writer, std::string_view base) {
    auto file = env_.OpenTruncate(writer.TempBasePath());
    EXPECT_TRUE((*file)->Append(base).ok() && (*file)->Sync().ok());
    Status outcome = Status::Io("not called");
    writer.FinishRewrite(writer.TempBasePath(), false,
                         [&outcome](const Status& status) { outcome = status; });
    (void)writer.RunOnce();
    return outcome;
  }

  std::vector<std::string> Load() {
    CommandRecorder recorder;
    Result<AofLoadReport> report =
        LoadAof(env_, kLocation, *LoadAofManifest(env_, kLocation), nullptr, recorder, {});
    EXPECT_TRUE(report.ok()) << report.status().message();
    return recorder.lines;
  }

  std::string Read(const std::string& name) {
    return *env_.ReadFileToString(kLocation.PathOf(name));
  }
  std::vector<std::string> Names() { return *env_.ListDir(kLocation.directory); }

  FakeEnv env_{1};
  AofWriterOptions options_;
  int progress_ = 0;
  std::function<void()> at_progress_;      // on the thread that reports it
  std::atomic<int> writes_by_others_ = 0;  // than the executor
  bool unsynced_names_ = false;
  int failing_names_ = 0;  // of the next syncs
  int name_syncs_ = 0;
};

}  // namespace cairn

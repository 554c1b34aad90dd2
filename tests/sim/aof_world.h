#pragma once

// AofWorld: an append-only file on a disk that forgets, with the plain model it is held to. The
// writer runs without its thread, so a history of calls is the same every time; its I/O calls are
// numbered by FakeEnv, and a test lets the power go, the process die or an error happen at each of
// them. The model is the list of appended turns: after any end, what a load finds must be the state
// after some prefix of it (never a hole), and the prefix must reach what was promised (V10, V11).

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "persistence/aof_reader.h"
#include "persistence/aof_writer.h"
#include "persistence/rdb_reader.h"
#include "persistence/snapshot_job.h"
#include "server/platform/fake_env.h"
#include "tests/sim/sim_state.h"

namespace cairn {

/// Writers are held back from here on (aof-unsynced-limit).
inline constexpr int64_t kUnsyncedLimitMs = 2000;

struct SimOptions {
  AofSyncPolicy policy = AofSyncPolicy::kAlways;
  bool checksum = true;
  bool timestamps = false;
  uint64_t pad_bytes = 300;  ///< a few turns
  bool rdb_base = false;     ///< aof-use-rdb-preamble
};

/// Small, so that an RDB file of a few keys is several reads and several writes.
inline constexpr size_t kSimBufferBytes = 64;

class AofWorld {
 public:
  AofWorld(uint64_t seed, SimOptions options) : env(seed), options_(options) {
    CAIRN_CHECK(env.CreateDir("/data").ok());
    CAIRN_CHECK(env.SyncDir("/").ok());
  }
  ~AofWorld() { End(); }

  /// Loads what is on disk and opens it, as the server does at start; an empty directory gets its
  /// first base. False: an I/O error ended the start.
  bool Start() {
    Result<AofManifest> manifest = PrepareAofDirectory(env, "/data", location_);
    if (!manifest.ok()) return Refused(manifest.status());
    SimLoader loader;
    AofLoadOptions load;
    Result<AofLoadReport> report =
        LoadAof(env, location_, *manifest, RdbInto(&loader.state), loader, load);
    if (!report.ok()) return Refused(report.status());
    TakeOver(loader.state);
    AofWriterOptions options;
    options.location = location_;
    options.policy = options_.policy;
    options.checksum = options_.checksum;
    options.timestamps = options_.timestamps;
    options.reserve_bytes = 4096;
    options.pad_bytes = options_.pad_bytes;
    options.unsynced_limit_ms = kUnsyncedLimitMs;
    writer = std::make_unique<AofWriter>(env, options, AofCallbacks{});
    const bool fresh = manifest->empty();
    const Status opened =
        fresh ? writer->OpenForFirstRewrite(std::move(*manifest), offset_)
              : writer->Open(std::move(*manifest), offset_, report->last_file_covered);
    if (!opened.ok()) return false;
    if (!fresh) return true;
    Rewrite(0);
    return writer->protecting();
  }

  /// One turn of the executor: `commands` SETs, more than one wrapped in MULTI and EXEC.
  void Append(int commands) {
    const int64_t before = database_;
    const int64_t database = static_cast<int64_t>(turns_.size() % 2);
    std::string bytes;
    if (database != database_) bytes += RespCommand({"SELECT", std::to_string(database)});
    database_ = database;
    if (commands > 1) bytes += RespCommand({"MULTI"});
    Turn turn;
    for (int i = 0; i < commands; ++i) {
      const std::string key = "k" + std::to_string(++counter_ % 5);
      const std::string value = "v" + std::to_string(counter_) + std::string(counter_ % 17, 'x');
      bytes += RespCommand({"SET", key, value});
      turn.sets.emplace_back(std::to_string(database) + ":" + key, value);
    }
    if (commands > 1) bytes += RespCommand({"EXEC"});
    offset_ += bytes.size();
    turn.end_offset = offset_;
    turn.appended_us = env.MonotonicMicros();
    turns_.push_back(turn);
    writer->Append(std::move(bytes), before);
    Note();
  }

  /// Turns that the log thread does not come to: the executor writes them itself in the end.
  void AppendLate(int turns) {
    writer->SetDiskBusy(true);
    for (int i = 0; i < turns; ++i) Append(1 + i % 2);
    (void)writer->WriteLate();
    writer->SetDiskBusy(false);
    Note();
  }

  void Step() {
    (void)writer->RunOnce();
    Note();
  }

  void Advance(int64_t ms) {
    env.AdvanceMicros(ms * 1000);
    Step();
  }

  /// The disk does nothing for so long; clients go on writing unless the writer wants them held
  /// back.
  void Stall(int64_t ms, int64_t turn_every_ms) {
    for (; ms > 0; ms -= turn_every_ms) {
      if (!writer->ShouldThrottle()) Append(1);
      env.AdvanceMicros(turn_every_ms * 1000);
    }
  }

  /// A cut, `turns` turns behind it, and its end. Returns whether the new base is in force.
  bool Rewrite(int turns) {
    (void)writer->BeginRewrite();
    const SimState state = StateAfter(turns_.size());
    for (int i = 0; i < turns; ++i) {
      Append(1 + i % 2);
      Step();
    }
    if (!WriteBase(state)) {
      writer->AbortRewrite();
      Step();
      return false;
    }
    Status outcome = Status::Io("not called");
    writer->FinishRewrite(writer->TempBasePath(), options_.rdb_base,
                          [&outcome](const Status& status) { outcome = status; });
    for (int i = 0; i < 100 && !outcome.ok() && outcome.message() == "not called"; ++i) {
      Advance(1000);
    }
    Note();
    return outcome.ok();
  }

  /// The process ends here; the disk stays as it is. Nothing the writer does on its way out counts.
  void End() {
    if (writer == nullptr) return;
    env.FailNthCall(1, Status::Io("ended"), true);
    writer.reset();
    env.FailNthCall(0, Status::Ok());
  }

  /// Loads and compares: some prefix of the turns, at least up to `promised`. Returns the number of
  /// turns found, -1 after a failure.
  int64_t CheckLoad(uint64_t promised) {
    Result<AofManifest> manifest = PrepareAofDirectory(env, "/data", location_);
    EXPECT_TRUE(manifest.ok()) << manifest.status().message();
    if (!manifest.ok()) return -1;
    SimLoader loader;
    Result<AofLoadReport> report =
        LoadAof(env, location_, *manifest, RdbInto(&loader.state), loader, AofLoadOptions{});
    EXPECT_TRUE(report.ok()) << report.status().message();
    if (!report.ok()) return -1;
    for (size_t i = turns_.size() + 1; i-- > 0;) {
      if (loader.state != StateAfter(i)) continue;
      const uint64_t reached = i == 0 ? base_offset_ : turns_[i - 1].end_offset;
      EXPECT_GE(reached, promised) << "promised bytes are gone";
      return reached >= promised ? static_cast<int64_t>(i) : -1;
    }
    ADD_FAILURE() << "what was loaded is the state after no prefix of the history";
    return -1;
  }

  /// How old the first turn behind `kept` was when the power went; 0 when all are kept.
  int64_t OldestLostUs(int64_t kept) const {
    const auto index = static_cast<size_t>(kept);
    return index < turns_.size() ? power_cut_us_ - turns_[index].appended_us : 0;
  }
  /// How long clients had been writing what is lost, from the first such turn to the last.
  int64_t LostSpanUs(int64_t kept) const {
    const auto index = static_cast<size_t>(kept);
    return index < turns_.size() ? turns_.back().appended_us - turns_[index].appended_us : 0;
  }
  /// The machine loses power and comes back.
  void CutPower(uint64_t seed) {
    power_cut_us_ = env.fault_us() < 0 ? env.MonotonicMicros() : env.fault_us();
    writer.reset();
    env.Crash(seed);
  }

  /// Largest durable and written offset while a manifest protected them: what a power cut, and what
  /// the end of the process alone, must leave.
  uint64_t durable() const { return durable_; }
  uint64_t written() const { return written_; }
  uint64_t appended() const { return offset_; }
  size_t turns() const { return turns_.size(); }
  /// What the last start found.
  const SimState& found() const { return base_; }
  /// A start called what it found damaged: errors of the disk are no reason for that.
  bool refused_sound_files() const { return refused_; }

  FakeEnv env;
  std::unique_ptr<AofWriter> writer;

 private:
  struct Turn {
    std::vector<std::pair<std::string, std::string>> sets;
    uint64_t end_offset = 0;
    int64_t appended_us = 0;
  };

  RdbLoadFunction RdbInto(SimState* state) {
    return [this, state](const std::string& path) -> Result<uint64_t> {
      auto source = OpenByteSource(env, path);
      if (!source.ok()) return source.status();
      RdbReadOptions read;
      read.buffer_bytes = kSimBufferBytes;
      SimRdbLoader loader;
      const Result<uint64_t> end = RdbReader(source->get(), read).Load(loader);
      loader.MoveTo(state);
      return end;
    };
  }

  bool Refused(const Status& status) {
    if (status.code() == StatusCode::kCorruption) {
      refused_ = true;
      ADD_FAILURE() << "refused to start: " << status.message();
    }
    return false;
  }

  /// What was loaded becomes the beginning of a new history.
  void TakeOver(SimState state) {
    base_ = std::move(state);
    turns_.clear();
    base_offset_ = offset_;
    durable_ = written_ = offset_;
    database_ = -1;
  }

  SimState StateAfter(size_t turns) const {
    SimState state = base_;
    for (size_t i = 0; i < turns; ++i) {
      for (const auto& [key, value] : turns_[i].sets) state[key] = value;
    }
    return state;
  }

  bool WriteBase(const SimState& state) {
    SnapshotJobOptions options;
    options.temp_path = writer->TempBasePath();
    options.as_commands = !options_.rdb_base;
    options.rdb.aof_base = true;
    options.rdb.buffer_bytes = kSimBufferBytes;
    SimSource source(state);
    return SnapshotJob(env, source, options).Run().ok();
  }

  /// A1, and what is promised from here on.
  void Note() {
    const uint64_t durable = writer->durable_offset(), written = writer->written_offset();
    EXPECT_LE(durable, written);
    EXPECT_LE(written, writer->appended_offset());
    EXPECT_EQ(writer->appended_offset(), offset_);
    if (!writer->protecting()) return;
    EXPECT_GE(durable, durable_);
    EXPECT_GE(written, written_);
    durable_ = durable;
    written_ = written;
  }

  const SimOptions options_;
  const AofLocation location_{"/data/appendonlydir"};
  SimState base_;
  std::vector<Turn> turns_;
  uint64_t base_offset_ = 0, offset_ = 0;
  uint64_t durable_ = 0, written_ = 0;
  int64_t database_ = -1;
  int64_t power_cut_us_ = 0;
  uint64_t counter_ = 0;
  bool refused_ = false;
};

}  // namespace cairn

#pragma once

// DurableProcess: a whole engine with its durability on a fake disk and a fake clock, with the real
// threads of the append-only file and of saves, for tests of what clients are promised. Not a
// server: no sockets, and turns of the loop are the test's. One thread, the executor's.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "server/app/families.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/platform/fake_env.h"
#include "server/platform/working_directory.h"
#include "server/protocol/resp_reader.h"

namespace cairn {

/// Posted jobs run when the test says so; timers by the fake clock.
class FakeTimerLoop final : public EventLoopPort {
 public:
  explicit FakeTimerLoop(FakeEnv& env) : env_(env) {}
  void Post(std::function<void()> job) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(job));
  }
  TimerId StartTimer(int64_t delay_ms, int64_t repeat_ms, std::function<void()> fn) override {
    timers_[++last_timer_] = {env_.MonotonicMicros() + delay_ms * 1000, repeat_ms, std::move(fn)};
    return last_timer_;
  }
  void StopTimer(TimerId id) override { timers_.erase(id); }
  int64_t NowMillis() const override { return env_.MonotonicMicros() / 1000; }

  void RunPosted() {
    std::vector<std::function<void()>> jobs;
    {
      std::lock_guard lock(mutex_);
      jobs.swap(posted_);
    }
    for (auto& job : jobs) job();
    for (auto it = timers_.begin(); it != timers_.end();) {
      const TimerId id = it->first;
      Timer& timer = it->second;
      if (timer.due_us <= env_.MonotonicMicros()) {
        const auto fn = timer.fn;
        if (timer.repeat_ms > 0) {
          timer.due_us += timer.repeat_ms * 1000;
        } else {
          timers_.erase(it);
        }
        fn();  // may stop timers, itself too
      }
      it = timers_.upper_bound(id);
    }
  }

 private:
  FakeEnv& env_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  struct Timer {
    int64_t due_us;
    int64_t repeat_ms;  // 0: once
    std::function<void()> fn;
  };
  std::map<TimerId, Timer> timers_;
  TimerId last_timer_ = 0;
};

class KeptLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view line) override {
    std::lock_guard lock(mutex_);
    text_ += line;
  }
  size_t Count(std::string_view words) {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (size_t at = text_.find(words); at != std::string::npos; at = text_.find(words, at + 1))
      ++count;
    return count;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

class FixedDirectory final : public WorkingDirectory {
 public:
  Status Change(const std::string&) override { return Status::Io("stays where it is"); }
  std::string Current() const override { return "/"; }
};

/// One process on `env`: begins by loading, ends without a farewell.
class DurableProcess {
 public:
  DurableProcess(FakeEnv& env, std::vector<Config::NameAndValue> settings)
      : env_(env),
        loop_(env),
        log_(LoggerOptions{.wall_micros = [&env] { return env.WallMicros(); }, .sink = &sink_}),
        config_(env, directory_),
        arena_(size_t{1} << 20),
        keyspace_({.hash_seed = 42}),
        engine_(env, loop_, log_, config_, keyspace_, arena_),
        dispatcher_(engine_) {
    engine_.dispatcher = &dispatcher_;
    engine_.process_id = 4242;
    AddAllFamilies(engine_.commands);
    settings.push_back({"save", ""});
    for (const auto& pair : settings) {
      const Status set = config_.Set({&pair, 1}, SetContext{});
      CAIRN_CHECK(set.ok());
    }
    durability_ = NewDurability(engine_, [this] {
      told_offset_ = durability_->DurableOffset();
      ++times_told_;
    });
    engine_.durability = durability_.get();
    engine_.RefreshClock();
    loaded_ = durability_->LoadAtStart();
    session_ = engine_.CreateSession(nullptr, SessionKind::kNormal);
  }
  ~DurableProcess() {
    env_.HoldSyncs(false);
    env_.AllowAppends(UINT64_MAX);
    env_.HoldSizes(false);
    // The disk stays as it is: nothing that is done on the way out may count.
    env_.FailNthCall(1, Status::Io("ended"), true);
    durability_.reset();
    engine_.durability = nullptr;
    env_.FailNthCall(0, Status::Ok());
  }

  /// One command, one turn.
  std::string Run(std::vector<std::string> args) {
    engine_.RefreshClock();
    const std::vector<std::string_view> views(args.begin(), args.end());
    dispatcher_.RunArgs(*session_, views);
    EndOfTurn();
    const std::string bytes = session_->output.Flatten();
    session_->output.Clear();
    RespValue value;
    size_t consumed = 0;
    CAIRN_CHECK(ParseReply(bytes, &consumed, &value) == ReplyParse::kValue);
    return value.ToString();
  }

  void EndOfTurn() {
    engine_.EndOfTurn();
    durability_->EndOfTurn();
  }

  /// Polls, with the loop turning, until `done`.
  template <typename Done>
  bool Until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(240);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      loop_.RunPosted();
    }
    return true;
  }
  bool AllDurable() {
    return Until([this] { return durability_->DurableOffset() >= engine_.propagation.offset(); });
  }
  /// Lets the log try again until the disk takes its bytes.
  bool LogRecovers() {
    return Until([this] {
      env_.AdvanceMicros(1'000'000);
      return durability_->figures().aof_last_write_ok;
    });
  }
  bool NoRewrite() {
    return Until([this] {
      return !durability_->figures().rewrite_running && !durability_->figures().rewrite_scheduled;
    });
  }

  FakeEnv& env_;
  FakeTimerLoop loop_;
  KeptLog sink_;
  FixedDirectory directory_;
  Logger log_;
  Config config_;
  BlobArena arena_;
  Keyspace keyspace_;
  Engine engine_;
  Dispatcher dispatcher_;
  std::unique_ptr<Durability> durability_;
  Session* session_ = nullptr;
  Status loaded_;
  uint64_t told_offset_ = 0;  // what the executor found when it was told to look again
  uint64_t times_told_ = 0;
};

}  // namespace cairn

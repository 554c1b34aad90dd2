// What comes to the threads of the append-only file between their last look at the queues and their
// sleep. The thread is stopped there, in its report of progress; the clock stands still, and under
// policy no the log thread sleeps until it is woken: what it misses stays undone.

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "tests/unit/persistence/aof_writer_fixture.h"

namespace cairn {
namespace {

class AofWakeTest : public AofWriterTest {
 protected:
  template <typename Done>
  static bool Until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::unique_ptr<AofWriter> OpenWithThreads(AofSyncPolicy policy) {
    options_.policy = policy;
    auto writer = Open();
    at_progress_ = [this] { StopWhenAsked(); };
    writer->StartThread();
    return writer;
  }

  /// Appends, and has `news` come while the thread that made progress with it is stopped.
  void StopFor(AofWriter& writer, const std::function<void()>& news) {
    Set(Stop::kAsked);
    writer.Append(SetCommand("a", "1"), 0);
    {
      std::unique_lock lock(mutex_);
      moved_.wait(lock, [this] { return stop_ == Stop::kStopped; });
    }
    news();
    Set(Stop::kNo);
  }

 private:
  enum class Stop : uint8_t { kNo, kAsked, kStopped };

  void Set(Stop stop) {
    {
      std::lock_guard lock(mutex_);
      stop_ = stop;
    }
    moved_.notify_all();
  }
  void StopWhenAsked() {
    std::unique_lock lock(mutex_);
    if (stop_ != Stop::kAsked) return;
    stop_ = Stop::kStopped;
    moved_.notify_all();
    moved_.wait(lock, [this] { return stop_ == Stop::kNo; });
  }

  std::mutex mutex_;
  std::condition_variable moved_;
  Stop stop_ = Stop::kNo;
};

TEST_F(AofWakeTest, TheLogThreadSeesWhatCameAheadOfItsSleep) {
  auto writer = OpenWithThreads(AofSyncPolicy::kNever);
  writer->SetDiskBusy(true);  // every write is the log thread's
  StopFor(*writer, [&] { writer->Append(SetCommand("b", "2"), 0); });
  EXPECT_TRUE(Until([&] { return writer->written_offset() == writer->appended_offset(); }));

  const uint64_t increment = writer->manifest().increment_sequence();
  StopFor(*writer, [&] { (void)writer->BeginRewrite(); });
  EXPECT_TRUE(Until([&] { return writer->manifest().increment_sequence() > increment; }));

  auto base = env_.OpenTruncate(writer->TempBasePath());
  ASSERT_TRUE(base.ok() && (*base)->Sync().ok());
  std::atomic<bool> ended = false;
  StopFor(*writer, [&] {
    writer->FinishRewrite(writer->TempBasePath(), false, [&](const Status& s) { ended = s.ok(); });
  });
  EXPECT_TRUE(Until([&] { return ended.load(); }));

  StopFor(*writer, [&] { writer->SetPolicy(AofSyncPolicy::kAlways); });
  EXPECT_TRUE(Until([&] { return writer->durable_offset() == writer->appended_offset(); }));
  EXPECT_TRUE(writer->Close().ok());
}

// Under always nobody is woken for what is appended during a sync.
TEST_F(AofWakeTest, TheSyncThreadTakesWhatCameBehindItsSync) {
  auto writer = OpenWithThreads(AofSyncPolicy::kAlways);
  for (int i = 0; i < 3; ++i) {
    StopFor(*writer, [&] { writer->Append(SetCommand("b", "2"), 0); });
    EXPECT_TRUE(Until([&] { return writer->durable_offset() == writer->appended_offset(); }));
  }
  EXPECT_TRUE(writer->Close().ok());
}

// While it waits for more to sync, a cut may put another file in place of the one it synced, and
// have no second descriptor for it.
TEST_F(AofWakeTest, TheSyncThreadHasNoFileAfterACutThatFailed) {
  auto writer = OpenWithThreads(AofSyncPolicy::kAlways);
  const auto all_durable = [&] {
    return Until([&] {
      env_.AdvanceMicros(100'000);  // for what is tried again
      return writer->durable_offset() == writer->appended_offset() &&
             writer->state() == AofState::kOk;
    });
  };
  // Which call of a cut is the one hangs on padding, and whether it comes in time on the scheduler.
  for (uint64_t n = 1; n <= 40; ++n) {
    env_.HoldSyncs(true);
    const uint64_t durable = writer->durable_offset();
    writer->Append(SetCommand("a", std::string(1000, 'x')), 0);
    ASSERT_TRUE(Until([&] { return env_.held_syncs() > 0; }));
    env_.AdvanceMicros(5000);  // a sync that took as long is worth a millisecond
    env_.FailNthCall(4 + n % 20, Status::Io("Too many open files"));
    env_.HoldSyncs(false);
    while (writer->durable_offset() == durable && writer->state() == AofState::kOk) {
      std::this_thread::yield();
    }
    (void)writer->BeginRewrite();
    writer->Append(SetCommand("b", "2"), 0);
    ASSERT_TRUE(all_durable()) << n;
    env_.FailNthCall(0, Status::Ok());
    writer->AbortRewrite();
    (void)writer->BeginRewrite();  // the next one has a file again
    writer->AbortRewrite();
    writer->Append(SetCommand("c", "3"), 0);
    ASSERT_TRUE(all_durable()) << n;
  }
  EXPECT_TRUE(writer->Close().ok());
}

}  // namespace
}  // namespace cairn

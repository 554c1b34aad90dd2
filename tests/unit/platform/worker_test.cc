#include "server/platform/worker.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/platform/spsc_queue.h"

namespace cairn {
namespace {

TEST(WorkerTest, RunsJobsInOrderOnItsNamedThread) {
  WorkerThread worker({.name = "cairn-name-longer-than-allowed", .nice_level = 5, .idle_io = true});
  std::vector<int> seen;
  std::string name;
  for (int i = 0; i < 1000; ++i) worker.Post([&seen, i] { seen.push_back(i); });
  worker.Post([&name] {
    char buffer[32];
    pthread_getname_np(pthread_self(), buffer, sizeof(buffer));
    name = buffer;
  });
  worker.Drain();
  EXPECT_EQ(worker.pending(), 0u);
  EXPECT_EQ(name, "cairn-name-long");
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

/// The slice of the calling thread in ns; 0 where the kernel tells of none (before Linux 6.12).
uint64_t Slice() {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  EXPECT_EQ(::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0), 0);
  return attributes.policy == 0 ? attributes.runtime : 0;
}

TEST(WorkerTest, WhoGivesWayHasShortTurnsAndNobodyInheritsThem) {
  uint64_t usual = 0, gives_way = 0;
  std::thread executor([&] {
    AskForShortSlices();
    WorkerThread({.name = "usual"}).Post([&] { usual = Slice(); });
    WorkerThread worker({.name = "polite", .nice_level = 10, .gives_way = true});
    worker.Post([&] {
      for (int i = 0; i < 1000; ++i) GiveWay();
      gives_way = Slice();
    });
  });
  executor.join();
  if (gives_way == 0) GTEST_SKIP() << "the kernel knows no slices";
  EXPECT_EQ(gives_way, 100'000u);
  EXPECT_GT(usual, gives_way);
}

// Work, however long, and however often others take the core meanwhile, is no wait; a sleep is.
TEST(WorkerTest, CountsWhatItsThreadWaitsFor) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  (void)now();
  const uint64_t before = ThreadWaits();
  for (const auto end = now() + std::chrono::milliseconds(20); now() < end;) {
  }
  EXPECT_EQ(ThreadWaits(), before);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GT(ThreadWaits(), before);
}

TEST(WorkerTest, StopFinishesWhatWasPosted) {
  std::atomic<int> done = 0;
  WorkerThread worker({.name = "w"});
  for (int i = 0; i < 100; ++i) worker.Post([&done] { ++done; });
  worker.Stop();
  EXPECT_EQ(done, 100);
  worker.Stop();
}

TEST(WorkerTest, JobsMayPostJobs) {
  WorkerThread worker({.name = "w"});
  std::atomic<bool> ran = false;
  worker.Post([&] { worker.Post([&] { ran = true; }); });
  worker.Drain();
  worker.Stop();
  EXPECT_TRUE(ran);
}

TEST(WorkerTest, DrainAlsoWaitsForCapturesToDie) {
  auto token = std::make_shared<int>(1);
  WorkerThread worker({.name = "w"});
  worker.Post([copy = token] {});
  worker.Drain();
  EXPECT_EQ(token.use_count(), 1);
}

TEST(SpscQueueTest, KeepsOrderAcrossChunks) {
  SpscQueue<std::unique_ptr<int>, 4> queue;
  std::unique_ptr<int> out;
  EXPECT_FALSE(queue.TryPop(&out));
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 11; ++i) queue.Push(std::make_unique<int>(i));
    EXPECT_EQ(queue.size(), 11u);
    for (int i = 0; i < 11; ++i) {
      ASSERT_TRUE(queue.TryPop(&out));
      EXPECT_EQ(*out, i);
    }
    EXPECT_FALSE(queue.TryPop(&out));
    EXPECT_TRUE(queue.empty());
  }
}

TEST(SpscQueueTest, DestroysWhatWasNotTaken) {
  auto token = std::make_shared<int>(1);
  {
    SpscQueue<std::shared_ptr<int>, 4> queue;
    for (int i = 0; i < 10; ++i) queue.Push(token);
    EXPECT_EQ(token.use_count(), 11);
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(SpscQueueTest, TwoThreadsLoseNothing) {
  constexpr uint64_t kItems = 200000;
  SpscQueue<uint64_t, 64> queue;
  std::thread producer([&queue] {
    for (uint64_t i = 0; i < kItems; ++i) queue.Push(i);
  });
  uint64_t expected = 0;
  bool in_order = true;
  while (expected < kItems) {
    uint64_t item = 0;
    if (!queue.TryPop(&item)) {
      std::this_thread::yield();
      continue;
    }
    in_order = in_order && item == expected;
    ++expected;
  }
  producer.join();
  EXPECT_TRUE(in_order);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace cairn

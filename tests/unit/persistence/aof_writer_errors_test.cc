// AofWriter on a disk that is full, fails or takes no more bytes: what it keeps, and how it comes
// back.

#include <gtest/gtest.h>

#include "persistence/aof_writer.h"
#include "tests/unit/persistence/aof_writer_fixture.h"

namespace cairn {
namespace {

TEST_F(AofWriterTest, AFullDiskRefusesFreesTheReserveAndRecovers) {
  const std::string reserve = kLocation.ReservePath();
  auto writer = Open();
  ASSERT_TRUE(*env_.FileExists(reserve));
  env_.SetCapacity(env_.used_bytes() + 10);
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kDegraded);
  // The disk is as full as before, but for the reserve: it is what the command went into.
  EXPECT_FALSE(*env_.FileExists(reserve));
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  EXPECT_EQ(writer->last_error().code(), StatusCode::kNoSpace);
  EXPECT_FALSE(writer->last_write_ok());
  // Bytes already acknowledged go on being kept, and nothing torn stays in the file.
  writer->Append(SetCommand("b", "2"), 0);
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kDegraded) << "no room for a new reserve";
  EXPECT_FALSE(*env_.FileExists(reserve));
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  env_.SetCapacity(UINT64_MAX);
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_TRUE(*env_.FileExists(reserve));
  EXPECT_TRUE(writer->last_error().ok());
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 0", "SET a 1", "SET b 2"}));
}

// The bytes went into what the reserve left, so there is no room for a new one until the rewrite
// has come to its end: its cut must not wait for that.
TEST_F(AofWriterTest, ARewriteEndsOnAFullDiskAndMakesRoom) {
  const std::string reserve = kLocation.ReservePath();
  auto writer = Open();
  MeetAFullDisk(*writer);
  (void)writer->RunOnce();
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  ASSERT_FALSE(*env_.FileExists(reserve));
  const uint64_t increment = writer->manifest().increment_sequence();
  (void)writer->BeginRewrite();
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kDegraded);
  EXPECT_EQ(writer->manifest().increment_sequence(), increment + 1);
  EXPECT_TRUE(Finish(*writer, SetCommand("a", "1")).ok());
  EXPECT_EQ(writer->state(), AofState::kOk);  // at once, not after a retry's five seconds
  EXPECT_TRUE(*env_.FileExists(reserve));
  writer->Append(SetCommand("b", "2"), 0);
  EXPECT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load(), (std::vector<std::string>{"SET a 1", "SELECT 0", "SET b 2"}));
}

// The log thread sleeps for five seconds between two attempts: the end of a rewrite wakes it.
TEST_F(AofWriterTest, TheEndOfARewriteDoesNotWaitForTheNextAttempt) {
  auto writer = Open();
  MeetAFullDisk(*writer);
  for (int i = 0; i < 10; ++i) {  // each failure doubles the wait
    env_.AdvanceMicros(10'000'000);
    if (i == 8) (void)writer->BeginRewrite();
    (void)writer->RunOnce();
  }
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  writer->StartThread();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it is asleep, most likely
  auto base = env_.OpenTruncate(writer->TempBasePath());
  ASSERT_TRUE(base.ok() && (*base)->Sync().ok());
  const auto began = std::chrono::steady_clock::now();
  std::atomic<bool> ended = false;
  writer->FinishRewrite(writer->TempBasePath(), false, [&](const Status& s) { ended = s.ok(); });
  while (!ended && std::chrono::steady_clock::now() - began < std::chrono::seconds(60))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
  EXPECT_TRUE(ended);
  EXPECT_TRUE(writer->Close().ok());
}

// A memory limit leaves it out of account, so it must be what is really held: to the last sync,
// with what the string has room for.
TEST_F(AofWriterTest, WhatIsKeptUntilItIsDurableIsCounted) {
  constexpr size_t kRoomBytes = 200'000;
  const auto append = [](AofWriter& writer) {
    std::string bytes;
    bytes.reserve(kRoomBytes);
    bytes += SetCommand("a", std::string(70'000, 'x'));
    writer.Append(std::move(bytes), 0);
  };
  auto writer = Open();
  EXPECT_EQ(writer->held_bytes(), 0u);
  append(*writer);
  EXPECT_EQ(writer->written_offset(), writer->appended_offset());
  EXPECT_GE(writer->held_bytes(), kRoomBytes);
  EXPECT_LT(writer->held_bytes(), 2 * kRoomBytes);
  writer->SetDiskBusy(true);
  append(*writer);  // not even written
  EXPECT_GE(writer->held_bytes(), 2 * kRoomBytes);
  env_.AdvanceMicros(1'000'000);
  env_.FailNthCall(2, Status::Io("I/O error"));  // 1 is the write
  (void)writer->RunOnce();
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  EXPECT_GE(writer->held_bytes(), 2 * kRoomBytes);
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();  // moves them to another file
  ASSERT_EQ(writer->state(), AofState::kOk);
  EXPECT_EQ(writer->held_bytes(), 0u);
  writer->SetPolicy(AofSyncPolicy::kNever);
  append(*writer);
  EXPECT_GE(writer->held_bytes(), kRoomBytes);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->held_bytes(), 0u);  // written, which is all that policy asks for
  EXPECT_TRUE(writer->Close().ok());
}

TEST_F(AofWriterTest, TheFileOfAFailedSyncNeverVouchesAgain) {  // A3
  options_.policy = AofSyncPolicy::kAlways;
  env_.SetFailedSyncsForget(true);
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->RunOnce();
  const uint64_t durable = writer->durable_offset();
  const size_t files = writer->manifest().increments().size();
  writer->Append(SetCommand("b", "2"), 0);
  env_.FailNthCall(2, Status::Io("I/O error"));  // 1 is the write
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kDegraded);
  EXPECT_EQ(writer->durable_offset(), durable);
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_EQ(writer->manifest().increments().size(), files + 1);
  EXPECT_EQ(writer->durable_offset(), writer->appended_offset());
  env_.Crash(3);
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 0", "SET a 1", "SELECT 0", "SET b 2"}));
}

// The old file keeps everything until a manifest that names the new one is on the disk.
TEST_F(AofWriterTest, AKillWhileTheManifestCannotBeWrittenLosesNothing) {  // A5, A9
  const std::string in_the_way = kLocation.PathOf("temp-" + kLocation.append_name + ".manifest");
  const std::vector<std::string> all = {"SELECT 0", "SET a 1", "SET b 2"};
  options_.policy = AofSyncPolicy::kNever;
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  writer->Append(SetCommand("b", "2"), 0);
  ASSERT_EQ(writer->written_offset(), writer->appended_offset());
  env_.FailNthCall(1, Status::Io("I/O error"));
  (void)writer->BeginRewrite();  // its cut wants a sync
  (void)writer->RunOnce();
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(env_.CreateDir(in_the_way).ok());
    env_.AdvanceMicros(10'000'000);
    (void)writer->RunOnce();
    EXPECT_EQ(writer->state(), AofState::kDegraded);
    EXPECT_EQ(Load(), all);  // as after a kill
  }
  ASSERT_TRUE(env_.RemoveIfThere(in_the_way).ok());
  env_.AdvanceMicros(10'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_EQ(Load().back(), all.back());
  EXPECT_EQ(Load().size(), all.size());
}

TEST_F(AofWriterTest, AFileThatTakesNoMoreBytesIsLeftForTheNext) {
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 3);
  (void)writer->RunOnce();
  const size_t files = writer->manifest().increments().size();
  for (const AofSyncPolicy policy : {AofSyncPolicy::kEverySecond, AofSyncPolicy::kNever}) {
    writer->SetPolicy(policy);
    env_.FailNthCall(1, Status::Io("File too large"), true);
    writer->Append(SetCommand("b", "2"), 3);
    (void)writer->RunOnce();
    EXPECT_EQ(writer->state(), AofState::kDegraded);
    env_.AdvanceMicros(1'000'000);
    env_.FailNthCall(2, Status::Io("File too large"));  // 1 cuts the file back
    (void)writer->RunOnce();
    EXPECT_EQ(writer->state(), AofState::kOk);
  }
  EXPECT_EQ(writer->manifest().increments().size(), files + 2);
  writer->Append(SetCommand("c", "3"), 3);
  (void)writer->RunOnce();
  EXPECT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 3", "SET a 1", "SELECT 3", "SET b 2",
                                              "SELECT 3", "SET b 2", "SET c 3"}));
}

class LeavingAFileTest : public AofWriterTest, public testing::WithParamInterface<uint64_t> {};

// A second error at each of the calls that this takes.
TEST_P(LeavingAFileTest, WhatItHasStaysWhateverFailsMeanwhile) {
  options_.policy = AofSyncPolicy::kNever;
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->RunOnce();
  ASSERT_EQ(writer->written_offset(), writer->appended_offset());
  env_.FailNthCall(1, Status::Io("File too large"), true);
  writer->Append(SetCommand("b", "2"), 0);
  (void)writer->RunOnce();
  ASSERT_EQ(writer->state(), AofState::kDegraded);
  env_.AdvanceMicros(1'000'000);
  env_.FailTwice(2, GetParam(), Status::Io("no disk"));  // 1 cuts the file back, 2 is the write
  (void)writer->RunOnce();
  env_.FailNthCall(0, Status::Ok());
  const std::vector<std::string> lines = Load();  // as after a kill
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines[1], "SET a 1");
  env_.AdvanceMicros(1'000'000);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_TRUE(writer->Close().ok());
  EXPECT_EQ(Load().back(), "SET b 2");
}

INSTANTIATE_TEST_SUITE_P(Calls, LeavingAFileTest, testing::Range(uint64_t{1}, uint64_t{18}));

// Or a disk that takes nothing at all would fill the manifest with empty files.
TEST_F(AofWriterTest, AnEmptyFileThatTakesNoBytesIsNotLeft) {
  auto writer = Open();
  const size_t files = writer->manifest().increments().size();
  env_.FailNthCall(1, Status::Io("I/O error"), true);
  writer->Append(SetCommand("a", "1"), 0);
  (void)writer->RunOnce();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(writer->state(), AofState::kDegraded);
    env_.AdvanceMicros(10'000'000);
    env_.FailNthCall(2, Status::Io("I/O error"));  // 1 cuts the file back
    (void)writer->RunOnce();
  }
  env_.AdvanceMicros(10'000'000);
  EXPECT_EQ(writer->manifest().increments().size(), files);
  (void)writer->RunOnce();
  EXPECT_EQ(writer->state(), AofState::kOk);
  EXPECT_EQ(Load(), (std::vector<std::string>{"SELECT 0", "SET a 1"}));
}

TEST_F(AofWriterTest, ADiskThatNeverVouchesStopsTheMachine) {
  options_.policy = AofSyncPolicy::kAlways;
  auto writer = Open();
  writer->Append(SetCommand("a", "1"), 0);
  env_.FailNthCall(3, Status::Io("I/O error"), true);  // 1 is the padding, 2 the write
  for (int i = 0; i < 30 && writer->state() != AofState::kStopped; ++i) {
    (void)writer->RunOnce();
    env_.AdvanceMicros(5'000'000);
  }
  EXPECT_EQ(writer->state(), AofState::kStopped);
  EXPECT_LT(writer->durable_offset(), writer->appended_offset());
  EXPECT_FALSE(writer->Close().ok());
}

}  // namespace
}  // namespace cairn

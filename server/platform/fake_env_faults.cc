// What a test plants in FakeEnv and reads of it: time and chance, errors by call number, short or
// slow writes, a full disk.

#include <chrono>
#include <thread>
#include <utility>

#include "server/platform/fake_env.h"
#include "server/platform/worker.h"

namespace cairn {

void FakeEnv::AdvanceMicros(int64_t delta_us) {
  std::lock_guard lock(mutex_);
  CAIRN_CHECK(delta_us >= 0);
  wall_us_ += delta_us;
  monotonic_us_ += delta_us;
}

void FakeEnv::SetWallMicros(int64_t wall_us) {
  std::lock_guard lock(mutex_);
  wall_us_ = wall_us;
}

void FakeEnv::SetWriteTime(int64_t time_us, bool waits) {
  std::lock_guard lock(mutex_);
  write_time_us_ = time_us;
  writes_wait_ = waits;
}

void FakeEnv::TakeWriteTime() {
  monotonic_us_ += write_time_us_;
  // However short: what counts is that the thread gave its core up by itself. A sleep that was over
  // before it began, for others had the core meanwhile, does not.
  const uint64_t before = ThreadWaits();
  while (writes_wait_ && ThreadWaits() == before) {
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void FakeEnv::FailNthCall(uint64_t n, Status status, bool sticky) {
  std::lock_guard lock(mutex_);
  CAIRN_CHECK(n == 0 || !status.ok());
  fail_at_ = n == 0 ? 0 : io_calls_ + n;
  fail_sticky_ = sticky;
  fail_again_at_ = fail_all_from_ = 0;
  fault_us_ = -1;
  fault_ = std::move(status);
}

void FakeEnv::FailTwice(uint64_t n, uint64_t later, Status status) {
  FailNthCall(n, std::move(status));
  std::lock_guard lock(mutex_);
  fail_all_from_ = fail_at_ + later;
}

void FakeEnv::FailThrice(uint64_t n, uint64_t again, uint64_t later, Status status) {
  FailTwice(n, again + later, std::move(status));
  std::lock_guard lock(mutex_);
  fail_again_at_ = fail_at_ + again;
}

int64_t FakeEnv::fault_us() const {
  std::lock_guard lock(mutex_);
  return fault_us_;
}

void FakeEnv::SetShortWrites(bool enabled) {
  std::lock_guard lock(mutex_);
  short_writes_ = enabled;
}

void FakeEnv::SetFailedSyncsForget(bool enabled) {
  std::lock_guard lock(mutex_);
  failed_syncs_forget_ = enabled;
}

void FakeEnv::SetCapacity(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  capacity_ = bytes;
}

void FakeEnv::HoldSyncs(bool held) {
  std::lock_guard lock(mutex_);
  syncs_held_ = held;
  let_go_.notify_all();
}

void FakeEnv::AllowAppends(uint64_t count) {
  std::lock_guard lock(mutex_);
  appends_allowed_ = count;
  let_go_.notify_all();
}

size_t FakeEnv::held_appends() const {
  std::lock_guard lock(mutex_);
  return held_appends_;
}

void FakeEnv::HoldSizes(bool held) {
  std::lock_guard lock(mutex_);
  sizes_held_ = held;
  let_go_.notify_all();
}

size_t FakeEnv::held_sizes() const {
  std::lock_guard lock(mutex_);
  return held_sizes_;
}

size_t FakeEnv::held_syncs() const {
  std::lock_guard lock(mutex_);
  return held_syncs_;
}

uint64_t FakeEnv::io_calls() const {
  std::lock_guard lock(mutex_);
  return io_calls_;
}

uint64_t FakeEnv::used_bytes() const {
  std::lock_guard lock(mutex_);
  return UsedLocked();
}

int64_t FakeEnv::WallMicros() {
  std::lock_guard lock(mutex_);
  return wall_us_;
}

int64_t FakeEnv::MonotonicMicros() {
  std::lock_guard lock(mutex_);
  return monotonic_us_;
}

void FakeEnv::FillRandom(std::span<char> out) {
  std::lock_guard lock(mutex_);
  for (char& byte : out) byte = static_cast<char>(random_());
}

}  // namespace cairn

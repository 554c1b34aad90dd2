#pragma once

// FakeEnv: an Env in memory whose time stands still, whose chance is a seed, and whose disk
// forgets. It keeps for every file what was synced and, as a list, what was not; Crash throws away
// what a power cut may. Faults are planted by call number or by disk capacity. For tests and
// simulation only, but part of the build so that it cannot rot. Thread-safe: one lock around
// everything.
//
// The model of the disk:
//   D1  Bytes survive a crash for certain only if Sync of their file returned after they were
//       written.
//   D2  A name (creation, rename, link, removal) survives for certain only after SyncDir of its
//       directory.
//   D3  What is not certain survives by the crash's seed: a prefix or an arbitrary subset of the
//       unsynced writes of a file; dropped writes before kept ones read as zeros, or as what stood
//       there. The last kept one is possibly torn: cut short or, where it overwrites, with any of
//       its sectors missing.
//   D4  Handles opened before a crash fail with kIo after it.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "server/platform/env.h"

namespace cairn {

class FakeEnv final : public Env {
 public:
  /// Starts with the directories "/" and ".", at 2026-01-01 00:00:00 UTC.
  explicit FakeEnv(uint64_t seed);
  ~FakeEnv() override;

  // -- What a test does to it.

  /// Moves both clocks forward.
  void AdvanceMicros(int64_t delta_us);
  /// Sets the wall clock alone, as an administrator does.
  void SetWallMicros(int64_t wall_us);
  /// The machine loses power and comes back: rules D1-D4. The same seed on the same history leaves
  /// the same disk. Planted faults are forgotten.
  void Crash(uint64_t seed);
  /// The n-th I/O call from now (1 = the next one) fails with `status` and does nothing; 0 plants
  /// none. With `sticky`, every later call fails too. One such fault at a time.
  void FailNthCall(uint64_t n, Status status, bool sticky = false);
  /// The n-th call from now fails once, and from `later` calls behind it on every call does: an
  /// error whose handling is cut off in its middle.
  void FailTwice(uint64_t n, uint64_t later, Status status);
  /// The n-th call from now fails once, so does the one `again` calls behind it, and from `later`
  /// calls behind that on every call does.
  void FailThrice(uint64_t n, uint64_t again, uint64_t later, Status status);
  /// When set, an Append that a planted fault hits first writes a random proper prefix of its
  /// bytes.
  void SetShortWrites(bool enabled);
  /// When set, a Sync that a planted fault hits loses what it should have made durable for good, as
  /// Linux does: the bytes can still be read, a later Sync succeeds without them, a crash takes
  /// them.
  void SetFailedSyncsForget(bool enabled);
  /// While held, a Sync of a file waits, as on a disk that takes its time; nobody else does.
  void HoldSyncs(bool held);
  /// Syncs of files that wait now.
  size_t held_syncs() const;
  /// Appends beyond the next `count` wait until more are allowed; UINT64_MAX, as at first: none
  /// does.
  void AllowAppends(uint64_t count);
  /// Appends that wait now.
  size_t held_appends() const;
  /// While held, whoever asks a file that it writes for its size waits, as a thread does that is
  /// put off its core there: what it has told others by then and what it has not stays so.
  void HoldSizes(bool held);
  /// Threads that wait for a size now.
  size_t held_sizes() const;
  /// From now on an Append takes `time_us` of the monotonic clock; with `waits` its thread gives up
  /// the core meanwhile, as one that waits for a disk does, and without it has merely been put off.
  void SetWriteTime(int64_t time_us, bool waits);
  /// Appends that would bring the disk past `bytes` write what fits and fail with kNoSpace.
  void SetCapacity(uint64_t bytes);
  /// Monotonic time at which the planted fault first hit a call; -1 when it has not.
  int64_t fault_us() const;
  /// I/O calls made so far: those on files and directories, not clock and chance.
  uint64_t io_calls() const;
  /// Bytes in all files, and what is preallocated behind them: until the file is cut, removed, or
  /// the power goes.
  uint64_t used_bytes() const;
  /// Flips the bits of `mask` in one byte of a file, current and synced alike, as a rotten disk
  /// does.
  Status FlipBits(const std::string& path, uint64_t offset, unsigned char mask);

  // -- Env.

  Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  Result<std::unique_ptr<WritableFile>> OpenTruncate(const std::string& path) override;
  Result<std::unique_ptr<RandomAccessFile>> OpenRead(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status CreateDir(const std::string& path) override;
  Result<std::vector<std::string>> ListDir(const std::string& path) override;
  Result<FileKind> KindOf(const std::string& path) override;
  Result<uint64_t> FileSize(const std::string& path) override;
  Result<int64_t> ModificationTime(const std::string& path) override;
  Status SyncDir(const std::string& path) override;
  Result<uint64_t> FreeSpace(const std::string& path) override;
  int64_t WallMicros() override;
  int64_t MonotonicMicros() override;
  void FillRandom(std::span<char> out) override;

 private:
  class Writer;
  class Reader;
  struct Inode;
  using InodeRef = std::shared_ptr<Inode>;
  /// Names to inodes; a directory is an inode too.
  using Names = std::map<std::string, InodeRef>;
  /// One change of the directory tree that is not yet certain: the names it sets (null removes).
  struct DirChange {
    std::vector<std::pair<std::string, InodeRef>> names;
  };

  /// Counts the call and returns the planted fault when it is its turn. Requires: mutex_ held.
  Status CountCall(std::string_view call, const std::string& path);
  Result<std::unique_ptr<WritableFile>> OpenWriter(const std::string& path, bool truncate);
  Result<InodeRef> FindFile(std::string_view call, const std::string& path) const;
  Status CheckParent(std::string_view call, const std::string& path) const;
  void Change(DirChange change);
  static void Apply(const DirChange& change, Names* names);
  void TakeWriteTime();
  static void CrashFile(Inode* inode, std::mt19937_64* random);
  uint64_t UsedLocked() const;
  uint64_t FreeLocked() const;

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  int64_t wall_us_;
  int64_t monotonic_us_ = 0;
  uint64_t generation_ = 0;  ///< number of crashes; handles of older generations are dead
  uint64_t io_calls_ = 0;
  uint64_t fail_at_ = 0;        ///< value of io_calls_ that fails; 0 = none
  uint64_t fail_again_at_ = 0;  ///< another one; 0 = none
  bool fail_sticky_ = false;
  int64_t fault_us_ = -1;
  uint64_t fail_all_from_ = 0;  ///< value of io_calls_ from which every call fails; 0 = none
  bool short_writes_ = false;
  bool failed_syncs_forget_ = false;
  bool syncs_held_ = false;
  size_t held_syncs_ = 0;
  uint64_t appends_allowed_ = UINT64_MAX;
  size_t held_appends_ = 0;
  bool sizes_held_ = false;
  size_t held_sizes_ = 0;
  std::condition_variable let_go_;
  Status fault_;
  int64_t write_time_us_ = 0;
  bool writes_wait_ = false;
  uint64_t capacity_ = UINT64_MAX;
  Names names_;          ///< what processes see
  Names durable_names_;  ///< what is certain to survive
  std::vector<DirChange> unsynced_names_;
};

}  // namespace cairn

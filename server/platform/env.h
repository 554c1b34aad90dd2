#pragma once

// Env: the port to files, clock and chance. The server reaches the operating system's disk, time
// and randomness through it and through nothing else, so a test can run the whole server on FakeEnv
// (fake_env.h) and cut the power wherever it likes. NewPosixEnv is the real one. An Env is
// thread-safe; a file handle belongs to one thread at a time. Env outlives its handles.
//
// Errors everywhere: kNotFound when the named file is absent, kNoSpace when disk or quota is full,
// kIo otherwise; the message reads "<call> <path>: <errno text>".

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/status.h"

namespace cairn {

/// A file written from front to back. Sync may run on one thread while another appends through a
/// second handle of the same file. Bytes are handed to the operating system at once (nothing is
/// buffered here) and survive a crash of the machine only after Sync.
class WritableFile {
 public:
  virtual ~WritableFile() = default;  ///< closes without Sync

  /// Writes all of `bytes` at the end. On failure size() tells how many bytes did reach the file,
  /// so the caller can Truncate back to a boundary of its own.
  virtual Status Append(std::string_view bytes) = 0;
  /// The same for several pieces with as few system calls as possible.
  virtual Status Appendv(std::span<const std::string_view> pieces) = 0;
  /// Bytes and length are on stable storage when this returns Ok (fdatasync). The file's name is
  /// durable only after Env::SyncDir of its directory.
  virtual Status Sync() = 0;
  /// Hint: starts (and for the range before it finishes) writing out `size_bytes` from `offset`, so
  /// that a later Sync has little to do. No promise of durability.
  virtual Status SyncRange(uint64_t offset, uint64_t size_bytes) = 0;
  /// Shortens the file; the next Append goes to its new end. Requires: size_bytes <= size().
  virtual Status Truncate(uint64_t size_bytes) = 0;
  /// Reserves disk blocks up to `size_bytes` without changing size(). File systems that cannot do
  /// it return Ok; a full disk returns kNoSpace.
  virtual Status Preallocate(uint64_t size_bytes) = 0;
  /// Writes `fill` behind what the file holds, up to `end_bytes`: size() stays, and an Append
  /// writes over the padding. Once the padding is synced, a Sync of what was appended inside it has
  /// no length to record. Truncate takes it away. A failure may leave part of it.
  virtual Status Pad(uint64_t end_bytes, char fill) = 0;
  /// size() plus the padding behind it.
  virtual uint64_t padded_size() const = 0;
  /// Bytes in the file as far as this handle knows.
  virtual uint64_t size() const = 0;
  /// Reports what closing failed on; further calls on the handle fail. Idempotent. Does not Sync.
  virtual Status Close() = 0;
};

class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  /// Reads up to `size` bytes at `offset` to `out`. Returns how many were read: fewer only at the
  /// end of the file. Thread: any.
  virtual Result<size_t> Read(uint64_t offset, size_t size, char* out) const = 0;
  /// Length when the file was opened, in bytes.
  virtual uint64_t size() const = 0;
  /// The whole file as memory that lives as long as this handle. Errors: kIo. Bytes may be touched
  /// once MakeReadable has said so: a disk that fails, or somebody who shortens the file, would end
  /// the process with SIGBUS.
  virtual Result<std::string_view> Map() = 0;
  /// Brings `size` bytes at `offset` of Map()'s memory in, and asks for as many behind them without
  /// waiting. Requires: Map() was called; the range lies inside its memory. Errors: kIo when the
  /// disk refuses them or the file has become shorter. Pages that the kernel drops again before
  /// they are touched are at their own risk: ask for what is read next. Cost: a system call, and
  /// what the disk takes.
  virtual Status MakeReadable(uint64_t offset, uint64_t size) = 0;
};

/// What stands under a name.
enum class FileKind : uint8_t { kAbsent, kFile, kDirectory };  // a file: all that is no directory

class Env {
 public:
  virtual ~Env() = default;

  /// Opens at the end of an existing file, or creates it (mode 0644).
  virtual Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) = 0;
  /// Creates the file or empties an existing one.
  virtual Result<std::unique_ptr<WritableFile>> OpenTruncate(const std::string& path) = 0;
  virtual Result<std::unique_ptr<RandomAccessFile>> OpenRead(const std::string& path) = 0;

  /// Replaces `to` atomically. Durable after SyncDir of both directories.
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  /// Removes a file or an empty directory.
  virtual Status Remove(const std::string& path) = 0;
  /// Ok too when the directory is already there; the parent must exist.
  virtual Status CreateDir(const std::string& path) = 0;
  /// Names (not paths) in byte order, without "." and "..".
  virtual Result<std::vector<std::string>> ListDir(const std::string& path) = 0;
  /// Errors: not being able to look, which is no answer: who goes on as if nothing were there
  /// begins empty, or removes what is in use.
  virtual Result<FileKind> KindOf(const std::string& path) = 0;
  virtual Result<uint64_t> FileSize(const std::string& path) = 0;
  /// Microseconds since the epoch.
  virtual Result<int64_t> ModificationTime(const std::string& path) = 0;
  /// Makes creations, renames and removals in the directory durable.
  virtual Status SyncDir(const std::string& path) = 0;
  /// Bytes an unprivileged process may still write to the file system of `path`.
  virtual Result<uint64_t> FreeSpace(const std::string& path) = 0;

  /// Microseconds since the epoch; may step.
  virtual int64_t WallMicros() = 0;
  /// Microseconds since some fixed moment; never steps back.
  virtual int64_t MonotonicMicros() = 0;

  /// Fills `out` with unpredictable bytes (FakeEnv: a seeded sequence).
  virtual void FillRandom(std::span<char> out) = 0;

  /// Of files and directories. Errors: as KindOf.
  Result<bool> FileExists(const std::string& path);
  /// Remove, and Ok too when nothing is there.
  Status RemoveIfThere(const std::string& path);
  uint64_t RandomU64();
  /// Cost: two copies of the file's size at most. For manifests and settings, not for data files.
  Result<std::string> ReadFileToString(const std::string& path);
  /// After Ok, `path` holds exactly `bytes` whatever happens to the machine; after an error it
  /// holds its old contents or the new ones, whole. Writes "temp-<name>" beside it, syncs, renames,
  /// syncs the directory.
  Status WriteFileAtomically(const std::string& path, std::string_view bytes);
};

/// The directory part of a path: "." without a slash, "/" for entries of the root.
std::string DirName(const std::string& path);

/// The operating system itself. One is enough for a process.
std::unique_ptr<Env> NewPosixEnv();

}  // namespace cairn

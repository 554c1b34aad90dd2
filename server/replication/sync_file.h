#pragma once

// SyncFile: the RDB file of one cut, on its way to one or more replicas. The walker writes it, a
// reader thread reads it back in pieces, each replica at its own pace, so that neither a slow
// replica nor the disk ever holds the executor or the view. The file goes when its last holder
// does: its name at once, its room on the reaper, as freeing gigabytes takes the
// kernel long. Thread: executor, but for the reading, which is the worker's.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/base/status.h"
#include "server/platform/env.h"
#include "server/platform/transport.h"
#include "server/platform/worker.h"

namespace cairn {

class Engine;

/// Removes a file's name at once, and frees its room on the reaper.
Status RemoveBig(Engine& engine, const std::string& path);
/// Renames `from` to `to`; the room of what was there before is freed on the reaper.
Status RenameOverBig(Engine& engine, const std::string& from, const std::string& to);

class SyncFile : public std::enable_shared_from_this<SyncFile> {
 public:
  /// Bytes read at a time.
  static constexpr size_t kPieceBytes = 256 * 1024;

  SyncFile(Engine& engine, std::string file_path, uint64_t offset)
      : cut_offset(offset), path(std::move(file_path)), engine_(engine) {}
  ~SyncFile();
  SyncFile(const SyncFile&) = delete;
  SyncFile& operator=(const SyncFile&) = delete;

  const uint64_t cut_offset;  ///< of the replication stream, where it goes on behind the file
  const std::string path;
  bool complete = false;  ///< the walker has finished
  uint64_t size = 0;      ///< in bytes, once complete

  /// Reads up to kPieceBytes at `offset` on `worker`; `done` is posted to `loop`. An empty piece is
  /// the end of what has been written so far.
  void ReadPiece(WorkerThread& worker, EventLoopPort& loop, uint64_t offset,
                 std::function<void(Result<std::string>)> done);

 private:
  Result<std::string> Read(uint64_t offset);

  Engine& engine_;
  std::mutex opening_;
  std::unique_ptr<RandomAccessFile> file_;  // opened by the first read
};

}  // namespace cairn

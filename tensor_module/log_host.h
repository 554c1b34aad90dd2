#pragma once

// LogHost: the chunk log of a server process, opened in the server's directory when a save or a
// load first asks for it. A process has one: after CONFIG SET dir saves go without. Thread: any.

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "server/engine/module_api.h"
#include "tensor_module/chunk_log.h"

namespace cairn::tensor {

/// Of the log, in the server's directory.
inline constexpr const char* kLogDirectory = "chunklogs";

class PayloadMemory;

/// Where the effects of a command may name chunks: in increments of the append-only file.
struct NamesTarget {
  ChunkLog* log = nullptr;  ///< nullptr: nowhere, they carry the bytes
  std::string file;         ///< that names the increments
  uint64_t number = 0;      ///< the latest save that has begun
  /// The file's own syncs are no command's to wait for: then what is staged is synced at once, so
  /// that no other command's record waits for it.
  bool sync_first = false;
  std::thread::id executor = {};  ///< which never syncs
  /// A client sent the command: it may be refused. What a primary sends may not.
  bool may_refuse = false;
};

class LogHost {
 public:
  LogHost(const CairnApi& api, CairnModule* module) : api_(api), module_(module) {}

  /// Saves may name chunks from now on. What files name already can be read all the same.
  void EnableSaving() { saving_ = true; }
  bool saving() const { return saving_; }
  /// The log of `directory`; nullptr when this process has another one, or it cannot be read.
  ChunkLog* Open(std::string_view directory);
  /// What Open() has opened, or nullptr.
  ChunkLog* opened() const;
  /// The server's directory now. Thread: executor.
  std::string ServerDirectory() const;

  /// Makes `chunks` durable for the save behind `writer`. Returns which of them it may name; none
  /// when it must emit all. *room: set when its disk is too full for the rest, to what it has left
  /// in bytes.
  std::vector<bool> KeepFor(CairnWriter* writer, const std::vector<const Chunk*>& chunks,
                            uint64_t* room);
  /// Where the effects of this command may name chunks. Thread: executor.
  NamesTarget Names(CairnContext* ctx);
  /// module_api.h, watch_log.
  int SyncNamed(bool wait);
  /// Bytes of chunks that the append-only file names, about; `alive` where it names none. Thread:
  /// executor.
  uint64_t NamedBytes(uint64_t alive) const;

  /// A chunk that the log has, mapped and unread; empty when it has not, or there is none.
  ChunkRef Look(ChunkPool& pool, PayloadMemory& memory, Hash128 hash, size_t size);
  /// One that a file names: when it is empty, why has been said.
  ChunkRef Load(ChunkPool& pool, PayloadMemory& memory, Hash128 hash, size_t size);
  /// module_api.h, watch_saves. `alive`: bytes of the chunks that are held now.
  void OnSaved(std::string_view path, uint64_t number, uint64_t alive);
  void Say(std::string_view line) const;
  /// As CONFIG GET has it; empty when there is none of that name. Thread: executor.
  std::string Setting(const char* name) const;

 private:
  const CairnApi& api_;
  CairnModule* const module_;
  bool saving_ = false;
  mutable std::mutex mutex_;
  std::string directory_;
  std::unique_ptr<ChunkLog> log_;
  bool broken_ = false;
  bool presumed_ = false;  // executor
  std::string log_file_;   // executor: that names the increments
  /// Executor: what the last rewrite named, and what the log had taken then.
  uint64_t rewritten_bytes_ = 0, rewritten_at_ = 0;
};

}  // namespace cairn::tensor

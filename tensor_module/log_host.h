#pragma once

// LogHost: the chunk log of a server process, opened in the server's directory when a save or a
// load first asks for it. A process has one: after CONFIG SET dir saves go without. Thread: any.

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "server/engine/module_api.h"
#include "tensor_module/chunk_log.h"

namespace cairn::tensor {

/// Of the log, in the server's directory.
inline constexpr const char* kLogDirectory = "chunklogs";

class PayloadMemory;

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
  /// when it must emit all.
  std::vector<bool> KeepFor(CairnWriter* writer, const std::vector<const Chunk*>& chunks);
  /// A chunk that a file names, mapped and unread; empty when no log has it.
  ChunkRef Load(ChunkPool& pool, PayloadMemory& memory, Hash128 hash, size_t size);
  /// module_api.h, watch_saves.
  void OnSaved(std::string_view path, uint64_t number);
  void Say(std::string_view line) const;

 private:
  std::string Setting(const char* name) const;
  const CairnApi& api_;
  CairnModule* const module_;
  bool saving_ = false;
  mutable std::mutex mutex_;
  std::string directory_;
  std::unique_ptr<ChunkLog> log_;
  bool broken_ = false;
  bool presumed_ = false;  // executor
};

}  // namespace cairn::tensor

#include "tensor_module/log_host.h"

#include <climits>
#include <utility>

#include "tensor_module/module.h"

namespace cairn::tensor {

void LogHost::Say(std::string_view line) const {
  api_.log(module_, CAIRN_LOG_WARNING, {line.data(), line.size()});
}

std::string LogHost::Setting(const char* name) const {
  std::string text(PATH_MAX, '\0');
  const int64_t size = api_.setting_text(module_, name, text.data(), text.size());
  if (size < 0 || static_cast<size_t>(size) > text.size()) return "";
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string LogHost::ServerDirectory() const { return Setting("dir"); }

ChunkLog* LogHost::opened() const {
  const std::lock_guard lock(mutex_);
  return broken_ ? nullptr : log_.get();
}

ChunkLog* LogHost::Open(std::string_view directory) {
  const std::lock_guard lock(mutex_);
  if (directory.empty()) return nullptr;
  if (log_ != nullptr) return broken_ || directory != directory_ ? nullptr : log_.get();
  directory_ = directory;
  ChunkLogOptions options;
  options.random = [this] { return api_.random_u64(module_); };
  options.say = [this](std::string_view line) { Say(line); };
  log_ =
      std::make_unique<ChunkLog>(NewPosixLogFiles(directory_, kLogDirectory), std::move(options));
  if (Status opened = log_->Open(); !opened.ok()) {
    broken_ = true;
    Say("chunk log: it cannot be read: " + std::string(opened.message()));
    return nullptr;
  }
  log_->StartThread();
  return log_.get();
}

std::vector<bool> LogHost::KeepFor(CairnWriter* writer, const std::vector<const Chunk*>& chunks,
                                   uint64_t* room) {
  std::vector<bool> kept(chunks.size(), false);
  CairnSaveTarget target{};
  if (!saving_ || api_.save_target(writer, &target) != CAIRN_OK) return kept;
  ChunkLog* log = Open({target.directory.data, target.directory.size});
  if (log == nullptr) return kept;
  std::vector<std::string> files;
  for (size_t i = 0; i < target.file_count; ++i) {
    files.emplace_back(target.files[i].data, target.files[i].size);
  }
  // What could not be kept is emitted: an error has been said, and is no error of the save.
  const Status status = log->Keep(chunks, target.number, files, &kept);
  if (status.code() == StatusCode::kNoSpace) *room = log->FreeBytes();
  return kept;
}

NamesTarget LogHost::Names(CairnContext* ctx) {
  CairnSaveTarget target{};
  if (!saving_ || api_.log_target(ctx, &target) != CAIRN_OK) return {};
  log_file_.assign(target.files[0].data, target.files[0].size);
  return {Open({target.directory.data, target.directory.size}),
          log_file_,
          target.number,
          api_.durability(ctx) != CAIRN_SYNCED,
          std::this_thread::get_id(),
          api_.is_loading(ctx) == 0};
}

uint64_t LogHost::NamedBytes(uint64_t alive) const {
  const ChunkLog* log = opened();
  if (log == nullptr || log_file_.empty()) return alive;
  return rewritten_bytes_ + log->logged_bytes() - rewritten_at_;
}

int LogHost::SyncNamed(bool wait) {
  ChunkLog* log = opened();
  if (log == nullptr || !log->HasUnsyncedNames()) return CAIRN_OK;
  if (!wait) return CAIRN_FAILED;
  const Status synced = log->SyncStaged();
  if (synced.ok()) return CAIRN_OK;
  return synced.code() == StatusCode::kNoSpace ? CAIRN_NO_SPACE : CAIRN_FAILED;
}

ChunkRef LogHost::Look(ChunkPool& pool, PayloadMemory& memory, Hash128 hash, size_t size) {
  ChunkLog* log = Open(ServerDirectory());
  if (log != nullptr && !std::exchange(presumed_, true)) {
    // What is being read now. A server without the module may have written it.
    log->Presume({Setting("dbfilename")});
    if (Setting("appendonly") == "yes") {
      log->Presume({Setting("appenddirname") + "/" + Setting("appendfilename") + ".manifest"});
    }
  }
  const ChunkLog::Found found = log == nullptr ? ChunkLog::Found() : log->Find(hash, size);
  if (!found.mapping) return {};
  const LogMapping& mapping = **found.mapping;
  mapping.AddReference();
  CairnBlob* blob = api_.blob_wrap(
      module_, found.bytes.data(), found.bytes.size(),
      [](void* owner) { static_cast<const LogMapping*>(owner)->DropReference(); },
      const_cast<LogMapping*>(&mapping));
  return pool.Map({memory.Wrap(blob), 0, size}, hash, found.record.dtype, found.record.figures,
                  found.number);
}

ChunkRef LogHost::Load(ChunkPool& pool, PayloadMemory& memory, Hash128 hash, size_t size) {
  ChunkRef chunk = Look(pool, memory, hash, size);
  if (!chunk) {
    Say("a checkpoint names a chunk of " + std::to_string(size) + " bytes with hash " +
        Hash128Hex(hash) + " that is not in " + ServerDirectory() + "/" + kLogDirectory +
        ": RDB files and append-only files need that directory beside them");
  }
  return chunk;
}

void LogHost::OnSaved(std::string_view path, uint64_t number, uint64_t alive) {
  ChunkLog* log = opened();
  if (log == nullptr) return;
  if (path.empty()) return log->OnSaved("", number);
  const std::string prefix = directory_ + "/";
  if (!path.starts_with(prefix)) return;
  const std::string file(path.substr(prefix.size()));
  if (file == log_file_) {
    rewritten_bytes_ = alive;
    rewritten_at_ = log->logged_bytes();
  }
  log->OnSaved(file, number);
}

}  // namespace cairn::tensor

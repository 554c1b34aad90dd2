#include "server/replication/sync_file.h"

#include <utility>

#include "server/engine/engine.h"

namespace cairn {

namespace {

/// The last to close a file without a name frees its room.
void CloseOnReaper(Engine& engine, std::unique_ptr<RandomAccessFile> file) {
  if (file == nullptr) return;
  engine.keyspace.Reap(
      [last = std::shared_ptr<RandomAccessFile>(std::move(file))]() mutable { last.reset(); }, 0);
}

/// The file at `path`, held so that it does not go with its name; nullptr when there is none.
std::unique_ptr<RandomAccessFile> Hold(Engine& engine, const std::string& path) {
  auto opened = engine.env.OpenRead(path);
  return opened.ok() ? std::move(*opened) : nullptr;
}

}  // namespace

Status RemoveBig(Engine& engine, const std::string& path) {
  std::unique_ptr<RandomAccessFile> held = Hold(engine, path);
  const Status removed = engine.env.Remove(path);
  CloseOnReaper(engine, std::move(held));
  return removed;
}

Status RenameOverBig(Engine& engine, const std::string& from, const std::string& to) {
  std::unique_ptr<RandomAccessFile> held = Hold(engine, to);
  const Status renamed = engine.env.Rename(from, to);
  CloseOnReaper(engine, std::move(held));
  return renamed;
}

SyncFile::~SyncFile() {
  // A copy that failed is gone already, and one that stays is swept at the next start.
  if (complete) {
    if (file_ == nullptr) file_ = Hold(engine_, path);
    [[maybe_unused]] const Status removed = engine_.env.Remove(path);
  }
  CloseOnReaper(engine_, std::move(file_));
}

Result<std::string> SyncFile::Read(uint64_t offset) {
  std::lock_guard lock(opening_);
  if (file_ == nullptr) {
    auto opened = engine_.env.OpenRead(path);
    // The walker may not have come to make it yet.
    if (!opened.ok() && opened.status().code() == StatusCode::kNotFound) return std::string();
    if (!opened.ok()) return opened.status();
    file_ = std::move(*opened);
  }
  std::string piece(kPieceBytes, '\0');
  const Result<size_t> got = file_->Read(offset, piece.size(), piece.data());
  if (!got.ok()) return got.status();
  piece.resize(*got);
  return piece;
}

void SyncFile::ReadPiece(WorkerThread& worker, EventLoopPort& loop, uint64_t offset,
                         std::function<void(Result<std::string>)> done) {
  // The last reference must not go on the worker: the executor alone removes files.
  worker.Post([self = shared_from_this(), &loop, offset, done = std::move(done)]() mutable {
    auto piece = std::make_shared<Result<std::string>>(self->Read(offset));
    loop.Post([self = std::move(self), piece, done = std::move(done)] { done(std::move(*piece)); });
  });
}

}  // namespace cairn

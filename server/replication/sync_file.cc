#include "server/replication/sync_file.h"

#include <utility>

namespace cairn {

SyncFile::~SyncFile() {
  // A copy that failed is gone already, and one that stays is swept at the next start.
  if (complete) [[maybe_unused]]
    const Status removed = env_.Remove(path);
}

Result<std::string> SyncFile::Read(uint64_t offset) {
  std::lock_guard lock(opening_);
  if (file_ == nullptr) {
    auto opened = env_.OpenRead(path);
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

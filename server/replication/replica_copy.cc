// The full copy on the replica's side: from the socket to a file (worker), from the file to the
// keyspace (fiber).

#include <utility>

#include "server/base/check.h"
#include "server/engine/durability.h"
#include "server/engine/loader.h"
#include "server/replication/replica.h"
#include "server/replication/sync_file.h"

namespace cairn {

namespace {

/// Bytes handed to the writing worker at a time.
constexpr size_t kWriteBytes = 1024 * 1024;

}  // namespace

bool ReplicaLink::OnCopyHeader(std::string_view line) {
  using Kind = CopyHeader::Kind;
  const CopyHeader header = ParseCopyHeader(line);
  switch (header.kind) {
    case Kind::kWait:
      return true;
    case Kind::kLength:
      copy_.emplace(header.length);
      copy_total_ = header.length;
      break;
    case Kind::kMark:
      copy_.emplace(header.mark);
      copy_total_ = 0;
      break;
    case Kind::kError:
      Drop("MASTER aborted replication with an error: " + std::string(line));
      return false;
    case Kind::kBroken:
      Drop("Bad protocol from MASTER, the first byte is not '$'");
      return false;
  }
  engine_.log.Log(LogLevel::kNotice, "MASTER <-> REPLICA sync: receiving {}",
                  copy_->by_mark() ? "streamed RDB from master with EOF to disk"
                                   : std::to_string(header.length) + " bytes from master to disk");
  copy_path_ =
      engine_.settings().dir + "/temp-primary-" + std::to_string(engine_.process_id) + ".rdb";
  auto file = engine_.env.OpenTruncate(copy_path_);
  if (!file.ok()) {
    Drop(file.status().message());
    return false;
  }
  copy_file_ = std::move(*file);
  ++copies_;
  copy_read_ = 0;
  being_written_ = 0;
  unwritten_.clear();
  behind_copy_.clear();
  SetState(LinkState::kReceivesCopy);
  return true;
}

void ReplicaLink::OnCopyBytes(std::string_view bytes) {
  const size_t taken = copy_->done() ? 0 : copy_->Take(bytes, &unwritten_);
  copy_read_ += taken;
  behind_copy_.append(bytes.substr(taken));
  if (copy_->done()) {
    // What follows waits in the kernel until the copy is loaded.
    stream_->PauseReads();
    StoreCopy(/*last=*/true);
  } else if (unwritten_.size() >= kWriteBytes) {
    StoreCopy(/*last=*/false);
  }
}

void ReplicaLink::StoreCopy(bool last) {
  if (writer_ == nullptr)
    writer_ = std::make_unique<WorkerThread>(WorkerOptions{.name = "copy-writer"});
  std::string bytes = std::exchange(unwritten_, {});
  being_written_ += bytes.size();
  writer_->Post([this, file = copy_file_, bytes = std::move(bytes), last, number = copies_,
                 alive = std::weak_ptr<int>(alive_)]() mutable {
    Status status = file->Append(bytes);
    if (status.ok() && last) status = file->Sync();
    if (status.ok() && last) status = file->Close();
    file.reset();
    engine_.loop.Post([this, status, last, number, size = bytes.size(), alive = std::move(alive)] {
      if (!alive.expired() && number == copies_) OnStored(status, last, size);
    });
  });
}

void ReplicaLink::OnStored(const Status& status, bool last, size_t bytes) {
  if (state_ != LinkState::kReceivesCopy) return;
  being_written_ -= bytes;
  if (!status.ok()) {
    Drop("Write error writing the DB received from MASTER: " + std::string(status.message()));
    return;
  }
  if (last) {
    LoadCopy();
  } else {
    stream_->ResumeReads();
  }
}

void ReplicaLink::AbandonCopy() {
  if (copy_file_ == nullptr) return;
  ++copies_;
  copy_.reset();
  unwritten_.clear();
  behind_copy_.clear();
  being_written_ = 0;
  copy_file_.reset();
  // Left behind it is swept at the next start.
  [[maybe_unused]] const Status removed = RemoveBig(engine_, copy_path_);
}

void ReplicaLink::LoadCopy() {
  engine_.log.Log(LogLevel::kNotice,
                  "MASTER <-> REPLICA sync: Flushing old data, loading DB in "
                  "memory");
  // The history ends here (S3): who followed it through this server must start over as well.
  primary_.DisconnectAll();
  primary_.DropBacklog();
  may_continue_ = false;
  copy_db_ = 0;
  for (uint32_t db = 0; db < engine_.keyspace.database_count(); ++db) {
    engine_.watches.TouchDatabase(engine_.keyspace, db, db);
    engine_.blocking.SignalDatabase(db);
  }
  engine_.tracking.InvalidateAll();
  SetState(LinkState::kLoads);
  loading_ = std::make_unique<Fiber>([this](Fiber& fiber) {
    engine_.serve_while_loading = [&fiber] { return fiber.Yield(); };
    load_status_ = engine_.durability->LoadFromPrimary(copy_path_);
    engine_.serve_while_loading = nullptr;
  });
  StepLoad();
}

void ReplicaLink::StepLoad() {
  if (loading_->Resume()) {
    // A turn of the loop between two steps. Posted: a timer due at once would run within this turn.
    engine_.loop.Post([this, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired() && loading_ != nullptr) StepLoad();
    });
    return;
  }
  loading_.reset();
  OnLoaded(load_status_);
}

void ReplicaLink::OnLoaded(const Status& status) {
  engine_.dispatcher->memory_limit().LimitChanged();
  if (!status.ok()) {
    engine_.log.Log(LogLevel::kWarning,
                    "Failed trying to load the MASTER synchronization DB from disk: {}",
                    status.message());
    state_ = LinkState::kReceivesCopy;
    Drop("the copy could not be loaded");
    return;
  }
  const Settings& settings = engine_.settings();
  const bool persistent = !settings.save.empty() || settings.appendonly;
  const Status placed =
      settings.rdb_del_sync_files && !persistent
          ? RemoveBig(engine_, copy_path_)
          : RenameOverBig(engine_, copy_path_, settings.dir + "/" + settings.dbfilename);
  if (!placed.ok())
    engine_.log.Log(LogLevel::kWarning, "The synchronization file: {}", placed.message());
  copy_file_.reset();
  copy_.reset();
  // S3
  engine_.replication_id = copy_id_;
  former_ = {};
  primary_.BeginBacklog(copy_offset_);
  engine_.log.Log(LogLevel::kNotice, "MASTER <-> REPLICA sync: Finished with success");
  engine_.TellSupervisor(
      "STATUS=MASTER <-> REPLICA sync: Finished with success. Ready to accept connections in "
      "read-write mode.\n");
  last_heard_ms_ = engine_.loop.NowMillis();
  BeginStream(copy_db_);
  engine_.durability->RestartAppendOnly();
  lines_ = std::exchange(behind_copy_, {});
  OnLines();
  if (close_wanted_) Drop("it broke while the copy was loaded");
  if (stream_ != nullptr) stream_->ResumeReads();
  engine_.loop.Post([] {});
}

}  // namespace cairn

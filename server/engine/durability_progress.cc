// What DurabilityOfFiles tells of itself: the figures of INFO persistence, and lines in the log
// while a save, a rewrite, a copy for replicas or a load takes its time.

#include <algorithm>

#include "server/engine/durability_impl.h"

namespace cairn {

namespace {

/// Between two lines about the same job; what is done sooner has none.
constexpr int64_t kProgressEveryUs = 5'000'000;

std::string_view NameOf(AofState state) {
  switch (state) {
    case AofState::kClosed:
      return "closed";
    case AofState::kOk:
      return "ok";
    case AofState::kDegraded:
      return "degraded";
    case AofState::kStopped:
      return "stopped";
  }
  return "";
}

double Percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

void DurabilityOfFiles::BeginLoad(uint64_t total_bytes) {
  load_ = {};
  loaded_keys_ = expired_at_load_ = 0;
  load_.started_s = engine_.env.WallMicros() / 1000000;
  load_.total_bytes = total_bytes;
  load_logged_us_ = engine_.env.MonotonicMicros();
  load_logged_bytes_ = 0;
}

Status DurabilityOfFiles::LoadProgress(uint64_t offset) {
  load_.loaded_bytes = offset;
  engine_.RefreshClock();
  const int64_t now_us = engine_.env.MonotonicMicros();
  if (now_us - load_logged_us_ >= kProgressEveryUs) {
    const double bytes_per_us = static_cast<double>(offset - load_logged_bytes_) /
                                static_cast<double>(now_us - load_logged_us_);
    load_logged_us_ = now_us;
    load_logged_bytes_ = offset;
    const uint64_t left = load_.total_bytes - std::min(offset, load_.total_bytes);
    engine_.log.Log(LogLevel::kNotice,
                    "Loading: {} of {} bytes ({:.1f}%), {:.1f} MB/s, about {:.0f} s left", offset,
                    load_.total_bytes, Percent(offset, load_.total_bytes), bytes_per_us,
                    bytes_per_us > 0 ? static_cast<double>(left) / bytes_per_us / 1e6 : 0);
  }
  const bool go_on = !engine_.serve_while_loading || engine_.serve_while_loading();
  return engine_.stop_requested || !go_on
             ? Status(StatusCode::kCancelled, "loading was interrupted")
             : Status::Ok();
}

void DurabilityOfFiles::LogSnapshotProgress() {
  if (!Walking()) return;
  const int64_t now_us = engine_.env.MonotonicMicros();
  if (now_us - snapshot_logged_us_ < kProgressEveryUs) return;
  snapshot_logged_us_ = now_us;
  for (const std::optional<Job>* slot : {&job_, &copy_}) {
    if (!slot->has_value()) continue;
    const Job& job = **slot;
    const char* what = job.kind == JobKind::kSave      ? "Background saving"
                       : job.kind == JobKind::kRewrite ? "Background append only file rewriting"
                                                       : "Copy for replicas";
    const uint64_t done = job.snapshot->keys_done(), total = job.snapshot->keys_total();
    engine_.log.Log(LogLevel::kNotice, "{}: {} of {} keys ({:.1f}%), {} bytes in {} s", what, done,
                    total, Percent(done, total), job.snapshot->bytes(),
                    (now_us - job.cut_us) / 1'000'000);
  }
}

DurabilityFigures DurabilityOfFiles::figures() const {
  DurabilityFigures figures;
  const bool walks = job_.has_value() && job_->kind == JobKind::kRewrite;
  figures.save_running = (job_.has_value() && !walks) || copy_.has_value();
  figures.rewrite_running = Rewriting();
  figures.rewrite_scheduled = rewrite_scheduled_ || (LogHasNoBase() && !Rewriting());
  figures.save_scheduled = save_scheduled_;
  figures.changes_since_save = UnsavedChanges();
  figures.last_save_unix_s = last_save_ms_ / 1000;
  figures.last_save_ok = last_save_ok_;
  figures.last_save_duration_s = last_save_duration_ms_ < 0 ? -1 : last_save_duration_ms_ / 1000;
  figures.saves = saves_;
  if (walks) figures.current_rewrite_started_s = job_->started_ms / 1000;
  // A copy for replicas shows as a save, as in Redis; of two the save is the one to know about.
  for (const std::optional<Job>* slot : {&copy_, &job_}) {
    if (!slot->has_value()) continue;
    const Job& job = **slot;
    if (job.kind != JobKind::kRewrite) figures.current_save_started_s = job.started_ms / 1000;
    figures.current_save_keys_total = job.snapshot->keys_total();
    figures.current_save_keys_done = job.snapshot->keys_done();
    figures.snapshot_bytes = job.snapshot->bytes();
    figures.snapshot_running_us = engine_.env.MonotonicMicros() - job.cut_us;
  }
  figures.last_load_keys_loaded = static_cast<int64_t>(loaded_keys_);
  figures.last_load_keys_expired = static_cast<int64_t>(expired_at_load_);
  figures.aof_enabled = LogIsOn();
  figures.aof_last_rewrite_ok = last_rewrite_ok_;
  figures.last_rewrite_duration_s =
      last_rewrite_duration_ms_ < 0 ? -1 : last_rewrite_duration_ms_ / 1000;
  figures.rewrites = rewrites_;
  figures.rewrite_failures = rewrite_failures_;
  figures.aof_last_write_ok = LogIsOn() ? aof_->last_write_ok() : !OpeningFails();
  if (aof_ != nullptr) {
    figures.aof_state = NameOf(aof_->state());
    figures.aof_current_bytes = aof_->current_size();
    figures.aof_base_bytes = aof_->base_size();
    figures.aof_buffer_bytes = aof_->held_bytes();
    figures.aof_delayed_fsync = aof_->delayed_fsync_count();
    figures.aof_unsynced_ms = aof_->oldest_unsynced_ms();
    figures.aof_write_holds = log_throttle_.holds();
    figures.aof_write_held_us = log_throttle_.held_us();
    figures.aof_pending_bio_fsync = aof_->durable_offset() < aof_->written_offset();
  }
  figures.last_cut_us = last_cut_us_;
  figures.retained_bytes = engine_.keyspace.retained_value_bytes();
  figures.retained_bytes_peak = std::max(throttle_.peak_bytes(), figures.retained_bytes);
  figures.structure_bytes = engine_.keyspace.retained_bytes() - figures.retained_bytes;
  figures.write_holds = throttle_.holds();
  figures.write_held_us = throttle_.held_us();
  figures.save_overdue = IsSaveOverdue(engine_.now_ms());
  return figures;
}

}  // namespace cairn

#include "tensor_module/ckpt_encoder.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "tensor_module/background.h"

namespace cairn::tensor {

namespace {

/// Work is done in slices of this before it pauses.
constexpr int64_t kSliceUs = 2000;
/// What a commit has woken comes first: its reply, and whoever waited for it.
constexpr int64_t kBeforeUs = 50'000;
/// Uploads count as going on for so long after a chunk was new.
constexpr int64_t kUploadUs = 100'000;
/// E4.
constexpr int64_t kDropUs = 50'000;
/// Entries that are looked at before the lock is given back.
constexpr size_t kDropAtOnce = 256;
/// Pauses per unit of work, E3.
constexpr int64_t kIdlePauses = 1, kUploadPauses = 7;

/// The chunks of a tensor by their place in it.
class Places {
 public:
  explicit Places(const LogicalTensor& tensor) : tensor_(tensor) {}
  /// The chunk at the place of `shard`'s cell in `of`; nullptr: there is none of this size.
  const Chunk* Find(const LogicalTensor& of, const StoredShard& shard, size_t cell) {
    const Chunk* found = nullptr;
    for (const StoredShard& mine : tensor_.shards) {
      if (mine.extent == shard.extent && mine.chunks.size() == shard.chunks.size()) {
        found = mine.chunks[cell].get();
        break;
      }
    }
    if (found == nullptr) found = FindByOffset(of, shard, cell);
    return found != nullptr && found->size() == shard.chunks[cell]->size() ? found : nullptr;
  }

 private:
  const Chunk* FindByOffset(const LogicalTensor& of, const StoredShard& shard, size_t cell) {
    if (!indexed_) Index();
    const std::optional<uint64_t> first = FirstByteOf(of, shard);
    if (!first) return nullptr;
    const auto found = by_offset_.find(CellBegin(*first, cell));
    return found == by_offset_.end() ? nullptr : found->second;
  }
  void Index() {
    indexed_ = true;
    for (const StoredShard& shard : tensor_.shards) {
      const std::optional<uint64_t> first = FirstByteOf(tensor_, shard);
      if (!first) continue;
      for (size_t cell = 0; cell < shard.chunks.size(); ++cell) {
        by_offset_.emplace(CellBegin(*first, cell), shard.chunks[cell].get());
      }
    }
  }
  /// The grid is anchored at the tensor's byte 0 (K1).
  static uint64_t CellBegin(uint64_t first, size_t cell) {
    return cell == 0 ? first : (first / kChunkBytes + cell) * kChunkBytes;
  }

  const LogicalTensor& tensor_;
  bool indexed_ = false;
  std::unordered_map<uint64_t, const Chunk*> by_offset_;
};

template <typename Visit>
void ForEachChunkOf(const Version& version, Visit visit) {
  for (const auto& tensor : version.tensors) {
    for (const StoredShard& shard : tensor->shards) {
      for (const ChunkRef& chunk : shard.chunks) visit(*chunk);
    }
  }
  for (const RankState& state : version.states) {
    for (const ChunkRef& chunk : state.blob->chunks) visit(*chunk);
  }
}

/// Calls visit(chunk, the chunk at its place in `next` or nullptr).
template <typename Visit>
void ForEachPlace(const Version& version, const Version* next, Visit visit) {
  for (const auto& tensor : version.tensors) {
    if (!tensor->alias_of.empty()) continue;
    const LogicalTensor* other = next == nullptr ? nullptr : next->Find(tensor->name);
    if (other != nullptr) other = &next->Storage(*other);
    if (other != nullptr && (other->shape != tensor->shape || other->dtype != tensor->dtype)) {
      other = nullptr;
    }
    std::optional<Places> places;
    if (other != nullptr) places.emplace(*other);
    for (const StoredShard& shard : tensor->shards) {
      for (size_t cell = 0; cell < shard.chunks.size(); ++cell) {
        visit(*shard.chunks[cell], places ? places->Find(*tensor, shard, cell) : nullptr);
      }
    }
  }
  for (const RankState& state : version.states) {
    const StateBlob* other = nullptr;
    if (next != nullptr) {
      for (const RankState& each : next->states) {
        if (each.rank == state.rank && each.blob->kind == state.blob->kind &&
            each.blob->name == state.blob->name) {
          other = each.blob.get();
        }
      }
    }
    for (size_t i = 0; i < state.blob->chunks.size(); ++i) {
      const Chunk& chunk = *state.blob->chunks[i];
      const bool there =
          other != nullptr && i < other->chunks.size() && other->chunks[i]->size() == chunk.size();
      visit(chunk, there ? other->chunks[i].get() : nullptr);
    }
  }
}

/// E1; the row itself when nothing follows it.
size_t SuccessorOf(const std::vector<VersionRow>& rows, size_t index, size_t latest) {
  const uint64_t step = rows[index].version->step;
  for (size_t i = index + 1; i < rows.size(); ++i) {
    if (rows[i].version->parent == step) return i;
  }
  return index + 1 < rows.size() ? index + 1 : latest;
}

}  // namespace

std::vector<EncodeStep> PlanEncoding(const std::vector<VersionRow>& versions) {
  size_t latest = versions.size();
  for (size_t i = versions.size(); i-- > 0 && latest == versions.size();) {
    if (!versions[i].rolled_back) latest = i;
  }
  std::vector<EncodeStep> steps;
  if (versions.empty()) return steps;
  std::unordered_map<const Chunk*, uint32_t> references;
  for (const VersionRow& row : versions) {
    ForEachChunkOf(*row.version, [&](const Chunk& chunk) { ++references[&chunk]; });
  }
  std::unordered_set<const Chunk*> done;
  if (latest < versions.size()) {
    ForEachChunkOf(*versions[latest].version, [&](const Chunk& chunk) {
      if (!done.insert(&chunk).second || chunk.stored_bytes() == chunk.size()) return;
      steps.push_back({&chunk, nullptr, true, latest, latest});
    });
  }
  for (size_t i = 0; i < versions.size(); ++i) {
    if (i == latest) continue;
    const size_t next = SuccessorOf(versions, i, latest);
    const bool followed = next < versions.size() && next != i;
    const Version* base_version = followed ? versions[next].version.get() : nullptr;
    ForEachPlace(*versions[i].version, base_version, [&](const Chunk& chunk, const Chunk* base) {
      if (chunk.size() < ChunkPool::kSlabBytes || chunk.is_mapped() || base == &chunk) return;
      if (chunk.stored_bytes() < chunk.size()) return;
      if (chunk.references() > references[&chunk] + chunk.dependents()) return;
      if (base != nullptr && base->is_mapped()) base = nullptr;  // P7
      if (done.insert(&chunk).second) steps.push_back({&chunk, base, false, i, base ? next : i});
    });
  }
  return steps;
}

CkptEncoder::~CkptEncoder() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void CkptEncoder::Index(Entries::iterator entry) {
  for (const VersionRow& row : entry->rows) {
    if (row.version) entry_of_[row.version.get()] = entry;
  }
}

void CkptEncoder::Unindex(const Version* version, const Entry& entry) {
  const auto found = entry_of_.find(version);
  // What is worked on may have been offered again.
  if (found != entry_of_.end() && &*found->second == &entry) entry_of_.erase(found);
}

void CkptEncoder::TakeOut(Entries& from, Entries::iterator entry, Entries& to) {
  for (const VersionRow& row : entry->rows) {
    if (row.version) Unindex(row.version.get(), *entry);
  }
  if (dropping_ == entry) ++dropping_;
  to.splice(to.end(), from, entry);
}

void CkptEncoder::Offer(const Rows& versions) {
  if (!enabled()) return;
  Entries fresh;
  // One version is LATEST, and nothing to do.
  if (versions.size() >= 2) fresh.push_back({versions, now_us_()});
  Entries dropped;  // freed without the lock
  {
    const std::lock_guard lock(mutex_);
    for (const VersionRow& row : versions) {
      const auto found = entry_of_.find(row.version.get());
      if (found == entry_of_.end()) continue;
      if (!working_.empty() && found->second == working_.begin()) {
        superseded_ = true;
      } else {
        TakeOut(waiting_, found->second, dropped);
      }
    }
    if (!fresh.empty()) {
      Index(fresh.begin());
      waiting_.splice(waiting_.end(), fresh);
      if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
    }
  }
  wake_.notify_all();
}

void CkptEncoder::Run() {
  BecomeBackground("ckpt-encoder");
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (waiting_.empty()) {
      wake_.wait(lock, [this] { return !waiting_.empty() || stop_; });
      continue;
    }
    const int64_t early_us = waiting_.front().offered_us + kBeforeUs - now_us_();
    if (early_us > 0) {
      wake_.wait_for(lock, std::chrono::microseconds(early_us), [this] { return stop_; });
      if (stop_) return;
    }
    lock.unlock();
    DropDeleted();
    lock.lock();
    if (waiting_.empty()) continue;
    if (dropping_ == waiting_.begin()) ++dropping_;
    working_.splice(working_.end(), waiting_, waiting_.begin());
    superseded_ = false;
    lock.unlock();
    Work(&working_.front().rows);
    lock.lock();
    Entries done;
    TakeOut(working_, working_.begin(), done);
    freeing_ = true;
    lock.unlock();
    done.clear();
    lock.lock();
    freeing_ = false;
  }
}

void CkptEncoder::DropRows(Entry& entry, std::vector<Kept<Version>>& dropped) {
  for (VersionRow& row : entry.rows) {
    if (!row.version.IsUnique()) continue;
    Unindex(row.version.get(), entry);
    dropped.push_back(std::move(row.version));
  }
}

void CkptEncoder::DropDeleted() {
  const int64_t now = now_us_();
  if (dropped_us_ != INT64_MIN && now - dropped_us_ < kDropUs) return;
  dropped_us_ = now;
  Entries entries;  // freed without the lock, as the versions are
  std::vector<Kept<Version>> dropped;
  std::unique_lock lock(mutex_);
  if (!working_.empty()) DropRows(working_.front(), dropped);
  dropping_ = waiting_.begin();
  while (!stop_) {
    for (size_t seen = 0; dropping_ != waiting_.end() && seen < kDropAtOnce; ++seen) {
      const Entries::iterator entry = dropping_++;
      // What takes some of a run's versions away offers what it has left: a look at one shows
      // whether the run is there.
      if (!entry->rows.back().version.IsUnique()) continue;
      DropRows(*entry, dropped);
      std::erase_if(entry->rows, [](const VersionRow& row) { return !row.version; });
      if (entry->rows.size() < 2) TakeOut(waiting_, entry, entries);
    }
    const bool more = dropping_ != waiting_.end();
    freeing_ = true;
    lock.unlock();
    entries.clear();
    dropped.clear();
    lock.lock();
    freeing_ = false;
    if (!more) return;
  }
}

void CkptEncoder::Work(Rows* rows) {
  std::unordered_set<const Blob*> thinned;  // memory that encoded chunks have left
  const int64_t planned = now_us_();
  const std::vector<EncodeStep> steps = PlanEncoding(*rows);
  if (!Pause(now_us_() - planned)) return;
  for (const EncodeStep& step : steps) {
    if (!(*rows)[step.row].version || !(*rows)[step.base_row].version) continue;
    const int64_t began = now_us_();
    const Blob* in = step.chunk->IsCold() ? nullptr : step.chunk->bytes().blob.get();
    if (step.restore) {
      pool_.Restore(*step.chunk);
    } else if (pool_.Encode(*step.chunk, step.base, level_)) {
      thinned.insert(in);
    }
    const int64_t took = std::max<int64_t>(0, now_us_() - began);
    looked_at_.fetch_add(1, std::memory_order_relaxed);
    looked_at_bytes_.fetch_add(step.chunk->size(), std::memory_order_relaxed);
    busy_us_.fetch_add(static_cast<uint64_t>(took), std::memory_order_relaxed);
    if (!Pause(took)) return;
  }
  // What could not be encoded must not keep the memory of what was.
  for (size_t i = 0; i < rows->size() && !thinned.empty(); ++i) {
    if (!(*rows)[i].version) continue;
    ForEachChunkOf(*(*rows)[i].version, [&](const Chunk& chunk) {
      if (chunk.is_mapped() || chunk.stored_bytes() < chunk.size()) return;
      if (thinned.contains(chunk.bytes().blob.get())) pool_.Rehome(chunk);
    });
  }
}

bool CkptEncoder::Pause(int64_t worked_us) {
  debt_us_ += worked_us;
  const uint64_t interned = pool_.interned();
  const int64_t now = now_us_();
  DropDeleted();
  if (interned != interned_) upload_seen_us_ = now;
  interned_ = interned;
  std::unique_lock lock(mutex_);
  const auto ended = [this] { return stop_ || superseded_; };
  if (debt_us_ >= kSliceUs) {
    const bool upload = upload_seen_us_ != INT64_MIN && now - upload_seen_us_ < kUploadUs;
    int64_t pause_us = debt_us_ * (upload ? kUploadPauses : kIdlePauses);
    debt_us_ = 0;
    while (pause_us > 0 && !ended()) {
      const int64_t part_us = std::min(pause_us, kDropUs);
      wake_.wait_for(lock, std::chrono::microseconds(part_us), ended);
      pause_us -= part_us;
      lock.unlock();
      DropDeleted();
      lock.lock();
    }
  }
  return !ended();
}

EncoderFigures CkptEncoder::figures() const {
  EncoderFigures out;
  out.looked_at = looked_at_.load(std::memory_order_relaxed);
  out.looked_at_bytes = looked_at_bytes_.load(std::memory_order_relaxed);
  out.busy_us = busy_us_.load(std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  out.pending = waiting_.size() + (!working_.empty() || freeing_ ? 1 : 0);
  return out;
}

}  // namespace cairn::tensor

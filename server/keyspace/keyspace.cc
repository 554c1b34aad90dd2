#include "server/keyspace/keyspace.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>

#include "server/keyspace/entry_policy.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

constexpr uint32_t kAccessClockMask = 0xffffff;
// A new key starts with a little frequency, or it would be evicted before it could be used again.
constexpr uint32_t kFirstFrequency = 5;
// Records of other threads taken back a round: in steps of about 10 us.
constexpr std::chrono::microseconds kDrainBudget{500};
constexpr size_t kDrainBatch = 256;

}  // namespace

Keyspace::Keyspace(const Options& options)
    : listener_(options.listener),
      hash_seed_(options.hash_seed),
      big_string_bytes_(options.big_string_bytes),
      string_chunk_bytes_(options.string_chunk_bytes),
      random_(options.hash_seed | 1),
      frames_(sizeof(Segment<EntryPolicy>)) {
  CAIRN_CHECK(big_string_bytes_ > kMaxInlineValueBytes && std::has_single_bit(string_chunk_bytes_));
  for (uint32_t i = 0; i < options.databases; ++i) {
    databases_.push_back(std::unique_ptr<Database>(new Database(this, i)));
  }
}

Keyspace::~Keyspace() {
  CAIRN_CHECK(views_.empty());
  reaper_.reset();
  for (const auto& database : databases_) {
    database->table_->ForEach([this](Entry& entry) {
      Entry::Destroy(slab_, &entry);
      return true;
    });
  }
}

std::unique_ptr<EntryTable> Keyspace::NewTable() {
  return std::make_unique<EntryTable>(&gate_, &frames_, hash_seed_);
}

void Keyspace::Reap(std::function<void()> job, uint64_t objects) {
  if (reaper_ == nullptr) {
    constexpr int kReaperNice = 5;
    reaper_ = std::make_unique<WorkerThread>(
        WorkerOptions{.name = "cairn-reaper", .nice_level = kReaperNice});
  }
  reaper_pending_.fetch_add(objects, std::memory_order_relaxed);
  reaper_->Post([this, objects, work = std::move(job)]() mutable {
    work();
    reaper_pending_.fetch_sub(objects, std::memory_order_relaxed);
    reaped_.fetch_add(objects, std::memory_order_relaxed);
  });
}

void Keyspace::DrainReaper() {
  if (reaper_ != nullptr) reaper_->Drain();
  while (slab_.DrainRemote(SIZE_MAX) != 0) {
  }
  frames_.Drain(SIZE_MAX);
}

void Keyspace::TakeBackFreed() {
  // A big value that the reaper freed is hundreds of thousands of records: the loop must not stand
  // still for all of them.
  const auto until = std::chrono::steady_clock::now() + kDrainBudget;
  const auto in_time = [until] { return std::chrono::steady_clock::now() < until; };
  while (slab_.DrainRemote(kDrainBatch) == kDrainBatch && in_time()) {
  }
  while (frames_.Drain(kDrainBatch) == kDrainBatch && in_time()) {
  }
  CountFlushed();
}

void Keyspace::set_access_mode(bool lfu, int log_factor, int decay_minutes) {
  lfu_ = lfu;
  lfu_log_factor_ = log_factor;
  lfu_decay_minutes_ = decay_minutes;
}

uint32_t Keyspace::FreshAccess() const {
  if (lfu_) return static_cast<uint32_t>(now_ms_ / 60000 & 0xffff) << 8 | kFirstFrequency;
  return static_cast<uint32_t>(now_ms_ / 1000) & kAccessClockMask;
}

uint8_t Keyspace::DecayedFrequency(uint32_t access) const {
  const uint32_t counter = access & 0xff;
  if (lfu_decay_minutes_ <= 0) return static_cast<uint8_t>(counter);
  const uint32_t minutes = (static_cast<uint32_t>(now_ms_ / 60000) - (access >> 8)) & 0xffff;
  return static_cast<uint8_t>(
      counter - std::min(counter, minutes / static_cast<uint32_t>(lfu_decay_minutes_)));
}

uint64_t Keyspace::NextRandom() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return random_ * 0x2545f4914f6cdd1d;  // xorshift64*
}

void Keyspace::Touch(const Entry& entry) {
  if (!lfu_) {
    const uint32_t clock_s = static_cast<uint32_t>(now_ms_ / 1000) & kAccessClockMask;
    if (entry.access() != clock_s) entry.set_access(clock_s);
    return;
  }
  uint32_t counter = DecayedFrequency(entry.access());
  if (counter < 255) {
    // Logarithmic: each step takes about log_factor times more hits than the one before.
    const uint32_t above = counter > kFirstFrequency ? counter - kFirstFrequency : 0;
    const double chance = 1.0 / (static_cast<double>(above) * lfu_log_factor_ + 1);
    if (static_cast<double>(NextRandom() >> 11) * 0x1p-53 < chance) ++counter;
  }
  entry.set_access(static_cast<uint32_t>(now_ms_ / 60000 & 0xffff) << 8 | counter);
}

uint32_t Keyspace::IdleSeconds(const Entry& entry) const {
  return (static_cast<uint32_t>(now_ms_ / 1000) - entry.access()) & kAccessClockMask;
}

uint8_t Keyspace::FrequencyOf(const Entry& entry) const { return DecayedFrequency(entry.access()); }

void Keyspace::RestoreAccess(const Entry& entry, int64_t idle_s, int frequency) {
  if (lfu_ && frequency >= 0) {
    entry.set_access((FreshAccess() & ~0xffu) | static_cast<uint32_t>(frequency & 0xff));
  } else if (!lfu_ && idle_s >= 0) {
    entry.set_access(static_cast<uint32_t>(now_ms_ / 1000 - idle_s));
  }
}

void Keyspace::Swap(uint32_t a, uint32_t b) {
  Database &left = db(a), &right = db(b);
  std::swap(left.table_, right.table_);
  std::swap(left.expire_count_, right.expire_count_);
  std::swap(left.average_ttl_ms_, right.average_ttl_ms_);
  std::swap(left.expire_cursor_, right.expire_cursor_);
}

// A table that a running view froze keeps its place in the order: both judge what leaves it by the
// same positions. The others come behind all that are in use. What has no structure yet has nothing
// to freeze, and no need of a place: there may be more databases than places.
bool Keyspace::PlaceTables() {
  if (views_.empty()) next_cut_index_ = 0;
  for (const auto& database : databases_) {
    EntryTable& table = *database->table_;
    if (table.root() == nullptr) continue;
    if (!table.HasPlace() && next_cut_index_ + 1 == kMaxFrozenTables) return false;
    table.FreezeAs(table.HasPlace() ? table.cut_index() : next_cut_index_++);
  }
  return true;
}

View* Keyspace::BeginView() {
  if (views_.size() == SnapshotGate::kMaxViews || !PlaceTables()) return nullptr;
  std::vector<FrozenTable> tables;
  for (const auto& database : databases_) {
    const EntryTable& table = *database->table_;
    // An empty table with structure counts: its segments are frozen all the same.
    if (table.root() == nullptr) continue;
    tables.push_back({table.cut_index(), database->index(), table.root(), database->size(),
                      database->expire_count()});
  }
  std::sort(tables.begin(), tables.end(),
            [](const FrozenTable& a, const FrozenTable& b) { return a.cut_index < b.cut_index; });
  ViewLane* lane = gate_.Open();
  View::Access access = View::Access::kNone;
  if (save_access_) access = lfu_ ? View::Access::kFrequency : View::Access::kIdle;
  views_.push_back(std::unique_ptr<View>(
      new View(&gate_, lane, &frames_, &slab_, std::move(tables), now_ms_, access)));
  return views_.back().get();
}

void Keyspace::EndView(View* view) {
  const auto at = std::find_if(views_.begin(), views_.end(),
                               [view](const auto& each) { return each.get() == view; });
  CAIRN_CHECK(at != views_.end());
  view->Abandon();
  const unsigned lane = gate_.BitOf(*view->lane_);
  gate_.Close(*view->lane_);
  views_.erase(at);
  FreeUnread(lane);
}

const KeyspaceFigures& Keyspace::figures() const {
  figures_.lazyfree_pending_objects = reaper_pending_.load(std::memory_order_relaxed);
  figures_.lazyfreed_objects = reaped_.load(std::memory_order_relaxed);
  return figures_;
}

void Keyspace::ResetFigures() {
  figures_ = KeyspaceFigures();
  reaped_.store(0, std::memory_order_relaxed);
}

uint64_t Keyspace::SlabFreeBytes() const {
  // Bigger records come from the heap: they count as used, but have no page.
  const uint64_t pages = slab_.page_bytes(), used = slab_.used_page_bytes();
  return pages > used ? pages - used : 0;
}

uint64_t Keyspace::BytesNotEvictable() const {
  uint64_t detached_bytes = 0;
  for (const Detached& each : detached_) detached_bytes += each.SizeBytes();
  return retained_bytes() + detached_bytes + frames_.free_bytes();
}

uint64_t Keyspace::OverheadBytes() const {
  uint64_t bytes = frames_.free_bytes();
  for (const auto& database : databases_) bytes += database->TableBytes();
  return bytes;
}

void Keyspace::ForEachDatabase(const std::function<void(Database&)>& visit) {
  for (const auto& database : databases_) visit(*database);
}

}  // namespace cairn

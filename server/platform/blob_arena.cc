#include "server/platform/blob_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <new>
#include <utility>

#if !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23
#endif

namespace cairn {
namespace {

constexpr size_t kHugePageBytes = AddressSpace::kAlignment;
constexpr size_t kPageBytes = 4096;
// The warmers share a blob in pieces of this.
constexpr size_t kWarmPieceBytes = kHugePageBytes;
// What Trim gives back at a time: some milliseconds, between which blobs are warmed.
constexpr uint64_t kTrimStepBytes = 64u << 20;

/// Rule B2: the smallest whole number of huge pages that wastes no more than 1/32 on its last slot.
/// A slot of 2.5 MiB by itself would hold two huge pages, 4 MiB, as soon as it is touched.
size_t RegionBytes(size_t slot_bytes) {
  size_t bytes = RoundUp(slot_bytes, kHugePageBytes);
  while (bytes % slot_bytes * 32 > bytes) bytes += kHugePageBytes;
  return bytes;
}

}  // namespace

struct BlobArena::Region {
  AddressSpace* space;
  char* data;
  size_t bytes;
  size_t slot_bytes;
  size_t size_class;
  size_t used = 0;
  size_t index = 0;  ///< place in regions_

  ~Region() { space->Give(data, bytes); }
};

/// What the arena must know of a blob. It lives on the heap, so that a payload of a power of two
/// fills its slot exactly. The Blob is raw memory here because only its own release may end it.
struct BlobArena::Header {
  BlobArena* arena;
  Slot slot;
  std::atomic<uint32_t> cold_pieces = 0;  ///< that the warmers have not finished
  bool released = false;                  ///< guarded by the arena's mutex: the last piece frees it
  alignas(Blob) unsigned char blob[sizeof(Blob)];
};

BlobArena::BlobArena(uint64_t retained_limit_bytes) : retained_limit_bytes_(retained_limit_bytes) {}

BlobArena::~BlobArena() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;  // of jobs that would post their next piece
  }
  for (auto& warmer : warmers_) warmer.reset();  // what was released while it was cold comes back
  std::lock_guard lock(mutex_);
  CAIRN_CHECK(in_use_bytes_ == 0);
}

size_t BlobArena::SlotBytes(size_t size) {
  CAIRN_CHECK(size >= kSmallestSlotBytes && size <= kLargestSlotBytes);
  const size_t last = size - 1;
  const int shift = std::bit_width(last) - 3;
  return ((last >> shift) + 1) << shift;
}

size_t BlobArena::ClassOf(size_t size) {
  // The three top bits of size-1 name the quarter, the position of the highest the power of two.
  const size_t last = size - 1;
  const int shift = std::bit_width(last) - 3;
  return (static_cast<size_t>(shift) - 13) * 4 + (last >> shift) - 7;
}

BlobArena::Header* BlobArena::HeaderOf(const Blob& blob) {
  auto* bytes = reinterpret_cast<char*>(const_cast<Blob*>(&blob));
  return reinterpret_cast<Header*>(bytes - offsetof(Header, blob));
}

Blob* BlobArena::Take(size_t size, bool* cold) {
  if (size > kLargestSlotBytes) return nullptr;
  auto* header = static_cast<Header*>(std::malloc(sizeof(Header)));
  if (header == nullptr) return nullptr;
  const size_t slot_bytes = SlotBytes(size);
  const Slot slot = TakeSlot(slot_bytes, ClassOf(size), cold);
  if (slot.region == nullptr) {
    std::free(header);
    return nullptr;
  }
  new (header) Header{.arena = this, .slot = slot, .blob = {}};
  return new (header->blob) Blob(slot.data, size, slot_bytes + sizeof(Header), &ReleaseBlob);
}

Blob* BlobArena::Allocate(size_t size) {
  if (size < kSmallestSlotBytes) return Blob::Create(size);
  bool cold = false;
  Blob* blob = Take(size, &cold);
  if (blob != nullptr && cold) {
    Fetch(*HeaderOf(*blob)->slot.region, blob->mutable_data(), RoundUp(size, kPageBytes));
  }
  return blob;
}

// --- warming ---

Blob* BlobArena::AllocateSoon(size_t size) {
  if (size < kSmallestSlotBytes) return Allocate(size);
  bool cold = false;
  Blob* blob = Take(size, &cold);
  if (blob != nullptr && cold) Warm(HeaderOf(*blob), RoundUp(size, kPageBytes));
  return blob;
}

bool BlobArena::IsWarm(const Blob& blob) const {
  if (blob.size() < kSmallestSlotBytes) return true;
  return HeaderOf(blob)->cold_pieces.load(std::memory_order_acquire) == 0;
}

void BlobArena::SetOnWarm(std::function<void()> fn) {
  std::lock_guard lock(on_warm_mutex_);
  on_warm_ = std::move(fn);
}

void BlobArena::StartWarmers() {
  std::call_once(warmers_started_, [this] {
    for (auto& warmer : warmers_) {
      warmer = std::make_unique<WorkerThread>(WorkerOptions{.name = "warmer"});
    }
  });
}

void BlobArena::Warm(Header* header, size_t bytes) {
  StartWarmers();
  const size_t pieces = (bytes + kWarmPieceBytes - 1) / kWarmPieceBytes;
  header->cold_pieces.store(static_cast<uint32_t>(pieces), std::memory_order_relaxed);
  char* const data = header->slot.data;
  for (size_t i = 0; i < pieces; ++i) {
    const size_t at = i * kWarmPieceBytes;
    const size_t length = std::min(kWarmPieceBytes, bytes - at);
    warmers_[i % warmers_.size()]->Post([this, header, begin = data + at, length] {
      bool wanted;
      {
        std::lock_guard lock(mutex_);
        wanted = !header->released;
      }
      if (wanted) Fetch(*header->slot.region, begin, length);
      FinishPiece(header);
    });
  }
}

void BlobArena::Fetch(const Region& region, char* begin, size_t bytes) {
  const auto began = std::chrono::steady_clock::now();
  // Kernels before 5.14 do not know this advice; the pages then come one fault at a time, and
  // nobody knows how fast.
  if (::madvise(begin, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINVAL) page_choice_.Forgo();
    return;
  }
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - began;
  const AddressSpace::Pages pages = region.space->pages();
  if (pages == AddressSpace::Pages::kHuge) {
    // Slots of a fresh region are taken from its front: the one with the first byte of a huge page
    // fetches all of it, and those behind it nothing.
    const auto at = static_cast<size_t>(begin - region.data);
    bytes = RoundUp(at + bytes, kHugePageBytes) - RoundUp(at, kHugePageBytes);
  }
  if (bytes > 0) page_choice_.Fetched(pages, bytes, took.count());
}

void BlobArena::FinishPiece(Header* header) {
  bool released;
  {
    std::lock_guard lock(mutex_);
    released = header->released;
    // With the last piece the header is its user's, who may free it, or was released and is ours.
    if (header->cold_pieces.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  }
  if (released) return Release(header);
  std::lock_guard lock(on_warm_mutex_);
  if (on_warm_) on_warm_();
}

void BlobArena::ReleaseBlob(Blob* blob) {
  Header* const header = HeaderOf(*blob);
  if (header->cold_pieces.load(std::memory_order_acquire) > 0) {
    std::lock_guard lock(header->arena->mutex_);
    header->released = header->cold_pieces.load(std::memory_order_acquire) > 0;
    if (header->released) return;
  }
  Release(header);
}

void BlobArena::Release(Header* header) {
  BlobArena* arena = header->arena;
  const Slot slot = header->slot;
  std::free(header);
  arena->ReturnSlot(slot);
}

BlobArena::Slot BlobArena::TakeSlot(size_t slot_bytes, size_t size_class, bool* cold) {
  Lock lock(mutex_);
  SizeClass& free = classes_[size_class];
  if (free.warm.empty()) {
    if (auto cut = CutRegion(slot_bytes, size_class)) AddRegion(std::move(cut), &free.warm);
  }
  *cold = free.warm.empty();
  if (*cold && free.cold.empty()) {
    lock.unlock();
    std::unique_ptr<Region> fresh = MapRegion(slot_bytes, size_class);
    if (fresh == nullptr) return {};
    lock.lock();
    AddRegion(std::move(fresh), &free.cold);
  }
  std::vector<Slot>& list = *cold ? free.cold : free.warm;
  const Slot slot = list.back();
  list.pop_back();
  ++slot.region->used;
  in_use_bytes_ += slot_bytes;
  if (!*cold) {
    retained_bytes_ -= slot_bytes;
    least_retained_bytes_ = std::min(least_retained_bytes_, retained_bytes_);
    return slot;
  }
  // What is fetched again should have been kept.
  const uint64_t recent = std::min<uint64_t>(slot_bytes, dropped_bytes_);
  const uint64_t older = std::min<uint64_t>(slot_bytes - recent, dropped_before_bytes_);
  dropped_bytes_ -= recent;
  dropped_before_bytes_ -= older;
  earned_bytes_ += recent + older;
  return slot;
}

void BlobArena::AddRegion(std::unique_ptr<Region> region, std::vector<Slot>* slots) {
  region->index = regions_.size();
  mapped_bytes_ += region->bytes;
  // From the back, so that the list gives out the lowest address first.
  for (size_t i = region->bytes / region->slot_bytes; i-- > 0;) {
    slots->push_back({region.get(), region->data + i * region->slot_bytes});
  }
  regions_.push_back(std::move(region));
}

std::unique_ptr<BlobArena::Region> BlobArena::MapRegion(size_t slot_bytes, size_t size_class) {
  const size_t bytes = RegionBytes(slot_bytes);
  AddressSpace* space = page_choice_.Next(bytes) == AddressSpace::Pages::kHuge ? &huge_ : &small_;
  char* data = space->Take(bytes);
  if (data == nullptr) {
    // Under a limit of address space the other one may have room that is mapped already.
    space = space == &huge_ ? &small_ : &huge_;
    data = space->Take(bytes);
  }
  if (data == nullptr) return nullptr;
  return std::unique_ptr<Region>(new Region{space, data, bytes, slot_bytes, size_class});
}

void BlobArena::ReturnSlot(Slot slot) {
  Region* const region = slot.region;
  const size_t slot_bytes = region->slot_bytes;
  SizeClass& free = classes_[region->size_class];
  std::unique_ptr<Region>
      dropped;  // Declared before the lock: its destructor runs after unlocking.
  Lock lock(mutex_);
  in_use_bytes_ -= slot_bytes;
  if (retained_bytes_ + slot_bytes <= LingerLimitLocked()) {
    --region->used;
    retained_bytes_ += slot_bytes;
    peak_retained_bytes_ = std::max(peak_retained_bytes_, retained_bytes_);
    free.warm.push_back(slot);
    return;
  }
  dropped = Cool(slot, &lock);
}

std::unique_ptr<BlobArena::Region> BlobArena::Cool(Slot slot, Lock* lock) {
  Region* const region = slot.region;
  dropped_bytes_ += region->slot_bytes;
  if (region->used == 1) {
    region->used = 0;
    return Forget(region);
  }
  // The slot still counts as used while its pages go, so nobody else takes it or drops its region.
  lock->unlock();
  ::madvise(slot.data, region->slot_bytes, MADV_DONTNEED);
  lock->lock();
  classes_[region->size_class].cold.push_back(slot);
  return --region->used == 0 ? Forget(region) : nullptr;
}

std::unique_ptr<BlobArena::Region> BlobArena::Forget(Region* region) {
  CAIRN_CHECK(region->used == 0);
  SizeClass& free = classes_[region->size_class];
  const auto inside = [region](const Slot& slot) { return slot.region == region; };
  const uint64_t warm_bytes = std::erase_if(free.warm, inside) * region->slot_bytes;
  retained_bytes_ -= warm_bytes;
  least_retained_bytes_ = std::min(least_retained_bytes_, retained_bytes_);
  dropped_bytes_ += warm_bytes;
  std::erase_if(free.cold, inside);
  mapped_bytes_ -= region->bytes;
  std::unique_ptr<Region> forgotten = std::move(regions_[region->index]);
  if (region->index + 1 < regions_.size()) {
    regions_[region->index] = std::move(regions_.back());
    regions_[region->index]->index = region->index;
  }
  regions_.pop_back();
  return forgotten;
}

void BlobArena::set_retained_limit_bytes(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  retained_limit_bytes_ = bytes;
}

// --- the limit ---

uint64_t BlobArena::AtMostLocked(uint64_t retained_bytes) const {
  const uint64_t room = bounds_.most_held - std::min(bounds_.most_held, in_use_bytes_);
  return std::min({retained_bytes, bounds_.most_retained, room});
}

uint64_t BlobArena::ReserveLocked() const {
  return AtMostLocked(bounds_.reserve - std::min(bounds_.reserve, in_use_bytes_));
}

uint64_t BlobArena::LimitLocked() const {
  const uint64_t earned = AtMostLocked(retained_limit_bytes_ + earned_bytes_);
  return std::max({retained_limit_bytes_, earned, ReserveLocked()});
}

uint64_t BlobArena::LingerLimitLocked() const {
  const uint64_t limit = LimitLocked();
  return bounds_.linger_ms > 0 ? std::max(limit, AtMostLocked(UINT64_MAX)) : limit;
}

void BlobArena::Age(int64_t now_ms, const Bounds& bounds) {
  bool fetch = false, trim = false;
  {
    std::lock_guard lock(mutex_);
    fetch = bounds.reserve > bounds_.reserve && !fetching_;
    fetching_ |= fetch;
    bounds_ = bounds;
    if (period_began_ms_ == INT64_MIN) period_began_ms_ = now_ms;
    if (now_ms - period_began_ms_ >= kPeriodMs) {
      period_began_ms_ = now_ms;
      const uint64_t peak = std::max(peak_retained_bytes_, retained_limit_bytes_);
      earned_bytes_ = std::min(earned_bytes_, peak - retained_limit_bytes_);
      earned_bytes_ -= std::min(earned_bytes_, least_retained_bytes_);
      least_retained_bytes_ = peak_retained_bytes_ = retained_bytes_;
      dropped_before_bytes_ = std::exchange(dropped_bytes_, 0);
    }
    // What no limit could give is nothing to be earned.
    earned_bytes_ = std::min(earned_bytes_, bounds_.most_retained);
    const bool over = retained_bytes_ > LimitLocked();
    over_since_ms_ = over ? std::min(over_since_ms_, now_ms) : INT64_MAX;
    const bool lingers =
        retained_bytes_ <= LingerLimitLocked() && now_ms - over_since_ms_ < bounds_.linger_ms;
    trim = !trimming_ && over && !lingers;
    trimming_ |= trim;
  }
  if (!fetch && !trim) return;
  StartWarmers();
  if (fetch) warmers_[0]->Post([this] { FetchReserve(nullptr, nullptr); });
  if (trim) warmers_[0]->Post([this] { Trim(); });
}

void BlobArena::Trim() {
  std::vector<std::unique_ptr<Region>> dropped;  // After unlocking, as above.
  uint64_t given = 0;
  Lock lock(mutex_);
  const auto over = [this] { return retained_bytes_ - std::min(retained_bytes_, LimitLocked()); };
  // What is in no region yet first, then the largest slots: fewest calls.
  while (over() > 0 && reserve_.bytes() > 0 && given < kTrimStepBytes) {
    const auto [range, bytes] =
        reserve_.TakeEnd(std::min<uint64_t>(RoundUp(over(), kHugePageBytes), kTrimStepBytes));
    given += bytes;
    retained_bytes_ -= bytes;
    least_retained_bytes_ = std::min(least_retained_bytes_, retained_bytes_);
    lock.unlock();
    huge_.Give(range, bytes);
    lock.lock();
  }
  if (over() > 0 && reserve_.bytes() > 0) {
    if (!ending_) warmers_[0]->Post([this] { Trim(); });
    return;
  }
  for (size_t i = classes_.size(); i-- > 0;) {
    std::vector<Slot>& warm = classes_[i].warm;
    while (!warm.empty() && over() > 0) {
      if (given >= kTrimStepBytes) {
        if (!ending_) warmers_[0]->Post([this] { Trim(); });
        return;
      }
      const Slot slot = warm.back();
      warm.pop_back();
      given += slot.region->slot_bytes;
      ++slot.region->used;
      retained_bytes_ -= slot.region->slot_bytes;
      least_retained_bytes_ = std::min(least_retained_bytes_, retained_bytes_);
      if (auto region = Cool(slot, &lock)) dropped.push_back(std::move(region));
    }
  }
  trimming_ = false;
}

// --- the reserve ---

void BlobArena::FetchReserve(char* next, char* end) {
  if (next == end) {
    size_t bytes;
    {
      Lock lock(mutex_);
      const uint64_t wanted = ReserveLocked();
      bytes = wanted - std::min(wanted, retained_bytes_);
    }
    bytes -= bytes % kHugePageBytes;
    next = bytes == 0 ? nullptr : huge_.Take(bytes);
    end = next == nullptr ? nullptr : next + bytes;
  }
  if (next != end && FetchPiece(next)) {
    next += kWarmPieceBytes;
    Lock lock(mutex_);
    if (!ending_) warmers_[0]->Post([this, next, end] { FetchReserve(next, end); });
    return;
  }
  if (next != end) huge_.Give(next, static_cast<size_t>(end - next));
  Lock lock(mutex_);
  fetching_ = purged_ = false;
}

bool BlobArena::FetchPiece(char* piece) {
  {
    Lock lock(mutex_);
    if (purged_ || ReserveLocked() < retained_bytes_ + kWarmPieceBytes) return false;
  }
  // Kernels before 5.14 do not know this advice: what is not there is no reserve.
  if (::madvise(piece, kWarmPieceBytes, MADV_POPULATE_WRITE) != 0) return false;
  Lock lock(mutex_);
  if (purged_) return false;
  reserve_.Insert(piece, kWarmPieceBytes);
  retained_bytes_ += kWarmPieceBytes;
  peak_retained_bytes_ = std::max(peak_retained_bytes_, retained_bytes_);
  return true;
}

std::unique_ptr<BlobArena::Region> BlobArena::CutRegion(size_t slot_bytes, size_t size_class) {
  size_t bytes = RegionBytes(slot_bytes);
  while (bytes % kHugePageBytes != 0) bytes *= 2;  // several slots of 2.5 MiB leave nothing over
  char* const data = reserve_.Take(bytes);
  if (data == nullptr) return nullptr;
  retained_bytes_ -= bytes % slot_bytes;  // what no slot has
  return std::unique_ptr<Region>(new Region{&huge_, data, bytes, slot_bytes, size_class});
}

void BlobArena::ReleaseRetained() {
  std::vector<std::unique_ptr<Region>> dropped;  // After unlocking, as above.
  std::lock_guard lock(mutex_);
  purged_ = fetching_;
  for (size_t i = regions_.size(); i-- > 0;) {
    if (regions_[i]->used == 0) dropped.push_back(Forget(regions_[i].get()));
  }
  while (reserve_.bytes() > 0) {
    const auto [range, bytes] = reserve_.TakeEnd(SIZE_MAX);
    huge_.Give(range, bytes);
  }
  for (SizeClass& free : classes_) {
    for (const Slot& slot : free.warm) {
      ::madvise(slot.data, slot.region->slot_bytes, MADV_DONTNEED);
    }
    free.cold.insert(free.cold.end(), free.warm.begin(), free.warm.end());
    free.warm.clear();
  }
  retained_bytes_ = least_retained_bytes_ = 0;
  earned_bytes_ = dropped_bytes_ = dropped_before_bytes_ = 0;
}

uint64_t BlobArena::in_use_bytes() const {
  std::lock_guard lock(mutex_);
  return in_use_bytes_;
}

uint64_t BlobArena::retained_bytes() const {
  std::lock_guard lock(mutex_);
  return retained_bytes_;
}

uint64_t BlobArena::retained_limit_bytes() const {
  std::lock_guard lock(mutex_);
  return LimitLocked();
}

uint64_t BlobArena::mapped_bytes() const {
  std::lock_guard lock(mutex_);
  return mapped_bytes_ + reserve_.bytes();
}

}  // namespace cairn

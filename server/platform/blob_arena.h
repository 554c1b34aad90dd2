#pragma once

// BlobArena: where big Blobs (tensor chunks, big strings) live. Payloads of kSmallestSlotBytes and
// more get a slot in a mapped region that starts on a 2 MiB boundary and has huge pages or small
// ones, whichever come faster (page_choice.h); released slots stay warm (their pages present) up to
// a limit, because the first touch of fresh pages is ten times slower than a copy into warm ones.
// Smaller payloads come from the heap. Data is 4096-byte aligned. Allocate and release from any
// thread: one lock, system calls outside of it. The arena outlives its blobs; its destructor checks
// that. The loop asks with AllocateSoon(), and two threads fetch the pages: a kernel that clears
// them, or a hypervisor that has to find them, may take milliseconds a megabyte.
//
// - B1 Slot sizes step four times per power of two: a slot is less than 25 % larger than its
//   payload.
// - B2 A region is a whole number of huge pages and holds slots of one size, with at most 1/32 left
//   over: one slot or many.
// - B3 A free slot is warm (counted in retained_bytes) or cold (no pages). Warm ones are given out
//   first.
// - B4 A region without used slots goes back to the address space as soon as a release finds the
//   arena over its limit.
// - B5 The limit follows what is asked for, once Age() tells the time: slots that were given back
//   and had to be fetched again within kPeriodMs to twice that raise it, and what lay warm for a
//   whole period unused lowers it again, down to the constructor's.
// - B6 A reserve is fetched ahead, in the background and once, when Age() first names it: memory of
//   no slot size yet, from which regions are cut before any is fetched, of as many slots as leave
//   nothing over. What is in use and what is warm may be so much together from then on, whatever B5
//   says.
// - B7 What is given back stays warm for a while whatever the limit is, as far as the bounds
//   let: who deletes a checkpoint is about to save another.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "server/base/bytes.h"
#include "server/platform/address_space.h"
#include "server/platform/free_ranges.h"
#include "server/platform/page_choice.h"
#include "server/platform/worker.h"

namespace cairn {

class BlobArena final : public BlobSource {
 public:
  /// Payloads below this come from the heap.
  static constexpr size_t kSmallestSlotBytes = 64 * 1024;

  /// B5: how long memory that nobody takes stays warm above the limit of the constructor; up to
  /// twice as long. Checkpoints are saved at least that often where saving is worth speeding up.
  static constexpr int64_t kPeriodMs = 10 * 60 * 1000;

  /// `retained_limit_bytes`: how much free memory may stay warm at least.
  explicit BlobArena(uint64_t retained_limit_bytes);
  BlobArena(const BlobArena&) = delete;
  BlobArena& operator=(const BlobArena&) = delete;
  /// Requires: every blob from a slot was released.
  ~BlobArena() override;

  /// Pages of a cold slot are faulted in by one system call before it is given out.
  Blob* Allocate(size_t size) override;
  /// A cold slot is given out at once; its pages come by the warmers.
  Blob* AllocateSoon(size_t size) override;
  bool IsWarm(const Blob& blob) const override;
  /// `fn` is called by a warmer whenever a blob of AllocateSoon() has become warm. Null: nobody is
  /// told. Returns when no call of the one before is running.
  void SetOnWarm(std::function<void()> fn);

  /// Takes effect with the next release; ReleaseRetained applies it at once.
  void set_retained_limit_bytes(uint64_t bytes);
  /// How much memory there may be, in bytes.
  struct Bounds {
    uint64_t most_retained = 0;  ///< warm and free
    uint64_t most_held = 0;      ///< warm and free, or in use
    uint64_t reserve = 0;   ///< B6: to be held whether asked for or not, as far as the others let
    int64_t linger_ms = 0;  ///< B7
  };
  /// Tells the time (monotonic, ms) and how far the limit may rise (B5, B6). Every second will do.
  /// A warmer gives back what is over. Until the first call the limit stays.
  void Age(int64_t now_ms, const Bounds& bounds);
  /// Gives all free memory back to the kernel (MEMORY PURGE), and forgets what raised the limit.
  void ReleaseRetained();

  /// Slot bytes of live blobs. Heap blobs are not counted: the allocator's figures have them.
  uint64_t in_use_bytes() const;
  /// Bytes of warm free slots and of what was fetched ahead.
  uint64_t retained_bytes() const;
  /// What they may grow to now.
  uint64_t retained_limit_bytes() const;
  /// Bytes of all regions, warm or not, and of what was fetched ahead.
  uint64_t mapped_bytes() const;

  /// Size of the slot that a payload of `size` bytes gets. Requires: size >= kSmallestSlotBytes.
  static size_t SlotBytes(size_t size);

 private:
  struct Region;
  /// One slot of a region.
  struct Slot {
    Region* region = nullptr;
    char* data = nullptr;
  };
  /// The free slots of one size.
  struct SizeClass {
    std::vector<Slot> warm;
    std::vector<Slot> cold;
  };
  struct Header;
  using Lock = std::unique_lock<std::mutex>;

  static constexpr size_t kLargestSlotBytes = size_t{1} << 46;
  /// Four sizes for each power of two from kSmallestSlotBytes to kLargestSlotBytes.
  static constexpr size_t kClasses = 4 * (46 - 16) + 1;

  static size_t ClassOf(size_t size);
  static Header* HeaderOf(const Blob& blob);
  /// A blob whose slot may be cold; null when memory is refused.
  Blob* Take(size_t size, bool* cold);
  void Warm(Header* header, size_t bytes);
  /// Faults in the pages of a cold slot, from `begin` on, and tells page_choice_ how long it took.
  void Fetch(const Region& region, char* begin, size_t bytes);
  void FinishPiece(Header* header);
  static void Release(Header* header);
  static void ReleaseBlob(Blob* blob);
  /// Takes a free slot, making a region when there is none. region is null when memory is refused.
  Slot TakeSlot(size_t slot_bytes, size_t size_class, bool* cold);
  void ReturnSlot(Slot slot);
  uint64_t LimitLocked() const;
  /// The same for what is given back now (B7).
  uint64_t LingerLimitLocked() const;
  void StartWarmers();
  /// As much of `retained_bytes` as the bounds allow to be warm and free. Requires: the lock.
  uint64_t AtMostLocked(uint64_t retained_bytes) const;
  /// What of the reserve is to be warm and free, as far as that is allowed. Requires: the lock.
  uint64_t ReserveLocked() const;
  /// B6. A warmer's jobs, a piece each, so that blobs are warmed in between: `next` to `end` is to
  /// be fetched; both null to begin.
  void FetchReserve(char* next, char* end);
  /// False when no more is to be fetched, or can be.
  bool FetchPiece(char* piece);
  /// A region in what was fetched ahead; null when that is too small. Requires: the lock.
  std::unique_ptr<Region> CutRegion(size_t slot_bytes, size_t size_class);
  /// Lists a new region and its slots. Requires: the lock.
  void AddRegion(std::unique_ptr<Region> region, std::vector<Slot>* slots);
  /// Gives warm slots back until the limit holds.
  void Trim();
  /// Drops the pages of a slot that nobody has, but whose region counts it as used. Requires: the
  /// lock, which it lets go meanwhile. Returns the region when it was its last.
  std::unique_ptr<Region> Cool(Slot slot, Lock* lock);
  std::unique_ptr<Region> MapRegion(size_t slot_bytes, size_t size_class);
  /// Takes a region without used slots out of all lists; the caller drops it after unlocking.
  std::unique_ptr<Region> Forget(Region* region);

  // First: regions give back to them. The reserve is of huge pages.
  AddressSpace huge_{AddressSpace::Pages::kHuge}, small_{AddressSpace::Pages::kSmall};
  PageChoice page_choice_;
  mutable std::mutex mutex_;
  uint64_t retained_limit_bytes_;
  uint64_t in_use_bytes_ = 0;
  uint64_t retained_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;
  // B5. What was given back in this period and in the one before, and not fetched again since.
  uint64_t dropped_bytes_ = 0, dropped_before_bytes_ = 0;
  uint64_t earned_bytes_ = 0;          // above retained_limit_bytes_
  Bounds bounds_;                      // of Age()
  uint64_t least_retained_bytes_ = 0;  // of this period: what nobody needed
  uint64_t peak_retained_bytes_ = 0;   // of this period
  int64_t period_began_ms_ = INT64_MIN;
  int64_t over_since_ms_ =
      INT64_MAX;  // B7: when more than the limit was warm first; MAX: it is not
  bool trimming_ = false;
  bool fetching_ = false;  // the reserve
  bool purged_ = false;    // meanwhile: what is not fetched yet is not wanted any more
  bool ending_ = false;
  FreeRanges reserve_;  // B6: fetched ahead and in no region; part of retained_bytes_
  std::array<SizeClass, kClasses> classes_;
  std::vector<std::unique_ptr<Region>> regions_;

  std::mutex on_warm_mutex_;
  std::function<void()> on_warm_;
  // Last, so that they end first. They start with the first blob that needs them.
  std::once_flag warmers_started_;
  std::array<std::unique_ptr<WorkerThread>, 2> warmers_;
};

}  // namespace cairn

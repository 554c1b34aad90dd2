#pragma once

// CkptEncoder: holds the chunks of superseded versions encoded (chunk_pool.h, P6 to P8), on a
// thread of its own. Values do not change: only how their bytes are held.
//
//   E1  The older version is encoded against the newer: a chunk of version v against the chunk at
//       the same place of v's successor, the one that names v as its parent, else the next step. So
//       LATEST is held plain, and what retention takes away first has nothing that needs it.
//   E2  A chunk is left plain while anything but superseded versions of its run refers to it:
//       LATEST, an open transaction, another run; a chunk that is being sent does not count. What
//       LATEST has become (ROLLBACK, DEL) and is encoded is made plain again.
//   E3  At most half of a core is taken, an eighth while chunks are being uploaded, and of that
//       what others leave: it begins a moment after it was asked, and gives way.
//   E4  What was deleted while it waits or is worked on is let go within a tenth of a second. So at
//       most one entry for each run that is there waits.
//
// Thread: Offer and figures from any.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tensor_module/chunk_pool.h"
#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// What is to be done about one chunk. Borrows from the versions.
struct EncodeStep {
  const Chunk* chunk = nullptr;
  const Chunk* base = nullptr;  ///< nullptr: none lies at its place that may be one
  bool restore = false;
  size_t row = 0, base_row = 0;  ///< the versions that have them
};

/// The steps for these versions (ascending by step) by E1 and E2, oldest version first. Cost:
/// O(chunks).
std::vector<EncodeStep> PlanEncoding(const std::vector<VersionRow>& versions);

struct EncoderFigures {
  uint64_t pending = 0;  ///< runs that wait or are worked on
  uint64_t looked_at = 0;
  uint64_t looked_at_bytes = 0;
  uint64_t busy_us = 0;  ///< in encoding, pauses aside
};

class CkptEncoder {
 public:
  /// `pool` outlives it. Microseconds of a clock that never goes back.
  CkptEncoder(ChunkPool& pool, std::function<int64_t()> now_us)
      : pool_(pool), now_us_(std::move(now_us)) {}
  CkptEncoder(const CkptEncoder&) = delete;
  CkptEncoder& operator=(const CkptEncoder&) = delete;
  /// Ends the thread in the middle of what it does.
  ~CkptEncoder();

  /// Without it Offer does nothing. Call before everything else. `level` is zstd's.
  void Enable(int level) { level_ = level; }
  bool enabled() const { return level_ > 0; }
  int level() const { return level_; }

  /// A run has these versions now. Takes the place of what an earlier Offer of the same run has
  /// left to do. Cost: O(versions), however many runs wait.
  void Offer(const std::vector<VersionRow>& versions);

  EncoderFigures figures() const;

 private:
  using Rows = std::vector<VersionRow>;
  struct Entry {
    Rows rows;  ///< of one run; empty handles: let go
    int64_t offered_us = 0;
  };
  using Entries = std::list<Entry>;
  void Run();
  void Work(Rows* rows);
  /// Once in a while: lets go of versions that nobody else has any more, as they were deleted
  /// meanwhile.
  void DropDeleted();
  /// Counts as work, and sleeps as long as E3 asks for. False: stop, or something newer has come.
  bool Pause(int64_t worked_us);

  // Under the lock.
  void Index(Entries::iterator entry);
  /// Moves an entry to `to`, with no version of it known any more.
  void TakeOut(Entries& from, Entries::iterator entry, Entries& to);
  void Unindex(const Version* version, const Entry& entry);
  /// Moves what nobody else has of the rows to `dropped`.
  void DropRows(Entry& entry, std::vector<Kept<Version>>& dropped);

  ChunkPool& pool_;
  const std::function<int64_t()> now_us_;
  int level_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Entries waiting_, working_;  // in the order of their Offer; the one that Run is at, or none
  std::unordered_map<const Version*, Entries::iterator> entry_of_;
  Entries::iterator dropping_ = waiting_.end();  // how far DropDeleted has come
  bool superseded_ = false, stop_ = false;
  bool freeing_ = false;  ///< it still holds what it has let go
  std::thread thread_;

  int64_t debt_us_ = 0;  // of the thread
  uint64_t interned_ = 0;
  int64_t upload_seen_us_ = INT64_MIN, dropped_us_ = INT64_MIN;
  std::atomic<uint64_t> looked_at_{0}, looked_at_bytes_{0}, busy_us_{0};
};

}  // namespace cairn::tensor

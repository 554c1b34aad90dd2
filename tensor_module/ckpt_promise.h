#pragma once

// Promise: what a transaction has been promised of the memory: the bytes that its ranks declared
// and that have not come yet. Kept up to date as shards are declared and pieces come, so that
// nobody looks through shards to know it. A box that several ranks declare is stored once, so it
// counts once, with what the furthest of them lacks; what LATEST has under a tensor's name may be
// shared with it, and is taken off. A value, of which copies are cheap (shared_list.h,
// shared_sorted.h). Pure; executor.
//
//   P1  bytes() is the sum, over all names that were added, of what the boxes of that name lack,
//       less what `latest` has under it, but not below 0.
//   P2  What a box lacks never grows: pieces that have come stay.

#include <cstdint>
#include <string>
#include <vector>

#include "tensor_module/ckpt_shard.h"
#include "tensor_module/kept.h"
#include "tensor_module/shared_list.h"
#include "tensor_module/shared_sorted.h"

namespace cairn::tensor {

struct CkptRun;
struct Version;

/// a + b, at most UINT64_MAX.
inline uint64_t SaturatingSum(uint64_t a, uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/// In each: `latest` is the run's LATEST, or nullptr, the same from call to call but for Recount.
class Promise {
 public:
  /// Boxes that are known already change nothing. Requires: ascending by name. Cost: O(n log n) in
  /// `specs`, a handle for each name, and for a name that gets boxes a handle for each 8 to 16 that
  /// it has, or for each when many come.
  void Add(const std::vector<Kept<ShardSpec>>& specs, const Version* latest);
  /// A rank lacks no more than this of the shard. Requires: added. Cost: O(log n), and a handle for
  /// each 32 names where the promise is shared.
  void Receive(const ShardSpec& spec, uint64_t missing_bytes, const Version* latest);
  /// LATEST is another one now. Cost: O(n log n) in the names.
  void Recount(const Version* latest);
  /// At most UINT64_MAX.
  uint64_t bytes() const {
    return bytes_ > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(bytes_);
  }

 private:
  /// Of what clients declare: a million shards of 2^40 bytes by each of 65536 ranks.
  __extension__ using Wide = unsigned __int128;
  struct Box {
    Kept<ShardSpec> spec;  ///< of the first rank that declared it
    uint64_t missing_bytes = 0;
  };
  struct Name {
    SharedSorted<Box> boxes;  ///< by LessExtent; one or more
    Wide missing_bytes = 0;
    const std::string& text() const { return boxes.front().spec->name; }
  };
  using Specs = std::vector<Kept<ShardSpec>>;
  static void AddBoxes(Name* name, const Specs& specs);
  static void MergeBoxes(Name* name, Specs specs);
  static Wide Awaited(const Name& name, const Version* latest);

  SharedList<Kept<Name>> names_;  // ascending
  Wide bytes_ = 0;
};

/// Bytes that the run's live transactions await, at most UINT64_MAX. Cost: O(transactions).
uint64_t AwaitedBytes(const CkptRun& run);
/// For a run that was loaded, whose transactions count nothing yet.
void CountPromises(CkptRun* run);
/// After versions have come or gone: `latest_before` was LATEST.
void RecountPromises(CkptRun* run, const Version* latest_before);

}  // namespace cairn::tensor
